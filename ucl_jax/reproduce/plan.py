"""Plans the runs of a study: which there are, which are missing, and how long these take; and trains them.

JAX is not imported here, so that a plan is made at once.
"""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import shlex
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ucl_jax.cli import duration
from ucl_jax.errors import UsageError, require
from ucl_jax.files import write_atomically
from ucl_jax.recipes import read_config
from ucl_jax.reproduce.jobs import Job, Slot, run_jobs
from ucl_jax.results.compare import all_known, changed_settings
from ucl_jax.results.load import read_results, read_saved_config
from ucl_jax.settings import flatten

if TYPE_CHECKING:
    from ucl_jax.results.schema import RunResult

# Benchmark -> seconds of a run on one core of an AMD EPYC, used until a first run is finished. That of the digits is
# the mean over Table 1. Those at 16 pixels are rounded up from runs of finetune and LUMP; other methods take longer.
MEASURED = {"digits": 90.0, "cifar10_16px": 600.0, "cifar100_16px": 700.0}
TRAIN = (sys.executable, "-m", "ucl_jax.train")
Overrides = tuple[tuple[str, str], ...]  # pairs of key and value; a tuple, so that a planned run can be a key of a dict


class PlannedRun(NamedTuple):
    """A run that a study needs: RECIPE:BENCHMARK,OBJECTIVE,PROTOCOL,STREAM with a seed and overrides, in a folder.

    Attributes:
      name: the name of the folder, and of the results file where results are kept elsewhere.
      folder: the run's folder.
      benchmark: the name of the benchmark.
      recipe: the name of the recipe.
      objective: the name of the objective.
      seed: `config.seed`.
      overrides: "section.key" and value of each, the value as the command line takes it.
      protocol: the name of the protocol.
      stream: the name of the stream.
    """

    name: str
    folder: pathlib.Path
    benchmark: str
    recipe: str
    objective: str
    seed: int
    overrides: Overrides = ()
    protocol: str = "ucl"
    stream: str = "tasks"

    @property
    def argument(self) -> str:
        """Returns the argument of the recipe: what follows the colon after its file, without words of the default."""
        words = [self.benchmark, self.objective, self.protocol, self.stream]
        last = 4 if self.stream != "tasks" else 3 if self.protocol != "ucl" else 2
        return ",".join(words[:last])

    @property
    def path(self) -> str:
        """Returns the name with the benchmark before it, which no other run has."""
        return f"{self.benchmark}/{self.name}"

    def command(self) -> list[str]:
        """Returns the command that trains the run."""
        flags = [f"--config={self.recipe}:{self.argument}", f"--config.seed={self.seed}"]
        return [*TRAIN, *flags, *_flags(self.overrides), f"--workdir={self.folder.absolute()}"]


def _flags(overrides: Overrides) -> list[str]:
    """Returns the arguments of `ucl train` that set overrides."""
    return [f"--config.{key}={value}" for key, value in overrides]


@functools.cache
def _config(recipe: str, argument: str, overrides: Overrides) -> dict[str, Any]:
    """Returns a recipe's config with overrides as "section.key" -> value, as JSON has it.

    Raises:
      UsageError: the recipe does not take one of the overrides.
    """
    flags = [f"--config={recipe}:{argument}", *_flags(overrides)]
    try:
        return flatten(json.loads(read_config(flags).to_json()))
    except UsageError as error:
        raise UsageError(f"recipe {recipe}: {error}") from error


def config_of(run: PlannedRun) -> dict[str, Any]:
    """Returns the config that a run will have, as "section.key" -> value.

    Raises:
      UsageError: its recipe does not take one of its overrides.
    """
    return _config(run.recipe, run.argument, run.overrides) | {"seed": run.seed}


def saved_results(run: PlannedRun, kept: pathlib.Path | None = None) -> RunResult | None:
    """Returns the results of a run, finished or not; None where there are none yet.

    Args:
      run: the run.
      kept: a folder that may have the results as NAME.json; it is looked at before the run's own folder.

    Raises:
      UsageError: there is a run with other settings, or its files cannot be read.
    """
    paths = [*([kept / f"{run.name}.json"] if kept else []), run.folder / "results.json"]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        if (run.folder / "config.json").exists():  # the run was stopped in the first task
            _require_same(run, run.folder, flatten(read_saved_config(run.folder / "config.json")))
        return None
    results = read_results(path)
    _require_same(run, run.folder if path.name == "results.json" else path, results.settings)
    return results


def _require_same(run: PlannedRun, place: pathlib.Path, there: Mapping[str, Any]) -> None:
    """Raises UsageError where the settings at a place are not those of a run, but for ones that change no number."""
    changed = changed_settings(there, config_of(run))
    require(
        not changed,
        f"{place} holds a run with other settings: {', '.join(changed)}; take another folder for this study "
        "(--root), or remove that one",
    )


