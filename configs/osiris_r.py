"""Osiris-R: a second projector tells present from stored images, and learns the stored ones (Zhang et al. 2024).

    python launch.py --config=configs/osiris_r.py
    python launch.py --config=configs/osiris_r.py:cifar100_5x20,simclr,cassle
    python launch.py --config=configs/osiris_r.py:digits                       # embedded data

Stores 500 images, a projector.

Not in the paper's tables. It works with simclr alone, its default, which has negatives in the batch. Osiris' own code
has `model.name=resnet18_group_norm` and `objective.temperature=0.1`.
"""

from configs import base


def get_config(arg="cifar10"):
    """Returns the config tree of Osiris-R for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg, "simclr")
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="osiris_r",
        method=dict(
            name="osiris",
            buffer_size=500,  # images
            policy="reservoir",  # which examples are kept: a name of POLICIES in ucl_jax/settings.py
            replay_from="buffer",  # buffer | past_tasks: all that is stored, or examples of earlier tasks only
            # presentations | examples: an image is offered to the buffer each time it is shown, or once.
            count="presentations",
            replay_share=0.75,  # stored images beside a batch, as a part of its size
            past="replay",  # replay | distil: what the past loss is of, stored images (R) or a frozen network (D)
            # train | eval: the frozen network of Osiris-D uses statistics of the batch, or its running ones.
            frozen_mode="train",
        ),
    )
