"""Every table and figure of the paper that is made of runs, by one command: plans, runs what is missing, and tells.

    python -m ucl_jax.reproduce table1 --benchmarks=digits --seeds=3
    python -m ucl_jax.reproduce table2 --benchmarks=cifar10 --objectives=simsiam --dry-run
    python -m ucl_jax.reproduce fewshot --benchmarks=cifar100 --slurm

Runs are in ROOT/BENCHMARK/RECIPE-OBJECTIVE-seedN, and all studies share them; what is finished is not run again, and
what was interrupted goes on. Each study writes ROOT/STUDY-BENCHMARK.md, .csv and .json, and its figure beside them.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ucl_jax import cells as study_cells
from ucl_jax import cli
from ucl_jax.cells import Cell, Job
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import UsageError, choose, require
from ucl_jax.paper import TABLE1, TABLE2, Value

UNLABELLED = ("finetune", "si", "der", "lump", "multitask", "pnn")
# The rows of Table 1, and those that the paper does not have.
ROWS = {
    "supervised": ("finetune", "si", "agem", "gss", "der", "multitask", "pnn"),
    "simsiam": UNLABELLED,
    "barlow_twins": UNLABELLED,
}
MORE = {
    "supervised": ("er", "lump", "derpp"),
    "simsiam": ("er", "derpp", "agem", "gss"),
    "barlow_twins": ("er", "derpp", "agem"),
}
ROWS2 = {objective: tuple(r for b, o, r in TABLE2 if (b, o) == ("cifar10", objective)) for objective in ROWS}
FEWSHOT = ("finetune", "der", "lump")
LANDSCAPE = {"supervised": ("finetune", "si")}  # else finetune, si, lump
EXAMPLES = "benchmark.examples_per_task"
# Training images a task (its mean where tasks differ): of few-shot runs, and all.
SIZES = {"digits": (10, 25, 50, 100)}  # else 100, 200, 500
ALL = {
    "digits": 288,
    "cifar10": 10000,
    "cifar100": 2500,
    "tiny_imagenet": 2500,
    "mnist": 12000,
    "fashion_mnist": 12000,
    "svhn_cropped": 14651,
}
DATASETS = ("mnist", "fashion_mnist", "svhn_cropped", "cifar10", "cifar100")
# What probes are asked for; --set changes it.
SETTINGS: dict[str, dict[str, str]] = {
    "ood": {"train_images": "0", "test_images": "0"},  # all of them
    "loss_landscape": {"loss": "classifier", "task": "0"},
    "cka": {},
    "geometry": {},
}
STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")
WITHIN = (
    "within: |difference| <= the paper's deviation + ours, each over its runs (ours is 0 where there is one run); "
    "difference: ours - the paper's."
)

Results = dict[str, Any]
Runs = dict[Cell, Results]


class Told(NamedTuple):
    """What a study says: rows of cells of which the first is the header, `left` columns being words; and numbers.

    numbers: the same as JSON, with the values of all seeds.
    draw: draws the figure to a path without suffix, and returns the files.
    """

    title: str
    rows: list[list[str]]
    left: int
    legend: list[str]
    numbers: list[dict[str, Any]]
    draw: Callable[[pathlib.Path], list[pathlib.Path]] | None = None


class Study(NamedTuple):
    """One table or figure of the paper.

    cells: what runs it needs on a benchmark. probes: what is to be asked of each finished run.
    tell: given, benchmark, finished runs -> what it says.
    """

    about: str
    objectives: tuple[str, ...]
    cells: Callable[[argparse.Namespace, str], list[Cell]]
    tell: Callable[[argparse.Namespace, str, Runs], Told]
    probes: Callable[[argparse.Namespace, Sequence[Cell]], list["Ask"]] = lambda given, cells: []


class Ask(NamedTuple):
    """A probe that a cell's results.json has to have, with settings as they are given to --set, or as JSON.

    after: `--after` of ucl_jax.probe: "last" or "first,last"; a probe of the whole run takes no notice of it.
    """

    cell: Cell
    probe: str
    settings: dict[str, str]
    after: str = "last"


def _cell(given: argparse.Namespace, benchmark: str, recipe: str, objective: str, seed: int, examples: int = 0) -> Cell:
    """A cell in its place under --root; `examples` images a task, 0 for all."""
    own = (f"{EXAMPLES}={examples}",) if examples else ()
    name = f"{recipe}-{objective}-seed{seed}" + (f"-examples{examples}" if examples else "")
    return Cell(name, given.root / benchmark / name, benchmark, recipe, objective, seed, (*own, *given.override))


def chosen(given: argparse.Namespace, objective: str, default: Sequence[str], more: Sequence[str]) -> list[str]:
    """The recipes of an objective: `default`, with those of `more` for all, or what --recipes names."""
    if given.recipes == "all":
        return list(dict.fromkeys((*default, *more)))
    if not given.recipes:
        return list(default)
    known = ROWS[objective] + MORE[objective]
    return [recipe for recipe in _words(given.recipes) if recipe in known]


def _grid(defaults: Callable[[str], Sequence[str]]) -> Callable[[argparse.Namespace, str], list[Cell]]:
    """Cells of all recipes and seeds: the default rows first, and seed by seed, so that a stopped study is of use."""

    def cells(given, benchmark):
        found = []
        for more in (False, True):
            for seed in range(given.seeds):
                for objective in given.objectives:
                    first = list(defaults(objective))
                    for recipe in chosen(given, objective, first, ROWS[objective] + MORE[objective]):
                        if (recipe not in first) == more:
                            found.append(_cell(given, benchmark, recipe, objective, seed))
        return found

    return cells


def _sizes(given: argparse.Namespace, benchmark: str) -> list[int]:
    """Images a task of the few-shot runs; 0 for all at the end."""
    if not given.sizes:
        return [*SIZES.get(benchmark, (100, 200, 500)), 0]
    words = _words(given.sizes)
    require(
        all(word == "all" or (word.isdigit() and int(word)) for word in words),
        f"--sizes={given.sizes} is not numbers of images a task, or all, with commas between",
    )
    sizes = sorted({0 if word == "all" else int(word) for word in words}, key=lambda size: size or ALL[benchmark])
    require(
        all(size < ALL[benchmark] for size in sizes), f"{benchmark} has {ALL[benchmark]} images a task: --sizes=all"
    )
    return sizes


def _fewshot_cells(given: argparse.Namespace, benchmark: str) -> list[Cell]:
    return [
        _cell(given, benchmark, recipe, objective, seed, examples)
        for seed in range(given.seeds)
        for objective in given.objectives
        for recipe in chosen(given, objective, FEWSHOT, ROWS[objective] + MORE[objective])
        for examples in _sizes(given, benchmark)
    ]


def pairs(given: argparse.Namespace) -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
    """The pairs of fig. 3: name -> (recipe, objective) twice; without labels, with labels, one of each."""
    found = {}
    unlabelled = [objective for objective in given.objectives if objective != "supervised"]
    for objective in unlabelled:
        found[f"UCL-UCL, {objective}"] = ("finetune", objective), ("lump", objective)
    if "supervised" in given.objectives:
        found["SCL-SCL"] = ("finetune", "supervised"), ("si", "supervised")
        for objective in unlabelled:
            found[f"UCL-SCL, {objective}"] = ("lump", objective), ("finetune", "supervised")
    return found


def _cka_cells(given: argparse.Namespace, benchmark: str) -> list[Cell]:
    require(not given.recipes, "cka compares fixed pairs of runs: leave --recipes out, and choose by --objectives")
    models = dict.fromkeys(model for pair in pairs(given).values() for model in pair)
    return [_cell(given, benchmark, *model, seed) for seed in range(given.seeds) for model in models]


def _partner(given: argparse.Namespace, cells: Sequence[Cell]) -> list[tuple[str, Cell, Cell]]:
    """(name of the pair, its two cells), for every seed of which both are there."""
    by = {(cell.recipe, cell.objective, cell.seed): cell for cell in cells}
    return [
        (name, by[*one, seed], by[*two, seed])
        for name, (one, two) in pairs(given).items()
        for seed in range(given.seeds)
        if (*one, seed) in by and (*two, seed) in by
    ]


def _settings(given: argparse.Namespace, probe: str) -> dict[str, str]:
    """What a probe is asked for: as in SETTINGS, but for --set."""
    changed = (change.partition("=")[::2] for change in given.set)
    return SETTINGS[probe] | {key.partition(".")[2]: value for key, value in changed if key.partition(".")[0] == probe}


def _ask_ood(given: argparse.Namespace, cells: Sequence[Cell]) -> list[Ask]:
    return [
        Ask(cell, "ood", {**_settings(given, "ood"), "dataset": dataset})
        for cell in cells
        for dataset in datasets(given, cell.benchmark)
    ]


def _ask_landscape(given: argparse.Namespace, cells: Sequence[Cell]) -> list[Ask]:
    return [Ask(cell, "loss_landscape", _settings(given, "loss_landscape"), "first,last") for cell in cells]


def _ask_cka(given: argparse.Namespace, cells: Sequence[Cell]) -> list[Ask]:
    own = [
        ask
        for cell in cells
        for ask in (
            Ask(cell, "cka", {**_settings(given, "cka"), "other": ""}),
            Ask(cell, "geometry", _settings(given, "geometry")),
        )
    ]
    across = [
        Ask(one, "cka", {**_settings(given, "cka"), "other": str(two.folder.absolute())})
        for _, one, two in _partner(given, cells)
    ]
    return own + across


def datasets(given: argparse.Namespace, benchmark: str) -> list[str]:
    """The other data sets: those of --datasets, else those of the paper that are prepared on this machine.

    Raises:
      UsageError: none is.
    """
    if given.datasets:
        return _words(given.datasets)
    folder = pathlib.Path(given.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    known = [name for name in DATASETS if name != benchmark]
    ready = [name for name in known if any((folder / BENCHMARKS[name].tfds_name).rglob("dataset_info.json"))]
    require(
        bool(ready),
        f"none of {', '.join(known)} is prepared in {folder}: python -m ucl_jax.data.prepare mnist, then again; "
        "or name data sets with --datasets, or the folder with --data_dir",
    )
    return ready


def tasks_learned(results: Results) -> int:
    """Training tasks of a finished run."""
    return max(len(probe["matrix"]) for probe in results["probes"].values())


def record(results: Results, probe: str, settings: dict[str, str], after: int | None) -> dict[str, Any] | None:
    """The analysis record of a probe with these settings, None when there is none.

    A path is compared by its last two parts, so that a folder of runs may be moved.
    """

    def same(key: str, there: Any) -> bool:
        here = settings[key]
        if key == "other":
            return pathlib.PurePath(there).parts[-2:] == pathlib.PurePath(here).parts[-2:]
        there = there if isinstance(there, list) else [there]
        return [*map(_number_or_word, there)] == [*map(_number_or_word, here.split(","))]

    found = [
        r
        for r in results.get("analysis", ())
        if r["probe"] == probe
        and r["after"] in (after, None)
        and all(same(key, r["settings"].get(key, settings[key])) for key in settings)
    ]
    return found[-1] if found else None


def _number_or_word(value: Any) -> float | str:
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def _after(ask: Ask, results: Results) -> list[int]:
    last = tasks_learned(results)
    return [last] if ask.after == "last" else sorted({1, last})


def probe_jobs(given: argparse.Namespace, asks: Sequence[Ask], runs: Runs) -> list[Job]:
    """A process for each finished run that lacks records, and for each pair of runs."""
    lacking: dict[tuple, list[Ask]] = {}
    for ask in asks:
        if ask.cell not in runs:
            continue
        results = runs[ask.cell]
        missing = [a for a in _after(ask, results) if record(results, ask.probe, ask.settings, a) is None]
        if missing:
            lacking.setdefault((ask.cell, ask.settings.get("other", ""), tuple(missing)), []).append(ask)
    return [_probe_job(given, *key, asked) for key, asked in lacking.items()]


def _probe_job(given: argparse.Namespace, cell: Cell, other: str, after: Sequence[int], asks: Sequence[Ask]) -> Job:
    """The probes of one run that can be made in one process; their data sets become one list."""
    probes = list(dict.fromkeys(ask.probe for ask in asks))
    values: dict[str, list[str]] = {}
    for ask in asks:
        for key, value in ask.settings.items():
            values.setdefault(f"{ask.probe}.{key}", []).append(value)
    changes = {key: ",".join(dict.fromkeys(value for value in of_key if value)) for key, of_key in values.items()}
    command = [
        *PROBE,
        f"--workdir={cell.folder.absolute()}",
        f"--probes={','.join(probes)}",
        f"--after={','.join(map(str, after))}",
        *(f"--set={key}={value}" for key, value in changes.items() if value),
        *([f"--data_dir={given.data_dir}"] if given.data_dir else []),
    ]
    name = f"{', '.join(probes)} of {cell.benchmark}/{cell.name}"
    if other:
        name += f" and {pathlib.PurePath(other).name}"
    return Job(name, cell.folder, tuple(command), "probe.txt")


PROBE = (sys.executable, "-m", "ucl_jax.probe")


def deviation(values: Sequence[float]) -> float:
    """The unbiased one over runs; 0 of one run."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def against(ours: Sequence[float] | None, paper: Value | None) -> dict[str, Any] | None:
    """Ours beside the paper's: difference of the means, and whether it is within the spread; None without either.

    The one definition of "within the paper's spread": |difference| <= the paper's deviation + ours, see WITHIN.
    """
    if not ours or paper is None or None in ours:
        return None
    difference = statistics.fmean(ours) - paper.mean
    within = abs(difference) <= paper.deviation + deviation(ours) + 1e-9  # of rounding
    return {"mean": paper.mean, "deviation": paper.deviation, "difference": difference, "within": within}


