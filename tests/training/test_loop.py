"""Tests the loop: where tasks begin, what remains to be done after a restart, and which events it yields."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests import tiny
from ucl_jax.data.tasks import batch_indices, open_stream
from ucl_jax.evaluation import accuracy_matrix, evaluators
from ucl_jax.evaluation.evaluators import KnnSettings
from ucl_jax.objectives import Readout
from ucl_jax.training import parallel
from ucl_jax.training.build import Experiment, Phase, make_experiment, make_stream_settings
from ucl_jax.training.loop import _selections, begin_task, probe, task_features
from ucl_jax.training.schedule import make_schedule
from ucl_jax.types import Clock, Variables


def selections(seed, leg, schedule, step):
    """Yields the batches of a leg, of a period whose examples alone are held, in the order of the sequence."""
    return _selections(seed, leg, schedule, step, np.arange(schedule.periods[leg.period].size))


def test_what_is_left_is_the_tail_of_the_whole():
    for options in ({}, {"last_batch": "drop"}, {"in_order": True}, {"updates_per_batch": 3}):
        schedule = make_schedule([10, 7], 1 if "in_order" in options else 3, 4, **options)
        leg, start = schedule.legs[1], schedule.periods[1].start
        whole = list(selections(0, leg, schedule, start))
        assert len(whole) == schedule.periods[1].steps
        for done in range(len(whole) + 1):
            left = list(selections(0, leg, schedule, start + done))
            assert len(left) == len(whole) - done
            for ours, theirs in zip(left, whole[done:]):
                jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize(("last_batch", "steps"), [("fill", 2), ("drop", 1)])
def test_each_epoch_has_its_own_order(last_batch, steps):
    schedule = make_schedule([10, 7], 3, 4, last_batch)
    found = [index[:, 0] for index, _ in selections(0, schedule.legs[1], schedule, schedule.periods[1].start)]
    np.testing.assert_array_equal(found[steps : 2 * steps], batch_indices(0, 1, 1, 7, 4, steps)[0])


def test_several_updates_have_the_same_batch():
    one, three = (make_schedule([10, 7], 2, 4, updates_per_batch=k) for k in (1, 3))
    once = list(selections(0, one.legs[1], one, one.periods[1].start))
    thrice = list(selections(0, three.legs[1], three, three.periods[1].start))
    for place, found in enumerate(thrice):
        jax.tree.map(np.testing.assert_array_equal, found, once[place // 3])
    assert len(thrice) == 3 * len(once)


def test_one_pass_is_in_order_whatever_the_legs():
    schedule = make_schedule([17], 1, 4, in_order=True, evaluate_every=6)
    assert [leg.end for leg in schedule.legs] == [2, 3, 5]
    found = [s for leg, start in zip(schedule.legs, (0, 2, 3)) for s in selections(9, leg, schedule, start)]
    places = [*range(16), 13, 14, 15, 16]  # the last batch has one new image
    np.testing.assert_array_equal(np.concatenate([index[:, 0] for index, _ in found]), places)
    firsts = [True] * 16 + [False] * 3 + [True]
    np.testing.assert_array_equal(np.concatenate([first[:, 0] for _, first in found]), firsts)


def test_a_task_smaller_than_a_batch_has_each_image_once_in_its_batch():
    schedule = make_schedule([10, 100, 300], epochs=2, batch_size=256)
    for index, first in selections(0, schedule.legs[1], schedule, 2):
        assert sorted(index[:, 0]) == list(range(100))
        assert first.shape == index.shape == (100, 1)


def test_calls_of_several_steps_select_the_same_batches_and_leave_single_ones_at_the_end():
    one, many = make_schedule([10, 7], 4, 4), make_schedule([10, 7], 4, 4, steps_per_call=3)
    single = list(selections(0, one.legs[1], one, 12))
    together = list(selections(0, many.legs[1], many, 12))
    assert [index.shape for index, _ in together] == [(4, 3), (4, 3), (4, 1), (4, 1)]  # 8 steps
    for one, other in zip(*[(np.concatenate(x, axis=1) for x in zip(*found)) for found in (single, together)]):
        np.testing.assert_array_equal(one, other)


def test_examples_come_in_the_order_of_the_sequence_or_in_a_random_order_of_the_stored_ones():
    places = np.array([5, 3, 3, 4, 0])  # one example comes twice, in a row
    one = make_schedule([5], 1, 2, in_order=True)
    index, first = (np.concatenate(x, axis=1) for x in zip(*_selections(0, one.legs[0], one, 0, places)))
    np.testing.assert_array_equal(index.T, [[5, 3], [3, 4], [4, 0]])
    np.testing.assert_array_equal(first.T, [[True, True], [False, True], [False, True]])
    many = make_schedule([5], 2, 2)
    index, first = (np.concatenate(x, axis=1) for x in zip(*_selections(0, many.legs[0], many, 0, places)))
    np.testing.assert_array_equal(index[:, :3].T, np.sort(places)[batch_indices(0, 0, 0, 5, 2)[0]])
    assert first.sum() == 4


@pytest.mark.parametrize(
    ("recipe", "tasks", "matrix"),
    [
        ("finetune", "seen", [[True, False], [True, True]]),
        ("finetune", "all", [[True, True], [True, True]]),
        ("multitask", "seen", [[True, True]]),
    ],
)
def test_events_and_the_shape_of_the_matrix(recipe, tasks, matrix, tmp_path):
    config = tiny.config(recipe, eval__tasks=tasks, train__epochs=1)
    experiment = make_experiment(config, parallel.AXIS, "cpu")
    compiled = parallel.compile_phases(experiment.phases, jax.local_devices()[:1])
    state = jax.device_put(experiment.init(), compiled[0].sharding)
    with open_stream(make_stream_settings(config), str(tmp_path)) as stream:
        events = [
            (type(event).__name__, event.step, getattr(event, "rows", None))
            for event in tiny.train(config, experiment, compiled, stream, state)
        ]
    steps = [step for name, step, _ in events if name == "StepsDone"]
    assert steps == list(range(1, 11))  # 2 x 80 images in batches of 16, joint or task by task
    rows = [rows for name, _, rows in events if name == "LegDone"]
    assert [[a is not None for a in row["knn_task"].accuracy] for row in rows] == matrix
    assert accuracy_matrix.rows_recorded([row["knn_task"].accuracy for row in rows]) == (
        "all" if np.all(matrix) else "seen"
    )
    assert [step for name, step, _ in events if name == "LegDone"] == ([5, 10] if len(matrix) == 2 else [10])


def test_objective_and_method_are_told_of_the_beginning_of_each_task(tmp_path):
    """Checks that `begin_task` gets the state before a task's first step, which starts from what it returns."""
    config = tiny.config("finetune", train__epochs=1)
    experiment = make_experiment(config, parallel.AXIS, "cpu")
    told = []

    def begin_objective(network, clock):
        told.append(("objective", *map(int, clock)))
        statistics = jax.tree.map(lambda x: x + float(clock.task + 1), network.state["batch_stats"])
        return network.state | {"batch_stats": statistics}

    def begin_method(own, memory, network, clock):
        told.append(("method", *map(int, clock)))
        return own, memory

    phase = experiment.phases[0]
    phase = phase._replace(
        objective=phase.objective._replace(begin_task=begin_objective),
        method=phase.method._replace(begin_task=begin_method),
    )
    clock = Clock(*(np.int32(number) for number in (5, 1, 0, 5, 5)))
    before = experiment.init()
    after = begin_task(phase, before, clock)
    assert told == [("objective", 5, 1, 0, 5, 5), ("method", 5, 1, 0, 5, 5)]
    for ours, theirs in zip(jax.tree.leaves(after.model_state), jax.tree.leaves(before.model_state), strict=True):
        np.testing.assert_allclose(ours, theirs + 2)

    told.clear()
    experiment = experiment._replace(phases=(phase,))
    compiled = parallel.compile_phases(experiment.phases, jax.local_devices()[:1])
    state = jax.device_put(experiment.init(), compiled[0].sharding)
    with open_stream(make_stream_settings(config), str(tmp_path)) as stream:
        for event in tiny.train(config, experiment, compiled, stream, state):
            if event.step == 3:
                middle = jax.device_get(event.state)
        assert [entry[1:3] for entry in told] == [(0, 0), (0, 0), (5, 1), (5, 1)]
        told.clear()
        next(tiny.train(config, experiment, compiled, stream, jax.device_put(middle, compiled[0].sharding), 3, 0))
        assert told == []  # a run that goes on is in the middle of its task


