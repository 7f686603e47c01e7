"""PNN, progressive networks: each task trains a new column beside the earlier, frozen ones (Rusu et al. 2016).

    python launch.py --config=configs/pnn.py
    python launch.py --config=configs/pnn.py:cifar100,barlow_twins
    python launch.py --config=configs/pnn.py:digits,supervised                 # embedded data

Stores a network a task.

A probe that knows the task of an image uses the column of that task; a probe that does not uses the last column.
The official code never adds a column. The widths 64, 12 and 8 are from memory of the paper's appendix, not checked.

Table 1, accuracy / forgetting within the task, 3 seeds:
                  cifar10                   cifar100                  tiny_imagenet
    supervised    82.74±2.12                66.05±0.86                64.38±0.92
    simsiam       90.93±0.22                66.58±1.00                62.15±1.35
    barlow_twins  87.52±0.33                57.93±2.98                48.70±2.59
Not yet reproduced here at full size. What was measured is in docs/results.md.
"""

from configs import base


def get_config(arg="cifar10"):
    """Returns the config tree of progressive networks for `arg`, benchmark[,objective[,protocol[,stream]]]."""
    benchmark, objective, protocol, stream = base.parse(arg)
    # Channels of a column's first stage, from memory of the paper's appendix, not checked; at 16 pixels, a quarter of
    # the width for 20 columns. Other benchmarks have their usual width.
    widths = {"cifar10": 64, "cifar100": 12, "tiny_imagenet": 8, "cifar100_16px": 2}
    return base.tree(
        benchmark,
        objective,
        protocol,
        stream,
        recipe="pnn",
        architecture="progressive",
        width=widths.get(benchmark),
        method=dict(name="finetune"),  # no memory, no settings
    )
