"""Mixup between the present and the past (LUMP, eq. 5; Zhang et al. 2018)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from ucl_jax.types import Array, PyTree

REACH, NODES = 17.0, 4097  # the logit of a uniform float32 is within 17, but for one draw in ten million


def sample_lambda(key: Array, alpha: float, shape: tuple[int, ...] = ()) -> Array:
    """Draws mixing weights from Beta(alpha, alpha): float32 of `shape` in [0, 1].

    Quantiles are read from a table, as logits over the logits of probabilities: both ends are all but lines there.
    `jax.random.beta` rejects draws in a loop, and on a GPU every turn of such a loop waits for the host.

    Args:
      key: random key.
      alpha: above 0, a number known when the step is compiled.
      shape: of the result.
    """
    place = (jax.random.logistic(key, shape, jnp.float32) + REACH) * ((NODES - 1) / (2 * REACH))
    place = jnp.clip(place, 0.0, NODES - 1.0)
    left = jnp.minimum(place.astype(jnp.int32), NODES - 2)
    table = jnp.asarray(quantile_logits(alpha))
    part = place - left.astype(jnp.float32)
    return jax.nn.sigmoid((1.0 - part) * table[left] + part * table[left + 1])


@functools.lru_cache(maxsize=64)
def quantile_logits(alpha: float) -> np.ndarray:
    """Tabulates log(x / (1 - x)) of the quantiles x of Beta(alpha, alpha): float32 [NODES].

    They are those of probabilities u whose log(u / (1 - u)) goes in equal steps from -REACH to REACH.
    """
    u = special.expit(np.linspace(-REACH, 0.0, NODES // 2 + 1))
    x = special.betaincinv(alpha, alpha, u)
    # Close to 0 the distribution function is x^alpha / (alpha * B(alpha, alpha)), also where x is no float64 any more.
    close = (np.log(u) + np.log(alpha) + special.betaln(alpha, alpha)) / alpha
    with np.errstate(divide="ignore"):
        lower = np.where(x > 1e-290, np.log(x) - np.log1p(-x), close)
    lower[-1] = 0.0  # the median
    return np.concatenate([lower, -lower[-2::-1]]).astype(np.float32)


def mixup(present: PyTree, past: PyTree, weight: Array) -> PyTree:
    """`weight * present + (1 - weight) * past` for every leaf.

    Args:
      present: pytree of float [B, ...]: views, or soft labels.
      past: the same structure and shapes.
      weight: [] shared by the batch, or [B] one an example; 1 keeps the present alone.
    """

    def mix(x: Array, y: Array) -> Array:
        w = weight.reshape(weight.shape + (1,) * (x.ndim - weight.ndim)) if weight.ndim else weight
        return w * x + (1.0 - w) * y

    return jax.tree.map(mix, present, past)
