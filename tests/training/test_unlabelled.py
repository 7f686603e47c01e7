"""Tests what is measured without labels: that the networks of all evaluations share one program."""

import jax
import numpy as np
import pytest

from tests import tiny
from ucl_jax.training import unlabelled
from ucl_jax.training.build import make_experiment


@pytest.mark.usefixtures("small_networks")
def test_another_network_compiles_nothing():
    experiment = make_experiment(tiny.config("finetune"), None, "cpu")
    objective = experiment.phases[0].objective
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    key, found = jax.random.key(0), []
    unlabelled._view_features.clear_cache()
    for seed in (0, 1):
        network = objective.init(jax.random.key(seed), image)
        found.append(unlabelled.view_features(objective, network, image, np.zeros(6, np.int32), key, 4))
    assert unlabelled._view_features._cache_size() == 1
    assert found[0].shape[0] == 6
    assert np.abs(found[0] - found[1]).max() > 1e-3  # each has the features of its own network
