"""Tests the order of a stream against definitions that are computed another way."""

import collections
import itertools

import numpy as np
import pytest

from ucl_jax.data import streams
from ucl_jax.data.streams import Sequence
from ucl_jax.data.tasks import batch_indices

SHAPES = list(streams.BLURS)


def make_parts(sizes):
    """Returns tasks of these sizes; their examples are numbered through, each task's from a multiple of 1000."""
    return [Sequence(1000 * t + np.arange(n), np.full(n, t, np.int32)) for t, n in enumerate(sizes)]


def make(sizes, *, repeat=1, blur=0.0, shape="linear", correlation=1, seed=0):
    parts = [streams.shuffled(part, seed, number) for number, part in enumerate(make_parts(sizes))]
    sequence, starts = streams.joined(streams.in_rounds(parts, repeat))
    blurred = streams.blurred(sequence, starts, blur, shape, seed)
    return streams.in_runs(blurred, correlation), starts * correlation


def test_a_stream_is_an_exact_partition_for_any_settings():
    rng = np.random.default_rng(0)
    for seed in range(200):
        repeat, correlation = rng.integers(1, 6, 2)
        sizes = rng.integers(repeat, 60, rng.integers(1, 12))
        settings = dict(repeat=repeat, blur=rng.random(), shape=SHAPES[seed % 2], correlation=correlation, seed=seed)
        sequence, starts = make(sizes, **settings)
        expected = collections.Counter(dict.fromkeys(np.concatenate([p.index for p in make_parts(sizes)]), correlation))
        assert collections.Counter(sequence.index.tolist()) == expected
        assert (sequence.task == sequence.index // 1000).all()
        assert (sequence.index.dtype, sequence.task.dtype) == (np.int64, np.int32)
        assert starts[0] == 0
        assert starts[-1] == len(sequence.index)
        assert len(starts) == repeat * len(sizes) + 1
        runs = [len(list(run)) for _, run in itertools.groupby(sequence.index)]
        assert set(runs) == {correlation}  # each image is in one place of the stream
        again = make(sizes, **settings)
        np.testing.assert_array_equal(sequence.index, again[0].index)


def test_another_seed_gives_another_order():
    for shape in SHAPES:
        one, other = (make([50, 50], blur=1.0, shape=shape, seed=seed)[0] for seed in (0, 1))
        assert (one.task != other.task).any()
        assert (one.index != other.index).any()


def test_without_options_the_stream_is_the_first_epoch_of_each_task():
    sizes = [40, 7, 23]
    sequence, starts = make(sizes, seed=3)
    assert starts.tolist() == [0, 40, 47, 70]
    for task, (start, size) in enumerate(zip(starts, sizes)):
        batches, _ = batch_indices(seed=3, task=task, epoch=0, size=size, batch_size=1)
        assert (sequence.index[start : start + size] - 1000 * task).tolist() == batches[:, 0].tolist()


def test_rounds_bring_each_task_back_with_other_images():
    sequence, starts = make([9, 10, 11], repeat=3)
    pieces = [sequence.at(slice(*ends)) for ends in itertools.pairwise(starts)]
    assert [set(piece.task) for piece in pieces] == [{0}, {1}, {2}] * 3
    assert [len(piece.index) for piece in pieces] == [3, 4, 4, 3, 3, 4, 3, 3, 3]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("blur", [0.2, 0.5, 1.0])
def test_shares_in_a_zone_follow_the_definition(shape, blur):
    size = 100_000
    sequence, _ = make([size, 2 * size], blur=blur, shape=shape)
    zone = blur * size  # of the smaller task
    offsets = np.arange(3 * size) - size
    found = [(sequence.task[np.abs(offsets - c) < size / 100] == 1).mean() for c in zone * np.linspace(-0.75, 0.75, 13)]
    at = np.linspace(-0.75, 0.75, 13)
    if shape == "linear":
        expected = np.clip(at + 0.5, 0, 1)
        assert (sequence.task[offsets < -zone / 2 - 1] == 0).all()
        assert (sequence.task[offsets > zone / 2 + 1] == 1).all()
    else:
        draws = np.random.default_rng(9).normal(0, np.sqrt(2 * np.pi) / 8, 100_000)
        expected = np.array([(draws < place).mean() for place in at])
    reached = np.abs(at) * zone < 0.49 * size
    np.testing.assert_allclose(np.array(found)[reached], expected[reached], atol=0.03)
    assert (sequence.task[np.abs(offsets) > size / 2 + 1] == (offsets > 0)[np.abs(offsets) > size / 2 + 1]).all()
    assert (sequence.task[:size] == 1).sum() / zone == pytest.approx(1 / 8, abs=0.01)


def test_only_neighbours_mix_in_a_linear_blur_and_the_ends_stay():
    sequence, starts = make([1000] * 5, blur=1.0)
    for task, (start, end) in enumerate(itertools.pairwise(starts)):
        here = sequence.task[start:end]
        assert set(here) == set(range(5)) & {task - 1, task, task + 1}
        assert 0.2 < (here != task).mean() * (2 if task in (0, 4) else 1) < 0.3
    assert (sequence.task[:500] == 0).all()
    assert (sequence.task[-500:] == 4).all()


@pytest.mark.parametrize("classes", [1, 2, 7, 10, 100])
@pytest.mark.parametrize("imbalance", [1.0, 2.0, 100.0])
def test_shares_of_classes_follow_the_definition(classes, imbalance):
    tail = streams.class_shares(classes, imbalance, "long_tail", 0)
    ranked = [imbalance ** (-rank / (classes - 1)) if rank else 1 for rank in range(classes)]  # Cui et al. 2019
    np.testing.assert_allclose(np.sort(tail)[::-1], ranked, rtol=1e-12)
    step = streams.class_shares(classes, imbalance, "step", 0)
    small = [1 / imbalance] * (classes // 2)
    np.testing.assert_allclose(np.sort(step), small + [1.0] * (classes - len(small)))
    if classes > 9 and imbalance > 1:
        for shape in streams.TAILS:
            drawn = [streams.class_shares(classes, imbalance, shape, seed).tolist() for seed in (0, 0, 1)]
            assert drawn[0] == drawn[1] != drawn[2]


def test_parts_are_equal_and_those_of_a_file_are_in_its_order():
    for size, parts in ((10, 3), (100, 7), (5, 5)):
        in_file = streams.parts_of("file", size, parts, 0)
        assert (np.diff(in_file) >= 0).all()
        assert sorted(streams.parts_of("data", size, parts, 0)) == in_file.tolist()
        counts = np.bincount(in_file)
        assert len(counts) == parts
        assert counts.max() - counts.min() <= 1


def test_counts_over_time_are_those_of_each_window():
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 4, 103)
    counts = streams.counts_over_time(kinds, 5, 10)
    assert counts.shape == (10, 5)
    edges = [-(-103 * window // 10) for window in range(11)]
    for window, (start, end) in enumerate(itertools.pairwise(edges)):
        assert counts[window].tolist() == [(kinds[start:end] == kind).sum() for kind in range(5)]
    assert streams.counts_over_time(kinds[:3], 5, 10).sum(axis=1).tolist() == [1, 1, 1]


def test_unknown_words_are_refused():
    with pytest.raises(ValueError, match="blur_shape"):
        make([5, 5], shape="round")
    with pytest.raises(ValueError, match="imbalance_shape"):
        streams.class_shares(3, 2.0, "round", 0)
