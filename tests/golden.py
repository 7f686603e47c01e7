"""Reads golden values: what the released implementations give on drawn inputs, in float64.

tests/golden.json names the repository, commit and file of each case, and the rule by which its inputs are drawn. Its
values were made with PyTorch 2.13.0 from that code. Gradients and large arrays are there as the first 8 entries, in C
order, and the Euclidean norm.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

PRECISIONS = ("float32", "float64")
TOLERANCE = {"float32": {"rtol": 1e-5, "atol": 2e-6}, "float64": {"rtol": 1e-9, "atol": 1e-12}}


@functools.cache
def cases():
    """Returns the cases by name."""
    path = pathlib.Path(__file__).with_suffix(".json")
    return {case["name"]: case for case in json.loads(path.read_text())["cases"]}


def draw(seed, shape, scale=1.0, shift=0.0, unit=None):
    """Draws an input in float64; it has length 1 along the axis `unit`."""
    numbers = np.random.RandomState(seed).standard_normal(shape) * scale + shift
    return numbers if unit is None else numbers / np.linalg.norm(numbers, axis=unit, keepdims=True)


def read(name, precision):
    """Returns the inputs of a case as arrays of `precision`, its settings, and what is expected of it."""
    case = cases()[name]
    inputs = {key: jnp.asarray(draw(**rule), precision) for key, rule in case["inputs"].items()}
    return inputs, case["settings"], case["expected"]


def precise(precision):
    """Returns a context in which JAX computes in `precision`."""
    return jax.enable_x64(precision == "float64")


def check_summary(found, expected, precision, name=""):
    """Compares an array with its shape, first entries and norm."""
    assert found.shape == tuple(expected["shape"]), name
    tolerance = TOLERANCE[precision]
    np.testing.assert_allclose(np.ravel(found)[:8], expected["first"], **tolerance, err_msg=name)
    np.testing.assert_allclose(np.linalg.norm(found), expected["norm"], **tolerance, err_msg=name)


def check(loss, inputs, expected, precision):
    """Compares a loss, a function of the inputs by name, and its gradients with what is expected."""
    value, gradients = jax.jit(jax.value_and_grad(loss))(inputs)
    assert value.dtype == precision
    np.testing.assert_allclose(value, expected["loss"], **TOLERANCE[precision])
    for name, summary in expected["gradient"].items():
        check_summary(gradients[name], summary, precision, name)
