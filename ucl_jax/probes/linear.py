"""Measures the accuracy of linear classifiers on frozen features, trained with all labels or a part of them."""

from collections.abc import Sequence

import numpy as np

from ucl_jax.evaluation import linear as classifiers
from ucl_jax.evaluation.evaluators import TaskFeatures
from ucl_jax.probes.base import Probe, Settings, accuracy, each
from ucl_jax.probes.trained_run import TrainedRun


def _measure(run: TrainedRun, after: int, settings: Settings) -> dict:
    seen = run.seen(after)

    def judge(tasks: Sequence[TaskFeatures]):
        """Trains one classifier for all of `tasks`; returns its accuracy on each task, and its penalty."""
        banks = [bank_of(task, settings) for task in tasks]
        bank, label = (np.concatenate(parts) for parts in zip(*banks))
        query = np.concatenate([task.query for task in tasks])
        predicted, penalty = predict(bank, label, query, settings)
        borders = np.cumsum([len(task.query_label) for task in tasks])[:-1]
        parts = np.split(predicted, borders)
        return [accuracy(part, task.query_label) for part, task in zip(parts, tasks)], penalty

    alone = [judge([task]) for task in run.features(after, own_phase=True)]
    present = run.features(after, own_phase=False)
    together, penalty = judge(present[:seen])
    return {
        "task": [row[0] for row, _ in alone],
        "all": together + [None] * (len(present) - seen),
        "penalty_task": [chosen for _, chosen in alone],
        "penalty_all": penalty,
    }


def bank_of(task: TaskFeatures, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Returns the training features [N, F] and labels int32 [N] of a task that the classifier may see."""
    index = classifiers.subset(task.bank_label, settings["fraction"], settings["seed"])
    return task.bank[index], task.bank_label[index]


def predict(
    bank: np.ndarray, label: np.ndarray, query: np.ndarray, settings: Settings
) -> tuple[np.ndarray, float | None]:
    """Trains the classifier that `settings` name, and classifies test features.

    Args:
      bank: training features [N, F].
      label: int32 [N].
      query: test features [Q, F].
      settings: of this probe, for one case.

    Returns:
      Predicted classes int32 [Q], and the penalty that ridge regression chose; None for SGD.
    """
    return SOLVERS[settings["solver"]](bank, label, query, settings)


def _ridge(bank, label, query, settings):
    return classifiers.ridge(bank, label, query, penalties=settings["penalties"], seed=settings["seed"])


def _sgd(bank, label, query, settings):
    return classifiers.sgd(bank, label, query, seed=settings["seed"], **{key: settings[key] for key in OF_SGD}), None


def _cases(run: TrainedRun, settings: Settings) -> list[Settings]:
    """Returns a case for each solver and fraction, without the settings of the other solver."""
    others = {"ridge": OF_SGD, "sgd": ("penalties",)}
    return [
        {key: value for key, value in case.items() if key not in others[case["solver"]]}
        for case in each("solver", "fraction")(run, settings)
    ]


SOLVERS = {"ridge": _ridge, "sgd": _sgd}
OF_SGD = ("epochs", "batch_size", "learning_rate", "momentum", "weight_decay")

linear = Probe(measure=_measure, cases=_cases, needs_labels=True)
