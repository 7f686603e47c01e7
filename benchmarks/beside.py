"""Trains plain PyTorch on the runs of a benchmark, and sets it beside our runs: accuracy, forgetting, curves, seconds.

    python -m ucl_jax.reproduce table1 --benchmarks=cifar10_16px --objectives=simsiam --recipes=finetune,lump
    python -m benchmarks.beside                                     # the same runs in PyTorch, then table and figure
    python -m benchmarks.beside --seeds=1 --override=train.epochs=1 --ours=DIR --out=FILE.json      # a part of it

The first command trains our runs, in runs/reproduce; the second one takes them from there (--ours) and does not train
them. PyTorch's runs are those of benchmarks.torch_run, in runs/beside/BENCHMARK/RECIPE-simsiam-seedN (--root). Each has
a process of its own, which keeps to one core with one thread, as each of ours does. A finished run is not run again;
one that was stopped starts again. Both programs have the same settings, data and kNN, but weights and all that is
random are drawn independently.

Once all runs of both are finished, what the table and the figure need is saved as beside-BENCHMARK.json in
benchmarks/results, from which `python -m benchmarks.tables` makes the table. The figure of the default benchmark is
docs/images/beside.png; that of another file is next to it.
"""

import itertools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import measure, step
from ucl_jax import cli
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import require, user_choice
from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.reproduce.jobs import make_slots
from ucl_jax.reproduce.plan import TRAIN, PlannedRun, check, make_plan, print_failures, print_plan, saved_results, train
from ucl_jax.reproduce.studies import STUDIES, StudyOptions
from ucl_jax.results import compare, drawing
from ucl_jax.results.load import read_metrics
from ucl_jax.results.tables import Table, make_frame, mean_and_deviation, render

RECIPES = ("finetune", "lump")
SEEDS = 3
BENCHMARK = "cifar10_16px"
FIGURE = measure.ROOT / "docs" / "images" / "beside.png"
PROGRAMS = {"ours": "ucl_jax", "torch": "PyTorch"}
CURVES = {"loss": "loss", "feature_std": "feature deviation", "grad_norm": "gradient norm"}
POINTS = 100  # of a run's curve that is kept; each is a mean over some recorded steps of one task
# The settings, or the beginnings of such, that PyTorch's loop reads; another override would make it differ from ours.
READ = (
    *step.SHARED,
    *("train.epochs", "eval.", *compare.NEUTRAL),
    *(f"benchmark.{key}" for key in ("tfds_name", "num_tasks", "classes_per_task", "fit", "train_split", "test_split")),
    *(f"benchmark.{key}" for key in ("examples_per_task", "test_examples_per_task", "validation_fraction")),
    *("benchmark.subset_seed", "benchmark.class_order_seed"),
)


class TorchRun(PlannedRun):
    """A planned run that plain PyTorch trains."""

    def command(self) -> list[str]:
        """Returns the command that trains the run."""
        return [sys.executable, "-m", "benchmarks.torch_run", *super().command()[len(TRAIN) :]]


def result_path(benchmark: str) -> pathlib.Path:
    """Returns the file that holds the whole comparison on a benchmark."""
    return measure.RESULTS / f"beside-{benchmark}.json"


