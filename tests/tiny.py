"""Shrinks the recipes of `configs/` until a step takes milliseconds. A setting not named here is as in the recipe."""

import importlib

from ucl_jax import recipes
from ucl_jax.training import loop
from ucl_jax.training.build import make_evaluation, make_run_schedule

RECIPES = recipes.names()
SHRUNK = {
    "image_cache": "",
    "benchmark.num_tasks": 2,
    "benchmark.examples_per_task": 80,
    "benchmark.test_examples_per_task": 40,
    "model.width": 4,
    "objective.hidden_dim": 32,
    "objective.output_dim": 32,
    "train.epochs": 2,
    "train.batch_size": 16,
    "eval.batch_size": 64,
    "eval.knn_k": 5,
    "log.every_steps": 1,
    "checkpoint.every_steps": 3,
}


def overrides(**more) -> dict:
    """Returns SHRUNK with further settings, given as `section__name=value`."""
    return SHRUNK | {key.replace("__", "."): value for key, value in more.items()}


def config(recipe: str, arg: str = "digits", **more):
    """Returns the config tree of a recipe, shrunk."""
    tree = importlib.import_module(f"configs.{recipe}").get_config(arg)
    for key, value in overrides(**more).items():
        section, _, name = key.rpartition(".")
        (tree[section] if section else tree)[name] = value
    return tree


def train(config, experiment, compiled, stream, state, step=0, legs_done=0):
    """Yields the events of `loop.train` for a config, from any step of the run on."""
    schedule = make_run_schedule(config, stream.starts)
    return loop.train(experiment, compiled, stream, schedule, make_evaluation(config), state, step, legs_done)


def flags(**more) -> list[str]:
    """Returns the overrides as command-line flags."""
    return [f"--config.{key}={value}" for key, value in overrides(**more).items()]
