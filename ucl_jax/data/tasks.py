"""Tasks as index sets over TFDS splits, and batches as a pure function of (seed, task, epoch)."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from ucl_jax.data import tfds_source
from ucl_jax.errors import UsageError


class TaskData(NamedTuple):
    """The images of one task, as the host feeds them.

    train_image: uint8 [N, S, S, 3].  train_label: int32 [N], the data set's own class numbers.
    test_image: uint8 [M, S, S, 3].   test_label: int32 [M].
    """

    train_image: np.ndarray
    train_label: np.ndarray
    test_image: np.ndarray
    test_label: np.ndarray


class StreamSettings(NamedTuple):
    """How a data set is cut into tasks; `config.benchmark` has the same names.

    name: of the benchmark, for messages.
    tfds_name: what `tfds.builder` takes.
    num_tasks, classes_per_task: the first num_tasks * classes_per_task classes are used.
    image_size: images become image_size x image_size x 3.
    fit: how they get there, "none", "pad" or "resize"; see `tfds_source`.
    train_split, test_split: TFDS splits.
    image_key, label_key: the features that hold the image and the class.
    examples_per_task, test_examples_per_task: at most so many training and evaluation images a task; 0 is all.
    validation_fraction: 0 evaluates on test_split; more holds out that part of every class of train_split and
      evaluates on it; test_split is not opened then.
    subset_seed: fixes the held-out part and the subsets; -1 takes the run's seed.
    class_order_seed: -1 is label order, else the benchmark's classes are permuted by that seed.
    joint: whether to train on the union of all tasks; evaluation is per task still.
    """

    name: str
    tfds_name: str
    num_tasks: int
    classes_per_task: int
    image_size: int
    fit: str
    train_split: str
    test_split: str
    image_key: str
    label_key: str
    examples_per_task: int
    test_examples_per_task: int
    validation_fraction: float
    subset_seed: int
    class_order_seed: int
    joint: bool


class TaskStream:
    """A sequence of tasks; made by `open_stream`. Decodes a task once, on demand or ahead, and keeps it.

    Thread-safe. One worker thread decodes; `close()`, or leaving the `with` block, ends it.

    classes: the classes of each task.
    num_classes: of the data set, used or not (the width of a one-hot label).
    num_tasks: of evaluation tasks.
    train_sizes: the number of training images of each training task; a joint stream has one training task.
    test_sizes: the number of test images of each task.
    """

    def __init__(
        self,
        classes: tuple[tuple[int, ...], ...],
        train: tfds_source.Split,
        test: tfds_source.Split,
        train_indices: Sequence[np.ndarray],
        test_indices: Sequence[np.ndarray],
        joint: bool,
    ):
        self.classes = classes
        self.num_classes = train.num_classes
        self.num_tasks = len(classes)
        self._parts = [range(self.num_tasks)] if joint else [[task] for task in range(self.num_tasks)]
        self.train_sizes = tuple(sum(len(train_indices[task]) for task in part) for part in self._parts)
        self.test_sizes = tuple(map(len, test_indices))
        self._splits = train, test
        self._indices = train_indices, test_indices
        self._decoded: dict[int, Future[TaskData]] = {}
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="decode")

    def prefetch(self, task: int) -> None:
        """Start to decode a task in the background. What goes wrong is raised by `task`."""
        with self._lock:
            if task not in self._decoded:
                self._decoded[task] = self._worker.submit(self._decode, task)

    def task(self, task: int) -> TaskData:
        """Training and evaluation images of a task, 0 <= task < num_tasks."""
        self.prefetch(task)
        return self._decoded[task].result()

    def training(self, task: int) -> tuple[np.ndarray, np.ndarray]:
        """What training task `task` trains on: image uint8 [N, S, S, 3], label int32 [N].

        0 <= task < len(train_sizes). A joint stream's one training task is a copy of all tasks: ask once.
        """
        part = self._parts[task]
        for one in part:
            self.prefetch(one)
        data = [self.task(one) for one in part]
        if len(data) == 1:
            return data[0].train_image, data[0].train_label
        return np.concatenate([one.train_image for one in data]), np.concatenate([one.train_label for one in data])

    def close(self) -> None:
        """Stop decoding. Decoded tasks stay readable."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "TaskStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode(self, task: int) -> TaskData:
        if not 0 <= task < self.num_tasks:
            raise IndexError(f"task {task} of {self.num_tasks}")
        arrays = []
        for split, indices in zip(self._splits, self._indices):
            arrays += [split.images(indices[task]), split.labels[indices[task]]]
        return TaskData(*arrays)


