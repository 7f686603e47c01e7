"""What a probe is: a judgement of a saved network, made afterwards, as often as one likes."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ucl_jax.subject import Subject

Settings = dict[str, Any]


def one_case(subject: Subject, settings: Settings) -> list[Settings]:
    """The settings as they are."""
    return [settings]


class Probe(NamedTuple):
    """A record of functions over a run.

    settings: every setting with its default; a tuple is a list of values.
    measure: subject, tasks learned by the network (None for a probe of the whole run), settings -> values, as JSON.
    cases: subject, settings -> the settings of each record to be made.
    whole: whether it looks at all networks of a run together.
    """

    settings: Settings
    measure: Callable[[Subject, int | None, Settings], dict[str, Any]]
    cases: Callable[[Subject, Settings], list[Settings]] = one_case
    whole: bool = False


def each(*names: str) -> Callable[[Subject, Settings], list[Settings]]:
    """`Probe.cases` for settings that are lists, of which each value is a case of its own."""

    def cases(subject, settings):
        choices = itertools.product(*(_listed(settings[name]) for name in names))
        return [settings | dict(zip(names, choice)) for choice in choices]

    return cases


def _listed(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def accuracy(predicted: np.ndarray, label: np.ndarray) -> float:
    """Per cent of [N] predictions that are right."""
    return 100.0 * int(np.sum(predicted == label)) / len(label)
