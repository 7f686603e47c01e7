"""LUMP: mixup of the present task with a replay buffer (Madaan et al. 2022, section 4.2)."""

from functools import partial
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax import replay
from ucl_jax.errors import choose, require
from ucl_jax.methods.base import Method
from ucl_jax.mixup import mixup, sample_lambda
from ucl_jax.objectives import Objective
from ucl_jax.types import Array, Batch


class Item(NamedTuple):
    """Stored examples, the views of them that stay frozen [S, ...], and the tasks they came in, int32 [S]."""

    batch: Batch
    frozen: Array
    task: Array


@flax.struct.dataclass
class Memory:
    """The buffer of Items, and the number of the task being learned."""

    buffer: replay.Reservoir
    task: Array


def lump(
    objective: Objective, *, buffer_size: int, alpha: float, replay_pair: str, mix_with: str, mix_per: str, count: str
) -> Method:
    """Trains on `weight * present + (1 - weight) * past` views, with weight from Beta(alpha, alpha).

    Args:
      objective: gives views and takes mixed ones.
      buffer_size: slots of the reservoir, at least 1; 256 in the paper.
      alpha: above 0; small values mix little.
      replay_pair: "frozen" (Table 1): a fresh weak view and the last view as it was stored; "fresh": both views are
        augmented afresh, as the text suggests.
      mix_with: "buffer" (Table 1): all that is stored, from the second batch on; "past_tasks": examples of earlier
        tasks only, as the text says.
      mix_per: "batch" (Table 1): one weight a batch; "example": one weight an example.
      count: "presentations" (Table 1): an image is offered to the reservoir each time it is shown; "examples": once.

    Raises:
      UsageError: a setting out of its range.
    """
    require(buffer_size >= 1, f"config.method.buffer_size is {buffer_size}; it must be at least 1")
    require(alpha > 0, f"config.method.alpha is {alpha}; it must be above 0")
    draw = partial(sample_lambda, alpha=alpha)
    past_views = choose(
        "config.method.replay_pair",
        replay_pair,
        {"frozen": objective.replay_views, "fresh": lambda keys, batch, frozen: objective.views(keys, batch)},
    )
    allowed = choose(
        "config.method.mix_with",
        mix_with,
        {
            "buffer": lambda memory: replay.filled(memory.buffer),
            "past_tasks": lambda memory: replay.filled(memory.buffer) & (memory.buffer.items.task < memory.task),
        },
    )
    weights = choose(
        "config.method.mix_per",
        mix_per,
        {"batch": lambda keys: draw(keys.batch), "example": lambda keys: jax.vmap(draw)(keys.method)},
    )
    eligible = choose(
        "config.method.count",
        count,
        {"presentations": lambda batch: jnp.ones_like(batch.first), "examples": lambda batch: batch.first},
    )

    def item(batch, views, task):
        return Item(batch, jax.tree.leaves(views)[-1], jnp.full(batch.label.shape, task))

    def init(batch, params):
        task = jnp.zeros((), jnp.int32)
        keys = jax.random.split(jax.random.key(0), batch.label.shape[0])
        return Memory(replay.init(item(batch, objective.views(keys, batch), task), buffer_size), task)

    def recall(memory, key, n):
        return replay.sample(memory.buffer, key, n, allowed(memory))

    def loss(params, model_state, memory, batch, past, keys):
        views = objective.views(keys.example, batch)
        # An empty buffer is data, not a branch: the present alone.
        weight = jnp.where(jnp.any(allowed(memory)), weights(keys), 1.0)
        mixed = mixup(views, past_views(keys.past, past.batch, past.frozen), weight)
        value, aux = objective.loss(params, model_state, mixed)
        return value, aux._replace(extras=views, metrics=aux.metrics | {"lambda": jnp.mean(weight)})

    def observe(memory, step, key):
        new = item(step.batch, step.extras, memory.task)
        return memory.replace(buffer=replay.add(memory.buffer, key, new, eligible(step.batch)))

    def end_task(memory, params):
        return memory.replace(task=memory.task + 1)

    def stored(memory):
        return memory.buffer.items.batch, replay.filled(memory.buffer)

    return Method(init, loss, recall=recall, observe=observe, end_task=end_task, stored=stored)
