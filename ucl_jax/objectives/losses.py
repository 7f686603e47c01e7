"""Losses as pure functions of embeddings. They are means over the local batch; the caller averages over devices.

All are computed in float32, or in float64 where their inputs have it. Those that compare examples with each other take
`axis_name`: the batch is then the global one of this axis, and the mean of values and of gradients over its devices is
what one device would compute. None says that the local batch is the global one.
"""

import chex
import jax
import jax.numpy as jnp

from ucl_jax import collectives
from ucl_jax.models.layers import at_least_float32, unit
from ucl_jax.types import Array

# Of one example: predictions against targets.


def negative_cosine(prediction: Array, target: Array, epsilon: float = 1e-8) -> Array:
    """Computes the mean negative cosine similarity, without gradient through the target.

    It is `D(p, z)` of SimSiam (Chen & He 2021, eq. 1).

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> prediction, target = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[3.0, 0.0], [1.0, 0.0]])
      >>> float(negative_cosine(prediction, target))
      -0.5
      >>> jax.grad(negative_cosine, argnums=1)(prediction, target).any().item()
      False

    Args:
      prediction: [B, D].
      target: [B, D].
      epsilon: a smaller norm is taken as this, as in PyTorch's `cosine_similarity`.

    Returns:
      Scalar in [-1, 1].
    """
    _check_pair(prediction, target)
    target = jax.lax.stop_gradient(target)
    return -jnp.mean(jnp.sum(unit(prediction, epsilon) * unit(target, epsilon), axis=-1))


def byol(prediction: Array, target: Array) -> Array:
    """Computes the mean of 2 - 2 cos, without gradient through the target: one direction of BYOL's loss.

    It is the squared distance of unit vectors (Grill et al. 2020, eq. 2).

    Args:
      prediction: [B, D].
      target: [B, D].

    Returns:
      Scalar in [0, 4].
    """
    return 2.0 + 2.0 * negative_cosine(prediction, target)


def mean_squared_error(first: Array, second: Array) -> Array:
    """Computes the mean over examples and dimensions of the squared difference of [B, D] and [B, D], at least 0."""
    _check_pair(first, second)
    return jnp.mean(jnp.square(at_least_float32(first) - at_least_float32(second)))


def cross_entropy(logits: Array, label: Array) -> Array:
    """Computes the mean cross-entropy with soft labels. It is linear in the label.

    Args:
      logits: [B, C].
      label: [B, C], one-hot, or any weights of the classes; they need not sum to 1.

    Returns:
      Scalar; at least 0 if no weight is negative.
    """
    _check_pair(logits, label)
    return -jnp.mean(jnp.sum(label * jax.nn.log_softmax(at_least_float32(logits)), axis=-1))


# Contrastive: an example is told from others.


def nt_xent(first: Array, second: Array, temperature: float, axis_name: str | None = None) -> Array:
    """Computes NT-Xent of SimCLR (Chen et al. 2020, eq. 1), by cosines, over both views as anchors.

    An embedding has one positive, the other view of its example. All others of the batch are negatives. The positive is
    in the denominator; the embedding itself is not.

    Args:
      first: [B, D] embeddings of the first view.
      second: [B, D] embeddings of the second view.
      temperature: cosines are divided by it.
      axis_name: negatives are those of the global batch of this axis.

    Returns:
      Scalar, at least 0.
    """
    _check_pair(first, second)
    own = unit(jnp.concatenate([first, second]))
    similarity = _to_others(own, own, temperature, axis_name)
    positive = jnp.sum(own * jnp.roll(own, len(first), axis=0), axis=-1) / temperature
    return jnp.mean(jax.nn.logsumexp(similarity, axis=-1) - positive)


def nt_xent_beside_frozen(
    projection: Array,
    predicted: Array,
    target: Array,
    temperature: float,
    weight: float = 1.0,
    negative_weight: float = 1.0,
    axis_name: str | None = None,
) -> Array:
    """Computes the loss of PNR for SimCLR (Cha et al. 2024): NT-Xent, and contrast of predictions with their targets.

    Each of the two terms has the negatives of the other as pseudo-negatives. As in the released code, the second one
    does not have its positive in the denominator, so that it can be negative.

    Args:
      projection: [2, B, D] of both views.
      predicted: [2, B, D], what a head makes of them.
      target: [2, B, D], the projections that a frozen network makes of the same views.
      temperature: cosines are divided by it.
      weight: of the second term.
      negative_weight: how often each pseudo-negative counts, at least 0.
      axis_name: negatives are those of the global batch of this axis.

    Returns:
      Scalar.
    """
    z, p, y = (unit(x.reshape(-1, x.shape[-1])) for x in (projection, predicted, target))
    shift = jnp.log(jnp.asarray(negative_weight, z.dtype))

    def term(anchor, positive, negatives, pseudo_negatives):
        own = _to_others(anchor, negatives, temperature, axis_name)
        pseudo = _to_others(anchor, pseudo_negatives, temperature, axis_name) + shift
        similarity = jnp.sum(anchor * positive, axis=-1) / temperature
        return jnp.mean(jax.nn.logsumexp(jnp.concatenate([own, pseudo], axis=1), axis=-1) - similarity)

    return term(z, jnp.roll(z, projection.shape[1], axis=0), z, y) + weight * term(p, y, y, z)


def contrast_with_others(anchors: Array, others: Array, temperature: float, axis_name: str | None = None) -> Array:
    """Computes InfoNCE in which the two views of an image must find each other among those of another set of images.

    It is half of the cross-task loss of Osiris (Zhang et al. 2024). No negative comes from the anchors' own set.

    Args:
      anchors: [2, B, D] of both views.
      others: [2, N, D] of both views of the other set.
      temperature: cosines are divided by it.
      axis_name: the other set is the global one of this axis.

    Returns:
      Scalar, at least 0.
    """
    anchors, others = unit(anchors), unit(others)
    positive = jnp.sum(anchors[:1] * anchors[1:], axis=-1, keepdims=True)  # [1, B, 1]
    rows, everyone = (x.reshape(-1, x.shape[-1]) for x in (anchors, others))
    negative = matmul(rows, collectives.gather(everyone, axis_name).T).reshape(*anchors.shape[:2], -1)
    positive = jnp.broadcast_to(positive, (2, *positive.shape[1:]))
    similarity = jnp.concatenate([positive, negative], axis=-1) / temperature
    return jnp.mean(jax.nn.logsumexp(similarity, axis=-1) - similarity[..., 0])


def info_nce(query: Array, key: Array, negatives: Array, temperature: float, log_weight: Array | None = None) -> Array:
    """Computes InfoNCE with negatives from a queue, by cosines (He et al. 2020, eq. 1).

    There is no gradient through keys and negatives.

    Args:
      query: [B, D].
      key: [B, D], the positive of each query, which is in the denominator too.
      negatives: [K, D] of length 1, the same for all queries.
      temperature: cosines are divided by it.
      log_weight: [K], the logarithm of how often each negative counts; None for once.

    Returns:
      Scalar, at least 0.
    """
    _check_pair(query, key)
    query, key = unit(query), jax.lax.stop_gradient(unit(key))
    positive = jnp.sum(query * key, axis=-1, keepdims=True) / temperature
    others = matmul(query, jax.lax.stop_gradient(negatives).T) / temperature
    others = others if log_weight is None else others + log_weight[None, :]
    similarity = jnp.concatenate([positive, others], axis=1)
    return jnp.mean(jax.nn.logsumexp(similarity, axis=-1) - similarity[:, 0])


