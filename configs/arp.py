"""ARP: a head predicts for replayed images the projections stored with them (Cignoni et al. 2025).

    python launch.py --config=configs/arp.py
    python launch.py --config=configs/arp.py:cifar100,barlow_twins
    python launch.py --config=configs/arp.py:digits,byol                       # embedded data

Stores 2000 images, a projection each, a head.

Not in the paper's tables. It is trained here on that paper's benchmarks with that paper's schedule, not in
one pass over the data. It does not work with supervised, which has no projections.
"""

from configs import base
from configs.objectives import sized


def get_config(arg="cifar10"):
    """Returns the config tree of ARP for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="arp",
        method=dict(
            name="arp",
            buffer_size=sized(benchmark, 2000, 256, 256),  # images, more than a batch
            policy="reservoir",  # which examples are kept: a name of POLICIES in ucl_jax/settings.py
            replay_from="buffer",  # buffer | past_tasks: all that is stored, or examples of earlier tasks only
            # presentations | examples: an image is offered to the buffer each time it is shown, or once.
            count="presentations",
            weight=0.1,  # weight of the alignment
            hidden_dim=sized(benchmark, 512, 128, 64),  # units of the hidden layer of the head
        ),
    )
