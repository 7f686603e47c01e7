"""Measures the effect of every choice in which the paper's code, its text and the mathematics differ.

    python -m benchmarks.fidelity                             # on digits; it goes on where it was stopped
    python -m benchmarks.fidelity --benchmark=cifar10_16px    # the choices that matter most, on real images
    python -m benchmarks.tables                               # puts the results into docs/fidelity.md

Each run of another choice is compared with the run of the default that has the same seed. Default runs come from
benchmarks/results/table1-BENCHMARK, which a command in benchmarks/saved.py makes. Those that are not there are trained
too. All results of this program go to benchmarks/results/fidelity-BENCHMARK.
"""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks import saved
from benchmarks.measure import RESULTS, ROOT
from benchmarks.performance import MISSING
from ucl_jax import cli
from ucl_jax.errors import UsageError, user_choice
from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.files import write_atomically
from ucl_jax.reproduce.jobs import make_slots
from ucl_jax.reproduce.plan import (
    Overrides,
    PlannedRun,
    check,
    keep_results,
    make_plan,
    print_failures,
    print_plan,
    train,
)
from ucl_jax.results import compare
from ucl_jax.results.load import load_results
from ucl_jax.results.schema import ProbeName, RunResult
from ucl_jax.results.tables import HIGH, LOW, Table, make_frame, mean_and_deviation, render, with_deviation

TINY_MEAN, TINY_STD = "(0.4802,0.4480,0.3975)", "(0.2770,0.2691,0.2821)"


class Choice(NamedTuple):
    """A choice that is not the default: a point of the ledger, and the runs that measure it.

    point: the number of the point in docs/fidelity.md.
    recipe: the name of the recipe.
    objective: the name of the objective.
    overrides: key -> value of each setting that makes the other choice; the first one names it.
    """

    point: str
    recipe: str
    objective: str
    overrides: Mapping[str, str]

    @property
    def setting(self) -> str:
        """Returns the setting that names the choice, such as "method.alpha=0.4"."""
        return "=".join(next(iter(self.overrides.items())))

    @property
    def default(self) -> str:
        """Returns the name of the runs of the default, without the seed."""
        return f"{self.recipe}-{self.objective}"

    @property
    def name(self) -> str:
        """Returns the name of the runs of the other choice, without the seed."""
        words = self.setting.partition(".")[2].translate(str.maketrans("=,", "__", "()"))
        return f"{self.default}-{words}"


class Ledger(NamedTuple):
    """The choices that are measured on a benchmark.

    benchmark: the name of the benchmark.
    seeds: how many are trained where the command line does not say.
    choices: the choices, in the order of the table.
    """

    benchmark: str
    seeds: int
    choices: tuple[Choice, ...]

    @property
    def study(self) -> str:
        """Returns the name of the folder with the results of the other choices, and of defaults trained for them."""
        return f"fidelity-{self.benchmark}"

    @property
    def defaults(self) -> str:
        """Returns the name of the study that has the results of the default choices."""
        return f"table1-{self.benchmark}"

    @property
    def diverged(self) -> pathlib.Path:
        """Returns the file with the diverged.json of each run that diverged, by the name of its results file."""
        return RESULTS / f"{self.study}-diverged.json"


