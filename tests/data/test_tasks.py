"""Tests tasks and batches against computations from scikit-learn's arrays, which share no code with the package."""

import collections
import concurrent.futures
import itertools
import json
import pathlib
import threading

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests import golden
from tests.data_helpers import REAL_DATA_DIR, SHAPES, stream_config, write_shapes
from ucl_jax.data import prepare, streams, tfds_source
from ucl_jax.data.benchmarks import BENCHMARKS, CLASS_ORDERS
from ucl_jax.data.tasks import _subset, batch_indices, consecutive_indices, open_stream
from ucl_jax.errors import UsageError

SMALL = {"image_size": 8, "fit": "none"}  # the size in which digits are stored


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tfds_source.load_builder("digits", str(folder))
    write_shapes(folder)
    return str(folder)


@pytest.fixture
def open_digits(data_dir):
    """Provides open_digits(**overrides) -> TaskStream; closes all streams at the end of the test."""
    opened = []

    def open_one(**overrides):
        opened.append(open_stream(stream_config("digits", **{**SMALL, **overrides}), data_dir))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def image_set(images):
    return collections.Counter(image.tobytes() for image in images)


def every(task_stream):
    return [task_stream.task(task) for task in range(task_stream.num_tasks)]


# Tasks


def test_tasks_are_disjoint_in_class_and_complete(open_digits):
    digits = load_digits()
    label_of = {}
    for image, label in zip(digits.images, digits.target):
        label_of[np.repeat(np.rint(image * 255 / 16).astype(np.uint8), 3).tobytes()] = label
    tasks = open_digits()
    assert tasks.classes == ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
    assert tasks.num_tasks == 5
    seen = collections.Counter()
    for task, data in enumerate(every(tasks)):
        for images, labels in (data[:2], data[2:]):
            assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
            assert images.shape == (len(labels), 8, 8, 3)
            assert [label_of[image.tobytes()] for image in images] == labels.tolist()
            assert set(labels) == {2 * task, 2 * task + 1}
            seen += image_set(images)
        assert tasks.train_sizes[task] == len(data.train_label)
        assert len(data.test_label) == sum((digits.target == label).sum() // 5 for label in tasks.classes[task])
    assert seen.total() == 1797
    assert sum(tasks.train_sizes) == 1442
    assert set(seen) == set(label_of)


def test_default_digits_are_as_stored(data_dir):
    with open_stream(stream_config("digits"), data_dir) as tasks:
        assert tasks.task(4).train_image.shape[1:] == (8, 8, 3)


def test_another_data_set_by_config_alone(data_dir):
    with open_stream(stream_config(SHAPES), data_dir) as tasks:
        assert tasks.train_sizes == (20, 20, 20)
        for task in range(3):
            data = tasks.task(task)
            assert sorted(data.train_image[:][:, 6, 6, 0]) == list(range(task, 60, 3))
            assert sorted(data.test_image[:][:, 6, 6, 0]) == list(range(task, 30, 3))


def test_class_order_is_a_permutation_by_its_seed(open_digits):
    tasks = open_digits(class_order_seed=3)
    order = list(itertools.chain(*tasks.classes))
    assert sorted(order) == list(range(10))
    assert order == np.random.default_rng(3).permutation(10).tolist()
    assert set(tasks.task(0).test_label) == set(tasks.classes[0])
    assert open_digits(class_order_seed=3).classes == tasks.classes != open_digits(class_order_seed=4).classes


def test_the_class_order_of_cassle_is_that_of_its_code():
    (order,) = json.loads(pathlib.Path(golden.__file__).with_suffix(".json").read_text())["class_orders"].values()
    assert list(CLASS_ORDERS["cassle"]) == order
    common = {name: entry for name, entry in BENCHMARKS.items() if entry.class_order == "cassle"}
    assert common.keys() == {"cifar100_5x20", "cifar100_10x10", "cifar100_data5", "imagenet100", "imagenet100_data5"}
    for name, tasks, classes in (("cifar100_5x20", 5, 20), ("cifar100_10x10", 10, 10), ("cifar100_data5", 5, 100)):
        entry = BENCHMARKS[name]
        assert (entry.num_tasks, entry.classes_per_task, entry.num_classes) == (tasks, classes, 100)
        assert (entry.mean, entry.std) == ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261))


