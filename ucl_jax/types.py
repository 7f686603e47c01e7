"""Array-only containers shared by every module."""

from typing import Any, NamedTuple

import flax.struct
import jax

Array = jax.Array
PyTree = Any


class Batch(NamedTuple):
    """Examples as they are stored; augmented on the device, never on the host.

    image: uint8 [B, H, W, C].
    label: int32 [B], read by probes and by supervised objectives only.
    first: bool [B], True when an example is presented for the first time.
    """

    image: Array
    label: Array
    first: Array


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


class Aux(NamedTuple):
    """What a loss gives besides its value.

    model_state: the batch statistics after the forward pass.
    metrics: scalars to record, averaged over devices.
    extras: per-example arrays [B, ...] that `Method.observe` receives, gathered over devices.
    """

    model_state: PyTree
    metrics: dict[str, Array]
    extras: PyTree = ()


@flax.struct.dataclass
class TrainState:
    """Everything that training changes: arrays only, one logical copy whatever the number of devices."""

    step: Array
    params: PyTree
    model_state: PyTree
    opt_state: PyTree
    memory: PyTree
