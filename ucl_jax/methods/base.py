"""What a method is: a record of pure functions over a memory of arrays."""

from collections.abc import Callable
from typing import NamedTuple

from ucl_jax.types import Array, Aux, Batch, Keys, PyTree


class Scenario(NamedTuple):
    """What a method is told about the run that it is made for.

    tasks: number of tasks that are learned one after the other; 1 when all are learned at once.
    batch_size: examples of a full batch, over all devices.
    """

    tasks: int
    batch_size: int


class Step(NamedTuple):
    """What just happened, as `Method.observe` sees it: the global batch, whatever the number of devices.

    batch: the examples of the step, leaves [B, ...].
    extras: `Aux.extras` of the loss, leaves [B, ...].
    grads: gradients of the loss, before `Method.project`; zeros where nothing is trained.
    previous: parameters before the update.
    params: parameters after the update.
    """

    batch: Batch
    extras: PyTree
    grads: PyTree
    previous: PyTree
    params: PyTree


class Method(NamedTuple):
    """How the past is kept. Pure functions, no collectives: what they get is already global or already local.

    init: a batch, params, model_state -> memory. Any pytree of arrays; its structure and shapes never change.
    loss: params, model_state, memory, batch, past, keys -> loss, Aux. Differentiated in params; batch, past and keys
      are the local share of a device.
    reference: params, model_state, memory, past, keys -> a second loss, whose gradient `project` is given (A-GEM);
      None when there is none.
    recall: memory, key, n -> past examples (leaves [n, ...]) to go with a batch of n, or () for none.
    project: memory, grads, reference grads or () -> grads, between the gradients and the optimiser.
    observe: memory, step, key -> memory, after the update of the parameters.
    end_task: memory, params -> memory, when a task has been learned and evaluated.
    stored: memory -> (Batch, filled bool [S]): the raw examples it holds, to look at; None when it stores none.
    """

    init: Callable[[Batch, PyTree, PyTree], PyTree]
    loss: Callable[[PyTree, PyTree, PyTree, Batch, PyTree, Keys], tuple[Array, Aux]]
    reference: Callable[[PyTree, PyTree, PyTree, PyTree, Keys], Array] | None = None
    recall: Callable[[PyTree, Array, int], PyTree] = lambda memory, key, n: ()
    project: Callable[[PyTree, PyTree, PyTree], PyTree] = lambda memory, grads, reference: grads
    observe: Callable[[PyTree, Step, Array], PyTree] = lambda memory, step, key: memory
    end_task: Callable[[PyTree, PyTree], PyTree] = lambda memory, params: memory
    stored: Callable[[PyTree], tuple[Batch, Array]] | None = None