def test_a_named_class_order_is_cut_into_tasks_and_may_be_permuted(open_digits, monkeypatch):
    monkeypatch.setitem(CLASS_ORDERS, "backwards", tuple(range(9, -1, -1)))
    backwards = {"class_order": "backwards", "num_tasks": 2}
    assert open_digits(**backwards).classes == ((9, 8), (7, 6))
    permuted = np.random.default_rng(1).permutation([9, 8, 7, 6]).tolist()
    assert list(itertools.chain(*open_digits(**backwards, class_order_seed=1).classes)) == permuted


def test_a_split_by_images_gives_each_task_a_part_of_every_image_once(open_digits):
    by_images = {"order": "data", "classes_per_task": 10}
    whole, parts = open_digits(num_tasks=1, classes_per_task=10).task(0), open_digits(**by_images)
    assert parts.classes == (tuple(range(10)),) * 5
    tasks = every(parts)
    for images in ("train_image", "test_image"):
        together = [getattr(task, images) for task in tasks]
        assert sum(map(image_set, together), collections.Counter()) == image_set(getattr(whole, images))
        assert max(map(len, together)) - min(map(len, together)) <= 1
    assert all(set(task.train_label) == set(range(10)) for task in tasks)
    other = open_digits(**by_images, subset_seed=1)
    assert image_set(tasks[0].train_image) != image_set(other.task(0).train_image)


def test_a_split_by_images_of_some_classes_with_few_images_and_a_held_out_part(open_digits):
    settings = {"order": "data", "classes_per_task": 3, "validation_fraction": 0.25}
    full, few = (every(open_digits(**settings, examples_per_task=n)) for n in (0, 21))
    for a, b in zip(few, full):
        assert np.unique(a.train_label, return_counts=True)[1].tolist() == [7, 7, 7]
        assert image_set(a.train_image) < image_set(b.train_image)
        np.testing.assert_array_equal(a.test_image, b.test_image)
    whole = open_digits(num_tasks=1, classes_per_task=3).task(0)
    together = (image_set(images) for task in full for images in (task.train_image, task.test_image))
    assert sum(together, collections.Counter()) == image_set(whole.train_image)


def parts_of_sequence(tasks):
    """Returns the places of the examples of each training task, in the order in which they come."""
    return [tasks.sequence.index[start:end].tolist() for start, end in itertools.pairwise(tasks.starts)]


def test_tasks_by_the_order_of_a_file_are_equal_cuts_in_stored_order(data_dir):
    config = stream_config(SHAPES, order="file", classes_per_task=3, num_tasks=4)
    with open_stream(config, data_dir) as tasks:
        assert tasks.classes == ((0, 1, 2),) * 4
        assert parts_of_sequence(tasks) == np.arange(60).reshape(4, 15).tolist()
        cuts = every(tasks)
    with open_stream(stream_config(SHAPES, order="file", classes_per_task=3, num_tasks=1), data_dir) as tasks:
        whole = tasks.task(0)
    np.testing.assert_array_equal(np.concatenate([cut.train_image for cut in cuts]), whole.train_image)
    np.testing.assert_array_equal(np.concatenate([cut.test_image for cut in cuts]), whole.test_image)
    assert [len(cut.test_label) for cut in cuts] == [8, 7, 8, 7]


def test_tasks_by_domain_have_the_images_of_one_value_of_a_feature(data_dir):
    domains = {"order": "domain", "domain_key": "size", "classes_per_task": 3}
    with open_stream(stream_config(SHAPES, **domains, num_tasks=2), data_dir) as tasks:
        for task, data in enumerate(every(tasks)):
            assert sorted(np.asarray(data.train_image)[:, 6, 6, 0]) == list(range(task, 60, 2))
            assert sorted(np.asarray(data.test_image)[:, 6, 6, 0]) == list(range(task, 30, 2))
    with open_stream(stream_config(SHAPES, **domains, num_tasks=1), data_dir) as tasks:
        assert sorted(np.asarray(tasks.task(0).train_image)[:, 6, 6, 0]) == list(range(0, 60, 2))
    with pytest.raises(ValueError, match="num_tasks is 3, but the training split has 2 domains in 'size'"):
        open_stream(stream_config(SHAPES, **domains, num_tasks=3), data_dir)
    for key in ("colour", "picture"):
        with pytest.raises(UsageError, match=f"has no domain_key '{key}'"):
            open_stream(stream_config(SHAPES, **domains | {"domain_key": key}), data_dir)


