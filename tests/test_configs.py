"""Tests the recipes: the paper's settings, strict arguments, and a config tree without unknown keys."""

import importlib
import inspect
import itertools
import re

import pytest

from configs import (
    agem,
    arp,
    benchmarks,
    cassle,
    cla,
    cromo_mixup,
    der,
    derpp,
    er,
    finetune,
    gss,
    lump,
    min_red,
    multitask,
    objectives,
    osiris_d,
    osiris_r,
    pfr,
    pnn,
    pnr,
    protocols,
    si,
)
from tests import tiny
from ucl_jax import settings
from ucl_jax.data.benchmarks import BENCHMARKS, CLASS_ORDERS
from ucl_jax.errors import UsageError
from ucl_jax.methods import METHODS
from ucl_jax.models.architectures import ARCHITECTURES
from ucl_jax.objectives import OBJECTIVES
from ucl_jax.results.paper import TABLE1

RECIPES = {name: importlib.import_module(f"configs.{name}") for name in tiny.RECIPES}
# What the paper's protocol sets alike for all objectives.
UCL_TRAIN = {
    "steps_per_call": 1,
    "last_batch": "fill",
    "optimizer": "sgd",
    "optimizer_state": "keep",
    "schedule": "constant",
    "warmup_epochs": 10,
    "warmup_start": 0.003,
    "minimum_rate": 0.0,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "lars_eta": 0.02,
    "lars_clip": True,
    "lars_exclude_1d": True,
    "devices": 0,
}
UCL_MODEL = {"stem": "cifar", "stem_padding": 1, "dtype": "float32", "matmul_precision": "tensorfloat32"}
PAPER = ("cifar10", "cifar100", "tiny_imagenet")  # the benchmarks of the paper's tables


# The values are those of the table "Hyperparameters" of shared/reference/paper.md, which cites paper or code for each.
@pytest.mark.parametrize(
    ("benchmark", "tasks", "classes", "size", "alpha"),
    [("cifar10", 5, 2, 32, 0.1), ("cifar100", 20, 5, 32, 0.1), ("tiny_imagenet", 20, 5, 64, 0.4)],
)
def test_settings_of_the_paper(benchmark, tasks, classes, size, alpha):
    config = lump.get_config(benchmark)
    assert (config.benchmark.num_tasks, config.benchmark.classes_per_task) == (tasks, classes)
    assert config.benchmark.image_size == size
    assert config.method.to_dict() == {
        "name": "lump",
        "buffer_size": 256,
        "policy": "reservoir",
        "alpha": alpha,
        "replay_pair": "frozen",
        "replay_from": "buffer",
        "mix_per": "batch",
        "mix_labels": "lambda",
        "count": "presentations",
    }
    assert config.train.to_dict() == UCL_TRAIN | {"epochs": 200, "batch_size": 256, "learning_rate": 0.03}
    assert (config.eval.knn_k, config.eval.knn_k_rule, config.eval.knn_temperature) == (200, "fixed", 0.1)
    assert config.eval.forgetting == "max"
    assert config.model.to_dict() == UCL_MODEL | {"name": "resnet18", "width": 64}
    assert config.init_from == ""
    augment = config.augment
    assert (augment.crop, augment.rounding) == ("resized", "none")
    assert (augment.crop_scale, augment.flip, augment.jitter) == ((0.2, 1.0), 0.5, (0.4, 0.4, 0.4, 0.1))
    assert (augment.jitter_p, augment.gray_p, augment.blur_p) == (0.8, 0.2, (-1.0, -1.0))  # -1: by image size
    assert (augment.solarize_p, augment.interpolation) == ((0.0, 0.0), "bilinear")
    assert augment.replay_crop_scale == (0.08, 1.0)
    assert augment.mean == (0.4914, 0.4822, 0.4465)
    assert augment.std == (0.2470, 0.2435, 0.2615)
    tiny = benchmark == "tiny_imagenet"
    assert augment.replay_mean == ((0.4802, 0.4480, 0.3975) if tiny else (0.4914, 0.4822, 0.4465))
    assert config.objective.to_dict() == {
        "name": "simsiam",
        "hidden_dim": 2048,
        "output_dim": 2048,
        "predictor_dim": 512,
    }


def test_barlow_twins_of_the_paper():
    assert lump.get_config("cifar10,barlow_twins").objective.to_dict() == {
        "name": "barlow_twins",
        "hidden_dim": 2048,
        "output_dim": 2048,
        "layers": 2,
        "norm": "all",
        "off_diagonal": 0.005,
        "scale": 1.0,
        "deviation": "unbiased",
    }


