"""Methods: how the past is kept. To add one, write its file, name it here and give it a recipe in `configs/`.

A maker takes an objective, a `Scenario` and the settings of `config.method`; it gives a `Method`.

PNN is not among them: it is an architecture (`ucl_jax.models.architectures`), on which any method runs.
"""

from collections.abc import Callable

from ucl_jax.methods.agem import agem
from ucl_jax.methods.base import Method, Scenario, Step
from ucl_jax.methods.cassle import cassle
from ucl_jax.methods.der import der
from ucl_jax.methods.er import er
from ucl_jax.methods.finetune import finetune
from ucl_jax.methods.gss import gss
from ucl_jax.methods.lump import lump
from ucl_jax.methods.pfr import pfr
from ucl_jax.methods.si import si

METHODS: dict[str, Callable[..., Method]] = {
    "finetune": finetune,
    "si": si,
    "agem": agem,
    "gss": gss,
    "er": er,
    "der": der,
    "lump": lump,
    "cassle": cassle,
    "pfr": pfr,
}

__all__ = ["METHODS", "Method", "Scenario", "Step"]
