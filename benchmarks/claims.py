"""Judges which claims of the paper hold on CIFAR at 16 pixels, by differences paired by seed.

A claim is that one row of the paper's Table 1 is better than another. Which of the two is, the paper's means say.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ucl_jax.results import compare
from ucl_jax.results.compare import PairedDifference
from ucl_jax.results.paper import TABLE1, Value
from ucl_jax.results.schema import RunResult
from ucl_jax.results.tables import HIGH, LOW, Table, check_seeds, make_frame, with_deviation

# A benchmark here -> that of the paper with whose claims it is compared.
BENCHMARKS = {"cifar10_16px": "cifar10", "cifar100_16px": "cifar100"}
Row = tuple[str, str]  # objective and recipe
Measure = Literal["accuracy", "forgetting"]  # by kNN within the task
HIGHER_IS_BETTER: dict[Measure, bool] = {"accuracy": True, "forgetting": False}
# The definitions of forgetting that a claim is judged by: the paper's, and that of its code.
DEFINITIONS: dict[Measure, tuple[str | None, ...]] = {"accuracy": (None,), "forgetting": ("max", "first")}


class Claim(NamedTuple):
    """A claim of the paper: one row of Table 1 is better than another by a number that both have.

    by: the number.
    better: the row with the better number.
    worse: the other row.
    definition: by which our forgetting is computed; None for accuracy.
    """

    by: Measure
    better: Row
    worse: Row
    definition: str | None = None

    @property
    def words(self) -> str:
        """Returns the claim, such as "lump above finetune"."""
        relation = "above" if HIGHER_IS_BETTER[self.by] else "forgets less than"
        return f"{_words(*self.better)} {relation} {_words(*self.worse)}"


def _words(objective: str, recipe: str) -> str:
    """Returns the words for a row of the objective that the table names, or of training with labels."""
    return f"{recipe} with labels" if objective == "supervised" else recipe


def paper_value(benchmark: str, row: Row, by: Measure) -> Value:
    """Returns the paper's number of a row that has it."""
    return getattr(TABLE1[(benchmark, *row)], by)


def claims(benchmark: str, objective: str) -> list[Claim]:
    """Returns the claims about an objective without labels, on a benchmark of the paper."""
    lump, finetune = (objective, "lump"), (objective, "finetune")
    compared: list[tuple[Measure, Row, Row]] = [
        ("accuracy", lump, finetune),
        ("forgetting", lump, finetune),
        ("accuracy", lump, (objective, "der")),
        ("accuracy", lump, (objective, "si")),
        ("accuracy", lump, (objective, "multitask")),
        ("forgetting", finetune, ("supervised", "finetune")),
    ]
    found = []
    for by, one, other in compared:
        higher = paper_value(benchmark, one, by).mean > paper_value(benchmark, other, by).mean
        ordered = (one, other) if higher == HIGHER_IS_BETTER[by] else (other, one)
        found += [Claim(by, *ordered, definition) for definition in DEFINITIONS[by]]
    return found


def measured(runs: Sequence[RunResult], claim: Claim) -> PairedDifference | None:
    """Returns the difference of a claim's better and worse rows, paired by seed.

    It is None where fewer than two seeds have both rows.
    """
    rows = _by_recipe(runs)
    ours, theirs = (
        compare.by_seed(rows.get(row, []), "knn_task", claim.definition) for row in (claim.better, claim.worse)
    )
    found = compare.paired_difference(ours, theirs)
    return found if found is not None and found.pairs > 1 else None


def _by_recipe(runs: Sequence[RunResult]) -> dict[tuple[str, str], list[RunResult]]:
    """Returns the runs by objective and recipe.

    Raises:
      ValueError: runs of one objective and recipe differ in more than their seed and `eval.forgetting`, or two have one
        seed.
    """
    found: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        found.setdefault((run.objective, run.recipe), []).append(run)
    for members in found.values():
        compare.require_same_config(members, {"eval.forgetting"})
        check_seeds(f"{members[0].recipe} ({members[0].objective})", members)
    return found


def verdict(difference: PairedDifference | None, by: Measure) -> str:
    """Returns what the difference of a claim's better and worse rows says about the claim.

    It holds where the 95 % interval lies on its side of 0, is reversed where it lies on the other side, and is not
    shown where it contains 0.
    """
    if difference is None:
        return "not measured"
    if difference.low <= 0 <= difference.high:
        return "not shown"
    return "holds" if (difference.mean > 0) == HIGHER_IS_BETTER[by] else "reversed"


def table(studies: Mapping[str, Sequence[RunResult]]) -> Table:
    """Makes the table of the claims: the paper's numbers, our difference with its interval, and the verdict.

    Args:
      studies: a key of BENCHMARKS -> the runs on it, some of Table 1's rows.

    Raises:
      ValueError: runs of a row differ in more than their seed, or two have one seed.
    """
    rows: list[list[Any]] = []
    for benchmark, runs in studies.items():
        for objective in ("simsiam", "barlow_twins"):
            for claim in claims(BENCHMARKS[benchmark], objective):
                values = [paper_value(BENCHMARKS[benchmark], row, claim.by) for row in (claim.better, claim.worse)]
                found = measured(runs, claim)
                numbers = [None] * 4 if found is None else [found.mean, found.low, found.high, found.pairs]
                by = f"{claim.by} ({claim.definition})" if claim.definition else claim.by
                words = [benchmark, objective, claim.words, by]
                rows.append([*words, *values[0], *values[1], *numbers, verdict(found, claim.by)])
    names = ["benchmark", "objective", "the paper's claim", "by"]
    paper = with_deviation("the paper's first", "the paper's second")
    difference = "our first - second"
    frame = make_frame([*names, *paper, difference, difference + LOW, difference + HIGH, "n", "verdict"], rows)
    return Table("", frame, words=len(names), formats={difference: "+.2f"})
