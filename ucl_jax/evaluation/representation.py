"""Computes numbers about representations: similarity of two (CKA), collapse of one, distance of parameters.

Sums are in float64. A representation that varies by no more than the rounding of float32 counts as constant.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ucl_jax.errors import check_argument
from ucl_jax.types import Array, Params

PRECISION = 1e-6  # relative precision of sums of float32 numbers


def _centred(features: np.ndarray) -> np.ndarray:
    """Returns features [N, ...] minus their mean over examples, float64 [N, F]; zeros if they are constant."""
    features = np.asarray(features, np.float64).reshape(len(features), -1)
    centred = features - features.mean(axis=0)
    return centred * (np.linalg.norm(centred) > PRECISION * np.linalg.norm(features))


def _ratio(cross: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns cross / sqrt(left * right), and NaN where left or right is 0."""
    length = np.sqrt(left) * np.sqrt(right)
    return np.where(length > 0, cross / np.where(length > 0, length, 1.0), np.nan)


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Computes linear CKA of two representations [N, ...] of the same N examples (Kornblith et al. 2019, section 3).

    It is |y'x|^2 / (|x'x| |y'y|) with centred features and Frobenius norms. This estimate is biased: it is near 1 for
    few examples.

    Returns:
      A number in [0, 1]; NaN if x or y is constant.

    Raises:
      ValueError: the numbers of examples differ.
    """
    check_argument(
        len(x) == len(y), f"CKA compares {len(x)} with {len(y)} examples; give both networks the same images"
    )
    x, y = _centred(x), _centred(y)
    if len(x) < max(x.shape[1], y.shape[1]):
        x, y = x @ x.T, y @ y.T
        return float(_ratio(np.sum(x * y), np.sum(np.square(x)), np.sum(np.square(y))))
    cross, left, right = (np.sum(np.square(a.T @ b)) for a, b in ((x, y), (x, x), (y, y)))
    return float(_ratio(cross, left, right))


def gram(features: Array) -> Array:
    """Computes inner products float32 [B, B] of features [B, ...] for `minibatch_add`; zeros if they are constant.

    Features are centred first. This does not change HSIC_1, and makes float32 precise enough.
    """
    features = features.astype(jnp.float32).reshape(len(features), -1)
    centred = features - jnp.mean(features, axis=0, keepdims=True)
    centred = jnp.where(jnp.linalg.norm(centred) > PRECISION * jnp.linalg.norm(features), centred, 0.0)
    return jnp.matmul(centred, centred.T, precision=jax.lax.Precision.HIGHEST)


def _u_centred(kernels: np.ndarray) -> np.ndarray:
    """Returns U-centred Gram matrices float64 [..., B, B]: diagonals are 0, and rows and columns sum to 0."""
    size = kernels.shape[-1]
    check_argument(size >= 4, f"a minibatch of CKA has {size} examples; it needs at least 4")
    k = np.asarray(kernels, np.float64) * (1 - np.eye(size))
    rows = k.sum(axis=-1, keepdims=True) / (size - 2)
    total = k.sum(axis=(-2, -1), keepdims=True) / ((size - 1) * (size - 2))
    return (k - rows - np.swapaxes(rows, -2, -1) + total) * (1 - np.eye(size))


class MinibatchCka(NamedTuple):
    """Holds sums of HSIC_1 over minibatches, for M representations on the left and L on the right.

    Attributes:
      cross: float64 [M, L], of each pair.
      left: float64 [M], of each on the left with itself.
      right: float64 [L], of each on the right with itself.
    """

    cross: np.ndarray
    left: np.ndarray
    right: np.ndarray


def minibatch_init(left: int, right: int) -> MinibatchCka:
    """Makes the sums before the first minibatch, for `left` x `right` pairs of representations."""
    return MinibatchCka(np.zeros((left, right)), np.zeros(left), np.zeros(right))


def minibatch_add(sums: MinibatchCka, left: np.ndarray, right: np.ndarray) -> MinibatchCka:
    """Adds the HSIC_1 of one minibatch, given by its Gram matrices (Song et al. 2012, equation 5).

    HSIC_1 of a pair is unbiased, and so may be negative.

    Args:
      sums: of the minibatches before.
      left: [M, B, B] of `gram`, with B at least 4 and the same for every minibatch.
      right: [L, B, B] of `gram`.

    Raises:
      ValueError: B is below 4.
    """
    weight = left.shape[-1] * (left.shape[-1] - 3)
    left, right = (_u_centred(k).reshape(len(k), -1) for k in (left, right))
    more = left @ right.T, np.sum(np.square(left), axis=1), np.sum(np.square(right), axis=1)
    return MinibatchCka(*(old + new / weight for old, new in zip(sums, more)))


def minibatch_cka(sums: MinibatchCka) -> np.ndarray:
    """Computes linear CKA over the minibatches added (Nguyen, Raghu and Kornblith 2021, equation 3).

    Its expectation hardly depends on the size of the minibatches.

    Returns:
      float64 [M, L], at most 1; it may be slightly below 0. NaN where a representation is constant, and before the
      first minibatch.
    """
    return _ratio(sums.cross, sums.left[:, None], sums.right[None, :])


def effective_rank(features: np.ndarray) -> float:
    """Computes the effective rank of features [N, ...] (Roy and Vetterli 2007).

    It is exp of the entropy of the singular values of the centred features, normalised to sum 1. It lies between 1 and
    min(N - 1, F), which it is where all directions vary equally; constant features have 0.
    """
    values = np.linalg.svd(_centred(features), compute_uv=False)
    values = values[values > 0]
    return _perplexity(values / np.sum(values)) if len(values) else 0.0


def rankme(features: np.ndarray) -> float:
    """Computes RankMe of features [N, F] (Garrido et al. 2023, equation 1).

    It is `effective_rank` of features that are not centred: exp of the entropy of the singular values, normalised to
    sum 1, to each of which 1e-7 is added. It lies between 1 and min(N, F). The paper computes it with 25,600 images.
    """
    values = np.linalg.svd(np.asarray(features, np.float64).reshape(len(features), -1), compute_uv=False)
    return _perplexity(values / max(np.sum(values), np.finfo(np.float64).tiny) + 1e-7)


def _perplexity(share: np.ndarray) -> float:
    return float(np.exp(-np.sum(share * np.log(share))))


def alignment(x: np.ndarray, y: np.ndarray) -> float:
    """Computes the mean squared distance of the features of two views, each [N, F] scaled to unit length.

    It lies in [0, 4], and is 0 where all views of an image have the same features (Wang & Isola 2020, with alpha 2).
    """
    return float(np.mean(np.sum(np.square(_unit(x) - _unit(y)), axis=1)))


def uniformity(features: np.ndarray) -> float:
    """Computes log mean exp(-2 distance^2) over pairs of different examples of features [N, F] scaled to unit length.

    It lies in [-8, 0]: the lower, the more evenly features are spread over the sphere; 0 where all are the same (Wang &
    Isola 2020, with t 2).

    Raises:
      ValueError: there are fewer than two examples.
    """
    check_argument(len(features) >= 2, f"uniformity is about pairs, and there are {len(features)} examples; give 2")
    unit = _unit(features)
    squared = 2 - 2 * (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.log(np.mean(np.exp(-2 * squared))))


def _unit(features: np.ndarray) -> np.ndarray:
    """Scales rows of [N, F] to unit length, in float64."""
    features = np.asarray(features, np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def deviation(features: np.ndarray) -> np.ndarray:
    """Computes the standard deviation of each dimension of features [N, F] scaled to unit length, times sqrt(F).

    It is about 1 where directions are spread evenly over the sphere, and 0 where they have collapsed into one (Chen and
    He 2021, section 4.1).

    Returns:
      float64 [F].
    """
    return np.std(_unit(features), axis=0) * np.sqrt(features.shape[1])


def l2_distance(a: Params, b: Params) -> float:
    """Computes the l2 norm of the difference of two trees of parameters, over all leaves.

    Raises:
      ValueError: the trees differ in structure or shapes.
    """
    check_argument(
        jax.tree.map(np.shape, a) == jax.tree.map(np.shape, b),
        "the distance is between parameters of networks that differ; compare networks of the same architecture",
    )
    squares = jax.tree.map(lambda x, y: np.sum(np.square(np.asarray(x, np.float64) - np.asarray(y, np.float64))), a, b)
    return float(np.sqrt(sum(jax.tree.leaves(squares))))
