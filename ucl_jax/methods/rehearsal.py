"""What rehearsal methods share: a buffer of examples, each with whatever the method keeps beside it."""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ucl_jax.buffers import BUFFERS, BufferState, Offer, Recalled
from ucl_jax.buffers.base import capacity, write
from ucl_jax.errors import argument_choice, check_argument
from ucl_jax.methods.base import Step
from ucl_jax.objectives import Objective
from ucl_jax.types import Array, Batch, How, Keys, Outputs, Params, PyTree, Variables, Views


class Item(NamedTuple):
    """Holds S stored examples.

    Attributes:
      batch: leaves [S, ...].
      kept: what the method keeps beside each example, leaves [S, ...]; () for nothing.
      task: int32 [S], the number of the task that each came in.
    """

    batch: Batch
    kept: PyTree
    task: Array


class Rehearsed(flax.struct.PyTreeNode):
    """The memory of a rehearsal method.

    Attributes:
      buffer: its items are an `Item`.
      task: int32 [], the number of the task that is being learned.
    """

    buffer: BufferState
    task: Array


class Rehearsal(NamedTuple):
    """Holds the fields of a `Method` that rehearsal methods share, and three functions that their losses use.

    Attributes:
      init: key, a batch, the network -> no parameters, and an empty memory.
      recall: see `Method`. It draws from the slots that may be replayed.
      observe: see `Method`. It refreshes what is kept beside the recalled examples. After the last update on a batch,
        it then offers the batch to the buffer.
      end_task: see `Method`.
      stored: see `Method`.
      needs_boundaries: see `Method`; only where examples of the present task are not replayed.
      draw: memory, key, n -> n stored examples, of all slots, whether they may be replayed or not.
      filled: memory -> bool [S], the slots that hold an example.
      has_past: memory -> bool [], whether there are enough examples that may be replayed.
    """

    init: Callable[[Array, Batch, Variables], tuple[tuple, Rehearsed]]
    recall: Callable[[Rehearsed, Array, int], Recalled]
    observe: Callable[[Rehearsed, Step, Array], Rehearsed]
    end_task: Callable[[Params, Rehearsed, Variables], tuple[Params, Rehearsed]]
    stored: Callable[[Rehearsed], tuple[Batch, Array]]
    needs_boundaries: str
    draw: Callable[[Rehearsed, Array, int], Recalled]
    filled: Callable[[Rehearsed], Array]
    has_past: Callable[[Rehearsed], Array]


REPLAYED = {
    "buffer": lambda memory: jnp.ones_like(memory.buffer.items.task, bool),
    "past_tasks": lambda memory: memory.buffer.items.task < memory.task,
}
NEEDS_PAST_TASKS = "replays examples of past tasks only (method.replay_from=past_tasks)"
COUNTED = {"presentations": lambda batch: jnp.ones_like(batch.first), "examples": lambda batch: batch.first}


def rehearsal(
    buffer_size: int,
    *,
    policy: str,
    tasks: int,
    replay_from: str = "buffer",
    count: str = "presentations",
    keep: Callable[[Batch, Variables], PyTree] = lambda batch, network: (),
    score: Callable[[Outputs], tuple[PyTree, Array]] | None = None,
    refresh: Callable[[PyTree, PyTree], PyTree] | None = None,
    more_than: int = 0,
) -> Rehearsal:
    """Makes a memory with a buffer. `observe` offers it every batch, with the outputs of the loss beside it.

    Args:
      buffer_size: slots, at least 1; 256 in the paper.
      policy: a name of `BUFFERS`.
      tasks: the number of tasks; only "equal_share" reads it.
      replay_from: "buffer" replays all stored examples, from the second batch of a run on; "past_tasks" only those of
        earlier tasks.
      count: "presentations" offers an image to the buffer each time it is shown; "examples" only the first time.
        Several updates on a batch show it once.
      keep: a batch, the network -> a tree with the shapes and dtypes of what is kept beside the examples.
      score: outputs of the loss -> what is kept, and scores float32 [B] by which the policy chooses. None keeps the
        outputs, and gives all the score 0.
      refresh: what is kept beside the recalled examples, what the loss says about them -> what is kept from now on,
        leaves [n, ...]. The outputs of the loss are then a pair: of the batch, and of the recalled examples. None
        leaves what is kept as it was stored.
      more_than: the past is replayed once more examples than this may be; below `buffer_size`.

    Raises:
      ValueError: `policy`, `replay_from` or `count` has an unknown value, or `buffer_size` is too small.
    """
    check_argument(
        buffer_size > more_than,
        f"buffer_size is {buffer_size}, but examples are replayed once more than {more_than} are stored, which is a "
        "batch; take more slots, or smaller batches",
    )
    replayed = argument_choice("replay_from", replay_from, REPLAYED)
    eligible = argument_choice("count", count, COUNTED)
    buffer = argument_choice("policy", policy, BUFFERS)(buffer_size, tasks)

    def allowed(memory):
        return buffer.filled(memory.buffer) & replayed(memory)

    def has_past(memory):
        return jnp.sum(allowed(memory)) > more_than

    def item(batch, kept, task):
        return Item(batch=batch, kept=kept, task=jnp.full(batch.label.shape, task))

    def init(key, batch, network):
        task = jnp.zeros((), jnp.int32)
        kept = jax.eval_shape(keep, batch, network)
        return (), Rehearsed(buffer=buffer.init(item(batch, kept, task)), task=task)

    def recall(memory, key, n):
        return buffer.sample(memory.buffer, key, n, allowed(memory))

    def observe(memory, step, key):
        stored, outputs = memory.buffer, step.outputs
        if refresh is not None:
            outputs, past = outputs
            kept = refresh(step.recalled.items.kept, past)
            slot = jnp.where(has_past(memory), step.recalled.slot, capacity(stored))
            stored = stored.replace(items=stored.items._replace(kept=write(stored.items.kept, kept, slot)))
        kept, scores = (outputs, jnp.zeros(step.batch.label.shape)) if score is None else score(outputs)
        offer = Offer(
            items=item(step.batch, kept, memory.task),
            eligible=eligible(step.batch) & step.last,
            task=memory.task,
            score=scores,
            kept=stored.items.kept,
        )
        return memory.replace(buffer=buffer.add(stored, key, offer))

    def end_task(own, memory, network):
        return own, memory.replace(task=memory.task + 1)

    def stored(memory):
        return memory.buffer.items.batch, buffer.filled(memory.buffer)

    return Rehearsal(
        init=init,
        recall=recall,
        observe=observe,
        end_task=end_task,
        stored=stored,
        needs_boundaries=NEEDS_PAST_TASKS if replay_from == "past_tasks" else "",
        draw=lambda memory, key, n: buffer.sample(memory.buffer, key, n, buffer.filled(memory.buffer)),
        filled=lambda memory: buffer.filled(memory.buffer),
        has_past=has_past,
    )


