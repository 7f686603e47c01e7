"""Forward and backward transfer (Lopez-Paz & Ranzato 2017) of kNN within the task; the baseline is untrained."""

from ucl_jax import evaluate, metrics, train
from ucl_jax.errors import require
from ucl_jax.probes.base import Probe, Settings
from ucl_jax.subject import Subject


def _measure(subject: Subject, after: None, settings: Settings) -> dict:
    chosen, classes = train.knn_settings(subject.config), subject.stream.classes
    kept, tasks = subject.checkpoints[1:], len(subject.stream.train_sizes)
    require(
        len(kept) == tasks,
        f"transfer needs the network after each of {tasks} tasks, kept are {', '.join(map(str, kept))}: "
        "finish the run, or train it anew with config.checkpoint.networks=True",
    )

    def row(after):
        features = subject.features(after, own_stage=True)
        return evaluate.knn_task(features, subject.seen(after), chosen, classes).accuracy

    initial, *matrix = map(row, subject.checkpoints)
    return {
        "matrix": matrix,
        "random_init": initial,
        "forward": metrics.forward_transfer(matrix, initial),
        "backward": metrics.backward_transfer(matrix),
        "learning_accuracy": metrics.learning_accuracy(matrix),
    }


transfer = Probe(settings={}, measure=_measure, whole=True)
