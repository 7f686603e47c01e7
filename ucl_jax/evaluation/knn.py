"""Classifies by the votes of the k nearest neighbours (Wu et al. 2018, section 3.4), which is the paper's probe."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ucl_jax.types import Array


def normalise(features: Array) -> Array:
    """Scales rows of [N, D] to unit length, in float32. As in PyTorch, a norm below 1e-12 is taken as 1e-12."""
    features = features.astype(jnp.float32)
    squared = jnp.sum(jnp.square(features), axis=-1, keepdims=True)
    return features * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


# How the nearest are found: similarities [Q, N], k -> the k largest [Q, k] and their places int32 [Q, k], in order.
SEARCHES: dict[str, Callable[[Array, int], tuple[Array, Array]]] = {
    "exact": jax.lax.top_k,
    # At least 99 % of them are found, on TPU only; other platforms find all.
    "approximate": functools.partial(jax.lax.approx_max_k, recall_target=0.99),
}


def votes(
    queries: Array,
    bank: Array,
    labels: Array,
    valid: Array,
    *,
    num_classes: int,
    k: int,
    temperature: float,
    search: str = "exact",
) -> Array:
    """Computes the votes for each class by the k most similar bank entries, each weighted exp(cosine / temperature).

    Weights are divided by that of the nearest entry, so that they never overflow; the winner is the same.

    Args:
      queries: [Q, D] features.
      bank: [N, D] features.
      labels: int32 [N] in [0, num_classes).
      valid: bool [N], False for padding of the bank, which never votes.
      num_classes: C.
      k: the number of neighbours, 1 <= k <= N; if fewer entries are valid, only those vote.
      temperature: above 0; the paper's is 0.1.
      search: how the nearest are found, a name in `SEARCHES`.

    Returns:
      float32 [Q, C], in [0, k].
    """
    # Full precision, because similarities near 1 differ in the last digits only.
    similarity = jnp.matmul(normalise(queries), normalise(bank).T, precision=jax.lax.Precision.HIGHEST)
    similarity = jnp.where(valid[None, :], similarity, -jnp.inf)
    # Without the barrier XLA's CPU backend merges the slice below into top_k and sorts the whole bank, 13 times slower.
    nearest, index = jax.lax.optimization_barrier(SEARCHES[search](similarity, k))
    weight = jnp.exp((nearest - nearest[:, :1]) / temperature)
    one_hot = jax.nn.one_hot(labels[index], num_classes, dtype=weight.dtype)
    return jnp.einsum("qk,qkc->qc", weight, one_hot, precision=jax.lax.Precision.HIGHEST)


def predict(queries: Array, bank: Array, labels: Array, valid: Array, **settings) -> Array:
    """Returns the class with the most votes, int32 [Q]; where several have them, the lowest. Arguments as `votes`."""
    return jnp.argmax(votes(queries, bank, labels, valid, **settings), axis=-1).astype(jnp.int32)
