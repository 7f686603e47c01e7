"""Reads the text of a compiled program (HLO): its instructions, what a device launches, and the bytes that this moves.

Nothing here knows of this project. It imports no JAX.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

ITEM_BITS = {"pred": 8, "i1": 8, "bf16": 16, "ui8": 8}  # types whose bits are not the number at the end of the name
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
NOT_ESTIMATED = 2**63 - 1  # what libtpu writes for a launch that it cannot estimate
SHAPE = re.compile(r"\b([a-z]+[0-9]*(?:e[0-9]m[0-9]\w*)?)\[([0-9,]*)\](?:\{([^}]*)\})?")


class Array(NamedTuple):
    """An array in the text of a program, such as "f32[2,4]{1,0:T(8,128)S(1)}".

    dtype: such as "f32".
    sides: its shape.
    layout: the order of its axes in memory, the fastest first; () where the text does not tell.
    on_chip: whether it is in a memory of the chip itself, which the text calls S(1) and so on.
    """

    dtype: str
    sides: tuple[int, ...]
    layout: tuple[int, ...] = ()
    on_chip: bool = False

    @property
    def bytes(self) -> int:
        """The size of the array."""
        bits = ITEM_BITS.get(self.dtype) or int((re.match(r"[a-z]+(\d+)", self.dtype) or ["", "0"])[1])
        return math.prod(self.sides) * bits // 8


def arrays(text: str) -> list[Array]:
    """Returns the arrays of a type, which is one array or a tuple of them."""
    found = []
    for dtype, sides, layout in SHAPE.findall(text):
        order, _, tiles = layout.partition(":")
        found.append(Array(dtype, numbers(sides), numbers(order), "S(" in tiles))
    return found


def numbers(text: str) -> tuple[int, ...]:
    """Returns the numbers of a list with commas between."""
    return tuple(int(number) for number in text.split(",") if number)


class Instruction(NamedTuple):
    """An instruction of a program.

    name: as other instructions refer to it.
    op: such as "fusion".
    result: the arrays of its result.
    operands: the names of its operands; of a parameter its number.
    rest: its attributes, as text.
    """

    name: str
    op: str
    result: list[Array]
    operands: list[str]
    rest: str

    @property
    def op_name(self) -> str:
        """The name of the operation that it was made from, as JAX gives it: "jit(f)/jvp(g)/add"; "" for none."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""

    @property
    def cycles(self) -> int | None:
        """The cycles that libtpu estimates: 0 where it cannot tell, None for what is not launched."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
        cycles = int(found[1]) if found else None
        return 0 if cycles == NOT_ESTIMATED else cycles


class Program(NamedTuple):
    """A compiled program.

    computations: each by its name: its instructions by their names, the last one gives its result.
    entry: the name of the computation with which the program begins.
    frames: "FILE:FUNCTION" of the code that an instruction comes from, by the id in its metadata.
    """

    computations: dict[str, dict[str, Instruction]]
    entry: str
    frames: dict[int, str]

    def called(self, instruction: Instruction) -> list[str]:
        """Returns the names of the computations that an instruction calls."""
        named = r"\b(?:calls|body|condition|to_apply)=%?([\w.-]+)|\bbranch_computations=\{([^}]*)\}"
        found = re.findall(named, instruction.rest)
        return [name.strip().lstrip("%") for one, several in found for name in (one or several).split(",")]

    def communicates(self, instruction: Instruction) -> bool:
        """Tells whether an instruction is a collective, or a fusion that has one in it."""
        inner = [each for name in self.called(instruction) for each in self.computations[name].values()]
        return any(each.op.startswith(COLLECTIVES) for each in (instruction, *inner))

    def frame(self, instruction: Instruction) -> str:
        """Returns "FILE:FUNCTION" of the code that an instruction comes from, "" where the text does not tell."""
        found = re.search(r"stack_frame_id=(\d+)", instruction.rest)
        return self.frames.get(int(found[1]), "") if found else ""


_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(?P<name>[\w.-]+) = (?P<type>\(.*?\)|\S+) (?P<op>[\w-]+)\((?P<rest>.*)$")


def parse(text: str) -> Program:
    """Returns the program that a text describes.

    Raises:
      ValueError: the text has no computation with which the program begins.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry, body = "", {}
    for line in text.splitlines():
        if match := _INSTRUCTION.match(line):
            operands, rest = _operands(match["rest"])
            body[match["name"]] = Instruction(match["name"], match["op"], arrays(match["type"]), operands, rest)
        elif match := _COMPUTATION.match(line):
            computations[match[2]] = body = {}
            entry = match[2] if match[1] else entry
    if not entry:
        raise ValueError("the text is not a compiled program: it has no ENTRY")
    return Program(computations, entry, _frames(text))


