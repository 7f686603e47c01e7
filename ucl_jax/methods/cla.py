"""CLA: projections still predict those of a moving average of the network (Cignoni et al., CoLLAs 2025)."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.errors import argument_choice
from ucl_jax.methods.base import Method, Scenario, check_projections
from ucl_jax.methods.head import make_head
from ucl_jax.methods.rehearsal import joined_views, rehearsal
from ucl_jax.objectives import Objective
from ucl_jax.objectives.losses import negative_cosine
from ucl_jax.objectives.target import moving_average
from ucl_jax.types import Params, Variables


class Averaged(flax.struct.PyTreeNode):
    """The memory of CLA.

    Attributes:
      rehearsed: the memory of a rehearsal method, or () without replay.
      average: the moving average of the network's parameters.
    """

    rehearsed: Any
    average: Params


def cla(
    objective: Objective,
    scenario: Scenario,
    *,
    buffer_size: int,
    policy: str,
    replay_from: str,
    count: str,
    aligned: str,
    weight: float,
    hidden_dim: int,
    momentum: float,
) -> Method:
    """Makes CLA, which adds to the objective the negative cosine of a past network's projections and their prediction.

    The past network is a moving average of the one that is trained, in training mode. A trained head makes the
    prediction. Both see the rows of all views as one batch. No border of tasks is needed.

    It stores the average, and with replay the buffer. Compared with finetune, a step with replay costs two passes over
    the network more, forward and backward, for the replayed views, and a forward pass of the average over them. A step
    without replay costs a forward pass of the average more.

    Args:
      objective: what is learned; it must have projections.
      scenario: makes the head; how many examples a step recalls is for the start of the replay.
      buffer_size: slots, more than a step recalls. Replay starts when more than these are stored.
      policy: a name of `BUFFERS`; "fifo" in CLA-E.
      replay_from: see `rehearsal`.
      count: see `rehearsal`.
      aligned: "replayed", CLA-E: a batch has stored examples beside the present ones, whose projections alone are
        aligned (`apre` in the released code). "all": there is no replay, and all rows of the batch are aligned (`aep`).
      weight: of the added term, at least 0; 0.1 in the released code.
      hidden_dim: width of the hidden layer of the head; 512 in the released code.
      momentum: of the average, in [0, 1]; 0.999 in the released code.

    Raises:
      ValueError: the objective has no projections, the buffer is too small, or an argument has an unknown value.
    """
    check_projections(objective, "CLA")
    replays = argument_choice("aligned", aligned, {"replayed": True, "all": False})
    head = make_head(objective, scenario, "projection", hidden_dim)
    store = rehearsal(
        buffer_size,
        policy=policy,
        tasks=scenario.tasks,
        replay_from=replay_from,
        count=count,
        more_than=scenario.replayed,
    )
    joined = joined_views(objective, store, "present")

    def init(key, batch, network):
        rehearsed = store.init(key, batch, network)[1] if replays else ()
        average = jax.tree.map(jnp.copy, network.params)
        return head.init(key, batch, network), Averaged(rehearsed=rehearsed, average=average)

    def loss(params, state, memory, batch, recalled, keys, clock):
        if replays:
            views, first = joined(memory.rehearsed, batch, recalled, keys), len(batch.label)
            some = store.has_past(memory.rehearsed)
        else:
            views, first, some = objective.views(keys.example, batch, "present"), 0, jnp.ones((), bool)
        value, aux = objective.loss(Variables(params.network, state), views, clock)
        now = head.output(aux.outputs)[:, first:]
        shown = jnp.concatenate([view[first:] for view in views.image])
        then = head.output(objective.embed(Variables(memory.average, state), shown, True)[0])
        predicted = head.predict(params.method, now.reshape(then.shape))
        alignment = jnp.where(some, weight * negative_cosine(predicted, then), 0.0)
        return value + alignment, aux._replace(outputs=(), metrics=aux.metrics | {"alignment": alignment})

    def observe(memory, step, key):
        rehearsed = store.observe(memory.rehearsed, step, key) if replays else ()
        average = moving_average(memory.average, step.after.network, momentum)
        return Averaged(rehearsed=rehearsed, average=average)

    if not replays:
        return Method(init=init, loss=loss, observe=observe)

    def end_task(own, memory, network):
        return own, memory.replace(rehearsed=store.end_task(own, memory.rehearsed, network)[1])

    return Method(
        init=init,
        loss=loss,
        recall=lambda memory, key, n: store.recall(memory.rehearsed, key, n),
        observe=observe,
        end_task=end_task,
        stored=lambda memory: store.stored(memory.rehearsed),
        samples=lambda present, past: present + past,
        needs_boundaries=store.needs_boundaries,
    )
