"""Tests CKA and distances of networks against their definitions in NumPy."""

import jax
import numpy as np
import pytest

from tests.probed import measure
from ucl_jax.objectives import STAGES


def test_cka_is_that_of_the_definition(subject):
    values = measure(subject, "cka", images=40, batch_size=20, seed=3)
    assert values["networks"] == values["other_networks"] == [0, 1, 2]
    assert list(values["cka"]) == list(STAGES)
    images, _, _ = subject.test_images(40)
    batches = images[np.random.default_rng(3).permutation(40)].reshape(2, 20, 8, 8, 3)

    def hsic(k, m):
        """Computes equation 5 of Song et al. 2012, as it stands there."""
        n = len(k)
        k, m, one = k - np.diag(np.diag(k)), m - np.diag(np.diag(m)), np.ones(n)
        middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
        return (np.trace(k @ m) + middle) / (n * (n - 3))

    def kernel(after, batch, stage):
        maps = subject.objective(after).maps(subject.network(after), batch)[stage]
        flat = np.asarray(maps, np.float64).reshape(len(batch), -1)
        return flat @ flat.T

    for stage in ("stem", "stage3"):
        kernels = {after: [kernel(after, batch, stage) for batch in batches] for after in (0, 2)}
        between, left, right = (sum(map(hsic, kernels[a], kernels[b])) for a, b in ((0, 2), (0, 0), (2, 2)))
        assert values["cka"][stage][0][2] == pytest.approx(between / np.sqrt(left * right), abs=1e-4)
        np.testing.assert_allclose(np.diag(values["cka"][stage]), 1, atol=1e-6)
        np.testing.assert_allclose(values["cka"][stage], np.transpose(values["cka"][stage]), atol=1e-6)


def test_cka_tells_the_distance_of_parameters(subject):
    found = measure(subject, "cka", images=20, batch_size=20)["l2"]
    flat = [
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(subject.network(after).params["backbone"])])
        for after in (0, 1, 2)
    ]
    np.testing.assert_allclose(found, [[np.linalg.norm(a - b) for b in flat] for a in flat], atol=1e-3)


def test_cka_with_another_run(subject, pnn, lump):
    itself = measure(subject, "cka", images=40, batch_size=20, other=str(lump))
    assert itself["cka"] == measure(subject, "cka", images=40, batch_size=20)["cka"]
    grown = measure(subject, "cka", images=40, batch_size=20, other=str(pnn))
    assert np.shape(grown["cka"]["stage4"]) == (3, 3)
    assert np.max(grown["cka"]["stage4"]) < 0.999
    assert grown["l2"] == [[None] * 3] * 3
