"""A reservoir of past examples as an array state that lives on the device.

Reservoir sampling (Vitter 1985) keeps every one of the `seen` examples with the same probability size / seen. The
official code counts presentations, so that an image may sit in the buffer twice; `eligible` lets the caller decide.
A reservoir may have several parts, each a uniform sample of what was offered to it: an equal share for each task.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.types import Array, PyTree


@flax.struct.dataclass
class Reservoir:
    """Stored examples, part after part: S slots in P parts of S / P each.

    items: pytree of [S, ...], zeros where nothing is stored yet.
    seen: int32 [P], the examples offered to each part so far.
    """

    items: PyTree
    seen: Array


def init(example: PyTree, size: int, parts: int = 1) -> Reservoir:
    """Makes an empty reservoir for items like those of `example`, a batch with leaves [B, ...].

    Each of its `parts` has `size // parts` slots; there are no others.
    """
    items = jax.tree.map(lambda x: jnp.zeros((size // parts * parts, *x.shape[1:]), x.dtype), example)
    return Reservoir(items, jnp.zeros(parts, jnp.int32))


def capacity(buffer: Reservoir) -> int:
    """Number of slots."""
    return jax.tree.leaves(buffer.items)[0].shape[0]


def share(buffer: Reservoir) -> int:
    """Number of slots of each part."""
    return capacity(buffer) // buffer.seen.shape[0]


def filled(buffer: Reservoir) -> Array:
    """bool [S]: the slots that hold an item."""
    return (jnp.arange(share(buffer))[None, :] < buffer.seen[:, None]).reshape(-1)


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


def random_slots(key: Array, buffer: Reservoir, part: Array | int, new: PyTree, eligible: Array) -> Array:
    """`slots` for a batch of items: reservoir sampling within a part."""
    return slots(key, buffer.seen[part], share(buffer), eligible)


def add(
    buffer: Reservoir,
    key: Array,
    new: PyTree,
    eligible: Array | None = None,
    place: Callable = random_slots,
    part: Array | int = 0,
) -> Reservoir:
    """Offers a batch of items to one part of the buffer, one item after the other.

    Args:
      buffer: the reservoir.
      key: random key.
      new: items, leaves [B, ...].
      eligible: bool [B], False for items that are not offered; None offers all.
      place: which slots of the part they take; arguments and result are those of `random_slots`.
      part: int32 [], in [0, P).
    """
    if eligible is None:
        eligible = jnp.ones(jax.tree.leaves(new)[0].shape[0], bool)
    slot = place(key, buffer, part, new, eligible)
    slot = jnp.where(slot < share(buffer), part * share(buffer) + slot, capacity(buffer))
    seen = buffer.seen.at[part].add(jnp.sum(eligible, dtype=jnp.int32))
    return Reservoir(write(buffer.items, new, slot), seen)


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
