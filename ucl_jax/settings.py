"""Checks settings by tables of their types and ranges: those of the config tree (`configs/`) and of the probes.

A new setting gets one entry in a table here. The entry of a probe's setting has its default too; the defaults of the
config tree are in `configs/`. Settings are checked by these tables only. This module does not import JAX, so that a
wrong setting is reported at once.
"""

import difflib
import functools
import pathlib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ucl_jax.data.benchmarks import BENCHMARKS, CLASS_ORDERS
from ucl_jax.errors import UsageError, require, user_choice

INT32_MAX = 2**31 - 1  # steps, seeds and places are int32 on the device


class Setting(NamedTuple):
    """The type and range of a setting.

    Attributes:
      kind: the type of its values. kind(text) also makes a value from a text of the command line, but not of a flag.
      requirement: what a value must be, in words that continue a message after "it must be".
      accepts: a function that tells whether an object of any type is a value of this setting.
      choices: the possible values, if the setting is one of a few words or a list of them.
      beside: what else is a value, in words that continue the list of `choices` in a message; "" for nothing.
      each: what each value of a list must be, if the setting is a list of any length; else None.
    """

    kind: type
    requirement: str
    accepts: Callable[[Any], bool]
    choices: tuple[str, ...] = ()
    beside: str = ""
    each: "Setting | None" = None


def integer(least: int, most: int) -> Setting:
    """Makes the setting of a whole number from `least` to `most`."""
    return Setting(int, f"a whole number from {least} to {most}", lambda x: type(x) is int and least <= x <= most)


def number(least: float, most: float, *also: float) -> Setting:
    """Makes the setting of a number (float or int) from `least` to `most`, or one of `also`; never inf or nan."""

    def accepts(value):
        return type(value) in (int, float) and (least <= value <= most or value in also)

    others = "".join(f", or {number:g}" for number in also)
    return Setting(float, f"a number from {least:g} to {most:g}{others}", accepts)


def flag() -> Setting:
    """Makes the setting of True or False."""
    return Setting(bool, "True or False", lambda value: isinstance(value, bool))


def one_of(*choices: str) -> Setting:
    """Makes the setting of one of the words `choices`."""
    wanted = f"one of {', '.join(choices)}"
    return Setting(str, wanted, lambda value: isinstance(value, str) and value in choices, choices)


def text(pattern: str, wanted: str) -> Setting:
    """Makes the setting of a text that matches all of the regular expression `pattern`.

    The text must not have blanks around it or control characters in it. `wanted` is as in `Setting`.
    """

    def accepts(value):
        good = isinstance(value, str) and value.isprintable() and value == value.strip()
        return good and re.fullmatch(pattern, value) is not None

    return Setting(str, wanted, accepts)


def path() -> Setting:
    """Makes the setting of a path that a file system accepts; it need not exist. "" stands for a default."""
    wanted = "a path; its names have at most 255 bytes, and ~NAME is a user of this machine"
    printable = text(r".{0,4000}", wanted)

    def accepts(value):
        if not printable.accepts(value):
            return False
        try:
            parts = pathlib.Path(value).expanduser().parts
        except RuntimeError:  # there is no user NAME of ~NAME
            return False
        return all(len(part.encode()) <= 255 for part in parts)

    return Setting(str, wanted, accepts)


def one_of_or_folder(*choices: str) -> Setting:
    """Makes the setting of one of the words `choices`, or of the path of a folder, which has a slash in it."""
    word, folder = one_of(*choices), path()
    beside = ", or the path of a folder, with a slash in it, as in ./photos"

    def accepts(value):
        return word.accepts(value) or (folder.accepts(value) and "/" in value)

    return Setting(str, word.requirement + beside, accepts, choices, beside)


def tuple_of(*members: Setting) -> Setting:
    """Makes the setting of a tuple (or a list, from JSON) with one value for each of `members`."""

    def accepts(value):
        good = isinstance(value, tuple | list) and len(value) == len(members)
        return good and all(member.accepts(one) for member, one in zip(members, value))

    wanted = list(dict.fromkeys(member.requirement for member in members))
    described = f"each {wanted[0]}" if len(wanted) == 1 else ", ".join(member.requirement for member in members)
    return Setting(tuple, f"{len(members)} values, {described}", accepts)


