"""GSS: a buffer of examples whose gradients differ (Aljundi et al. 2019, algorithm 2, greedy)."""

import flax.struct
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ucl_jax import replay
from ucl_jax.errors import require
from ucl_jax.methods.base import Method
from ucl_jax.methods.rehearsal import beside, past_or_present
from ucl_jax.objectives import Objective
from ucl_jax.types import Array


@flax.struct.dataclass
class Memory:
    """The buffer, and the score of each slot: 1 + the largest cosine it had when it was stored, float32 [S]."""

    buffer: replay.Reservoir
    score: Array


def gss(objective: Objective, *, buffer_size: int, compare: int) -> Method:
    """Replays as ER does; an example takes a slot when its gradient points away from those of stored examples.

    Gradients are of single examples, not augmented, with running statistics, as in the official code. Those of a
    batch are compared with one sample of the buffer, drawn before the batch is offered, as there.

    Args:
      objective: must give single examples a loss.
      buffer_size: slots, at least 1.
      compare: stored examples that a gradient is compared with, at least 1; 10 in the paper of GSS.

    Raises:
      UsageError: a setting out of its range, or an objective that cannot.
    """
    require(buffer_size >= 1 and compare >= 1, "config.method: buffer_size and compare must be at least 1")
    require(
        objective.eval_loss is not None,
        "GSS compares gradients of single examples, and this objective has none: its loss is a correlation over a "
        "batch; take the objective simsiam or supervised, or another method",
    )

    def init(batch, params, model_state):
        return Memory(replay.init(batch, buffer_size), jnp.zeros(buffer_size))

    def recall(memory, key, n):
        return replay.sample(memory.buffer, key, n)

    def directions(params, model_state, batch):
        """Unit gradients of each example, [B, parameters]."""

        def direction(example):
            views = objective.plain_views(jax.tree.map(lambda x: x[None], example))
            grads = objective.active(jax.grad(objective.eval_loss)(params, model_state, views))
            flat = ravel_pytree(grads)[0]
            return flat / jnp.maximum(jnp.linalg.norm(flat), 1e-12)

        return jax.vmap(direction)(batch)

    def loss(params, model_state, memory, batch, past, keys):
        some = memory.buffer.seen > 0
        views = objective.views(keys.example, batch)
        past_views = past_or_present(objective.views(keys.past, past), views, some)
        value, aux = objective.loss(params, model_state, beside(views, past_views))
        others = replay.sample(memory.buffer, keys.batch, compare)
        fixed = jax.lax.stop_gradient(params)
        cosine = jnp.matmul(
            directions(fixed, model_state, batch),
            directions(fixed, model_state, others).T,
            precision=jax.lax.Precision.HIGHEST,
        )
        # The official code's score of the first batch, which there is nothing to compare with.
        return value, aux._replace(extras=jnp.where(some, 1.0 + jnp.max(cosine, axis=1), 0.1))

    def observe(memory, step, key):
        slot, score = choose_slots(key, memory.score, memory.buffer.seen, step.extras)
        items = replay.write(memory.buffer.items, step.batch, slot)
        return Memory(replay.Reservoir(items, memory.buffer.seen + len(slot)), score)

    def stored(memory):
        return memory.buffer.items, replay.filled(memory.buffer)

    return Method(init, loss, recall=recall, observe=observe, stored=stored)


def choose_slots(key: Array, stored: Array, seen: Array, offered: Array) -> tuple[Array, Array]:
    """The slots that examples take, one after the other.

    Free slots are filled first. Then an example with a score below 1 challenges a stored one, drawn in proportion to
    its score, and takes its place with probability stored / (stored + offered).

    Args:
      key: random key.
      stored: [S] scores of the slots, at least 0.
      seen: int32 [], examples offered before.
      offered: [B] scores of the examples, in [0, 2].

    Returns:
      int32 [B], a slot or S where the example is not kept; and the scores of the slots afterwards.
    """
    size = stored.shape[0]

    def offer(score, turn):
        place, mine, key = turn
        draw_key, coin_key = jax.random.split(key)
        rival = jax.random.categorical(draw_key, jnp.log(score))
        wins = jax.random.uniform(coin_key) * (score[rival] + mine) < score[rival]
        slot = jnp.where(place < size, place, jnp.where((mine < 1.0) & wins, rival, size)).astype(jnp.int32)
        return score.at[slot].set(mine, mode="drop"), slot

    turns = seen + jnp.arange(offered.shape[0]), offered, jax.random.split(key, offered.shape[0])
    score, slots = jax.lax.scan(offer, stored, turns)
    return slots, score
