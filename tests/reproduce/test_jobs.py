"""Tests where processes run: on which GPUs and cores, and one at a time in a folder."""

import os
import sys

from ucl_jax.reproduce import jobs
from ucl_jax.reproduce.jobs import Job, Slot, gpus, make_slots, run_jobs


def test_a_place_for_each_process(monkeypatch):
    monkeypatch.setattr(jobs, "gpus", list)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 6, 7})
    monkeypatch.setenv("XLA_FLAGS", "--a")
    one_thread = {"XLA_FLAGS": "--a --xla_cpu_multi_thread_eigen=false"}
    assert make_slots() == [Slot(one_thread, (core,)) for core in (3, 5, 6, 7)]
    assert make_slots(2) == [Slot({}, (3, 6)), Slot({}, (5, 7))]
    assert make_slots(1) == [Slot({})]
    assert [slot.cores for slot in make_slots(5)] == [(3,), (5,), (6,), (7,), (3,)]
    monkeypatch.setattr(jobs, "gpus", lambda: ["2", "4"])
    assert make_slots() == [Slot({"CUDA_VISIBLE_DEVICES": "2"}), Slot({"CUDA_VISIBLE_DEVICES": "4"})]
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in make_slots(3)] == ["2", "4", "2"]
    assert make_slots(3)[0].environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.45"


def test_gpus_are_those_that_may_be_seen(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    for given, seen in (("0,3", ["0", "3"]), ("", []), ("-1", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert gpus() == seen
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert gpus() == []


def test_processes_run_in_their_place(tmp_path):
    core = min(os.sched_getaffinity(0))
    code = "import os; print(os.environ['PLACE'], os.sched_getaffinity(0), os.getpgid(0) == os.getpid())"
    job, codes = Job("a", tmp_path / "a", (sys.executable, "-c", code)), []
    run_jobs([job], [Slot({"PLACE": "here"}, (core,))], lambda job, code: codes.append(code))
    assert codes == [0]
    assert job.last_line() == f"here {{{core}}} True"


def test_two_jobs_in_one_folder_follow_each_other(tmp_path):
    code = "import os, time; os.mkdir('{0}'); time.sleep(0.3); os.rmdir('{0}')".format(tmp_path / "mark")
    jobs = [Job(name, tmp_path, (sys.executable, "-c", code), f"{name}.txt") for name in "ab"]
    ended = []
    run_jobs(jobs, [Slot({}), Slot({})], lambda job, code: ended.append((job.name, code)))
    assert ended == [("a", 0), ("b", 0)]