def _beside(ours: Sequence[float] | None, paper: Value | None) -> list[str]:
    """Cells: ours, the paper's, difference, within."""
    from ucl_jax import tables

    cells = [tables.mean(ours or []), "-" if paper is None else f"{paper.mean:.2f}±{paper.deviation:.2f}"]
    compared = against(ours, paper)
    if compared is None:
        return [*cells, "-", "-"]
    return [*cells, f"{compared['difference']:+.2f}", "yes" if compared["within"] else "no"]


def _groups(runs: Runs) -> dict[tuple[str, str], list[tuple[Cell, Results]]]:
    """Runs that differ in their seed, by objective and recipe, in the order of seeds."""
    from ucl_jax import tables

    found: dict[tuple[str, str], list] = {}
    for cell in sorted(runs, key=lambda cell: cell.seed):
        found.setdefault((cell.objective, cell.recipe), []).append((cell, runs[cell]))
    for group in found.values():
        tables.require_same_config([results for _, results in group], but={EXAMPLES})
    return found


def _in_order(given: argparse.Namespace, cells: Sequence[Cell], runs: Runs) -> list[tuple]:
    """(objective, recipe, its finished runs) of all that was planned, by objective."""
    groups = _groups(runs)
    keys = dict.fromkeys((cell.objective, cell.recipe) for cell in cells)
    keys = sorted(keys, key=lambda key: given.objectives.index(key[0]))
    return [(*key, groups[key]) for key in keys if key in groups]


