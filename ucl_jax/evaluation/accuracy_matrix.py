"""Accuracy matrix -> average accuracy, forgetting and transfer. Plain NumPy over saved matrices.

`matrix[t][i]` is the accuracy in per cent on task i after learning task t; None or NaN where it was not evaluated.
"""

from collections.abc import Sequence

import numpy as np

Matrix = Sequence[Sequence[float | None]]


def as_array(matrix: Matrix) -> np.ndarray:
    """float64 [rows, tasks] with NaN for None."""
    return np.array([[np.nan if a is None else a for a in row] for row in matrix], dtype=np.float64)


def average_accuracies(matrix: Matrix, joint: bool = False) -> list[float]:
    """Computes the mean of each row over the tasks that were learned by then, in per cent.

    Args:
      matrix: row t is of the network after t + 1 tasks.
      joint: whether all tasks were learned at once, so that the one row is about all of them.
    """
    return [float(np.nanmean(row if joint else row[: t + 1])) for t, row in enumerate(as_array(matrix))]


def average_accuracy(matrix: Matrix, joint: bool = False) -> float | None:
    """Computes the last of `average_accuracies`, the paper's A once all tasks are learned; None for an empty matrix."""
    return average_accuracies(matrix, joint)[-1] if len(matrix) else None


def learning_accuracy(matrix: Matrix) -> float | None:
    """Mean over tasks of a[t, t], the accuracy right after learning each; None for joint training or no row."""
    a = as_array(matrix)
    return float(np.mean(np.diagonal(a))) if len(a) and len(a) == a.shape[1] else None


def forgetting(matrix: Matrix, definition: str = "max") -> float | None:
    """Computes how much accuracy on earlier tasks was lost, in points; positive means lost.

    A maximum is over all rows in which the task was evaluated. Those before it was learned are among them where all
    tasks are evaluated after each task (`config.eval.tasks=all`), as the paper's scripts do; see `rows_recorded`.

    Args:
      matrix: T rows, each with at least T tasks, of which t are evaluated in row t.
      definition: `max` is the paper's: the mean over i < T of max over t of a[t, i], minus a[T, i].
        `first` is the official release's: a[i, i], the accuracy right after learning, instead of the maximum.
        `with_last` is the paper's script (00c8660): the sum of `max` over all T tasks, divided by T.

    Returns:
      None where it has no meaning: fewer than two tasks learned, or joint training.

    Raises:
      ValueError: unknown definition.
    """
    if definition not in FORGETTING:
        raise ValueError(f"unknown definition of forgetting {definition!r}; known: {', '.join(FORGETTING)}")
    a = as_array(matrix)
    tasks = len(a)
    if tasks < 2:
        return None
    drops = [FORGETTING[definition](a[:, i], i) - a[-1, i] for i in range(tasks)]
    return float(np.mean(drops if definition == "with_last" else drops[:-1]))


def _best(column: np.ndarray, task: int) -> float:
    return np.nanmax(column)


# A task's column of the matrix, and its number -> the accuracy that the last one is compared with.
FORGETTING = {"max": _best, "first": lambda column, task: column[task], "with_last": _best}


def rows_recorded(matrix: Matrix) -> str:
    """Tells which rows a matrix holds: "all" where each task was evaluated after each task, else "seen"."""
    return "seen" if np.isnan(as_array(matrix)).any() else "all"


def backward_transfer(matrix: Matrix) -> float | None:
    """How much later tasks changed the accuracy on earlier ones, in points (Lopez-Paz and Ranzato 2017).

    The mean over i < T of a[T, i] - a[i, i]; None for fewer than two tasks learned, or joint training.
    """
    a = as_array(matrix)
    return _mean([a[-1, i] - a[i, i] for i in range(len(a) - 1)])


def forward_transfer(matrix: Matrix, baseline: Sequence[float | None]) -> float | None:
    """How much earlier tasks help on one not learned yet, in points (Lopez-Paz and Ranzato 2017).

    Args:
      matrix: T rows; tasks must have been evaluated before they were learned.
      baseline: accuracy in per cent of the randomly initialised network on each task.

    Returns:
      The mean over i > 1 of a[i - 1, i] - baseline[i]; None where one of these was not evaluated, for fewer than two
      tasks learned, or joint training.
    """
    a = as_array(matrix)
    start = as_array([baseline])[0]
    return _mean([a[i - 1, i] - start[i] for i in range(1, len(a))])


def _mean(differences: list[float]) -> float | None:
    """None without differences, or where one of them has no value."""
    return float(np.mean(differences)) if differences and not np.isnan(differences).any() else None


def summarise(matrix: Matrix, joint: bool = False) -> dict:
    """Gives the numbers of a run: `average_accuracy`, `forgetting` by each definition, and the `rows` they are from."""
    return {
        "rows": rows_recorded(matrix),
        "average_accuracy": average_accuracy(matrix, joint),
        "forgetting": {definition: forgetting(matrix, definition) for definition in FORGETTING},
    }
