"""Reads the config of a run from the command line: a recipe, its argument and overrides -> a checked config tree.

--config=configs/NAME.py:ARGUMENT --config.KEY=VALUE
"""

import difflib
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from ucl_jax import cli, settings
from ucl_jax.errors import UsageError, require

FOLDER = pathlib.Path(__file__).parent.parent / "configs"


def names() -> list[str]:
    """Returns the names of all recipes, sorted: the files of configs/ that have a `get_config`."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if "def get_config(" in path.read_text(encoding="utf-8"))


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses absl flags, among them a recipe in `--config`, and checks its config.

    It leaves the process with exit code 2 and one line on standard error if anything is wrong.

    Args:
      argv: the name of the program and its arguments.

    Returns:
      The name of the program and the arguments that are not flags, as absl returns them.
    """
    cli.protect_streams()
    try:
        return _parse(argv, flags.FLAGS)
    except SystemExit as leaving:
        wants_help = {"--help", "-help", "--helpfull", "-helpfull", "--helpshort", "-helpshort", "-?"} & set(argv)
        sys.exit(0 if wants_help and leaving.code == 1 else leaving.code)  # absl exits with 1 after help
    except UsageError as error:
        sys.exit(cli.report(error))


def read_config(arguments: Sequence[str]) -> ConfigDict:
    """Returns the checked config tree of arguments of `launch.py`: --config=RECIPE, --config.KEY=VALUE.

    Raises:
      UsageError: there is no such recipe or key, or a value has the wrong type or is out of its range.
    """
    argv = ["launch.py", *arguments]
    values, holder = _config_flag(argv)
    _parse(argv, values)
    return holder.value


def config_lines(config: ConfigDict) -> list[str]:
    """Returns one line `key = value` for each key of a config tree, in the order of the tree."""
    return [f"{key} = {value!r}" for key, value in settings.flatten(config.to_dict()).items()]


def difference_lines(config: ConfigDict, other: ConfigDict) -> list[str]:
    """Returns the lines of a table of the keys in which two config trees differ, with the value in each."""

    def cell(value):
        return "(no such key)" if value is None else repr(value)

    found = settings.differences(config, other)
    if not found:
        return ["nothing differs"]
    rows = [("key", "--config", "--diff"), *((key, cell(here), cell(there)) for key, (here, there) in found.items())]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def origin(argv: Sequence[str], config: ConfigDict) -> tuple[str, dict[str, Any]]:
    """Returns where the config of a run comes from: the argument of its recipe, and its overrides.

    Args:
      argv: the name of the program and its arguments, with --config=RECIPE:ARGUMENT.
      config: the config tree of the run.

    Returns:
      The argument, "" if there is none; and "section.key" -> value, as JSON has it, for each key in which `config`
      differs from the recipe with that argument.
    """
    recipe = _recipe(argv)
    given, default = (json.loads(tree.to_json()) for tree in (config, read_config([f"--config={recipe}"])))
    values = settings.flatten(given)
    overrides = {key: values[key] for key in settings.differences(given, default)}
    return recipe.partition(":")[2], overrides


def _config_flag(argv: Sequence[str]) -> tuple[flags.FlagValues, flags.FlagHolder]:
    """Defines the flag --config, for `argv`, in flag values of its own; returns these and the holder of the flag."""
    # ml_collections executes a file in the same module as the file before. Without this, the get_config of the earlier
    # file would serve for a file that has none.
    sys.modules.pop("config_config", None)
    values = flags.FlagValues()
    return values, config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=list(argv))


def _parse(argv: Sequence[str], values: flags.FlagValues) -> list[str]:
    """Parses `argv` into `values` and checks the config; returns what is left; raises UsageError for bad input."""
    recipe = _recipe(argv)
    file = recipe.partition(":")[0]
    names = dict(_given(argv))
    given = "config" in names
    for key, place in (("config.protocol", "third"), ("config.stream.name", "fourth")):
        require(
            key not in names,
            f"{key} only names what the recipe's argument has chosen: give it there, as the {place} word, "
            "--config=configs/NAME.py:benchmark,objective,protocol,stream",
        )
    require(
        not given or (file.endswith(".py") and os.path.isfile(file)),
        f"there is no recipe {settings.shown(file)}; recipes are the files of configs/, such as configs/lump.py",
    )
    try:
        left = values(argv)
    except UsageError:
        raise
    except Exception as error:  # ml_collections and Python's parser raise many types for malformed values
        _explain(argv, recipe)
        if isinstance(error, flags.Error):
            raise UsageError(str(error)) from error
        raise
    if given:
        settings.check(values["config"].value)
    return left


def _recipe(argv: Sequence[str]) -> str:
    """Returns the value of --config, given as --config=VALUE or --config VALUE, or "" if there is none."""
    return next((value for name, value in _given(argv) if name == "config"), None) or ""


def _given(argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yields name and value of each flag, given as --NAME=VALUE or --NAME VALUE; the value is None if it has none."""
    for argument, following in zip(argv, [*argv[1:], "-"]):
        if argument.startswith("-"):
            name, equals, value = argument.lstrip("-").partition("=")
            yield name, value if equals else None if following.startswith("-") else following


def _explain(argv: Sequence[str], recipe: str) -> None:
    """Raises UsageError if the recipe cannot be read, or for the first override that cannot be parsed by itself."""
    require(bool(recipe), "give a recipe, --config=configs/NAME.py[:benchmark[,objective[,protocol[,stream]]]]")
    try:
        values, holder = _config_flag(alone := ["", f"--config={recipe}"])
        values(alone)
        config = holder.value.to_dict()
    except Exception as error:  # a recipe is a program, and may raise anything
        raise UsageError(
            f"{recipe.partition(':')[0]} is not a recipe ({type(error).__name__}); see configs/"
        ) from error
    settings.check(config)
    known = settings.settings_of(config["objective"]["name"], config["method"]["name"])
    for name, value in _given(argv):
        key = name.removeprefix("no").removeprefix("config.")
        if not name.removeprefix("no").startswith("config.") or (key in known and _parses(recipe, key, value)):
            continue
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise UsageError(
                f"unknown key {settings.shown(f'--config.{key}')}, did you mean --config.{near}? "
                "Every key is shown by --print_config"
            )
        require(value is not None, f"--config.{key} has no value; it must be {known[key].requirement}")
        settings.check_value(f"config.{key}", known[key], value)


def _parses(recipe: str, key: str, value: str | None) -> bool:
    """Tells whether an override can be parsed when it is the only one."""
    argv = ["", f"--config={recipe}", f"--config.{key}" if value is None else f"--config.{key}={value}"]
    values, _ = _config_flag(argv)
    try:
        values(argv)
    except Exception:  # as in _parse
        return False
    return True
