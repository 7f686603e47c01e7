"""Compiles the training step for accelerators that are not here, and reads from the programs what they will do.

    python -m benchmarks.aot --target=h100,v5e:1x1,v5e:2x4,v5e:16x16      # the paper's LUMP step, batch 256, bfloat16
    python -m benchmarks.aot --target=h100 --config=configs/lump.py:digits,simsiam --config.model.dtype=bfloat16 \
        --out=FILE --text=FILE

A target is one NVIDIA H100, or a slice of TPU v5e with so many chips. --text also keeps the compiled program. Nothing
is run. XLA compiles for an H100 with the package jax[cuda13], and for a TPU with libtpu. Times are predictions: for a
TPU they are the estimates of libtpu; for an H100 they are the bytes and the products at the rates of the card, one
after the other, neither with what devices send each other. All figures are of one device. Writes
benchmarks/results/aot.json; targets that it has already stay, if they are of the same config, commit and versions.
"""

import argparse
import collections
import importlib.metadata
import json
import math
import os
import pathlib
import re
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks import compiled, hlo, measure, performance
from ucl_jax.cli import Parser, returns_exit_code
from ucl_jax.errors import UsageError, require, user_choice
from ucl_jax.recipes import read_config

RESULT = measure.RESULTS / "aot.json"
DEFAULT = ["--config=configs/lump.py:cifar10,simsiam", "--config.model.dtype=bfloat16"]
OLDEST_JAX = (0, 11)  # with which this was tried; 0.10 does not compile for an H100 that is not there

# An H100 (SXM): its memory, and its products in bfloat16 (132 cores x 4 x 512 multiply-adds x 1.83 GHz, in XLA's
# specification h100_sxm). Good kernels of cuDNN reach about 60 % of the latter.
BYTES_A_SECOND, PRODUCT_FLOPS_A_SECOND = 3.35e12, 0.6 * 989e12
# A TPU v5e has four units of 128 x 128 multiply-adds and 197 TFLOP/s in bfloat16 (cloud.google.com/tpu/docs/v5e and
# .../system-architecture-tpu-vm), which makes 1.5 GHz.
CYCLES_A_SECOND = 197e12 / (4 * 128 * 128 * 2)


# The targets.


def _h100() -> list:
    """Returns the H100 to compile for, as a list of one device."""
    config = pathlib.Path(__file__).with_name("h100.pbtxt").read_text()
    return _devices(platform="cuda", topology_name="h100", topology="1x1x1", target_config=config)


def _v5e(name: str) -> Callable[[], list]:
    """Returns a function that returns the chips of a slice of TPU v5e, such as "v5e:2x4"."""
    # A host has up to 8 chips; libtpu wants to be told where a slice is smaller than that.
    smaller = {"chips_per_host_bounds": (1, 1, 1)} if name == "v5e:1x1" else {}
    return lambda: _devices(platform="tpu", topology_name=name, **smaller)


def _devices(**topology) -> list:
    from jax.experimental import topologies

    return list(topologies.get_topology_desc(**topology).devices)


class Target(NamedTuple):
    """An accelerator to compile for.

    package: what JAX needs for it.
    extra: what to install to have that package.
    devices: returns its devices.
    """

    package: str
    extra: str
    devices: Callable[[], list]


TARGETS = {
    "h100": Target("jax-cuda13-plugin", "jax[cuda13]", _h100),
    **{name: Target("libtpu", "jax[tpu]", _v5e(name)) for name in ("v5e:1x1", "v5e:2x4", "v5e:16x16")},
}


def check_packages(target: str) -> None:
    """Checks that a target can be compiled for here.

    Raises:
      UsageError: a package is missing, or JAX is too old.
    """
    package, extra, _ = TARGETS[target]
    found, oldest = version("jax"), ".".join(map(str, OLDEST_JAX))
    install = f"pip install '{extra}>={oldest}' (Python 3.12 or newer)"
    require(
        tuple(int(part) for part in found.split(".")[:2]) >= OLDEST_JAX,
        f"--target={target} needs JAX {oldest} or newer, and this is {found}: {install}",
    )
    require(version(package) is not None, f"--target={target} needs the package {package}: {install}")