DIGITS = (
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
# The points that matter most for a user's choice. Barlow Twins learns most of all objectives without labels here.
CIFAR10 = (
    Choice("1", "lump", "barlow_twins", {"eval.knn_k_rule": "tasks_seen"}),
    Choice("3", "lump", "barlow_twins", {"method.replay_pair": "fresh"}),
    Choice("4", "lump", "barlow_twins", {"method.replay_from": "past_tasks"}),
    Choice("5", "lump", "barlow_twins", {"method.mix_per": "example"}),
    Choice("8", "si", "barlow_twins", {"method.form": "path_integral"}),
    Choice("8", "si", "barlow_twins", {"method.form": "submission"}),
    Choice("8", "si", "barlow_twins", {"method.form": "overwrite"}),
    Choice("9", "der", "barlow_twins", {"method.target": "output"}),
    Choice("17", "finetune", "supervised", {"objective.projector": "True"}),
    Choice("26", "finetune", "supervised", {"augment.crop": "padded"}),
    Choice("27", "lump", "barlow_twins", {"method.alpha": "0.4"}),
)
# Benchmark -> its ledger.
LEDGERS = {of.benchmark: of for of in (Ledger("digits", 3, DIGITS), Ledger("cifar10_16px", 5, CIFAR10))}


def planned(ledger: Ledger, seeds: int, only: str = "", overrides: Overrides = ()) -> list[PlannedRun]:
    """Returns the runs of a ledger, in the order in which to train them: each default comes before its other choices.

    Args:
      ledger: the choices.
      seeds: the seeds are 0 .. seeds - 1.
      only: a part of the name of each choice that is wanted, which "-seedN" ends.
      overrides: settings of every run.
    """
    others, all_studies = ROOT / "runs" / ledger.study, ROOT / "runs" / "reproduce" / ledger.benchmark
    found: dict[str, PlannedRun] = {}
    for seed in range(seeds):
        for choice in ledger.choices:
            if only not in f"{choice.name}-seed{seed}":
                continue
            for root, stem, own in (
                (all_studies, choice.default, ()),
                (others, choice.name, tuple(choice.overrides.items())),
            ):
                name, of = f"{stem}-seed{seed}", (ledger.benchmark, choice.recipe, choice.objective, seed)
                found.setdefault(name, PlannedRun(name, root / name, *of, (*own, *overrides)))
    return list(found.values())


def load(name: str, *studies: str) -> dict[int, RunResult]:
    """Returns the results of a name by seed; of two with one seed, that of the study which is named first."""
    paths = [path for study in reversed(studies) for path in (RESULTS / study).glob(f"{name}-seed*.json")]
    runs = {run.seed: run for run in map(load_results, paths)}
    return dict(sorted(runs.items()))


def load_pairs(ledger: Ledger, choice: Choice) -> tuple[list[RunResult], list[RunResult]]:
    """Returns the results of the default and those of the other choice, of the seeds that have both.

    Raises:
      UsageError: two of them differ in more than their seed and the choice.
    """
    defaults, others = load(choice.default, ledger.defaults, ledger.study), load(choice.name, ledger.study)
    seeds = [seed for seed in defaults if seed in others]
    before, after = [defaults[seed] for seed in seeds], [others[seed] for seed in seeds]
    try:
        compare.require_same_config(before + after, choice.overrides.keys())
    except ValueError as error:
        raise UsageError(f"{RESULTS}: {error}; train these runs again") from error
    return before, after


def table(ledger: Ledger) -> str:
    """Returns a Markdown table of a ledger: the default, the other choice, and the mean difference of the two.

    Differences are between runs of one seed, and n is the number of seeds that have both. One is called hidden by the
    spread over seeds when its 95 % interval, by Student's t, contains 0. Lines below the table name the runs that
    diverged, and say where the numbers come from. Where there is no number, MISSING is returned.

    Raises:
      UsageError: two runs differ in more than their seed and the choice.
    """
    words = ["point", "run", "other choice", "n", "probe"]
    spreads = with_deviation(*(f"{which} {letter}" for which in ("default", "other") for letter in "AF"))
    titles = ["difference of A", "difference of F"]
    differences = [name for title in titles for name in (title, title + LOW, title + HIGH, "hidden by the spread")]
    rows: list[list[Any]] = []
    used: dict[tuple[str, int], RunResult] = {}
    for choice in ledger.choices:
        before, after = load_pairs(ledger, choice)
        used |= {(choice.default, run.seed): run for run in before} | {(choice.name, run.seed): run for run in after}
        n = f"{len(before)}" if len(before) >= ledger.seeds else f"{len(before)} of {ledger.seeds}"
        about = [choice.point, f"{choice.recipe}, {choice.objective}", f"`{choice.setting}`", n]
        if not before:
            rows.append([*about, "-", *[None] * (len(spreads) + len(differences))])
            continue
        rows.append([*about, "task", *_compared(before, after, "knn_task")])
        rows.append([*[""] * len(about), "all", *_compared(before, after, "knn_all")])
    if not used:
        return MISSING
    frame = make_frame([*words, *spreads, *differences], rows)
    made = render(Table("", frame, len(words), formats=dict.fromkeys(titles, "+.2f")), "markdown")
    places = [f"`{name}` (task {at['task'] + 1}, step {at['step']})" for name, at in _diverged(ledger).items()]
    lost = [f"Diverged: {', '.join(places)}."] if places else []
    command = f"python -m benchmarks.fidelity --benchmark={ledger.benchmark}"
    return "\n\n".join([made, *lost, saved.provenance(command, list(used.values()))])


def _compared(before: Sequence[RunResult], after: Sequence[RunResult], probe: ProbeName) -> list[Any]:
    """Returns the numbers of a row of `table`, from runs that are in the order of the same seeds."""
    definition = compare.forgetting_definition([*before, *after])
    defaults, others = (compare.scores(runs, probe, definition) for runs in (before, after))
    cells: list[Any] = [x for values in (*defaults, *others) for x in mean_and_deviation(values)]
    for one, other in zip(defaults, others):
        found = compare.paired_difference(dict(enumerate(other)), dict(enumerate(one)))
        hidden = None if found.low is None else found.low <= 0 <= found.high
        cells += [found.mean, found.low, found.high, hidden]
    return cells


def _diverged(ledger: Ledger) -> dict[str, dict[str, int]]:
    """Reads which runs diverged, by the name of their results file, and where: the task, from 0, and the step."""
    return json.loads(ledger.diverged.read_text()) if ledger.diverged.exists() else {}


def forgetting_table() -> str:
    """Returns a Markdown table of forgetting by each definition, from the default runs on digits.

    The last column has what `max` gives within the task if a task is evaluated only once it was learned.
    """
    titles = [f"{title}, `{d}`" for title in ("task", "all") for d in accuracy_matrix.FORGETTING]
    rows = []
    for recipe, objective in (("finetune", "supervised"), ("finetune", "barlow_twins"), ("lump", "barlow_twins")):
        runs = load(f"{recipe}-{objective}", LEDGERS["digits"].defaults).values()
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


@cli.returns_exit_code
def main(argv: list[str]) -> int:
    """Trains the runs that are missing and keeps their results."""
    parser = cli.Parser(prog="python -m benchmarks.fidelity", description=__doc__.splitlines()[0])
    parser.add_argument("--benchmark", default="digits", help=f"one of {', '.join(LEDGERS)}; default digits")
    parser.add_argument("--seeds", type=int, help="0 .. SEEDS-1; default as many as the ledger has")
    parser.add_argument("--jobs", type=int, help="processes at a time; default one a GPU, else one a core")
    parser.add_argument("--only", default="", help="choices whose name contains this")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="for every run")
    parser.add_argument("--dry-run", action="store_true", help="only say what would run")
    given = parser.parse_args(argv)
    ledger = user_choice("benchmark", given.benchmark, LEDGERS)
    kept, defaults = RESULTS / ledger.study, RESULTS / ledger.defaults
    for_all = tuple((key, value) for key, _, value in (pair.partition("=") for pair in given.override))
    runs = planned(ledger, ledger.seeds if given.seeds is None else given.seeds, given.only, for_all)
    wanted = [run for run in runs if not (defaults / f"{run.name}.json").exists()]
    check(wanted)
    plan, slots = make_plan(wanted, ROOT / "runs" / ledger.study, kept), make_slots(given.jobs)
    print_plan(plan, len(slots))
    if given.dry_run:
        return 0
    failed = train(plan, slots)
    keep_results(wanted, kept)
    before, tried = _diverged(ledger), {run.name for run in plan.missing}
    paths = {run.name: run.folder / "diverged.json" for run in plan.missing if run.path in failed}
    diverged = {name: at for name, at in before.items() if name not in tried}
    diverged |= {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    if diverged != before:
        write_atomically(ledger.diverged, json.dumps(diverged, indent=1, sort_keys=True) + "\n")
    print_failures(failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
