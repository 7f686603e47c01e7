"""What distilling methods share: a frozen copy of the network, and a trained head that predicts its outputs."""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.errors import argument_choice
from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.head import make_head
from ucl_jax.objectives import Distillation, Objective
from ucl_jax.types import Params, Variables


class Trained(NamedTuple):
    """The parameters of a distilling method.

    head: those of the head that predicts.
    criterion: those of the criterion, or (); see `Distillation`.
    """

    head: Params
    criterion: Params


class FrozenNetwork(flax.struct.PyTreeNode):
    """The memory of a distilling method.

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
    training = argument_choice("frozen_mode", frozen_mode, {"train": True, "eval": False})
    head = make_head(objective, scenario, output, hidden_dim)

    def init(key, batch, network):
        own = Trained(head.init(key, batch, network), criterion.init(jax.random.fold_in(key, 1)))
        return own, FrozenNetwork(network=_copy(network))

    def loss(params, state, memory, batch, recalled, keys, clock):
        views = objective.views(keys.example, batch, "present")
        value, aux = objective.loss(Variables(params.network, state), views, clock)
        frozen = jax.lax.stop_gradient(memory.network)

        def each(now, view):
            return head.predict(params.method.head, now), head.output(objective.embed(frozen, view, training)[0])

        predicted, target = jax.vmap(each)(head.output(aux.outputs), jnp.stack(views.image))
        # In the first task the term is masked below. That does not mask a gradient that is not finite, so the
        # prediction is compared with itself there.
        target = jnp.where(clock.task > 0, target, jax.lax.stop_gradient(predicted))
        distilled = criterion.loss(params.method.criterion, predicted, frozen, target)
        distilled = jnp.where(clock.task > 0, weight * distilled, 0.0)
        return value + distilled, aux._replace(outputs=(), metrics=aux.metrics | {"distillation": distilled})

    def end_task(own, memory, network):
        return own, memory.replace(network=_copy(network))

    def active(own, clock):
        return jax.tree.map(lambda x: jnp.where(clock.task > 0, x, jnp.zeros_like(x)), own)

    return Method(init=init, loss=loss, end_task=end_task, active=active)


def _copy(network: Variables) -> Variables:
    """Copies a network, because the next step reuses the memory of its arrays (donation)."""
    return jax.tree.map(jnp.copy, network)
