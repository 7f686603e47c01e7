"""CaSSLe: predict the frozen network's projections with the objective itself (Fini et al., CVPR 2022)."""

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.distillation import distillation
from ucl_jax.objectives import Objective


def cassle(objective: Objective, scenario: Scenario, *, weight: float, hidden_dim: int, frozen_mode: str) -> Method:
    """Makes CaSSLe, which adds to the objective the prediction of a frozen network's projections by a trained head.

    The frozen network is that of the end of the task before. `Objective.distillation` judges the prediction. CaSSLe
    calls it "predictive" for SimSiam and BYOL, "predictive_mse" for VICReg, "decorrelative" for Barlow Twins,
    "contrastive" for SimCLR and MoCo, and "knowledge" for SwAV.

    Args:
      objective: what is learned; it must have projections.
      scenario: makes the head.
      weight: of the added term, at least 0; in the released code 25 for VICReg, and 1 for all others.
      hidden_dim: width of the hidden layer of the head; 2048 in the released code.
      frozen_mode: see `distillation`; "train" in the released code.

    Raises:
      ValueError: the objective has no projections, or `frozen_mode` has an unknown value.
    """
    if objective.distillation is None:
        raise ValueError("CaSSLe compares projections, and this objective has none; take another objective or method")
    return distillation(
        objective,
        scenario,
        output="projection",
        hidden_dim=hidden_dim,
        criterion=objective.distillation,
        weight=weight,
        frozen_mode=frozen_mode,
    )
