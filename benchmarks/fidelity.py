"""Measures the effect of every choice in which the paper's code, its text and the mathematics differ.

python -m ucl_jax.reproduce table1 --recipes=all --save=benchmarks/results/table1-digits        # the default choices
python -m benchmarks.fidelity      # the other choices; results go to benchmarks/results/fidelity-digits
python -m benchmarks.tables        # puts them into docs/fidelity.md

Runs are on digits, with 3 seeds.
"""

import json
import pathlib
import sys
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ucl_jax import cli
from ucl_jax.errors import UsageError
from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.files import write_atomically
from ucl_jax.reproduce.jobs import make_slots
from ucl_jax.reproduce.plan import PlannedRun, check, keep_results, make_plan, print_failures, print_plan, train
from ucl_jax.results import compare
from ucl_jax.results.load import load_results
from ucl_jax.results.schema import RunResult
from ucl_jax.results.tables import Table, make_frame, mean_and_deviation, render

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
STUDY = "fidelity-digits"
# The diverged.json of each run that diverged, by the name of its results file.
DIVERGED = RESULTS / "fidelity-diverged.json"
STUDENT = 4.30  # two-sided 95 % quantile of Student's t with two degrees of freedom, for three runs
TINY_MEAN, TINY_STD = "(0.4802,0.4480,0.3975)", "(0.2770,0.2691,0.2821)"


class Choice(NamedTuple):
    """A choice that is not the default: a point of the ledger, and the run that measures it.

    point: the number of the point in docs/fidelity.md.
    recipe: the name of the recipe.
    objective: the name of the objective.
    overrides: key -> value of each setting that makes the other choice; the first one names it.
    """

    point: str
    recipe: str
    objective: str
    overrides: Mapping[str, str]

    def name(self, seed: int) -> str:
        """Returns the name of the results file of a seed, without suffix."""
        key, value = next(iter(self.overrides.items()))
        return (
            f"{self.recipe}-{self.objective}-{key.partition('.')[2]}_{value}-seed{seed}".replace("(", "")
            .replace(")", "")
            .replace(",", "_")
        )


CHOICES = (
    Choice("1", "lump", "supervised", {"eval.knn_k_rule": "tasks_seen"}),
    Choice("3", "lump", "barlow_twins", {"method.replay_pair": "fresh"}),
    Choice("4", "lump", "supervised", {"method.replay_from": "past_tasks"}),
    Choice("5", "lump", "supervised", {"method.mix_per": "example"}),
    Choice("6", "lump", "supervised", {"method.count": "examples"}),
    Choice("7", "lump", "supervised", {"method.mix_labels": "release"}),
    Choice("8", "si", "supervised", {"method.form": "path_integral"}),
    Choice("8", "si", "supervised", {"method.form": "submission"}),
    Choice("8", "si", "supervised", {"method.form": "overwrite"}),
    Choice("8a", "si", "supervised", {"method.clip": "0.0"}),
    Choice("8a", "si", "barlow_twins", {"method.protect": "all"}),
    Choice("8b", "si", "supervised", {"method.rate": "0.03"}),
    Choice("9", "der", "barlow_twins", {"method.target": "output"}),
    Choice("11", "agem", "supervised", {"method.policy": "reservoir"}),
    Choice("11", "agem", "supervised", {"method.replay_from": "buffer"}),
    Choice("14", "lump", "supervised", {"augment.replay_mean": TINY_MEAN, "augment.replay_std": TINY_STD}),
    Choice("16", "finetune", "supervised", {"train.learning_rate": "0.03"}),
    Choice("17", "finetune", "supervised", {"objective.projector": "True"}),
    Choice("18", "finetune", "supervised", {"objective.classes": "10"}),
    Choice("19", "gss", "supervised", {"method.compare": "10"}),
    Choice("21", "lump", "simsiam", {"augment.rounding": "pillow"}),
    Choice("21", "lump", "barlow_twins", {"augment.rounding": "pillow"}),
    Choice("24", "er", "supervised", {"method.replay_view": "strong"}),
    Choice("26", "finetune", "supervised", {"augment.crop": "padded"}),
    Choice("26", "er", "supervised", {"augment.crop": "padded"}),
    Choice("27", "lump", "simsiam", {"method.alpha": "0.4"}),
    Choice("27", "der", "simsiam", {"method.alpha": "0.4"}),
    Choice("27", "si", "simsiam", {"method.c": "0.4"}),
)


def load(study: str, names: list[str]) -> list[RunResult]:
    """Returns the results of a study that have one of the names; those that do not exist are left out."""
    paths = [RESULTS / study / f"{name}.json" for name in names]
    return [load_results(path) for path in paths if path.exists()]


def numbers(runs: list[RunResult]) -> dict[str, np.ndarray]:
    """Returns probe -> [2, runs]: average accuracy (per cent) and forgetting (points) of each run."""
    return {
        probe: np.array(
            [
                [f(run.probes[probe].matrix) for run in runs]
                for f in (accuracy_matrix.average_accuracy, accuracy_matrix.forgetting)
            ]
        )
        for probe in ("knn_task", "knn_all")
    }


