"""Objectives: what is learned from one batch. Each is a record of pure functions over one network.

A loss takes *views*, any pytree of float arrays [B, ...] that a method may mix with others. The last leaf is what a
rehearsal method keeps frozen beside an image (the second view; soft labels for a supervised objective).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from ucl_jax import augment, losses
from ucl_jax.models.heads import Network, Predictor, Projector
from ucl_jax.models.layers import BatchNorm
from ucl_jax.types import Array, Aux, Batch, PyTree

Views = PyTree


class Augmentation(NamedTuple):
    """The three ways in which an image is shown: `view` and `replay_view` take (key, image), `eval_view` (image)."""

    view: Callable[[Array, Array], Array]
    replay_view: Callable[[Array, Array], Array]
    eval_view: Callable[[Array], Array]


class Objective(NamedTuple):
    """A record of pure functions.

    init: key, images uint8 [B, H, W, C] -> params, model_state.
    views: keys [B], batch -> views, each augmented afresh.
    replay_views: keys [B], batch, frozen [B, ...] -> views, the first weakly augmented, the last the frozen one.
    loss: params, model_state, views -> scalar (its mean over devices is the loss of the global batch), Aux.
    features: params, model_state, images uint8 [B, H, W, C] -> float32 [B, F], as the probes see them.
    """

    init: Callable[[Array, Array], tuple[PyTree, PyTree]]
    views: Callable[[Array, Batch], Views]
    replay_views: Callable[[Array, Batch, Array], Views]
    loss: Callable[[PyTree, PyTree, Views], tuple[Array, Aux]]
    features: Callable[[PyTree, PyTree, Array], Array]


def simsiam(
    backbone: nn.Module,
    augmentation: Augmentation,
    *,
    hidden_dim: int,
    output_dim: int,
    predictor_dim: int,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
) -> Objective:
    """SimSiam (Chen & He 2021): symmetric negative cosine between a prediction and the other view's projection."""
    network = Network(
        backbone,
        Projector(hidden_dim, output_dim, dtype, axis_name),
        Predictor(predictor_dim, dtype, axis_name),
    )

    def criterion(out):
        z, p = out.projection, out.prediction
        return 0.5 * losses.negative_cosine(p[0], z[1]) + 0.5 * losses.negative_cosine(p[1], z[0])

    return _two_view_objective(network, augmentation, criterion)


def barlow_twins(
    backbone: nn.Module,
    augmentation: Augmentation,
    *,
    hidden_dim: int,
    output_dim: int,
    off_diagonal: float,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
) -> Objective:
    """Barlow Twins (Zbontar et al. 2021): the cross-correlation of two views' projections is driven to identity."""
    network = Network(backbone, Projector(hidden_dim, output_dim, dtype, axis_name))

    def criterion(out):
        return losses.barlow_twins(*out.projection, off_diagonal=off_diagonal, axis_name=axis_name)

    return _two_view_objective(network, augmentation, criterion)


def _two_view_objective(network: Network, augmentation: Augmentation, criterion: Callable) -> Objective:
    """An objective on two augmented views; `criterion` takes an Embedding with leaves [2, B, ...]."""

    def init(key, images):
        variables = network.init(key, _show(augmentation, images), train=True)
        return variables["params"], variables["batch_stats"]

    def views(keys, batch):
        return augment.two_views(augmentation.view, keys, batch.image)

    def replay_views(keys, batch, frozen):
        return augment.apply(augmentation.replay_view, keys, batch.image), frozen

    def loss(params, model_state, views):
        out, model_state = forward_views(network, params, model_state, jnp.stack(views))
        return criterion(out), Aux(model_state, {"feature_std": feature_std(out.features[0])})

    def features(params, model_state, images):
        variables = {"params": params, "batch_stats": model_state}
        return network.apply(variables, _show(augmentation, images), method="features")

    return Objective(init, views, replay_views, loss, features)


def _show(augmentation: Augmentation, images: Array) -> Array:
    return jax.vmap(augmentation.eval_view)(images)


def forward_views(network: nn.Module, params: PyTree, model_state: PyTree, views: Array) -> tuple[PyTree, PyTree]:
    """Training-mode forward pass of several views as one large batch, each view with batch statistics of its own.

    Args:
      network: called as network(images, train=True).
      params: shared by the views.
      model_state: running statistics before.
      views: [V, B, H, W, C].

    Returns:
      Outputs with leaves [V, B, ...], and the running statistics as after V calls one after the other.
    """

    def forward(images):
        variables = {"params": params, "batch_stats": model_state}
        out, updated = network.apply(variables, images, train=True, mutable=["batch_stats"])
        return out, updated["batch_stats"]

    out, states = jax.vmap(forward)(views)
    return out, jax.tree.map(partial(_fold, momentum=BatchNorm.momentum), model_state, states)


def _fold(before: Array, after: Array, momentum: float) -> Array:
    """Running statistics after updates one after the other, from the update that each view made alone.

    A view alone gives after[v] = m * before + (1 - m) * s[v]; the next one applies to the result of the one before.
    """
    result = before
    for view in range(after.shape[0]):
        result = momentum * (result - before) + after[view]
    return result


def feature_std(features: Array) -> Array:
    """Mean deviation of unit-length features over the batch, times sqrt(D): about 1 when spread, 0 on collapse.

    The collapse monitor of SimSiam (Chen & He 2021, section 4.1); of the local batch.
    """
    features = jax.lax.stop_gradient(features.astype(jnp.float32))
    norm = jnp.linalg.norm(features, axis=-1, keepdims=True)
    return jnp.mean(jnp.std(features / jnp.maximum(norm, 1e-12), axis=0)) * features.shape[-1] ** 0.5


OBJECTIVES = {"simsiam": simsiam, "barlow_twins": barlow_twins}
