"""LUMP: mixup of the present task with a replay buffer (Madaan et al. 2022, section 4.2)."""

from functools import partial

import jax
import jax.numpy as jnp

from ucl_jax.errors import pick
from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.mixup import mixup, sample_lambda
from ucl_jax.methods.rehearsal import rehearsal
from ucl_jax.objectives import Objective
from ucl_jax.types import Array, Aux, Variables, Views


def lump(
    objective: Objective,
    scenario: Scenario,
    *,
    buffer_size: int,
    policy: str,
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
      scenario: its number of tasks, for the policy.
      buffer_size: slots, at least 1; 256 in the paper.
      policy: a name of `BUFFERS`; "reservoir" in the paper.
      alpha: above 0; small values mix little.
      replay_pair: "frozen" (Table 1): a fresh weak view, and the second view or the label as it was stored; "fresh":
        both views are augmented afresh, as the text suggests.
      replay_from, count: see `rehearsal`; Table 1 has "buffer" and "presentations", the text speaks of "past_tasks".
      mix_per: "batch" (Table 1): one weight a batch; "example": one weight an example.
      mix_labels: "lambda": labels are mixed as images are; "release": the official code's labels, in which the present
        one keeps weight 1. Of a supervised objective only.

    Raises:
      ValueError: another word than these, or labels of an objective that has none.
    """
    draw = partial(sample_lambda, alpha=alpha)
    per = {"batch": lambda keys: draw(keys.batch), "example": lambda keys: jax.vmap(draw)(keys.method)}
    weights = pick("mix_per", mix_per, per)
    mix = pick("mix_labels", mix_labels, {"lambda": mixup, "release": _mix_as_released})
    pick("replay_pair", replay_pair, dict.fromkeys(("frozen", "fresh")))
    if mix is not mixup and objective.classes is None:
        raise ValueError(
            f"mix_labels={mix_labels} needs labels: take the objective supervised, or config.method.mix_labels=lambda"
        )

    def frozen(views):
        """What stays as it is beside a stored image: the views but the first, and the label."""
        return Views(views.image[1:], views.label)

    def past_views(keys, items):
        if replay_pair == "fresh":
            return objective.views(keys.past, items.batch, "present")
        weak = objective.views(keys.past, items.batch, "replayed")
        return Views(weak.image + items.kept.image, items.kept.label)

    def keep(batch, network):
        return frozen(objective.views(None, batch, "plain"))

    store = rehearsal(buffer_size, policy=policy, tasks=scenario.tasks, replay_from=replay_from, count=count, keep=keep)

    def loss(params, state, memory, batch, recalled, keys, clock):
        views = objective.views(keys.example, batch, "present")
        # An empty buffer is data, not a branch: the present alone.
        weight = jnp.where(store.any(memory), weights(keys), 1.0)
        mixed = mix(views, past_views(keys, recalled.items), weight)
        value, aux = objective.loss(Variables(params.network, state), mixed, clock)
        return value, Aux(aux.state, aux.metrics | {"lambda": jnp.mean(weight)}, frozen(views))

    return Method(
        init=store.init,
        loss=loss,
        recall=store.recall,
        observe=store.observe,
        end_task=store.end_task,
        stored=store.stored,
    )


def _mix_as_released(present: Views, past: Views, weight: Array) -> Views:
    """Images mixed; of the labels CE(present) + (1 - weight) CE(past), where the first weight is missing."""
    assert past.label is not None
    past_share = mixup(jnp.zeros_like(past.label), past.label, weight)  # (1 - weight) * past
    return Views(mixup(present.image, past.image, weight), present.label + past_share)
