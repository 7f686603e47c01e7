"""CLA: a head predicts projections of the network's moving average for replayed images (Cignoni et al. 2025).

    python launch.py --config=configs/cla.py
    python launch.py --config=configs/cla.py:cifar100,barlow_twins
    python launch.py --config=configs/cla.py:digits,byol                       # embedded data

Stores 2000 images, an average of the network, a head.

Not in the paper's tables. It is trained here on that paper's benchmarks with that paper's schedule, not in
one pass over the data. It does not work with supervised, which has no projections.
"""

from configs import base
from configs.objectives import sized


def get_config(arg="cifar10"):
    """Returns the config tree of CLA for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="cla",
        method=dict(
            name="cla",
            buffer_size=sized(benchmark, 2000, 256, 256),  # images, more than a batch
            policy="fifo",  # which examples are kept: a name of POLICIES in ucl_jax/settings.py
            replay_from="buffer",  # buffer | past_tasks: all that is stored, or examples of earlier tasks only
            # presentations | examples: an image is offered to the buffer each time it is shown, or once.
            count="presentations",
            # replayed | all: projections of replayed images are aligned; or there is no replay, and all are.
            aligned="replayed",
            weight=0.1,  # weight of the alignment
            hidden_dim=sized(benchmark, 512, 128, 64),  # units of the hidden layer of the head
            momentum=0.999,  # momentum of the network's moving average
        ),
    )
