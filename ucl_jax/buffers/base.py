"""What a buffer is: past examples in arrays on the device, and a policy that decides which are kept."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.types import Array, Items, PyTree


class BufferState(flax.struct.PyTreeNode):
    """The state of a buffer with S slots.

    Attributes:
      items: leaves [S, ...]; zeros where nothing is stored yet.
      offered: int32 [P], the number of examples offered so far to each of the P parts of the buffer. Most policies have
        one part; a policy with parts gives each S // P slots.
      extra: whatever else the policy keeps; () for nothing.
    """

    items: Items
    offered: Array
    extra: PyTree = ()


class Offer(NamedTuple):
    """A batch of examples that is offered to a buffer, one after the other.

    Attributes:
      items: leaves [B, ...].
      eligible: bool [B], False for examples that the buffer must pass over.
      task: int32 [], the number of the task that they belong to.
      score: float32 [B]; what it means depends on the policy, and most do not use it.
      kept: what the method keeps beside each stored example, leaves [S, ...]. Most policies do not use it.
    """

    items: Items
    eligible: Array
    task: Array
    score: Array
    kept: PyTree = ()


class Recalled(NamedTuple):
    """Holds n examples drawn from a buffer.

    Attributes:
      slot: int32 [n], their slots.
      items: leaves [n, ...].
    """

    slot: Array
    items: Items


class Buffer(NamedTuple):
    """A buffer policy, which decides which examples are kept: a tuple of pure functions over a `BufferState`.

    Attributes:
      init: items of a batch -> an empty buffer. Only shapes and dtypes of the items are used.
      add: stored, key, offer -> stored.
      sample: stored, key, n, allowed bool [S] -> n examples from the slots that are filled and allowed.
      filled: stored -> bool [S], True for the slots that hold an example.
    """

    init: Callable[[Items], BufferState]
    add: Callable[[BufferState, Array, Offer], BufferState]
    sample: Callable[[BufferState, Array, int, Array], Recalled]
    filled: Callable[[BufferState], Array]


def capacity(stored: BufferState) -> int:
    """Returns the number of slots of a buffer."""
    return jax.tree.leaves(stored.items)[0].shape[0]


def empty(items: Items, size: int) -> Items:
    """Makes zeros [size, ...] with the shapes and dtypes of items [B, ...]."""
    return jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype), items)


def filled_in_order(stored: BufferState) -> Array:
    """Tells which slots are filled, bool [S], for a policy whose parts each fill their slots in order."""
    share = capacity(stored) // stored.offered.shape[0]
    return (jnp.arange(share, dtype=jnp.int32)[None, :] < stored.offered[:, None]).reshape(-1)


def write(items: Items, new: Items, slot: Array) -> Items:
    """Sets `items[slot[j]] = new[j]` for j in order, so that the last one to write to a slot wins.

    A scatter does not define the order of duplicates. So those that would be overwritten are dropped beforehand. The
    cost does not depend on the number of slots.

    Args:
      items: leaves [S, ...].
      new: leaves [B, ...], of the same structure and dtypes.
      slot: int32 [B]; an example with a slot of S or more is not written.

    Returns:
      The new items, leaves [S, ...].

    Raises:
      AssertionError: the items differ in structure, dtypes, or shapes of an example. It is raised while tracing.
    """
    examples = (jax.eval_shape(lambda tree: empty(tree, 1), tree) for tree in (items, new))
    chex.assert_trees_all_equal_shapes_and_dtypes(*examples)
    size, count = jax.tree.leaves(items)[0].shape[0], slot.shape[0]
    order = jnp.arange(count, dtype=slot.dtype)
    overwritten = jnp.any((slot[:, None] == slot[None, :]) & (order[None, :] > order[:, None]), axis=1)
    target = jnp.where(overwritten | (slot >= size), size + order, slot)
    return jax.tree.map(lambda old, x: old.at[target].set(x, mode="drop", unique_indices=True), items, new)


def uniform_sample(stored: BufferState, key: Array, count: int, allowed: Array) -> Recalled:
    """Draws `count` items uniformly without replacement; if there are fewer, all are used about equally often.

    Args:
      stored: the buffer.
      key: random key.
      count: number of items to draw.
      allowed: bool [S], the slots to draw from.

    Returns:
      `count` slots and their items; the items are zeros if there is nothing to draw from.
    """
    order = jnp.argsort(jnp.where(allowed, jax.random.uniform(key, allowed.shape), 2.0))
    number = jnp.sum(allowed, dtype=jnp.int32)
    index = order[jnp.arange(count, dtype=jnp.int32) % jnp.maximum(number, 1)].astype(jnp.int32)
    items = jax.tree.map(lambda x: jnp.where(number > 0, x[index], jnp.zeros((), x.dtype)), stored.items)
    return Recalled(slot=index, items=items)