def test_classes_of_an_imbalanced_stream_have_the_sizes_of_the_definition(open_digits):
    full, tail, step = open_digits(), *(open_digits(imbalance=10, imbalance_shape=s) for s in ("long_tail", "step"))
    sizes, tails, steps = (np.bincount(one.labels) for one in (full, tail, step))
    kept = sorted(
        np.ceil(10 ** (-np.arange(10) / 9) * 145) / 145
    )  # digits have 143 to 147 training images of each class
    np.testing.assert_allclose(sorted(tails / sizes), kept, atol=0.01)
    np.testing.assert_allclose(sorted(steps / sizes), [0.1] * 5 + [1.0] * 5, atol=0.01)
    assert np.bincount(open_digits(imbalance=10, subset_seed=1).labels).tolist() != tails.tolist()
    assert tail.test_sizes == full.test_sizes


def test_training_tasks_of_a_stream_hold_the_images_of_their_part_of_the_sequence(open_digits):
    whole = open_digits(num_tasks=1, classes_per_task=10).task(0)
    plain = open_digits()
    for changed in ({}, {"blur": 0.8}, {"repeat": 3, "blur": 0.5}, {"correlation": 4}, {"joint": True}):
        tasks = open_digits(**changed)
        assert sorted(np.unique(tasks.sequence.index)) == sorted(plain.sequence.index)
        parts = parts_of_sequence(tasks)
        held = [tasks.training(slice(*ends)) for ends in itertools.pairwise(tasks.starts)]
        assert tasks.train_sizes == tuple(map(len, map(set, parts))) == tuple(len(one.label) for one in held)
        assert sum((image_set(one.image) for one in held), collections.Counter()) == image_set(whole.train_image)
        for part, one in zip(parts, held):
            labels = tasks.labels[[tasks.sequence.index.tolist().index(place) for place in set(part)]]
            assert np.bincount(labels, minlength=10).tolist() == np.bincount(one.label, minlength=10).tolist()
    with pytest.raises(ValueError, match=r"examples_per_task is 4, but task 1 of digits has 4 .* for the 5 rounds"):
        open_digits(examples_per_task=4, repeat=5)
    blurred = open_digits(blur=0.8)
    assert set(blurred.training(slice(*blurred.starts[:2])).label) == {0, 1, 2, 3}
    assert blurred.train_sizes == plain.train_sizes
    np.testing.assert_array_equal(blurred.task(0).train_image, plain.task(0).train_image)


def test_class_order_keeps_the_classes_of_the_benchmark(open_digits):
    tasks = open_digits(num_tasks=2, class_order_seed=1)
    assert sorted(itertools.chain(*tasks.classes)) == [0, 1, 2, 3]


# Few-shot and validation


def test_few_shot_is_balanced_nested_and_spares_the_test_set(open_digits):
    full, small, large = (open_digits(examples_per_task=n) for n in (0, 21, 60))
    assert (small.train_sizes, large.train_sizes) == ((21,) * 5, (60,) * 5)
    for a, b, c in zip(every(small), every(large), every(full)):
        assert sorted(np.unique(a.train_label, return_counts=True)[1]) == [10, 11]
        assert np.unique(b.train_label, return_counts=True)[1].tolist() == [30, 30]
        assert image_set(a.train_image) < image_set(b.train_image) < image_set(c.train_image)
        np.testing.assert_array_equal(a.test_image, c.test_image)


def test_few_shot_examples_are_those_of_the_documented_rule(open_digits):
    """Checks that the few examples are chosen by a fixed rule, so that a later version trains on the same images."""
    full, few = open_digits().task(1), open_digits(examples_per_task=10, subset_seed=2).task(1)
    chosen = [np.random.default_rng([2, c]).permutation(np.flatnonzero(full.train_label == c))[:5] for c in (2, 3)]
    np.testing.assert_array_equal(few.train_image, full.train_image[np.sort(np.concatenate(chosen))])