def _scores(group: Sequence[tuple[Cell, Results]], probe: str) -> tuple[list, list]:
    """Average accuracy and forgetting of each run by a probe."""
    from ucl_jax import metrics

    matrices = [(results["probes"][probe]["matrix"], results["config"]["eval"]["forgetting"]) for _, results in group]
    return (
        [metrics.average_accuracy(matrix) for matrix, _ in matrices],
        [metrics.forgetting(matrix, definition) for matrix, definition in matrices],
    )


def _tell_table1(given: argparse.Namespace, benchmark: str, runs: Runs) -> Told:
    beside = ("the paper's", "difference", "within")
    rows = [
        [*("objective", "recipe", "n"), "kNN within the task", *beside, "forgetting", *beside]
        + ["kNN over all classes", "its forgetting"]
    ]
    from ucl_jax import tables

    numbers = []
    for objective, recipe, group in _in_order(given, STUDIES["table1"].cells(given, benchmark), runs):
        paper = TABLE1.get((benchmark, objective, recipe))
        accuracy, forgetting = _scores(group, "knn_task")
        all_accuracy, all_forgetting = _scores(group, "knn_all")
        published = (None, None) if paper is None else paper
        rows.append(
            [objective, recipe, str(len(group)), *_beside(accuracy, published[0]), *_beside(forgetting, published[1])]
            + [tables.mean(all_accuracy), tables.mean(all_forgetting)]
        )
        numbers.append(
            {
                "objective": objective,
                "recipe": recipe,
                "seeds": [cell.seed for cell, _ in group],
                "task": {"accuracy": accuracy, "forgetting": forgetting},
                "all": {"accuracy": all_accuracy, "forgetting": all_forgetting},
                "paper": {
                    "accuracy": against(accuracy, published[0]),
                    "forgetting": against(forgetting, published[1]),
                },
            }
        )
    legend = ["Accuracy in %, forgetting in points; mean±unbiased deviation over n seeds.", WITHIN]
    if not any(key[0] == benchmark for key in TABLE1):
        legend.append(f"The paper has no {benchmark}.")
    return Told(f"Table 1 on {benchmark}", rows, 2, legend, numbers)


