"""PNR, pseudo-negative regularisation: present and past outputs are negatives of each other (Cha et al., ICML 2024).

    python launch.py --config=configs/pnr.py
    python launch.py --config=configs/pnr.py:cifar100_5x20,moco,cassle
    python launch.py --config=configs/pnr.py:digits,simclr                     # embedded data

Stores a frozen network, a head.

With MoCo it also stores a queue of the frozen network's projections. Not in the paper's tables. It does not work with
swav and supervised, which have no negatives. No code has it with simsiam: there it is as with byol.
"""

from configs import base
from configs.objectives import sized
from configs.protocols import IMAGENET


def get_config(arg="cifar10"):
    """Returns the config tree of PNR for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    imagenet = benchmark in IMAGENET
    few = 1.0 if imagenet else 0.5
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="pnr",
        method=dict(
            name="pnr",
            weight=25.0 if objective == "vicreg" else 1.0,  # weight of predictions
            # Weight of pseudo-negatives; with simclr and moco how often each counts.
            negative_weight={"vicreg": 23.0, "byol": few, "simsiam": few}.get(objective, 1.0),
            hidden_dim=sized(benchmark, 2048, 512, 256),  # units of the hidden layer of the head
            # train | eval: the frozen network uses statistics of the batch, or its running ones. In PNR's code eval on
            # ImageNet; on CIFAR eval in the first epoch of a task, and train after it.
            frozen_mode="eval" if imagenet else "train",
        ),
    )