def thinned(entries: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Returns the curves of a run: "step" and the keys of CURVES -> about POINTS means over successive entries.

    Args:
      entries: of metrics.jsonl; those of tasks, which have no "loss", are left out.
    """
    steps = [entry for entry in entries if "loss" in entry]
    curves: dict[str, list[float]] = {name: [] for name in ("step", *CURVES)}
    tasks = len({entry["task"] for entry in steps})
    for _, group in itertools.groupby(steps, key=lambda entry: entry["task"]):
        of_task = list(group)
        parts = np.array_split(np.arange(len(of_task)), min(len(of_task), max(1, POINTS // tasks)))
        for name, values in curves.items():
            means = (np.mean([of_task[place][name] for place in part]) for part in parts)
            values += [float(f"{mean:.5g}") for mean in means]
    return curves


def collect(program: str, planned: Sequence[PlannedRun]) -> list[dict[str, Any]]:
    """Returns what table and figure need of the finished runs of a program.

    Raises:
      UsageError: a folder holds a run with other settings, or a file of it is damaged.
    """
    found = []
    for run in planned:
        results = saved_results(run)
        if results is None or not results.finished:
            continue
        entries = read_metrics(run.folder / "metrics.jsonl")
        own = ("program", *(f"{name}_seconds" for name in ("train", "evaluation", "command", "cpu")))  # not in ours
        found.append(
            {
                "program": program,
                "recipe": run.recipe,
                "seed": run.seed,
                "forgetting": results.forgetting_definition,
                "seconds": results.seconds,
                "images_per_second": results.images_per_second,
                "device": results.device,
                "commit": results.commit,
                "versions": results.versions,
                "facts": {name: value for name, value in vars(results).items() if name in own},
                "matrices": {name: probe.matrix for name, probe in results.probes.items()},
                "untrained": {name: probe.random_init for name, probe in results.probes.items()},
                "task_ends": [entry["step"] for entry in entries if "loss" not in entry],
                "curves": thinned(entries),
            }
        )
    return found


def scores(run: dict[str, Any]) -> dict[str, float | None]:
    """Returns the columns of a run: average accuracy (per cent) and forgetting (points) by each probe, and seconds."""
    found: dict[str, float | None] = {}
    for probe, matrix in run["matrices"].items():
        found[compare.PROBE_TITLES[probe]] = accuracy_matrix.average_accuracy(matrix)
        title = compare.forgetting_title(probe, run["forgetting"])
        found[title] = accuracy_matrix.forgetting(matrix, run["forgetting"])
    return found | {"seconds a run": run["seconds"]}


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Compares two independent samples.

    Returns:
      The mean of ours minus that of theirs, and the ends of its 95 % interval by Welch's t; None for these where a
      sample has fewer than two values.
    """
    from scipy import stats

    mean = float(np.mean(ours) - np.mean(theirs))
    if min(len(ours), len(theirs)) < 2:
        return mean, None, None
    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    return mean, float(interval.low), float(interval.high)


def _spread(values: Sequence[float | None]) -> str:
    """Returns mean and deviation as text, "-" where a value is missing."""
    mean, deviation = mean_and_deviation(values)
    return "-" if mean is None else f"{mean:.2f}" + ("" if deviation is None else f"±{deviation:.2f}")


def _difference(ours: Sequence[float | None], theirs: Sequence[float | None]) -> str:
    """Returns the difference of two samples and its interval as text, "-" where a value is missing."""
    known = compare.all_known(ours), compare.all_known(theirs)
    if not (known[0] and known[1]):
        return "-"
    mean, low, high = difference(known[0], known[1])
    return f"{mean:+.2f}" + ("" if low is None else f" ({low:+.2f} to {high:+.2f})")


def table(result: dict[str, Any]) -> str:
    """Returns a Markdown table: for each recipe a row a program, then their difference; and how it was measured."""
    head = list(scores(result["runs"][0]))
    rows, differences = [], []
    for recipe in result["recipes"]:
        values = {}
        for program, title in PROGRAMS.items():
            of_runs = [scores(r) for r in result["runs"] if (r["program"], r["recipe"]) == (program, recipe)]
            values[program] = {column: [run[column] for run in of_runs] for column in head}
            rows.append([recipe, title, str(len(of_runs)), *(_spread(values[program][column]) for column in head)])
        cells = (_difference(values["ours"][column], values["torch"][column]) for column in head)
        differences.append([recipe, " - ".join(PROGRAMS.values()), "", *cells])
    shown = make_frame(["recipe", "program", "n", *head], rows + differences)
    notes = [
        f"`{result['command']}`, {result['benchmark']}, SimSiam. Accuracy in %, forgetting in points; mean±deviation "
        "over n seeds. Differences are of independent runs, with 95 % intervals by Welch's t. Seconds count from the "
        "opened data set to the results, with the evaluation."
    ]
    for program, title in PROGRAMS.items():
        runs = [run for run in result["runs"] if run["program"] == program]
        split = [(run["facts"]["train_seconds"], run["facts"]["evaluation_seconds"]) for run in runs if run["facts"]]
        if split:
            trained, evaluated = np.mean(split, axis=0)
            notes.append(f"Of a run of {title}, {trained:.0f} s were training and {evaluated:.0f} s evaluation.")
        machines = dict.fromkeys(
            f"{run['device']}, {title} {run['versions'].get('torch', run['versions']['jax'])}, "
            f"commit {(run['commit'] or 'unknown')[:10]}"
            for run in runs
        )
        notes += [f"{title}: {machine}." for machine in machines]
    return "\n\n".join([render(Table("", shown, words=2), "markdown"), *notes])


@drawing.styled
def draw(path: pathlib.Path, result: dict[str, Any]) -> None:
    """Draws the curves of all runs: a row for each recipe, a thin line for each run, dotted lines where tasks end."""
    recipes = result["recipes"]
    figure = drawing.new_figure(11, 2.5 * len(recipes) + 0.8)
    axes = figure.subplots(len(recipes), len(CURVES), squeeze=False, sharex=True, sharey="col")
    colours = dict(zip(PROGRAMS, drawing.COLOURS))
    for row, recipe in zip(axes, recipes):
        runs = [run for run in result["runs"] if run["recipe"] == recipe]
        runs.sort(key=lambda run: run["seed"])  # so that no program hides the other
        for axis, (name, title) in zip(row, CURVES.items()):
            drawn: set[str] = set()
            for run in runs:
                program, curves = run["program"], run["curves"]
                label = None if program in drawn else PROGRAMS[program]
                drawn.add(program)
                axis.plot(curves["step"], curves[name], color=colours[program], lw=0.9, alpha=0.8, label=label)
            for end in sorted({end for run in runs for end in run["task_ends"][:-1]}):
                axis.axvline(end, color="0.6", lw=0.7, ls=":")
            axis.grid(color="0.93")
            axis.set(ylabel=f"{recipe}: {title}")
    for axis in axes[-1]:
        axis.set(xlabel="step (dotted: a new task)")
    drawing.legend(figure, axes[0][0])
    figure.suptitle(f"SimSiam on {result['benchmark']}: a line for each seed")
    figure.savefig(path, metadata={"Software": None}, **drawing.SAVE)


def _read_override(pair: str) -> tuple[str, str]:
    """Returns key and value of an --override; raises UsageError where PyTorch's loop does not read the key."""
    key, equals, value = pair.partition("=")
    require(bool(key and equals), f"--override={pair} is not KEY=VALUE")
    require(key.startswith(READ), f"--override={pair}: PyTorch's loop does not read {key}; it would differ from ours")
    return key, value


@cli.returns_exit_code
def main(argv: list[str]) -> int:
    """Trains PyTorch's missing runs, prints the table, and saves numbers and figure; returns 1 where a run failed."""
    parser = cli.Parser(prog="python -m benchmarks.beside", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--benchmark", default=BENCHMARK, help=f"default {BENCHMARK}")
    add("--recipes", default=",".join(RECIPES), help=f"default {','.join(RECIPES)}")
    add("--seeds", type=int, default=SEEDS, help=f"of PyTorch's runs: 0 .. SEEDS-1; default {SEEDS}")
    add("--our-seeds", type=int, help="the same of ours; default as --seeds")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="a setting of every run, repeatable")
    add("--root", type=pathlib.Path, default=pathlib.Path("runs/beside"), help="the folder of PyTorch's runs")
    add("--ours", type=pathlib.Path, default=pathlib.Path("runs/reproduce"), help="the --root of ucl_jax.reproduce")
    add("--jobs", type=int, help="PyTorch's runs at a time, at most one a core, which is the default")
    add("--out", type=pathlib.Path, metavar="FILE", help="of the result; default in benchmarks/results")
    given = parser.parse_args(argv)
    user_choice("benchmark", given.benchmark, BENCHMARKS)
    recipes = tuple(given.recipes.split(","))
    for recipe in recipes:
        user_choice("recipe", recipe, dict.fromkeys(RECIPES))
    our_seeds = given.seeds if given.our_seeds is None else given.our_seeds
    for name, number in {"seeds": given.seeds, "our-seeds": our_seeds, "jobs": given.jobs}.items():
        require(number is None or number > 0, f"--{name} is {number}; it must be at least 1")
    overrides = tuple(map(_read_override, given.override))
    default = result_path(given.benchmark)
    out = given.out or default
    measure.check_out(out, default, bool(overrides) or recipes != RECIPES or given.seeds != SEEDS)

    options = StudyOptions(given.ours, ("simsiam",), our_seeds, recipes, overrides)
    planned = STUDIES["table1"].plan
    ours = planned(options, given.benchmark)
    theirs = planned(options._replace(root=given.root, seeds=given.seeds), given.benchmark)
    theirs = [TorchRun(*run) for run in theirs]
    check([*ours, *theirs])
    collect("ours", ours)  # what is wrong with them should be said before hours of training
    slots = make_slots()[: given.jobs]
    plan = make_plan(theirs, given.root)
    print_plan(plan, len(slots))
    failed = train(plan, slots)
    runs = collect("ours", ours) + collect("torch", theirs)
    if runs:
        command = " ".join(["python -m benchmarks.beside", *argv])
        result = {"command": command, "benchmark": given.benchmark, "recipes": recipes}
        result |= {"overrides": dict(overrides), "runs": runs}
        print(table(result))
        if len(runs) == len(ours) + len(theirs):
            measure.save(out, result)
            figure = FIGURE if out == result_path(BENCHMARK) else out.with_suffix(".png")
            draw(figure, result)
            print(f"\nfiles:\n  {out}\n  {figure}")
    missing = len(ours) - sum(run["program"] == "ours" for run in runs)
    if missing:
        measure.tell(f"{missing} of our {len(ours)} runs are not finished in {given.ours}: nothing is saved")
    print_failures(failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
