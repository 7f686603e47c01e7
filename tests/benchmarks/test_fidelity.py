"""Tests the ledgers: which runs they need, that these are trained and kept, and the tables made of pretended ones."""

import json
import sys

import numpy as np
import pytest
from scipy import stats

from benchmarks import fidelity, performance
from benchmarks.fidelity import LEDGERS, Choice, Ledger
from tests import pretended, run_results
from ucl_jax.errors import UsageError
from ucl_jax.reproduce import plan, studies
from ucl_jax.reproduce.plan import config_of, saved_results

ALPHA = Choice("27", "lump", "barlow_twins", {"method.alpha": "0.4"})
TARGET = Choice("9", "der", "barlow_twins", {"method.target": "output"})
FORM = Choice("8", "si", "supervised", {"method.form": "overwrite"})
SMALL = Ledger("cifar10_16px", 5, (ALPHA, TARGET, FORM))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Gives runs and results an empty folder, and processes that only pretend to train."""
    (tmp_path / "train.py").write_text(pretended.TRAIN)
    monkeypatch.setattr(plan, "TRAIN", (sys.executable, str(tmp_path / "train.py")))
    monkeypatch.setattr(fidelity, "ROOT", tmp_path)
    monkeypatch.setattr(fidelity, "RESULTS", tmp_path / "results")
    monkeypatch.setitem(fidelity.LEDGERS, "cifar10_16px", SMALL)
    return tmp_path


@pytest.mark.parametrize("ledger", LEDGERS.values(), ids=LEDGERS)
def test_the_planned_runs_of_a_ledger_differ_and_can_be_trained(ledger):
    """Checks also that what is kept counts as finished runs of the ledger, and that no default is kept twice."""
    runs = {run.name: run for run in fidelity.planned(ledger, 10)}
    assert len(runs) == 10 * len({name for choice in ledger.choices for name in (choice.default, choice.name)})
    assert len({json.dumps(config_of(run), sort_keys=True) for run in runs.values()}) == len(runs)
    for choice in ledger.choices:
        assert choice.recipe in studies.ROWS[choice.objective] + studies.EXTRA_ROWS[choice.objective]
    kept, defaults = fidelity.RESULTS / ledger.study, fidelity.RESULTS / ledger.defaults
    names = {path.stem for path in kept.glob("*.json")}
    assert names <= runs.keys() - {path.stem for path in defaults.glob("*.json")}
    assert all(saved_results(runs[name], kept).finished for name in names)
    assert fidelity._diverged(ledger).keys() <= runs.keys() - names


def test_a_seed_has_each_default_once_and_before_its_other_choices(folder):
    ledger = SMALL._replace(choices=(ALPHA, ALPHA._replace(overrides={"method.mix_per": "example"}), TARGET))
    runs = fidelity.planned(ledger, 2, overrides=(("train.epochs", "1"),))
    assert [run.name for run in runs[:5]] == [
        "lump-barlow_twins-seed0",
        "lump-barlow_twins-alpha_0.4-seed0",
        "lump-barlow_twins-mix_per_example-seed0",
        "der-barlow_twins-seed0",
        "der-barlow_twins-target_output-seed0",
    ]
    assert [run.seed for run in runs] == [0] * 5 + [1] * 5
    default, other = runs[:2]
    assert default.folder == folder / "runs/reproduce/cifar10_16px" / default.name
    assert other.folder == folder / "runs/fidelity-cifar10_16px" / other.name
    assert default.overrides == (("train.epochs", "1"),)
    assert other.overrides == (("method.alpha", "0.4"), ("train.epochs", "1"))
    assert {run.name for run in fidelity.planned(ledger, 2, only="target")} == {
        f"der-barlow_twins{end}-seed{seed}" for end in ("", "-target_output") for seed in (0, 1)
    }


def test_missing_runs_are_trained_and_kept(folder, capsys):
    """Checks that defaults of Table 1 are not trained again, and that each benchmark has its record of divergence."""
    table1, kept = folder / "results/table1-cifar10_16px", folder / "results/fidelity-cifar10_16px"
    table1.mkdir(parents=True)
    run_results.save(table1 / "lump-barlow_twins-seed0.json")
    arguments = ["--benchmark=cifar10_16px", "--seeds=2", "--jobs=2", "--override=train.weight_decay=0.25"]
    assert fidelity.main([*arguments, "--dry-run"]) == 0
    assert "11 runs: 0 finished, 11 to run" in capsys.readouterr().out
    assert fidelity.main(arguments) == 1
    failure = "failed: cifar10_16px/si-supervised-form_overwrite-seed0: error: no luck with si"
    assert failure in capsys.readouterr().out
    names = {f"si-supervised{end}-seed{seed}": seed for end in ("", "-form_overwrite") for seed in (0, 1)}
    diverged = {name: {"task": 1, "step": 7 + seed} for name, seed in names.items()}
    assert json.loads((folder / "results/fidelity-cifar10_16px-diverged.json").read_text()) == diverged
    names = ("lump-barlow_twins", "lump-barlow_twins-alpha_0.4", "der-barlow_twins", "der-barlow_twins-target_output")
    others = {f"{name}-seed{seed}" for name in names for seed in (0, 1)} - {"lump-barlow_twins-seed0"}
    assert {path.stem for path in kept.iterdir()} == others
    told = (folder / "runs/fidelity-cifar10_16px/der-barlow_twins-target_output-seed1/output.txt").read_text()
    flags = "--config.seed=1 --config.method.target=output --config.train.weight_decay=0.25"
    assert f"--config=der:cifar10_16px,barlow_twins {flags} " in told
    assert fidelity.main([*arguments, "--only=target"]) == 0
    assert "4 runs: 4 finished, 0 to run" in capsys.readouterr().out


def test_a_run_that_diverges_no_more_is_struck_off(folder):
    arguments = ["--benchmark=cifar10_16px", "--seeds=1", "--jobs=1", "--only=form"]
    assert fidelity.main([*arguments, "--override=train.weight_decay=0.25"]) == 1
    record = folder / "results/fidelity-cifar10_16px-diverged.json"
    assert len(json.loads(record.read_text())) == 2
    assert fidelity.main(arguments) == 0
    assert json.loads(record.read_text()) == {}


def save(study, choice, seeds, accuracies, other, width=16):
    """Saves runs of the default or of the other choice, with accuracies [2, seeds] within the task and over all."""
    folder = fidelity.RESULTS / study
    folder.mkdir(parents=True, exist_ok=True)
    for seed, task, whole in zip(seeds, *accuracies):
        run_results.save(
            folder / f"{choice.name if other else choice.default}-seed{seed}.json",
            choice.recipe,
            objective=choice.objective,
            benchmark="cifar10_16px",
            seed=seed,
            probes={
                name: run_results.probe([[95.0, None], [last - 1, last + 1]])
                for name, last in (("knn_task", float(task)), ("knn_all", float(whole)))
            },
            settings={"model.width": width, **dict.fromkeys(choice.overrides, "other" if other else "default")},
        )


def test_the_table_of_a_ledger_compares_seed_by_seed(folder):
    """Checks numbers, intervals and verdicts by SciPy's paired t test, from defaults that two studies have."""
    before = np.random.default_rng(0).uniform(60, 80, (2, 5))
    after = before + np.random.default_rng(1).normal([[3.0], [0.0]], 1.0, (2, 5))
    table1, kept = "table1-cifar10_16px", "fidelity-cifar10_16px"
    save(table1, ALPHA, (0, 1, 2), before[:, :3], other=False)
    save(kept, ALPHA, (3, 4), before[:, 3:], other=False)
    save(kept, ALPHA, (2,), [[1.0], [1.0]], other=False)  # Table 1 has this seed
    save(kept, ALPHA, (0, 1, 2, 3, 4), after, other=True)
    save(table1, TARGET, (1, 2, 4), before[:, :3], other=False)
    save(kept, TARGET, (0, 1, 2), after[:, :3], other=True)
    SMALL.diverged.write_text(json.dumps({"si-supervised-form_overwrite-seed0": {"task": 1, "step": 7}}))
    lines = fidelity.table(SMALL).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]
    assert [row[:5] for row in rows] == [
        ["27", "lump, barlow_twins", "`method.alpha=0.4`", "5", "task"],
        ["", "", "", "", "all"],
        ["9", "der, barlow_twins", "`method.target=output`", "2 of 5", "task"],
        ["", "", "", "", "all"],
        ["8", "si, supervised", "`method.form=overwrite`", "0 of 5", "-"],
    ]
    assert rows[-1][5:] == ["-"] * 8
    # DER's seeds 1 and 2 have both choices: the first two of its defaults, the last two of the others.
    pairs = [(before, after), (before[:, :2], after[:, 1:3])]
    verdicts = []
    for row, (one, other) in zip(rows, [(x[probe], y[probe]) for x, y in pairs for probe in (0, 1)]):
        columns = (one, 96 - one, other, 96 - other)
        assert row[5:9] == [f"{values.mean():.2f}±{values.std(ddof=1):.2f}" for values in columns]
        found = stats.ttest_rel(other, one)
        low, high = found.confidence_interval(0.95)
        verdicts.append("yes" if found.pvalue > 0.05 else "no")
        mean = (other - one).mean()
        assert row[9:11] == [f"{mean:+.2f} ({low:+.2f} to {high:+.2f})", verdicts[-1]]
        assert row[11:13] == [f"{-mean:+.2f} ({-high:+.2f} to {-low:+.2f})", verdicts[-1]]
    assert set(verdicts) == {"yes", "no"}
    told = [line for line in lines if line and not line.startswith("|")]
    assert told[0] == "Diverged: `si-supervised-form_overwrite-seed0` (task 2, step 7)."
    assert told[1].startswith("`python -m benchmarks.fidelity --benchmark=cifar10_16px`; runs: 14, n = 2 to 5, ")


