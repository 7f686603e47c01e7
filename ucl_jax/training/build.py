"""Reads the config of a run: makes from it the pure functions of the run, and the records that other modules take.

Here, in `session.py` and in `run.py` a config is read. What these call takes values, and does not know the names of
keys.
"""

import copy
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from ucl_jax import augment, settings
from ucl_jax.data import folder
from ucl_jax.data.memory import Arrays
from ucl_jax.data.tasks import StreamSettings, classes_used
from ucl_jax.errors import require, usage_errors
from ucl_jax.evaluation.evaluators import Evaluation, KnnSettings
from ucl_jax.methods import METHODS, Method, Scenario
from ucl_jax.models import resnet
from ucl_jax.models.architectures import ARCHITECTURES
from ucl_jax.models.heads import MLP
from ucl_jax.objectives import OBJECTIVES, Augmentation, Objective
from ucl_jax.training import online_linear, optimizers
from ucl_jax.training.schedule import Schedule, make_schedule, period_sizes
from ucl_jax.training.step import TrainStep, init_state, make_train_step
from ucl_jax.types import Array, Batch, TrainState

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Phase(NamedTuple):
    """Holds the pure functions of one phase of a run: the whole run, or one task where the architecture grows.

    Attributes:
      objective: what is learned from one batch.
      method: how the past is kept.
      train_step: state, batch, key, span -> state, metrics; to be mapped over the axis that it was made for. If there
        is an online linear probe, the batch is a `Probed`.
    """

    objective: Objective
    method: Method
    train_step: TrainStep


class Experiment(NamedTuple):
    """Holds the pure functions that a config describes, and the sources of all that is random.

    Attributes:
      phases: one for all tasks, or one for each task. Their states have the same structure.
      init: a network to start from, or None for a fresh one -> the state before the first step.
      seed: decides the order of images, on the host.
      key: decides all that is random on the devices.
      online: whether the train step trains an online linear probe, too.
    """

    phases: tuple[Phase, ...]
    init: Callable[..., TrainState]
    seed: int
    key: Array
    online: bool = False

    @property
    def labelled(self) -> bool:
        """Tells whether the objective learns from labels, and so has a linear head."""
        return self.phases[0].objective.classes is not None

    def phase_index(self, task: int) -> int:
        """Returns the index in `phases` of the phase in which a task is learned.

        Task -1, the last task of the untrained network, counts as learned in the first phase.
        """
        return min(max(task, 0), len(self.phases) - 1)


class CheckpointSettings(NamedTuple):
    """Holds what a run saves, and when; the names are those of `config.checkpoint`.

    Attributes:
      every_steps: the steps between checkpoints.
      every_minutes: a checkpoint is also saved when so many minutes have passed since the last; 0 saves by steps only.
      keep: the number of checkpoints that are kept, the last ones.
      networks: whether the network after each task is kept, for probes.
    """

    every_steps: int
    every_minutes: float
    keep: int
    networks: bool


class LogSettings(NamedTuple):
    """Holds how often and where a run writes its metrics; the names are those of `config.log`.

    Attributes:
      every_steps: the steps between entries.
      tensorboard: whether entries are also written for TensorBoard.
      wandb: whether entries are also written to Weights & Biases.
    """

    every_steps: int
    tensorboard: bool
    wandb: bool


class RunSettings(NamedTuple):
    """Holds how a run is carried out: all that a config says beside the experiment and the data.

    Attributes:
      epochs: passes over each period.
      replay_per_batch: the number of stored examples that a step recalls; 0 is as many as the batch has.
      evaluation: how networks are evaluated.
      forgetting: the definition of forgetting that is recorded after each task, a name in `accuracy_matrix.FORGETTING`.
      random_init: whether the untrained network is evaluated too.
      checkpoint: what is saved, and when.
      log: how often and where metrics are written.
    """

    epochs: int
    replay_per_batch: int
    evaluation: Evaluation
    forgetting: str
    random_init: bool
    checkpoint: CheckpointSettings
    log: LogSettings


