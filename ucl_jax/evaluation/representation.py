"""How representations lie: similarity of two of them, collapse of one, distance of parameters.

Sums are in float64. A representation that varies by no more than float32's rounding counts as constant.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ucl_jax.errors import require
from ucl_jax.types import Array, Params

PRECISION = 1e-6  # relative; sums of float32 numbers are no more exact


def _centred(features: np.ndarray) -> np.ndarray:
    """float64 [N, F] without the mean of features [N, ...]; all zeros for a constant representation."""
    features = np.asarray(features, np.float64).reshape(len(features), -1)
    centred = features - features.mean(axis=0)
    return centred * (np.linalg.norm(centred) > PRECISION * np.linalg.norm(features))


def _ratio(cross: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """cross / sqrt(left right), NaN where left or right is 0."""
    length = np.sqrt(left) * np.sqrt(right)
    return np.where(length > 0, cross / np.where(length > 0, length, 1.0), np.nan)


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA of two representations [N, ...] of the same N examples (Kornblith et al. 2019, section 3).

    |y'x|^2 / (|x'x| |y'y|) of centred features and Frobenius norms: the biased estimate, near 1 for few examples.

    Returns:
      A number in [0, 1]; NaN where x or y is constant.

    Raises:
      UsageError: other numbers of examples.
    """
    require(len(x) == len(y), f"CKA compares {len(x)} with {len(y)} examples; give both networks the same images")
    x, y = _centred(x), _centred(y)
    if len(x) < max(x.shape[1], y.shape[1]):
        x, y = x @ x.T, y @ y.T
        return float(_ratio(np.sum(x * y), np.sum(np.square(x)), np.sum(np.square(y))))
    cross, left, right = (np.sum(np.square(a.T @ b)) for a, b in ((x, y), (x, x), (y, y)))
    return float(_ratio(cross, left, right))


def gram(features: Array) -> Array:
    """Inner products float32 [B, B] of features [B, ...] for `minibatch_add`; zeros for a constant representation.

    Of centred features, which leaves HSIC_1 as it is and makes float32 enough.
    """
    features = features.astype(jnp.float32).reshape(len(features), -1)
    centred = features - jnp.mean(features, axis=0, keepdims=True)
    centred = jnp.where(jnp.linalg.norm(centred) > PRECISION * jnp.linalg.norm(features), centred, 0.0)
    return jnp.matmul(centred, centred.T, precision=jax.lax.Precision.HIGHEST)


def _u_centred(kernels: np.ndarray) -> np.ndarray:
    """float64 [..., B, B] of Gram matrices: zero diagonals, and rows and columns that sum to 0 without it."""
    size = kernels.shape[-1]
    require(size >= 4, f"a minibatch of CKA has {size} examples; it needs at least 4")
    k = np.asarray(kernels, np.float64) * (1 - np.eye(size))
    rows = k.sum(axis=-1, keepdims=True) / (size - 2)
    total = k.sum(axis=(-2, -1), keepdims=True) / ((size - 1) * (size - 2))
    return (k - rows - np.swapaxes(rows, -2, -1) + total) * (1 - np.eye(size))


def hsic1(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The unbiased HSIC of symmetric Gram matrices [..., B, B] (Song et al. 2012, equation 5), float64 [...].

    It may be negative. At least 4 examples, else UsageError.
    """
    size = left.shape[-1]
    return np.sum(_u_centred(left) * _u_centred(right), axis=(-2, -1)) / (size * (size - 3))


class MinibatchCka(NamedTuple):
    """Sums of HSIC_1 over minibatches: of pairs cross [M, L], and of each with itself left [M] and right [L]."""

    cross: np.ndarray
    left: np.ndarray
    right: np.ndarray


def minibatch_init(left: int, right: int) -> MinibatchCka:
    """No minibatch yet, for `left` x `right` pairs of networks (or of checkpoints, or of stages)."""
    return MinibatchCka(np.zeros((left, right)), np.zeros(left), np.zeros(right))


def minibatch_add(sums: MinibatchCka, left: np.ndarray, right: np.ndarray) -> MinibatchCka:
    """Adds Gram matrices [M, B, B] and [L, B, B] of one minibatch; B at least 4, and the same for every minibatch."""
    weight = left.shape[-1] * (left.shape[-1] - 3)
    left, right = (_u_centred(k).reshape(len(k), -1) for k in (left, right))
    more = left @ right.T, np.sum(np.square(left), axis=1), np.sum(np.square(right), axis=1)
    return MinibatchCka(*(old + new / weight for old, new in zip(sums, more)))


def minibatch_cka(sums: MinibatchCka) -> np.ndarray:
    """Linear CKA float64 [M, L] of the minibatches added (Nguyen, Raghu and Kornblith 2021, equation 3).

    Its expectation hardly depends on their size. About 0 (also just below) to 1; NaN where a representation is
    constant, and before the first minibatch.
    """
    return _ratio(sums.cross, sums.left[:, None], sums.right[None, :])


def effective_rank(features: np.ndarray) -> float:
    """exp of the entropy of the singular values, divided by their sum, of centred features [N, ...].

    Roy and Vetterli 2007. From 1 to min(N - 1, F), the latter where all directions vary equally; 0 for constant
    features.
    """
    values = np.linalg.svd(_centred(features), compute_uv=False)
    values = values[values > 0]
    share = values / np.sum(values)
    return float(np.exp(-np.sum(share * np.log(share)))) if len(values) else 0.0


def deviation(features: np.ndarray) -> np.ndarray:
    """Deviation over the examples of each dimension of unit-length features, times sqrt(F): float64 [F].

    About 1 where directions are spread evenly over the sphere, 0 where they have collapsed into one (Chen and He 2021,
    section 4.1).
    """
    features = np.asarray(features, np.float64)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return np.std(unit, axis=0) * np.sqrt(features.shape[1])


def l2_distance(a: Params, b: Params) -> float:
    """Length of the difference of two parameter trees, over all leaves.

    Raises:
      UsageError: trees of different networks.
    """
    require(
        jax.tree.map(np.shape, a) == jax.tree.map(np.shape, b),
        "the distance is between parameters of networks that differ; compare checkpoints of the same architecture",
    )
    squares = jax.tree.map(lambda x, y: np.sum(np.square(np.asarray(x, np.float64) - np.asarray(y, np.float64))), a, b)
    return float(np.sqrt(sum(jax.tree.leaves(squares))))
