"""Tests studies: what is run, what is left out, and that the pages show what the saved results say."""

import json
import pathlib
import re
import subprocess

import pytest

from benchmarks import measure, performance, profile_step, saved, tables
from configs.protocols import PROTOCOLS
from configs.streams import STREAMS
from ucl_jax import recipes
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.probes import PROBES
from ucl_jax.reproduce import studies
from ucl_jax.settings import OBJECTIVE_SETTINGS

ROOT = pathlib.Path(tables.__file__).parent.parent
PAPER = [("supervised", 7), ("simsiam", 6), ("barlow_twins", 6)]  # the number of rows in Table 1


def test_the_rows_are_those_of_table_1():
    assert [(objective, len(studies.ROWS[objective])) for objective, _ in PAPER] == PAPER
    for objective, rows in studies.ROWS.items():
        others = studies.EXTRA_ROWS[objective], studies.IMPOSSIBLE.get(objective, ())
        assert sorted([*rows, *others[0], *others[1]]) == recipes.names()


def test_each_probe_has_a_row_on_its_page():
    """Checks docs/runs.md, whose table of probes is written by hand."""
    table = (ROOT / "docs/runs.md").read_text().partition("| probe | what it tells |\n")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(PROBES)


@pytest.mark.parametrize(
    ("row", "known"),
    [
        ("benchmarks", BENCHMARKS),
        ("objectives", OBJECTIVE_SETTINGS),
        ("protocols", PROTOCOLS),
        ("streams", STREAMS),
    ],
)
def test_the_words_of_a_recipe_are_on_the_page(row, known):
    page = (ROOT / "docs/recipes.md").read_text()
    (cells,) = re.findall(rf"^\| {row} \| (.*) \|$", page, re.MULTILINE)
    assert {*known} <= {*re.findall(r"`([a-z0-9_]+)`", cells)}


@pytest.mark.parametrize("name", tables.PAGES)
def test_pages_show_what_the_saved_results_say(name):
    page = (ROOT / name).read_text()
    assert "<!-- table " in page
    assert tables.filled(page) == page, "run python -m benchmarks.tables"


def test_tables_come_from_the_files(tmp_path, monkeypatch):
    page = "a\n<!-- table one -->\nold\n<!-- end -->\nb\n<!-- table two -->\n<!-- end -->\n"
    monkeypatch.setattr(tables, "TABLES", {"one": lambda: "new", "two": lambda: "2"})
    assert tables.filled(page) == "a\n<!-- table one -->\nnew\n<!-- end -->\nb\n<!-- table two -->\n2\n<!-- end -->\n"


def once(value):
    return {"median": value, "least": value, "most": value}


def test_tables_of_performance_say_what_was_measured_and_what_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    assert {make() for make in performance.TABLES.values()} == {performance.MISSING}
    where = {"device": "a machine", "python": "3", "jax": "1", "torch": None}
    where |= {"commit": "0123456789abcdef", "changed": True}
    point = {"value": 8, "seconds": {"median": 0.25, "least": 0.2, "most": 0.5}, "flops": 1e9, "gflops_per_second": 4.0}
    growth = {
        "where": where,
        "settings": {"base": {"batch": 8}, "knn": {"k": 200}},
        "command": "python -m benchmarks.growth",
        "sweeps": {"batch": [point, point | {"value": 16, "seconds": once(0.5), "flops": 2e9}]},
        "bank": [],
    }
    (tmp_path / "growth.json").write_text(json.dumps(growth))
    lines = re.sub(" +", " ", performance.TABLES["growth"]()).splitlines()
    assert lines[2:4] == [
        "| batch size | 8 | 0.250 (0.200..0.500) | 1.00 | 1 | 1.00 | 4 |",
        "| batch size | 16 | 0.500 | 2.00 | 2 | 2.00 | 4 |",
    ]
    machine = "a machine, Python 3, JAX 1, commit 0123456789 with changes."
    assert lines[-1] == f"The others are batch 8; `python -m benchmarks.growth`; {machine}"
    assert performance.TABLES["growth-bank"]() == performance.MISSING  # the measurement was broken off before it