def version(package: str) -> str | None:
    """Returns the version of a package, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# What a program does.

# What the name or the source of an instruction has -> where its bytes come from; the first that is found counts. The
# backbone has also the sums of gradients where a shortcut branches off, and the spatial mean.
ORIGINS = (
    (r"_norm['\\/]|batch_stats", "normalisation"),
    (r"\bconv\b|models/convolution\.py", "convolution"),
    (r"\bdense\b|projector|predictor|objectives/", "loss and heads"),
    (r"\bbackbone\b|models/", "normalisation"),
    (r"augment\.py", "augmentation"),
    (r"optax/|opt_state|state\.params", "update"),
    (r"buffers/|methods/|state\.memory", "buffer"),
)
OTHER = "other"
NAMES = (*dict.fromkeys(name for _, name in ORIGINS), OTHER)
# Arrays of these origins are activations if they have more rows than the moments of a norm have: one for each view.
ACTIVATIONS, VIEWS = ("normalisation", "convolution", "loss and heads"), 2
PRODUCTS = ("convolution", "dot")
MOVES = {"parameter", "constant", "bitcast", "reshape", "convert", "copy", "transpose"}  # which compute nothing


def origin(program: hlo.Program, launch: hlo.Launch) -> str:
    """Returns where what a launch moves comes from, a name of NAMES.

    A fusion with a convolution or a matrix product comes from that. One that has no name of its own comes from the last
    of its instructions that has one, and a copy without a name from what it copies.
    """
    one = launch.instruction
    inner = [each for name in program.called(one) for each in program.computations[name].values()]
    sources = [each for each in inner if each.op in PRODUCTS] + [one, *reversed(inner)]
    computation = program.computations[launch.computation]
    while one.operands and (one := computation.get(one.operands[0])):
        sources.append(one)
    for source in sources:
        told = f"{source.op_name} {program.frame(source).rpartition('ucl_jax/')[2]}"
        for pattern, name in ORIGINS:
            if re.search(pattern, told):
                return name
    return OTHER


def layout_change(program: hlo.Program, launch: hlo.Launch) -> bool:
    """Tells whether a launch only lays out an array anew: a transposition, or a copy to another order of the axes."""
    one = launch.instruction
    computation = program.computations[launch.computation]
    if one.op == "fusion":
        computation = program.computations[program.called(one)[0]]
        inner = list(computation.values())
        return {each.op for each in inner} <= MOVES and any(_turns(program, computation, each) for each in inner)
    return _turns(program, computation, one)


def _turns(program, computation, one):
    """Tells whether an instruction is a transposition, or a copy to another order of the axes.

    Those of a broadcast or of the result of a collective do not count: they are of a vector that is there many times.
    """
    if one.op not in ("copy", "transpose"):
        return False
    source = computation[one.operands[0]]
    turned = one.op == "transpose" or source.result[0].layout != one.result[0].layout
    while source.op in ("bitcast", "get-tuple-element"):
        source = computation[source.operands[0]]
    return turned and source.op != "broadcast" and not program.communicates(source)


def describe(text: str) -> dict[str, Any]:
    """Returns what a compiled program does on one device in one call.

    Args:
      text: the program (HLO) of a training step.

    Returns:
      launches: how many kernels, calls of libraries, copies and collectives are launched; of a program of libtpu, those
        whose cycles it estimates.
      loops: the number of `while` loops.
      bytes: what moves through the memory of the device.
      cycles: libtpu's estimate, or None.
      origins: name of NAMES -> launches, bytes and cycles.
      layout_changes: "activations" and "kernels" -> their number, the bytes read and written, also in a memory of the
        chip, and how many are of float32.
    """
    program = hlo.parse(text)
    launches = list(hlo.launches(program))
    estimated = any(each.instruction.cycles is not None for each in launches)
    leaves = [one for one in program.computations[program.entry].values() if one.op_name.startswith("state.params")]
    kernels = {_sides(one) for one in leaves if len(one.result[0].sides) > 1}
    origins = {name: collections.Counter(launches=0, bytes=0, cycles=0) for name in NAMES}
    changes = {kind: collections.Counter(number=0, bytes=0, float32=0) for kind in ("activations", "kernels")}
    for each in launches:
        cycles = each.instruction.cycles
        name = origin(program, each)
        counts = each.times * (not estimated or cycles is not None)
        origins[name].update(launches=counts, bytes=each.bytes, cycles=each.times * (cycles or 0))
        array = each.instruction.result[0]
        kernel = _sides(each.instruction) in kernels
        activation = name in ACTIVATIONS and math.prod(array.sides[:-1]) > VIEWS
        if (kernel or activation) and layout_change(program, each):
            changes["kernels" if kernel else "activations"].update(
                number=each.times, bytes=2 * each.times * array.bytes, float32=each.times * (array.dtype == "f32")
            )
    total = sum(origins.values(), collections.Counter())
    return {
        "launches": total["launches"],
        "loops": sum(one.op == "while" for body in program.computations.values() for one in body.values()),
        "bytes": total["bytes"],
        "cycles": total["cycles"] if estimated else None,
        "origins": {name: dict(counts) for name, counts in origins.items()},
        "layout_changes": {kind: dict(counts) for kind, counts in changes.items()},
    }


def _sides(one: hlo.Instruction) -> tuple[int, ...]:
    """Returns the sides of an array that are not 1, in order: the same for the array and its transpositions."""
    return tuple(sorted(side for side in one.result[0].sides if side != 1))


def wide_products(products: list[compiled.Product]) -> list[dict]:
    """Returns the products in float32: for each name how many, and their FLOPs."""
    found = collections.defaultdict(list)
    for one in products:
        if "f32" in one.dtypes:
            found[one.name].append(one.flops)
    return [{"name": name, "number": len(flops), "flops": sum(flops)} for name, flops in sorted(found.items())]


def milliseconds(moved: int, flops: int, cycles: int | None) -> float:
    """Returns the predicted ms of a step: by libtpu's estimate if there is one, else at the rates of an H100."""
    seconds = moved / BYTES_A_SECOND + flops / PRODUCT_FLOPS_A_SECOND if cycles is None else cycles / CYCLES_A_SECOND
    return 1e3 * seconds


