"""Tests programs that take turns: real processes, each with a worker process, that are stopped between questions."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import measure
from ucl_jax.errors import UsageError

ROOT = pathlib.Path(measure.__file__).parent.parent
# This program has a worker that counts for ever. It answers how far the worker has come; "end" ends it.
PROGRAM = """
import os, sys, time
sys.path.insert(0, {root!r})
from benchmarks import measure
count, me = "count{name}", os.getpid()
worker = os.fork()
if worker == 0:
    for n in range(10**9):
        with open(count, "a") as file:
            file.write(".")
        if os.getppid() != me:
            os._exit(0)
        time.sleep(0.001)
def reply(question):
    if question == "end":
        sys.exit(3)
    time.sleep(0.2)
    return {{"count": os.path.getsize(count)}}
measure.answer(lambda: {{"pids": [me, worker]}}, reply)
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.py").write_text(PROGRAM.format(root=str(ROOT), name=name))
    return tmp_path


def state(pid):
    """Returns the kernel's letter for the state of a process, and Z also if there is no such process."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def wait_for(pid, letter):
    deadline = time.monotonic() + 20
    while state(pid) != letter:
        assert time.monotonic() < deadline, state(pid)
        time.sleep(0.01)


def test_a_program_and_its_workers_stand_still_while_others_are_asked(programs):
    with measure.start("a", []) as (facts, ask_a), measure.start("b", []) as (_, ask_b):
        for _ in range(2):
            while ask_a({})["count"] < 50:
                pass
            for pid in facts["pids"]:
                wait_for(pid, "T")
            still = (programs / "counta").stat().st_size
            ask_b({})
            assert (programs / "counta").stat().st_size == still
            (programs / "counta").write_text("")


def test_a_program_that_ends_is_told(programs):
    with pytest.raises(SystemExit, match="a failed, see above"), measure.start("a", []) as (_, ask):
        ask("end")


def test_a_program_does_not_outlive_an_interruption(programs):
    with pytest.raises(KeyboardInterrupt), measure.start("a", []) as (facts, _):
        raise KeyboardInterrupt
    for pid in facts["pids"]:
        wait_for(pid, "Z")


def test_a_result_that_cannot_be_saved_is_refused_at_once(tmp_path):
    default = tmp_path / "step.json"
    measure.check_out(default, default)
    measure.check_out(tmp_path / "other.json", default, partial=True)
    for path, partial in ((default, True), (tmp_path, False), (tmp_path / "no" / "step.json", False)):
        with pytest.raises(UsageError, match="--out"):
            measure.check_out(path, default, partial)


def test_programs_end_with_the_one_that_asks_even_by_sigkill(programs):
    (programs / "asks.py").write_text(
        f"import pathlib, sys, time\nsys.path.insert(0, {str(ROOT)!r})\nfrom benchmarks import measure\n"
        f"measure.ROOT = pathlib.Path({str(programs)!r})\n"
        "with measure.start('a', []) as (facts, ask):\n    print(facts['pids'][0], flush=True)\n    time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "asks.py"], cwd=programs, stdout=subprocess.PIPE, text=True) as asks:
        pid = int(asks.stdout.readline())
        wait_for(pid, "T")
        asks.send_signal(signal.SIGKILL)
    wait_for(pid, "Z")
