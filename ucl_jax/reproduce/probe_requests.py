"""Requests of a study: which probes a run needs, with which settings, and whether its results have them already."""

from __future__ import annotations

import argparse
import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

from ucl_jax.errors import require, user_choice
from ucl_jax.reproduce.plan import PlannedRun
from ucl_jax.results.compare import RunGroup
from ucl_jax.settings import PROBE_DEFAULTS, PROBE_SETTINGS, read_value, words_of

if TYPE_CHECKING:
    from ucl_jax.results.schema import Record, RunResult

# Probe -> setting -> value, as it is written for --set, which can change it. A record of a run counts for a study only
# if it has all of these settings with these values.
SETTINGS: dict[str, dict[str, str]] = {
    probe: {key: words_of(default) for key, default in PROBE_DEFAULTS[probe].items()}
    for probe in ("ood", "loss_landscape", "cka")
}
SETTINGS["loss_landscape"]["loss"] = "classifier"  # the paper's
FIXED_SETTINGS = ("dataset", "other")  # settings that a study decides, and that --set cannot change
# Benchmark -> settings that differ there. Digits is meant for two cores, where all images would take hours.
BENCHMARK_SETTINGS = {"digits": {"ood": {"train_images": "5000", "test_images": "1000"}}}


class ProbeRequest(NamedTuple):
    """A probe whose record a run needs.

    run: the run.
    probe: the probe's name.
    settings: all of its settings, as they are written for --set.
    after: `--after` of `ucl_jax.probe`, "last" or "first,last"; a probe of the whole run ignores it.
    """

    run: PlannedRun
    probe: str
    settings: dict[str, str]
    after: str = "last"


def settings(given: argparse.Namespace, probe: str, benchmark: str) -> dict[str, str]:
    """Returns the settings of a request: those of SETTINGS and BENCHMARK_SETTINGS, changed as --set says."""
    changed = (change.partition("=")[::2] for change in given.set)
    own = {key.partition(".")[2]: value for key, value in changed if key.partition(".")[0] == probe}
    return SETTINGS[probe] | BENCHMARK_SETTINGS.get(benchmark, {}).get(probe, {}) | own


def check(change: str) -> None:
    """Checks a value of --set.

    Args:
      change: PROBE.KEY=VALUE.

    Raises:
      UsageError: it has another form, there is no such setting, or the study decides it.
    """
    target, _, value = change.partition("=")
    probe, _, key = target.partition(".")
    require(bool(key and value), f"--set={change} is not PROBE.KEY=VALUE")
    default = user_choice(f"setting of {probe}", key, user_choice("probe to set", probe, SETTINGS))
    require(key not in FIXED_SETTINGS, f"--set={change}: the study sets that; see --datasets")
    require(
        "," in default or "," not in value,
        f"--set={change}: a study has one {key} at a time; give one, and run it again with the other",
    )
    read_value(f"{probe}.{key}", PROBE_SETTINGS[probe][key], value)


def record(results: RunResult, request: ProbeRequest, after: int) -> Record | None:
    """Returns the record that answers a request; None where there is none.

    Of the folder of another run only the last two parts are compared, so that runs may be moved. A comparison of two
    runs counts only if it is of their networks after all tasks: it may have been made before both were finished.

    Args:
      results: of the run.
      request: what is needed.
      after: the number of tasks that the network has learned.
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
        return all(values[key][-1] == after for key in ("networks", "other_networks") if key in values)

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
    """Returns a setting as a number where it is one, so that "1" and 1.0 are equal."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def values(group: RunGroup, request: ProbeRequest, after: int | None = None) -> dict[int, Any]:
    """Returns seed -> what the probe of a request found, for the runs of a group that have it.

    Args:
      group: the runs.
      request: a request with the same probe and settings; its run does not matter.
      after: the number of tasks that the networks have learned; None for all.
    """
    found = {run.seed: record(run, request, after or run.tasks_learned) for run in group.runs}
    return {seed: each.typed_values for seed, each in found.items() if each is not None}
