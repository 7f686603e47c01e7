"""Tests the probes of a run on given features, against NumPy and by hand."""

import numpy as np
import pytest

from ucl_jax.evaluation import evaluators


def numpy_knn(queries, bank, labels, k, temperature, classes):
    """Classifies by weighted kNN in a plain loop."""

    def unit(x):
        return x / np.linalg.norm(x)

    predictions = []
    for query in queries:
        similarity = np.array([unit(query) @ unit(entry) for entry in bank])
        scores = np.zeros(classes)
        for index in np.argsort(-similarity)[:k]:
            scores[labels[index]] += np.exp(similarity[index] / temperature)
        predictions.append(scores.argmax())
    return np.array(predictions)


def clusters(rng, labels, spread=1.0, dim=5):
    """Draws features around one centre a class, so that accuracies are neither 0 nor 100."""
    centres = np.random.default_rng(0).normal(size=(6, dim))
    return (centres[labels] + spread * rng.normal(size=(len(labels), dim))).astype(np.float32)


def make_task(seed, classes, bank=40, queries=600):
    rng = np.random.default_rng(seed)
    bank_label, query_label = (rng.choice(classes, n).astype(np.int32) for n in (bank, queries))
    return evaluators.TaskFeatures(clusters(rng, bank_label), bank_label, clusters(rng, query_label), query_label)


CLASSES = [(0, 1), (2, 3), (4, 5)]
TASKS = [make_task(1, [0, 1]), make_task(2, [2, 3], bank=30), make_task(3, [4, 5])]
SETTINGS = evaluators.KnnSettings(k=7, k_rule="fixed", temperature=0.1)


def accuracy(task, bank, labels, k=7, temperature=0.1):
    return 100 * np.mean(numpy_knn(task.query, bank, labels, k, temperature, 6) == task.query_label)


def test_knn_task_is_numpy_in_each_tasks_own_bank():
    row = evaluators.knn_task(TASKS, 3, SETTINGS, CLASSES)
    expected = [accuracy(task, task.bank, task.bank_label) for task in TASKS]
    assert row.accuracy == pytest.approx(expected, abs=1e-4)
    assert 55 < np.mean(expected) < 99
    assert row.k == [7, 7, 7]


def test_knn_all_takes_the_bank_of_all_tasks_seen():
    row = evaluators.knn_all([TASKS[0], TASKS[1], None], 2, SETTINGS, CLASSES)
    bank = np.concatenate([TASKS[0].bank, TASKS[1].bank])
    labels = np.concatenate([TASKS[0].bank_label, TASKS[1].bank_label])
    assert row.accuracy == pytest.approx([*(accuracy(task, bank, labels) for task in TASKS[:2])] + [None], abs=1e-4)
    assert row.k == [7, 7, None]
    queries, true = (np.concatenate([getattr(one, name) for one in TASKS[:2]]) for name in ("query", "query_label"))
    right = numpy_knn(queries, bank, labels, 7, 0.1, 6) == true
    by_class = [100 * np.mean(right[true == label]) for label in range(4)]
    assert row.class_accuracy == pytest.approx([*by_class, None, None], abs=1e-4)


def test_unseen_tasks_count_for_knn_task_only():
    # With eval.tasks=all there are features of every task, although one task was seen.
    assert None not in evaluators.knn_task(TASKS, 1, SETTINGS, CLASSES).accuracy
    row = evaluators.knn_all(TASKS, 1, SETTINGS, CLASSES)
    assert row.accuracy[0] == evaluators.knn_task(TASKS, 1, SETTINGS, CLASSES).accuracy[0]
    assert row.accuracy[1:] == [None, None]


def test_the_bank_of_all_tasks_goes_to_the_device_once(monkeypatch):
    put, sizes = evaluators.put_bank, []
    monkeypatch.setattr(evaluators, "put_bank", lambda *arrays: sizes.append(len(arrays[0])) or put(*arrays))
    evaluators.knn_all(TASKS, 3, SETTINGS, CLASSES)
    assert sizes == [sum(len(task.bank) for task in TASKS)]


