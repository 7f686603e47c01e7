"""GSS: a buffer of examples whose gradients differ (Aljundi et al. 2019, algorithm 2, greedy)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.rehearsal import rehearsal, replaying_loss
from ucl_jax.objectives import Objective
from ucl_jax.types import Array, Batch, Clock, Params, Variables


def gss(
    objective: Objective,
    scenario: Scenario,
    *,
    buffer_size: int,
    compare: int,
    at_once: int,
    replay_view: str,
    replay_from: str,
    count: str,
) -> Method:
    """Replays as ER does, from a buffer that prefers examples whose gradients differ from those of stored ones.

    The score of an example is 1 + the largest cosine between its gradient and those of `compare` stored examples, in
    [0, 2]. The policy `buffers.greedy` decides by it. Gradients are of single examples that are not augmented, with
    running statistics. All examples of a batch are compared with the same sample of the buffer, as in the official
    code. Gradients are taken at the parameters before the update; the official code takes them after it.

    Args:
      objective: what is learned; it must have a loss of single examples.
      scenario: its batch size is for `compare`.
      buffer_size: slots, at least 1.
      compare: the number of stored examples that a gradient is compared with, or all if fewer are stored. 0 takes the
        batch size, as the official code does; the paper of GSS has 10.
      at_once: the number of present examples whose gradients are held at once, on each device; 0 takes all. It changes
        the memory that a step needs, and no numbers.
      replay_view: see `replaying_loss`.
      replay_from: see `rehearsal`.
      count: see `rehearsal`.

    Raises:
      ValueError: the objective has no loss of single examples, or another argument has an unknown value.
    """
    eval_loss = objective.eval_loss
    if eval_loss is None:
        raise ValueError(
            "GSS compares gradients of single examples, and this objective has none: its loss compares examples with "
            "each other; take the objective simsiam, byol, moco or supervised, or another method"
        )
    compared = min(compare or scenario.batch_size, buffer_size)

    def gradients(network: Variables, batch: Batch, clock: Clock) -> Params:
        """Computes the gradient of each example alone: leaves [B, ...]."""

        def gradient(example):
            views = objective.views(None, jax.tree.map(lambda x: x[None], example), "plain")
            loss = lambda params: eval_loss(Variables(params, network.state), views)  # noqa: E731
            return objective.active(jax.grad(loss)(network.params), clock)

        return jax.vmap(gradient)(batch)

    def step_bytes(params: Params) -> int:
        held = compared + (min(at_once, scenario.batch_size) or scenario.batch_size)
        return held * sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))

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
        network = Variables(fixed, state)
        theirs = gradients(network, others, clock)
        cosine = in_chunks(lambda part: cosines(gradients(network, part, clock), theirs), batch, at_once)
        # While nothing is stored there is nothing to compare with; the official code then takes 0.1.
        scores = jnp.clip(1.0 + jnp.max(cosine, axis=1), 0.0, 2.0)  # rounding may lead out of the range
        scores = jnp.where(jnp.any(store.filled(memory)), scores, 0.1)
        return value, aux._replace(outputs=scores)

    return Method(
        init=store.init,
        loss=loss,
        recall=store.recall,
        observe=store.observe,
        end_task=store.end_task,
        stored=store.stored,
        samples=lambda present, past: present + past,
        needs_boundaries=store.needs_boundaries,
        step_bytes=step_bytes,
    )


def in_chunks(function: Callable[[Batch], Array], batch: Batch, size: int) -> Array:
    """Applies a function to parts of a batch, one after the other, and joins the results.

    Args:
      function: leaves [n, ...] -> [n, ...], for any n; a result depends on its own example only.
      batch: leaves [B, ...].
      size: examples of a part; 0 takes all.

    Returns:
      What `function(batch)` gives, [B, ...].
    """
    count = len(batch.label)
    if not 0 < size < count:
        return function(batch)
    one = lambda example: function(jax.tree.map(lambda x: x[None], example))[0]  # noqa: E731
    return jax.lax.map(one, batch, batch_size=size)


def cosines(ours: Params, theirs: Params) -> Array:
    """Computes the cosines [B, N] between B trees with leaves [B, ...] and N trees with leaves [N, ...].

    Inner products are summed leaf by leaf, so that no tree is copied into one vector.
    """

    def inner(x, y):
        x, y = (leaf.reshape(leaf.shape[0], -1) for leaf in (x, y))
        return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)

    def norms(tree):
        return jnp.sqrt(sum(jnp.sum(jnp.square(x.reshape(x.shape[0], -1)), axis=1) for x in jax.tree.leaves(tree)))

    lengths = norms(ours)[:, None] * norms(theirs)[None, :]
    return sum(jax.tree.leaves(jax.tree.map(inner, ours, theirs))) / jnp.maximum(lengths, 1e-12)
