"""LUMP: mixup of the present task with a replay buffer (Madaan et al. 2022, section 4.2)."""

from functools import partial

import jax
import jax.numpy as jnp

from ucl_jax.errors import argument_choice, check_word
from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.mixup import mixup, sample_lambda
from ucl_jax.methods.rehearsal import rehearsal
from ucl_jax.objectives import Objective
from ucl_jax.types import Array, Variables, Views


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
    """Makes LUMP, which learns the objective on mixed views, `weight * present + (1 - weight) * past`.

    The weight is drawn from Beta(alpha, alpha). While there is no past it is 1.

    Args:
      objective: what is learned.
      scenario: its number of tasks is for the policy.
      buffer_size: slots, at least 1; 256 in the paper.
      policy: a name of `BUFFERS`; "reservoir" in the paper.
      alpha: above 0; small values give weights near 0 or 1, so that a batch is almost all past or all present.
      replay_pair: "frozen", as in Table 1: the past has a new weak view, and its second view or its label is kept from
        when it was stored. "fresh", as the text suggests: all its views are augmented anew.
      replay_from: see `rehearsal`; "buffer" in Table 1, while the text speaks of "past_tasks".
      mix_per: "batch" draws one weight for a batch, as in Table 1; "example" draws one for each example.
      mix_labels: "lambda" mixes labels as images. "release" keeps weight 1 for the present label, as the official code
        does; it needs a supervised objective.
      count: see `rehearsal`; "presentations" in Table 1.

    Raises:
      ValueError: an argument has an unknown value, or `mix_labels` needs labels and the objective has none.
    """
    draw = partial(sample_lambda, alpha=alpha)
    per = {"batch": lambda keys: draw(keys.batch), "example": lambda keys: jax.vmap(draw)(keys.method)}
    weights = argument_choice("mix_per", mix_per, per)
    mix = argument_choice("mix_labels", mix_labels, {"lambda": mixup, "release": _mix_as_released})
    check_word("replay_pair", replay_pair, ("frozen", "fresh"))
    if mix is not mixup and objective.classes is None:
        raise ValueError(f"mix_labels={mix_labels} needs labels: take an objective with labels, or mix_labels=lambda")

    def stored_views(views):
        """Returns what is stored beside an image: all views but the first, and the label."""
        return Views(views.image[1:], views.label)

    def past_views(keys, items):
        if replay_pair == "fresh":
            return objective.views(keys.past, items.batch, "present")
        weak = objective.views(keys.past, items.batch, "replayed")
        return Views(weak.image + items.kept.image, items.kept.label)

    def keep(batch, network):
        return stored_views(objective.views(None, batch, "plain"))

    store = rehearsal(buffer_size, policy=policy, tasks=scenario.tasks, replay_from=replay_from, count=count, keep=keep)

    def loss(params, state, memory, batch, recalled, keys, clock):
        views = objective.views(keys.example, batch, "present")
        # There is no branch: without a past the weight 1 removes the zeros that an empty buffer gives.
        weight = jnp.where(store.has_past(memory), weights(keys), 1.0)
        mixed = mix(views, past_views(keys, recalled.items), weight)
        value, aux = objective.loss(Variables(params.network, state), mixed, clock)
        metrics = aux.metrics | {"lambda": jnp.mean(weight)}
        return value, aux._replace(metrics=metrics, outputs=stored_views(views))

    return Method(
        init=store.init,
        loss=loss,
        recall=store.recall,
        observe=store.observe,
        end_task=store.end_task,
        stored=store.stored,
        pairing=1,
        needs_boundaries=store.needs_boundaries,
    )


def _mix_as_released(present: Views, past: Views, weight: Array) -> Views:
    """Mixes images as `mixup`, and labels as the official code.

    Its loss is CE(present) + (1 - weight) CE(past): the factor `weight` of the first term is missing there.
    """
    assert past.label is not None
    past_share = mixup(jnp.zeros_like(past.label), past.label, weight)  # (1 - weight) * past
    return Views(mixup(present.image, past.image, weight), present.label + past_share)
