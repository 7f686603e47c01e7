"""Tests the policy of MinRed against the released code (tests/golden.json), and against a loop over all pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden
from ucl_jax.buffers import BUFFERS, Offer
from ucl_jax.buffers.min_red import leaving


def case(name, precision):
    """Returns the features of a case, zeros for images that were never trained on, their times, and what is kept."""
    inputs, settings, expected = golden.read(name, precision)
    feature = inputs["features"].at[jnp.asarray(settings["unseen"], jnp.int32)].set(0.0)
    return feature, -jnp.asarray(settings["age"], jnp.int32), settings["size"], expected["kept"]


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize("name", ["minred_all_seen", "minred_some_unseen", "minred_oldest_first"])
def test_those_that_leave_are_the_official_ones(name, precision):
    with golden.precise(precision):
        feature, since, size, kept = case(name, precision)
        excess = len(since) - size
        gone = leaving(feature, since, jnp.ones(len(since), bool), jnp.int32(excess), most=excess)
        assert list(np.flatnonzero(~gone)) == kept
        # Neither the order of slots, nor more rounds than needed, nor empty slots change that.
        order = np.random.default_rng(0).permutation(len(since))
        empty = jnp.full((2, feature.shape[1]), 1.0, feature.dtype)
        filled = jnp.arange(len(since) + 2) < len(since)
        gone = leaving(
            jnp.concatenate([feature[order], empty]),
            jnp.append(since[order], jnp.asarray([-99, 99], jnp.int32)),
            filled,
            jnp.int32(excess),
            most=len(since),
        )
        assert sorted(order[np.flatnonzero(filled & ~gone)]) == kept


def expected_to_leave(feature, since, excess):
    """Returns the indices that leave, by a loop over all pairs."""
    known = [i for i in range(len(since)) if np.any(feature[i])]
    if len(known) < 2 * excess:
        return set(np.argsort(since)[:excess])
    left = sorted(known, key=lambda i: since[i])
    for _ in range(excess):
        pairs = [(i, j) for place, i in enumerate(left) for j in left[place + 1 :]]
        cosines = [feature[i] @ feature[j] / np.linalg.norm(feature[i]) / np.linalg.norm(feature[j]) for i, j in pairs]
        left.remove(pairs[int(np.argmax(cosines))][0])
    return set(known) - set(left)


def offered(numbers, kept, eligible=None):
    number = jnp.asarray(numbers, jnp.int32)
    eligible = jnp.ones(len(number), bool) if eligible is None else jnp.asarray(eligible)
    return Offer(items={"n": number}, eligible=eligible, task=jnp.int32(0), score=jnp.zeros(len(number)), kept=kept)


def test_a_buffer_keeps_what_a_loop_keeps():
    """Checks many batches, of which some examples are not eligible, with features of changing examples in between."""
    size, batch, buffer = 11, 4, BUFFERS["min_red"](11, 1)
    add = jax.jit(buffer.add)
    stored, held = buffer.init({"n": jnp.zeros(1, jnp.int32)}), {}  # number -> feature or zeros, in order
    rng, feature, modes = np.random.default_rng(0), np.zeros((size, 3)), set()
    for step in range(30):
        numbers, eligible = 1 + step * batch + np.arange(batch), rng.uniform(size=batch) < 0.8
        excess = max(len(held) + eligible.sum() - size, 0)
        if excess:
            names = list(held)
            gone = expected_to_leave(np.stack([held[n] for n in names]), np.arange(len(names)), excess)
            modes.add(gone == set(range(excess)))  # whether the oldest left
            held = {n: held[n] for place, n in enumerate(names) if place not in gone}
        held |= {n: np.zeros(3) for n in numbers[eligible]}
        stored = add(stored, jax.random.key(step), offered(numbers, jnp.asarray(feature, jnp.float32), eligible))
        found = np.asarray(stored.items["n"])
        assert sorted(found[np.asarray(buffer.filled(stored))]) == sorted(held)
        for n in held:  # some are trained on, with rows of any length
            if rng.uniform() < (0.2 if step < 10 else 0.9):
                held[n] = rng.normal(size=3)
        feature = np.stack([held.get(n, np.zeros(3)) for n in found])
    assert modes == {True, False}


def test_of_a_batch_larger_than_the_buffer_the_last_are_kept():
    buffer = BUFFERS["min_red"](4, 1)
    stored, kept = buffer.init({"n": jnp.zeros(1, jnp.int32)}), jnp.ones((4, 2))
    for first in (1, 11):
        eligible = np.arange(7) != 5
        stored = buffer.add(stored, jax.random.key(0), offered(np.arange(first, first + 7), kept, eligible))
        assert sorted(np.asarray(stored.items["n"])) == [first + 2, first + 3, first + 4, first + 6]
