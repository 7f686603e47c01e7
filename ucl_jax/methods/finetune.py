"""Finetune: learn each task as it comes and keep nothing. The lower bound of the paper's tables."""

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.objectives import Objective


def finetune(objective: Objective, scenario: Scenario) -> Method:
    """The objective on the present batch alone."""

    def loss(params, model_state, memory, batch, past, keys):
        return objective.loss(params, model_state, objective.views(keys.example, batch))

    return Method(lambda batch, params, model_state: (), loss)
