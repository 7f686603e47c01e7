"""What distilling methods share: a frozen copy of the network, and a trained head that predicts what it says."""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.errors import pick
from ucl_jax.methods.base import Method, Scenario
from ucl_jax.objectives import Objective
from ucl_jax.types import Array, ModelState, Variables


class Past(flax.struct.PyTreeNode):
    """The memory of a distilling method.

    network: the network as the last task left it, with its running statistics.
    head_state: running statistics of the head, which its layers ask for; nothing reads or changes them.
    """

    network: Variables
    head_state: ModelState


def distillation(
    objective: Objective,
    scenario: Scenario,
    *,
    output: str,
    hidden_dim: int,
    distance: Callable[[Array, Array], Array],
    weight: float,
    frozen: str,
) -> Method:
    """Makes a method that adds `weight * mean over views of distance(head(now), then)` to the objective.

    Now and then are outputs for the same views, by the network and by its copy. In the first task there is nothing to
    predict: the term is 0, and the head stays as it was drawn. A step costs a forward pass of the copy more than
    finetune's, and memory for it.

    Args:
      objective: for the present.
      scenario: makes the head.
      output: "features" of the backbone, or "projection": a field of `Embedding`.
      hidden_dim: of the head.
      distance: predicted [B, D], target [B, D] -> scalar.
      weight: at least 0.
      frozen: "train": the copy uses statistics of the batch, as the released codes do; "eval": its running ones.

    Raises:
      ValueError: another word for `frozen`.
    """
    training = pick("frozen", frozen, {"train": True, "eval": False})
    head = scenario.head(hidden_dim)

    def outputs(embedding):
        return getattr(embedding, output).astype(jnp.float32)

    def init(key, batch, network):
        view = objective.views(None, batch, "plain").image[0]
        example = jax.eval_shape(lambda: outputs(objective.embed(network, view, False)[0]))
        drawn = head.init(key, jnp.zeros(example.shape, example.dtype), train=True)
        return drawn["params"], Past(_copy(network), {"batch_stats": drawn["batch_stats"]})

    def predict(params, memory, now):
        variables = {"params": params, **memory.head_state}
        return head.apply(variables, now, train=True, mutable=["batch_stats"])[0].astype(jnp.float32)

    def loss(params, state, memory, batch, recalled, keys, clock):
        views = objective.views(keys.example, batch, "present")
        value, aux = objective.loss(Variables(params.network, state), views, clock)

        def term(now, view):
            then = outputs(objective.embed(memory.network, view, training)[0])
            return distance(predict(params.method, memory, now), jax.lax.stop_gradient(then))

        distilled = jnp.mean(jax.vmap(term)(outputs(aux.outputs), jnp.stack(views.image)))
        distilled = jnp.where(clock.task > 0, weight * distilled, 0.0)
        return value + distilled, aux._replace(outputs=(), metrics=aux.metrics | {"distillation": distilled})

    def end_task(own, memory, network):
        return own, memory.replace(network=_copy(network))

    def active(own, clock):
        return jax.tree.map(lambda x: jnp.where(clock.task > 0, x, jnp.zeros_like(x)), own)

    return Method(init=init, loss=loss, end_task=end_task, active=active)


def _copy(network: Variables) -> Variables:
    """Arrays of its own: those of the network are given away to the next step."""
    return jax.tree.map(jnp.copy, network)
