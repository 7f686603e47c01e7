"""Checkpoints of training, and networks for analysis: folders of Orbax (v1 API), each with the SHA-256 of its files.

A folder is written under a hidden name and renamed to its number once it is whole and on the disk. So what has a
number is whole, whatever killed the process. What happens to its files afterwards is found out by their hashes, which
are checked before anything of it is used: `sha256sum -c SHA256SUMS` in the folder does the same.
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
import jax.numpy as jnp
from orbax.checkpoint.experimental import v1 as ocp

from ucl_jax.errors import KEPT, UsageError, write_whole
from ucl_jax.types import PyTree, TrainState, Variables

SUMS = "SHA256SUMS"
NUMBER = re.compile("0|[1-9][0-9]*")
# Orbax writes some kilobytes about every array beside its content.
BYTES_AN_ARRAY = 1024
# Orbax's threads would wait for folders that another thread failed to make.
ORBAX = ocp.options.AsyncOptions(create_directories_asynchronously=False)


class Damaged(Exception):
    """Tells why a saved folder cannot be used."""


def numbers(folder: pathlib.Path) -> list[int]:
    """Returns the numbers of what was saved in a folder, ascending; what a killed process left half-done has none."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(path.name) for path in found if NUMBER.fullmatch(path.name))


def room(*trees: PyTree) -> int:
    """Returns the bytes that saving trees of arrays, or of their ShapeDtypeStructs, takes on the disk at most."""
    return sum(leaf.size * leaf.dtype.itemsize + BYTES_AN_ARRAY for leaf in jax.tree.leaves(trees))


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)