def test_few_shot_of_a_class_that_runs_out():
    """Checks that where a class has no examples left, `_subset` takes more of the other classes."""
    pools = [np.array([5, 9]), np.array([1, 2, 3, 4])]
    assert _subset(pools, 5, "", "").tolist() == [1, 2, 3, 5, 9]
    assert _subset(pools, 3, "", "").tolist() == [1, 5, 9]


def test_subsets_are_fixed_by_their_seed_whatever_the_class_order(open_digits):
    few = {"examples_per_task": 20, "test_examples_per_task": 10}

    def union(**overrides):
        tasks = every(open_digits(**few, **overrides))
        return image_set(np.concatenate([image for task in tasks for image in (task.train_image, task.test_image)]))

    assert union() == union()
    assert union() == union(class_order_seed=5)
    assert union() != union(subset_seed=1)


def test_the_subset_follows_the_seed_of_the_run_where_that_is_asked_for(data_dir):
    def images(subset_seed, seed):
        few = {**SMALL, "examples_per_task": 20, "subset_seed": subset_seed}
        with open_stream(stream_config("digits", **few), data_dir, seed) as tasks:
            return image_set(np.concatenate([task.train_image for task in every(tasks)]))

    assert images(-1, 3) == images(3, 0) != images(0, 3) == images(-1, 0)


def test_fewer_test_examples(open_digits):
    for few, full in zip(every(open_digits(test_examples_per_task=12)), every(open_digits())):
        assert np.unique(few.test_label, return_counts=True)[1].tolist() == [6, 6]
        assert image_set(few.test_image) < image_set(full.test_image)
        np.testing.assert_array_equal(few.train_image, full.train_image)


def test_validation_is_a_stratified_part_of_the_training_split(open_digits):
    for held, full in zip(every(open_digits(validation_fraction=0.25)), every(open_digits())):
        assert image_set(held.train_image) + image_set(held.test_image) == image_set(full.train_image)
        for label in np.unique(full.train_label):
            size = (full.train_label == label).sum()
            assert abs((held.test_label == label).sum() - size / 4) <= 0.5


def test_validation_needs_no_test_split_and_few_shot_spares_it(open_digits):
    held = open_digits(validation_fraction=0.25, test_split="none such")
    few = open_digits(validation_fraction=0.25, test_split="none such", examples_per_task=50)
    for a, b in zip(every(held), every(few)):
        np.testing.assert_array_equal(a.test_image, b.test_image)
        assert len(b.train_label) == 50
        assert image_set(b.train_image) < image_set(a.train_image)


# Training tasks


def test_training_gives_a_tasks_own_arrays(open_digits):
    tasks = open_digits()
    image, label = tasks.training(slice(*tasks.starts[3:5]))
    assert image.array is tasks.task(3).train_image.array
    np.testing.assert_array_equal(image, tasks.task(3).train_image)
    np.testing.assert_array_equal(label, tasks.task(3).train_label)


def test_joint_trains_on_the_union_and_evaluates_per_task(open_digits):
    joint, apart = open_digits(joint=True), open_digits()
    assert joint.train_sizes == (sum(apart.train_sizes),)
    assert (joint.num_tasks, joint.classes) == (5, apart.classes)
    image, label = joint.training(slice(0, joint.train_sizes[0]))
    assert label.dtype == np.int32
    np.testing.assert_array_equal(label, np.concatenate([one.train_label for one in every(apart)]))
    assert image_set(image) == sum((image_set(one.train_image) for one in every(apart)), collections.Counter())
    for a, b in zip(every(joint), every(apart)):
        np.testing.assert_array_equal(a.test_image, b.test_image)


def test_training_gives_any_part_of_the_sequence(open_digits):
    tasks = open_digits()
    end = tasks.starts[1] + 7  # from the middle of the first task into the second
    first, second = tasks.task(0), tasks.task(1)
    image, label = tasks.training(slice(5, end))
    # Tasks hold their examples as they are stored, in the order of their places in the split.
    index = tasks.sequence.index
    late = np.searchsorted(np.sort(index[: end - 7]), np.sort(index[5 : end - 7]))
    early = np.searchsorted(np.sort(index[slice(*tasks.starts[1:3])]), np.sort(index[end - 7 : end]))
    np.testing.assert_array_equal(image, np.concatenate([first.train_image[late], second.train_image[early]]))
    np.testing.assert_array_equal(label, np.concatenate([first.train_label[late], second.train_label[early]]))
    place = tasks.places(slice(8, 10), slice(5, end))
    np.testing.assert_array_equal(np.sort(index[5 : end - 7])[place], index[8:10])
    assert [tasks.tasks_seen(count) for count in (0, 1, end - 7, end - 6, sum(tasks.train_sizes))] == [1, 1, 1, 2, 5]


