"""Results of runs -> tables, as rows of cells and as text. Pure functions over what `results.json` holds.

Accuracy and forgetting are computed from the saved matrices, so that another definition of forgetting needs no run.
"""

import collections
import csv
import io
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ucl_jax.errors import UsageError, choose, require
from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.results import paper
from ucl_jax.settings import flatten

PROBE_TITLES = {
    "knn_task": "kNN within the task",
    "knn_all": "kNN over all classes seen",
    "head_task": "head within the task",
    "head_all": "head over all classes seen",
}
# Keys in which runs of one experiment may differ, for they change no number.
NEUTRAL = ("data_dir", "compilation_cache", "log.", "checkpoint.")
# Keys that have no part in the numbers of the network before training.
OF_TRAINING = ("recipe", "seed", "method.", "train.", "augment.replay", "benchmark.joint", "eval.forgetting", *NEUTRAL)
# Settings by which 0 stands for everything.
ALL_OF = {
    "benchmark.examples_per_task": "all training images",
    "benchmark.test_examples_per_task": "all test images",
}
# Keys that may be set on the command line without leaving the recipe that the paper's numbers are beside.
BESIDE_PAPER = ("seed", "train.devices", "eval.forgetting", *NEUTRAL)

Run = dict[str, Any]  # what results.json holds
Rows = list[list[str]]


