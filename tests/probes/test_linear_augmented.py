"""Tests the linear classifier on augmented images against one on features, and its choice among a task's classes."""

import numpy as np

from tests.probed import measure


def test_it_learns_what_a_classifier_on_features_of_plain_images_learns(subject):
    few = {"epochs": 30, "batch_size": 32, "learning_rate": 0.3}
    values = measure(subject, "linear_augmented", **few)
    plain = measure(subject, "linear", solver="ridge", fraction=1.0)
    assert abs(np.mean(values["all"]) - np.mean(plain["all"])) < 12
    assert all(within >= together for within, together in zip(values["task"], values["all"]))
    assert measure(subject, "linear_augmented", **few) == values  # its randomness is that of the seed
    first = measure(subject, "linear_augmented", 1, **few)
    assert first["task"][0] == first["all"][0] > 60
    assert first["task"][1] is first["all"][1] is None
    assert np.mean(measure(subject, "linear_augmented", epochs=1, learning_rate=1e-9)["all"]) < 60


def test_the_learning_rate_falls_at_the_milestones(subject):
    """Checks that a rate of almost 0 after the first of two epochs leaves the classifier of one epoch."""
    common = {"batch_size": 32, "learning_rate": 0.1, "momentum": 0.0}
    one = measure(subject, "linear_augmented", epochs=1, milestones=1.0, **common)
    assert measure(subject, "linear_augmented", epochs=2, milestones=0.5, decay=0.0, **common) == one
    assert measure(subject, "linear_augmented", epochs=2, milestones=1.0, **common) != one
