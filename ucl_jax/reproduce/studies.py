"""What each table and figure of the paper is: its runs, what probes are asked, and how it is told from results.

Nothing here runs anything, see `ucl_jax.reproduce`. Cheap to import: a plan is made in a moment.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import require
from ucl_jax.reproduce import probe_requests
from ucl_jax.reproduce.plan import Cell
from ucl_jax.results import tables
from ucl_jax.results.paper import DATASETS, TABLE1, TABLE2
from ucl_jax.results.tables import Experiment, Run, mean

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
FEWSHOT = dict.fromkeys(ROWS, ("finetune", "der", "lump"))
LANDSCAPE = dict.fromkeys(ROWS, ("finetune", "si", "lump")) | {"supervised": ("finetune", "si")}
EXAMPLES = "benchmark.examples_per_task"
SUBSET = "benchmark.subset_seed"
# Training images a task (its mean where tasks differ): of few-shot runs, and all.
SIZES = {"digits": (10, 25, 50, 100)}  # else 100, 200, 500
ALL = {"digits": 288, "mnist": 12000, "fashion_mnist": 12000, "svhn_cropped": 14651}
ALL |= {"cifar10": 10000, "cifar100": 2500, "tiny_imagenet": 2500}
Given = argparse.Namespace  # the command line, see `reproduce.parse`
Runs = Mapping[Cell, Run]  # finished ones


class Told(NamedTuple):
    """What a study says: rows of cells of which the first is the header, `left` columns being words; and numbers.

    numbers: the same as JSON, with the values of all seeds.
    figure: the name of a function of `figures`, what it shows and its title.
    """

    title: str
    rows: list[list[str]]
    left: int
    legend: list[str]
    numbers: list[dict[str, Any]]
    figure: tuple[str, dict[str, Any], str] | None = None


class Study(NamedTuple):
    """One table or figure of the paper.

    cells: given, benchmark -> the runs that it needs.
    tell: given, these cells, those that are finished -> what it says.
    probes: given, cells -> what probes are to be asked of them once they are finished.
    """

    about: str
    objectives: tuple[str, ...]
    cells: Callable[[Given, str], list[Cell]]
    tell: Callable[[Given, Sequence[Cell], Runs], Told]
    probes: Callable[[Given, Sequence[Cell]], list[probe_requests.Ask]] = lambda given, cells: []


def words(text: str) -> list[str]:
    """Of a comma list, each once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _cell(given: Given, benchmark: str, recipe: str, objective: str, seed: int, examples: int = 0) -> Cell:
    """A cell in its place under --root; `examples` images a task, 0 for all. Each seed has a subset of its own."""
    own = (f"{EXAMPLES}={examples}", f"{SUBSET}=-1") if examples else ()
    name = f"{recipe}-{objective}-seed{seed}" + (f"-examples{examples}" if examples else "")
    return Cell(name, given.root / benchmark / name, benchmark, recipe, objective, seed, (*own, *given.override))


def _recipes(given: Given, objective: str, default: Sequence[str]) -> list[str]:
    """The recipes of an objective: `default`, first of all that there are, or what --recipes names."""
    known = ROWS[objective] + MORE[objective]
    if given.recipes == "all":
        return list(dict.fromkeys((*default, *known)))
    return [recipe for recipe in words(given.recipes) if recipe in known] if given.recipes else list(default)


def _grid(
    rows: Mapping[str, Sequence[str]], sizes: Callable[[Given, str], list[int]] = lambda given, benchmark: [0]
) -> Callable[[Given, str], list[Cell]]:
    """Cells of all recipes and seeds: the default rows first, and seed by seed, so that a stopped study is of use."""
    return lambda given, benchmark: [
        _cell(given, benchmark, recipe, objective, seed, examples)
        for more in (False, True)
        for seed in range(given.seeds)
        for objective in given.objectives
        for recipe in _recipes(given, objective, rows[objective])
        if (recipe not in rows[objective]) == more
        for examples in sizes(given, benchmark)
    ]


