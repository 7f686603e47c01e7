"""Tests output that nobody reads, signals, and --print_config, with real streams and small processes."""

import ast
import json
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from ucl_jax import cli, recipes, settings
from ucl_jax.cli import StopRequest
from ucl_jax.recipes import origin, read_config

ROOT = pathlib.Path(__file__).parent.parent
PROGRAM = """
import contextlib, os, sys
from ucl_jax import cli

@cli.returns_exit_code
def main():
    with open(sys.argv[1], "w") as file:
        for place in range(2000):  # more than a buffer
            print("to stdout", place)
            print("to stderr", place, file=sys.stderr, flush=True)
            for descriptor in (1, 2):
                with contextlib.suppress(OSError):
                    os.write(descriptor, b"of a library in C")
        file.write("whole")
    return 0

sys.exit(main())
"""


@pytest.mark.parametrize(
    ("redirected", "code", "told"),
    [
        (">/dev/null 2>&1 | true", 0, ""),
        ("2>&1 | true", 0, ""),
        ("2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        # Printing may be the only purpose of a command, so losing stdout is an error.
        (">/dev/full", 1, "warning: what was printed could not be written (No space left on device)"),
    ],
)
def test_work_is_done_whoever_listens(tmp_path, redirected, code, told):
    shell = f'set -o pipefail; "$0" -c "$1" "$2" {redirected}'
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable, PROGRAM, str(tmp_path / "file")], cwd=ROOT, capture_output=True, text=True
    )
    assert (tmp_path / "file").read_text() == "whole"
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert told in done.stderr


def test_hangup_asks_to_stop_and_a_second_one_is_patient():
    before = signal.getsignal(signal.SIGHUP)
    with StopRequest() as stop:
        assert stop.signum is None
        signal.raise_signal(signal.SIGHUP)
        assert stop.signum == signal.SIGHUP
        signal.raise_signal(signal.SIGHUP)  # a terminal that closes may send the signal several times
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # a SIGTERM that follows acts at once
    assert signal.getsignal(signal.SIGHUP) is before


def test_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.signum is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def read(recipe, *overrides):
    """Returns the config tree of a recipe of this repository, as launch.py reads it."""
    return recipes.read_config([f"--config={ROOT}/configs/{recipe}", *(f"--config.{pair}" for pair in overrides)])


def launch(*words):
    return subprocess.run([sys.executable, "launch.py", *words], cwd=ROOT, capture_output=True, text=True)


def test_every_key_is_printed_with_its_final_value():
    config = read("si.py:cifar100,supervised", "seed=3", "method.c=2", "augment.crop_scale=[0.5,1.0]")
    lines = [line.split(" = ", 1) for line in recipes.config_lines(config)]
    printed = {key: ast.literal_eval(value) for key, value in lines}
    assert printed == settings.flatten(config.to_dict())
    assert [key for key, _ in lines] == list(settings.flatten(config.to_dict()))
    assert (printed["seed"], printed["method.c"], printed["augment.crop_scale"]) == (3, 2.0, (0.5, 1.0))


def test_print_config_shows_every_value_on_one_line():
    config = read("lump.py:digits")
    config.data_dir = "a = b\n\ud800"
    assert len(recipes.config_lines(config)) == len(settings.flatten(config.to_dict()))
    "\n".join(recipes.config_lines(config)).encode()


def test_differences_are_those_keys_with_both_values():
    lump, der = read("lump.py:digits", "method.alpha=0.3"), read("der.py:digits")
    expected = {
        "recipe": ("lump", "der"),
        "method.name": ("lump", "der"),
        "method.alpha": (0.3, 0.1),
        "method.beta": (None, 0.0),
        "method.target": (None, "features"),
        "method.replay_pair": ("frozen", None),
        "method.mix_per": ("batch", None),
        "method.mix_labels": ("lambda", None),
    }
    assert settings.differences(lump, der) == expected
    assert settings.differences(der, lump) == {key: pair[::-1] for key, pair in expected.items()}
    assert settings.differences(lump, json.loads(lump.to_json())) == {}  # a stored run has lists for tuples
    lines = recipes.difference_lines(lump, der)
    assert [line.split()[0] for line in lines[1:]] == sorted(expected)
    row = next(line for line in lines if line.startswith("method.beta"))
    assert row.split("  ", 1)[1].strip().split("  ") == ["(no such key)", "0.0"]
    assert len(recipes.difference_lines(lump, lump)) == 1


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ("", "''"),
        ("nothing.py", "nothing.py"),
        ("configs", "configs"),
        ("/dev/null", "/dev/null"),
        ("README.md", "README.md"),
        ("configs/base.py", "configs/base.py"),
        ("configs/__init__.py", "configs/__init__.py"),
        ("launch.py", "launch.py"),
        ("configs/lump.py:cifar", "cifar"),
        ("configs/lump.py:digits,nobody", "nobody"),
        ("configs/lump.py:digits,simsiam,ucl,tasks,lump", "5 words"),
        ("configs/lump.py:" + "a" * 9000, "aaa"),
        ("configs/lump.py:" + "a," * 9000, "9001 words"),
        ("a" * 9000 + ".py", "aaa"),
        ("configs/a\nb\x1b[31m.py", "configs/a"),
        ("\ud800.py", "ud800"),
        ("a\0.py", "a"),
    ],
)
def test_a_recipe_to_compare_with_that_is_none_is_named_in_a_line(other, named, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    read("lump.py:digits")  # a recipe read before must not stand in for a file that is not a recipe
    assert cli.returns_exit_code(lambda: recipes.read_config([f"--config={other}"]))() == 2
    told = capsys.readouterr().err
    assert named in told
    assert len(told.splitlines()) == 1
    assert len(told) < 400


def test_launch_prints_what_differs_and_refuses_bad_input(tmp_path):
    recipe = ["--config=configs/lump.py:digits", f"--workdir={tmp_path / 'run'}"]
    done = launch(*recipe, "--print_config", "--diff=configs/lump.py:digits", "--config.seed=7")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [["seed", "7", "0"]]
    for words, named in [
        (["--diff=configs/lump.py:digits"], "--print_config"),
        (["--print_config", "--diff=configs/nothing.py"], "configs/nothing.py"),
        (["--print_config", "--diff"], "--diff"),
        (["--print_config", "--config.seed=x"], "config.seed"),
    ]:
        done = launch(*recipe, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert named in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--conifg=lump:digits"], "config"), (["--config=lump:digits", "--wrkdir=a"], "workdir"), ([], "")],
)
def test_a_misspelt_flag_is_refused_with_the_nearest(words, told):
    done = subprocess.run([sys.executable, "launch.py", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(f"error: .*Did you mean: {told} .*\n" if told else "error: give a recipe.*\n", done.stderr)


@pytest.mark.parametrize("form", ["--config={}", "--config {}"])
def test_the_origin_of_a_config_is_its_recipes_argument_and_what_differs_from_it(form):
    recipe = f"{ROOT}/configs/lump.py:cifar100,barlow_twins"
    words = [*form.format(recipe).split(), "--config.seed=3", "--config.augment.mean=(0.1,0.2,0.3)"]
    words += ["--config.train.momentum=0.9"]  # equals the recipe's value, so it is no override
    argument, overrides = origin(["launch.py", *words, "--workdir=x"], read_config(words))
    assert argument == "cifar100,barlow_twins"
    assert overrides == {"seed": 3, "augment.mean": [0.1, 0.2, 0.3]}


def test_a_recipe_without_an_argument_has_an_empty_one():
    words = [f"--config={ROOT}/configs/lump.py"]
    assert origin(["launch.py", *words], read_config(words)) == ("", {})
