"""Features -> probes -> one row of the accuracy matrix."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from ucl_jax.evaluation import knn
from ucl_jax.types import PyTree


class TaskFeatures(NamedTuple):
    """What the network makes of one task.

    bank [N, F] and query [Q, F]: frozen features of the training and test images, with their labels int32 [N] and [Q].
    logits: [Q, C] of the test images, () without a linear head.
    """

    bank: np.ndarray
    bank_label: np.ndarray
    query: np.ndarray
    query_label: np.ndarray
    logits: Any = ()


class MatrixRow(NamedTuple):
    """One row of an accuracy matrix.

    accuracy: per cent for each task, None where not evaluated.
    k: the neighbours that each entry used; None for a probe without neighbours.
    clipped: whether a bank was too small for the k that was asked for.
    """

    accuracy: list[float | None]
    k: list[int | None] | None = None
    clipped: bool = False


class KnnSettings(NamedTuple):
    """k: neighbours, at least 1. k_rule: "fixed", or "tasks_seen" for min(k, tasks seen). temperature: above 0."""

    k: int
    k_rule: str
    temperature: float


class Evaluation(NamedTuple):
    """How networks are evaluated after each task.

    tasks: "all", or "seen": those learned so far.
    knn: settings of the kNN probes.
    batch_size: images that are shown to the network at once, over all devices.
    """

    tasks: str
    knn: KnnSettings
    batch_size: int


# Evaluation.tasks -> how many tasks are evaluated when `seen` of all are learned.
EVALUATED = {"seen": lambda seen, tasks: seen, "all": lambda seen, tasks: tasks}
# The release takes k from the number of tasks that it evaluates.
K_RULES: dict[str, Callable[[int, int], int]] = {"fixed": lambda k, seen: k, "tasks_seen": min}


def extract(features: Callable[[np.ndarray], PyTree], images: np.ndarray, batch_size: int) -> PyTree:
    """`features` (leaves [N, ...]) of images uint8 [N, H, W, C] in batches of `batch_size`; the last one is padded."""
    chunks = []
    for start in range(0, len(images), batch_size):
        chunk = images[start : start + batch_size]
        padding = [(0, batch_size - len(chunk))] + [(0, 0)] * (images.ndim - 1)
        chunks.append(features(np.pad(chunk, padding)))
    return jax.tree.map(lambda *parts: np.concatenate([np.asarray(part) for part in parts])[: len(images)], *chunks)


@partial(jax.jit, static_argnames=("num_classes", "k"))
def _predict(queries, bank, labels, valid, temperature, *, num_classes, k):
    return knn.predict(queries, bank, labels, valid, num_classes=num_classes, k=k, temperature=temperature)


class Bank(NamedTuple):
    """Features that kNN votes with, on the device: features [N, F], label int32 [N], and bool [N], False for padding.

    size: how many of them are no padding.
    """

    features: jax.Array
    label: jax.Array
    valid: jax.Array
    size: int


def put_bank(features: np.ndarray, label: np.ndarray) -> Bank:
    """Puts features [N, F] with labels int [N] on the device, padded: banks of similar size share one program."""
    padding = -len(features) % 1024
    valid = np.arange(len(features) + padding) < len(features)
    arrays = np.pad(features, [(0, padding), (0, 0)]), np.pad(label, (0, padding)), valid
    on_device = jax.device_put(arrays)
    return Bank(features=on_device[0], label=on_device[1], valid=on_device[2], size=len(features))


def knn_accuracy(task: TaskFeatures, bank: Bank, k: int, temperature: float, num_classes: int) -> float:
    """Accuracy in per cent of the queries of a task against a bank; queries in chunks, so that memory is bounded."""
    chunk = 512
    predictions = [
        _predict(np.pad(q, [(0, chunk - len(q)), (0, 0)]), *bank[:3], temperature, num_classes=num_classes, k=k)
        for q in np.array_split(task.query, range(chunk, len(task.query), chunk))
    ]
    predicted = np.concatenate([np.asarray(p) for p in predictions])[: len(task.query)]
    return 100.0 * int(np.sum(predicted == task.query_label)) / len(predicted)


Tasks = Sequence[TaskFeatures | None]
Classes = Sequence[Sequence[int]]


def knn_task(tasks: Tasks, seen: int, settings: KnnSettings, classes: Classes) -> MatrixRow:
    """The paper's probe: kNN of each task's queries in the bank of that task alone."""

    def bank(task):
        return None if task is None else put_bank(task.bank, task.bank_label)

    return _knn_row(tasks, map(bank, tasks), seen, settings, classes)


def knn_all(tasks: Tasks, seen: int, settings: KnnSettings, classes: Classes) -> MatrixRow:
    """kNN of each task's queries in the bank of all tasks seen; tasks not seen yet have no classes there."""
    parts = (np.concatenate([getattr(task, name) for task in tasks[:seen]]) for name in ("bank", "bank_label"))
    bank = put_bank(*parts)  # once for all tasks
    return _knn_row(tasks, [bank if i < seen else None for i in range(len(tasks))], seen, settings, classes)


