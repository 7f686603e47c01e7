"""Puts the training examples of a run in the order in which they come."""

import collections.abc
from typing import NamedTuple

import numpy as np


class Sequence(NamedTuple):
    """Says which training example comes when.

    index: int64 [N], places of training examples in the split, in the order in which they come.
    task: int32 [N], the task that each comes from.
    """

    index: np.ndarray  # type: ignore[assignment]  # the name of a method of tuples
    task: np.ndarray


def in_turn(indices: collections.abc.Sequence[np.ndarray]) -> Sequence:
    """Puts all tasks one after the other; `indices` has the places int [n] of the examples of each."""
    task = np.repeat(np.arange(len(indices), dtype=np.int32), [*map(len, indices)])
    return Sequence(np.concatenate(indices).astype(np.int64), task)
