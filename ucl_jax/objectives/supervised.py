"""Supervised learning: cross-entropy of one linear head over all classes (the paper's SCL)."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ucl_jax import augment
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import Projector
from ucl_jax.models.layers import Dense
from ucl_jax.objectives import losses
from ucl_jax.objectives.base import (
    Augmentation,
    Objective,
    feature_std,
    make_embed,
    make_features,
    make_init,
    make_maps,
    show,
)
from ucl_jax.types import Array, Aux


class Labelled(NamedTuple):
    """The views of a supervised objective: image float [B, H, W, 3], label float [B, C], one-hot or mixed."""

    image: Array
    label: Array


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
    embed = make_embed(network)

    def loss(params, model_state, views):
        out, model_state = embed(params, model_state, views.image, True)
        correct = jnp.argmax(out.logits, axis=-1) == jnp.argmax(views.label, axis=-1)
        metrics = {"feature_std": feature_std(out.features), "accuracy": jnp.mean(correct.astype(jnp.float32))}
        return criterion(out, views), Aux(model_state, metrics, out)

    return Objective(
        init=make_init(network, augmentation),
        views=lambda keys, batch: labelled(augment.apply(augmentation.view, keys, batch.image), batch.label),
        plain_views=lambda batch: labelled(show(augmentation, batch.image), batch.label),
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
        features=make_features(embed, augmentation),
        maps=make_maps(network, architecture, augmentation),
        backbone=architecture.backbone,
        active=architecture.active,
        classes=classes,
    )