def per_view(each: Setting) -> Setting:
    """Makes the setting of a tuple (or a list) of one value for both views, or of two, one for each."""

    def accepts(value):
        return isinstance(value, tuple | list) and len(value) in (1, 2) and all(map(each.accepts, value))

    return Setting(tuple, f"one value for both views, or two with a comma between; each {each.requirement}", accepts)


def list_of(each: Setting, least: int = 1) -> Setting:
    """Makes the setting of a tuple (or a list) of `least` to 1000 values, each a value of the setting `each`."""

    def accepts(value):
        return isinstance(value, tuple | list) and least <= len(value) <= 1000 and all(map(each.accepts, value))

    return Setting(tuple, f"a list, each {each.requirement}", accepts, each.choices, each.beside, each)


NAME = text(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}", "a name of 1 to 64 letters, digits, '_', '-', '+' and '.'")
SPLIT = text(r"[A-Za-z_][A-Za-z0-9_.:%+()\[\]-]{0,199}", "a TFDS split, such as train or train[:80%]")
FEATURE = text(r"[A-Za-z_][A-Za-z0-9_./-]{0,199}", "the name of a feature of the data set, such as image")
PROBABILITY = number(0, 1)
SEED = integer(0, INT32_MAX)
DIMENSION = integer(1, 2**15)
MEAN = tuple_of(*[number(-10, 10)] * 3)
STD = tuple_of(*[number(1e-3, 10)] * 3)
SCALE = tuple_of(*[number(1e-4, 1)] * 2)  # least and largest area of a crop, as a fraction of the image's
CADENCE = integer(1, INT32_MAX)  # number of steps
IMAGES = integer(0, INT32_MAX)  # number of images; 0 is all
LEARNING_RATE = number(1e-9, 1e3)
MOMENTUM = number(0, 0.9999)
TEMPERATURE = number(1e-3, 1e3)

STREAMS = (
    "tasks",
    "scale_iid",
    "scale_sequential",
    "scale_blurred",
    "scale_imbalanced",
    "scale_concurrent",
    "min_red",
    "cla",
    "osiris",
    "cassle_data",
    "cassle_domain",
)  # those of configs/streams.py