def _tell_table2(given: argparse.Namespace, benchmark: str, runs: Runs) -> Told:
    columns = datasets(given, benchmark)
    rows = [["objective", "recipe", "n"] + [w for d in columns for w in (d, "the paper's", "difference", "within")]]
    numbers, chance = [], {}
    for objective, recipe, group in _in_order(given, STUDIES["table2"].cells(given, benchmark), runs):
        cells, values = [], {}
        for name in columns:
            ask = {**_settings(given, "ood"), "dataset": name}
            records = [record(results, "ood", ask, tasks_learned(results)) for _, results in group]
            found = [r["values"]["knn"] for r in records if r]
            for r in filter(None, records):
                chance[name] = r["values"]["chance"]
            paper = TABLE2.get((benchmark, objective, recipe), {}).get(name)
            cells += _beside(found, paper)
            values[name] = {
                "seeds": [cell.seed for (cell, _), r in zip(group, records) if r],
                "knn": found,
                "linear": [r["values"]["linear"] for r in records if r],
                "paper": against(found, paper),
            }
        rows.append([objective, recipe, str(len(group)), *cells])
        numbers.append({"objective": objective, "recipe": recipe, "datasets": values})
    legend = [
        f"kNN on data sets that the network was not trained on (it was on {benchmark}), in %; mean±unbiased deviation "
        "over n seeds.",
        "Chance: " + ", ".join(f"{name} {chance[name]:.2f}" for name in columns if name in chance) + ".",
        WITHIN,
    ]
    return Told(f"Table 2, trained on {benchmark}", rows, 2, legend, numbers)