def replaying_loss(objective: Objective, store: Rehearsal, replay_view: str) -> Callable:
    """Makes a `Method.loss`: the objective on present and past in one batch.

    Args:
      objective: what is learned.
      store: the functions of the buffer.
      replay_view: "strong" augments stored examples as present ones; "weak" less, as the official code does for
        supervised objectives.

    Raises:
      ValueError: `replay_view` has an unknown value.
    """
    views = joined_views(objective, store, argument_choice("replay_view", replay_view, REPLAY_VIEWS))

    def loss(params, state, memory, batch, recalled, keys, clock):
        together = views(memory, batch, recalled, keys)
        value, aux = objective.loss(Variables(params.network, state), together, clock)
        return value, aux._replace(outputs=())

    return loss


def joined_views(
    objective: Objective, store: Rehearsal, how: How
) -> Callable[[Rehearsed, Batch, Recalled, Keys], Views]:
    """Makes the views of present and past in one batch: the memory, B present examples, n of the past, keys -> views.

    The first B rows are of the present, the n after them of the past. While there is no past, the batch has the present
    again in its place.

    Args:
      objective: makes the views.
      store: the functions of the buffer.
      how: how the past is shown, see `Objective.views`.
    """

    def views(memory, batch, recalled, keys):
        present = objective.views(keys.example, batch, "present")
        past = objective.views(keys.past, recalled.items.batch, how)
        past = past_or_present(past, stand_in(present, len(recalled.slot)), store.has_past(memory))
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), present, past)

    return views


# `replay_view` -> the word for `Objective.views`.
REPLAY_VIEWS: dict[str, How] = {"strong": "present", "weak": "weak"}


def replayed_rows(count: int, share: float) -> np.ndarray:
    """Returns which rows of a batch have a stored example: places in the batch, evenly spread, int [n].

    Whole periods of the rows look alike, see `replay_period`. So a batch that is split over devices has the same ones,
    if each device's part is a whole number of periods.

    Args:
      count: rows of the batch.
      share: in (0, 1]; n is this part of `count`, rounded down, and at least 1. It is taken as a fraction with at most
        1024 parts.
    """
    part = _fraction(share)
    edges = np.arange(count + 1) * part.numerator // part.denominator
    return np.flatnonzero(np.diff(edges)) if edges[-1] else np.zeros(1, int)


def replay_period(share: float) -> int:
    """Returns after how many rows `replayed_rows` repeats itself: 4 with share 3/4, where 3 of each 4 are replayed."""
    return _fraction(share).denominator


def _fraction(share: float) -> Fraction:
    """Returns a share as a fraction with at most 1024 parts."""
    return Fraction(share).limit_denominator(1024)


def replay_on_rows(store: Rehearsal, memory: Rehearsed, key: Array, count: int, share: float) -> Recalled:
    """Recalls an example for each of the `replayed_rows` of a batch: leaves [count, ...]. Other rows are unused.

    Args:
      store: the functions of the buffer.
      memory: of the store.
      key: random key.
      count: rows of the global batch.
      share: see `replayed_rows`.
    """
    rows = replayed_rows(count, share)
    place = np.maximum(np.searchsorted(rows, np.arange(count), side="right") - 1, 0)
    return jax.tree.map(lambda x: x[place], store.recall(memory, key, len(rows)))


def stand_in(present: PyTree, n: int) -> PyTree:
    """Returns n rows of a tree with leaves [B, ...], evenly spread, for use in place of the past.

    If batch and past are split over devices, the rows of each device are those that it has.
    """

    def rows(x):
        return x if len(x) == n else x[np.arange(n) * len(x) // n]

    return jax.tree.map(rows, present)


def past_or_present(past: PyTree, present: PyTree, anything: Array) -> PyTree:
    """Returns a tree that comes of the past, or its counterpart of the present while there is no past.

    So no update comes from empty images.

    Args:
      past: views, statistics or gradients.
      present: a tree of the same structure and shapes.
      anything: bool [], whether there is a past.
    """
    return jax.tree.map(lambda x, y: jnp.where(anything, x, y), past, present)
