"""Runs the command `ucl`, also `python -m ucl_jax`: its first word names the command that gets the other words."""

import importlib
import pathlib
import sys
from collections.abc import Sequence

from ucl_jax import cli
from ucl_jax.errors import user_choice
from ucl_jax.version import __version__

# Command -> the module that has its `main`; the first line of that module's docstring says what it does.
COMMANDS = {
    "train": "training.__main__",
    "probe": "probes.__main__",
    "report": "results.__main__",
    "reproduce": "reproduce.__main__",
    "export": "export",
    "prepare": "data.prepare",
    "convert": "interop.torch_weights",
    "list": "results.listing",
    "completion": "completion",
}


def _help() -> str:
    """Returns the text of --help: a line for each command."""
    files = {name: f"{module.replace('.', '/')}.py" for name, module in COMMANDS.items()}
    about = {name: cli.summary(pathlib.Path(__file__).parent / file) for name, file in files.items()}
    lines = ["usage: ucl COMMAND ...", "", *(f"  {name:10}  {text}" for name, text in about.items())]
    return "\n".join([*lines, "", "ucl COMMAND --help says more; ucl --version prints the version."])


@cli.returns_exit_code
def main(argv: Sequence[str] | None = None) -> int | None:
    """Carries out a command, by default that of the command line, and returns its exit code."""
    name, *words = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help", "--version"):
        print(__version__ if name == "--version" else _help())
        return 0
    module = importlib.import_module(f"ucl_jax.{user_choice('command', name, COMMANDS)}")
    return module.main(words, f"ucl {name}")


if __name__ == "__main__":
    sys.exit(main())
