"""Writes the tables of README.md and docs/fidelity.md anew from benchmarks/results.

    python -m benchmarks.tables

A table stands between `<!-- table NAME -->` and `<!-- end -->`; NAME is a key of TABLES.
"""

import pathlib
import re
from collections.abc import Callable

from benchmarks import fidelity
from benchmarks.runner import ROOT
from ucl_jax import report

PAGES = ("README.md", "docs/fidelity.md")
RESULTS = ROOT / "benchmarks" / "results"


def load(study: str) -> list[dict]:
    """Every results.json of a study, by name."""
    return [report.load_results(path) for path in sorted((RESULTS / study).glob("*.json"))]


def table1(benchmark: str) -> str:
    """Rows in the order of METHODS of the paper's table, mean and deviation over seeds."""
    order = ("finetune", "pnn", "si", "agem", "gss", "er", "der", "derpp", "lump", "multitask")
    objectives = ("supervised", "simsiam", "barlow_twins")

    def place(run):
        config = run["config"]
        return objectives.index(config["objective"]["name"]), order.index(config["recipe"]), config["seed"]

    return report.table_of_seeds(sorted(load(f"table1-{benchmark}"), key=place), "markdown")


TABLES: dict[str, Callable[[], str]] = {
    "table1-digits": lambda: table1("digits"),
    "table1-cifar10": lambda: table1("cifar10"),
    "fidelity": fidelity.table,
}


def filled(page: str) -> str:
    """A page with its tables made anew."""

    def replace(match):
        return f"<!-- table {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table ([\w-]+) -->\n.*?<!-- end -->", replace, page, flags=re.DOTALL)


def main() -> None:
    """Rewrites the pages in place."""
    for name in PAGES:
        page = pathlib.Path(ROOT / name)
        page.write_text(filled(page.read_text()))


if __name__ == "__main__":
    main()
