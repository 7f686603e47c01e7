"""Tests the list of runs: which folders are runs, their states, and what is said of each."""

import fcntl
import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests import run_results, tiny
from ucl_jax.results import listing
from ucl_jax.results.load import find_runs

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def runs(tmp_path):
    """Makes a finished run, one that stopped, one in its first task, joint training, a stream, and other folders."""
    for name in ("b/stopped", "b/finished", "a/begun", "joint", "other", "b/finished/inner", "stream"):
        (tmp_path / name).mkdir(parents=True)
    half = run_results.probe([[90.0, None, None]])
    run_results.save(tmp_path / "b/finished/results.json", "lump", [[90.0, None], [80.0, 97.0]], seed=10)
    run_results.save(tmp_path / "b/finished/inner/results.json", "lump")
    run_results.save(
        tmp_path / "b/stopped/results.json", "der", finished=False, probes={"knn_task": half, "knn_all": half}
    )
    run_results.save(tmp_path / "joint/results.json", "multitask", [[70.0, 80.0]], joint=True)
    three = [[90.0, None, None], [80.0, 97.0, None], [80.0, 97.0, None], [70.0, 80.0, None]]
    run_results.save(
        tmp_path / "stream/results.json", "er", three, evaluations=run_results.evaluated((8, 16, 24, 32), (1, 2, 2, 2))
    )
    (tmp_path / "a/begun/config.json").write_text(tiny.config("si").to_json())
    (tmp_path / "a/begun/lock").touch()
    (tmp_path / "other/config.json").write_text("{}")  # that of another program
    return tmp_path


def listed(capsys, *words):
    assert listing.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_runs_are_found_at_any_depth_but_not_in_runs(runs):
    names = ["a/begun", "b/finished", "b/stopped", "joint", "stream"]
    assert find_runs(runs) == [runs / name for name in names]
    assert find_runs(runs / "joint") == [runs / "joint"]
    assert find_runs(runs / "nothing") == []


def test_the_list_says_how_far_each_run_is_and_how_well_it_does(runs, capsys):
    begun, finished, stopped, joint, stream = listed(capsys, runs)
    what = ("recipe", "benchmark", "seed", "state", "tasks_seen", "tasks", "accuracy")
    assert [begun[key] for key in what] == ["si", "digits", 0, "stopped", 0, 2, None]
    assert [finished[key] for key in what] == ["lump", "digits", 10, "finished", 2, 2, 88.5]
    assert [stopped[key] for key in what] == ["der", "digits", 0, "stopped", 1, 3, 90.0]
    assert [joint[key] for key in what] == ["multitask", "digits", 0, "finished", 2, 2, 75.0]
    assert [stream[key] for key in what] == ["er", "digits", 0, "finished", 2, 3, 75.0]  # evaluated four times


def test_several_folders_are_listed_one_after_the_other_and_no_run_twice(runs, capsys):
    found = [pathlib.Path(run["folder"]) for run in listed(capsys, runs / "b", runs / "joint", runs / "b/finished")]
    assert found == [runs / "b/finished", runs / "b/stopped", runs / "joint"]


def test_a_run_whose_folder_is_locked_is_running_until_it_is_finished(runs, capsys):
    (runs / "b/finished/lock").touch()  # a probe is at work there
    with (runs / "a/begun/lock").open() as first, (runs / "b/finished/lock").open() as second:
        for lock in (first, second):
            fcntl.flock(lock, fcntl.LOCK_EX)
        states = [run["state"] for run in listed(capsys, runs)]
    assert states == ["running", "finished", "stopped", "finished", "finished"]
    assert listed(capsys, runs)[0]["state"] == "stopped"


def test_the_age_is_that_of_the_last_change(runs, capsys):
    for name, written in (("config.json", 1000), ("metrics.jsonl", 2000)):
        (runs / "a/begun" / name).touch()
        os.utime(runs / "a/begun" / name, (written, written))
    assert listing.listed(runs / "a/begun", now=2060.0).age == 60.0
    assert listing.listed(runs / "a/begun", now=1500.0).age == 0.0  # the clock of another machine


def test_a_damaged_run_is_left_out_with_a_warning(runs, capsys):
    (runs / "joint/results.json").write_text("{")
    assert listing.main([str(runs), "--json"]) == 0
    told = capsys.readouterr()
    assert len(json.loads(told.out)) == 4
    assert told.err.count("\n") == 1
    assert str(runs / "joint/results.json") in told.err


def test_the_table_has_a_row_a_run(runs, capsys):
    assert listing.main([str(runs)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(str(runs))]
    assert [row[1] for row in rows] == ["si", "lump", "der", "multitask", "er"]
    assert rows[1][4:7] == ["10", "finished", "2/2"]
    assert rows[1][-1] == "88.50"


def test_its_module_is_a_command(runs):
    command = [sys.executable, "-m", "ucl_jax.results.listing", str(runs), "--json"]
    assert len(json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)) == 5


def test_a_folder_without_runs_and_no_folder(tmp_path, capsys):
    assert listed(capsys, tmp_path) == []
    assert listing.main([str(tmp_path / "nothing")]) == 2
    assert str(tmp_path / "nothing") in capsys.readouterr().err
