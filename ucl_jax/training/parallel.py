"""Compiles functions for one device or many. No other module chooses devices or places arrays on them.

Functions are mapped over an axis named AXIS: by pmap in one process, and by shard_map over the devices of several.
"""

import collections
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
from ucl_jax.training.step import TrainStep, TrainSteps, consecutive, select, selecting
from ucl_jax.types import Array, Examples, Probed, PyTree, Selection, Span, TrainState, Variables

AXIS = "devices"
# YNNPACK is fast for reductions but slow for convolutions. With convolutions left to Eigen, forward and backward passes
# of the paper's network are 1.7 times faster (docs/performance.md).
CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
PROGRAM_BYTES = 50_000_000  # what is compiled for a run takes less
HELD_SHARE = 8  # the examples of a task are held by the devices if they take at most 1/8 of the memory of one
HELD_BYTES = 2**28  # likewise, where a device does not tell its memory, as no CPU does; all of CIFAR fits


class Parallel(NamedTuple):
    """Holds the compiled functions of a phase. Every device has the same state; batches are split over the devices.

    Attributes:
      train_steps: state, examples, selection [b, K], key, span -> the state after K steps, their metrics with leaves
        [K]. The selection is the part of K global batches that `rows` gives, all of them in one process. The memory of
        the given state is reused (donation). If the examples are held, only the selection moves to the devices; else
        the selected images do. State, key and span are placed by `replicate`.
      lower: the same arguments, or their shapes -> the lowered program before it is compiled, for measurements and
        tests.
      hold: examples, a number N -> the same examples on every device. They are padded with zeros to N, the size of the
        largest task, so that all tasks have one program. Images become flat, because a TPU would lay out all of them
        anew in every step. N examples that are too large for the devices stay on the host, as they are.
      features: a network, host images uint8 [N, H, W, C] -> Readout with leaves [N, ...]. N must be a multiple of the
        number of devices. Every process gives all images.
      rows: the number of examples in a global batch -> the slice of them that the devices of this process take.
      replicate: a tree that is the same in every process -> the same tree, on every device.
      sharding: that of all arrays that are the same on every device.
    """

    train_steps: TrainSteps
    lower: Callable[[TrainState, Examples, Selection | Probed, Array, Span], jax.stages.Lowered]
    hold: Callable[[Examples, int], Examples]
    features: Callable[[Variables, np.ndarray], Readout]
    rows: Callable[[int], slice]
    replicate: Callable[[Any], Any]
    sharding: NamedSharding


def compile_phases(phases: Sequence, devices: list[jax.Device], mapping: str = "auto") -> list[Parallel]:
    """Makes the compiled functions of each phase of an experiment, see `parallelise`."""
    return [parallelise(phase.train_step, phase.objective.features, devices, mapping) for phase in phases]