# The command.


def compile_for(target: str, config) -> tuple[dict, str]:
    """Compiles the training step of a config for a target.

    Returns:
      What is reported about it, and the text of the program; if it does not compile, {"error": the first line of the
      compiler's message} and "".

    Raises:
      UsageError: the batch does not divide by the devices.
    """
    import jax

    devices = TARGETS[target].devices()
    require(
        config.train.batch_size % len(devices) == 0,
        f"config.train.batch_size is {config.train.batch_size}, which does not divide by the {len(devices)} devices of "
        f"{target}; give a multiple of {len(devices)}",
    )
    lowered = compiled.lower_for(config, devices)
    products = compiled.products(lowered.as_text(debug_info=True))
    began = time.perf_counter()
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        return {"error": str(error).splitlines()[0]}, ""
    seconds, memory, text = time.perf_counter() - began, program.memory_analysis(), program.as_text()
    told, flops = describe(text), sum(one.flops for one in products)
    return {
        "devices": len(devices),
        "compile_seconds": round(seconds, 1),
        # What the outputs share with the arguments, the state, counts once.
        "peak_bytes": memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes,
        "product_flops": flops,
        "float32_products": wide_products(products),
        **told,
        "collectives": compiled.report(compiled.collectives(text)),
        "milliseconds": milliseconds(told["bytes"], flops, told["cycles"]),
    }, text


@returns_exit_code
def main(argv: list[str]) -> None:
    """Compiles for each target, and prints a table; the file is written after each of them, for some take minutes."""
    parser = Parser(
        prog="python -m benchmarks.aot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default=",".join(TARGETS), help="targets, separated by commas")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    parser.add_argument("--text", type=pathlib.Path, help="a file for the compiled program, of one target only")
    given, flags = parser.parse_known_args(argv)  # the others are those of launch.py: --config, --config.KEY
    targets = given.target.split(",")
    for target in targets:
        user_choice("--target", target, TARGETS)
        check_packages(target)
    measure.check_out(given.out, RESULT, partial=bool(flags))
    if given.text:
        require(len(targets) == 1, "--text keeps the program of one target; give one by --target")
        require(given.text.parent.is_dir(), f"--text: there is no folder {given.text.parent}")
    recipe = any(flag.partition("=")[0] == "--config" for flag in flags)
    try:
        config = read_config(flags if recipe else [*DEFAULT, *flags])
    except UsageError as error:
        raise UsageError(f"{error}; see {parser.prog} --help") from error

    # libtpu would ask a server of Google Cloud which machine this is.
    os.environ.update(TPU_SKIP_MDS_QUERY="1", TPU_WORKER_HOSTNAMES="localhost", TPU_ACCELERATOR_TYPE="v5litepod-8")
    import jax

    jax.config.update("jax_platforms", "cpu")
    packages = [name for name in ("jaxlib", "libtpu", "jax-cuda13-plugin") if version(name)]
    settings = {"command": shlex.join(["python", "-m", "benchmarks.aot", *flags]), **measure.where(*packages)}
    before = json.loads(given.out.read_text()) if given.out.exists() else {}
    programs = before["targets"] if all(before.get(key) == value for key, value in settings.items()) else {}
    for target in targets:
        measure.tell(f"compiling for {target}")
        programs[target], text = compile_for(target, config)
        if given.text:
            given.text.write_text(text)
        result = {**settings, "targets": {name: programs[name] for name in TARGETS if name in programs}}
        measure.save(given.out, result)
    print(performance.aot(result))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
