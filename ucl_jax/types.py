"""Array-only containers shared by every module, and names for what trees of arrays hold."""

from typing import Any, NamedTuple

import flax.struct
import jax

Array = jax.Array
# Trees of arrays, by what they hold. A type checker cannot tell them apart; a reader can.
PyTree = Any  # any of them, in functions that take any
Params = Any  # what an optimiser changes
ModelState = dict[str, Any]  # what else training changes: {"batch_stats": running statistics, ...}
OptState = Any  # of optax
Memory = Any  # of a method
Items = Any  # examples with what is kept beside them, leaves [N, ...]


class Batch(NamedTuple):
    """Examples as they are stored; augmented on the device, never on the host.

    image: uint8 [B, H, W, C].
    label: int32 [B], read by probes and by supervised objectives only.
    first: bool [B], True when an example is presented for the first time.
    """

    image: Array
    label: Array
    first: Array


class Views(NamedTuple):
    """Examples as a network is shown them. A method may mix views with others of the same structure.

    image: the views, each float [B, H, W, C]; two for most objectives, one with labels.
    label: float [B, C], one-hot or mixed; None without labels.
    """

    image: tuple[Array, ...]
    label: Array | None


class Variables(NamedTuple):
    """A network, as Flax means the word.

    params: what the optimiser changes.
    state: what else training changes: running statistics, and what an objective adds (targets, queues).
    """

    params: Params
    state: ModelState


class Parameters(NamedTuple):
    """All that one optimiser changes: the network's parameters, and a method's own (a distillation head), or ()."""

    network: Params
    method: Params


class Keys(NamedTuple):
    """Random keys of one step, functions of (seed, step) and of places in the global batch only.

    batch: key [], the same on every device.
    example: key [B], for the views of the present examples.
    past: key [B], for the views of the recalled examples.
    method: key [B], for what else a method draws for each example.
    """

    batch: Array
    example: Array
    past: Array
    method: Array


class Span(NamedTuple):
    """When a task is trained, int32 [] each: its number, its first step, and its number of steps.

    The host places it on the devices once a task, so that no step waits for it.
    """

    task: Array
    start: Array
    steps: Array


class Clock(NamedTuple):
    """Where a run is, int32 [] each.

    step: steps done before this one, of the whole run.
    task: the task being learned, from 0.
    task_step: steps done before this one, of this task.
    task_steps: steps of this task.
    """

    step: Array
    task: Array
    task_step: Array
    task_steps: Array


def clock_at(step: Array, span: Span) -> Clock:
    """Returns the clock of a step of the whole run, which lies in `span`."""
    return Clock(step, span.task, step - span.start, span.steps)


class Aux(NamedTuple):
    """What a loss gives besides its value.

    state: the network's state after the forward pass.
    metrics: scalars to record, averaged over devices.
    outputs: of an objective, the Embedding of all views, leaves [V, B, ...]; of a method, the arrays [B, ...] that
      `Method.observe` receives, gathered over devices, or ().
    """

    state: ModelState
    metrics: dict[str, Array]
    outputs: Any = ()


class TrainState(flax.struct.PyTreeNode):
    """Everything that training changes: arrays only, one logical copy whatever the number of devices."""

    step: Array
    params: Parameters
    model_state: ModelState
    opt_state: OptState
    memory: Memory

    @property
    def network(self) -> Variables:
        """The network alone."""
        return Variables(self.params.network, self.model_state)
