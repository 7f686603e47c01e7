"""Updates the tables in README.md and docs from benchmarks/results and from the package.

    python -m benchmarks.tables

A table stands between `<!-- table NAME -->` and `<!-- end -->`; NAME is a key of TABLES.
"""

import functools
import importlib
import itertools
import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks import beside, claims, fidelity, imports, performance, saved
from benchmarks.measure import RESULTS, ROOT
from ucl_jax import recipes
from ucl_jax.cli import Parser, returns_exit_code
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.data.tiny_imagenet_classes import CLASSES
from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.files import write_atomically
from ucl_jax.reproduce.studies import ROWS, STREAMS
from ucl_jax.results import compare
from ucl_jax.results.schema import ProbeName, RunResult
from ucl_jax.results.tables import (
    HIGH,
    KNOWN,
    LOW,
    Table,
    make_frame,
    mean_and_deviation,
    of_pairs,
    of_seeds,
    of_streams,
    render,
    with_deviation,
)
from ucl_jax.settings import METHOD_SETTINGS

PAGES = (
    "README.md",
    "docs/architecture.md",
    "docs/fidelity.md",
    "docs/performance.md",
    "docs/recipes.md",
    "docs/results.md",
    "docs/tiny_imagenet.md",
)


class Recipe(NamedTuple):
    """What the tables say of a recipe.

    about: what it does, the first line of its docstring.
    stores: what its method stores, from the line "Stores ..." of its docstring.
    joint: whether it trains on all tasks at once.
    """

    about: str
    stores: str
    joint: bool


@functools.cache
def all_recipes() -> dict[str, Recipe]:
    """Returns every recipe by name, in the order of METHOD_SETTINGS and then of names; joint training is last."""
    modules = {name: importlib.import_module(f"configs.{name}") for name in recipes.names()}
    configs = {name: module.get_config() for name, module in modules.items()}

    def place(name):
        return configs[name].benchmark.joint, list(METHOD_SETTINGS).index(configs[name].method.name), name

    def described(name):
        text = modules[name].__doc__
        stores = re.search(r"^Stores (.*)\.$", text, re.MULTILINE)[1]
        return Recipe(text.splitlines()[0].removesuffix("."), stores, configs[name].benchmark.joint)

    return {name: described(name) for name in sorted(modules, key=place)}


def ordered(*names: str) -> list[RunResult]:
    """Returns the results of studies by stream, in the order of the paper's table, then by seed."""
    streams, objectives, known = ["tasks", *STREAMS], list(ROWS), list(all_recipes())

    def place(run):
        words = streams.index(run.stream_name), objectives.index(run.objective), known.index(run.recipe)
        return *words, run.seed

    return sorted(itertools.chain(*map(saved.load, names)), key=place)


def of_study(
    study: str,
    make: Callable[[list[RunResult]], Table],
    wanted: Callable[[RunResult], bool] = lambda run: True,
    beside: Sequence[str] = (),
) -> Callable[[], str]:
    """Returns a function that makes a table of a study, with a line below that says where its numbers come from.

    It returns MISSING where there is nothing to show.

    Args:
      study: a key of `saved.COMMANDS`.
      make: a function from runs, in the order of the paper's table, to their table.
      wanted: tells which runs are taken.
      beside: other studies, whose runs are of this one, too: its command would make them.
    """

    def table() -> str:
        runs = [run for run in ordered(study, *beside) if wanted(run)]
        made = make(runs) if runs else None
        if made is None or made.frame.empty:
            return performance.MISSING
        return f"{render(made, 'markdown')}\n\n{saved.provenance(saved.COMMANDS[study], runs)}"

    return table


def means(runs: Sequence[RunResult]) -> Table:
    """Makes a table as the paper's Table 1: mean and deviation over seeds; of streams see `of_streams`."""
    return of_streams(runs) if runs[0].is_stream else of_seeds(runs, compare.forgetting_definition(runs))


def pairs(runs: Sequence[RunResult]) -> Table:
    """Makes the table of differences paired by seed, of those that have at least two pairs.

    Runs over several streams, in the order of `ordered`, are compared stream by stream; a column names the stream.
    """
    import pandas as pd

    by_stream = {name: of_pairs([*members]) for name, members in itertools.groupby(runs, lambda run: run.stream_name)}
    table, *_ = by_stream.values()
    if len(by_stream) > 1:
        for name, one in by_stream.items():
            one.frame.insert(1, "stream", name)
        frame = pd.concat([one.frame for one in by_stream.values()])
        table = table._replace(frame=frame, words=table.words + 1)
    intervals = [name for name in table.frame if name.endswith(LOW)]
    return table._replace(frame=table.frame[table.frame[intervals].notna().any(axis=1)])


