"""Finetune: one task is learned after the other, and nothing of the past is kept; the lower bound.

    python launch.py --config=configs/finetune.py
    python launch.py --config=configs/finetune.py:digits --config.train.epochs=2 --config.seed=3

Stores nothing.

Table 1, accuracy / forgetting within the task, 3 seeds:
                  cifar10                   cifar100                  tiny_imagenet
    supervised    82.87±0.47 / 14.26±0.52   61.08±0.04 / 31.23±0.41   53.10±1.37 / 33.15±1.22
    simsiam       90.11±0.12 / 5.42±0.08    75.42±0.78 / 10.19±0.37   71.07±0.20 / 9.48±0.56
    barlow_twins  87.72±0.32 / 4.08±0.56    71.97±0.54 / 9.45±1.01    66.28±1.23 / 8.89±0.66
Not yet reproduced here at full size. What was measured is in docs/results.md.
"""

from configs import base


def get_config(arg="cifar10"):
    """Returns the config tree of finetuning for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="finetune",
        method=dict(name="finetune"),  # no memory, no settings
    )
