"""BYOL: predict the projection that a target network makes of the other view (Grill et al. 2020)."""

from typing import Any

import jax.numpy as jnp

from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import MLP
from ucl_jax.objectives import losses
from ucl_jax.objectives.base import (
    Augmentation,
    Comparison,
    Objective,
    added_pseudo_negatives,
    evaluate_views,
    forward_views,
    make_embed,
    make_init,
    mean_over_views,
    objective_of,
    two_view_aux,
)
from ucl_jax.objectives.target import moving_target


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

    Args:
      architecture: puts the networks together.
      augmentation: its `present` gives the two views.
      hidden_dim: width of the hidden layer of the projector; 4096 in CaSSLe's code.
      output_dim: width of the projections; 256 in CaSSLe's code.
      predictor_dim: width of the hidden layer of the predictor; 4096 in CaSSLe's code.
      momentum: see `moving_target`; 0.99 in CaSSLe's code.
      final_momentum: see `moving_target`; 1 in CaSSLe's code.
      first_update: see `moving_target`; "late" in CaSSLe's code.
      dtype: of the computation.
      axis_name: batch statistics are over the global batch of this axis; None for one device.

    Raises:
      ValueError: `first_update` has an unknown value.
    """

    def projector():
        return {"projector": MLP(hidden_dim, output_dim, dtype, axis_name)}

    def heads():
        return {**projector(), "predictor": MLP(predictor_dim, dtype=dtype, axis_name=axis_name)}

    network = architecture.build(heads)
    embed, init = make_embed(network), make_init(network, augmentation)
    target = moving_target(
        architecture, projector, momentum=momentum, final_momentum=final_momentum, first_update=first_update
    )

    def criterion(outputs):
        p, z = outputs.prediction, outputs.target
        return losses.byol(p[0], z[1]) + losses.byol(p[1], z[0])

    def forward(variables, views):
        outputs, state = forward_views(embed, variables, views)
        targets, state = target.forward(state, views)
        return outputs._replace(target=targets.projection), state

    def loss(variables, views, clock):
        outputs, state = forward(variables, views)
        return criterion(outputs), two_view_aux(outputs, state)

    def eval_loss(variables, views):
        outputs, targets = evaluate_views(embed, variables, views), target.evaluate(variables.state, views)
        return criterion(outputs._replace(target=targets.projection))

    def compare(query, key):  # twice, because the criterion is the sum of both directions, not their mean
        return 2.0 * losses.byol(query, key)

    return objective_of(network, architecture, augmentation, loss)._replace(
        init=lambda key, images: target.start(init(key, images)),
        eval_loss=eval_loss,
        distillation=mean_over_views(losses.byol),
        pseudo_negatives=added_pseudo_negatives(losses.byol, losses.byol),
        comparison=Comparison(forward, criterion, compare),
        after_update=target.after_update,
    )
