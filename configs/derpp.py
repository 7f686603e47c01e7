"""DER++: DER, and the objective itself on a second sample of stored examples (Buzzega et al. 2020).

    python launch.py --config=configs/derpp.py
    python launch.py --config=configs/derpp.py:cifar100,barlow_twins
    python launch.py --config=configs/derpp.py:digits,supervised                 # embedded data

Not in the paper's tables. Results on small data: README.md.
"""

from configs import base


def get_config(arg="cifar10"):
    return base.get_config(arg, method="der", recipe="derpp", beta=0.5)