def table() -> str:
    """Returns a Markdown table of all choices: the default, the other choice, and the mean difference of the two.

    Differences are between runs of one seed. One is called hidden by the spread over seeds when its 95 % interval, by
    Student's t, contains 0.

    Raises:
      UsageError: two runs differ in more than the choice.
    """
    columns = ["point", "run", "other choice", "probe"]
    columns += [
        f"{which} {letter}{of}" for which in ("default", "other") for letter in "AF" for of in ("", " deviation")
    ]
    columns += ["difference of A", "hidden by the spread", "difference of F", "hidden by the spread"]
    rows = []
    for choice in CHOICES:
        seeds = range(3)
        before = load("table1-digits", [f"{choice.recipe}-{choice.objective}-seed{s}" for s in seeds])
        after = load(STUDY, [choice.name(s) for s in seeds])
        key, value = next(iter(choice.overrides.items()))
        words = [choice.point, f"{choice.recipe}, {choice.objective}", f"`{key}={value}`"]
        if not len(before) == len(after) == len(seeds):
            rows.append([*words, _missing(choice), *[None] * (len(columns) - 4)])
            continue
        try:
            compare.require_same_config(before + after, choice.overrides.keys())
        except ValueError as error:
            raise UsageError(f"{RESULTS}: {error}; train these runs again") from error
        defaults, others = numbers(before), numbers(after)
        for probe, title in (("knn_task", "task"), ("knn_all", "all")):
            one, other = defaults[probe], others[probe]
            spreads = [x for values in (*one, *other) for x in mean_and_deviation(values.tolist())]
            differences = [x for values in other - one for x in (float(values.mean()), _is_hidden(values))]
            rows.append([*(words if title == "task" else [""] * 3), title, *spreads, *differences])
    formats = {name: "+.2f" for name in columns if name.startswith("difference")}
    return render(Table("", make_frame(columns, rows), words=4, formats=formats), "markdown")


def _diverged() -> dict[str, dict[str, int]]:
    """Reads which runs diverged, by the name of their results file, and where: the task, from 0, and the step."""
    return json.loads(DIVERGED.read_text()) if DIVERGED.exists() else {}


def _missing(choice: Choice) -> str:
    """Says why a choice has no numbers."""
    diverged = _diverged()
    names = [choice.name(seed) for seed in range(3)]
    if any(name not in diverged for name in names):
        return "not measured"
    places = (f"task {diverged[name]['task'] + 1}, step {diverged[name]['step']}" for name in names)
    return f"diverged, by seed: {'; '.join(places)}"


def forgetting_table() -> str:
    """Returns a Markdown table of forgetting by each definition, from the same runs.

    The last column has what `max` gives within the task if a task is evaluated only once it was learned.
    """
    titles = [f"{title}, `{d}`" for title in ("task", "all") for d in accuracy_matrix.FORGETTING]
    rows = []
    for recipe, objective in (("finetune", "supervised"), ("finetune", "barlow_twins"), ("lump", "barlow_twins")):
        runs = load("table1-digits", [f"{recipe}-{objective}-seed{seed}" for seed in range(3)])
        of_runs = [
            [accuracy_matrix.forgetting(run.probes[probe].matrix, d) for run in runs]
            for probe in ("knn_task", "knn_all")
            for d in accuracy_matrix.FORGETTING
        ]
        of_runs.append([accuracy_matrix.forgetting(_seen_rows(run.probes["knn_task"].matrix)) for run in runs])
        rows.append([f"{recipe}, {objective}", *(mean_and_deviation(values)[0] for values in of_runs)])
    return render(Table("", make_frame(["run", *titles, "task, `max`, seen rows"], rows)), "markdown")


def _seen_rows(matrix: list[list[float]]) -> list[list[float | None]]:
    """Returns an accuracy matrix without the accuracies on tasks that were not learned yet."""
    return [[value if task <= row else None for task, value in enumerate(values)] for row, values in enumerate(matrix)]


def _is_hidden(values: np.ndarray) -> bool:
    """Tells whether the 95 % interval of the mean of three differences contains 0."""
    return bool(abs(values.mean()) < STUDENT * values.std(ddof=1) / len(values) ** 0.5)


@cli.returns_exit_code
def main(argv: list[str]) -> int:
    """Trains the runs that are missing and keeps their results."""
    parser = cli.Parser(prog="python -m benchmarks.fidelity", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="0 .. SEEDS-1")
    parser.add_argument("--jobs", type=int, help="processes at a time; default one a GPU, else one a core")
    parser.add_argument("--only", default="", help="runs whose name contains this")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    parser.add_argument("--dry-run", action="store_true", help="only say what would run")
    given = parser.parse_args(argv)
    runs, kept = ROOT / "runs" / STUDY, RESULTS / STUDY
    for_all = [(key, value) for key, _, value in (pair.partition("=") for pair in given.override)]
    wanted = [
        PlannedRun(name, runs / name, "digits", c.recipe, c.objective, seed, (*c.overrides.items(), *for_all))
        for seed in range(given.seeds)
        for c in CHOICES
        if given.only in (name := c.name(seed))
    ]
    check(wanted)
    plan, slots = make_plan(wanted, runs, kept), make_slots(given.jobs)
    print_plan(plan, len(slots))
    if given.dry_run:
        return 0
    failed = train(plan, slots)
    keep_results(wanted, kept)
    paths = {run.name: run.folder / "diverged.json" for run in wanted if run.path in failed}
    if diverged := {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}:
        write_atomically(DIVERGED, json.dumps(_diverged() | diverged, indent=1, sort_keys=True) + "\n")
    print_failures(failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
