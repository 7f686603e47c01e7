"""Runs many small experiments, each in its own process, and keeps their results.json.

With several jobs each process has one CPU core; with --jobs=1 it has all of them, or the accelerator.

What is done already is not done again; a run that was interrupted goes on where it was. A cell that fails is told at
the end, and the exit code is 1 then.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import queue
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


class Cell(NamedTuple):
    """One run: configs/`recipe`.py:`arg` with overrides (KEY=VALUE, without --config.), and the name of its results."""

    name: str
    recipe: str
    arg: str
    seed: int
    overrides: tuple[str, ...] = ()


def _positive(word: str) -> int:
    if int(word) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(word)


def make_parser(description: str) -> argparse.ArgumentParser:
    """The command line that all studies share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, default=3, help="0 .. SEEDS-1")
    parser.add_argument("--jobs", type=_positive, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="for every cell")
    parser.add_argument("--dry-run", action="store_true", help="only say what would run")
    return parser


def _command(cell: Cell, given: argparse.Namespace) -> list[str]:
    """The flags of a run that say what it is."""
    pairs = (f"seed={cell.seed}", *cell.overrides, *given.override)
    return [f"--config=configs/{cell.recipe}.py:{cell.arg}", *(f"--config.{pair}" for pair in pairs)]


def _flags(command: str | list[str]) -> set[str]:
    """The flags of a command that numbers depend on."""
    words = shlex.split(command) if isinstance(command, str) else command
    return {word for word in words if word.startswith("--config") and not word.startswith("--config.log.")}


def run_all(study: str, cells: Sequence[Cell], given: argparse.Namespace) -> int:
    """Runs what has no benchmarks/results/STUDY/NAME.json yet, in runs/STUDY/NAME; returns the exit code."""
    results, runs = RESULTS / study, ROOT / "runs" / study
    missing = []
    for cell in cells:
        saved = results / f"{cell.name}.json"
        if given.only in cell.name and not saved.exists():
            missing.append(cell)
        elif given.only in cell.name and _flags(json.loads(saved.read_text())["command"]) != _flags(
            _command(cell, given)
        ):
            print(f"error: {saved} is of other overrides; move it away, or give those of its command", file=sys.stderr)
            return 2
    print(f"{len(cells)} cells, {len(missing)} to run, {given.jobs} at a time", flush=True)
    if given.dry_run:
        print("\n".join(cell.name for cell in missing))
        return 0
    results.mkdir(parents=True, exist_ok=True)
    cores: queue.Queue[int] = queue.Queue()
    for core in range(given.jobs):
        cores.put(core % os.cpu_count())

    def run(cell: Cell) -> bool:
        core, began = cores.get(), time.monotonic()
        workdir = runs / cell.name
        workdir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "launch.py", f"--workdir={workdir}", *_command(cell, given)]
        environment = dict(os.environ)
        if given.jobs > 1:
            command = [*(["taskset", "-c", str(core)] if shutil.which("taskset") else []), *command]
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        try:
            with (workdir / "output.txt").open("w") as output:
                done = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        finally:
            cores.put(core)
        if done.returncode == 0:
            shutil.copy(workdir / "results.json", results / f"{cell.name}.json")
        seconds = time.monotonic() - began
        print(f"{cell.name}: {'done' if done.returncode == 0 else 'FAILED'} in {seconds:.0f} s", flush=True)
        return done.returncode == 0

    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        outcomes = list(pool.map(run, missing))
    failed = [cell.name for cell, good in zip(missing, outcomes) if not good]
    for name in failed:
        print(f"failed: {name}, see {runs / name / 'output.txt'}")
    return 1 if failed else 0
