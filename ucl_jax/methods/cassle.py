"""CaSSLe: predict the past network's projections with the objective itself (Fini et al., CVPR 2022)."""

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.distillation import distillation
from ucl_jax.objectives import Objective


def cassle(objective: Objective, scenario: Scenario, *, weight: float, hidden_dim: int, frozen: str) -> Method:
    """Adds to the objective the prediction of the past network's projections by a trained head.

    The past network is the one before this task. The prediction is judged by `Objective.match`: for SimSiam and BYOL it
    is 2 - 2 cos (CaSSLe's "predictive"), for Barlow Twins the cross-correlation (CaSSLe's "decorrelative").

    Args:
      objective: what is learned; it must have projections.
      scenario: makes the head.
      weight: of the added term, at least 0; 1 in the released code for these objectives.
      hidden_dim: width of the hidden layer of the head; 2048 in the released code.
      frozen: see `distillation`; "train" in the released code.

    Raises:
      ValueError: the objective has no projections, or `frozen` is another word.
    """
    if objective.match is None:
        raise ValueError("CaSSLe compares projections, and this objective has none; take another objective or method")
    return distillation(
        objective,
        scenario,
        output="projection",
        hidden_dim=hidden_dim,
        distance=objective.match,
        weight=weight,
        frozen=frozen,
    )
