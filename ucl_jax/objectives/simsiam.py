"""SimSiam: predict one view's projection from the other's (Chen & He 2021)."""

from typing import Any

import jax.numpy as jnp

from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import MLP
from ucl_jax.objectives import losses
from ucl_jax.objectives.base import Augmentation, Objective, added_pseudo_negatives, mean_over_views, two_view_objective


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
    """Makes SimSiam: the symmetric negative cosine between a prediction and the other view's projection.

    Its projector has two layers instead of three, as in the official code of UCL.

    Args:
      architecture: puts the network together.
      augmentation: its `present` gives the two views.
      hidden_dim: width of the hidden layer of the projector.
      output_dim: width of the projections.
      predictor_dim: width of the hidden layer of the predictor.
      dtype: of the computation.
      axis_name: batch statistics are over the global batch of this axis; None for one device.
    """

    def heads():
        return {
            "projector": MLP(hidden_dim, output_dim, dtype, axis_name, norm="all"),
            "predictor": MLP(predictor_dim, dtype=dtype, axis_name=axis_name),
        }

    def criterion(out):
        z, p = out.projection, out.prediction
        return 0.5 * losses.negative_cosine(p[0], z[1]) + 0.5 * losses.negative_cosine(p[1], z[0])

    distillation = mean_over_views(losses.byol)
    return two_view_objective(
        architecture,
        heads,
        augmentation,
        criterion,
        distillation,
        per_example=True,
        compare=losses.negative_cosine,
        pseudo_negatives=added_pseudo_negatives(losses.byol, losses.byol),  # our choice, as BYOL: no code has it
    )
