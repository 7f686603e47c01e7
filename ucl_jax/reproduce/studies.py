"""Describes the studies: for each table or figure its runs, the probes that it needs, and its report.

All are of the paper but `cassle`, the table of the protocol of CaSSLe, and `streams`, which compares streams.

Nothing is run here; the command `python -m ucl_jax.reproduce` does that. Neither JAX nor TFDS is imported, so that a
plan is made at once.
"""

from __future__ import annotations

import collections
import pathlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ucl_jax import recipes
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import require
from ucl_jax.reproduce import probe_requests
from ucl_jax.reproduce.plan import Overrides, PlannedRun, config_of
from ucl_jax.reproduce.probe_requests import ProbeRequest, Settings
from ucl_jax.results import compare, tables
from ucl_jax.results.compare import KNN_PROBES, PROBE_TITLES, RunGroup
from ucl_jax.results.paper import DATASETS, TABLE1, TABLE2, Value
from ucl_jax.results.published import CASSLE, PNR_BEST, SOURCES
from ucl_jax.results.tables import Table, make_frame, mean_and_deviation, with_deviation
from ucl_jax.settings import OBJECTIVE_SETTINGS

if TYPE_CHECKING:
    from ucl_jax.results.records import CkaValues
    from ucl_jax.results.schema import ProbeName, RunResult

UNLABELLED = ("finetune", "si", "der", "lump", "multitask", "pnn")
# Objective -> recipes: the rows of the paper's Table 1. Other objectives have UNLABELLED by default.
ROWS = {
    "supervised": ("finetune", "si", "agem", "gss", "der", "multitask", "pnn"),
    "simsiam": UNLABELLED,
    "barlow_twins": UNLABELLED,
}
OSIRIS = ("osiris_r", "osiris_d")
OBJECTIVES = tuple(OBJECTIVE_SETTINGS)
# Objective -> recipes whose method refuses it. CaSSLe, MinRed, CLA and ARP compare projections, GSS needs the loss of a
# single example, PNR needs negatives, CroMo-Mixup a loss of embeddings alone, Osiris negatives in the batch.
IMPOSSIBLE = {
    "simsiam": OSIRIS,
    "barlow_twins": ("gss", *OSIRIS),
    "byol": OSIRIS,
    "simclr": ("gss",),
    "vicreg": ("gss", *OSIRIS),
    "moco": ("cromo_mixup", *OSIRIS),
    "swav": ("gss", "pnr", "cromo_mixup", *OSIRIS),
    "supervised": ("cassle", "pnr", "cromo_mixup", "min_red", "cla", "arp", *OSIRIS),
}
# Objective -> recipes: the rows that the paper does not have, which are all other recipes of configs/.
EXTRA_ROWS = {
    objective: tuple(
        one for one in recipes.names() if one not in (*ROWS.get(objective, ()), *IMPOSSIBLE.get(objective, ()))
    )
    for objective in OBJECTIVES
}
# Objective -> recipes: the rows of the table of CaSSLe's protocol.
CASSLE_ROWS = {
    objective: tuple(
        one for one in ("finetune", "cassle", "pfr", "pnr", "multitask") if one not in IMPOSSIBLE[objective]
    )
    for objective in ("simclr", "byol", "vicreg", "moco", "swav", "barlow_twins")
}
TABLE2_ROWS = {objective: tuple(r for b, o, r in TABLE2 if (b, o) == ("cifar10", objective)) for objective in ROWS}
STREAM_ROWS = dict.fromkeys(OBJECTIVES, ("finetune", "er", "lump", "min_red", "cla"))
# One pass over one task after the other; and over one class after the other, blurred or not.
STREAMS = ("cla", "scale_blurred", "scale_sequential")
FEWSHOT_ROWS = dict.fromkeys(OBJECTIVES, ("finetune", "der", "lump"))
LANDSCAPE_ROWS = dict.fromkeys(OBJECTIVES, ("finetune", "si", "lump")) | {"supervised": ("finetune", "si")}
EXAMPLES = "benchmark.examples_per_task"
SUBSET = "benchmark.subset_seed"
# Benchmark -> numbers of training images a task in few-shot runs; other benchmarks have 100, 200 and 500.
FEWSHOT_SIZES = {"digits": (10, 25, 50, 100)}
Runs = Mapping[PlannedRun, "RunResult"]  # the results of finished runs