def _tell_fewshot(given: argparse.Namespace, benchmark: str, runs: Runs) -> Told:
    from ucl_jax import tables

    sizes = _sizes(given, benchmark)
    words = [f"{size}" if size else f"all ({ALL[benchmark]})" for size in sizes]
    rows = [["objective", "recipe", "n", *(f"A, {w}" for w in words), "lost", *(f"F, {w}" for w in words)]]
    numbers, series, lost_of = [], {}, {}
    for objective, recipe, group in _in_order(given, STUDIES["fewshot"].cells(given, benchmark), runs):
        points = []
        for size in sizes:
            own = (f"{EXAMPLES}={size}",) if size else ()
            of_size = [(cell, results) for cell, results in group if cell.overrides == (*own, *given.override)]
            accuracy, forgetting = _scores(of_size, "knn_task")
            points.append(
                {"images": size or ALL[benchmark], "accuracy": accuracy, "forgetting": forgetting}
                | {"seeds": [cell.seed for cell, _ in of_size]}
            )
        lost = None
        if len(sizes) > 1 and points[0]["accuracy"] and points[-1]["accuracy"]:
            lost = statistics.fmean(points[-1]["accuracy"]) - statistics.fmean(points[0]["accuracy"])
            lost_of.setdefault("supervised" if objective == "supervised" else "unsupervised", []).append(lost)
        rows.append(
            [objective, recipe, str(max(len(p["seeds"]) for p in points))]
            + [tables.mean(p["accuracy"]) for p in points]
            + ["-" if lost is None else f"{lost:.2f}"]
            + [tables.mean(p["forgetting"]) for p in points]
        )
        numbers.append({"objective": objective, "recipe": recipe, "points": points, "lost": lost})
        series[f"{recipe}, {objective}"] = [{k: p[k] for k in ("images", "accuracy", "forgetting")} for p in points]
    legend = [
        "kNN within the task by training images a task: A is average accuracy in %, F forgetting in points; "
        "mean±unbiased deviation over seeds. lost: A with the most images - A with the fewest.",
        *(f"Lost, mean over {kind} rows: {statistics.fmean(values):.2f}." for kind, values in sorted(lost_of.items())),
        "The paper, from 2500 to 100 images on Split CIFAR-100: 15.78 without labels, 32.21 with.",
    ]

    def draw(stem):
        from ucl_jax import figures

        return figures.few_shot(stem, series, f"Few-shot training, {benchmark}")

    return Told(f"Few-shot training on {benchmark} (fig. 2)", rows, 2, legend, numbers, draw)


def _tell_cka(given: argparse.Namespace, benchmark: str, runs: Runs) -> Told:
    from ucl_jax import tables

    values: dict[str, dict[str, list[float]]] = {}
    lengths: dict[str, tuple[list, list]] = {}
    seeds: dict[str, list[int]] = {}
    models = pairs(given)
    for name, one, two in _partner(given, list(runs)):
        ask = {**_settings(given, "cka"), "other": str(two.folder.absolute())}
        found = record(runs[one], "cka", ask, None)
        if found is None:
            continue
        seeds.setdefault(name, []).append(one.seed)
        for stage in STAGES:
            values.setdefault(name, {}).setdefault(stage, []).append(found["values"]["cka"][stage][-1][-1])
        for cell, kept in zip((one, two), lengths.setdefault(name, ([], []))):
            learned = tasks_learned(runs[cell])
            geometry = record(runs[cell], "geometry", _settings(given, "geometry"), learned)
            kept.append(geometry and geometry["values"]["l2_from_random"])
    rows = [["pair", "first", "second", "n", *STAGES, "first's l2 from random", "second's l2 from random"]]
    numbers = []
    for name, stages in values.items():
        first, second = (f"{recipe}, {objective}" for recipe, objective in models[name])
        cells = [tables.mean(stages[stage]) for stage in STAGES]
        rows.append([name, first, second, str(len(seeds[name])), *cells, *map(tables.mean, lengths[name])])
        numbers.append(
            {"pair": name, "first": first, "second": second, "seeds": seeds[name], "cka": stages}
            | {"l2_from_random": {"first": lengths[name][0], "second": lengths[name][1]}}
        )
    legend = [
        f"Linear CKA of two networks of one seed after the last task, on test images of {benchmark}, stage by stage; "
        "mean±unbiased deviation over n seeds. 1: the same up to rotation and scale.",
        "l2 from random: distance of the backbone's parameters from those before training. The paper's l2 is between "
        "two trained networks: 49 to 92 without labels, 183 to 315 with.",
        "Figure: these numbers, and for seed 0 of each run its last network against its own after t tasks.",
    ]

    def draw(stem):
        from ucl_jax import figures

        panels = {
            "two runs": {
                "rows": list(values),
                "columns": list(STAGES),
                "values": [[statistics.fmean(stages[stage]) for stage in STAGES] for stages in values.values()],
            }
        }
        for cell, results in runs.items():
            own = record(results, "cka", {**_settings(given, "cka"), "other": ""}, None)
            if cell.seed == 0 and own is not None:
                panels[f"{cell.recipe}, {cell.objective}"] = {
                    "rows": list(STAGES),
                    "columns": [f"t={t}" for t in own["values"]["checkpoints"]],
                    "values": [own["values"]["cka"][stage][-1] for stage in STAGES],
                }
        return figures.cka(
            stem, panels, f"Linear CKA on {benchmark}: last networks of two runs; last and after t tasks"
        )

    return Told(f"CKA on {benchmark} (fig. 3)", rows, 3, legend, numbers, draw if values else None)


