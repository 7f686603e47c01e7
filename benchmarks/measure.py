"""Holds tools of the measurements: facts about the machine, spreads, processes that take turns, a loop to time."""

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
from typing import Any

from ucl_jax.errors import require
from ucl_jax.files import write_atomically

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Returns the median, the least and the most of some values."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def alternate(passes: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Calls each pass once a round, and returns its values; in turns, so that the machine's noise meets all alike."""
    values = {name: [] for name in passes}
    for _ in range(rounds):
        for name, one in passes.items():
            values[name].append(one())
    return values


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Returns the seconds that a call of `work` takes, the mean over `repeats` calls.

    The calls are waited for together, but one by one on a CPU, which might work on two of them at a time.
    """
    import jax

    each = jax.default_backend() == "cpu"
    began = time.perf_counter()
    for place in range(repeats):
        result = work()
        if each or place == repeats - 1:
            jax.block_until_ready(result)
    return (time.perf_counter() - began) / repeats


def where(*packages: str) -> dict[str, Any]:
    """Returns the device, the commit, and the versions of Python, JAX and other packages that are named.

    "commit" is the SHA, None outside a git checkout; "changed" tells whether files differed from that commit.
    """
    import importlib.metadata
    import platform

    import jax

    from ucl_jax.training.provenance import commit, device_name

    versions = {name: importlib.metadata.version(name) for name in ("jax", *packages)}
    at = commit()
    return {
        "device": device_name(jax.local_devices()[:1]),
        "commit": at and at.sha,
        "changed": bool(at and at.changed),
        "python": platform.python_version(),
        **versions,
    }


def check_out(path: pathlib.Path, default: pathlib.Path, partial: bool = False) -> None:
    """Checks that a result can be saved.

    Args:
      path: where it is to be saved.
      default: the file of the whole measurement.
      partial: whether the result is only a part of it, or has other settings.

    Raises:
      UsageError: the path cannot be written, or a partial result would replace the default file.
    """
    require(
        not partial or path != default,
        f"this is a part of what {default.name} holds, or with other settings; name another file by --out",
    )
    require(path.parent.is_dir(), f"--out: there is no folder {path.parent}")
    require(not path.is_dir(), f"--out: {path} is a folder; name a file")


def save(path: pathlib.Path, result: dict) -> None:
    """Writes a result as JSON; an earlier file is replaced only once the new one is complete."""
    write_atomically(path, json.dumps(result, indent=1, allow_nan=False) + "\n")


def start_run(config: str, workdir: pathlib.Path, overrides: Iterable[str], told) -> subprocess.Popen:
    """Starts launch.py as a person does, in a process that records every step.

    Args:
      config: the value of --config.
      workdir: the folder of the run.
      overrides: further arguments, --config.KEY=VALUE.
      told: an open file for all that it prints.
    """
    command = [sys.executable, "launch.py", f"--config={config}", f"--workdir={workdir}", "--config.log.every_steps=1"]
    # JAX's own variable would win over the folder of compiled programs that the overrides name.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
    return subprocess.Popen([*command, *overrides], cwd=ROOT, env=environment, stdout=told, stderr=told)


def has_step(workdir: pathlib.Path) -> bool:
    """Tells whether the run in a folder has recorded a step."""
    path = workdir / "metrics.jsonl"
    return path.exists() and "\n" in path.read_text()


def tell(line: str) -> None:
    """Prints a line about progress to stderr."""
    print(line, file=sys.stderr, flush=True)


# Each program has a process of its own, and all cores while the others wait.


@contextlib.contextmanager
def start(module: str, arguments: Iterable[str]) -> Iterator[tuple[dict, Callable[[object], dict]]]:
    """Starts `python -m module arguments`, a process that calls `answer`, and ends it afterwards.

    The process and its own processes (PyTorch's workers) are stopped while it has no question to answer.

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
        os.killpg(child.pid, signal.SIGCONT)  # it ends by itself when there are no more questions


def answer(begin: Callable[[], dict], reply: Callable[[object], dict]) -> None:
    """Answers the questions of a process that called `start`: prints what `begin` returns, then a reply to each.

    On Linux this process ends with the one that asks, however that ends.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    print(json.dumps(begin()), flush=True)
    for line in sys.stdin:
        print(json.dumps(reply(json.loads(line))), flush=True)


# The real training loop, on random images: their values do not matter for the time.


class Loop:
    """The training loop of a config, `ucl_jax.training.loop.train`, step by step on random images.

    Attributes:
      experiment: the pure functions of the config.
      compiled: its compiled phases.
      state: the state after the last step.
      metrics: the metrics of the last step; {} before the first one.
      key: the random key of the run.
      images: uint8 [task_images, S, S, 3], the images of each task.
      labels: int32 [task_images], all 0.
    """

    def __init__(self, config, task_images: int = 10_000, devices: int = 1):
        import jax
        import numpy as np

        from ucl_jax.data import streams
        from ucl_jax.training import loop, parallel, schedule
        from ucl_jax.training.build import make_evaluation, make_experiment
        from ucl_jax.types import Examples

        size, tasks = config.benchmark.image_size, config.benchmark.num_tasks
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (task_images, size, size, 3), np.uint8)
        label = np.zeros(task_images, np.int32)
        self.config = config
        self.devices = parallel.choose_devices(devices, config.train.batch_size)
        self.experiment = make_experiment(config, parallel.AXIS, self.devices[0].platform)
        self.compiled = parallel.compile_phases(self.experiment.phases, self.devices)
        self.state = jax.device_put(self.experiment.init(), self.compiled[0].sharding)
        self.metrics: dict[str, Any] = {}
        self.key, self.images, self.labels = self.experiment.key, image, label
        stored = Examples(image, label)
        stream = SimpleNamespace(
            train_sizes=[task_images] * tasks,
            num_tasks=tasks,
            training=lambda part: Examples(*(np.resize(x, (part.stop - part.start, *x.shape[1:])) for x in stored)),
            prefetch_part=lambda part: None,
            sequence=streams.Sequence(np.arange(task_images * tasks), np.arange(task_images * tasks) // task_images),
            places=lambda part, among: np.arange(part.start, part.stop) - among.start,
        )
        train = config.train
        # It never reaches the end.
        plan = schedule.make_schedule(
            stream.train_sizes, 10**6, train.batch_size, train.last_batch, train.steps_per_call
        )
        evaluation = make_evaluation(config)
        self._events = loop.train(self.experiment, self.compiled, stream, plan, evaluation, self.state, 0, 0)

    def steps(self, count: int = 1) -> float:
        """Takes at least so many steps, in whole calls, waits for them, and returns the seconds a step."""
        import jax

        began, calls = time.perf_counter(), -(-count // self.config.train.steps_per_call)
        made = [len((event := next(self._events)).steps) for _ in range(calls)]
        jax.block_until_ready((event.state, event.metrics))
        seconds = time.perf_counter() - began
        self.state, self.metrics = event.state, {name: values[-1] for name, values in event.metrics.items()}
        return seconds / sum(made)