class StudyOptions(NamedTuple):
    """What a person chose about a study.

    Attributes:
      root: the folder of all that is written.
      objectives: names of objectives, each one of OBJECTIVES.
      seeds: how many seeds: 0 .. seeds - 1.
      recipes: names of recipes; () for those of the study's table in the paper, and ("all",) for all of an objective.
      overrides: key and value of each, settings of every run.
      sizes: numbers of training images a task in few-shot runs, 0 for all; () for the default ones.
      datasets: the data sets of Table 2; () for those of the paper that are prepared on this machine.
      data_dir: the folder of TFDS; "" for the default one.
      probe_settings: probe -> settings of it that are not as in `probe_requests.SETTINGS`.
    """

    root: pathlib.Path
    objectives: tuple[str, ...]
    seeds: int
    recipes: tuple[str, ...] = ()
    overrides: Overrides = ()
    sizes: tuple[int, ...] = ()
    datasets: tuple[str, ...] = ()
    data_dir: str = ""
    probe_settings: Mapping[str, Settings] = {}


class StudyReport(NamedTuple):
    """The result of a study.

    Attributes:
      table: means and deviations over seeds.
      numbers: the same numbers for JSON, with the values of all seeds.
      figure: its kind ("few_shot", "cka" or "landscape", functions of `ucl_jax.results`), what it draws, and its title;
        None for no figure.
    """

    table: Table
    numbers: list[dict[str, Any]]
    figure: tuple[str, Any, str] | None = None


class Study(NamedTuple):
    """A study: one table or figure.

    Attributes:
      about: what it shows, in a line of the command's help.
      objectives: the objectives that it has by default.
      plan: a function (options, benchmark) -> the runs that it needs.
      report: a function (options, these runs, results of those that are finished) -> its report.
      requests: a function (options, these runs) -> the probes that it needs of them.
    """

    about: str
    objectives: tuple[str, ...]
    plan: Callable[[StudyOptions, str], list[PlannedRun]]
    report: Callable[[StudyOptions, Sequence[PlannedRun], Runs], StudyReport]
    requests: Callable[[StudyOptions, Sequence[PlannedRun]], list[ProbeRequest]] = lambda options, planned: []


def _planned_run(
    options: StudyOptions,
    benchmark: str,
    recipe: str,
    objective: str,
    seed: int,
    examples: int = 0,
    protocol: str = "ucl",
    stream: str = "tasks",
) -> PlannedRun:
    """Returns a run with its folder under the root; it trains on `examples` images a task, 0 for all of them.

    Where it does not train on all of them, each seed has a subset of its own.
    """
    own = ((EXAMPLES, str(examples)), (SUBSET, "-1")) if examples else ()
    named = [word for word, default in ((protocol, "ucl"), (stream, "tasks")) if word != default]
    parts = [recipe, objective, *named, f"seed{seed}"]
    name = "-".join([*parts, *([f"examples{examples}"] if examples else [])])
    folder = options.root / benchmark / name
    return PlannedRun(name, folder, benchmark, recipe, objective, seed, (*own, *options.overrides), protocol, stream)


def known_recipes(objective: str) -> tuple[str, ...]:
    """Returns the recipes that work with an objective, the rows of the paper first."""
    return ROWS.get(objective, ()) + EXTRA_ROWS[objective]


def _recipes(options: StudyOptions, objective: str, default: Sequence[str]) -> list[str]:
    """Returns the recipes of an objective: `default`; all, those of `default` first; or those that were chosen."""
    known = known_recipes(objective)
    if options.recipes == ("all",):
        return list(dict.fromkeys((*default, *known)))
    return [recipe for recipe in options.recipes or default if recipe in known]


