"""Defines what a probe is: a measurement of a saved network, made after training and with settings of its own."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ucl_jax.probes.trained_run import TrainedRun

Settings = dict[str, Any]


def one_case(run: TrainedRun, settings: Settings) -> list[Settings]:
    """Returns the settings as they are: `Probe.cases` of a probe that makes one record."""
    return [settings]


class Probe(NamedTuple):
    """A probe: pure functions over a run. Its settings and their defaults are in `ucl_jax.settings`.

    Attributes:
      measure: run, after (the number of tasks that the network has learned; None if `whole_run`), settings -> the
        values of a record, as JSON.
      cases: run, settings -> the settings of each record to be made.
      whole_run: whether one record is about all networks of a run.
      needs_labels: whether it reads labels of the run's own images.
      depends_on: run, settings -> those values of a record that must still hold, such as which networks there are. If
        they differ from the saved ones, the record is made anew.
    """

    measure: Callable[[TrainedRun, Any, Settings], dict[str, Any]]
    cases: Callable[[TrainedRun, Settings], list[Settings]] = one_case
    whole_run: bool = False
    needs_labels: bool = False
    depends_on: Callable[[TrainedRun, Settings], dict[str, Any]] = lambda run, settings: {}


def each(*names: str) -> Callable[[TrainedRun, Settings], list[Settings]]:
    """Makes `Probe.cases` for settings that are lists: one case for each combination of their values.

    Args:
      *names: the names of these settings.
    """

    def cases(run, settings):
        choices = itertools.product(*(settings[name] for name in names))
        return [settings | dict(zip(names, choice)) for choice in choices]

    return cases


def accuracy(predicted: np.ndarray, label: np.ndarray) -> float:
    """Returns the accuracy in per cent of predictions int [N] of labels int [N]."""
    return 100.0 * int(np.sum(predicted == label)) / len(label)


def finite(value: float, digits: int = 6) -> float | None:
    """Returns a number rounded to `digits` decimal places; None if it is not finite, which JSON cannot hold."""
    return round(float(value), digits) if math.isfinite(value) else None
