"""Holds the probes that a run makes after each task. Each turns features into one row of an accuracy matrix."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from ucl_jax.evaluation import knn
from ucl_jax.types import PyTree


class TaskFeatures(NamedTuple):
    """Holds the features that a network gives to the images of one task.

    Attributes:
      bank: float32 [N, F], features of the training images.
      bank_label: int32 [N], their classes.
      query: float32 [Q, F], features of the test images.
      query_label: int32 [Q], their classes.
      logits: float32 [Q, C] of the test images; () without a linear head.
      online_logits: float32 [Q, C], likewise, by the online linear probe, with an output for each class of the run; ()
        without one.
    """

    bank: np.ndarray
    bank_label: np.ndarray
    query: np.ndarray
    query_label: np.ndarray
    logits: np.ndarray | tuple[()] = ()
    online_logits: np.ndarray | tuple[()] = ()


class MatrixRow(NamedTuple):
    """Holds one row of an accuracy matrix.

    Attributes:
      accuracy: in per cent for each task; None for a task that was not evaluated.
      k: the number of neighbours that each entry used; None for a probe without neighbours.
      clipped: whether a bank was too small for the k that was asked for.
      class_accuracy: in per cent for each class of the run, in the order of labels; None for a class that was not
        evaluated. kNN over all classes has it, None for other probes.
    """

    accuracy: list[float | None]
    k: list[int | None] | None = None
    clipped: bool = False
    class_accuracy: list[float | None] | None = None


class KnnSettings(NamedTuple):
    """Holds the settings of the kNN probes.

    Attributes:
      k: the number of neighbours, at least 1.
      k_rule: "fixed" takes k; "tasks_seen" takes min(k, tasks seen), as the official code does.
      temperature: above 0; votes are weighted by exp(cosine / temperature).
      search: how the nearest are found, a name in `knn.SEARCHES`.
    """

    k: int
    k_rule: str
    temperature: float
    search: str = "exact"


class Evaluation(NamedTuple):
    """Holds how networks are evaluated after each task.

    Attributes:
      tasks: "all" tasks are evaluated, or those "seen".
      knn: settings of the kNN probes.
      batch_size: images that are shown to the network at once, over all devices.
    """

    tasks: str
    knn: KnnSettings
    batch_size: int


# Evaluation.tasks -> (tasks seen, all tasks) -> the number of tasks that are evaluated.
EVALUATED = {"seen": lambda seen, tasks: seen, "all": lambda seen, tasks: tasks}
# KnnSettings.k_rule -> (k, tasks seen) -> the number of neighbours asked for.
K_RULES: dict[str, Callable[[int, int], int]] = {"fixed": lambda k, seen: k, "tasks_seen": min}


def extract(features: Callable[[PyTree], PyTree], images: PyTree, batch_size: int) -> PyTree:
    """Applies a function to images in batches of one size, for which the last is padded.

    Args:
      features: images uint8 [batch_size, H, W, C] -> a tree with leaves [batch_size, ...].
      images: uint8 [N, H, W, C]; or a tree of arrays with leaves [N, ...], whose batches `features` takes then.
      batch_size: images of a batch.

    Returns:
      The same tree as NumPy arrays [N, ...].
    """
    count, chunks = len(jax.tree.leaves(images)[0]), []

    def chunk(x, start):
        part = x[start : start + batch_size]
        return np.pad(part, [(0, batch_size - len(part))] + [(0, 0)] * (part.ndim - 1))

    for start in range(0, count, batch_size):
        chunks.append(features(jax.tree.map(partial(chunk, start=start), images)))
    return jax.tree.map(lambda *parts: np.concatenate([np.asarray(part) for part in parts])[:count], *chunks)


@partial(jax.jit, static_argnames=("num_classes", "k", "search"))
def _predict(queries, bank, labels, valid, temperature, **static):
    return knn.predict(queries, bank, labels, valid, temperature=temperature, **static)


class Bank(NamedTuple):
    """Holds the features that kNN votes with, on the device.

    Attributes:
      features: float32 [N, F].
      label: int32 [N].
      valid: bool [N], False for padding.
      size: the number of features without padding.
    """

    features: jax.Array
    label: jax.Array
    valid: jax.Array
    size: int


def put_bank(features: np.ndarray, label: np.ndarray) -> Bank:
    """Puts features [N, F] and labels int [N] on the device, padded so that banks of similar size share one program."""
    padding = -len(features) % 1024
    valid = np.arange(len(features) + padding) < len(features)
    arrays = np.pad(features, [(0, padding), (0, 0)]), np.pad(label, (0, padding)), valid
    on_device = jax.device_put(arrays)
    return Bank(features=on_device[0], label=on_device[1], valid=on_device[2], size=len(features))


def knn_hits(
    task: TaskFeatures, bank: Bank, k: int, temperature: float, num_classes: int, search: str = "exact"
) -> np.ndarray:
    """Tells which queries of a task kNN classifies rightly: bool [Q].

    The queries are classified in chunks, which bounds the memory.

    Args:
      task: gives the queries and their labels.
      bank: the features that vote.
      k: the number of neighbours, from 1 to the padded size of the bank.
      temperature: above 0.
      num_classes: above the largest label.
      search: how the nearest are found, a name in `knn.SEARCHES`.
    """
    chunk = 512
    static = {"num_classes": num_classes, "k": k, "search": search}
    predictions = [
        _predict(np.pad(q, [(0, chunk - len(q)), (0, 0)]), *bank[:3], temperature, **static)
        for q in np.array_split(task.query, range(chunk, len(task.query), chunk))
    ]
    return np.concatenate([np.asarray(p) for p in predictions])[: len(task.query)] == task.query_label


def knn_accuracy(
    task: TaskFeatures, bank: Bank, k: int, temperature: float, num_classes: int, search: str = "exact"
) -> float:
    """Computes the accuracy of kNN on the queries of a task, in per cent. Arguments as `knn_hits`."""
    return _percent(knn_hits(task, bank, k, temperature, num_classes, search))


def _percent(hits: np.ndarray) -> float:
    return 100.0 * int(np.sum(hits)) / len(hits)


Tasks = Sequence[TaskFeatures | None]
Classes = Sequence[Sequence[int]]


def knn_task(tasks: Tasks, seen: int, settings: KnnSettings, classes: Classes) -> MatrixRow:
    """Computes the row of the paper's probe: kNN within the task. Only the bank of the query's task votes.

    Args:
      tasks: the features of each task; None for a task that is not evaluated.
      seen: the number of tasks that count as known.
      settings: of kNN.
      classes: the labels of each task.
    """

    def bank(task):
        return None if task is None else put_bank(task.bank, task.bank_label)

    return _knn_row(tasks, map(bank, tasks), seen, settings, classes)[0]


def knn_all(tasks: Tasks, seen: int, settings: KnnSettings, classes: Classes) -> MatrixRow:
    """Computes the row of kNN over all classes: the banks of all tasks seen vote. Arguments as `knn_task`.

    Tasks that are not seen yet have no features in this bank, and so no accuracy.
    """
    parts = (np.concatenate([getattr(task, name) for task in tasks[:seen]]) for name in ("bank", "bank_label"))
    bank = put_bank(*parts)  # put on the device once for all tasks
    row, hits = _knn_row(tasks, [bank if i < seen else None for i in range(len(tasks))], seen, settings, classes)
    label = np.concatenate([task.query_label for i, task in enumerate(tasks) if task is not None and i in hits])
    right = np.concatenate([*hits.values()])
    known = sorted(set().union(*classes))
    by_class = [_percent(right[label == one]) if (label == one).any() else None for one in known]
    return row._replace(class_accuracy=by_class)


def _knn_row(
    tasks: Tasks, banks: Iterable[Bank | None], seen: int, settings: KnnSettings, classes: Classes
) -> tuple[MatrixRow, dict[int, np.ndarray]]:
    """Computes a row from the queries of each task and the bank that votes on them; None leaves a task out.

    Returns:
      The row; the number of a task -> which of its queries were classified rightly, bool [Q].
    """
    num_classes = 1 + max(map(max, classes))
    asked = K_RULES[settings.k_rule](settings.k, seen)
    accuracy: list[float | None] = []
    used: list[int | None] = []
    hits: dict[int, np.ndarray] = {}
    for number, (task, bank) in enumerate(zip(tasks, banks)):
        if task is None or bank is None:
            used.append(None)
            accuracy.append(None)
        else:
            used.append(k := min(asked, bank.size))
            hits[number] = knn_hits(task, bank, k, settings.temperature, num_classes, settings.search)
            accuracy.append(_percent(hits[number]))
    return MatrixRow(accuracy, used, any(k is not None and k < asked for k in used)), hits


def head_task(tasks: Tasks, seen: int, settings: KnnSettings, classes: Classes) -> MatrixRow:
    """Computes the row of the linear head within the task: it chooses among the classes of the query's task.

    Arguments as `knn_task`; `seen` and `settings` are not used.
    """
    return MatrixRow([None if task is None else _head_accuracy(task, own) for task, own in zip(tasks, classes)])


def head_all(tasks: Tasks, seen: int, settings: KnnSettings, classes: Classes) -> MatrixRow:
    """Computes the row of the linear head over all classes: it chooses among those of all tasks seen.

    Arguments as `knn_task`; `settings` is not used. Tasks that are not seen yet have no accuracy.
    """
    known = [label for own in classes[:seen] for label in own]
    return MatrixRow([_head_accuracy(task, known) if task and i < seen else None for i, task in enumerate(tasks)])


def _head_accuracy(task: TaskFeatures, known: Sequence[int]) -> float:
    return _accuracy(task, np.asarray(task.logits)[:, known], known)


def online_linear(tasks: Tasks, seen: int, settings: KnnSettings, classes: Classes) -> MatrixRow:
    """Computes the row of the online linear probe: it chooses among the classes of all tasks, seen or not.

    Arguments as `knn_task`; `seen` and `settings` are not used. Labelled images of all tasks have trained the probe.
    """
    known = sorted(set().union(*classes))
    return MatrixRow([None if task is None else _accuracy(task, task.online_logits, known) for task in tasks])


def _accuracy(task: TaskFeatures, logits: np.ndarray | tuple[()], known: Sequence[int]) -> float:
    """Returns the accuracy of logits [Q, K] on the queries of a task, in per cent; `known` has the K labels."""
    predicted = np.asarray(known)[np.argmax(logits, axis=1)]
    return _percent(predicted == task.query_label)


class Evaluator(NamedTuple):
    """A probe that a run makes after each task.

    Attributes:
      row: features of each task, number of tasks seen, settings, labels of each task -> a row of the accuracy matrix.
      chance: labels of each task -> the accuracy of guessing, in per cent.
      own_phase: True for a probe within the task: features come from the phase in which each task was learned. False:
        all come from the present phase. The two differ only where the architecture grows.
      by: what classifies: "knn", the linear "head", or the linear layer "online", which is trained beside the network.
    """

    row: Callable[[Tasks, int, KnnSettings, Classes], MatrixRow]
    chance: Callable[[Classes], float]
    own_phase: bool
    by: str


def _chance_task(classes: Classes) -> float:
    return float(np.mean([100.0 / len(task) for task in classes]))


def _chance_all(classes: Classes) -> float:
    return 100.0 / len(set().union(*classes))


EVALUATORS = {
    "knn_task": Evaluator(knn_task, _chance_task, own_phase=True, by="knn"),
    "knn_all": Evaluator(knn_all, _chance_all, own_phase=False, by="knn"),
    "head_task": Evaluator(head_task, _chance_task, own_phase=True, by="head"),
    "head_all": Evaluator(head_all, _chance_all, own_phase=False, by="head"),
    "online_linear": Evaluator(online_linear, _chance_all, own_phase=False, by="online"),
}


def evaluators_of(labelled: bool, online: bool = False) -> dict[str, Evaluator]:
    """Returns the probes of a run by name.

    Args:
      labelled: whether its objective has labels, and so a linear head.
      online: whether it trains an online linear probe.
    """
    there = {"knn": True, "head": labelled, "online": online}
    return {name: one for name, one in EVALUATORS.items() if there[one.by]}
