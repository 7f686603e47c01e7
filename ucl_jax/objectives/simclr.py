"""SimCLR: tell the other view of an image from all other images of the batch (Chen et al. 2020)."""

from functools import partial
from typing import Any

import jax.numpy as jnp

from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import MLP
from ucl_jax.objectives import losses
from ucl_jax.objectives.base import (
    Augmentation,
    Contrast,
    Objective,
    PseudoNegatives,
    contrastive,
    two_view_objective,
)


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

    def project(params, features):
        return heads()["projector"].apply({"params": params}, features, train=True)

    def compare(first, second):
        return losses.nt_xent(first, second, temperature, axis_name)

    def criterion(out):
        return compare(*out.projection)

    def beside_frozen(value, outputs, state, past, weight, negative_weight):
        given = outputs.projection, past.predicted, past.target
        return losses.nt_xent_beside_frozen(*given, temperature, weight, negative_weight, axis_name)

    def across(first, second):
        pairs = (first, second), (second, first)
        one, other = (losses.contrast_with_others(*pair, temperature, axis_name) for pair in pairs)
        return (one + other) / 2.0

    contrast = Contrast(
        project=project,
        projector=lambda params: architecture.in_use(params)["projector"],
        across=across,
        distil=partial(losses.symmetric_info_nce, temperature=temperature, axis_name=axis_name, mask_other_view=True),
    )
    # Negatives are the other examples of a batch, so that one example alone has no loss.
    return two_view_objective(
        architecture,
        heads,
        augmentation,
        criterion,
        contrastive(temperature, axis_name),
        per_example=False,
        compare=compare,
        pseudo_negatives=PseudoNegatives(init=lambda key: (), loss=beside_frozen),
        contrast=contrast,
    )
