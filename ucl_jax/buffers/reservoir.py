"""Reservoir sampling (Vitter 1985): every example offered is kept with the same probability.

The official code offers an image each time it is shown, so that the buffer may hold it twice. Here the caller decides,
by `Offer.eligible`. A reservoir may have several parts, each a uniform sample of what was offered to it. With one part
for each task, all tasks have an equal share, as in Chaudhry et al. 2019.
"""

import jax
import jax.numpy as jnp

from ucl_jax.buffers.base import Buffer, BufferState, Offer, capacity, empty, filled_in_order, uniform_sample, write
from ucl_jax.types import Array


def reservoir(size: int, tasks: int) -> Buffer:
    """Keeps a uniform sample of `size` of all examples offered. `tasks` is not used."""
    return _in_parts(size, 1)


def equal_share(size: int, tasks: int) -> Buffer:
    """Keeps a uniform sample of `size // tasks` examples of each task, in slots of its own.

    The remainder of `size` is not used, and there are no slots at all for more tasks than slots.

    After a task has ended, its sample is distributed as if it had been drawn at the end of the task.
    """
    return _in_parts(size, tasks)


def reservoir_slots(key: Array, offered: Array, size: int, eligible: Array) -> Array:
    """Returns the slot that reservoir sampling gives to each example of a batch, in order.

    Args:
      key: random key.
      offered: int32 [], the number of examples offered before this batch.
      size: number of slots.
      eligible: bool [B], False for examples that must be passed over.

    Returns:
      int32 [B]: a slot in [0, size), or `size` where the example is not kept.
    """
    position = offered + jnp.cumsum(eligible, dtype=jnp.int32) - 1
    draw = jax.random.randint(key, position.shape, 0, jnp.maximum(position, 0) + 1, jnp.int32)
    slot = jnp.where(position < size, position, draw)
    return jnp.where(eligible & (slot < size), slot, size)


def _in_parts(size: int, parts: int) -> Buffer:
    """Makes `parts` reservoirs of `size // parts` slots each.

    Examples of task t are offered to part t, or to the only part.
    """
    share = size // parts

    def init(items):
        return BufferState(items=empty(items, share * parts), offered=jnp.zeros(parts, jnp.int32))

    def add(stored: BufferState, key: Array, offer: Offer) -> BufferState:
        part = jnp.minimum(offer.task, parts - 1)
        slot = reservoir_slots(key, stored.offered[part], share, offer.eligible)
        slot = jnp.where(slot < share, part * share + slot, capacity(stored))
        offered = stored.offered.at[part].add(jnp.sum(offer.eligible, dtype=jnp.int32))
        return stored.replace(items=write(stored.items, offer.items, slot), offered=offered)

    def sample(stored, key, count, allowed):
        return uniform_sample(stored, key, count, filled_in_order(stored) & allowed)

    return Buffer(init=init, add=add, sample=sample, filled=filled_in_order)
