"""LUMP: mixup with a replay buffer of 256 images (Madaan et al. 2022).

    python launch.py --config=configs/lump.py                        # Split CIFAR-10, SimSiam: the paper's main run
    python launch.py --config=configs/lump.py:cifar100,barlow_twins
    python launch.py --config=configs/lump.py:digits                 # embedded data, a minute on two CPU cores

Table 1, accuracy / forgetting within the task, 3 seeds:
                  cifar10                   cifar100                  tiny_imagenet
    simsiam       91.00±0.40 / 2.92±0.53    82.30±1.35 / 4.71±1.52    76.66±2.39 / 3.54±1.04
    barlow_twins  90.31±0.30 / 1.13±0.18    80.24±1.04 / 3.53±0.83    72.17±0.89 / 2.43±1.00
Not yet reproduced here at full size: see the table of results in README.md.
"""

from configs import base


def get_config(arg="cifar10"):
    return base.get_config(arg, method="lump")
