"""Gives all commands their messages, exit codes, signals and output streams.

Bad input ends a command with one line on standard error and exit code 2. Signal n ends it with exit code 128 + n.
"""

import argparse
import ast
import contextlib
import errno
import functools
import io
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ucl_jax.errors import Stopped, UsageError


class _LossyStream(io.FileIO):
    """A standard stream whose writes never fail: output is dropped if its reader has left or the disk is full.

    Attributes:
      lost: the first error for which output was dropped, or None.
    """

    lost: OSError | None = None

    def write(self, data) -> int:
        """Returns the number of bytes that were written or dropped."""
        try:
            written = super().write(data)
        except OSError as error:
            self.lost = self.lost or error
            written = None
        return memoryview(data).nbytes if written is None else written


def protect_streams() -> None:
    """Makes standard output and error such that the process survives a closed terminal or pipe and a full disk.

    A standard stream that is closed is opened on the null device. Otherwise the next file that is opened would get its
    number, and the text that is meant for the stream. Streams that a caller has replaced are left alone.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue
        settings: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "line_buffering": True}
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.flush()
            settings = {key: getattr(stream, key) for key in (*settings, "write_through")}
        raw = _LossyStream(descriptor, "w", closefd=False)
        setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), **settings))


def _output_lost() -> bool:
    """Tells whether part of standard output could not be written, and warns if so.

    It does not count what was dropped because the reader of a pipe or a terminal left: nobody wanted it.
    """
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    lost = raw.lost if isinstance(raw, _LossyStream) else None
    if lost is None or lost.errno in (errno.EPIPE, errno.EIO):  # EIO: a terminal that was closed
        return False
    warn(f"what was printed could not be written ({lost.strerror}); nothing else was lost")
    return True


def report(message: object, code: int = 2) -> int:
    """Prints on standard error why a command ends, in one line if `code` is 2, and returns its exit code `code`."""
    print(f"error: {' '.join(str(message).split())}" if code == 2 else message, file=sys.stderr, flush=True)
    return code


def warn(message: object) -> None:
    """Prints one line on standard error about something that went wrong but does not end the command."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr, flush=True)


def returns_exit_code(main: Callable[..., int | None]) -> Callable[..., int]:
    """Decorates the `main` of a command: protects its streams, and makes it return the exit code.

    UsageError, and a file name that is too long for the disk, become one line and exit code 2; Stopped and
    KeyboardInterrupt become 128 + the number of the signal. What `main` returns is the exit code. If it returns 0, the
    output is the result of the command, and the exit code is 1 if that could not be written. If it returns None, the
    exit code is 0 whether somebody reads the output or not.
    """

    @functools.wraps(main)
    def wrapped(*arguments):
        protect_streams()
        try:
            result, lost = main(*arguments), _output_lost()
            return 0 if result is None else result or int(lost)
        except SystemExit as leaving:
            if leaving.code:
                raise
            return 0  # argparse has printed help
        except UsageError as error:
            return report(error)
        except Stopped as stopped:
            return report(stopped, 128 + stopped.signum)
        except KeyboardInterrupt:  # it came before there was anything to save
            return report("interrupted", 130)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return report(f"{error.filename}: {error.strerror}; give a shorter name")

    return wrapped


def summary(path: pathlib.Path) -> str:
    """Returns the first line of the docstring of a Python file, which is read and not imported."""
    return (ast.get_docstring(ast.parse(path.read_bytes())) or "").partition("\n")[0]


def duration(seconds: float) -> str:
    """Returns a time as text, such as "40 s", "12 min", "3.5 h" or "4 d"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 86400:.0f} d"


class StopRequest:
    """A context manager that remembers a first SIGINT, SIGTERM or SIGHUP instead of ending the process.

    A second SIGINT or SIGTERM ends the process at once. Further SIGHUPs are ignored, because a closing terminal may
    send several. If SIGHUP was ignored from the start, as under `nohup`, it stays so.

    Attributes:
      signum: the number of the signal that came, or None.
    """

    SIGNALS: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.signum: int | None = None

    def __enter__(self) -> "StopRequest":
        ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
        wanted = [signum for signum in self.SIGNALS if signum not in ignored]
        self._before = {signum: signal.signal(signum, self._request) for signum in wanted}
        return self

    def __exit__(self, *exception) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def poll(self) -> int | None:
        """Returns the number of the signal that came, or None. A run asks once after every step and evaluation."""
        return self.signum

    def _request(self, signum, frame):
        """Handles a signal: remembers it, and lets the next one act."""
        self.signum = signum
        for each in self._before:
            signal.signal(each, signal.SIG_IGN if each == signal.SIGHUP else signal.SIG_DFL)


def listed(lists: Mapping[str, Mapping[str, str]]) -> str:
    """Returns lists as text for --help: below each title, a line for each name with what it stands for."""
    lines = []
    for title, names in lists.items():
        width = max(map(len, names))
        lines += ["", f"{title}:", *(f"  {name:{width}}  {about}" for name, about in names.items())]
    return "\n".join(lines[1:])


def examples(prog: str, calls: Mapping[str, str]) -> str:
    """Returns examples as text for --help: arguments of the command `prog`, and below them what it does with them."""
    lines = [line for words, about in calls.items() for line in (f"  {prog} {words}".rstrip(), f"      {about}")]
    return "\n".join(["examples:", *lines])


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError for bad input, with a hint at --help, instead of exiting.

    With `epilog`, the line breaks of description and epilog stay as they are.
    """

    def __init__(self, **given: Any):
        """Takes what argparse takes."""
        if given.get("epilog"):
            given.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**given)

    def error(self, message: str) -> NoReturn:
        """Raises UsageError with `message`."""
        raise UsageError(f"{message}; see {self.prog} --help")
