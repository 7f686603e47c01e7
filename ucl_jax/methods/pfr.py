"""PFR: predict the frozen network's backbone features (Gomez-Villa et al., CVPR workshops 2022)."""

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.distillation import distillation
from ucl_jax.objectives import Objective
from ucl_jax.objectives.base import mean_over_views
from ucl_jax.objectives.losses import negative_cosine


def pfr(objective: Objective, scenario: Scenario, *, weight: float, hidden_dim: int, frozen_mode: str) -> Method:
    """Makes PFR, which adds to the objective the negative cosine of a frozen network's features and their prediction.

    The frozen network is that of the end of the task before. A trained head makes the prediction.

    Args:
      objective: what is learned.
      scenario: makes the head.
      weight: of the added term, at least 0; 1 in the released code.
      hidden_dim: width of the hidden layer of the head; 256 in the released code, half of the features.
      frozen_mode: see `distillation`; "train" in the released code.

    Raises:
      ValueError: `frozen_mode` has an unknown value.
    """
    return distillation(
        objective,
        scenario,
        output="features",
        hidden_dim=hidden_dim,
        criterion=mean_over_views(negative_cosine),
        weight=weight,
        frozen_mode=frozen_mode,
    )
