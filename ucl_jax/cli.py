"""What all commands share: flags and configs, messages, exit codes, signals and output streams.

Bad input ends a command with one line on standard error and exit code 2. Signal n ends it with exit code 128 + n.
"""

import argparse
import contextlib
import difflib
import errno
import functools
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

from ucl_jax import settings
from ucl_jax.errors import Stopped, UsageError, require


class _LossyStream(io.FileIO):
    """A standard stream whose writes never fail: output is dropped if its reader has left or the disk is full.

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


def fail(message: object, code: int = 2) -> NoReturn:
    """Prints a message on standard error, in one line if `code` is 2, and leaves the process with exit code `code`."""
    print(f"error: {' '.join(str(message).split())}" if code == 2 else message, file=sys.stderr, flush=True)
    sys.exit(code)


def warn(message: object) -> None:
    """Prints one line on standard error about something that went wrong but does not end the command."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr, flush=True)


def exit_codes(main: Callable) -> Callable:
    """Decorates the `main` of a command: protects its streams, and turns its exceptions into exit codes.

    UsageError, and a file name that is too long for the disk, become one line and exit code 2; Stopped and
    KeyboardInterrupt become 128 + the number of the signal. The exit code is 1 if standard output could not be written.
    """

    @functools.wraps(main)
    def wrapped(*arguments):
        protect_streams()
        try:
            result = main(*arguments)
            lost = _output_lost()
            return (result or int(lost)) if isinstance(result, int) else result
        except UsageError as error:
            fail(error)
        except Stopped as stopped:
            fail(stopped, 128 + stopped.signum)
        except KeyboardInterrupt:  # it came before there was anything to save
            fail("interrupted", 130)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            fail(f"{error.filename}: {error.strerror}; give a shorter name")

    return wrapped


