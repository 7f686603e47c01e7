"""VICReg: views alike, and dimensions that vary and are not correlated (Bardes et al. 2022)."""

from typing import Any

import jax.numpy as jnp

from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import MLP
from ucl_jax.objectives import losses
from ucl_jax.objectives.base import Augmentation, Objective, added_pseudo_negatives, mean_over_views, two_view_objective


def vicreg(
    architecture: Architecture,
    augmentation: Augmentation,
    *,
    hidden_dim: int,
    output_dim: int,
    similarity: float,
    variance: float,
    covariance: float,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
) -> Objective:
    """Makes VICReg: the invariance, variance and covariance of two views' projections. The projector has three layers.

    Args:
      architecture: puts the network together.
      augmentation: its `present` gives the two views.
      hidden_dim: width of the hidden layers of the projector; 2048 in CaSSLe's code.
      output_dim: width of the projections; 2048 in CaSSLe's code.
      similarity: weight of the difference of the views; 25 in the paper.
      variance: weight of too small deviations; 25 in the paper.
      covariance: weight of the covariances; 1 in the paper.
      dtype: of the computation.
      axis_name: batch statistics and covariances are over the global batch of this axis; None for one device.
    """

    def heads():
        return {"projector": MLP(hidden_dim, output_dim, dtype, axis_name, layers=3)}

    def compare(first, second):
        return losses.vicreg(first, second, similarity, variance, covariance, axis_name)

    def criterion(out):
        return compare(*out.projection)

    # Variances are over a batch, so that one example alone has no loss.
    distillation = mean_over_views(losses.mean_squared_error)
    return two_view_objective(
        architecture,
        heads,
        augmentation,
        criterion,
        distillation,
        per_example=False,
        compare=compare,
        pseudo_negatives=added_pseudo_negatives(losses.mean_squared_error, losses.mean_squared_error),
    )
