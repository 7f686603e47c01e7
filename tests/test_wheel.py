"""Builds the wheel, installs it, and works with it in an empty folder, as somebody does who has no checkout."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests import tiny
from ucl_jax import recipes

ROOT = pathlib.Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def done(words, **more):
    """Runs a process; returns what it printed, once it ended well."""
    process = subprocess.run(words, capture_output=True, text=True, timeout=300, **more)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Provides a folder of packages with the wheel in it; what it depends on is that of the tests."""
    wheels, site = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    done([*PIP, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={wheels}", str(ROOT)])
    (wheel,) = wheels.iterdir()
    done([*PIP, "install", "--no-deps", "--no-index", f"--target={site}", str(wheel)])
    return site


@pytest.fixture
def ucl(site, tmp_path):
    """Provides the function that runs the program `ucl` of the wheel in an empty folder."""
    environment = os.environ | {"PYTHONPATH": str(site), "TFDS_DATA_DIR": str(tmp_path / "tfds"), "XLA_FLAGS": ""}
    (tmp_path / "empty").mkdir()
    return lambda *words: done(
        [sys.executable, str(site / "bin" / "ucl"), *words], cwd=tmp_path / "empty", env=environment
    )


def test_it_holds_the_package_with_the_recipes_and_nothing_beside(site):
    assert {path.name for path in site.iterdir()} == {"ucl_jax", "bin", next(site.glob("ucl_jax-*.dist-info")).name}
    tracked = done(["git", "ls-files", "ucl_jax", "configs"], cwd=ROOT).split()
    expected = {re.sub("^configs/", "ucl_jax/configs/", name) for name in tracked}
    found = {str(path.relative_to(site)) for path in (site / "ucl_jax").rglob("*") if path.is_file()}
    assert {name for name in found if "__pycache__" not in name} == expected


def test_recipes_have_names(ucl):
    assert "recipe = 'lump'" in ucl("train", "--config=lump:digits", "--print_config")
    assert ucl("completion", "--line=ucl train --config ").split() == recipes.names()


def test_a_study_is_planned(ucl):
    planned = ucl("reproduce", "table1", "--benchmarks=digits", "--seeds=1", "--dry-run")
    assert "19 runs: 0 finished, 19 to run" in planned


def test_a_run_is_trained_listed_and_reported(ucl):
    ucl("train", "--config=lump:digits", *tiny.flags(train__epochs=1))
    (run,) = json.loads(ucl("list", "--json"))
    assert run["folder"] == "runs/lump-digits-simsiam-seed0"
    assert (run["state"], run["tasks"]) == ("finished", 2)
    assert f"{run['accuracy']:.2f}" in ucl("report", "runs")
