"""Says which probes a study needs of a run, with which settings, and finds those that its results have already."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ucl_jax.errors import require, user_choice
from ucl_jax.reproduce.plan import PlannedRun
from ucl_jax.results.compare import RunGroup
from ucl_jax.settings import PROBE_DEFAULTS, PROBE_SETTINGS, read_value

if TYPE_CHECKING:
    from ucl_jax.results.schema import Record, RunResult

Settings = dict[str, Any]  # the settings of one probe
# Probe -> its settings, which --set can change: the probe's defaults. A record of a run counts for a study only if it
# has all of these settings with these values. Where a probe makes a record for each value of a list, a study has one.
SETTINGS: dict[str, Settings] = {probe: dict(PROBE_DEFAULTS[probe]) for probe in ("ood", "loss_landscape", "cka")}
SETTINGS["ood"]["dataset"] = "available"
SETTINGS["loss_landscape"] |= {"loss": "classifier", "task": 0}  # the paper's
FIXED_SETTINGS = ("dataset", "other")  # settings that a study decides, and that --set cannot change
# Benchmark -> settings that differ there. These are meant for two cores, where all images would take hours.
FEW_IMAGES = {"ood": {"train_images": 5000, "test_images": 1000}}
BENCHMARK_SETTINGS = {"digits": FEW_IMAGES, "cifar10_16px": FEW_IMAGES, "cifar100_16px": FEW_IMAGES}


class ProbeRequest(NamedTuple):
    """A probe whose record a run needs.

    Attributes:
      run: the run.
      probe: the probe's name.
      settings: all of its settings.
      first_too: whether the record is needed after the first task as well as after the last; a probe of the whole run
        ignores it.
    """

    run: PlannedRun
    probe: str
    settings: Settings
    first_too: bool = False


def settings(probe: str, benchmark: str, changed: Mapping[str, Settings]) -> Settings:
    """Returns the settings of a request: those of SETTINGS and BENCHMARK_SETTINGS, changed by `changed[probe]`."""
    return SETTINGS[probe] | BENCHMARK_SETTINGS.get(benchmark, {}).get(probe, {}) | changed.get(probe, {})


def read_change(change: str) -> tuple[str, str, Any]:
    """Reads a value of --set, and returns the probe, the key and the value of the setting.

    Args:
      change: PROBE.KEY=VALUE.

    Raises:
      UsageError: it has another form, there is no such setting, the value is out of range, or the study decides it.
    """
    target, _, words = change.partition("=")
    probe, _, key = target.partition(".")
    require(bool(key and words), f"--set={change} is not PROBE.KEY=VALUE")
    default = user_choice(f"setting of {probe}", key, user_choice("probe to set", probe, SETTINGS))
    require(key not in FIXED_SETTINGS, f"--set={change}: the study sets that; see --datasets")
    value = read_value(f"{probe}.{key}", PROBE_SETTINGS[probe][key], words)
    if isinstance(value, tuple) and not isinstance(default, tuple):
        require(
            len(value) == 1,
            f"--set={change}: a study has one {key} at a time; give one, and run it again with the other",
        )
        (value,) = value
    return probe, key, value


def record(results: RunResult, request: ProbeRequest, after: int) -> Record | None:
    """Returns the record that answers a request; None where there is none.

    Of the folder of another run only the last two parts are compared, so that runs may be moved. A comparison of two
    runs counts only if it is of their networks after all tasks: it may have been made before both were finished.

    Args:
      results: of the run.
      request: what is needed.
      after: the number of tasks that the network has learned.
    """

    def same(key: str, here: Any, of_record: Settings) -> bool:
        if key not in of_record:
            return False
        there = of_record[key]
        if key == "other":
            return pathlib.PurePath(there).parts[-2:] == pathlib.PurePath(here).parts[-2:]
        return (tuple(there) if isinstance(there, list) else there) == here

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


def values(group: RunGroup, request: ProbeRequest, after: int | None = None) -> dict[int, Any]:
    """Returns seed -> what the probe of a request found, for the runs of a group that have it.

    Args:
      group: the runs.
      request: a request with the same probe and settings; its run does not matter.
      after: the number of tasks that the networks have learned; None for all.
    """
    found = {run.seed: record(run, request, after or run.tasks_learned) for run in group.runs}
    return {seed: each.typed_values for seed, each in found.items() if each is not None}
