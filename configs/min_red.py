"""MinRed: learns from a buffer alone, which drops images with near neighbours (Purushwalkam et al., ECCV 2022).

    python launch.py --config=configs/min_red.py
    python launch.py --config=configs/min_red.py:cifar100,barlow_twins
    python launch.py --config=configs/min_red.py:digits,simsiam                # embedded data

Stores 2000 images, a feature each.

Not in the paper's tables. It is trained here on that paper's benchmarks with that paper's schedule, and
makes one update for each batch of the stream. It does not work with supervised, which has no projections.
"""

from configs import base
from configs.objectives import sized


def get_config(arg="cifar10"):
    """Returns the config tree of MinRed for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="min_red",
        method=dict(
            name="min_red",
            buffer_size=sized(benchmark, 2000, 256, 256),  # images, more than two batches
            # presentations | examples: an image enters the buffer each time it is shown, or once.
            count="presentations",
            # visit | arrival: an image has a feature once it was trained on, or at once, as in the code of CLA.
            features="visit",
        ),
    )