CONFIG = {
    "recipe": NAME,
    "protocol": one_of("ucl", "cassle"),
    "seed": SEED,
    "init_from": path(),
    "data_dir": path(),
    "compilation_cache": path(),
    "image_cache": path(),
    "benchmark.name": NAME,
    "benchmark.tfds_name": text(
        r"|(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./:+*-]{0,199}", "a TFDS name, such as cifar10 or imagenet_resized/32x32"
    ),
    "benchmark.prepare": flag(),
    "benchmark.path": path(),
    "benchmark.folders": one_of("tasks", "classes", "domains"),
    "benchmark.file_order": one_of("name", "time"),
    "benchmark.validation_path": path(),
    "benchmark.num_tasks": integer(0, 1000),
    "benchmark.classes_per_task": integer(0, 100_000),
    "benchmark.class_order": one_of("label", *CLASS_ORDERS),
    "benchmark.image_size": integer(1, 1024),
    "benchmark.fit": one_of("none", "pad", "resize", "crop"),
    "benchmark.train_split": SPLIT,
    "benchmark.test_split": SPLIT,
    "benchmark.image_key": FEATURE,
    "benchmark.label_key": FEATURE,
    "benchmark.domain_key": Setting(str, f"{FEATURE.requirement}, or empty", lambda x: x == "" or FEATURE.accepts(x)),
    "benchmark.examples_per_task": IMAGES,
    "benchmark.test_examples_per_task": IMAGES,
    "benchmark.validation_fraction": number(0, 0.99),
    "benchmark.subset_seed": integer(-1, INT32_MAX),  # -1 is the seed of the run
    "benchmark.class_order_seed": integer(-1, INT32_MAX),  # -1 permutes nothing
    "benchmark.joint": flag(),
    "stream.name": one_of(*STREAMS),
    "stream.order": one_of("class", "data", "domain", "file"),
    "stream.imbalance": number(1, 1e6),
    "stream.imbalance_shape": one_of("long_tail", "step"),
    "stream.repeat": integer(1, 1000),
    "stream.blur": PROBABILITY,
    "stream.blur_shape": one_of("linear", "gaussian"),
    "stream.correlation": integer(1, 10**4),
    "stream.boundaries": one_of("known", "hidden"),
    "stream.snapshot_every": IMAGES,  # here 0 is never
    "stream.evaluate_every": integer(-1000, INT32_MAX),  # 0 is at the end of each period, -N is N times in all
    "stream.passes": one_of("epochs", "one"),
    "stream.updates_per_batch": integer(1, 1000),
    "stream.replay_per_batch": integer(0, 2**20),
    "augment.crop": one_of("resized", "padded"),
    "augment.crop_padding": integer(0, 1024),
    "augment.crop_scale": SCALE,
    "augment.flip": PROBABILITY,
    "augment.jitter": tuple_of(*[number(0, 10)] * 3, number(0, 0.5)),
    "augment.jitter_p": PROBABILITY,
    "augment.gray_p": PROBABILITY,
    "augment.blur_p": per_view(number(0, 1, -1)),
    "augment.solarize_p": per_view(PROBABILITY),
    "augment.interpolation": one_of("bilinear", "bicubic"),
    "augment.mean": MEAN,
    "augment.std": STD,
    "augment.rounding": one_of("none", "pillow"),
    "augment.replay_crop": one_of("resized", "padded"),
    "augment.replay_crop_scale": SCALE,
    "augment.replay_mean": MEAN,
    "augment.replay_std": STD,
    "model.name": one_of("resnet18", "resnet18_group_norm", "progressive"),
    "model.width": integer(1, 512),
    "model.stem": one_of("cifar", "imagenet"),
    "model.stem_padding": integer(1, 2),
    "model.dtype": one_of("float32", "bfloat16"),
    "model.matmul_precision": one_of("float32", "tensorfloat32", "bfloat16"),
    "train.epochs": integer(0, 10**6),
    "train.batch_size": integer(2, 2**20),  # batch norm needs two images
    "train.last_batch": one_of("fill", "drop"),
    "train.optimizer": one_of("sgd", "lars"),
    "train.optimizer_state": one_of("keep", "restart"),
    "train.learning_rate": LEARNING_RATE,
    "train.schedule": one_of("constant", "cosine"),
    "train.warmup_epochs": integer(0, 10**6),
    "train.warmup_start": number(0, 1e3),
    "train.minimum_rate": number(0, 1e3),
    "train.momentum": MOMENTUM,
    "train.weight_decay": number(0, 1),
    "train.lars_eta": number(1e-9, 1e3),
    "train.lars_clip": flag(),
    "train.lars_exclude_1d": flag(),
    "train.devices": integer(0, 1024),
    "train.steps_per_call": integer(1, 1000),
    "eval.tasks": one_of("seen", "all"),
    "eval.knn_k": integer(1, 10**6),
    "eval.knn_k_rule": one_of("fixed", "tasks_seen"),
    "eval.knn_temperature": TEMPERATURE,
    "eval.knn_search": one_of("exact", "approximate"),
    "eval.online_linear": one_of("none", "apart", "in_training_mode"),
    "eval.online_linear_rate": LEARNING_RATE,
    "eval.forgetting": one_of("max", "first", "with_last"),
    "eval.batch_size": integer(1, 2**20),
    "eval.random_init": flag(),
    "checkpoint.every_steps": CADENCE,
    "checkpoint.every_minutes": number(1e-3, 1e6, 0),  # 0 saves by steps only
    "checkpoint.keep": integer(2, 10**6),
    "checkpoint.networks": flag(),
    "log.every_steps": CADENCE,
    "log.tensorboard": flag(),
    "log.wandb": flag(),
}

TARGET = {"momentum": PROBABILITY, "final_momentum": PROBABILITY, "first_update": one_of("late", "at_once")}
PROJECTOR = {"hidden_dim": DIMENSION, "output_dim": DIMENSION}

