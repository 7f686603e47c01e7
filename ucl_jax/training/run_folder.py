"""Guards a run folder: whose it is, who is at work in it, and whether the disk has room for what comes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
from ml_collections import ConfigDict

from ucl_jax import settings
from ucl_jax.errors import UsageError, require
from ucl_jax.files import write_atomically
from ucl_jax.results import compare
from ucl_jax.results.load import read_results, read_saved_config
from ucl_jax.training.build import CheckpointSettings
from ucl_jax.training.checkpoint import numbers, room
from ucl_jax.training.schedule import Schedule
from ucl_jax.types import TrainState

if TYPE_CHECKING:
    from ucl_jax.results.schema import RunResult

OTHER_BYTES = 1_000_000  # what results, metrics and plots may take


def default_workdir(recipe: str, benchmark: str, objective: str, protocol: str, stream: str, seed: int) -> pathlib.Path:
    """Returns the run folder by default: `runs/<recipe>-<benchmark>-<objective>-seed<n>`.

    A protocol other than ucl and a stream other than tasks are named before the seed.
    """
    others = [name for name, usual in ((protocol, "ucl"), (stream, "tasks")) if name != usual]
    return pathlib.Path("runs") / "-".join([recipe, benchmark, objective, *others, f"seed{seed}"])


def finished_results(config: ConfigDict, workdir: pathlib.Path) -> RunResult | None:
    """Returns the results in `workdir` if the run of this config is finished there, else None.

    Args:
      config: the config tree of a run. It is compared as a whole with that in the folder; none of its keys is read.
      workdir: a run folder, which need not be there.

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


def require_room(
    workdir: pathlib.Path, init: Callable[[], TrainState], schedule: Schedule, checkpoint: CheckpointSettings
) -> None:
    """Checks that the disk has room for what a run will save, as far as that is known beforehand.

    Args:
      workdir: the run folder, which need not be there.
      init: makes the state before the first step; only its shapes and dtypes are used.
      schedule: the plan of the run.
      checkpoint: what is saved, and when.

    Raises:
      UsageError: it has no room.
    """
    state = jax.eval_shape(init)
    saves = schedule.total // checkpoint.every_steps + len(schedule.legs)
    # The next checkpoint is written before the oldest is removed.
    checkpoints = max(min(checkpoint.keep + 1, saves) - len(numbers(workdir / "checkpoints")), 1)
    networks = max(len(schedule.rows) - len(numbers(workdir / "networks")), 0) if checkpoint.networks else 0
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