def resolve(config: ConfigDict, data: Arrays | None = None) -> ConfigDict:
    """Returns the config of a run with what a folder of images tells: its whole path, and how many tasks it makes.

    Images in memory tell the same. The config of a run on a TFDS data set is returned as it is.

    Raises:
      UsageError: there is no folder, or it has too few sub-folders, or no images for evaluation were asked for; or
        images in memory are given beside another data set.
    """
    b = config.benchmark
    if b.tfds_name:
        require(
            data is None,
            f"data is given, but config.benchmark is {b.name!r}; take the benchmark folder, as in lump:folder",
        )
        return config
    path, folders, validation_path = b.path, b.folders, b.validation_path
    cut = b.num_tasks, b.classes_per_task, config.stream.order != "class"
    if data is None:
        require(path != "", "config.benchmark.path is empty; give your folder of images, --config.benchmark.path=DIR")
        with usage_errors("config.benchmark."):
            counts = folder.count_tasks(os.path.expanduser(path), folders, *cut)
        path, validation_path = (one and os.path.abspath(os.path.expanduser(one)) for one in (path, validation_path))
    else:
        require(
            path in ("", data.path) and validation_path == "",
            "data is given, and so is config.benchmark.path or validation_path; give one of them",
        )
        path, folders = data.path, data.folders
        with usage_errors("config.benchmark."):
            counts = data.count_tasks(*cut)
    require(
        validation_path != "" or b.validation_fraction > 0,
        "config.benchmark.validation_fraction is 0; give a part of the images for evaluation, or "
        "config.benchmark.validation_path",
    )
    resolved = copy.deepcopy(config)
    resolved.benchmark.update(
        path=path,
        folders=folders,
        validation_path=validation_path,
        validation_fraction=0.0 if validation_path else b.validation_fraction,
        num_tasks=counts[0],
        classes_per_task=counts[1],
    )
    settings.check(resolved)
    return resolved


def make_experiment(config: ConfigDict, axis_name: str | None, platform: str) -> Experiment:
    """Makes the pure functions of a run.

    Args:
      config: a config tree (`configs/base.py`) that has passed `settings.check`.
      axis_name: the axis of devices over which the train step will be mapped; None for one device.
      platform: of these devices, as in `jax.Device.platform`; it is not asked of JAX, so that programs can be made for
        devices that are not here.

    Raises:
      UsageError: the method does not work with the objective, or with the stream.
    """
    dtype = DTYPES[config.model.dtype]
    benchmark = config.benchmark
    batch_size, stream = config.train.batch_size, config.stream
    scenario = Scenario(
        tasks=1 if benchmark.joint or stream.boundaries == "hidden" else benchmark.num_tasks * stream.repeat,
        batch_size=batch_size,
        replayed=stream.replay_per_batch or batch_size,
        head=lambda hidden_dim: MLP(hidden_dim, dtype=dtype, axis_name=axis_name),
    )
    augmentation = make_augmentation(config)
    optimizer = make_optimizer(config, config.train.learning_rate, config.train.weight_decay)
    online = config.eval.online_linear != "none"
    probe_optimizer = make_optimizer(config, config.eval.online_linear_rate, weight_decay=0.0)
    classes = np.sort(classes_used(make_stream_settings(config)))

    def phase(architecture):
        objective = _make("objective", config, OBJECTIVES, architecture, augmentation, dtype=dtype, axis_name=axis_name)
        objective = Objective(*(at_precision(x) if callable(x) else x for x in objective))
        method = _make("method", config, METHODS, objective, scenario)
        _check_stream(config, method)
        train_step = make_train_step(
            objective,
            method,
            optimizer,
            axis_name,
            updates_per_batch=stream.updates_per_batch,
            replay_per_batch=0 if method.pairing else stream.replay_per_batch,
        )
        if online:
            train_step = online_linear.with_online_linear(
                train_step,
                objective,
                augmentation,
                classes,
                probe_optimizer,
                in_training_mode=config.eval.online_linear == "in_training_mode",
                axis_name=axis_name,
            )
        return Phase(objective, method, at_precision(train_step))

    at_precision = jax.default_matmul_precision(config.model.matmul_precision)  # where a product has none of its own
    m = config.model
    architectures = ARCHITECTURES[m.name](scenario.tasks, m.width, dtype, axis_name, platform, make_stem(config))
    phases = tuple(map(phase, architectures))
    first = phases[0]
    init_key, key = jax.random.split(jax.random.key(config.seed))
    size = benchmark.image_size
    example = Batch(jnp.zeros((1, size, size, 3), jnp.uint8), jnp.zeros(1, jnp.int32), jnp.zeros(1, bool))

    @jax.jit
    def init(start=None):
        network = first.objective.init(init_key, example.image) if start is None else start
        state = init_state(network, first.method, optimizer, example, jax.random.fold_in(init_key, 1))
        if not online:
            return state
        features = jax.eval_shape(first.objective.features, network, example.image).features.shape[-1]
        probe_key = jax.random.fold_in(init_key, 2)
        return state.replace(online=online_linear.init(probe_key, features, len(classes), probe_optimizer))

    return Experiment(phases, init, config.seed, key, online)


