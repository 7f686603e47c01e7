"""Reads golden.json, values that the released codes of other methods give on random inputs.

Each case names repository, commit and file of its source. Inputs are drawn as `input_rule` of the file says.
"""

import functools
import json
import pathlib
from typing import Any

import numpy as np


@functools.cache
def _file() -> dict[str, Any]:
    return json.loads((pathlib.Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))


def case(name: str) -> dict[str, Any]:
    """Returns a case: its "settings", its "expected" values, and its "inputs" by name, as float64 arrays."""
    found = next(one for one in _file()["cases"] if one["name"] == name)
    return found | {"inputs": {key: _drawn(**rule) for key, rule in found["inputs"].items()}}


def class_order(name: str) -> list[int]:
    """Returns a class order of the file."""
    return _file()["class_orders"][name]


def _drawn(seed, shape, scale=1.0, shift=0.0, unit=None):
    drawn = np.random.RandomState(seed).standard_normal(shape) * scale + shift
    return drawn if unit is None else drawn / np.linalg.norm(drawn, axis=unit, keepdims=True)
