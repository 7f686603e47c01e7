"""Studies: what is run, what is left out, and that the pages show what the saved results say."""

import pathlib

import pytest

from benchmarks import fidelity, tables
from ucl_jax import cells, reproduce, studies
from ucl_jax.errors import UsageError
from ucl_jax.tables import require_same_config

ROOT = pathlib.Path(fidelity.__file__).parent.parent
PAPER = [("supervised", 7), ("simsiam", 6), ("barlow_twins", 6)]  # rows of Table 1


def test_the_rows_are_those_of_table_1():
    assert [(objective, len(studies.ROWS[objective])) for objective, _ in PAPER] == PAPER
    for objective in studies.ROWS:
        assert not set(studies.ROWS[objective]) & set(studies.MORE[objective])
    recipes = {recipe for rows in (studies.ROWS, studies.MORE) for row in rows.values() for recipe in row}
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
        assert choice.recipe in studies.ROWS[choice.objective] + studies.MORE[choice.objective]


def test_runs_that_differ_in_more_than_their_seed_are_not_averaged():
    runs = [
        {"config": {"recipe": "lump", "seed": seed, "objective": {"name": "simsiam"}, "train": {"epochs": 40}}}
        for seed in (0, 1)
    ]
    require_same_config(runs)
    runs.append({"config": runs[0]["config"] | {"seed": 2, "train": {"epochs": 60}}})
    with pytest.raises(UsageError, match=r"runs of lump .* differ in train\.epochs \(40, 40, 60\)"):
        require_same_config(runs, {"train.batch_size"})
    require_same_config(runs, {"train.epochs"})


def test_saved_results_are_those_of_their_commands():
    """What benchmarks/results holds counts as finished, so that nobody trains it again."""
    kept = fidelity.RESULTS / "table1-digits"
    given = reproduce.parse(["table1", "--recipes=all"])
    named = {cell.name: cell for cell in studies.STUDIES["table1"].cells(given, "digits")}
    assert {path.stem for path in kept.glob("*.json")} <= named.keys()
    for path in kept.glob("*.json"):
        assert cells.saved_results(named[path.stem], kept)["finished"]


def test_the_other_choices_run_and_are_kept(tmp_path, monkeypatch, capsys):
    """Real processes, of a launch.py that only pretends to train."""
    (tmp_path / "launch.py").write_text(
        "import json, pathlib, sys\n"
        "flags = dict(word.split('=', 1) for word in sys.argv[1:])\n"
        "if '/er.py' in flags['--config']: sys.exit('error: no luck')\n"
        "results = {'finished': True, 'command': ' '.join(sys.argv)}\n"
        "pathlib.Path(flags['--workdir'], 'results.json').write_text(json.dumps(results))\n"
    )
    monkeypatch.setattr(cells, "LAUNCH", tmp_path / "launch.py")
    monkeypatch.setattr(fidelity, "ROOT", tmp_path)
    monkeypatch.setattr(fidelity, "RESULTS", tmp_path / "results")
    some = [choice for choice in fidelity.CHOICES if choice.point in ("9", "11", "24")]
    monkeypatch.setattr(fidelity, "CHOICES", some)
    arguments = ["--seeds=2", "--jobs=2", "--override=train.epochs=3"]
    assert fidelity.main([*arguments, "--dry-run"]) == 0
    assert "6 runs: 0 finished, 6 to run" in capsys.readouterr().out
    assert fidelity.main(arguments) == 1
    assert "failed: digits/er-supervised-replay_view_strong-seed0: error: no luck" in capsys.readouterr().out
    kept = sorted(path.stem for path in (tmp_path / "results/fidelity-digits").iterdir())
    names = ("agem-supervised-replay_from_buffer", "der-barlow_twins-target_output")
    assert kept == [f"{name}-seed{seed}" for name in names for seed in (0, 1)]
    command = (tmp_path / "runs/fidelity-digits/der-barlow_twins-target_output-seed1/output.txt").read_text()
    flags = "--config.seed=1 --config.method.target=output --config.train.epochs=3"
    assert f"--config=configs/der.py:digits,barlow_twins {flags} " in command
    assert fidelity.main([*arguments, "--only=der"]) == 0
    assert "2 runs: 2 finished, 0 to run" in capsys.readouterr().out


def test_bad_input_of_fidelity_is_one_line(capsys):
    with pytest.raises(SystemExit) as left:
        fidelity.main(["--sedes=2"])
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("error: unrecognized arguments: --sedes=2; see python -m benchmarks.fid")


def test_the_readme_shows_a_method_as_it_is():
    assert f"```python\n{(ROOT / 'ucl_jax/methods/er.py').read_text()}```" in (ROOT / "README.md").read_text()
