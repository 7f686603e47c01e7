"""The streams, in which order the images of a benchmark come: a function for each, of the name of the benchmark.

A function returns what it replaces in the sections `benchmark`, `stream` and `train` of the config tree. What was found
in released code was read in Orienfish/SCALE at dc095da, senthilps8/continuous_ssl_problem at 942fa0f (MinRed),
giacomo-cgn/ocl-self-supervised at 2a8bc97 (CLA), SkrighYZ/Osiris at c4ae5f9 and DonkeyShot21/cassle at b5b0929.
"""

from typing import Any

from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import require

Replaced = dict[str, dict[str, Any]]  # section -> key -> value


def _online(benchmark: str, updates_per_batch: int, batch_size: int | None = None, **stream: Any) -> Replaced:
    """Returns one pass over images in batches, of whose tasks the method is not told, with ten evaluations.

    Args:
      benchmark: the name of the benchmark.
      updates_per_batch: see `configs/base.py`.
      batch_size: None leaves the benchmark's.
      **stream: other settings of the section `stream`.
    """
    facts = BENCHMARKS[benchmark]
    images = facts.images_per_task * facts.num_tasks * stream.get("correlation", 1)  # 0 for a folder
    once = {
        "boundaries": "hidden",
        "passes": "one",
        "updates_per_batch": updates_per_batch,
        "evaluate_every": images // 10 or -10,
    }
    batches = {} if batch_size is None else {"batch_size": batch_size}
    return {"stream": {**once, **stream}, "train": {"epochs": 1, **batches}}


def tasks(benchmark: str) -> Replaced:
    """Returns the stream of the paper: one task after the other, each for many epochs."""
    return {}


def _scale(benchmark: str, classes_per_task: int, **stream: Any) -> Replaced:
    """Returns a stream of SCALE (Yu et al., CVPR-W 2023), one pass over the classes with 20 updates on each batch.

    On CIFAR-100 its classes are the 20 superclasses. The streams for a number of classes that does not divide by
    `classes_per_task` leave the last ones out.
    """
    facts = BENCHMARKS[benchmark]
    coarse: dict[str, Any] = {"label_key": "coarse_label", "class_order": "label"}
    superclasses = facts.tfds_name == "cifar100"
    classes = 20 if superclasses else facts.num_classes
    cut = {"num_tasks": classes // classes_per_task, "classes_per_task": classes_per_task}
    online = _online(benchmark, updates_per_batch=20, batch_size=128, order="class", **stream)
    return {"benchmark": cut | (coarse if superclasses else {}), **online}


def scale_iid(benchmark: str) -> Replaced:
    """Returns SCALE's stream `iid`: the images of all classes in random order."""
    replaced = _scale(benchmark, classes_per_task=1)
    return replaced | {"benchmark": replaced["benchmark"] | {"joint": True}}


def scale_sequential(benchmark: str) -> Replaced:
    """Returns SCALE's stream `seq`: one class after the other."""
    return _scale(benchmark, classes_per_task=1)


def scale_blurred(benchmark: str) -> Replaced:
    """Returns SCALE's stream `seq-bl`: as `seq`, but half of each class is in zones where it mixes with its neighbours.

    In its code the share of the other class falls from 1/2 to 1/20 towards the end of a zone; here it falls to 0.
    """
    return _scale(benchmark, classes_per_task=1, blur=0.5)


def scale_imbalanced(benchmark: str) -> Replaced:
    """Returns SCALE's stream `seq-im`: as `seq`, but about half of the classes have half as many images.

    In its code 6 of the 10 classes of CIFAR-10 are small; here it is 5.
    """
    return _scale(benchmark, classes_per_task=1, imbalance=2.0, imbalance_shape="step")


def scale_concurrent(benchmark: str) -> Replaced:
    """Returns SCALE's stream `seq-cc`: two classes at a time."""
    return _scale(benchmark, classes_per_task=2)


def min_red(benchmark: str) -> Replaced:
    """Returns the correlated stream of MinRed (Purushwalkam et al., ECCV 2022, section 5): videos in random order.

    Each gives 64 frames in a row, and each batch 5 updates. Here an image comes 64 times in a row, each time with other
    views.
    """
    return {"benchmark": {"joint": True}, **_online(benchmark, updates_per_batch=5, correlation=64)}


def cla(benchmark: str) -> Replaced:
    """Returns the online protocol of CLA (Cignoni et al., CoLLAs 2025): one pass in batches of 32 images.

    Each batch is replayed with as many stored images, and gives 3 updates. Tasks come one after the other.
    """
    return _online(benchmark, updates_per_batch=3, batch_size=32)


def osiris(benchmark: str) -> Replaced:
    """Returns the structured order of Osiris (Zhang et al., CoLLAs 2024): each task is a superclass of CIFAR-100.

    Raises:
      UsageError: the benchmark is not of CIFAR-100.
    """
    require(
        BENCHMARKS[benchmark].tfds_name == "cifar100",
        f"stream osiris needs the superclasses of CIFAR-100, and benchmark {benchmark} has none; take cifar100",
    )
    order = {"num_tasks": 20, "classes_per_task": 5, "class_order": "superclass"}
    return {"benchmark": order, "stream": {"order": "class"}}


def cassle_data(benchmark: str) -> Replaced:
    """Returns the data-incremental stream of CaSSLe (Fini et al., CVPR 2022): five random parts of all images."""
    classes = BENCHMARKS[benchmark].num_classes
    return {"benchmark": {"num_tasks": 5, "classes_per_task": classes}, "stream": {"order": "data"}}


def cassle_domain(benchmark: str) -> Replaced:
    """Returns the domain-incremental stream of CaSSLe: each task is a domain, such as the six of DomainNet.

    The feature that holds the domain is `benchmark.domain_key`. A folder of images has a sub-folder for each domain,
    and folders of classes in it, as DomainNet is distributed.
    """
    if not BENCHMARKS[benchmark].tfds_name:
        return {"benchmark": {"folders": "domains"}, "stream": {"order": "domain"}}
    classes = BENCHMARKS[benchmark].num_classes
    return {
        "benchmark": {"num_tasks": 6, "classes_per_task": classes, "domain_key": "domain"},
        "stream": {"order": "domain"},
    }


STREAMS = {
    "tasks": tasks,
    "scale_iid": scale_iid,
    "scale_sequential": scale_sequential,
    "scale_blurred": scale_blurred,
    "scale_imbalanced": scale_imbalanced,
    "scale_concurrent": scale_concurrent,
    "min_red": min_red,
    "cla": cla,
    "osiris": osiris,
    "cassle_data": cassle_data,
    "cassle_domain": cassle_domain,
}