class StopRequest:
    """A context manager that remembers a first SIGINT, SIGTERM or SIGHUP instead of ending the process.

    A second SIGINT or SIGTERM ends the process at once. Further SIGHUPs are ignored, because a closing terminal may
    send several. If SIGHUP was ignored from the start, as under `nohup`, it stays so.

    signum: the number of the signal that came, or None.
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
        """Handles a signal: remembers it, and lets the next one act."""
        self.signum = signum
        for each in self._before:
            signal.signal(each, signal.SIG_IGN if each == signal.SIGHUP else signal.SIG_DFL)


def returns_exit_code(main: Callable[..., int]) -> Callable[..., int]:
    """Decorates `main` as `exit_codes` does, but returns the exit code instead of leaving the process."""

    @functools.wraps(main)
    def wrapped(*arguments):
        try:
            return exit_codes(main)(*arguments)
        except SystemExit as leaving:
            return int(leaving.code or 0)

    return wrapped


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError for bad input, with a hint at --help, instead of exiting."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError with `message`."""
        raise UsageError(f"{message}; see {self.prog} --help")


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses absl flags, among them a recipe in `--config`, and checks its config.

    It leaves the process with exit code 2 and one line on standard error if anything is wrong.

    Args:
      argv: the name of the program and its arguments.

    Returns:
      The name of the program and the arguments that are not flags, as absl returns them.
    """
    protect_streams()
    try:
        return _parse(argv, flags.FLAGS)
    except SystemExit as leaving:
        wants_help = {"--help", "-help", "--helpfull", "-helpfull", "--helpshort", "-helpshort", "-?"} & set(argv)
        sys.exit(0 if wants_help and leaving.code == 1 else leaving.code)  # absl exits with 1 after help
    except UsageError as error:
        fail(error)


def read_config(arguments: Sequence[str]) -> ConfigDict:
    """Returns the checked config tree of arguments of `launch.py`: --config=RECIPE, --config.KEY=VALUE.

    Raises:
      UsageError: there is no such recipe or key, or a value has the wrong type or is out of its range.
    """
    argv = ["launch.py", *arguments]
    values, holder = _config_flag(argv)
    _parse(argv, values)
    return holder.value


def config_lines(config: ConfigDict) -> list[str]:
    """Returns one line `key = value` for each key of a config tree, in the order of the tree."""
    return [f"{key} = {value!r}" for key, value in settings.flatten(config.to_dict()).items()]


def difference_lines(config: ConfigDict, other: ConfigDict) -> list[str]:
    """Returns the lines of a table of the keys in which two config trees differ, with the value in each."""

    def cell(value):
        return "(no such key)" if value is None else repr(value)

    found = settings.differences(config, other)
    if not found:
        return ["nothing differs"]
    rows = [("key", "--config", "--diff"), *((key, cell(here), cell(there)) for key, (here, there) in found.items())]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def origin(argv: Sequence[str], config: ConfigDict) -> tuple[str, dict[str, Any]]:
    """Returns where the config of a run comes from: the argument of its recipe, and its overrides.

    Args:
      argv: the name of the program and its arguments, with --config=RECIPE:ARGUMENT.
      config: the config tree of the run.

    Returns:
      The argument, "" if there is none; and "section.key" -> value, as JSON has it, for each key in which `config`
      differs from the recipe with that argument.
    """
    recipe = _recipe(argv)
    given, default = (json.loads(tree.to_json()) for tree in (config, read_config([f"--config={recipe}"])))
    values = settings.flatten(given)
    overrides = {key: values[key] for key in settings.differences(given, default)}
    return recipe.partition(":")[2], overrides


def _config_flag(argv: Sequence[str]) -> tuple[flags.FlagValues, flags.FlagHolder]:
    """Defines the flag --config, for `argv`, in flag values of its own; returns these and the holder of the flag."""
    # ml_collections executes a file in the same module as the file before. Without this, the get_config of the earlier
    # file would serve for a file that has none.
    sys.modules.pop("config_config", None)
    values = flags.FlagValues()
    return values, config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=list(argv))


def _parse(argv: Sequence[str], values: flags.FlagValues) -> list[str]:
    """Parses `argv` into `values` and checks the config; returns what is left; raises UsageError for bad input."""
    recipe = _recipe(argv)
    file = recipe.partition(":")[0]
    given = "config" in dict(_given(argv))
    require(
        not given or (file.endswith(".py") and os.path.isfile(file)),
        f"there is no recipe {settings.shown(file)}; recipes are the files of configs/, such as configs/lump.py",
    )
    try:
        left = values(argv)
    except UsageError:
        raise
    except Exception as error:  # ml_collections and Python's parser raise many types for malformed values
        _explain(argv, recipe)
        if isinstance(error, flags.Error):
            raise UsageError(str(error)) from error
        raise
    if given:
        settings.check(values["config"].value)
    return left


def _recipe(argv: Sequence[str]) -> str:
    """Returns the value of --config, given as --config=VALUE or --config VALUE, or "" if there is none."""
    return next((value for name, value in _given(argv) if name == "config"), None) or ""


def _given(argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yields name and value of each flag, given as --NAME=VALUE or --NAME VALUE; the value is None if it has none."""
    for argument, following in zip(argv, [*argv[1:], "-"]):
        if argument.startswith("-"):
            name, equals, value = argument.lstrip("-").partition("=")
            yield name, value if equals else None if following.startswith("-") else following


def _explain(argv: Sequence[str], recipe: str) -> None:
    """Raises UsageError if the recipe cannot be read, or for the first override that cannot be parsed by itself."""
    try:
        values, holder = _config_flag(alone := ["", f"--config={recipe}"])
        values(alone)
        config = holder.value.to_dict()
    except Exception as error:
        raise UsageError(
            f"{recipe.partition(':')[0]} is not a recipe ({type(error).__name__}); see configs/"
        ) from error
    settings.check(config)
    known = settings.table(config["objective"]["name"], config["method"]["name"])
    for name, value in _given(argv):
        key = name.removeprefix("no").removeprefix("config.")
        if not name.removeprefix("no").startswith("config.") or (key in known and _parses(recipe, key, value)):
            continue
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise UsageError(
                f"unknown key {settings.shown(f'--config.{key}')}, did you mean --config.{near}? "
                "Every key is shown by --print_config"
            )
        require(value is not None, f"--config.{key} has no value; it must be {known[key].wanted}")
        settings.check_value(f"config.{key}", known[key], value)


def _parses(recipe: str, key: str, value: str | None) -> bool:
    """Tells whether an override can be parsed when it is the only one."""
    argv = ["", f"--config={recipe}", f"--config.{key}" if value is None else f"--config.{key}={value}"]
    values, _ = _config_flag(argv)
    try:
        values(argv)
    except Exception:
        return False
    return True
