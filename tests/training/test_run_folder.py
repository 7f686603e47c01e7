"""Tests run folders that hold another run, are damaged, or are incomplete."""

import json
import sys

import pytest

from tests import run_results, tiny
from ucl_jax.cli import returns_exit_code
from ucl_jax.errors import UsageError
from ucl_jax.recipes import parse_flags
from ucl_jax.results import __main__ as report
from ucl_jax.results.schema import RunResult
from ucl_jax.training.metric_writers import read_metrics
from ucl_jax.training.run_folder import finished_results

RESULTS = run_results.as_json(config=json.loads(tiny.config("lump").to_json()))


@pytest.fixture
def folder(tmp_path):
    """Returns the folder of a finished run of the shrunk LUMP recipe."""
    (tmp_path / "config.json").write_text(tiny.config("lump").to_json())
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    return tmp_path


def test_finished_run_of_the_same_config(folder):
    for config in (tiny.config("lump"), tiny.config("lump", data_dir="/elsewhere", log__every_steps=7)):
        assert finished_results(config, folder) == RunResult.from_json(RESULTS)


def test_unfinished_run_goes_on(folder):
    (folder / "results.json").write_text(json.dumps(RESULTS | {"finished": False}))
    assert finished_results(tiny.config("lump"), folder) is None


def test_folder_in_which_nothing_was_saved_is_free(folder):
    (folder / "results.json").unlink()
    (folder / "checkpoints" / ".7.new" / "state").mkdir(parents=True)  # the run was killed in its first save
    assert finished_results(tiny.config("lump", seed=5), folder) is None


def test_checkpoints_of_another_config_are_refused(folder):
    (folder / "results.json").unlink()
    (folder / "checkpoints" / "7").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"another config: seed \(0 there, 5 here\)"):
        finished_results(tiny.config("lump", seed=5), folder)


def test_run_without_its_config_is_not_adopted(folder):
    (folder / "config.json").unlink()
    with pytest.raises(UsageError, match=r"holds a run without its config\.json"):
        finished_results(tiny.config("lump"), folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [("results.json", '{"version": 1, "finished": true}')]
    + [(name, content) for name in ("config.json", "results.json") for content in ("", "{", "[]")],
)
def test_damaged_json_is_refused_in_one_line(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(UsageError, match=rf"{name} is damaged"):
        finished_results(tiny.config("lump"), folder)


def test_a_name_too_long_for_the_file_system_is_refused_in_one_line(tmp_path, capsys):
    long = tmp_path / ("a" * 300)
    commands = {
        "launch": lambda: sys.exit(returns_exit_code(finished_results)(tiny.config("lump"), long)),
        "report": lambda: sys.exit(report.main([str(long)])),
        "recipe": lambda: parse_flags(["launch.py", f"--config={long}.py"]),
    }
    for name, command in commands.items():
        with pytest.raises(SystemExit) as leaving:
            command()
        assert leaving.value.code == 2, name
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert str(tmp_path)[:40] in error


def test_damaged_metrics_name_the_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "task": 0}\n{"st\n{"step": 3, "task": 0}\n')
    with pytest.raises(UsageError, match="line 2 is damaged"):
        read_metrics(path)
