"""The collectives of a mapped axis. On one device, with or without an axis (`axis_name=None`), each is the identity."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ucl_jax.types import Array, PyTree


def mean(tree: PyTree, axis_name: str | None) -> PyTree:
    """Average of every leaf over the devices of the axis."""
    return tree if _alone(axis_name) else jax.lax.pmean(tree, axis_name)


def size(axis_name: str | None) -> int:
    """Number of devices on the axis, a Python integer."""
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def gather(tree: PyTree, axis_name: str | None) -> PyTree:
    """Leaves [b, ...] of every device -> the global [B, ...] in device order, on every device."""
    return tree if _alone(axis_name) else jax.lax.all_gather(tree, axis_name, tiled=True)


def places(count: int, axis_name: str | None) -> Array:
    """int32 [count]: the places of the local examples in the global batch."""
    local = jnp.arange(count, dtype=jnp.int32)
    return local if _alone(axis_name) else local + count * jax.lax.axis_index(axis_name)


def stack(tree: PyTree, axis_name: str | None) -> PyTree:
    """Every device's leaf, stacked: [...] -> [devices, ...] in device order, everywhere; one collective for all."""
    if _alone(axis_name):
        return jax.tree.map(lambda x: x[None], tree)
    flat, restore = ravel_pytree(tree)
    return jax.vmap(restore)(jax.lax.all_gather(flat, axis_name))


def _alone(axis_name: str | None) -> bool:
    """XLA leaves the collectives of a single device in the program, where each is a copy."""
    return size(axis_name) == 1