def _operands(rest: str) -> tuple[list[str], str]:
    """Splits what follows the opening bracket of the operands into their names, and the attributes."""
    depth = 1
    for place, character in enumerate(rest):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            named = re.findall(r"%([\w.-]+)", rest[:place])
            return named or rest[:place].split(), rest[place + 1 :]
    return [], rest


def _frames(text: str) -> dict[int, str]:
    """Returns "FILE:FUNCTION" of each stack frame in the tables at the head of a program."""

    def table(name):
        found = re.search(rf"^{name}\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
        return dict(line.split(" ", 1) for line in found[1].splitlines()) if found else {}

    files, functions, places = table("FileNames"), table("FunctionNames"), table("FileLocations")
    frames = {}
    for number, frame in table("StackFrames").items():
        place = places[_id("file_location_id", frame)]
        names = files[_id("file_name_id", place)], functions[_id("function_name_id", place)]
        frames[int(number)] = ":".join(name.strip('"') for name in names)
    return frames


def _id(key: str, text: str) -> str:
    """Returns the number after `key=`."""
    return re.search(rf"\b{key}=(\d+)", text)[1]


# What a device does.

# Instructions that are not launched: they only name values, or are the first half of one that counts where it ends.
SILENT = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id")
SLICES = ("slice", "dynamic-slice", "gather")
ROUNDS = re.compile(r"\"known_trip_count\":{\"n\":\"(\d+)\"}")


class Launch(NamedTuple):
    """An instruction that a device launches: a kernel, a call of a library, a copy or a collective.

    instruction: what is launched; of an asynchronous one its start.
    computation: the name of the computation that it is in.
    times: how often; the body of a loop counts once where the text does not tell its rounds.
    read: the bytes that it reads from the device's memory each time; of an operand of which only slices are needed,
      these.
    written: the bytes that it writes to the device's memory each time.
    """

    instruction: Instruction
    computation: str
    times: int
    read: int
    written: int

    @property
    def bytes(self) -> int:
        """The bytes that it moves, all times together."""
        return self.times * (self.read + self.written)


def launches(program: Program) -> Iterator[Launch]:
    """Yields what a device launches in one call of a program, in its order, with what loops and calls contain."""
    yield from _launches(program, program.entry, 1)


def _launches(program, name, times):
    computation = program.computations[name]
    for one in computation.values():
        if one.op in ("while", "call", "conditional"):
            rounds = ROUNDS.search(one.rest)
            for called in program.called(one):
                yield from _launches(program, called, times * (int(rounds[1]) if rounds else 1))
        elif one.op not in SILENT and not one.op.endswith("-start"):
            start = computation[one.operands[0]] if one.op.endswith("-done") else one
            passed = _passed_on(program, one)
            places = set(range(len(start.operands))) - set(passed.values())
            read = sum(_read(program, computation, start, one.result, place) for place in places)
            written = [array for place, array in enumerate(one.result) if place not in passed]
            yield Launch(start, name, times, read, in_memory(written))


def _passed_on(program, one):
    """Returns the results of a fusion that are operands left in place: number of the result -> that of the operand.

    libtpu passes the arrays of an asynchronous collective through all fusions that run beside it.
    """
    if not program.communicates(one):
        return {}
    return {int(result): int(operand) for result, operand in re.findall(r"\{(\d+)\}: \((\d+), \{\}\)", one.rest)}


def in_memory(found: list[Array]) -> int:
    """Returns the bytes of those arrays that are in the device's memory."""
    return sum(array.bytes for array in found if not array.on_chip)


def _read(program, computation, one, result, place):
    """Returns the bytes that an instruction with some result reads of its operand number `place`."""
    operand = computation.get(one.operands[place])
    whole = in_memory(operand.result) if operand else 0
    users = [(one.op, result)]
    if one.op == "fusion":
        body = program.computations[program.called(one)[0]]
        users = [(inner.op, inner.result) for inner in _users(body, place)]
    if users and all(op.removesuffix("-start") in SLICES for op, _ in users):
        return min(whole, sum(array.bytes for _, sliced in users for array in sliced))
    return whole


def _users(body, place):
    """Returns the instructions of a fused computation that use its parameter number `place`, or a bitcast of it."""
    names, users = set(), []
    for inner in body.values():
        if inner.op == "parameter" and inner.operands == [str(place)]:
            names.add(inner.name)
        elif names & set(inner.operands):
            if inner.op == "bitcast":
                names.add(inner.name)
            else:
                users.append(inner)
    return users
