"""Tests transfer against the run's own accuracy matrix."""

import pytest

from tests.probed import measure, results
from ucl_jax.probes.trained_run import TrainedRun


def test_transfer_is_of_the_runs_own_matrix(pnn):
    with TrainedRun(pnn) as subject:
        values = measure(subject, "transfer")
        ahead = measure(subject, "knn", 1)["rows"][0]["task"][1]
    (a00, _), (a10, a11) = results(pnn)["probes"]["knn_task"]["matrix"]
    assert values["matrix"] == [[a00, ahead], [a10, a11]]
    assert values["backward"] == pytest.approx(a10 - a00)
    assert values["forward"] == pytest.approx(ahead - results(pnn)["probes"]["knn_task"]["random_init"][1])
    assert values["learning_accuracy"] == pytest.approx((a00 + a11) / 2)
