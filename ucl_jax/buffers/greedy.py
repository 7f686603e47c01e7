"""The greedy policy of GSS: examples whose gradients differ take the slots (Aljundi et al. 2019, algorithm 2)."""

import jax
import jax.numpy as jnp

from ucl_jax.buffers.base import Buffer, BufferState, Offer, empty, filled_in_order, uniform_sample, write
from ucl_jax.types import Array


def greedy(size: int, tasks: int) -> Buffer:
    """Keeps `size` examples, and prefers those with low scores. `tasks` is not used.

    The score of an example is 1 + the largest cosine between its gradient and those of stored ones, in [0, 2]. So it is
    low for an example unlike the stored ones. The score is stored with the example.
    """

    def init(items):
        return BufferState(items=empty(items, size), offered=jnp.zeros(1, jnp.int32), extra=jnp.zeros(size))

    def add(stored: BufferState, key: Array, offer: Offer) -> BufferState:
        slot = greedy_slots(key, stored.offered[0], stored.extra, offer.score, offer.eligible)
        items, scores = write((stored.items, stored.extra), (offer.items, offer.score), slot)
        offered = stored.offered + jnp.sum(offer.eligible, dtype=jnp.int32)
        return BufferState(items=items, offered=offered, extra=scores)

    def sample(stored, key, count, allowed):
        return uniform_sample(stored, key, count, filled_in_order(stored) & allowed)

    return Buffer(init=init, add=add, sample=sample, filled=filled_in_order)


def greedy_slots(key: Array, seen: Array, stored: Array, offered: Array, eligible: Array) -> Array:
    """Returns the slot that GSS (Aljundi et al. 2019, algorithm 2) gives to each example of a batch, in order.

    Free slots are filled first. After that, an example with a score below 1 competes with one stored example, drawn in
    proportion to its score. It takes its place with probability stored / (stored + offered), of the two scores.

    Args:
      key: random key.
      seen: int32 [], the number of examples offered before this batch.
      stored: float32 [S], scores of the slots, at least 0.
      offered: float32 [B], scores of the examples, in [0, 2].
      eligible: bool [B], False for examples that must be passed over.

    Returns:
      int32 [B]: a slot in [0, S), or S where the example is not kept.
    """
    size = stored.shape[0]

    def offer(score, turn):
        place, mine, eligible, key = turn
        draw_key, coin_key = jax.random.split(key)
        rival = jax.random.categorical(draw_key, jnp.log(score))
        wins = (mine < 1.0) & (jax.random.uniform(coin_key) * (score[rival] + mine) < score[rival])
        slot = jnp.where(place < size, place, jnp.where(wins, rival, size))
        slot = jnp.where(eligible, slot, size).astype(jnp.int32)
        return score.at[slot].set(mine, mode="drop"), slot

    places = seen + jnp.cumsum(eligible, dtype=jnp.int32) - 1
    return jax.lax.scan(offer, stored, (places, offered, eligible, jax.random.split(key, offered.shape[0])))[1]
