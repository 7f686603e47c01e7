"""SimCLR: tell the other view of an image from all other images of the batch (Chen et al. 2020)."""

from typing import Any

import jax.numpy as jnp

from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import MLP
from ucl_jax.objectives import losses
from ucl_jax.objectives.base import Augmentation, Objective, contrastive, two_view_objective


def simclr(
    architecture: Architecture,
    augmentation: Augmentation,
    *,
    hidden_dim: int,
    output_dim: int,
    temperature: float,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
) -> Objective:
    """Makes SimCLR: NT-Xent of two views' projections. The projector has no batch norm.

    Args:
      architecture: puts the network together.
      augmentation: its `present` gives the two views.
      hidden_dim: width of the hidden layer of the projector; 2048 in CaSSLe's code.
      output_dim: width of the projections; 256 in CaSSLe's code.
      temperature: above 0; 0.2 in CaSSLe's code.
      dtype: of the computation.
      axis_name: batch statistics and negatives are over the global batch of this axis; None for one device.
    """

    def heads():
        return {"projector": MLP(hidden_dim, output_dim, dtype, axis_name, norm="none")}

    def criterion(out):
        first, second = out.projection
        return losses.nt_xent(first, second, temperature, axis_name)

    distillation = contrastive(temperature, axis_name)
    # Negatives are the other examples of a batch, so that one example alone has no loss.
    return two_view_objective(architecture, heads, augmentation, criterion, distillation, per_example=False)
