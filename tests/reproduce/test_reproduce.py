"""Tests studies by one command: the plan, what is run and refused, interruptions, and numbers worked by hand.

Processes are real, but launch.py and the probe only pretend to work, except in one test at the end.
"""

import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import run_results, tiny
from ucl_jax import recipes
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import UsageError
from ucl_jax.reproduce import __main__ as reproduce
from ucl_jax.reproduce import jobs, plan, probe_requests, studies
from ucl_jax.reproduce.jobs import Job, Slot, gpus, make_slots, run_jobs
from ucl_jax.reproduce.plan import PlannedRun, Times, check, duration, time_left
from ucl_jax.results import compare
from ucl_jax.results.paper import Value

ROOT = pathlib.Path(__file__).parents[2]

# This script pretends to train for STEPS steps of 0.02 s, saves its step upon SIGTERM, and locks its folder.
LAUNCH = """
import fcntl, json, os, pathlib, signal, sys, time
sys.path.insert(0, "ROOT")
from ucl_jax.recipes import read_config
flags = dict(word.split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(flags["--workdir"])
folder.mkdir(parents=True, exist_ok=True)
lock = (folder / "lock").open("w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit("error: another process is training")
words = [word.replace("=configs/", "=ROOT/configs/") for word in sys.argv[1:] if word.startswith("--config")]
config = json.loads(read_config(words).to_json())
recipe, seed, examples = config["recipe"], config["seed"], config["benchmark"]["examples_per_task"]
print("pretending", os.environ.get("CUDA_VISIBLE_DEVICES"), sorted(os.sched_getaffinity(0)), flush=True)
if recipe == "si" and config["train"]["weight_decay"] == 0.25:
    print("error: no luck with si")
    sys.exit(2)
state, stop = folder / "state", []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
step = int(state.read_text()) if state.exists() else 0
(folder / "config.json").write_text(json.dumps(config))
with (folder / "starts").open("a") as starts:
    print(step, file=starts)
while step < int(os.environ.get("STEPS", 0)):
    time.sleep(0.02)
    step += 1
    if stop:
        time.sleep(float(os.environ.get("SAVING", 0)))
        state.write_text(str(step))
        sys.exit(143)
first = 90 + seed + (examples or 400) / 100
probes = {"knn_task": {"matrix": [[first, None], [first - 6, first + 2]], "chance": 50.0},
    "knn_all": {"matrix": [[first - 10, None], [first - 40, first - 10]], "chance": 25.0}}
results = {"version": 1, "finished": True, "config": config, "argument": "", "overrides": {}, "probes": probes,
    "seconds": 7.0 + time.time() % 1}
(folder / "results.json").write_text(json.dumps(results))
""".replace("ROOT", str(ROOT))

# This script pretends to probe: it adds each requested record that is missing.
PROBE = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
for name in ("workdir", "probes", "after", "data_dir"):
    parser.add_argument("--" + name, default="")
parser.add_argument("--set", action="append", default=[])
given = parser.parse_args()
path = pathlib.Path(given.workdir, "results.json")
results = json.loads(path.read_text())
with (path.parent / "asked").open("a") as asked:
    print(given.probes, given.after, *given.set, file=asked)
seed, kept = results["config"]["seed"], results.setdefault("analysis", [])
pairs = [word.split(".", 1)[1].split("=") for word in given.set]
settings = {key: int(value) if value.isdigit() else value for key, value in pairs}
if "penalties" in settings:
    settings["penalties"] = [*map(float, settings["penalties"].split(","))]
wanted = [(probe, after) for probe in given.probes.split(",") for after in map(int, given.after.split(","))]
for probe, after in wanted:
    if probe == "ood":
        for place, name in enumerate(settings["dataset"].split(",")):
            kept.append({"probe": "ood", "after": after, "settings": settings | {"dataset": name},
                "values": {"knn": 80.0 + seed + 5 * place, "linear": 70.0, "chance": 10.0,
                    "train_images": settings.get("train_images", 0) or 7000, "test_images": 300 + place}})
    elif probe == "loss_landscape":
        kept.append({"probe": "loss_landscape", "after": after, "settings": settings,
            "values": {"steps": [-1.0, 0.0, 1.0], "loss": [[3, 2, 3], [2, after + seed, 2], [3, 2, 6]]}})
    else:
        other = settings.get("other", "")
        cka = {s: [[1.0, 0.5, 0.25], [0.5, 1.0, 0.75], [0.25, 0.125 * (seed + 1), 0.5 + 0.1 * seed]]
            for s in ("stem", "stage1", "stage2", "stage3", "stage4")}
        kept.append({"probe": "cka", "after": None, "settings": {"other": other, **settings},
            "values": {"networks": [0, 1, 2], "other_networks": [0, 1, 2], "cka": cka,
                "l2": [[0.0, None, 9.0], [1.0, 2.0, 3.0], [4.0, 7.0, 5.0 + seed]]}})
