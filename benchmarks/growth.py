"""Measures how step time grows with batch, image side, width and buffer, and evaluation time with the kNN bank.

    python -m benchmarks.growth                           # writes benchmarks/results/growth.json
    python -m benchmarks.growth --sweeps=buffer,bank --json
    python -m benchmarks.growth --quick                   # the ends of each sweep, one turn each

The step is that of `lump.py:cifar10,simsiam` with one key at a time changed from a small base. Images are random, for
their values do not matter for the time. The points of a sweep take turns. FLOPs are counted by hand
(benchmarks.compiled), without padding. A sweep that is not asked for is kept from an earlier file, if that has the same
settings, machine and commit.

The exponent of a sweep says that the seconds grow as value^exponent between its first and its last point. It is 1 for
batch and bank if the time is linear, near 2 for image side and width if products are all of the work, and should be 0
for the buffer.
"""

import argparse
import gc
import json
import math
import pathlib
import shlex
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks import measure, step
from ucl_jax.cli import Parser, returns_exit_code
from ucl_jax.errors import require, user_choice
from ucl_jax.results.tables import Table, make_frame, render

RESULT = measure.RESULTS / "growth.json"
KEYS = {
    "batch": "train.batch_size",
    "image": "benchmark.image_size",
    "width": "model.width",
    "buffer": "method.buffer_size",
}
SWEEPS = (*KEYS, "bank")
BASES = {"cpu": {"batch": 64, "image": 32, "width": 16, "buffer": 256}}
ACCELERATOR = {"batch": 256, "image": 32, "width": 64, "buffer": 256}
BANKS = (5000, 10_000, 20_000, 50_000)
COMPILERS = 2  # programs of a sweep that are compiled at a time, as XLA takes one core for each
QUERIES, FEATURES, NEIGHBOURS, CLASSES, TEMPERATURE = 2000, 512, 200, 10, 0.1
TURN = 0.5  # seconds; a turn is repeated calls until it lasts about this long, and one call where that lasts longer


