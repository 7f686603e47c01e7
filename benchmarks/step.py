"""Measures LUMP's training step: images/s against PyTorch, its parts, and how near it is to the machine's limit.

    python -m benchmarks.step                       # both sizes against both peers
    python -m benchmarks.step --sizes=demo --json --out=FILE   # one JSON object on stdout

`paper` is the recipe lump.py:cifar10,simsiam (width 64, batch 256, 32x32), `demo` is lump.py:digits,simsiam. `ours` is
the real training loop; `torch_plain` and `torch_best` are those of benchmarks.torch_lump: a plain loop with Pillow in
four workers, and compiled bfloat16 with augmentation and buffer on the device. Images are random: their values do not
matter for the time.

Each program has a process of its own with all cores; it and its workers are stopped while it is another's turn. A turn
begins with steps that are not timed: twice as many as workers may have batches ready, or one where a step takes more
than a second. The first step, which compiles, is recorded separately; PyTorch's compiler may find programs of an
earlier run on disk. The ratio to a peer is the median of the ratios of all rounds. Writes benchmarks/results/step.json.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Callable
from functools import cache, partial

from benchmarks import measure
from configs import lump
from ucl_jax.cli import Parser, returns_exit_code
from ucl_jax.errors import UsageError, require, user_choice
from ucl_jax.recipes import read_config
from ucl_jax.results.tables import Table, make_frame, render

ARGUMENT = {"paper": "cifar10,simsiam", "demo": "digits,simsiam"}
PEERS = ("torch_plain", "torch_best")
DTYPES = dict.fromkeys(("float32", "bfloat16"))
MODES = ("auto", "default", "reduce-overhead", "max-autotune", "eager")  # of torch.compile; "eager" does not use it
ROUNDS = {"paper": 3, "demo": 5}
PART_ROUNDS = 2
PARTS = ("augmentation", "forward + backward", "buffer", "input", "evaluation")
IMAGES = 10_000  # images of a task
TURN = {"cpu": 3.0}  # seconds of a turn of steps; 2 on other devices; a turn of a part is a third as long
SLOW = 1.0  # seconds; where a call takes longer, one untimed call is enough before a turn
RESULT = measure.RESULTS / "step.json"
# The keys of the config tree that peers read too: any other override would make them differ from ours.
SHARED = (
    *(f"augment.{key}" for key in ("crop_scale", "flip", "jitter", "jitter_p", "gray_p", "mean", "std")),
    *(f"augment.replay_{key}" for key in ("crop_scale", "mean", "std")),
    *(f"objective.{key}" for key in ("hidden_dim", "output_dim", "predictor_dim")),
    *("benchmark.image_size", "eval.batch_size", "method.alpha", "method.buffer_size", "model.width"),
    *("train.batch_size", "train.learning_rate", "train.momentum", "train.weight_decay"),
)


def get_config(size: str, overrides: list[str]):
    """Returns the config tree of a size ("paper", "demo") with overrides KEY=VALUE; raises UsageError for a bad one."""
    for override in overrides:
        require("=" in override, f"--override={override} is not KEY=VALUE")
    recipe = f"--config={lump.__file__}:{user_choice('size', size, ARGUMENT)}"
    return read_config([recipe, *(f"--config.{override}" for override in overrides)])


# The process of one program. It answers a question {"what": name, "untimed": calls, "count": calls} with the seconds a
# call, waited for together. Imports are inside, so that a process holds only what its own program needs.


def serve(given: argparse.Namespace, size: str) -> None:
    """Works as the process of a program: answers until there are no more questions.

    The first answer has facts about the program, or what is wrong with it or with the settings.
    """

    def attempt(work):
        """Returns what `work` returns or, for a peer that fails, {"error": why}; what it prints goes to stderr."""
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return work()
        except Exception as error:  # a peer may fail in any way: ours is measured all the same
            if given.program == "ours":
                raise
            lines = str(error).strip().splitlines() or [""]
            return {"error": f"{type(error).__name__}: {lines[0]}"}

    def make():
        nonlocal works, more
        facts, works, more = (_ours if given.program == "ours" else _torch)(given, size)
        return facts

    def begin():
        try:
            return attempt(make)
        except UsageError as error:
            return {"usage": str(error)}

    def reply(question):
        what = question["what"]

        def timed():
            works[what](question["untimed"])
            return {"seconds": works[what](question["count"])}

        return attempt(more.get(what, timed))

    works, more = {}, {}
    measure.answer(begin, reply)


def _torch(given, size):
    """Makes a PyTorch program; returns facts about it, its timed functions, and other questions it answers."""
    import torch  # noqa: F401  # first, so that its absence is the error

    from benchmarks import torch_lump

    config = get_config(size, given.override)
    began = time.perf_counter()
    made = torch_lump.make(given.program, config, _images(config), given.torch_mode)
    torch_lump.wait()
    first = time.perf_counter() - began

    def seconds(work, count):
        torch_lump.wait()
        began = time.perf_counter()
        for _ in range(count):
            work()
        torch_lump.wait()
        return (time.perf_counter() - began) / count

    works = {name: lambda count, work=work: seconds(work, count) for name, work in made.parts.items()}
    works["step"] = lambda count: seconds(made.step, count)
    facts = {**made.facts, "mode": made.mode, "untimed": made.untimed, "parts": list(made.parts), "first": first}
    return facts, works, {"rates": lambda: torch_lump.rates(seconds)}


def _images(config):
    """Returns random images of a task, uint8 [IMAGES, S, S, 3]."""
    import numpy as np

    size = config.benchmark.image_size
    return np.random.default_rng(0).integers(0, 256, (IMAGES, size, size, 3), np.uint8)


def _ours(given, size):
    """Makes our program; returns facts about it, its timed functions, and other questions it answers."""
    import os

    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")  # of a GPU's memory; the peers need some, too
    import jax

    config = get_config(size, [*given.override, f"model.dtype={given.dtype}"])
    began = time.perf_counter()
    loop = measure.Loop(config, IMAGES)
    loop.steps()
    first = time.perf_counter() - began
    works = {"step": loop.steps} | {
        name: lambda count, work=work: measure.seconds(work, count) for name, work in _our_parts(loop).items()
    }

    def cost():
        from benchmarks import compiled

        counted = compiled.cost(compiled.lower_for(config, loop.devices).compile())
        return counted | {"analytic_flops": compiled.analytic_flops(config, padding=False)}

    facts = {
        "parameters": sum(x.size for x in jax.tree.leaves(loop.state.params)),
        "mode": config.model.dtype,
        "untimed": {},
        "parts": list(PARTS),
        "first": first,
        "platform": jax.default_backend(),
        "where": measure.where(),
    }
    return facts, works, {"cost": cost, "rates": _rates}


def _our_parts(loop: measure.Loop) -> dict[str, Callable[[], object]]:
    """Returns functions that do the parts of our step, each compiled alone, and return arrays to wait for."""
    import jax
    import jax.numpy as jnp

    from benchmarks import compiled
    from ucl_jax.data.tasks import batch_indices
    from ucl_jax.evaluation import evaluators
    from ucl_jax.methods.base import Step
    from ucl_jax.training import parallel
    from ucl_jax.training.build import make_experiment
    from ucl_jax.types import Batch, Variables, Views, clock_at

    config = loop.config
    # The same phase, without an axis of devices.
    phase = make_experiment(config, None, loop.devices[0].platform).phases[0]
    objective, method, count = phase.objective, phase.method, config.train.batch_size

    def batches():
        for epoch in range(10**6):
            for index, first in zip(*batch_indices(config.seed, 0, epoch, len(loop.labels), count)):
                yield Batch(loop.images[index], loop.labels[index], first)

    coming = batches()
    batch = jax.device_put(next(coming))
    keys = jax.random.split(jax.random.key(1), count)
    network, memory = jax.tree.map(jnp.copy, (loop.state.network, loop.state.memory))
    network, memory = jax.device_put((network, memory), jax.local_devices()[0])

    jit = partial(jax.jit, compiler_options=parallel.compiler_options(jax.default_backend()))

    @jit
    def augmented(keys, batch):
        return objective.views(keys, batch, "present"), objective.views(keys, batch, "replayed")

    @jit
    def gradient(network, views):
        def loss(params):
            return objective.loss(Variables(params, network.state), views, clock_at(jnp.int32(0), compiled.any_task()))

        return jax.value_and_grad(loss, has_aux=True)(network.params)

    def exchange(memory, batch, views, key):
        recalled = method.recall(memory, key, count)
        kept = Views(views.image[1:], views.label)
        step = Step(batch=batch, recalled=recalled, last=True, outputs=kept, grads=(), before=(), after=())
        return method.observe(memory, step, key), recalled

    exchange = jit(exchange, donate_argnums=0)

    @cache  # made when first asked for
    def shown():
        return augmented(keys, batch)[0]

    def exchanged():
        nonlocal memory
        memory, past = exchange(memory, batch, shown(), jax.random.key(2))
        return past, memory

    def read_out():
        images = loop.images[: config.eval.batch_size]
        return evaluators.extract(partial(loop.compiled[0].features, loop.state.network), images, len(images))

    works = (
        lambda: augmented(keys, batch),
        lambda: gradient(network, shown()),
        exchanged,
        lambda: jax.device_put(next(coming)),
        read_out,
    )
    return dict(zip(PARTS, works, strict=True))


def _rates() -> dict[str, float]:
    """Measures the machine: FLOP/s of square matrix products, the best of several sizes, and bytes/s of a copy.

    A copy counts the bytes that are read and those that are written.
    """
    import jax
    import jax.numpy as jnp

    found = {}
    product = jax.jit(lambda x: x @ x)
    for dtype in DTYPES:
        for size in (1024, 2048, 3072) if jax.default_backend() == "cpu" else (4096, 8192):
            x = jax.random.normal(jax.random.key(0), (size, size), dtype) / size**0.5
            jax.block_until_ready(product(x))
            rate = 2 * size**3 / min(measure.seconds(lambda x=x: product(x), 3) for _ in range(3))
            found[dtype] = max(found.get(dtype, 0.0), rate)
    add = jax.jit(lambda x: x + 1, donate_argnums=0)  # in place, because the first use of new memory takes time
    x = add(jnp.zeros(2**27))

    def copy():
        nonlocal x
        x = add(x)
        return x

    found["copy"] = 2 * x.nbytes / min(measure.seconds(copy, 3) for _ in range(3))
    return found


# The measurement.


class ProgramError(Exception):
    """A peer could not do what it was asked for."""


class Programs:
    """The running programs of one size. It asks them questions, and remembers how long a call takes.

    Attributes:
      facts: the first answer of each program that runs.
      failed: why a program, or a part of it ("PROGRAM, PART"), cannot be measured.
    """

    def __init__(self, size: str, given: argparse.Namespace, stack: contextlib.ExitStack):
        self._ask, self._estimate, self.facts, self.failed = {}, {}, {}, {}
        for name in ("ours", *given.peers):
            settings = [f"--override={one}" for one in given.override]
            settings += [f"--program={name}", f"--sizes={size}", f"--dtype={given.dtype}"]
            settings += [f"--torch-mode={given.torch_mode}", "--peers="]
            try:
                facts, ask = stack.enter_context(measure.start("benchmarks.step", settings))
            except SystemExit as error:
                if name == "ours":
                    raise
                facts = {"error": str(error)}
            require("usage" not in facts, facts.get("usage", ""))
            if "error" in facts:
                self.failed[name] = facts["error"]
                measure.tell(f"{size}: {name} cannot run: {facts['error']}")
                continue
            self._ask[name], self.facts[name] = ask, facts
            measure.tell(f"{size}: {name}: first step {facts['first']:.1f} s; {facts['mode']}")
            if (found := facts["parameters"]) != (wanted := self.facts["ours"]["parameters"]):
                raise SystemExit(f"{size}: {name} has {found} parameters, ours {wanted}: no comparison")

    def question(self, name: str, what: str) -> dict:
        """Returns the answer of a program to a question that is not about time."""
        return self._ask[name]({"what": what})

    def _call(self, name: str, what: str, untimed: int, count: int) -> float:
        answer = self._ask[name]({"what": what, "untimed": untimed, "count": count})
        if "error" in answer:
            raise ProgramError(answer["error"])
        self._estimate[name, what] = answer["seconds"]
        return answer["seconds"]

    def turn(self, name: str, what: str, length: float) -> float:
        """Returns the seconds a call in a turn of about `length` seconds, after untimed calls."""
        wanted = max(1, self.facts[name]["untimed"].get(what, 1))
        for _ in range(4):  # the first estimates may be far off
            before = self._estimate.get((name, what), 2 * SLOW)
            untimed = 1 if before > SLOW else wanted
            count = max(1, round(length / before)) if (name, what) in self._estimate else 1
            seconds = self._call(name, what, untimed, count)
            if seconds * count > length / 2 and (untimed == wanted or seconds > SLOW):
                break
        return seconds

    def rounds(self, what: str, count: int, length: float) -> dict[str, list[float]]:
        """Returns the seconds a call in each round, for the programs that have such a part and can do it."""

        def turn(name):
            if (key := f"{name}, {what}") in self.failed:
                return None
            try:
                seconds = self.turn(name, what, length)
                measure.tell(f"{name}, {what}: {seconds:.4g} s")
                return seconds
            except ProgramError as error:
                self.failed[key] = str(error)
                measure.tell(f"{key} cannot run: {error}")

        names = [name for name, facts in self.facts.items() if what == "step" or what in facts["parts"]]
        done = measure.alternate({name: lambda n=name: turn(n) for name in names}, count)
        return {name: seconds for name, seconds in done.items() if None not in seconds}


def measure_size(size: str, given: argparse.Namespace) -> dict:
    """Measures the programs at one size; at the first size of the command line, the machine's rates too."""
    with contextlib.ExitStack() as stack:
        programs = Programs(size, given, stack)
        facts = programs.facts
        turn = TURN.get(facts["ours"]["platform"], 2.0)
        measured = {
            "facts": facts,
            "failed": programs.failed,
            "step": programs.rounds("step", given.rounds or ROUNDS[size], turn),
            "parts": {},
        }
        for name, seconds in measured["step"].items():
            measure.tell(f"{size}: {name}: {measure.spread(seconds)['median']:.4f} s a step")
        for part in PARTS if given.parts else ():
            measured["parts"][part] = programs.rounds(part, min(PART_ROUNDS, given.rounds or PART_ROUNDS), turn / 3)
            measure.tell(
                f"{size}: {part}: " + ", ".join(f"{n} {_seconds(s)} s" for n, s in measured["parts"][part].items())
            )
        measured["cost"] = programs.question("ours", "cost")
        if size == given.sizes[0]:
            asked = ["ours"]
            if len(facts) > 1 and facts["ours"]["platform"] == "cpu":
                asked.append(list(facts)[-1])
            answers = {name: programs.question(name, "rates") for name in asked}
            measured["rates"] = {name: answer for name, answer in answers.items() if "error" not in answer}
    return measured


