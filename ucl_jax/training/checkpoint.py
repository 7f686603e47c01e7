"""Saves and loads checkpoints, and networks for probes. Each is a folder of Orbax.

A folder is written under a hidden name. It is renamed to its number once all of it is on the disk. So a folder whose
name is a number is complete, whatever killed the process. Its file SHA256SUMS has the hash of each other file. The
hashes are checked before a folder is used, as `sha256sum -c SHA256SUMS` does, so that later damage is found.
"""

import concurrent.futures
import contextlib
import errno
import hashlib
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Callable

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.experimental import v1

from ucl_jax.errors import UsageError
from ucl_jax.files import SAVED_IS_KEPT, write_atomically
from ucl_jax.types import PyTree, TrainState, Variables

SUMS = "SHA256SUMS"
NUMBER = re.compile("0|[1-9][0-9]*")
# What Orbax writes about an array, beside its content.
BYTES_AN_ARRAY = 1024
# Of several processes, process 0 alone saves and loads. Orbax must not wait for the others.
PROCESS_0 = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="0")


class Damaged(Exception):
    """A saved folder cannot be used. The message tells why."""


def numbers(folder: pathlib.Path) -> list[int]:
    """Returns the numbers of the complete saves in a folder, ascending: steps, or numbers of tasks learned."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(path.name) for path in found if NUMBER.fullmatch(path.name))


def room(*trees: PyTree) -> int:
    """Returns an upper bound of the bytes that trees of arrays, or of ShapeDtypeStructs, take on the disk."""
    return sum(leaf.size * leaf.dtype.itemsize + BYTES_AN_ARRAY for leaf in jax.tree.leaves(trees))


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)


def _sums(folder: pathlib.Path) -> str:
    """Returns the hashes of the files of a folder, as `sha256sum` prints them."""
    lines = []
    for path in _files(folder):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: pathlib.Path) -> None:
    """Waits until a file, or the list of files of a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tidy(folder: pathlib.Path) -> None:
    """Removes what a killed process left unfinished, and restores an old folder whose replacement was not finished."""
    for old in folder.glob(".*.old"):
        place = folder / old.name.removeprefix(".").removesuffix(".old")
        _remove(old) if place.exists() else old.rename(place)
    for unwanted in (*folder.glob(".*.new*"), *folder.glob(".*.gone")):
        _remove(unwanted)


def _write(path: pathlib.Path, tree: PyTree, progress: dict | None = None) -> None:
    """Saves a tree of arrays and the progress of a run (JSON) as a folder.

    An earlier folder is replaced only by a complete one.

    Raises:
      UsageError: the folder cannot be written. What was there before is unchanged.
    """
    new, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent)
        if shutil.disk_usage(path.parent).free < room(tree):
            # Checked first, because Orbax's threads may print tracebacks when the disk becomes full.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # Not by the v1 API: its `save` waits for all processes, whatever its options say. It reads what this writes.
        handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=PROCESS_0)
        with ocp.Checkpointer(handler, multiprocessing_options=PROCESS_0) as checkpointer:
            arrays = ocp.args.PyTreeSave(jax.tree.map(np.asarray, tree))
            checkpointer.save(new.absolute(), args=arrays, custom_metadata=progress)
        for each in (*_files(new), *(folder for folder in new.rglob("*") if folder.is_dir())):
            _to_disk(each)
        write_atomically(new / SUMS, _sums(new))
        _to_disk(new)
        if path.exists():
            path.rename(old)
        new.rename(path)
        _to_disk(path.parent)
        _remove(old)
    except Exception as error:  # Orbax raises many types when it cannot write
        with contextlib.suppress(OSError):
            _tidy(path.parent)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else _first_line(error)
        raise UsageError(f"cannot save {path}: {reason}; {SAVED_IS_KEPT}") from error


def _first_line(error: Exception) -> str:
    """Returns the reason in a message of Orbax: the part that comes from the operating system, if there is one."""
    text = (str(error).splitlines() or [""])[0]
    known = re.search(r"\w[\w -]+(?= \[os_error_code)", text.rpartition(": ")[2])
    return known[0] if known else text or type(error).__name__


def _read(path: pathlib.Path, like: PyTree) -> tuple[PyTree, dict]:
    """Reads the tree and the progress of a folder. The shardings in `like` say on which devices the arrays are placed.

    Raises:
      Damaged: a file differs from what was saved, or Orbax cannot read the folder.
    """
    try:
        saved = (path / SUMS).read_bytes().decode(errors="replace")
        found = _sums(path)
    except FileNotFoundError:
        raise Damaged(f"it has no {SUMS}: it is damaged, or was saved by an older version of ucl_jax") from None
    except OSError as error:
        raise Damaged(error.strerror or type(error).__name__) from error
    if saved != found:
        differing = set(saved.splitlines()) ^ set(found.splitlines())
        names = sorted({line.partition("  ")[2] for line in differing} - {""}) or [SUMS]
        raise Damaged(f"{names[0]} is not as it was saved")
    try:
        context = v1.Context()
        context.multiprocessing.active_processes = PROCESS_0.active_processes
        context.multiprocessing.barrier_sync_key_prefix = PROCESS_0.barrier_sync_key_prefix
        with context:
            return v1.load(path.absolute(), like), v1.metadata(path.absolute()).custom_metadata or {}
    except Exception as error:  # Orbax raises many types when it cannot read
        raise Damaged(f"it cannot be read ({type(error).__name__})") from error


