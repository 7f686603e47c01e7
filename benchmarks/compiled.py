"""Reads from a compiled training step its collectives and the bytes they move, and its products and their FLOPs.

    python -m benchmarks.compiled                  # the paper's size on 4 virtual CPU devices; nothing is run
    python -m benchmarks.compiled --cells=lump/simsiam,der/simsiam --width=16 --batch=64 --image=32 --json

A cell is RECIPE/OBJECTIVE. Writes benchmarks/results/collectives.json; --out= writes elsewhere. No accelerator is used.
"""

import argparse
import importlib
import json
import math
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks import hlo, measure
from ucl_jax.cli import Parser, returns_exit_code
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import UsageError, require, user_choice

RESULT = measure.RESULTS / "collectives.json"
CELLS = (
    "finetune/simsiam",
    "finetune/barlow_twins",
    "lump/simsiam",
    "lump/barlow_twins",
    "lump/supervised",
    "si/simsiam",
    "agem/simsiam",
    "er/simsiam",
    "der/simsiam",
    "gss/simsiam",
)


def cost(compiled) -> dict[str, float]:
    """Returns the FLOPs, and the bytes read and written, of one device in one call, as XLA counts them.

    A multiply-add is two FLOPs, an element-wise result one. A convolution's taps on the padding do not count. XLA
    counts the body of a loop once: the matrix products of its further rounds are added to the FLOPs here. The bytes are
    left as they are, and are too few where there are loops.

    Args:
      compiled: a `jax.stages.Compiled`.
    """
    analysis = compiled.cost_analysis()
    return {
        "flops": analysis["flops"] + repeated_flops(compiled.as_text()),
        "bytes": analysis["bytes accessed"],
    }


# The text of a compiled program (HLO).


_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) \(.*?^}", re.MULTILINE | re.DOTALL)
_CALLED = re.compile(r"\b(?P<how>body|calls|to_apply)=%?(?P<name>[\w.-]+)(?P<rest>.*)")
_DOT = re.compile(
    r" = \w+\[(?P<result>[0-9,]*)\]\S* dot\(%?(?P<left>[\w.-]+), .*?lhs_contracting_dims={(?P<summed>[0-9,]*)}"
)


def repeated_flops(text: str) -> int:
    """Returns the FLOPs of the matrix products in loops, and in loops within loops, without those of the first round.

    Args:
      text: a compiled program (HLO).

    Raises:
      ValueError: the text does not tell the number of rounds, or has a form that is not known here.
    """
    computations = {match["name"]: match[0] for match in _COMPUTATION.finditer(text)}

    def flops(name, times):
        body = computations[name]
        dots = list(_DOT.finditer(body))
        others = times != 1 and (" convolution(" in body or " conditional(" in body)
        if others or len(dots) != body.count(" dot(") or (dots and times is None):
            raise ValueError(f"products of a loop that are not understood:\n{body}")
        total = sum((times - 1) * _dot_flops(dot, body) for dot in dots)
        for called in _CALLED.finditer(body):
            rounds = 1
            if called["how"] == "body":
                told = hlo.ROUNDS.search(called["rest"])
                rounds = int(told[1]) if told else None
            total += flops(called["name"], None if None in (rounds, times) else rounds * times)
        return total

    return flops(next(match["name"] for match in _COMPUTATION.finditer(text) if match["entry"]), 1)


def _dot_flops(dot: re.Match, computation: str) -> int:
    """Returns the FLOPs of a matrix product, given its match of _DOT and the text of the computation it is in."""
    left = re.search(rf"%?{re.escape(dot['left'])} = \w+\[([0-9,]*)\]", computation)
    shape, summed = hlo.numbers(left[1]), hlo.numbers(dot["summed"])
    return 2 * math.prod(hlo.numbers(dot["result"])) * math.prod(shape[axis] for axis in summed)


class Collective(NamedTuple):
    """A collective operation of a compiled program.

    op: one of `hlo.COLLECTIVES`.
    shapes: the shapes of its results on each device, such as "f32[2,4,8]"; several where XLA has combined some.
    bytes: the size of all that is reduced or gathered, on one device.
    devices: the number of devices that take part.
    where: "forward" or "backward" for a part of the loss, else "step".
    """

    op: str
    shapes: tuple[str, ...]
    bytes: int
    devices: int
    where: str

    @property
    def sent(self) -> float:
        """The bytes that each device sends when the devices form a ring."""
        share = (self.devices - 1) / self.devices
        return {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.op, share) * self.bytes