def _grid(
    rows: Mapping[str, Sequence[str]],
    sizes: Callable[[StudyOptions, str], list[int]] = lambda options, benchmark: [0],
    protocol: str = "ucl",
    streams: Sequence[str] = ("tasks",),
) -> Callable[[StudyOptions, str], list[PlannedRun]]:
    """Returns a function that plans a run for each objective, stream, recipe, seed and number of images.

    The default rows come first, one seed after the other, so that a study that is stopped has whole rows.

    Args:
      rows: objective -> recipes by default; UNLABELLED for an objective that is not in it.
      sizes: a function (options, benchmark) -> numbers of training images a task, 0 for all.
      protocol: of all runs.
      streams: names of streams.
    """
    return lambda options, benchmark: [
        _planned_run(options, benchmark, recipe, objective, seed, examples, protocol, stream)
        for more in (False, True)
        for seed in range(options.seeds)
        for objective in options.objectives
        for stream in streams
        for own in [rows.get(objective, UNLABELLED)]
        for recipe in _recipes(options, objective, own)
        if (recipe not in own) == more
        for examples in sizes(options, benchmark)
    ]


def _sizes(options: StudyOptions, benchmark: str) -> list[int]:
    """Returns the numbers of training images a task in few-shot runs, in ascending order; 0, for all, is the last.

    Raises:
      UsageError: a chosen number is not below that of all images.
    """
    full = BENCHMARKS[benchmark].images_per_task
    sizes = options.sizes or (*FEWSHOT_SIZES.get(benchmark, (100, 200, 500)), 0)
    require(all(size < full for size in sizes), f"{benchmark} has {full} images a task: --sizes=all")
    return sorted(sizes, key=lambda size: size or full)


def _about_paper(benchmark: str, table: Mapping[tuple, Any]) -> str:
    """Returns the sentence of a legend about the paper's numbers."""
    return compare.WITHIN if any(key[0] == benchmark for key in table) else f"The paper has no {benchmark}."


def _groups(options: StudyOptions, planned: Sequence[PlannedRun], runs: Runs) -> list[RunGroup]:
    """Returns groups of finished runs, in the order of the plan; runs of one group may differ in their images too."""
    ordered = sorted(planned, key=lambda run: options.objectives.index(run.objective))
    order = list(dict.fromkeys((run.objective, run.recipe) for run in ordered))
    ordered.sort(key=lambda run: order.index((run.objective, run.recipe)))
    return compare.groups_of([runs[run] for run in ordered if run in runs], but={EXAMPLES, SUBSET})


def _if_complete(function: Callable[[Sequence[float]], float], values: Sequence[float | None]) -> float | None:
    """Returns function(values); None where a value is missing, as of a network whose loss is not finite."""
    known = compare.all_known(values)
    return None if known is None else function(known)


def _definition(planned: Sequence[PlannedRun]) -> str:
    """Returns the definition of forgetting of a study's runs, which all have the same overrides."""
    return config_of(planned[0])["eval.forgetting"]


def _row(group: RunGroup) -> dict[str, Any]:
    """Returns the keys that name a group in a report's numbers."""
    return {"objective": group.objective, "recipe": group.recipe}


def _means(of_seeds: Iterable[Sequence[float | None]]) -> list[float | None]:
    """Returns mean and deviation over seeds of several numbers, one after the other."""
    return [number for values in of_seeds for number in mean_and_deviation(values)]


def _to_compare_with(runs: Iterable[RunResult]) -> list[str]:
    """Returns lines of a legend: what untrained networks and guessing have, without which no accuracy says much."""
    lines = []
    for label, measured in compare.untrained_networks(list(runs)).items():
        cells = []
        for probe in KNN_PROBES:
            if text := tables.mean_text([compare.untrained(run, probe) for run in measured]):
                cells.append(f"{PROBE_TITLES[probe]} {text} (chance {compare.chance(measured, probe):.2f})")
        lines.append(f"{label[0].upper()}{label[1:]}: {', '.join(cells)}.")
    return lines


