"""Plans a run: which examples it trains on when, when its method is told of a new task, and when it is evaluated."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ucl_jax.errors import argument_choice, check_argument
from ucl_jax.settings import INT32_MAX


class Period(NamedTuple):
    """Holds what a method is told of as one task: the time between `begin_task` and `end_task`.

    Attributes:
      part: the examples that are trained on, as a part of the sequence of the stream.
      start: the first step, counted over the whole run.
      steps: the number of steps, a multiple of `epoch_steps`.
      epoch_steps: the number of steps of one pass over the part.
      batch_size: the images in a batch.
    """

    part: slice
    start: int
    steps: int
    epoch_steps: int
    batch_size: int

    @property
    def size(self) -> int:
        """Returns the number of examples."""
        return self.part.stop - self.part.start

    @property
    def end(self) -> int:
        """Returns the steps of the run that are done when the period is over."""
        return self.start + self.steps

    def epoch(self, step: int) -> int:
        """Returns the epoch of the period, from 0, in which the last of `step` steps of the run was made."""
        return (step - 1 - self.start) // self.epoch_steps


class Leg(NamedTuple):
    """Holds a stretch of a run, after which it is evaluated, or its period ends, or both.

    Attributes:
      period: the number of the period that it lies in, from 0.
      end: the steps of the run that are done after it.
      evaluated: whether the network is evaluated after it, which gives a row of each accuracy matrix.
    """

    period: int
    end: int
    evaluated: bool


class Schedule(NamedTuple):
    """Holds the plan of a run.

    Attributes:
      periods: one after the other.
      legs: one after the other; each period has one or more.
      updates_per_batch: the steps that are made on each batch, one after the other.
      in_order: whether the examples of a period come in the order of the sequence, and not in a random order.
      steps_per_call: the steps that the devices make in one call.
    """

    periods: tuple[Period, ...]
    legs: tuple[Leg, ...]
    updates_per_batch: int = 1
    in_order: bool = False
    steps_per_call: int = 1

    @property
    def total(self) -> int:
        """Returns the number of steps of the whole run."""
        return self.periods[-1].end

    @property
    def rows(self) -> list[Leg]:
        """Returns the legs after which the network is evaluated, one for each row of an accuracy matrix."""
        return [leg for leg in self.legs if leg.evaluated]

    def place(self, step: int, period: int) -> tuple[int, int]:
        """Returns the epoch of a period, and the batch of that epoch, both from 0, of the step after `step` steps."""
        epoch, step_of_epoch = divmod(step - self.periods[period].start, self.periods[period].epoch_steps)
        return epoch, step_of_epoch // self.updates_per_batch

    def images_seen(self, leg: Leg) -> int:
        """Returns how many images of the stream were shown until the end of a leg: the sum of the sizes of batches.

        Several updates on a batch count it once. Where the images come in order, each counts once: a last batch is
        filled up with some of the one before.
        """
        shown = [(one, steps // self.updates_per_batch * one.batch_size) for one, steps in self._done(leg)]
        return sum(min(images, one.size) if self.in_order else images for one, images in shown)

    def gradient_samples(self, leg: Leg, samples: Callable[[int], int]) -> int:
        """Returns of how many images gradients were taken until the end of a leg, if a step takes `samples(images)`."""
        return sum(steps * samples(one.batch_size) for one, steps in self._done(leg))

    def _done(self, leg: Leg) -> list[tuple[Period, int]]:
        """Returns the periods until the end of a leg, and how many steps of each are done by then."""
        return [(one, min(leg.end, one.end) - one.start) for one in self.periods[: leg.period + 1]]

    def reached(self, leg: Leg) -> int:
        """Returns how many examples of the sequence were within reach of training until the end of a leg.

        Where a period has its examples in random order, all of them are within reach from its start.
        """
        period = self.periods[leg.period]
        shown = (leg.end - period.start) // self.updates_per_batch * period.batch_size
        return min(period.part.start + shown, period.part.stop) if self.in_order else period.part.stop


def period_sizes(sizes: Sequence[int], boundaries: str, snapshot_every: int = 0) -> list[int]:
    """Cuts the examples of a stream into periods.

    Args:
      sizes: the number of examples of each training task.
      boundaries: "known": each training task is a period. "hidden": all of them together are one.
      snapshot_every: with hidden boundaries, a new period begins after so many examples; 0 for never.

    Returns:
      The number of examples of each period.

    Raises:
      ValueError: `boundaries` is another word.
    """
    total = sum(sizes)
    every = snapshot_every or total
    hidden = lambda: [min(every, total - start) for start in range(0, total, every)]  # noqa: E731
    return argument_choice("boundaries", boundaries, {"known": lambda: list(sizes), "hidden": hidden})()


def make_schedule(
    sizes: Sequence[int],
    epochs: int,
    batch_size: int,
    last_batch: str = "fill",
    steps_per_call: int = 1,
    *,
    updates_per_batch: int = 1,
    in_order: bool = False,
    evaluate_every: int = 0,
) -> Schedule:
    """Plans a run.

    A period that is smaller than a batch is one batch of its own size, so that no image is in a batch twice.

    Args:
      sizes: the number of training images of each period.
      epochs: passes over each period.
      batch_size: images in a batch, over all devices.
      last_batch: what becomes of a last batch that is not full. "fill": an epoch of a period has
        ceil(size / batch_size) batches, and the last one is filled up. "drop": it has floor(size / batch_size), but at
        least one.
      steps_per_call: the steps that the devices make in one call, at least 1.
      updates_per_batch: the steps that are made on each batch, at least 1.
      in_order: see `Schedule`.
      evaluate_every: the network is evaluated whenever so many more images were shown, after the batch that has the
        last of them, and at the end of the run. 0 evaluates it at the end of each period. -N evaluates it N times, at
        equal distances of images.

    Raises:
      ValueError: there are more steps than a run can count.
    """
    counts = {"fill": lambda size: -(-size // batch_size), "drop": lambda size: max(size // batch_size, 1)}
    epoch_steps = [updates_per_batch * n for n in map(argument_choice("last_batch", last_batch, counts), sizes)]
    starts = [0, *itertools.accumulate(epochs * steps for steps in epoch_steps)]
    check_argument(
        starts[-1] <= INT32_MAX,
        f"epochs is {epochs}: a run of {starts[-1]} steps cannot be counted; give at most {INT32_MAX} steps",
    )
    places = [0, *itertools.accumulate(sizes)]
    periods = tuple(
        Period(slice(*part), start, epochs * steps, steps, min(size, batch_size))
        for part, start, steps, size in zip(itertools.pairwise(places), starts, epoch_steps, sizes)
    )
    images_of = [period.steps // updates_per_batch * period.batch_size for period in periods]
    if evaluate_every < 0:
        evaluate_every = -(-sum(images_of) // -evaluate_every)
    legs, shown = [], 0
    for number, (period, images) in enumerate(zip(periods, images_of)):
        # Which of the period's images are followed by an evaluation.
        due = range(-shown % evaluate_every or evaluate_every, images + 1, evaluate_every) if evaluate_every else ()
        ends = {period.start - image // -period.batch_size * updates_per_batch: True for image in due}
        ends.setdefault(period.end, not evaluate_every or number == len(periods) - 1)
        legs += [Leg(number, end, evaluated) for end, evaluated in ends.items()]
        shown += images
    return Schedule(periods, tuple(legs), updates_per_batch, in_order, steps_per_call)
