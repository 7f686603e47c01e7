"""Objectives: what is learned from one batch. To add one, see docs/architecture.md.

Each function here takes an architecture, an augmentation and the settings of `config.objective`, and returns an
`Objective`.
"""

from collections.abc import Callable

from ucl_jax.objectives.barlow_twins import barlow_twins
from ucl_jax.objectives.base import (
    STAGES,
    Augmentation,
    Comparison,
    Contrast,
    Distillation,
    Objective,
    Predicted,
    PseudoNegatives,
    Readout,
)
from ucl_jax.objectives.byol import byol
from ucl_jax.objectives.moco import moco
from ucl_jax.objectives.simclr import simclr
from ucl_jax.objectives.simsiam import simsiam
from ucl_jax.objectives.supervised import supervised
from ucl_jax.objectives.swav import swav
from ucl_jax.objectives.vicreg import vicreg

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "simsiam": simsiam,
    "barlow_twins": barlow_twins,
    "byol": byol,
    "simclr": simclr,
    "vicreg": vicreg,
    "moco": moco,
    "swav": swav,
    "supervised": supervised,
}

__all__ = [
    "OBJECTIVES",
    "STAGES",
    "Augmentation",
    "Comparison",
    "Contrast",
    "Distillation",
    "Objective",
    "Predicted",
    "PseudoNegatives",
    "Readout",
]
