"""First in, first out: the examples offered last are kept."""

import jax.numpy as jnp

from ucl_jax.buffers.base import Buffer, BufferState, Offer, capacity, empty, filled_in_order, uniform_sample, write
from ucl_jax.types import Array


def fifo(size: int, tasks: int) -> Buffer:
    """Keeps the last `size` examples that were offered; a new one takes the place of the oldest.

    `tasks` is not used.

    Examples:
      >>> import jax
      >>> from ucl_jax.buffers.base import Offer
      >>> buffer = fifo(size=4, tasks=1)
      >>> state = buffer.init(jnp.zeros((6, 2)))
      >>> offer = Offer(jnp.arange(12.0).reshape(6, 2), jnp.ones(6, bool), jnp.array(0), jnp.zeros(6))
      >>> state = jax.jit(buffer.add)(state, jax.random.key(0), offer)
      >>> state.items[:, 0].tolist()
      [8.0, 10.0, 4.0, 6.0]
      >>> buffer.sample(state, jax.random.key(1), 3, jnp.ones(4, bool)).items.shape
      (3, 2)
    """

    def init(items):
        return BufferState(items=empty(items, size), offered=jnp.zeros(1, jnp.int32))

    def add(stored: BufferState, key: Array, offer: Offer) -> BufferState:
        place = stored.offered[0] + jnp.cumsum(offer.eligible, dtype=jnp.int32) - 1
        slot = jnp.where(offer.eligible, place % size, capacity(stored))
        offered = stored.offered + jnp.sum(offer.eligible, dtype=jnp.int32)
        return stored.replace(items=write(stored.items, offer.items, slot), offered=offered)

    def sample(stored, key, count, allowed):
        return uniform_sample(stored, key, count, filled_in_order(stored) & allowed)

    return Buffer(init=init, add=add, sample=sample, filled=filled_in_order)
