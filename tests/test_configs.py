"""Tests the recipes: the paper's settings, strict arguments, and a config tree without unknown keys."""

import importlib
import inspect
import re

import pytest

from configs import agem, benchmarks, cassle, der, derpp, er, finetune, gss, lump, multitask, objectives, pfr, pnn, si
from tests import tiny
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import UsageError
from ucl_jax.methods import METHODS
from ucl_jax.models.architectures import ARCHITECTURES
from ucl_jax.objectives import OBJECTIVES

RECIPES = {name: importlib.import_module(f"configs.{name}") for name in tiny.RECIPES}
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
    assert config.train.to_dict() == {
        "epochs": 200,
        "batch_size": 256,
        "learning_rate": 0.03,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "devices": 0,
    }
    assert (config.eval.knn_k, config.eval.knn_k_rule, config.eval.knn_temperature) == (200, "fixed", 0.1)
    assert config.eval.forgetting == "max"
    assert config.model.to_dict() == {"name": "resnet18", "width": 64, "dtype": "float32"}
    assert config.init_from == ""
    augment = config.augment
    assert (augment.crop, augment.rounding) == ("resized", "none")
    assert (augment.crop_scale, augment.flip, augment.jitter) == ((0.2, 1.0), 0.5, (0.4, 0.4, 0.4, 0.1))
    assert (augment.jitter_p, augment.gray_p, augment.blur_p) == (0.8, 0.2, -1.0)  # -1: by image size
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
        "off_diagonal": 0.005,
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
    assert config.model.to_dict() == {"name": "progressive", "width": width, "dtype": "float32"}
    assert config.method.to_dict() == {"name": "finetune"}
    assert config.recipe == "pnn"
    for name, recipe in RECIPES.items():  # only PNN has that width
        if name != "pnn":
            assert recipe.get_config(arg).model.to_dict() == {"name": "resnet18", "width": 64, "dtype": "float32"}


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
        "name": "gss", "compare": 0, "replay_from": "buffer", "replay_view": "strong", **reservoir,
    }  # fmt: skip


def test_byol_cassle_and_pfr_of_the_released_codes():
    """Checks BYOL, CaSSLe and PFR against their released codes (shared/reference/field.md, sections 2, 3 and 5)."""
    config = cassle.get_config("cifar100,byol")
    assert config.objective.to_dict() == {
        "name": "byol", "hidden_dim": 4096, "output_dim": 256, "predictor_dim": 4096, "momentum": 0.99,
        "final_momentum": 1.0, "first_update": "late",
    }  # fmt: skip
    assert config.method.to_dict() == {"name": "cassle", "weight": 1.0, "hidden_dim": 2048, "frozen_mode": "train"}
    expected = {"name": "pfr", "weight": 1.0, "hidden_dim": 256, "frozen_mode": "train"}
    assert pfr.get_config("cifar100").method.to_dict() == expected


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("benchmark", PAPER)
def test_supervised_learning_of_the_paper(recipe, benchmark):
    """Checks that supervised recipes have the settings of the rows "SCL" and "SCL view", and the head of "Setting"."""
    config = RECIPES[recipe].get_config(f"{benchmark},supervised")
    train = config.train.to_dict()
    # The train step multiplies the rate by batch / 256, which must give 0.03; the code's rule would scale 0.03 itself.
    assert train.pop("learning_rate") * train["batch_size"] / 256 == pytest.approx(0.03, rel=1e-12)
    assert train == {"epochs": 50, "batch_size": 32, "momentum": 0.9, "weight_decay": 5e-4, "devices": 0}
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


def test_recipes_differ_in_their_method_only():
    assert finetune.get_config("cifar10").method.to_dict() == {"name": "finetune"}
    joint = multitask.get_config("cifar10")
    assert joint.method.to_dict() == {"name": "finetune"}
    assert joint.benchmark.joint is True
    assert joint.recipe == "multitask"
    for section in ("augment", "model", "objective", "train", "eval", "checkpoint", "log"):
        for name, recipe in RECIPES.items():
            if (name, section) != ("pnn", "model"):
                assert recipe.get_config("cifar10")[section] == joint[section], (name, section)
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
    assert {config.model.name for config in configs} == set(ARCHITECTURES)
    assert objectives.OBJECTIVES.keys() == OBJECTIVES.keys()


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        (
            "cifar",
            "unknown benchmark 'cifar', did you mean 'cifar10'. known: cifar10, cifar100, tiny_imagenet, digits, ",
        ),
        (
            "digits,byoll",
            f"unknown objective 'byoll', did you mean 'byol'. known: {', '.join(objectives.OBJECTIVES)}$",
        ),
        ("digits,simsiam,lump", "has 3 words"),
    ],
)
def test_unknown_words_list_the_known_ones(arg, message):
    with pytest.raises(UsageError, match=message):
        lump.get_config(arg)


