"""Methods: how the past is kept. To add one, write its file, name it here and give it a recipe in `configs/`."""

from ucl_jax.methods.base import Method, Step
from ucl_jax.methods.finetune import finetune
from ucl_jax.methods.lump import lump

METHODS = {"finetune": finetune, "lump": lump}

__all__ = ["METHODS", "Method", "Step"]