_COLLECTIVE = re.compile(
    rf" = (?P<type>\(.*?\)|\S+) (?P<op>{'|'.join(hlo.COLLECTIVES)})(?P<form>-start|-done)?\((?P<rest>.*)"
)


def collectives(text: str) -> list[Collective]:
    """Returns the collectives in the text of a compiled program, in its order.

    An asynchronous one counts once. libtpu writes it into each fusion that runs beside it, with the id of the chain.
    """
    found, started, chains = [], {}, set()
    for line in text.splitlines():
        match = _COLLECTIVE.search(line)
        if match is None:
            continue
        name, form, rest = line.split("=")[0].split()[-1], match["form"], match["rest"]
        if form == "-start":
            started[name] = rest  # its type also has the operands, so the shapes are read from the -done
            continue
        if form == "-done":
            rest = started[re.search(r"%[\w.-]+", rest)[0]]
        if chain := re.search(r'chain_id="\d+"', rest):
            if chain[0] in chains:
                continue
            chains.add(chain[0])
        results = hlo.arrays(match["type"])
        shapes = tuple(f"{array.dtype}[{','.join(map(str, array.sides))}]" for array in results)
        devices = _group_size(rest)
        size = sum(array.bytes for array in results) * (devices if match["op"] == "reduce-scatter" else 1)
        found.append(Collective(match["op"], shapes, size, devices, _where(rest)))
    return found


def _group_size(rest: str) -> int:
    """Returns the devices in a group of a collective.

    `rest` has `replica_groups={{0,1},{2,3}}`, `[groups,size]<=[...]`, or `mesh['x'=4,'y'=2] {'x'}`: those along axes.
    """
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\] *\{([^}]*)\}", rest):
        sides = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        return math.prod(int(sides[axis]) for axis in re.findall(r"'(\w+)'", match[2]))
    if match := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(match[1])
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return match[1].count(",") + 1
    return len(re.findall(r"\{\d+,\d+\}", rest))  # source_target_pairs of a permutation


def _where(rest: str) -> str:
    """Returns where in a training step an operation is: "forward", "backward" or "step"."""
    name = re.search(r'op_name="([^"]*)"', rest)
    if name is None or "jvp(" not in name[1]:
        return "step"
    return "backward" if "transpose(" in name[1] else "forward"


# The text of a program before compilation (StableHLO), where dtypes are those that were asked for.


class Product(NamedTuple):
    """A convolution or a matrix product of a lowered program.

    op: "convolution" or "dot_general".
    dtypes: the types of the two operands, "f32" or "bf16".
    shapes: the shapes of the two operands.
    result: the shape of the result.
    flops: two for a multiply-add; taps of a convolution on padding count, those on the zeros of a dilated input do not.
    name: where it comes from, such as "jit(f)/jvp(g)/dot_general"; "" in a text without `debug_info`.
    """

    op: str
    dtypes: tuple[str, str]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    result: tuple[int, ...]
    flops: int
    name: str = ""


_PRODUCT = re.compile(
    r"stablehlo\.(?P<op>convolution|dot_general)\b(?P<how>.*) : "
    r"\(tensor<(?P<left>[^>]*)>, tensor<(?P<right>[^>]*)>\) -> tensor<(?P<result>[^>]*)>(?: loc\((?P<place>#\w+)\))?"
)
_PLACE = re.compile(r'^(#\w+) = loc\("([^"]*)"', re.MULTILINE)


def products(text: str) -> list[Product]:
    """Returns the convolutions and matrix products in the text of a lowered program.

    Each appears once, however often the function that it is in is called.
    """
    names = dict(_PLACE.findall(text))
    return [_product(match, names) for match in map(_PRODUCT.search, text.splitlines()) if match]


def _product(match: re.Match, names: dict[str, str]) -> Product:
    """Returns the product that a match of _PRODUCT describes, given the names of the places in the program."""
    (left, right, result), dtypes = zip(*(_tensor(match[name]) for name in ("left", "right", "result")))
    if match["op"] == "convolution":
        kernel = re.search(r"x\[([^\]]*)\]->", match["how"])[1].replace(" ", "").split(",")
        zeros = re.search(r"lhs_dilate = \[([\d, ]*)\]", match["how"])
        terms = math.prod(right) // right[kernel.index("o")] / math.prod(hlo.numbers(zeros[1]) if zeros else ())
    else:
        axes = re.search(r"contracting_dims = \[([\d, ]*)\]", match["how"])[1]
        terms = math.prod(left[int(axis)] for axis in axes.split(",") if axis.strip())
    flops = round(2 * math.prod(result) * terms)
    return Product(match["op"], dtypes[:2], (left, right), result, flops, names.get(match["place"], ""))


