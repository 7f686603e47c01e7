"""Tests the completion of `ucl`: the words that it offers, and that real shells complete with them."""

import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import pytest

from tests.test_startup import HEAVY, run_and_spy
from ucl_jax import __main__ as ucl
from ucl_jax import completion, recipes
from ucl_jax.evaluation.accuracy_matrix import FORGETTING
from ucl_jax.methods import METHODS
from ucl_jax.probes import PROBES
from ucl_jax.reproduce.studies import STUDIES
from ucl_jax.results import tables
from ucl_jax.settings import settings_of
from ucl_jax.training import __main__ as training

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ucl tr", ["train "]),
        ("ucl train --work", ["--workdir="]),
        ("ucl train --print", ["--print_config "]),
        ("ucl train --config=lu", ["--config=lump"]),
        ("ucl train --config lu", ["lump"]),
        ("ucl train --config=lump:di", ["--config=lump:digits"]),
        ("ucl train --config=lump:digits,ba", ["--config=lump:digits,barlow_twins"]),
        ("ucl train --config=lump:digits,byol,", [f"--config=lump:digits,byol,{name}" for name in ("cassle", "ucl")]),
        ("ucl train --config=lump:digits,byol,ucl,os", ["--config=lump:digits,byol,ucl,osiris"]),
        ("ucl train --config=lump:digits,byol,ucl,osiris,", []),
        ("ucl train --conf", ["--config.", "--config="]),
        ("ucl train --config=lump --config.method.pol", ["--config.method.policy="]),
        ("ucl train --config.log.wandb=", ["--config.log.wandb=False ", "--config.log.wandb=True "]),
        ("ucl train --config.eval.forgetting=f", ["--config.eval.forgetting=first "]),
        ("ucl train --config.seed=", []),
        ("ucl probe --probes=knn,geo", ["--probes=knn,geometry"]),
        ("ucl probe --set=embedding.me", ["--set=embedding.method="]),
        ("ucl probe --set=embedding.method=p", ["--set=embedding.method=pca "]),
        ("ucl reproduce table1 --override=train.sch", ["--override=train.schedule="]),
        ("ucl reproduce table1 --dry", ["--dry-run "]),
        ("ucl report runs", []),
        ("ucl report runs --over=lu", ["--over=lump "]),
        ("ucl report runs --k", ["--knn "]),
        ("ucl report runs --forgetting fi", ["first "]),
        ("ucl report runs --format=l", ["--format=latex "]),
        ("ucl reproduce table1 --format=c", ["--format=csv "]),
        ("ucl export runs/a --format=", [f"--format={name} " for name in ("onnx", "safetensors", "torch")]),
        ("ucl nothing --", []),
    ],
)
def test_words_that_fit(line, expected):
    assert completion.candidates(line) == expected


def test_all_there_is_to_choose_from_is_offered():
    assert [word.strip() for word in completion.candidates("ucl ")] == sorted(ucl.COMMANDS)
    assert completion.candidates("ucl train --config ") == recipes.names()
    assert completion.candidates("ucl probe --probes ") == sorted(PROBES)
    assert completion.candidates("ucl report --over ") == [f"{name} " for name in recipes.names()]
    assert completion.candidates("ucl report --format ") == sorted(f"{name} " for name in tables.FORMATS)
    assert completion.candidates("ucl report --forgetting ") == sorted(f"{name} " for name in FORGETTING)
    values = training.flags.FLAGS["mapping"].parser.enum_values
    assert completion.candidates("ucl train --mapping ") == sorted(f"{name} " for name in values)
    assert completion.candidates("ucl reproduce ") == sorted(f"{name} " for name in STUDIES)
    keys = set().union(*(settings_of("byol", method) for method in METHODS))
    keys -= {"recipe", "protocol", "stream.name", "objective.name", "method.name"}  # which the recipe's argument names
    offered = {word.removeprefix("--config.") for word in completion.candidates("ucl train --config.")}
    assert {f"{key}=" for key in keys} <= offered


@pytest.mark.parametrize("name", ucl.COMMANDS)
def test_options_are_those_that_help_lists(name, capsys):
    assert ucl.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    listed = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE)) - {"--help"}
    assert {word.rstrip("= ") for word in completion.options(name)} == listed


def test_it_needs_no_heavy_module(tmp_path):
    printed, modules = run_and_spy(tmp_path, "-m", "ucl_jax", "completion", "--line=ucl train --config=lump:dig")
    assert printed == "--config=lump:digits\n"
    assert not HEAVY & modules


def test_its_module_is_a_command():
    command = [sys.executable, "-m", "ucl_jax.completion", "--line=ucl comp"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "completion \n"


def complete(shell: list[str], start: str, line: str, expected: str) -> None:
    """Types a line and TAB into an interactive shell on a terminal, and waits until it shows what is expected."""
    terminal, other = pty.openpty()
    environment = os.environ | {"TERM": "dumb", "PS1": "$ ", "HISTFILE": ""}
    process = subprocess.Popen(
        shell, cwd=ROOT, env=environment, stdin=other, stdout=other, stderr=other, start_new_session=True
    )
    os.close(other)
    shown = ""
    try:

        def until(wanted):
            nonlocal shown
            deadline = time.monotonic() + 120
            while wanted not in shown:
                assert time.monotonic() < deadline, shown
                if select.select([terminal], [], [], 1)[0]:
                    shown += os.read(terminal, 4096).decode(errors="replace")

        os.write(terminal, f"{start}; echo rea''dy\n".encode())
        until("ready")
        os.write(terminal, f"{line}\t".encode())
        until(expected)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


# What is typed before TAB, and what the shell then adds.
TYPED = {
    "ucl tra": "in ",
    "ucl train --config=lump:dig": "its",
    "ucl train --config=lump:digits,barl": "ow_twins",
    "ucl train --config.method.replay_p": "air=",
    "ucl train --config.method.replay_pair=fro": "zen",
}
UCL = f'ucl() {{ {sys.executable} -m ucl_jax "$@"; }}'


@pytest.mark.parametrize("line", TYPED)
def test_bash_completes(line):
    complete(["bash", "--norc", "-i"], f'{UCL}; eval "$(ucl completion bash)"', line, line + TYPED[line])


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize("line", TYPED)
def test_zsh_completes(line):
    start = f'autoload -U compinit; compinit -D -u; {UCL}; eval "$(ucl completion zsh)"'
    complete(["zsh", "-f", "-i"], start, line, line + TYPED[line])


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize("line", TYPED)
def test_fish_completes(line):
    script = (
        f"function ucl; {sys.executable} -m ucl_jax $argv; end; ucl completion fish | source; "
        f"complete --do-complete '{line}'"
    )
    done = subprocess.run(["fish", "--no-config", "-c", script], cwd=ROOT, capture_output=True, text=True)
    offered = [row.split("\t")[0] for row in done.stdout.splitlines()]
    assert offered == [(line + TYPED[line]).split()[-1]]