class Experiment(NamedTuple):
    """Runs that differ in their seed alone.

    recipe: its name, and the settings in which it differs from others of the same recipe and objective.
    varied: the keys of those settings.
    """

    benchmark: str
    objective: str
    recipe: str
    runs: list[Run]
    varied: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Such as "lump (simsiam)"."""
        return f"{self.recipe} ({self.objective})"


class Table(NamedTuple):
    """A title, rows of which the first is the header, and how many columns on the left are words."""

    title: str
    rows: Rows
    left: int


def run_name(results: Run) -> str:
    """Such as "lump (simsiam, seed 0)"."""
    config = results["config"]
    return f"{config['recipe']} ({config['objective']['name']}, seed {config['seed']})"


def run_names(runs: Sequence[Run]) -> list[str]:
    """A name for each of the runs: `run_name` with what tells it from the others, such as a setting that differs.

    Runs that differ in no setting that changes a number are counted: "lump (simsiam, seed 0), run 2".
    """
    parts = {id(run): (e.recipe, e) for e in experiments_of(runs, {"eval.forgetting"}) for run in e.runs}

    def named(run: Run, benchmark: bool) -> str:
        recipe, e = parts[id(run)]
        return f"{recipe} ({e.objective}, {f'{e.benchmark}, ' if benchmark else ''}seed {run['config']['seed']})"

    times = collections.Counter(named(run, benchmark=False) for run in runs)
    names = [named(run, benchmark=times[named(run, benchmark=False)] > 1 and _many_benchmarks(runs)) for run in runs]
    seen: collections.Counter[str] = collections.Counter()
    for place, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[place] = f"{name}, run {seen[name]}"
    return names


def _many_benchmarks(runs: Sequence[Run]) -> bool:
    return len({run["config"]["benchmark"]["name"] for run in runs}) > 1


def tasks_learned(results: Run) -> int:
    """How many tasks a run has learned; joint training is one."""
    return max(len(probe["matrix"]) for probe in results["probes"].values())


def seeds(runs: Sequence[Run]) -> list[int]:
    """Of each run."""
    return [run["config"]["seed"] for run in runs]


def forgetting_of(runs: Sequence[Run], given: str | None = None) -> str:
    """The definition of forgetting to use: the given one, else that of the runs' configs.

    Raises:
      UsageError: there is no such definition, or none is given and the runs have different ones.
    """
    names = [given] if given else list(dict.fromkeys(run["config"]["eval"]["forgetting"] for run in runs))
    require(
        len(names) == 1, f"the runs differ in eval.forgetting ({', '.join(names)}); choose one, --forgetting=DEFINITION"
    )
    choose("definition of forgetting", names[0], accuracy_matrix.FORGETTING)
    return names[0]


def table(runs: Sequence[Run], markup: str = "text", forgetting: str | None = None) -> str:
    """Average accuracy and forgetting of runs side by side, in per cent and points, with chance and the random network.

    The random network's and chance's rows are those of the first run that has them; a random network has a row for each
    of the settings that change its numbers.
    """
    return render(every_run(runs, forgetting_of(runs, forgetting)), markup)


def every_run(runs: Sequence[Run], definition: str) -> Rows:
    """The rows of `table`."""
    probes = probes_of(runs)
    rows = [
        [name + ("" if results["finished"] else ", not finished"), *_cells([results], probes, definition)]
        for name, results in zip(run_names(runs), runs)
    ]
    for label, (initial, *_) in random_networks(runs).items():
        rows.append([label, *_unforgotten([untrained(initial, name)] for name in probes)])
    rows.append(["chance", *_unforgotten([_chance(runs, name)] for name in probes)])
    return [["", *_header(runs, probes, definition)], *rows]


def table_of_seeds(runs: Sequence[Run], markup: str = "text", forgetting: str | None = None) -> str:
    """As `table`, with a row for each objective and recipe: mean±deviation over the runs, which differ in their seed.

    The deviation is the unbiased one; the column n is the number of runs. The untrained network has a row for each
    objective (see `random_networks`), from all of its runs but those of an architecture that grows.
    """
    definition = forgetting_of(runs, forgetting)
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run["config"]["objective"]["name"], run["config"]["recipe"]), []).append(run)
    for group in groups.values():
        require_same_config(group, {"eval.forgetting"} if forgetting else ())
    return render(_seeds([Experiment("", *key, group) for key, group in groups.items()], definition), markup, left=2)


def against_paper(experiments: Sequence[Experiment], definition: str) -> list[Table]:
    """A table for each benchmark: the rows of `table_of_seeds`, and the paper's numbers beside the paper's probe."""
    names = dict.fromkeys(e.benchmark for e in experiments)
    return [
        Table(name, _seeds([e for e in experiments if e.benchmark == name], definition, beside=True), left=2)
        for name in names
    ]


def _seeds(experiments: Sequence[Experiment], definition: str, beside: bool = False) -> Rows:
    """Rows of experiments on one benchmark; with `beside`, the paper's numbers after those of the first probe."""
    runs = [run for experiment in experiments for run in experiment.runs]
    probes = probes_of(runs)
    rows = []

    def row(words: Sequence[str], cells: list[str], published: Sequence[str] = ("-", "-")) -> None:
        rows.append([*words, *cells[:2], *(published if beside else ()), *cells[2:]])

    row(
        ["objective", "recipe", "n"],
        _header(runs, probes, definition),
        ["the paper's accuracy", "the paper's forgetting"],
    )
    for objective in dict.fromkeys(e.objective for e in experiments):
        of_objective = [e for e in experiments if e.objective == objective]
        for e in of_objective:
            own = seeds(e.runs)
            require(len(set(own)) == len(own), f"two runs of {e.name} have one seed: {own}; give each run once")
            pending = sum(not r["finished"] for r in e.runs)
            recipe = e.recipe + (f", {pending} not finished" if pending else "")
            row([objective, recipe, str(len(own))], _cells(e.runs, probes, definition), _published(e, experiments))
        plain = [r for e in of_objective for r in e.runs if r["config"]["model"]["name"] == "resnet18"]
        for label, group in random_networks(plain).items():
            cells = _unforgotten([untrained(r, name) for r in group] for name in probes)
            row([objective, label, str(len(group))], cells)
    row(["", "chance", ""], _unforgotten([_chance(runs, name)] for name in probes))
    return rows


def _published(experiment: Experiment, others: Sequence[Experiment]) -> list[str]:
    """The paper's accuracy and forgetting, `-` where it has none or the runs have other settings than their recipe."""
    recipe = experiment.runs[0]["config"]["recipe"]
    numbers = paper.TABLE1.get((experiment.benchmark, experiment.objective, recipe))
    if not _as_the_recipe(experiment, others):
        numbers = None
    pairs = (None, None) if numbers is None else (numbers.accuracy, numbers.forgetting)
    return [published(pair) for pair in pairs]


