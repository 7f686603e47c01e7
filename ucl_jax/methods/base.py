"""What a method is: a tuple of pure functions over parameters of its own and a memory of arrays."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from flax import linen as nn

from ucl_jax.errors import check_argument
from ucl_jax.objectives import Objective
from ucl_jax.types import (
    Array,
    Aux,
    Batch,
    Clock,
    Keys,
    Memory,
    ModelState,
    Outputs,
    Params,
    Past,
    TrainedParams,
    Variables,
)


class Scenario(NamedTuple):
    """Tells a method about the run that it is made for.

    Attributes:
      tasks: the number of tasks that are learned one after the other; 1 for joint training, and where boundaries are
        hidden.
      batch_size: examples of a full batch, over all devices.
      replayed: stored examples that a step with a full batch recalls, over all devices.
      head: width of the hidden layer -> a Flax module of two layers with batch norm between them, which maps [B, D] to
        [B, D]. Its dtype and its batch statistics over devices are as in the network of the run.
    """

    tasks: int
    batch_size: int
    replayed: int
    head: Callable[[int], nn.Module]


class Step(NamedTuple):
    """Holds what happened in a step, for `Method.observe`: the global batch, whatever the number of devices.

    Attributes:
      batch: the examples of the step, leaves [B, ...].
      recalled: what `Method.recall` returned for the step.
      last: bool [], whether this is the last update on the batch, after which it may enter a buffer.
      outputs: `Aux.outputs` of the loss, leaves [B, ...].
      grads: gradients of the loss, averaged over devices, before `Method.project`; zeros where nothing is trained.
      before: parameters before the update.
      after: parameters after the update.
    """

    batch: Batch
    recalled: Past
    last: Array
    outputs: Outputs
    grads: TrainedParams
    before: TrainedParams
    after: TrainedParams


class MethodLoss(Protocol):
    """The type of `Method.loss`."""

    def __call__(
        self,
        params: TrainedParams,
        state: ModelState,
        memory: Memory,
        batch: Batch,
        recalled: Past,
        keys: Keys,
        clock: Clock,
        /,
    ) -> tuple[Array, Aux]:
        """Returns a scalar and its Aux."""


class ReferenceLoss(Protocol):
    """The type of `Method.reference`."""

    def __call__(
        self, params: TrainedParams, state: ModelState, memory: Memory, recalled: Past, keys: Keys, clock: Clock, /
    ) -> Array:
        """Returns a scalar."""


class Method(NamedTuple):
    """How the past is kept: a tuple of pure functions. They never communicate between devices.

    A step calls recall, loss, reference, project and observe, in this order. These run on every device. `loss` and
    `reference` get the device's share of batch, recalled examples and keys, and their mean over devices must be the
    loss of the global batch. So each is a mean over examples, or made of losses of the objective, which do communicate.
    A term that is not, such as the distance of a mean over images, has to be computed by every device from the same
    examples: drawn from the memory by `keys.batch`, as GSS does.

    A task is what the method is told of as one: a `Period` of `training/schedule.py`.
    With several updates on a batch, each is a step. `Step.last` tells which is the last.

    `init`, `begin_task` and `end_task` run once, outside the step. There the objective can show images in evaluation
    mode only, by `Objective.features` or `Objective.embed`. What they keep of the network must be copied
    (`jnp.copy`), because the next step reuses the memory of its arrays.

    Attributes:
      init: key, a batch, the network -> parameters of its own, or (), and its memory, any pytree of arrays. The
        structure and shapes of both never change.
      loss: params, the network's state, memory, batch, recalled, keys, clock -> scalar, Aux. It is differentiated with
        respect to params. The state in its Aux is the network's after the step: that of the objective's loss, so that
        further passes which a method makes change no running statistics.
      reference: params, the network's state, memory, recalled, keys, clock -> the scalar of a second loss, whose
        gradient `project` is given (A-GEM). None for no second loss.
      recall: memory, key, n -> n past examples, leaves [n, ...]: a `buffers.Recalled`, several of them, or () for none.
        As a rule n is the size of the global batch.
      pairing: the number of rows in a group, where recalled examples belong to rows of the batch. In each group the
        same places have an example. With 1 every row has one, so that as many must be recalled. 0 where recalled
        examples belong to no rows.
      samples: the number of present examples, n -> of how many images a step takes gradients, once there is a past.
      project: memory, grads, gradients of `reference` or () -> the grads that the optimiser is given. Both are averaged
        over devices.
      observe: memory, step, key -> memory. It is called after the update of the parameters.
      begin_task: own parameters, memory, the network, clock -> own parameters, memory. It is called before the first
        step of a task.
      end_task: own parameters, memory, the network -> own parameters, memory. It is called after a task was learned and
        evaluated.
      active: a tree with the structure of the own parameters, clock -> the same with zeros where nothing is trained
        now.
      stored: memory -> Batch, bool [S], True for filled slots. These are the stored images, for a picture of the
        buffer. None for a method that stores none.
      needs_boundaries: why the method cannot do without being told of tasks, in words that continue "it ..."; "" if it
        can.
      step_bytes: the network's parameters, or their shapes -> the bytes of memory that a step needs on a device beside
        those of finetune, at most. None for a method that needs few.
    """

    init: Callable[[Array, Batch, Variables], tuple[Params, Memory]]
    loss: MethodLoss
    reference: ReferenceLoss | None = None
    recall: Callable[[Memory, Array, int], Past] = lambda memory, key, n: ()
    pairing: int = 0
    samples: Callable[[int, int], int] = lambda present, past: present
    project: Callable[[Memory, TrainedParams, TrainedParams | tuple[()]], TrainedParams] = (
        lambda memory, grads, reference: grads
    )
    observe: Callable[[Memory, Step, Array], Memory] = lambda memory, step, key: memory
    begin_task: Callable[[Params, Memory, Variables, Clock], tuple[Params, Memory]] = (
        lambda own, memory, network, clock: (own, memory)
    )
    end_task: Callable[[Params, Memory, Variables], tuple[Params, Memory]] = lambda own, memory, network: (own, memory)
    active: Callable[[Params, Clock], Params] = lambda own, clock: own
    stored: Callable[[Memory], tuple[Batch, Array]] | None = None
    needs_boundaries: str = ""
    step_bytes: Callable[[Params], int] | None = None


def check_projections(objective: Objective, method: str) -> None:
    """Raises ValueError, which names the method, unless the objective has projections of views without labels."""
    check_argument(
        objective.distillation is not None,
        f"{method} needs projections, and this objective has none; take another objective or method",
    )
