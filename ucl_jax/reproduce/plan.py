"""The runs of a study: which there are, which are missing, how long these take, and training them.

Nothing here imports JAX: a plan is made in a moment.
"""

import contextlib
import pathlib
import shlex
import statistics
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ucl_jax.cli import read_config
from ucl_jax.errors import UsageError, require, write_whole
from ucl_jax.reproduce.jobs import LAUNCH, Job, Slot, run_jobs
from ucl_jax.results.load import read_results
from ucl_jax.results.tables import NEUTRAL

# Seconds of a run where none was finished yet: measured on one core of an AMD EPYC, mean over the rows of Table 1.
MEASURED = {"digits": 90.0}


class Cell(NamedTuple):
    """One run: configs/`recipe`.py:`benchmark`,`objective` with overrides (KEY=VALUE), in its folder.

    name: of the folder, and of the results where they are kept elsewhere.
    """

    name: str
    folder: pathlib.Path
    benchmark: str
    recipe: str
    objective: str
    seed: int
    overrides: tuple[str, ...] = ()

    def flags(self) -> list[str]:
        """The flags of `launch.py` that say what it is."""
        pairs = (f"seed={self.seed}", *self.overrides)
        config = f"--config=configs/{self.recipe}.py:{self.benchmark},{self.objective}"
        return [config, *(f"--config.{pair}" for pair in pairs)]

    def command(self) -> list[str]:
        """What is run, in the folder of `launch.py`."""
        return [sys.executable, LAUNCH.name, *self.flags(), f"--workdir={self.folder.absolute()}"]


def settings(command: str | Sequence[str]) -> dict[str, str]:
    """The --config flags of a command that numbers depend on; of a flag given twice the last one."""
    words = shlex.split(command) if isinstance(command, str) else command
    pairs = (word.partition("=")[::2] for word in words if word.startswith("--config"))
    return {flag: value for flag, value in pairs if not flag.removeprefix("--config.").startswith(NEUTRAL)}


def saved_results(cell: Cell, kept: pathlib.Path | None = None) -> dict[str, Any] | None:
    """What is there of a cell: its results.json, first from the folder `kept`, as NAME.json; None where nothing is.

    Raises:
      UsageError: what is there is of other settings, or cannot be read.
    """
    paths = [*([kept / f"{cell.name}.json"] if kept else []), cell.folder / "results.json"]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        output = cell.folder / "output.txt"
        if (cell.folder / "config.json").exists() and output.exists():  # killed in the first task
            with output.open(errors="replace") as lines:
                _require_same(cell, cell.folder, lines.readline().removeprefix("$ "))
        return None
    results = read_results(path)
    require(bool(results.get("command")), f"{path} does not say by what command it was made; take another folder")
    _require_same(cell, cell.folder if path.name == "results.json" else path, results["command"])
    return results


def _require_same(cell: Cell, place: pathlib.Path, command: str) -> None:
    there, here = settings(command), settings(cell.flags())
    pairs = [
        (flag, there.get(flag, "the default"), here.get(flag, "the default")) for flag in sorted({**there, **here})
    ]
    differing = [f"{flag.removeprefix('--config.')} ({a} there, {b} here)" for flag, a, b in pairs if a != b]
    require(
        not differing,
        f"{place} holds a run with other settings: {', '.join(differing)}; take another folder for this study "
        "(--root), or remove that one",
    )


def check(cells: Iterable[Cell]) -> None:
    """Raises UsageError where `launch.py` is not there, or does not take an override of a cell."""
    require(
        LAUNCH.exists(),
        f"{LAUNCH} is not there: runs are started with launch.py and configs/ of a checkout of ucl_jax; "
        "clone it and install it with pip install -e .",
    )
    folder = LAUNCH.parent / "configs"
    if not folder.is_dir():
        return
    if str(LAUNCH.parent) not in sys.path:  # recipes import configs.base
        sys.path.insert(0, str(LAUNCH.parent))
    for recipe, arg, overrides in dict.fromkeys((c.recipe, f"{c.benchmark},{c.objective}", c.overrides) for c in cells):
        read_config([f"--config={folder / recipe}.py:{arg}", *(f"--config.{pair}" for pair in overrides)])


class Times(NamedTuple):
    """Seconds of runs, by what they are: what is closest to a cell tells how long it takes."""

    seconds: dict[tuple, list[float]]

    @classmethod
    def of(cls, root: pathlib.Path) -> "Times":
        """From the finished runs under a folder."""
        times = cls({})
        for path in sorted({*root.glob("*/results.json"), *root.glob("*/*/results.json")}):
            with contextlib.suppress(UsageError):  # somebody else's
                times.add(read_results(path))
        return times

    def add(self, results: dict[str, Any]) -> None:
        """Takes in one run, if it is finished and says how long it took."""
        config = results["config"]
        examples = config["benchmark"]["examples_per_task"]
        of = config["benchmark"]["name"], config["objective"]["name"], config["recipe"], str(examples)
        if results["finished"] and "seconds" in results:
            for length in range(1, 5):
                self.seconds.setdefault(of[:length], []).append(results["seconds"])

    def estimate(self, cell: Cell) -> float | None:
        """Of the same recipe, objective and number of images, else of fewer of these; None where nothing is known."""
        pairs = dict(pair.partition("=")[::2] for pair in cell.overrides)
        of = cell.benchmark, cell.objective, cell.recipe, pairs.get("benchmark.examples_per_task", "0")
        known = next((self.seconds[of[:length]] for length in (4, 3, 2, 1) if of[:length] in self.seconds), None)
        return statistics.fmean(known) if known else MEASURED.get(cell.benchmark)


