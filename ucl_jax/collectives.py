"""Means, maxima, sizes and gathers over the devices of a mapped axis.

`axis_name` is the name of the axis, or None outside of a mapped function, which counts as one device. On one device
nothing is communicated.
"""

import jax
import jax.numpy as jnp

from ucl_jax.types import Array, PyTree


def mean(tree: PyTree, axis_name: str | None) -> PyTree:
    """Averages every leaf over the devices."""
    return tree if _one_device(axis_name) else jax.lax.pmean(tree, axis_name)


def maximum(x: Array, axis_name: str | None) -> Array:
    """Returns the largest of the devices' values, entry by entry. It has no gradient."""
    return x if _one_device(axis_name) else jax.lax.pmax(x, axis_name)


def size(axis_name: str | None) -> int:
    """Returns the number of devices, a Python integer."""
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def gather(tree: PyTree, axis_name: str | None) -> PyTree:
    """Joins the leaves [b, ...] of all devices to [B, ...], in the order of the devices, on every device."""
    return tree if _one_device(axis_name) else jax.lax.all_gather(tree, axis_name, tiled=True)


def places(count: int, axis_name: str | None) -> Array:
    """Returns the places of this device's `count` examples in the global batch: int32 [count]."""
    local = jnp.arange(count, dtype=jnp.int32)
    return local if _one_device(axis_name) else local + count * jax.lax.axis_index(axis_name)


def _one_device(axis_name: str | None) -> bool:
    """Tells whether there is only one device, so that collectives can be left out.

    XLA would keep them in the program of a single device, and each would cost a copy.
    """
    return size(axis_name) == 1
