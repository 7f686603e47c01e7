"""GSS: a buffer of examples whose gradients differ (Aljundi et al. 2019, algorithm 2, greedy)."""

import jax
import jax.numpy as jnp

from ucl_jax.buffers import greedy, reservoir
from ucl_jax.errors import require
from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.rehearsal import rehearsal, replaying_loss
from ucl_jax.objectives import Objective


def gss(
    objective: Objective,
    scenario: Scenario,
    *,
    buffer_size: int,
    compare: int,
    replay_view: str,
    replay_from: str,
    count: str,
) -> Method:
    """Replays as ER does; an example takes a slot when its gradient points away from those of stored examples.

    The score kept with an example is 1 + the largest cosine of its gradient with those of `compare` stored ones, in
    [0, 2]; `greedy.greedy_slots` decides by it. Gradients are of single examples, not augmented, with running
    statistics; those of a batch are compared with one sample of the buffer, as in the official code. They are taken
    with the parameters before the step's update, each device its share; there with those after it.

    Args:
      objective: must give single examples a loss.
      scenario: its batch size, for `compare`.
      buffer_size: slots, at least 1.
      compare: stored examples that a gradient is compared with, at least 1; 0 is as many as a batch has (official
        code), 10 in the paper of GSS. When fewer are stored it is all of them.
      replay_view: see `replayed_views`.
      replay_from, count: see `rehearsal`.

    Raises:
      UsageError: an objective that cannot, or another word for the buffer.
    """
    require(
        objective.eval_loss is not None,
        "GSS compares gradients of single examples, and this objective has none: its loss is a correlation over a "
        "batch; take the objective simsiam or supervised, or another method",
    )

    compared = min(compare or scenario.batch_size, buffer_size)

    def gradients(params, model_state, batch):
        """Of each example: leaves [B, ...]."""

        def gradient(example):
            views = objective.plain_views(jax.tree.map(lambda x: x[None], example))
            return objective.active(jax.grad(objective.eval_loss)(params, model_state, views))

        return jax.vmap(gradient)(batch)

    store = rehearsal(
        buffer_size,
        replay_from=replay_from,
        count=count,
        keep=lambda batch, params, model_state: jnp.zeros(batch.label.shape),
        place=lambda key, buffer, part, new, eligible: greedy.greedy_slots(
            key, buffer.seen[part], buffer.items.kept, new.kept, eligible
        ),
    )

    learn = replaying_loss(objective, store, replay_view)

    def loss(params, model_state, memory, batch, past, keys):
        value, aux = learn(params, model_state, memory, batch, past, keys)
        fixed, others = jax.lax.stop_gradient(params), reservoir.sample(memory.buffer, keys.batch, compared).batch
        cosine = cosines(*(gradients(fixed, model_state, x) for x in (batch, others)))
        # 0.1 is the official code's score of the first batch, which there is nothing to compare with.
        scores = jnp.clip(1.0 + jnp.max(cosine, axis=1), 0.0, 2.0)  # rounding may leave the range
        scores = jnp.where(jnp.any(reservoir.filled(memory.buffer)), scores, 0.1)
        return value, aux._replace(extras=scores)

    return Method(loss=loss, **store.parts)


def cosines(ours, theirs):
    """Cosines [B, N] between trees with leaves [B, ...] and [N, ...], leaf by leaf: no example's tree is ever flat."""

    def inner(x, y):
        x, y = (leaf.reshape(leaf.shape[0], -1) for leaf in (x, y))
        return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)

    def norms(tree):
        return jnp.sqrt(sum(jnp.sum(jnp.square(x.reshape(x.shape[0], -1)), axis=1) for x in jax.tree.leaves(tree)))

    lengths = norms(ours)[:, None] * norms(theirs)[None, :]
    return sum(jax.tree.leaves(jax.tree.map(inner, ours, theirs))) / jnp.maximum(lengths, 1e-12)