# The values are those of the rows "SI c, xi", "DER alpha" and "PNN widths" of the same table.
@pytest.mark.parametrize(
    ("benchmark", "c", "alpha", "width"),
    [("cifar10", 100, 0.1, 64), ("cifar100", 0.1, 0.1, 12), ("tiny_imagenet", 0.01, 0.01, 8)],
)
@pytest.mark.parametrize("objective", ["simsiam", "barlow_twins", "supervised"])
def test_settings_of_the_paper_for_si_der_and_pnn(benchmark, objective, c, alpha, width):
    arg = f"{benchmark},{objective}"
    assert si.get_config(arg).method.to_dict() == {
        "name": "si",
        "c": c,
        "xi": 1.0,
        # Item 8 of "Where code, text and common sense disagree" in shared/reference/paper.md.
        "form": "release",
        "rate": 0.24 if objective == "supervised" else 0.03,  # item 17: equal to the learning rate
        "clip": 1.0,
        "protect": "backbone",
    }
    expected = {
        "name": "der",
        "buffer_size": 256,
        "policy": "reservoir",
        "replay_from": "buffer",
        "count": "presentations",
        "alpha": alpha,
        "beta": 0.0,
        "target": "output" if objective == "supervised" else "features",  # item 9
    }
    assert der.get_config(arg).method.to_dict() == expected
    assert derpp.get_config(arg).method.to_dict() == expected | {"beta": 0.5}
    assert derpp.get_config(arg).recipe == "derpp"

    config = pnn.get_config(arg)
    assert config.model.to_dict() == UCL_MODEL | {"name": "progressive", "width": width}
    assert config.method.to_dict() == {"name": "finetune"}
    assert config.recipe == "pnn"
    for name, recipe in RECIPES.items():  # only PNN has that width
        if name != "pnn":
            assert recipe.get_config(arg).model.to_dict() == UCL_MODEL | {"name": "resnet18", "width": 64}


@pytest.mark.parametrize("benchmark", PAPER)
def test_buffers_of_the_other_rehearsal_methods(benchmark):
    reservoir = {"buffer_size": 256, "count": "presentations"}
    for objective, view in (("simsiam", "strong"), ("barlow_twins", "strong"), ("supervised", "weak")):
        arg = f"{benchmark},{objective}"
        shown = {"replay_view": view, **reservoir}
        assert agem.get_config(arg).method.to_dict() == {
            "name": "agem", "policy": "equal_share", "replay_from": "past_tasks", **shown, "count": "examples",
        }  # fmt: skip
        assert er.get_config(arg).method.to_dict() == {
            "name": "er",
            "policy": "reservoir",
            "replay_from": "buffer",
            **shown,
        }
    assert gss.get_config(benchmark).method.to_dict() == {
        "name": "gss", "compare": 0, "at_once": 32, "replay_from": "buffer", "replay_view": "strong", **reservoir,
    }  # fmt: skip


def test_byol_cassle_and_pfr_of_the_released_codes():
    """Checks BYOL, CaSSLe and PFR against their released codes (shared/reference/field.md, sections 2, 3 and 5)."""
    config = cassle.get_config("cifar100,byol")
    assert config.objective.to_dict() == {
        "name": "byol", "hidden_dim": 4096, "output_dim": 256, "predictor_dim": 4096, "momentum": 0.99,
        "final_momentum": 1.0, "first_update": "late",
    }  # fmt: skip
    assert config.method.to_dict() == {"name": "cassle", "weight": 1.0, "hidden_dim": 2048, "frozen_mode": "train"}
    assert cassle.get_config("cifar100,vicreg").method.weight == 25.0
    expected = {"name": "pfr", "weight": 1.0, "hidden_dim": 256, "frozen_mode": "train"}
    assert pfr.get_config("cifar100").method.to_dict() == expected


