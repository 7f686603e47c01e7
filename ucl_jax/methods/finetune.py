"""Finetune: each task is learned in turn, and nothing of the past is kept. It is a baseline of the paper."""

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.objectives import Objective
from ucl_jax.types import Variables


def finetune(objective: Objective, scenario: Scenario) -> Method:
    """Learns the objective on the present batch alone. `scenario` is not used."""

    def loss(params, state, memory, batch, recalled, keys, clock):
        views = objective.views(keys.example, batch, "present")
        value, aux = objective.loss(Variables(params.network, state), views, clock)
        return value, aux._replace(outputs=())

    return Method(init=lambda key, batch, network: ((), ()), loss=loss)
