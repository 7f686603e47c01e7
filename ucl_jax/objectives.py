"""Objectives: what is learned from one batch. Each is a record of pure functions over one network.

A loss takes *views*, any pytree of float arrays [B, ...] that a method may mix with others. The first leaf is an image,
the last is what a rehearsal method keeps frozen beside one (the second view; the soft label of a supervised objective).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

from ucl_jax import augment, losses
from ucl_jax.architectures import Architecture
from ucl_jax.models.heads import Embedding, Predictor, Projector
from ucl_jax.models.layers import BatchNorm, Dense
from ucl_jax.models.resnet import MAPS
from ucl_jax.types import Array, Aux, Batch, PyTree

Views = PyTree
STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")


class Augmentation(NamedTuple):
    """The three ways in which an image is shown: `view` and `replay_view` take (key, image), `eval_view` (image)."""

    view: Callable[[Array, Array], Array]
    replay_view: Callable[[Array, Array], Array]
    eval_view: Callable[[Array], Array]


class Labelled(NamedTuple):
    """The views of a supervised objective: image float [B, H, W, 3], label float [B, C], one-hot or mixed."""

    image: Array
    label: Array


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


def simsiam(
    architecture: Architecture,
    augmentation: Augmentation,
    *,
    hidden_dim: int,
    output_dim: int,
    predictor_dim: int,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
) -> Objective:
    """SimSiam (Chen & He 2021): symmetric negative cosine between a prediction and the other view's projection."""

    def heads():
        return {
            "projector": Projector(hidden_dim, output_dim, dtype, axis_name),
            "predictor": Predictor(predictor_dim, dtype, axis_name),
        }

    def criterion(out):
        z, p = out.projection, out.prediction
        return 0.5 * losses.negative_cosine(p[0], z[1]) + 0.5 * losses.negative_cosine(p[1], z[0])

    return _two_view_objective(architecture, heads, augmentation, criterion)


def barlow_twins(
    architecture: Architecture,
    augmentation: Augmentation,
    *,
    hidden_dim: int,
    output_dim: int,
    off_diagonal: float,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
) -> Objective:
    """Barlow Twins (Zbontar et al. 2021): the cross-correlation of two views' projections is driven to identity."""

    def heads():
        return {"projector": Projector(hidden_dim, output_dim, dtype, axis_name)}

    def criterion(out):
        return losses.barlow_twins(*out.projection, off_diagonal=off_diagonal, axis_name=axis_name)

    # Its correlations are over the batch: one example alone has no loss.
    return _two_view_objective(architecture, heads, augmentation, criterion)._replace(eval_loss=None)


def supervised(
    architecture: Architecture,
    augmentation: Augmentation,
    *,
    classes: int,
    projector: bool,
    hidden_dim: int,
    output_dim: int,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
) -> Objective:
    """Cross-entropy of one linear head over all classes (the paper's SCL).

    Args:
      architecture: puts the network together.
      augmentation: its `view` is the one view.
      classes: outputs of the head; the paper has 100 on every data set.
      projector: puts the projector of the other objectives between backbone and head; False in the paper.
      hidden_dim: of the projector.
      output_dim: of the projector.
      dtype: of the computation.
      axis_name: batch statistics are over the global batch of this axis.
    """

    def heads():
        mlp = {"projector": Projector(hidden_dim, output_dim, dtype, axis_name)} if projector else {}
        return {**mlp, "head": Dense(classes, dtype)}

    def labelled(image, label):
        return Labelled(image, jax.nn.one_hot(label, classes, dtype=jnp.float32))

    def criterion(out, views):
        return losses.cross_entropy(out.logits, views.label)

    network = architecture.build(heads)
    embed = _embedding(network)

    def loss(params, model_state, views):
        out, model_state = embed(params, model_state, views.image, True)
        correct = jnp.argmax(out.logits, axis=-1) == jnp.argmax(views.label, axis=-1)
        metrics = {"feature_std": feature_std(out.features), "accuracy": jnp.mean(correct.astype(jnp.float32))}
        return criterion(out, views), Aux(model_state, metrics, out)

    return Objective(
        init=_initialiser(network, augmentation),
        views=lambda keys, batch: labelled(augment.apply(augmentation.view, keys, batch.image), batch.label),
        plain_views=lambda batch: labelled(_show(augmentation, batch.image), batch.label),
        weak_view=partial(augment.apply, augmentation.replay_view),
        weak_views=lambda keys, batch: labelled(
            augment.apply(augmentation.replay_view, keys, batch.image), batch.label
        ),
        replay_views=lambda keys, batch, frozen: Labelled(
            augment.apply(augmentation.replay_view, keys, batch.image), frozen
        ),
        loss=loss,
        eval_loss=lambda params, model_state, views: criterion(
            embed(params, model_state, views.image, False)[0], views
        ),
        embed=embed,
        features=_reader(embed, augmentation),
        maps=_mapper(network, architecture, augmentation),
        backbone=architecture.backbone,
        active=architecture.active,
        classes=classes,
    )