def _sizes(given: Given, benchmark: str) -> list[int]:
    """Images a task of the few-shot runs; 0 for all at the end."""
    if not given.sizes:
        return [*SIZES.get(benchmark, (100, 200, 500)), 0]
    asked, full = words(given.sizes), ALL[benchmark]
    require(
        all(word == "all" or (word.isdecimal() and len(word) < 10 and int(word)) for word in asked),
        f"--sizes={given.sizes} is not numbers of images a task, or all, with commas between",
    )
    sizes = sorted({0 if word == "all" else int(word) for word in asked}, key=lambda size: size or full)
    require(all(size < full for size in sizes), f"{benchmark} has {full} images a task: --sizes=all")
    return sizes


def _known(benchmark: str, table: Mapping[tuple, Any]) -> str:
    return tables.WITHIN if any(key[0] == benchmark for key in table) else f"The paper has no {benchmark}."


def _experiments(given: Given, cells: Sequence[Cell], runs: Runs) -> list[Experiment]:
    """Finished runs that differ in their seed alone, or in their number of images, in the order of the rows planned."""
    planned = sorted(cells, key=lambda cell: given.objectives.index(cell.objective))
    order = list(dict.fromkeys((cell.objective, cell.recipe) for cell in planned))
    planned.sort(key=lambda cell: order.index((cell.objective, cell.recipe)))
    return tables.experiments_of([runs[cell] for cell in planned if cell in runs], but={EXAMPLES, SUBSET})


def _whole(function: Callable[[Sequence[float]], float], values: Sequence[float | None]) -> float | None:
    """None where one of the values is missing, as of a network whose loss or maps are not finite."""
    return None if None in values else function(values)


def _row(experiment: Experiment) -> dict[str, Any]:
    """What names a row, in the numbers."""
    return {"objective": experiment.objective, "recipe": experiment.recipe}


def _recipe(experiment: Experiment) -> tuple[str, str, str]:
    """The key of the paper's tables; an experiment's own `recipe` may have settings after it."""
    return experiment.benchmark, experiment.objective, experiment.runs[0]["config"]["recipe"]


def _tell_table1(given: Given, cells: Sequence[Cell], runs: Runs) -> Told:
    names = ("accuracy", "forgetting")
    head = [word for name in names for word in (name, *tables.BESIDE)]
    rows = [["objective", "recipe", "n", *head, "all classes", "its forgetting"]]
    numbers = []
    for e in _experiments(given, cells, runs):
        task, whole = (tables.scores(e.runs, probe, tables.forgetting_of(e.runs)) for probe in ("knn_task", "knn_all"))
        paper = TABLE1.get(_recipe(e), (None, None))
        compared = [cell for ours, theirs in zip(task, paper) for cell in tables.beside(ours, theirs)]
        rows.append([e.objective, e.recipe, str(len(e.runs)), *compared, *map(mean, whole)])
        measured = {"task": dict(zip(names, task)), "all": dict(zip(names, whole))}
        measured["paper"] = dict(zip(names, map(tables.against, task, paper)))
        numbers.append({**_row(e), "seeds": tables.seeds(e.runs), **measured})
    benchmark = cells[0].benchmark
    legend = [
        "accuracy: kNN within the task, in %; forgetting in points; all classes: kNN over all classes seen, and its "
        "forgetting. Mean±unbiased deviation over n seeds.",
        _known(benchmark, TABLE1),
        *([SEEN_ROWS] if tables.seen_rows_only(runs.values()) else []),
    ]
    return Told(f"Table 1 on {benchmark}", rows, 2, legend, numbers)


def datasets(given: Given, benchmark: str) -> list[str]:
    """The other data sets: those of --datasets, else those of the paper that are prepared on this machine.

    Raises:
      UsageError: none is.
    """
    if given.datasets:
        return words(given.datasets)
    from ucl_jax.data import prepare  # TFDS, which no other study needs

    known = [name for name in DATASETS if name != benchmark]
    ready = [name for name in known if prepare.find_prepared(BENCHMARKS[name].tfds_name, given.data_dir)]
    folder = prepare.resolve_data_dir(given.data_dir)
    require(
        bool(ready),
        f"none of {', '.join(known)} is prepared in {folder}: python -m ucl_jax.data.prepare mnist, then again; "
        "or name data sets with --datasets, or the folder with --data_dir",
    )
    return ready


def _ask_ood(given: Given, cells: Sequence[Cell]) -> list[probe_requests.Ask]:
    others = {benchmark: datasets(given, benchmark) for benchmark in dict.fromkeys(cell.benchmark for cell in cells)}
    return [
        probe_requests.Ask(cell, "ood", {**probe_requests.settings(given, "ood", cell.benchmark), "dataset": dataset})
        for cell in cells
        for dataset in others[cell.benchmark]
    ]


