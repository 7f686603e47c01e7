"""Run folders that are another run's, damaged, or only half there."""

import json
import shutil
import sys

import jax.numpy as jnp
import pytest
import tiny

from ucl_jax import report
from ucl_jax.checkpoint import Checkpoints
from ucl_jax.cli import exit_codes, parse_flags
from ucl_jax.errors import UsageError
from ucl_jax.logging import read_metrics
from ucl_jax.run import finished_results

RESULTS = {"finished": True, "config": {}, "probes": {}}


@pytest.fixture
def folder(tmp_path):
    """The folder of a finished run of the shrunk LUMP recipe."""
    (tmp_path / "config.json").write_text(tiny.config("lump").to_json())
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    return tmp_path


def test_finished_run_of_the_same_config(folder):
    assert finished_results(tiny.config("lump"), folder) == RESULTS
    assert finished_results(tiny.config("lump", data_dir="/elsewhere", log__every_steps=7), folder) == RESULTS


def test_unfinished_run_goes_on(folder):
    (folder / "results.json").write_text(json.dumps(RESULTS | {"finished": False}))
    assert finished_results(tiny.config("lump"), folder) is None


def test_folder_in_which_nothing_was_saved_is_free(folder):
    (folder / "results.json").unlink()
    (folder / "checkpoints").mkdir()
    assert finished_results(tiny.config("lump", seed=5), folder) is None


def test_checkpoints_of_another_config_are_refused(folder):
    (folder / "results.json").unlink()
    (folder / "checkpoints" / "7").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"another config: seed \(0 there, 5 here\)"):
        finished_results(tiny.config("lump", seed=5), folder)


def test_run_without_its_config_is_not_adopted(folder):
    (folder / "config.json").unlink()
    with pytest.raises(UsageError, match=r"holds a run but not its config\.json"):
        finished_results(tiny.config("lump"), folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [("results.json", '{"finished": true}')]
    + [(name, content) for name in ("config.json", "results.json") for content in ("", "{", "[]")],
)
def test_damaged_json_is_one_line(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(UsageError, match=rf"{name} is damaged"):
        finished_results(tiny.config("lump"), folder)


def test_name_too_long_for_the_file_system_is_one_line(tmp_path, capsys):
    long = tmp_path / ("a" * 300)
    commands = {
        "launch": lambda: exit_codes(finished_results)(tiny.config("lump"), long),
        "report": lambda: sys.exit(report.main([str(long)])),
        "recipe": lambda: parse_flags(["launch.py", f"--config={long}.py"]),
    }
    for name, command in commands.items():
        with pytest.raises(SystemExit) as leaving:
            command()
        assert leaving.value.code == 2, name
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert str(long) in error


def test_damaged_metrics_name_the_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(UsageError, match="line 2 is damaged"):
        read_metrics(path)


def test_damaged_checkpoint_names_itself_and_the_one_before_serves(tmp_path):
    state = {"step": jnp.arange(3)}
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        checkpoints.save(1, state, {"n": 1})
        checkpoints.save(2, state, {"n": 2})
    shutil.rmtree(tmp_path / "checkpoints" / "2" / "state")
    with (
        Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints,
        pytest.raises(UsageError, match=r"checkpoints/2 cannot be read .*remove that folder"),
    ):
        checkpoints.restore(state)
    shutil.rmtree(tmp_path / "checkpoints" / "2")
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        assert checkpoints.restore(state)[1] == {"n": 1}
