"""Tests what is said about the studies whose results are kept, and the tables made of pretended ones."""

import pathlib
import subprocess

import numpy as np
import pytest

from benchmarks import fidelity, performance, saved, tables
from tests import run_results
from ucl_jax.reproduce import __main__ as reproduce
from ucl_jax.reproduce import studies
from ucl_jax.reproduce.plan import saved_results

ROOT = pathlib.Path(saved.__file__).parent.parent
COMMAND = "python -m ucl_jax.reproduce"


def calls(command):
    """Returns the arguments of each call of Python that a study's command makes; nothing is run."""
    line = command.replace("python ", "echo ", 1) if command.startswith("python ") else command
    told = subprocess.check_output(line, shell=True, cwd=ROOT, env={"PYTHON": "echo"}, text=True)
    return [each.split() for each in told.splitlines()]


@pytest.mark.parametrize("study", saved.COMMANDS)
def test_saved_results_are_those_of_their_command(study):
    """Checks that results in benchmarks/results count as finished runs, so that nobody trains them again."""
    plan = {}
    for module, name, *words in calls(saved.COMMANDS[study]):
        assert (module, name) == ("-m", "ucl_jax.reproduce")
        command = reproduce.parse(words)
        planned = studies.STUDIES[command.study].plan(command.options, *command.benchmarks)
        plan |= {run.name: run for run in planned}
    kept = saved.RESULTS / study
    assert plan
    assert {path.stem for path in kept.glob("*.json")} <= plan.keys()
    for path in kept.glob("*.json"):
        assert saved_results(plan[path.stem], kept).finished


def test_every_folder_of_results_has_its_command():
    known = {*saved.COMMANDS, *(ledger.study for ledger in fidelity.LEDGERS.values())}
    assert {path.name for path in saved.RESULTS.iterdir() if path.is_dir()} <= known


def test_the_line_below_a_table_is_read_from_the_results():
    facts = {"device": "a machine", "versions": {"python": "3.11.7", "jax": "0.10.2"}, "commit": 40 * "a"}
    runs = [run_results.result(seed=seed, seconds=1800.0, **facts) for seed in range(3)]
    told = saved.provenance(COMMAND, runs)
    assert told == (
        f"`{COMMAND}`; runs: 3, n = 3, 1.5 hours in all; a machine, Python 3.11.7, JAX 0.10.2, commit aaaaaaaaaa."
    )
    other = facts | {"device": "another", "commit": "0123456789abcdef+changes", "versions": {"python": "3.12.3"}}
    runs += [run_results.result("finetune", seed=seed, seconds=900.0, **other) for seed in range(2)]
    assert saved.provenance(COMMAND, runs).split("; ", 1)[1] == (
        "runs: 5, n = 2 to 3, 2.0 hours in all; a machine and another, Python 3.11.7 and 3.12.3, "
        "JAX 0.10.2 and unknown, commits aaaaaaaaaa, 0123456789 with changes."
    )


def cells(text):
    """Returns the rows of a Markdown table, and the lines below it."""
    lines = text.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [rows[0], *rows[2:]], [line for line in lines if line and not line.startswith("|")]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Writes a part of a study: LUMP has three seeds, finetune two, joint training one; the rest is missing."""
    monkeypatch.setattr(saved, "RESULTS", tmp_path)
    folder = tmp_path / "table1-cifar100_16px"
    folder.mkdir()
    accuracy = np.random.default_rng(0).uniform(50, 90, (3, 3)).round(2)
    for place, (recipe, seeds) in enumerate({"lump": 3, "finetune": 2, "multitask": 1}.items()):
        for seed in range(seeds):
            last = float(accuracy[place, seed])
            matrix = [[last, last]] if recipe == "multitask" else [[95.0, None], [last - 1, last + 1]]
            run_results.save(
                folder / f"{recipe}-simsiam-seed{seed}.json",
                recipe,
                matrix,
                seed=seed,
                benchmark="cifar100_16px",
                joint=recipe == "multitask",
            )
    return accuracy


def test_tables_without_results_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(saved, "RESULTS", tmp_path)
    made = [*saved.COMMANDS, *(f"pairs-{study}" for study in saved.COMMANDS), "learned-digits", "summary", "claims"]
    assert {tables.TABLES[name]() for name in made} == {performance.MISSING}


def test_pairs_have_at_least_two_seeds(results):
    (_, *rows), (line,) = cells(tables.TABLES["pairs-table1-cifar100_16px"]())
    assert [row[1:3] for row in rows] == [
        ["finetune", "untrained network"],
        ["lump", "untrained network"],
        ["lump", "finetune"],
    ]
    difference = (results[0] - results[1])[:2]
    half = 12.7062 * difference.std(ddof=1) / 2**0.5  # Student's t with one degree of freedom
    mean = difference.mean()
    assert rows[2][3] == f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"
    assert "runs: 6, n = 1 to 3, " in line


def test_a_single_seed_makes_no_table_of_pairs(results, tmp_path):
    for path in tmp_path.rglob("*-seed[12].json"):
        path.unlink()
    assert tables.TABLES["pairs-table1-cifar100_16px"]() == performance.MISSING
    assert tables.TABLES["table1-cifar100_16px"]() != performance.MISSING


def test_the_summary_has_a_column_for_each_objective_and_number(results, tmp_path):
    (header, *rows), _ = cells(tables.TABLES["summary"]())
    assert header == ["recipe", "simsiam, within the task", "simsiam, forgetting", "simsiam, over all classes"]
    lump, finetune, joint = results
    told, lost = {}, {}
    for name, own in (("lump", lump), ("finetune", finetune[:2])):
        deviation = own.std(ddof=1)
        told[name], lost[name] = f"{own.mean():.2f}±{deviation:.2f}", f"{96 - own.mean():.2f}±{deviation:.2f}"
    assert rows == [
        ["untrained network", "65.00±0.00", "-", "65.00±0.00"],
        ["finetune", told["finetune"], lost["finetune"], told["finetune"]],
        ["lump", told["lump"], lost["lump"], told["lump"]],
        ["multitask", f"{joint[0]:.2f}", "-", f"{joint[0]:.2f}"],
    ]
    path = tmp_path / "table1-cifar100_16px/er-barlow_twins-seed0.json"
    run_results.save(path, "er", objective="barlow_twins", benchmark="cifar100_16px")
    (header, *rows), _ = cells(tables.TABLES["summary"]())
    assert len(header) == 7
    assert rows[2][1:] == ["-", "-", "-", told["lump"], lost["lump"], told["lump"]]
    assert [row[0] for row in rows] == list(tables.SUMMARY)
    assert rows[3][1:4] == ["88.50", "10.00", "88.50"]
