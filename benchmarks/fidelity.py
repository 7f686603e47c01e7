"""The measured effect of every choice in which the paper's code, its text and the mathematics differ: digits, 3 seeds.

python -m ucl_jax.reproduce table1 --recipes=all --save=benchmarks/results/table1-digits        # the defaults
python -m benchmarks.fidelity      # the other choices; results go to benchmarks/results/fidelity-digits
python -m benchmarks.tables        # puts them into docs/fidelity.md
"""

import json
import pathlib
import re
import sys
from typing import NamedTuple

import numpy as np

from ucl_jax import cells, cli, metrics, report, tables
from ucl_jax.errors import write_whole

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
STUDY = "fidelity-digits"
DIVERGED = RESULTS / "fidelity-diverged.json"  # for each run that diverged: the step at which its loss was not finite
STUDENT = 4.30  # of t with two degrees of freedom, 95 %, two-sided: three runs
TINY_MEAN, TINY_STD = "(0.4802,0.4480,0.3975)", "(0.2770,0.2691,0.2821)"


class Choice(NamedTuple):
    """A point of the ledger, and the run in which it is changed."""

    point: str
    recipe: str
    objective: str
    overrides: tuple[str, ...]

    def name(self, seed: int) -> str:
        """Of the results file."""
        words = "-".join(pair.partition(".")[2].replace("=", "_") for pair in self.overrides[:1])
        return f"{self.recipe}-{self.objective}-{words}-seed{seed}".replace("(", "").replace(")", "").replace(",", "_")


CHOICES = (
    Choice("1", "lump", "supervised", ("eval.knn_k_rule=tasks_seen",)),
    Choice("3", "lump", "barlow_twins", ("method.replay_pair=fresh",)),
    Choice("4", "lump", "supervised", ("method.replay_from=past_tasks",)),
    Choice("5", "lump", "supervised", ("method.mix_per=example",)),
    Choice("6", "lump", "supervised", ("method.count=examples",)),
    Choice("7", "lump", "supervised", ("method.mix_labels=release",)),
    Choice("8", "si", "supervised", ("method.form=path_integral",)),
    Choice("8", "si", "supervised", ("method.form=submission",)),
    Choice("8", "si", "supervised", ("method.form=overwrite",)),
    Choice("8a", "si", "supervised", ("method.clip=0.0",)),
    Choice("8a", "si", "barlow_twins", ("method.protect=all",)),
    Choice("8b", "si", "supervised", ("method.rate=0.03",)),
    Choice("9", "der", "barlow_twins", ("method.target=output",)),
    Choice("11", "agem", "supervised", ("method.policy=reservoir",)),
    Choice("11", "agem", "supervised", ("method.replay_from=buffer",)),
    Choice("14", "lump", "supervised", (f"augment.replay_mean={TINY_MEAN}", f"augment.replay_std={TINY_STD}")),
    Choice("16", "finetune", "supervised", ("train.learning_rate=0.03",)),
    Choice("17", "finetune", "supervised", ("objective.projector=True",)),
    Choice("18", "finetune", "supervised", ("objective.classes=10",)),
    Choice("19", "gss", "supervised", ("method.compare=10",)),
    Choice("21", "lump", "simsiam", ("augment.rounding=pillow",)),
    Choice("21", "lump", "barlow_twins", ("augment.rounding=pillow",)),
    Choice("24", "er", "supervised", ("method.replay_view=strong",)),
    Choice("26", "finetune", "supervised", ("augment.crop=padded",)),
    Choice("26", "er", "supervised", ("augment.crop=padded",)),
    Choice("27", "lump", "simsiam", ("method.alpha=0.4",)),
    Choice("27", "der", "simsiam", ("method.alpha=0.4",)),
    Choice("27", "si", "simsiam", ("method.c=0.4",)),
)


def load(study: str, names: list[str]) -> list[dict]:
    """Results of a study by name; those that are there."""
    paths = [RESULTS / study / f"{name}.json" for name in names]
    return [report.load_results(path) for path in paths if path.exists()]


def numbers(runs: list[dict]) -> dict[str, np.ndarray]:
    """[A, F] within the task and [A, F] over all classes of each run, [2, runs]."""
    return {
        probe: np.array(
            [
                [f(run["probes"][probe]["matrix"]) for run in runs]
                for f in (metrics.average_accuracy, metrics.forgetting)
            ]
        )
        for probe in ("knn_task", "knn_all")
    }


