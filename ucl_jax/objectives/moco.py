"""MoCo v2+: tell the target's key of the other view from a queue of earlier keys (He et al. 2020; Chen et al. 2020).

It is symmetric: both views are queries.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import MLP
from ucl_jax.models.layers import at_least_float32, unit
from ucl_jax.objectives import losses
from ucl_jax.objectives.base import (
    Augmentation,
    Objective,
    PseudoNegatives,
    contrastive,
    evaluate_views,
    forward_views,
    make_embed,
    make_init,
    objective_of,
    two_view_aux,
)
from ucl_jax.objectives.queue import pushed
from ucl_jax.objectives.target import moving_target
from ucl_jax.types import Array, Variables


def moco(
    architecture: Architecture,
    augmentation: Augmentation,
    *,
    hidden_dim: int,
    output_dim: int,
    temperature: float,
    queue_size: int,
    momentum: float,
    final_momentum: float,
    first_update: str,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
) -> Objective:
    """Makes MoCo v2+. The state of the network holds the target, and the queue: float32 [queue_size, 2, output_dim].

    Projections have length 1; the projector has no batch norm. A batch is compared with the queue before its own keys
    enter it. The queue is random at first, and goes on over the tasks.

    Args:
      architecture: puts the networks together.
      augmentation: its `present` gives the two views.
      hidden_dim: width of the hidden layer of the projector; 2048 in the released code.
      output_dim: width of the projections; 128 in the released code.
      temperature: above 0; 0.2 in the released code.
      queue_size: the images whose keys are kept, a key for each view; 65536 in the released code.
      momentum: see `moving_target`; 0.99 in the released code.
      final_momentum: see `moving_target`; 0.999 in the released code.
      first_update: see `moving_target`; "late" in the released code.
      dtype: of the computation.
      axis_name: batch statistics are over the global batch of this axis, and its keys enter the queue; None for one
        device.

    Raises:
      ValueError: `first_update` has an unknown value.
    """

    def heads():
        return {"projector": MLP(hidden_dim, output_dim, dtype, axis_name, norm="none", unit_output=True)}

    network = architecture.build(heads)
    embed, init_network = make_embed(network), make_init(network, augmentation)
    target = moving_target(
        architecture, heads, momentum=momentum, final_momentum=final_momentum, first_update=first_update
    )

    def draw_queue(key):
        return unit(jax.random.normal(key, (queue_size, 2, output_dim)))

    def init(key, images):
        variables = target.start(init_network(key, images))
        queue = draw_queue(jax.random.fold_in(key, 1))
        return Variables(variables.params, variables.state | {"queue": queue})

    def loss(variables, views, clock):
        outputs, state = forward_views(embed, variables, views)
        keys, state = target.forward(state, views)
        value = moco_loss(outputs.projection, keys.projection, state["queue"], temperature)
        entering = at_least_float32(jnp.swapaxes(keys.projection, 0, 1))
        outputs = outputs._replace(target=keys.projection)
        return value, two_view_aux(outputs, state | {"queue": pushed(state["queue"], entering, axis_name)})

    def eval_loss(variables, views):
        queries, keys = evaluate_views(embed, variables, views), target.evaluate(variables.state, views)
        return moco_loss(queries.projection, keys.projection, variables.state["queue"], temperature)

    def beside_frozen(value, outputs, state, past, weight, negative_weight):
        queue = jnp.concatenate([state["queue"], past.queue])
        once = jnp.zeros(len(queue) // 2, queue.dtype)
        pseudo = once + jnp.log(jnp.asarray(negative_weight, queue.dtype))
        first, second = jnp.concatenate([once, pseudo]), jnp.concatenate([pseudo, once])
        present = moco_loss(outputs.projection, outputs.target, queue, temperature, first)
        # The target of a prediction is of the same view; as for a query, its negatives are of the other view.
        return present + weight * moco_loss(past.predicted, past.target[::-1], queue, temperature, second)

    return objective_of(network, architecture, augmentation, loss)._replace(
        init=init,
        eval_loss=eval_loss,
        distillation=contrastive(temperature, axis_name),
        pseudo_negatives=PseudoNegatives(init=draw_queue, loss=beside_frozen),
        after_update=target.after_update,
    )


def moco_loss(queries: Array, keys: Array, queue: Array, temperature: float, log_weight: Array | None = None) -> Array:
    """Computes the mean of InfoNCE over both views: a query, the key of the other view, and queued keys of that view.

    Args:
      queries: [2, B, D].
      keys: [2, B, D].
      queue: [K, 2, D] of length 1.
      temperature: above 0.
      log_weight: [K], the logarithm of how often each of the queue counts; None for once.

    Returns:
      Scalar, at least 0.
    """
    first = losses.info_nce(queries[0], keys[1], queue[:, 1], temperature, log_weight)
    second = losses.info_nce(queries[1], keys[0], queue[:, 0], temperature, log_weight)
    return (first + second) / 2.0
