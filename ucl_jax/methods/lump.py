"""LUMP: mixup of the present task with a replay buffer (Madaan et al. 2022, section 4.2)."""

from functools import partial

import jax
import jax.numpy as jnp

from ucl_jax.errors import choose, require
from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.mixup import mixup, sample_lambda
from ucl_jax.methods.rehearsal import rehearsal
from ucl_jax.objectives import Objective


def lump(
    objective: Objective,
    scenario: Scenario,
    *,
    buffer_size: int,
    alpha: float,
    replay_pair: str,
    replay_from: str,
    mix_per: str,
    mix_labels: str,
    count: str,
) -> Method:
    """Trains on `weight * present + (1 - weight) * past` views, with weight from Beta(alpha, alpha).

    Args:
      objective: gives views and takes mixed ones.
      scenario: of no use to this method.
      buffer_size: slots of the reservoir, at least 1; 256 in the paper.
      alpha: above 0; small values mix little.
      replay_pair: "frozen" (Table 1): a fresh weak view and the last view as it was stored; "fresh": both views are
        augmented afresh, as the text suggests.
      replay_from, count: see `rehearsal`; Table 1 has "buffer" and "presentations", the text speaks of "past_tasks".
      mix_per: "batch" (Table 1): one weight a batch; "example": one weight an example.
      mix_labels: "lambda": labels are mixed as images are; "release": the official code's labels, in which the present
        one keeps weight 1. Of a supervised objective only.

    Raises:
      UsageError: another word than these, or labels of an objective that has none.
    """
    draw = partial(sample_lambda, alpha=alpha)
    pairs = {"frozen": objective.replay_views, "fresh": lambda keys, batch, frozen: objective.views(keys, batch)}
    past_views = choose("config.method.replay_pair", replay_pair, pairs)
    per = {"batch": lambda keys: draw(keys.batch), "example": lambda keys: jax.vmap(draw)(keys.method)}
    weights = choose("config.method.mix_per", mix_per, per)
    mix = choose("config.method.mix_labels", mix_labels, {"lambda": mixup, "release": _mix_as_released})
    require(
        mix is mixup or objective.classes is not None,
        f"config.method.mix_labels={mix_labels} needs labels: take the objective supervised, or mix_labels=lambda",
    )

    def keep(batch, params, model_state):
        keys = jax.random.split(jax.random.key(0), batch.label.shape[0])
        return _frozen(objective.views(keys, batch))

    store = rehearsal(buffer_size, replay_from=replay_from, count=count, keep=keep)

    def loss(params, model_state, memory, batch, past, keys):
        views = objective.views(keys.example, batch)
        # An empty buffer is data, not a branch: the present alone.
        weight = jnp.where(store.any(memory), weights(keys), 1.0)
        mixed = mix(views, past_views(keys.past, past.batch, past.kept), weight)
        value, aux = objective.loss(params, model_state, mixed)
        return value, aux._replace(extras=_frozen(views), metrics=aux.metrics | {"lambda": jnp.mean(weight)})

    return Method(loss=loss, **store.parts)


def _frozen(views):
    """What stays as it is beside a stored image: the second view, or the label."""
    return jax.tree.leaves(views)[-1]


def _mix_as_released(present, past, weight):
    """Images mixed; of the labels CE(present) + (1 - weight) CE(past), where the first weight is missing."""
    past_share = mixup(jnp.zeros_like(past.label), past.label, weight)  # (1 - weight) * past
    return mixup(present, past, weight)._replace(label=present.label + past_share)