def values(sweep: str, base: dict[str, int], quick: bool = False) -> list[int]:
    """Returns the values of a sweep, in ascending order; only the first and the last if `quick`."""
    points = {
        "batch": [base["batch"] // 4, base["batch"] // 2, base["batch"], 2 * base["batch"]],
        "image": [16, 32, 64],
        "width": [base["width"] // 2, base["width"], 2 * base["width"]],
        "buffer": [64, 256, 1024, 4096, 16_384],
        "bank": list(BANKS),
    }[sweep]
    return [points[0], points[-1]] if quick else points


def time_points(turns: dict[int, Callable[[int], float]], repeats: int) -> dict[int, dict[str, float]]:
    """Measures the points of a sweep in turns and returns, for each, the spread of its seconds a call.

    Args:
      turns: value -> function of a number of calls that returns the seconds a call, compiled already.
      repeats: turns of each point.
    """
    counts = {value: max(1, round(TURN / turn(1))) for value, turn in turns.items()}
    passes = {value: lambda turn=turn, count=counts[value]: turn(count) for value, turn in turns.items()}
    return {value: measure.spread(seconds) for value, seconds in measure.alternate(passes, repeats).items()}


def step_sweep(sweep: str, base: dict[str, int], given: argparse.Namespace) -> list[dict]:
    """Measures the training step at each point of a sweep, and returns what it found for each."""
    from benchmarks import compiled
    from configs import lump
    from ucl_jax.training import parallel

    def make(value):
        config = lump.get_config("cifar10,simsiam")
        config.update_from_flattened_dict({KEYS[name]: number for name, number in (base | {sweep: value}).items()})
        config.model.dtype = given.dtype
        parallel.keep_compiled(config.compilation_cache, measure.tell)
        loop = measure.Loop(config)
        first = loop.steps()
        measure.tell(f"{sweep} {value}: first step {first:.1f} s")
        return loop

    points = values(sweep, base, given.quick)
    with ThreadPoolExecutor(COMPILERS) as pool:
        loops = dict(zip(points, pool.map(make, points), strict=True))
    flops = {value: compiled.analytic_flops(loop.config, padding=False) for value, loop in loops.items()}
    seconds = time_points({value: loop.steps for value, loop in loops.items()}, given.repeats)
    return [
        {
            "value": value,
            "seconds": spread,
            "flops": flops[value],
            "gflops_per_second": flops[value] / spread["median"] / 1e9,
        }
        for value, spread in seconds.items()
    ]


def bank_sweep(given: argparse.Namespace) -> list[dict]:
    """Measures kNN of random queries in banks of random features, and returns what it found for each size of the bank.

    The bank is copied from the host every time, as in a run.
    """
    import numpy as np

    from ucl_jax.evaluation.evaluators import TaskFeatures, knn_accuracy, put_bank

    points = values("bank", ACCELERATOR, given.quick)
    rng = np.random.default_rng(0)
    bank, query = (rng.standard_normal((count, FEATURES), np.float32) for count in (max(points), QUERIES))
    label, answer = (rng.integers(0, CLASSES, len(x), np.int32) for x in (bank, query))
    task = TaskFeatures(bank, label, query, answer)

    def turn(size):
        def once():
            return knn_accuracy(task, put_bank(bank[:size], label[:size]), NEIGHBOURS, TEMPERATURE, CLASSES)

        once()
        return lambda count: measure.seconds(once, count)

    seconds = time_points({size: turn(size) for size in points}, given.repeats)
    return [{"value": size, "seconds": spread} for size, spread in seconds.items()]


# Pure functions of the measurements.


def exponent(points: list[dict]) -> float:
    """Returns the exponent with which the median seconds grow from the first to the last of two or more points."""
    (low, fast), (high, slow) = ((one["value"], one["seconds"]["median"]) for one in (points[0], points[-1]))
    return math.log(slow / fast) / math.log(high / low)


def table(result: dict) -> str:
    """Returns the result as text; the exponent of a sweep stands in its last row."""
    columns, rows = ["sweep", "value", "seconds", "least..most", "GFLOP", "GFLOP/s", "exponent"], []
    for sweep, points in (result["sweeps"] | {"bank": result["bank"]}).items():
        for one in points:
            seconds = one["seconds"]
            row = [
                sweep,
                str(one["value"]),
                f"{seconds['median']:.3g}",
                f"{seconds['least']:.3g}..{seconds['most']:.3g}",
            ]
            row += [f"{one['flops'] / 1e9:.4g}", f"{one['gflops_per_second']:.4g}"] if "flops" in one else ["-", "-"]
            rows.append([*row, f"{exponent(points):.2f}" if one is points[-1] else ""])
    base = ", ".join(f"{name} {value}" for name, value in result["settings"]["base"].items())
    machine = ", ".join(f"{key} {value}" for key, value in result["where"].items())
    return "\n".join([render(Table("", make_frame(columns, rows))), "", f"base: {base}", machine])


# The command.


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses and checks the command line; raises UsageError."""
    parser = Parser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, help="turns of each point; default 3, with --quick 1")
    parser.add_argument("--sweeps", default=",".join(SWEEPS), help=f"of {','.join(SWEEPS)}")
    parser.add_argument("--dtype", default="float32", help="the step computes in: float32, bfloat16")
    parser.add_argument("--quick", action="store_true", help="the first and the last point of each sweep")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT, help="the file that is written")
    given = parser.parse_args(argv)
    given.sweeps = [word for word in given.sweeps.split(",") if word]
    if given.repeats is None:
        given.repeats = 1 if given.quick else 3
    require(bool(given.sweeps), "--sweeps is empty")
    for sweep in given.sweeps:
        user_choice("sweep", sweep, dict.fromkeys(SWEEPS))
    user_choice("--dtype", given.dtype, step.DTYPES)
    require(given.repeats >= 1, f"--repeats is {given.repeats}; it must be at least 1")
    measure.check_out(given.out, RESULT, given.quick or given.dtype != "float32")
    return given


@returns_exit_code
def main(argv: list[str]) -> int:
    """Measures and prints the sweeps; the file is written after each of them, for some take minutes."""
    given = parse(argv)
    import jax

    base = BASES.get(jax.default_backend(), ACCELERATOR)
    knn = {"queries": QUERIES, "features": FEATURES, "k": NEIGHBOURS, "classes": CLASSES}
    result = {
        "where": measure.where(),
        "settings": {
            "base": base,
            "dtype": given.dtype,
            "repeats": given.repeats,
            "quick": given.quick,
            "knn": knn,
        },
        "command": shlex.join(["python", "-m", "benchmarks.growth", *argv]),
        "sweeps": {},
        "bank": [],
    }
    before = json.loads(given.out.read_text()) if given.out.exists() else {}
    if all(before.get(key) == result[key] for key in ("settings", "where")):
        result |= {"sweeps": before["sweeps"], "bank": before["bank"]}
    for sweep in given.sweeps:
        if sweep == "bank":
            result["bank"] = bank_sweep(given)
        else:
            result["sweeps"][sweep] = step_sweep(sweep, base, given)
        jax.clear_caches()
        gc.collect()  # loops are in reference cycles, and their arrays are large
        measure.save(given.out, result)
    print(json.dumps(result, allow_nan=False) if given.json else table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
