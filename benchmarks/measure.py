"""What the measurements share: the machine, spreads, processes that take turns, and the real training loop to time."""

import contextlib
import ctypes
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace

from ucl_jax.errors import require, write_whole

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def alternate(passes: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each pass returns, one after the other in each round: noise of the machine meets all alike."""
    values = {name: [] for name in passes}
    for _ in range(rounds):
        for name, one in passes.items():
            values[name].append(one())
    return values


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Wall time of `work`, a mean over calls: waited for together, but each on a CPU, which may do two at a time."""
    import jax

    each = jax.default_backend() == "cpu"
    began = time.perf_counter()
    for place in range(repeats):
        result = work()
        if each or place == repeats - 1:
            jax.block_until_ready(result)
    return (time.perf_counter() - began) / repeats


def where(*packages: str) -> dict[str, str | None]:
    """Device, commit, and the versions of Python, JAX and what else is named."""
    import importlib.metadata
    import platform

    import jax

    from ucl_jax.training.run import commit, device_name

    versions = {name: importlib.metadata.version(name) for name in ("jax", *packages)}
    return {
        "device": device_name(jax.local_devices()[:1]),
        "commit": commit(),
        "python": platform.python_version(),
        **versions,
    }


def check_out(path: pathlib.Path, default: pathlib.Path, partial: bool = False) -> None:
    """Raises UsageError where a result cannot be saved, or where a part would replace the whole of the default file."""
    require(
        not partial or path != default,
        f"this is a part of what {default.name} holds, or with other settings; name another file by --out",
    )
    require(path.parent.is_dir(), f"--out: there is no folder {path.parent}")
    require(not path.is_dir(), f"--out: {path} is a folder; name a file")


def save(path: pathlib.Path, result: dict) -> None:
    """Writes a result as JSON, whole or not at all."""
    write_whole(path, json.dumps(result, indent=1, allow_nan=False) + "\n")


def tell(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)


# A process a program: each has all cores while the others wait.


@contextlib.contextmanager
def start(module: str, arguments: Iterable[str]) -> Iterator[tuple[dict, Callable[[object], dict]]]:
    """A process of `python -m module arguments` that calls `answer`.

    It and its own processes (PyTorch's workers) stand still while it is not asked.

    Yields:
      Its first answer, and a function that sends it a question (JSON) and waits for the answer.

    Raises:
      SystemExit: the process ended without an answer.
    """
    program = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )

    def read():
        line = child.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join([module, *arguments])} failed, see above")
        os.killpg(child.pid, signal.SIGSTOP)
        return json.loads(line)

    def ask(question):
        os.killpg(child.pid, signal.SIGCONT)
        child.stdin.write(json.dumps(question) + "\n")
        child.stdin.flush()
        return read()

    with program as child:
        try:
            yield read(), ask
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        os.killpg(child.pid, signal.SIGCONT)  # it ends when there are no more questions


def answer(begin: Callable[[], dict], reply: Callable[[object], dict]) -> None:
    """The other end of `start`: tells what `begin` gives, then a reply to each question until there is no more.

    On Linux it ends with the process that asks, however that ends.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    print(json.dumps(begin()), flush=True)
    for line in sys.stdin:
        print(json.dumps(reply(json.loads(line))), flush=True)


# The real loop, on random images: values do not matter for the time.


class Loop:
    """`train.train` of a config on random images, step by step, without a data set.

    `experiment`, `compiled` (the last phase, the only one timed) and `state` (after the last step) are public.
    """

    def __init__(self, config, task_images: int = 10_000, devices: int = 1):
        import jax
        import numpy as np

        from ucl_jax.training import loop, parallel
        from ucl_jax.training.build import make_evaluation, make_experiment

        size, tasks = config.benchmark.image_size, config.benchmark.num_tasks
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (task_images, size, size, 3), np.uint8)
        label = np.zeros(task_images, np.int32)
        self.config = config
        self.devices = parallel.choose_devices(devices, config.train.batch_size)
        self.experiment = make_experiment(config, parallel.AXIS)
        self.compiled = parallel.compile_phases(self.experiment.phases, self.devices)
        self.state = jax.device_put(self.experiment.init(), self.compiled[0].sharding)
        self.key, self.images, self.labels = self.experiment.key, image, label
        stream = SimpleNamespace(
            train_sizes=[task_images] * tasks,
            num_tasks=tasks,
            training=lambda task: (image, label),
            prefetch=lambda task: None,
        )
        schedule = loop.make_schedule(stream.train_sizes, 10**6, config.train.batch_size)  # it never reaches the end
        evaluation = make_evaluation(config)
        self._events = loop.train(self.experiment, self.compiled, stream, schedule, evaluation, self.state, 0, 0)

    def steps(self, count: int = 1) -> float:
        """Seconds a step, over so many steps that are waited for together."""
        import jax

        began = time.perf_counter()
        for _ in range(count):
            event = next(self._events)
        self.state = event.state
        jax.block_until_ready((event.state, event.metrics))
        return (time.perf_counter() - began) / count