# Objective -> the keys of section `objective`, apart from its name.
OBJECTIVE_SETTINGS = {
    "simsiam": {**PROJECTOR, "predictor_dim": DIMENSION},
    "barlow_twins": {
        **PROJECTOR,
        "layers": integer(1, 16),
        "norm": one_of("hidden", "all"),
        "off_diagonal": number(0, 1e3),
        "scale": number(1e-6, 1e3),
        "deviation": one_of("unbiased", "biased"),
    },
    "byol": {**PROJECTOR, "predictor_dim": DIMENSION, **TARGET},
    "simclr": {**PROJECTOR, "temperature": TEMPERATURE},
    "vicreg": {
        **PROJECTOR,
        "similarity": number(0, 1e3),
        "variance": number(0, 1e3),
        "covariance": number(0, 1e3),
    },
    "moco": {**PROJECTOR, "temperature": TEMPERATURE, "queue_size": integer(1, 2**20), **TARGET},
    "swav": {
        **PROJECTOR,
        "prototypes": integer(2, 2**17),
        "temperature": TEMPERATURE,
        "epsilon": number(1e-3, 1e3),
        "iterations": integer(1, 100),
        "queue_size": integer(1, 2**20),
        "queue_epoch": integer(0, 10**6),
        "frozen_epochs": integer(0, 10**6),
    },
    "supervised": {"classes": integer(1, 10**6), "projector": flag(), **PROJECTOR},
}

BUFFER = {
    "buffer_size": integer(1, 2**20),
    "replay_from": one_of("buffer", "past_tasks"),
    "count": one_of("presentations", "examples"),
}
POLICIES = (
    "reservoir",
    "equal_share",
    "with_replacement",
    "fifo",
)  # those of `ucl_jax.buffers` that need no scores and no features
REHEARSAL = {**BUFFER, "policy": one_of(*POLICIES)}
REPLAY_VIEW = one_of("strong", "weak")
REPLAY_SHARE = number(1e-3, 1)
FROZEN_MODE = one_of("train", "eval")
DISTILLATION = {"weight": number(0, 1e6), "hidden_dim": DIMENSION, "frozen_mode": FROZEN_MODE}
ALIGNMENT = {**REHEARSAL, "weight": number(0, 1e6), "hidden_dim": DIMENSION}

# Method -> the keys of section `method`, apart from its name.
METHOD_SETTINGS = {
    "finetune": {},
    "si": {
        "c": number(0, 1e6),
        "xi": number(1e-6, 1e3),
        "form": one_of("release", "path_integral", "submission", "overwrite"),
        "rate": LEARNING_RATE,
        "clip": number(1e-6, 1e6, 0),
        "protect": one_of("backbone", "all"),
    },
    "agem": {**REHEARSAL, "replay_view": REPLAY_VIEW},
    "gss": {**BUFFER, "replay_view": REPLAY_VIEW, "compare": integer(0, 2**16), "at_once": integer(0, 2**16)},
    "er": {**REHEARSAL, "replay_view": REPLAY_VIEW},
    "der": {**REHEARSAL, "alpha": number(0, 1e3), "beta": number(0, 1e3), "target": one_of("features", "output")},
    "lump": {
        **REHEARSAL,
        "alpha": number(1e-3, 1e3),
        "replay_pair": one_of("frozen", "fresh"),
        "mix_per": one_of("batch", "example"),
        "mix_labels": one_of("lambda", "release"),
    },
    "cassle": DISTILLATION,
    "pfr": DISTILLATION,
    "pnr": {**DISTILLATION, "negative_weight": number(0, 1e6)},
    "cromo_mixup": {
        **REHEARSAL,
        **DISTILLATION,
        "replay_share": REPLAY_SHARE,
        "fixed_lambda": PROBABILITY,  # 0 draws lambda
        "alpha": number(1e-3, 1e3),
    },
    "osiris": {
        **REHEARSAL,
        "replay_share": REPLAY_SHARE,
        "past": one_of("replay", "distil"),
        "frozen_mode": FROZEN_MODE,
    },
    "min_red": {
        "buffer_size": BUFFER["buffer_size"],
        "count": BUFFER["count"],
        "features": one_of("visit", "arrival"),
    },
    "cla": {**ALIGNMENT, "aligned": one_of("replayed", "all"), "momentum": PROBABILITY},
    "arp": ALIGNMENT,
}

