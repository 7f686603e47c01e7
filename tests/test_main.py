"""Tests the command `ucl`: what it offers, and that recipes have names in any folder."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

import ucl_jax.__main__ as ucl
from configs.protocols import PROTOCOLS
from ucl_jax import recipes
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.data.prepare import OWN
from ucl_jax.methods import METHODS
from ucl_jax.objectives import OBJECTIVES
from ucl_jax.probes import PROBES
from ucl_jax.reproduce.studies import STUDIES
from ucl_jax.training import __main__ as train

ROOT = pathlib.Path(__file__).parents[1]


def listed(text):
    """Returns the first words of the indented lines, by the line that ends with a colon above them."""
    found, title = {}, ""
    for line in text.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            title = line.removesuffix(":")
        elif match := re.match(r"  (\S+)  +\S", line):
            found.setdefault(title, []).append(match[1])
    return found


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_has_a_line_for_each_command(words, capsys):
    assert ucl.main(words) == 0
    assert listed(capsys.readouterr().out) == {"": list(ucl.COMMANDS)}


@pytest.mark.parametrize("name", ucl.COMMANDS)
def test_each_command_is_handed_its_arguments_and_knows_its_name(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ucl", name, "--help"])
    assert ucl.main() == 0
    assert f"usage: ucl {name} " in capsys.readouterr().out
    module = importlib.import_module(f"ucl_jax.{ucl.COMMANDS[name]}")
    monkeypatch.setattr(module, "main", lambda argv, prog: (argv, prog) == (["a", "b"], f"ucl {name}") and 7)
    assert ucl.main([name, "a", "b"]) == 7


def test_an_unknown_command_is_refused_with_the_nearest(capsys):
    assert ucl.main(["trian"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'train'" in error


@pytest.mark.parametrize("word", ["--help", "-h", "--helpfull"])
def test_help_of_train_lists_all_there_is_to_choose_from(word, capsys):
    assert train.main(["--config=lump", word]) == 0
    found = listed(capsys.readouterr().out)
    assert found["recipes"] == recipes.names()
    assert found["benchmarks"] == list(BENCHMARKS)
    assert found["objectives"] == list(OBJECTIVES)
    assert found["methods, which recipes use"] == list(METHODS)
    assert found["protocols"] == list(PROTOCOLS)
    assert {"--config", "--workdir", "--process_id"} <= set(found["flags"])


@pytest.mark.parametrize("name", ucl.COMMANDS)
def test_help_of_each_command_has_an_example_of_it(name, capsys):
    assert ucl.main([name, "--help"]) == 0
    examples = capsys.readouterr().out.partition("\nexamples:\n")[2].split("\n\n")[0].splitlines()
    assert len(examples) >= 2
    for call, about in zip(examples[::2], examples[1::2]):
        assert call.startswith(f"  ucl {name}")
        assert about.startswith("      ")


@pytest.mark.parametrize(
    ("name", "title", "names"),
    [
        ("probe", "probes", PROBES),
        ("reproduce", "studies", STUDIES),
        ("reproduce", "recipes", recipes.names()),
        ("reproduce", "benchmarks", BENCHMARKS),
        ("reproduce", "objectives", OBJECTIVES),
        ("reproduce", "methods, which recipes use", METHODS),
        ("reproduce", "protocols", PROTOCOLS),
        ("prepare", "data sets that need no TensorFlow", OWN),
    ],
)
def test_help_lists_what_there_is_to_choose_from(name, title, names, capsys):
    assert ucl.main([name, "--help"]) == 0
    assert listed(capsys.readouterr().out)[title] == list(names)


def call(folder, *words, path=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "ucl_jax", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("form", ["--config={}", "--config {}", "-config={}"])
def test_a_recipe_has_a_name_in_any_folder(form, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/__init__.py").write_text("")  # that of another project
    expected = recipes.read_config([f"--config={ROOT}/configs/der.py:cifar100,byol", "--config.seed=3"])
    done = call(tmp_path, "train", *form.format("der:cifar100,byol").split(), "--config.seed=3", "--print_config")
    assert done.stdout.splitlines() == recipes.config_lines(expected)


def test_a_recipe_that_is_none_is_refused_with_the_nearest(tmp_path):
    for given in ("lupm:digits", "configs/lupm.py:digits"):
        done = call(tmp_path, "train", f"--config={given}")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "lump?" in done.stderr