def _knn_row(
    tasks: Tasks, banks: Iterable[Bank | None], seen: int, settings: KnnSettings, classes: Classes
) -> MatrixRow:
    """A row from each task's queries and the bank that they are shown to; None where a task is not evaluated."""
    num_classes = 1 + max(map(max, classes))
    asked = K_RULES[settings.k_rule](settings.k, seen)
    accuracy: list[float | None] = []
    used: list[int | None] = []
    for task, bank in zip(tasks, banks):
        if task is None or bank is None:
            used.append(None)
            accuracy.append(None)
        else:
            used.append(k := min(asked, bank.size))
            accuracy.append(knn_accuracy(task, bank, k, settings.temperature, num_classes))
    return MatrixRow(accuracy, used, any(k is not None and k < asked for k in used))


def head_task(tasks: Tasks, seen: int, settings: KnnSettings, classes: Classes) -> MatrixRow:
    """The linear head, asked for the classes of each task alone."""
    return MatrixRow([None if task is None else _head_accuracy(task, own) for task, own in zip(tasks, classes)])


def head_all(tasks: Tasks, seen: int, settings: KnnSettings, classes: Classes) -> MatrixRow:
    """The linear head, asked for the classes of all tasks seen."""
    known = [label for own in classes[:seen] for label in own]
    return MatrixRow([_head_accuracy(task, known) if task and i < seen else None for i, task in enumerate(tasks)])


def _head_accuracy(task: TaskFeatures, known: Sequence[int]) -> float:
    predicted = np.asarray(known)[np.argmax(task.logits[:, known], axis=1)]
    return 100.0 * int(np.sum(predicted == task.query_label)) / len(predicted)


class Evaluator(NamedTuple):
    """A way to judge a network.

    row: features of the tasks, tasks seen, settings, classes of the tasks -> a row of the accuracy matrix.
    chance: classes of the tasks -> the accuracy of guessing, in per cent.
    own_phase: whether each task is shown to the network of the phase in which it was learned, for the probe is told
      the task; else all are shown to the present one.
    head: whether it needs a linear head.
    """

    row: Callable[[Tasks, int, KnnSettings, Classes], MatrixRow]
    chance: Callable[[Classes], float]
    own_phase: bool
    head: bool


def _chance_task(classes: Classes) -> float:
    return float(np.mean([100.0 / len(task) for task in classes]))


def _chance_all(classes: Classes) -> float:
    return 100.0 / sum(map(len, classes))


EVALUATORS = {
    "knn_task": Evaluator(knn_task, _chance_task, own_phase=True, head=False),
    "knn_all": Evaluator(knn_all, _chance_all, own_phase=False, head=False),
    "head_task": Evaluator(head_task, _chance_task, own_phase=True, head=True),
    "head_all": Evaluator(head_all, _chance_all, own_phase=False, head=True),
}


def evaluators_of(labelled: bool) -> dict[str, Evaluator]:
    """The probes of an objective with a linear head, or of one without."""
    return {name: one for name, one in EVALUATORS.items() if labelled or not one.head}