def learned(runs: Sequence[RunResult]) -> Table:
    """Makes a table of kNN within the task: untrained, right after learning each task, and after the last one."""
    rows = []
    for (objective, recipe), group in itertools.groupby(runs, key=lambda run: (run.objective, run.recipe)):
        members = list(group)
        values = (
            [compare.untrained(run, "knn_task") for run in members],
            [accuracy_matrix.learning_accuracy(run.probes["knn_task"].matrix) for run in members],
            [compare.average_accuracy(run, "knn_task") for run in members],
        )
        rows.append([objective, recipe, *(mean_and_deviation(of_runs)[0] for of_runs in values)])
    columns = ["objective", "recipe", "untrained", "a task just learned", "after the last task"]
    return Table("", make_frame(columns, rows), words=2)


# Rows of the README's table, and the objectives that it has beside each other.
SUMMARY = ("untrained network", "finetune", "lump", "er", "multitask")
SUMMARY_OBJECTIVES = ("barlow_twins", "simsiam")


def summary(runs: Sequence[RunResult]) -> Table:
    """Makes a small table of runs whose recipes are in SUMMARY: by kNN, the objectives beside each other."""
    definition = compare.forgetting_definition(runs)
    titles = {
        "within the task": compare.PROBE_TITLES["knn_task"],
        "forgetting": compare.forgetting_title("knn_task", definition, compare.seen_rows_only(runs)),
        "over all classes": compare.PROBE_TITLES["knn_all"],
    }
    frame = of_seeds(runs, definition).frame.set_index(["objective", "recipe"])
    numbers = frame[with_deviation(*titles.values())]
    objectives = [name for name in SUMMARY_OBJECTIVES if name in frame.index]
    rows = [
        [recipe, *(cell for o in objectives for cell in numbers.reindex([(o, recipe)]).values[0])]
        for recipe in SUMMARY
        if recipe in frame.index.get_level_values("recipe")
    ]
    columns = with_deviation(*(f"{objective}, {short}" for objective in objectives for short in titles))
    return Table("", make_frame(["recipe", *columns], rows))


GROUND_OBJECTIVES = ("simsiam", "barlow_twins", "simclr", "byol", "vicreg")  # columns of the table of all methods


def one_ground(runs: Sequence[RunResult], probe: ProbeName) -> Table:
    """Makes a table of all methods with all objectives: the accuracy of one seed after the last task, a row a recipe.

    The last columns compare a recipe with finetune, objective by objective: the mean difference, its 95 % interval, and
    with how many of the objectives that both have the recipe is higher.

    Args:
      runs: of one seed, with objectives in GROUND_OBJECTIVES.
      probe: what the accuracy is measured by.
    """
    scores: dict[str, dict[int, float | None]] = {"untrained network": {}} | {name: {} for name in all_recipes()}
    for run in runs:
        column = GROUND_OBJECTIVES.index(run.objective)
        scores["untrained network"].setdefault(column, compare.untrained(run, probe))
        scores[run.recipe][column] = compare.average_accuracy(run, probe)
    rows = []
    for name, own in scores.items():
        if own:
            found = compare.paired_difference(own, scores["finetune"]) if name != "finetune" else None
            cells = [found.mean, found.low, found.high, found.higher, found.pairs] if found else [None] * 5
            rows.append([name, *(own.get(column) for column in range(len(GROUND_OBJECTIVES))), *cells])
    over, higher = "over finetune, mean over objectives", "objectives higher"
    columns = ["recipe", *GROUND_OBJECTIVES, over, over + LOW, over + HIGH, higher, higher + KNOWN]
    return Table("", make_frame(columns, rows), formats={over: "+.2f"})


def of_one_ground(probe: ProbeName) -> Callable[[], str]:
    """Returns a function that makes the table of all methods by a probe; the rows of Table 1 are among its runs."""
    return of_study(
        "methods-cifar10_16px",
        functools.partial(one_ground, probe=probe),
        lambda run: run.seed == 0 and run.objective in GROUND_OBJECTIVES,
        beside=["table1-cifar10_16px"],
    )


def claims_table() -> str:
    """Returns the table of the paper's claims, with a line for each study that says where its numbers come from."""
    studies = {f"table1-{benchmark}": benchmark for benchmark in claims.BENCHMARKS}
    runs = {study: ordered(study) for study in studies}
    told = [saved.provenance(saved.COMMANDS[study], members) for study, members in runs.items() if members]
    table = claims.table({benchmark: runs[study] for study, benchmark in studies.items()})
    return "\n\n".join([render(table, "markdown"), *told]) if told else performance.MISSING


