"""Config -> the pure functions of a run."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ucl_jax import augment
from ucl_jax.errors import UsageError, choose, require
from ucl_jax.methods import METHODS, Method
from ucl_jax.models.resnet import ResNet18
from ucl_jax.objectives import OBJECTIVES, Augmentation, Objective
from ucl_jax.train_step import init_state, make_train_step
from ucl_jax.types import Array, Batch, TrainState

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Experiment(NamedTuple):
    """The pure functions that a config describes, and the key that everything random is a function of.

    init: -> the state before the first step.
    train_step: state, batch, key -> state, metrics; to be mapped over `axis_name`.
    """

    objective: Objective
    method: Method
    init: Callable[[], TrainState]
    train_step: Callable[[TrainState, Batch, Array], tuple[TrainState, dict[str, Array]]]
    key: Array


def make_experiment(config, axis_name: str | None) -> Experiment:
    """The experiment of a config tree (`configs/base.py`).

    Raises:
      UsageError: an unknown objective, method or dtype, or a setting out of range.
    """
    dtype = choose("config.model.dtype", config.model.dtype, DTYPES)
    train = config.train
    require(train.epochs >= 1, f"config.train.epochs is {train.epochs}; it must be at least 1")
    require(train.batch_size >= 2, f"config.train.batch_size is {train.batch_size}; batch norm needs at least 2")
    require(config.model.width >= 1, f"config.model.width is {config.model.width}; it must be at least 1")

    backbone = ResNet18(config.model.width, dtype, axis_name)
    objective = choose("config.objective.name", config.objective.name, OBJECTIVES)(
        backbone, make_augmentation(config), dtype=dtype, axis_name=axis_name, **_settings(config.objective)
    )
    method = choose("config.method.name", config.method.name, METHODS)(objective, **_settings(config.method))
    optimizer = optax.chain(
        optax.add_decayed_weights(train.weight_decay),
        optax.sgd(train.learning_rate * train.batch_size / 256, train.momentum),
    )
    init_key, key = jax.random.split(jax.random.key(config.seed))
    size = config.benchmark.image_size
    example = Batch(jnp.zeros((1, size, size, 3), jnp.uint8), jnp.zeros(1, jnp.int32), jnp.zeros(1, bool))
    return Experiment(
        objective,
        method,
        init=jax.jit(lambda: init_state(init_key, objective, method, optimizer, example)),
        train_step=make_train_step(method, optimizer, axis_name),
        key=key,
    )


def make_augmentation(config) -> Augmentation:
    """The views of `config.augment` at `config.benchmark.image_size`.

    Raises:
      UsageError: a setting out of its range.
    """
    a, size = config.augment, config.benchmark.image_size
    augmentation = Augmentation(
        view=augment.simsiam_view(
            size,
            scale=a.crop_scale,
            flip=a.flip,
            jitter=a.jitter,
            jitter_p=a.jitter_p,
            gray_p=a.gray_p,
            blur_p=a.blur_p,
            mean=a.mean,
            std=a.std,
        ),
        replay_view=augment.replay_view(
            size, scale=a.replay_crop_scale, flip=a.flip, mean=a.replay_mean, std=a.replay_std
        ),
        eval_view=augment.eval_view(a.mean, a.std),
    )
    image = jnp.zeros((size, size, 3), jnp.uint8)
    try:
        for view in (augmentation.view, augmentation.replay_view):
            jax.eval_shape(view, jax.random.key(0), image)
        jax.eval_shape(augmentation.eval_view, image)
    except (ValueError, TypeError) as error:
        raise UsageError(f"config.augment: {error}") from error
    return augmentation


def _settings(section) -> dict:
    return {key: value for key, value in section.items() if key != "name"}
