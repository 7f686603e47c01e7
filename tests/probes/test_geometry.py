"""Tests the geometry of parameters and features against NumPy."""

import jax
import numpy as np
import pytest

from tests.probed import measure


def test_geometry_is_that_of_numpy(subject):
    values = measure(subject, "geometry")

    def flat(after):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(subject.network(after).params["backbone"])])

    assert values["l2_from_random"] == pytest.approx(np.linalg.norm(flat(2) - flat(0)), rel=1e-5)
    assert values["l2_from_previous"] == pytest.approx(np.linalg.norm(flat(2) - flat(1)), rel=1e-5)
    assert values["dimensions"] == len(values["deviation"]) == 32
    assert 1 < values["effective_rank"] <= 32
    assert values["deviation_mean"] == pytest.approx(np.mean(values["deviation"]), abs=1e-5)
    assert values["deviation_least"] == pytest.approx(min(values["deviation"]), abs=1e-5)
    features = np.concatenate([task.query for task in subject.features(2, own_phase=False)])
    values_of = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    share = values_of / values_of.sum()
    assert values["rankme"] == pytest.approx(np.exp(-np.sum(share * np.log(share))), rel=1e-4)
    assert 0 < values["alignment"] < 4
    assert -8 < values["uniformity"] < 0
    few, again, other = (measure(subject, "geometry", images=20, seed=seed) for seed in (0, 0, 1))
    assert few["alignment"] == again["alignment"] != other["alignment"]
    untrained = measure(subject, "geometry", 0)
    assert (untrained["l2_from_random"], untrained["l2_from_previous"]) == (0, None)