def _as_the_recipe(experiment: Experiment, others: Sequence[Experiment]) -> bool:
    """Whether an experiment's settings are its recipe's own, as far as one can tell.

    They are not where the command set one, or images are fewer; nor where others of the recipe differ from it in one
    that was not set for them.
    """
    if any(run["config"]["benchmark"].get(key.partition(".")[2]) for run in experiment.runs for key in ALL_OF):
        return False
    if any(overridden(run) for run in experiment.runs):
        return False
    of_recipe = [e for e in others if _recipe_of(e) == _recipe_of(experiment)]
    set_there = {key for e in of_recipe for run in e.runs for key in overridden(run)}
    return set(experiment.varied) <= set_there | set(ALL_OF)


def _recipe_of(experiment: Experiment) -> tuple[str, str, str]:
    return experiment.benchmark, experiment.objective, experiment.runs[0]["config"]["recipe"]


def overridden(run: Run) -> set[str]:
    """The keys of the config that the command of a run sets, without those of BESIDE_PAPER."""
    words = [word.lstrip("-") for word in (run.get("command") or "").split() if word.startswith("-")]
    keys = {word.partition("=")[0].removeprefix("config.") for word in words if word.startswith("config.")}
    return {key for key in keys if not key.startswith(BESIDE_PAPER)}


def published(value: paper.Value | None) -> str:
    """A number of the paper, `-` where it has none."""
    return "-" if value is None else f"{value.mean:.2f}±{value.deviation:.2f}"


WITHIN = (
    "within: |difference| <= the paper's deviation + ours, each over its runs (ours is 0 where there is one run); "
    "difference: ours - the paper's."
)
BESIDE = ("paper", "difference", "within")


def against(ours: Sequence[float | None], theirs: paper.Value | None) -> dict[str, Any] | None:
    """Ours beside the paper's: difference of the means, and whether it is within the spread; None without either.

    The one definition of "within the paper's spread", see WITHIN.
    """
    if not ours or theirs is None or None in ours:
        return None
    difference = float(np.mean(ours)) - theirs.mean
    spread = float(np.std(ours, ddof=1)) if len(ours) > 1 else 0.0
    within = abs(difference) <= theirs.deviation + spread + 1e-9  # of rounding
    return {**theirs._asdict(), "difference": difference, "within": within}


def beside(ours: Sequence[float | None], theirs: paper.Value | None) -> list[str]:
    """Cells: ours, and those of BESIDE."""
    compared = against(ours, theirs)
    if compared is None:
        return [mean(ours), published(theirs), "-", "-"]
    return [mean(ours), published(theirs), f"{compared['difference']:+.2f}", "yes" if compared["within"] else "no"]


def experiments_of(runs: Sequence[Run], but: Collection[str] = ()) -> list[Experiment]:
    """Runs by their settings, in the order given; the keys of `but` do not tell them apart."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(_settings(run, but), sort_keys=True), []).append(run)

    def key(run):
        return tuple(run["config"][part]["name"] for part in ("benchmark", "objective")) + (run["config"]["recipe"],)

    experiments = []
    for group in groups.values():
        alike = [_settings(other[0], but) for other in groups.values() if key(other[0]) == key(group[0])]
        own = _settings(group[0], but)
        varied = tuple(differing(alike))
        benchmark, objective, recipe = key(group[0])
        experiments.append(Experiment(benchmark, objective, _told([recipe], varied, own), group, varied))
    return experiments


def _told(words: Sequence[str], keys: Iterable[str], settings: Mapping[str, Any]) -> str:
    """Words and settings with commas: "lump, method.alpha=0.1"; those that are not there are left out."""
    told = [
        ALL_OF[key] if key in ALL_OF and settings[key] == 0 else f"{key}={settings[key]}"
        for key in keys
        if key in settings
    ]
    return ", ".join([*words, *told])


def random_networks(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs whose network was measured before training, one of each seed, by a label.

    It is "random network" for all; but where runs of one seed have different numbers, there is a label for each value
    of the settings that tell them apart, such as "random network, benchmark.examples_per_task=50".
    """
    having = [run for run in runs if all(probe.get("random_init") for probe in run["probes"].values())]
    settings = [{k: v for k, v in flatten(r["config"]).items() if not k.startswith(OF_TRAINING)} for r in having]
    numbers = [{name: probe["random_init"] for name, probe in run["probes"].items()} for run in having]
    apart = [
        set(differing([settings[one], settings[other]]))
        for one, other in itertools.combinations(range(len(having)), 2)
        if having[one]["config"]["seed"] == having[other]["config"]["seed"]
        and any(numbers[one][name] != numbers[other][name] for name in numbers[one].keys() & numbers[other].keys())
    ]
    apart = [keys for keys in apart if keys]  # else of another machine
    kept = set().union(*apart)
    # Names last: they say most; seeds of subsets say least.
    for key in sorted(kept, key=lambda key: (not key.endswith("_seed"), key.endswith(".name"), key)):
        if all(keys & (kept - {key}) for keys in apart):
            kept.remove(key)
    groups: dict[str, dict[int, Run]] = {}
    for run, own in zip(having, settings):
        groups.setdefault(_told(["random network"], sorted(kept), own), {}).setdefault(run["config"]["seed"], run)
    return {label: list(group.values()) for label, group in groups.items()}


