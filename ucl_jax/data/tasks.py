"""Cuts a data set into tasks, puts them in the order of a stream, and cuts each epoch of a task into batches.

A task is a set of indices into the splits of a TFDS data set. The batches are a pure function of (seed, task, epoch).
"""

import itertools
import math
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from ucl_jax.data import decoded, folder, memory, streams, tfds_source
from ucl_jax.data.benchmarks import CLASS_ORDERS, IN_MEMORY
from ucl_jax.data.decoded import Images, Split
from ucl_jax.errors import check_argument
from ucl_jax.types import Examples


class TaskData(NamedTuple):
    """The decoded images of one task, in host memory or mapped into it.

    Attributes:
      train_image: uint8 [N, S, S, 3], in an array of the whole split.
      train_label: int32 [N], the class numbers of the data set.
      test_image: uint8 [M, S, S, 3].
      test_label: int32 [M], likewise.
    """

    train_image: Images
    train_label: np.ndarray
    test_image: Images
    test_label: np.ndarray


class StreamSettings(NamedTuple):
    """Settings of the tasks and their order; the names are those of `config.benchmark` and `config.stream`.

    Attributes:
      name: the name of the benchmark, for messages.
      tfds_name: the name that `tfds.builder` takes; "" for a folder of images.
      prepare: whether the data set is downloaded and prepared if it is missing.
      path: the folder of images, or what stands for images in memory (`memory.Arrays.path`); "" for a TFDS data set.
      folders: what the sub-folders of `path` are, "tasks", "classes", or "domains" with folders of classes in them. The
        images of tasks have no labels.
      file_order: the order of files in the folder, "name" or "time", by which one without sub-folders is cut into
        tasks.
      validation_path: another such folder, for evaluation; "" for none.
      num_tasks, classes_per_task: the tasks, and the classes (or sub-folders that are tasks) of each.
      class_order: the order of classes, of which the first are used: "label", or a name in `benchmarks.CLASS_ORDERS`.
      image_size: images become image_size x image_size x 3.
      fit: how they get that size, a name in `tfds_source.FITS`.
      train_split, test_split: TFDS splits.
      image_key, label_key: the features that hold the image and the class.
      domain_key: the feature that holds the domain, for order="domain"; else "".
      examples_per_task, test_examples_per_task: the number of training and of test images of each task; 0 takes all.
      validation_fraction: 0 evaluates on test_split. Above 0, this part of every class of train_split, and at least one
        of several images, is held out of training and evaluated on instead, and test_split is not opened. Tasks that
        share their classes lose the same part of their images, as nearly as can be.
      subset_seed: the seed that fixes the held-out part, the subsets, the parts of order="data" and which classes are
        large; -1 takes the run's seed.
      class_order_seed: the seed by which the classes are permuted before they are cut into tasks; -1 keeps
        `class_order`.
      joint: whether to train on all tasks together; each task is still evaluated by itself.
      order: what a task is. "class": each task has classes of its own, num_tasks * classes_per_task in all. Otherwise
        all tasks have the same classes_per_task classes, and each another part of their training and test images.
        "data": random parts. "domain": the images of one value of `domain_key`; the lowest value is the first task.
        "file": parts in the order in which images are stored, in which they also come.
      imbalance, imbalance_shape: how many times as many images the largest class has as the smallest, and how the
        others lie between; see `streams.class_shares`. 1 takes all images.
      repeat: how often the tasks go round; each round has another part of each task's images.
      blur, blur_shape: how neighbouring tasks mix, see `streams.blurred`.
      correlation: how often each image comes in a row.
    """

    name: str
    tfds_name: str
    prepare: bool
    path: str
    folders: str
    file_order: str
    validation_path: str
    num_tasks: int
    classes_per_task: int
    class_order: str
    image_size: int
    fit: str
    train_split: str
    test_split: str
    image_key: str
    label_key: str
    domain_key: str
    examples_per_task: int
    test_examples_per_task: int
    validation_fraction: float
    subset_seed: int
    class_order_seed: int
    joint: bool
    order: str
    imbalance: float
    imbalance_shape: str
    repeat: int
    blur: float
    blur_shape: str
    correlation: int


