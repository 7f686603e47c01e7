"""Tests the verdicts about the paper's claims against SciPy's tests and against claims read by hand from the paper."""

import itertools

import numpy as np
import pytest
from scipy import stats

from benchmarks import claims
from tests import run_results

RECIPES = ("finetune", "si", "der", "lump", "multitask")
ROWS = [*itertools.product(("simsiam", "barlow_twins"), RECIPES), ("supervised", "finetune")]


def test_the_papers_means_say_which_row_is_ahead():
    told = {
        (benchmark, objective): [
            claim.words for claim in claims.claims(benchmark, objective) if claim.definition != "first"
        ]
        for benchmark in ("cifar10", "cifar100")
        for objective in ("simsiam", "barlow_twins")
    }
    usual = [
        "lump above finetune",
        "lump forgets less than finetune",
        "lump above der",
        "lump above si",
        "multitask above lump",
        "finetune forgets less than finetune with labels",
    ]
    assert told["cifar100", "simsiam"] == told["cifar100", "barlow_twins"] == told["cifar10", "barlow_twins"] == usual
    assert told["cifar10", "simsiam"] == [*usual[:2], "der above lump", "si above lump", *usual[4:]]


@pytest.mark.parametrize("seeds", [2, 5])
def test_verdicts_are_those_of_paired_t_tests(seeds):
    rng = np.random.default_rng(seeds)
    # Row -> the accuracy on both tasks after learning each; joint training has the last row alone.
    matrices = {row: rng.normal(70 + 5 * place % 17, 2, size=(seeds, 2, 2)).round(2) for place, row in enumerate(ROWS)}
    runs = [
        run_results.result(recipe, matrix[recipe == "multitask" :], seed, objective, joint=recipe == "multitask")
        for (objective, recipe), of_seeds in matrices.items()
        for seed, matrix in reversed(list(enumerate(of_seeds.tolist())))
    ]
    made = claims.table({"cifar10_16px": [], "cifar100_16px": runs}).frame
    assert len(made) == 32
    assert set(made.verdict[made.benchmark == "cifar10_16px"]) == {"not measured"}
    found = made[made.benchmark == "cifar100_16px"].to_dict("records")
    accuracy = {row: values[:, 1].mean(axis=1) for row, values in matrices.items()}
    best = {row: values[:, :, 0].max(axis=1) - values[:, 1, 0] for row, values in matrices.items()}
    first = {row: values[:, 0, 0] - values[:, -1, 0] for row, values in matrices.items()}
    numbers_by = {"accuracy": accuracy, "forgetting (max)": best, "forgetting (first)": first}
    for row in found:
        words, objective = row["the paper's claim"].split(), row["objective"]
        second = ("supervised", words[-3]) if words[-1] == "labels" else (objective, words[-1])
        values = numbers_by[row["by"]]
        assert (row["by"] == "accuracy") == (words[1] == "above")
        test = stats.ttest_rel(values[objective, words[0]], values[second])
        low, high = test.confidence_interval(0.95)
        numbers = [row[name] for name in ("our first - second", "our first - second low", "our first - second high")]
        np.testing.assert_allclose(numbers, [(low + high) / 2, low, high])
        assert row["n"] == seeds
        expected = (test.statistic > 0) == (words[1] == "above")
        assert row["verdict"] == ("not shown" if test.pvalue > 0.05 else "holds" if expected else "reversed")
    verdicts = {row["verdict"] for row in found}
    assert verdicts == ({"holds", "reversed", "not shown"} if seeds == 5 else verdicts)


def test_the_papers_numbers_stand_beside_the_claim():
    made = claims.table({"cifar100_16px": []}).frame
    first, *_ = made[made.objective == "simsiam"].to_dict("records")
    assert [first[name] for name in made if name.startswith("the paper's ")][1:] == [82.30, 1.35, 75.42, 0.78]


def test_a_claim_needs_two_seeds_that_have_both_rows():
    claim = claims.Claim("accuracy", ("simsiam", "lump"), ("simsiam", "finetune"))
    runs = [run_results.result("lump", seed=seed) for seed in (0, 1, 2)]
    assert claims.measured(runs, claim) is None
    runs.append(run_results.result("finetune", seed=2))
    assert claims.measured(runs, claim) is None
    runs.append(run_results.result("finetune", seed=1))
    difference = claims.measured(runs, claim)
    assert (difference.mean, difference.pairs) == (0.0, 2)
    assert claims.verdict(difference, claim.by) == "not shown"  # the interval is 0 alone