def local(tree: PyTree) -> PyTree:
    """Returns replicated arrays as arrays of one device of this process. Nothing is copied."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


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
    """Returns the first devices of this process, or all devices of several processes, those of one beside each other.

    Args:
      devices: their number; 0 takes all.
      batch_size: the images in a batch, which will be split over them.

    Raises:
      ValueError: there are fewer devices, or several processes are to use some only, or `batch_size` is not a multiple
        of their number.
    """
    available = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    several = jax.process_count() > 1
    check_argument(
        len(set(collections.Counter(device.process_index for device in available).values())) == 1,
        "some processes have more devices than others; give each the same number",
    )
    check_argument(
        0 <= devices <= len(available),
        f"devices is {devices}, but {'the processes together have' if several else 'this machine has'} "
        f"{len(available)}; 0 takes all",
    )
    check_argument(
        not several or devices in (0, len(available)),
        f"devices is {devices}, but several processes use all their {len(available)} devices; give 0",
    )
    chosen = available[: devices or len(available)]
    check_argument(
        batch_size % len(chosen) == 0,
        f"batch_size is {batch_size}, which does not divide by the {len(chosen)} devices; "
        f"take a multiple of {len(chosen)}" + ("" if several else ", or set devices to a number that divides it"),
    )
    return chosen


def choose_mapping(mapping: str) -> str:
    """Returns how functions are mapped over devices, "pmap" or "shard_map"; "auto" takes pmap in one process.

    Raises:
      ValueError: pmap is asked for in several processes.
    """
    several = jax.process_count() > 1
    check_argument(
        not (several and mapping == "pmap"), "mapping is 'pmap', which works in one process; give 'shard_map' or 'auto'"
    )
    return ("shard_map" if several else "pmap") if mapping == "auto" else mapping


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


def _compile(
    function: Callable, is_split: Sequence[bool], mesh: Mesh, mapping: str, donate: tuple[int, ...] = ()
) -> Any:
    """Returns a jit of `function`, mapped over the devices of a mesh; its results are the same on every device.

    Unlike pmap, jit takes compiler options and dispatches in C++.

    Args:
      function: to be mapped over AXIS.
      is_split: for each argument, whether it is split over the devices.
      mesh: the devices.
      mapping: "pmap" or "shard_map". pmap takes arguments whose first axis is that of the devices.
      donate: the arguments whose memory may be reused.
    """
    devices = mesh.devices.flatten().tolist()
    if mapping == "pmap":
        in_axes = tuple(0 if split else None for split in is_split)
        mapped = jax.pmap(
            function, axis_name=AXIS, in_axes=in_axes, out_axes=None, donate_argnums=donate, devices=devices
        )
    else:
        specs = tuple(PartitionSpec(AXIS) if split else PartitionSpec() for split in is_split)
        mapped = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)

    @functools.wraps(function)  # not `mapped`: the `lower` of pmap would give a program without the options
    def call(*arguments):
        return mapped(*arguments)

    return jax.jit(call, donate_argnums=donate, compiler_options=compiler_options(devices[0].platform))


def _fits(bytes_needed: int, device: jax.Device) -> bool:
    """Tells whether arrays are small enough to be held by a device for a whole task."""
    memory = (device.memory_stats() or {}).get("bytes_limit")
    return bytes_needed <= (HELD_BYTES if memory is None else memory // HELD_SHARE)


def parallelise(
    train_step: TrainStep, features: Callable, devices: list[jax.Device], mapping: str = "auto"
) -> Parallel:
    """Makes the compiled functions of a phase. One device takes the same path as many.

    Args:
      train_step: made with axis_name=AXIS.
      features: `Objective.features`.
      devices: over which batches are split, those of each process beside each other.
      mapping: see `choose_mapping`.

    Raises:
      ValueError: see `choose_mapping`.
    """
    mapping, count = choose_mapping(mapping), len(devices)
    mesh = Mesh(np.array(devices), (AXIS,))
    everywhere, over_devices = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    ours = [place for place, device in enumerate(devices) if device.process_index == jax.process_index()]
    steps = consecutive(train_step, unroll=devices[0].platform == "cpu")
    selected = _compile(selecting(steps), (False, False, True, False, False), mesh, mapping, donate=(0,))
    streamed = _compile(steps, (False, True, False, False), mesh, mapping, donate=(0,))

    def gathered_features(network, images):
        return collectives.gather(features(network, images), AXIS)

    extract = _compile(gathered_features, (False, True), mesh, mapping)

    def split(tree):
        if mapping == "shard_map":
            return tree
        return jax.tree.map(lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), tree)

    def place(tree):
        if len(ours) == count:
            return jax.device_put(split(tree), over_devices)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(over_devices, x), tree)

    def rows(size):
        return slice(ours[0] * size // count, (ours[-1] + 1) * size // count)

    def replicate(tree):
        if len(ours) == count:
            return jax.device_put(tree, everywhere)
        # Each process places its own copy; device_put would compare those of all processes.
        places = [devices[place] for place in ours]
        return jax.tree.map(
            lambda x: jax.make_array_from_single_device_arrays(
                x.shape, everywhere, [jax.device_put(x, place) for place in places]
            ),
            tree,
        )

    def train_steps(state, examples, selection, key, span):
        if isinstance(examples.image, jax.Array):
            return selected(state, examples, place(selection), key, span)
        return streamed(state, place(select(examples, selection)), key, span)

    def hold(examples, size):
        if not _fits(size * examples.image[0].nbytes, devices[ours[0]]):
            return examples
        missing = size - len(examples.label)

        def padded(x):
            return np.pad(x, [(0, missing), (0, 0)][: x.ndim]) if missing else x

        flat = np.asarray(examples.image).reshape(len(examples.image), -1)
        return replicate(Examples(padded(flat), padded(examples.label)))

    return Parallel(
        train_steps=train_steps,
        lower=lambda state, examples, selection, key, span: selected.lower(
            state, examples, jax.eval_shape(split, selection), key, span
        ),
        hold=hold,
        features=lambda network, images: extract(network, place(images[rows(len(images))])),
        rows=rows,
        replicate=replicate,
        # The step returns states placed so. If the first one is too, there is one program, and its memory is reused.
        sharding=everywhere,
    )