def _report_table1(options: StudyOptions, planned: Sequence[PlannedRun], runs: Runs) -> StudyReport:
    """Reports accuracy and forgetting by kNN, beside the paper's Table 1."""
    names, definition = ("accuracy", "forgetting"), _definition(planned)
    task_names, all_names = ((PROBE_TITLES[probe], compare.forgetting_title(probe, definition)) for probe in KNN_PROBES)
    head = [column for name, what in zip(task_names, names) for column in tables.beside_columns(name, what)]
    columns = ["objective", "recipe", "n", *head, *with_deviation(*all_names)]
    rows, numbers = [], []
    for group in _groups(options, planned, runs):
        task = compare.scores(group.runs, "knn_task", definition)
        whole = compare.scores(group.runs, "knn_all", definition)
        paper = TABLE1.get(group.key, (None, None))
        compared = [cell for ours, theirs in zip(task, paper) for cell in tables.beside(ours, theirs)]
        rows.append([group.objective, group.recipe, len(group.runs), *compared, *_means(whole)])
        measured: dict[str, Any] = {"task": dict(zip(names, task)), "all": dict(zip(names, whole))}
        measured["paper"] = dict(zip(names, map(_against, task, paper)))
        numbers.append({**_row(group), "seeds": compare.seeds(group.runs), **measured})
    benchmark = planned[0].benchmark
    legend = [
        f"kNN: average accuracy in %. Forgetting: by the definition {definition}, in points. Mean±unbiased deviation "
        "over n seeds. The paper's numbers, the differences and what is within are of kNN within the task.",
        _about_paper(benchmark, TABLE1),
        *_to_compare_with(runs.values()),
        *([SEEN_ROWS] if compare.seen_rows_only(runs.values()) else []),
    ]
    return StudyReport(
        Table(f"Table 1 on {benchmark}", make_frame(columns, rows), 2, legend, tables.signed(*names)), numbers
    )


def _report_cassle(options: StudyOptions, planned: Sequence[PlannedRun], runs: Runs) -> StudyReport:
    """Reports accuracy over all classes after the last task in CaSSLe's protocol, beside published numbers."""
    definition, benchmark = _definition(planned), planned[0].benchmark
    probes: tuple[ProbeName, ...] = ("online_linear", "knn_all")
    shown = {"linear": "published, linear", "knn": "published, kNN"}
    heads = with_deviation(*(PROBE_TITLES[probe] for probe in probes))
    rows, numbers = [], []
    for group in _groups(options, planned, runs):
        ours = {probe: compare.scores(group.runs, probe, definition)[0] for probe in probes}
        found = CASSLE.get(group.key, ())
        by = {one.by: one.accuracy for one in found}
        read = ", ".join(one.source for one in found) or None
        beside = [*(by.get(word) for word in shown), read]
        rows.append([group.objective, group.recipe, len(group.runs), *_means(ours.values()), *beside])
        published = [one._asdict() for one in found]
        numbers.append({**_row(group), "seeds": compare.seeds(group.runs), "accuracy": ours, "published": published})
    best = PNR_BEST.get(benchmark)
    used = {one.source for key, found in CASSLE.items() if key[0] == benchmark for one in found}
    used |= {best.source} if best else set()
    legend = [
        "Accuracy over all classes after the last task, in %; mean±unbiased deviation over n seeds. The online linear "
        "probe is trained beside the network, with labelled images of all tasks.",
        "Published: of others, who trained a linear layer at the end, or used kNN. None of it was checked."
        if used
        else f"No published number is known for {benchmark}.",
        *([f"PNR with its best objective: {best.accuracy} ({best.source})."] if best else []),
        *(f"{name}: {where}." for name, where in SOURCES.items() if name in used),
    ]
    frame = make_frame(["objective", "recipe", "n", *heads, *shown.values(), "read in"], rows)
    return StudyReport(Table(f"CaSSLe's protocol on {benchmark}", frame, 2, legend), numbers)


def _report_streams(options: StudyOptions, planned: Sequence[PlannedRun], runs: Runs) -> StudyReport:
    """Reports accuracy at the end of each stream and on the average over it, by kNN."""
    in_order = sorted(planned, key=lambda run: (STREAMS.index(run.stream), options.objectives.index(run.objective)))
    ordered = [runs[run] for run in in_order if run in runs]
    numbers = [
        {
            **_row(group),
            "stream": stream,
            "seeds": compare.seeds(group.runs),
            "accuracy": {probe: compare.stream_scores(group.runs, probe) for probe in KNN_PROBES},
        }
        for (stream, _), members in compare.by_stream(ordered).items()
        for group in compare.groups_of(members)
    ]
    legend = [
        "Accuracy by kNN in %, mean±unbiased deviation over n seeds: at the end of the stream, and averaged over the "
        "evaluations on the way, each over the tasks seen by then. Gradient samples count stored images, too.",
        "Streams: cla, one task after the other; scale_sequential, one class after the other; scale_blurred, the same "
        "with zones where neighbours mix. Each image comes once, but for those that fill up a last batch. Borders are "
        "hidden. Tasks of a single class have no accuracy within the task.",
        *_to_compare_with(ordered),
    ]
    title = f"Streams on {planned[0].benchmark}"
    return StudyReport(tables.of_streams(ordered)._replace(title=title, legend=legend), numbers)