def test_training_gives_examples_as_they_are_stored_whatever_the_sequence(open_digits):
    tasks = open_digits()
    expected, stored = tasks.task(0), tasks.sequence
    reverse = streams.Sequence(
        *(np.repeat(np.sort(x[: tasks.starts[1]])[::-1], 2) for x in stored)
    )  # each twice in a row
    tasks.sequence, whole = reverse, slice(0, 2 * tasks.starts[1])
    image, label = tasks.training(whole)
    np.testing.assert_array_equal(image, expected.train_image)
    np.testing.assert_array_equal(label, expected.train_label)
    np.testing.assert_array_equal(tasks.places(whole, whole), np.repeat(np.arange(tasks.starts[1])[::-1], 2))
    part = slice(10, 14)  # the last but 5, and the last but 6
    image, _ = tasks.training(part)
    np.testing.assert_array_equal(image, expected.train_image[[-7, -6]])
    np.testing.assert_array_equal(tasks.places(part, part), [1, 1, 0, 0])


def test_batches_in_order_have_each_example_once_and_fill_the_last_one():
    indices, first = consecutive_indices(10, 4, 3)
    np.testing.assert_array_equal(indices, [[0, 1, 2, 3], [4, 5, 6, 7], [6, 7, 8, 9]])
    np.testing.assert_array_equal(first.ravel(), [True] * 8 + [False] * 2 + [True] * 2)
    np.testing.assert_array_equal(consecutive_indices(10, 4, 2)[0], indices[:2])  # the last one is dropped
    np.testing.assert_array_equal(consecutive_indices(3, 4, 1)[0], [[0, 1, 2]])


# Decoding


def test_a_task_is_decoded_once_whoever_asks(open_digits, monkeypatch):
    decoded, images = collections.Counter(), tfds_source.Split.images
    count = lambda self, i: decoded.update({self.name: len(i)}) or images(self, i)  # noqa: E731
    monkeypatch.setattr(tfds_source.Split, "images", count)
    tasks = open_digits()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(tasks.task, [1] * 16))
    assert all(result is results[0] for result in results)
    sizes = tasks.train_sizes[1], tasks.test_sizes[1]
    assert decoded == dict(zip(["'digits' split 'train'", "'digits' split 'test'"], sizes))


def test_prefetch_works_in_the_background(open_digits, monkeypatch):
    go, started, images = threading.Event(), threading.Event(), tfds_source.Split.images

    def slow(self, indices):
        started.set()
        assert go.wait(10)
        return images(self, indices)

    monkeypatch.setattr(tfds_source.Split, "images", slow)
    tasks = open_digits()
    tasks.prefetch(2)  # would wait for ever if it decoded in this thread
    assert started.wait(10)
    go.set()
    assert set(tasks.task(2).train_label) == {4, 5}


def test_what_goes_wrong_in_prefetch_is_raised_by_task(open_digits):
    tasks = open_digits(fit="none", image_size=16)
    tasks.prefetch(0)
    with pytest.raises(UsageError, match=r"'digits' split 'train': image of 8x8 pixels, image_size is 16"):
        tasks.task(0)
    for task in (-1, 5):
        with pytest.raises(IndexError, match=f"task {task} of 5"):
            tasks.task(task)


def test_close_ends_the_worker(data_dir):
    before = threading.active_count()
    with open_stream(stream_config("digits"), data_dir) as tasks:
        data = tasks.task(0)
        assert threading.active_count() > before
    assert threading.active_count() == before
    assert tasks.task(0) is data


