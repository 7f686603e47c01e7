"""The command line's manners: one clear line and exit code 2 for bad input, 128 + n after signal n."""

import argparse
import contextlib
import difflib
import errno
import functools
import io
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import flags
from ml_collections import config_flags

from ucl_jax.errors import Stopped, UsageError


class _Unbroken(io.FileIO):
    """A standard stream that takes everything: what has no reader any more, or finds no room, is dropped.

    lost: why something was.
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


def unbroken_streams() -> None:
    """Lets a process outlive its terminal, its pipes and the disk that its output goes to.

    Streams that were closed lead nowhere, lest the next file that is opened takes their place and their text. Streams
    that somebody has replaced stay as they are.
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
        settings = {"encoding": "utf-8", "errors": "backslashreplace", "line_buffering": True}
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.flush()
            settings = {key: getattr(stream, key) for key in (*settings, "write_through")}
        raw = _Unbroken(descriptor, "w", closefd=False)
        setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), **settings))


def _output_lost() -> bool:
    """Whether standard output could not be written, which is told; a reader that left wanted no more."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    lost = raw.lost if isinstance(raw, _Unbroken) else None
    if lost is None or lost.errno in (errno.EPIPE, errno.EIO):  # EIO: a terminal that was closed
        return False
    warn(f"what was printed could not be written ({lost.strerror}); nothing else was lost")
    return True


def fail(message: object, code: int = 2) -> None:
    """Prints one line and exits."""
    print(f"error: {' '.join(str(message).split())}" if code == 2 else message, file=sys.stderr, flush=True)
    sys.exit(code)


def warn(message: object) -> None:
    """Prints one line about what went wrong and was got round."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr, flush=True)


def exit_codes(main: Callable) -> Callable:
    """`main`, with UsageError and Stopped as exit codes, and with `unbroken_streams`."""

    @functools.wraps(main)
    def wrapped(*arguments):
        unbroken_streams()
        try:
            result = main(*arguments)
            lost = _output_lost()
            return (result or int(lost)) if isinstance(result, int) else result
        except UsageError as error:
            fail(error)
        except Stopped as stopped:
            fail(stopped, 128 + stopped.signum)
        except KeyboardInterrupt:  # before there was anything to save
            fail("interrupted", 130)

    return wrapped


class StopRequest:
    """A context manager that remembers the first SIGINT, SIGTERM or SIGHUP, in `signum`.

    A second SIGINT or SIGTERM acts at once; a terminal that closes may send SIGHUP more than once. SIGHUP stays ignored
    where it is, as `nohup` wants it.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

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

    def _request(self, signum, frame):
        self.signum = signum
        for each in self._before:
            signal.signal(each, signal.SIG_IGN if each == signal.SIGHUP else signal.SIG_DFL)


def returns_exit_code(main: Callable[..., int]) -> Callable[..., int]:
    """As `exit_codes`, for a `main` that returns its exit code and does not leave the process."""

    @functools.wraps(main)
    def wrapped(*arguments):
        try:
            return exit_codes(main)(*arguments)
        except SystemExit as leaving:
            return leaving.code or 0

    return wrapped


class Parser(argparse.ArgumentParser):
    """Bad input is one line that names the program's help: UsageError, for `exit_codes`."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{message}; see {self.prog} --help")


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses absl flags with a config file in `--config`; returns what is left, as absl does."""
    unbroken_streams()
    recipe = _recipe(argv).partition(":")[0]
    given = any(argument.lstrip("-").partition("=")[0] == "config" for argument in argv if argument.startswith("-"))
    if given and not (recipe.endswith(".py") and pathlib.Path(recipe).is_file()):
        fail(f"there is no recipe {recipe!r}; recipes are the files of configs/, such as configs/lump.py")
    try:
        return flags.FLAGS(argv)
    except SystemExit as leaving:
        asked = {"--help", "-help", "--helpfull", "-helpfull", "--helpshort", "-helpshort", "-?"} & set(argv)
        sys.exit(0 if asked and leaving.code == 1 else leaving.code)  # absl leaves with 1 after help
    except (UsageError, flags.Error) as error:
        fail(error)
    except (AttributeError, KeyError, TypeError):
        if (message := _unknown_key(argv)) is None:
            raise
        fail(message)


def _recipe(argv: Sequence[str]) -> str:
    """The value of --config, given as --config=VALUE or --config VALUE."""
    for place, argument in enumerate(argv):
        name, equals, value = argument.lstrip("-").partition("=")
        if name == "config" and argument.startswith("-"):
            return value if equals else next(iter(argv[place + 1 :]), "")
    return ""


def _unknown_key(argv: Sequence[str]) -> str | None:
    """What is wrong with the first override that names no key of the recipe's tree."""
    values = flags.FlagValues()
    arguments = ["", f"--config={_recipe(argv)}"]
    holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    values(arguments)
    known = keys(holder.value.to_dict())
    for argument in argv:
        name = argument.lstrip("-").partition("=")[0]
        if name.startswith("config.") and (key := name.removeprefix("config.")) not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            return f"unknown key --config.{key}, did you mean --config.{near}? Every key is in configs/base.py"
    return None


def keys(tree: dict) -> list[str]:
    """The dotted names of all leaves of a nested dict."""
    from flax.traverse_util import flatten_dict  # heavy, and wanted only to explain an error

    return list(flatten_dict(tree, sep="."))