def _tell_table2(given: Given, cells: Sequence[Cell], runs: Runs) -> Told:
    ask_of = {ask.settings["dataset"]: ask for ask in _ask_ood(given, cells[:1])}
    rows = [["objective", "recipe", "n", *(word for name in ask_of for word in (name, *tables.BESIDE))]]
    numbers, seen = [], {}
    for e in _experiments(given, cells, runs):
        beside, values = [], {}
        for name, ask in ask_of.items():
            found = probe_requests.values(e, ask)
            if found:
                seen[name] = next(iter(found.values()))
            knn, linear = ([v[key] for v in found.values()] for key in ("knn", "linear"))
            paper = TABLE2.get(_recipe(e), {}).get(name)
            beside += tables.beside(knn, paper)
            values[name] = {"seeds": list(found), "knn": knn, "linear": linear, "paper": tables.against(knn, paper)}
        rows.append([e.objective, e.recipe, str(len(e.runs)), *beside])
        numbers.append({**_row(e), "datasets": values})
    benchmark = cells[0].benchmark
    legend = [
        f"kNN on data sets that the network was not trained on (it was on {benchmark}), in %; mean±unbiased deviation "
        "over n seeds.",
        "Chance: " + ", ".join(f"{name} {v['chance']:.2f}" for name, v in seen.items()) + ".",
        "Images, training and test: "
        + ", ".join(f"{name} {v['train_images']} and {v['test_images']}" for name, v in seen.items())
        + ".",
        _known(benchmark, TABLE2),
    ]
    return Told(f"Table 2, trained on {benchmark}", rows, 2, legend, numbers)


def _tell_fewshot(given: Given, cells: Sequence[Cell], runs: Runs) -> Told:
    benchmark = cells[0].benchmark
    sizes = _sizes(given, benchmark)
    heads = [str(size) if size else f"all ({ALL[benchmark]})" for size in sizes]
    rows = [["objective", "recipe", "n", *(f"A, {w}" for w in heads), "lost", *(f"F, {w}" for w in heads)]]
    numbers, series, lost_of, apart = [], {}, {}, []
    for e in _experiments(given, cells, runs):
        points = []
        for size in sizes:
            of_size = [run for run in e.runs if run["config"]["benchmark"]["examples_per_task"] == size]
            accuracy, forgetting = tables.scores(of_size, "knn_task", tables.forgetting_of(e.runs))
            point = {"images": size or ALL[benchmark], "accuracy": accuracy, "forgetting": forgetting}
            points.append({**point, "seeds": tables.seeds(of_size)})
        accuracies, forgotten = ([p[key] for p in points] for key in ("accuracy", "forgetting"))
        lost = None
        fewest, most = (dict(zip(points[place]["seeds"], accuracies[place])) for place in (0, -1))
        if len(sizes) > 1 and (both := fewest.keys() & most.keys()):  # runs of other seeds may be missing yet
            lost = statistics.fmean(most[seed] - fewest[seed] for seed in sorted(both))
            if _recipe(e)[-1] in ROWS[e.objective]:
                lost_of.setdefault("supervised" if e.objective == "supervised" else "unsupervised", []).append(lost)
            else:
                apart.append(f"{e.recipe} ({e.objective})")
        count = str(max(len(p["seeds"]) for p in points))
        shown = "-" if lost is None else f"{lost:.2f}"
        rows.append([e.objective, e.recipe, count, *map(mean, accuracies), shown, *map(mean, forgotten)])
        numbers.append({**_row(e), "points": points, "lost": lost})
        series[f"{e.recipe}, {e.objective}"] = [{k: p[k] for k in ("images", "accuracy", "forgetting")} for p in points]
    legend = [
        "kNN within the task by training images a task: A is average accuracy in %, F forgetting in points; "
        "mean±unbiased deviation over seeds, each with a subset of its own. lost: A with the most images - A with the "
        "fewest, of seeds with both.",
        *(f"Lost, mean over {kind} rows: {statistics.fmean(values):.2f}." for kind, values in sorted(lost_of.items())),
        *([f"Not in these means, for the paper does not have it: {', '.join(apart)}."] if apart else []),
        "The paper, from 2500 to 100 images on Split CIFAR-100: 15.78 without labels, 32.21 with.",
        *([SEEN_ROWS] if tables.seen_rows_only(runs.values()) else []),
    ]
    figure = "few_shot", series, f"Few-shot training, {benchmark}"
    return Told(f"Few-shot training on {benchmark} (fig. 2)", rows, 2, legend, numbers, figure)


