"""Streams that lead nowhere, and signals: real streams, small processes."""

import pathlib
import signal
import subprocess
import sys

import pytest

from ucl_jax.cli import StopRequest, origin, read_config

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
        # What a command prints may be all that it is for.
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
        signal.raise_signal(signal.SIGHUP)  # a terminal that closes may send several
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # a second one of these acts at once
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


@pytest.mark.parametrize("form", ["--config={}", "--config {}"])
def test_the_origin_of_a_config_is_its_recipes_argument_and_what_differs_from_it(form):
    recipe = f"{ROOT}/configs/lump.py:cifar100,barlow_twins"
    words = [*form.format(recipe).split(), "--config.seed=3", "--config.augment.mean=(0.1,0.2,0.3)"]
    words += ["--config.train.momentum=0.9"]  # which is as in the recipe
    argument, overrides = origin(["launch.py", *words, "--workdir=x"], read_config(words))
    assert argument == "cifar100,barlow_twins"
    assert overrides == {"seed": 3, "augment.mean": [0.1, 0.2, 0.3]}


def test_a_recipe_without_an_argument_has_an_empty_one():
    words = [f"--config={ROOT}/configs/lump.py"]
    assert origin(["launch.py", *words], read_config(words)) == ("", {})
