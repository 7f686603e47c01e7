"""Time and memory of the kNN probe against scikit-learn's brute force.

    python -m benchmarks.knn [--bank=50000 --queries=10000 --features=512 --k=200 --repeats=3]

Random features around one centre for each class. Each program has a process of its own with all cores, and works while
the others wait; they alternate, and the median counts. The first pass of each is a warm-up: it holds the compilation of
ours, and its time is told apart. Memory is the most that a process ever held (ru_maxrss), with imports and the features
themselves, next to the most that it held before its first pass.
Writes benchmarks/results/knn.json.
"""

import argparse
import contextlib
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from ucl_jax.errors import write_whole

ROOT = pathlib.Path(__file__).parent.parent

CLASSES, TEMPERATURE = 100, 0.1
RESULT = ROOT / "benchmarks" / "results" / "knn.json"


def make_features(given: argparse.Namespace) -> tuple[np.ndarray, ...]:
    """Bank, its labels, queries and their labels; clusters that overlap."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, given.features)).astype(np.float32)

    def draw(count):
        label = rng.integers(0, CLASSES, count, dtype=np.int32)
        features = rng.standard_normal((count, given.features), np.float32)
        features *= np.float32(given.noise)  # in place, as below: no peak of memory here may hide a later one
        for one, centre in enumerate(centres):
            features[label == one] += centre
        return features, label

    return *draw(given.bank), *draw(given.queries)


# Each program: features and options -> a pass: labels of the queries -> accuracy in per cent, and the predictions where
# the program shows them. Imports are inside, for a process must hold those of its own program only.


def ours(bank, label, queries, given):
    """`ucl_jax.evaluate.knn_accuracy`, the probe of every run."""
    from ucl_jax.evaluate import TaskFeatures, knn_accuracy

    def make_pass(answer):
        task = TaskFeatures(bank, label, queries, answer)
        return knn_accuracy(task, bank, label, given.k, TEMPERATURE, CLASSES), None

    return make_pass


def _scikit_learn(bank, label, queries, given, metric, cosine):
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
    """Brute force as one asks for it."""
    return _scikit_learn(bank, label, queries, given, "cosine", lambda distance: 1 - distance)


def scikit_learn_euclidean(bank, label, queries, given):
    """Brute force over unit vectors: the same neighbours by its fast parallel search."""
    bank, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, queries))
    return _scikit_learn(bank, label, queries, given, "euclidean", lambda distance: 1 - np.square(distance) / 2)


PROGRAMS = {f.__name__: f for f in (ours, scikit_learn_cosine, scikit_learn_euclidean)}


def _mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(given: argparse.Namespace) -> None:
    """A process of one program: a pass for each line of input, which names a file of labels to compare with."""
    bank, label, queries, answer = make_features(given)
    make_pass = PROGRAMS[given.program](bank, label, queries, given)
    print(json.dumps({"mebibytes": _mebibytes()}), flush=True)
    for line in sys.stdin:
        compared = np.load(line.strip()) if line.strip() else answer
        began = time.perf_counter()
        accuracy, predicted = make_pass(compared)
        seconds = time.perf_counter() - began
        if predicted is not None:
            np.save(given.predictions, predicted)
        print(json.dumps({"accuracy": accuracy, "seconds": seconds, "mebibytes": _mebibytes()}), flush=True)


@contextlib.contextmanager
def start(program: str, predictions: pathlib.Path):
    """A process with the options of this one; yields its memory before the first pass, and a function for a pass.

    predictions: the file to which the process writes its predictions, if the program shows them.
    """
    command = [sys.executable, "-m", "benchmarks.knn", *sys.argv[1:], f"--program={program}"]
    child = subprocess.Popen(
        [*command, f"--predictions={predictions}"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def answer():
        line = child.stdout.readline()
        if not line:
            raise SystemExit(f"{program} failed, see above")
        return json.loads(line)

    def make_pass(compare_with=""):
        child.stdin.write(f"{compare_with}\n")
        child.stdin.flush()
        return answer()

    try:
        yield answer(), make_pass
    finally:
        child.stdin.close()
        child.wait()


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bank", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--k", type=int, default=200)
    parser.add_argument("--noise", type=float, default=5.0, help="deviation around the centres, whose own is 1")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    parser.add_argument("--program", choices=PROGRAMS, help=argparse.SUPPRESS)
    parser.add_argument("--predictions", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.program:
        work(given)
        return
    passes = {program: [] for program in PROGRAMS}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        saved = {program: pathlib.Path(folder, f"{program}.npy") for program in PROGRAMS}
        children = {program: stack.enter_context(start(program, saved[program])) for program in PROGRAMS}
        for _ in range(1 + given.repeats):
            for program, (_, make_pass) in children.items():
                passes[program].append(make_pass())
                print(f"{program}: {passes[program][-1]['seconds']:.2f} s", flush=True)
        # Ours tells its accuracy only: against the others' predictions, that is the share of equal ones.
        agreement = {p: children["ours"][1](saved[p])["accuracy"] for p in PROGRAMS if p != "ours"}
        before = {program: at_rest["mebibytes"] for program, (at_rest, _) in children.items()}
    result = {
        "settings": {
            name: value for name, value in vars(given).items() if name not in ("program", "predictions", "out")
        },
        "classes": CLASSES,
        "temperature": TEMPERATURE,
        **_where(),
        "seconds": {p: _spread([one["seconds"] for one in done[1:]]) for p, done in passes.items()},
        "first_seconds": {p: done[0]["seconds"] for p, done in passes.items()},
        "peak_mebibytes": {p: done[-1]["mebibytes"] for p, done in passes.items()},
        "before_mebibytes": before,
        "accuracy": {p: done[-1]["accuracy"] for p, done in passes.items()},
        "same_predictions_as_ours_percent": agreement,
    }
    given.out.parent.mkdir(exist_ok=True)
    write_whole(given.out, json.dumps(result, indent=1, allow_nan=False) + "\n")
    print(json.dumps(result, indent=1))


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}


def _where() -> dict[str, str | None]:
    """The machine and the versions; imported late, for the processes that measure load nothing that they do not use."""
    import jax
    import sklearn

    from ucl_jax.run import commit, device_name

    return {
        "device": device_name(jax.local_devices()[:1]),
        "jax": jax.__version__,
        "scikit_learn": sklearn.__version__,
        "commit": commit(),
    }


if __name__ == "__main__":
    main()