def test_k_is_clipped_to_the_bank_and_recorded():
    row = evaluators.knn_task(TASKS, 3, SETTINGS._replace(k=35), CLASSES)
    assert row.k == [35, 30, 35]
    assert row.clipped
    assert not evaluators.knn_task(TASKS, 3, SETTINGS._replace(k=30), CLASSES).clipped
    assert row.accuracy[1] == pytest.approx(accuracy(TASKS[1], TASKS[1].bank, TASKS[1].bank_label, k=30), abs=1e-4)


def test_k_rule_of_the_release():
    row = evaluators.knn_task(TASKS, 2, SETTINGS._replace(k_rule="tasks_seen"), CLASSES)
    assert row.k == [2, 2, 2]
    assert not row.clipped
    assert row.accuracy[0] == pytest.approx(accuracy(TASKS[0], TASKS[0].bank, TASKS[0].bank_label, k=2), abs=1e-4)


def test_extract_pads_the_last_batch_and_drops_the_padding():
    images = np.arange(7 * 2 * 2 * 3, dtype=np.uint8).reshape(7, 2, 2, 3)
    shapes = []

    def features(batch):
        shapes.append(batch.shape)
        return batch.reshape(len(batch), -1)[:, :5].astype(np.float32)

    np.testing.assert_array_equal(evaluators.extract(features, images, 3), images.reshape(7, -1)[:, :5])
    assert shapes == [(3, 2, 2, 3)] * 3


def test_extract_of_several_outputs_and_of_one_that_is_not_there():
    images = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3)

    def features(batch):
        return {"mean": batch.mean(axis=(1, 2, 3)), "corner": (batch[:, 0, 0], ())}

    out = evaluators.extract(features, images, 2)
    np.testing.assert_array_equal(out["mean"], images.reshape(5, -1).mean(axis=1))
    np.testing.assert_array_equal(out["corner"][0], images[:, 0, 0])
    assert out["corner"][1] == ()


# The linear head. Logits are noise over eight classes, with the label's logit lifted. Classes 6 and 7, which belong to
# no task, are highest: an argmax over all classes would never be right.

HEAD_CLASSES = [(4, 1), (0, 5), (2, 3)]  # as in a shuffled class order


def with_logits(seed, classes, queries=200):
    rng = np.random.default_rng(seed)
    label = rng.choice(classes, queries).astype(np.int32)
    logits = rng.normal(size=(queries, 8)).astype(np.float32)
    logits[np.arange(queries), label] += 1.0
    logits[:, 6:] += 20.0
    empty = np.zeros((0, 3), np.float32)
    return evaluators.TaskFeatures(empty, empty[:, 0].astype(np.int32), np.zeros((queries, 3)), label, logits)


HEAD_TASKS = [with_logits(seed, classes) for seed, classes in enumerate(HEAD_CLASSES)]


def head_by_hand(task, allowed):
    right = 0
    for logits, label in zip(task.logits, task.query_label):
        best = max(allowed, key=lambda c: logits[c])
        right += best == label
    return 100 * right / len(task.query_label)


def test_head_task_chooses_among_the_classes_of_each_task():
    expected = [head_by_hand(task, classes) for task, classes in zip(HEAD_TASKS, HEAD_CLASSES)]
    row = evaluators.head_task(HEAD_TASKS, 3, SETTINGS, HEAD_CLASSES)
    assert row == evaluators.MatrixRow(pytest.approx(expected), None, False)
    assert 60 < np.mean(expected) < 90
    # A task that is evaluated but not seen (eval.tasks=all) counts; a task that is not evaluated is None.
    assert evaluators.head_task(HEAD_TASKS, 1, SETTINGS, HEAD_CLASSES).accuracy == pytest.approx(expected)
    row = evaluators.head_task([HEAD_TASKS[0], None, HEAD_TASKS[2]], 1, SETTINGS, HEAD_CLASSES)
    assert row.accuracy == [pytest.approx(expected[0]), None, pytest.approx(expected[2])]


