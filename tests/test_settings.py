"""Tests types and ranges of settings: the table of all settings, and 2,000 hostile overrides."""

import json
import math
import os
import pathlib
import random
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from configs.protocols import CASSLE_CIFAR, PROTOCOLS
from configs.streams import STREAMS
from tests import hostile
from tests.hostile import defaults
from tests.small import SPAN
from tests.test_configs import RECIPES
from tests.test_contract import FORBIDDEN
from ucl_jax import recipes, settings
from ucl_jax.buffers import BUFFERS
from ucl_jax.data import streams, tfds_source
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import UsageError
from ucl_jax.evaluation import accuracy_matrix, evaluators
from ucl_jax.evaluation.evaluators import EVALUATED
from ucl_jax.methods.rehearsal import COUNTED, REPLAYED
from ucl_jax.models import architectures
from ucl_jax.objectives import OBJECTIVES, STAGES
from ucl_jax.probes import PROBES
from ucl_jax.probes.embedding import PROJECTIONS
from ucl_jax.probes.linear import SOLVERS
from ucl_jax.probes.loss_landscape import LOSSES
from ucl_jax.training.build import DTYPES, make_experiment
from ucl_jax.types import Batch

ROOT = pathlib.Path(__file__).parent.parent
COMBINATIONS = [(r, b, o) for r in RECIPES for b in BENCHMARKS for o in OBJECTIVES]


def read(recipe, arg, **overrides):
    """Returns the config tree as launch.py reads it; keys have __ for dots."""
    pairs = (f"--config.{key.replace('__', '.')}={value}" for key, value in overrides.items())
    return recipes.read_config([f"--config={ROOT}/configs/{recipe}.py:{arg}", *pairs])


# The table.


def test_every_recipe_is_in_the_table_and_passes_and_no_entry_is_unused():
    used = set()
    for recipe, benchmark, objective in COMBINATIONS:
        config = RECIPES[recipe].get_config(f"{benchmark},{objective}")
        settings.check(config)
        settings.check(json.loads(config.to_json()))  # a stored run has lists for tuples
        used |= {(config.objective.name, config.method.name)}
        assert (
            settings.settings_of(config.objective.name, config.method.name).keys()
            == settings.flatten(config.to_dict()).keys()
        )
    assert used == {(o, m) for o in settings.OBJECTIVE_SETTINGS for m in settings.METHOD_SETTINGS}


def test_every_benchmark_passes_with_the_protocol_of_cassle():
    usual = settings.flatten(RECIPES["finetune"].get_config("digits").to_dict())
    for benchmark in BENCHMARKS:
        for objective in OBJECTIVES.keys() & CASSLE_CIFAR.keys():
            config = RECIPES["finetune"].get_config(f"{benchmark},{objective},cassle")
            settings.check(config)
            own = {key for key in usual if key.startswith("objective.")}
            assert settings.flatten(config.to_dict()).keys() >= usual.keys() - own


def test_every_benchmark_passes_with_every_stream():
    usual = settings.flatten(RECIPES["finetune"].get_config("digits").to_dict())
    for benchmark, facts in BENCHMARKS.items():
        for stream in STREAMS:
            if stream != "osiris" or facts.tfds_name == "cifar100":
                config = RECIPES["finetune"].get_config(f"{benchmark},simsiam,ucl,{stream}")
                settings.check(config)
                assert settings.flatten(config.to_dict()).keys() == usual.keys()


def test_every_probe_is_in_the_table_and_its_defaults_pass():
    assert settings.PROBE_SETTINGS.keys() == PROBES.keys()
    for name, own in settings.PROBE_SETTINGS.items():
        for key, setting in own.items():
            default = settings.PROBE_DEFAULTS[name][key]
            settings.check_value(f"{name}.{key}", setting, default)
            assert settings.read_value(f"{name}.{key}", setting, settings.words_of(default)) == default


