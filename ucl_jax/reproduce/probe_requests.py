"""What probes are requested of runs, and whether their results hold it."""

from __future__ import annotations

import argparse
import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

from ucl_jax.errors import choose, require
from ucl_jax.reproduce.plan import PlannedRun
from ucl_jax.results.compare import RunGroup
from ucl_jax.settings import PROBES, read_value

if TYPE_CHECKING:
    from ucl_jax.results.schema import Record, RunResult

# What is requested of probes: every setting, as it is given to --set, which changes it. These are the defaults of
# `ucl_jax.probes`, which is not imported for that: it needs JAX. A record that lacks one of them, or has another, is
# not the study's.
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


class ProbeRequest(NamedTuple):
    """A probe that a run's results.json has to have, with all its settings as they are given to --set.

    after: `--after` of ucl_jax.probe: "last" or "first,last"; a probe of the whole run takes no notice of it.
    """

    run: PlannedRun
    probe: str
    settings: dict[str, str]
    after: str = "last"


def settings(given: argparse.Namespace, probe: str, benchmark: str) -> dict[str, str]:
    """Returns the settings of a request: as in SETTINGS and SETTINGS_OF, but for --set."""
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


def record(results: RunResult, request: ProbeRequest, after: int) -> Record | None:
    """Returns the analysis record that a request is for, of the network after so many tasks; None where it is missing.

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

    def complete(found: Record) -> bool:
        values = found.values
        return all(values[key][-1] == after for key in ("checkpoints", "other_checkpoints") if key in values)

    found = [
        each
        for each in results.analysis
        if each.probe == request.probe
        and each.after in (after, None)
        and complete(each)
        and all(same(key, here, each.settings) for key, here in request.settings.items())
    ]
    return found[-1] if found else None


def _number_or_word(value: Any) -> float | str:
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def values(group: RunGroup, request: ProbeRequest, after: int | None = None) -> dict[int, Any]:
    """Returns the typed values that a probe found, by seed; after all tasks unless `after` says otherwise."""
    found = {run.seed: record(run, request, after or run.tasks_learned) for run in group.runs}
    return {seed: each.typed_values for seed, each in found.items() if each is not None}
