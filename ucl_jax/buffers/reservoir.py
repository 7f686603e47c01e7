"""Reservoir sampling (Vitter 1985): every example offered is kept with the same probability.

The official code counts presentations, so that an image may sit in the buffer twice; `Offer.eligible` lets the caller
decide. A reservoir may have several parts, each a uniform sample of what was offered to it: an equal share for each
task, as in Chaudhry et al. 2019.
"""

import jax
import jax.numpy as jnp

from ucl_jax.buffers.base import Buffer, Offer, Stored, capacity, empty, first_filled, uniform_sample, write
from ucl_jax.types import Array


def reservoir(size: int, tasks: int) -> Buffer:
    """Keeps a uniform sample of all that was offered, `size` of them. `tasks` is of no use to this policy."""
    return _in_parts(size, 1)


def equal_share(size: int, tasks: int) -> Buffer:
    """Keeps of each task a uniform sample of `size // tasks`, in slots of its own.

    Once a task has ended its sample is the same as one drawn at its end.
    """
    return _in_parts(size, tasks)


def slots(key: Array, seen: Array, size: int, eligible: Array) -> Array:
    """Returns the slot that reservoir sampling gives to each example of a batch, in order.

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


def _in_parts(size: int, parts: int) -> Buffer:
    """`parts` reservoirs of `size // parts` slots each; task t is offered to part t, or to the last one."""
    share = size // parts

    def init(items):
        return Stored(empty(items, share * parts), jnp.zeros(parts, jnp.int32))

    def add(stored: Stored, key: Array, offer: Offer) -> Stored:
        part = jnp.minimum(offer.task, parts - 1)
        slot = slots(key, stored.seen[part], share, offer.eligible)
        slot = jnp.where(slot < share, part * share + slot, capacity(stored))
        seen = stored.seen.at[part].add(jnp.sum(offer.eligible, dtype=jnp.int32))
        return stored.replace(items=write(stored.items, offer.items, slot), seen=seen)

    def sample(stored, key, count, allowed):
        return uniform_sample(stored, key, count, first_filled(stored) & allowed)

    return Buffer(init=init, add=add, sample=sample, filled=first_filled)
