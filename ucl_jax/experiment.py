"""Config -> the pure functions of a run."""

import functools
import inspect
import math
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ucl_jax import augment
from ucl_jax.architectures import ARCHITECTURES
from ucl_jax.errors import UsageError, choose, require
from ucl_jax.methods import METHODS, Method, Scenario
from ucl_jax.objectives import OBJECTIVES, Augmentation, Objective
from ucl_jax.train_step import init_state, make_train_step
from ucl_jax.types import Array, Batch, PyTree, TrainState

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Stage(NamedTuple):
    """The pure functions of one stage of a run: all of it, or a task of an architecture that grows.

    train_step: state, batch, key -> state, metrics; to be mapped over the axis it was made for.
    """

    objective: Objective
    method: Method
    train_step: Callable[[TrainState, Batch, Array], tuple[TrainState, dict[str, Array]]]


class Experiment(NamedTuple):
    """The pure functions that a config describes, and the key that everything random is a function of.

    stages: one for all tasks, or one for each; their states have one structure.
    init: params and model_state to start from, or None for fresh ones -> the state before the first step.
    """

    stages: tuple[Stage, ...]
    init: Callable[[tuple[PyTree, PyTree] | None], TrainState]
    key: Array

    @property
    def labelled(self) -> bool:
        """Whether the objective has a linear head."""
        return self.stages[0].objective.classes is not None

    def stage(self, task: int) -> int:
        """The number of the stage in which a task is learned; a task before the first (-1) belongs to the first."""
        return min(max(task, 0), len(self.stages) - 1)


def make_experiment(config, axis_name: str | None) -> Experiment:
    """The experiment of a config tree (`configs/base.py`).

    Raises:
      UsageError: an unknown objective, method, architecture or dtype, or a setting out of range.
    """
    dtype = choose("config.model.dtype", config.model.dtype, DTYPES)
    train, benchmark = config.train, config.benchmark
    require(train.batch_size >= 2, f"config.train.batch_size is {train.batch_size}; batch norm needs at least 2")
    at_least(
        config, {"seed": 0, "train.epochs": 0, "train.weight_decay": 0, "model.width": 1, "benchmark.image_size": 1}
    )
    require(config.seed < 2**31, f"config.seed is {config.seed}; it must be below 2**31")
    at_least(config, {"benchmark.num_tasks": 1, "benchmark.classes_per_task": 1})
    at_least(config, {f"objective.{key}": 1 for key in config.objective if key.endswith("_dim")})
    at_least(config, {f"objective.{key}": 0 for key in config.objective if key == "off_diagonal"})
    require(train.learning_rate > 0, f"config.train.learning_rate is {train.learning_rate}; it must be above 0")
    require(0 <= train.momentum < 1, f"config.train.momentum is {train.momentum}; it must be in [0, 1)")

    make_architecture = choose("config.model.name", config.model.name, ARCHITECTURES)
    scenario = Scenario(1 if benchmark.joint else benchmark.num_tasks, train.batch_size)
    augmentation = make_augmentation(config)
    optimizer = optax.chain(
        optax.add_decayed_weights(train.weight_decay),
        optax.sgd(train.learning_rate * train.batch_size / 256, train.momentum),
    )

    def stage(architecture):
        objective = _make("objective", config, OBJECTIVES, architecture, augmentation, dtype=dtype, axis_name=axis_name)
        method = _make("method", config, METHODS, objective, scenario)
        return Stage(objective, method, make_train_step(method, optimizer, axis_name, objective.active))

    stages = tuple(map(stage, make_architecture(scenario.tasks, config.model.width, dtype, axis_name)))
    first, needed = stages[0], benchmark.num_tasks * benchmark.classes_per_task
    require(
        first.objective.classes is None or first.objective.classes >= needed,
        f"config.objective.classes is {first.objective.classes}, but the tasks have {needed} classes",
    )
    init_key, key = jax.random.split(jax.random.key(config.seed))
    size = benchmark.image_size
    example = Batch(jnp.zeros((1, size, size, 3), jnp.uint8), jnp.zeros(1, jnp.int32), jnp.zeros(1, bool))

    @jax.jit
    def init(start=None):
        params, model_state = first.objective.init(init_key, example.image) if start is None else start
        return init_state(params, model_state, first.method, optimizer, example)

    return Experiment(stages, init, key)


def at_least(config, bounds: dict[str, float]) -> None:
    """Raises UsageError for the first of the keys whose value is below its bound."""
    for key, bound in bounds.items():
        value = functools.reduce(operator.getitem, key.split("."), config)
        require(value >= bound, f"config.{key} is {value}; it must be at least {bound}")


def make_augmentation(config) -> Augmentation:
    """The views of `config.augment` at `config.benchmark.image_size`.

    Raises:
      UsageError: a setting out of its range.
    """
    a, size = config.augment, config.benchmark.image_size
    paddings = {"resized": None, "padded": a.crop_padding}
    padding = choose("config.augment.crop", a.crop, paddings)
    replay_padding = choose("config.augment.replay_crop", a.replay_crop, paddings)
    choose("config.augment.rounding", a.rounding, augment.ROUNDING)
    for key in ("std", "replay_std"):
        require(min(a[key], default=0) > 0, f"config.augment.{key} is {a[key]}; its numbers must be above 0")
    augmentation = Augmentation(
        view=augment.simsiam_view(
            size,
            scale=a.crop_scale,
            padding=padding,
            flip=a.flip,
            jitter=a.jitter,
            jitter_p=a.jitter_p,
            gray_p=a.gray_p,
            blur_p=None if a.blur_p == -1 else a.blur_p,
            rounding=a.rounding,
            mean=a.mean,
            std=a.std,
        ),
        replay_view=augment.replay_view(
            size,
            scale=a.replay_crop_scale,
            padding=replay_padding,
            flip=a.flip,
            rounding=a.rounding,
            mean=a.replay_mean,
            std=a.replay_std,
        ),
        eval_view=augment.eval_view(a.mean, a.std),
    )
    image = jnp.zeros((size, size, 3), jnp.uint8)
    try:
        for view in (augmentation.view, augmentation.replay_view):
            jax.eval_shape(view, jax.random.key(0), image)
        jax.eval_shape(augmentation.eval_view, image)
    except (ValueError, TypeError, IndexError) as error:
        raise UsageError(f"config.augment: {error}") from error
    return augmentation


def _make(section: str, config, known: dict[str, Callable], *arguments, **keywords):
    """The objective or method that a section of the config names, made with the settings of that section."""
    settings = dict(config[section])
    name = settings.pop("name")
    for key, value in settings.items():
        require(value not in (math.inf, -math.inf), f"config.{section}.{key} is {value}; it must be finite")
    make = choose(f"config.{section}.name", name, known)
    try:
        inspect.signature(make).bind(*arguments, **keywords, **settings)
    except TypeError as error:
        raise UsageError(
            f"config.{section} holds the settings of another {section} than {name!r} ({error}); "
            "choose it by the recipe or its argument, not by its name alone"
        ) from None
    return make(*arguments, **keywords, **settings)
