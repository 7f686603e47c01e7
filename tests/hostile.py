"""Draws hostile overrides of settings, and judges what the command line makes of them."""

import contextlib
import functools
import importlib
import io
import math
import pathlib
import random
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from tests import tiny
from ucl_jax import cli, recipes, settings
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import UsageError
from ucl_jax.objectives import OBJECTIVES

ROOT = pathlib.Path(__file__).parent.parent
VALUES = (
    *("inf", "-inf", "nan", "-1", "0", "-0.0", "1e-300", "1e300", "1e999", "1e30", "1" + "0" * 30, "9" * 5000),
    *("2147483647", "2147483648", "9223372036854775808", "-9223372036854775809"),
    *("", " ", "None", "True", "FALSE", "maybe", "--", "=", "/", "../../etc", "~nobody-here", "%s%n"),
    *("()", "(1,)", "(0.5,)", "(1,2,3,4,5)", "((1,2),3)", "(1,'a')", "(nan,nan)", "('0.2','1.0')", "(1e999,1)"),
    *("(9,9,9,9)", "(0.9,0.1)", "[0.2,1.0]", "{'a': 1}", "(0,0,0)", "(1e300,1e300,1e300)", "(-1,-1,-1,-1)"),
    *("(None,None)", "(True,True,True)", "(" * 2000, "a" * 10000, "a\nb", "\x1b[31m"),
    *("ünïcødé 日本", "\u202e\u200b", "😀", "٣", "²"),
    *("1_000", "0x10", "1e3", "1.5", "1", "0.5", "3", "64"),
)


class Override(NamedTuple):
    """Holds one override: `--config=configs/<recipe>.py:<arg> --config.<key>=<value>`."""

    recipe: str
    arg: str
    key: str
    value: str


@functools.cache
def defaults(recipe: str, arg: str) -> dict[str, Any]:
    """Returns the settings of a recipe as "section.key" -> value."""
    return settings.flatten(importlib.import_module(f"configs.{recipe}").get_config(arg).to_dict())


def draw(count: int, seed: int) -> Iterator[Override]:
    """Yields `count` overrides by a seed, over all keys of all recipes."""
    rng = random.Random(seed)
    for _ in range(count):
        recipe, arg = rng.choice(tiny.RECIPES), f"{rng.choice(list(BENCHMARKS))},{rng.choice(list(OBJECTIVES))}"
        key = rng.choice(sorted(defaults(recipe, arg)))
        yield Override(recipe, arg, key, rng.choice((*VALUES, str(defaults(recipe, arg)[key]).swapcase())))


def judge(override: Override) -> tuple[str, ConfigDict | None]:
    """Reads an override as launch.py does.

    Returns:
      What was wrong with the answer, and the config if it was accepted. Nothing is wrong, "", where the override was
      refused by one line that names its key and exit code 2, or where it was accepted and makes sense.
    """
    recipe, arg, key, value = override
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        try:
            config = recipes.read_config([f"--config={ROOT}/configs/{recipe}.py:{arg}", f"--config.{key}={value}"])
        except UsageError as error:
            code, config = cli.report(error), None
    line = told.getvalue()
    if config is not None:
        accepted = settings.flatten(config.to_dict())[key]
        good = not line and sensible(accepted, defaults(recipe, arg)[key])
        return "" if good else f"{key}={accepted!r} was accepted; {line}", config
    good = code == 2 and len(line) < 400 and len(line.splitlines()) == 1
    named = re.search(rf"\bconfig\.{re.escape(key)}\b", line) is not None
    return "" if good and named else f"exit code {code}: {line}", None


def sensible(value: Any, default: Any) -> bool:
    """Tells, without the table, whether a value has the type of the default and a size that a person could mean."""

    def number(x, most):
        return type(x) in (int, float) and math.isfinite(x) and abs(x) <= most

    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int):
        return type(value) is int and number(value, 2**31 - 1)
    if isinstance(default, float):
        return number(value, 1e6)
    if isinstance(default, tuple):
        return len(value) in (len(default), 1) and all(number(x, 10) for x in value)  # one may stand for two views
    return value.isprintable() and len(value) <= 4096 and bool(value.strip() or not default or "cache" in default)
