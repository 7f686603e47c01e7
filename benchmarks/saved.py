"""Reads the studies whose results are kept in benchmarks/results, and says where they come from.

A study is made by its command in COMMANDS. With `--save=benchmarks/results/STUDY` its results are kept.
"""

import collections
from collections.abc import Iterable, Sequence

from benchmarks.measure import RESULTS
from ucl_jax.results import compare
from ucl_jax.results.load import load_results
from ucl_jax.results.schema import RunResult

# Study, which is a folder of RESULTS -> the command that makes it.
COMMANDS = {
    "demo-digits": "bash benchmarks/demo_seeds.sh",
    "demo-digits-two-threads": "bash benchmarks/demo_seeds.sh --jobs=1 --recipes=finetune,lump,multitask",
    "table1-digits": "python -m ucl_jax.reproduce table1 --benchmarks=digits --recipes=all",
    "table1-cifar10_16px": "bash benchmarks/cifar_16px.sh cifar10_16px",
    "methods-cifar10_16px": "python -m ucl_jax.reproduce table1 --benchmarks=cifar10_16px --recipes=all --seeds=1 "
    "--objectives=simsiam,barlow_twins,simclr,byol,vicreg",
    "table1-cifar100_16px": "bash benchmarks/cifar_16px.sh cifar100_16px --override=eval.tasks=seen",
    "table1-cifar100": "python -m ucl_jax.reproduce table1 --benchmarks=cifar100 --objectives=simsiam --recipes=lump "
    "--seeds=1 --override=model.dtype=bfloat16",
    "streams-cifar10_16px": "python -m ucl_jax.reproduce streams --benchmarks=cifar10_16px --objectives=barlow_twins "
    "--seeds=3 --override=stream.updates_per_batch=5",
}


def load(study: str) -> list[RunResult]:
    """Returns every result of a study, in the order of their names; none if there is no such folder."""
    return [load_results(path) for path in sorted((RESULTS / study).glob("*.json"))]


def provenance(command: str, runs: Sequence[RunResult]) -> str:
    """Returns a line about some results that a command made, at least one.

    It has the command, the numbers of runs and of seeds, the time of all runs together, and the devices, versions and
    commits, of which the most frequent come first. Runs that differ in their seed alone count as one n.
    """
    seeds = sorted(len(group.runs) for group in compare.groups_of(runs))
    n = f"{seeds[0]}" if seeds[0] == seeds[-1] else f"{seeds[0]} to {seeds[-1]}"
    hours = sum(run.seconds for run in runs) / 3600
    where = [" and ".join(_distinct(run.device for run in runs))]
    for name, title in (("python", "Python"), ("jax", "JAX")):
        where.append(f"{title} {' and '.join(_distinct(run.versions.get(name, 'unknown') for run in runs))}")
    commits = _distinct(_commit(run) for run in runs)
    where.append(f"commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}")
    return f"`{command}`; runs: {len(runs)}, n = {n}, {hours:.1f} hours in all; {', '.join(where)}."


def _commit(run: RunResult) -> str:
    """Returns the first ten digits of a run's commit, and whether files were changed."""
    commit, _, changes = (run.commit or "unknown").partition("+")
    return commit[:10] + (" with changes" if changes else "")


def _distinct(words: Iterable[str]) -> list[str]:
    """Returns words without repetition, the most frequent first."""
    return [word for word, _ in collections.Counter(words).most_common()]
