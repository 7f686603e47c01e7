"""Puts the training examples of a run in the order in which they come.

The functions are pure. Whatever is random in them is fixed by a seed. A stream is made in these steps: parts of a
split (`parts_of`) with more of some classes than of others (`class_shares`), in random order (`shuffled`), in several
rounds (`in_rounds`), one after the other (`joined`), with blurred boundaries (`blurred`), each example several times in
a row (`in_runs`). No step but `class_shares` leaves out an example.
"""

import collections.abc
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.special

from ucl_jax.errors import argument_choice


class Sequence(NamedTuple):
    """Says which training example comes when.

    Attributes:
      index: int64 [N], places of training examples in the split, in the order in which they come.
      task: int32 [N], the task that each comes from.
    """

    index: np.ndarray  # type: ignore[assignment]  # the name of a method of tuples
    task: np.ndarray

    def at(self, places: np.ndarray | slice) -> "Sequence":
        """Returns the sequence of the examples at some places."""
        return Sequence(self.index[places], self.task[places])


def parts_of(order: str, size: int, parts: int, seed: int) -> np.ndarray:
    """Cuts `size` examples into parts of equal size, or as equal as can be.

    Args:
        order: "data" cuts them at random, "file" in the order in which they are stored.
        size: the number of examples.
        parts: the number of parts.
        seed: fixes the random parts.

    Returns:
        int64 [size], the part of each example.
    """
    in_turn = np.arange(size) * parts // size
    return np.random.default_rng(seed).permutation(in_turn) if order == "data" else in_turn


# Place of a class in [0, 1], from the largest to the smallest -> the power of 1/imbalance that is kept of it.
TAILS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "long_tail": lambda place: place,
    "step": lambda place: (place > 0.5).astype(float),
}


def class_shares(classes: int, imbalance: float, shape: str, seed: int) -> np.ndarray:
    """Returns which share of its images each class keeps: all for the largest, 1 / imbalance for the smallest.

    Args:
        classes: the number of classes C.
        imbalance: at least 1.
        shape: "long_tail": shares fall by the same factor from class to class (Cui et al. 2019). "step": one half of
            the classes is large and one half is small (Buda et al. 2018, SCALE); of an odd number one more is large.
        seed: fixes which classes are large.

    Returns:
        float [C], each in [1 / imbalance, 1].

    Raises:
        ValueError: `shape` is another word.
    """
    place = np.random.default_rng([seed, 0, 0, 0, 1]).permutation(classes) / max(classes - 1, 1)
    return float(imbalance) ** -argument_choice("imbalance_shape", shape, TAILS)(place)


def shuffled(part: Sequence, seed: int, number: int) -> Sequence:
    """Puts a task in random order: that of its first epoch in `tasks.batch_indices`, fixed by (seed, number)."""
    return part.at(np.random.default_rng([seed, number, 0]).permutation(len(part.index)))


def in_rounds(parts: collections.abc.Sequence[Sequence], rounds: int) -> list[Sequence]:
    """Cuts each task in `rounds` pieces, as equal as can be, and returns the first piece of each, then the second ...

    Each task has at least so many examples.
    """
    pieces = [np.array_split(np.arange(len(part.index)), rounds) for part in parts]
    return [part.at(cut[turn]) for turn in range(rounds) for part, cut in zip(parts, pieces)]


def joined(parts: collections.abc.Sequence[Sequence]) -> tuple[Sequence, np.ndarray]:
    """Puts L parts one after the other.

    Returns:
        The whole sequence, and int64 [L + 1], the place where each part starts, and at last the number of examples.
    """
    starts = np.cumsum([0, *(len(part.index) for part in parts)])
    return Sequence(*map(np.concatenate, zip(*parts))), starts


# The shape of a blur -> the probability that a place has an example of the other part: of its distance from the
# boundary, in widths of the zone, float [n] -> float [n]. With both, an eighth of the zone is exchanged.
BLURS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda distance: np.maximum(0.5 - distance, 0),
    "gaussian": lambda distance: scipy.special.ndtr(-8 / np.sqrt(2 * np.pi) * distance),
}


def blurred(sequence: Sequence, starts: np.ndarray, blur: float, shape: str, seed: int) -> Sequence:
    """Mixes neighbouring parts in a zone around the boundary between them.

    Two examples as far before the boundary as behind it are exchanged with a probability that falls from 1/2 with the
    distance. So it is a permutation, and all parts keep their sizes. A zone is `blur` times as wide as the smaller one
    of the two parts, and one half of it is on each side: `blur` is the share of a part that is in a zone.

    Args:
        sequence: N examples.
        starts: [L + 1], where each part starts, see `joined`.
        blur: in [0, 1]; 0 changes nothing.
        shape: "linear": the probability falls in a straight line to 0 at the edge of the zone. "gaussian": it falls as
            the tail of a normal distribution, which goes on beyond the edge, to the middle of the smaller part.
        seed: fixes what is exchanged.

    Raises:
        ValueError: `shape` is another word.
    """
    probability, rng = argument_choice("blur_shape", shape, BLURS), np.random.default_rng([seed, 0, 0, 0, 2])
    order, sizes = np.arange(len(sequence.index)), np.diff(starts)
    for boundary, smaller in zip(starts[1:-1], np.minimum(sizes[:-1], sizes[1:]) if blur else ()):
        distance = np.arange(smaller // 2)
        exchanged = distance[rng.random(len(distance)) < probability((distance + 0.5) / (blur * smaller))]
        before, behind = boundary - 1 - exchanged, boundary + exchanged
        order[before], order[behind] = order[behind], order[before]
    return sequence.at(order)


def in_runs(sequence: Sequence, length: int) -> Sequence:
    """Returns the sequence with every example `length` times in a row."""
    return Sequence(np.repeat(sequence.index, length), np.repeat(sequence.task, length))


def counts_over_time(kinds: np.ndarray, number: int, windows: int) -> np.ndarray:
    """Counts what comes when.

    Args:
        kinds: int [N], in [0, number): the class or the task of each example, in the order in which they come.
        number: the number K of classes or tasks.
        windows: the stream is cut in so many windows W of equal length, but in at most N.

    Returns:
        int64 [W, K], how many examples of each window are of each kind.
    """
    windows = min(windows, len(kinds))
    window = np.arange(len(kinds)) * windows // len(kinds)
    return np.bincount(window * number + kinds, minlength=windows * number).reshape(windows, number)
