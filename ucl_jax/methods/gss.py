"""GSS: a buffer of examples whose gradients differ (Aljundi et al. 2019, algorithm 2, greedy)."""

import jax
import jax.numpy as jnp

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.rehearsal import rehearsal, replaying_loss
from ucl_jax.objectives import Objective
from ucl_jax.types import Array, Batch, Params, Variables


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
    [0, 2]; the policy `buffers.greedy` decides by it. Gradients are of single examples, not augmented, with running
    statistics; those of a batch are compared with one sample of the buffer, as in the official code. They are taken
    with the parameters before the step's update, each device its share; there with those after it.

    Args:
      objective: must give single examples a loss.
      scenario: its batch size, for `compare`.
      buffer_size: slots, at least 1.
      compare: stored examples that a gradient is compared with, at least 1; 0 is as many as a batch has (official
        code), 10 in the paper of GSS. When fewer are stored it is all of them.
      replay_view: see `replaying_loss`.
      replay_from, count: see `rehearsal`.

    Raises:
      ValueError: an objective that cannot, or another word for the buffer.
    """
    eval_loss = objective.eval_loss
    if eval_loss is None:
        raise ValueError(
            "GSS compares gradients of single examples, and this objective has none: its loss is a correlation over a "
            "batch; take the objective simsiam or supervised, or another method"
        )
    compared = min(compare or scenario.batch_size, buffer_size)

    def gradients(network: Variables, batch: Batch) -> Params:
        """Gradients of each example alone: leaves [B, ...]."""

        def gradient(example):
            views = objective.views(None, jax.tree.map(lambda x: x[None], example), "plain")
            loss = lambda params: eval_loss(Variables(params, network.state), views)  # noqa: E731
            return objective.active(jax.grad(loss)(network.params))

        return jax.vmap(gradient)(batch)

    store = rehearsal(
        buffer_size,
        policy="greedy",
        tasks=scenario.tasks,
        replay_from=replay_from,
        count=count,
        score=lambda outputs: ((), outputs),
    )
    learn = replaying_loss(objective, store, replay_view)

    def loss(params, state, memory, batch, recalled, keys, clock):
        value, aux = learn(params, state, memory, batch, recalled, keys, clock)
        fixed, others = jax.lax.stop_gradient(params.network), store.draw(memory, keys.batch, compared).items.batch
        cosine = cosines(*(gradients(Variables(fixed, state), x) for x in (batch, others)))
        # 0.1 is the official code's score of the first batch, which there is nothing to compare with.
        scores = jnp.clip(1.0 + jnp.max(cosine, axis=1), 0.0, 2.0)  # rounding may leave the range
        scores = jnp.where(jnp.any(store.filled(memory)), scores, 0.1)
        return value, aux._replace(outputs=scores)

    return Method(
        init=store.init,
        loss=loss,
        recall=store.recall,
        observe=store.observe,
        end_task=store.end_task,
        stored=store.stored,
    )


def cosines(ours: Params, theirs: Params) -> Array:
    """Returns cosines [B, N] between trees with leaves [B, ...] and [N, ...].

    They are summed leaf by leaf, so that no example's tree is ever flat.
    """

    def inner(x, y):
        x, y = (leaf.reshape(leaf.shape[0], -1) for leaf in (x, y))
        return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)

    def norms(tree):
        return jnp.sqrt(sum(jnp.sum(jnp.square(x.reshape(x.shape[0], -1)), axis=1) for x in jax.tree.leaves(tree)))

    lengths = norms(ours)[:, None] * norms(theirs)[None, :]
    return sum(jax.tree.leaves(jax.tree.map(inner, ours, theirs))) / jnp.maximum(lengths, 1e-12)
