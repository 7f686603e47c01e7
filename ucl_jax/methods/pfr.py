"""PFR: regularise backbone features through a projection (Gomez-Villa et al., CVPR workshops 2022)."""

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.distillation import distillation
from ucl_jax.objectives import Objective
from ucl_jax.objectives.losses import negative_cosine


def pfr(objective: Objective, scenario: Scenario, *, weight: float, hidden_dim: int, frozen: str) -> Method:
    """Distils features of the backbone before this task through a trained head, by their cosine.

    Args:
      objective: for the present.
      scenario: makes the head.
      weight: at least 0; 1 in the released code.
      hidden_dim: of the head; half of the features in the released code, 256.
      frozen: "train" in the released code, which never puts the past network in evaluation mode, or "eval".

    Raises:
      ValueError: another word for `frozen`.
    """
    return distillation(
        objective,
        scenario,
        output="features",
        hidden_dim=hidden_dim,
        distance=negative_cosine,
        weight=weight,
        frozen=frozen,
    )
