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
    """Barlow Twins (Zbontar et al. 2021): the cross-correlation of two views' projections is driven to identity."""

    def heads():
        return {"projector": Projector(hidden_dim, output_dim, dtype, axis_name)}

    def criterion(out):
        return losses.barlow_twins(*out.projection, off_diagonal=off_diagonal, axis_name=axis_name)

    # Its correlations are over the batch: one example alone has no loss.
    return two_view_objective(architecture, heads, augmentation, criterion)._replace(eval_loss=None)