def pairs(given: Given) -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
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


def _cka_cells(given: Given, benchmark: str) -> list[Cell]:
    require(not given.recipes, "cka compares fixed pairs of runs: leave --recipes out, and choose by --objectives")
    require(given.seeds > 1, f"cka compares runs of different seeds: --seeds={given.seeds} must be at least 2")
    models = dict.fromkeys(model for pair in pairs(given).values() for model in pair)
    return [_cell(given, benchmark, *model, seed) for seed in range(given.seeds) for model in models]


def _named_asks(given: Given, cells: Sequence[Cell]) -> list[tuple[str, probe_requests.Ask]]:
    """("", a run against itself), and (name of a pair, its first run against its second), seed by seed.

    The second run has the next seed, the one after the last being 0: two runs of one seed start from the same weights
    and see the same batches, which makes them more alike than independent ones are.
    """

    def ask(cell: Cell, other: str) -> probe_requests.Ask:
        return probe_requests.Ask(
            cell, "cka", {**probe_requests.settings(given, "cka", cell.benchmark), "other": other}
        )

    at = {(cell.benchmark, cell.recipe, cell.objective, cell.seed): cell for cell in cells}
    across = [
        (name, ask(at[benchmark, *one, seed], str(at[benchmark, *two, following].folder.absolute())))
        for name, (one, two) in pairs(given).items()
        for benchmark, seed in dict.fromkeys((cell.benchmark, cell.seed) for cell in cells)
        for following in [(seed + 1) % given.seeds]
        if (benchmark, *one, seed) in at and (benchmark, *two, following) in at
    ]
    return [*(("", ask(cell, "")) for cell in cells), *across]


def _ask_cka(given: Given, cells: Sequence[Cell]) -> list[probe_requests.Ask]:
    return [ask for _, ask in _named_asks(given, cells)]


def _tell_cka(given: Given, cells: Sequence[Cell], runs: Runs) -> Told:
    found: dict[str, list[dict[str, Any]]] = {}
    seeds: dict[str, list[int]] = {}
    own = {}
    for name, ask in _named_asks(given, [cell for cell in cells if cell in runs]):
        results = runs[ask.cell]
        if (kept := probe_requests.record(results, ask, tables.tasks_learned(results))) is None:
            continue
        values, cell = kept["values"], ask.cell
        if name:
            found.setdefault(name, []).append(values)
            seeds.setdefault(name, []).append(cell.seed)
        elif cell.seed == 0:
            own[f"{cell.recipe}, {cell.objective}"] = {
                "rows": list(values["cka"]),
                "columns": [f"t={t}" for t in values["checkpoints"]],
                "values": [similarity[-1] for similarity in values["cka"].values()],
            }
    names = list(next(iter(found.values()))[0]["cka"]) if found else []  # all runs have the same architecture
    rows = [["pair", "first", "second", "n", *names, "l2 distance"]]
    numbers = []
    for name, of_seeds in found.items():
        first, second = (f"{recipe}, {objective}" for recipe, objective in pairs(given)[name])
        stages = {stage: [values["cka"][stage][-1][-1] for values in of_seeds] for stage in names}
        distance = [values["l2"][-1][-1] if values.get("l2") else None for values in of_seeds]
        rows.append([name, first, second, str(len(of_seeds)), *map(mean, stages.values()), mean(distance)])
        following = [(seed + 1) % given.seeds for seed in seeds[name]]
        numbers.append({"pair": name, "first": first, "second": second, "seeds": seeds[name]})
        numbers[-1] |= {"second_seeds": following}
        numbers[-1] |= {"cka": stages, "l2": distance}
    benchmark = cells[0].benchmark
    legend = [
        f"Linear CKA of two networks after the last task, on test images of {benchmark}, stage by stage; mean±unbiased "
        "deviation over n seeds of the first run. 1: the same up to rotation and scale.",
        f"The second run has the next seed, {given.seeds - 1} being followed by 0: runs of one seed start from the "
        "same weights and see the same batches.",
        "stem: the maps after its convolution, normalisation and ReLU; in the paper's figure after the convolution.",
        "l2 distance: of the parameters of the two backbones; - for backbones of different widths, which have none. "
        "The paper's: 49 to 92 without labels, 183 to 315 with.",
        "Figure: these numbers, and for seed 0 of each run its last network against its own after t tasks.",
    ]
    means = [[_whole(statistics.fmean, stage) for stage in row["cka"].values()] for row in numbers]
    panels = {"two runs": {"rows": list(found), "columns": names, "values": means}, **own}
    title = f"Linear CKA on {benchmark}: last networks of two runs; last and after t tasks"
    figure = ("cka", panels, title) if found else None
    return Told(f"CKA on {benchmark} (fig. 3)", rows, 3, legend, numbers, figure)


