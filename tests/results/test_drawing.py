"""Tests pictures: their files of numbers, that equal numbers give equal bytes, and that colours can be told apart."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from tests import run_results
from tests.pictures import (
    BOWL,
    ITEMS,
    LABEL,
    PANEL,
    POINTS,
    RUNS,
    SERIES,
    STEPS,
    STREAM,
    TASK,
    over_classes,
    pixels,
    run,
)
from ucl_jax.results import compare, drawing, probe_figures, run_figures
from ucl_jax.results.schema import RunResult

ENTRIES = [
    {"step": 1, "loss": -0.5},
    {"step": 2, "loss": -0.75},
    {"step": 2, "task": 0, "knn_task/average_accuracy": 9.0},
]
FINETUNE = run("finetune", [[90.0, None], [70.0, 90.0]])
MEASURED = {"spread": 0.5, "effective_rank": 12.0, "rankme": 10.0, "alignment": 0.25, "uniformity": -1.5}
UNLABELLED = RunResult.from_json(
    run_results.as_json()
    | {
        "probes": {},
        "classes": [[0], [1]],
        "representation": {"rows": [MEASURED, {n: v + 1 for n, v in MEASURED.items()} | {"cka": [0.5]}]},
    }
)
# name -> (function that draws into a stem, header of the CSV, rows of the CSV)
FIGURES = {
    "few_shot": (
        lambda stem: run_figures.few_shot(stem, SERIES, "t"),
        ["series", "images", "run", "accuracy", "forgetting"],
        [
            ["lump", "500", "0", "80.0", "3.0"],
            ["lump", "500", "1", "82.0", ""],
            ["lump", "100", "0", "70.0", ""],
            ["$multi_task^", "100", "0", "90.0", ""],
            ["$multi_task^", "100", "1", "91.0", ""],
        ],
    ),
    "stream": (
        lambda stem: run_figures.stream(stem, run("lump", [[90.0, None], [80.0, 97.0]], stream=STREAM)),
        ["part", "place", "task", "images"],
        [
            [part, str(place), str(task), str(count)]
            for part, counts in (("stream", STREAM["tasks"]), ("buffer", STREAM["buffer"]))
            for place, row in enumerate(counts)
            for task, count in enumerate(row, start=1)
        ],
    ),
    "class_accuracy": (
        lambda stem: run_figures.class_accuracy(stem, over_classes()),
        ["images seen", "class", "accuracy"],
        [
            [images, name, value]
            for images, values in (("40", ("75.0", "")), ("80", ("65.0", "90.0")), ("120", ("60.0", "95.0")))
            for name, value in zip(("cat", "dog"), values)
        ],
    ),
    "cka": (
        lambda stem: probe_figures.cka(stem, {"stem": PANEL, "stage1": PANEL}, "t", ("a", "b")),
        ["panel", "row", "column", "value"],
        [
            [panel, row, column, "" if value is None else str(value)]
            for panel in ("stem", "stage1")
            for row, values in zip(PANEL["rows"], PANEL["values"])
            for column, value in zip(PANEL["columns"], values)
        ],
    ),
    "landscape": (
        lambda stem: probe_figures.landscape(stem, [{"lump": {"steps": STEPS, "loss": BOWL}}], "t"),
        ["panel", "first", "second", "loss"],
        [
            ["lump", str(a), str(b), {(1, 2): "", (2, 2): ""}.get((i, j), str(BOWL[i][j]))]
            for i, a in enumerate(STEPS)
            for j, b in enumerate(STEPS)
        ],
    ),
    "feature_maps": (
        lambda stem: probe_figures.feature_maps(stem, ITEMS, "t"),
        ["item", "task", "label", "map", "channel", "y", "x", "value"],
        [
            *(["0", "0", "1", m, c, str(k // 2), str(k % 2), f"{k}.0"] for m, c in ("05", "19") for k in range(4)),
            *(["1", "3", "7", "0", "7", str(k // 2), str(k % 2), f"{k + 4}.0"] for k in range(4)),
        ],
    ),
    "embedding": (
        lambda stem: probe_figures.embedding(stem, POINTS, TASK, LABEL, "t"),
        ["x", "y", "task", "label"],
        [["0.0", "1.0", "0", "3"], ["2.0", "3.0", "0", "4"], ["4.0", "5.0", "1", "5"]],
    ),
    "accuracy_matrices": (
        lambda stem: run_figures.accuracy_matrices(stem, RUNS, "knn_task"),
        ["run", "row", "task", "accuracy"],
        [
            ["lump (simsiam, seed 0)", "1", "1", "90.0"],
            ["lump (simsiam, seed 0)", "1", "2", ""],
            ["lump (simsiam, seed 0)", "2", "1", "80.0"],
            ["lump (simsiam, seed 0)", "2", "2", "97.0"],
            ["multitask (simsiam, seed 0)", "1", "1", "98.0"],
            ["multitask (simsiam, seed 0)", "1", "2", "99.0"],
        ],
    ),
    "average_accuracy": (
        lambda stem: run_figures.average_accuracy(stem, {"lump": RUNS[:1], "joint": RUNS[1:]}, "knn_task", "t"),
        ["group", "run", "tasks", "accuracy"],
        [["lump", "0", "1", "90.0"], ["lump", "0", "2", "88.5"], ["joint", "0", "all", "98.5"]],
    ),
    "differences": (
        lambda stem: run_figures.differences(stem, compare.groups_of([RUNS[0], FINETUNE]), "t"),
        ["objective", "recipe", "over", "probe", "mean", "low", "high", "higher", "pairs"],
        [  # of one seed, which has no interval; the untrained network has 65
            ["simsiam", *words, probe, mean, "", "", "1", "1"]
            for probe in ("knn_task", "knn_all")
            for *words, mean in (
                ("lump", "untrained network", "23.5"),
                ("lump", "finetune", "8.5"),
                ("finetune", "untrained network", "15.0"),
            )
        ],
    ),
    "representation": (
        lambda stem: run_figures.representation(stem, UNLABELLED),
        ["place", "measure", "value"],
        [[place, name, str(MEASURED[name] + more)] for place, more in (("1", 0), ("2", 1)) for name in MEASURED],
    ),
    "losses": (
        lambda stem: run_figures.losses(stem, {"lump": [ENTRIES]}, "t"),
        ["group", "run", "step", "loss"],
        [["lump", "0", "1", "-0.5"], ["lump", "0", "2", "-0.75"]],
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_pictures_have_their_numbers_beside_them(tmp_path, name):
    draw, header, rows = FIGURES[name]
    stem = tmp_path / "new" / "lump-0.5"  # what follows the dot is no suffix
    picture = draw(stem)
    paths = picture.paths
    assert [path.name for path in paths] == [f"lump-0.5.{suffix}" for suffix in ("png", "svg", "json", "csv")]
    png, svg, as_json, as_csv = paths
    assert min(pixels(png).shape[:2]) > 150
    root = ET.parse(svg).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert picture.width == pytest.approx(float(root.get("width").removesuffix("pt")), rel=0.01)
    with as_csv.open() as file:
        assert list(csv.reader(file)) == [header, *rows]

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    json.loads(as_json.read_text(), parse_constant=refuse)


def test_numbers_in_json(tmp_path):
    probe_figures.landscape(tmp_path / "a", [{"lump": {"steps": np.array(STEPS), "loss": BOWL}}], "bowl")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content == {
        "title": "bowl",
        "panels": {"lump": {"steps": STEPS, "loss": [[2.0, 1.0, 2.0], [1.0, 0.5, None], [2.0, 1.0, None]]}},
    }
    run_figures.few_shot(tmp_path / "b", SERIES, "few")
    assert json.loads((tmp_path / "b.json").read_text()) == {"title": "few", "series": SERIES}


DRAW_ALL = """
import pathlib, sys
from tests.results import test_drawing
for name, (draw, *_) in test_drawing.FIGURES.items():
    draw(pathlib.Path(sys.argv[1]) / name)
