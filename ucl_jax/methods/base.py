"""What a method is: a record of pure functions over a memory of arrays."""

from collections.abc import Callable
from typing import NamedTuple

from ucl_jax.types import Array, Aux, Batch, Keys, PyTree


class Step(NamedTuple):
    """What just happened, as `Method.observe` sees it: the global batch, whatever the number of devices.

    batch: the examples of the step, leaves [B, ...].
    extras: `Aux.extras` of the loss, leaves [B, ...].
    grads: gradients of the step.
    params: parameters after the update.
    """

    batch: Batch
    extras: PyTree
    grads: PyTree
    params: PyTree


class Method(NamedTuple):
    """How the past is kept. Pure functions, no collectives: what they get is already global or already local.

    init: a batch, params -> memory. Any pytree of arrays; its structure and shapes never change.
    loss: params, model_state, memory, batch, past, keys -> loss, Aux. The one function that is differentiated (in
      params); batch, past and keys are the local share of a device.
    recall: memory, key, n -> n past examples (leaves [n, ...]) to go with a batch of n, or () for none.
    observe: memory, step, key -> memory, after the update of the parameters.
    project: memory, grads -> grads, between the gradients and the optimiser (A-GEM, a clip).
    end_task: memory, params -> memory, when a task has been learned and evaluated.
    stored: memory -> (Batch, filled bool [S]): the raw examples it holds, to look at; None when it stores none.
    """

    init: Callable[[Batch, PyTree], PyTree]
    loss: Callable[[PyTree, PyTree, PyTree, Batch, PyTree, Keys], tuple[Array, Aux]]
    recall: Callable[[PyTree, Array, int], PyTree] = lambda memory, key, n: ()
    observe: Callable[[PyTree, Step, Array], PyTree] = lambda memory, step, key: memory
    project: Callable[[PyTree, PyTree], PyTree] = lambda memory, grads: grads
    end_task: Callable[[PyTree, PyTree], PyTree] = lambda memory, params: memory
    stored: Callable[[PyTree], tuple[Batch, Array]] | None = None