NEIGHBOURS = text(r"run|tasks|[1-9][0-9]{0,5}", "a number above 0 and below 1000000, 'run' or 'tasks'")
PENALTIES = list_of(number(1e-12, 1e12))
POWERS_OF_TEN = tuple(10.0**power for power in range(-4, 6))
DATASET_LIST = list_of(one_of_or_folder(*(name for name, one in BENCHMARKS.items() if one.tfds_name), "available"))
SOME_IMAGES = integer(4, 10**6)  # number of images

# Probe of `ucl_jax.probes` -> each of its settings with its default, which for a list is a tuple.
_PROBES: dict[str, dict[str, tuple[Setting, Any]]] = {
    "knn": {"k": (list_of(NEIGHBOURS), ("run", "20", "200", "tasks")), "temperature": (list_of(TEMPERATURE), (0.1,))},
    "linear": {
        "solver": (list_of(one_of("ridge", "sgd")), ("ridge", "sgd")),
        "fraction": (list_of(number(1e-6, 1)), (0.01, 0.1, 1.0)),  # parts of the labels that are used
        "penalties": (PENALTIES, POWERS_OF_TEN),  # those that ridge regression chooses from
        "epochs": (integer(1, 10**6), 100),  # this and what follows are for SGD
        "batch_size": (integer(1, 2**20), 256),
        "learning_rate": (LEARNING_RATE, 0.1),
        "momentum": (MOMENTUM, 0.9),
        "weight_decay": (number(0, 1), 0.0),
        "seed": (SEED, 0),
    },
    "linear_augmented": {
        "epochs": (integer(1, 10**6), 100),
        "batch_size": (integer(1, 2**20), 256),
        "learning_rate": (LEARNING_RATE, 0.1),
        "milestones": (list_of(PROBABILITY, least=0), (0.6, 0.8)),  # parts of the epochs after which the rate falls
        "decay": (PROBABILITY, 0.1),  # by this factor
        "momentum": (MOMENTUM, 0.9),
        "weight_decay": (number(0, 1), 0.0),
        "seed": (SEED, 0),
    },
    "ood": {
        "dataset": (DATASET_LIST, ("available",)),
        "train_images": (IMAGES, 0),
        "test_images": (IMAGES, 0),
        "k": (NEIGHBOURS, "run"),
        "temperature": (TEMPERATURE, 0.1),
        "penalties": (PENALTIES, POWERS_OF_TEN),
        "seed": (SEED, 0),
    },
    "finetune": {
        "dataset": (DATASET_LIST, ("mnist",)),
        "train_images": (IMAGES, 0),
        "test_images": (IMAGES, 0),
        "epochs": (integer(1, 10**6), 5),
        "batch_size": (integer(2, 2**20), 128),
        "learning_rate": (LEARNING_RATE, 0.02),
        "momentum": (MOMENTUM, 0.9),
        "seed": (SEED, 0),  # decides the order of images
    },
    "transfer": {},
    "cka": {
        "other": (path(), ""),  # another run folder, whose networks are the columns; "" is the run itself
        "images": (SOME_IMAGES, 1024),  # test images, from all tasks together
        "batch_size": (integer(4, 2**16), 256),  # with fewer, the unbiased estimate of CKA is not defined
        "seed": (SEED, 0),
    },
    "geometry": {"images": (integer(2, 10**5), 1024), "seed": (SEED, 0)},  # test images whose views are compared
    "feature_maps": {
        "stage": (one_of("stem", "stage1", "stage2", "stage3", "stage4"), "stage2"),
        "tasks": (list_of(integer(0, 1000), least=0), ()),  # () takes the first task, and one at about two thirds
        "images": (integer(1, 10**4), 2),  # of each task
        "channels": (integer(1, 2**15), 8),  # the channels that vary most over the image
    },
    "loss_landscape": {
        "loss": (list_of(one_of("classifier", "objective")), ("classifier", "objective")),
        "task": (list_of(integer(0, 1000)), (0,)),
        "points": (integer(3, 1001), 11),  # on each side of the plane
        "span": (number(1e-6, 1e3), 1.0),  # from the network to an edge, in lengths of the filters
        "images": (integer(2, 10**6), 256),
        "seed": (SEED, 0),  # decides images and directions; equal for networks of one shape
    },
    "embedding": {"method": (one_of("pca", "tsne"), "tsne"), "images": (SOME_IMAGES, 500), "seed": (SEED, 0)},
}
PROBE_SETTINGS = {probe: {key: setting for key, (setting, _) in own.items()} for probe, own in _PROBES.items()}
PROBE_DEFAULTS = {probe: {key: default for key, (_, default) in own.items()} for probe, own in _PROBES.items()}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested dicts as "section.key" -> value; `prefix` is put before each key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def differences(tree: Any, other: Any) -> dict[str, tuple[Any, Any]]:
    """Returns where two config trees differ.

    A list counts as equal to a tuple of the same values, because JSON has lists only.

    Args:
      tree: a ConfigDict, or nested dicts from JSON.
      other: likewise.

    Returns:
      "section.key" -> (value in `tree`, value in `other`), sorted by key. None stands for a key that a tree does not
      have; no setting is None.
    """

    def leaves(one):
        flat = flatten(one if isinstance(one, Mapping) else one.to_dict())
        return {key: tuple(value) if isinstance(value, list) else value for key, value in flat.items()}

    here, there = leaves(tree), leaves(other)
    pairs = {key: (here.get(key), there.get(key)) for key in sorted(here | there)}
    return {key: (mine, theirs) for key, (mine, theirs) in pairs.items() if mine != theirs}


