"""The policy of MinRed: examples whose features have near neighbours leave (Purushwalkam et al., ECCV 2022)."""

import jax
import jax.numpy as jnp

from ucl_jax.buffers.base import Buffer, BufferState, Offer, empty, filled_in_order, uniform_sample, write
from ucl_jax.types import Array


def min_red(size: int, tasks: int) -> Buffer:
    """Keeps all that is offered, and makes room by `leaving`. `tasks` is not used.

    `Offer.kept` is a feature of each stored example, float [S, D]; zeros stand for an example that has none yet. The
    time at which each was stored is kept with it, as the number of examples offered before.
    """

    def init(items):
        return BufferState(items=empty(items, size), offered=jnp.zeros(1, jnp.int32), extra=jnp.zeros(size, jnp.int32))

    def add(stored: BufferState, key: Array, offer: Offer) -> BufferState:
        filled, count = filled_in_order(stored), jnp.sum(offer.eligible, dtype=jnp.int32)
        excess = jnp.maximum(jnp.sum(filled, dtype=jnp.int32) + count - size, 0)
        room = ~filled | leaving(offer.kept, stored.extra, filled, excess, most=min(len(offer.eligible), size))
        order = jnp.argsort(~room).astype(jnp.int32)  # slots with room come first, each kind in order
        place = jnp.cumsum(offer.eligible, dtype=jnp.int32) - 1
        # Of more examples than slots the last ones are kept, because `write` lets the last one win.
        slot = order[place % jnp.maximum(jnp.sum(room, dtype=jnp.int32), 1)]
        slot = jnp.where(offer.eligible, slot, size)
        items, since = write((stored.items, stored.extra), (offer.items, stored.offered[0] + place), slot)
        return BufferState(items=items, offered=stored.offered + count, extra=since)

    def sample(stored, key, count, allowed):
        return uniform_sample(stored, key, count, filled_in_order(stored) & allowed)

    return Buffer(init=init, add=add, sample=sample, filled=filled_in_order)


def leaving(feature: Array, since: Array, filled: Array, excess: Array, most: int) -> Array:
    """Chooses the examples that leave. Again and again, of the two with the largest cosine the older one does.

    Only examples with a feature are compared. If fewer than twice the excess have one, the oldest leave instead. Each
    of `most` rounds reads S x S cosines.

    Args:
      feature: float [S, D]; zeros for an example without one.
      since: int32 [S], different numbers, lower for older examples.
      filled: bool [S], the slots that hold an example.
      excess: int32 [], in [0, most], how many leave. If it is larger, all do.
      most: at most S.

    Returns:
      bool [S], True for those that leave.
    """
    known = filled & jnp.any(feature != 0, axis=1)
    later = since[None, :] > since[:, None]
    oldest = filled & (jnp.sum(filled[:, None] & later, axis=0, dtype=jnp.int32) < excess)
    unit = feature / jnp.maximum(jnp.linalg.norm(feature, axis=1, keepdims=True), 1e-12)
    cosine = jnp.matmul(unit, unit.T, precision=jax.lax.Precision.HIGHEST)
    # Of each example with those stored later, so that the older one of a pair is the row.
    cosine = jnp.where(known[:, None] & known[None, :] & later, cosine, -jnp.inf)

    def drop(turn, gone):
        nearest = jnp.max(jnp.where(gone[None, :], -jnp.inf, cosine), axis=1)
        next_one = jnp.argmax(jnp.where(gone, -jnp.inf, nearest))
        return gone.at[next_one].max(turn.astype(jnp.int32) < excess)

    redundant = jax.lax.fori_loop(0, most, drop, jnp.zeros_like(filled))
    return jnp.where(jnp.sum(known, dtype=jnp.int32) >= 2 * excess, redundant, oldest)