def test_settings_of_pnr_cromo_mixup_and_osiris():
    """Checks these methods against their released codes (shared/reference/field.md, section 5)."""
    weights = {"simclr": (1.0, 1.0), "moco": (1.0, 1.0), "byol": (1.0, 0.5), "simsiam": (1.0, 0.5)}
    weights |= {"barlow_twins": (1.0, 1.0), "vicreg": (25.0, 23.0)}
    for objective, expected in weights.items():
        method = pnr.get_config(f"cifar100_5x20,{objective}").method
        assert (method.weight, method.negative_weight) == expected
        assert (method.hidden_dim, method.frozen_mode) == (2048, "train")
    method = pnr.get_config("imagenet100,byol").method
    assert (method.negative_weight, method.frozen_mode) == (1.0, "eval")

    assert cromo_mixup.get_config("cifar100_5x20,barlow_twins").method.to_dict() == {
        "name": "cromo_mixup",
        "buffer_size": 2500,  # 500 a task
        "policy": "with_replacement",
        "replay_from": "past_tasks",
        "count": "examples",
        "replay_share": 64 / 256,
        "fixed_lambda": 0.7,
        "alpha": 1.0,
        "weight": 1.0,
        "hidden_dim": 2048,
        "frozen_mode": "train",
    }
    assert cromo_mixup.get_config("cifar100_10x10,byol").method.buffer_size == 10 * 100
    assert cromo_mixup.get_config("cifar100_10x10,byol").method.fixed_lambda == 0.0

    for recipe, past in ((osiris_r, "replay"), (osiris_d, "distil")):
        config = recipe.get_config("cifar100_5x20")
        assert config.objective.name == "simclr"
        assert config.method.to_dict() == {
            "name": "osiris",
            "buffer_size": 500,
            "policy": "reservoir",
            "replay_from": "buffer",
            "count": "presentations",
            "replay_share": 192 / 256,
            "past": past,
            "frozen_mode": "train",
        }


def test_min_red_cla_and_arp_of_the_released_codes():
    """Checks them against shared/reference/field.md, section 5; 2000 slots are those of the code of CLA and ARP."""
    assert min_red.get_config("cifar100").method.to_dict() == {
        "name": "min_red", "buffer_size": 2000, "count": "presentations", "features": "visit",
    }  # fmt: skip
    aligned = {"buffer_size": 2000, "replay_from": "buffer", "count": "presentations", "weight": 0.1, "hidden_dim": 512}
    own = {"name": "cla", "policy": "fifo", "aligned": "replayed", "momentum": 0.999}
    assert cla.get_config("cifar100").method.to_dict() == aligned | own
    assert arp.get_config("cifar100").method.to_dict() == aligned | {"name": "arp", "policy": "reservoir"}
    for recipe in (min_red, cla, arp):  # replay can start, and images can leave by their features
        for benchmark in BENCHMARKS:
            config = recipe.get_config(benchmark)
            assert config.method.buffer_size >= 2 * config.train.batch_size


