"""What distilling methods share: a frozen copy of the network, and a trained head that predicts its outputs."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.errors import argument_choice
from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.head import make_head
from ucl_jax.models.layers import at_least_float32
from ucl_jax.objectives import Distillation, Objective
from ucl_jax.types import Array, Clock, Params, Variables, Views

NEEDS_FROZEN = "copies the network at the end of a task"  # a `Method.needs_boundaries`


class Trained(NamedTuple):
    """The parameters of a distilling method.

    Attributes:
      head: those of the head that predicts.
      criterion: those of the criterion, or (); see `Distillation`.
    """

    head: Params
    criterion: Params


class FrozenNetwork(flax.struct.PyTreeNode):
    """The memory of a distilling method.

    Attributes:
      network: a copy of the network from the end of the last task, with its running statistics.
    """

    network: Variables


def distillation(
    objective: Objective,
    scenario: Scenario,
    *,
    output: str,
    hidden_dim: int,
    criterion: Distillation,
    weight: float,
    frozen_mode: str,
) -> Method:
    """Makes a method that adds to the objective `weight` times how well a head predicts what the frozen network gives.

    The head sees the network's outputs, of one view after the other; the frozen network sees the same views. In the
    first task there is none: the term is 0, and neither head nor criterion is trained. Both go on over the tasks.
    Compared with finetune, a step costs one more forward pass, and the memory for the copy.

    Args:
      objective: what is learned.
      scenario: makes the head.
      output: which field of `Embedding` is predicted: "features" of the backbone, or "projection".
      hidden_dim: width of the hidden layer of the head.
      criterion: judges the predictions.
      weight: at least 0.
      frozen_mode: which statistics the copy uses. "train": those of the batch, as in the released codes of CaSSLe and
        PFR, which never put it in evaluation mode. "eval": its running ones.

    Raises:
      ValueError: `frozen_mode` has an unknown value.
    """
    frozen, head = frozen_outputs(objective, output, frozen_mode), make_head(objective, scenario, output, hidden_dim)

    def init(key, batch, network):
        own = Trained(head.init(key, batch, network), criterion.init(jax.random.fold_in(key, 1)))
        return own, FrozenNetwork(copied(network))

    def loss(params, state, memory, batch, recalled, keys, clock):
        views = objective.views(keys.example, batch, "present")
        value, aux = objective.loss(Variables(params.network, state), views, clock)
        predicted = jax.vmap(partial(head.predict, params.method.head))(head.output(aux.outputs))
        past = jax.lax.stop_gradient(memory.network)
        target = frozen(past, views, predicted, clock)
        distilled = criterion.loss(params.method.criterion, predicted, past, target)
        distilled = jnp.where(clock.task > 0, weight * distilled, 0.0)
        return value + distilled, aux._replace(outputs=(), metrics=aux.metrics | {"distillation": distilled})

    def end_task(own, memory, network):
        return own, FrozenNetwork(copied(network))

    return Method(init=init, loss=loss, end_task=end_task, active=active_later, needs_boundaries=NEEDS_FROZEN)


def frozen_outputs(
    objective: Objective, output: str, frozen_mode: str
) -> Callable[[Variables, Views, Array, Clock], Array]:
    """Makes the function that gives the outputs of a frozen network.

    Args:
      objective: applies the network.
      output: which field of `Embedding` is returned.
      frozen_mode: see `distillation`.

    Returns:
      The frozen network, V views of B images, other outputs [V, B, D], clock -> outputs [V, B, D], in at least float32
      and without gradient. In the first task, which has no past, the other outputs are returned. Methods mask their
      terms there, but a mask does not hide a gradient that is not finite. What is compared with itself has none.

    Raises:
      ValueError: `frozen_mode` has an unknown value.
    """
    training = argument_choice("frozen_mode", frozen_mode, {"train": True, "eval": False})

    def outputs(network, views, others, clock):
        embed = lambda view: getattr(objective.embed(network, view, training)[0], output)  # noqa: E731
        found = at_least_float32(jax.vmap(embed)(jnp.stack(views.image)))
        return jax.lax.stop_gradient(jnp.where(clock.task > 0, found, others))

    return outputs


def active_later(own: Params, clock: Clock) -> Params:
    """Returns `own` with zeros in the first task: a `Method.active` of what is trained from the second task on."""
    return jax.tree.map(lambda x: jnp.where(clock.task > 0, x, jnp.zeros_like(x)), own)


def copied(network: Variables) -> Variables:
    """Copies a network, because the next step reuses the memory of its arrays (donation)."""
    return jax.tree.map(jnp.copy, network)