def table() -> str:
    """A row for each choice: the default, the other, the paired difference, and whether seeds hide it.

    The difference of two runs of one seed is what the change did. It is called hidden when its 95 % interval, by
    Student's t, holds 0.

    Raises:
      UsageError: two runs differ in more than the choice.
    """
    rows = [["point", "run", "other choice", "probe", "default A / F", "other A / F", "difference of A", "of F"]]
    for choice in CHOICES:
        seeds = range(3)
        before = load("table1-digits", [f"{choice.recipe}-{choice.objective}-seed{s}" for s in seeds])
        after = load(STUDY, [choice.name(s) for s in seeds])
        told = [choice.point, f"{choice.recipe}, {choice.objective}", f"`{choice.overrides[0]}`"]
        if not len(before) == len(after) == len(seeds):
            rows.append([*told, "", _missing(choice), "", "", ""])
            continue
        tables.require_same_config(before + after, {pair.partition("=")[0] for pair in choice.overrides})
        defaults, others = numbers(before), numbers(after)
        for probe, title in (("knn_task", "task"), ("knn_all", "all")):
            one, other = defaults[probe], others[probe]
            rows.append(
                [
                    *(told if title == "task" else [""] * 3),
                    title,
                    *(
                        " / ".join(f"{m:.2f}±{s:.2f}" for m, s in zip(x.mean(1), x.std(1, ddof=1)))
                        for x in (one, other)
                    ),
                    *map(_difference, other - one),
                ]
            )
    return tables.render(rows, "markdown", left=4)


def _diverged() -> dict[str, str]:
    """Reads which runs diverged, by the name of their results file, and where: "task 5, step 433"."""
    return json.loads(DIVERGED.read_text()) if DIVERGED.exists() else {}


def _missing(choice: Choice) -> str:
    """Says why a choice has no numbers."""
    diverged = _diverged()
    places = [diverged.get(choice.name(seed)) for seed in range(3)]
    return "not measured" if None in places else f"diverged, by seed: {'; '.join(places)}"


def forgetting_table() -> str:
    """Forgetting within the task and over all classes by each definition, from the same runs.

    Within the task, there is also what `max` gives where each task is evaluated from when it is learned on only.
    """
    titles = [f"{title}, `{d}`" for title in ("task", "all") for d in metrics.FORGETTING]
    rows = [["run", *titles, "task, `max`, seen rows"]]
    for recipe, objective in (("finetune", "supervised"), ("finetune", "barlow_twins"), ("lump", "barlow_twins")):
        runs = load("table1-digits", [f"{recipe}-{objective}-seed{seed}" for seed in range(3)])
        cells = [
            f"{np.mean([metrics.forgetting(run['probes'][probe]['matrix'], d) for run in runs]):.2f}"
            for probe in ("knn_task", "knn_all")
            for d in metrics.FORGETTING
        ]
        seen = [metrics.forgetting(_seen_rows(run["probes"]["knn_task"]["matrix"])) for run in runs]
        rows.append([f"{recipe}, {objective}", *cells, f"{np.mean(seen):.2f}"])
    return tables.render(rows, "markdown")


def _seen_rows(matrix: list[list[float]]) -> list[list[float | None]]:
    """An accuracy matrix without what was measured before a task was learned."""
    return [[value if task <= row else None for task, value in enumerate(values)] for row, values in enumerate(matrix)]


def _difference(values: np.ndarray) -> str:
    mean, error = values.mean(), values.std(ddof=1) / len(values) ** 0.5
    return f"{mean:+.2f}" + (" (hidden by the spread)" if abs(mean) < STUDENT * error else "")


@cli.exit_codes
def main(argv: list[str]) -> int:
    """Runs what is missing."""
    parser = cli.Parser(prog="python -m benchmarks.fidelity", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="0 .. SEEDS-1")
    parser.add_argument("--jobs", type=int, help="processes at a time; default one a GPU, else one a core")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="for every cell")
    parser.add_argument("--dry-run", action="store_true", help="only say what would run")
    given = parser.parse_args(argv)
    runs, kept = ROOT / "runs" / STUDY, RESULTS / STUDY
    wanted = [
        cells.Cell(name, runs / name, "digits", c.recipe, c.objective, seed, (*c.overrides, *given.override))
        for seed in range(given.seeds)
        for c in CHOICES
        if given.only in (name := c.name(seed))
    ]
    cells.check(wanted)
    plan, slots = cells.make_plan(wanted, runs, kept), cells.make_slots(given.jobs)
    cells.tell_plan(plan, len(slots))
    if given.dry_run:
        return 0
    failed = cells.train(plan, slots)
    cells.keep(wanted, kept)
    places = (re.search(r"loss is not finite in (task \d+, step \d+)", why) for why in failed.values())
    diverged = {name.partition("/")[2]: found[1] for name, found in zip(failed, places) if found}
    if diverged:
        write_whole(DIVERGED, json.dumps(_diverged() | diverged, indent=1, sort_keys=True) + "\n")
    cells.tell_failures(failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