def test_the_words_of_the_table_are_those_that_the_code_knows():
    def choices(entry):
        return set(entry.choices)

    config = settings.CONFIG
    assert choices(config["model.name"]) == set(architectures.ARCHITECTURES)
    assert choices(config["model.dtype"]) == set(DTYPES)
    assert choices(config["protocol"]) == set(PROTOCOLS)
    assert choices(config["stream.name"]) == set(STREAMS)
    assert choices(config["stream.blur_shape"]) == set(streams.BLURS)
    assert choices(config["stream.imbalance_shape"]) == set(streams.TAILS)
    assert choices(config["benchmark.fit"]) == set(tfds_source.FITS)
    assert choices(config["eval.tasks"]) == set(EVALUATED)
    assert choices(config["eval.knn_k_rule"]) == set(evaluators.K_RULES)
    assert choices(config["eval.forgetting"]) == set(accuracy_matrix.FORGETTING)
    # GSS alone has the scores that greedy needs, MinRed the features that min_red needs.
    assert {*settings.POLICIES, "greedy", "min_red"} == set(BUFFERS)
    assert choices(settings.REHEARSAL["replay_from"]) == set(REPLAYED)
    assert choices(settings.REHEARSAL["count"]) == set(COUNTED)
    probes = settings.PROBE_SETTINGS
    assert choices(probes["linear"]["solver"]) == set(SOLVERS)
    assert choices(probes["loss_landscape"]["loss"]) == set(LOSSES)
    assert choices(probes["embedding"]["method"]) == set(PROJECTIONS)
    assert choices(probes["feature_maps"]["stage"]) == set(STAGES)


@pytest.mark.parametrize("key", ["model.width", "augment.std", "log.wandb", "eval.tasks", "data_dir"])
def test_a_value_of_any_type_is_refused_by_its_key(key):
    section, _, name = key.rpartition(".")
    for value in (None, [], {}, (), 10**5000, math.nan, math.inf, b"x", object(), "\ud800", "a\0b", [[[]]]):
        tree = RECIPES["lump"].get_config("digits").to_dict()
        (tree[section] if section else tree)[name] = value
        with pytest.raises(UsageError, match=rf"tree\.{key}") as error:
            settings.check(tree, "tree")
        assert len(str(error.value)) < 200
        assert len(str(error.value).splitlines()) == 1


def test_a_tree_lacks_no_key_and_has_no_other():
    for section, key in [("train", "epochs"), ("method", "alpha"), ("objective", "name")]:
        tree = RECIPES["lump"].get_config("digits").to_dict()
        del tree[section][key]
        with pytest.raises(UsageError, match=rf"config\.{section}\.{key} is missing"):
            settings.check(tree)
    tree = RECIPES["lump"].get_config("digits").to_dict()
    with pytest.raises(UsageError, match=r"config\.train\.epoch, did you mean config\.train\.epochs\?"):
        settings.check({**tree, "train": {**tree["train"], "epoch": 3}})
    with pytest.raises(UsageError, match=r"config\.method holds the settings of another method than 'finetune'"):
        settings.check({**tree, "method": {**tree["method"], "name": "finetune"}})


# One override.