def left(times: Times, cells: Sequence[Cell], spent: dict[str, float], jobs: int) -> str:
    """How long cells take on `jobs` slots, in words; `spent` seconds of some, by benchmark/name."""
    each = [times.estimate(cell) for cell in cells]
    if None in each:
        return "time not known until a first run is finished"
    rest = [max(0.0, seconds - spent.get(_path(cell), 0.0)) for cell, seconds in zip(cells, each)]
    return f"about {duration(max(max(rest, default=0.0), sum(rest) / jobs))}"


def duration(seconds: float) -> str:
    """Such as "40 s", "12 min" or "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _path(cell: Cell) -> str:
    """The name that tells a cell from those of other benchmarks."""
    return f"{cell.benchmark}/{cell.name}"


class Plan(NamedTuple):
    """The cells of a study that are not finished, with the seconds that each had already, and what is known of time."""

    cells: tuple[Cell, ...]
    missing: tuple[Cell, ...]
    spent: dict[str, float]
    times: Times


def make_plan(cells: Sequence[Cell], root: pathlib.Path, kept: pathlib.Path | None = None) -> Plan:
    """Looks at what is there.

    Args:
      cells: in the order in which to run them.
      root: the folder whose finished runs tell how long one takes.
      kept: a folder with results of finished cells, as NAME.json.

    Raises:
      UsageError: a folder holds a run with other settings; nothing was started.
    """
    missing, spent = [], {}
    for cell in cells:
        results = saved_results(cell, kept)
        if results is None or not results["finished"]:
            missing.append(cell)
        if results is not None and not results["finished"]:
            spent[_path(cell)] = results.get("seconds", 0.0)
    return Plan(tuple(cells), tuple(missing), spent, Times.of(root))


def tell_plan(plan: Plan, jobs: int) -> None:
    """Prints a line for each cell that is to run, and how long it all takes."""
    for cell in plan.missing:
        begun = _path(cell) in plan.spent or (cell.folder / "config.json").exists()
        print(f"  {_path(cell)}: {'unfinished, will go on' if begun else 'missing'}")
    line = f"{len(plan.cells)} runs: {len(plan.cells) - len(plan.missing)} finished, {len(plan.missing)} to run"
    if plan.missing:
        line += f", {jobs} at a time: {left(plan.times, plan.missing, plan.spent, jobs)}"
        # A constant that was measured elsewhere is no estimate of this machine.
        if not plan.times.seconds and all(cell.benchmark in MEASURED for cell in plan.missing):
            line += " (by runs on one core of an AMD EPYC)"
    print(line, flush=True)


def train(plan: Plan, slots: Sequence[Slot]) -> dict[str, str]:
    """Runs the cells that are missing; tells progress; returns why some failed, by benchmark/name.

    Raises:
      Stopped: see `run_jobs`.
    """
    todo = {_path(cell): cell for cell in plan.missing}
    total, failed = len(todo), {}

    def ended(job: Job, code: int) -> None:
        cell = todo.pop(job.name)
        results = None
        if code == 0:
            with contextlib.suppress(UsageError):  # told as a failure
                results = saved_results(cell)
        if results is None or not results["finished"]:
            failed[job.name] = f"{job.last_line()} (see {job.log})"
        else:
            plan.times.add(results)
        word = f"FAILED, exit code {code}" if job.name in failed else "done"
        rest = f"; left: {left(plan.times, tuple(todo.values()), plan.spent, len(slots))}" if todo else ""
        print(f"[{total - len(todo)}/{total}] {job.name}: {word}{rest}", flush=True)

    run_jobs([Job(name, cell.folder, tuple(cell.command())) for name, cell in todo.items()], slots, ended)
    return failed


def keep(cells: Sequence[Cell], folder: pathlib.Path) -> None:
    """Copies results.json of finished cells into a folder, as NAME.json; what is there stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for cell in cells:
        source, kept = cell.folder / "results.json", folder / f"{cell.name}.json"
        if not kept.exists() and source.exists() and read_results(source)["finished"]:
            write_whole(kept, source.read_text(encoding="utf-8"))


def tell_failures(failed: dict[str, str]) -> None:
    """One line for each."""
    for name, why in failed.items():
        print(f"failed: {name}: {why}", flush=True)


def slurm_script(name: str, cells: Sequence[Cell], jobs: int | None = None) -> str:
    """An array job of Slurm: one cell an index, one GPU each, at most `jobs` at a time, else as many as Slurm lets.

    A run that meets its time limit saves itself first, so that the script can be submitted again.
    """
    lines = [
        "#!/usr/bin/env bash",
        f"#SBATCH --job-name={name}",
        f"#SBATCH --array=0-{len(cells) - 1}" + (f"%{jobs}" if jobs else ""),
        "#SBATCH --gres=gpu:1",
        "# What a run prints is in its folder, output.txt.",
        "#SBATCH --output=/dev/null",
        "# Two minutes to save before the time limit; submitted again it goes on.",
        "#SBATCH --signal=B:TERM@120",
        "set -eu",
        f"cd {shlex.quote(str(LAUNCH.parent))}",
        'case "$SLURM_ARRAY_TASK_ID" in',
    ]
    for place, cell in enumerate(cells):
        folder, command = shlex.quote(str(cell.folder.absolute())), shlex.join(cell.command())
        lines += [
            f"{place})",
            f"    mkdir -p {folder}",
            f"    echo {shlex.quote('$ ' + command)} >{folder}/output.txt",
            f"    exec {command} >>{folder}/output.txt 2>&1",
            "    ;;",
        ]
    return "\n".join([*lines, "esac", ""])