# The tests below ask which network judges which task when the architecture grows. Their phases are stubs.

KNN, BATCH_SIZE = KnnSettings(1, "fixed", 0.1), 4
CLASSES = [(0, 1), (2, 3), (4, 5)]


def stub_experiment(phases, classes=6):
    objective = SimpleNamespace(classes=classes)
    return Experiment((Phase(objective, None, None),) * phases, None, 0, None)


def stub_features(phase, task, queries=10):
    """Returns features of which 3 * task + phase of 10 are classified rightly, by kNN and by the head."""
    right = np.arange(queries) < 3 * task + phase
    label = np.full(queries, CLASSES[task][0])
    code = np.eye(6, dtype=np.float32)[np.where(right, *CLASSES[task])]
    own = np.array(CLASSES[task])
    return evaluators.TaskFeatures(np.eye(6, dtype=np.float32)[own], own, code, label, code)


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_task_is_judged_by_its_own_phase_where_the_probe_knows_the_task(after):
    seen = max(after, 1)
    features = [{phase: stub_features(phase, task) for phase in range(3)} for task in range(3)]
    rows = probe(KNN, stub_experiment(3), features, after, seen, CLASSES)
    assert list(rows) == ["knn_task", "knn_all", "head_task", "head_all"]
    # A task that is not learned yet is judged by the present phase; before the first task, that is the first phase.
    phases = [min(task, max(after - 1, 0)) for task in range(3)]
    own = [10.0 * (3 * task + phase) for task, phase in enumerate(phases)]
    present = [10.0 * (3 * task + max(after - 1, 0)) if task < seen else None for task in range(3)]
    assert rows["knn_task"].accuracy == rows["head_task"].accuracy == own
    assert rows["knn_all"].accuracy == rows["head_all"].accuracy == present


