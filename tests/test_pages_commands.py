"""Runs every block of commands of a page for readers, in the order of the page, in a copy of the checkout.

The pages are README.md, CONTRIBUTING.md, CHANGELOG.md and docs/.

A comment on the line above a block, its mark, says how it is run:

    <!-- run -->                  as it stands
    <!-- run: small -->           with runs shrunk as in tests/tiny.py
    <!-- run: with WORDS -->      with words behind each command of this package, such as --dry-run
    <!-- run: small, with WORDS -->
    <!-- run until: WORDS -->     until it prints the words, and then it is stopped by Ctrl-C
    <!-- file: PATH -->           the block is a file, which is written there
    <!-- output -->               the block is what the block before printed
    <!-- not run: REASON -->      it needs a GPU, a network, hours, or another machine

A block of the language diff is applied to the copy. Those of Python are given to one interpreter for the whole page.
Any other is a script of bash. A block without a mark is a failure, unless its language is no command's. Whoever reads a
page has read the README: a page starts in the folder that the README's commands have left.

Commands in the text around are not run. What they name must be there: programs, options, and keys of the config.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
from typing import NamedTuple

import pytest

from tests import quick, tiny
from ucl_jax import __main__ as ucl
from ucl_jax import settings

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
LEFT_OUT = (".*", "__pycache__", "*.egg-info", "build", "dist", "report", "results-gpu", "runs", "tmp")  # of a checkout
COMMANDS = {"", "sh", "bash", "console", "python", "diff"}
OTHERS = {"bibtex", "json", "latex", "markdown", "mermaid", "text", "yaml"}  # languages of blocks that nobody runs
BLOCK = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = re.compile(r"run(?:: (?P<small>small)?(?:, )?(?:with (?P<words>.+))?)?")
KEYS = {*settings.CONFIG, "method.name", "objective.name"} | {
    f"{section}.{key}"
    for section, table in (("method", settings.METHOD_SETTINGS), ("objective", settings.OBJECTIVE_SETTINGS))
    for of_one in table.values()
    for key in of_one
}
LIMIT = 900  # seconds that a block of commands may take
A_KEY = r"(?:benchmark|stream|augment|model|objective|method|train|eval|checkpoint|log)\.(?!py\b)[a-z_]+"
SMALL = tiny.overrides(log__tensorboard=False, checkpoint__every_steps=100)
# Stands for `python` in the blocks: puts what the mark asks for behind the words that a page has.
PYTHON = f"""#!/usr/bin/env bash
case "$*" in
  launch.py\\ * | -m\\ ucl_jax.train\\ * | -m\\ ucl_jax\\ train\\ *) set -- "$@" $SMALL_RUNS ;;
  -m\\ ucl_jax.reproduce\\ * | -m\\ ucl_jax\\ reproduce\\ *) set -- "$@" $SMALL_STUDIES ;;
esac
case "$*" in
  launch.py\\ * | -m\\ ucl_jax*) set -- "$@" $WORDS ;;
esac
exec {shlex.quote(sys.executable)} "$@"
"""
# Carries out pieces of Python, a line of JSON each, one after the other with the same names.
LOOP = """
import json, sys
names = {"__name__": "__main__"}
for line in sys.stdin:
    exec(json.loads(line), names)
    print("carried out", flush=True)
"""
PROGRAMS = {
    "python": PYTHON,
    "ucl": '#!/usr/bin/env bash\nexec python -m ucl_jax "$@"\n',
    # The environment is there, with the program above as its python: what `make` would install is not tried here.
    "make": f'#!/usr/bin/env bash\nexec {shutil.which("make")} VENV="$ENVIRONMENT" "$@"\n',
}


class Block(NamedTuple):
    """A block of a page: its line, its mark or "", its language, and its text."""

    page: str
    line: int
    mark: str
    language: str
    text: str

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start(2)) + 1, found[1] or "", found[2], found[3])
        for found in BLOCK.finditer(text)
    ]


BLOCKS = {page: blocks(page) for page in PAGES}


def is_run(block):
    return block.mark.startswith(("run", "file: ", "output"))


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Makes the programs that stand before those of the machine, and returns the environment of all blocks."""
    folder = tmp_path_factory.mktemp("programs")
    for name, program in PROGRAMS.items():
        (folder / name).write_text(program)
        (folder / name).chmod(0o755)
    venv = folder / "venv"
    venv.mkdir()
    (venv / "bin").symlink_to(folder)
    return os.environ | {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "ENVIRONMENT": str(venv),
        "TFDS_DATA_DIR": str(tmp_path_factory.mktemp("tfds")),
        "XLA_FLAGS": quick.XLA_FLAGS,
    }


def read_mark(block):
    """Returns the variables by which the mark of a block that is run makes its commands small, and adds words."""
    found = RUN.fullmatch(block.mark)
    assert found, f"{block}: cannot read the mark {block.mark!r}"
    small = SMALL if found["small"] else {}
    return {
        "SMALL_RUNS": " ".join(f"--config.{key}={value}" for key, value in small.items()),
        "SMALL_STUDIES": " ".join(f"--override={key}={value}" for key, value in small.items()),
        "WORDS": found["words"] or "",
    }