class TaskStream:
    """The tasks of a run, and the order in which their training images come; made by `open_stream`.

    Each task is decoded once, on demand or ahead of time, unless the cache has its images. The methods may be called
    from any thread. One worker thread decodes; it ends with `close()` or with the `with` block.

    Attributes:
      classes: the classes of each task.
      class_names: the names of all classes of the data set, by their numbers; () where they have none. Of sub-folders
        that are tasks it has the names of these.
      num_tasks: the number of tasks that are evaluated.
      sequence: the order in which training images come.
      starts: int64 [L + 1], the places in the sequence at which training tasks start, and its end. Joint training has
        one training task; tasks that go round have one in each round. Where tasks are blurred, a training task has
        images of its neighbours, too.
      train_sizes: the number of training images of each training task.
      test_sizes: the number of test images of each task.
      labelled: whether the images have labels. If not, the label of each is the number of its sub-folder or part.
      left_out: a line for each file that is left out, because it cannot be read as an image.
    """

    def __init__(
        self,
        classes: tuple[tuple[int, ...], ...],
        train: Split,
        test: Split,
        train_indices: Sequence[np.ndarray],
        test_indices: Sequence[np.ndarray],
        sequence: streams.Sequence,
        starts: np.ndarray,
        labelled: bool = True,
        left_out: Sequence[str] = (),
    ):
        self.classes, self.class_names = classes, train.names
        self.num_tasks = len(classes)
        self.sequence, self.starts = sequence, starts
        self.train_sizes = tuple(len(np.unique(sequence.index[slice(*ends)])) for ends in itertools.pairwise(starts))
        self.test_sizes = tuple(map(len, test_indices))
        self.labelled, self.left_out = labelled, tuple(left_out)
        self._splits = train, test
        self._indices = train_indices, test_indices
        self._decoded: dict[int, Future[TaskData]] = {}
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="decode")

    @property
    def present(self) -> list[int]:
        """Returns the labels of all tasks, each once and in order."""
        return sorted(set().union(*self.classes))

    def prefetch(self, task: int) -> None:
        """Starts to decode a task in the background. Errors of decoding are raised by `task`."""
        with self._lock:
            if task not in self._decoded:
                self._decoded[task] = self._worker.submit(self._decode, task)

    def task(self, task: int) -> TaskData:
        """Returns the training and test images of a task, after waiting until they are decoded.

        Args:
            task: in [0, num_tasks).

        Raises:
            IndexError: there is no such task.
            UsageError: an image cannot be read or does not have the right size.
        """
        self.prefetch(task)
        return self._decoded[task].result()

    @property
    def labels(self) -> np.ndarray:
        """Returns the class of each example of the sequence, int32 [N]."""
        return self._splits[0].labels[self.sequence.index]

    def training(self, part: slice) -> Examples:
        """Returns the examples of a part of the sequence, on the host: by task, and as they are stored, each once.

        No image is copied.
        """
        self.prefetch_part(part)
        data = [self.task(one) for one in self._tasks(part)]
        held = self._held(part)
        return Examples(Images(data[0].train_image.array, held), self._splits[0].labels[held])

    def places(self, part: slice, among: slice) -> np.ndarray:
        """Returns where the n examples of a part of the sequence are in `training(among)`: int64 [n]."""
        held = self._held(among)
        order = np.argsort(held)
        return order[np.searchsorted(held, self.sequence.index[part], sorter=order)]

    def _tasks(self, part: slice) -> list[int]:
        return np.unique(self.sequence.task[part]).tolist()

    def _held(self, part: slice) -> np.ndarray:
        """Returns the places in the split of the examples of a part, each once, in the order that `training` has."""
        of_tasks = np.concatenate([self._indices[0][one] for one in self._tasks(part)])
        return of_tasks[np.isin(of_tasks, self.sequence.index[part])]

    def prefetch_part(self, part: slice) -> None:
        """Starts to decode the tasks of a part of the sequence, in the order in which they come."""
        for task in dict.fromkeys(self.sequence.task[part].tolist()):
            self.prefetch(task)

    def tasks_seen(self, count: int) -> int:
        """Returns how many tasks count as seen after `count` examples of the sequence, at least 1.

        Tasks are counted up to the last one of which there is an example.
        """
        return 1 + int(self.sequence.task[:count].max(initial=0))

    def close(self) -> None:
        """Stops the decoding. Tasks that are decoded can still be read."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "TaskStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode(self, task: int) -> TaskData:
        """Decodes a task, in the worker thread."""
        if not 0 <= task < self.num_tasks:
            raise IndexError(f"task {task} of {self.num_tasks}")
        arrays = []
        for split, indices in zip(self._splits, self._indices):
            arrays += [split.images(indices[task]), split.labels[indices[task]]]
        return TaskData(*arrays)


def open_stream(
    settings: StreamSettings,
    data_dir: str | None = None,
    seed: int = 0,
    image_cache: str = "",
    arrays: memory.Arrays | None = None,
) -> TaskStream:
    """Opens a data set, cuts it into tasks, and puts these in the order of a stream.

    The training examples of each class are put in a random order, which is fixed by (subset_seed, class). The first
    validation_fraction of them is held out; of a class that several tasks have, it is the first of each task. With
    imbalance, a class keeps the first of the others. A subset (examples_per_task) takes the rest in that order, one
    example of each class in turn. So subsets are as balanced as possible, and a smaller subset is part of a larger one.

    Args:
        settings: values in the ranges of `ucl_jax.settings`.
        data_dir: the folder of TFDS; default $TFDS_DATA_DIR or ~/tensorflow_datasets.
        seed: the seed of the run.
        image_cache: the folder where decoded images are kept, see `decoded`; "" keeps them in memory.
        arrays: images in memory, to be taken instead of the data set; `settings.path` must be theirs.

    Raises:
        ValueError: the data set has fewer classes or images than the settings ask for; names the setting first.
        UsageError: the data set is missing and cannot be prepared, is damaged, or has no such split, feature or size
            of images.
    """
    subset_seed = seed if settings.subset_seed == -1 else settings.subset_seed
    holds_out = settings.validation_fraction > 0
    if arrays is not None or settings.path.startswith(IN_MEMORY):
        opened = _open_arrays(settings, arrays)
    else:
        opened = (_open_folder if settings.path else _open_splits)(settings, data_dir, image_cache)
    (train, test), left_out = opened

    classes = _task_classes(settings, train.num_classes)
    used = np.sort(classes_used(settings)).tolist()
    shares = streams.class_shares(len(used), settings.imbalance, settings.imbalance_shape, subset_seed)
    shared = settings.order != "class"
    parts = _parts(settings, (train, test), subset_seed) if shared else [np.zeros_like(train.labels)]
    pools = [_shuffled(train.labels, label, subset_seed) for label in used]
    held = _held_out([parts[0][pool] for pool in pools], settings.validation_fraction)
    to_train, to_test = {}, {}
    for label, pool, is_held, share in zip(used, pools, held, shares.tolist()):
        rest = pool[~is_held]
        to_train[label] = rest[: math.ceil(share * len(rest))]
        to_test[label] = pool[is_held] if holds_out else _shuffled(test.labels, label, subset_seed)
    train_indices, test_indices = [], []
    for task, members in enumerate(classes):
        train_pools, test_pools = ([pool_of[label] for label in members] for pool_of in (to_train, to_test))
        if shared:
            train_pools = [pool[parts[0][pool] == task] for pool in train_pools]
            test_pools = [pool[parts[1][pool] == task] for pool in test_pools]
        where = f"task {task + 1} of {settings.name}"
        known = train.names and not shared
        named = f" ({', '.join(train.names[label] for label in members[:3])})" if known else ""
        check_argument(
            not holds_out or any(map(len, test_pools)),
            f"validation_fraction is {settings.validation_fraction}, but of {where}{named} no image is left to be held "
            "out; give it more images, or make fewer and larger tasks with num_tasks",
        )
        train_indices.append(_subset(train_pools, settings.examples_per_task, where, "examples_per_task"))
        test_indices.append(_subset(test_pools, settings.test_examples_per_task, where, "test_examples_per_task"))
    order = _in_order(settings, train_indices, seed)
    return TaskStream(classes, train, test, train_indices, test_indices, *order, labelled(settings), left_out)


def _in_order(
    settings: StreamSettings, indices: Sequence[np.ndarray], seed: int
) -> tuple[streams.Sequence, np.ndarray]:
    """Puts the training examples of all tasks in the order in which they come.

    Args:
        settings: of the stream.
        indices: int64 [n] of each task, the places of its examples in the split, sorted.
        seed: the seed of the run.

    Returns:
        The sequence of N examples, and int64 [L + 1], where each of L training tasks starts, and N.

    Raises:
        ValueError: a task has fewer examples than rounds.
    """
    for number, part in enumerate(indices, start=1):
        check_argument(
            len(part) >= settings.repeat,
            f"examples_per_task is {settings.examples_per_task}, but task {number} of {settings.name} has {len(part)} "
            f"training images for the {settings.repeat} rounds of stream.repeat; lower stream.repeat",
        )
    tasks = [streams.Sequence(part, np.full(len(part), task, np.int32)) for task, part in enumerate(indices)]
    if settings.joint:
        tasks = [streams.joined(tasks)[0]]
    if settings.order != "file":
        tasks = [streams.shuffled(part, seed, number) for number, part in enumerate(tasks)]
    sequence, starts = streams.joined(streams.in_rounds(tasks, settings.repeat))
    sequence = streams.blurred(sequence, starts, settings.blur, settings.blur_shape, seed)
    return streams.in_runs(sequence, settings.correlation), starts * settings.correlation


def _open_splits(settings: StreamSettings, data_dir: str | None, image_cache: str) -> tuple[list[Split], Sequence[str]]:
    """Opens the splits of training and test images; they are the same one where a part of it is held out."""
    builder = tfds_source.load_builder(settings.tfds_name, data_dir, settings.prepare)
    keys = settings.image_key, settings.label_key, settings.image_size, settings.fit
    opened: dict[str, Split] = {}
    wanted = settings.train_split, settings.train_split if settings.validation_fraction > 0 else settings.test_split
    for split in dict.fromkeys(wanted):
        source = tfds_source.open_split(builder, split, *keys)
        domains = source.integers("domain_key", settings.domain_key) if settings.order == "domain" else None
        names, images = source.class_names, decoded.reader(source, image_cache)
        opened[split] = Split(source.labels, len(names), images, domains, names)
    return [opened[split] for split in wanted], ()


def _open_folder(settings: StreamSettings, data_dir: str | None, image_cache: str) -> tuple[list[Split], Sequence[str]]:
    """Opens the folder of images, and that for evaluation; returns what is left out, too. It has no `data_dir`."""
    names = folder.sub_folders(settings.path)
    keys = settings.image_size, settings.fit, settings.file_order, image_cache
    paths = dict.fromkeys([settings.path, settings.validation_path or settings.path])
    opened = [folder.open_folder(path, names, _classes_needed(settings), *keys) for path in paths]
    if settings.folders == "domains":
        classes = folder.class_folders(settings.path)
        opened = [folder.with_domains(one, classes) for one in opened]
    return [opened[0].split, opened[-1].split], sum((one.left_out for one in opened), ())


def _open_arrays(settings: StreamSettings, arrays: memory.Arrays | None) -> tuple[list[Split], Sequence[str]]:
    """Opens images in memory, of which a part is held out; raises ValueError if they are not those of the settings."""
    check_argument(
        arrays is not None and arrays.path == settings.path,
        f"path is '{settings.path}', which stands for images that were in memory; "
        + ("they are not kept, take another data set" if arrays is None else "give those same images"),
    )
    assert arrays is not None
    return [memory.open_arrays(arrays, _classes_needed(settings), settings.image_size, settings.fit)] * 2, ()


def choose_test_images(
    stream: TaskStream, count: int, tasks: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chooses at most `count` test images, about equally many of each task. The choice is always the same.

    Args:
        stream: the tasks.
        count: at least 1.
        tasks: the numbers of the tasks that they are taken from; None for all tasks.

    Returns:
        Images uint8 [N, H, W, C], their labels int32 [N], and the numbers of their tasks int [N].
    """
    chosen = list(range(stream.num_tasks) if tasks is None else tasks)
    each = -(-count // len(chosen))
    parts = []
    for task in chosen:
        data = stream.task(task)
        index = np.random.default_rng([0, task]).permutation(len(data.test_label))[:each]
        parts.append((data.test_image[index], data.test_label[index], np.full(len(index), task)))
    images, labels, of = (np.concatenate(arrays) for arrays in zip(*parts))
    keep = np.sort(np.random.default_rng(0).permutation(len(labels))[:count])
    return images[keep], labels[keep], of[keep]


def batch_indices(
    seed: int, task: int, epoch: int, size: int, batch_size: int, steps: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the batches of one epoch of a task of `size` examples, as indices of examples.

    The order of an epoch is a permutation fixed by (seed, task, epoch). Every batch is full. With ceil(size / B)
    batches, the last one is filled up with the first examples of the next epoch. With one less, the examples that fill
    no batch are left out of this epoch. A task smaller than a batch is one batch of its own size.

    Args:
        seed: of the run.
        task: the number of the task.
        epoch: the number of the epoch within the task, from 0.
        size: at least 1.
        batch_size: at least 1.
        steps: the number of batches S of each epoch, from 1 to ceil(size / B); None is ceil(size / B).

    Returns:
        indices: int64 [S, B] with B = min(size, batch_size), values in [0, size).
        first: bool of the same shape, True where the run presents an example for the first time: in epoch 0, or later
            where it was left out before; but never for the examples that fill up the last batch.
    """
    batch_size = min(size, batch_size)
    steps = -(-size // batch_size) if steps is None else steps
    total = steps * batch_size

    def order(epoch):
        return np.random.default_rng([seed, task, epoch]).permutation(size)

    unseen = np.ones(size, bool)
    for earlier in range(epoch):
        if not unseen.any():  # so after a few epochs
            break
        unseen[order(earlier)[:total]] = False
    indices = np.concatenate([order(epoch), order(epoch + 1)])[:total]
    first = unseen[indices] & (np.arange(total) < size)
    return indices.reshape(steps, batch_size), first.reshape(steps, batch_size)


def consecutive_indices(size: int, batch_size: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the batches of one pass over `size` examples in their order, as indices of examples.

    Every batch is full. A last one is filled up with the examples just before it, so that nothing comes back from the
    beginning of a stream. Arguments and results are those of `batch_indices`.
    """
    batch_size = min(size, batch_size)
    new = np.arange(steps)[:, None] * batch_size  # the first example of each batch that was not there before
    indices = np.minimum(new, size - batch_size) + np.arange(batch_size)
    return indices, indices >= new


def labelled_indices(seed: int, task: int, epoch: int, size: int, batch_size: int, steps: int) -> np.ndarray:
    """Returns the batches of the online linear probe in one epoch of a task, as indices of the examples of all tasks.

    They are the beginning of a permutation of all examples, which is fixed by (seed, task, epoch). It is another one
    than that of `batch_indices`. Examples come again only where the batches are more than all examples.

    Args:
        seed: of the run.
        task: the number of the task.
        epoch: the number of the epoch within the task, from 0.
        size: the number of examples of all tasks.
        batch_size: the number B of images in a batch, at most `size`.
        steps: the number of batches S of the epoch.

    Returns:
        int64 [S, B], values in [0, size).
    """
    order = np.random.default_rng([seed, task, epoch, 1]).permutation(size)
    return np.resize(order, (steps, batch_size))


def labelled(settings: StreamSettings) -> bool:
    """Tells whether the images have labels: those of a folder whose sub-folders are tasks have none."""
    return not settings.path or settings.folders != "tasks"


def classes_used(settings: StreamSettings) -> np.ndarray:
    """Returns the labels of all tasks together, int [C], each once. Whether the data set has them is not checked."""
    needed = _classes_needed(settings)
    return np.asarray(CLASS_ORDERS.get(settings.class_order, range(needed)))[:needed]


def _classes_needed(settings: StreamSettings) -> int:
    return settings.classes_per_task * (1 if settings.order != "class" else settings.num_tasks)


def _task_classes(settings: StreamSettings, num_classes: int) -> tuple[tuple[int, ...], ...]:
    """Returns the classes of each task; raises ValueError if the data set has too few."""
    needed = _classes_needed(settings)
    check_argument(
        needed <= num_classes,
        f"num_tasks is {settings.num_tasks} and classes_per_task {settings.classes_per_task}: that needs {needed} "
        f"{'classes' if labelled(settings) else 'sub-folders'}, and '{settings.tfds_name or settings.path}' has "
        f"{num_classes}; lower one of them",
    )
    order = classes_used(settings)
    check_argument(
        len(order) == needed and order.max() < num_classes,
        f"class_order is '{settings.class_order}': it is an order of {len(CLASS_ORDERS.get(settings.class_order, ()))} "
        f"classes, and '{settings.tfds_name}' has {num_classes}; set it to label",
    )
    if settings.class_order_seed >= 0:
        order = np.random.default_rng(settings.class_order_seed).permutation(order)
    classes = tuple(map(tuple, order.reshape(-1, settings.classes_per_task).tolist()))
    return classes * settings.num_tasks if settings.order != "class" else classes


def _parts(settings: StreamSettings, splits: Sequence[Split], seed: int) -> list[np.ndarray]:
    """Returns the task of each example of each split, int64 [n], for tasks that share their classes.

    With order="domain", examples of a domain that the training split lacks are of task -1.

    Raises:
        ValueError: there are more tasks than domains.
    """
    if settings.order != "domain":
        return [streams.parts_of(settings.order, len(split.labels), settings.num_tasks, seed) for split in splits]
    values = [split.domains for split in splits if split.domains is not None]
    domains = np.unique(values[0])
    check_argument(
        len(domains) >= settings.num_tasks,
        f"num_tasks is {settings.num_tasks}, but the training split has {len(domains)} domains in "
        f"'{settings.domain_key or settings.path}'; lower it",
    )
    return [np.select([of == domain for domain in domains], range(len(domains)), -1) for of in values]


def _shuffled(labels: np.ndarray, label: int, seed: int) -> np.ndarray:
    """Returns the positions of a class in `labels` (int64 [n]), in a random order fixed by (seed, label)."""
    return np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))