def check(planned: Iterable[PlannedRun]) -> None:
    """Raises UsageError where the recipe of a run does not take one of the overrides."""
    for run in planned:
        config_of(run)


class Times(NamedTuple):
    """How long finished runs took, from which the time of other runs is estimated.

    Attributes:
      seconds: (benchmark, stream, objective, recipe, images a task), and each beginning of that tuple -> the seconds of
        such runs.
    """

    seconds: dict[tuple, list[float]]

    @classmethod
    def of(cls, root: pathlib.Path) -> Times:
        """Returns the times of the finished runs under a folder."""
        times = cls({})
        for path in sorted({*root.glob("*/results.json"), *root.glob("*/*/results.json")}):
            with contextlib.suppress(UsageError):  # a file of another program
                times.add(read_results(path))
        return times

    def add(self, results: RunResult) -> None:
        """Adds the time of a run, if it is finished."""
        of = results.benchmark, results.stream_name, results.objective, results.recipe, results.examples_per_task
        if results.finished:
            for length in range(1, 6):
                self.seconds.setdefault(of[:length], []).append(results.seconds)

    def estimate(self, run: PlannedRun) -> float | None:
        """Returns the seconds that a run should take; None where no run of its benchmark is known.

        This is the mean of runs with the same benchmark, objective, recipe and number of images; where there are none,
        of runs that agree in fewer of these. Where there are none at all, it is MEASURED, scaled by the epochs.
        """
        config = config_of(run)
        of = run.benchmark, run.stream, run.objective, run.recipe, config["benchmark.examples_per_task"]
        known = next((self.seconds[of[:length]] for length in (5, 4, 3, 2, 1) if of[:length] in self.seconds), None)
        if known or run.stream != "tasks" or run.benchmark not in MEASURED:
            return statistics.fmean(known) if known else None
        epochs = config_of(run._replace(overrides=()))["train.epochs"]
        return MEASURED[run.benchmark] * config["train.epochs"] / epochs


def time_left(times: Times, planned: Sequence[PlannedRun], spent: dict[str, float], jobs: int) -> str:
    """Returns in words how long runs will take.

    Args:
      times: of finished runs.
      planned: the runs that are to be trained.
      spent: the seconds that unfinished runs were trained already, by their path.
      jobs: how many run at a time.
    """
    each = all_known([times.estimate(run) for run in planned])
    if each is None:
        return "time not known until a first run is finished"
    rest = [max(0.0, seconds - spent.get(run.path, 0.0)) for run, seconds in zip(planned, each)]
    return f"about {duration(max(max(rest, default=0.0), sum(rest) / jobs))}"


class Plan(NamedTuple):
    """The plan of a study.

    Attributes:
      planned: all of its runs, in the order in which to train them.
      missing: those that are not finished.
      spent: the seconds that unfinished runs were trained already, by their path.
      times: the times of finished runs.
    """

    planned: tuple[PlannedRun, ...]
    missing: tuple[PlannedRun, ...]
    spent: dict[str, float]
    times: Times


def make_plan(planned: Sequence[PlannedRun], root: pathlib.Path, kept: pathlib.Path | None = None) -> Plan:
    """Makes the plan of a study from the results that exist.

    Args:
      planned: the study's runs, in the order in which to train them.
      root: the folder whose finished runs tell how long one takes.
      kept: a folder with results of finished runs, as NAME.json.

    Raises:
      UsageError: a folder holds a run with other settings; nothing was started.
    """
    missing: list[PlannedRun] = []
    spent: dict[str, float] = {}
    for run in planned:
        results = saved_results(run, kept)
        if results is None or not results.finished:
            missing.append(run)
        if results is not None and not results.finished:
            spent[run.path] = results.seconds
    return Plan(tuple(planned), tuple(missing), spent, Times.of(root))


def print_plan(plan: Plan, jobs: int) -> None:
    """Prints a line for each run that is to be trained, and how long that takes in all."""
    for run in plan.missing:
        begun = run.path in plan.spent or (run.folder / "config.json").exists()
        print(f"  {run.path}: {'unfinished, will go on' if begun else 'missing'}")
    line = f"{len(plan.planned)} runs: {len(plan.planned) - len(plan.missing)} finished, {len(plan.missing)} to run"
    if plan.missing:
        line += f", {jobs} at a time: {time_left(plan.times, plan.missing, plan.spent, jobs)}"
        # The reader should know that this estimate was measured on another machine.
        if not plan.times.seconds and all(plan.times.estimate(run) is not None for run in plan.missing):
            line += " (by runs on one core of an AMD EPYC)"
    print(line, flush=True)


