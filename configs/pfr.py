"""PFR: regularise backbone features through a projection (Gomez-Villa et al., CVPR workshops 2022).

    python launch.py --config=configs/pfr.py
    python launch.py --config=configs/pfr.py:cifar100,barlow_twins
    python launch.py --config=configs/pfr.py:digits,supervised                 # embedded data

Not in the paper's tables; trained here on the benchmarks and with the schedule of that paper, not with PFR's own.
"""

from configs import base


def get_config(arg="cifar10"):
    benchmark, objective = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        recipe="pfr",
        method=dict(
            name="pfr",
            weight=1.0,  # of the distillation
            hidden_dim=48 if benchmark == "digits" else 256,  # units of the head's hidden layer: half of the features
            frozen="train",  # train | eval: the past network uses statistics of the batch, as in PFR's code, or its own
        ),
    )
