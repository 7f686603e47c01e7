"""Probes over features, against NumPy and by hand."""

import numpy as np
import pytest

from ucl_jax import evaluate
from ucl_jax.errors import UsageError


def numpy_knn(queries, bank, labels, k, temperature, classes):
    """Weighted kNN by a plain loop."""

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
    """Features around one centre a class, so that accuracies are neither 0 nor 100."""
    centres = np.random.default_rng(0).normal(size=(6, dim))
    return (centres[labels] + spread * rng.normal(size=(len(labels), dim))).astype(np.float32)


def make_task(seed, classes, bank=40, queries=600):
    rng = np.random.default_rng(seed)
    bank_label, query_label = (rng.choice(classes, n).astype(np.int32) for n in (bank, queries))
    return evaluate.TaskFeatures(clusters(rng, bank_label), bank_label, clusters(rng, query_label), query_label)


TASKS = [make_task(1, [0, 1]), make_task(2, [2, 3], bank=30), make_task(3, [4, 5])]
SETTINGS = evaluate.KnnSettings(k=7, k_rule="fixed", temperature=0.1)


def accuracy(task, bank, labels, k=7, temperature=0.1):
    return 100 * np.mean(numpy_knn(task.query, bank, labels, k, temperature, 6) == task.query_label)


def test_knn_task_is_numpy_in_each_tasks_own_bank():
    row = evaluate.knn_task(TASKS, 3, SETTINGS, 6)
    expected = [accuracy(task, task.bank, task.bank_label) for task in TASKS]
    assert row.accuracy == pytest.approx(expected, abs=1e-4)
    assert 55 < np.mean(expected) < 99
    assert row.k == [7, 7, 7]


def test_knn_all_takes_the_bank_of_all_tasks_seen():
    row = evaluate.knn_all([TASKS[0], TASKS[1], None], 2, SETTINGS, 6)
    bank = np.concatenate([TASKS[0].bank, TASKS[1].bank])
    labels = np.concatenate([TASKS[0].bank_label, TASKS[1].bank_label])
    assert row.accuracy == pytest.approx([*(accuracy(task, bank, labels) for task in TASKS[:2])] + [None], abs=1e-4)
    assert row.k == [7, 7, None]


def test_unseen_tasks_count_for_knn_task_only():
    # eval.tasks=all: features of every task are there although one was seen.
    assert None not in evaluate.knn_task(TASKS, 1, SETTINGS, 6).accuracy
    row = evaluate.knn_all(TASKS, 1, SETTINGS, 6)
    assert row.accuracy[0] == evaluate.knn_task(TASKS, 1, SETTINGS, 6).accuracy[0]
    assert row.accuracy[1:] == [None, None]


def test_k_is_clipped_to_the_bank_and_recorded():
    row = evaluate.knn_task(TASKS, 3, SETTINGS._replace(k=35), 6)
    assert row.k == [35, 30, 35]
    assert row.clipped
    assert not evaluate.knn_task(TASKS, 3, SETTINGS._replace(k=30), 6).clipped
    assert row.accuracy[1] == pytest.approx(accuracy(TASKS[1], TASKS[1].bank, TASKS[1].bank_label, k=30), abs=1e-4)


def test_k_rule_of_the_release():
    row = evaluate.knn_task(TASKS, 2, SETTINGS._replace(k_rule="tasks_seen"), 6)
    assert row.k == [2, 2, 2]
    assert not row.clipped
    assert row.accuracy[0] == pytest.approx(accuracy(TASKS[0], TASKS[0].bank, TASKS[0].bank_label, k=2), abs=1e-4)


def test_extract_pads_the_last_batch_and_drops_the_padding():
    images = np.arange(7 * 2 * 2 * 3, dtype=np.uint8).reshape(7, 2, 2, 3)
    shapes = []

    def features(batch):
        shapes.append(batch.shape)
        return batch.reshape(len(batch), -1)[:, :5].astype(np.float32)

    np.testing.assert_array_equal(evaluate.extract(features, images, 3), images.reshape(7, -1)[:, :5])
    assert shapes == [(3, 2, 2, 3)] * 3


def test_chance():
    assert evaluate.chance([(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]) == {"knn_task": 50.0, "knn_all": 10.0}
    assert evaluate.chance([tuple(range(5))] * 20) == {"knn_task": 20.0, "knn_all": 1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "knn_k is 0"),
        ({"temperature": 0.0}, "knn_temperature"),
        ({"k_rule": "all"}, "known: fixed, tasks_seen"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(UsageError, match=message):
        evaluate.check(SETTINGS._replace(**change))
