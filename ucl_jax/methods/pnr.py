"""PNR: the present and the past network's outputs are negatives of each other (Cha et al., ICML 2024)."""

from functools import partial

import flax.struct
import jax
import jax.numpy as jnp

from ucl_jax.methods.base import Method, Scenario
from ucl_jax.methods.distillation import NEEDS_FROZEN, active_later, copied, frozen_outputs
from ucl_jax.methods.head import make_head
from ucl_jax.objectives import Objective, Predicted
from ucl_jax.objectives.queue import pushed
from ucl_jax.types import Array, Variables


class Remembered(flax.struct.PyTreeNode):
    """The memory of PNR.

    Attributes:
      network: a copy of the network from the end of the last task, with its running statistics.
      queue: projections that the copy made of the last images, for an objective with a queue; else ().
      task: int32 [], the number of the task that is being learned.
    """

    network: Variables
    queue: Array | tuple[()]
    task: Array


def pnr(
    objective: Objective,
    scenario: Scenario,
    *,
    weight: float,
    negative_weight: float,
    hidden_dim: int,
    frozen_mode: str,
) -> Method:
    """Makes PNR: a head predicts a frozen network's projections, with pseudo-negatives from the other network.

    `Objective.pseudo_negatives` says what that means. SimCLR and MoCo contrast present projections with each other and
    with the frozen ones, and predictions likewise. The others add to their loss that a prediction is like the frozen
    projection of its view, and unlike that of the other view. In the first task the loss is the objective's, and the
    head is not trained. The head goes on over the tasks, and so does MoCo's queue of frozen projections, which is
    random when the second task begins.

    It stores a frozen network, and with MoCo the queue. It trains a head. Compared with finetune, a step costs one more
    forward pass.

    Args:
      objective: what is learned; it must have pseudo-negatives.
      scenario: makes the head.
      weight: of predictions, at least 0; in the released code 25 for VICReg, and 1 for all others.
      negative_weight: of pseudo-negatives, at least 0; in the released code 23 for VICReg, and for BYOL 0.5 on CIFAR
        and 1 on ImageNet. For SimCLR and MoCo it says how often each counts; the released code has once.
      hidden_dim: width of the hidden layer of the head; 2048 in the released code.
      frozen_mode: see `distillation`. On CIFAR the released code has "eval" in the first epoch of a task and "train"
        after it, on ImageNet "eval".

    Raises:
      ValueError: the objective has no pseudo-negatives, or `frozen_mode` has an unknown value.
    """
    criterion = objective.pseudo_negatives
    if criterion is None:
        raise ValueError(
            "PNR needs other images or views as negatives, and this objective assigns images to prototypes or classes; "
            "take the objective simclr, moco, byol, simsiam, barlow_twins or vicreg, or another method"
        )
    frozen = frozen_outputs(objective, "projection", frozen_mode)
    head = make_head(objective, scenario, "projection", hidden_dim)

    def init(key, batch, network):
        queue = criterion.init(jax.random.fold_in(key, 1))
        memory = Remembered(network=copied(network), queue=queue, task=jnp.zeros((), jnp.int32))
        return head.init(key, batch, network), memory

    def loss(params, state, memory, batch, recalled, keys, clock):
        views = objective.views(keys.example, batch, "present")
        alone, aux = objective.loss(Variables(params.network, state), views, clock)
        predicted = jax.vmap(partial(head.predict, params.method))(head.output(aux.outputs))
        target = frozen(memory.network, views, predicted, clock)
        past = Predicted(predicted, target, memory.queue)
        beside = criterion.loss(alone, aux.outputs, state, past, weight, negative_weight)
        value = jnp.where(clock.task > 0, beside, alone)
        entering = jax.tree.map(lambda queue: jnp.swapaxes(target, 0, 1), memory.queue)
        return value, aux._replace(outputs=entering, metrics=aux.metrics | {"distillation": value - alone})

    def observe(memory, step, key):
        def after(queue, items):
            return jnp.where(memory.task > 0, pushed(queue, items, None), queue)

        return memory.replace(queue=jax.tree.map(after, memory.queue, step.outputs))

    def end_task(own, memory, network):
        return own, memory.replace(network=copied(network), task=memory.task + 1)

    return Method(
        init=init,
        loss=loss,
        observe=observe,
        end_task=end_task,
        active=active_later,
        needs_boundaries=NEEDS_FROZEN,
    )
