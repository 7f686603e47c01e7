"""Supervised learning: cross-entropy of one linear head over all classes (the paper's SCL)."""

from typing import Any

import jax
import jax.numpy as jnp

from ucl_jax import augment
from ucl_jax.errors import argument_choice
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import MLP
from ucl_jax.models.layers import Dense
from ucl_jax.objectives import losses
from ucl_jax.objectives.base import Augmentation, Objective, feature_std, make_embed, objective_of, show
from ucl_jax.types import Aux, Views


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
    """Makes the cross-entropy of one linear head over all classes (the paper's SCL).

    Args:
      architecture: puts the network together.
      augmentation: its `present` gives the one view.
      classes: the number of outputs of the head; the paper has 100 on every data set.
      projector: whether the projector of the other objectives is between backbone and head; False in the paper.
      hidden_dim: width of the hidden layer of the projector.
      output_dim: width of the output of the projector.
      dtype: of the computation.
      axis_name: batch statistics are over the global batch of this axis; None for one device.
    """

    def heads():
        mlp = {"projector": MLP(hidden_dim, output_dim, dtype, axis_name, norm="all")} if projector else {}
        return {**mlp, "head": Dense(classes, dtype)}

    def views(keys, batch, how):
        weak = lambda: augment.apply(augmentation.weak, keys, batch.image)  # noqa: E731
        ways = {
            "present": lambda: augment.apply(augmentation.present, keys, batch.image),
            "weak": weak,
            "replayed": weak,
            "plain": lambda: show(augmentation, batch.image),
        }
        label = jax.nn.one_hot(batch.label, classes, dtype=jnp.float32)
        return Views((argument_choice("how", how, ways)(),), label)

    network = architecture.build(heads)
    embed = make_embed(network)

    def loss(variables, views, clock):
        outputs, state = embed(variables, views.image[0], True)
        correct = jnp.argmax(outputs.logits, axis=-1) == jnp.argmax(views.label, axis=-1)
        metrics = {"feature_std": feature_std(outputs.features), "accuracy": jnp.mean(correct.astype(jnp.float32))}
        all_views = jax.tree.map(lambda x: x[None], outputs)  # V = 1 view
        return losses.cross_entropy(outputs.logits, views.label), Aux(state=state, metrics=metrics, outputs=all_views)

    def eval_loss(variables, views):
        return losses.cross_entropy(embed(variables, views.image[0], False)[0].logits, views.label)

    return objective_of(network, architecture, augmentation, loss)._replace(
        views=views,
        eval_loss=eval_loss,
        classes=classes,
    )
