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
from ucl_jax.training.build import Experiment, Phase, make_experiment
from ucl_jax.training.loop import _selections, begin_task, make_schedule, probe, task_features
from ucl_jax.types import Clock, Variables


def test_schedule_by_hand():
    # 10 examples in batches of 4 are 3 steps an epoch, 4 are 1, and 9 are 3.
    schedule = make_schedule([10, 4, 9], epochs=2, batch_size=4)
    assert schedule == ((0, 6, 8, 14), (3, 1, 3), (4, 4, 4), 1)
    assert schedule.total == 14
    # The paper: 10,000 images a task in batches of 256 are 40 steps; 5 tasks of 200 epochs are 40,000.
    assert make_schedule([10_000] * 5, 200, 256).total == 40_000
    # Steps are int32: 2**31 - 1 of them, and no more.
    assert make_schedule([2**31 - 1], 1, 1).total == 2**31 - 1
    with pytest.raises(ValueError, match=r"^epochs is 1000000: .* 25000000000 steps"):
        make_schedule([10_000] * 5, 10**6, 2)


def test_a_task_smaller_than_a_batch_is_one_batch_of_its_own_size():
    schedule = make_schedule([10, 100, 300], epochs=2, batch_size=256)
    assert schedule == ((0, 2, 4, 8), (1, 1, 2), (10, 100, 256), 1)
    for index, first in _selections(0, 1, schedule, 2, 100):
        assert sorted(index[:, 0]) == list(range(100))  # every image occurs once
        assert first.shape == index.shape == (100, 1)


def test_a_last_batch_that_is_not_full_may_be_dropped():
    # CaSSLe: 10,000 images in batches of 256 are 39 steps an epoch; 500 epochs of 5 tasks.
    schedule = make_schedule([10_000] * 5, 500, 256, "drop")
    assert (schedule.steps_per_epoch, schedule.total) == ((39,) * 5, 5 * 500 * 39)
    # A task that is smaller than a batch is one batch all the same.
    assert make_schedule([10, 8, 3], 2, 4, "drop") == ((0, 4, 8, 10), (2, 2, 1), (4, 4, 3), 1)
    with pytest.raises(ValueError, match=r"^last_batch is 'dropped'"):
        make_schedule([10], 2, 4, "dropped")


@pytest.mark.parametrize(("last_batch", "steps"), [("fill", 2), ("drop", 1)])
def test_what_is_left_is_the_tail_of_the_whole(last_batch, steps):
    schedule = make_schedule([10, 7], 3, 4, last_batch)
    start = schedule.starts[1]
    whole = list(_selections(0, 1, schedule, start, 7))
    epochs = [schedule.epoch(start + done + 1, 1) for done in range(len(whole))]
    assert epochs == [epoch for epoch in range(3) for _ in range(steps)]
    for done in range(3 * steps + 1):
        left = list(_selections(0, 1, schedule, start + done, 7))
        assert len(left) == len(whole) - done
        for ours, theirs in zip(left, whole[done:]):
            jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    second = np.concatenate([index for epoch, (index, _) in zip(epochs, whole) if epoch == 1], axis=1)
    np.testing.assert_array_equal(second.T, batch_indices(0, 1, 1, 7, 4, steps)[0])


def test_calls_of_several_steps_select_the_same_batches_and_leave_single_ones_at_the_end():
    single = list(_selections(0, 1, make_schedule([10, 7], 4, 4), 12, 7))
    together = list(_selections(0, 1, make_schedule([10, 7], 4, 4, steps_per_call=3), 12, 7))
    assert [index.shape for index, _ in together] == [(4, 3), (4, 3), (4, 1), (4, 1)]  # 8 steps
    for one, other in zip(*[(np.concatenate(x, axis=1) for x in zip(*found)) for found in (single, together)]):
        np.testing.assert_array_equal(one, other)


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
    with open_stream(config.benchmark, str(tmp_path)) as stream:
        events = [
            (type(event).__name__, event.step, getattr(event, "rows", None))
            for event in tiny.train(config, experiment, compiled, stream, state)
        ]
    steps = [step for name, step, _ in events if name == "StepsDone"]
    assert steps == list(range(1, 11))  # 2 x 80 images in batches of 16, joint or task by task
    rows = [rows for name, _, rows in events if name == "TaskDone"]
    assert [[a is not None for a in row["knn_task"].accuracy] for row in rows] == matrix
    assert accuracy_matrix.rows_recorded([row["knn_task"].accuracy for row in rows]) == (
        "all" if np.all(matrix) else "seen"
    )
    assert [step for name, step, _ in events if name == "TaskDone"] == ([5, 10] if len(matrix) == 2 else [10])


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
    with open_stream(config.benchmark, str(tmp_path)) as stream:
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