# Bad settings


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_tasks": 4, "classes_per_task": 3}, r"num_tasks is 4 and classes_per_task 3: .* 12 classes, .* has 10;"),
        ({"class_order": "cassle"}, r"class_order is 'cassle': it is an order of 100 classes, and 'digits' has 10"),
        ({"examples_per_task": 290}, r"examples_per_task is 290, but task 1 of digits has 289 images"),
        (
            {"test_split": "test[:1%]", "classes_per_task": 1},
            r"test_examples_per_task is 0, but task 2 of digits has no images",
        ),
    ],
)
def test_a_data_set_that_has_too_few_names_the_setting_first(open_digits, overrides, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        open_digits(**overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train_split": "learn"}, "'digits' has no split 'learn'; known: test, train"),
        ({"train_split": "train[:0%]"}, "'digits' has no examples in split 'train[:0%]'"),
        ({"train_split": "train[10%:5%]"}, "'digits' has no examples in split 'train[10%:5%]'"),
    ],
)
def test_splits_that_are_not_there_are_told_in_a_line(open_digits, overrides, message):
    with pytest.raises(UsageError) as error:
        open_digits(**overrides)
    assert str(error.value) == message


# Batches


@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (12, 4), (3, 8), (1, 5), (289, 32), (5, 5)])
def test_batches_are_full_and_an_epoch_presents_everything(size, batch_size):
    indices, first = batch_indices(7, 2, 0, size, batch_size)
    assert indices.dtype == np.int64
    assert first.dtype == bool
    of_batch = min(size, batch_size)
    assert indices.shape == first.shape == (-(-size // batch_size), of_batch)
    if size <= batch_size:
        assert sorted(indices[0]) == list(range(size))  # no image occurs twice in a batch
    flat, is_first = indices.ravel(), first.ravel()
    assert sorted(flat[:size]) == list(range(size))
    seen = set()
    for index, new in zip(flat, is_first):
        assert new == (index not in seen)
        seen.add(index)
    later, not_first = batch_indices(7, 2, 1, size, batch_size)
    assert not not_first.any()
    filling = flat[size:]
    np.testing.assert_array_equal(filling[:size], later.ravel()[: min(len(filling), size)])


def test_the_last_batch_is_filled_from_the_epoch_that_follows():
    def permutation(epoch):
        return np.random.default_rng([1, 0, epoch]).permutation(5).tolist()

    indices, _ = batch_indices(1, 0, 4, size=5, batch_size=3)
    assert indices.ravel().tolist() == permutation(4) + permutation(5)[:1]


def test_an_example_is_new_once_even_if_its_first_epochs_leave_it_out():
    run = [batch_indices(3, 1, epoch, size=11, batch_size=4, steps=2) for epoch in range(12)]
    seen = set()
    for epoch, (indices, first) in enumerate(run):
        assert indices.shape == first.shape == (2, 4)
        order = np.random.default_rng([3, 1, epoch]).permutation(11)
        np.testing.assert_array_equal(indices.ravel(), order[:8])
        for index, new in zip(indices.ravel(), first.ravel()):
            assert new == (index not in seen)
            seen.add(index)
    assert seen == set(range(11))
    assert any(first.any() for _, first in run[1:])


def test_batches_are_a_function_of_seed_task_and_epoch():
    base, _ = batch_indices(0, 0, 1, 50, 10)
    np.testing.assert_array_equal(base, batch_indices(0, 0, 1, 50, 10)[0])
    for other in ((1, 0, 1), (0, 1, 1), (0, 0, 2)):
        assert (base != batch_indices(*other, 50, 10)[0]).any()


def test_real_cifar10_tasks():
    """Checks that CIFAR-10 has 5,000 training and 1,000 test images a class, as its makers publish."""
    if prepare.find_prepared("cifar10", REAL_DATA_DIR) is None:
        pytest.skip(f"cifar10 is not prepared in {REAL_DATA_DIR} (set UCL_JAX_DATA_DIR)")
    config = stream_config("cifar10", examples_per_task=100)
    with open_stream(config, REAL_DATA_DIR) as tasks:
        assert tasks.train_sizes == (100,) * 5
        data = tasks.task(4)
        assert np.bincount(data.train_label).tolist() == [0] * 8 + [50, 50]
        assert np.bincount(data.test_label).tolist() == [0] * 8 + [1000, 1000]
        assert data.test_image.shape == (2000, 32, 32, 3)