def test_a_ratio_stands_beside_the_program_it_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    steps = {"ours": once(0.5), "torch_plain": once(1.0)}
    result = {
        "steps": {"demo": steps},
        "images_per_second": {"demo": {"ours": once(128.0), "torch_plain": once(64.0)}},
        "ratio_spread": {"demo": {"torch_plain": {"median": 2.0, "least": 1.5, "most": 2.5}}},
        "first_seconds": {"demo": {"ours": 10.0, "torch_plain": 2.0}},
        "programs": {"demo": {"ours": {"mode": "float32"}, "torch_plain": {"mode": "eager"}}},
        "rounds": {"demo": {"ours": [0.5], "torch_plain": [1.0]}},
        "failed": {"demo": {"torch_best": "no compiler"}},
        "parts": {"demo": {}},
        "command": "python -m benchmarks.step ",
        "where": {"device": "a machine", "jax": "1", "commit": "0123"},
    }
    (tmp_path / "step.json").write_text(json.dumps(result))
    lines = re.sub(" +", " ", performance.TABLES["step"]()).splitlines()
    assert lines[2:4] == [
        "| demo | ucl_jax | 0.500 | 128 | - | 10.0 |",
        "| demo | PyTorch, plain | 1.00 | 64 | 2.00 (1.50..2.50) | 2.0 |",
    ]
    assert "`python -m benchmarks.step`; a machine, JAX 1, commit 0123." in lines
    assert lines[-1] == "demo, PyTorch, best could not run: no compiler."
    assert performance.TABLES["step-parts"]() == performance.MISSING


def test_the_page_of_performance_has_every_table_of_it():
    page = (ROOT / "docs/performance.md").read_text()
    assert re.findall(r"<!-- table ([\w-]+) -->", page) == list(performance.TABLES)


def test_results_are_on_their_page_and_the_readme_has_one_table_of_them():
    names = {page: re.findall(r"<!-- table ([\w-]+) -->", (ROOT / page).read_text()) for page in tables.PAGES}
    assert {*saved.COMMANDS, "learned-digits", "claims", "parity"} <= set(names["docs/results.md"])
    assert names["README.md"] == ["summary"]


def test_operations_of_a_trace_are_summed_without_what_is_within_them():
    def event(tid, ts, dur, name, **args):
        return {"ph": "X", "pid": 1, "tid": tid, "ts": ts, "dur": dur, "name": name, "args": args}

    def thread(tid, name):
        return {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": name}}

    found = profile_step.operations(
        [
            thread(1, "tf_XLAEigen/1"),
            event(1, 0, 100, "while.2", hlo_op="while.2"),
            event(1, 10, 30, "dot.3", hlo_op="dot.3"),
            event(1, 40, 60, "dot.4.clone", hlo_op="dot.4.clone"),
            event(2, 0, 50, "dot.3", hlo_op="dot.3"),
            event(2, 0, 999, "PjitFunction(step)"),
        ]
    )
    assert found == {"dot": (140e-6, 3), "while": (10e-6, 1)}
    # A GPU's trace repeats the operations in lines of steps and modules.
    gpu = [thread(5, "Stream #13(Compute)"), thread(6, "XLA Ops")]
    gpu += [event(5, 0, 7, "gemm_fusion_dot_5", hlo_op="gemm_fusion_dot.5"), event(5, 9, 2, "MemcpyD2D")]
    gpu += [event(6, 0, 7, "gemm_fusion_dot.5", hlo_op="gemm_fusion_dot.5")]
    assert profile_step.operations(gpu) == {"gemm_fusion_dot": (7e-6, 1), "MemcpyD2D": (2e-6, 1)}


def test_bad_input_of_the_profile_ends_with_one_line_and_exit_code_2(tmp_path, capsys):
    for arguments, message in (
        (["--steps=0"], "error: --steps is 0"),
        (["--dtype=float16"], "error: unknown --dtype 'float16'"),
        (["--read"], f"error: --out: there is no trace in {tmp_path}"),
    ):
        assert profile_step.main([f"--out={tmp_path}", *arguments]) == 2
        assert capsys.readouterr().err.startswith(message)


def test_scripts_are_bash():
    for script in (ROOT / "benchmarks").glob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)