def _sums(folder: pathlib.Path) -> str:
    """Returns what `sha256sum` prints about the files of a folder."""
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
    """Waits until a file, or the list of a folder's files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tidy(folder: pathlib.Path) -> None:
    """Removes what a killed process left half-written; what it had moved out of the way of a new one comes back."""
    for old in folder.glob(".*.old"):
        place = folder / old.name.removeprefix(".").removesuffix(".old")
        _remove(old) if place.exists() else old.rename(place)
    for unwanted in (*folder.glob(".*.new*"), *folder.glob(".*.gone")):
        _remove(unwanted)


def _write(path: pathlib.Path, tree: PyTree, record: dict | None = None) -> None:
    """Saves a tree of arrays and a record (JSON) as a folder, whole or not at all, over an earlier one.

    Raises:
      UsageError: it cannot be written; what was there before is as it was.
    """
    new, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent)
        if shutil.disk_usage(path.parent).free < room(tree):
            # Orbax gives up on the first file, and its threads that still write others may print tracebacks.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with ocp.Context(async_options=ORBAX):
            ocp.save(new.absolute(), tree, custom_metadata=record)
        for each in (*_files(new), *(folder for folder in new.rglob("*") if folder.is_dir())):
            _to_disk(each)
        write_whole(new / SUMS, _sums(new))
        _to_disk(new)
        if path.exists():
            path.rename(old)
        new.rename(path)
        _to_disk(path.parent)
        _remove(old)
    except Exception as error:  # whatever Orbax makes of a disk that is full or cannot be written to
        with contextlib.suppress(OSError):
            _tidy(path.parent)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else _first_line(error)
        raise UsageError(f"cannot save {path}: {reason}; {KEPT}") from error


def _first_line(error: Exception) -> str:
    """Returns the reason in a message of Orbax, which ends with that of the operating system."""
    text = (str(error).splitlines() or [""])[0]
    known = re.search(r"\w[\w -]+(?= \[os_error_code)", text.rpartition(": ")[2])
    return known[0] if known else text or type(error).__name__


def _read(path: pathlib.Path, like: PyTree) -> tuple[PyTree, dict]:
    """Returns the tree and the record of a folder; `like` says where the arrays go by its shardings.

    Raises:
      Damaged: its files are not those that were saved, to the bit, or Orbax cannot read them.
    """
    try:
        saved = (path / SUMS).read_bytes().decode(errors="replace")
        found = _sums(path)
    except FileNotFoundError:
        raise Damaged(f"it has no {SUMS}: it is damaged, or of a version of ucl_jax that wrote none") from None
    except OSError as error:
        raise Damaged(error.strerror or type(error).__name__) from error
    if saved != found:
        differing = set(saved.splitlines()) ^ set(found.splitlines())
        names = sorted({line.partition("  ")[2] for line in differing} - {""}) or [SUMS]
        raise Damaged(f"{names[0]} is not as it was saved")
    try:
        return ocp.load(path.absolute(), like), ocp.metadata(path.absolute()).custom_metadata or {}
    except Exception as error:  # whatever Orbax meets
        raise Damaged(f"it cannot be read ({type(error).__name__})") from error


class Checkpoints:
    """The checkpoints of a run folder, the last `keep` of them. A context manager: leaving it waits for the last save.

    One thread saves, one checkpoint at a time.
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
        if kind is None:  # else that is what went wrong
            self.wait()

    @property
    def latest_step(self) -> int | None:
        """The step of the latest checkpoint, None when there is none."""
        return max(numbers(self._folder), default=None)

    def save(self, step: int, state: TrainState, record: dict) -> None:
        """Saves in the background. `record` is JSON: what the run has found so far.

        The arrays are copied first, for the next step takes (donates) the state's own. Checkpoints of later steps,
        which could not be restored, go once this one is there.

        Raises:
          UsageError: the checkpoint before this one could not be saved.
        """
        self.wait()
        copied = jax.block_until_ready(jax.tree.map(jnp.copy, state))
        self._saving = self._thread.submit(self._save, step, copied, record)

    def _save(self, step: int, state: TrainState, record: dict) -> None:
        _write(self._folder / str(step), state, record)
        known = numbers(self._folder)
        place = known.index(step) + 1
        for other in (*known[: max(place - self._keep, 0)], *known[place:]):
            gone = self._folder / f".{other}.gone"  # what has a number is whole, also while it is removed
            (self._folder / str(other)).rename(gone)
            _remove(gone)

    def wait(self) -> None:
        """Waits until the last save is on the disk.

        Raises:
          UsageError: it could not be saved.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def restore(
        self, like: TrainState, warn: Callable[[str], object] = warnings.warn
    ) -> tuple[TrainState, dict] | None:
        """Returns the latest state and record that are as they were saved, None when nothing was saved.

        Args:
          like: a state or its ShapeDtypeStructs; their shardings say where the arrays go.
          warn: is told, in a line, which later checkpoints are damaged.

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
    """The network after every task, without optimiser and buffer: `FOLDER/<tasks learned>`."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder

    def learned(self) -> list[int]:
        """After how many tasks there is a network, ascending."""
        return numbers(self._folder)

    def save(self, learned: int, network: Variables) -> None:
        """Saves what `learned` tasks made of the network, whole or not at all, over an earlier one.

        Raises:
          UsageError: it cannot be written.
        """
        _write(self._folder / str(learned), network._asdict())

    def load(self, learned: int, like: Variables) -> Variables:
        """Loads the network after `learned` tasks.

        `like` is such a network, or its ShapeDtypeStructs; their shardings say where the arrays go.

        Raises:
          UsageError: it was not kept, or is damaged.
        """
        if learned not in (kept := self.learned()):
            known = ", ".join(map(str, kept)) or "none"
            raise UsageError(f"there is no network after {learned} tasks in {self._folder}; kept: {known}")
        path = self._folder / str(learned)
        try:
            loaded, _ = _read(path, like._asdict())
        except Damaged as reason:
            raise UsageError(
                f"the network {path} is not used: {reason}; copy it again, or remove that folder to do without it"
            ) from reason
        return Variables(**loaded)
