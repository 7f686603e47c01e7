"""Tests the loss around a network: its middle, its directions and its random classifier."""

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats

from tests.probed import measure
from ucl_jax.probes.loss_landscape import filter_normalised, random_classifier
from ucl_jax.types import Variables


def test_the_random_classifier_is_drawn_as_pytorchs_linear_layer():
    """Checks that weight and bias are uniform in +-1 / sqrt(in) and reach both ends; the variance is 1 / (3 in)."""
    weight, bias = map(np.asarray, random_classifier(jax.random.key(1), 64, 2_000))
    assert (weight.shape, bias.shape) == ((64, 2_000), (2_000,))
    for drawn in (weight, bias):
        assert scipy.stats.kstest(drawn.ravel(), "uniform", (-1 / 8, 2 / 8)).pvalue > 1e-4
        assert 0.99 / 8 < np.abs(drawn).max() <= 1 / 8
    assert weight.var() == pytest.approx(1 / (3 * 64), rel=0.02)
    assert np.abs(np.corrcoef(weight[0], bias)[0, 1]) < 0.1


@pytest.mark.parametrize("loss", ["classifier", "objective"])
def test_the_middle_of_the_landscape_is_the_network(subject, loss):
    small = measure(subject, "loss_landscape", loss=loss, points=3, images=16)
    still = measure(subject, "loss_landscape", loss=loss, points=3, images=16, span=1e-7)
    assert small["steps"] == [-1, 0, 1]
    np.testing.assert_allclose(still["loss"], small["loss"][1][1], rtol=1e-4, atol=1e-5)  # a mean cosine is near 0
    assert small["loss"][0][2] != small["loss"][2][0]
    if loss == "classifier":
        batch = subject.stream.task(0)
        index = np.random.default_rng(0).permutation(len(batch.train_label))[:16]
        first, _, key = jax.random.split(jax.random.key(0), 3)
        params, state = subject.network(2)
        moved = jax.tree.map(lambda p, d: p - d, params, filter_normalised(first, params))
        for network, expected in ((params, small["loss"][1][1]), (moved, small["loss"][0][1])):
            features = subject.objective(2).features(Variables(network, state), batch.train_image[index]).features
            weight, bias = random_classifier(key, 32, 2)
            logits = np.asarray(features @ weight + bias[None], np.float64)
            likelihood = logits[np.arange(16), batch.train_label[index]] - scipy.special.logsumexp(logits, axis=1)
            assert expected == pytest.approx(-likelihood.mean(), rel=1e-4)


def test_directions_have_the_length_of_each_filter():
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(3, 3, 4, 5)).astype(np.float32), "scale": np.ones(5, np.float32)}
    direction = filter_normalised(jax.random.key(1), params)
    np.testing.assert_allclose(
        np.linalg.norm(direction["kernel"].reshape(-1, 5), axis=0),
        np.linalg.norm(params["kernel"].reshape(-1, 5), axis=0),
        rtol=1e-5,
    )
    cosine = np.sum(direction["kernel"] * params["kernel"]) / np.linalg.norm(params["kernel"]) ** 2
    assert abs(cosine) < 0.3
    assert not np.any(direction["scale"])
