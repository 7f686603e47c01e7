"""Writes files atomically, tells whether a folder is locked, and turns errors of the disk into messages."""

import contextlib
import errno
import fcntl
import os
import pathlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from ucl_jax.errors import UsageError


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file atomically, see `replacing`."""
    with replacing(path) as file:
        file.write(text.encode())


def write_array(path: pathlib.Path, array: np.ndarray) -> None:
    """Writes an array as an .npy file atomically, see `replacing`."""
    with replacing(path) as file:
        np.save(file, array)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Opens a file that replaces another one atomically, at the end of the block.

    Whatever happens, there is either the whole new file or the earlier one, if any. The new file is on the disk before
    it replaces the earlier one.

    Raises:
      OSError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def locked(folder: pathlib.Path) -> bool:
    """Tells whether a process is at work in a run folder, which it has locked by `training.run_folder.claim`."""
    if not (folder / "lock").exists():
        return False
    with (folder / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# The error numbers of a disk that is full, is broken, or cannot be written to.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
SAVED_IS_KEPT = "what was saved before is kept; run the same command again once the disk can be written to and has room"


@contextlib.contextmanager
def disk_errors(place: pathlib.Path) -> Iterator[None]:
    """Turns an OSError of the block whose number is in `DISK_ERRORS` into a UsageError.

    The message names the file of the error, or `place` if it has none.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise UsageError(f"{error.filename or place}: {error.strerror}; {SAVED_IS_KEPT}") from error
