"""Exceptions that end a command with a message and an exit code, and the writing of files.

UsageError is for what a person can put right. Other exceptions are faults of the program.
"""

import contextlib
import difflib
import errno
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any


class UsageError(Exception):
    """Bad input. Its message is one line that says what is wrong and what to do; commands exit with code 2."""


def choose(what: str, value: str, options: Mapping[str, Any]) -> Any:
    """Returns `options[value]`, for a value that a person gave.

    Args:
      what: what the value is, for the message, such as "benchmark".
      value: the key.
      options: what there is to choose from.

    Raises:
      UsageError: there is no such option; it lists the options, and names the most similar one.
    """
    if value not in options:
        near = difflib.get_close_matches(str(value), options, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ";"
        raise UsageError(f"unknown {what} {value!r}{hint} known: {', '.join(options)}")
    return options[value]


def pick(name: str, value: str, options: Mapping[str, Any]) -> Any:
    """Returns `options[value]`, for an argument of a function.

    Raises:
      ValueError: there is no such option; it names the argument (`name`) and lists the options.
    """
    if value not in options:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(options)}")
    return options[value]


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a file atomically: whatever happens, there is either the whole new file or the earlier one, if any.

    The new file is on the disk before it replaces the earlier one.

    Raises:
      OSError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# The error numbers of a disk that is full, is broken, or cannot be written to.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
KEPT = "what was saved before is kept; run the same command again once the disk can be written to and has room"


@contextlib.contextmanager
def disk_errors(place: pathlib.Path) -> Iterator[None]:
    """Turns an OSError of the block whose number is in `DISK` into a UsageError.

    The message names the file of the error, or `place` if it has none.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise UsageError(f"{error.filename or place}: {error.strerror}; {KEPT}") from error


def require(condition: bool, message: str) -> None:
    """Raises UsageError with `message` unless `condition` is true."""
    if not condition:
        raise UsageError(message)


class Stopped(Exception):
    """A signal stopped a run, after the run was saved; commands exit with 128 + `signum`.

    signum: the number of the signal.
    """

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum
