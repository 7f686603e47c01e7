"""CroMo-Mixup: mixed images of two tasks lie between what two networks make of them (Mushtaq et al., ECCV 2024)."""

from functools import partial

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.distillation import NEEDS_FROZEN, active_later, copied, frozen_outputs
from ucl_jax.methods.head import make_head
from ucl_jax.methods.mixup import mixup, sample_lambda
from ucl_jax.methods.rehearsal import (
    Rehearsed,
    past_or_present,
    rehearsal,
    replay_on_rows,
    replay_period,
    replayed_rows,
)
from ucl_jax.objectives import Objective
from ucl_jax.objectives.base import two_view_aux
from ucl_jax.types import Variables


class Remembered(flax.struct.PyTreeNode):
    """The memory of CroMo-Mixup.

    Attributes:
      network: a copy of the network from the end of the last task, with its running statistics.
      rehearsed: the memory of a rehearsal method.
    """

    network: Variables
    rehearsed: Rehearsed


def cromo_mixup(
    objective: Objective,
    scenario: Scenario,
    *,
    buffer_size: int,
    policy: str,
    replay_from: str,
    count: str,
    replay_share: float,
    fixed_lambda: float,
    alpha: float,
    weight: float,
    hidden_dim: int,
    frozen_mode: str,
) -> Method:
    """Makes CroMo-Mixup: the objective, its value for mixed images, and the prediction of a frozen network.

    Some rows of a batch are mixed with stored images: lambda * present + (1 - lambda) * past. The embedding of a mixed
    image shall be like that of its present image, with weight lambda, and like the frozen network's of its past image,
    with weight 1 - lambda. And a trained head predicts the frozen network's projections of present images. The
    objective itself judges all of this, see `Comparison`. Present and mixed images are one batch for the network, as
    present and past ones are for the frozen network.

    In the first task there is no past. The loss is the objective's for the present images then, but batch statistics
    count the rows twice that would be mixed. The head is not trained.

    It stores images, and a frozen network. It trains a head. Compared with finetune, a step costs one more pass,
    forward and backward, for the mixed images, and one more forward pass of the frozen network over present and past.

    Args:
      objective: what is learned; it must compare embeddings with each other.
      scenario: makes the head; its number of tasks is for the policy.
      buffer_size: slots of all tasks together; in the released code 500 a task, 100 on ten tasks of CIFAR-100.
      policy: a name of `BUFFERS`; "with_replacement" in the released code, which draws images when a task has ended.
      replay_from: see `rehearsal`; "past_tasks" in the released code.
      count: see `rehearsal`; "examples" in the released code.
      replay_share: see `replayed_rows`; 1/4 in the released code, 64 of 256 images.
      fixed_lambda: in (0, 1], the present share of every mixed image; 0 draws one for each batch. In the released code
        0.7 for Barlow Twins, and drawn for SimCLR and BYOL.
      alpha: above 0; a lambda that is drawn comes from Beta(alpha, alpha). 1 in the released code.
      weight: of the prediction, at least 0; 1 in the released code.
      hidden_dim: width of the hidden layer of the head.
      frozen_mode: see `distillation`; "train" in the released code.

    Raises:
      ValueError: the objective compares embeddings with something else, or an argument has an unknown value.
    """
    comparison = objective.comparison
    if comparison is None:
        raise ValueError(
            "CroMo-Mixup compares embeddings of mixed images, and this objective compares with a queue, prototypes or "
            "labels; take the objective barlow_twins, simclr, byol, simsiam or vicreg, or another method"
        )
    frozen = frozen_outputs(objective, "projection", frozen_mode)
    head = make_head(objective, scenario, "projection", hidden_dim)
    store = rehearsal(buffer_size, policy=policy, tasks=scenario.tasks, replay_from=replay_from, count=count)

    def init(key, batch, network):
        memory = Remembered(network=copied(network), rehearsed=store.init(key, batch, network)[1])
        return head.init(key, batch, network), memory

    def loss(params, state, memory, batch, recalled, keys, clock):
        first, rows = len(batch.label), replayed_rows(len(batch.label), replay_share)
        pick = partial(jax.tree.map, lambda x: x[rows])
        join = partial(jax.tree.map, lambda x, y: jnp.concatenate([x, y]))
        some = (clock.task > 0) & store.has_past(memory.rehearsed)
        lam = jnp.asarray(fixed_lambda) if fixed_lambda else sample_lambda(keys.batch, alpha)

        views = objective.views(keys.example, batch, "present")
        past = objective.views(keys.past[rows], pick(recalled.items.batch), "present")
        past = past_or_present(past, pick(views), some)
        both, state = comparison.forward(Variables(params.network, state), join(views, mixup(pick(views), past, lam)))
        now, mixed = jax.tree.map(lambda x: x[:, :first], both), jax.tree.map(lambda x: x[:, first:], both)
        value = comparison.both(now)

        then = frozen(memory.network, join(views, past), head.output(both), clock)
        predicted = jax.vmap(partial(head.predict, params.method))(head.output(now))
        compare = lambda queries, keys: jnp.mean(jax.vmap(comparison.one)(queries, keys))  # noqa: E731
        cross = lam * compare(mixed.query, now.key[:, rows]) + (1.0 - lam) * compare(mixed.query, then[:, first:])
        distilled = weight * compare(predicted, then[:, :first])
        cross, distilled = (jnp.where(some, term, 0.0) for term in (cross, distilled))
        aux = two_view_aux(now, state)
        metrics = aux.metrics | {"lambda": lam, "cross": cross, "distillation": distilled}
        return value + cross + distilled, aux._replace(outputs=(), metrics=metrics)

    def end_task(own, memory, network):
        return own, Remembered(copied(network), store.end_task(own, memory.rehearsed, network)[1])

    return Method(
        init=init,
        loss=loss,
        recall=lambda memory, key, n: replay_on_rows(store, memory.rehearsed, key, n, replay_share),
        observe=lambda memory, step, key: memory.replace(rehearsed=store.observe(memory.rehearsed, step, key)),
        end_task=end_task,
        active=active_later,
        stored=lambda memory: store.stored(memory.rehearsed),
        pairing=replay_period(replay_share),
        samples=lambda present, past: present + len(replayed_rows(past, replay_share)),
        needs_boundaries=NEEDS_FROZEN,
    )
