"""What probes are asked of runs, and whether their results hold it."""

import argparse
import pathlib
from typing import Any, NamedTuple

from ucl_jax.errors import choose, require
from ucl_jax.reproduce.plan import Cell
from ucl_jax.results import tables
from ucl_jax.results.tables import Experiment, Run
from ucl_jax.settings import PROBES, read_value

# What probes are asked for: every setting, as it is given to --set, which changes it. The defaults of `ucl_jax.probes`,
# which is not imported for that: it needs JAX. A record that lacks one of them, or has another, is not the study's.
SETTINGS: dict[str, dict[str, str]] = {
    "ood": {
        "dataset": "available",
        "train_images": "0",  # all of them
        "test_images": "0",
        "k": "run",
        "temperature": "0.1",
        "penalties": "0.0001,0.001,0.01,0.1,1.0,10.0,100.0,1000.0,10000.0,100000.0",
        "seed": "0",
    },
    "loss_landscape": {
        "loss": "classifier",  # the paper's
        "task": "0",
        "points": "11",
        "span": "1.0",
        "images": "256",
        "seed": "0",
    },
    "cka": {"other": "", "images": "1024", "batch_size": "256", "seed": "0"},
}
STUDYS = ("dataset", "other")  # settings that a study gives itself
# By benchmark: digits is for two cores, where all images of the other data sets would take hours.
SETTINGS_OF = {"digits": {"ood": {"train_images": "5000", "test_images": "1000"}}}


class Ask(NamedTuple):
    """A probe that a cell's results.json has to have, with all its settings as they are given to --set.

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


def check(change: str) -> None:
    """Raises UsageError unless `change`, given to --set, is PROBE.KEY=VALUE of a setting that a study may have."""
    target, _, value = change.partition("=")
    probe, _, key = target.partition(".")
    require(bool(key and value), f"--set={change} is not PROBE.KEY=VALUE")
    default = choose(f"setting of {probe}", key, choose("probe to set", probe, SETTINGS))
    require(key not in STUDYS, f"--set={change}: the study sets that; see --datasets")
    require(
        "," in default or "," not in value,
        f"--set={change}: a study has one {key} at a time; give one, and run it again with the other",
    )
    read_value(f"{probe}.{key}", PROBES[probe][key], value)


def record(results: Run, ask: Ask, after: int) -> dict[str, Any] | None:
    """The analysis record that an ask wants of the network after so many tasks, None when there is none.

    A path is compared by its last two parts, so that a folder of runs may be moved. A comparison of runs counts only
    where it is of all tasks of both, which may not have been finished when it was made.
    """

    def same(key: str, here: str, of_record: dict[str, Any]) -> bool:
        if key not in of_record:
            return False
        there = of_record[key]
        if key == "other":
            return pathlib.PurePath(there).parts[-2:] == pathlib.PurePath(here).parts[-2:]
        there = there if isinstance(there, list) else [there]
        return [*map(_number_or_word, there)] == [*map(_number_or_word, here.split(","))]

    def complete(found: dict[str, Any]) -> bool:
        return all(found[key][-1] == after for key in ("checkpoints", "other_checkpoints") if key in found)

    found = [
        r
        for r in results.get("analysis", ())
        if r["probe"] == ask.probe
        and r["after"] in (after, None)
        and complete(r["values"])
        and all(same(key, here, r["settings"]) for key, here in ask.settings.items())
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
