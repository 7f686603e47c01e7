"""BYOL: predict the projection that a target network makes of the other view (Grill et al. 2020).

The target network is a moving average of the network that is trained.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from ucl_jax.errors import argument_choice
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import MLP
from ucl_jax.objectives import losses
from ucl_jax.objectives.base import (
    Augmentation,
    Objective,
    feature_std,
    forward_views,
    make_embed,
    make_features,
    make_init,
    make_maps,
    make_two_views,
)
from ucl_jax.types import Array, Aux, ModelState, Params, Variables


def byol(
    architecture: Architecture,
    augmentation: Augmentation,
    *,
    hidden_dim: int,
    output_dim: int,
    predictor_dim: int,
    momentum: float,
    final_momentum: float,
    first_update: str,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
) -> Objective:
    """Makes BYOL. The state of the network holds the target: a moving average of backbone and projector.

    Only parameters are averaged. The target sees views in training mode, with its own batch statistics. The momentum
    goes from `momentum` to `final_momentum` on half a cosine over the steps of a task; each task starts again.

    Args:
      architecture: puts the networks together.
      augmentation: its `present` gives the two views.
      hidden_dim: width of the hidden layer of the projector; 4096 in CaSSLe's code.
      output_dim: width of the projections; 256 in CaSSLe's code.
      predictor_dim: width of the hidden layer of the predictor; 4096 in CaSSLe's code.
      momentum: at the first step of a task, in [0, 1]; 0.99 in CaSSLe's code.
      final_momentum: approached at the end of a task, in [0, 1]; 1 in CaSSLe's code.
      first_update: "at_once": every step moves the target, with the momentum of that step. "late", as in CaSSLe's code:
        the first step of a task does not move it, and each other step uses the momentum of the step before.
      dtype: of the computation.
      axis_name: batch statistics are over the global batch of this axis; None for one device.

    Raises:
      ValueError: `first_update` has an unknown value.
    """
    delay = argument_choice("first_update", first_update, {"late": 1, "at_once": 0})

    def projector():
        return {"projector": MLP(hidden_dim, output_dim, dtype, axis_name)}

    network = architecture.build(
        lambda: {**projector(), "predictor": MLP(predictor_dim, dtype=dtype, axis_name=axis_name)}
    )
    target_network = architecture.build(projector)
    embed, embed_target = make_embed(network), make_embed(target_network)
    init_network = make_init(network, augmentation)

    def criterion(outputs, targets):
        first, second = outputs.prediction, targets.projection
        return losses.byol(first[0], second[1]) + losses.byol(first[1], second[0])

    def loss(variables, views, clock):
        outputs, state = forward_views(embed, variables, views)
        target = state["target"]
        targets, target_state = forward_views(embed_target, target, views)
        state = state | {"target": Variables(target.params, target_state)}
        metrics = {"feature_std": feature_std(outputs.features[0])}
        return criterion(outputs, targets), Aux(state=state, metrics=metrics, outputs=outputs)

    def eval_loss(variables, views):
        images = jnp.stack(views.image)
        outputs = jax.vmap(lambda view: embed(variables, view, False)[0])(images)
        targets = jax.vmap(lambda view: embed_target(variables.state["target"], view, False)[0])(images)
        return criterion(outputs, targets)

    def after_update(variables, clock):
        step = clock.task_step - delay
        now = momentum_at(jnp.maximum(step, 0), clock.task_steps, momentum, final_momentum)
        return moved_target(variables, jnp.where(step < 0, 1.0, now))

    return Objective(
        init=lambda key, images: with_target(init_network(key, images)),
        views=make_two_views(augmentation),
        loss=loss,
        embed=embed,
        features=make_features(embed, augmentation),
        maps=make_maps(network, architecture, augmentation),
        backbone=architecture.backbone,
        active=architecture.active,
        eval_loss=eval_loss,
        distance=losses.byol,
        after_update=after_update,
    )


def with_target(variables: Variables) -> Variables:
    """Returns the network with a target in its state: a copy of itself without the predictor."""
    statistics = without_predictor(variables.state["batch_stats"])
    target = Variables(without_predictor(variables.params), {"batch_stats": statistics})
    return Variables(variables.params, variables.state | {"target": jax.tree.map(jnp.copy, target)})


def moved_target(variables: Variables, momentum: Array) -> ModelState:
    """Returns the network's state with the target moved to `momentum * target + (1 - momentum) * network`."""
    target, network = variables.state["target"], without_predictor(variables.params)
    moved = jax.tree.map(lambda t, p: momentum * t + (1.0 - momentum) * p, target.params, network)
    return variables.state | {"target": Variables(moved, target.state)}


def momentum_at(step: Array, steps: Array, base: float, final: float) -> Array:
    """Computes the momentum after `step` of `steps` steps, on half a cosine from `base` to `final`.

    Args:
      step: int32 [], in [0, steps].
      steps: int32 [], above 0.
      base: the momentum at step 0.
      final: the momentum at step `steps`.

    Returns:
      float32 scalar.
    """
    share = step.astype(jnp.float32) / steps.astype(jnp.float32)
    return final - (final - base) * (jnp.cos(jnp.pi * share) + 1.0) / 2.0


def without_predictor(tree: Params) -> Params:
    """Returns a tree of the network without the branches of the predictor, which the target does not have."""
    return unflatten_dict({path: leaf for path, leaf in flatten_dict(tree).items() if "predictor" not in path})
