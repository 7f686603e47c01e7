"""kNN on frozen features with other numbers of neighbours and temperatures than the run's own (Wu et al. 2018)."""

import itertools

from ucl_jax import evaluate
from ucl_jax.probes.base import Probe, Settings
from ucl_jax.subject import Subject


def _measure(subject: Subject, after: int, settings: Settings) -> dict:
    seen, classes = subject.seen(after), subject.stream.classes
    own, present = (subject.features(after, own_stage) for own_stage in (True, False))
    rows = []
    for asked, temperature in itertools.product(settings["k"], settings["temperature"]):
        k = neighbours(subject, after, asked)
        one = evaluate.KnnSettings(k, "fixed", temperature)
        task, together = evaluate.knn_task(own, seen, one, classes), evaluate.knn_all(present, seen, one, classes)
        used = {"task": task.k, "all": together.k}  # fewer than k where a bank is smaller
        rows.append(
            {"k": k, "temperature": temperature, "task": task.accuracy, "all": together.accuracy, "k_used": used}
        )
    return {"rows": rows}


def neighbours(subject: Subject, after: int, asked: int | str) -> int:
    """A number of neighbours: itself, "run" for the run's own, or "tasks" for the tasks seen (the official release)."""
    named = {"run": subject.config.eval.knn_k, "tasks": subject.seen(after)}
    return named[asked] if asked in named else int(asked)


knn = Probe(settings={"k": ("run", "tasks"), "temperature": (0.1,)}, measure=_measure)
