"""Trains the plain PyTorch loop of benchmarks.torch_lump on all tasks of a run, and judges it as our runs are judged.

    python -m benchmarks.torch_run --config=configs/lump.py:cifar10_16px --config.seed=1 --workdir=DIR

The recipe is finetune or LUMP with SimSiam. As in the official code, the last batch of an epoch is smaller where the
images of a task do not divide by the batch size; ours is filled up, so that both take as many steps (item 13 of
docs/fidelity.md). Weights start as PyTorch makes them. Data loader and training share one process, and one thread of a
CPU.

After each task, features of the training and test images are given to the kNN of `ucl_jax.evaluation.evaluators`. Once
the run is finished, DIR gets results.json and metrics.jsonl in the form that a run of ours gives them. A run that was
stopped leaves neither, and starts again. results.json has in addition:

program: facts about the program, its threads and cores, and where it differs from ours.
train_seconds, evaluation_seconds: the parts of `seconds`, which count from the opened data set on, as in our runs.
command_seconds: since the start of the process, with all imports; JAX, which has the kNN, is one of them.
cpu_seconds: of those, the time on the processor, which says what a busy machine added.
"""

import json
import os
import pathlib
import random
import shlex
import sys
import time
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from benchmarks import torch_lump
from benchmarks.beside import RECIPES
from ucl_jax import cli, recipes
from ucl_jax.data.tasks import TaskStream, open_stream
from ucl_jax.errors import require, usage_errors
from ucl_jax.evaluation import accuracy_matrix, evaluators
from ucl_jax.results.schema import ProbeResult, ProbeResultSettings, RunResult
from ucl_jax.training import build, provenance
from ucl_jax.training.loop import MatrixRows
from ucl_jax.training.run_folder import claim, write_json
from ucl_jax.training.schedule import make_schedule


class Learned(NamedTuple):
    """What a program learned in a run.

    entries: the lines of metrics.jsonl.
    rows: the rows of the accuracy matrix of each probe, one after each task.
    before: the same for the network before training, over all tasks; None where the settings do not ask for it.
    train_seconds, evaluation_seconds: how long both took.
    """

    entries: list[dict[str, Any]]
    rows: list[MatrixRows]
    before: MatrixRows | None
    train_seconds: float
    evaluation_seconds: float


def probe(program: torch_lump.Plain, stream: TaskStream, evaluation: evaluators.Evaluation, seen: int) -> MatrixRows:
    """Returns the row of each probe from the features of a program, where `seen` tasks count as known."""

    def extract(images):
        return evaluators.extract(program.features, images, evaluation.batch_size)

    count = evaluators.EVALUATED[evaluation.tasks](seen, stream.num_tasks)
    features: list[evaluators.TaskFeatures | None] = [None] * stream.num_tasks
    for task in range(count):
        data = stream.task(task)
        bank, query = extract(data.train_image), extract(data.test_image)
        features[task] = evaluators.TaskFeatures(bank, data.train_label, query, data.test_label)
    probes = evaluators.evaluators_of(labelled=False)
    return {name: one.row(features, seen, evaluation.knn, stream.classes) for name, one in probes.items()}


def learn(program: torch_lump.Plain, stream: TaskStream, config) -> Learned:
    """Trains a program on one task after the other, and evaluates it after each.

    Args:
      program: before its first step.
      stream: the tasks.
      config: the config tree of the run.

    Raises:
      UsageError: a metric is not finite.
    """
    evaluation, every = build.make_evaluation(config), config.log.every_steps
    schedule = make_schedule(stream.train_sizes, config.train.epochs, config.train.batch_size)
    entries: list[dict[str, Any]] = []
    spent = {"train": 0.0, "evaluation": 0.0}

    def train(task):
        program.begin_task(stream.task(task).train_image)
        period = schedule.periods[task]
        for step in range(period.start + 1, period.end + 1):
            if step % every and step != schedule.total:
                program.step()
                continue
            metrics = torch_lump.measured_step(program)
            require(np.isfinite([*metrics.values()]).all(), f"training diverged at step {step}: {metrics}")
            entries.append({"step": step, "task": task, "epoch": period.epoch(step), **metrics})
        torch_lump.wait()

    def timed(what, function, *arguments):
        began = time.perf_counter()
        result = function(*arguments)
        spent[what] += time.perf_counter() - began
        return result

    rows, before = [], None
    if config.eval.random_init:
        before = timed("evaluation", probe, program, stream, evaluation._replace(tasks="all"), stream.num_tasks)
    for task in range(stream.num_tasks):
        if task + 1 < stream.num_tasks:
            stream.prefetch(task + 1)
        timed("train", train, task)
        rows.append(timed("evaluation", probe, program, stream, evaluation, task + 1))
        means = {name: float(np.mean(row.accuracy[: task + 1])) for name, row in rows[-1].items()}
        entry = {"step": schedule.periods[task].end, "task": task}
        entries.append(entry | {f"{name}/average_accuracy": mean for name, mean in means.items()})
        told = [*(f"{name} {mean:.2f} %" for name, mean in means.items()), f"{sum(spent.values()):.0f} s"]
        print(f"task {task + 1}/{stream.num_tasks} learned: {', '.join(told)}", flush=True)
    return Learned(entries, rows, before, spent["train"], spent["evaluation"])


