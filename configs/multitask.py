"""Multitask: joint training on all tasks at once; the upper bound, without forgetting.

    python launch.py --config=configs/multitask.py
    python launch.py --config=configs/multitask.py:digits

Stores nothing, but needs all data at once.

The official code has no joint training. Here the union of all tasks is trained for as many epochs as each task is in
the other recipes, so that images are presented as often as there.

Table 1, accuracy / forgetting within the task, 3 seeds:
                  cifar10                   cifar100                  tiny_imagenet
    supervised    97.77±0.15                93.89±0.78                91.79±0.46
    simsiam       95.76±0.08                86.31±0.38                82.89±0.49
    barlow_twins  95.48±0.14                87.16±0.52                82.42±0.74
Not yet reproduced here at full size. What was measured is in docs/results.md.
"""

from configs import base


def get_config(arg="cifar10"):
    """Returns the config tree of joint training for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="multitask",
        joint=True,
        method=dict(name="finetune"),  # no memory, no settings
    )
