"""Opens a run that was trained, for probes: its networks, its tasks, and the features of its images."""

import copy
import math
import os
import pathlib
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ucl_jax.data import folder
from ucl_jax.data.benchmarks import BENCHMARKS, Benchmark
from ucl_jax.data.decoded import Images
from ucl_jax.data.memory import AnyImages
from ucl_jax.data.tasks import StreamSettings, TaskStream, choose_test_images, open_stream
from ucl_jax.errors import UsageError, require, usage_errors, user_choice
from ucl_jax.evaluation import evaluators
from ucl_jax.interop.encoder_files import Shape
from ucl_jax.objectives import Objective, Readout
from ucl_jax.results.load import read_saved_config
from ucl_jax.training import parallel
from ucl_jax.training.build import (
    Experiment,
    make_evaluation,
    make_experiment,
    make_run_schedule,
    make_stem,
    make_stream_settings,
)
from ucl_jax.training.checkpoint import Networks
from ucl_jax.training.loop import task_features
from ucl_jax.training.session import features_of, keep_compiled, open_tasks
from ucl_jax.types import Variables


class TrainedRun:
    """A run that was trained: its networks, its tasks, and the features of its images.

    It is a context manager; leaving it ends the reading of data. Its methods take a network by the number of tasks that
    it has learned, `after`; 0 is the untrained network.

    Attributes:
      workdir: the run folder.
      data_dir: the folder of the TFDS data sets.
      networks: the saved networks.
      stream_settings: how the data set is cut into tasks.
      evaluation: how the run evaluated its networks.
      experiment: the pure functions of the run.
    """

    def __init__(self, workdir: pathlib.Path, data_dir: str = ""):
        """Opens the run in a folder.

        Args:
          workdir: the run folder.
          data_dir: the folder of the TFDS data sets; "" takes that of the run.

        Raises:
          UsageError: there is no run, it kept no networks, or its config makes no experiment.
        """
        path = workdir / "config.json"
        require(path.exists(), f"{workdir} is no run folder: it has no config.json")
        self.workdir = workdir
        # It is read here, and kept only to make the like of the run from it (`normalised_for`).
        self._config = ConfigDict(_tuples(read_saved_config(path)))
        self.data_dir = data_dir or self._config.data_dir
        keep_compiled(self._config)
        self.networks = Networks(workdir / "networks")
        require(
            bool(self.networks.afters()),
            f"{workdir / 'networks'} holds no network: the run has finished no task yet, or its "
            "config.checkpoint.networks is False",
        )
        self.stream_settings, self.evaluation = make_stream_settings(self._config), make_evaluation(self._config)
        self._devices = jax.local_devices()[: math.gcd(len(jax.local_devices()), self.evaluation.batch_size)]
        try:
            self.experiment: Experiment = make_experiment(self._config, None, self._devices[0].platform)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
        self._compiled = self._compile(self.experiment)
        self._loaded: dict[int, Variables] = {}
        self._features: dict[tuple[int, int], dict[int, evaluators.TaskFeatures]] = {}

    def __enter__(self) -> "TrainedRun":
        return self

    def __exit__(self, *exception) -> None:
        if "stream" in self.__dict__:
            self.stream.close()

    @cached_property
    def stream(self) -> TaskStream:
        """Opens the tasks of the run.

        Raises:
          UsageError: the data set is not there.
        """
        return open_tasks(self._config, self.data_dir, where=f"{self.workdir / 'config.json'}: ")

    @property
    def afters(self) -> list[int]:
        """Returns each value that `after` may have, ascending: 0, and those for which a network was saved."""
        return [0, *self.networks.afters()]

    def seen(self, after: int) -> int:
        """Returns the number of tasks seen by a network: all for the untrained one and for joint training."""
        if not after:
            return self.stream.num_tasks
        schedule = make_run_schedule(self._config, self.stream.starts)
        return self.stream.tasks_seen(schedule.reached(schedule.rows[after - 1]))

    def network(self, after: int) -> Variables:
        """Returns a network. The untrained network is made anew from the seed of the run.

        Raises:
          UsageError: the network was not kept, or is damaged.
        """
        if after not in self._loaded:
            self._loaded = dict(list(self._loaded.items())[-2:])  # keeps three in memory
            if after == 0:
                state = jax.device_put(self.experiment.init(), self._compiled[0].sharding)
                self._loaded[after] = state.network
            else:
                like = jax.tree.map(
                    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._compiled[0].sharding),
                    jax.eval_shape(self.experiment.init),
                )
                self._loaded[after] = self.networks.load(after, like.network)
        return self._loaded[after]

    def objective(self, after: int) -> Objective:
        """Returns the objective of the phase in which a network learned its last task."""
        return self.experiment.phases[self.experiment.phase_index(after - 1)].objective

    def features(self, after: int, own_phase: bool) -> list[evaluators.TaskFeatures]:
        """Computes the frozen features of each task by one network.

        Args:
          after: the number of tasks that the network has learned.
          own_phase: True: by the phase in which each task was learned, for probes within the task. False: by the phase
            in which the last task was learned. The two differ only where the architecture grows.
        """
        kept = {key: value for key, value in self._features.items() if key[0] == after}  # one network at a time
        self._features = kept
        tasks = range(self.stream.num_tasks)
        for task in tasks:
            if (after, task) not in kept:
                kept[after, task] = task_features(
                    self.experiment,
                    self._compiled,
                    self.stream,
                    self.network(after),
                    task,
                    after,
                    self.evaluation.batch_size,
                )
        phases = [self.experiment.phase_index(min(task, after - 1) if own_phase else after - 1) for task in tasks]
        return [kept[after, task][phase] for task, phase in zip(tasks, phases)]

    def test_images(self, count: int, tasks: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Chooses at most `count` test images, about equally many of each task. The choice is always the same.

        Args:
          count: at least 1.
          tasks: the numbers of the tasks that they are taken from; None for all tasks.

        Returns:
          Images uint8 [N, H, W, C], their labels int32 [N], and the numbers of their tasks int [N].
        """
        return choose_test_images(self.stream, count, tasks)

    def other_data(self, name: str, train_images: int, test_images: int) -> TaskStream:
        """Opens another data set as one task, at the image size of the run.

        Args:
          name: the name of a benchmark, or the absolute path of a folder of images. The sub-folders of a folder are
            its classes, and a tenth of each class is held out to be tested on. Its images are cropped to the size, or
            brought to it as those of the run were, where the run was on a folder, too.
          train_images: at most so many; 0 for all.
          test_images: at most so many; 0 for all.

        Raises:
          UsageError: it is neither, or the data set is not there or not whole, or the folder has fewer than two
            sub-folders.
        """
        facts, path = _other(name)
        own, num_classes, fit = self.stream_settings, facts.num_classes, facts.fit
        if path:
            with usage_errors("the data set "):
                num_classes = folder.count_tasks(path, "classes", 1, 0, True)[1]
            fit = own.fit if own.path else fit
        elif facts.image_size != own.image_size:
            fit = "resize"
        settings = StreamSettings(
            name=name,
            tfds_name=facts.tfds_name,
            prepare=own.prepare,
            path=path,
            folders="classes",
            file_order="name",
            validation_path="",
            num_tasks=1,
            classes_per_task=num_classes,
            class_order=facts.class_order,
            image_size=own.image_size,
            fit=fit,
            train_split=facts.train_split,
            test_split=facts.test_split,
            image_key=facts.image_key,
            label_key=facts.label_key,
            domain_key="",
            examples_per_task=0,
            test_examples_per_task=0,
            validation_fraction=facts.validation_fraction,
            subset_seed=0,
            class_order_seed=-1,
            joint=False,
            order="class",
            imbalance=1.0,
            imbalance_shape="long_tail",
            repeat=1,
            blur=0.0,
            blur_shape="linear",
            correlation=1,
        )
        with usage_errors(f"the data set {name}: "):
            whole = open_stream(settings, self.data_dir, image_cache=self._config.image_cache)
        if not train_images and not test_images:
            return whole
        with whole:
            few = settings._replace(
                examples_per_task=min(train_images, whole.train_sizes[0]),
                test_examples_per_task=min(test_images, whole.test_sizes[0]),
            )
        return open_stream(few, self.data_dir, image_cache=self._config.image_cache)

    def normalised_for(self, name: str) -> Experiment:
        """Returns the functions of the run, but with images normalised by mean and deviation of another data set.

        Mean and deviation of a folder are not known. So its images are normalised as those of the run.
        """
        facts, path = _other(name)
        if path:
            return self.experiment
        config = copy.deepcopy(self._config)
        config.augment.update(mean=facts.mean, std=facts.std)
        return make_experiment(config, None, self._devices[0].platform)

    def feature_extractor(
        self, after: int, experiment: Experiment | None = None
    ) -> Callable[[np.ndarray | Images], Readout]:
        """Returns a function that computes the Readout of images uint8 [N, H, W, C], as NumPy arrays [N, ...].

        Args:
          after: the number of tasks that the network has learned.
          experiment: the functions to use, such as those of `normalised_for`; None for those of the run.
        """
        compiled = self._compiled if experiment is None else self._compile(experiment)
        features = partial(compiled[self.experiment.phase_index(after - 1)].features, self.network(after))
        return partial(evaluators.extract, features, batch_size=self.evaluation.batch_size)

    def features_of(self, images: AnyImages, after: int) -> np.ndarray:
        """Computes the features of any images: float32 [N, F].

        Args:
          images: uint8 [N, H, W, 3], or a sequence of images uint8 [H, W, 3]. They are brought to the size that the
            network has learned as the data set of the run was, or resized where that had the size already.
          after: the number of tasks that the network has learned.

        Raises:
          ValueError: they are no such images, or cannot be brought to the size.
          UsageError: the network was not kept, or is damaged.
        """
        compiled, s = self._compiled[self.experiment.phase_index(after - 1)], self.stream_settings
        return features_of(compiled, self.network(after), images, s.image_size, s.fit, self.evaluation.batch_size)

    @property
    def feature_size(self) -> int:
        """Returns the number of features of an image."""
        return 8 * self._config.model.width

    @property
    def encoder_shape(self) -> Shape:
        """Returns what the network expects of images and how it is built, for a run of one ResNet-18."""
        s, config = self.stream_settings, self._config
        stem = make_stem(config)
        return Shape(s.image_size, s.fit, config.augment.mean, config.augment.std, config.model.width, stem)

    def _compile(self, experiment: Experiment) -> list[parallel.Parallel]:
        return parallel.compile_phases(experiment.phases, self._devices)


def _other(name: str) -> tuple[Benchmark, str]:
    """Returns what is known of another data set, and the folder that it lies in; "" for one of TFDS.

    Raises:
      UsageError: it is neither the name of a benchmark nor an absolute path.
    """
    if os.path.isabs(name):
        return BENCHMARKS["folder"], name
    return user_choice("data set", name, {key: facts for key, facts in BENCHMARKS.items() if facts.tfds_name}), ""


def _tuples(tree: Any) -> Any:
    """Returns a tree from JSON with tuples in place of lists, as recipes have them."""
    if isinstance(tree, dict):
        return {key: _tuples(value) for key, value in tree.items()}
    return tuple(map(_tuples, tree)) if isinstance(tree, list) else tree