def _against(ours: Sequence[float | None], theirs: Value | None) -> dict[str, Any] | None:
    """Returns our values compared with the paper's, see `compare.compare_with_paper`, for JSON."""
    compared = compare.compare_with_paper(ours, theirs)
    return compared and compared._asdict()


def datasets(options: StudyOptions, benchmark: str) -> list[str]:
    """Returns the other data sets: the chosen ones, else those of the paper that are prepared on this machine.

    Raises:
      UsageError: none of the paper's is prepared.
    """
    if options.datasets:
        return list(options.datasets)
    from ucl_jax.data import prepare  # imports TFDS, which no other study needs

    own = BENCHMARKS[benchmark].tfds_name
    return prepare.prepared_of([name for name in DATASETS if BENCHMARKS[name].tfds_name != own], options.data_dir)


def _settings(options: StudyOptions, probe: str, benchmark: str) -> Settings:
    """Returns the settings of a probe on a benchmark."""
    return probe_requests.settings(probe, benchmark, options.probe_settings)


def _request_ood(options: StudyOptions, planned: Sequence[PlannedRun]) -> list[ProbeRequest]:
    """Returns a request for each run and other data set."""
    others = {benchmark: datasets(options, benchmark) for benchmark in dict.fromkeys(run.benchmark for run in planned)}
    return [
        ProbeRequest(run, "ood", _settings(options, "ood", run.benchmark) | {"dataset": dataset})
        for run in planned
        for dataset in others[run.benchmark]
    ]


def _report_table2(options: StudyOptions, planned: Sequence[PlannedRun], runs: Runs) -> StudyReport:
    """Reports accuracy on other data sets by kNN, beside the paper's Table 2."""
    request_of = {request.settings["dataset"]: request for request in _request_ood(options, planned[:1])}
    head = [column for name in request_of for column in tables.beside_columns(name, name)]
    rows, numbers, seen = [], [], {}
    for group in _groups(options, planned, runs):
        beside, values = [], {}
        for name, request in request_of.items():
            found = probe_requests.values(group, request)
            if found:
                seen[name] = next(iter(found.values()))
            knn, linear = [v.knn for v in found.values()], [v.linear for v in found.values()]
            paper = TABLE2.get(group.key, {}).get(name)
            beside += tables.beside(knn, paper)
            values[name] = {"seeds": list(found), "knn": knn, "linear": linear, "paper": _against(knn, paper)}
        rows.append([group.objective, group.recipe, len(group.runs), *beside])
        numbers.append({**_row(group), "datasets": values})
    benchmark = planned[0].benchmark
    legend = [
        f"kNN on data sets that the network was not trained on (it was on {benchmark}), in %; mean±unbiased deviation "
        "over n seeds.",
        "Chance: " + ", ".join(f"{name} {v.chance:.2f}" for name, v in seen.items()) + ".",
        "Images, training and test: "
        + ", ".join(f"{name} {v.train_images} and {v.test_images}" for name, v in seen.items())
        + ".",
        _about_paper(benchmark, TABLE2),
    ]
    frame = make_frame(["objective", "recipe", "n", *head], rows)
    table = Table(f"Table 2, trained on {benchmark}", frame, 2, legend, tables.signed(*request_of))
    return StudyReport(table, numbers)


