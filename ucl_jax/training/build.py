"""Makes the pure functions of a run from its config."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ucl_jax import augment
from ucl_jax.data.tasks import StreamSettings
from ucl_jax.errors import UsageError
from ucl_jax.evaluation.evaluators import Evaluation, KnnSettings
from ucl_jax.methods import METHODS, Method, Scenario
from ucl_jax.models.architectures import ARCHITECTURES
from ucl_jax.models.heads import MLP
from ucl_jax.objectives import OBJECTIVES, Augmentation, Objective
from ucl_jax.training.step import TrainStep, init_state, make_train_step
from ucl_jax.types import Array, Batch, TrainState

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Phase(NamedTuple):
    """Holds the pure functions of one phase of a run: the whole run, or one task where the architecture grows.

    objective: what is learned from one batch.
    method: how the past is kept.
    train_step: state, batch, key, span -> state, metrics; to be mapped over the axis that it was made for.
    """

    objective: Objective
    method: Method
    train_step: TrainStep


class Experiment(NamedTuple):
    """Holds the pure functions that a config describes, and the sources of all that is random.

    phases: one for all tasks, or one for each task. Their states have the same structure.
    init: a network to start from, or None for a fresh one -> the state before the first step.
    seed: decides the order of images, on the host.
    key: decides all that is random on the devices.
    """

    phases: tuple[Phase, ...]
    init: Callable[..., TrainState]
    seed: int
    key: Array

    @property
    def labelled(self) -> bool:
        """Tells whether the objective learns from labels, and so has a linear head."""
        return self.phases[0].objective.classes is not None

    def phase_index(self, task: int) -> int:
        """Returns the index in `phases` of the phase in which a task is learned.

        Task -1, the last task of the untrained network, counts as learned in the first phase.
        """
        return min(max(task, 0), len(self.phases) - 1)


def make_experiment(config, axis_name: str | None) -> Experiment:
    """Makes the pure functions of a run.

    Args:
      config: a config tree (`configs/base.py`) that has passed `settings.check`.
      axis_name: the axis of devices over which the train step will be mapped; None for one device.

    Raises:
      UsageError: the method does not work with the objective.
    """
    dtype = DTYPES[config.model.dtype]
    train, benchmark = config.train, config.benchmark
    scenario = Scenario(
        tasks=1 if benchmark.joint else benchmark.num_tasks,
        batch_size=train.batch_size,
        head=lambda hidden_dim: MLP(hidden_dim, dtype=dtype, axis_name=axis_name),
    )
    augmentation = make_augmentation(config)
    optimizer = optax.chain(
        optax.add_decayed_weights(train.weight_decay),
        optax.sgd(train.learning_rate * train.batch_size / 256, train.momentum),
    )

    def phase(architecture):
        objective = _make("objective", config, OBJECTIVES, architecture, augmentation, dtype=dtype, axis_name=axis_name)
        method = _make("method", config, METHODS, objective, scenario)
        return Phase(objective, method, make_train_step(objective, method, optimizer, axis_name))

    phases = tuple(map(phase, ARCHITECTURES[config.model.name](scenario.tasks, config.model.width, dtype, axis_name)))
    first = phases[0]
    init_key, key = jax.random.split(jax.random.key(config.seed))
    size = benchmark.image_size
    example = Batch(jnp.zeros((1, size, size, 3), jnp.uint8), jnp.zeros(1, jnp.int32), jnp.zeros(1, bool))

    @jax.jit
    def init(start=None):
        network = first.objective.init(init_key, example.image) if start is None else start
        return init_state(network, first.method, optimizer, example, jax.random.fold_in(init_key, 1))

    return Experiment(phases, init, config.seed, key)


def make_stream_settings(config) -> StreamSettings:
    """Reads from `config.benchmark` how the data set is cut into tasks."""
    return StreamSettings(**config.benchmark)


def make_evaluation(config) -> Evaluation:
    """Reads from `config.eval` how networks are evaluated."""
    e = config.eval
    knn = KnnSettings(k=e.knn_k, k_rule=e.knn_k_rule, temperature=e.knn_temperature)
    return Evaluation(tasks=e.tasks, knn=knn, batch_size=e.batch_size)


def make_augmentation(config) -> Augmentation:
    """Makes the views that `config.augment` describes, of `config.benchmark.image_size` pixels a side."""
    a, size = config.augment, config.benchmark.image_size
    paddings = {"resized": None, "padded": a.crop_padding}
    return Augmentation(
        present=augment.make_present_view(
            size,
            scale=a.crop_scale,
            padding=paddings[a.crop],
            flip=a.flip,
            jitter=a.jitter,
            jitter_p=a.jitter_p,
            gray_p=a.gray_p,
            blur_p=None if a.blur_p == -1 else a.blur_p,
            rounding=a.rounding,
            mean=a.mean,
            std=a.std,
        ),
        weak=augment.make_weak_view(
            size,
            scale=a.replay_crop_scale,
            padding=paddings[a.replay_crop],
            flip=a.flip,
            rounding=a.rounding,
            mean=a.replay_mean,
            std=a.replay_std,
        ),
        plain=augment.make_plain_view(a.mean, a.std),
    )


def _make(section: str, config, known: dict[str, Callable], *arguments, **keywords):
    """Makes the objective or method that a section of the config names, with the settings of that section."""
    own = dict(config[section])
    make = known[own.pop("name")]
    try:
        return make(*arguments, **keywords, **own)
    except ValueError as error:  # the maker does not know the names of the config
        raise UsageError(f"config.{section}: {error}") from error
