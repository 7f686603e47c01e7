"""Tests that feature maps are those of their stage."""

import numpy as np

from tests.probed import measure
from ucl_jax.probes.trained_run import TrainedRun


def test_maps_lead_to_the_features(subject, pnn):
    images, _, _ = subject.test_images(6)
    with TrainedRun(pnn) as grown:
        for one in (subject, grown):
            maps = one.objective(2).maps(one.network(2), images)
            assert [value.shape for value in maps.values()] == [
                (6, 8, 8, 4),
                (6, 8, 8, 4),
                (6, 4, 4, 8),
                (6, 2, 2, 16),
                (6, 1, 1, 32),
            ]
            features = one.objective(2).features(one.network(2), images).features
            np.testing.assert_allclose(np.asarray(maps["stage4"]).mean((1, 2)), features, atol=1e-6)


def test_feature_maps_are_those_of_the_stage(subject):
    values = measure(subject, "feature_maps", images=2, channels=3)
    assert [item["task"] for item in values["items"]] == [0, 0, 1, 1]
    item = values["items"][-1]
    maps = subject.objective(2).maps(subject.network(2), np.array([item["image"]], np.uint8))["stage2"][0]
    np.testing.assert_allclose(item["maps"], np.moveaxis(np.asarray(maps)[..., item["channels"]], -1, 0), atol=1e-4)
    assert set(item["channels"]) == set(np.argsort(np.asarray(maps).std((0, 1)))[-3:])
