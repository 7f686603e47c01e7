"""The target network of BYOL and MoCo: a moving average of the network that is trained, kept in its state."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from ucl_jax.errors import argument_choice
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import Embedding
from ucl_jax.objectives.base import evaluate_views, forward_views, make_embed
from ucl_jax.types import Array, Clock, ModelState, Params, Variables, Views


class Target(NamedTuple):
    """Holds what an objective does with its target network.

    Attributes:
      start: a fresh network -> the same with a target in its state: a copy of itself without the predictor.
      forward: the network's state, views -> outputs of the target with leaves [V, B, ...], state. The target is in
        training mode, with batch statistics of its own. There is no gradient to be had: it depends on no parameter.
      evaluate: the network's state, views -> outputs of the target in evaluation mode, leaves [V, B, ...].
      after_update: see `Objective`; it moves the target.
    """

    start: Callable[[Variables], Variables]
    forward: Callable[[ModelState, Views], tuple[Embedding, ModelState]]
    evaluate: Callable[[ModelState, Views], Embedding]
    after_update: Callable[[Variables, Clock], ModelState]


def moving_target(
    architecture: Architecture,
    heads: Callable[[], dict[str, nn.Module]],
    *,
    momentum: float,
    final_momentum: float,
    first_update: str,
) -> Target:
    """Makes a target. Only parameters are averaged, not statistics.

    The momentum goes from `momentum` to `final_momentum` on half a cosine over the steps of a task. Each task starts
    again.

    Args:
      architecture: puts the network together.
      heads: makes the heads of the target, by name.
      momentum: at the first step of a task, in [0, 1].
      final_momentum: approached at the end of a task, in [0, 1].
      first_update: "at_once": every step moves the target, with the momentum of that step. "late", as in CaSSLe's code:
        the first step of a task does not move it, and each other step uses the momentum of the step before.

    Raises:
      ValueError: `first_update` has an unknown value.
    """
    delay = argument_choice("first_update", first_update, {"late": 1, "at_once": 0})
    embed = make_embed(architecture.build(heads))

    def start(network):
        statistics = without_predictor(network.state["batch_stats"])
        target = Variables(without_predictor(network.params), {"batch_stats": statistics})
        return Variables(network.params, network.state | {"target": jax.tree.map(jnp.copy, target)})

    def forward(state, views):
        outputs, after = forward_views(embed, state["target"], views)
        return outputs, state | {"target": Variables(state["target"].params, after)}

    def after_update(network, clock):
        step = clock.task_step - delay
        now = momentum_at(jnp.maximum(step, 0), clock.task_steps, momentum, final_momentum)
        return moved(network, jnp.where(step < 0, 1.0, now))

    return Target(
        start=start,
        forward=forward,
        evaluate=lambda state, views: evaluate_views(embed, state["target"], views),
        after_update=after_update,
    )


def moved(network: Variables, momentum: Array) -> ModelState:
    """Returns the network's state with the target moved to `momentum * target + (1 - momentum) * network`."""
    target, online = network.state["target"], without_predictor(network.params)
    return network.state | {"target": Variables(moving_average(target.params, online, momentum), target.state)}


def moving_average(average: Params, new: Params, momentum: Array | float) -> Params:
    """Returns `momentum * average + (1 - momentum) * new` for every leaf of two trees of the same structure."""
    return jax.tree.map(lambda a, n: momentum * a + (1.0 - momentum) * n, average, new)


def momentum_at(step: Array, steps: Array, base: float, final: float) -> Array:
    """Computes the momentum after `step` of `steps` steps, on half a cosine from `base` to `final`.

    Args:
      step: int32 [], in [0, steps].
      steps: int32 [], above 0.
      base: the momentum at step 0.
      final: the momentum at step `steps`.

    Returns:
      Scalar of the default float dtype.
    """
    share = step.astype(float) / steps.astype(float)
    return final - (final - base) * (jnp.cos(jnp.pi * share) + 1.0) / 2.0


def without_predictor(tree: Params) -> Params:
    """Returns a tree of the network without the branches of the predictor, which the target does not have."""
    return unflatten_dict({path: leaf for path, leaf in flatten_dict(tree).items() if "predictor" not in path})