@pytest.mark.parametrize("seen", [1, 2, 3])
def test_head_all_chooses_among_the_classes_of_all_tasks_seen(seen):
    allowed = [label for classes in HEAD_CLASSES[:seen] for label in classes]
    expected = [head_by_hand(task, allowed) for task in HEAD_TASKS[:seen]]
    row = evaluators.head_all(HEAD_TASKS, seen, SETTINGS, HEAD_CLASSES)
    assert row.accuracy[:seen] == pytest.approx(expected)
    assert row.accuracy[seen:] == [None] * (3 - seen)
    assert (row.k, row.clipped) == (None, False)
    if seen > 1:
        assert row.accuracy[0] < head_by_hand(HEAD_TASKS[0], HEAD_CLASSES[0])
    # The loop gives no features of tasks that are not seen.
    tasks = [*HEAD_TASKS[:seen], *[None] * (3 - seen)]
    assert evaluators.head_all(tasks, seen, SETTINGS, HEAD_CLASSES) == row


def test_online_linear_chooses_among_the_classes_of_all_tasks():
    """Checks that output k stands for the k-th smallest label, and that tasks count whether they are seen or not."""
    classes, labels = [(14, 1), (9, 5)], np.array([1, 5, 9, 14])
    tasks, expected = [], []
    for seed, own in enumerate(classes):
        rng = np.random.default_rng(seed)
        place = rng.choice(np.flatnonzero(np.isin(labels, own)), 200)
        logits = rng.normal(size=(200, 4)).astype(np.float32) + np.eye(4, dtype=np.float32)[place]
        tasks.append(make_task(seed, [0, 1], queries=200)._replace(query_label=labels[place], online_logits=logits))
        expected.append(100 * np.mean(logits.argmax(axis=1) == place))
    assert 40 < np.mean(expected) < 90
    assert evaluators.online_linear(tasks, 1, SETTINGS, classes) == (pytest.approx(expected), None, False, None)
    row = evaluators.online_linear([tasks[0], None], 1, SETTINGS, classes)
    assert row.accuracy == [pytest.approx(expected[0]), None]


def test_chance():
    def chance(classes):
        return {name: probe.chance(classes) for name, probe in evaluators.EVALUATORS.items()}

    assert chance([(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]) == {
        "knn_task": 50.0,
        "knn_all": 10.0,
        "head_task": 50.0,
        "head_all": 10.0,
        "online_linear": 10.0,
    }
    twenty = [tuple(range(5 * task, 5 * task + 5)) for task in range(20)]
    assert chance(twenty) == {
        "knn_task": 20.0, "knn_all": 1.0, "head_task": 20.0, "head_all": 1.0, "online_linear": 1.0,
    }  # fmt: skip
    assert set(chance([tuple(range(5))] * 20).values()) == {20.0}  # tasks that share their classes
    # Tasks of two and of three classes have the mean chance of 50 and 33.3; over all five classes chance is 20.
    assert chance([(0, 1), (2, 3, 4)])["head_task"] == pytest.approx(41.6667, abs=1e-4)
    assert chance([(0, 1), (2, 3, 4)])["head_all"] == 20.0


def test_probes_of_an_objective_with_a_head_and_of_one_without():
    assert list(evaluators.evaluators_of(labelled=False)) == ["knn_task", "knn_all"]
    assert list(evaluators.evaluators_of(labelled=True)) == ["knn_task", "knn_all", "head_task", "head_all"]
    assert list(evaluators.evaluators_of(labelled=False, online=True)) == ["knn_task", "knn_all", "online_linear"]
    assert evaluators.evaluators_of(labelled=True, online=True) == evaluators.EVALUATORS
    assert list(evaluators.EVALUATORS) == ["knn_task", "knn_all", "head_task", "head_all", "online_linear"]
    for name, probe in evaluators.EVALUATORS.items():
        assert probe.row is getattr(evaluators, name)
        # A probe that is told the task may take the network of that task's phase.
        assert probe.own_phase == name.endswith("_task")