class Checkpoints:
    """Saves and restores the checkpoints of a run. The last `keep` of them are kept in `folder`.

    It is a context manager; leaving it waits for the last save. One thread saves, one checkpoint at a time.
    """

    def __init__(self, folder: pathlib.Path, keep: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._keep = folder, keep
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoints")
        self._saving: concurrent.futures.Future | None = None
        _tidy(folder)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *exception) -> None:
        self._thread.shutdown()
        if kind is None:  # an error of a save must not hide the one that is being raised
            self.wait()

    @property
    def latest_step(self) -> int | None:
        """Returns the step of the latest checkpoint; None when there is none."""
        return max(numbers(self._folder), default=None)

    def save(self, step: int, state: TrainState, progress: dict) -> None:
        """Saves a checkpoint in the background.

        The arrays are copied first, because the next train step reuses the memory of `state` (donation). Once the
        checkpoint is saved, checkpoints of later steps are removed. There are such only if they were damaged, so that
        the run went on from an earlier one.

        Args:
          step: the steps done.
          state: after `step` steps.
          progress: what the run has found so far, as JSON.

        Raises:
          UsageError: the checkpoint before this one could not be saved.
        """
        self.wait()
        copied = jax.tree.map(np.array, state)
        self._saving = self._thread.submit(self._save, step, copied, progress)

    def _save(self, step: int, state: TrainState, progress: dict) -> None:
        _write(self._folder / str(step), state, progress)
        known = numbers(self._folder)
        place = known.index(step) + 1
        for other in (*known[: max(place - self._keep, 0)], *known[place:]):
            gone = self._folder / f".{other}.gone"  # renamed first: a folder with a number must stay complete
            (self._folder / str(other)).rename(gone)
            _remove(gone)

    def wait(self) -> None:
        """Waits until the last save is on the disk.

        Raises:
          UsageError: the checkpoint could not be saved.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def restore(
        self, like: TrainState, warn: Callable[[str], object] = warnings.warn
    ) -> tuple[TrainState, dict] | None:
        """Restores the latest checkpoint that is not damaged.

        Args:
          like: a state, or its ShapeDtypeStructs. Their shardings say on which devices the arrays are placed.
          warn: called with one line that names the later checkpoints that are damaged, if there are any.

        Returns:
          The state and the progress; None when nothing was saved.

        Raises:
          UsageError: every checkpoint is damaged.
        """
        damaged: list[str] = []
        for step in reversed(numbers(self._folder)):
            try:
                restored = _read(self._folder / str(step), like)
            except Damaged as reason:
                damaged.append(f"the checkpoint {self._folder / str(step)} is not used: {reason}")
                continue
            if damaged:
                warn("; ".join([*damaged, f"going on from that of step {step}"]))
            return restored
        if damaged:
            raise UsageError("; ".join([*damaged, f"remove {self._folder} to start again"]))
        return None


class Networks:
    """Saves and loads the networks of a run, one after each task, without optimiser and memory.

    Each is in `folder`, in a folder that is named by the number of tasks learned.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder

    def afters(self) -> list[int]:
        """Returns `after` of each saved network, ascending."""
        return numbers(self._folder)

    def save(self, after: int, network: Variables) -> None:
        """Saves the network that has learned `after` tasks. An earlier one is replaced only by a complete one.

        Raises:
          UsageError: the network cannot be written.
        """
        _write(self._folder / str(after), network._asdict())

    def load(self, after: int, like: Variables) -> Variables:
        """Loads the network that has learned `after` tasks.

        Args:
          after: the number of tasks that it has learned.
          like: such a network, or its ShapeDtypeStructs. Their shardings say on which devices the arrays are placed.

        Raises:
          UsageError: the network was not kept, or is damaged.
        """
        if after not in (kept := self.afters()):
            known = ", ".join(map(str, kept)) or "none"
            raise UsageError(f"there is no network after {after} tasks in {self._folder}; kept: {known}")
        path = self._folder / str(after)
        try:
            loaded, _ = _read(path, like._asdict())
        except Damaged as reason:
            raise UsageError(
                f"the network {path} is not used: {reason}; copy it again, or remove that folder to do without it"
            ) from reason
        return Variables(**loaded)
