"""Tests plans: how long runs take, and the script for Slurm."""

import os
import pathlib
import signal
import subprocess
import time
from typing import NamedTuple

import pytest

from tests import run_results
from tests.pretended import write_results
from ucl_jax.reproduce import plan
from ucl_jax.reproduce.plan import PlannedRun, Times, duration, time_left


def test_a_script_for_slurm_quotes_what_the_shell_would_eat(tmp_path):
    run = PlannedRun("a", tmp_path / "b c", "digits", "lump", "simsiam", 0, (("augment.mean", "(1,2,3)"),))
    text = plan.slurm_script("x", [run], plan.SlurmResources())
    assert "'--config.augment.mean=(1,2,3)'" in text
    assert f"'--workdir={tmp_path}/b c'" in text
    assert "--distributed" not in text


def slurm(tmp_path, command: str, *resources: int):
    """Starts the script of one run whose command is a shell command; srun and scontrol tell how they were called."""
    (tmp_path / "bin").mkdir()
    for name, does in (("srun", 'exec "$@"'), ("scontrol", "true"), ("squeue", "echo RUNNING")):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/called\n{does}\n')
        (tmp_path / "bin" / name).chmod(0o755)

    class Run(NamedTuple):
        folder: pathlib.Path = tmp_path / "a run"

        def command(self):
            return ["bash", "-c", command]

    script = tmp_path / "script.sh"
    script.write_text(plan.slurm_script("x", [Run()], plan.SlurmResources(None, *resources)))
    numbers = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "7"}
    environment = os.environ | numbers | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    return script.read_text(), subprocess.Popen(["bash", script], env=environment)


def test_a_run_that_slurm_stops_is_saved_and_queued_again(tmp_path):
    text, process = slurm(tmp_path, "trap 'sleep 0.5; echo saved; exit 143' TERM; echo begun; sleep 60 & wait")
    log = tmp_path / "a run" / "output.txt"
    deadline = time.monotonic() + 30
    while not (log.exists() and "begun\n" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert log.read_text().splitlines()[-2:] == ["begun", "saved"]
    assert (tmp_path / "called").read_text().splitlines() == ["squeue -h -j 7 -o %T", "scontrol requeue 7"]
    assert {"#SBATCH --requeue", "#SBATCH --signal=B:TERM@120", "#SBATCH --nodes=1"} <= set(text.splitlines())


def test_a_run_on_several_gpus_is_one_process_for_each(tmp_path):
    text, process = slurm(tmp_path, "exit 3", 2, 4)
    assert process.wait(30) == 3
    assert (tmp_path / "called").read_text().splitlines() == ["srun bash -c exit 3 --distributed"]
    assert "#SBATCH --signal=TERM@120" in text.splitlines()  # srun itself would kill its processes
    assert {"#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=4", "#SBATCH --gres=gpu:4"} <= set(text.splitlines())


def result(benchmark="digits", objective="simsiam", recipe="lump", examples=0, seconds=10.0, finished=True):
    few = {"benchmark.examples_per_task": examples}
    more = {"settings": few, "seconds": seconds, "finished": finished}
    return run_results.result(recipe, benchmark=benchmark, objective=objective, **more)


def test_the_time_left_is_that_of_the_nearest_runs(tmp_path):
    def planned(benchmark="cifar10", recipe="lump", objective="simsiam", *overrides):
        return PlannedRun("n", tmp_path, benchmark, recipe, objective, 0, overrides)

    times = Times({})
    assert times.estimate(planned()) is None
    assert times.estimate(planned("digits")) == plan.MEASURED["digits"]
    assert time_left(times, [planned(), planned("digits")], {}, 1) == "time not known until a first run is finished"
    times.add(result("cifar10", "supervised", "si", seconds=1000.0))
    times.add(result("cifar10", "simsiam", "si", seconds=100.0))
    times.add(result("cifar10", "simsiam", "lump", seconds=40.0))
    times.add(result("cifar10", "simsiam", "lump", seconds=60.0))
    times.add(result("cifar10", "simsiam", "lump", seconds=9999.0, finished=False))
    few = ("benchmark.examples_per_task", "100")
    times.add(result("cifar10", "simsiam", "lump", examples=100, seconds=5.0))
    assert times.estimate(planned("cifar10", "lump", "simsiam", few)) == 5.0
    assert times.estimate(planned()) == 50.0
    assert times.estimate(planned("cifar10", "der")) == pytest.approx((100 + 40 + 60 + 5) / 4)
    assert times.estimate(planned("cifar10", "der", "barlow_twins")) == pytest.approx((1000 + 100 + 40 + 60 + 5) / 5)
    assert times.estimate(planned("cifar100")) is None
    # Four runs of 50 s on two processors, 30 s of one run done, take 170 / 2 s, and never less than the longest run.
    four = [planned()._replace(name=name) for name in "abcd"]
    assert time_left(times, four, {"cifar10/a": 30.0}, 2) == "about 85 s"
    assert time_left(times, four, {}, 16) == "about 50 s"
    assert [duration(s) for s in (40, 600, 12600)] == ["40 s", "10 min", "3.5 h"]


def test_times_are_those_of_the_finished_runs_under_the_root(fake):
    write_results(fake / "runs", "digits", "simsiam", "si", 0, [[89.0, None], [86.0, 90.0]], seconds=30.0)
    write_results(fake / "runs", "digits", "simsiam", "si", 1, [[89.0, None], [86.0, 90.0]], seconds=50.0)
    (fake / "runs/digits/si-simsiam-seed7").mkdir()
    (fake / "runs/digits/si-simsiam-seed7/results.json").write_text("damaged")
    assert Times.of(fake / "runs").estimate(PlannedRun("n", fake, "digits", "si", "simsiam", 3)) == 40.0
