"""Mixup between the present and the past (LUMP, eq. 5; Zhang et al. 2018)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from ucl_jax.types import Array, PyTree

REACH, NODES = 17.0, 4097  # the logit of a uniform float32 exceeds 17 once in ten million draws


def sample_lambda(key: Array, alpha: float) -> Array:
    """Draws a mixing weight from Beta(alpha, alpha).

    Quantiles are interpolated in a table. Both quantiles and probabilities are tabulated as logits, because that curve
    is almost straight at both ends. `jax.random.beta` is not used: it rejects draws in a loop, and on a GPU every turn
    of such a loop waits for the host.

    Args:
      key: random key.
      alpha: above 0; a Python number, known when the step is compiled.

    Returns:
      float32 [], in [0, 1].
    """
    place = (jax.random.logistic(key, (), jnp.float32) + REACH) * ((NODES - 1) / (2 * REACH))
    place = jnp.clip(place, 0.0, NODES - 1.0)
    left = jnp.minimum(place.astype(jnp.int32), NODES - 2)
    table = jnp.asarray(quantile_logits(alpha))
    part = place - left.astype(jnp.float32)
    return jax.nn.sigmoid((1.0 - part) * table[left] + part * table[left + 1])


@functools.lru_cache(maxsize=64)
def quantile_logits(alpha: float) -> np.ndarray:
    """Tabulates the logits log(x / (1 - x)) of quantiles x of Beta(alpha, alpha): float32 [NODES].

    The logits log(u / (1 - u)) of their probabilities u go in equal steps from -REACH to REACH.
    """
    u = special.expit(np.linspace(-REACH, 0.0, NODES // 2 + 1))
    x = special.betaincinv(alpha, alpha, u)
    # Near 0 the distribution function is x^alpha / (alpha * B(alpha, alpha)). This holds where x underflows too.
    close = (np.log(u) + np.log(alpha) + special.betaln(alpha, alpha)) / alpha
    with np.errstate(divide="ignore"):
        lower = np.where(x > 1e-290, np.log(x) - np.log1p(-x), close)
    lower[-1] = 0.0  # the median
    return np.concatenate([lower, -lower[-2::-1]]).astype(np.float32)


def mixup(present: PyTree, past: PyTree, weight: Array) -> PyTree:
    """Returns `weight * present + (1 - weight) * past` for every leaf.

    Args:
      present: a tree of float [B, ...]: views, or soft labels.
      past: a tree of the same structure and shapes.
      weight: in [0, 1]; [] for the whole batch, or [B] with one for each example. 1 gives the present alone.
    """

    def mix(x: Array, y: Array) -> Array:
        w = weight.reshape(weight.shape + (1,) * (x.ndim - weight.ndim)) if weight.ndim else weight
        return w * x + (1.0 - w) * y

    return jax.tree.map(mix, present, past)
