"""Tests what a command imports before it does anything, what a run never imports, and that programs are kept."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests import quick, tiny

ROOT = pathlib.Path(__file__).parent.parent
HEAVY = {
    "jax",
    "flax",
    "optax",
    "orbax",
    "tensorflow_datasets",
    "matplotlib",
    "sklearn",
    "tensorboard",
    "torch",
    "pydantic",
    "pandas",
    "jinja2",
}
# Command -> the modules of HEAVY that its help may import: settings of probes stand beside their code, which is JAX.
HELP = {
    "launch.py": set(),
    "launch.py --config=configs/lump.py": set(),
    "-m ucl_jax": set(),
    "-m ucl_jax train": set(),
    "-m ucl_jax report": set(),
    "-m ucl_jax list": set(),
    "-m ucl_jax export": set(),
    "-m ucl_jax completion": set(),
    "-m ucl_jax.report": set(),
    "-m ucl_jax.reproduce": set(),
    "-m ucl_jax.convert": {"jax", "flax"},
    "-m ucl_jax.probe": {"jax", "flax", "optax", "orbax", "tensorflow_datasets"},
}
# Python imports this file before the command; it prints the modules that are loaded when the command ends.
SPY = """import atexit, sys
atexit.register(lambda: print("MODULES", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr))
"""


def run_and_spy(folder, *words):
    """Runs python with the words; returns what it printed and the modules that it imported."""
    (folder / "sitecustomize.py").write_text(SPY)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    modules = done.stderr.rpartition("MODULES ")[2].split()
    assert "ucl_jax" in modules
    return done.stdout, set(modules)


@pytest.mark.parametrize("command", HELP)
def test_help_needs_no_heavy_module_and_is_no_failure(command, tmp_path):
    printed, modules = run_and_spy(tmp_path, *command.split(), "--help")
    assert "--" in printed
    assert HEAVY & modules <= HELP[command]


def test_a_config_is_printed_without_a_heavy_module(tmp_path):
    words = ["--config=configs/lump.py:digits", "--print_config"]
    printed, modules = run_and_spy(tmp_path, "launch.py", *words, "--config.method.alpha=0.3")
    assert "method.alpha = 0.3" in printed.splitlines()
    assert not HEAVY & modules
    _, modules = run_and_spy(tmp_path, "launch.py", *words, "--diff=configs/der.py")
    assert not HEAVY & modules


def test_the_public_api_is_imported_when_it_is_used(tmp_path):
    _, modules = run_and_spy(tmp_path, "-c", "import ucl_jax")
    assert not {*HEAVY, "absl", "numpy", "ml_collections"} & modules
    _, modules = run_and_spy(tmp_path, "-c", "import ucl_jax; ucl_jax.make_config('lump:digits')")
    assert not HEAVY & modules


def test_a_run_does_not_import_what_it_does_not_need(tmp_path):
    assert importlib.util.find_spec("torch")  # so that a library could import it
    words = ["--config=configs/lump.py:digits", f"--workdir={tmp_path / 'run'}", *tiny.flags(train__epochs=1)]
    _, modules = run_and_spy(tmp_path, "launch.py", *words)
    assert {"jax", "tensorboard"} <= modules
    assert not {"torch", "tensorflow", "wandb"} & modules


def test_a_second_process_compiles_nothing(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"} | {
        "XLA_FLAGS": quick.XLA_FLAGS,
        "TFDS_DATA_DIR": str(tmp_path / "tfds"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_EXPLAIN_CACHE_MISSES": "1",
        "JAX_LOG_COMPILES": "1",
    }
    told = []
    for name in ("first", "second"):
        command = [sys.executable, "launch.py", "--config=configs/lump.py:digits", f"--workdir={tmp_path / name}"]
        command += tiny.flags(compilation_cache=tmp_path / "programs")
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        told.append(
            {
                word: re.findall(rf"persistent compilation cache {word} for '(\w+)'", done.stderr, re.IGNORECASE)
                for word in ("hit", "miss")
            }
        )
    first, second = told
    # Three programs are expected: `init` of the network, and the two of `parallel.parallelise`.
    assert first["miss"].count("jit_init") == 1
    assert first["miss"].count("jit_selected_steps") == first["miss"].count("jit_gathered_features") == 1
    assert sorted(second["hit"]) == sorted(first["miss"] + first["hit"])
    assert second["miss"] == []
