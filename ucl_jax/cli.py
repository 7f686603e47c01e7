"""The command line's manners: one clear line and exit code 2 for bad input, 128 + n after signal n."""

import argparse
import difflib
import errno
import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import flags
from ml_collections import config_flags

from ucl_jax.errors import Stopped, UsageError


def fail(message: object, code: int = 2) -> None:
    """Prints one line and exits."""
    print(f"error: {' '.join(str(message).split())}" if code == 2 else message, file=sys.stderr, flush=True)
    sys.exit(code)


def exit_codes(main: Callable) -> Callable:
    """`main`, with UsageError, Stopped and names that are too long for the file system as exit codes."""

    @functools.wraps(main)
    def wrapped(*arguments):
        try:
            return main(*arguments)
        except UsageError as error:
            fail(error)
        except Stopped as stopped:
            fail(stopped, 128 + stopped.signum)
        except KeyboardInterrupt:  # before there was anything to save
            fail("interrupted", 130)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            fail(f"{error.filename}: {error.strerror}; give a shorter name")

    return wrapped


class StopRequest:
    """A context manager that remembers the first SIGINT or SIGTERM, in `signum`; a second one acts at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signum: int | None = None

    def __enter__(self) -> "StopRequest":
        self._before = {signum: signal.signal(signum, self._request) for signum in self.SIGNALS}
        return self

    def __exit__(self, *exception) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _request(self, signum, frame):
        self.signum = signum
        for each in self.SIGNALS:
            signal.signal(each, signal.SIG_DFL)


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
    recipe = _recipe(argv).partition(":")[0]
    given = any(argument.lstrip("-").partition("=")[0] == "config" for argument in argv if argument.startswith("-"))
    if given and not (recipe.endswith(".py") and os.path.isfile(recipe)):
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