def _held_out(pools: Sequence[np.ndarray], fraction: float) -> list[np.ndarray]:
    """Chooses which examples are held out.

    Of each class it is the given fraction, rounded. A fraction above 0 holds out at least one of several examples. They
    are spread so that each task loses the same part of its examples, as nearly as can be.

    Args:
      pools: for each class the tasks of its n examples, int64 [n].
      fraction: from 0 to 1.

    Returns:
      For each class bool [n]. Of a class and a task, the first examples are held out.
    """
    # The number of examples that each task should lose of the classes so far, less what it has lost.
    owed = np.zeros(1 + max((int(pool.max()) for pool in pools if len(pool)), default=0))
    chosen = []
    for pool in pools:
        owed += fraction * np.bincount(pool, minlength=len(owed))
        # Task -> the places of its examples, the first at the end, from where they are taken.
        waiting = {task: np.flatnonzero(pool == task)[::-1].tolist() for task in np.unique(pool)}
        mask = np.zeros(len(pool), bool)
        for _ in range(max(round(fraction * len(pool)), fraction > 0 and len(pool) > 1)):
            task = max((task for task in waiting if waiting[task]), key=owed.__getitem__)
            mask[waiting[task].pop()] = True
            owed[task] -= 1
        chosen.append(mask)
    return chosen


def _subset(pools: Sequence[np.ndarray], count: int, where: str, field: str) -> np.ndarray:
    """Takes `count` indices (0 takes all) from the pools, one from each in turn, and returns them sorted.

    They are sorted so that images are read in the order in which they are stored. `where` and `field` are for messages.
    It raises ValueError if there are fewer than `count` indices, or none.
    """
    indices = np.concatenate(pools)
    check_argument(
        len(indices) > 0, f"{field} is {count}, but {where} has no images: check the splits and validation_fraction"
    )
    check_argument(
        count <= len(indices),
        f"{field} is {count}, but {where} has {len(indices)} images: lower it, or set it to 0 for all",
    )
    turn = np.concatenate([np.arange(len(pool)) for pool in pools])
    return np.sort(indices[np.argsort(turn, kind="stable")[: count or None]])
