"""Computes average accuracy, forgetting and transfer from an accuracy matrix, with NumPy alone.

`matrix[t][i]` is the accuracy in per cent on task i after learning task t. It is None or NaN where task i was not
evaluated then.
"""

from collections.abc import Sequence

import numpy as np

from ucl_jax.errors import argument_choice

Matrix = Sequence[Sequence[float | None]]


def as_array(matrix: Matrix) -> np.ndarray:
    """Returns a matrix as float64 [rows, tasks], with NaN for None."""
    return np.array([[np.nan if a is None else a for a in row] for row in matrix], dtype=np.float64)


def average_accuracies(matrix: Matrix, joint: bool = False) -> list[float]:
    """Computes the mean of each row over the tasks that were learned by then, in per cent.

    Args:
      matrix: row t belongs to the network after t + 1 tasks.
      joint: whether all tasks were learned at once, so that the only row is averaged over all of them.
    """
    return [float(np.nanmean(row if joint else row[: t + 1])) for t, row in enumerate(as_array(matrix))]


def average_accuracy(matrix: Matrix, joint: bool = False) -> float | None:
    """Computes the average accuracy of the last row, in per cent; None for an empty matrix.

    It is the paper's A once all tasks are learned. Arguments are those of `average_accuracies`.
    """
    return average_accuracies(matrix, joint)[-1] if len(matrix) else None


def learning_accuracy(matrix: Matrix) -> float | None:
    """Computes the mean accuracy on each task right after learning it, a[t, t], in per cent.

    None for joint training, and until all tasks are learned.
    """
    a = as_array(matrix)
    return float(np.mean(np.diagonal(a))) if len(a) and len(a) == a.shape[1] else None


def forgetting(matrix: Matrix, definition: str = "max") -> float | None:
    """Computes how much accuracy on earlier tasks was lost, in points; it is positive where accuracy fell.

    A maximum is taken over all rows in which the task was evaluated. As in the paper's scripts, these may include rows
    from before the task was learned; see `rows_recorded`.

    Args:
      matrix: T rows, each with at least T tasks, of which t are evaluated in row t.
      definition: `max` is the paper's: the mean over i < T of max over t of a[t, i], minus a[T, i].
        `first` is the official code's: a[i, i], the accuracy right after learning, instead of the maximum.
        `with_last` is the paper's script (00c8660): the sum of `max` over all T tasks, divided by T.

    Returns:
      A number of points; None for fewer than two tasks learned, and for joint training.

    Raises:
      ValueError: the definition is unknown.
    """
    best = argument_choice("definition", definition, FORGETTING)
    a = as_array(matrix)
    tasks = len(a)
    if tasks < 2:
        return None
    drops = [best(a[:, i], i) - a[-1, i] for i in range(tasks)]
    return float(np.mean(drops if definition == "with_last" else drops[:-1]))


def _best(column: np.ndarray, task: int) -> float:
    return np.nanmax(column)


# Name of a definition -> (column of a task, its number) -> the accuracy that the last one is compared with.
FORGETTING = {"max": _best, "first": lambda column, task: column[task], "with_last": _best}


def rows_recorded(matrix: Matrix) -> str:
    """Tells what was evaluated after each task: "all" tasks, or those "seen" by then."""
    return "seen" if np.isnan(as_array(matrix)).any() else "all"


def backward_transfer(matrix: Matrix) -> float | None:
    """Computes how much later tasks changed the accuracy on earlier ones, in points (Lopez-Paz and Ranzato 2017).

    It is the mean over i < T of a[T, i] - a[i, i]; None for fewer than two tasks learned, and for joint training.
    """
    a = as_array(matrix)
    return _mean([a[-1, i] - a[i, i] for i in range(len(a) - 1)])


def forward_transfer(matrix: Matrix, baseline: Sequence[float | None]) -> float | None:
    """Computes how much earlier tasks help on one not learned yet, in points (Lopez-Paz and Ranzato 2017).

    Args:
      matrix: T rows; each task but the first must have been evaluated before it was learned.
      baseline: accuracy in per cent of the untrained network on each task.

    Returns:
      The mean over i > 1 of a[i - 1, i] - baseline[i]. None if one of these was not evaluated, for fewer than two tasks
      learned, and for joint training.
    """
    a = as_array(matrix)
    start = as_array([baseline])[0]
    return _mean([a[i - 1, i] - start[i] for i in range(1, len(a))])


def _mean(differences: list[float]) -> float | None:
    """Returns the mean; None if there are no differences or one of them is NaN."""
    return float(np.mean(differences)) if differences and not np.isnan(differences).any() else None


def summarise(matrix: Matrix, joint: bool = False) -> dict:
    """Returns the `average_accuracy`, the `forgetting` by each definition, and which `rows` they come from."""
    return {
        "rows": rows_recorded(matrix),
        "average_accuracy": average_accuracy(matrix, joint),
        "forgetting": {definition: forgetting(matrix, definition) for definition in FORGETTING},
    }
