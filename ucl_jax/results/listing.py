"""Lists the runs below folders: what each trains, whether it is at work, how far it has come, and its accuracy.

It reads files, and needs no JAX.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

from ucl_jax import cli
from ucl_jax.errors import UsageError, require
from ucl_jax.files import locked
from ucl_jax.results import compare, tables
from ucl_jax.results.load import find_runs, read_results, read_saved_config

CALLS = {"": "the runs below runs/", "runs/reproduce runs/mine --json": "those of two folders, for a program"}


class Listed(NamedTuple):
    """What the list says of a run.

    Attributes:
      folder: the run folder.
      recipe, benchmark, objective, seed: what it trains.
      state: "running" where a process has locked the folder of a run that is not finished.
      tasks_seen: how many tasks counted as seen when it was last evaluated; 0 before.
      tasks: how many there are.
      accuracy: average accuracy by kNN within the task over the tasks seen, in per cent; None before the first
        evaluation, and where images have no labels.
      age: seconds since its results, its metrics or its config changed.
    """

    folder: str
    recipe: str
    benchmark: str
    objective: str
    seed: int
    state: Literal["finished", "running", "stopped"]
    tasks_seen: int
    tasks: int
    accuracy: float | None
    age: float


def listed(folder: pathlib.Path, now: float) -> Listed:
    """Returns what the list says of a run folder.

    Args:
      folder: a run folder.
      now: the present time, in seconds since the epoch.

    Raises:
      UsageError: a file of the run is damaged.
    """
    config, results = folder / "config.json", folder / "results.json"
    run = read_results(results) if results.exists() else None
    tree = read_saved_config(config) if run is None else run.config
    times = [path.stat().st_mtime for path in (config, results, folder / "metrics.jsonl") if path.exists()]
    return Listed(
        folder=str(folder),
        recipe=tree["recipe"],
        benchmark=tree["benchmark"]["name"],
        objective=tree["objective"]["name"],
        seed=tree["seed"],
        state="finished" if run and run.finished else "running" if locked(folder) else "stopped",
        tasks_seen=run.tasks_seen[-1] if run else 0,
        tasks=run.tasks if run else tree["benchmark"]["num_tasks"],
        accuracy=compare.average_accuracy(run, "knn_task") if run and run.probes else None,
        age=max(now - max(times), 0.0),
    )


def table(runs: Sequence[Listed]) -> tables.Table:
    """Makes the table of listed runs, a row a run."""
    columns = ["run", "recipe", "benchmark", "objective", "seed", "state", "tasks seen", "last change", "accuracy"]
    rows = [
        [*run[:4], str(run.seed), run.state, f"{run.tasks_seen}/{run.tasks}", cli.duration(run.age), run.accuracy]
        for run in runs
    ]
    return tables.Table("", tables.make_frame(columns, rows), words=8)


@cli.returns_exit_code
def main(argv: Sequence[str], prog: str = "ucl list") -> int:
    """Prints the list of runs; those whose files are damaged are left out, with a warning."""
    parser = cli.Parser(prog=prog, description=__doc__.splitlines()[0], epilog=cli.examples(prog, CALLS))
    parser.add_argument("folders", nargs="*", type=pathlib.Path, metavar="FOLDER", help="default: runs")
    parser.add_argument("--json", action="store_true", help="print a JSON list; age is in seconds")
    given = parser.parse_args(argv)
    folders = given.folders or [pathlib.Path("runs")]
    found: dict[pathlib.Path, None] = {}
    for parent in folders:
        require(parent.is_dir(), f"there is no folder {parent}; give folders that hold runs")
        found |= dict.fromkeys(find_runs(parent))
    runs = []
    for folder in found:
        try:
            runs.append(listed(folder, time.time()))
        except UsageError as error:
            cli.warn(error)
    if given.json:
        print(json.dumps([run._asdict() for run in runs], indent=1))
    elif runs:
        print(tables.render(table(runs)))
        print("\naccuracy: by kNN within the task, over the tasks seen, in per cent")
    else:
        print(f"there is no run in {', '.join(map(str, folders))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