def test_a_single_pair_has_neither_interval_nor_verdict(folder):
    for study, other in ((SMALL.defaults, False), (SMALL.study, True)):
        save(study, ALPHA, (0,), [[70.0 + other], [60.0]], other=other)
    (row, *_) = [line for line in fidelity.table(SMALL).splitlines() if "alpha" in line]
    assert [cell.strip() for cell in row.strip("|").split("|")][3:] == [
        *("1 of 5", "task", "70.00", "26.00", "71.00", "25.00", "+1.00", "-", "-1.00", "-")
    ]


def test_without_a_pair_nothing_is_measured_yet(folder):
    assert fidelity.table(SMALL) == performance.MISSING
    save(SMALL.study, ALPHA, (0,), [[70.0], [60.0]], other=True)
    assert fidelity.table(SMALL) == performance.MISSING


def test_runs_that_differ_in_more_than_the_choice_are_refused(folder):
    save(SMALL.defaults, ALPHA, (0,), [[70.0], [60.0]], other=False)
    save(SMALL.study, ALPHA, (0,), [[70.0], [60.0]], other=True, width=8)
    with pytest.raises(UsageError, match=r"model\.width \(16, 8\)"):
        fidelity.table(SMALL)


def test_bad_input_of_fidelity_ends_with_one_line_and_exit_code_2(capsys):
    for word in ("--sedes=2", "--benchmark=cifar11"):
        assert fidelity.main([word]) == 2
        error = capsys.readouterr().err
        assert word.rpartition("=")[2] in error
        assert error.count("\n") == 1
