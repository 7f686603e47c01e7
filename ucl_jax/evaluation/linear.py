"""Classifies frozen features linearly: by ridge regression in closed form, or by logistic regression with SGD.

Features are standardised, so that one list of penalties or one learning rate suits every network. A classifier predicts
only classes that it was trained with.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ucl_jax.errors import check_argument
from ucl_jax.types import Array


class Classifier(NamedTuple):
    """A linear classifier of features that are not standardised.

    Attributes:
      classes: int32 [C], in rising order.
      weight: float64 [F, C].
      bias: float64 [C].
    """

    classes: np.ndarray
    weight: np.ndarray
    bias: np.ndarray


def scores(classifier: Classifier, features: np.ndarray) -> np.ndarray:
    """Computes the score of each class, float64 [N, C], for features [N, F]."""
    return np.asarray(features, np.float64) @ classifier.weight + classifier.bias


def predict(classifier: Classifier, features: np.ndarray) -> np.ndarray:
    """Returns the class with the highest score, int32 [N], for features [N, F]; where several have it, the lowest."""
    return classifier.classes[np.argmax(scores(classifier, features), axis=1)]


def subset(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Chooses a fraction of the examples of each class, and at least one of each.

    The choice within a class does not depend on other classes. A smaller fraction is a subset of a larger one.

    Args:
      labels: int [N].
      fraction: above 0 and at most 1.
      seed: at least 0; decides the choice.

    Returns:
      int64 indices into `labels`, in rising order.

    Raises:
      ValueError: the fraction is out of range, or there are no labels.
    """
    check_argument(0 < fraction <= 1, f"the fraction of the labels is {fraction}; it must be above 0 and at most 1")
    return np.sort(np.concatenate([own[: max(1, round(fraction * len(own)))] for own in _shuffled(labels, seed)]))


