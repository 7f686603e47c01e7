"""The recipes: the paper's settings, strict arguments, a locked tree."""

import pathlib

import pytest

from configs import base, finetune, lump, multitask
from ucl_jax import cli
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import UsageError
from ucl_jax.methods import METHODS
from ucl_jax.objectives import OBJECTIVES

RECIPES = {"lump": lump, "finetune": finetune, "multitask": multitask}


# The table "Hyperparameters" of shared/reference/paper.md, which gives paper or official code for each.
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
        "alpha": alpha,
        "replay_pair": "frozen",
        "mix_with": "buffer",
        "mix_per": "batch",
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
    assert config.model.width == 64
    augment = config.augment
    assert (augment.crop_scale, augment.flip, augment.jitter) == ((0.2, 1.0), 0.5, (0.4, 0.4, 0.4, 0.1))
    assert (augment.jitter_p, augment.gray_p, augment.blur_p) == (0.8, 0.2, -1.0)  # -1: test_augment
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


def test_recipes_differ_in_their_method_only():
    assert finetune.get_config("cifar10").method.to_dict() == {"name": "finetune"}
    joint = multitask.get_config("cifar10")
    assert joint.method.to_dict() == {"name": "finetune"}
    assert joint.benchmark.joint is True
    assert joint.recipe == "multitask"
    for section in ("augment", "model", "objective", "train", "eval"):
        assert joint[section] == lump.get_config("cifar10")[section] == finetune.get_config("cifar10")[section]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_combination_is_a_locked_config(recipe, benchmark, objective):
    config = RECIPES[recipe].get_config(f"{benchmark},{objective}")
    assert config.is_locked
    with pytest.raises(AttributeError, match="epochs"):
        config.train.epoch = 3
    assert config.method.name in METHODS
    assert set(config.benchmark) >= set(BENCHMARKS[benchmark]._fields) - {"mean", "std", "replay_mean", "replay_std"}


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("cifar", "unknown benchmark 'cifar', did you mean 'cifar10'. known: cifar10, cifar100, tiny_imagenet, digits"),
        ("digits,byol", "unknown objective 'byol'; known: simsiam, barlow_twins"),
        ("digits,simsiam,lump", "has 3 words"),
    ],
)
def test_unknown_words_list_the_known_ones(arg, message):
    with pytest.raises(UsageError, match=message):
        lump.get_config(arg)


def test_keys_are_named_by_their_path():
    assert cli.keys({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == ["a", "b.c", "b.d.e"]


def test_docstrings_state_command_and_numbers():
    for name, recipe in RECIPES.items():
        assert f"python launch.py --config=configs/{name}.py" in recipe.__doc__
        assert "±" in recipe.__doc__
    files = {path.stem for path in pathlib.Path(base.__file__).parent.glob("*.py")} - {"__init__", "base"}
    assert files == set(RECIPES)
