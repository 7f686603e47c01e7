"""Tests a whole run on a folder of images without labels: real processes, and what is read from it afterwards."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks.measure import ROOT
from tests import tiny
from ucl_jax.results.load import read_results

MEASURED = {"spread", "effective_rank", "rankme", "alignment", "uniformity"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Makes two sub-folders of 30 images of several sizes, one of which is damaged."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for task in ("a", "b"):
        (folder / task).mkdir()
        for number in range(30):
            height, width = rng.integers(8, 20, 2)
            image = rng.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(image).save(folder / task / f"{number:02}.png")
    (folder / "b/damaged.png").write_bytes((folder / "b/00.png").read_bytes()[:60])
    return folder


def call(*words):
    return subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "lump"
    settings = {"benchmark.image_size": 8, "benchmark.path": folder, "image_cache": workdir.parent / "cache"}
    shrunk = {key: value for key, value in tiny.SHRUNK.items() if not key.startswith("benchmark.")} | settings
    flags = [f"--config.{key}={value}" for key, value in shrunk.items()]
    command = ["launch.py", "--config=configs/lump.py:folder", *flags, f"--workdir={workdir}"]
    done = call(*command)
    assert done.returncode == 0, done.stderr
    return command, workdir, done


def test_a_run_without_labels_measures_what_needs_none(run):
    command, workdir, done = run
    results = read_results(workdir / "results.json")
    assert (results.finished, results.probes, results.shape, results.tasks) == (True, {}, (2, 2), 2)
    found = results.representation
    assert [len(row.cka) for row in found.rows] == [0, 1]  # a network is compared with those after earlier tasks
    assert 0 < found.rows[1].cka[0] <= 1
    assert found.random_init.effective_rank > 1
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    measured = [one for one in entries if any(key.startswith("representation/") for key in one)]
    assert [{key.partition("/")[2] for key in one if "/" in key} for one in measured] == [MEASURED] * 2
    assert (workdir / "left_out.txt").read_text().startswith("b/damaged.png: ")
    assert "files left out: 1" in done.stderr
    assert done.stdout.splitlines()[-1] == f"files left out: 1, see {workdir / 'left_out.txt'}"
    again = call(*command)
    assert (again.returncode, "is finished" in again.stdout) == (0, True)


def test_what_is_read_from_a_run_without_labels(run, tmp_path):
    _, workdir, _ = run
    table = call("-m", "ucl_jax.report", workdir, f"--out={tmp_path}/page/")
    assert table.returncode == 0, table.stderr
    (page,) = (tmp_path / "page").glob("*.html")
    assert "RankMe" in page.read_text()
    listed = call("-m", "ucl_jax", "list", workdir.parent, "--json")
    assert listed.returncode == 0, listed.stderr
    (row,) = json.loads(listed.stdout)
    assert (row["state"], row["accuracy"]) == ("finished", None)
    refused = call("-m", "ucl_jax.probe", f"--workdir={workdir}", "--probes=knn")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
