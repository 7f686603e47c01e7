"""ER: experience replay, the present batch beside as many stored examples (Chaudhry et al. 2019, "tiny memories")."""

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.rehearsal import rehearsal, replaying_loss
from ucl_jax.objectives import Objective


def er(
    objective: Objective, scenario: Scenario, *, buffer_size: int, replay_view: str, replay_from: str, count: str
) -> Method:
    """The objective on one batch of present and past. Arguments: see `rehearsal` and `replayed_views`."""
    store = rehearsal(buffer_size, replay_from=replay_from, count=count)
    return Method(loss=replaying_loss(objective, store, replay_view), **store.parts)