def probe_result(learned: Learned, name: str, evaluation: evaluators.Evaluation, classes) -> ProbeResult:
    """Returns what a probe found, in the form of results.json."""
    rows = [of_task[name] for of_task in learned.rows]
    matrix, used = [row.accuracy for row in rows], [row.k for row in rows]
    knn = ProbeResultSettings(**evaluation.knn._asdict(), k_used=used, clipped=any(row.clipped for row in rows))
    return ProbeResult(
        settings=knn,
        matrix=matrix,
        **accuracy_matrix.summarise(matrix),
        chance=evaluators.EVALUATORS[name].chance(classes),
        random_init=learned.before and learned.before[name].accuracy,
    )


def since_start() -> float | None:
    """Returns the seconds since this process was started; None where the system does not say it as Linux does."""
    stat = pathlib.Path("/proc/self/stat")
    if not stat.exists():
        return None
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])  # field 22, "starttime"
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def run(config, workdir: pathlib.Path, origin: provenance.Origin) -> RunResult:
    """Carries out the run of a config in a folder, writes its files there, and returns what results.json has.

    Args:
      config: a config tree of a recipe of RECIPES with SimSiam.
      workdir: the folder; no other process may be at work there.
      origin: how the config was given.

    Raises:
      UsageError: data are missing, a setting is bad, or training diverged.
    """
    random.seed(config.seed)
    np.random.seed(config.seed)  # noqa: NPY002  # of the mixup weight
    torch.manual_seed(config.seed)
    with usage_errors("config.benchmark."):
        stream = open_stream(build.make_stream_settings(config), config.data_dir, config.seed)
    with stream:
        began = time.perf_counter()
        program = torch_lump.Plain(config, stream.task(0).train_image, workers=0)
        learned = learn(program, stream, config)
    evaluation = build.make_evaluation(config)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    facts = {"mode": program.mode, "cores": cores, "last_batch": "smaller", "start": "PyTorch's own initialisation"}
    images = config.train.epochs * sum(stream.train_sizes)
    result = RunResult(
        finished=True,
        config=json.loads(config.to_json()),
        argument=origin.argument,
        overrides=dict(origin.overrides),
        command=origin.command,
        commit=str(at) if (at := provenance.commit()) else None,
        versions=provenance.versions() | {name: version(name) for name in ("torch", "pillow")},
        device=provenance.device_name(jax.local_devices()[:1]),
        seconds=time.perf_counter() - began,
        images_per_second=images / learned.train_seconds,
        classes=[list(labels) for labels in stream.classes],
        probes={name: probe_result(learned, name, evaluation, stream.classes) for name in learned.rows[0]},
        program=program.facts | facts,
        train_seconds=learned.train_seconds,
        evaluation_seconds=learned.evaluation_seconds,
        command_seconds=since_start(),
        cpu_seconds=time.process_time(),
    )
    metrics = "".join(f"{json.dumps(entry, allow_nan=False)}\n" for entry in learned.entries)
    (workdir / "metrics.jsonl").write_text(metrics)
    write_json(workdir / "results.json", result.to_json())  # last, because a run that has it is finished
    return result


@cli.returns_exit_code
def main(argv: list[str]) -> None:
    """Carries out the run of the arguments."""
    parser = cli.Parser(prog="python -m benchmarks.torch_run", description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True, metavar="DIR", help="the folder of the run")
    given, flags = parser.parse_known_args(argv)  # the others are those of launch.py: --config, --config.KEY
    config = recipes.read_config(flags)
    require(
        config.recipe in RECIPES and config.objective.name == "simsiam",
        f"the PyTorch loop has only {' and '.join(RECIPES)} with simsiam",
    )
    torch.set_num_threads(1)
    argument, overrides = recipes.origin(["", *flags], config)
    command = shlex.join(["python", "-m", "benchmarks.torch_run", *argv])
    with claim(given.workdir):
        run(config, given.workdir, provenance.Origin(command, argument, overrides))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