path.write_text(json.dumps(results))
"""

MAIN = """
import pathlib, sys
from ucl_jax.reproduce import jobs, plan
from ucl_jax.reproduce import __main__ as reproduce
here = pathlib.Path(__file__).parent
jobs.LAUNCH = plan.LAUNCH = here / "launch.py"
reproduce.PROBE = (sys.executable, str(here / "probe.py"))
sys.exit(reproduce.main(sys.argv[1:]))
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes a folder with a launch.py and a probe that pretend to work; runs go to its folder `runs`."""
    for name, text in (("launch.py", LAUNCH), ("probe.py", PROBE), ("main.py", MAIN)):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(jobs, "LAUNCH", tmp_path / "launch.py")
    monkeypatch.setattr(plan, "LAUNCH", tmp_path / "launch.py")
    monkeypatch.setattr(reproduce, "PROBE", (sys.executable, str(tmp_path / "probe.py")))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(jobs, "gpus", list)
    return tmp_path


def call(fake, *arguments, root="runs"):
    """Runs the command in this process; returns its exit code."""
    return reproduce.main([*arguments, f"--root={fake / root}"])


def start(fake, *arguments, steps=0, saving=0.0, root="runs"):
    """Starts the command in a process of its own, which prints to told.txt."""
    with (fake / "told.txt").open("w") as told:
        return subprocess.Popen(
            [sys.executable, fake / "main.py", *arguments, f"--root={fake / root}"],
            env=os.environ | {"STEPS": str(steps), "SAVING": str(saving)},
            stdout=told,
            stderr=told,
        )


def wait_for(path, seconds=20):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.01)


def squeezed(text):
    """Removes the padding of Markdown cells, so that each has one space around it."""
    return re.sub(r"(?<=\S) +", " ", text)


def config_of(recipe, argument, *pairs):
    """Returns the config of a recipe with overrides KEY=VALUE, as JSON."""
    flags = [f"--config={ROOT}/configs/{recipe}.py:{argument}", *(f"--config.{pair}" for pair in pairs)]
    return json.loads(recipes.read_config(flags).to_json())


def files(fake, name, root="runs"):
    """Returns the output files of a study, name -> bytes."""
    found = {path.name: path.read_bytes() for path in (fake / root).glob(f"{name}*") if path.is_file()}
    assert found
    return found


SMALL = ("table1", "--objectives=simsiam", "--recipes=finetune,si", "--seeds=2", "--jobs=2")


def test_a_dry_run_tells_the_plan_and_touches_nothing(fake, capsys):
    assert call(fake, "table1", "--objectives=simsiam,supervised", "--seeds=2", "--recipes=all", "--dry-run") == 0
    told = squeezed(capsys.readouterr().out)
    named = re.findall(r"^  digits/(\S+): missing$", told, flags=re.MULTILINE)
    rows = [f"{r}-simsiam" for r in ("finetune", "si", "der", "lump", "multitask", "pnn")]
    rows += [f"{r}-supervised" for r in ("finetune", "si", "agem", "gss", "der", "multitask", "pnn")]
    more = [f"{recipe}-{o}" for o in ("simsiam", "supervised") for recipe in studies.EXTRA_ROWS[o]]
    # The paper's rows come first, and all rows of a seed before the next seed.
    assert named == [f"{row}-seed{seed}" for part in (rows, more) for seed in (0, 1) for row in part]
    assert f"{len(named)} runs: 0 finished, {len(named)} to run" in told
    assert not (fake / "runs").exists()


def test_planning_needs_no_jax():
    heavy = "{'jax', 'matplotlib', 'flax', 'pandas', 'pydantic'}"
    code = f"import sys, ucl_jax.reproduce.__main__; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_study_runs_what_is_missing_and_nothing_twice(fake, capfd):
    assert call(fake, *SMALL) == 0
    told = capfd.readouterr().out
    assert "4 runs: 0 finished, 4 to run, 2 at a time" in told
    assert re.search(r"\[1/4\] digits/\S+-seed0: done; left: about \d+ s", told)
    assert "[4/4] digits/" in told
    runs = fake / "runs/digits"
    assert {path.name for path in runs.iterdir()} == {
        f"{r}-simsiam-seed{s}" for r in ("finetune", "si") for s in (0, 1)
    }
    command = (runs / "si-simsiam-seed1/output.txt").read_text().splitlines()[0]
    assert command.startswith("$ ")
    assert command.endswith(
        f"launch.py --config=configs/si.py:digits,simsiam --config.seed=1 --workdir={runs}/si-simsiam-seed1"
    )
    before = files(fake, "table1")
    assert call(fake, *SMALL) == 0
    assert "4 runs: 4 finished, 0 to run" in capfd.readouterr().out
    assert files(fake, "table1") == before
    assert (runs / "si-simsiam-seed1/starts").read_text() == "0\n"
    # Another study uses the same runs, and trains only those that are missing.
    assert call(fake, "landscape", "--objectives=simsiam", "--seeds=2", "--dry-run") == 0
    assert "6 runs: 4 finished, 2 to run" in capfd.readouterr().out


def write_results(folder, benchmark, objective, recipe, seed, task, whole=((50.0, None), (30.0, 50.0)), **more):
    """Writes a finished run with given accuracy matrices; returns its folder."""
    folder = folder / benchmark / f"{recipe}-{objective}-seed{seed}"
    folder.mkdir(parents=True)
    probes = {
        name: run_results.probe(rows, random_init=None) for name, rows in (("knn_task", task), ("knn_all", whole))
    }
    config = config_of(recipe, f"{benchmark},{objective}", f"seed={seed}")
    results = run_results.as_json(config=config, probes=probes, **{"seconds": 60.0} | more)
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_table_1_beside_the_paper_by_hand(fake, capsys):
    """Means, deviations and differences from the paper are those worked by hand.

    Finetune with SimSiam on CIFAR-10 is 90.11±0.12 / 5.42±0.08 in the paper, LUMP 91.00±0.40 / 2.92±0.53.
    """
    root = fake / "runs"
    # Last rows (88, 92), (88.2, 92.2), (88.4, 92.4): accuracy 90.0, 90.2, 90.4. The first task began at 93, 94.2, 95.4:
    # forgetting 5, 6, 7.
    for seed in range(3):
        rows = [[93 + 1.2 * seed, None], [88 + 0.2 * seed, 92 + 0.2 * seed]]
        write_results(root, "cifar10", "simsiam", "finetune", seed, rows)
    write_results(root, "cifar10", "simsiam", "lump", 0, [[89.0, None], [86.0, 90.0]])  # accuracy 88, forgetting 3
    arguments = ("table1", "--benchmarks=cifar10", "--objectives=simsiam", "--recipes=finetune,lump", "--jobs=2")
    write_results(root, "cifar10", "simsiam", "lump", 1, [[89.0, None], [86.4, 90.4]])  # accuracy 88.4, forgetting 2.6
    write_results(root, "cifar10", "simsiam", "lump", 2, [[89.0, None], [86.8, 90.8]])  # accuracy 88.8, forgetting 2.2
    assert call(fake, *arguments, "--format=markdown") == 0
    told = squeezed(capsys.readouterr().out)
    finetune = (
        "| simsiam | finetune | 3 | 90.20±0.20 | 90.11±0.12 | +0.09 | yes | 6.00±1.00 | 5.42±0.08 | +0.58 | yes "
        "| 40.00±0.00 | 20.00±0.00 |"
    )
    lump = (
        "| simsiam | lump | 3 | 88.40±0.40 | 91.00±0.40 | -2.60 | no | 2.60±0.40 | 2.92±0.53 | -0.32 | yes "
        "| 40.00±0.00 | 20.00±0.00 |"
    )
    assert finetune in told
    assert lump in told
    assert "within: |difference| <= the paper's deviation + ours" in told
    assert finetune in squeezed((root / "table1-cifar10.md").read_text())
    saved = json.loads((root / "table1-cifar10.json").read_text())
    row = saved["rows"][0]
    assert (row["objective"], row["recipe"], row["seeds"]) == ("simsiam", "finetune", [0, 1, 2])
    assert row["task"]["accuracy"] == pytest.approx([90.0, 90.2, 90.4])
    assert row["task"]["forgetting"] == pytest.approx([5.0, 6.0, 7.0])
    assert row["paper"]["accuracy"]["difference"] == pytest.approx(0.09)
    with (root / "table1-cifar10.csv").open() as lines:
        header, first, _ = csv.reader(lines)
    assert len(header) == len(first)
    assert first[:5] == ["simsiam", "finetune", "3", "90.20", "0.20"]


def test_what_the_paper_does_not_have_is_a_dash(fake, capsys):
    write_results(fake / "runs", "digits", "simsiam", "lump", 0, [[89.0, None], [86.0, 90.0]])
    assert call(fake, "table1", "--objectives=simsiam", "--recipes=lump", "--seeds=1", "--format=markdown") == 0
    told = squeezed(capsys.readouterr().out)
    assert "| simsiam | lump | 1 | 88.00 | - | - | - | 3.00 | - | - | - | 40.00 | 20.00 |" in told
    assert "The paper has no digits." in told


def test_within_the_spread_is_decided_in_one_place():
    paper = Value(90.0, 0.5)
    assert compare.compare_with_paper([90.5], paper).within
    assert not compare.compare_with_paper([90.51], paper).within
    # Runs of 91 and 92 have the mean 91.5 and the deviation sqrt(0.5). 1.5 exceeds 0.5 + 0.707, but not 0.8 + 0.707.
    assert not compare.compare_with_paper([91.0, 92.0], paper).within
    assert compare.compare_with_paper([91.0, 92.0], Value(90.0, 0.8)).within
    assert compare.compare_with_paper([None], paper) is None
    assert compare.compare_with_paper([90.0], None) is None


def test_runs_of_other_settings_are_refused_before_anything_starts(fake, capsys):
    folder = write_results(fake / "runs", "digits", "simsiam", "si", 1, [[89.0, None], [86.0, 90.0]])
    assert call(fake, *SMALL, "--override=train.epochs=2") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"error: {folder} holds a run with other settings: train.epochs (40 there, 2 here)" in error
    assert "--root" in error
    assert sorted(path.name for path in (fake / "runs/digits").iterdir()) == ["si-simsiam-seed1"]
    # Settings of the log change no number, so they may differ.
    assert call(fake, *SMALL, "--override=log.tensorboard=False") == 0


def test_a_run_killed_in_its_first_task_is_refused_too(fake, capsys):
    folder = fake / "runs/digits/finetune-simsiam-seed0"
    folder.mkdir(parents=True)
    assert call(fake, *SMALL, "--override=train.epochs=2", "--dry-run") == 0  # an empty folder has nothing to lose
    (folder / "config.json").write_text(json.dumps(config_of("finetune", "digits,simsiam")))
    assert call(fake, *SMALL, "--dry-run") == 0
    assert "finetune-simsiam-seed0: unfinished, will go on" in squeezed(capsys.readouterr().out)
    assert call(fake, *SMALL, "--override=train.epochs=2", "--dry-run") == 2
    assert f"{folder} holds a run with other settings: train.epochs (40 there, 2 here)" in capsys.readouterr().err
    # The config says what a run is, not what it printed.
    (folder / "output.txt").write_text("$ python launch.py --config=configs/si.py:digits,simsiam --config.seed=9\n")
    assert call(fake, *SMALL, "--dry-run") == 0


def test_a_failing_run_is_told_and_the_others_go_on(fake, capfd):
    assert call(fake, *SMALL, "--override=train.weight_decay=0.25") == 1
    told = capfd.readouterr().out
    output = fake / "runs/digits/si-simsiam-seed0/output.txt"
    assert "digits/si-simsiam-seed0: FAILED, exit code 2" in told
    assert f"failed: digits/si-simsiam-seed0: error: no luck with si (see {output})" in told
    assert "2 of 4 runs are not finished." in told
    table = json.loads((fake / "runs/table1-digits.json").read_text())
    assert [(row["recipe"], row["seeds"]) for row in table["rows"]] == [("finetune", [0, 1])]


def test_killed_and_started_again_it_makes_the_same_files(fake):
    assert start(fake, *SMALL, root="undisturbed").wait(60) == 0
    killed = start(fake, *SMALL, steps=40, saving=2.0)
    starts = fake / "runs/digits/finetune-simsiam-seed0/starts"
    wait_for(starts)
    time.sleep(0.2)
    killed.kill()
    killed.wait()
    # It starts at once, while the runs, which ended with their parent, still save and hold their locks.
    assert start(fake, *SMALL, steps=40).wait(60) == 0
    assert "digits/finetune-simsiam-seed0 waits for another process" in (fake / "told.txt").read_text()
    first, second = map(int, starts.read_text().split())
    assert first == 0
    assert 0 < second < 40, "it went on"
    assert files(fake, "table1") == files(fake, "table1", root="undisturbed")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_once_all_is_saved(fake, signum):
    process = start(fake, *SMALL, steps=2000, saving=0.3)
    runs = [fake / f"runs/digits/{recipe}-simsiam-seed0" for recipe in ("finetune", "si")]
    for run in runs:
        wait_for(run / "starts")
    process.send_signal(signum)
    assert process.wait(20) == 128 + signum
    told = (fake / "told.txt").read_text()
    assert f"stopped by {signum.name}; what was running is saved, the same command goes on" in told
    for run in runs:
        assert int((run / "state").read_text()) > 0
    assert not (fake / "runs/digits/si-simsiam-seed1").exists()


def test_the_script_for_slurm(fake, capsys):
    write_results(fake / "runs", "digits", "simsiam", "si", 0, [[89.0, None], [86.0, 90.0]])
    assert call(fake, *SMALL, "--slurm", "--override=train.epochs=2") == 2  # the finished run has other settings
    assert call(fake, *SMALL, "--slurm") == 0
    told = squeezed(capsys.readouterr().out)
    script = fake / "runs/reproduce-table1.sh"
    assert f"sbatch {script}" in told
    text = script.read_text()
    assert "#SBATCH --array=0-2%2\n" in text
    assert call(fake, *SMALL[:-1], "--slurm") == 0
    assert "#SBATCH --array=0-2\n" in script.read_text(), "the cores of this machine say nothing about the cluster"
    assert "#SBATCH --gres=gpu:1\n" in text
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert not (fake / "runs/digits/finetune-simsiam-seed0").exists(), "it runs nothing"
    # An index of the array is one of the missing runs.
    assert subprocess.run(["bash", script], env=os.environ | {"SLURM_ARRAY_TASK_ID": "1"}).returncode == 0
    folder = fake / "runs/digits/finetune-simsiam-seed1"
    assert (folder / "results.json").exists()
    assert (folder / "output.txt").read_text().splitlines()[1].startswith("pretending")
    assert {path.name for path in (fake / "runs/digits").iterdir()} == {"si-simsiam-seed0", folder.name}


def test_a_script_for_slurm_quotes_what_the_shell_would_eat(tmp_path):
    run = PlannedRun("a", tmp_path / "b c", "digits", "lump", "simsiam", 0, ("augment.mean=(1,2,3)",))
    text = plan.slurm_script("x", [run], 1)
    assert "'--config.augment.mean=(1,2,3)'" in text
    assert f"'--workdir={tmp_path}/b c'" in text


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
    few = "benchmark.examples_per_task=100"
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


def test_saved_results_count_and_new_ones_are_kept(fake, capfd):
    kept = fake / "kept"
    first = ("table1", "--objectives=simsiam", "--recipes=finetune", "--seeds=1", f"--save={kept}")
    assert call(fake, *first, root="elsewhere") == 0
    assert [path.name for path in kept.iterdir()] == ["finetune-simsiam-seed0.json"]
    assert call(fake, *SMALL, f"--save={kept}") == 0
    told = capfd.readouterr().out
    assert "4 runs: 1 finished, 3 to run" in told
    assert not (fake / "runs/digits/finetune-simsiam-seed0").exists()
    assert len(list(kept.iterdir())) == 4
    assert json.loads((fake / "runs/table1-digits.json").read_text())["rows"][0]["seeds"] == [0, 1]
    assert call(fake, *SMALL, f"--save={kept}", "--override=train.epochs=2") == 2
    assert f"{kept / 'finetune-simsiam-seed0.json'} holds a run with other settings" in capfd.readouterr().err


def test_few_shot_by_hand(fake, capsys):
    """Few-shot numbers are those worked by hand.

    The pretended accuracy is (first - 6 + first + 2) / 2 with first = 90 + seed + images / 100, where "all" counts as
    400.
    """
    arguments = ("fewshot", "--objectives=simsiam", "--recipes=lump", "--seeds=2", "--sizes=50,200,all", "--jobs=2")
    assert call(fake, *arguments, "--format=markdown") == 0
    told = squeezed(capsys.readouterr().out)
    assert "| objective | recipe | n | A, 50 | A, 200 | A, all (288) | lost | F, 50 | F, 200 | F, all (288) |" in told
    values = [np.array([88.0, 89.0]) + images / 100 for images in (50, 200, 400)]
    shown = [f"{v.mean():.2f}±{v.std(ddof=1):.2f}" for v in values]
    assert f"| simsiam | lump | 2 | {' | '.join(shown)} | 3.50 | 6.00±0.00 | 6.00±0.00 | 6.00±0.00 |" in told
    assert "Lost, mean over unsupervised rows: 3.50." in told
    command = (fake / "runs/digits/lump-simsiam-seed1-examples50/output.txt").read_text()
    assert "--config.benchmark.examples_per_task=50 --config.benchmark.subset_seed=-1 " in command
    whole = (fake / "runs/digits/lump-simsiam-seed1/output.txt").read_text()
    assert "subset_seed" not in whole
    assert {"fewshot-digits-figure.png", "fewshot-digits-figure.svg"} < files(fake, "fewshot").keys()
    page = (fake / "runs/fewshot-digits.md").read_text()
    assert page.endswith("\n\n![Few-shot training, digits](fewshot-digits-figure.png)\n")
    points = json.loads((fake / "runs/fewshot-digits.json").read_text())["rows"][0]["points"]
    assert [point["images"] for point in points] == [50, 200, 288]
    assert points[0]["accuracy"] == pytest.approx([88.5, 89.5])
    # The runs on all images are the same as those of Table 1.
    assert call(fake, "table1", "--objectives=simsiam", "--recipes=lump", "--seeds=2", "--dry-run") == 0
    assert "2 runs: 2 finished" in squeezed(capsys.readouterr().out)


def test_images_a_task_are_those_of_the_data_sets():
    training = {"digits": 1442, "mnist": 60000, "fashion_mnist": 60000, "cifar10": 50000, "cifar100": 50000}
    training |= {"svhn_cropped": 73257, "tiny_imagenet": 100 * 500}  # half of its 200 classes
    for name, images in training.items():
        assert BENCHMARKS[name].images_per_task == round(images / BENCHMARKS[name].num_tasks)


OOD = (
    "ood.k=run ood.temperature=0.1 "
    "ood.penalties=0.0001,0.001,0.01,0.1,1.0,10.0,100.0,1000.0,10000.0,100000.0 ood.seed=0"
)


def test_table_2_asks_probes_once_and_compares(fake, capsys):
    """Table 2 requests each probe once, and shows it beside the paper.

    Finetune with SimSiam on CIFAR-10 has 89.23±0.99 on MNIST and 80.05±0.34 on Fashion-MNIST in the paper.
    """
    arguments = ("table2", "--benchmarks=cifar10", "--objectives=simsiam", "--recipes=finetune", "--seeds=2")
    arguments += ("--datasets=mnist,fashion_mnist", "--format=markdown", "--jobs=2")
    assert call(fake, *arguments) == 0
    told = squeezed(capsys.readouterr().out)
    # The pretended accuracy is 80 + seed on the first data set and 5 more on the second.
    assert (
        "| simsiam | finetune | 2 | 80.50±0.71 | 89.23±0.99 | -8.73 | no | 85.50±0.71 | 80.05±0.34 | +5.45 | no |"
        in told
    )
    assert "Chance: mnist 10.00, fashion_mnist 10.00." in told
    assert "Images, training and test: mnist 7000 and 300, fashion_mnist 7000 and 301." in told
    asked = fake / "runs/cifar10/finetune-simsiam-seed0/asked"
    lines = asked.read_text().splitlines()
    assert len(lines) == 1
    assert lines[0] == f"ood 2 ood.dataset=mnist,fashion_mnist ood.train_images=0 ood.test_images=0 {OOD}"
    before = files(fake, "table2")
    assert call(fake, *arguments) == 0
    assert files(fake, "table2") == before
    assert call(fake, *arguments, "--datasets=mnist,svhn_cropped") == 0
    assert asked.read_text().splitlines()[1].startswith("ood 2 ood.dataset=svhn_cropped "), "only what is not there"


def test_table_2_on_digits_takes_some_images_only(fake, capsys):
    arguments = ("table2", "--objectives=simsiam", "--recipes=finetune", "--seeds=1", "--datasets=mnist")
    assert call(fake, *arguments) == 0
    assert "Images, training and test: mnist 5000 and 300." in squeezed(capsys.readouterr().out)
    asked = fake / "runs/digits/finetune-simsiam-seed0/asked"
    assert asked.read_text() == f"ood 2 ood.dataset=mnist ood.train_images=5000 ood.test_images=1000 {OOD}\n"
    assert call(fake, *arguments, "--set=ood.train_images=70") == 0
    told = squeezed(capsys.readouterr().out)
    assert "Images, training and test: mnist 70 and 300." in told
    assert "Settings of probes changed: ood.train_images=70." in told


def test_a_plan_counts_the_probe_processes(fake, capsys):
    arguments = ("cka", "--seeds=2", "--jobs=2")
    for model in ("finetune-simsiam", "lump-simsiam"):
        write_results(fake / "runs", "digits", *reversed(model.split("-")), 0, [[89.0, None], [86.0, 90.0]])
    assert call(fake, *arguments, "--dry-run") == 0
    # Each of two seeds has four runs, which are compared with themselves, and three pairs. Two runs are finished.
    assert "then 14 probe processes (cka)" in squeezed(capsys.readouterr().out)
    assert call(fake, *arguments) == 0
    assert call(fake, *arguments, "--dry-run") == 0
    assert "probe process" not in capsys.readouterr().out.rpartition("cka on digits, in")[2]
    assert call(fake, "table1", "--seeds=1", "--dry-run") == 0
    assert "probe process" not in squeezed(capsys.readouterr().out)


def test_the_end_is_short(fake, capsys):
    """A terminal shows neither empty columns nor a line for each file, but the saved table has all columns."""
    write_results(fake / "runs", "digits", "simsiam", "lump", 0, [[89.0, None], [86.0, 90.0]])
    assert call(fake, "table1", "--objectives=simsiam", "--recipes=lump", "--seeds=1") == 0
    table, _, end = capsys.readouterr().out.partition("Table 1 on digits\n\n")[2].partition("\n\n")
    assert [line.split() for line in table.splitlines()[2:]] == [
        ["simsiam", "lump", "1", "88.00", "3.00", "40.00", "20.00"]
    ]
    assert end.endswith(f"\nThe paper has no digits.\n\nfiles:\n  {fake}/runs/table1-digits.md, .csv, .json\n")
    assert max(map(len, end.splitlines()[:-1])) <= 120
    assert " | 88.00 | - | - | - | 3.00 | - | - | - | " in squeezed((fake / "runs/table1-digits.md").read_text())


def test_table_2_takes_the_data_sets_that_are_prepared(fake, capsys):
    (fake / "data/mnist/3.0.1").mkdir(parents=True)
    assert call(fake, "table2", f"--data_dir={fake / 'data'}", "--dry-run") == 2
    assert "none of mnist, fashion_mnist, svhn_cropped, cifar10, cifar100 is prepared" in capsys.readouterr().err
    info = fake / "data/mnist/3.0.1/dataset_info.json"
    info.write_text("{}")  # a preparation that was stopped leaves this
    assert call(fake, "table2", f"--data_dir={fake / 'data'}", "--dry-run") == 2
    info.write_text(json.dumps({"name": "mnist", "version": "3.0.1", "fileFormat": "array_record"}))
    kind = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
    features = {"pythonClassName": kind, "featuresDict": {"features": {}}}
    (fake / "data/mnist/3.0.1/features.json").write_text(json.dumps(features))
    given = reproduce.parse(["table2", f"--data_dir={fake / 'data'}"])
    assert studies.datasets(given, "digits") == ["mnist"]
    assert given.override == [f"data_dir={fake / 'data'}"]


def test_cka_compares_runs_of_different_seeds(fake, capsys):
    """CKA compares seed 0 with 1, 1 with 2 and 2 with 0 of three, and 0 with 1 and 1 with 0 of two."""

    def compared(seeds):
        given = reproduce.parse(["cka", "--objectives=simsiam", f"--seeds={seeds}", f"--root={fake}"])
        found = studies.STUDIES["cka"].requests(given, studies.STUDIES["cka"].plan(given, "digits"))
        return [(each.run.name, pathlib.Path(each.settings["other"]).name) for each in found if each.settings["other"]]

    names = [(f"finetune-simsiam-seed{a}", f"lump-simsiam-seed{b}") for a, b in ((0, 1), (1, 2), (2, 0))]
    assert compared(3) == names
    assert compared(2) == [names[0], ("finetune-simsiam-seed1", "lump-simsiam-seed0")]

    arguments = ("cka", "--seeds=2", "--jobs=2", "--format=markdown")
    assert call(fake, *arguments) == 0
    told = squeezed(capsys.readouterr().out)
    # The pretended CKA of the last networks is 0.5 + 0.1 seed, their distance 5 + seed.
    similar = " | ".join(["0.55±0.07"] * 5)
    for words in (
        "UCL-UCL, simsiam | finetune, simsiam | lump, simsiam",
        "SCL-SCL | finetune, supervised | si, supervised",
        "UCL-SCL, simsiam | lump, simsiam | finetune, supervised",
    ):
        assert f"| {words} | 2 | {similar} | 5.50±0.71 |" in told
    asked = (fake / "runs/digits/lump-simsiam-seed1/asked").read_text().splitlines()
    rest = "cka.images=1024 cka.batch_size=256 cka.seed=0"
    assert asked == [f"cka 2 {rest}", f"cka 2 cka.other={fake}/runs/digits/finetune-supervised-seed0 {rest}"]
    page = (fake / "runs/cka-digits.md").read_text()
    title = "Linear CKA on digits: last networks of two runs; last and after t tasks"
    assert page.endswith(f"\n\n![{title}](cka-digits-figure.png)\n")
    assert "; - for backbones of different widths, which have none." in page
    row = json.loads((fake / "runs/cka-digits.json").read_text())["rows"][0]
    assert (row["l2"], row["seeds"], row["second_seeds"]) == ([5.0, 6.0], [0, 1], [1, 0])
    figure = json.loads((fake / "runs/cka-digits-figure.json").read_text())["panels"]
    assert figure["two runs"]["values"][0] == pytest.approx([0.55] * 5)
    own = figure["lump, simsiam"]
    assert own["columns"] == ["t=0", "t=1", "t=2"]
    assert own["values"][4] == pytest.approx([0.25, 0.125, 0.5])
    before = files(fake, "cka")
    (fake / "runs").rename(fake / "moved")  # a folder of runs may be moved
    assert call(fake, *arguments, root="moved") == 0
    assert files(fake, "cka", root="moved") == before
    assert len((fake / "moved/digits/lump-simsiam-seed1/asked").read_text().splitlines()) == 2


def test_the_landscape_after_the_first_and_the_last_task(fake, capsys):
    arguments = ("landscape", "--objectives=supervised", "--recipes=si", "--seeds=2", "--format=markdown")
    assert call(fake, *arguments) == 0
    told = squeezed(capsys.readouterr().out)
    # The pretended loss is `after` + seed at the centre, and the other eight points sum to 23.
    first, last = (np.array([after, after + 1.0]) for after in (1, 2))
    for word, centre in (("first", first), ("last", last)):
        mean = (23 + centre) / 9
        assert (
            f"| supervised | si | the {word} task | 2 | {centre.mean():.2f}±0.71 | {mean.mean():.2f}±0.08 | 6.00±0.00 |"
            in told
        )
    asked = (fake / "runs/digits/si-supervised-seed0/asked").read_text().splitlines()
    values = {"loss": "classifier", "task": 0, "points": 11, "span": 1.0, "images": 256, "seed": 0}
    told = " ".join(f"loss_landscape.{key}={value}" for key, value in values.items())
    assert asked == [f"loss_landscape 1,2 {told}"]
    panels = json.loads((fake / "runs/landscape-digits-figure.json").read_text())["panels"]
    assert list(panels) == ["si, supervised, after task 1", "si, supervised, after task 2"]


def test_values_that_are_not_finite_are_dashes(fake, capsys):
    landscape = {"steps": [-1.0, 0.0, 1.0], "loss": [[None, 2, 3], [2, 1, 2], [3, 2, 6]]}
    settings = {"loss": "classifier", "task": 0, "points": 11, "span": 1.0, "images": 256, "seed": 0}
    records = [{"probe": "loss_landscape", "after": a, "settings": settings, "values": landscape} for a in (1, 2)]
    cka = {s: [[0.5]] for s in ("stem", "stage1", "stage2", "stage3")} | {"stage4": [[None]]}
    values = {"networks": [2], "other_networks": [2], "cka": cka, "l2": [[None]]}
    runs = fake / "runs"
    for recipe, other in (("finetune", "lump"), ("lump", "finetune")):
        for seed in (0, 1):
            own_settings = {"other": "", "images": 1024, "batch_size": 256, "seed": 0}
            own = {"probe": "cka", "after": None, "settings": own_settings, "values": values}
            near = own | {"settings": own_settings | {"other": f"digits/{other}-simsiam-seed{1 - seed}"}}
            task = [[89.0, None], [86.0, 90.0]]
            write_results(runs, "digits", "simsiam", recipe, seed, task, analysis=[*records, near, own])
    assert call(fake, "cka", "--objectives=simsiam", "--seeds=2", "--format=markdown") == 0
    half = "0.50±0.00"
    assert f"| lump, simsiam | 2 | {half} | {half} | {half} | {half} | - | - |" in squeezed(capsys.readouterr().out)
    figure = json.loads((runs / "cka-digits-figure.json").read_text())["panels"]
    assert figure["two runs"]["values"] == [[0.5, 0.5, 0.5, 0.5, None]]
    assert call(fake, "landscape", "--objectives=simsiam", "--seeds=1", "--recipes=lump", "--format=markdown") == 0
    assert "| simsiam | lump | the last task | 1 | 1.00 | - | - |" in squeezed(capsys.readouterr().out)


def test_a_failing_probe_is_told(fake, capfd):
    (fake / "probe.py").write_text("import sys; print('error: no network kept'); sys.exit(2)")
    assert call(fake, "landscape", "--objectives=supervised", "--recipes=si", "--seeds=1") == 1
    told = capfd.readouterr().out
    assert "failed: loss_landscape of digits/si-supervised-seed0: error: no network kept (see " in told
    assert "landscape-digits.md" in told


def test_settings_of_records_are_compared_as_numbers(tmp_path):
    def found(probe, settings, after):
        request = probe_requests.ProbeRequest(PlannedRun("n", tmp_path, "digits", "si", "simsiam", 0), probe, settings)
        return probe_requests.record(run_results.result(analysis=[kept]), request, after)

    settings = {"dataset": "mnist", "train_images": 0, "penalties": [0.1, 1.0]}
    kept = {"probe": "ood", "after": 5, "settings": settings, "values": {}}
    assert found("ood", {"dataset": "mnist", "train_images": "0", "penalties": ".1,1"}, 5) == run_results.as_record(
        kept
    )
    assert found("ood", {"dataset": "mnist"}, 4) is None
    assert found("ood", {"dataset": "mnist", "train_images": "100"}, 5) is None
    assert found("linear", {}, 5) is None
    assert found("ood", {"dataset": "mnist", "seed": "0"}, 5) is None, "nobody knows with what seed it was made"


@pytest.mark.parametrize(
    "change", [{"points": 5}, {"images": 16}, {"span": 0.5}, {"seed": 1}, {"task": 1}, {"loss": "objective"}]
)
def test_a_record_that_somebody_made_otherwise_is_not_the_studys(fake, capsys, change):
    settings = {"loss": "classifier", "task": 0, "points": 11, "span": 1.0, "images": 256, "seed": 0}
    values = {"steps": [-1.0, 0.0, 1.0], "loss": [[9, 9, 9]] * 3}
    own = [{"probe": "loss_landscape", "after": a, "settings": settings, "values": values} for a in (1, 2)]
    task = [[89.0, None], [86.0, 90.0]]
    arguments = ("landscape", "--objectives=simsiam", "--recipes=lump", "--seeds=1")
    folder = write_results(fake / "runs", "digits", "simsiam", "lump", 0, task, analysis=own)
    assert call(fake, *arguments, "--dry-run") == 0
    assert "probe process" not in squeezed(capsys.readouterr().out)
    results = json.loads((folder / "results.json").read_text())
    for record in results["analysis"]:
        record["settings"] |= change
    (folder / "results.json").write_text(json.dumps(results))
    assert call(fake, *arguments, "--dry-run") == 0
    assert "then 1 probe process (loss_landscape)" in squeezed(capsys.readouterr().out)
    assert call(fake, *arguments, "--format=markdown") == 0
    assert "| the first task | 1 | 1.00 |" in squeezed(capsys.readouterr().out)
    # A study that asks for these settings takes the record.
    changed = [f"--set=loss_landscape.{key}={value}" for key, value in change.items()]
    assert call(fake, *arguments, *changed, "--format=markdown") == 0
    assert "| the first task | 1 | 9.00 |" in squeezed(capsys.readouterr().out)
    assert len((folder / "asked").read_text().splitlines()) == 1


def test_cka_waits_for_both_runs(fake, capfd):
    """A pair is compared only once both runs are finished, whatever an unfinished run has saved."""
    arguments = ("cka", "--objectives=supervised", "--seeds=2", "--jobs=1")
    assert call(fake, *arguments, "--override=train.weight_decay=0.25") == 1  # si fails, finetune finishes
    folder = fake / "runs/digits/finetune-supervised-seed0"
    assert [line.split()[2][:9] for line in (folder / "asked").read_text().splitlines()] == ["cka.image"]
    assert call(fake, *arguments, "--override=train.weight_decay=0.25", "--dry-run") == 0
    assert "then 4 probe processes (cka)" in capfd.readouterr().out
    for seed in (0, 1):
        si = json.loads((fake / f"runs/digits/finetune-supervised-seed{seed}/results.json").read_text())
        si["config"] = config_of("si", "digits,supervised", f"seed={seed}", "train.weight_decay=0.25")
        (fake / f"runs/digits/si-supervised-seed{seed}/results.json").write_text(json.dumps(si))
    assert call(fake, *arguments, "--override=train.weight_decay=0.25") == 0
    assert len((folder / "asked").read_text().splitlines()) == 2
    assert call(fake, *arguments, "--override=train.weight_decay=0.25", "--dry-run") == 0
    assert "probe process" not in capfd.readouterr().out.rpartition("cka on digits, in")[2]


def test_a_comparison_with_a_run_that_has_gone_on_since_is_made_again(tmp_path):
    settings = {"other": "", "images": "1024", "batch_size": "256", "seed": "0"}
    values = {"networks": [0, 1, 2], "other_networks": [0, 1]}
    kept = {"probe": "cka", "after": None, "settings": settings, "values": values}
    request = probe_requests.ProbeRequest(PlannedRun("n", tmp_path, "digits", "si", "simsiam", 0), "cka", settings)
    assert probe_requests.record(run_results.result(analysis=[kept]), request, 2) is None
    values["other_networks"] = [0, 1, 2]
    assert probe_requests.record(run_results.result(analysis=[kept]), request, 2) == run_results.as_record(kept)


def test_what_was_lost_is_told_of_seeds_that_have_both(fake, capsys):
    """What few-shot training loses is computed only from seeds that have both sizes.

    Seed 1 is finished only on all images: its difference from seed 0 would be taken for a loss.
    """
    arguments = ("fewshot", "--objectives=simsiam", "--recipes=lump", "--seeds=2", "--sizes=50,all", "--jobs=1")
    assert call(fake, *arguments) == 0
    missing = fake / "runs/digits/lump-simsiam-seed1-examples50"
    (missing / "results.json").unlink()
    (fake / "launch.py").write_text("import sys; sys.exit('error: no luck')")
    assert call(fake, *arguments) == 1
    row = json.loads((fake / "runs/fewshot-digits.json").read_text())["rows"][0]
    assert [point["seeds"] for point in row["points"]] == [[0], [0, 1]]
    assert row["lost"] == pytest.approx(3.5)
    assert "Lost, mean over unsupervised rows: 3.50." in squeezed(capsys.readouterr().out)


def test_what_the_paper_does_not_have_is_not_in_the_mean_beside_its_number(fake, capsys):
    """Supervised LUMP, which the paper does not have, has a row, but the mean is of finetune and DER alone."""
    arguments = ("fewshot", "--objectives=supervised", "--seeds=1", "--sizes=50,all", "--format=markdown", "--jobs=2")
    assert call(fake, *arguments) == 0
    path = fake / "runs/digits/lump-supervised-seed0/results.json"
    results = json.loads(path.read_text())
    results["probes"]["knn_task"]["matrix"][-1] = [99.0, 99.0]
    path.write_text(json.dumps(results))
    capsys.readouterr()
    assert call(fake, *arguments) == 0
    told = squeezed(capsys.readouterr().out)
    rows = json.loads((fake / "runs/fewshot-digits.json").read_text())["rows"]
    assert {row["recipe"]: row["lost"] for row in rows} == pytest.approx({"finetune": 3.5, "der": 3.5, "lump": 10.5})
    assert "Lost, mean over supervised rows: 3.50." in told
    assert "the paper does not have it: lump (supervised)." in told


def test_results_with_a_number_that_is_not_finite_are_refused(fake, capsys):
    folder = write_results(fake / "runs", "digits", "simsiam", "lump", 0, [[89.0, None], [float("nan"), 90.0]])
    assert call(fake, "table1", "--objectives=simsiam", "--seeds=1", "--recipes=lump") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(folder / "results.json") in error
    assert not (fake / "runs/table1-digits.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table3"], "unknown study 'table3', did you mean 'table2'? known: table1"),
        ([], "the following arguments are required: study"),
        (["table1", "--benchmarks=cifar"], "unknown benchmark 'cifar'"),
        (["table1", "--objectives=simsam"], "did you mean 'simsiam'?"),
        (["table1", "--recipes=lumb"], "unknown recipe 'lumb', did you mean 'lump'?"),
        (["table1", "--recipes=gss", "--objectives=barlow_twins"], "--recipes=gss leaves no run"),
        (["table1", "--seeds=0"], "--seeds is 0; it must be a whole number from 1 to 1000"),
        (["table1", f"--seeds={10**30}"], "it must be a whole number from 1 to 1000"),
        (["table1", "--jobs=many"], "--jobs is 'many'; it must be a whole number"),
        (["table1", "--jobs=²"], "--jobs is '²'; it must be a whole number"),
        (["table1", "--format=html"], "unknown format 'html'"),
        (["table1", "--override=train.epochs"], "--override=train.epochs is not KEY=VALUE"),
        (["table1", "--override=seed=3"], "seed is what the study varies"),
        (["fewshot", "--override=benchmark.examples_per_task=9"], "fewshot varies it"),
        (["fewshot", "--override=benchmark.subset_seed=9"], "fewshot varies it"),
        (["fewshot", "--sizes=ten"], "--sizes=ten is not numbers"),
        (["fewshot", "--sizes=²"], "--sizes=² is not numbers"),
        (["fewshot", f"--sizes={'9' * 5000}"], "is not numbers"),
        (["fewshot", "--sizes=5000"], "digits has 288 images a task"),
        (["table2", "--datasets=mnits"], "did you mean 'mnist'?"),
        (["table2", "--set=odd.k=3"], "unknown probe to set 'odd'"),
        (["table2", "--set=ood"], "--set=ood is not PROBE.KEY=VALUE"),
        (["table2", "--set=ood.k="], "--set=ood.k= is not PROBE.KEY=VALUE"),
        (["table2", "--set=ood.train_image=70"], "unknown setting of ood 'train_image', did you mean 'train_images'?"),
        (["table2", "--set=ood.train_images=few"], "ood.train_images is 'few'; it must be a whole number"),
        (["table2", "--set=ood.penalties=1,x"], "ood.penalties is 'x'; it must be a number"),
        (["table2", "--set=ood.temperature=nan"], "ood.temperature is nan; it must be a number"),
        (["table2", f"--set=ood.seed={2**63}"], "ood.seed is 9223372036854775808; it must be a whole number"),
        (["table2", "--set=ood.dataset=mnist"], "the study sets that; see --datasets"),
        (["landscape", "--set=loss_landscape.loss=classifier,objective"], "a study has one loss at a time; give one"),
        (["landscape", "--set=loss_landscape.task=0,1"], "a study has one task at a time; give one"),
        (
            ["landscape", "--set=loss_landscape.loss=clasifier"],
            "'clasifier', did you mean 'classifier'?",
        ),
        (["table2", "--save=x"], "--save is an option of table1, not of table2"),
        (["table1", "--save=x", "--benchmarks=digits,mnist"], "give one at a time"),
        (["cka", "--recipes=lump"], "leave --recipes out"),
        (["cka", "--seeds=1"], "different seeds: --seeds=1 must be at least 2"),
        (["table1", "--jbos=2"], "unrecognized arguments: --jbos=2"),
    ],
)
def test_bad_input_is_one_line(arguments, message, fake, capsys, monkeypatch):
    monkeypatch.chdir(fake)  # a command that is not refused would run, and may write only here
    assert reproduce.main([*arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=2", "unknown key '--config.train.epoch', did you mean --config.train.epochs?"),
        ("train=2", "unknown key '--config.train', did you mean --config.train."),
        (f"train.epochs={10**30}", "it must be a whole number from 0 to 1000000"),
        ("train.learning_rate=nan", "config.train.learning_rate is nan; it must be a number"),
        ("augment.std=(1,1)", "config.augment.std is (1, 1); it must be 3 values"),
    ],
)
def test_a_bad_override_is_found_before_anything_starts(override, message, tmp_path, capsys):
    assert reproduce.main(["table1", "--dry-run", f"--override={override}", f"--root={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_launch_py_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "LAUNCH", tmp_path / "launch.py")
    with pytest.raises(UsageError, match=r"launch\.py is not there"):
        check([])


def test_real_runs_end_with_a_table_and_a_picture(tmp_path):
    """A real run of digits, shrunk, gives Table 1 and a loss landscape."""
    shrunk = [f"--override={key}={value}" for key, value in tiny.overrides(log__tensorboard=False).items()]
    arguments = ["--objectives=simsiam", "--recipes=finetune", "--seeds=1", "--jobs=1", f"--root={tmp_path / 'runs'}"]
    (tmp_path / "tfds").mkdir()
    arguments += [*shrunk, f"--data_dir={tmp_path / 'tfds'}"]
    done = subprocess.run(
        [sys.executable, "-m", "ucl_jax.reproduce", "landscape", *arguments, "--set=loss_landscape.points=3"],
        cwd=tmp_path,
        env=os.environ | {"XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "runs/landscape-digits.json").read_text())["rows"]
    assert [(row["recipe"], row["after"]) for row in rows] == [("finetune", "first"), ("finetune", "last")]
    assert (tmp_path / "runs/landscape-digits-figure.png").stat().st_size > 1000
    again = reproduce.main(["table1", *arguments])  # uses the same run
    assert again == 0
    results = json.loads((tmp_path / "runs/digits/finetune-simsiam-seed0/results.json").read_text())
    row = json.loads((tmp_path / "runs/table1-digits.json").read_text())["rows"][0]
    assert row["task"]["accuracy"] == pytest.approx([results["probes"]["knn_task"]["average_accuracy"]])


def test_options_of_other_studies_are_refused(capsys):
    for words, message in (
        (["table1", "--sizes=10"], "--sizes is an option of fewshot, not of table1"),
        (["fewshot", "--datasets=mnist"], "--datasets is an option of table2, not of fewshot"),
        (["landscape", "--set=ood.k=5"], "--set=ood.k=5: landscape uses loss_landscape, not ood"),
    ):
        assert reproduce.main([*words, "--dry-run"]) == 2
        assert message in capsys.readouterr().err


def test_data_that_is_not_there_is_told_before_any_run(tmp_path, capsys):
    words = ["table1", "--benchmarks=cifar10", "--seeds=1", "--recipes=lump", f"--root={tmp_path / 'root'}"]
    (tmp_path / "none").mkdir()
    words.append(f"--data_dir={tmp_path / 'none'}")
    assert reproduce.main([*words, "--dry-run"]) == 0
    assert "note: 'cifar10' is not prepared in" in squeezed(capsys.readouterr().out)
    assert reproduce.main(words) == 2
    assert "'cifar10' is not prepared in" in capsys.readouterr().err
    assert not list((tmp_path / "root").iterdir())


def test_a_root_that_cannot_be_written_is_a_line(tmp_path, capsys):
    (tmp_path / "root").write_text("a file")
    assert reproduce.main(["table1", "--recipes=lump", "--seeds=1", f"--root={tmp_path / 'root'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: cannot write")
    assert len(error.splitlines()) == 1
