"""ARP: projections of stored images still predict those of before (Cignoni et al., CoLLAs 2025)."""

import jax
import jax.numpy as jnp

from ucl_jax.methods.base import Method, Scenario, check_projections
from ucl_jax.methods.head import make_head
from ucl_jax.methods.rehearsal import joined_views, rehearsal
from ucl_jax.objectives import Objective
from ucl_jax.objectives.losses import negative_cosine
from ucl_jax.types import Variables


def arp(
    objective: Objective,
    scenario: Scenario,
    *,
    buffer_size: int,
    policy: str,
    replay_from: str,
    count: str,
    weight: float,
    hidden_dim: int,
) -> Method:
    """Makes ARP, which adds to the objective the negative cosine of stored projections and their prediction.

    A batch has stored examples beside the present ones. Beside each stored image is a projection: first the mean over
    the views in the step in which it entered. Whenever it is replayed, a trained head predicts the stored projection
    from that of each view, and half of it is replaced by the mean of these. No border of tasks is needed.

    It stores the buffer with a projection for each image. Compared with finetune, a step has twice as many images.

    Args:
      objective: what is learned; it must have projections.
      scenario: makes the head; how many examples a step recalls is for the start of the replay.
      buffer_size: slots, more than a step recalls. Replay starts when more than these are stored.
      policy: a name of `BUFFERS`; "reservoir" in the released code.
      replay_from: see `rehearsal`.
      count: see `rehearsal`.
      weight: of the added term, at least 0; 0.1 in the released code.
      hidden_dim: width of the hidden layer of the head; 512 in the released code.

    Raises:
      ValueError: the objective has no projections, the buffer is too small, or an argument has an unknown value.
    """
    check_projections(objective, "ARP")
    head = make_head(objective, scenario, "projection", hidden_dim)

    def keep(batch, network):
        view = objective.views(None, batch, "plain").image[0]
        return head.output(objective.embed(network, view, False)[0])

    store = rehearsal(
        buffer_size,
        policy=policy,
        tasks=scenario.tasks,
        replay_from=replay_from,
        count=count,
        keep=keep,
        refresh=lambda kept, new: 0.5 * kept + 0.5 * new,
        more_than=scenario.replayed,
    )
    joined = joined_views(objective, store, "present")

    def loss(params, state, memory, batch, recalled, keys, clock):
        views = joined(memory, batch, recalled, keys)
        value, aux = objective.loss(Variables(params.network, state), views, clock)
        projections = head.output(aux.outputs)
        past = projections[:, len(batch.label) :]
        predicted = head.predict(params.method, past.reshape(-1, past.shape[-1]))
        target = jnp.broadcast_to(recalled.items.kept, past.shape).reshape(predicted.shape)
        alignment = negative_cosine(predicted, target)
        alignment = jnp.where(store.has_past(memory), weight * alignment, 0.0)
        means = jnp.split(jax.lax.stop_gradient(jnp.mean(projections, axis=0)), [len(batch.label)])
        return value + alignment, aux._replace(outputs=means, metrics=aux.metrics | {"alignment": alignment})

    return Method(
        init=lambda key, batch, network: (head.init(key, batch, network), store.init(key, batch, network)[1]),
        loss=loss,
        recall=store.recall,
        observe=store.observe,
        end_task=store.end_task,
        stored=store.stored,
        samples=lambda present, past: present + past,
        needs_boundaries=store.needs_boundaries,
    )
