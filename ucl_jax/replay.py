"""A reservoir of past examples as an array state that lives on the device.

Reservoir sampling (Vitter 1985) keeps every one of the `seen` examples with the same probability size / seen. The
official code counts presentations, so that an image may sit in the buffer twice; `eligible` lets the caller decide.
"""

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.types import Array, PyTree


@flax.struct.dataclass
class Reservoir:
    """items: pytree of [S, ...], zeros where nothing is stored yet; seen: int32 [], the examples offered so far."""

    items: PyTree
    seen: Array


def init(example: PyTree, size: int) -> Reservoir:
    """An empty reservoir of `size` slots for items like those of `example`, a batch with leaves [B, ...]."""
    items = jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype), example)
    return Reservoir(items, jnp.zeros((), jnp.int32))


def capacity(buffer: Reservoir) -> int:
    """Number of slots."""
    return jax.tree.leaves(buffer.items)[0].shape[0]


def filled(buffer: Reservoir) -> Array:
    """bool [S]: the slots that hold an item."""
    return jnp.arange(capacity(buffer)) < buffer.seen


def slots(key: Array, seen: Array, size: int, eligible: Array) -> Array:
    """The slot that reservoir sampling gives to each example of a batch, in order.

    Args:
      key: random key.
      seen: int32 [], examples offered before this batch.
      size: number of slots.
      eligible: bool [B], False for examples that are not offered.

    Returns:
      int32 [B]: a slot in [0, size), or `size` where the example is not kept.
    """
    position = seen + jnp.cumsum(eligible, dtype=jnp.int32) - 1
    draw = jax.random.randint(key, position.shape, 0, jnp.maximum(position, 0) + 1)
    slot = jnp.where(position < size, position, draw)
    return jnp.where(eligible & (slot < size), slot, size)


def write(items: PyTree, new: PyTree, slot: Array) -> PyTree:
    """`items[slot[j]] = new[j]` for j in order, so that the last writer of a slot wins; slot >= S writes nothing.

    A scatter applies duplicates in no defined order: earlier writers of a slot are dropped beforehand. The cost does
    not depend on the number of slots.
    """
    size, count = jax.tree.leaves(items)[0].shape[0], slot.shape[0]
    order = jnp.arange(count, dtype=slot.dtype)
    overwritten = jnp.any((slot[:, None] == slot[None, :]) & (order[None, :] > order[:, None]), axis=1)
    target = jnp.where(overwritten | (slot >= size), size + order, slot)
    return jax.tree.map(lambda old, x: old.at[target].set(x, mode="drop", unique_indices=True), items, new)


def add(buffer: Reservoir, key: Array, new: PyTree, eligible: Array | None = None) -> Reservoir:
    """Offers a batch of items (leaves [B, ...]) to the reservoir, one after the other."""
    if eligible is None:
        eligible = jnp.ones(jax.tree.leaves(new)[0].shape[0], bool)
    slot = slots(key, buffer.seen, capacity(buffer), eligible)
    return Reservoir(write(buffer.items, new, slot), buffer.seen + jnp.sum(eligible, dtype=jnp.int32))


def sample(buffer: Reservoir, key: Array, count: int, allowed: Array | None = None) -> PyTree:
    """Draws `count` items uniformly without replacement; when fewer are stored, all are used equally often.

    Args:
      buffer: the reservoir.
      key: random key.
      count: number of items to draw.
      allowed: bool [S], narrows the choice; None allows every filled slot.

    Returns:
      Items with leaves [count, ...]; zeros when there is nothing to draw from.
    """
    choice = filled(buffer) if allowed is None else filled(buffer) & allowed
    order = jnp.argsort(jnp.where(choice, jax.random.uniform(key, choice.shape), 2.0))
    number = jnp.sum(choice, dtype=jnp.int32)
    index = order[jnp.arange(count) % jnp.maximum(number, 1)]
    return jax.tree.map(lambda x: jnp.where(number > 0, x[index], jnp.zeros((), x.dtype)), buffer.items)
