"""Finetune: learn each task as it comes and keep nothing. The lower bound of the paper's tables."""

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.objectives import Objective
from ucl_jax.types import Variables


def finetune(objective: Objective, scenario: Scenario) -> Method:
    """Learns the objective on the present batch alone. `scenario` is of no use to this method."""

    def loss(params, state, memory, batch, recalled, keys, clock):
        views = objective.views(keys.example, batch, "present")
        value, aux = objective.loss(Variables(params.network, state), views, clock)
        return value, aux._replace(outputs=())

    return Method(init=lambda key, batch, network: ((), ()), loss=loss)
