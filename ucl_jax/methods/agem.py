"""A-GEM: a step may not raise the loss on a sample of the past, to first order (Chaudhry et al. 2019, eq. 11)."""

import jax
import jax.numpy as jnp
import optax

from ucl_jax.errors import argument_choice
from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.rehearsal import REPLAY_VIEWS, past_or_present, rehearsal
from ucl_jax.objectives import Objective
from ucl_jax.types import TrainedParams, Variables


def agem(
    objective: Objective,
    scenario: Scenario,
    *,
    buffer_size: int,
    policy: str,
    replay_view: str,
    replay_from: str,
    count: str,
) -> Method:
    """Removes from the gradient the part that points against the gradient on stored examples.

    This follows the paper, not the official code: that converts stored images wrongly, and its present release takes
    them from the last task only. The gradient on the past is taken in training mode, but does not change the running
    statistics. While there is no past it is computed from empty images, and not used.

    Args:
      objective: for the present and for the past.
      scenario: its number of tasks is for policies that share the buffer among tasks.
      buffer_size: slots, at least one for each task.
      policy: a name of `BUFFERS`; "equal_share" in the paper and the official code.
      replay_view: see `replaying_loss`.
      replay_from: see `rehearsal`; "past_tasks" in the paper.
      count: see `rehearsal`; "examples" in the paper, so that no image is in the buffer twice.

    Raises:
      ValueError: `replay_view` or an argument of the buffer has an unknown value.
    """
    how = argument_choice("replay_view", replay_view, REPLAY_VIEWS)
    store = rehearsal(buffer_size, replay_from=replay_from, count=count, policy=policy, tasks=scenario.tasks)

    def loss(params, state, memory, batch, recalled, keys, clock):
        views = objective.views(keys.example, batch, "present")
        value, aux = objective.loss(Variables(params.network, state), views, clock)
        return value, aux._replace(outputs=())

    def reference(params, state, memory, recalled, keys, clock):
        views = objective.views(keys.past, recalled.items.batch, how)
        return objective.loss(Variables(params.network, state), views, clock)[0]

    def project(memory, grads, reference):
        return past_or_present(without_conflict(grads, reference), grads, store.has_past(memory))

    return Method(
        init=store.init,
        loss=loss,
        reference=reference,
        recall=store.recall,
        project=project,
        observe=store.observe,
        end_task=store.end_task,
        stored=store.stored,
        samples=lambda present, past: present + past,
        needs_boundaries=store.needs_boundaries,
    )


def without_conflict(grads: TrainedParams, reference: TrainedParams) -> TrainedParams:
    """Returns `grads` without its part along `reference` if their inner product is negative, else `grads` as it is.

    Of all gradients whose product with `reference` is not negative, this is the nearest (Chaudhry et al. 2019, eq. 11).
    """
    along = optax.tree.vdot(grads, reference)
    share = jnp.minimum(along, 0.0) / jnp.maximum(optax.tree.vdot(reference, reference), 1e-30)
    return jax.tree.map(lambda g, r: g - share * r, grads, reference)
