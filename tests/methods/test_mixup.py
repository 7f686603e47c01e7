"""Tests mixup by hand, and the law of its weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ucl_jax.methods.mixup import NODES, REACH, mixup, quantile_logits, sample_lambda


def test_mixup_with_one_weight_by_hand():
    present, past = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]), jnp.asarray([[5.0, 10.0], [-1.0, 0.0]])
    mixed = mixup(present, past, jnp.asarray(0.75))
    np.testing.assert_array_equal(mixed, [[2.0, 4.0], [2.0, 3.0]])  # 0.75 * present + 0.25 * past


def test_mixup_with_a_weight_an_example_in_a_pytree_by_hand():
    # Leaves have rank 4, 2 and 1. The weight goes with the first axis of each, even where another axis is as long.
    image = np.arange(2 * 2 * 2 * 3, dtype=np.float32).reshape(2, 2, 2, 3)
    present = {"views": (image, -image), "label": np.eye(2, dtype=np.float32), "scale": np.float32([8.0, 8.0])}
    past = {"views": (image + 4.0, image), "label": np.ones((2, 2), np.float32), "scale": np.float32([0.0, 4.0])}
    mixed = mixup(*jax.tree.map(jnp.asarray, (present, past)), jnp.asarray([0.5, 0.25]))

    assert jax.tree.structure(mixed) == jax.tree.structure(present)
    np.testing.assert_array_equal(mixed["views"][0], np.stack([image[0] + 2.0, image[1] + 3.0]))
    np.testing.assert_array_equal(mixed["views"][1], np.stack([0.0 * image[0], 0.5 * image[1]]))
    np.testing.assert_array_equal(mixed["label"], [[1.0, 0.5], [0.75, 1.0]])
    np.testing.assert_array_equal(mixed["scale"], [4.0, 5.0])


@pytest.mark.parametrize("shape", [(), (3,)])
def test_weight_1_keeps_the_present_and_weight_0_the_past_exactly(shape):
    rng = np.random.default_rng(0)
    present, past = (jnp.asarray(rng.normal(size=(3, 4, 4, 3)), jnp.float32) for _ in range(2))
    np.testing.assert_array_equal(mixup(present, past, jnp.ones(shape)), present)
    np.testing.assert_array_equal(mixup(present, past, jnp.zeros(shape)), past)


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.4, 1.0, 3.0, 1e4])
def test_quantiles_invert_scipys_distribution_function(alpha):
    logits = np.float64(quantile_logits(alpha))
    np.testing.assert_array_equal(logits, -logits[::-1])
    # Halfway between nodes a straight line is furthest from the curve. Below 1e-260 there are too few digits.
    middle, u = (logits[1:] + logits[:-1]) / 2, np.linspace(-REACH, REACH, 2 * NODES - 1)[1::2]
    tested = (middle < 0) & (middle > -600)
    reached = scipy.stats.beta(alpha, alpha).cdf(scipy.special.expit(middle[tested]))
    np.testing.assert_allclose(reached, scipy.special.expit(u[tested]), atol=2e-6)
    assert np.all(np.diff(logits) > 0)


def draws_of(key, alpha, count):
    """Draws weights as `mix_per="example"` does, each with a key of its own: float32 [count]."""
    return jax.vmap(lambda key: sample_lambda(key, alpha))(jax.random.split(key, count))


@pytest.mark.parametrize("alpha", [0.1, 0.4, 3.0])
def test_sample_lambda_has_the_law_and_the_moments_of_rejection(alpha):
    ours, theirs = (
        np.asarray(draw(jax.random.key(seed)), np.float64)
        for seed, draw in enumerate(
            (lambda k: draws_of(k, alpha, 20_000), lambda k: jax.random.beta(k, alpha, alpha, (20_000,)))
        )
    )
    assert scipy.stats.ks_2samp(ours, theirs).pvalue > 1e-3
    law = scipy.stats.beta(alpha, alpha)
    for order in (1, 2, 3, 4):
        mean, square = law.moment(order), law.moment(2 * order)
        assert abs(np.mean(ours**order) - mean) < 4 * np.sqrt((square - mean**2) / len(ours))


@pytest.mark.parametrize(("draw", "loops"), [(sample_lambda, False), (jax.random.beta, True)])
def test_sample_lambda_has_no_loop(draw, loops):
    """Checks that sampling has no loop whose length is random: on a GPU each of its turns would wait for the host."""
    alphas = (0.1,) if draw is sample_lambda else (0.1, 0.1)
    program = str(jax.make_jaxpr(lambda key: draw(key, *alphas))(jax.random.key(0)))
    assert any(name in program for name in ("while", "scan", "random_gamma")) == loops


@pytest.mark.parametrize("alpha", [0.1, 0.4, 3.0])
def test_sample_lambda_is_beta(alpha):
    draws = np.asarray(draws_of(jax.random.key(0), alpha, 10_000), np.float64)
    assert sample_lambda(jax.random.key(0), alpha).shape == ()
    assert draws.min() >= 0
    assert draws.max() <= 1
    # Float32 rounds numbers nearer to 1 than 6e-8 to 1, a tenth of the mass at alpha = 0.1; so the grid ends at 0.999.
    grid = np.concatenate([np.logspace(-12, -2, 30), np.linspace(0.02, 0.999, 60)])
    empirical = np.mean(draws[:, None] <= grid, axis=0)
    distance = np.abs(empirical - scipy.stats.beta(alpha, alpha).cdf(grid)).max()
    # The Kolmogorov distance of n draws of the right law exceeds 2.0 / sqrt(n) with probability below 1e-3.
    assert distance < scipy.stats.kstwobign.isf(1e-3) / np.sqrt(len(draws))


def test_sample_lambda_at_alpha_1_is_uniform_by_scipys_test():
    draws = np.asarray(draws_of(jax.random.key(1), 1.0, 2_000))
    assert draws.dtype == np.float32
    assert scipy.stats.kstest(draws, "uniform").pvalue > 1e-3
