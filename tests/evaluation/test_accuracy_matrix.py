"""Tests average accuracy, forgetting and transfer on accuracy matrices worked by hand."""

import math

import numpy as np
import pytest

from ucl_jax.evaluation import accuracy_matrix

NAN = float("nan")

# Row t: after learning task t. Column i: accuracy on task i. Tasks not learned yet were not evaluated.
LOWER = [
    [90.0, None, None],
    [80.0, 70.0, None],
    [84.0, 60.0, 50.0],
]
# The same, with all tasks evaluated after each. Accuracies above the diagonal count for the maximum, too.
FULL = [
    [90.0, 99.0, 98.0],
    [80.0, 70.0, 97.0],
    [84.0, 60.0, 50.0],
]
# Accuracy on task 0 peaks after task 1, and the last row has the best accuracy on task 1.
LATE_PEAK = [
    [60.0, None, None, None],
    [95.0, 70.0, None, None],
    [80.0, 65.0, 88.0, None],
    [75.0, 90.0, 80.0, 40.0],
]
# Numbers of the official code: linear_eval_alltasks.py prints 3.00 at 00c8660, and 3.50 at d59dcda, to match the paper.
OFFICIAL = [
    [90.0, 95.0, 75.0],
    [88.0, 93.0, 86.0],
    [87.0, 91.0, 84.0],
]
BY_HAND = {
    # task 0: 90 - 84 = 6; task 1: 70 - 60 = 10; task 2: 0
    "lower": (LOWER, {"max": 8.0, "first": 8.0, "with_last": 16 / 3}, (84 + 60 + 50) / 3),
    # max: 90 - 84 = 6, 99 - 60 = 39, and 98 - 50 = 48 for the last task
    "full": (FULL, {"max": 22.5, "first": 8.0, "with_last": 31.0}, (84 + 60 + 50) / 3),
    "official": (OFFICIAL, {"max": 3.5, "first": 2.5, "with_last": 3.0}, (87 + 91 + 84) / 3),
    # max: 95 - 75 = 20, 90 - 90 = 0, 88 - 80 = 8, and 0; first: 60 - 75 = -15, 70 - 90 = -20, 88 - 80 = 8
    "late_peak": (LATE_PEAK, {"max": 28 / 3, "first": -9.0, "with_last": 7.0}, (75 + 90 + 80 + 40) / 4),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_every_definition_by_hand(name):
    matrix, forgetting, average = BY_HAND[name]
    assert accuracy_matrix.average_accuracy(matrix) == pytest.approx(average)
    for definition, expected in forgetting.items():
        assert accuracy_matrix.forgetting(matrix, definition) == pytest.approx(expected), definition
    assert accuracy_matrix.forgetting(matrix) == pytest.approx(forgetting["max"])  # the paper's is the default
    summary = accuracy_matrix.summarise(matrix)
    assert summary["average_accuracy"] == pytest.approx(average)
    assert summary["forgetting"] == pytest.approx(forgetting)
    assert summary["rows"] == ("all" if name in ("full", "official") else "seen")


def test_nan_means_the_same_as_none():
    matrix = [[NAN if a is None else a for a in row] for row in LOWER]
    assert accuracy_matrix.summarise(matrix) == accuracy_matrix.summarise(LOWER)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("matrix", [LOWER, FULL], ids=["lower", "full"])
def test_partial_run(matrix, rows):
    """Checks that a run that was stopped after one or two of three tasks has numbers over the tasks that it learned."""
    partial = matrix[:rows]
    # After two tasks: task 0 lost 90 - 80 = 10; with_last adds that of task 1, 0 or 99 - 70 = 29, and divides by 2.
    name = "lower" if matrix is LOWER else "full"
    with_last = {"lower": 5.0, "full": 19.5}[name]
    nothing = dict.fromkeys(("max", "first", "with_last"))
    expected = {1: nothing, 2: {"max": 10.0, "first": 10.0, "with_last": with_last}}
    assert accuracy_matrix.summarise(partial)["forgetting"] == expected[rows]
    # The average is over the tasks learned, although others may have been evaluated.
    assert accuracy_matrix.average_accuracies(partial) == [90.0, 75.0][:rows]
    assert accuracy_matrix.average_accuracy(partial) == [90.0, 75.0][rows - 1]


def test_joint_training_has_an_average_and_no_forgetting():
    summary = accuracy_matrix.summarise([[95.0, 96.0, 97.0]], seen=[3])
    nothing = {"max": None, "first": None, "with_last": None}
    assert summary == {"rows": "all", "average_accuracy": 96.0, "stream_average": 96.0, "forgetting": nothing}


def test_rows_of_a_stream_have_seen_any_number_of_tasks():
    """Checks numbers by hand: four rows, of which two are inside the first of three tasks."""
    matrix, seen = [[60.0, None, None], [90.0, 50.0, None], [80.0, 70.0, None], [70.0, 66.0, 99.0]], [1, 2, 2, 3]
    assert accuracy_matrix.average_accuracies(matrix, seen) == pytest.approx([60, 70, 75, 235 / 3])
    summary = accuracy_matrix.summarise(matrix, seen)
    assert summary["average_accuracy"] == pytest.approx(235 / 3)
    assert summary["stream_average"] == pytest.approx((60 + 70 + 75 + 235 / 3) / 4)
    # The best of task 0 is 90, of task 1 it is 70. First seen they had 60 and 50.
    assert summary["forgetting"] == pytest.approx({"max": (20 + 4) / 2, "first": (-10 - 16) / 2, "with_last": 24 / 3})
    # With all tasks seen from the start, all count.
    everything = [[60.0, 90.0], [80.0, 70.0], [70.0, 75.0]]
    assert accuracy_matrix.forgetting(everything, "max", [2, 2, 2]) == pytest.approx((10 + 15) / 2)


def test_nothing_evaluated_yet():
    assert accuracy_matrix.summarise([]) == {
        "rows": "all",
        "average_accuracy": None,
        "stream_average": None,
        "forgetting": {"max": None, "first": None, "with_last": None},
    }


def test_unknown_definition_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'mean'.*max, first, with_last"):
        accuracy_matrix.forgetting(LOWER, "mean")


def test_as_array():
    array = accuracy_matrix.as_array(LOWER)
    assert array.dtype == np.float64
    assert [[None if math.isnan(a) else a for a in row] for row in array.tolist()] == LOWER


def test_learning_accuracy_is_the_mean_of_the_diagonal():
    assert accuracy_matrix.learning_accuracy([[90.0, None, None], [80.0, 70.0, None], [60.0, 65.0, 95.0]]) == 85.0
    assert accuracy_matrix.learning_accuracy([[90.0, 80.0]]) is None  # joint training
    assert accuracy_matrix.learning_accuracy([]) is None


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (LOWER, -8.0),  # 84 - 90 = -6, 60 - 70 = -10
        (FULL, -8.0),
        (LATE_PEAK, 9.0),  # 75 - 60 = 15, 90 - 70 = 20, 80 - 88 = -8
        (LOWER[:2], -10.0),  # stopped after two tasks
        (LOWER[:1], None),
        ([], None),
        ([[95.0, 96.0, 97.0]], None),  # joint training
        ([[90.0, None], [None, 70.0]], None),
    ],
)
def test_backward_transfer_by_hand(matrix, expected):
    value = accuracy_matrix.backward_transfer(matrix)
    assert value == (None if expected is None else pytest.approx(expected))
    if expected is not None:
        assert value == pytest.approx(-accuracy_matrix.forgetting(matrix, "first"))


@pytest.mark.parametrize(
    ("matrix", "baseline", "expected"),
    [
        (FULL, [50.0, 60.0, 70.0], 33.0),  # 99 - 60 = 39, 97 - 70 = 27; 98 is two tasks ahead
        (FULL, [None, 60.0, 70.0], 33.0),  # nothing comes before the first task
        (FULL, [50.0, 100.0, 100.0], -2.0),  # -1 and -3
        (FULL[:2], [50.0, 60.0, 70.0], 39.0),  # stopped after two tasks
        (FULL, [50.0, None, 70.0], None),
        (LOWER, [50.0, 60.0, 70.0], None),
        (FULL[:1], [50.0, 60.0, 70.0], None),  # one task learned, or joint training
        ([[90.0]], [50.0], None),
        ([], [], None),
    ],
)
def test_forward_transfer_by_hand(matrix, baseline, expected):
    value = accuracy_matrix.forward_transfer(matrix, baseline)
    assert value == (None if expected is None else pytest.approx(expected))
