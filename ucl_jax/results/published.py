"""Holds accuracies that others have published for CaSSLe's protocol, each with the place where it was read.

CaSSLe's and PNR's own tables could not be read, so that most numbers are second hand. None was checked.
"""

from typing import NamedTuple

# Short name -> the place where numbers were read.
SOURCES = {
    "ExtData": "'Bridging Inter-task Gap of Continual Self-supervised Learning with External Data', a submission to "
    "NeurIPS 2024, tables 1, 2 and 8",
    "Marczak": "a note on Marczak et al., ECCV 2024",
    "issue 12": "the author of CaSSLe in issue 12 of DonkeyShot21/cassle, and sotaverified.org",
    "wizwand": "wizwand.com, second hand",
}


class Published(NamedTuple):
    """A published accuracy over all classes after the last task, of a ResNet-18.

    Attributes:
      accuracy: in per cent.
      by: what judged the features: "linear", a linear layer trained at the end, or "knn".
      source: a key of SOURCES.
    """

    accuracy: float
    by: str
    source: str


# (benchmark, objective, recipe) -> what was published.
CASSLE: dict[tuple[str, str, str], tuple[Published, ...]] = {
    ("cifar100_5x20", "barlow_twins", "finetune"): (Published(54.1, "knn", "Marczak"),),
    ("cifar100_5x20", "barlow_twins", "cassle"): (Published(58.6, "knn", "Marczak"),),
    ("cifar100_5x20", "simclr", "finetune"): (Published(48.9, "knn", "Marczak"),),
    ("cifar100_10x10", "barlow_twins", "finetune"): (Published(49.4, "linear", "ExtData"),),
    ("cifar100_10x10", "barlow_twins", "cassle"): (Published(53.9, "linear", "ExtData"),),
    ("cifar100_10x10", "barlow_twins", "pfr"): (Published(55.6, "linear", "ExtData"),),
    ("cifar100_10x10", "barlow_twins", "multitask"): (Published(68.1, "linear", "ExtData"),),
    ("cifar100_10x10", "byol", "finetune"): (Published(48.0, "linear", "ExtData"),),
    ("cifar100_10x10", "byol", "cassle"): (Published(52.6, "linear", "ExtData"),),
    ("imagenet100", "barlow_twins", "finetune"): (
        Published(64.0, "linear", "ExtData"),
        Published(57.0, "knn", "Marczak"),
    ),
    ("imagenet100", "barlow_twins", "cassle"): (
        Published(70.0, "linear", "ExtData"),
        Published(64.9, "knn", "Marczak"),
    ),
    ("imagenet100", "barlow_twins", "pfr"): (Published(70.1, "linear", "ExtData"),),
    ("imagenet100", "barlow_twins", "multitask"): (Published(80.4, "linear", "ExtData"),),
    ("imagenet100", "byol", "finetune"): (Published(66.0, "linear", "issue 12"),),
    ("imagenet100", "moco", "cassle"): (Published(63.5, "linear", "issue 12"),),
    ("imagenet100", "simclr", "finetune"): (Published(54.7, "knn", "Marczak"),),
}
# Benchmark -> the accuracy of PNR with its best objective, which the source does not name.
PNR_BEST: dict[str, Published] = {
    "cifar100_5x20": Published(63.2, "linear", "wizwand"),
    "cifar100_10x10": Published(59.3, "linear", "wizwand"),
    "imagenet100_data5": Published(76.7, "linear", "wizwand"),
}