def _settings(run: Run, but: Collection[str] = ()) -> dict[str, Any]:
    """The config as "a.b" -> value, without the seed, the keys of `but`, and what changes no number."""
    flat = flatten(run["config"])
    return {k: v for k, v in flat.items() if k != "seed" and k not in but and not k.startswith(NEUTRAL)}


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys in which any of the settings differ or which one lacks, sorted."""
    missing = object()
    keys = sorted(set().union(*settings))
    return [k for k in keys if any(s.get(k, missing) != settings[0].get(k, missing) for s in settings)]


def settings_that_differ(experiments: Sequence[Experiment]) -> Rows:
    """A row for each setting that is not the same everywhere, a column for each experiment; "-" where it has none."""
    settings = [_settings(e.runs[0]) for e in experiments]
    header = ["setting", *(f"{e.name}, {e.benchmark}" for e in experiments)]

    def cell(key, value):
        return f"{value} ({ALL_OF[key]})" if key in ALL_OF and value == 0 else str(value)

    return [header, *([key, *(cell(key, s.get(key, "-")) for s in settings)] for key in differing(settings))]


def require_same_config(runs: Sequence[Run], but: Collection[str] = ()) -> None:
    """Raises UsageError when configs differ in more than seeds, the keys of `but`, and what changes no number."""
    trees = [_settings(run, but) for run in runs]
    if keys := differing(trees):
        values = ", ".join(str(tree.get(keys[0])) for tree in trees)
        raise UsageError(
            f"runs of {run_name(runs[0])} and others of its row differ in {keys[0]} ({values}); "
            "give only runs that differ in their seed"
        )


def analysis_tables(experiments: Sequence[Experiment]) -> list[Table]:
    """Numbers of the analysis records: a table for each probe, a row for each experiment, checkpoint and setting.

    Over several seeds a cell is mean±deviation; n runs have the row, and a cell that fewer have says so. A probe whose
    records are pictures has no table.
    """
    records = [record for e in experiments for run in e.runs for record in run.get("analysis", [])]
    told_apart = {
        probe: _varied(probe, [record["settings"] for record in records if record["probe"] == probe])
        for probe in dict.fromkeys(record["probe"] for record in records)
    }
    # probe -> (place of the experiment, tasks learned, settings...) -> seed -> numbers
    found: dict[str, dict[tuple, dict[int, dict[str, float | None]]]] = {}
    for place, experiment in enumerate(experiments):
        for run in experiment.runs:
            for record in run.get("analysis", []):
                after = "-" if record["after"] is None else str(record["after"])
                for settings, numbers in _observations(record, told_apart[record["probe"]]):
                    seeds = found.setdefault(record["probe"], {}).setdefault((place, after, *settings.items()), {})
                    seeds[run["config"]["seed"]] = numbers
    tables = []
    for probe, rows in found.items():
        words = list(dict.fromkeys(name for key in rows for name, _ in key[2:]))
        columns = list(dict.fromkeys(name for seeds in rows.values() for n in seeds.values() for name in n))
        settings_beside = (f"{word}, set" if word in columns else word for word in words)  # as train images of ood
        table = [["experiment", "tasks learned", *settings_beside, "n", *columns]]
        for (place, after, *settings), seeds in rows.items():
            cells = [_mean_of_known([n.get(column) for n in seeds.values()]) for column in columns]
            given = dict(settings)
            table.append([experiments[place].name, after, *(given.get(w, "-") for w in words), str(len(seeds)), *cells])
        tables.append(Table(ANALYSES.get(probe, probe), table, left=2 + len(words)))
    return tables


ANALYSES = {
    "knn": "kNN with other settings, accuracy in %",
    "linear": "Linear probe, accuracy in %",
    "ood": "Other data sets, accuracy in %",
    "finetune": "Fine-tuning on other data sets, accuracy in %",
    "transfer": "Transfer between tasks, in % and points",
    "geometry": "Geometry of parameters and features",
}
PICTURES = ("cka", "feature_maps", "loss_landscape", "embedding")


# Settings of which each number of a record says its own.
TOLD_BY_ROWS = {"knn": ("k", "temperature")}


def _varied(probe: str, settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that hold different values in those settings that have them; if these do not do, all that differ."""
    kept = [{k: _word(v) for k, v in each.items() if k not in TOLD_BY_ROWS.get(probe, ())} for each in settings]
    keys = list(dict.fromkeys(key for each in kept for key in each))
    varied = [key for key in keys if len({each[key] for each in kept if key in each}) > 1]
    told = {tuple(each.get(key) for key in varied) for each in kept}
    different = {tuple(sorted(each.items())) for each in kept}
    return varied if len(told) == len(different) else [key for key in keys if key in differing(kept)]