# Table 1 of the paper: accuracy and forgetting on each benchmark of PAPER.
TABLE_1 = """
supervised   finetune  82.87±0.47 14.26±0.52 61.08±0.04 31.23±0.41 53.10±1.37 33.15±1.22
supervised   pnn       82.74±2.12 -          66.05±0.86 -          64.38±0.92 -
supervised   si        85.18±0.65 11.39±0.77 63.58±0.37 27.98±0.34 44.96±2.41 26.29±1.40
supervised   agem      82.41±1.24 13.82±1.27 59.81±1.07 30.08±0.91 60.45±0.24 24.94±1.24
supervised   gss       89.49±1.75 7.50±1.52  70.78±1.67 21.28±1.52 70.96±0.72 14.76±1.22
supervised   der       91.35±0.46 5.65±0.35  79.52±1.88 12.80±1.47 68.03±0.85 17.74±0.65
supervised   multitask 97.77±0.15 -          93.89±0.78 -          91.79±0.46 -
simsiam      finetune  90.11±0.12 5.42±0.08  75.42±0.78 10.19±0.37 71.07±0.20 9.48±0.56
simsiam      pnn       90.93±0.22 -          66.58±1.00 -          62.15±1.35 -
simsiam      si        92.75±0.06 1.81±0.21  80.08±1.30 5.54±1.30  72.34±0.42 8.26±0.64
simsiam      der       91.22±0.30 4.63±0.26  77.27±0.30 9.31±0.09  71.90±1.44 8.36±2.06
simsiam      lump      91.00±0.40 2.92±0.53  82.30±1.35 4.71±1.52  76.66±2.39 3.54±1.04
simsiam      multitask 95.76±0.08 -          86.31±0.38 -          82.89±0.49 -
barlow_twins finetune  87.72±0.32 4.08±0.56  71.97±0.54 9.45±1.01  66.28±1.23 8.89±0.66
barlow_twins pnn       87.52±0.33 -          57.93±2.98 -          48.70±2.59 -
barlow_twins si        90.21±0.08 2.03±0.22  75.04±0.63 7.43±0.67  56.96±1.48 17.04±0.89
barlow_twins der       88.67±0.24 2.41±0.26  73.48±0.53 7.98±0.29  68.56±1.47 7.87±0.44
barlow_twins lump      90.31±0.30 1.13±0.18  80.24±1.04 3.53±0.83  72.17±0.89 2.43±1.00
barlow_twins multitask 95.48±0.14 -          87.16±0.52 -          82.42±0.74 -
"""


def table_1(method):
    """Returns the six cells of Table 1 for each objective of a method."""
    rows = [line.split() for line in TABLE_1.split("\n") if line]
    return {objective: cells for objective, name, *cells in rows if name == method}


@pytest.mark.parametrize("name", RECIPES)
def test_docstrings_state_command_and_numbers(name):
    text = RECIPES[name].__doc__
    assert f"python launch.py --config=configs/{name}.py" in text
    for command in re.findall(r"python launch.py --config=configs/(\S+)", text):
        recipe, _, arg = command.partition(":")
        assert recipe == f"{name}.py"
        RECIPES[name].get_config(*[arg][: bool(arg)])
    assert re.search(r"^Stores .+\.$", text, re.MULTILINE)
    if not table_1(name):
        assert "Not in the paper's tables" in text
        assert "±" not in text
        return
    assert text.split("3 seeds:")[1].split()[:3] == list(PAPER)
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if "±" in line}
    assert list(lines) == list(table_1(name))
    for objective, cells in table_1(name).items():
        expected = []
        for accuracy, forgetting in zip(cells[::2], cells[1::2]):
            expected += [accuracy, *(["/", forgetting] if forgetting != "-" else [])]
        assert lines[objective] == expected
