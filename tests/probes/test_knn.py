"""Tests kNN of a saved network against the run's own records."""

import pytest

from tests.probed import measure, results
from ucl_jax.probes.trained_run import TrainedRun


@pytest.mark.parametrize("recipe", ["lump", "pnn"])
def test_knn_is_the_runs_own_probe(recipe, request):
    folder = request.getfixturevalue(recipe)
    own = results(folder)["probes"]
    with TrainedRun(folder) as subject:
        for after in (1, 2):
            first, *_ = measure(subject, "knn", after)["rows"]
            assert first["k"] == 5
            assert first["task"][:after] == own["knn_task"]["matrix"][after - 1][:after]
            assert first["all"] == own["knn_all"]["matrix"][after - 1]
        untrained = measure(subject, "knn", 0, k="run")["rows"]
    assert untrained[0]["task"] == own["knn_task"]["random_init"]
    assert untrained[0]["all"] == own["knn_all"]["random_init"]


def test_knn_of_the_release_takes_the_tasks_seen(subject):
    assert [row["k"] for row in measure(subject, "knn", 1)["rows"]] == [5, 20, 200, 1]
    assert [row["k"] for row in measure(subject, "knn", 2)["rows"]] == [5, 20, 200, 2]
    assert [row["k"] for row in measure(subject, "knn", 2, k="5")["rows"]] == [5]
    (row,) = measure(subject, "knn", 2, k="100")["rows"]
    assert row["k"] == 100
    assert row["k_used"] == {"task": [80, 80], "all": [100, 100]}  # a task has 80 training images
