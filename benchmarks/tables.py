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
from collections.abc import Callable
from typing import NamedTuple

from benchmarks import beside, fidelity, imports, performance
from benchmarks.fidelity import RESULTS, ROOT
from ucl_jax import recipes
from ucl_jax.cli import Parser, returns_exit_code
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.data.tiny_imagenet_classes import CLASSES
from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.files import write_atomically
from ucl_jax.reproduce.studies import ROWS
from ucl_jax.results import compare
from ucl_jax.results.load import load_results
from ucl_jax.results.schema import RunResult
from ucl_jax.results.tables import Table, make_frame, mean_and_deviation, of_seeds, render
from ucl_jax.settings import METHOD_SETTINGS

PAGES = ("README.md", "docs/architecture.md", "docs/fidelity.md", "docs/performance.md", "docs/tiny_imagenet.md")


def load(study: str) -> list[RunResult]:
    """Returns every result of a study, in the order of their names."""
    return [load_results(path) for path in sorted((RESULTS / study).glob("*.json"))]


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


def _ordered(study: str) -> list[RunResult]:
    """Returns the results of a study in the order of the paper's table, then by seed."""
    objectives, known = list(ROWS), list(all_recipes())
    return sorted(load(study), key=lambda run: (objectives.index(run.objective), known.index(run.recipe), run.seed))


def table1(study: str) -> str:
    """Returns the table of a study in the order of the paper's table: mean and deviation over seeds."""
    runs = _ordered(study)
    return render(of_seeds(runs, compare.forgetting_definition(runs)), "markdown")


def learned(study: str) -> str:
    """Returns a table of kNN within the task: untrained, right after learning each task, and after the last one."""
    rows = []
    continual = [run for run in _ordered(study) if not run.joint]
    for (objective, recipe), group in itertools.groupby(continual, key=lambda run: (run.objective, run.recipe)):
        runs = list(group)
        values = (
            [compare.untrained(run, "knn_task") for run in runs],
            [accuracy_matrix.learning_accuracy(run.probes["knn_task"].matrix) for run in runs],
            [compare.average_accuracy(run, "knn_task") for run in runs],
        )
        rows.append([objective, recipe, *(mean_and_deviation(of_runs)[0] for of_runs in values)])
    columns = ["objective", "recipe", "untrained", "a task just learned", "after the last task"]
    return render(Table("", make_frame(columns, rows), words=2), "markdown")


def methods() -> str:
    """Returns a table of all recipes: what each does and stores, and its measured cost."""
    path = RESULTS / "cost.json"
    cost = json.loads(path.read_text()) if path.exists() else None
    rows = []
    for name, recipe in all_recipes().items():
        told = "1 (the same step)"
        if not recipe.joint:
            known = cost is not None and name in cost["ratio"]
            told = f"{cost['ratio'][name]['median']:.2f}" if known else "not measured yet"
        rows.append([f"[{name}](configs/{name}.py)", recipe.about, recipe.stores, told])
    columns = ["recipe", "method", "stores", "step time, finetune = 1"]
    table = render(Table("", make_frame(columns, rows), words=4), "markdown")
    if cost is None:
        return table
    s = cost["settings"]
    note = (
        f"Step time: `python -m benchmarks.cost`, width {s['width']}, batch {s['batch']}, {s['image']}x{s['image']}, "
        f"{s['objective']}, float32; median of {s['repeats']} alternating rounds; {cost['device']}, JAX {cost['jax']}; "
        f"finetune {cost['finetune_seconds']:.2f} s. PNN in its fifth column, of the same width."
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
    "table1-digits": lambda: table1("table1-digits"),
    "learned-digits": lambda: learned("table1-digits"),
    "table1-cifar10-small": lambda: table1("table1-cifar10-small"),
    "table1-cifar100": lambda: table1("table1-cifar100"),
    "fidelity": fidelity.table,
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