def train(plan: Plan, slots: Sequence[Slot]) -> dict[str, str]:
    """Trains the missing runs of a plan and prints progress; returns the reason for each that failed, by path.

    Raises:
      Stopped: a signal arrived, see `run_jobs`.
    """
    todo = {run.path: run for run in plan.missing}
    total = len(todo)
    failed: dict[str, str] = {}

    def ended(job: Job, code: int) -> None:
        run = todo.pop(job.name)
        results = None
        if code == 0:
            with contextlib.suppress(UsageError):  # damaged results count as a failure below
                results = saved_results(run)
        if results is None or not results.finished:
            failed[job.name] = f"{job.last_line()} (see {job.log})"
        else:
            plan.times.add(results)
        word = f"FAILED, exit code {code}" if job.name in failed else "done"
        rest = f"; left: {time_left(plan.times, tuple(todo.values()), plan.spent, len(slots))}" if todo else ""
        print(f"[{total - len(todo)}/{total}] {job.name}: {word}{rest}", flush=True)

    run_jobs([Job(name, run.folder, tuple(run.command())) for name, run in todo.items()], slots, ended)
    return failed


def keep_results(planned: Sequence[PlannedRun], folder: pathlib.Path) -> None:
    """Copies the results of finished runs into a folder, as NAME.json; files that are there already stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for run in planned:
        source, kept = run.folder / "results.json", folder / f"{run.name}.json"
        if not kept.exists() and source.exists() and read_results(source).finished:
            write_atomically(kept, source.read_text(encoding="utf-8"))


def print_failures(failed: dict[str, str]) -> None:
    """Prints a line for each failure: its name and the reason."""
    for name, why in failed.items():
        print(f"failed: {name}: {why}", flush=True)


class SlurmResources(NamedTuple):
    """Says what each run of an array job gets.

    Attributes:
      jobs: how many runs are at work at a time; None leaves that to Slurm.
      nodes: nodes a run.
      gpus: GPUs a node. A run on several GPUs has one process for each.
    """

    jobs: int | None = None
    nodes: int = 1
    gpus: int = 1


# A run saves itself at SIGTERM, and leaves with exit code 143. Slurm sends that two minutes before the time limit: to
# this shell alone, which hands it on, or to the processes of `srun`, which would kill them if it got the signal itself.
# A job that was cancelled is not running any more, and is not queued again.
SLURM_RUN = """\
run() {
    echo "$ ${*:2}" >>"$1"
    "${@:2}" >>"$1" 2>&1 &
    child=$!
    trap "{trap}" TERM
    while wait $child && code=0 || code=$?; kill -0 $child 2>/dev/null; do :; done  # a signal ends `wait` early
    if [ "$code" = 143 ] && [ "$(squeue -h -j "$SLURM_JOB_ID" -o %T)" = RUNNING ]; then
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$code"
}"""


def slurm_script(name: str, planned: Sequence[PlannedRun], resources: SlurmResources) -> str:
    """Returns the script of a Slurm array job that trains runs, each with an index and GPUs of its own.

    A run that meets its time limit or is preempted saves itself first. Then its job is queued again, and goes on.

    Args:
      name: of the job.
      planned: the runs.
      resources: what each run gets.
    """
    jobs, nodes, gpus = resources
    together = nodes * gpus > 1
    lines = [
        "#!/usr/bin/env bash",
        f"#SBATCH --job-name={name}",
        f"#SBATCH --array=0-{len(planned) - 1}" + (f"%{jobs}" if jobs else ""),
        f"#SBATCH --nodes={nodes}",
        f"#SBATCH --ntasks-per-node={gpus}",
        f"#SBATCH --gres=gpu:{gpus}",
        "# What a run prints is in its folder, output.txt.",
        "#SBATCH --output=/dev/null",
        "# Two minutes to save before the time limit; then it is queued again and goes on.",
        f"#SBATCH --signal={'' if together else 'B:'}TERM@120",
        "#SBATCH --requeue",
        "# What a cluster may want to know as well; take one # away:",
        "##SBATCH --time=12:00:00",
        "##SBATCH --partition=NAME",
        "##SBATCH --cpus-per-task=8",
        "set -eu",
        f"cd {shlex.quote(str(pathlib.Path.cwd()))}",
        SLURM_RUN.replace("{trap}", ":" if together else "kill -TERM $child"),
        'case "$SLURM_ARRAY_TASK_ID" in',
    ]
    for place, run in enumerate(planned):
        folder = shlex.quote(str(run.folder.absolute()))
        command = shlex.join(["srun", *run.command(), "--distributed"] if together else run.command())
        lines += [
            f"{place})",
            f"    mkdir -p {folder}",
            f"    run {folder}/output.txt {command}",
            "    ;;",
        ]
    return "\n".join([*lines, "esac", ""])
