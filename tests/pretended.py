"""Holds programs that pretend to train and to probe, and how tests of studies call the command."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

from tests import run_results
from ucl_jax import recipes
from ucl_jax.reproduce import __main__ as reproduce

ROOT = pathlib.Path(__file__).parents[1]
# This script pretends to train for STEPS steps of 0.02 s, and locks its folder. Upon SIGTERM it saves its step. That
# takes SAVING seconds, or until there is a file `saved` beside the folder of runs. SI and ER diverge with a weight
# decay of 0.25.
TRAIN = """
import fcntl, json, os, pathlib, signal, sys, time
sys.path.insert(0, "ROOT")
from tests import run_results
from ucl_jax.recipes import read_config
flags = dict(word.split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(flags["--workdir"])
folder.mkdir(parents=True, exist_ok=True)
lock = (folder / "lock").open("w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit("error: another process is training")
words = [word for word in sys.argv[1:] if word.startswith("--config")]
config = json.loads(read_config(words).to_json())
recipe, seed, examples = config["recipe"], config["seed"], config["benchmark"]["examples_per_task"]
print("pretending", os.environ.get("CUDA_VISIBLE_DEVICES"), sorted(os.sched_getaffinity(0)), flush=True)
if recipe in ("si", "er") and config["train"]["weight_decay"] == 0.25:
    (folder / "diverged.json").write_text(json.dumps({"task": 1, "step": 7 + seed}))
    print(f"error: no luck with {recipe}")
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
        end = time.monotonic() + float(os.environ.get("SAVING", 0))
        while time.monotonic() < end and not (folder.parents[2] / "saved").exists():
            time.sleep(0.01)
        state.write_text(str(step))
        sys.exit(143)
first = 90 + seed + (examples or 400) / 100
task = run_results.probe([[first, None], [first - 6, first + 2]])
whole = run_results.probe([[first - 10, None], [first - 40, first - 10]], chance=25.0)
probes = {"knn_task": task, "knn_all": whole}
run_results.save(folder / "results.json", config=config, probes=probes, seconds=7.0 + time.time() % 1)
""".replace("ROOT", str(ROOT))
# This script pretends to probe: it adds each requested record that is missing.
PROBE = """
import argparse, json, pathlib, sys
sys.path.insert(0, "ROOT")
from tests import run_results
from ucl_jax.results.load import read_results
from ucl_jax.settings import PROBE_SETTINGS, read_value
parser = argparse.ArgumentParser()
for name in ("workdir", "probes", "after", "data_dir"):
    parser.add_argument("--" + name, default="")
parser.add_argument("--set", action="append", default=[])
given = parser.parse_args()
path = pathlib.Path(given.workdir, "results.json")
results = read_results(path)
with (path.parent / "asked").open("a") as asked:
    print(given.probes, given.after, *given.set, file=asked)
seed, settings = results.seed, {}
for name, text in (word.split("=", 1) for word in given.set):
    probe, key = name.split(".")
    value = read_value(name, PROBE_SETTINGS[probe][key], text)
    settings[key] = value[0] if key in ("loss", "task") else value
found = []
wanted = [(probe, after) for probe in given.probes.split(",") for after in map(int, given.after.split(","))]
for probe, after in wanted:
    if probe == "ood":
        for place, name in enumerate(settings["dataset"]):
            found.append({"probe": "ood", "after": after, "settings": settings | {"dataset": name},
                "values": {"knn": 80.0 + seed + 5 * place, "linear": 70.0, "chance": 10.0,
                    "train_images": settings.get("train_images", 0) or 7000, "test_images": 300 + place,
                    "k": 5, "penalty": 1.0}})
    elif probe == "loss_landscape":
        found.append({"probe": "loss_landscape", "after": after, "settings": settings,
            "values": {"steps": [-1.0, 0.0, 1.0], "loss": [[3, 2, 3], [2, after + seed, 2], [3, 2, 6]]}})
    else:
        cka = {s: [[1.0, 0.5, 0.25], [0.5, 1.0, 0.75], [0.25, 0.125 * (seed + 1), 0.5 + 0.1 * seed]]
            for s in ("stem", "stage1", "stage2", "stage3", "stage4")}
        found.append({"probe": "cka", "after": None, "settings": {"other": "", **settings},
            "values": {"networks": [0, 1, 2], "other_networks": [0, 1, 2], "cka": cka,
                "l2": [[0.0, None, 9.0], [1.0, 2.0, 3.0], [4.0, 7.0, 5.0 + seed]]}})
records = [*results.analysis, *map(run_results.as_record, found)]
path.write_text(json.dumps(results.with_analysis(records).to_json()))
""".replace("ROOT", str(ROOT))
MAIN = """
import pathlib, sys
from ucl_jax.reproduce import plan
from ucl_jax.reproduce import __main__ as reproduce
here = pathlib.Path(__file__).parent
plan.TRAIN = (sys.executable, str(here / "train.py"))
reproduce.PROBE = (sys.executable, str(here / "probe.py"))
sys.exit(reproduce.main(sys.argv[1:]))
"""


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


def wait_for(path, words="", seconds=20):
    """Waits until there is a file, and the words are in it."""
    deadline = time.monotonic() + seconds
    while not path.exists() or words not in path.read_text():
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


def write_results(folder, benchmark, objective, recipe, seed, task, whole=((50.0, None), (30.0, 50.0)), **more):
    """Writes a finished run with given accuracy matrices; returns its folder."""
    folder = folder / benchmark / f"{recipe}-{objective}-seed{seed}"
    folder.mkdir(parents=True)
    probes = {
        name: run_results.probe(rows, random_init=None) for name, rows in (("knn_task", task), ("knn_all", whole))
    }
    config = config_of(recipe, f"{benchmark},{objective}", f"seed={seed}")
    run_results.save(folder / "results.json", config=config, probes=probes, **{"seconds": 60.0} | more)
    return folder
