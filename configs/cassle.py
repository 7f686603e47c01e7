"""CaSSLe: a head predicts a frozen network's projections, judged by the objective itself (Fini et al., CVPR 2022).

    python launch.py --config=configs/cassle.py
    python launch.py --config=configs/cassle.py:cifar100,barlow_twins
    python launch.py --config=configs/cassle.py:digits,byol                    # embedded data

Stores a frozen network, a head.

Not in the paper's tables. It is trained here on that paper's benchmarks with that paper's schedule, not with CaSSLe's
own. It does not work with supervised, which has no projections.
"""

from configs import base
from configs.objectives import sized


def get_config(arg="cifar10"):
    """Returns the config tree of CaSSLe for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="cassle",
        method=dict(
            name="cassle",
            weight=25.0 if objective == "vicreg" else 1.0,  # weight of the distillation loss
            hidden_dim=sized(benchmark, 2048, 512, 256),  # units of the hidden layer of the distillation head
            # train | eval: the frozen network uses statistics of the batch, as in CaSSLe's code, or its running ones.
            frozen_mode="train",
        ),
    )
