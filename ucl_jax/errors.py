"""Defines the exceptions that end a command with a message and an exit code, and checks that raise them.

UsageError is for what a person can put right. A function that is given values raises ValueError, which names its own
argument. The place that read the config, the command line or the file turns it into a UsageError that names the key or
the file (`usage_errors`). Other exceptions are faults of the program.
"""

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class UsageError(Exception):
    """Something that a person can put right: bad input, missing data, a full disk, a run that diverged.

    Its message is one line that says what is wrong and what to do. Commands exit with code 2.
    """


def user_choice(what: str, value: str, options: Mapping[str, T], beside: str = "") -> T:
    """Returns `options[value]`, for a value that a person gave.

    Args:
      what: what the value is, for the message, such as "benchmark".
      value: the key.
      options: what there is to choose from.
      beside: words that follow the list of options in the message, about what else could be given.

    Raises:
      UsageError: there is no such option; it lists the options, and names the most similar one.
    """
    if value not in options:
        near = difflib.get_close_matches(str(value), options, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ";"
        raise UsageError(f"unknown {what} {value!r}{hint} known: {', '.join(options)}{beside}")
    return options[value]


def argument_choice(name: str, value: str, options: Mapping[str, T]) -> T:
    """Returns `options[value]`, for the argument `name` of a function.

    Raises:
      ValueError: there is no such option; it names the argument and lists the options.
    """
    check_word(name, value, options)
    return options[value]


def check_word(name: str, value: str, words: Iterable[str]) -> None:
    """Raises ValueError, which lists `words`, unless `value` of the argument `name` of a function is one of them."""
    words = tuple(words)
    if value not in words:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(words)}")


def check_argument(condition: bool, message: str) -> None:
    """Raises ValueError with `message` unless `condition`, which an argument of a function must meet, is true."""
    if not condition:
        raise ValueError(message)


def require(condition: bool, message: str) -> None:
    """Raises UsageError with `message` unless `condition`, which a person can meet, is true."""
    if not condition:
        raise UsageError(message)


@contextlib.contextmanager
def usage_errors(prefix: str = "", advice: str = "") -> Iterator[None]:
    """Turns a ValueError of the block into a UsageError: `prefix`, the message of the ValueError, and `advice`.

    Args:
      prefix: says where the values of the block come from. With "config.train." a message "devices is 5, ..." becomes
        "config.train.devices is 5, ...".
      advice: says what to do. It follows a semicolon.
    """
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{prefix}{error}" + (f"; {advice}" if advice else "")) from error


class Stopped(Exception):
    """A signal stopped a run, after the run was saved; commands exit with 128 + `signum`.

    Attributes:
      signum: the number of the signal.
    """

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum
