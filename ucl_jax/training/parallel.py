"""Compiles functions for one device or many. No other module chooses devices or places arrays on them.

It uses pmap, whose axis is named AXIS.
"""

import functools
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ucl_jax import collectives
from ucl_jax.errors import check_argument
from ucl_jax.objectives import Readout
from ucl_jax.training.step import TrainStep
from ucl_jax.types import Array, Batch, Span, TrainState, Variables

AXIS = "devices"
# YNNPACK is fast for reductions but slow for convolutions. With convolutions left to Eigen, forward and backward passes
# of the paper's network are 1.7 times faster (docs/performance.md).
CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
PROGRAM_BYTES = 50_000_000  # what is compiled for a run takes less


class Parallel(NamedTuple):
    """Holds the compiled functions of a phase. Every device has the same state; batches are split over the devices.

    train_step: state, host Batch [B, ...], key, span -> state, metrics. The memory of the given state is reused
      (donation). Only the batch moves to the devices if state, key and span are placed as `sharding` says.
    lower: the same arguments, or their shapes -> the lowered step before it is compiled, for measurements and tests.
    features: a network, host images uint8 [N, H, W, C] -> Readout with leaves [N, ...]. N must be a multiple of the
      number of devices.
    sharding: that of all arrays that are the same on every device.
    """

    train_step: TrainStep
    lower: Callable[[TrainState, Batch, Array, Span], jax.stages.Lowered]
    features: Callable[[Variables, np.ndarray], Readout]
    sharding: NamedSharding


def compile_phases(phases: Sequence, devices: list[jax.Device]) -> list[Parallel]:
    """Makes the compiled functions of each phase of an experiment, see `parallelise`."""
    return [parallelise(phase.train_step, phase.objective.features, devices) for phase in phases]


def keep_compiled(folder: str, warn: Callable[[str], object]) -> None:
    """Makes JAX keep compiled programs in a folder, for later processes; a folder that JAX was given already wins.

    Args:
      folder: the path; "" keeps no programs.
      warn: called with a message where the folder cannot be written to or has no room, and so is not used.
    """
    if not folder or jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    place = pathlib.Path(folder).expanduser()
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
        reason = (
            ""
            if shutil.disk_usage(place).free >= PROGRAM_BYTES
            else f"less than {PROGRAM_BYTES // 1000000} MB are free"
        )
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        warn(f"no compiled programs are kept in {folder}: {reason}")
    else:
        jax.config.update("jax_compilation_cache_dir", str(place))


def choose_devices(devices: int, batch_size: int) -> list[jax.Device]:
    """Returns the first local devices.

    Args:
      devices: their number; 0 takes all.
      batch_size: the images in a batch, which will be split over them.

    Raises:
      ValueError: there are fewer devices, or `batch_size` is not a multiple of their number.
    """
    available = jax.local_devices()
    check_argument(
        0 <= devices <= len(available),
        f"devices is {devices}, but this machine has {len(available)}; 0 takes all",
    )
    chosen = available[: devices or len(available)]
    check_argument(
        batch_size % len(chosen) == 0,
        f"batch_size is {batch_size}, which does not divide by the {len(chosen)} devices; "
        f"take a multiple of {len(chosen)}, or set devices to a number that divides it",
    )
    return chosen


def compiler_options(platform: str) -> dict[str, Any]:
    """Returns the compiler options for a platform: on "cpu" those of CPU_OPTIONS that this version of XLA knows."""
    if platform != "cpu":
        return {}
    return {name: value for name, value in CPU_OPTIONS.items() if _xla_knows(name, value)}


@functools.cache
def _xla_knows(name: str, value: Any) -> bool:
    with jax.default_device(jax.devices("cpu")[0]):
        try:
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
        except (jax.errors.JaxRuntimeError, ValueError, TypeError):
            return False
    return True


def _compile(function: Callable, in_axes, out_axes, devices: list[jax.Device], donate: tuple[int, ...]) -> Any:
    """Returns a jit of a pmap of `function`. Unlike pmap, jit takes compiler options and dispatches in C++."""
    mapped = jax.pmap(
        function, axis_name=AXIS, in_axes=in_axes, out_axes=out_axes, donate_argnums=donate, devices=devices
    )

    @functools.wraps(function)  # not `mapped`: its `lower` would give a program without the options
    def call(*arguments):
        return mapped(*arguments)

    return jax.jit(call, donate_argnums=donate, compiler_options=compiler_options(devices[0].platform))


def parallelise(train_step: Callable, features: Callable, devices: list[jax.Device]) -> Parallel:
    """Makes the compiled functions of a phase. One device takes the same path as many.

    Args:
      train_step: made with axis_name=AXIS.
      features: `Objective.features`.
      devices: over which batches are split.
    """
    count = len(devices)
    step = _compile(train_step, (None, 0, None, None), (None, None), devices, donate=(0,))

    def gathered_features(network, images):
        return collectives.gather(features(network, images), AXIS)

    extract = _compile(gathered_features, (None, 0), None, devices, donate=())

    def split(tree):
        return jax.tree.map(lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), tree)

    mesh = Mesh(np.array(devices), (AXIS,))

    def place(tree):
        return jax.device_put(split(tree), NamedSharding(mesh, PartitionSpec(AXIS)))

    return Parallel(
        train_step=lambda state, batch, key, span: step(state, place(batch), key, span),
        lower=lambda state, batch, key, span: step.lower(state, jax.eval_shape(split, batch), key, span),
        features=lambda network, images: extract(network, place(images)),
        # The step returns states placed so. If the first one is too, there is one program, and its memory is reused.
        sharding=NamedSharding(mesh, PartitionSpec()),
    )
