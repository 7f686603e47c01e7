"""Containers of arrays that every module shares, and names for what trees of arrays hold."""

from typing import Any, Literal, NamedTuple

import flax.struct
import jax

Array = jax.Array
# Trees of arrays, named by what they hold. A type checker cannot tell them apart; a reader can.
PyTree = Any  # any tree, in functions that do not depend on what it holds
Params = Any  # parameters, which the optimiser changes
ModelState = dict[str, Any]  # what else training changes: {"batch_stats": running statistics, ...}
OptState = Any  # the state of an optax optimiser
Memory = Any  # all that a method remembers between steps
Items = Any  # examples, with what a method keeps beside each; leaves [N, ...]
Past = Any  # what `Method.recall` returns: past examples, leaves [n, ...], or ()
Outputs = Any  # what a loss returns about each example of a batch, leaves [..., B, ...], or ()


class Batch(NamedTuple):
    """Holds B examples as they are stored. They are augmented later, on the device.

    Attributes:
      image: uint8 [B, H, W, C].
      label: int32 [B], the classes; only probes and supervised objectives read them.
      first: bool [B], True when an example is presented for the first time.
    """

    image: Array
    label: Array
    first: Array


class Examples(NamedTuple):
    """Holds all N training examples of a task, or of all tasks, on the host or on the devices.

    Attributes:
      image: uint8 [N, H, W, C].
      label: int32 [N], the classes.
    """

    image: Any
    label: Any


class Selection(NamedTuple):
    """Says which examples of a task are in K consecutive batches of B.

    Attributes:
      index: int32 [B, K], in [0, N). Column k is batch k. The first axis is that of a batch, which is split over
        devices.
      first: bool [B, K], see `Batch`.
    """

    index: Any
    first: Any


class Probed(NamedTuple):
    """Holds two batches, or the two Selections that they come from, for a step that trains an online linear probe, too.

    Attributes:
      present: the batch that the network learns from.
      labelled: the one that the probe learns from, as large. Its images are of all tasks.
    """

    present: Any
    labelled: Any


# How examples are shown, see `Objective.views`.
How = Literal["present", "weak", "replayed", "plain"]


class Views(NamedTuple):
    """Holds B examples as a network is shown them. A method may mix views with others of the same structure.

    Attributes:
      image: the views, each float [B, H, W, C]; one for supervised objectives, two for the others.
      label: float [B, C], one-hot or mixed with others; None for objectives without labels.
    """

    image: tuple[Array, ...]
    label: Array | None


class Variables(NamedTuple):
    """Holds a network, in what Flax calls variables.

    Attributes:
      params: the parameters, which the optimiser changes.
      state: what else training changes: running statistics, and what an objective adds, such as a target or a queue.
    """

    params: Params
    state: ModelState


class TrainedParams(NamedTuple):
    """Holds all that is trained, the network's parameters and the method's own.

    Attributes:
      network: the parameters of the network.
      method: the parameters of the method, such as a distillation head; () for none.
    """

    network: Params
    method: Params


class Keys(NamedTuple):
    """Holds the random keys of one step. They depend on the seed, the step and places in the global batch only.

    Attributes:
      batch: key [], the same on every device.
      example: key [B], one for the views of each present example.
      past: key [n], one for the views of each recalled example.
      method: key [n], one for whatever else a method draws for each recalled example.
    """

    batch: Array
    example: Array
    past: Array
    method: Array


class Span(NamedTuple):
    """Holds when a task is trained, as the method is told of tasks: a period, see `training/schedule.py`.

    The host sends it to the devices once per leg of a period, so that no step waits for it.

    Attributes:
      task: int32 [], the number of the task, from 0.
      start: int32 [], the first step of the task, counted over the whole run.
      steps: int32 [], the number of steps of the task.
      epoch_steps: int32 [], the number of steps of one epoch of the task.
    """

    task: Array
    start: Array
    steps: Array
    epoch_steps: Array


class Clock(NamedTuple):
    """Holds how far a run has come when a step begins.

    Attributes:
      step: int32 [], the steps done in the whole run.
      task: int32 [], the number of the task that is being learned, from 0.
      task_step: int32 [], the steps done in this task.
      task_steps: int32 [], the number of steps of this task.
      epoch_steps: int32 [], the number of steps of one epoch of this task, above 0.
    """

    step: Array
    task: Array
    task_step: Array
    task_steps: Array
    epoch_steps: Array

    @property
    def epoch(self) -> Array:
        """Returns the epochs done in this task: int32 []."""
        return self.task_step // self.epoch_steps


def clock_at(step: Array, span: Span) -> Clock:
    """Returns the clock after `step` steps of the whole run (int32 []), which must lie in the task of `span`."""
    return Clock(
        step=step,
        task=span.task,
        task_step=step - span.start,
        task_steps=span.steps,
        epoch_steps=span.epoch_steps,
    )


class Aux(NamedTuple):
    """Holds what a loss returns besides its value.

    Attributes:
      state: the network's state after the forward pass.
      metrics: scalars to log; the train step averages them over devices.
      outputs: from an objective, the Embedding of all V views, leaves [V, B, ...]. From a method, what `Method.observe`
        shall receive once it is gathered over devices: leaves [B, ...], or ().
    """

    state: ModelState
    metrics: dict[str, Array]
    outputs: Outputs = ()


class TrainState(flax.struct.PyTreeNode):
    """Holds everything that training changes. It has arrays only, the same on every device.

    Attributes:
      step: int32 [], the steps done in the whole run.
      params: of the network and of the method.
      model_state: what else training changes in the network.
      opt_state: of the optimiser of `params`.
      memory: of the method.
      online: the online linear probe, an `OnlineLinear`; () for none.
    """

    step: Array
    params: TrainedParams
    model_state: ModelState
    opt_state: OptState
    memory: Memory
    online: Any = ()

    @property
    def network(self) -> Variables:
        """Returns the network alone."""
        return Variables(self.params.network, self.model_state)