@functools.cache
def settings_of(objective: str, method: str) -> Mapping[str, Setting]:
    """Returns the setting of every key ("section.key") in the config tree of an objective and a method."""
    parts = {"objective": (objective, OBJECTIVE_SETTINGS), "method": (method, METHOD_SETTINGS)}
    named = {f"{part}.name": one_of(*known) for part, (_, known) in parts.items()}
    own = {f"{part}.{key}": entry for part, (name, known) in parts.items() for key, entry in known[name].items()}
    return MappingProxyType({**CONFIG, **named, **own})


def check(config: Any, name: str = "config") -> None:
    """Checks a whole config tree: that it has all keys and no others, and the type and range of every value.

    Args:
      config: a ConfigDict, or nested dicts from JSON.
      name: the name of the tree in messages.

    Raises:
      UsageError: something is wrong; it names the first such key, its value, and what it must be.
    """
    values = flatten(config if isinstance(config, Mapping) else config.to_dict())
    for section, known in (("objective", OBJECTIVE_SETTINGS), ("method", METHOD_SETTINGS)):
        _check_section(values, section, known, name)
    settings = settings_of(values["objective.name"], values["method.name"])
    for key in settings:
        require(key in values, f"{name}.{key} is missing")
    for key, value in values.items():
        if key not in settings:
            near = difflib.get_close_matches(key, settings, n=1, cutoff=0.0)[0]
            raise UsageError(f"unknown key {name}.{shown(key)[1:-1]}, did you mean {name}.{near}?")
        check_value(f"{name}.{key}", settings[key], value)
    _check_together(values, name)


def _check_section(values: Mapping[str, Any], section: str, known: Mapping[str, Mapping], name: str) -> None:
    """Checks that the name in a section is known, and that the section's keys are not those of another name.

    Args:
      values: the leaves of the config tree.
      section: "objective" or "method".
      known: name -> the keys that belong to it.
      name: the name of the tree in messages.
    """
    require(f"{section}.name" in values, f"{name}.{section}.name is missing")
    own = values[f"{section}.name"]
    check_value(f"{name}.{section}.name", one_of(*known), own)
    keys = {key.partition(".")[2] for key in values if key.startswith(f"{section}.")} - {"name"}
    require(
        keys == known[own].keys() or all(keys != other.keys() for other in known.values()),
        f"{name}.{section} holds the settings of another {section} than {own!r}; "
        "choose it by the recipe or its argument, not by its name alone",
    )


