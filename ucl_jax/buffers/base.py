"""What a buffer is: past examples as an array state on the device, and the policy that decides which are kept."""

from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.types import Array, Items, PyTree


class Stored(flax.struct.PyTreeNode):
    """What a buffer holds in its S slots.

    items: leaves [S, ...], zeros where nothing is stored yet.
    seen: int32 [P], the examples offered so far, to each of the P parts of the buffer.
    own: what else the policy keeps, or ().
    """

    items: Items
    seen: Array
    own: PyTree = ()


class Offer(NamedTuple):
    """A batch of examples that may enter a buffer, one after the other.

    items: leaves [B, ...].
    eligible: bool [B], False for examples that are not offered.
    task: int32 [], the task that they belong to.
    score: float32 [B], by which a policy may choose; see each policy.
    """

    items: Items
    eligible: Array
    task: Array
    score: Array


class Recalled(NamedTuple):
    """Examples drawn from a buffer: where they lie, int32 [n], and what lies there, leaves [n, ...]."""

    slot: Array
    items: Items


class Buffer(NamedTuple):
    """A policy: which examples are kept. Pure functions over `Stored`.

    init: items of a batch, of which shapes and dtypes are used -> an empty buffer.
    add: stored, key, offer -> stored.
    sample: stored, key, n, allowed bool [S] -> n of the filled and allowed slots.
    filled: stored -> bool [S], the slots that hold an item.
    """

    init: Callable[[Items], Stored]
    add: Callable[[Stored, Array, Offer], Stored]
    sample: Callable[[Stored, Array, int, Array], Recalled]
    filled: Callable[[Stored], Array]


def capacity(stored: Stored) -> int:
    """Returns the number of slots."""
    return jax.tree.leaves(stored.items)[0].shape[0]


def empty(items: Items, size: int) -> Items:
    """Makes zeros for `size` slots, of items like those of a batch with leaves [B, ...]."""
    return jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype), items)


def first_filled(stored: Stored) -> Array:
    """Tells which slots are filled, bool [S], where each part fills its slots in order."""
    share = capacity(stored) // stored.seen.shape[0]
    return (jnp.arange(share)[None, :] < stored.seen[:, None]).reshape(-1)


def write(items: Items, new: Items, slot: Array) -> Items:
    """Sets `items[slot[j]] = new[j]` for j in order, so that the last writer of a slot wins; slot >= S writes nothing.

    A scatter applies duplicates in no defined order: earlier writers of a slot are dropped beforehand. The cost does
    not depend on the number of slots.

    Args:
      items: leaves [S, ...].
      new: leaves [B, ...].
      slot: int32 [B].
    """
    size, count = jax.tree.leaves(items)[0].shape[0], slot.shape[0]
    order = jnp.arange(count, dtype=slot.dtype)
    overwritten = jnp.any((slot[:, None] == slot[None, :]) & (order[None, :] > order[:, None]), axis=1)
    target = jnp.where(overwritten | (slot >= size), size + order, slot)
    return jax.tree.map(lambda old, x: old.at[target].set(x, mode="drop", unique_indices=True), items, new)


def uniform_sample(stored: Stored, key: Array, count: int, choice: Array) -> Recalled:
    """Draws `count` items uniformly without replacement; when fewer may be drawn, all are used equally often.

    Args:
      stored: the buffer.
      key: random key.
      count: number of items to draw.
      choice: bool [S], the slots to draw from.

    Returns:
      Items with leaves [count, ...]; zeros when there is nothing to draw from.
    """
    order = jnp.argsort(jnp.where(choice, jax.random.uniform(key, choice.shape), 2.0))
    number = jnp.sum(choice, dtype=jnp.int32)
    index = order[jnp.arange(count) % jnp.maximum(number, 1)].astype(jnp.int32)
    items = jax.tree.map(lambda x: jnp.where(number > 0, x[index], jnp.zeros((), x.dtype)), stored.items)
    return Recalled(index, items)
