"""ER: plain replay of stored examples beside each batch (Chaudhry et al. 2019, "On tiny episodic memories").

    python launch.py --config=configs/er.py
    python launch.py --config=configs/er.py:cifar100,barlow_twins
    python launch.py --config=configs/er.py:digits,supervised                 # embedded data

Not in the paper's tables. Results on small data: README.md.
"""

from configs import base


def get_config(arg="cifar10"):
    return base.get_config(arg, method="er")