def test_one_network_is_the_only_phase_of_every_task_and_has_no_head_without_labels():
    features = [{0: stub_features(0, task)} for task in range(2)] + [None]
    rows = probe(KNN, stub_experiment(1, classes=None), features, 2, 2, CLASSES)
    assert {name: row.accuracy for name, row in rows.items()} == {
        "knn_task": [0.0, 30.0, None],
        "knn_all": [0.0, 30.0, None],
    }
    assert [stub_experiment(1).phase_index(task) for task in (-1, 0, 3)] == [0, 0, 0]
    assert [stub_experiment(3).phase_index(task) for task in (-1, 0, 1, 2)] == [0, 0, 1, 2]
    assert stub_experiment(1).labelled
    assert not stub_experiment(1, classes=None).labelled


@pytest.mark.parametrize(
    ("task", "after", "phases"), [(0, 0, [0]), (0, 1, [0]), (0, 3, [0, 2]), (1, 3, [1, 2]), (2, 3, [2]), (2, 2, [1])]
)
def test_features_are_taken_by_the_phases_that_probes_ask_for(task, after, phases):
    def features_of(phase):
        def features(network, images):
            assert network == Variables("params", "statistics")
            mean = images.reshape(len(images), -1).mean(axis=1, keepdims=True).astype(np.float32)
            return Readout(mean + 1000 * phase, 2 * mean + 1000 * phase)

        return SimpleNamespace(features=features)

    image = np.arange(7 * 2 * 2 * 3, dtype=np.uint8).reshape(7, 2, 2, 3)
    data = SimpleNamespace(
        train_image=image, train_label=np.arange(7), test_image=image[:5] + 3, test_label=np.arange(5) + task
    )
    stream, network = SimpleNamespace(task={task: data}.get), Variables("params", "statistics")
    compiled = [features_of(phase) for phase in range(3)]
    out = task_features(stub_experiment(3), compiled, stream, network, task, after, BATCH_SIZE)
    assert sorted(out) == phases
    for phase, shown in out.items():
        bank = image.reshape(7, -1).mean(axis=1, keepdims=True)
        np.testing.assert_array_equal(shown.bank, bank + 1000 * phase)
        np.testing.assert_array_equal(shown.query, bank[:5] + 3 + 1000 * phase)
        np.testing.assert_array_equal(shown.logits, 2 * (bank[:5] + 3) + 1000 * phase)
        np.testing.assert_array_equal(shown.bank_label, np.arange(7))
        np.testing.assert_array_equal(shown.query_label, np.arange(5) + task)
