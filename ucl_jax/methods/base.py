"""What a method is: a record of pure functions over parameters of its own and a memory of arrays."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import linen as nn

from ucl_jax.types import Array, Aux, Batch, Clock, Keys, Memory, ModelState, Parameters, Params, Variables


class Scenario(NamedTuple):
    """What a method is told about the run that it is made for.

    tasks: number of tasks that are learned one after the other; 1 when all are learned at once.
    batch_size: examples of a full batch, over all devices.
    head: width of the hidden layer -> a network [B, D] -> [B, D] of two layers with batch norm between them, whose
      computation and batch statistics are as those of the run's network.
    """

    tasks: int
    batch_size: int
    head: Callable[[int], nn.Module]


class Step(NamedTuple):
    """What just happened, as `Method.observe` sees it: the global batch, whatever the number of devices.

    batch: the examples of the step, leaves [B, ...].
    recalled: what `Method.recall` gave for them.
    outputs: `Aux.outputs` of the loss, leaves [B, ...].
    grads: gradients of the loss, before `Method.project`; zeros where nothing is trained.
    before: parameters before the update.
    after: parameters after the update.
    """

    batch: Batch
    recalled: Any
    outputs: Any
    grads: Parameters
    before: Parameters
    after: Parameters


class Method(NamedTuple):
    """How the past is kept. Pure functions, no collectives: what they get is already global or already local.

    init: key, a batch, the network -> parameters of its own, or (), and memory: any pytree of arrays. Structures and
      shapes never change.
    loss: params, the network's state, memory, batch, recalled, keys, clock -> loss, Aux. Differentiated in params;
      batch, recalled and keys are the local share of a device.
    reference: params, the network's state, memory, recalled, keys, clock -> a second loss, whose gradient `project` is
      given (A-GEM); None when there is none.
    recall: memory, key, n -> past examples to go with a batch of n, leaves [n, ...]: `buffers.Recalled`, several of
      them, or () for none.
    project: memory, grads, reference grads or () -> grads, between the gradients and the optimiser.
    observe: memory, step, key -> memory, after the update of the parameters.
    begin_task: own parameters, memory, the network, clock -> own parameters, memory: before the first step of a task.
    end_task: own parameters, memory, the network -> own parameters, memory: when a task was learned and evaluated.
    active: a tree like the own parameters, clock -> the same, with zeros where nothing is trained now.
    stored: memory -> (Batch, filled bool [S]): the raw examples it holds, to look at; None when it stores none.
    """

    init: Callable[[Array, Batch, Variables], tuple[Params, Memory]]
    loss: Callable[[Parameters, ModelState, Memory, Batch, Any, Keys, Clock], tuple[Array, Aux]]
    reference: Callable[[Parameters, ModelState, Memory, Any, Keys, Clock], Array] | None = None
    recall: Callable[[Memory, Array, int], Any] = lambda memory, key, n: ()
    project: Callable[[Memory, Parameters, Any], Parameters] = lambda memory, grads, reference: grads
    observe: Callable[[Memory, Step, Array], Memory] = lambda memory, step, key: memory
    begin_task: Callable[[Params, Memory, Variables, Clock], tuple[Params, Memory]] = (
        lambda own, memory, network, clock: (own, memory)
    )
    end_task: Callable[[Params, Memory, Variables], tuple[Params, Memory]] = lambda own, memory, network: (own, memory)
    active: Callable[[Params, Clock], Params] = lambda own, clock: own
    stored: Callable[[Memory], tuple[Batch, Array]] | None = None
