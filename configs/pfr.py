"""PFR, projected functional regularisation: features still predict past ones (Gomez-Villa et al. 2022).

    python launch.py --config=configs/pfr.py
    python launch.py --config=configs/pfr.py:cifar100,barlow_twins
    python launch.py --config=configs/pfr.py:digits,supervised                 # embedded data

Stores a frozen network, a head.

Not in the paper's tables. It is trained here on that paper's benchmarks with that paper's schedule, not with PFR's own.
"""

from configs import base
from configs.objectives import sized


def get_config(arg="cifar10"):
    """Returns the config tree of PFR for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="pfr",
        method=dict(
            name="pfr",
            weight=1.0,  # weight of the distillation loss
            # Units of the head's hidden layer: half of the features, as in PFR's code. On the digits half of those of
            # width 12 (SimSiam's), and three quarters of those of width 8 (the others').
            hidden_dim=sized(benchmark, 256, 32, 48),
            # train | eval: the frozen network uses statistics of the batch, as in PFR's code, or its running ones.
            frozen_mode="train",
        ),
    )
