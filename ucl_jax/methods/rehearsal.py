"""What rehearsal methods share: a buffer of examples, each with what the method keeps beside it."""

from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.buffers import reservoir
from ucl_jax.errors import choose
from ucl_jax.objectives import Objective
from ucl_jax.types import Array, Batch, PyTree


class Item(NamedTuple):
    """Stored examples, what is kept beside them (leaves [S, ...]), and the tasks they came in, int32 [S]."""

    batch: Batch
    kept: PyTree
    task: Array


@flax.struct.dataclass
class Memory:
    """The buffer of Items, and the number of the task being learned."""

    buffer: reservoir.Reservoir
    task: Array


class Rehearsal(NamedTuple):
    """The functions of a `Method` that are the same for all of them, and two for their losses.

    allowed: memory -> bool [S], the slots that are replayed from.
    any: memory -> bool [], whether there is anything to replay.
    """

    init: Callable
    recall: Callable
    observe: Callable
    end_task: Callable
    stored: Callable
    allowed: Callable[[Memory], Array]
    any: Callable[[Memory], Array]

    @property
    def parts(self) -> dict[str, Callable]:
        """For `Method(loss=..., **parts)`."""
        return {name: getattr(self, name) for name in ("init", "recall", "observe", "end_task", "stored")}


REPLAYED = {
    "buffer": lambda memory: reservoir.filled(memory.buffer),
    "past_tasks": lambda memory: reservoir.filled(memory.buffer) & (memory.buffer.items.task < memory.task),
}
PARTS = {"reservoir": lambda tasks: 1, "equal_share": lambda tasks: tasks}  # of the buffer
COUNTED = {"presentations": lambda batch: jnp.ones_like(batch.first), "examples": lambda batch: batch.first}


def rehearsal(
    buffer_size: int,
    *,
    replay_from: str = "buffer",
    count: str = "presentations",
    policy: str = "reservoir",
    tasks: int = 1,
    keep: Callable[[Batch, PyTree, PyTree], PyTree] = lambda batch, params, model_state: (),
    place: Callable = reservoir.random_slots,
) -> Rehearsal:
    """A buffer to which `observe` offers every batch, with the loss's extras beside it.

    Args:
      buffer_size: slots, at least 1; 256 in the paper.
      replay_from: "buffer": all that is stored, from the second batch on; "past_tasks": examples of earlier tasks only.
      count: "presentations": an image is offered each time it is shown; "examples": once.
      policy: "reservoir": a uniform sample of all that was offered; "equal_share": of each task a uniform sample of
        buffer_size // tasks, in slots of its own (Chaudhry et al. 2019). Once a task has ended its sample is the same
        as one drawn at its end.
      tasks: how many there are; read by "equal_share" only.
      keep: batch, params, model_state -> something like the extras of the loss; only shapes and dtypes are used.
      place: which examples take which slots, see `reservoir.add`.

    Raises:
      UsageError: another word for `replay_from` or `count`.
    """
    allowed = choose("config.method.replay_from", replay_from, REPLAYED)
    eligible = choose("config.method.count", count, COUNTED)
    parts = choose("config.method.policy", policy, PARTS)(tasks)

    def item(batch, kept, task):
        return Item(batch, kept, jnp.full(batch.label.shape, task))

    def init(batch, params, model_state):
        task = jnp.zeros((), jnp.int32)
        kept = jax.eval_shape(keep, batch, params, model_state)
        return Memory(reservoir.init(item(batch, kept, task), buffer_size, parts), task)

    def recall(memory, key, n):
        return reservoir.sample(memory.buffer, key, n, allowed(memory))

    def observe(memory, step, key):
        new = item(step.batch, step.extras, memory.task)
        part = jnp.minimum(memory.task, parts - 1)  # one for each task, or one for all
        return memory.replace(buffer=reservoir.add(memory.buffer, key, new, eligible(step.batch), place, part))

    def end_task(memory, params):
        return memory.replace(task=memory.task + 1)

    def stored(memory):
        return memory.buffer.items.batch, reservoir.filled(memory.buffer)

    return Rehearsal(init, recall, observe, end_task, stored, allowed, lambda memory: jnp.any(allowed(memory)))


def replayed_views(objective: Objective, replay_view: str) -> Callable[[Array, Batch], PyTree]:
    """How stored examples are shown: "strong", as the present ones; "weak", as the official code does with labels.

    Raises:
      UsageError: another word.
    """
    return choose("config.method.replay_view", replay_view, {"strong": objective.views, "weak": objective.weak_views})


def replaying_loss(objective: Objective, store: Rehearsal, replay_view: str) -> Callable:
    """A `Method.loss`: the objective on one batch of present and past; the present twice while there is no past."""
    views_of = replayed_views(objective, replay_view)

    def loss(params, model_state, memory, batch, past, keys):
        views = objective.views(keys.example, batch)
        past_views = past_or_present(views_of(keys.past, past.batch), views, store.any(memory))
        together = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), views, past_views)
        value, aux = objective.loss(params, model_state, together)
        return value, aux._replace(extras=())

    return loss


def past_or_present(past: PyTree, present: PyTree, anything: Array) -> PyTree:
    """What comes of the past (views, statistics, gradients), or its present counterpart while there is no past.

    So no update comes from empty images.
    """
    return jax.tree.map(lambda x, y: jnp.where(anything, x, y), past, present)
