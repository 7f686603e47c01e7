"""CroMo-Mixup: mixed images of two tasks lie between what the present and the past network give (Mushtaq et al. 2024).

    python launch.py --config=configs/cromo_mixup.py
    python launch.py --config=configs/cromo_mixup.py:cifar100_5x20,barlow_twins,cassle
    python launch.py --config=configs/cromo_mixup.py:digits,simclr             # embedded data

Stores 256 images, a frozen network, a head.

On the benchmarks of CaSSLe it stores 500 images a task, and 100 on ten tasks. Not in the paper's tables. It does not
work with moco, swav and supervised, which compare embeddings with a queue, prototypes or labels.
"""

from configs import base
from configs.objectives import sized

# The images of all tasks together; 500 a task in CroMo-Mixup's code (SimCLR 25), and 100 on ten tasks.
BUFFER_SIZES = {
    "cifar100_5x20": 2500,
    "cifar100_10x10": 1000,
    "cifar100_data5": 2500,
    "imagenet100": 2500,
    "imagenet100_data5": 2500,
}


def get_config(arg="cifar10"):
    """Returns the config tree of CroMo-Mixup for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="cromo_mixup",
        method=dict(
            name="cromo_mixup",
            buffer_size=BUFFER_SIZES.get(benchmark, 256),  # images; each task has an equal share
            policy="with_replacement",  # which examples are kept: a name of POLICIES in ucl_jax/settings.py
            replay_from="past_tasks",  # buffer | past_tasks: all that is stored, or examples of earlier tasks only
            # presentations | examples: an image is offered to the buffer each time it is shown, or once.
            count="examples",
            replay_share=0.25,  # part of a batch that is mixed with stored images
            # The present share of every mixed image; 0 draws one for each batch. 0.7 is that of the code for Barlow.
            fixed_lambda=0.7 if objective == "barlow_twins" else 0.0,
            alpha=1.0,  # a lambda that is drawn comes from Beta(alpha, alpha)
            weight=1.0,  # weight of the prediction of the frozen network
            hidden_dim=sized(benchmark, 2048, 512, 256),  # units of the hidden layer of the head
            # train | eval: the frozen network uses statistics of the batch, as in the code, or its running ones.
            frozen_mode="train",
        ),
    )
