"""A sample with replacement of each task: every slot is a reservoir of its own, of one example."""

import jax
import jax.numpy as jnp

from ucl_jax.buffers.base import Buffer, BufferState, Offer, capacity, empty, uniform_sample, write
from ucl_jax.types import Array


def with_replacement(size: int, tasks: int) -> Buffer:
    """Keeps `size // tasks` examples of each task, each drawn from all that were offered of it, whatever the others.

    So a slot may hold the same example as another. After a task has ended, its sample is distributed as if it had been
    drawn at the end of the task. The remainder of `size` is not used.
    """
    share = size // tasks

    def init(items):
        return BufferState(items=empty(items, share * tasks), offered=jnp.zeros(tasks, jnp.int32))

    def add(stored: BufferState, key: Array, offer: Offer) -> BufferState:
        part = jnp.minimum(offer.task, tasks - 1)
        before, count = stored.offered[part], jnp.cumsum(offer.eligible, dtype=jnp.int32)
        # A slot draws one of all that were offered; what is below `before` is what it has.
        place = jax.random.randint(key, (share,), 0, jnp.maximum(before + count[-1], 1), jnp.int32) - before
        index = jnp.searchsorted(count, place + 1)  # of the eligible example at that place in the batch
        slot = jnp.where(
            (place >= 0) & (count[-1] > 0), part * share + jnp.arange(share, dtype=jnp.int32), capacity(stored)
        )
        items = write(stored.items, jax.tree.map(lambda x: x[index], offer.items), slot)
        return stored.replace(items=items, offered=stored.offered.at[part].add(count[-1]))

    def filled(stored):
        return jnp.repeat(stored.offered > 0, share)

    def sample(stored, key, count, allowed):
        return uniform_sample(stored, key, count, filled(stored) & allowed)

    return Buffer(init=init, add=add, sample=sample, filled=filled)
