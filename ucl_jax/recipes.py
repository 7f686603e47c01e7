"""Reads the config of a run from the command line: a recipe, its argument and overrides -> a checked config tree.

--config=configs/NAME.py:ARGUMENT --config.KEY=VALUE, or --config=NAME:ARGUMENT from any folder
"""

import difflib
import importlib.util
import json
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from ucl_jax import cli, settings
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import UsageError, require

# A checkout has configs/ beside the package. A wheel has it inside, for any other project may install a `configs` too.
_PACKAGE = pathlib.Path(__file__).parent
FOLDER = next(parent / "configs" for parent in (_PACKAGE, _PACKAGE.parent) if (parent / "configs" / "base.py").exists())


def names() -> list[str]:
    """Returns the names of all recipes, sorted: the files of configs/ that have a `get_config`."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if "def get_config(" in path.read_text(encoding="utf-8"))


def offered() -> dict[str, dict[str, str]]:
    """Returns what a run can be made of, for --help: title -> name -> what it is, in a line.

    Lines are those of docstrings, which are read from the files; only the recipes' protocols and streams are imported.
    """
    make_importable()
    from configs.protocols import PROTOCOLS
    from configs.streams import STREAMS

    def summaries(functions):
        return {name: str(one.__doc__).splitlines()[0].removeprefix("Returns ") for name, one in functions.items()}

    return {
        "recipes": {name: cli.summary(FOLDER / f"{name}.py") for name in names()},
        "benchmarks": {
            name: f"{one.tfds_name}: {one.num_tasks} tasks of {one.classes_per_task} classes, "
            f"{'the same in all, ' if one.order != 'class' else ''}{one.image_size} pixels a side"
            if one.tfds_name
            else "your own images, below config.benchmark.path"
            for name, one in BENCHMARKS.items()
        },
        "objectives": {name: cli.summary(_PACKAGE / f"objectives/{name}.py") for name in settings.OBJECTIVE_SETTINGS},
        "methods, which recipes use": {
            name: cli.summary(_PACKAGE / f"methods/{name}.py") for name in settings.METHOD_SETTINGS
        },
        "protocols": summaries(PROTOCOLS),
        "streams": summaries(STREAMS),
    }


def make_importable() -> None:
    """Makes `import configs`, which recipes do, import FOLDER, from whatever folder Python was started."""
    if "configs" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "configs", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["configs"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["configs"])


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


def make_config(recipe: str, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """Returns the checked config tree of a recipe, with other values for some keys.

    Examples:
      >>> config = make_config("lump:digits", {"train.epochs": 2, "seed": 1})
      >>> config.train.epochs, config.method.name, config.benchmark.num_tasks
      (2, 'lump', 5)
      >>> make_config("lump:digits", {"train.epoch": 2})
      Traceback (most recent call last):
      ucl_jax.errors.UsageError: unknown key '--config.train.epoch', did you mean --config.train.epochs? ...

    Args:
      recipe: its name or the path of its file, and after a colon its argument,
        `NAME[:benchmark[,objective[,protocol[,stream]]]]`. `ucl train --help` lists all of these words.
      overrides: "section.key" -> value. `print(config)` shows all keys, `config.to_dict()` gives them.

    Raises:
      UsageError: there is no such recipe or key, or a value has the wrong type or is out of its range.
    """
    return read_config([f"--config={recipe}", *(f"--config.{key}={value}" for key, value in (overrides or {}).items())])


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


def words_of(config: ConfigDict) -> str:
    """Returns the recipe that a config was made from, with its whole argument, as `--config` takes it.

    A benchmark that its user has named is taken for the default one, `cifar10`, with other settings.
    """
    benchmark = config.benchmark.name if config.benchmark.name in BENCHMARKS else "cifar10"
    return f"{config.recipe}:{benchmark},{config.objective.name},{config.protocol},{config.stream.name}"


def _config_flag(argv: Sequence[str]) -> tuple[flags.FlagValues, flags.FlagHolder]:
    """Defines the flag --config, for `argv`, in flag values of its own; returns these and the holder of the flag."""
    # ml_collections executes a file in the same module as the file before. Without this, the get_config of the earlier
    # file would serve for a file that has none.
    sys.modules.pop("config_config", None)
    values = flags.FlagValues()
    return values, config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=list(argv))


def _parse(argv: Sequence[str], values: flags.FlagValues) -> list[str]:
    """Parses `argv` into `values` and checks the config; returns what is left; raises UsageError for bad input."""
    make_importable()
    flags_given = dict(_given(argv))
    given = "config" in flags_given
    for key, place in (("config.protocol", "third"), ("config.stream.name", "fourth")):
        require(
            key not in flags_given,
            f"{key} only names what the recipe's argument has chosen: give it there, as the {place} word, "
            "--config=configs/NAME.py:benchmark,objective,protocol,stream",
        )
    recipe = _with_path(_recipe(argv)) if given else ""
    argv = _replaced(argv, recipe) if given else argv
    try:
        left = values(argv)
    except UsageError:
        raise
    except Exception as error:  # ml_collections and Python's parser raise many types for malformed values
        if given or not isinstance(error, flags.UnrecognizedFlagError):  # which may be --config, misspelt
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


def _with_path(recipe: str) -> str:
    """Returns a recipe with the path of its file in place of its name; raises UsageError if there is no such file."""
    file, colon, argument = recipe.partition(":")
    known = names()
    path = str(FOLDER / f"{file}.py") if file in known else file
    if not (path.endswith(".py") and os.path.isfile(path)):
        near = difflib.get_close_matches(pathlib.PurePath(file[-60:]).stem, known, n=1)
        raise UsageError(
            f"there is no recipe {settings.shown(file)}{f', did you mean {near[0]}?' if near else ';'} "
            f"known: {', '.join(known)}; or give the path of a file, such as configs/lump.py"
        )
    return f"{path}{colon}{argument}"


def _replaced(argv: Sequence[str], recipe: str) -> list[str]:
    """Returns the arguments with --config=`recipe` in place of the recipe that they give, in either form."""
    place = next(place for place, word in enumerate(argv) if re.match("--?config(=|$)", word))
    return [*argv[:place], f"--config={recipe}", *argv[place + (1 if "=" in argv[place] else 2) :]]


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
