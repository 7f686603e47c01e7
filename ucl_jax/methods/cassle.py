"""CaSSLe: predict the past network's projections with the objective itself (Fini et al., CVPR 2022)."""

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.distillation import distillation
from ucl_jax.objectives import Objective


def cassle(objective: Objective, scenario: Scenario, *, weight: float, hidden_dim: int, frozen: str) -> Method:
    """Distils projections of the network before this task through a trained head, by the objective's own criterion.

    The criterion is `Objective.match`: for SimSiam and BYOL 2 - 2 cos (CaSSLe's "predictive"), for Barlow Twins its
    cross-correlation ("decorrelative").

    Args:
      objective: for the present; must have projections.
      scenario: makes the head.
      weight: at least 0; 1 in the released code for these objectives.
      hidden_dim: of the head; 2048 in the released code.
      frozen: "train" in the released code, which never puts the past network in evaluation mode, or "eval".

    Raises:
      ValueError: an objective without projections, or another word for `frozen`.
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