def _tell_landscape(given: argparse.Namespace, benchmark: str, runs: Runs) -> Told:
    from ucl_jax import tables

    rows = [["objective", "recipe", "after", "n", "at the network", "mean", "highest"]]
    numbers, panels = [], {}
    for objective, recipe, group in _in_order(given, STUDIES["landscape"].cells(given, benchmark), runs):
        for after in ("first", "last"):
            losses, seeds = [], []
            for cell, results in group:
                last = tasks_learned(results)
                if after == "first" and last == 1:  # joint training: the first is the last
                    continue
                learned = 1 if after == "first" else last
                found = record(results, "loss_landscape", _settings(given, "loss_landscape"), learned)
                if found is None:
                    continue
                losses.append(found["values"]["loss"])
                seeds.append(cell.seed)
                if cell.seed == 0:
                    panels[f"{recipe}, {objective}, after task {learned}"] = {
                        "steps": found["values"]["steps"],
                        "loss": found["values"]["loss"],
                    }
            if not losses:
                continue
            middle = len(losses[0]) // 2
            flat = [[value for row in loss for value in row] for loss in losses]
            measured = {
                "centre": [loss[middle][middle] for loss in losses],
                "mean": [statistics.fmean(loss) for loss in flat],
                "highest": [max(loss) for loss in flat],
            }
            rows.append([objective, recipe, f"the {after} task", str(len(seeds)), *map(tables.mean, measured.values())])
            numbers.append({"objective": objective, "recipe": recipe, "after": after, "seeds": seeds, **measured})
    legend = [
        "Loss on the first task's data over a plane of two random filter-normalised directions through the network "
        f"({', '.join(f'{key} {value}' for key, value in _settings(given, 'loss_landscape').items())}): at its centre, "
        "the mean, the highest; mean±unbiased deviation over n seeds. The figure shows seed 0.",
    ]

    def draw(stem):
        from ucl_jax import figures

        return figures.landscape(stem, panels, f"Loss of the first task, {benchmark}")

    return Told(f"Loss landscape on {benchmark} (fig. 5)", rows, 3, legend, numbers, draw if panels else None)


STUDIES: dict[str, Study] = {
    "table1": Study(
        "kNN accuracy and forgetting of every method, beside the paper's", tuple(ROWS), _grid(ROWS.get), _tell_table1
    ),
    "table2": Study(
        "kNN on data sets that the network was not trained on, beside the paper's",
        tuple(ROWS),
        _grid(ROWS2.get),
        _tell_table2,
        _ask_ood,
    ),
    "fewshot": Study(
        "accuracy and forgetting by the number of training images, fig. 2", tuple(ROWS), _fewshot_cells, _tell_fewshot
    ),
    "cka": Study(
        "how alike networks are, stage by stage, fig. 3", ("supervised", "simsiam"), _cka_cells, _tell_cka, _ask_cka
    ),
    "landscape": Study(
        "the first task's loss around the network after the first and the last task, fig. 5",
        ("supervised", "simsiam"),
        _grid(lambda objective: LANDSCAPE.get(objective, ("finetune", "si", "lump"))),
        _tell_landscape,
        _ask_landscape,
    ),
}