def _check_together(values: Mapping[str, Any], name: str) -> None:
    """Checks the rules between settings, for values that are each in the range of their own setting."""
    size, tasks = values["benchmark.image_size"], values["benchmark.num_tasks"]
    tfds_name, folders, order = values["benchmark.tfds_name"], values["benchmark.folders"], values["stream.order"]
    labelled = folders != "tasks"
    require(
        not (values["benchmark.path"] and tfds_name),
        f"{name}.benchmark.path is given, but the benchmark is {tfds_name!r}: take the benchmark folder, as in "
        "configs/lump.py:folder",
    )
    for key in ("benchmark.num_tasks", "benchmark.classes_per_task"):
        require(values[key] > 0 or not tfds_name, f"{name}.{key} is 0, which only a folder of images allows; give 1")
    for key, uses in (
        ("objective.name", values["objective.name"] == "supervised"),
        ("eval.online_linear", values["eval.online_linear"] != "none"),
    ):
        require(
            bool(tfds_name) or labelled or not uses,
            f"{name}.{key} is {values[key]!r}, which needs labels, and images of a folder have them only with "
            f"{name}.benchmark.folders=classes or domains",
        )
    require(
        bool(tfds_name) or (folders == "domains") == (order == "domain"),
        f"{name}.benchmark.folders is {folders!r} and {name}.stream.order {order!r}; sub-folders that are domains have "
        "the order 'domain', and no others have it: take stream cassle_domain, which sets both",
    )
    for key in ("augment.crop_scale", "augment.replay_crop_scale"):
        low, high = values[key]
        require(low <= high, f"{name}.{key} is {values[key]}; its first number must not be above the second")
    padding = values["augment.crop_padding"]
    require(
        "padded" not in (values["augment.crop"], values["augment.replay_crop"]) or padding <= size,
        f"{name}.augment.crop_padding is {padding}; it must not be above {name}.benchmark.image_size, {size}",
    )
    used = values["benchmark.classes_per_task"] * (tasks if values["stream.order"] == "class" else 1)
    needed = max(used, 1 + max(CLASS_ORDERS.get(values["benchmark.class_order"], ())[:used], default=0))
    classes = values.get("objective.classes", needed)
    require(
        classes >= needed,
        f"{name}.objective.classes is {classes}, but the classes that {name}.benchmark.num_tasks and "
        f"{name}.benchmark.classes_per_task ask for need {needed}",
    )
    require(
        order != "domain" or not tfds_name or values["benchmark.domain_key"] != "",
        f"{name}.stream.order is 'domain', but {name}.benchmark.domain_key is empty; name there the feature of the "
        "data set that holds the domain of an image",
    )
    require(
        not values["benchmark.joint"] or (values["stream.blur"], values["stream.repeat"]) == (0, 1),
        f"{name}.stream.blur and {name}.stream.repeat need tasks that come one after the other; with "
        f"{name}.benchmark.joint set them to 0 and 1",
    )
    require(
        values["stream.correlation"] == 1 or values["stream.passes"] == "one",
        f"{name}.stream.correlation is {values['stream.correlation']}, but images of an epoch come in random order; "
        f"set {name}.stream.passes to one, or correlation to 1",
    )
    trained = 1 if values["benchmark.joint"] else tasks * values["stream.repeat"]
    require(
        values["model.name"] != "progressive" or trained <= 100,
        f"{name}.benchmark.num_tasks is {tasks} and {name}.stream.repeat is {values['stream.repeat']}; a network that "
        "grows by each task has at most 100",
    )
    width = values["model.width"]
    require(
        values["model.name"] != "resnet18_group_norm" or (width >= 4 and width.bit_count() == 1),
        f"{name}.model.width is {width}; {name}.model.name=resnet18_group_norm needs a power of 2 from 4 on, so that "
        "channels fall into groups",
    )
    require(
        values["model.stem"] == "cifar" or values["model.stem_padding"] == 1,
        f"{name}.model.stem_padding is {values['model.stem_padding']}; only {name}.model.stem=cifar has that setting, "
        "set it to 1",
    )
    _check_stream(values, name)
    buffer_size = values.get("method.buffer_size", 0)
    require(
        values.get("method.policy") != "equal_share" or buffer_size >= trained,
        f"{name}.method.buffer_size is {buffer_size}; with {name}.method.policy=equal_share each of {trained} tasks "
        "needs a slot",
    )
    benchmark = values["benchmark.name"]
    require(
        benchmark not in BENCHMARKS or BENCHMARKS[benchmark].tfds_name == tfds_name.partition(":")[0],
        f"{name}.benchmark.name is {benchmark!r}, but {name}.benchmark.tfds_name is {tfds_name!r}: take the benchmark "
        f"by the recipe's argument, as in configs/lump.py:{benchmark}, or give your own another name",
    )


