"""What an objective is: a record of pure functions over one network; and what several objectives share."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

from ucl_jax import augment
from ucl_jax.errors import pick
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import Embedding
from ucl_jax.models.layers import BatchNorm
from ucl_jax.models.resnet import MAPS
from ucl_jax.types import Array, Aux, Batch, Clock, ModelState, Params, Variables, Views

STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")


class Augmentation(NamedTuple):
    """The three ways in which an image is shown: `view` and `replay_view` take (key, image), `eval_view` (image)."""

    view: Callable[[Array, Array], Array]
    replay_view: Callable[[Array, Array], Array]
    eval_view: Callable[[Array], Array]


class Readout(NamedTuple):
    """What the probes see: features float32 [B, F], logits float32 [B, C] or () for an objective without labels."""

    features: Array
    logits: Any


class Objective(NamedTuple):
    """What is learned from one batch: a record of pure functions over one network.

    init: key, images uint8 [B, H, W, C] -> a network.
    views: keys [B], batch, how -> views. How is a word: "present", as training shows its images; "weak", as replayed
      images are shown, as many views; "replayed", one weak view, for a method that has the others or needs none; and
      "plain", as many views, none augmented, for which keys are not used.
    loss: network, views, clock -> scalar (its mean over devices is the loss of the global batch), Aux with the outputs
      of all views.
    eval_loss: network, views -> scalar, the loss with running statistics, a mean over examples that do not depend on
      each other; None where they always do.
    match: predicted [B, D], target [B, D] -> scalar, how far projections are from given ones by the criterion of this
      objective, for distillation; None for an objective without projections.
    after_update: network with new parameters, clock -> its state, such as a moving average.
    begin_task: network, clock -> its state, before the first step of a task.
    embed: network, view float [B, H, W, C], train -> Embedding, state. Only training uses statistics of the batch,
      over all devices, and updates the running ones.
    features: network, images uint8 [B, H, W, C] -> Readout.
    maps: network, images uint8 [B, H, W, C] -> name of a stage, "stem" to "stage4" -> [B, H', W', C'].
    backbone: a tree like params -> the branch of the backbone in use.
    active: a tree like params -> the same, with zeros where this phase of the run trains nothing.
    classes: outputs of the linear head, None without labels.
    """

    init: Callable[[Array, Array], Variables]
    views: Callable[[Array | None, Batch, str], Views]
    loss: Callable[[Variables, Views, Clock], tuple[Array, Aux]]
    eval_loss: Callable[[Variables, Views], Array] | None
    match: Callable[[Array, Array], Array] | None
    after_update: Callable[[Variables, Clock], ModelState]
    begin_task: Callable[[Variables, Clock], ModelState]
    embed: Callable[[Variables, Array, bool], tuple[Embedding, ModelState]]
    features: Callable[[Variables, Array], Readout]
    maps: Callable[[Variables, Array], dict[str, Array]]
    backbone: Callable[[Params], Params]
    active: Callable[[Params], Params]
    classes: int | None = None


def unchanged(network: Variables, clock: Clock) -> ModelState:
    """Returns the state as it is: `after_update` and `begin_task` of most objectives."""
    return network.state


def two_view_objective(
    architecture: Architecture,
    heads: Callable[[], dict[str, nn.Module]],
    augmentation: Augmentation,
    criterion: Callable[[Embedding], Array],
    match: Callable[[Array, Array], Array],
) -> Objective:
    """Makes an objective on two augmented views; `criterion` takes an Embedding with leaves [2, B, ...]."""
    network = architecture.build(heads)
    embed = make_embed(network)

    def loss(variables, views, clock):
        outputs, state = forward_views(embed, variables, views)
        return criterion(outputs), Aux(state, {"feature_std": feature_std(outputs.features[0])}, outputs)

    def eval_loss(variables, views):
        return criterion(jax.vmap(lambda view: embed(variables, view, False)[0])(jnp.stack(views.image)))

    return Objective(
        init=make_init(network, augmentation),
        views=two_views(augmentation),
        loss=loss,
        eval_loss=eval_loss,
        match=match,
        after_update=unchanged,
        begin_task=unchanged,
        embed=embed,
        features=make_features(embed, augmentation),
        maps=make_maps(network, architecture, augmentation),
        backbone=architecture.backbone,
        active=architecture.active,
    )


def two_views(augmentation: Augmentation) -> Callable[[Array | None, Batch, str], Views]:
    """Makes `Objective.views` of an objective without labels."""

    def views(keys, batch, how):
        ways = {
            "present": lambda: augment.two_views(augmentation.view, keys, batch.image),
            "weak": lambda: augment.two_views(augmentation.replay_view, keys, batch.image),
            "replayed": lambda: (augment.apply(augmentation.replay_view, keys, batch.image),),
            "plain": lambda: (show(augmentation, batch.image),) * 2,
        }
        return Views(pick("how", how, ways)(), None)

    return views


def show(augmentation: Augmentation, images: Array) -> Array:
    """Shows images uint8 [B, H, W, C] as they are evaluated: float [B, H, W, C], none augmented."""
    return jax.vmap(augmentation.eval_view)(images)


def make_init(network: nn.Module, augmentation: Augmentation) -> Callable[[Array, Array], Variables]:
    """Makes `Objective.init` of a network with running statistics."""

    def init(key, images):
        variables = network.init(key, show(augmentation, images), train=True)
        return Variables(variables["params"], {"batch_stats": variables["batch_stats"]})

    return init


def make_embed(network: nn.Module) -> Callable[[Variables, Array, bool], tuple[Embedding, ModelState]]:
    """Makes `Objective.embed`."""

    def embed(variables, view, train):
        tree = {"params": variables.params, "batch_stats": variables.state["batch_stats"]}
        if not train:
            return network.apply(tree, view, train=False), variables.state
        outputs, updated = network.apply(tree, view, train=True, mutable=["batch_stats"])
        return outputs, variables.state | {"batch_stats": updated["batch_stats"]}

    return embed


def make_maps(network: nn.Module, architecture: Architecture, augmentation: Augmentation) -> Callable:
    """Makes `Objective.maps`. What a column of a growing architecture has in a part of its own (the stem) is found."""

    def maps(variables, images):
        tree = {"params": variables.params, "batch_stats": variables.state["batch_stats"]}
        _, left = network.apply(tree, show(augmentation, images), train=False, mutable=[MAPS])
        found = {
            path[-1].removesuffix("_map"): value
            for path, (value,) in flatten_dict(architecture.backbone(left[MAPS])).items()
        }
        return {name: found[name] for name in STAGES}

    return maps


def make_features(embed: Callable, augmentation: Augmentation) -> Callable[[Variables, Array], Readout]:
    """Makes `Objective.features`."""

    def features(variables, images):
        outputs, _ = embed(variables, show(augmentation, images), False)
        return Readout(outputs.features, outputs.logits)

    return features


def forward_views(
    embed: Callable[[Variables, Array, bool], tuple[Any, ModelState]], variables: Variables, views: Views
) -> tuple[Any, ModelState]:
    """Runs several views through a network in one pass, in training mode, each with batch statistics of its own.

    Args:
      embed: see `Objective`.
      variables: the network, shared by the views.
      views: V of them, all of one size.

    Returns:
      Outputs with leaves [V, B, ...], and the state as after V passes one after the other.
    """
    outputs, states = jax.vmap(lambda view: embed(variables, view, True))(jnp.stack(views.image))
    before, after = variables.state["batch_stats"], states["batch_stats"]
    folded = jax.tree.map(partial(_fold, momentum=BatchNorm.momentum), before, after)
    return outputs, variables.state | {"batch_stats": folded}


def _fold(before: Array, after: Array, momentum: float) -> Array:
    """Running statistics after updates one after the other, from the update that each view made alone.

    A view alone gives after[v] = m * before + (1 - m) * s[v]; the next one applies to the result of the one before.
    """
    result = before
    for view in range(after.shape[0]):
        result = momentum * (result - before) + after[view]
    return result


def feature_std(features: Array) -> Array:
    """Returns the mean deviation of unit-length features over the batch, times sqrt(D).

    It is about 1 when they are spread, and 0 on collapse: the collapse monitor of SimSiam (Chen & He 2021, section
    4.1); of the local batch.

    Args:
      features: [B, D].
    """
    features = jax.lax.stop_gradient(features.astype(jnp.float32))
    norm = jnp.linalg.norm(features, axis=-1, keepdims=True)
    return jnp.mean(jnp.std(features / jnp.maximum(norm, 1e-12), axis=0)) * features.shape[-1] ** 0.5
