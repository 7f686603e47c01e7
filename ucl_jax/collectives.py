"""The collectives of a mapped axis. With `axis_name=None` there is one device and each is the identity."""

import jax
import jax.numpy as jnp

from ucl_jax.types import Array, PyTree


def mean(tree: PyTree, axis_name: str | None) -> PyTree:
    """Average of every leaf over the devices of the axis."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def size(axis_name: str | None) -> int:
    """Number of devices on the axis, a Python integer."""
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def gather(tree: PyTree, axis_name: str | None) -> PyTree:
    """Leaves [b, ...] of every device -> the global [B, ...] in device order, on every device."""
    return tree if axis_name is None else jax.lax.all_gather(tree, axis_name, tiled=True)


def places(count: int, axis_name: str | None) -> Array:
    """int32 [count]: the places of the local examples in the global batch."""
    local = jnp.arange(count, dtype=jnp.int32)
    return local if axis_name is None else local + count * jax.lax.axis_index(axis_name)


def stack(tree: PyTree, axis_name: str | None) -> PyTree:
    """Every device's leaf, stacked: [...] -> [devices, ...] in device order, on every device."""
    if axis_name is None:
        return jax.tree.map(lambda x: x[None], tree)
    return jax.lax.all_gather(tree, axis_name)
