"""A-GEM: a step may not raise the loss on a sample of the past, to first order (Chaudhry et al. 2019, eq. 11)."""

import jax
import jax.numpy as jnp
import optax

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.rehearsal import past_or_present, rehearsal, replayed_views
from ucl_jax.objectives import Objective


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
    """Takes the gradient's part against the gradient of stored examples away.

    Built from the paper: in the official code stored images pass through a wrong conversion, and in its present
    release they come from the last task only. The gradient on the past is taken in training mode and leaves the
    running statistics alone; while there is no past it is one of empty images, and put aside.

    Args:
      objective: for the present and for the past.
      scenario: its number of tasks; each has an equal share of the buffer.
      buffer_size: slots, at least one for each task.
      policy: "equal_share" as in the paper and the official code, or "reservoir" (see `rehearsal`).
      replay_view: see `replayed_views`.
      replay_from: "past_tasks" as in the paper, or "buffer" (see `rehearsal`).
      count: "examples" as there, where no image stands in the buffer twice, or "presentations" (see `rehearsal`).
    """
    past_views = replayed_views(objective, replay_view)
    store = rehearsal(buffer_size, replay_from=replay_from, count=count, policy=policy, tasks=scenario.tasks)

    def loss(params, model_state, memory, batch, past, keys):
        value, aux = objective.loss(params, model_state, objective.views(keys.example, batch))
        return value, aux._replace(extras=())

    def reference(params, model_state, memory, past, keys):
        return objective.loss(params, model_state, past_views(keys.past, past.batch))[0]

    def project_if_any(memory, grads, reference):
        return past_or_present(project(grads, reference), grads, store.any(memory))

    return Method(loss=loss, reference=reference, project=project_if_any, **store.parts)


def project(grads, reference):
    """`grads` without its part along `reference` where the two point apart: the nearest with no negative product."""
    along = optax.tree.vdot(grads, reference)
    share = jnp.minimum(along, 0.0) / jnp.maximum(optax.tree.vdot(reference, reference), 1e-30)
    return jax.tree.map(lambda g, r: g - share * r, grads, reference)
