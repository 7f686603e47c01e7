"""Mixup between the present and the past (LUMP, eq. 5; Zhang et al. 2018)."""

import jax
import jax.numpy as jnp

from ucl_jax.types import Array, PyTree


def sample_lambda(key: Array, alpha: float, shape: tuple[int, ...] = ()) -> Array:
    """Mixing weights from Beta(alpha, alpha): float32 of `shape` in [0, 1]; alpha > 0."""
    return jax.random.beta(key, alpha, alpha, shape, dtype=jnp.float32)


def mixup(present: PyTree, past: PyTree, weight: Array) -> PyTree:
    """`weight * present + (1 - weight) * past` for every leaf.

    Args:
      present: pytree of float [B, ...]: views, or soft labels.
      past: the same structure and shapes.
      weight: [] shared by the batch, or [B] one an example; 1 keeps the present alone.
    """

    def mix(x: Array, y: Array) -> Array:
        w = weight.reshape(weight.shape + (1,) * (x.ndim - weight.ndim)) if weight.ndim else weight
        return w * x + (1.0 - w) * y

    return jax.tree.map(mix, present, past)