def methods() -> str:
    """Returns a table of all recipes: what each does and stores, and its measured cost."""
    path = RESULTS / "cost.json"
    cost = json.loads(path.read_text()) if path.exists() else None
    rows = []
    for name, recipe in all_recipes().items():
        time, memory = ("1 (the same step)", "0") if recipe.joint else ("not measured yet", "-")
        if cost is not None and (found := cost["recipes"].get(name)) is not None:
            time, memory = f"{found['ratio']['median']:.2f}", f"{found['stored_bytes'] / 1e6:.1f}"
        rows.append([f"[{name}](../configs/{name}.py)", recipe.about, recipe.stores, memory, time])
    columns = ["recipe", "method", "stores", "MB more than finetune", "step time, finetune = 1"]
    table = render(Table("", make_frame(columns, rows), words=5), "markdown")
    if cost is None:
        return table
    s = cost["settings"]
    first = s["objectives"][0]
    apart = {name: found["objective"] for name, found in cost["recipes"].items() if found["objective"] != first}
    seconds = ", ".join(f"{value:.2f} s with {objective}" for objective, value in cost["finetune_seconds"].items())
    note = (
        "MB: of the training state of the recipe on cifar10, in full size. Step time: `python -m benchmarks.cost`, "
        f"width {s['width']}, batch {s['batch']}, {s['image']}x{s['image']}, {first}"
        + "".join(f" ({name}: {objective})" for name, objective in apart.items())
        + f", float32; median of {s['repeats']} alternating rounds; {cost['device']}, JAX {cost['jax']}; finetune "
        f"{seconds}. PNN in its fifth column, of the same width."
    )
    return f"{table}\n\n{note}"


def tiny_imagenet_tasks() -> str:
    """Returns a table of the classes of every task of Split Tiny-ImageNet, by WordNet id and name."""
    benchmark, classes = BENCHMARKS["tiny_imagenet"], [f"{wnid} {name}" for wnid, name in CLASSES.items()]
    width = benchmark.classes_per_task
    rows = [[task + 1, *classes[task * width : (task + 1) * width]] for task in range(benchmark.num_tasks)]
    frame = make_frame(["task", *(f"class {k + 1}" for k in range(width))], rows)
    return render(Table("", frame, words=1 + width), "markdown")


def parity_table() -> str:
    """Returns the table of LUMP here and in PyTorch, over paired seeds, from parity.json."""
    from benchmarks import parity  # imported late, because it imports JAX

    result = json.loads(parity.RESULT.read_text())
    where = f"{result['device']}, JAX {result['jax']}, PyTorch {result['torch']}, commit {result['commit'][:10]}"
    return f"{parity.table(result)}\n\n`python -m benchmarks.parity`, {len(result['seeds'])} seeds; {where}."


TABLES: dict[str, Callable[[], str]] = {
    "folders": imports.picture,
    **{study: of_study(study, means) for study in saved.COMMANDS},
    **{f"pairs-{study}": of_study(study, pairs) for study in saved.COMMANDS},
    "learned-digits": of_study("table1-digits", learned, lambda run: not run.joint),
    "summary": of_study(
        "table1-cifar100_16px", summary, lambda run: run.recipe in SUMMARY and run.objective in SUMMARY_OBJECTIVES
    ),
    "methods-within": of_one_ground("knn_task"),
    "methods-over-all": of_one_ground("knn_all"),
    "claims": claims_table,
    **{ledger.study: functools.partial(fidelity.table, ledger) for ledger in fidelity.LEDGERS.values()},
    "forgetting": fidelity.forgetting_table,
    "methods": methods,
    "tiny-imagenet-tasks": tiny_imagenet_tasks,
    "parity": parity_table,
    "beside": performance.from_results(beside.result_path(beside.BENCHMARK).stem, beside.table),
    **performance.TABLES,
}


def filled(page: str) -> str:
    """Returns the text of a page with its tables made again."""

    def replace(match):
        return f"<!-- table {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table ([\w-]+) -->\n.*?<!-- end -->", replace, page, flags=re.DOTALL)


@returns_exit_code
def main(argv: list[str]) -> None:
    """Updates all pages in place."""
    parser = Parser(prog="python -m benchmarks.tables", description=f"Writes the tables of {', '.join(PAGES)}.")
    parser.parse_args(argv)
    for name in PAGES:
        write_atomically(ROOT / name, filled((ROOT / name).read_text()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
