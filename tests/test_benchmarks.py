"""Studies: what is run, what is left out, and that the pages show what the saved results say."""

import json
import pathlib

import pytest

from benchmarks import fidelity, runner, table1, tables
from ucl_jax import report
from ucl_jax.errors import UsageError

ROOT = pathlib.Path(runner.__file__).parent.parent
PAPER = [("supervised", 7), ("simsiam", 6), ("barlow_twins", 6)]  # rows of Table 1


def test_the_rows_are_those_of_table_1():
    assert [(objective, len(table1.ROWS[objective])) for objective, _ in PAPER] == PAPER
    for objective in table1.ROWS:
        assert not set(table1.ROWS[objective]) & set(table1.MORE[objective])
    recipes = {recipe for rows in (table1.ROWS, table1.MORE) for row in rows.values() for recipe in row}
    assert (
        recipes == set(tables.METHODS) == {path.stem for path in (ROOT / "configs").glob("*.py")} - {"base", "__init__"}
    )


@pytest.mark.parametrize("name", tables.PAGES)
def test_pages_show_what_the_saved_results_say(name):
    page = (ROOT / name).read_text()
    assert "<!-- table " in page
    assert tables.filled(page) == page, "run python -m benchmarks.tables"


def test_tables_come_from_the_files(tmp_path, monkeypatch):
    page = "a\n<!-- table one -->\nold\n<!-- end -->\nb\n<!-- table two -->\n<!-- end -->\n"
    monkeypatch.setattr(tables, "TABLES", {"one": lambda: "new", "two": lambda: "2"})
    assert tables.filled(page) == "a\n<!-- table one -->\nnew\n<!-- end -->\nb\n<!-- table two -->\n2\n<!-- end -->\n"


def test_fidelity_names_are_different_and_its_recipes_exist():
    names = [choice.name(seed) for choice in fidelity.CHOICES for seed in range(3)]
    assert len(set(names)) == len(names)
    for choice in fidelity.CHOICES:
        assert choice.recipe in table1.ROWS[choice.objective] + table1.MORE[choice.objective]


def test_runs_that_differ_in_more_than_their_seed_are_not_averaged():
    runs = [
        {"config": {"recipe": "lump", "seed": seed, "objective": {"name": "simsiam"}, "train": {"epochs": 40}}}
        for seed in (0, 1)
    ]
    report.require_same_config(runs)
    runs.append({"config": runs[0]["config"] | {"seed": 2, "train": {"epochs": 60}}})
    with pytest.raises(UsageError, match=r"runs of lump .* differ in train\.epochs \(40, 40, 60\)"):
        report.require_same_config(runs, {"train.batch_size"})
    report.require_same_config(runs, {"train.epochs"})


def test_what_has_results_is_not_run_and_a_failure_is_told(tmp_path, monkeypatch, capsys):
    """Real processes, of a launch.py that only pretends to train."""
    (tmp_path / "launch.py").write_text(
        "import json, pathlib, sys\n"
        "flags = dict(word.split('=', 1) for word in sys.argv[1:])\n"
        "if 'bad' in flags['--config']: sys.exit(2)\n"
        "flags['command'] = ' '.join(sys.argv)\n"
        "pathlib.Path(flags['--workdir'], 'results.json').write_text(json.dumps(flags))\n"
    )
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "benchmarks/results")
    given = runner.make_parser("").parse_args(["--jobs=2", "--override=a.b=1"])
    cells = [
        runner.Cell(f"{name}-{seed}", name, "digits", seed, ("c=d",)) for name in ("good", "bad") for seed in (0, 1)
    ]
    assert runner.run_all("study", cells, given) == 1
    told = capsys.readouterr().out
    assert "4 cells, 4 to run" in told
    assert "failed: bad-0" in told
    saved = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "benchmarks/results/study").iterdir()}
    assert set(saved) == {"good-0", "good-1"}
    flags = saved["good-1"]
    assert flags["--config"] == "configs/good.py:digits"
    assert [flags[f"--config.{key}"] for key in ("seed", "c", "a.b")] == ["1", "d", "1"]
    runner.run_all("study", cells, given)
    assert "4 cells, 2 to run" in capsys.readouterr().out
    # What is saved counts for the same overrides only; how a run is logged changes no number.
    given.override = ["a.b=1", "log.tensorboard=False"]
    assert runner.run_all("study", cells[:1], given) == 0
    given.override = ["a.b=2"]
    assert runner.run_all("study", cells, given) == 2
    assert "good-0.json is of other overrides" in capsys.readouterr().err


def test_the_readme_shows_a_method_as_it_is():
    assert f"```python\n{(ROOT / 'ucl_jax/methods/er.py').read_text()}```" in (ROOT / "README.md").read_text()