"""


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    """Checks that another process, with another hash seed and another clock, writes the same bytes."""
    root = pathlib.Path(__file__).parents[2]
    environment = os.environ | {"PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1000000000"}
    subprocess.run([sys.executable, "-c", DRAW_ALL, tmp_path / "a"], check=True, cwd=root, env=environment)
    for name, (draw, *_) in FIGURES.items():
        draw(tmp_path / "b" / name)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 4 * len(FIGURES)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
        assert b"<dc:date>" not in (tmp_path / "a" / name).read_bytes()


def test_lines_can_be_told_apart():
    styles = drawing.lines([str(number) for number in range(28)])
    assert len({(style["color"], style["ls"]) for style in styles.values()}) == 28


def test_colours_can_be_told_apart_by_the_colour_blind():
    """Checks that colours differ in CIELAB's lightness and hue, also without a kind of cones (Vienot et al. 1999)."""
    simulated = {
        "no red cones": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
        "no green cones": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
    }
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    rgb = np.array([[int(c[k : k + 2], 16) / 255 for k in (1, 3, 5)] for c in drawing.COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for seen in (np.eye(3), *map(np.array, simulated.values())):
        t = np.clip(linear @ seen.T, 0, 1) @ xyz.T / xyz.sum(1)
        f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
        lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1e9 * np.eye(len(lab))
        assert apart.min() > 10


def test_ink_is_the_better_of_black_and_white():
    assert drawing.ink((1.0, 1.0, 0.0)) == drawing.ink((0.0, 1.0, 0.0, 1.0)) == "#000000"
    assert drawing.ink((0.6, 0.6, 0.6)) == "#000000"  # black has a contrast of 7.4, white of 2.8
    assert drawing.ink((0.0, 0.0, 1.0)) == drawing.ink((0.4, 0.4, 0.4)) == "#ffffff"  # 0.4: white has 5.7, black 3.7