@pytest.mark.parametrize(
    ("recipe", "key", "value", "message"),
    [
        ("lump.py:digits", "augment.crop_scale", "(9,9,9,9)", "is (9, 9, 9, 9); it must be 2 values, each a number"),
        ("lump.py:digits", "augment.crop_scale", "(0.5,)", "is (0.5,); it must be 2 values"),
        ("lump.py:digits", "augment.crop_scale", "(0.9,0.1)", "first number must not be above the second"),
        ("lump.py:digits", "augment.std", "(1e300,1,1)", "is (1e+300, 1, 1); it must be"),
        ("lump.py:digits", "augment.std", "(0,1,1)", "is (0, 1, 1); it must be"),
        ("lump.py:digits", "augment.jitter", "(0.4,0.4,0.4)", "is (0.4, 0.4, 0.4); it must be 4 values"),
        ("lump.py:digits", "train.epochs", "1" + "0" * 30, "it must be a whole number from 0 to 1000000"),
        ("lump.py:digits", "train.epochs", "many", "is 'many'; it must be a whole number"),
        ("lump.py:digits", "train.devices", "", "is ''; it must be a whole number"),
        ("lump.py:digits", "seed", "1e3", "is '1e3'; it must be a whole number"),
        ("lump.py:digits", "seed", str(2**31), "it must be a whole number from 0 to 2147483647"),
        ("lump.py:digits", "model.width", "1000000000", "it must be a whole number from 1 to 512"),
        ("lump.py:digits", "train.learning_rate", "nan", "is nan; it must be a number"),
        ("lump.py:digits", "train.learning_rate", "0", "is 0.0; it must be a number"),
        ("lump.py:digits", "train", "3", "did you mean --config.train."),
        ("lump.py:digits", "train.epochs.real", "3", "did you mean --config.train.epochs?"),
        ("lump.py:digits", "lock", "3", "unknown key '--config.lock'"),
        ("lump.py:digits", "compilation_cache", "~nobody-of-that-name/x", "it must be a path"),
        ("lump.py:digits", "log.wandb", "maybe", "is 'maybe'; it must be True or False"),
        ("lump.py:digits,supervised", "augment.crop_padding", "9", "must not be above config.benchmark.image_size, 8"),
        ("lump.py:digits,supervised", "objective.classes", "3", "config.benchmark.classes_per_task ask for need 10"),
        ("pnn.py:cifar10", "benchmark.num_tasks", "101", "has at most 100"),
        ("lump.py:digits,simsiam", "model.name", "resnet18_group_norm", "needs a power of 2 from 4 on"),
        ("agem.py:digits", "method.buffer_size", "4", "each of 5 tasks needs a slot"),
        ("lump.py:digits", "stream.passes", "one", "config.train.epochs is 40; with"),
        ("lump.py:digits", "stream.snapshot_every", "256", "only config.stream.boundaries=hidden has snapshots"),
        ("agem.py:digits", "stream.boundaries", "hidden", "config.method.policy is 'equal_share'"),
        ("pnn.py:digits", "stream.boundaries", "hidden", "config.model.name is 'progressive'"),
        ("pnn.py:digits", "stream.evaluate_every", "64", "evaluated after each, set it to 0"),
        ("lump.py:digits", "benchmark.name", "cifar100", "but config.benchmark.tfds_name is 'digits'"),
    ],
)
def test_an_override_is_refused_in_a_line_that_names_its_key(recipe, key, value, message):
    with pytest.raises(UsageError) as error:
        recipes.read_config([f"--config=configs/{recipe}", f"--config.{key}={value}"])
    assert f"config.{key}" in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("train.learning_rate", "1", 1.0),
        ("augment.crop_scale", "(1,1)", (1, 1)),
        ("augment.crop_scale", "[0.5,1.0]", (0.5, 1.0)),
        ("log.wandb", "false", False),
        ("augment.blur_p", "-1", (-1,)),  # one value for both views
        ("augment.solarize_p", "0.1,0.2", (0.1, 0.2)),
        ("data_dir", "/data sets/größe", "/data sets/größe"),
        ("compilation_cache", "", ""),
        ("benchmark.test_split", "test[:50%]", "test[:50%]"),
    ],
)
def test_what_a_person_may_mean_is_taken(key, text, value):
    assert settings.flatten(read("lump", "digits", **{key: text}).to_dict())[key] == value


def test_other_forms_of_the_command_line():
    recipe = "--config=configs/lump.py:digits"
    config = recipes.read_config(
        [recipe, "--noconfig.log.tensorboard", "--config.seed", "7", "--config.benchmark.joint"]
    )
    assert (config.log.tensorboard, config.seed, config.benchmark.joint) == (False, 7, True)
    for words, message in [
        (["--config.seed"], "config.seed has no value"),
        (["--config.seed", "-1"], "config.seed is -1"),
        (["--noconfig.log.nothing"], "unknown key '--config.log.nothing'"),
        (["--config.protocol=cassle"], "config.protocol only names"),
        (["--config.stream.name=cla"], "config.stream.name only names .* fourth word"),
        (["--config.train={'epochs': 3}"], "config.train.batch_size is missing"),
    ]:
        with pytest.raises(UsageError, match=message):
            recipes.read_config([recipe, *words])


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("configs/base.py", "configs/base.py is not a recipe"),
        ("configs/benchmarks.py", "configs/benchmarks.py is not a recipe"),
        ("configs/__init__.py", "configs/__init__.py is not a recipe"),
        ("a" * 5000 + ".py", "there is no recipe"),
        ("configs", "there is no recipe"),
        ("", "there is no recipe"),
    ],
)
def test_what_is_no_recipe(recipe, message):
    with pytest.raises(UsageError, match=message):
        recipes.read_config([f"--config={recipe}"])


# 2,000 overrides.


def test_2000_overrides_are_refused_in_a_line_or_are_sensible():
    overrides = list(hostile.draw(2000, seed=13))
    answers = [hostile.judge(override) for override in overrides]
    wrong = [(override, failure) for override, (failure, _) in zip(overrides, answers) if failure]
    assert not wrong, wrong[:5]
    accepted = [(override, config) for override, (_, config) in zip(overrides, answers) if config is not None]
    assert 100 < len(accepted) < 600
    # For a few of the accepted configs the whole train step is traced.
    possible = [
        config
        for (recipe, arg, key, _), config in accepted
        if arg.startswith("digits") and key in EXTREMES and (recipe, config.objective.name) not in FORBIDDEN
    ]
    for config in random.Random(1).sample(possible, 2):
        trace(config)