def stopped_after(words, command, **options):
    """Runs a command until it prints some words, and ends it by Ctrl-C."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, text=True, **options) as process:
        printed = next((line for line in process.stdout if words in line), None)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) in (0, 128 + signal.SIGINT, -signal.SIGINT)
    assert printed is not None
    return printed


@contextlib.contextmanager
def interpreter(folder, environment):
    """Starts a process of Python in a folder; gives a function that carries out a block there."""
    options = {"cwd": folder, "env": environment, "text": True}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen([sys.executable, "-c", LOOP], **pipes, **options) as process:

        def carry_out(block):
            print(json.dumps(block.text), file=process.stdin, flush=True)
            lines = []
            for line in process.stdout:
                if line == "carried out\n":
                    return "".join(lines)
                lines.append(line)
            raise AssertionError(f"{block}\n{''.join(lines)}")

        yield carry_out


def carry_out(block, folder, environment, python, printed):
    """Carries out a block in a folder; returns what it printed, where `printed` is of the block before."""
    word, _, rest = block.mark.partition(": ")
    if word == "file":
        (folder / rest).write_text(block.text)
        return ""
    if word == "output":
        assert block.text.rstrip() == printed.rstrip(), f"{block} is not what was printed"
        return printed
    if block.language == "python":
        return python(block)
    command = ["bash", "-euo", "pipefail", "-c", block.text]
    if word == "run until":
        return stopped_after(rest, command, cwd=folder, env=environment)
    if block.language == "diff":
        (folder / "changes.diff").write_text(block.text)
        command = ["git", "apply", "changes.diff"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | read_mark(block),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    return done.stdout


def run_page(page, folder, environment):
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))  # the copy comes first
    environment = environment | {"PYTHONPATH": paths}
    printed = ""
    with interpreter(folder, environment) as python:
        for block in filter(is_run, BLOCKS[page]):
            printed = carry_out(block, folder, environment, python, printed)


@pytest.fixture(scope="session")
def after_readme(environment, tmp_path_factory):
    """Returns a copy of the checkout in which the commands of the README were run."""
    folder = tmp_path_factory.mktemp("readme") / "checkout"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    pathlib.Path(environment["ENVIRONMENT"], "ready").touch()  # is newer than pyproject.toml
    run_page("README.md", folder, environment)
    return folder


def test_every_block_says_how_it_is_run():
    for block in (block for of_page in BLOCKS.values() for block in of_page):
        assert block.language in COMMANDS | OTHERS, f"{block}: is {block.language!r} a language of commands?"
        assert block.language in OTHERS or is_run(block) or block.mark.startswith("not run: "), f"{block} has no mark"


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_hidden_from_the_tests(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert len(re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)) == 2 * len(BLOCKS[page])


def test_the_commands_of_the_readme(after_readme):
    assert sorted(path.name for path in (after_readme / "runs/demo").iterdir() if path.is_dir()) == [
        "finetune",
        "lump",
        "multitask",
    ]


@pytest.mark.parametrize("page", [page for page in PAGES[1:] if any(map(is_run, BLOCKS[page]))])
def test_the_commands_of_a_page(page, after_readme, environment, tmp_path):
    folder = shutil.copytree(after_readme, tmp_path / "checkout")
    run_page(page, folder, environment)


def inline(page):
    """Returns the pieces of code in the text of a page."""
    text = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return [" ".join(piece.split()) for piece in re.findall(r"`([^`]+)`", text)]


def module_of(piece):
    """Returns the module that a command of Python or of `ucl` runs, and its options; None for another piece of code."""
    words = piece.split()
    if words[0] == "ucl" and len(words) > 1:
        return f"ucl_jax.{ucl.COMMANDS.get(words[1], words[1])}", words[2:]
    if words[:2] == ["python", "launch.py"]:
        return "ucl_jax.train", words[2:]
    return (words[2], words[3:]) if words[:2] == ["python", "-m"] else None


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_name_what_there_is(page, capsys):
    for piece in inline(page):
        words = piece.split()
        if words[0] == "make":
            for name, given, _ in (word.partition("=") for word in words[1:]):  # a variable, or a target
                there = rf"^{name} \?=" if given else rf"^{name}:"
                assert re.search(there, (ROOT / "Makefile").read_text(), re.MULTILINE), piece
        elif words[0] == "bash":
            assert (ROOT / words[1]).is_file(), piece
        elif found := module_of(piece):
            module, given = found
            spec = importlib.util.find_spec(module)
            assert spec is not None, piece
            if module.partition(".")[0] not in ("ucl_jax", "benchmarks", "tests"):
                continue
            main = importlib.import_module(f"{module}.__main__" if spec.submodule_search_locations else module).main
            with contextlib.suppress(SystemExit):
                main(["--help"])
            told = capsys.readouterr().out
            options = {word.partition("=")[0] for word in given if word.startswith("--") and word != "--help"}
            assert all(option in told for option in options if not option.startswith("--config.")), piece


@pytest.mark.parametrize("page", sorted({*PAGES} - {"CHANGELOG.md"}))  # which names keys that are gone
def test_keys_in_the_text_are_keys_of_the_config(page):
    for piece in inline(page):
        named = re.findall(r"--(?:config\.|override=)([a-z_.]+)", piece) + re.findall(rf"^({A_KEY})(?:=\S*)?$", piece)
        assert {*named} <= KEYS, piece
