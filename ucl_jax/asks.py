"""What probes are asked of runs, and whether their results hold it."""

import argparse
import pathlib
from typing import Any, NamedTuple

from ucl_jax import tables
from ucl_jax.cells import Cell
from ucl_jax.tables import Experiment, Run

# What probes are asked for; --set changes it.
SETTINGS: dict[str, dict[str, str]] = {
    "ood": {"train_images": "0", "test_images": "0"},  # all of them
    "loss_landscape": {"loss": "classifier", "task": "0"},
    "cka": {},
}
# By benchmark: digits is for two cores, where all images of the other data sets would take hours.
SETTINGS_OF = {"digits": {"ood": {"train_images": "5000", "test_images": "1000"}}}


class Ask(NamedTuple):
    """A probe that a cell's results.json has to have, with settings as they are given to --set, or as JSON.

    after: `--after` of ucl_jax.probe: "last" or "first,last"; a probe of the whole run takes no notice of it.
    """

    cell: Cell
    probe: str
    settings: dict[str, str]
    after: str = "last"


def settings(given: argparse.Namespace, probe: str, benchmark: str) -> dict[str, str]:
    """What a probe is asked for: as in SETTINGS and SETTINGS_OF, but for --set."""
    changed = (change.partition("=")[::2] for change in given.set)
    own = {key.partition(".")[2]: value for key, value in changed if key.partition(".")[0] == probe}
    return SETTINGS[probe] | SETTINGS_OF.get(benchmark, {}).get(probe, {}) | own


def record(results: Run, ask: Ask, after: int) -> dict[str, Any] | None:
    """The analysis record that an ask wants of the network after so many tasks, None when there is none.

    A path is compared by its last two parts, so that a folder of runs may be moved.
    """

    def same(key: str, there: Any) -> bool:
        here = ask.settings[key]
        if key == "other":
            return pathlib.PurePath(there).parts[-2:] == pathlib.PurePath(here).parts[-2:]
        there = there if isinstance(there, list) else [there]
        return [*map(_number_or_word, there)] == [*map(_number_or_word, here.split(","))]

    found = [
        r
        for r in results.get("analysis", ())
        if r["probe"] == ask.probe
        and r["after"] in (after, None)
        and all(same(key, r["settings"].get(key, ask.settings[key])) for key in ask.settings)
    ]
    return found[-1] if found else None


def _number_or_word(value: Any) -> float | str:
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def values(experiment: Experiment, ask: Ask, after: int | None = None) -> dict[int, dict[str, Any]]:
    """What a probe found, by seed, of the runs that have it; after all tasks unless `after` says otherwise."""
    found = [record(run, ask, after or tables.tasks_learned(run)) for run in experiment.runs]
    return {seed: r["values"] for seed, r in zip(tables.seeds(experiment.runs), found) if r is not None}
