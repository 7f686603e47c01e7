"""LUMP: present images are mixed (mixup) with images from a buffer of 256 (Madaan et al. 2022).

    python launch.py --config=configs/lump.py                        # Split CIFAR-10, SimSiam: the paper's main run
    python launch.py --config=configs/lump.py:cifar100,barlow_twins
    python launch.py --config=configs/lump.py:digits                 # embedded data, a minute on two CPU cores

Stores 256 images, a view (or label) each.

Table 1, accuracy / forgetting within the task, 3 seeds:
                  cifar10                   cifar100                  tiny_imagenet
    simsiam       91.00±0.40 / 2.92±0.53    82.30±1.35 / 4.71±1.52    76.66±2.39 / 3.54±1.04
    barlow_twins  90.31±0.30 / 1.13±0.18    80.24±1.04 / 3.53±0.83    72.17±0.89 / 2.43±1.00
Here, at full size: one seed of cifar100 with simsiam, 79.95 / 4.26. What else was measured is in docs/results.md.
"""

from configs import base


def get_config(arg="cifar10"):
    """Returns the config tree of LUMP for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="lump",
        method=dict(
            name="lump",
            buffer_size=256,  # images
            policy="reservoir",  # which examples are kept: a name of POLICIES in ucl_jax/settings.py
            replay_from="buffer",  # buffer | past_tasks: all that is stored, or examples of earlier tasks only
            # presentations | examples: an image is offered to the buffer each time it is shown, or once.
            count="presentations",
            # Beta(alpha, alpha) of the mixup weight; 0.1 and 0.4 are from memory of the paper's appendix, not checked.
            alpha=0.4 if benchmark == "tiny_imagenet" else 0.1,
            # frozen | fresh: the second view of a replayed image is the stored one, or a new one as in the text.
            replay_pair="frozen",
            mix_per="batch",  # batch | example: each batch, or each example, has one mixup weight
            mix_labels="lambda",  # lambda | release: labels are mixed as images are, or by the official code's formula
        ),
    )