def _shuffled(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Returns for each class the indices of its examples, in a random order that depends on seed and class only."""
    check_argument(len(labels) > 0, "there are no labels to learn from; give at least one example")
    labels = np.asarray(labels)
    return [
        np.random.default_rng((seed, int(label))).permutation(np.flatnonzero(labels == label))
        for label in np.unique(labels)
    ]


def _parts(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices for training and for validation: about 1/5 of each class, none of a class with one example."""
    ways = [np.split(own, [min(max(1, (len(own) + 2) // 5), len(own) - 1)]) for own in _shuffled(labels, seed)]
    held, rest = map(np.concatenate, zip(*ways))
    return np.sort(rest), np.sort(held)


class _Standard(NamedTuple):
    """Holds the mean and the scale by which features are standardised, float64 [F] each."""

    mean: np.ndarray
    scale: np.ndarray


def _standard(features: np.ndarray) -> _Standard:
    """Computes mean and scale of features [N, F].

    A dimension that varies by no more than the rounding of float32 is constant. Its scale is infinite, so that it
    becomes 0.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    return _Standard(mean, np.where(deviation > 1e-6 * np.abs(mean), deviation, np.inf))


def _unstandardised(classes: np.ndarray, weight: np.ndarray, bias: np.ndarray, standard: _Standard) -> Classifier:
    """Makes a classifier of features as they are from the weight and bias for standardised ones."""
    weight = weight / standard.scale[:, None]
    return Classifier(classes, weight, bias - standard.mean @ weight)


def _checked(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, np.float64)
    check_argument(
        bool(np.isfinite(features).all()), "the features are not all finite: the network has diverged; probe another"
    )
    return features


class _Path(NamedTuple):
    """Holds the solutions of a ridge problem for every penalty: weight(p) = left @ (right / (spectrum + p)).

    Attributes:
      left: [F, R] with R = min(N, F).
      spectrum: [R].
      right: [R, C].
      bias: [C].
      standard: how the features were standardised.
    """

    left: np.ndarray
    spectrum: np.ndarray
    right: np.ndarray
    bias: np.ndarray
    standard: _Standard


def _path(features: np.ndarray, target: np.ndarray) -> _Path:
    """Solves a ridge problem for every penalty by one eigendecomposition, for features [N, F] and targets [N, C].

    Both are centred, so that the intercept has no penalty.
    """
    standard = _standard(features)
    x = (features - standard.mean) / standard.scale
    bias = target.mean(axis=0)
    y = target - bias
    if len(x) < x.shape[1]:
        spectrum, basis = np.linalg.eigh(x @ x.T)
        left, right = x.T @ basis, basis.T @ y
    else:
        spectrum, left = np.linalg.eigh(x.T @ x)
        right = left.T @ (x.T @ y)
    return _Path(left, np.maximum(spectrum, 0.0), right, bias, standard)


def fit_ridge(
    features: np.ndarray, labels: np.ndarray, *, penalties: Sequence[float], seed: int
) -> tuple[Classifier, float]:
    """Trains ridge regression on one-hot targets: the sum over examples of |x W + b - y|^2, plus penalty |W|^2.

    About 1/5 of the examples of each class are held out for validation. The chosen penalty is the one with the highest
    accuracy there and, where several have it, the smallest squared error. Then the classifier is trained with all
    examples. A class with one example has none held out. If none is held out at all, the penalty in the middle of the
    list is taken.

    Args:
      features: [N, F].
      labels: int [N], at least 0.
      penalties: above 0, in any order. They mean what `alpha` of scikit-learn's Ridge does, for standardised features.
      seed: decides which examples are held out.

    Returns:
      The classifier and its penalty.

    Raises:
      ValueError: there are no labels or no penalties, a penalty is not above 0, or features are not finite.
    """
    penalties = sorted(map(float, penalties))
    check_argument(
        bool(penalties) and penalties[0] > 0, f"the penalties of ridge are {penalties}; give a list of numbers above 0"
    )
    classes, position = np.unique(np.asarray(labels, np.int32), return_inverse=True)
    features, target = _checked(features), np.eye(len(classes))[position]
    rest, held = _parts(labels, seed)
    penalty = penalties[len(penalties) // 2]
    if len(held) and len(penalties) > 1:
        path = _path(features[rest], target[rest])
        x = (features[held] - path.standard.mean) / path.standard.scale @ path.left
        outputs = [x @ (path.right / (path.spectrum[:, None] + p)) + path.bias for p in penalties]
        wrong = [int(np.sum(np.argmax(out, axis=1) != position[held])) for out in outputs]
        error = [float(np.sum(np.square(out - target[held]))) for out in outputs]
        penalty = min(zip(wrong, error, penalties))[2]
    path = _path(features, target)
    weight = path.left @ (path.right / (path.spectrum[:, None] + penalty))
    return _unstandardised(classes, weight, path.bias, path.standard), penalty


def ridge(
    features: np.ndarray, labels: np.ndarray, query: np.ndarray, *, penalties: Sequence[float], seed: int
) -> tuple[np.ndarray, float]:
    """Trains by `fit_ridge`; returns the predicted classes int32 [Q] of query [Q, F], and the penalty."""
    classifier, penalty = fit_ridge(features, labels, penalties=penalties, seed=seed)
    return predict(classifier, query), penalty


def _batches(examples: int, epochs: int, batch_size: int, seed: int) -> np.ndarray:
    """Draws batches as indices int32 [S, B]: each example once per epoch; -1 fills the last batch of an epoch."""
    rng = np.random.default_rng(seed)
    padding = np.full(-examples % batch_size, -1)
    orders = [np.concatenate([rng.permutation(examples), padding]) for _ in range(epochs)]
    return np.concatenate(orders).astype(np.int32).reshape(-1, batch_size)


@partial(jax.jit, static_argnames="num_classes")
def _descend(
    features: Array,
    labels: Array,
    batches: Array,
    rates: Array,
    momentum: float,
    weight_decay: float,
    *,
    num_classes: int,
) -> tuple[Array, Array]:
    """Returns weight [F, C] and bias [C] after one step for each row of `batches` [S, B], with learning rates [S]."""

    def loss(params, index):
        weight, bias = params
        logits = jnp.matmul(features[index], weight, precision=jax.lax.Precision.HIGHEST) + bias[None, :]
        log_likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[index][:, None], axis=1)[:, 0]
        valid = index >= 0
        return -jnp.sum(jnp.where(valid, log_likelihood, 0.0)) / jnp.sum(valid, dtype=jnp.float32)

    def step(carry, batch):
        params, velocity = carry
        index, rate = batch
        gradient = jax.grad(loss)(params, index)
        gradient = gradient[0] + weight_decay * params[0], gradient[1]
        velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, gradient)
        return (jax.tree.map(lambda p, v: p - rate * v, params, velocity), velocity), None

    params = jnp.zeros((features.shape[1], num_classes)), jnp.zeros(num_classes)
    velocity = jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(step, (params, velocity), (batches, rates))[0][0]


def fit_sgd(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    seed: int,
) -> Classifier:
    """Trains multinomial logistic regression on standardised features, by SGD that starts from zeros.

    The loss is the mean cross-entropy plus weight_decay / 2 |W|^2; the intercept has no penalty.

    Args:
      features: [N, F].
      labels: int [N], at least 0.
      epochs: at least 1.
      batch_size: at least 1; if there are fewer examples, they are one batch.
      learning_rate: the first one, above 0; it goes to 0 step by step, along half a cosine.
      momentum: in [0, 1).
      weight_decay: at least 0.
      seed: decides the order of the examples.

    Raises:
      ValueError: a setting is out of range, there are no labels, or features or weights are not finite.
    """
    check_argument(
        epochs >= 1 and batch_size >= 1,
        f"the linear probe has {epochs} epochs of batches of {batch_size}; both must be at least 1",
    )
    check_argument(learning_rate > 0, f"the learning rate of the linear probe is {learning_rate}; it must be above 0")
    check_argument(0 <= momentum < 1, f"the momentum of the linear probe is {momentum}; it must be in [0, 1)")
    check_argument(weight_decay >= 0, f"the weight decay of the linear probe is {weight_decay}; it must be at least 0")
    check_argument(len(labels) > 0, "there are no labels to learn from; give at least one example")
    classes, position = np.unique(np.asarray(labels, np.int32), return_inverse=True)
    features = _checked(features)
    standard = _standard(features)
    batches = _batches(len(features), epochs, min(batch_size, len(features)), seed)
    progress = np.arange(len(batches)) / len(batches)
    weight, bias = _descend(
        ((features - standard.mean) / standard.scale).astype(np.float32),
        position.astype(np.int32),
        batches,
        (learning_rate * ((1 + np.cos(np.pi * progress)) / 2)).astype(np.float32),
        momentum,
        weight_decay,
        num_classes=len(classes),
    )
    check_argument(
        bool(jnp.isfinite(weight).all()), f"the linear probe diverged; lower its learning rate below {learning_rate}"
    )
    return _unstandardised(classes, np.asarray(weight, np.float64), np.asarray(bias, np.float64), standard)


def sgd(features: np.ndarray, labels: np.ndarray, query: np.ndarray, **settings) -> np.ndarray:
    """Trains by `fit_sgd`, with its settings; returns the predicted classes int32 [Q] of query [Q, F]."""
    return predict(fit_sgd(features, labels, **settings), query)
