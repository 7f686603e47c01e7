"""Guards a run folder: whose it is, who is at work in it, and whether the disk has room for what comes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax

from ucl_jax import settings
from ucl_jax.errors import UsageError, require
from ucl_jax.files import write_atomically
from ucl_jax.results import compare
from ucl_jax.results.load import read_results, read_saved_config
from ucl_jax.training.build import Experiment
from ucl_jax.training.checkpoint import numbers, room
from ucl_jax.training.loop import Schedule

if TYPE_CHECKING:
    from ucl_jax.results.schema import RunResult

OTHER_BYTES = 1_000_000  # what results, metrics and plots may take


def default_workdir(config) -> pathlib.Path:
    """Returns the run folder by default: `runs/<recipe>-<benchmark>-<objective>-seed<n>`."""
    return pathlib.Path("runs") / f"{config.recipe}-{config.benchmark.name}-{config.objective.name}-seed{config.seed}"


def finished_results(config, workdir: pathlib.Path) -> RunResult | None:
    """Returns the results in `workdir` if the run of this config is finished there, else None.

    Raises:
      UsageError: the folder holds a run with another config (the message names the keys), or one that cannot be read.
    """
    if not (workdir / "results.json").exists() and not numbers(workdir / "checkpoints"):
        return None  # there is nothing that could be lost or go on
    require(
        (workdir / "config.json").exists(),
        f"{workdir} holds a run without its config.json, so that its settings are unknown; take another --workdir",
    )
    stored = settings.flatten(read_saved_config(workdir / "config.json"))
    given = settings.flatten(json.loads(config.to_json()))
    differing = compare.changed_settings(stored, given)
    require(
        not differing,
        f"{workdir} holds a run with another config: {', '.join(differing)}; "
        "take another --workdir, or remove that folder",
    )
    if not (workdir / "results.json").exists():
        return None
    results = read_results(workdir / "results.json")
    return results if results.finished else None


@contextlib.contextmanager
def claim(workdir: pathlib.Path) -> Iterator[None]:
    """Locks a run folder for this process, and makes it if it is not there.

    Raises:
      UsageError: the folder cannot be written to, or another process has locked it.
    """
    try:
        (workdir / "plots").mkdir(parents=True, exist_ok=True)
        lock = (workdir / "lock").open("w")
    except OSError as error:
        raise UsageError(
            f"cannot write to the run folder {workdir}: {error.strerror}; take another --workdir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process is at work in {workdir}; wait for it, or take another --workdir"
            ) from None
        yield


def require_room(config, workdir: pathlib.Path, experiment: Experiment, schedule: Schedule) -> None:
    """Raises UsageError unless the disk has room for what the run will save, as far as that is known beforehand."""
    state = jax.eval_shape(experiment.init)
    saves = schedule.total // config.checkpoint.every_steps + len(schedule.batch_sizes)
    # The next checkpoint is written before the oldest is removed.
    checkpoints = max(min(config.checkpoint.keep + 1, saves) - len(numbers(workdir / "checkpoints")), 1)
    tasks = 1 if config.benchmark.joint else config.benchmark.num_tasks
    networks = max(tasks - len(numbers(workdir / "networks")), 0) if config.checkpoint.networks else 0
    needed = checkpoints * room(state) + networks * room(state.network) + OTHER_BYTES
    free = shutil.disk_usage(next(path for path in (workdir, *workdir.absolute().parents) if path.exists())).free
    require(
        free >= needed,
        f"{workdir} has room for {free / 1e6:.1f} MB, and the run may need {needed / 1e6:.1f} MB there, for "
        f"{checkpoints} checkpoints and {networks} networks: make room, or take another --workdir",
    )


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file. A process that is killed meanwhile leaves the earlier file as it was."""
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
