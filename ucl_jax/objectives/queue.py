"""A queue of embeddings in the state of a network, the newest first."""

import jax
import jax.numpy as jnp

from ucl_jax import collectives
from ucl_jax.types import Array


def pushed(queue: Array, items: Array, axis_name: str | None) -> Array:
    """Returns the queue after items entered in front, without gradient; as many of the oldest are gone.

    Args:
      queue: [K, ...].
      items: [B, ...], the local part of a batch.
      axis_name: the items of all devices of this axis enter, in the order of the global batch; None for one device.

    Returns:
      [K, ...], the same on every device.
    """
    items = collectives.gather(jax.lax.stop_gradient(items), axis_name)
    return jnp.concatenate([items, queue])[: len(queue)]
