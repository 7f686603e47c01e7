"""Tests the command: what it makes, makes anew and refuses; also in processes that are killed."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import quick, run_results
from tests.probed import results, trained
from ucl_jax.probes import PROBES
from ucl_jax.probes import __main__ as probe
from ucl_jax.results.schema import Record
from ucl_jax.training.run_folder import claim, write_json

ROOT = pathlib.Path(__file__).parents[2]


def call(workdir, *arguments, **more):
    words = [sys.executable, "-m", "ucl_jax.probe", f"--workdir={workdir}", *arguments]
    environment = os.environ | {"XLA_FLAGS": quick.XLA_FLAGS}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_and_started_again_leaves_the_same_files(workdir, tmp_path):
    undisturbed = shutil.copytree(workdir, tmp_path / "undisturbed")
    words = ["--probes=knn,geometry,embedding", "--after=all", "--set=embedding.method=pca"]
    done = call(undisturbed, *words)
    assert done.communicate(timeout=200)[1] == ""
    assert done.returncode == 0
    killed = call(workdir, *words)
    deadline = time.monotonic() + 200
    while "analysis" not in results(workdir):
        assert time.monotonic() < deadline
        assert killed.poll() is None, killed.stderr.read()
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(results(workdir)["analysis"]) < 9
    again = call(workdir, *words)
    assert again.communicate(timeout=200)[1] == ""
    assert results(workdir) == results(undisturbed)
    assert len(results(workdir)["analysis"]) == 9
    files = [
        {path.relative_to(folder): path.read_bytes() for path in (folder / "analysis").iterdir()}
        for folder in (workdir, undisturbed)
    ]
    assert {path.suffix for path in (workdir / "analysis").iterdir()} == {".png", ".svg", ".json", ".csv"}
    assert files[0] == {
        path.relative_to(workdir) if path.is_absolute() else path: data for path, data in files[0].items()
    }
    assert {path.name: data for path, data in files[0].items()} == {path.name: data for path, data in files[1].items()}


def test_what_is_there_is_not_made_again(workdir, monkeypatch):
    made = []
    counted = PROBES["geometry"]._replace(
        measure=lambda subject, after, settings: made.append(after) or run_results.GEOMETRY
    )
    monkeypatch.setitem(PROBES, "geometry", counted)
    probe.probe(workdir, ["geometry"], "2,1", ())
    probe.probe(workdir, ["geometry"], "all", ())
    assert made == [1, 2, 0]
    assert [record["after"] for record in results(workdir)["analysis"]] == [0, 1, 2]


def test_a_run_that_goes_on_keeps_its_analysis(tmp_path):
    folder = trained(tmp_path / "run", "finetune")
    probe.add(folder, Record(probe="geometry", after=1, settings={}, values=run_results.GEOMETRY))
    content = results(folder) | {"finished": False}
    write_json(folder / "results.json", content)
    trained(folder, "finetune")
    assert results(folder)["finished"]
    assert results(folder)["analysis"] == content["analysis"]


def test_what_was_made_of_fewer_networks_is_made_anew(workdir, capsys):
    """Checks that a run that was probed before it finished, and went on, is probed anew."""
    shutil.move(workdir / "networks" / "2", workdir / "later")
    words = [f"--workdir={workdir}", "--probes=cka", "--set=cka.images=20", "--set=cka.batch_size=20"]
    assert probe.main(words) == 0
    assert np.shape(results(workdir)["analysis"][0]["values"]["cka"]["stem"]) == (2, 2)
    assert probe.main([f"--workdir={workdir}", "--probes=transfer"]) == 2
    assert "transfer needs the network after each of 2 tasks, kept are 1" in capsys.readouterr().err
    shutil.move(workdir / "later", workdir / "networks" / "2")
    assert probe.main(words) == 0
    (record,) = results(workdir)["analysis"]
    assert np.shape(record["values"]["cka"]["stem"]) == (3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--probes=knm"], "unknown probe 'knm', did you mean 'knn'?"),
        (["--probes=knn", "--set=knn.kk=3"], "unknown setting of knn 'kk', did you mean 'k'?"),
        (["--probes=knn", "--set=knn.k"], "--set=knn.k is not PROBE.KEY=VALUE"),
        (["--probes=knn", "--set=ood.seed=1"], "--set=ood.seed=1: 'ood' is not among --probes=knn"),
        (["--probes=knn", "--set=knn.k=0"], "knn.k is '0'; it must be a number above 0"),
        (["--probes=knn", "--set=knn.k="], "knn.k is (); it must be a list"),
        (["--probes=knn", f"--set=knn.k={10**30}"], "knn.k is '1000000000000000000000000000000'; it must be"),
        (["--probes=knn", "--set=knn.k=²"], "knn.k is '²'; it must be"),
        (["--probes=knn", "--set=knn.temperature=x"], "knn.temperature is 'x'; it must be a number from 0.001 to"),
        (["--probes=knn", "--set=knn.temperature=0.1,inf"], "knn.temperature is inf; it must be a number"),
        (["--probes=ood", "--set=ood.temperature=0"], "ood.temperature is 0.0; it must be a number"),
        (["--probes=linear", "--set=linear.seed=-1"], "linear.seed is -1; it must be a whole number from 0 to"),
        (["--probes=linear", f"--set=linear.seed={2**63}"], f"linear.seed is {2**63}; it must be a whole number"),
        (["--probes=linear", "--set=linear.penalties=1,-1"], "linear.penalties is -1.0; it must be a number"),
        (["--probes=linear", "--set=linear.fraction=1.5"], "linear.fraction is 1.5; it must be a number"),
        (["--probes=linear", "--set=linear.momentum=nan"], "linear.momentum is nan; it must be a number"),
        (["--probes=loss_landscape", "--set=loss_landscape.points=5,7"], "points is '5,7'; it must be a whole number"),
        (["--probes=loss_landscape", f"--set=loss_landscape.images={'9' * 5000}"], "it must be a whole number"),
        (["--probes=loss_landscape", "--set=loss_landscape.task=2"], "loss_landscape.task is 2; "),
        (["--probes=cka", "--set=cka.other=none"], "cka.other=none is no run folder"),
        (["--probes=knn", "--after=3"], "there is no network after 3 tasks; known: 0, 1, 2"),
        (["--probes=knn", "--after=first"], "--after=first is neither last, all, nor numbers with commas"),
        (["--probes=knn", "--after=²"], "--after=² is neither last, all, nor numbers with commas"),
        (
            ["--probes=cka", "--set=cka.batch_size=x"],
            "cka.batch_size is 'x'; it must be a whole number",
        ),
        (["--probes=linear", "--set=linear.solver=lasso"], "unknown linear.solver 'lasso'"),
        (["--probes=embedding", "--set=embedding.method=umap"], "unknown embedding.method 'umap'"),
        (["--probes=loss_landscape", "--set=loss_landscape.points=4"], "loss_landscape.points is 4; it must be odd"),
        (["--probes=ood", "--set=ood.dataset=imagenet"], "unknown ood.dataset 'imagenet'"),
        (["--probes=feature_maps", "--set=feature_maps.stage=stage9"], "unknown feature_maps.stage 'stage9'"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_2_and_nothing_is_lost(arguments, message, workdir, capsys):
    before = results(workdir)
    assert probe.main([f"--workdir={workdir}", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert results(workdir) == before


def test_runs_that_cannot_be_probed(workdir, tmp_path, capsys):
    assert probe.main([f"--workdir={tmp_path / 'none'}", "--probes=knn"]) == 2
    assert "no run folder" in capsys.readouterr().err
    with claim(workdir):
        assert probe.main([f"--workdir={workdir}", "--probes=knn"]) == 2
    assert "another process is at work in" in capsys.readouterr().err
    shutil.rmtree(workdir / "networks" / "2" / "d")
    assert probe.main([f"--workdir={workdir}", "--probes=geometry"]) == 2
    assert "is not as it was saved" in capsys.readouterr().err
    shutil.rmtree(workdir / "networks")
    assert probe.main([f"--workdir={workdir}", "--probes=knn"]) == 2
    assert "holds no network" in capsys.readouterr().err
