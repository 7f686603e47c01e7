"""ER: experience replay, the present batch beside as many stored examples (Chaudhry et al. 2019, "tiny memories")."""

from ucl_jax.methods.base import Method
from ucl_jax.methods.rehearsal import beside, past_or_present, rehearsal
from ucl_jax.objectives import Objective


def er(objective: Objective, *, buffer_size: int, replay_from: str, count: str) -> Method:
    """The objective on one batch of present and past, all augmented afresh. Arguments: see `rehearsal`."""
    store = rehearsal(buffer_size, replay_from=replay_from, count=count)

    def loss(params, model_state, memory, batch, past, keys):
        views = objective.views(keys.example, batch)
        past_views = past_or_present(objective.views(keys.past, past.batch), views, store.any(memory))
        value, aux = objective.loss(params, model_state, beside(views, past_views))
        return value, aux._replace(extras=())

    return Method(loss=loss, **store.parts)