def _report_fewshot(options: StudyOptions, planned: Sequence[PlannedRun], runs: Runs) -> StudyReport:
    """Reports accuracy and forgetting by the number of training images, and how much accuracy fewer images cost."""
    benchmark, definition = planned[0].benchmark, _definition(planned)
    sizes, full = _sizes(options, benchmark), BENCHMARKS[benchmark].images_per_task
    heads = [str(size) if size else f"all ({full})" for size in sizes]
    accuracy_heads, forgetting_heads = (with_deviation(*(f"{letter}, {w}" for w in heads)) for letter in "AF")
    rows, numbers, series, apart = [], [], {}, []
    lost_of: dict[str, list[float]] = {}
    for group in _groups(options, planned, runs):
        points: list[dict[str, Any]] = []
        for size in sizes:
            of_size = [run for run in group.runs if run.examples_per_task == size]
            accuracy, forgetting = compare.scores(of_size, "knn_task", definition)
            point = {"images": size or full, "accuracy": accuracy, "forgetting": forgetting}
            points.append({**point, "seeds": compare.seeds(of_size)})
        accuracies, forgotten = ([p[key] for p in points] for key in ("accuracy", "forgetting"))
        lost = None
        fewest, most = (dict(zip(points[place]["seeds"], accuracies[place])) for place in (0, -1))
        if len(sizes) > 1 and (both := fewest.keys() & most.keys()):  # runs of other seeds may be missing yet
            lost = statistics.fmean(most[seed] - fewest[seed] for seed in sorted(both))
            if group.runs[0].recipe in ROWS.get(group.objective, ()):
                lost_of.setdefault("supervised" if group.objective == "supervised" else "unsupervised", []).append(lost)
            else:
                apart.append(f"{group.recipe} ({group.objective})")
        count = max(len(p["seeds"]) for p in points)
        rows.append([group.objective, group.recipe, count, *_means(accuracies), lost, *_means(forgotten)])
        numbers.append({**_row(group), "points": points, "lost": lost})
        series[f"{group.recipe}, {group.objective}"] = [
            {k: p[k] for k in ("images", "accuracy", "forgetting")} for p in points
        ]
    legend = [
        "kNN within the task by training images a task: A is average accuracy in %, F forgetting in points; "
        "mean±unbiased deviation over seeds, each with a subset of its own. lost: A with the most images - A with the "
        "fewest, of seeds with both.",
        *(f"Lost, mean over {kind} rows: {statistics.fmean(values):.2f}." for kind, values in sorted(lost_of.items())),
        *([f"Not in these means, for the paper does not have it: {', '.join(apart)}."] if apart else []),
        "The paper, from 2500 to 100 images on Split CIFAR-100: 15.78 without labels, 32.21 with.",
        *([SEEN_ROWS] if compare.seen_rows_only(runs.values()) else []),
    ]
    figure = "few_shot", series, f"Few-shot training, {benchmark}"
    frame = make_frame(["objective", "recipe", "n", *accuracy_heads, "lost", *forgetting_heads], rows)
    return StudyReport(Table(f"Few-shot training on {benchmark} (fig. 2)", frame, 2, legend), numbers, figure)


def pairs(options: StudyOptions) -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
    """Returns the pairs of runs in fig. 3: name -> (recipe, objective) of both.

    A pair is of two unsupervised runs (UCL-UCL), two supervised ones (SCL-SCL), or one of each.
    """
    found = {}
    unlabelled = [objective for objective in options.objectives if objective != "supervised"]
    for objective in unlabelled:
        found[f"UCL-UCL, {objective}"] = ("finetune", objective), ("lump", objective)
    if "supervised" in options.objectives:
        found["SCL-SCL"] = ("finetune", "supervised"), ("si", "supervised")
        for objective in unlabelled:
            found[f"UCL-SCL, {objective}"] = ("lump", objective), ("finetune", "supervised")
    return found


def _cka_runs(options: StudyOptions, benchmark: str) -> list[PlannedRun]:
    """Plans the runs of the pairs of fig. 3; raises UsageError for --recipes, and for a single seed."""
    require(not options.recipes, "cka compares fixed pairs of runs: leave --recipes out, and choose by --objectives")
    require(options.seeds > 1, f"cka compares runs of different seeds: --seeds={options.seeds} must be at least 2")
    wanted = dict.fromkeys(one for pair in pairs(options).values() for one in pair)
    return [_planned_run(options, benchmark, *one, seed) for seed in range(options.seeds) for one in wanted]