def open_stream(settings: StreamSettings, data_dir: str | None = None, seed: int = 0) -> TaskStream:
    """Cuts a TFDS data set into tasks.

    Within each class the training examples have one random order, fixed by (subset_seed, class). Its first
    validation_fraction is held out; few-shot training takes examples from the rest, class after class in turns, so
    subsets are as balanced as can be and a smaller one is part of a larger one.

    Args:
        settings: in the ranges of `ucl_jax.settings`.
        data_dir: of TFDS; default $TFDS_DATA_DIR or ~/tensorflow_datasets.
        seed: of the run.

    Raises:
        UsageError: the data set is missing or does not have what the settings name; a task has fewer images than asked
            for.
    """
    subset_seed = seed if settings.subset_seed == -1 else settings.subset_seed
    builder = tfds_source.load_builder(settings.tfds_name, data_dir)
    keys = settings.image_key, settings.label_key, settings.image_size, settings.fit
    train = tfds_source.open_split(builder, settings.train_split, *keys)
    holds_out = settings.validation_fraction > 0
    test = train if holds_out else tfds_source.open_split(builder, settings.test_split, *keys)

    classes = _task_classes(settings, train.num_classes)
    train_indices, test_indices = [], []
    for task, members in enumerate(classes):
        pools = [_shuffled(train.labels, label, subset_seed) for label in members]
        cuts = [round(settings.validation_fraction * len(pool)) for pool in pools]
        if holds_out:
            test_pools = [pool[:cut] for pool, cut in zip(pools, cuts)]
        else:
            test_pools = [_shuffled(test.labels, label, subset_seed) for label in members]
        train_pools = [pool[cut:] for pool, cut in zip(pools, cuts)]
        where = f"{settings.name}: task {task}"
        train_indices.append(_subset(train_pools, settings.examples_per_task, where, "examples_per_task"))
        test_indices.append(_subset(test_pools, settings.test_examples_per_task, where, "test_examples_per_task"))
    return TaskStream(classes, train, test, train_indices, test_indices, settings.joint)


def batch_indices(seed: int, task: int, epoch: int, size: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives indices into a task's `size` examples for one epoch of full batches.

    The epoch is a permutation fixed by (seed, task, epoch); its last batch is filled from the permutation of the
    epoch that follows. A task that is smaller than a batch is one batch of its own size.

    Returns:
        int64 [ceil(size / B), B] with B = min(size, batch_size), values in [0, size), and bool of the same shape: True
        where an example is presented for the first time ever, which is in epoch 0, before the filling.
    """
    batch_size = min(size, batch_size)
    steps = -(-size // batch_size)
    total = steps * batch_size
    orders = [np.random.default_rng([seed, task, epoch + ahead]).permutation(size) for ahead in range(2)]
    first = (np.arange(total) < size) & (epoch == 0)
    return np.concatenate(orders)[:total].reshape(steps, batch_size), first.reshape(steps, batch_size)


def _task_classes(settings: StreamSettings, num_classes: int) -> tuple[tuple[int, ...], ...]:
    needed = settings.num_tasks * settings.classes_per_task
    if needed > num_classes:
        raise UsageError(
            f"config.benchmark.num_tasks x config.benchmark.classes_per_task = {settings.num_tasks} x "
            f"{settings.classes_per_task} needs {needed} classes, '{settings.tfds_name}' has {num_classes}: lower one "
            "of them"
        )
    order = np.arange(needed)
    if settings.class_order_seed >= 0:
        order = np.random.default_rng(settings.class_order_seed).permutation(needed)
    return tuple(map(tuple, order.reshape(settings.num_tasks, settings.classes_per_task).tolist()))


def _shuffled(labels: np.ndarray, label: int, seed: int) -> np.ndarray:
    """Places of a class in `labels`, in an order fixed by (seed, label): int64 [n]."""
    return np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))


def _subset(pools: Sequence[np.ndarray], count: int, where: str, field: str) -> np.ndarray:
    """`count` indices (0: all), taken from the pools in turns; sorted, so that images come in stored order."""
    indices = np.concatenate(pools)
    if not len(indices):
        raise UsageError(
            f"{where} has no images to take config.benchmark.{field} from: check splits and validation_fraction"
        )
    if count > len(indices):
        raise UsageError(
            f"{where} has {len(indices)} images, config.benchmark.{field} is {count}: lower it, or 0 for all"
        )
    turn = np.concatenate([np.arange(len(pool)) for pool in pools])
    return np.sort(indices[np.argsort(turn, kind="stable")[: count or None]])
