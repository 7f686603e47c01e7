"""Measures the accuracy of kNN on frozen features, with other settings than the run's own (Wu et al. 2018)."""

import itertools

from ucl_jax.evaluation import evaluators
from ucl_jax.probes.base import Probe, Settings
from ucl_jax.probes.trained_run import TrainedRun


def _measure(run: TrainedRun, after: int, settings: Settings) -> dict:
    seen, classes = run.seen(after), run.stream.classes
    own, present = (run.features(after, own_phase) for own_phase in (True, False))
    rows = []
    numbers = dict.fromkeys(neighbours(run, after, asked) for asked in settings["k"])  # each once
    for k, temperature in itertools.product(numbers, settings["temperature"]):
        one = evaluators.KnnSettings(k, "fixed", temperature)
        task, together = evaluators.knn_task(own, seen, one, classes), evaluators.knn_all(present, seen, one, classes)
        used = {"task": task.k, "all": together.k}  # fewer than k where a bank is smaller
        rows.append(
            {"k": k, "temperature": temperature, "task": task.accuracy, "all": together.accuracy, "k_used": used}
        )
    return {"rows": rows}


def neighbours(run: TrainedRun, after: int, asked: int | str) -> int:
    """Returns the number of neighbours that a setting asks for.

    Args:
      run: gives what words stand for.
      after: the number of tasks that the network has learned.
      asked: a number; or "run" for that of the run's config; or "tasks" for the tasks seen, as the official code.
    """
    named = {"run": run.evaluation.knn.k, "tasks": run.seen(after)}
    return named[asked] if asked in named else int(asked)


knn = Probe(measure=_measure, needs_labels=True)