def _check_stream(config: ConfigDict, method: Method) -> None:
    """Checks that a method can go over a stream as `config.stream` says; raises UsageError."""
    stream, name, replayed = config.stream, config.method.name, config.stream.replay_per_batch
    told = stream.boundaries == "known" or stream.snapshot_every > 0
    require(
        told or not method.needs_boundaries,
        f"config.stream.boundaries is 'hidden', but {name} {method.needs_boundaries}; give the interval of boundaries "
        "in images by config.stream.snapshot_every, or take boundaries=known or another method",
    )
    require(
        not replayed or method.stored is not None,
        f"config.stream.replay_per_batch is {replayed}, but {name} stores no examples; set it to 0",
    )
    require(
        not method.pairing or replayed in (0, config.train.batch_size),
        f"config.stream.replay_per_batch is {replayed}, but {name} pairs stored examples with those of the batch, "
        f"which are {config.train.batch_size}; set it to 0",
    )


def make_run_settings(config: ConfigDict) -> RunSettings:
    """Reads how a run is carried out, from several sections of the config."""
    return RunSettings(
        epochs=config.train.epochs,
        replay_per_batch=config.stream.replay_per_batch,
        evaluation=make_evaluation(config),
        forgetting=config.eval.forgetting,
        random_init=config.eval.random_init,
        checkpoint=CheckpointSettings(**config.checkpoint),
        log=LogSettings(**config.log),
    )


def make_run_schedule(config: ConfigDict, starts: np.ndarray) -> Schedule:
    """Plans the run of a config over a stream; `starts` are those of its training tasks, see `TaskStream`.

    Raises:
      ValueError: there are more steps than a run can count.
    """
    t, s = config.train, config.stream
    return make_schedule(
        period_sizes(np.diff(starts).tolist(), s.boundaries, s.snapshot_every),
        t.epochs,
        t.batch_size,
        t.last_batch,
        t.steps_per_call,
        updates_per_batch=s.updates_per_batch,
        in_order=s.passes == "one",
        evaluate_every=s.evaluate_every,
    )


def make_optimizer(
    config: ConfigDict, learning_rate: float, weight_decay: float
) -> optax.GradientTransformationExtraArgs:
    """Makes an optimiser of the kind and with the schedule that `config.train` describes; its `update` takes the clock.

    Args:
      config: the config tree of a run.
      learning_rate: the highest, at batch 256; it is scaled by the batch size.
      weight_decay: at least 0.
    """
    t = config.train
    highest = learning_rate * t.batch_size / 256
    rates = {
        "constant": lambda: optimizers.constant(highest),
        "cosine": lambda: optimizers.warmup_cosine(highest, t.warmup_epochs, t.warmup_start, t.minimum_rate),
    }
    common = rates[t.schedule](), t.momentum, weight_decay
    makers = {
        "sgd": lambda: optimizers.sgd(*common),
        "lars": lambda: optimizers.lars(*common, eta=t.lars_eta, clip=t.lars_clip, exclude_1d=t.lars_exclude_1d),
    }
    optimizer = makers[t.optimizer]()
    return {"keep": lambda made: made, "restart": optimizers.restarted}[t.optimizer_state](optimizer)


