"""Osiris: present and past images are told apart in a projection of their own (Zhang et al., CoLLAs 2024)."""

from functools import partial

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.errors import argument_choice
from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.distillation import active_later, copied, frozen_outputs
from ucl_jax.methods.rehearsal import (
    Rehearsed,
    past_or_present,
    rehearsal,
    replay_on_rows,
    replay_period,
    replayed_rows,
)
from ucl_jax.objectives import Objective
from ucl_jax.objectives.base import two_view_aux
from ucl_jax.types import Variables


class Remembered(flax.struct.PyTreeNode):
    """The memory of Osiris.

    Attributes:
      network: a copy of the network from the end of the last task, with its running statistics; () for Osiris-R.
      rehearsed: the memory of a rehearsal method.
    """

    network: Variables | tuple[()]
    rehearsed: Rehearsed


def osiris(
    objective: Objective,
    scenario: Scenario,
    *,
    buffer_size: int,
    policy: str,
    replay_from: str,
    count: str,
    replay_share: float,
    past: str,
    frozen_mode: str,
) -> Method:
    """Makes Osiris: three losses on two projectors, the objective's g and h, which is the method's own.

    The present loss is the objective, NT-Xent of g on present images. The cross-task loss is on h: the two views of an
    image must find each other among stored images if it is a present one, and among present images if it is a stored
    one. The past loss is on h, too. In Osiris-R it is NT-Xent of stored images. In Osiris-D h of the features must find
    h of a frozen network's features of the same present image, and the reverse. The whole loss is
    present + (cross + past) / 2. Present and stored images are one batch for the backbone.

    In the first task there is only the present loss, but batch statistics count the rows twice beside which stored
    images would stand. At the beginning of the second task h becomes a copy of g, and it is trained from then on.

    It stores images, and in Osiris-D a frozen network. It trains a projector. Compared with finetune, a step costs one
    more pass, forward and backward, for the stored images; and in Osiris-D a forward pass of the frozen network.

    Args:
      objective: what is learned; it must have negatives in the batch.
      scenario: its number of tasks is for the policy.
      buffer_size: slots; 500 in the released code.
      policy: a name of `BUFFERS`; "reservoir" in the released code.
      replay_from: see `rehearsal`; "buffer" in the released code.
      count: see `rehearsal`; "presentations" in the released code.
      replay_share: see `replayed_rows`; 3/4 in the released code.
      past: "replay" for Osiris-R, "distil" for Osiris-D.
      frozen_mode: see `distillation`. Only Osiris-D has a frozen network. There is no such choice in the released code,
        whose norms do not depend on the batch.

    Raises:
      ValueError: the objective has no negatives in the batch, or an argument has an unknown value.
    """
    contrast, comparison = objective.contrast, objective.comparison
    if contrast is None or comparison is None:
        raise ValueError(
            "Osiris tells images of two tasks apart by negatives in the batch, and this objective has none; take the "
            "objective simclr, or another method"
        )
    distils = argument_choice("past", past, {"replay": False, "distil": True})
    frozen = frozen_outputs(objective, "features", frozen_mode)
    store = rehearsal(buffer_size, policy=policy, tasks=scenario.tasks, replay_from=replay_from, count=count)

    def remember(network, rehearsed):
        return Remembered(copied(network) if distils else (), rehearsed)

    def init(key, batch, network):
        own = jax.tree.map(jnp.copy, contrast.projector(network.params))
        return own, remember(network, store.init(key, batch, network)[1])

    def begin_task(own, memory, network, clock):
        own = jax.tree.map(lambda h, g: jnp.where(clock.task == 1, g, h), own, contrast.projector(network.params))
        return own, memory

    def loss(params, state, memory, batch, recalled, keys, clock):
        first, rows = len(batch.label), replayed_rows(len(batch.label), replay_share)
        pick = partial(jax.tree.map, lambda x: x[rows])
        some = (clock.task > 0) & store.has_past(memory.rehearsed)

        views = objective.views(keys.example, batch, "present")
        stored = objective.views(keys.past[rows], pick(recalled.items.batch), "present")
        stored = past_or_present(stored, pick(views), some)
        together = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), views, stored)
        both, state = comparison.forward(Variables(params.network, state), together)
        now = jax.tree.map(lambda x: x[:, :first], both)
        present = comparison.both(now)

        h = jax.vmap(partial(contrast.project, params.method))
        x, u = h(now.features), h(both.features[:, first:])
        if distils:
            kept = contrast.distil(x, h(frozen(memory.network, views, now.features, clock)))
        else:
            kept = comparison.one(*u)
        cross, kept = (jnp.where(some, term / 2.0, 0.0) for term in (contrast.across(x, u), kept))
        aux = two_view_aux(now, state)
        metrics = aux.metrics | {"cross": cross, "past": kept}
        return present + cross + kept, aux._replace(outputs=(), metrics=metrics)

    def end_task(own, memory, network):
        return own, remember(network, store.end_task(own, memory.rehearsed, network)[1])

    return Method(
        init=init,
        loss=loss,
        recall=lambda memory, key, n: replay_on_rows(store, memory.rehearsed, key, n, replay_share),
        observe=lambda memory, step, key: memory.replace(rehearsed=store.observe(memory.rehearsed, step, key)),
        begin_task=begin_task,
        end_task=end_task,
        active=active_later,
        stored=lambda memory: store.stored(memory.rehearsed),
        pairing=replay_period(replay_share),
        samples=lambda present, past: present + len(replayed_rows(past, replay_share)),
        needs_boundaries="starts to train its second projector in the second task",
    )
