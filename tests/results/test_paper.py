"""Tests the paper's numbers against those in the recipes' docstrings, and against some read by hand from the paper."""

import importlib
import re

import pytest

from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.results.paper import TABLE1, TABLE2, PaperRow, Value

BENCHMARKS_OF_TABLE1 = ("cifar10", "cifar100", "tiny_imagenet")
RECIPES = ("finetune", "pnn", "si", "agem", "gss", "der", "lump", "multitask")


def docstring_rows(recipe):
    """Reads {(benchmark, objective, recipe): PaperRow} from a recipe's docstring."""
    number = r"(\d+\.\d+)±(\d+\.\d+)"
    cell = re.compile(rf"{number}(?: / {number})?")
    found = {}
    for line in importlib.import_module(f"configs.{recipe}").__doc__.splitlines():
        objective = line.split()[0] if line.split() else ""
        if objective in ("supervised", "simsiam", "barlow_twins"):
            for benchmark, match in zip(BENCHMARKS_OF_TABLE1, cell.finditer(line), strict=True):
                a, da, f, df = (None if g is None else float(g) for g in match.groups())
                found[benchmark, objective, recipe] = PaperRow(Value(a, da), None if f is None else Value(f, df))
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_table_1_is_what_the_recipes_say(recipe):
    assert docstring_rows(recipe) == {key: row for key, row in TABLE1.items() if key[2] == recipe}


def test_table_1_has_19_rows_on_three_benchmarks():
    assert len(TABLE1) == 3 * 19
    assert {key[0] for key in TABLE1} == set(BENCHMARKS_OF_TABLE1)
    assert TABLE1["cifar100", "simsiam", "lump"] == PaperRow(Value(82.30, 1.35), Value(4.71, 1.52))
    # Only methods that forget nothing by construction have no number of forgetting.
    assert {key[2] for key, row in TABLE1.items() if row.forgetting is None} == {"pnn", "multitask"}


def test_table_2_has_16_rows_and_four_other_data_sets_each():
    assert len(TABLE2) == 2 * 16
    for (benchmark, objective, recipe), columns in TABLE2.items():
        assert (benchmark, objective, recipe) in TABLE1
        other = "cifar100" if benchmark == "cifar10" else "cifar10"
        assert list(columns) == ["mnist", "fashion_mnist", "svhn_cropped", other]
        assert set(columns) <= set(BENCHMARKS)
    # The corners of the table and one cell in the middle, read by hand from the paper.
    assert TABLE2["cifar10", "supervised", "finetune"]["mnist"] == (86.42, 1.11)
    assert TABLE2["cifar10", "barlow_twins", "multitask"]["cifar100"] == (36.33, 0.29)
    assert TABLE2["cifar100", "supervised", "finetune"]["mnist"] == (75.02, 3.97)
    assert TABLE2["cifar100", "barlow_twins", "multitask"]["cifar10"] == (49.50, 0.38)
    assert TABLE2["cifar10", "simsiam", "lump"]["svhn_cropped"] == (45.18, 1.57)


def test_sums_of_the_tables():
    """Sums of the tables equal those of the paper's text, so that no digit changes unseen."""
    assert sum(row.accuracy.mean for row in TABLE1.values()) == pytest.approx(4397.75, abs=1e-6)
    assert sum(value.mean for columns in TABLE2.values() for value in columns.values()) == pytest.approx(
        7971.36, abs=1e-6
    )
    assert sum(value.deviation for columns in TABLE2.values() for value in columns.values()) == pytest.approx(
        154.91, abs=1e-6
    )
