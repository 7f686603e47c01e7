"""The one exception that a person can act on, and files that are whole or not there."""

import contextlib
import difflib
import errno
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any


class UsageError(Exception):
    """Bad input. The message is one line that says what is wrong and what to do; `launch.py` exits with 2."""


def choose(what: str, value: str, options: Mapping[str, Any]) -> Any:
    """`options[value]`; raises UsageError that lists the options, and names the nearest, when there is none."""
    if value not in options:
        near = difflib.get_close_matches(str(value), options, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ";"
        raise UsageError(f"unknown {what} {value!r}{hint} known: {', '.join(options)}")
    return options[value]


def pick(name: str, value: str, options: Mapping[str, Any]) -> Any:
    """Returns `options[value]`; raises ValueError, which names the argument and the options, when there is none."""
    if value not in options:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(options)}")
    return options[value]


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all, over an earlier one; it is on the disk before it takes the earlier's place."""
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


# Of a disk that is full, is broken, or cannot be written to.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
KEPT = "what was saved before is kept; run the same command again once the disk can be written to and has room"


@contextlib.contextmanager
def disk_errors(place: pathlib.Path) -> Iterator[None]:
    """Raises UsageError for what the disk refuses meanwhile, with the name of the file, or of `place`."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise UsageError(f"{error.filename or place}: {error.strerror}; {KEPT}") from error


def require(condition: bool, message: str) -> None:
    """Raises UsageError(message) unless `condition` holds."""
    if not condition:
        raise UsageError(message)


class Stopped(Exception):
    """A signal stopped a run after it was saved; `launch.py` exits with 128 + signum."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum
