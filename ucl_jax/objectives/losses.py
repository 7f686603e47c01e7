"""Losses as pure functions of embeddings. They are means over the local batch; the caller averages over devices."""

import chex
import jax
import jax.numpy as jnp

from ucl_jax import collectives
from ucl_jax.types import Array


def negative_cosine(prediction: Array, target: Array, epsilon: float = 1e-8) -> Array:
    """Computes the mean negative cosine similarity, without gradient through the target.

    It is `D(p, z)` of SimSiam (Chen & He 2021, eq. 1), computed in float32.

    Args:
      prediction: [B, D].
      target: [B, D].
      epsilon: a smaller norm is taken as this, as in PyTorch's `cosine_similarity`.

    Returns:
      Scalar in [-1, 1].
    """
    chex.assert_rank([prediction, target], 2)
    chex.assert_equal_shape([prediction, target])
    target = jax.lax.stop_gradient(target)
    return -jnp.mean(jnp.sum(_unit(prediction, epsilon) * _unit(target, epsilon), axis=-1))


def byol(prediction: Array, target: Array) -> Array:
    """Computes the mean of 2 - 2 cos, without gradient through the target: one direction of BYOL's loss.

    It is the squared distance of unit vectors (Grill et al. 2020, eq. 2), computed in float32.

    Args:
      prediction: [B, D].
      target: [B, D].

    Returns:
      Scalar in [0, 4].
    """
    return 2.0 + 2.0 * negative_cosine(prediction, target)


def _unit(x: Array, epsilon: float) -> Array:
    x = x.astype(jnp.float32)
    squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, epsilon**2))


def barlow_twins(first: Array, second: Array, off_diagonal: float = 5e-3, axis_name: str | None = None) -> Array:
    """Computes the cross-correlation loss of Barlow Twins (Zbontar et al. 2021, eq. 1), in float32.

    Correlations are divided by the batch size. With the unbiased deviation, as in the official UCL code, the diagonal
    of a perfect correlation is (B - 1) / B, and a dimension that is constant over the batch gives NaN.

    Args:
      first: [B, D] embeddings of the first view.
      second: [B, D] embeddings of the second view.
      off_diagonal: weight of the redundancy term (lambda).
      axis_name: statistics are over the global batch of this axis; None if the local batch is the global one.

    Returns:
      Scalar, at least 0; the same on every device of the axis.
    """
    chex.assert_rank([first, second], 2)
    chex.assert_equal_shape([first, second])
    first, second = (_standardise(x.astype(jnp.float32), axis_name) for x in (first, second))
    # Full precision, because recent GPUs use TF32 by default.
    product = jnp.matmul(first.T, second, precision=jax.lax.Precision.HIGHEST)
    correlation = collectives.mean(product / first.shape[0], axis_name)
    identity = jnp.eye(correlation.shape[0], dtype=correlation.dtype)
    weight = identity + off_diagonal * (1.0 - identity)
    return jnp.sum(weight * jnp.square(correlation - identity))


def cross_entropy(logits: Array, label: Array) -> Array:
    """Computes the mean cross-entropy with soft labels, in float32. It is linear in the label.

    Args:
      logits: [B, C].
      label: [B, C], one-hot, or any weights of the classes; they need not sum to 1.

    Returns:
      Scalar; at least 0 if no weight is negative.
    """
    chex.assert_rank([logits, label], 2)
    chex.assert_equal_shape([logits, label])
    return -jnp.mean(jnp.sum(label * jax.nn.log_softmax(logits.astype(jnp.float32)), axis=-1))


def _standardise(x: Array, axis_name: str | None) -> Array:
    """Returns x [B, D] with mean 0 and unbiased deviation 1 over the global batch."""
    count = x.shape[0] * collectives.size(axis_name)
    x = x - collectives.mean(jnp.mean(x, axis=0, keepdims=True), axis_name)
    variance = collectives.mean(jnp.mean(jnp.square(x), axis=0, keepdims=True), axis_name)
    return x * jax.lax.rsqrt(variance * (count / (count - 1)))