def _ask_landscape(given: Given, cells: Sequence[Cell]) -> list[probe_requests.Ask]:
    probe = "loss_landscape"
    return [
        probe_requests.Ask(cell, probe, probe_requests.settings(given, probe, cell.benchmark), "first,last")
        for cell in cells
    ]


def _tell_landscape(given: Given, cells: Sequence[Cell], runs: Runs) -> Told:
    ask = _ask_landscape(given, cells[:1])[0]
    rows = [["objective", "recipe", "after", "n", "at the network", "mean", "highest"]]
    numbers, panels = [], {}
    for e in _experiments(given, cells, runs):
        last = tables.tasks_learned(e.runs[0])
        for after, learned in {"first": 1, "last": last}.items() if last > 1 else [("last", 1)]:
            found = probe_requests.values(e, ask, learned)
            if not found:
                continue
            if 0 in found:
                panel = {key: found[0][key] for key in ("steps", "loss")}
                panels[f"{e.recipe}, {e.objective}, after task {learned}"] = panel
            losses = [values["loss"] for values in found.values()]
            flat = [[value for row in loss for value in row] for loss in losses]
            measured = {
                "centre": [loss[len(loss) // 2][len(loss) // 2] for loss in losses],
                "mean": [_whole(statistics.fmean, loss) for loss in flat],
                "highest": [_whole(max, loss) for loss in flat],
            }
            rows.append([e.objective, e.recipe, f"the {after} task", str(len(found)), *map(mean, measured.values())])
            numbers.append({**_row(e), "after": after, "seeds": list(found), **measured})
    asked = ", ".join(f"{key} {value}" for key, value in ask.settings.items())
    legend = [
        "Loss on the first task's data over a plane of two random filter-normalised directions through the network "
        f"({asked}): at its centre, the mean, the highest; mean±unbiased deviation over n seeds. The figure shows "
        "seed 0.",
    ]
    benchmark = cells[0].benchmark
    figure = ("landscape", panels, f"Loss of the first task, {benchmark}") if panels else None
    return Told(f"Loss landscape on {benchmark} (fig. 5)", rows, 3, legend, numbers, figure)


SEEN_ROWS = (
    "Some runs evaluated tasks only from when they were learned (eval.tasks=seen): the best of earlier rows is not in "
    "their forgetting."
)
TABLE1_ABOUT = "kNN accuracy and forgetting of every method, beside the paper's"
TABLE2_ABOUT = "kNN on data sets that the network was not trained on, beside the paper's"
FEWSHOT_ABOUT = "accuracy and forgetting by the number of training images, fig. 2"
CKA_ABOUT = "how alike networks are, stage by stage, fig. 3"
LANDSCAPE_ABOUT = "the first task's loss around the network after the first and the last task, fig. 5"
ALL_OBJECTIVES, TWO = tuple(ROWS), ("supervised", "simsiam")
STUDIES: dict[str, Study] = {
    "table1": Study(TABLE1_ABOUT, ALL_OBJECTIVES, _grid(ROWS), _tell_table1),
    "table2": Study(TABLE2_ABOUT, ALL_OBJECTIVES, _grid(ROWS2), _tell_table2, _ask_ood),
    "fewshot": Study(FEWSHOT_ABOUT, ALL_OBJECTIVES, _grid(FEWSHOT, _sizes), _tell_fewshot),
    "cka": Study(CKA_ABOUT, TWO, _cka_cells, _tell_cka, _ask_cka),
    "landscape": Study(LANDSCAPE_ABOUT, TWO, _grid(LANDSCAPE), _tell_landscape, _ask_landscape),
}
