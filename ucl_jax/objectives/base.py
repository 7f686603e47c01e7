"""What an objective is: a record of pure functions over one network; and what several objectives share.

A loss takes *views*, any pytree of float arrays [B, ...] that a method may mix with others. The first leaf is an image,
the last is what a rehearsal method keeps frozen beside one (the second view; the soft label of a supervised objective).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

from ucl_jax import augment
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import Embedding
from ucl_jax.models.layers import BatchNorm
from ucl_jax.models.resnet import MAPS
from ucl_jax.types import Array, Aux, Batch, PyTree

Views = PyTree
STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")


class Augmentation(NamedTuple):
    """The three ways in which an image is shown: `view` and `replay_view` take (key, image), `eval_view` (image)."""

    view: Callable[[Array, Array], Array]
    replay_view: Callable[[Array, Array], Array]
    eval_view: Callable[[Array], Array]


class Readout(NamedTuple):
    """What the probes see: features float32 [B, F], logits float32 [B, C] or () for an objective without labels."""

    features: Array
    logits: Array | tuple


class Objective(NamedTuple):
    """A record of pure functions.

    init: key, images uint8 [B, H, W, C] -> params, model_state.
    views: keys [B], batch -> views, each augmented afresh.
    plain_views: batch -> views, none augmented.
    weak_view: keys [B], images uint8 [B, H, W, C] -> float [B, H, W, C], as replayed images are shown.
    weak_views: keys [B], batch -> views, each weakly augmented afresh.
    replay_views: keys [B], batch, frozen [B, ...] -> views, the first weakly augmented, the last the frozen one.
    loss: params, model_state, views -> scalar (its mean over devices is the loss of the global batch), Aux with the
      first view's Embedding as extras.
    eval_loss: params, model_state, views -> scalar, the loss with running statistics, a mean over examples that do not
      depend on each other; None where they always do.
    embed: params, model_state, view float [B, H, W, C], train -> Embedding, model_state.
    features: params, model_state, images uint8 [B, H, W, C] -> Readout.
    maps: params, model_state, images uint8 [B, H, W, C] -> name of a stage, "stem" to "stage4" -> [B, H', W', C'].
    backbone: a tree like params -> the branch of the backbone in use.
    active: a tree like params -> the same, with zeros where this stage of the run trains nothing.
    classes: outputs of the linear head, None without labels.
    """

    init: Callable[[Array, Array], tuple[PyTree, PyTree]]
    views: Callable[[Array, Batch], Views]
    plain_views: Callable[[Batch], Views]
    weak_view: Callable[[Array, Array], Array]
    weak_views: Callable[[Array, Batch], Views]
    replay_views: Callable[[Array, Batch, Array], Views]
    loss: Callable[[PyTree, PyTree, Views], tuple[Array, Aux]]
    eval_loss: Callable[[PyTree, PyTree, Views], Array] | None
    embed: Callable[[PyTree, PyTree, Array, bool], tuple[Embedding, PyTree]]
    features: Callable[[PyTree, PyTree, Array], Readout]
    maps: Callable[[PyTree, PyTree, Array], dict[str, Array]]
    backbone: Callable[[PyTree], PyTree]
    active: Callable[[PyTree], PyTree]
    classes: int | None = None


def two_view_objective(
    architecture: Architecture, heads: Callable, augmentation: Augmentation, criterion: Callable
) -> Objective:
    """An objective on two augmented views; `criterion` takes an Embedding with leaves [2, B, ...]."""
    network = architecture.build(heads)
    embed = make_embed(network)

    def loss(params, model_state, views):
        out, model_state = forward_views(network, params, model_state, jnp.stack(views))
        first = jax.tree.map(lambda x: x[0], out)
        return criterion(out), Aux(model_state, {"feature_std": feature_std(first.features)}, first)

    def eval_loss(params, model_state, views):
        out = jax.vmap(lambda view: embed(params, model_state, view, False)[0])(jnp.stack(views))
        return criterion(out)

    return Objective(
        init=make_init(network, augmentation),
        views=lambda keys, batch: augment.two_views(augmentation.view, keys, batch.image),
        plain_views=lambda batch: (show(augmentation, batch.image),) * 2,
        weak_view=partial(augment.apply, augmentation.replay_view),
        weak_views=lambda keys, batch: augment.two_views(augmentation.replay_view, keys, batch.image),
        replay_views=lambda keys, batch, frozen: (
            augment.apply(augmentation.replay_view, keys, batch.image),
            frozen,
        ),
        loss=loss,
        eval_loss=eval_loss,
        embed=embed,
        features=make_features(embed, augmentation),
        maps=make_maps(network, architecture, augmentation),
        backbone=architecture.backbone,
        active=architecture.active,
    )


def show(augmentation: Augmentation, images: Array) -> Array:
    """Images uint8 [B, H, W, C] as they are evaluated: float [B, H, W, C], none augmented."""
    return jax.vmap(augmentation.eval_view)(images)


def make_init(network: nn.Module, augmentation: Augmentation) -> Callable:
    """Makes `Objective.init`."""

    def init(key, images):
        variables = network.init(key, show(augmentation, images), train=True)
        return variables["params"], variables["batch_stats"]

    return init


def make_embed(network: nn.Module) -> Callable:
    """`Objective.embed`. Only training uses statistics of the batch, over all devices, and updates the running ones."""

    def embed(params, model_state, view, train):
        variables = {"params": params, "batch_stats": model_state}
        if not train:
            return network.apply(variables, view, train=False), model_state
        out, updated = network.apply(variables, view, train=True, mutable=["batch_stats"])
        return out, updated["batch_stats"]

    return embed


def make_maps(network: nn.Module, architecture: Architecture, augmentation: Augmentation) -> Callable:
    """`Objective.maps`. What a column of a growing architecture has in a part of its own (the stem) is found too."""

    def maps(params, model_state, images):
        variables = {"params": params, "batch_stats": model_state}
        _, left = network.apply(variables, show(augmentation, images), train=False, mutable=[MAPS])
        found = {
            path[-1].removesuffix("_map"): value
            for path, (value,) in flatten_dict(architecture.backbone(left[MAPS])).items()
        }
        return {name: found[name] for name in STAGES}

    return maps


def make_features(embed: Callable, augmentation: Augmentation) -> Callable:
    """`Objective.features`."""

    def features(params, model_state, images):
        out, _ = embed(params, model_state, show(augmentation, images), False)
        return Readout(out.features, out.logits)

    return features


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

    embed = make_embed(network)
    out, states = jax.vmap(lambda view: embed(params, model_state, view, True))(views)
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