def _check_stream(values: Mapping[str, Any], name: str) -> None:
    """Checks the rules between settings of the section `stream` and others."""
    hidden, every = values["stream.boundaries"] == "hidden", values["stream.snapshot_every"]
    require(
        hidden or not every,
        f"{name}.stream.snapshot_every is {every}; only {name}.stream.boundaries=hidden has snapshots, set it to 0",
    )
    require(
        every % values["train.batch_size"] == 0,
        f"{name}.stream.snapshot_every is {every}; it must be a multiple of {name}.train.batch_size, "
        f"{values['train.batch_size']}",
    )
    require(
        not hidden or values.get("method.policy") != "equal_share",
        f"{name}.method.policy is 'equal_share', which shares the buffer among tasks, and "
        f"{name}.stream.boundaries=hidden hides them; take another policy, such as reservoir",
    )
    grows = values["model.name"] == "progressive"
    require(
        not grows or not hidden,
        f"{name}.model.name is 'progressive', which adds a column for each task, and "
        f"{name}.stream.boundaries=hidden hides them; take resnet18, or boundaries=known",
    )
    require(
        not grows or not values["stream.evaluate_every"],
        f"{name}.stream.evaluate_every is {values['stream.evaluate_every']}; a network that grows by each task is "
        "evaluated after each, set it to 0",
    )
    require(
        values["stream.passes"] == "epochs" or values["train.epochs"] == 1,
        f"{name}.train.epochs is {values['train.epochs']}; with {name}.stream.passes=one each image comes once, "
        "set it to 1",
    )


def check_value(name: str, setting: Setting, value: Any) -> None:
    """Raises UsageError, in which the setting is called `name`, unless `value` is a value of the setting."""
    if setting.accepts(value):
        return
    member = setting.each or setting
    for one in value if isinstance(value, tuple | list) else (value,):
        if setting.choices and isinstance(one, str) and not member.accepts(one):
            said = one if len(one) <= 60 else f"{one[:60]}..."
            user_choice(name, said, dict.fromkeys(setting.choices), setting.beside)
    raise UsageError(f"{name} is {shown(value)}; it must be {setting.requirement}")


def read_value(name: str, setting: Setting, words: str) -> Any:
    """Reads the value of a setting from a text; the values of a list are separated by commas.

    Raises:
      UsageError: the text is no value of the setting, which the message calls `name`.
    """
    value: Any
    if setting.each is not None:
        value = tuple(read_value(name, setting.each, each) for each in words.split(",") if each)
    else:
        try:
            value = setting.kind(words)
        except ValueError:
            value = words
    check_value(name, setting, value)
    return value


def words_of(value: Any) -> str:
    """Returns the value of a setting as `read_value` reads it."""
    return ",".join(map(words_of, value)) if isinstance(value, list | tuple) else str(value)


def shown(value: Any) -> str:
    """Formats a value for a message, in at most 63 characters."""
    try:
        text_of_value = repr(value)
    except ValueError:  # Python does not format numbers of more than 4300 digits
        text_of_value = "a number of thousands of digits"
    return text_of_value if len(text_of_value) <= 60 else f"{text_of_value[:60]}..."