# Pure functions of the measurements.


def ratios(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Returns our speed over each peer's: the spread of the ratios of all rounds."""
    ours = seconds["ours"]
    return {
        peer: measure.spread([theirs / mine for mine, theirs in zip(ours, values, strict=True)])
        for peer, values in seconds.items()
        if peer != "ours"
    }


def limit(cost: dict[str, float], rates: dict[str, dict[str, float]], dtype: str, seconds: float, cpu: bool) -> dict:
    """Returns how near a step is to the measured rates of a machine.

    A bound is the least time that the products, or the memory traffic, would take; the larger one is the step's. On CPU
    the FLOPs are those that XLA counts. Elsewhere they are counted by hand, because XLA does not count those in
    libraries.

    Args:
      cost: FLOPs and bytes of the step, by XLA and by hand.
      rates: FLOP/s and bytes/s that each program measured; the best one counts.
      dtype: the type that the step computes in.
      seconds: the seconds that a step takes.
      cpu: whether the device is a CPU.
    """
    product, copy = (max(measured[kind] for measured in rates.values()) for kind in (dtype, "copy"))
    flops = cost["flops"] if cpu else cost["analytic_flops"]
    bounds = {"products": flops / product, "memory": cost["bytes"] / copy}
    return {
        **cost,
        "flops_per_second": flops / seconds,
        "bytes_per_second": cost["bytes"] / seconds,
        "matrix_rate": product,
        "copy_rate": copy,
        "of_matrix_rate": bounds["products"] / seconds,
        "of_copy_rate": bounds["memory"] / seconds,
        "bound": max(bounds, key=bounds.get),
        "bound_seconds": max(bounds.values()),
        "bound_share": max(bounds.values()) / seconds,
    }


def summarise(measurements: dict[str, dict], rates: dict, dtype: str, batch: dict[str, int]) -> dict:
    """Returns the numbers of the result, made from what was measured at each size.

    Args:
      measurements: size -> what `measure_size` returns.
      rates: FLOP/s and bytes/s that each program measured.
      dtype: the type that our step computes in.
      batch: size -> images a step.
    """

    def each(make):
        return {size: make(size, measured) for size, measured in measurements.items()}

    def spreads(seconds):
        return {name: measure.spread(values) for name, values in seconds.items()}

    def speed(size, measured):
        return {name: measure.spread([batch[size] / s for s in values]) for name, values in measured["step"].items()}

    ratio = each(lambda size, measured: ratios(measured["step"]))
    return {
        "ratio": {size: {peer: one["median"] for peer, one in peers.items()} for size, peers in ratio.items()},
        "ratio_spread": ratio,
        "steps": each(lambda size, measured: spreads(measured["step"])),
        "images_per_second": each(speed),
        "first_seconds": each(lambda size, measured: {name: f["first"] for name, f in measured["facts"].items()}),
        "parts": each(lambda size, measured: {part: spreads(seconds) for part, seconds in measured["parts"].items()}),
        "parts_ratio": each(
            lambda size, measured: {part: ratios(seconds) for part, seconds in measured["parts"].items()}
        ),
        "limits": each(
            lambda size, measured: limit(
                measured["cost"],
                rates,
                dtype,
                measure.spread(measured["step"]["ours"])["median"],
                measured["facts"]["ours"]["platform"] == "cpu",
            )
        ),
        "rates": rates,
        "failed": each(lambda size, measured: measured["failed"]),
        "programs": each(
            lambda size, measured: {
                name: {key: value for key, value in facts.items() if key not in ("where", "first", "parts")}
                for name, facts in measured["facts"].items()
            }
        ),
        "rounds": each(lambda size, measured: measured["step"]),
    }


def _spread(values: dict[str, float], digits: str = ".3g") -> str:
    return f"{values['median']:{digits}} ({values['least']:{digits}}..{values['most']:{digits}})"


def _seconds(values: list[float]) -> str:
    return _spread(measure.spread(values))


def table(result: dict) -> str:
    """Returns the result as text; a spread is median (least..most)."""
    columns, rows = ["size", "what", "program", "seconds", "images/s", "ours over it"], []
    for size, steps in result["steps"].items():
        for name, seconds in steps.items():
            faster = result["ratio_spread"][size].get(name)
            speed = _spread(result["images_per_second"][size][name], ".4g")
            rows.append([size, "step", name, _spread(seconds), speed, _spread(faster) if faster else "-"])
        for part, programs in result["parts"][size].items():
            for name, seconds in programs.items():
                faster = result["parts_ratio"][size][part].get(name)
                rows.append([size, part, name, _spread(seconds), "-", _spread(faster) if faster else "-"])
        for name, seconds in result["first_seconds"][size].items():
            rows.append([size, "first step", name, f"{seconds:.1f}", "-", "-"])
    lines = [render(Table("", make_frame(columns, rows), words=3)), ""]
    for size, one in result["limits"].items():
        lines.append(
            f"{size}: {one['flops'] / 1e9:.4g} GFLOP and at least {one['bytes'] / 1e9:.4g} GB a step by XLA's count, "
            f"{one['analytic_flops'] / 1e9:.4g} GFLOP of convolutions and layers by hand: "
            f"{one['flops_per_second'] / 1e9:.4g} GFLOP/s, {100 * one['of_matrix_rate']:.0f} % of the matrix rate of "
            f"{one['matrix_rate'] / 1e9:.4g}; {one['bytes_per_second'] / 1e9:.3g} GB/s, "
            f"{100 * one['of_copy_rate']:.0f} % of the copy rate of {one['copy_rate'] / 1e9:.3g}; the bound is "
            f"{one['bound']}, {one['bound_seconds']:.3g} s, {100 * one['bound_share']:.0f} % of the step"
        )
    for size, programs in result["programs"].items():
        lines += [f"{size}: {name}: {facts['mode']}" for name, facts in programs.items()]
        lines += [f"{size}: {name} cannot run: {reason}" for name, reason in result["failed"][size].items()]
    lines.append(", ".join(f"{key} {value}" for key, value in result["where"].items()))
    return "\n".join(lines)


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses and checks the command line; raises UsageError."""

    def words(text):
        return [word for word in text.split(",") if word]

    parser = Parser(prog="python -m benchmarks.step", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=words, default=list(ARGUMENT), help="of paper,demo")
    parser.add_argument("--peers", type=words, default=list(PEERS), help="of torch_plain,torch_best; may be empty")
    parser.add_argument("--rounds", type=int, help="default 3 of paper, 5 of demo")
    parser.add_argument("--dtype", default="float32", help="ours computes in: float32, bfloat16")
    parser.add_argument("--torch-mode", default="auto", choices=MODES, help="how torch_best is compiled")
    parser.add_argument("--parts", action=argparse.BooleanOptionalAction, default=True, help="measure parts too")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="of the config tree")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT, help="the file that is written")
    parser.add_argument("--program", help=argparse.SUPPRESS)  # a process of one program
    given = parser.parse_args(argv)
    require(bool(given.sizes), "--sizes is empty")
    require(given.rounds is None or given.rounds >= 1, f"--rounds is {given.rounds}; it must be at least 1")
    user_choice("--dtype", given.dtype, DTYPES)
    for peer in given.peers:
        user_choice("peer", peer, dict.fromkeys(PEERS))
    for size in given.sizes:
        get_config(size, given.override)
    for key in (override.partition("=")[0] for override in given.override):
        require(key in SHARED or not given.peers, f"the peers do not read {key}; give --peers= to measure ours alone")
    whole = {"sizes": list(ARGUMENT), "peers": list(PEERS), "parts": True, "override": [], "dtype": "float32"}
    partial = any(getattr(given, name) != value for name, value in whole.items())
    measure.check_out(given.out, RESULT, partial and not given.program)
    return given


@returns_exit_code
def main(argv: list[str]) -> int:
    """Measures, writes the file, and prints a table or one JSON object."""
    given = parse(argv)
    if given.program:
        serve(given, given.sizes[0])
        return 0
    measurements = {size: measure_size(size, given) for size in given.sizes}
    rates = measurements[given.sizes[0]]["rates"]
    batch = {size: get_config(size, given.override).train.batch_size for size in given.sizes}
    where = next(iter(measurements.values()))["facts"]["ours"]["where"]
    torch = {
        facts["torch"] for measured in measurements.values() for facts in measured["facts"].values() if "torch" in facts
    }
    result = {
        **summarise(measurements, rates, given.dtype, batch),
        "where": where | {"torch": next(iter(torch), None)},
        "settings": {key: value for key, value in vars(given).items() if key not in ("program", "out", "json")},
        "command": "python -m benchmarks.step " + " ".join(argv),
    }
    measure.save(given.out, result)
    print(json.dumps(result) if given.json else table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
