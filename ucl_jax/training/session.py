"""Makes from a config all that training needs, without a folder: functions, devices, tasks and a plan.

`run.py` carries a session out in a run folder. Other programs go over its events themselves.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ucl_jax import settings
from ucl_jax.cli import warn
from ucl_jax.data import memory
from ucl_jax.data.memory import AnyImages, Arrays
from ucl_jax.data.tasks import TaskStream, open_stream
from ucl_jax.errors import require, usage_errors
from ucl_jax.evaluation import evaluators
from ucl_jax.interop import torch_weights
from ucl_jax.training import parallel, unlabelled
from ucl_jax.training.build import (
    Experiment,
    RunSettings,
    check_batches,
    make_experiment,
    make_run_schedule,
    make_run_settings,
    make_stream_settings,
    resolve,
)
from ucl_jax.training.loop import Event, MatrixRows, probe, task_features, train
from ucl_jax.training.parallel import Parallel
from ucl_jax.training.schedule import Schedule
from ucl_jax.types import TrainState, Variables


class Session(NamedTuple):
    """A run that is ready to be trained; made by `open_session`.

    Attributes:
      config: the whole config tree.
      settings: what it says beside the experiment and the data.
      devices: those on which the run is trained.
      experiment: the pure functions of the run.
      compiled: the compiled functions of each phase of the experiment.
      stream: the tasks, and the order in which their images come.
      schedule: the plan of the run.
      start: the network to start from; None for a fresh one.
    """

    config: ConfigDict
    settings: RunSettings
    devices: list[jax.Device]
    experiment: Experiment
    compiled: list[Parallel]
    stream: TaskStream
    schedule: Schedule
    start: Variables | None

    def init(self) -> TrainState:
        """Returns the state before the first step, on all devices."""
        return self.compiled[0].replicate(self.experiment.init(self.start))

    def train(self, state: TrainState | None = None, step: int = 0, legs_done: int = 0) -> Iterator[Event]:
        """Trains and evaluates one task after the other, and writes nothing.

        Args:
          state: the state after `step` steps, on all devices; None begins the run.
          step: the steps done in the whole run.
          legs_done: the number of legs trained, evaluated and closed; without `stream.evaluate_every` a leg is a task.

        Yields:
          StepsDone after every step (or several of one call), Evaluating before the features of each task, LegDone
          after every leg, with a row for each accuracy matrix or, where it is not evaluated, None. The state in an
          event is valid until the next one is asked for; `jax.device_get` keeps a copy.
        """
        state = self.init() if state is None else state
        evaluation = self.settings.evaluation
        return train(self.experiment, self.compiled, self.stream, self.schedule, evaluation, state, step, legs_done)

    def untrained(
        self, before_task: Callable[[], object] = lambda: None
    ) -> tuple[MatrixRows | None, unlabelled.Measured | None]:
        """Evaluates the network before training, to compare with.

        Args:
          before_task: called before the features of each task.

        Returns:
          A probe's name -> its row of the accuracy matrix, None where images have no labels; and what is measured
          without labels, None where they have.
        """
        evaluation, stream = self.settings.evaluation, self.stream
        network = self.experiment.init().network
        if not stream.labelled:
            objective = self.experiment.phases[0].objective
            return None, unlabelled.measure(objective, network, stream, evaluation.batch_size)
        network, features = self.compiled[0].replicate(network), []
        for task in range(stream.num_tasks):
            before_task()
            features.append(
                task_features(self.experiment, self.compiled, stream, network, task, 0, evaluation.batch_size)
            )
        return probe(evaluation.knn, self.experiment, features, 0, stream.num_tasks, stream.classes), None

    def features(self, network: Variables, images: AnyImages, after: int | None = None) -> np.ndarray:
        """Computes the features of images by a network of the session, such as `event.state.network`.

        Args:
          network: on all devices.
          images: uint8 [N, H, W, 3], or a sequence of images, see `memory.check_images`; other sizes are resized
            as those of the data set are.
          after: the number of tasks that the network has learned; None for all. It matters only where the architecture
            grows.

        Returns:
          float32 [N, F], of the backbone.

        Raises:
          ValueError: they are no such images, or cannot be brought to the size that the network has learned.
        """
        b = self.config.benchmark
        phase = self.experiment.phase_index((b.num_tasks if after is None else after) - 1)
        return features_of(
            self.compiled[phase], network, images, b.image_size, b.fit, self.settings.evaluation.batch_size
        )


@contextlib.contextmanager
def open_session(config: ConfigDict, data: Arrays | None = None) -> Iterator[Session]:
    """Opens a session: prepares data and compiles functions for training without a folder.

    Leaving its `with` block ends the reading of data.

    Examples:
      >>> import numpy as np
      >>> import ucl_jax
      >>> images = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 3), np.uint8)
      >>> small = {"model.width": 4, "train.batch_size": 16, "train.epochs": 1, "benchmark.image_size": 8}
      >>> config = ucl_jax.make_config("lump:folder", small | {"benchmark.num_tasks": 2, "eval.batch_size": 64})
      >>> with ucl_jax.open_session(config, ucl_jax.Arrays(images)) as session:
      ...     for event in session.train():
      ...         if isinstance(event, ucl_jax.LegDone):
      ...             print(event.step, session.features(event.state.network, images).shape)
      3 (80, 32)
      6 (80, 32)

    Args:
      config: a config tree, such as that of `make_config`.
      data: images in memory, to be trained on instead of a data set; the benchmark is `folder` then.

    Raises:
      UsageError: a setting is bad, or data are missing.
    """
    settings.check(config)
    with open_resolved(resolve(config, data), data) as session:
        yield session


@contextlib.contextmanager
def open_resolved(
    config: ConfigDict, data: Arrays | None = None, mapping: str = "auto", begins: bool = True
) -> Iterator[Session]:
    """Opens the session of a config that `resolve` has returned, see `open_session`.

    Args:
      config: the config tree.
      data: images in memory, or None.
      mapping: what maps over devices, see `parallel.choose_mapping`.
      begins: whether the session begins a run, and so needs the network of `config.init_from`.
    """
    keep_compiled(config)
    with usage_errors("config.train."):
        devices = parallel.choose_devices(config.train.devices, config.train.batch_size)
    for key, size in (
        ("eval.batch_size", config.eval.batch_size),
        ("stream.replay_per_batch", config.stream.replay_per_batch),
    ):
        require(
            size % len(devices) == 0,
            f"config.{key} is {size}, which does not divide by the {len(devices)} devices; "
            f"give a multiple of {len(devices)}",
        )
    run_settings = make_run_settings(config)
    experiment = make_experiment(config, parallel.AXIS, devices[0].platform)
    with usage_errors("--"):
        compiled = parallel.compile_phases(experiment.phases, devices, mapping)
    start = None
    if begins and config.init_from:
        start = torch_weights.load(pathlib.Path(config.init_from).expanduser(), jax.eval_shape(experiment.init).network)
    with open_tasks(config, data=data) as stream:
        with usage_errors("config.train."):
            schedule = make_run_schedule(config, stream.starts)
        sizes = [period.batch_size for period in schedule.periods]
        check_batches(sizes, len(devices), experiment.phases[0].method.pairing)
        yield Session(config, run_settings, devices, experiment, compiled, stream, schedule, start)


def keep_compiled(config: ConfigDict) -> None:
    """Makes JAX keep compiled programs in the folder that a config names, and warns where it cannot."""
    parallel.keep_compiled(config.compilation_cache, lambda text: warn(f"config.compilation_cache: {text}"))


def open_tasks(config: ConfigDict, data_dir: str = "", data: Arrays | None = None, where: str = "") -> TaskStream:
    """Opens the tasks of a config.

    Args:
      config: the config tree, with its seed.
      data_dir: the folder of TFDS; "" takes that of the config.
      data: images in memory, or None.
      where: the file that the config comes from, for messages, with a colon behind it.

    Raises:
      UsageError: the data set is missing, or has fewer classes or images than the config asks for.
    """
    with usage_errors(f"{where}config.benchmark."):
        return open_stream(
            make_stream_settings(config), data_dir or config.data_dir, config.seed, config.image_cache, data
        )


def features_of(
    compiled: Parallel, network: Variables, images: AnyImages, size: int, fit: str, batch_size: int
) -> np.ndarray:
    """Computes the features of images of any size.

    Args:
      compiled: the functions of the phase in which the network learned its last task.
      network: on all devices.
      images: uint8 [N, H, W, 3], or a sequence of images, see `memory.check_images`.
      size: pixels a side, that the network has learned.
      fit: how the data set was brought to that size; where it had the size already, other images are resized.
      batch_size: at most so many images are shown at once; a multiple of the number of devices. Fewer images make a
        smaller batch, a power of two on each device, so that there are few programs to compile.

    Returns:
      float32 [N, F], of the backbone.

    Raises:
      ValueError: see `memory.fitted`.
    """
    arrays = memory.fitted(images, size, "resize" if fit == "none" else fit)
    devices = compiled.sharding.num_devices
    each = 1 << (-(-len(arrays) // devices) - 1).bit_length()
    show = partial(compiled.features, network)
    return evaluators.extract(show, arrays, min(batch_size, each * devices)).features
