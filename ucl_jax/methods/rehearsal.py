"""What rehearsal methods share: a buffer of examples, each with what the method keeps beside it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.buffers import BUFFERS, Offer, Recalled, Stored
from ucl_jax.errors import pick
from ucl_jax.methods.base import Step
from ucl_jax.objectives import Objective
from ucl_jax.types import Array, Batch, Params, PyTree, Variables


class Item(NamedTuple):
    """Stored examples, what is kept beside them (leaves [S, ...]), and the tasks they came in, int32 [S]."""

    batch: Batch
    kept: PyTree
    task: Array


class Rehearsed(flax.struct.PyTreeNode):
    """The memory of a rehearsal method: the buffer of Items, and the number of the task being learned."""

    buffer: Stored
    task: Array


class Rehearsal(NamedTuple):
    """The functions of a `Method` that are the same for all of them, and three for their losses.

    init: key, a batch, the network -> no parameters, and an empty buffer.
    recall, observe, end_task, stored: as in `Method`. `observe` offers the step's batch with its outputs beside it.
    draw: memory, key, n -> n of all stored examples, whatever may be replayed.
    filled: memory -> bool [S], the slots that hold an example.
    any: memory -> bool [], whether there is anything to replay.
    """

    init: Callable[[Array, Batch, Variables], tuple[tuple, Rehearsed]]
    recall: Callable[[Rehearsed, Array, int], Recalled]
    observe: Callable[[Rehearsed, Step, Array], Rehearsed]
    end_task: Callable[[Params, Rehearsed, Variables], tuple[Params, Rehearsed]]
    stored: Callable[[Rehearsed], tuple[Batch, Array]]
    draw: Callable[[Rehearsed, Array, int], Recalled]
    filled: Callable[[Rehearsed], Array]
    any: Callable[[Rehearsed], Array]


REPLAYED = {
    "buffer": lambda memory: jnp.ones_like(memory.buffer.items.task, bool),
    "past_tasks": lambda memory: memory.buffer.items.task < memory.task,
}
COUNTED = {"presentations": lambda batch: jnp.ones_like(batch.first), "examples": lambda batch: batch.first}


def rehearsal(
    buffer_size: int,
    *,
    policy: str,
    tasks: int,
    replay_from: str = "buffer",
    count: str = "presentations",
    keep: Callable[[Batch, Variables], PyTree] = lambda batch, network: (),
    score: Callable[[Any], tuple[PyTree, Array]] | None = None,
) -> Rehearsal:
    """Makes a buffer to which `observe` offers every batch, with the loss's outputs beside it.

    Args:
      buffer_size: slots, at least 1; 256 in the paper.
      policy: a name of `BUFFERS`.
      tasks: how many there are; read by "equal_share" only.
      replay_from: "buffer": all that is stored, from the second batch on; "past_tasks": examples of earlier tasks only.
      count: "presentations": an image is offered each time it is shown; "examples": once.
      keep: a batch, the network -> something like what is kept beside examples; only shapes and dtypes are used.
      score: outputs of the loss -> what is kept, and the scores [B] that the policy chooses by; None keeps the outputs.

    Raises:
      ValueError: another word for `policy`, `replay_from` or `count`.
    """
    replayed = pick("replay_from", replay_from, REPLAYED)
    eligible = pick("count", count, COUNTED)
    buffer = pick("policy", policy, BUFFERS)(buffer_size, tasks)

    def allowed(memory):
        return buffer.filled(memory.buffer) & replayed(memory)

    def item(batch, kept, task):
        return Item(batch, kept, jnp.full(batch.label.shape, task))

    def init(key, batch, network):
        task = jnp.zeros((), jnp.int32)
        kept = jax.eval_shape(keep, batch, network)
        return (), Rehearsed(buffer.init(item(batch, kept, task)), task)

    def recall(memory, key, n):
        return buffer.sample(memory.buffer, key, n, allowed(memory))

    def observe(memory, step, key):
        kept, scores = (step.outputs, jnp.zeros(step.batch.label.shape)) if score is None else score(step.outputs)
        offer = Offer(item(step.batch, kept, memory.task), eligible(step.batch), memory.task, scores)
        return memory.replace(buffer=buffer.add(memory.buffer, key, offer))

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
        draw=lambda memory, key, n: buffer.sample(memory.buffer, key, n, buffer.filled(memory.buffer)),
        filled=lambda memory: buffer.filled(memory.buffer),
        any=lambda memory: jnp.any(allowed(memory)),
    )


def replaying_loss(objective: Objective, store: Rehearsal, replay_view: str) -> Callable:
    """Makes a `Method.loss`: the objective on present and past in one batch; the present twice while there is no past.

    Args:
      objective: what is learned.
      store: the buffer.
      replay_view: "strong": stored examples are shown as present ones; "weak": as the official code does with labels.
    """
    how = pick("replay_view", replay_view, REPLAY_VIEWS)

    def loss(params, state, memory, batch, recalled, keys, clock):
        views = objective.views(keys.example, batch, "present")
        past = past_or_present(objective.views(keys.past, recalled.items.batch, how), views, store.any(memory))
        together = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), views, past)
        value, aux = objective.loss(Variables(params.network, state), together, clock)
        return value, aux._replace(outputs=())

    return loss


# config.method.replay_view -> the way of `Objective.views`.
REPLAY_VIEWS = {"strong": "present", "weak": "weak"}


def past_or_present(past: PyTree, present: PyTree, anything: Array) -> PyTree:
    """Returns what comes of the past (views, statistics, gradients), or its present counterpart while there is no past.

    So no update comes from empty images.
    """
    return jax.tree.map(lambda x, y: jnp.where(anything, x, y), past, present)