def _words(text: str) -> list[str]:
    """Of a comma list, each once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


class _Parser(argparse.ArgumentParser):
    """Bad input is one line."""

    def error(self, message):
        raise UsageError(f"{message}; see python -m ucl_jax.reproduce --help")


def _number(name: str) -> Callable[[str], int]:
    def parse(text):
        require(text.isdigit() and int(text) > 0, f"--{name}={text} is no number from 1 on")
        return int(text)

    return parse


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, checked.

    Raises:
      UsageError: what is wrong, and what is known.
    """
    about = "".join(f"  {name:10} {study.about}\n" for name, study in STUDIES.items())
    parser = _Parser(
        prog="python -m ucl_jax.reproduce",
        description=f"{__doc__}\nstudies:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("study", help="one of the studies above")
    add("--benchmarks", default="digits", help=f"with commas between: {', '.join(BENCHMARKS)}")
    add("--objectives", default="", help=f"{', '.join(ROWS)}; default all, for cka and landscape supervised,simsiam")
    add("--seeds", type=_number("seeds"), default=3, help="how many: 0 .. SEEDS-1; default 3")
    add("--recipes", default="", help="default the paper's rows; all: those it does not have too; or names")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="of the config, for every run: repeatable")
    add("--root", type=pathlib.Path, default=pathlib.Path("runs/reproduce"), help="of all that is written")
    add("--jobs", type=_number("jobs"), help="processes at a time; default one a GPU, else one a core; on a TPU give 1")
    add("--dry-run", action="store_true", help="only say what would run, and how long it takes")
    add("--slurm", action="store_true", help="write an array-job script of the missing runs, and run nothing")
    add("--format", default="text", help="of the table printed: text, markdown, latex, csv")
    add("--save", type=pathlib.Path, metavar="DIR", help="table1: keep results as DIR/NAME.json; those there count")
    add("--sizes", default="", help="fewshot: images a task, such as 10,25,all")
    add("--datasets", default="", help="table2: other data sets; default those of the paper that are prepared here")
    add("--data_dir", default="", help="of TFDS; default $TFDS_DATA_DIR, else ~/tensorflow_datasets")
    add("--set", action="append", default=[], metavar="PROBE.KEY=VALUE", help="a setting of a probe, repeatable")
    given = parser.parse_args(argv)
    study = choose("study", given.study, STUDIES)
    given.benchmarks = _words(given.benchmarks)
    given.objectives = _words(given.objectives) or list(study.objectives)
    require(bool(given.benchmarks), "--benchmarks names none")
    for benchmark in given.benchmarks:
        choose("benchmark", benchmark, BENCHMARKS)
    for objective in given.objectives:
        choose("objective", objective, ROWS)
    for name in _words(given.datasets):
        choose("data set", name, BENCHMARKS)
    choose("format", given.format, dict.fromkeys(("text", "markdown", "latex", "csv")))
    recipes = dict.fromkeys(recipe for rows in (ROWS, MORE) for row in rows.values() for recipe in row)
    for recipe in _words(given.recipes) if given.recipes != "all" else []:
        choose("recipe", recipe, recipes)
    if given.data_dir:
        given.data_dir = str(pathlib.Path(given.data_dir).expanduser().absolute())
        given.override.append(f"data_dir={given.data_dir}")
    for place, pair in enumerate(given.override):
        key, equals, _ = pair.partition("=")
        require(bool(key and equals), f"--override={pair} is not KEY=VALUE")
        given.override[place] = pair = pair.removeprefix("--config.").removeprefix("config.")
        taken = ("seed", "recipe", "benchmark.name", "objective.name")
        key = pair.partition("=")[0]
        require(key not in taken, f"--override={pair}: {key} is what the study varies; use --seeds, --recipes ...")
        require(key != EXAMPLES or given.study != "fewshot", f"--override={pair}: fewshot varies it; use --sizes")
    for change in given.set:
        probe, _, rest = change.partition(".")
        require("=" in rest, f"--set={change} is not PROBE.KEY=VALUE")
        choose("probe to set", probe, SETTINGS)
        require(not rest.startswith(("dataset=", "other=")), f"--set={change}: the study sets that; see --datasets")
    if given.save is not None:
        require(given.study == "table1", f"--save is for table1: the results of {given.study} are in its runs")
        require(len(given.benchmarks) == 1, "--save=DIR is of one benchmark: give one at a time")
    return given


def _runs(cells: Sequence[Cell], kept: pathlib.Path | None) -> Runs:
    """What is finished."""
    found = {cell: study_cells.saved_results(cell, kept) for cell in cells}
    return {cell: results for cell, results in found.items() if results is not None and results["finished"]}


def _write(path: pathlib.Path, text: str) -> pathlib.Path:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
    return path


