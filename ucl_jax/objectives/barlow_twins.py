"""Barlow Twins: redundancy reduction between the projections of two views (Zbontar et al. 2021)."""

from typing import Any

import jax.numpy as jnp

from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import Projector
from ucl_jax.objectives import losses
from ucl_jax.objectives.base import Augmentation, Objective, two_view_objective


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
    """Makes Barlow Twins: the cross-correlation of two views' projections is driven to the identity.

    Args:
      architecture: puts the network together.
      augmentation: its `present` gives the two views.
      hidden_dim: width of the hidden layer of the projector.
      output_dim: width of the projections.
      off_diagonal: weight of the redundancy term (lambda in the paper).
      dtype: of the computation.
      axis_name: batch statistics and correlations are over the global batch of this axis; None for one device.
    """

    def heads():
        return {"projector": Projector(hidden_dim, output_dim, dtype, axis_name)}

    def distance(one, other):
        return losses.barlow_twins(one, other, off_diagonal=off_diagonal, axis_name=axis_name)

    def criterion(out):
        return distance(*out.projection)

    # Correlations are over a batch, so that one example alone has no loss.
    return two_view_objective(architecture, heads, augmentation, criterion, distance, per_example=False)