def _tensor(text: str) -> tuple[tuple[int, ...], str]:
    """Returns shape and dtype of a StableHLO type such as "2x4x8xf32"."""
    *sides, dtype = text.split("x")
    return tuple(map(int, sides)), dtype


# FLOPs counted by hand.


def analytic_flops(config, padding: bool = True) -> float:
    """Returns the FLOPs of the products of a training step on one device, counted from the shapes of the layers.

    A multiply-add is two FLOPs. For every view the convolutions and dense layers of backbone and heads count: forward,
    gradient of the input (but not of the images), and gradient of the weights. So do Barlow's correlation, and the
    resizing and blurring of images. Element-wise work does not count.

    Args:
      config: the config of finetune, si or lump with ResNet-18.
      padding: whether taps on the padding count. XLA's cost analysis does not count them in a convolution; a matrix
        product that computes a convolution has them.

    Raises:
      UsageError: another method or architecture.
    """
    user_choice("config.method.name", config.method.name, dict.fromkeys(("finetune", "si", "lump")))
    user_choice("config.model.name", config.model.name, dict.fromkeys(("resnet18",)))
    user_choice("config.model.stem", config.model.stem, dict.fromkeys(("cifar",)))
    require(config.model.stem_padding == 1, "FLOPs are counted for config.model.stem_padding=1 only")
    images = config.train.batch_size * (1 if config.objective.name == "supervised" else 2)
    network = images * (_backbone(config, padding) + sum(3 * 2 * rows * columns for rows, columns in _dense(config)))
    if config.objective.name == "barlow_twins":
        network += 3 * 2 * config.train.batch_size * config.objective.output_dim**2
    return network + augmentation_flops(config)


