"""Computes average accuracy, forgetting and transfer from an accuracy matrix, with NumPy alone.

`matrix[r][i]` is the accuracy in per cent on task i in evaluation r of a run, counted from 0. It is None or NaN where
task i was not evaluated then. Where the network is evaluated after each task, row r is that after task r.

`seen` has the number of tasks seen in each row, which never falls: the first so many tasks. None stands for 1, 2, 3 and
so on, a task more in each row. In joint training the only row has seen all tasks.
"""

from collections.abc import Sequence

import numpy as np

from ucl_jax.errors import argument_choice

Matrix = Sequence[Sequence[float | None]]


def as_array(matrix: Matrix) -> np.ndarray:
    """Returns a matrix as float64 [rows, tasks], with NaN for None."""
    return np.array([[np.nan if a is None else a for a in row] for row in matrix], dtype=np.float64)


def _seen(matrix: Matrix, seen: Sequence[int] | None) -> Sequence[int]:
    return range(1, len(matrix) + 1) if seen is None else seen


def average_accuracies(matrix: Matrix, seen: Sequence[int] | None = None) -> list[float]:
    """Computes the mean of each row over the tasks that were seen by then, in per cent."""
    return [float(np.nanmean(row[:count])) for row, count in zip(as_array(matrix), _seen(matrix, seen))]


def average_accuracy(matrix: Matrix, seen: Sequence[int] | None = None) -> float | None:
    """Computes the average accuracy of the last row, in per cent; None for an empty matrix.

    It is the paper's A once all tasks are learned.
    """
    return average_accuracies(matrix, seen)[-1] if len(matrix) else None


def stream_average(matrix: Matrix, seen: Sequence[int] | None = None) -> float | None:
    """Computes the mean of the average accuracies of all rows, in per cent; None for an empty matrix."""
    return float(np.mean(average_accuracies(matrix, seen))) if len(matrix) else None


def learning_accuracy(matrix: Matrix) -> float | None:
    """Computes the mean accuracy on each task right after learning it, a[t, t], in per cent.

    Rows must be those after each task. None for joint training, and until all tasks are learned.
    """
    a = as_array(matrix)
    return float(np.mean(np.diagonal(a))) if len(a) and len(a) == a.shape[1] else None


def forgetting(matrix: Matrix, definition: str = "max", seen: Sequence[int] | None = None) -> float | None:
    """Computes how much accuracy on earlier tasks was lost, in points; it is positive where accuracy fell.

    A maximum is taken over all rows in which the task was evaluated. As in the paper's scripts, these may include rows
    from before the task was learned; see `rows_recorded`.

    Args:
      matrix: R rows, in each of which at least the tasks seen were evaluated.
      definition: `max` is the paper's: the mean over the tasks i that were seen before the last row of max over r of
        a[r, i], minus a[R, i]. After T tasks, with a row after each, these are the tasks i < T.
        `first` is the official code's: the accuracy in the first row that has seen the task, instead of the maximum.
        `with_last` is the paper's script (00c8660): the mean of `max` over all tasks seen.
      seen: the number of tasks seen in each row.

    Returns:
      A number of points; None for fewer than two rows, such as for joint training.

    Raises:
      ValueError: the definition is unknown.
    """
    best = argument_choice("definition", definition, FORGETTING)
    a, counts = as_array(matrix), _seen(matrix, seen)
    if len(a) < 2:
        return None
    first_row = np.searchsorted(counts, range(counts[-1]), side="right")  # the first that has seen each task
    drops = [best(a[:, i], first_row[i]) - a[-1, i] for i in range(counts[-1])]
    return float(np.mean(drops if definition == "with_last" else drops[: counts[-2]]))


def _best(column: np.ndarray, first_row: int) -> float:
    return np.nanmax(column)


# Name of a definition -> (column of a task, first row that has seen it) -> the accuracy that the last is compared with.
FORGETTING = {"max": _best, "first": lambda column, first_row: column[first_row], "with_last": _best}


def rows_recorded(matrix: Matrix) -> str:
    """Tells what was evaluated in each row: "all" tasks, or those "seen" by then."""
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


def summarise(matrix: Matrix, seen: Sequence[int] | None = None) -> dict:
    """Returns the averages, the `forgetting` by each definition, and which `rows` they come from."""
    return {
        "rows": rows_recorded(matrix),
        "average_accuracy": average_accuracy(matrix, seen),
        "stream_average": stream_average(matrix, seen),
        "forgetting": {definition: forgetting(matrix, definition, seen) for definition in FORGETTING},
    }
