"""Measures time and memory of the kNN probe against scikit-learn's brute force.

    python -m benchmarks.knn [--bank=50000 --queries=10000 --features=512 --k=200 --repeats=3]

Features are random, around a centre for each class. Each program has a process of its own with all cores, and works
while the others wait. The programs take turns, and the median counts. The first pass of each is a warm-up: it includes
our compilation, and its time is recorded separately. Memory is the most that a process has ever held (ru_maxrss), which
includes its imports and the features; the most that it held before its first pass is recorded too.

Writes benchmarks/results/knn.json.
"""

import argparse
import contextlib
import importlib.metadata
import json
import pathlib
import resource
import sys
import tempfile
import time

import numpy as np

from benchmarks import measure
from ucl_jax.cli import Parser, returns_exit_code
from ucl_jax.errors import require

CLASSES, TEMPERATURE = 100, 0.1
RESULT = measure.RESULTS / "knn.json"


def make_features(given: argparse.Namespace) -> tuple[np.ndarray, ...]:
    """Returns bank, its labels, queries and their labels; the classes are clusters that overlap."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, given.features)).astype(np.float32)

    def draw(count):
        label = rng.integers(0, CLASSES, count, dtype=np.int32)
        features = rng.standard_normal((count, given.features), np.float32)
        features *= np.float32(given.noise)  # in place, as below, so that no peak of memory here hides a later one
        for one, centre in enumerate(centres):
            features[label == one] += centre
        return features, label

    return *draw(given.bank), *draw(given.queries)


# A program takes features and options, and returns a pass: a function of the queries' labels that returns the accuracy
# in per cent, and the predictions or None. Imports are inside, so that a process holds those of its own program only.


def ours(bank, label, queries, given):
    """Returns a pass of `ucl_jax.evaluation.evaluators.knn_accuracy`, the probe of every run."""
    from ucl_jax.evaluation.evaluators import TaskFeatures, knn_accuracy, put_bank

    def make_pass(answer):
        task = TaskFeatures(bank, label, queries, answer)
        return knn_accuracy(task, put_bank(bank, label), given.k, TEMPERATURE, CLASSES), None

    return make_pass


def _scikit_learn(bank, label, queries, given, metric, cosine):
    """Returns a pass of scikit-learn with a metric; `cosine` turns its distances into cosine similarities."""
    from sklearn.neighbors import KNeighborsClassifier

    def weights(distance):
        return np.exp((cosine(distance) - 1) / TEMPERATURE)

    model = KNeighborsClassifier(given.k, algorithm="brute", metric=metric, weights=weights, n_jobs=-1)
    model.fit(bank, label)

    def make_pass(answer):
        predicted = model.predict(queries)
        return 100.0 * float(np.mean(predicted == answer)), predicted

    return make_pass


def scikit_learn_cosine(bank, label, queries, given):
    """Returns a pass of scikit-learn's brute force with its cosine metric."""
    return _scikit_learn(bank, label, queries, given, "cosine", lambda distance: 1 - distance)


def scikit_learn_euclidean(bank, label, queries, given):
    """Returns a pass of scikit-learn's brute force on unit vectors: the same neighbours by its fast parallel search."""
    bank, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, queries))
    return _scikit_learn(bank, label, queries, given, "euclidean", lambda distance: 1 - np.square(distance) / 2)


PROGRAMS = {f.__name__: f for f in (ours, scikit_learn_cosine, scikit_learn_euclidean)}


def _mebibytes() -> float:
    """Returns the most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(given: argparse.Namespace) -> None:
    """Works as the process of one program: makes a pass for each question, which names a file of labels or is ""."""
    bank, label, queries, answer = make_features(given)
    make_pass = PROGRAMS[given.program](bank, label, queries, given)

    def reply(compare_with):
        compared = np.load(compare_with) if compare_with else answer
        began = time.perf_counter()
        accuracy, predicted = make_pass(compared)
        seconds = time.perf_counter() - began
        if predicted is not None:
            np.save(given.predictions, predicted)
        return {"accuracy": accuracy, "seconds": seconds, "mebibytes": _mebibytes()}

    measure.answer(lambda: {"mebibytes": _mebibytes()}, reply)


def start(program: str, predictions: pathlib.Path):
    """Starts the process of a program with the options of this one, see `measure.start`.

    Its first answer is its memory before the first pass. A question is the file of labels to compare with, or "" for
    the true labels. The predictions, where the program has them, are written to the file `predictions`.
    """
    options = [*sys.argv[1:], f"--program={program}", f"--predictions={predictions}"]
    return measure.start("benchmarks.knn", options)


@returns_exit_code
def main(argv: list[str]) -> None:
    """Measures, writes the file, and prints it."""
    parser = Parser(prog="python -m benchmarks.knn", description=__doc__.splitlines()[0])
    parser.add_argument("--bank", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--k", type=int, default=200)
    parser.add_argument("--noise", type=float, default=5.0, help="deviation around the centres, whose own is 1")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    parser.add_argument("--program", choices=PROGRAMS, help=argparse.SUPPRESS)
    parser.add_argument("--predictions", default="", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    for name in ("bank", "queries", "features", "k", "repeats"):
        require(getattr(given, name) >= 1, f"--{name} is {getattr(given, name)}; it must be at least 1")
    require(given.k <= given.bank, f"--k is {given.k}, but --bank has {given.bank} features")
    measure.check_out(given.out, RESULT)
    if given.program:
        work(given)
        return
    passes = {program: [] for program in PROGRAMS}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        saved = {program: pathlib.Path(folder, f"{program}.npy") for program in PROGRAMS}
        children = {program: stack.enter_context(start(program, saved[program])) for program in PROGRAMS}
        for _ in range(1 + given.repeats):
            for program, (_, make_pass) in children.items():
                passes[program].append(make_pass(""))
                print(f"{program}: {passes[program][-1]['seconds']:.2f} s", flush=True)
        # Ours returns its accuracy only. With another program's predictions as labels, that is the share of equal ones.
        agreement = {p: children["ours"][1](str(saved[p]))["accuracy"] for p in PROGRAMS if p != "ours"}
        before = {program: at_rest["mebibytes"] for program, (at_rest, _) in children.items()}
    result = {
        "settings": {
            name: value for name, value in vars(given).items() if name not in ("program", "predictions", "out")
        },
        "classes": CLASSES,
        "temperature": TEMPERATURE,
        **measure.where(),
        "scikit_learn": importlib.metadata.version("scikit-learn"),
        "seconds": {p: measure.spread([one["seconds"] for one in done[1:]]) for p, done in passes.items()},
        "first_seconds": {p: done[0]["seconds"] for p, done in passes.items()},
        "peak_mebibytes": {p: done[-1]["mebibytes"] for p, done in passes.items()},
        "before_mebibytes": before,
        "accuracy": {p: done[-1]["accuracy"] for p, done in passes.items()},
        "same_predictions_as_ours_percent": agreement,
    }
    measure.save(given.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