def trace(config):
    """Traces the train step, which fails if an accepted config would fail later, whatever the size of its network."""
    experiment = make_experiment(config, None, "cpu")
    state = jax.eval_shape(experiment.init)
    batch, size = config.train.batch_size, config.benchmark.image_size
    shape = jax.ShapeDtypeStruct
    images = shape((batch, size, size, 3), jnp.uint8)
    examples = Batch(images, shape((batch,), jnp.int32), shape((batch,), bool))
    after, _ = jax.eval_shape(experiment.phases[0].train_step, state, examples, jax.eval_shape(jax.random.key, 0), SPAN)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)


# The least and the largest value of each setting that the train step is made of.
EXTREMES = {
    "augment.crop_padding": (0, 1024),
    "augment.crop_scale": ((1e-4, 1e-4), (1, 1)),
    "augment.flip": (0, 1),
    "augment.jitter": ((0, 0, 0, 0), (10, 10, 10, 0.5)),
    "augment.jitter_p": (0, 1),
    "augment.gray_p": (0, 1),
    "augment.blur_p": ((-1, -1), (1, 1)),
    "augment.solarize_p": ((0, 1), (1, 1)),
    "augment.interpolation": ("bilinear", "bicubic"),
    "augment.mean": ((-10, -10, -10), (10, 10, 10)),
    "augment.std": ((1e-3, 1e-3, 1e-3), (10, 10, 10)),
    "augment.replay_crop_scale": ((1e-4, 1e-4), (1, 1)),
    "augment.replay_mean": ((-10, -10, -10), (10, 10, 10)),
    "augment.replay_std": ((1e-3, 1e-3, 1e-3), (10, 10, 10)),
    "benchmark.num_tasks": (1, 2),  # more tasks would need more classes
    "benchmark.classes_per_task": (1, 100_000),
    "benchmark.image_size": (1, 1024),
    "model.name": ("resnet18", "resnet18_group_norm"),
    "model.width": (1, 512),
    "model.stem": ("cifar", "imagenet"),
    "model.stem_padding": (2, 1),
    "objective.hidden_dim": (1, 2**15),
    "objective.output_dim": (1, 2**15),
    "objective.predictor_dim": (1, 2**15),
    "objective.off_diagonal": (0, 1e3),
    "objective.classes": (1, 10**6),
    "method.alpha": (1e-3, 1e3),
    "method.beta": (0, 1e3),
    "method.buffer_size": (1, 2**20),
    "method.compare": (1, 2**16),
    "method.c": (0, 1e6),
    "method.xi": (1e-6, 1e3),
    "method.rate": (1e-9, 1e3),
    "method.clip": (0, 1e6),
    "train.batch_size": (2, 2**20),
    "train.optimizer": ("lars", "sgd"),
    "train.optimizer_state": ("keep", "restart"),
    "train.schedule": ("constant", "cosine"),
    "train.warmup_epochs": (0, 10**6),
    "train.warmup_start": (0, 1e3),
    "train.minimum_rate": (0, 1e3),
    "train.lars_eta": (1e-9, 1e3),
    "train.learning_rate": (1e-9, 1e3),
    "train.momentum": (0, 0.9999),
    "train.weight_decay": (0, 1),
}


@pytest.mark.parametrize(
    ("recipe", "objective", "crop", "end"),
    [
        ("lump", "simsiam", "resized", 0),
        ("si", "supervised", "padded", 1),
    ],
)
def test_the_ends_of_the_ranges_can_be_trained(recipe, objective, crop, end):
    keys = EXTREMES.keys() & defaults(recipe, f"digits,{objective}").keys()
    config = read(recipe, f"digits,{objective}", augment__crop=crop, **{key: EXTREMES[key][end] for key in keys})
    trace(config)


# Real processes.


@pytest.mark.parametrize(
    "override",
    ["benchmark.image_size=9223372036854775808", "seed=2147483648", "augment.crop_scale=(9,9,9,9)", "train.devices="],
)
def test_launch_leaves_with_2_and_a_line_and_nothing_behind(tmp_path, override):
    code = "import runpy, sys; sys.argv = sys.argv[1:]\ntry: runpy.run_path('launch.py', run_name='__main__')\n"
    code += "finally: assert 'jax' not in sys.modules"
    words = ["launch.py", "--config=configs/lump.py:digits", f"--workdir={tmp_path / 'run'}", f"--config.{override}"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert f"config.{override.partition('=')[0]} is " in done.stderr
    assert not list(tmp_path.iterdir())