def _word(value: Any) -> str:
    """A setting as text; a list has commas."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _observations(
    record: Mapping[str, Any], differ: Sequence[str]
) -> Iterator[tuple[dict[str, str], dict[str, float | None]]]:
    """(settings to tell rows apart by, numbers) of an analysis record; of an unknown probe, whatever is a number.

    The settings are those that say what was measured, and those in which records of the probe differ.
    """
    probe, settings, values = record["probe"], record["settings"], record["values"]

    def words(*names):
        shown = [name for name in dict.fromkeys([*names, *differ]) if name in settings]
        return {name.replace("_", " "): _word(settings[name]) for name in shown}

    def over_tasks(row):
        return {"within the task": _mean_of(row["task"]), "all classes": _mean_of(row["all"])}

    if probe == "knn":
        for row in values["rows"]:
            yield {"k": str(row["k"]), "temperature": str(row["temperature"])} | words(), over_tasks(row)
    elif probe == "linear":
        yield words("solver", "fraction"), over_tasks(values)
    elif probe == "transfer":
        random = {"random network": _mean_of(values["random_init"])}
        yield words(), {n.replace("_", " "): values[n] for n in ("learning_accuracy", "forward", "backward")} | random
    elif probe not in PICTURES:
        scalars = {n.replace("_", " "): v for n, v in values.items() if v is None or isinstance(v, int | float)}
        yield words("dataset", "epochs", "learning_rate"), scalars


def _mean_of_known(values: Sequence[float | None]) -> str:
    """As `mean` of those that are there; a count that is the same for all, such as of images, as it is."""
    known = [value for value in values if value is not None]
    same = len(set(known)) == 1 and isinstance(known[0], int)
    few = f" (n={len(known)})" if 0 < len(known) < len(values) else ""
    return (str(known[0]) if same else mean(known)) + few


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def render(rows: Sequence[Sequence[str]], markup: str = "text", left: int = 1) -> str:
    """Cells as lines, the first row being the header; `left` columns are words.

    Args:
      rows: cells; the other columns hold numbers, `mean±deviation` or `-`.
      markup: "text"; "markdown"; "latex", a plain `tabular` with \\hline that needs no package; or "csv", where a
        deviation has a column of its own and a number that is not there is an empty cell.
      left: columns of words.

    Raises:
      UsageError: there is no such markup.
    """
    return choose("format", markup, FORMATS)(rows, left)


def _text(rows, left):
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(c.ljust(w) if place < left else c.rjust(w) for place, (c, w) in enumerate(zip(row, widths)))
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _markdown(rows, left):
    rule = ["---"] * left + ["---:"] * (len(rows[0]) - left)
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in [rows[0], rule, *rows[1:]])


LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}


def _latex(rows, left):
    lines = [" & ".join(c.translate(str.maketrans(LATEX)) for c in row) + r" \\" for row in rows]
    columns = "l" * left + "r" * (len(rows[0]) - left)
    begin, end = f"\\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([begin, r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", end])


def _csv(rows, left):
    columns = []
    for place, (name, *cells) in enumerate(zip(*rows)):
        if place < left:
            columns.append([name, *cells])
            continue
        parts = [("" if cell == "-" else cell).partition("±") for cell in cells]
        columns.append([name, *(number for number, _, _ in parts)])
        if any(sign for _, sign, _ in parts):
            columns.append([f"{name} deviation", *(deviation for _, _, deviation in parts)])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(*columns))
    return text.getvalue().removesuffix("\n")


FORMATS = {"text": _text, "markdown": _markdown, "latex": _latex, "csv": _csv}


def probes_of(runs: Sequence[Run]) -> list[str]:
    """The probes of any of the runs, in the order of PROBE_TITLES."""
    return [name for name in PROBE_TITLES if any(name in results["probes"] for results in runs)]


def seen_rows_only(runs: Iterable[Run]) -> bool:
    """Tells whether forgetting of some run is of the rows in which tasks were learned already (`eval.tasks=seen`)."""
    return any(
        run["config"]["eval"]["tasks"] == "seen" and any(len(p["matrix"]) > 1 for p in run["probes"].values())
        for run in runs
    )


def _header(runs: Sequence[Run], probes: Sequence[str], definition: str) -> list[str]:
    def forgotten(probe):
        notes = [definition] if definition != "max" else []
        # Over all classes seen a task has no entry before it is learned, whatever is evaluated.
        known = probe.endswith("_task") and definition != "first"
        notes += ["seen rows"] if known and seen_rows_only(runs) else []
        return f"forgetting ({', '.join(notes)})" if notes else "forgetting"

    return [cell for name in probes for cell in (PROBE_TITLES[name], forgotten(name))]


def _cells(runs: Sequence[Run], probes: Sequence[str], definition: str) -> list[str]:
    """Average accuracy and forgetting by each probe, of one run or over several."""
    return [mean(values) for name in probes for values in scores(runs, name, definition)]


def scores(runs: Sequence[Run], probe: str, definition: str) -> tuple[list[float | None], list[float | None]]:
    """Average accuracy, and forgetting, of each run that has the probe."""
    having = [results for results in runs if probe in results["probes"]]
    return (
        [average_accuracy(results, probe) for results in having],
        [accuracy_matrix.forgetting(results["probes"][probe]["matrix"], definition) for results in having],
    )


def average_accuracy(results: Run, probe: str) -> float | None:
    """Returns the average accuracy of a run by a probe, in per cent, over the tasks learned."""
    return accuracy_matrix.average_accuracy(results["probes"][probe]["matrix"], results["config"]["benchmark"]["joint"])


def mean(values: Sequence[float | None]) -> str:
    """`mean±deviation`, the number alone when there is one, `-` when there is none or one is missing."""
    if not values or None in values:
        return "-"
    spread = f"±{np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def _unforgotten(values_of_probes: Iterable[Sequence[float | None]]) -> list[str]:
    """Cells of accuracies by each probe to which no forgetting belongs."""
    return [cell for values in values_of_probes for cell in (mean(values), "-")]


def untrained(results: Run, name: str) -> float | None:
    """Average accuracy of the network before training by a probe; None where it was not measured."""
    initial = results["probes"].get(name, {}).get("random_init")
    return None if initial is None else float(np.mean(initial))


def _chance(runs: Sequence[Run], name: str) -> float:
    return next(results["probes"][name]["chance"] for results in runs if name in results["probes"])
