"""Tests how runs are compared with each other and with the paper."""

import pytest

from tests import run_results
from ucl_jax.results import compare
from ucl_jax.results.paper import Value


def test_within_the_spread_is_decided_in_one_place():
    paper = Value(90.0, 0.5)
    assert compare.compare_with_paper([90.5], paper).within
    assert not compare.compare_with_paper([90.51], paper).within
    # Runs of 91 and 92 have the mean 91.5 and the deviation sqrt(0.5). 1.5 exceeds 0.5 + 0.707, but not 0.8 + 0.707.
    assert not compare.compare_with_paper([91.0, 92.0], paper).within
    assert compare.compare_with_paper([91.0, 92.0], Value(90.0, 0.8)).within
    assert compare.compare_with_paper([None], paper) is None
    assert compare.compare_with_paper([90.0], None) is None


def test_runs_that_differ_in_more_than_their_seed_are_not_averaged():
    runs = [run_results.result(seed=seed, settings={"train.epochs": 40}) for seed in (0, 1)]
    compare.require_same_config(runs)
    runs.append(run_results.result(seed=2, settings={"train.epochs": 60}))
    with pytest.raises(ValueError, match=r"runs of lump .* differ in train\.epochs \(40, 40, 60\)"):
        compare.require_same_config(runs, {"train.batch_size"})
    compare.require_same_config(runs, {"train.epochs"})