# As in CaSSLe's code for CIFAR-100 (shared/reference/field.md, sections 1 and 2).
RELEASED = {
    "simclr": {"hidden_dim": 2048, "output_dim": 256, "temperature": 0.2},
    "vicreg": {"hidden_dim": 2048, "output_dim": 2048, "similarity": 25.0, "variance": 25.0, "covariance": 1.0},
    "moco": {
        "hidden_dim": 2048, "output_dim": 128, "temperature": 0.2, "queue_size": 65536, "momentum": 0.99,
        "final_momentum": 0.999, "first_update": "late",
    },
    "swav": {
        "hidden_dim": 2048, "output_dim": 128, "prototypes": 3000, "temperature": 0.1, "epsilon": 0.05, "iterations": 3,
        "queue_size": 3840, "queue_epoch": 50, "frozen_epochs": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize("objective", RELEASED)
def test_objectives_of_the_released_code(objective):
    settings = finetune.get_config(f"cifar100,{objective}").objective.to_dict()
    assert settings == {"name": objective, **RELEASED[objective]}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("benchmark", PAPER)
def test_supervised_learning_of_the_paper(recipe, benchmark):
    """Checks that supervised recipes have the settings of the rows "SCL" and "SCL view", and the head of "Setting"."""
    config = RECIPES[recipe].get_config(f"{benchmark},supervised")
    train = config.train.to_dict()
    # The train step multiplies the rate by batch / 256, which must give 0.03; the code's rule would scale 0.03 itself.
    assert train.pop("learning_rate") * train["batch_size"] / 256 == pytest.approx(0.03, rel=1e-12)
    assert train == UCL_TRAIN | {"epochs": 50, "batch_size": 32}
    objective = config.objective.to_dict()
    assert (objective["name"], objective["classes"], objective["projector"]) == ("supervised", 100, False)
    augment, other = config.augment, RECIPES[recipe].get_config(benchmark).augment
    # As in commit 00c8660: resized crops for the present, padded crops for replayed images.
    assert (augment.crop, augment.replay_crop, augment.crop_padding, augment.flip) == ("resized", "padded", 4, 0.5)
    assert (augment.crop_scale, other.crop, other.replay_crop) == ((0.2, 1.0), "resized", "resized")
    assert (augment.jitter, augment.jitter_p, augment.gray_p) == ((0.4, 0.4, 0.4, 0.1), 0.8, 0.2)
    assert (augment.mean, augment.std) == (other.mean, other.std)
    needed = config.benchmark.num_tasks * config.benchmark.classes_per_task
    assert needed <= objective["classes"]


# The values are those of the two tables and the text of section 1 of shared/reference/field.md; none names SimSiam.
@pytest.mark.parametrize(
    ("benchmark", "objective", "rate", "decay", "jitter", "sol", "blur", "objective_key"),
    [
        ("cifar100_5x20", "byol", 1.0, 1e-5, (0.4, 0.4, 0.2, 0.1), (0, 0.2), (0, 0), ("predictor_dim", 4096)),
        ("cifar100_10x10", "barlow_twins", 0.3, 1e-4, (0.4, 0.4, 0.2, 0.1), (0, 0.2), (0, 0), ("hidden_dim", 2048)),
        ("imagenet100", "byol", 0.6, 1e-5, (0.4, 0.4, 0.2, 0.1), (0, 0.2), (1, 0.1), ("predictor_dim", 8192)),
        (
            "imagenet100_data5",
            "barlow_twins",
            0.4,
            1e-4,
            (0.4, 0.4, 0.2, 0.1),
            (0, 0.2),
            (1, 0.1),
            ("output_dim", 2048),
        ),
    ],
)
def test_settings_of_the_protocol_of_cassle(benchmark, objective, rate, decay, jitter, sol, blur, objective_key):
    config, usual = (finetune.get_config(f"{benchmark},{objective},{name}") for name in ("cassle", "ucl"))
    imagenet = benchmark.startswith("imagenet")
    assert config.train.to_dict() == UCL_TRAIN | {
        "epochs": 400 if imagenet else 500,
        "batch_size": 256,
        "learning_rate": rate,
        "last_batch": "drop",
        "optimizer": "lars",
        "optimizer_state": "restart",
        "schedule": "cosine",
        "weight_decay": decay,
    }
    augment = config.augment
    assert (augment.jitter, augment.jitter_p, augment.gray_p, augment.flip) == (jitter, 0.8, 0.2, 0.5)
    assert (augment.solarize_p, augment.blur_p) == (sol, blur)
    assert (augment.crop, augment.crop_scale, augment.interpolation) == ("resized", (0.08, 1.0), "bicubic")
    assert (config.model.stem, config.model.stem_padding) == (("imagenet", 1) if imagenet else ("cifar", 2))
    assert config.objective[objective_key[0]] == objective_key[1]
    # How tasks are cut does not depend on the protocol, nor what is evaluated, but for the online linear probe.
    for section in ("benchmark", "method", "checkpoint", "log"):
        assert config[section] == usual[section]
    probe = {"online_linear": "none" if imagenet else "in_training_mode"}
    assert config.eval.to_dict() == usual.eval.to_dict() | probe
    assert (usual.eval.online_linear, usual.eval.online_linear_rate) == ("none", 0.1)
    assert (config.protocol, usual.protocol, finetune.get_config(benchmark).protocol) == ("cassle", "ucl", "ucl")


def test_rows_of_the_protocol_of_cassle():
    rows, imagenet = protocols.CASSLE_CIFAR, protocols.CASSLE_IMAGENET
    assert rows.keys() == imagenet.keys()
    numbers = {name: (row.learning_rate, row.weight_decay, row.lars_exclude_1d) for name, row in rows.items()}
    assert numbers == {
        "simclr": (0.4, 1e-5, True),
        "byol": (1.0, 1e-5, True),
        "vicreg": (0.3, 1e-4, True),
        "swav": (0.6, 1e-6, False),
        "barlow_twins": (0.3, 1e-4, True),
        "moco": (0.6, 1e-4, False),
        "simsiam": (1.0, 1e-5, True),
    }
    assert [name for name, row in rows.items() if row.jitter == (0.8, 0.8, 0.8, 0.2)] == ["simclr", "swav"]
    assert [name for name, row in rows.items() if row.minimum_rate] == ["swav"]
    rates = {name: finetune.get_config(f"cifar100_5x20,{name},cassle").eval.online_linear_rate for name in rows}
    assert rates == dict.fromkeys(rows, 0.1) | {"vicreg": 0.3, "moco": 0.3}
    assert (rows["vicreg"].least_crop, rows["vicreg"].solarize_p) == (0.2, (0.1, 0.1))
    numbers = {name: (row.learning_rate, row.weight_decay) for name, row in imagenet.items()}
    assert numbers == {
        "simclr": (0.4, 1e-4),
        "byol": (0.6, 1e-5),
        "vicreg": (0.4, 1e-4),
        "swav": (0.8, 1e-6),
        "barlow_twins": (0.4, 1e-4),
        "moco": (0.4, 1e-4),
        "simsiam": (0.6, 1e-5),
    }
    assert [name for name, row in imagenet.items() if (row.optimizer, row.warmup_epochs) == ("sgd", 0)] == ["moco"]
    assert imagenet["swav"].lars_exclude_1d


def changes_of(stream, benchmark="cifar10", recipe=finetune):
    """Returns the keys that a stream changes, with their values."""
    config, usual = (recipe.get_config(f"{benchmark},simsiam,ucl,{name}") for name in (stream, "tasks"))
    changed = settings.differences(config, usual)
    assert changed.pop("stream.name") == (stream, "tasks")
    return {key: value for key, (value, _) in changed.items()}


def test_streams_are_those_of_their_sources():
    """Compares with the scripts of SCALE, MinRed, CLA, Osiris and CaSSLe, whose versions configs/streams.py names."""
    online = {"stream.boundaries": "hidden", "stream.passes": "one", "stream.evaluate_every": 5000, "train.epochs": 1}
    scale = online | {"stream.updates_per_batch": 20, "train.batch_size": 128}
    one_class = scale | {"benchmark.num_tasks": 10, "benchmark.classes_per_task": 1}
    assert changes_of("scale_sequential") == one_class
    assert changes_of("scale_iid") == one_class | {"benchmark.joint": True}
    assert changes_of("scale_blurred") == one_class | {"stream.blur": 0.5}
    halves = {"stream.imbalance": 2.0, "stream.imbalance_shape": "step"}
    assert changes_of("scale_imbalanced") == one_class | halves
    assert changes_of("scale_concurrent") == scale  # of 2 classes are the tasks of the paper, too
    superclasses = {"benchmark.num_tasks": 20, "benchmark.classes_per_task": 1, "benchmark.label_key": "coarse_label"}
    order = {"benchmark.class_order": "label"}
    assert changes_of("scale_blurred", "cifar100_5x20") == scale | superclasses | order | {"stream.blur": 0.5}
    frames = {"benchmark.joint": True, "stream.correlation": 64, "stream.evaluate_every": 64 * 5000}
    assert changes_of("min_red") == online | frames | {"stream.updates_per_batch": 5}
    assert changes_of("cla") == online | {"stream.updates_per_batch": 3, "train.batch_size": 32}
    # How many images a folder has is not known yet.
    assert changes_of("cla", "folder")["stream.evaluate_every"] == -10
    assert changes_of("osiris", "cifar100") == {"benchmark.class_order": "superclass"}
    parts = {"benchmark.classes_per_task": 10, "stream.order": "data"}
    assert changes_of("cassle_data") == parts
    domains = {"benchmark.num_tasks": 6, "benchmark.domain_key": "domain", "stream.order": "domain"}
    assert changes_of("cassle_domain") == parts | domains
    assert changes_of("cassle_domain", "folder") == {"benchmark.folders": "domains", "stream.order": "domain"}
    assert multitask.get_config("digits,simsiam,ucl,scale_sequential").benchmark.joint


def test_the_order_by_superclass_has_the_five_classes_of_each_together():
    """Checks the order by the names of some superclasses of CIFAR-100: people, trees, and both kinds of vehicles."""
    order = [CLASS_ORDERS["superclass"][start : start + 5] for start in range(0, 100, 5)]
    assert sorted(itertools.chain(*order)) == list(range(100))
    assert order[14] == (2, 11, 35, 46, 98)  # baby, boy, girl, man, woman
    assert order[17] == (47, 52, 56, 59, 96)  # maple, oak, palm, pine and willow
    assert order[18:] == [(8, 13, 48, 58, 90), (41, 69, 81, 85, 89)]


def test_recipes_differ_in_their_method_only():
    assert finetune.get_config("cifar10").method.to_dict() == {"name": "finetune"}
    joint = multitask.get_config("cifar10")
    assert joint.method.to_dict() == {"name": "finetune"}
    assert joint.benchmark.joint is True
    assert joint.recipe == "multitask"
    for section in ("augment", "model", "objective", "train", "eval", "checkpoint", "log"):
        for name, recipe in RECIPES.items():
            if (name, section) != ("pnn", "model"):
                assert recipe.get_config("cifar10,simsiam")[section] == joint[section], (name, section)
    for name, recipe in RECIPES.items():
        config = recipe.get_config("cifar10")
        assert config.recipe == name
        assert config.benchmark.joint is (name == "multitask")


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_combination_is_a_locked_config(recipe, benchmark, objective):
    config = RECIPES[recipe].get_config(f"{benchmark},{objective}")
    assert config.is_locked
    with pytest.raises(AttributeError, match="epochs"):
        config.train.epoch = 3
    assert config.method.name in METHODS
    assert config.model.name in ARCHITECTURES
    assert config.objective.name == objective
    assert config.benchmark.name == benchmark
    # A section holds exactly the settings that its method or objective takes; any other would be refused.
    for made, section, given in ((METHODS, "method", 2), (OBJECTIVES, "objective", 2)):
        settings = set(config[section]) - {"name"}
        known = inspect.signature(made[config[section].name]).parameters.values()
        assert settings == {p.name for p in known if p.kind == p.KEYWORD_ONLY} - {"dtype", "axis_name"}, section
        assert sum(p.kind != p.KEYWORD_ONLY for p in known) == given


def test_no_key_is_written_in_two_places(monkeypatch):
    def twice(objective):
        sections = benchmarks.standard(objective)
        return sections | {"train": sections["train"] | {"momentum": 0.5}}

    monkeypatch.setitem(benchmarks.BENCHMARKS, "cifar10", twice)
    with pytest.raises(TypeError, match="momentum"):
        lump.get_config("cifar10")


def test_every_method_and_every_architecture_has_a_recipe():
    configs = [recipe.get_config() for recipe in RECIPES.values()]
    assert {config.method.name for config in configs} == set(METHODS)
    # Osiris' network is a choice of its recipe's users.
    assert {config.model.name for config in configs} == set(ARCHITECTURES) - {"resnet18_group_norm"}
    assert objectives.OBJECTIVES.keys() == OBJECTIVES.keys()


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        (
            "cifar",
            "unknown benchmark 'cifar', did you mean 'cifar10'. known: cifar10, cifar100, cifar10_16px, ",
        ),
        (
            "digits,byoll",
            f"unknown objective 'byoll', did you mean 'byol'. known: {', '.join(objectives.OBJECTIVES)}$",
        ),
        ("digits,simsiam,lump", "unknown protocol 'lump'. known: ucl, cassle"),
        ("digits,simsiam,ucl,lump", "unknown stream 'lump'. known: tasks, scale_iid, scale_sequential"),
        ("digits,simsiam,ucl,tasks,lump", "has 5 words"),
        ("cifar10,simsiam,ucl,osiris", "stream osiris needs the superclasses of CIFAR-100"),
        ("cifar100_5x20,supervised,cassle", "protocol cassle has no settings for objective supervised"),
    ],
)
def test_unknown_words_list_the_known_ones(arg, message):
    with pytest.raises(UsageError, match=message):
        lump.get_config(arg)


@pytest.mark.parametrize("name", RECIPES)
def test_docstrings_state_command_and_numbers(name):
    text = RECIPES[name].__doc__
    assert f"python launch.py --config=configs/{name}.py" in text
    for command in re.findall(r"python launch.py --config=configs/(\S+)", text):
        recipe, _, arg = command.partition(":")
        assert recipe == f"{name}.py"
        RECIPES[name].get_config(*[arg][: bool(arg)])
    assert re.search(r"^Stores .+\.$", text, re.MULTILINE)
    # tests/results/test_paper.py compares the numbers of a docstring with TABLE1.
    if not any(recipe == name for _, _, recipe in TABLE1):
        assert "Not in the paper's tables" in text
        assert "±" not in text
    else:
        assert text.split("3 seeds:")[1].split()[:3] == list(PAPER)
