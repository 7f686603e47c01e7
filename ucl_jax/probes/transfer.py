"""Measures forward and backward transfer (Lopez-Paz & Ranzato 2017) by kNN within the task.

The baseline of forward transfer is the untrained network.
"""

from ucl_jax.errors import require
from ucl_jax.evaluation import accuracy_matrix, evaluators
from ucl_jax.probes.base import Probe, Settings
from ucl_jax.probes.trained_run import TrainedRun


def _measure(run: TrainedRun, after: None, settings: Settings) -> dict:
    chosen, classes = run.evaluation.knn, run.stream.classes
    kept, tasks = run.afters[1:], len(run.stream.train_sizes)
    require(
        len(kept) == tasks,
        f"transfer needs the network after each of {tasks} tasks, kept are {', '.join(map(str, kept))}: "
        "finish the run, or train it anew with config.checkpoint.networks=True",
    )

    require(
        run.stream_settings.joint or list(map(run.seen, kept)) == list(range(1, tasks + 1)),
        "transfer compares networks after each task, and this run over a stream was evaluated at other times",
    )

    def row(after):
        features = run.features(after, own_phase=True)
        return evaluators.knn_task(features, run.seen(after), chosen, classes).accuracy

    initial, *matrix = map(row, run.afters)
    return {
        "matrix": matrix,
        "random_init": initial,
        "forward": accuracy_matrix.forward_transfer(matrix, initial),
        "backward": accuracy_matrix.backward_transfer(matrix),
        "learning_accuracy": accuracy_matrix.learning_accuracy(matrix),
    }


transfer = Probe(measure=_measure, whole_run=True, needs_labels=True)