def _tell(given: argparse.Namespace, benchmark: str, runs: Runs, planned: int) -> list[pathlib.Path]:
    """Prints the table and writes everything; returns the files. They hold no times: a restart makes the same."""
    from ucl_jax import tables

    told = STUDIES[given.study].tell(given, benchmark, runs)
    overrides = [pair for pair in given.override if not pair.startswith(study_cells.NEUTRAL)]
    legend = list(told.legend)
    if overrides:
        legend.append(f"Settings changed: {', '.join(overrides)}.")
    if given.set:
        legend.append(f"Settings of probes changed: {', '.join(given.set)}.")
    if len(runs) < planned:
        legend.append(f"{planned - len(runs)} of {planned} runs are not finished.")
    print(f"\n{told.title}\n\n{tables.render(told.rows, given.format, told.left)}\n")
    print("\n".join(legend), flush=True)
    stem = given.root / f"{given.study}-{benchmark}"
    table = tables.render(told.rows, "markdown", told.left)
    numbers = {
        "study": given.study,
        "benchmark": benchmark,
        "overrides": overrides,
        "legend": legend,
        "rows": told.numbers,
    }
    files = [
        _write(stem.with_name(f"{stem.name}.md"), "\n\n".join([f"# {told.title}", table, *legend]) + "\n"),
        _write(stem.with_name(f"{stem.name}.csv"), tables.render(told.rows, "csv", told.left) + "\n"),
        _write(stem.with_name(f"{stem.name}.json"), json.dumps(numbers, indent=1) + "\n"),
    ]
    return files + (told.draw(stem.with_name(f"{stem.name}-figure")) if told.draw and runs else [])


def reproduce(given: argparse.Namespace) -> int:
    """Carries out a checked command line; returns the exit code.

    Raises:
      UsageError: a folder holds another run; launch.py or data is not there. Nothing was started then.
      Stopped: a signal came; what was running is saved.
    """
    study = STUDIES[given.study]
    of_benchmark = {benchmark: study.cells(given, benchmark) for benchmark in given.benchmarks}
    cells = [cell for each in of_benchmark.values() for cell in each]
    require(bool(cells), f"--recipes={given.recipes} leaves no run for --objectives={','.join(given.objectives)}")
    study_cells.check(cells)
    asks = study.probes(given, cells)
    slots = study_cells.make_slots(given.jobs)
    plan = study_cells.make_plan(cells, given.root, given.save)
    print(f"{given.study} on {', '.join(given.benchmarks)}, in {given.root}")
    for objective in given.objectives:
        left_out = set(_words(given.recipes)) - {"all", *ROWS[objective], *MORE[objective]}
        if left_out:
            print(f"there is no {', '.join(sorted(left_out))} with {objective}")
    study_cells.tell_plan(plan, len(slots))
    lacking = probe_jobs(given, asks, _runs(cells, given.save))
    later = [ask for ask in asks if ask.cell in plan.missing]
    if lacking or later:
        kinds = ", ".join(dict.fromkeys(ask.probe for ask in asks))
        print(f"then probes ({kinds}) of {len({j.folder for j in lacking} | {a.cell.folder for a in later})} runs")
    if given.dry_run:
        return 0
    try:
        given.root.mkdir(parents=True, exist_ok=True)
        if given.save:
            given.save.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {error.filename}: {error.strerror}; take another --root") from error
    if given.slurm:
        return _slurm(given, plan, len(slots))
    failed = study_cells.train(plan, slots)
    if given.save:
        study_cells.keep(cells, given.save)
    jobs = probe_jobs(given, asks, _runs(cells, given.save))
    failed |= _probe(jobs, slots)
    written = []
    for benchmark, planned in of_benchmark.items():
        written += _tell(given, benchmark, _runs(planned, given.save), len(planned))
    print("\nfiles:", *(f"  {path}" for path in written), sep="\n", flush=True)
    study_cells.tell_failures(failed)
    return 1 if failed else 0


def _probe(jobs: Sequence[Job], slots: Sequence[study_cells.Slot]) -> dict[str, str]:
    """Runs probes; tells progress; returns why some failed."""
    failed, done = {}, []

    def ended(job: Job, code: int) -> None:
        done.append(job)
        if code != 0:
            failed[job.name] = f"{job.last_line()} (see {job.log})"
        print(
            f"[{len(done)}/{len(jobs)}] {job.name}: {'done' if code == 0 else f'FAILED, exit code {code}'}", flush=True
        )

    study_cells.run_jobs(jobs, slots, ended)
    return failed


def _slurm(given: argparse.Namespace, plan: study_cells.Plan, jobs: int) -> int:
    if not plan.missing:
        print("every run is finished: the same command without --slurm makes the table")
        return 0
    path = given.root / f"reproduce-{given.study}.sh"
    _write(path, study_cells.slurm_script(f"reproduce-{given.study}", plan.missing, jobs))
    print(f"submit it:  sbatch {path}")
    print("then the same command without --slurm runs the probes and makes the table")
    return 0


@cli.exit_codes
def main(argv: Sequence[str]) -> int:
    """Plans, runs, probes and tells."""
    return reproduce(parse(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