def _backbone(config, padding: bool) -> int:
    """Returns the FLOPs of the backbone for one image, forward and backward; images need no gradient."""
    flops = 0
    for channels, features, kernel, size, stride in _convolutions(config.model.width, config.benchmark.image_size):
        places = range(0, size, stride)
        taps = sum(1 for place in places for tap in range(kernel) if padding or 0 <= place + tap - kernel // 2 < size)
        flops += (2 if channels == 3 else 3) * 2 * taps**2 * channels * features
    return flops


def _convolutions(width: int, size: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yields each convolution of ResNet-18: channels, features, kernel, side of the input, stride."""
    yield 3, width, 3, size, 1
    channels = width
    for stage in range(4):
        features = width * 2**stage
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            yield channels, features, 3, size, stride
            if channels != features:
                yield channels, features, 1, size, stride
            size = -(-size // stride)
            yield features, features, 3, size, 1
            channels = features


def _dense(config) -> list[tuple[int, int]]:
    """Returns the numbers of inputs and outputs of each layer of the heads."""
    o, features = config.objective, 8 * config.model.width
    projector = [(features, o.hidden_dim), (o.hidden_dim, o.output_dim)]
    if o.name == "supervised":
        return projector * o.projector + [(o.output_dim if o.projector else features, o.classes)]
    if o.name == "barlow_twins":
        return projector
    return projector + [(o.output_dim, o.predictor_dim), (o.predictor_dim, o.output_dim)]


def augmentation_flops(config) -> int:
    """Returns the FLOPs of the products that resize and blur the images of a step.

    Each of the two is, for a view, two products of [size, size] with [size, size, 3].
    """
    a, size = config.augment, config.benchmark.image_size
    resized = a.crop == "resized"
    blurred = any(p > 0 or (p == -1 and size > 32) for p in a.blur_p)
    strong, weak = (1 if config.objective.name == "supervised" else 2), 0
    if config.method.name == "lump":
        strong, weak = (strong, 1) if config.method.replay_pair == "frozen" else (2 * strong, 0)
    passes = 2 * (strong * (resized + blurred) + weak * resized)
    return config.train.batch_size * passes * 2 * size**3 * 3


# The command.


def any_task():
    """Returns a span of steps to call a train step with. It may be any span, because its values are not compiled in."""
    import numpy as np

    from ucl_jax.types import Span

    return Span(*map(np.int32, (0, 0, 1000, 10)))


def lower(config, devices: int = 1):
    """Lowers the training step of a config's last phase for a number of local devices, and computes nothing."""
    from ucl_jax.training import parallel

    return lower_for(config, parallel.choose_devices(devices, config.train.batch_size))


def lower_for(config, devices: list):
    """Lowers the training step of a config's last phase for some devices, which need not be on this machine."""
    import jax
    import numpy as np

    from ucl_jax.training import parallel
    from ucl_jax.training.build import make_experiment
    from ucl_jax.types import Examples, Probed, Selection

    experiment = make_experiment(config, parallel.AXIS, devices[0].platform)
    compiled = parallel.compile_phases(experiment.phases[-1:], devices)[0]
    count, size = config.train.batch_size, config.benchmark.image_size
    images = config.benchmark.examples_per_task or BENCHMARKS[config.benchmark.name].images_per_task
    examples = Examples(
        jax.ShapeDtypeStruct((images, size * size * 3), np.uint8), jax.ShapeDtypeStruct((images,), np.int32)
    )
    selection = Selection(jax.ShapeDtypeStruct((count, 1), np.int32), jax.ShapeDtypeStruct((count, 1), bool))
    given = Probed(selection, selection) if experiment.online else selection
    return compiled.lower(jax.eval_shape(experiment.init), examples, given, experiment.key, any_task())


def report(found: list[Collective]) -> list[dict]:
    """Returns a row for each op and place, the largest first: how many, bytes, and bytes that each device sends."""
    kinds = sorted({(one.op, one.where) for one in found})
    rows = []
    for kind in kinds:
        ours = [one for one in found if (one.op, one.where) == kind]
        total, sent = sum(one.bytes for one in ours), sum(one.sent for one in ours)
        rows.append({"op": kind[0], "where": kind[1], "count": len(ours), "bytes": total, "sent": sent})
    return sorted(rows, key=lambda row: -row["bytes"])


@returns_exit_code
def main(argv: list[str]) -> None:
    """Compiles the cells, prints a table or one JSON object, and writes the file."""
    parser = Parser(prog="python -m benchmarks.compiled", description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--cells", default=",".join(CELLS), help="recipe/objective, separated by commas")
    parser.add_argument("--benchmark", default="cifar10", help="of configs/benchmarks.py")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--image", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    given = parser.parse_args(argv)
    require(given.devices >= 1, f"--devices is {given.devices}; it must be at least 1")
    require(
        given.batch % given.devices == 0,
        f"--batch is {given.batch}, which does not divide by --devices, {given.devices}",
    )
    configs = {cell: _config(cell, given) for cell in given.cells.split(",")}
    names = ("cells", "devices", "benchmark", "width", "batch", "image")
    measure.check_out(given.out, RESULT, any(getattr(given, name) != parser.get_default(name) for name in names))

    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", given.devices)
    measured = {}
    for cell, config in configs.items():
        compiled = lower(config, given.devices).compile()
        measured[cell] = cost(compiled) | {"collectives": report(collectives(compiled.as_text()))}
        if not given.json:
            _show(cell, measured[cell]["collectives"])
    settings = {name: getattr(given, name) for name in ("devices", "benchmark", "width", "batch", "image")}
    result = {"settings": settings, **measure.where("jaxlib"), "cells": measured}
    measure.save(given.out, result)
    if given.json:
        print(json.dumps(result, allow_nan=False))


def _config(cell: str, given: argparse.Namespace):
    """Returns the config of a cell, RECIPE/OBJECTIVE; raises UsageError where there is no such recipe."""
    recipe, _, objective = cell.partition("/")
    path = measure.ROOT / "configs" / f"{recipe}.py"
    if not path.is_file() or recipe in ("base", "__init__"):
        raise UsageError(f"there is no recipe {recipe!r} in --cells; a cell is recipe/objective, such as lump/simsiam")
    config = importlib.import_module(f"configs.{recipe}").get_config(f"{given.benchmark},{objective or 'simsiam'}")
    config.model.width = given.width
    config.train.batch_size = given.batch
    config.benchmark.image_size = given.image
    return config


def _show(cell: str, rows: list[dict]) -> None:
    """Prints the collectives of a cell."""
    print(f"{cell}\n  {'collective':20}{'where':10}{'count':>6}{'kB':>12}{'kB sent by a device':>22}")
    for row in rows:
        print(f"  {row['op']:20}{row['where']:10}{row['count']:6}{row['bytes'] / 1e3:12.1f}{row['sent'] / 1e3:22.1f}")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
