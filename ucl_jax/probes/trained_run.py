"""A run, opened for analysis: its networks, its tasks, and what a network makes of them."""

import copy
import math
import pathlib
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ucl_jax.data.benchmarks import BENCHMARKS, Benchmark
from ucl_jax.data.tasks import StreamSettings, TaskStream, open_stream
from ucl_jax.errors import UsageError, choose, require
from ucl_jax.evaluation import evaluators
from ucl_jax.objectives import Objective, Readout
from ucl_jax.results.load import read_config
from ucl_jax.training import parallel
from ucl_jax.training.build import Experiment, make_evaluation, make_experiment, make_stream_settings
from ucl_jax.training.checkpoint import Networks
from ucl_jax.training.loop import task_features
from ucl_jax.types import Variables


class TrainedRun:
    """Opens a run for analysis: its networks, its tasks, and what a network makes of them.

    A context manager: leaving it ends the reading of data. Networks are named by the number of tasks that they learned;
    0 is the one before training.

    config: the run's config tree.
    tasks: how its data set is cut into tasks.
    evaluation: how the run evaluated its networks.
    experiment: its pure functions.
    """

    def __init__(self, workdir: pathlib.Path, data_dir: str = ""):
        """Opens the run in `workdir`; `data_dir` stands in for the run's own.

        Raises:
          UsageError: there is no run, or it kept no networks, or its data set is not there.
        """
        path = workdir / "config.json"
        require(path.exists(), f"{workdir} is no run folder: it has no config.json")
        self.workdir = workdir
        self.config = ConfigDict(_tuples(read_config(path)))
        self.data_dir = data_dir or self.config.data_dir
        self.networks = Networks(workdir / "networks")
        require(
            bool(self.networks.learned()),
            f"{workdir / 'networks'} holds no network, or the run finished no task; runs keep them unless "
            "config.checkpoint.networks is False",
        )
        self.tasks, self.evaluation = make_stream_settings(self.config), make_evaluation(self.config)
        self._devices = jax.local_devices()[: math.gcd(len(jax.local_devices()), self.evaluation.batch_size)]
        try:
            self.experiment: Experiment = make_experiment(self.config, axis_name=None)
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
        """The tasks of the run."""
        return open_stream(self.tasks, self.data_dir, self.experiment.seed)

    @property
    def checkpoints(self) -> list[int]:
        """Every network that there is, the untrained one among them."""
        return [0, *self.networks.learned()]

    def seen(self, after: int) -> int:
        """The tasks that count as seen by a network; all for the untrained one and for joint training."""
        return self.tasks.num_tasks if self.tasks.joint or not after else after

    def network(self, after: int) -> Variables:
        """Returns a network. The untrained network is made anew, by the run's seed."""
        if after not in self._loaded:
            self._loaded = dict(list(self._loaded.items())[-2:])  # three at a time
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
        """The functions of the phase in which task `after` was learned."""
        return self.experiment.phases[self.experiment.phase(after - 1)].objective

    def features(self, after: int, own_phase: bool) -> list[evaluators.TaskFeatures]:
        """Frozen features of all tasks by one network.

        own_phase: each task by the phase in which it was learned, as a probe may that is told the task; else all by
        the present one. The same but for an architecture that grows.
        """
        kept = {key: value for key, value in self._features.items() if key[0] == after}  # of one network at a time
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
        phases = [self.experiment.phase(min(task, after - 1) if own_phase else after - 1) for task in tasks]
        return [kept[after, task][phase] for task, phase in zip(tasks, phases)]

    def test_images(self, count: int, tasks: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """At most `count` test images, as many of each task: uint8 [N, H, W, C], their labels and tasks int [N]."""
        chosen = list(range(self.stream.num_tasks) if tasks is None else tasks)
        each = -(-count // len(chosen))
        parts = []
        for task in chosen:
            data = self.stream.task(task)
            index = np.random.default_rng([0, task]).permutation(len(data.test_label))[:each]
            parts.append((data.test_image[index], data.test_label[index], np.full(len(index), task)))
        images, labels, of = (np.concatenate(arrays) for arrays in zip(*parts))
        keep = np.sort(np.random.default_rng(0).permutation(len(labels))[:count])
        return images[keep], labels[keep], of[keep]

    def other_data(self, name: str, train_images: int, test_images: int) -> TaskStream:
        """Another data set as one task, at the run's image size: at most so many images, 0 is all."""
        facts, size = _facts(name), self.tasks.image_size
        settings = StreamSettings(
            name=name,
            tfds_name=facts.tfds_name,
            num_tasks=1,
            classes_per_task=facts.num_tasks * facts.classes_per_task,
            image_size=size,
            fit=facts.fit if facts.image_size == size else "resize",
            train_split=facts.train_split,
            test_split=facts.test_split,
            image_key=facts.image_key,
            label_key=facts.label_key,
            examples_per_task=0,
            test_examples_per_task=0,
            validation_fraction=0.0,
            subset_seed=0,
            class_order_seed=-1,
            joint=False,
        )
        whole = open_stream(settings, self.data_dir)
        if not train_images and not test_images:
            return whole
        with whole:
            few = settings._replace(
                examples_per_task=min(train_images, whole.train_sizes[0]),
                test_examples_per_task=min(test_images, whole.test_sizes[0]),
            )
        return open_stream(few, self.data_dir)

    def seeing(self, name: str) -> Experiment:
        """The run's functions, with images normalised as those of another data set are."""
        config = copy.deepcopy(self.config)
        facts = _facts(name)
        config.augment.update(mean=facts.mean, std=facts.std)
        return make_experiment(config, axis_name=None)

    def reader(self, after: int, experiment: Experiment | None = None) -> Callable[[np.ndarray], Readout]:
        """What the present phase of a network makes of images uint8 [N, H, W, C], by the functions of `experiment`."""
        compiled = self._compiled if experiment is None else self._compile(experiment)
        features = partial(compiled[self.experiment.phase(after - 1)].features, self.network(after))
        return partial(evaluators.extract, features, batch_size=self.evaluation.batch_size)

    def _compile(self, experiment: Experiment) -> list[parallel.Parallel]:
        return parallel.compile_phases(experiment.phases, self._devices)


def _facts(name: str) -> Benchmark:
    return choose("data set", name, BENCHMARKS)


def _tuples(tree: Any) -> Any:
    """What JSON made lists, as the tuples that recipes have."""
    if isinstance(tree, dict):
        return {key: _tuples(value) for key, value in tree.items()}
    return tuple(map(_tuples, tree)) if isinstance(tree, list) else tree
