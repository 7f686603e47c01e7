"""What a probe is: a judgement of a saved network, made afterwards, as often as one likes."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ucl_jax.probes.trained_run import TrainedRun

Settings = dict[str, Any]


def one_case(run: TrainedRun, settings: Settings) -> list[Settings]:
    """The settings as they are."""
    return [settings]


class Probe(NamedTuple):
    """A record of functions over a run.

    settings: every setting with its default; a tuple is a list of values. `ucl_jax.settings` has their ranges.
    measure: run, tasks learned by the network (int, or None for a probe of the whole run), settings -> values, as
      JSON.
    cases: run, settings -> the settings of each record to be made.
    whole: whether it looks at all networks of a run together.
    made_of: run, settings -> those of the values that tell of what a record was made: where they are others now, it
      is made anew.
    """

    settings: Settings
    measure: Callable[[TrainedRun, Any, Settings], dict[str, Any]]
    cases: Callable[[TrainedRun, Settings], list[Settings]] = one_case
    whole: bool = False
    made_of: Callable[[TrainedRun, Settings], dict[str, Any]] = lambda run, settings: {}


def each(*names: str) -> Callable[[TrainedRun, Settings], list[Settings]]:
    """`Probe.cases` for settings that are lists, of which each value is a case of its own."""

    def cases(run, settings):
        choices = itertools.product(*(settings[name] for name in names))
        return [settings | dict(zip(names, choice)) for choice in choices]

    return cases


def accuracy(predicted: np.ndarray, label: np.ndarray) -> float:
    """Per cent of [N] predictions that are right."""
    return 100.0 * int(np.sum(predicted == label)) / len(label)


def finite(value: float, digits: int = 6) -> float | None:
    """A number as JSON holds it, rounded; None for what is no finite number."""
    return round(float(value), digits) if math.isfinite(value) else None