def info_nce_in_batch(
    first: Array, second: Array, temperature: float, axis_name: str | None = None, mask_other_view: bool = False
) -> Array:
    """Computes InfoNCE in which each row of `first` is told which row of `second` is its own, by cosines.

    Args:
      first: [N, D].
      second: [N, D]; row i is the positive of row i of `first`, and a negative of all others.
      temperature: cosines are divided by it.
      axis_name: candidates are those of the global batch of this axis.
      mask_other_view: whether the other view of the same image is no candidate. Rows are then those of two views, one
        after the other.

    Returns:
      Scalar, at least 0.
    """
    _check_pair(first, second)
    first, second = unit(first), unit(second)
    similarity = matmul(first, collectives.gather(second, axis_name).T) / temperature
    if mask_other_view:
        place = jnp.roll(collectives.places(len(first), axis_name), len(first) // 2)
        similarity = jnp.where(_is_at(place, similarity.shape[1]), -jnp.inf, similarity)
    return jnp.mean(jax.nn.logsumexp(similarity, axis=-1) - jnp.sum(first * second, axis=-1) / temperature)


def symmetric_info_nce(
    first: Array, second: Array, temperature: float, axis_name: str | None = None, mask_other_view: bool = False
) -> Array:
    """Computes the mean of `info_nce_in_batch` over both directions, for the embeddings of all views together.

    Args:
      first: [V, B, D].
      second: [V, B, D].
      temperature: see `info_nce_in_batch`.
      axis_name: see `info_nce_in_batch`.
      mask_other_view: see `info_nce_in_batch`; there must be two views.

    Returns:
      Scalar, at least 0.
    """
    a, f = (x.reshape(-1, x.shape[-1]) for x in (first, second))
    forth, back = (info_nce_in_batch(x, y, temperature, axis_name, mask_other_view) for x, y in ((a, f), (f, a)))
    return (forth + back) / 2.0


# Statistics of a batch.


def barlow_twins(
    first: Array,
    second: Array,
    off_diagonal: float = 5e-3,
    scale: float = 1.0,
    biased: bool = False,
    axis_name: str | None = None,
) -> Array:
    """Computes the cross-correlation loss of Barlow Twins (Zbontar et al. 2021, eq. 1).

    Correlations are divided by the batch size. With the unbiased deviation, as in the official UCL code, the diagonal
    of a perfect correlation is (B - 1) / B, and a dimension that is constant over the batch gives NaN.

    Args:
      first: [B, D] embeddings of the first view.
      second: [B, D] embeddings of the second view.
      off_diagonal: weight of the redundancy term (lambda).
      scale: of the whole loss.
      biased: whether embeddings are standardised as batch norm does it: by the biased variance plus 1e-5.
      axis_name: statistics are over the global batch of this axis.

    Returns:
      Scalar, at least 0; the same on every device of the axis.
    """
    _check_pair(first, second)
    first, second = (_standardise(x, biased, axis_name) for x in (first, second))
    correlation = collectives.mean(matmul(first.T, second) / len(first), axis_name)
    identity = jnp.eye(len(correlation), dtype=correlation.dtype)
    weight = identity + off_diagonal * (1.0 - identity)
    return scale * jnp.sum(weight * jnp.square(correlation - identity))


def vicreg(
    first: Array,
    second: Array,
    similarity: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    axis_name: str | None = None,
) -> Array:
    """Computes the loss of VICReg (Bardes et al. 2022, eq. 6): views alike, dimensions spread and not correlated.

    Variances and covariances are unbiased.

    Args:
      first: [B, D] embeddings of the first view.
      second: [B, D] embeddings of the second view.
      similarity: weight of the mean squared difference of the views.
      variance: weight of the mean over dimensions by which the deviation is below 1, for each view.
      covariance: weight of the sum of squared covariances of two dimensions, divided by D, for each view.
      axis_name: variances and covariances are over the global batch of this axis.

    Returns:
      Scalar, at least 0.
    """
    value = similarity * mean_squared_error(first, second)
    for z in (first, second):
        matrix = _covariance(z, axis_name)
        own = jnp.eye(len(matrix), dtype=bool)
        deviation = jnp.sqrt(jnp.diagonal(matrix) + 1e-4)
        value += variance * jnp.mean(jax.nn.relu(1.0 - deviation))
        value += covariance * jnp.sum(jnp.where(own, 0.0, jnp.square(matrix))) / len(matrix)
    return value


# Assignments to prototypes.


def sinkhorn(scores: Array, weight: Array, *, epsilon: float, iterations: int, axis_name: str | None = None) -> Array:
    """Assigns examples to prototypes so that all prototypes are used alike, by Sinkhorn and Knopp (Cuturi 2013).

    It starts with exp(scores / epsilon). Each iteration divides each column by its sum over all examples, then each row
    by its sum. SwAV's factors (Caron et al. 2020, appendix A) cancel out. There is no gradient.

    Args:
      scores: [B, K], of each example for each prototype.
      weight: [B], at least 0: how often an example counts in the sums over examples.
      epsilon: above 0; small values give assignments near 0 or 1.
      iterations: at least 1.
      axis_name: sums are over the global batch of this axis.

    Returns:
      [B, K]; rows sum to 1.
    """
    log_weight = jnp.log(weight)[:, None]
    log_shares = at_least_float32(jax.lax.stop_gradient(scores)) / epsilon  # logarithms cannot overflow
    for _ in range(iterations):
        counted = log_shares + log_weight
        highest = collectives.maximum(jnp.max(counted, axis=0, keepdims=True), axis_name)
        total = collectives.mean(jnp.sum(jnp.exp(counted - highest), axis=0, keepdims=True), axis_name)
        log_shares -= highest + jnp.log(total)
        log_shares -= jax.nn.logsumexp(log_shares, axis=1, keepdims=True)
    return jnp.exp(log_shares)


def _check_pair(first: Array, second: Array) -> None:
    chex.assert_rank([first, second], 2)
    chex.assert_equal_shape([first, second])


def matmul(first: Array, second: Array) -> Array:
    """Multiplies matrices in full precision, because recent GPUs use TF32 by default."""
    return jnp.matmul(first, second, precision=jax.lax.Precision.HIGHEST)


def _is_at(place: Array, count: int) -> Array:
    """Returns bool [N, count], True where column is `place` (int32 [N]) of the row."""
    return place[:, None] == jnp.arange(count, dtype=place.dtype)[None, :]


def _to_others(anchors: Array, candidates: Array, temperature: float, axis_name: str | None) -> Array:
    """Computes the similarities of unit vectors [N, D] to the candidates of all devices, -inf for that in its place."""
    similarity = matmul(anchors, collectives.gather(candidates, axis_name).T) / temperature
    place = collectives.places(len(anchors), axis_name)
    return jnp.where(_is_at(place, similarity.shape[1]), -jnp.inf, similarity)


def _centre(x: Array, axis_name: str | None) -> Array:
    """Returns x [B, D] with mean 0 over the global batch."""
    x = at_least_float32(x)
    return x - collectives.mean(jnp.mean(x, axis=0, keepdims=True), axis_name)


def _unbiased(x: Array, axis_name: str | None) -> float:
    """Returns B / (B - 1) of the global batch, of which x [b, D] is the local part."""
    count = len(x) * collectives.size(axis_name)
    return count / (count - 1)


def _covariance(x: Array, axis_name: str | None) -> Array:
    """Returns the unbiased covariances of the dimensions of x [B, D] over the global batch: [D, D]."""
    x = _centre(x, axis_name)
    return collectives.mean(matmul(x.T, x) / len(x), axis_name) * _unbiased(x, axis_name)


def _standardise(x: Array, biased: bool, axis_name: str | None) -> Array:
    """Returns x [B, D] with mean 0 and deviation 1 over the global batch."""
    x = _centre(x, axis_name)
    variance = collectives.mean(jnp.mean(jnp.square(x), axis=0, keepdims=True), axis_name)
    return x * jax.lax.rsqrt(variance + 1e-5 if biased else variance * _unbiased(x, axis_name))
