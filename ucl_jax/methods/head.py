"""The head of distilling methods: it predicts from the network's outputs what another network gives."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ucl_jax.methods.base import Scenario
from ucl_jax.models.heads import Embedding
from ucl_jax.models.layers import at_least_float32
from ucl_jax.objectives import Objective
from ucl_jax.types import Array, Batch, Params, Variables


class Head(NamedTuple):
    """Holds the functions of a head.

    Attributes:
      init: key, a batch, the network -> parameters.
      output: an Embedding -> the output that is predicted, and that it is predicted from, in at least float32.
      predict: parameters, outputs [N, D] -> predicted [N, D], in at least float32. Statistics are those of the N rows,
        over all devices. None are kept.
    """

    init: Callable[[Array, Batch, Variables], Params]
    output: Callable[[Embedding], Array]
    predict: Callable[[Params, Array], Array]


def make_head(objective: Objective, scenario: Scenario, output: str, hidden_dim: int) -> Head:
    """Makes a head of two layers with batch norm between them.

    Args:
      objective: what is learned.
      scenario: makes the Flax module.
      output: which field of `Embedding` is predicted: "features" of the backbone, or "projection".
      hidden_dim: width of the hidden layer.
    """
    head = scenario.head(hidden_dim)

    def outputs(embedding):
        return at_least_float32(getattr(embedding, output))

    def init(key, batch, network):
        view = objective.views(None, batch, "plain").image[0]
        example = jax.eval_shape(lambda: outputs(objective.embed(network, view, False)[0]))
        return head.init(key, jnp.zeros(example.shape, example.dtype), train=True)["params"]

    def predict(params, now):
        return at_least_float32(head.apply({"params": params}, now, train=True, mutable=["batch_stats"])[0])

    return Head(init=init, output=outputs, predict=predict)