def _named_requests(options: StudyOptions, planned: Sequence[PlannedRun]) -> list[tuple[str, ProbeRequest]]:
    """Returns the requests of cka by name: "" for a run compared with itself, else the name of a pair of runs.

    A pair has a request for each seed of its first run. The second run has the next seed, 0 after the last: two runs of
    one seed start from the same weights and see the same batches, which makes them more alike than independent ones.
    """

    def request(run: PlannedRun, other: str) -> ProbeRequest:
        return ProbeRequest(run, "cka", _settings(options, "cka", run.benchmark) | {"other": other})

    at = {(run.benchmark, run.recipe, run.objective, run.seed): run for run in planned}
    across = [
        (name, request(at[benchmark, *one, seed], str(at[benchmark, *two, following].folder.absolute())))
        for name, (one, two) in pairs(options).items()
        for benchmark, seed in dict.fromkeys((run.benchmark, run.seed) for run in planned)
        for following in [(seed + 1) % options.seeds]
        if (benchmark, *one, seed) in at and (benchmark, *two, following) in at
    ]
    return [*(("", request(run, "")) for run in planned), *across]


def _request_cka(options: StudyOptions, planned: Sequence[PlannedRun]) -> list[ProbeRequest]:
    """Returns the comparisons of each run with itself and of the pairs of runs."""
    return [request for _, request in _named_requests(options, planned)]


def _report_cka(options: StudyOptions, planned: Sequence[PlannedRun], runs: Runs) -> StudyReport:
    """Reports how alike the last networks of two runs are, stage by stage."""
    found: dict[str, list[CkaValues]] = {}
    seeds: dict[str, list[int]] = {}
    own = {}
    for name, request in _named_requests(options, [run for run in planned if run in runs]):
        results = runs[request.run]
        if (kept := probe_requests.record(results, request, results.tasks_learned)) is None:
            continue
        values, run = kept.typed_values, request.run
        if name:
            found.setdefault(name, []).append(values)
            seeds.setdefault(name, []).append(run.seed)
        elif run.seed == 0:
            own[f"{run.recipe}, {run.objective}"] = {
                "rows": list(values.cka),
                "columns": [f"t={t}" for t in values.networks],
                "values": [similarity[-1] for similarity in values.cka.values()],
            }
    names = list(next(iter(found.values()))[0].cka) if found else []  # all runs have the same architecture
    rows: list[list[Any]] = []
    numbers: list[dict[str, Any]] = []
    for name, of_seeds in found.items():
        first, second = (f"{recipe}, {objective}" for recipe, objective in pairs(options)[name])
        stages = {stage: [values.cka[stage][-1][-1] for values in of_seeds] for stage in names}
        distance = [values.l2[-1][-1] for values in of_seeds]
        rows.append([name, first, second, len(of_seeds), *_means([*stages.values(), distance])])
        following = [(seed + 1) % options.seeds for seed in seeds[name]]
        of_both = {"seeds": seeds[name], "second_seeds": following}
        numbers.append({"pair": name, "first": first, "second": second, **of_both, "cka": stages, "l2": distance})
    benchmark = planned[0].benchmark
    legend = [
        f"Linear CKA of two networks after the last task, on test images of {benchmark}, stage by stage; mean±unbiased "
        "deviation over n seeds of the first run. 1: the same up to rotation and scale.",
        f"The second run has the next seed, {options.seeds - 1} being followed by 0: runs of one seed start from the "
        "same weights and see the same batches.",
        "stem: the maps after its convolution, normalisation and ReLU; in the paper's figure after the convolution.",
        "l2 distance: of the parameters of the two backbones; - for backbones of different widths, which have none. "
        "The paper's: 49 to 92 without labels, 183 to 315 with.",
        "Figure: these numbers, and for seed 0 of each run its last network against its own after t tasks.",
    ]
    means = [[_if_complete(statistics.fmean, stage) for stage in row["cka"].values()] for row in numbers]
    panels = {"two runs": {"rows": list(found), "columns": names, "values": means}, **own}
    title = f"Linear CKA on {benchmark}: last networks of two runs; last and after t tasks"
    figure = ("cka", panels, title) if found else None
    frame = make_frame(["pair", "first", "second", "n", *with_deviation(*names, "l2 distance")], rows)
    return StudyReport(Table(f"CKA on {benchmark} (fig. 3)", frame, 3, legend), numbers, figure)