def _two_view_objective(
    architecture: Architecture, heads: Callable, augmentation: Augmentation, criterion: Callable
) -> Objective:
    """An objective on two augmented views; `criterion` takes an Embedding with leaves [2, B, ...]."""
    network = architecture.build(heads)
    embed = _embedding(network)

    def loss(params, model_state, views):
        out, model_state = forward_views(network, params, model_state, jnp.stack(views))
        first = jax.tree.map(lambda x: x[0], out)
        return criterion(out), Aux(model_state, {"feature_std": feature_std(first.features)}, first)

    def eval_loss(params, model_state, views):
        out = jax.vmap(lambda view: embed(params, model_state, view, False)[0])(jnp.stack(views))
        return criterion(out)

    return Objective(
        init=_initialiser(network, augmentation),
        views=lambda keys, batch: augment.two_views(augmentation.view, keys, batch.image),
        plain_views=lambda batch: (_show(augmentation, batch.image),) * 2,
        weak_view=partial(augment.apply, augmentation.replay_view),
        weak_views=lambda keys, batch: augment.two_views(augmentation.replay_view, keys, batch.image),
        replay_views=lambda keys, batch, frozen: (
            augment.apply(augmentation.replay_view, keys, batch.image),
            frozen,
        ),
        loss=loss,
        eval_loss=eval_loss,
        embed=embed,
        features=_reader(embed, augmentation),
        maps=_mapper(network, architecture, augmentation),
        backbone=architecture.backbone,
        active=architecture.active,
    )


def _show(augmentation: Augmentation, images: Array) -> Array:
    return jax.vmap(augmentation.eval_view)(images)


def _initialiser(network: nn.Module, augmentation: Augmentation) -> Callable:
    def init(key, images):
        variables = network.init(key, _show(augmentation, images), train=True)
        return variables["params"], variables["batch_stats"]

    return init


def _embedding(network: nn.Module) -> Callable:
    """`Objective.embed`. Only training uses statistics of the batch, over all devices, and updates the running ones."""

    def embed(params, model_state, view, train):
        variables = {"params": params, "batch_stats": model_state}
        if not train:
            return network.apply(variables, view, train=False), model_state
        out, updated = network.apply(variables, view, train=True, mutable=["batch_stats"])
        return out, updated["batch_stats"]

    return embed


def _mapper(network: nn.Module, architecture: Architecture, augmentation: Augmentation) -> Callable:
    """`Objective.maps`. What a column of a growing architecture has in a part of its own (the stem) is found too."""

    def maps(params, model_state, images):
        variables = {"params": params, "batch_stats": model_state}
        _, left = network.apply(variables, _show(augmentation, images), train=False, mutable=[MAPS])
        found = {
            path[-1].removesuffix("_map"): value
            for path, (value,) in flatten_dict(architecture.backbone(left[MAPS])).items()
        }
        return {name: found[name] for name in STAGES}

    return maps


def _reader(embed: Callable, augmentation: Augmentation) -> Callable:
    """`Objective.features`."""

    def features(params, model_state, images):
        out, _ = embed(params, model_state, _show(augmentation, images), False)
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

    embed = _embedding(network)
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


OBJECTIVES = {"simsiam": simsiam, "barlow_twins": barlow_twins, "supervised": supervised}
