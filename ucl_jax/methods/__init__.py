"""Methods: how the past is kept. To add one, see docs/architecture.md.

Each function of METHODS takes an objective, a `Scenario` and the settings of `config.method`, and returns a `Method`.

PNN is not among them, because it is an architecture (`ucl_jax.models.architectures`), which works with any method.
"""

from collections.abc import Callable

from ucl_jax.methods.agem import agem
from ucl_jax.methods.arp import arp
from ucl_jax.methods.base import Method, Scenario, Step
from ucl_jax.methods.cassle import cassle
from ucl_jax.methods.cla import cla
from ucl_jax.methods.cromo_mixup import cromo_mixup
from ucl_jax.methods.der import der
from ucl_jax.methods.er import er
from ucl_jax.methods.finetune import finetune
from ucl_jax.methods.gss import gss
from ucl_jax.methods.lump import lump
from ucl_jax.methods.min_red import min_red
from ucl_jax.methods.osiris import osiris
from ucl_jax.methods.pfr import pfr
from ucl_jax.methods.pnr import pnr
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
    "pnr": pnr,
    "cromo_mixup": cromo_mixup,
    "osiris": osiris,
    "min_red": min_red,
    "cla": cla,
    "arp": arp,
}

__all__ = ["METHODS", "Method", "Scenario", "Step"]