def _request_landscape(options: StudyOptions, planned: Sequence[PlannedRun]) -> list[ProbeRequest]:
    """Returns a request for the loss around each run's networks after the first and after the last task."""
    probe = "loss_landscape"
    return [ProbeRequest(run, probe, _settings(options, probe, run.benchmark), first_too=True) for run in planned]


def _report_landscape(options: StudyOptions, planned: Sequence[PlannedRun], runs: Runs) -> StudyReport:
    """Reports the first task's loss at and around the networks after the first and after the last task."""
    request = _request_landscape(options, planned[:1])[0]
    rows, numbers = [], []
    panels: dict[str, dict[str, Any]] = collections.defaultdict(dict)  # when -> title -> what is drawn
    for group in _groups(options, planned, runs):
        last = group.runs[0].tasks_learned
        for which, after in {"first": 1, "last": last}.items() if last > 1 else [("last", 1)]:
            found = probe_requests.values(group, request, after)
            if not found:
                continue
            if 0 in found:
                panel = {"steps": found[0].steps, "loss": found[0].loss}
                panels[which][f"{group.recipe}, {group.objective}, after task {after}"] = panel
            losses = [values.loss for values in found.values()]
            flat = [[value for row in loss for value in row] for loss in losses]
            measured = {
                "centre": [loss[len(loss) // 2][len(loss) // 2] for loss in losses],
                "mean": [_if_complete(statistics.fmean, loss) for loss in flat],
                "highest": [_if_complete(max, loss) for loss in flat],
            }
            rows.append([group.objective, group.recipe, f"the {which} task", len(found), *_means(measured.values())])
            numbers.append({**_row(group), "after": which, "seeds": list(found), **measured})
    chosen = ", ".join(f"{key} {value}" for key, value in request.settings.items())
    legend = [
        "Loss on the first task's data over a plane of two random filter-normalised directions through the network "
        f"({chosen}): at its centre, the mean, the highest; mean±unbiased deviation over n seeds. The figure shows "
        "seed 0; the networks after the first task have a scale of colours of their own.",
    ]
    benchmark = planned[0].benchmark
    figure = ("landscape", [*panels.values()], f"Loss of the first task, {benchmark}") if panels else None
    columns = ["objective", "recipe", "after", "n", *with_deviation("at the network", "mean", "highest")]
    table = Table(f"Loss landscape on {benchmark} (fig. 5)", make_frame(columns, rows), 3, legend)
    return StudyReport(table, numbers, figure)


SEEN_ROWS = (
    "Some runs evaluated tasks only from when they were learned (eval.tasks=seen): the best of earlier rows is not in "
    "their forgetting."
)
TABLE1_ABOUT = "kNN accuracy and forgetting of every method, beside the paper's"
TABLE2_ABOUT = "kNN on data sets that the network was not trained on, beside the paper's"
FEWSHOT_ABOUT = "accuracy and forgetting by the number of training images, fig. 2"
CKA_ABOUT = "how alike networks are, stage by stage, fig. 3"
CASSLE_ABOUT = "accuracy over all classes in the protocol of CaSSLe, PFR and PNR, beside published numbers"
STREAMS_ABOUT = "accuracy of methods without task borders, on streams that show each image once"
LANDSCAPE_ABOUT = "the first task's loss around the network after the first and the last task, fig. 5"
THREE, TWO = tuple(ROWS), ("supervised", "simsiam")
STUDIES: dict[str, Study] = {
    "table1": Study(TABLE1_ABOUT, THREE, _grid(ROWS), _report_table1),
    "table2": Study(TABLE2_ABOUT, THREE, _grid(TABLE2_ROWS), _report_table2, _request_ood),
    "fewshot": Study(FEWSHOT_ABOUT, THREE, _grid(FEWSHOT_ROWS, _sizes), _report_fewshot),
    "cka": Study(CKA_ABOUT, TWO, _cka_runs, _report_cka, _request_cka),
    "landscape": Study(LANDSCAPE_ABOUT, TWO, _grid(LANDSCAPE_ROWS), _report_landscape, _request_landscape),
    "cassle": Study(CASSLE_ABOUT, tuple(CASSLE_ROWS), _grid(CASSLE_ROWS, protocol="cassle"), _report_cassle),
    "streams": Study(STREAMS_ABOUT, ("simsiam",), _grid(STREAM_ROWS, streams=STREAMS), _report_streams),
}
