"""Barlow Twins: redundancy reduction between the projections of two views (Zbontar et al. 2021)."""

from typing import Any

import jax.numpy as jnp

from ucl_jax.errors import argument_choice, check_word
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import MLP
from ucl_jax.objectives import losses
from ucl_jax.objectives.base import Augmentation, Objective, added_pseudo_negatives, mean_over_views, two_view_objective


def barlow_twins(
    architecture: Architecture,
    augmentation: Augmentation,
    *,
    hidden_dim: int,
    output_dim: int,
    layers: int,
    norm: str,
    off_diagonal: float,
    scale: float,
    deviation: str,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
) -> Objective:
    """Makes Barlow Twins: the cross-correlation of two views' projections is driven to the identity.

    The official code of UCL and that of CaSSLe differ in the last five settings; see docs/fidelity.md.

    Args:
      architecture: puts the network together.
      augmentation: its `present` gives the two views.
      hidden_dim: width of the hidden layers of the projector.
      output_dim: width of the projections.
      layers: affine layers of the projector; 2 in UCL's code, 3 in CaSSLe's.
      norm: where the projector has batch norm; after "all" layers in UCL's code, after "hidden" ones in CaSSLe's.
      off_diagonal: weight of the redundancy term (lambda in the paper).
      scale: of the whole loss; 1 in UCL's code, 0.1 in CaSSLe's.
      deviation: projections are divided by the "unbiased" one in UCL's code, by the "biased" one with a small constant
        in CaSSLe's.
      dtype: of the computation.
      axis_name: batch statistics and correlations are over the global batch of this axis; None for one device.

    Raises:
      ValueError: `norm` or `deviation` has an unknown value.
    """
    biased = argument_choice("deviation", deviation, {"unbiased": False, "biased": True})
    check_word("norm", norm, ("hidden", "all"))

    def heads():
        return {"projector": MLP(hidden_dim, output_dim, dtype, axis_name, layers, norm)}

    def compare(one, other):
        return losses.barlow_twins(one, other, off_diagonal, scale, biased, axis_name)

    def criterion(out):
        return compare(*out.projection)

    # Correlations are over a batch, so that one example alone has no loss.
    distillation = mean_over_views(compare)
    return two_view_objective(
        architecture,
        heads,
        augmentation,
        criterion,
        distillation,
        per_example=False,
        compare=compare,
        pseudo_negatives=added_pseudo_negatives(compare, losses.negative_cosine),
    )