def make_stream_settings(config: ConfigDict) -> StreamSettings:
    """Reads from `config.benchmark` and `config.stream` the tasks and their order."""
    s = config.stream
    return StreamSettings(
        **config.benchmark,
        order=s.order,
        imbalance=s.imbalance,
        imbalance_shape=s.imbalance_shape,
        repeat=s.repeat,
        blur=s.blur,
        blur_shape=s.blur_shape,
        correlation=s.correlation,
    )


def make_evaluation(config: ConfigDict) -> Evaluation:
    """Reads from `config.eval` how networks are evaluated."""
    e = config.eval
    knn = KnnSettings(e.knn_k, e.knn_k_rule, e.knn_temperature, e.knn_search)
    return Evaluation(tasks=e.tasks, knn=knn, batch_size=e.batch_size)


def make_augmentation(config: ConfigDict) -> Augmentation:
    """Makes the views that `config.augment` describes, of `config.benchmark.image_size` pixels a side."""
    a, size = config.augment, config.benchmark.image_size
    paddings = {"resized": None, "padded": a.crop_padding}

    def each_view(setting):  # one value for both views, or two
        return setting[0], setting[-1]

    return Augmentation(
        present=augment.make_present_view(
            size,
            scale=a.crop_scale,
            padding=paddings[a.crop],
            flip=a.flip,
            jitter=a.jitter,
            jitter_p=a.jitter_p,
            gray_p=a.gray_p,
            blur_p=tuple(None if p == -1 else p for p in each_view(a.blur_p)),
            solarize_p=each_view(a.solarize_p),
            interpolation=a.interpolation,
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


def make_stem(config: ConfigDict) -> resnet.Stem:
    """Reads from `config.model` how the network begins."""
    m = config.model
    return {"cifar": resnet.CIFAR._replace(padding=m.stem_padding), "imagenet": resnet.IMAGENET}[m.stem]


def check_batches(sizes: Sequence[int], devices: int, pairing: int = 0) -> None:
    """Checks that the training batches of a run can be split over its devices, and normalised.

    A task that is smaller than `config.train.batch_size` is one batch, as large as the task. So this can be checked
    only when the data set is open.

    Args:
      sizes: the images in a batch of each task.
      devices: the number of devices.
      pairing: see `Method`.

    Raises:
      UsageError: a batch has one image, or does not divide by the number of devices, or a device's part of it is not a
        whole number of groups of `pairing` images.
    """
    for task, size in enumerate(sizes, start=1):
        require(
            size >= 2,
            f"task {task} has {size} training image, and batch norm needs at least 2; choose another "
            "config.benchmark.examples_per_task or config.benchmark.train_split",
        )
        require(
            size % devices == 0,
            f"task {task} is one batch of {size} images, which does not divide by the {devices} devices; set "
            "config.train.devices, or choose another config.benchmark.examples_per_task",
        )
        require(
            devices == 1 or size // devices % max(pairing, 1) == 0,
            f"a batch of task {task} has {size // devices} images on each of {devices} devices, but "
            f"config.method.replay_share pairs images in groups of {pairing}; set config.train.devices=1, or choose "
            "another config.train.batch_size or config.method.replay_share",
        )


def _make(section: str, config: ConfigDict, known: dict[str, Callable], *arguments, **keywords) -> Any:
    """Makes the objective or method that a section of the config names, with the settings of that section."""
    own = dict(config[section])
    make = known[own.pop("name")]
    with usage_errors(f"config.{section}: "):
        return make(*arguments, **keywords, **own)
