"""ER, experience replay: each batch is joined by as many stored examples (Chaudhry et al. 2019, "tiny memories")."""

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.rehearsal import rehearsal, replaying_loss
from ucl_jax.objectives import Objective


def er(
    objective: Objective,
    scenario: Scenario,
    *,
    buffer_size: int,
    policy: str,
    replay_view: str,
    replay_from: str,
    count: str,
) -> Method:
    """Makes ER, which learns the objective on present and past in one batch.

    For arguments and errors see `rehearsal` and `replaying_loss`.
    """
    store = rehearsal(buffer_size, policy=policy, tasks=scenario.tasks, replay_from=replay_from, count=count)
    return Method(
        init=store.init,
        loss=replaying_loss(objective, store, replay_view),
        recall=store.recall,
        observe=store.observe,
        end_task=store.end_task,
        stored=store.stored,
        samples=lambda present, past: present + past,
        needs_boundaries=store.needs_boundaries,
    )
