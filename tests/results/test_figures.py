"""Tests pictures: their files of numbers, that equal numbers give equal bytes, and that colours show the numbers."""

import csv
import json
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest
from PIL import Image

from tests import run_results
from ucl_jax.results import figures, tables

SERIES = {
    "lump": [
        {"images": 500, "accuracy": [80.0, 82.0], "forgetting": [3.0, None]},
        {"images": 100, "accuracy": [70.0], "forgetting": []},
    ],
    "$multi_task^": [{"images": 100, "accuracy": [90.0, 91.0], "forgetting": [None, None]}],
}
PANEL = {"rows": ["0", "1"], "columns": ["0", "1", "2"], "values": [[1.0, 0.5, None], [0.5, 1.0, 0.25]]}
STEPS = [-1.0, 0.0, 1.0]
BOWL = [[2.0, 1.0, 2.0], [1.0, 0.5, float("nan")], [2.0, 1.0, None]]
ITEMS = [
    {
        "task": 0,
        "label": 1,
        "image": [[[255, 0, 0]] * 4] * 4,
        "maps": [[[0.0, 1.0], [2.0, 3.0]]] * 2,
        "channels": [5, 9],
    },
    {"task": 3, "label": 7, "image": [[[0, 0, 255]] * 4] * 4, "maps": [[[4.0, 5.0], [6.0, 7.0]]]},
]
POINTS, TASK, LABEL = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], [0, 0, 1], [3, 4, 5]


def run(recipe, matrix, joint=False, seed=0, random_init=(60.0, 70.0), **more):
    probes = {"knn_task": run_results.probe(matrix, random_init=random_init), "knn_all": run_results.probe(matrix)}
    return run_results.result(recipe, joint=joint, seed=seed, probes=probes, **more)


RUNS = [run("lump", [[90.0, None], [80.0, 97.0]]), run("multitask", [[98.0, 99.0]], joint=True)]
ENTRIES = [
    {"step": 1, "loss": -0.5},
    {"step": 2, "loss": -0.75},
    {"step": 2, "task": 0, "knn_task/average_accuracy": 9.0},
]

# name -> (function that draws into a stem, header of the CSV, rows of the CSV)
FIGURES = {
    "few_shot": (
        lambda stem: figures.few_shot(stem, SERIES, "t"),
        ["series", "images", "run", "accuracy", "forgetting"],
        [
            ["lump", "500", "0", "80.0", "3.0"],
            ["lump", "500", "1", "82.0", ""],
            ["lump", "100", "0", "70.0", ""],
            ["$multi_task^", "100", "0", "90.0", ""],
            ["$multi_task^", "100", "1", "91.0", ""],
        ],
    ),
    "cka": (
        lambda stem: figures.cka(stem, {"stem": PANEL, "stage1": PANEL}, "t", ("a", "b")),
        ["panel", "row", "column", "value"],
        [
            [panel, row, column, "" if value is None else str(value)]
            for panel in ("stem", "stage1")
            for row, values in zip(PANEL["rows"], PANEL["values"])
            for column, value in zip(PANEL["columns"], values)
        ],
    ),
    "landscape": (
        lambda stem: figures.landscape(stem, {"lump": {"steps": STEPS, "loss": BOWL}}, "t"),
        ["panel", "first", "second", "loss"],
        [
            ["lump", str(a), str(b), {(1, 2): "", (2, 2): ""}.get((i, j), str(BOWL[i][j]))]
            for i, a in enumerate(STEPS)
            for j, b in enumerate(STEPS)
        ],
    ),
    "feature_maps": (
        lambda stem: figures.feature_maps(stem, ITEMS, "t"),
        ["item", "task", "label", "map", "channel", "y", "x", "value"],
        [
            *(["0", "0", "1", m, c, str(k // 2), str(k % 2), f"{k}.0"] for m, c in ("05", "19") for k in range(4)),
            *(["1", "3", "7", "0", "", str(k // 2), str(k % 2), f"{k + 4}.0"] for k in range(4)),
        ],
    ),
    "embedding": (
        lambda stem: figures.embedding(stem, POINTS, TASK, LABEL, "t"),
        ["x", "y", "task", "label"],
        [["0.0", "1.0", "0", "3"], ["2.0", "3.0", "0", "4"], ["4.0", "5.0", "1", "5"]],
    ),
    "accuracy_matrices": (
        lambda stem: figures.accuracy_matrices(stem, RUNS, "knn_task"),
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
        lambda stem: figures.average_accuracy(stem, {"lump": RUNS[:1], "joint": RUNS[1:]}, "knn_task", "t"),
        ["group", "run", "tasks", "accuracy"],
        [["lump", "0", "1", "90.0"], ["lump", "0", "2", "88.5"], ["joint", "0", "all", "98.5"]],
    ),
    "losses": (
        lambda stem: figures.losses(stem, {"lump": [ENTRIES]}, "t"),
        ["group", "run", "step", "loss"],
        [["lump", "0", "1", "-0.5"], ["lump", "0", "2", "-0.75"]],
    ),
}


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize("name", FIGURES)
def test_pictures_have_their_numbers_beside_them(tmp_path, name):
    draw, header, rows = FIGURES[name]
    stem = tmp_path / "new" / "lump-0.5"  # what follows the dot is no suffix
    paths = draw(stem)
    assert [path.name for path in paths] == [f"lump-0.5.{suffix}" for suffix in ("png", "svg", "json", "csv")]
    png, svg, as_json, as_csv = paths
    assert min(pixels(png).shape[:2]) > 150
    assert ET.parse(svg).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    with as_csv.open() as file:
        assert list(csv.reader(file)) == [header, *rows]

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    json.loads(as_json.read_text(), parse_constant=refuse)


def test_numbers_in_json(tmp_path):
    figures.landscape(tmp_path / "a", {"lump": {"steps": np.array(STEPS), "loss": BOWL}}, "bowl")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content == {
        "title": "bowl",
        "panels": {"lump": {"steps": STEPS, "loss": [[2.0, 1.0, 2.0], [1.0, 0.5, None], [2.0, 1.0, None]]}},
    }
    figures.few_shot(tmp_path / "b", SERIES, "few")
    assert json.loads((tmp_path / "b.json").read_text()) == {"title": "few", "series": SERIES}


DRAW_ALL = """
import pathlib, sys
from tests.results import test_figures
for name, (draw, *_) in test_figures.FIGURES.items():
    draw(pathlib.Path(sys.argv[1]) / name)
"""


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    """Another process, with another hash seed and another clock, writes the same bytes."""
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


def share(path, colour):
    """Returns the per cent of pixels that nearly have a colour, given as red, green, blue in 0..1."""
    near = np.abs(pixels(path) - 255 * np.array(colour[:3])).max(-1) < 6
    return 100 * near.mean()


def test_heat_maps_show_their_values(tmp_path):
    viridis = matplotlib.colormaps["viridis"]
    figures.cka(tmp_path / "low", {"a": {"rows": ["0"], "columns": ["0"], "values": [[0.0]]}}, "t")
    figures.cka(tmp_path / "high", {"a": {"rows": ["0"], "columns": ["0"], "values": [[1.0]]}}, "t")
    for name, value in {"low": 0.0, "high": 1.0}.items():
        assert share(tmp_path / f"{name}.png", viridis(value)) > 15
        assert share(tmp_path / f"{name}.png", viridis(1 - value)) < 3  # only the end of the colour bar has it


def test_matrices_of_several_runs_have_one_scale(tmp_path):
    """All matrices share a scale from the lowest chance to 100, on which 50 is darkest."""
    low, high = run("a", [[50.0]]), run("b", [[100.0]])
    figures.accuracy_matrices(tmp_path / "m", [low, high], "knn_task")
    viridis = matplotlib.colormaps["viridis"]
    assert share(tmp_path / "m.png", viridis(0.0)) > 8
    assert share(tmp_path / "m.png", viridis(1.0)) > 8
    figures.accuracy_matrices(tmp_path / "none", [low, high], "head_all")
    assert json.loads((tmp_path / "none.json").read_text())["runs"] == []


def test_landscapes_have_one_scale(tmp_path):
    flat = {"steps": STEPS, "loss": [[5.0] * 3] * 3}
    figures.landscape(tmp_path / "l", {"low": {"steps": STEPS, "loss": [[1.0] * 3] * 3}, "high": flat}, "t")
    viridis = matplotlib.colormaps["viridis"]
    assert share(tmp_path / "l.png", viridis(0.02)) > 8  # the middle of the lowest of 24 levels, and of the highest
    assert share(tmp_path / "l.png", viridis(0.98)) > 8


@pytest.mark.parametrize(
    "loss", [[[1.0] * 3] * 3, [[None] * 3] * 3, [[1e-3, 1.0, 1e3]] * 3, [[-1.0, 0.0, 1.0]] * 3], ids=str
)
def test_landscapes_that_are_flat_empty_steep_or_negative(tmp_path, loss):
    assert len(figures.landscape(tmp_path / "l", {"a": {"steps": STEPS, "loss": loss}}, "t")) == 4


def test_feature_maps_show_the_images_and_leave_most_maps_to_the_file(tmp_path):
    item = ITEMS[0] | {"maps": [[[0.0, 1.0]]] * 20, "channels": list(range(30, 50))}
    paths = figures.feature_maps(tmp_path / "f", [item, ITEMS[1]], "t", most=3)
    assert share(paths[0], (1.0, 0.0, 0.0)) > 2
    assert share(paths[0], (0.0, 0.0, 1.0)) > 2
    assert len(json.loads(paths[2].read_text())["items"][0]["maps"]) == 20
    wide = figures.feature_maps(tmp_path / "g", [item], "t")
    assert pixels(wide[0]).shape[1] > 1.5 * pixels(paths[0]).shape[1]
    assert re.findall("<!-- channel ([0-9]+) -->", paths[1].read_text()) == ["30", "31", "32"]  # the other names none


def test_embedding_has_a_colour_for_each_task_and_a_bar_for_many(tmp_path):
    points = np.stack([np.arange(400.0), np.arange(400.0) % 20], 1).tolist()
    paths = figures.embedding(tmp_path / "e", points, [0] * 200 + [1] * 200, [3] * 400, "t")
    for colour in figures.COLOURS[:2]:
        rgb = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        assert share(paths[0], rgb) > 0.2
    figures.embedding(tmp_path / "many", points, [0] * 400, list(range(100)) * 4, "t")


def test_lines_can_be_told_apart():
    styles = figures._lines([str(number) for number in range(28)])
    assert len({(style["color"], style["ls"]) for style in styles.values()}) == 28


def test_colours_can_be_told_apart_by_the_colour_blind():
    """Colours differ in CIELAB's lightness and hue, also without red or green cones (Vienot et al. 1999)."""
    simulated = {
        "no red cones": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
        "no green cones": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
    }
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    rgb = np.array([[int(c[k : k + 2], 16) / 255 for k in (1, 3, 5)] for c in figures.COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for seen in (np.eye(3), *map(np.array, simulated.values())):
        t = np.clip(linear @ seen.T, 0, 1) @ xyz.T / xyz.sum(1)
        f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
        lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1e9 * np.eye(len(lab))
        assert apart.min() > 10


def test_ink_is_the_better_of_black_and_white():
    assert figures.ink((1.0, 1.0, 0.0)) == figures.ink((0.0, 1.0, 0.0, 1.0)) == "#000000"
    assert figures.ink((0.6, 0.6, 0.6)) == "#000000"  # black has a contrast of 7.4, white of 2.8
    assert figures.ink((0.0, 0.0, 1.0)) == figures.ink((0.4, 0.4, 0.4)) == "#ffffff"  # 0.4: white has 5.7, black 3.7


STAGES = {name: PANEL["values"] for name in ("stem", "stage1", "stage2", "stage3", "stage4")}
CKA = {"networks": [0, 2], "other_networks": [0, 1, 2], "cka": STAGES}
FINITE = [[None if value != value else value for value in row] for row in BOWL]
DRAWN = [
    (
        {"probe": "cka", "after": None, "settings": {"other": "runs/b"}, "values": CKA},
        "linear CKA of networks (rows) and b",
    ),
    (
        {"probe": "feature_maps", "after": 0, "settings": {"stage": "stage2"}, "values": {"items": ITEMS}},
        "feature maps before training, stage2",
    ),
    (
        {
            "probe": "loss_landscape",
            "after": 1,
            "settings": {"task": 0, "loss": "classifier"},
            "values": {"steps": STEPS, "loss": FINITE},
        },
        "loss of task 1 after 1 task",
    ),
    (
        {
            "probe": "embedding",
            "after": 5,
            "settings": {"method": "pca"},
            "values": {"points": POINTS, "task": TASK, "label": LABEL},
        },
        "features after 5 tasks (pca)",
    ),
]


@pytest.mark.parametrize(("record", "title"), DRAWN, ids=[record["probe"] for record, _ in DRAWN])
def test_records_are_drawn_with_a_title(tmp_path, record, title):
    record = run_results.as_record(record)
    paths = figures.draw_record(tmp_path / "r", record)
    assert [path.suffix for path in paths] == [".png", ".svg", ".json", ".csv"]
    assert json.loads(paths[2].read_text())["title"] == figures.record_title(record) == title


def test_a_record_of_cka_names_its_checkpoints(tmp_path):
    figures.draw_record(tmp_path / "r", run_results.as_record(DRAWN[0][0]))
    panels = json.loads((tmp_path / "r.json").read_text())["panels"]
    own = {"rows": ["0", "2"], "columns": ["0", "1", "2"], "values": PANEL["values"]}
    assert panels == dict.fromkeys(STAGES, own)


@pytest.mark.parametrize(
    ("other", "l2", "said"),
    [
        ("runs/b", [[9.0, 9.0, 9.0], [9.0, 9.0, 1.234]], "the last networks of the two runs is 1.23."),
        ("", [[0.0, 9.0, 2.5], [2.5, 9.0, 0.0]], "the networks after 0 and after 2 tasks is 2.50."),
        ("runs/b", [[None] * 3] * 2, "the last networks of the two runs have different shapes"),
    ],
)
def test_a_record_of_cka_tells_the_distance_of_networks(other, l2, said):
    record = DRAWN[0][0] | {"settings": {"other": other}}
    assert figures.record_note(run_results.as_record(record)) == ""  # an earlier version saved no distance
    assert said in figures.record_note(run_results.as_record(record | {"values": CKA | {"l2": l2}}))


def names_in(path):
    """Returns the texts of an SVG picture that name runs; texts are drawn as paths with comments."""
    return [text for text in re.findall("<!-- (.*?) -->", path.read_text()) if "simsiam" in text or "untrained" in text]


def test_no_run_vanishes_from_the_picture(tmp_path):
    runs = [
        run(
            "lump",
            [[accuracy, None], [80.0, 97.0]],
            settings={"benchmark.examples_per_task": images},
            random_init=initial,
        )
        for accuracy, images, initial in ((90.0, 0, [60.0, 70.0]), (91.0, 50, [20.0, 30.0]))
    ]
    figures.plot_average_accuracy(tmp_path / "a.svg", runs)
    assert names_in(tmp_path / "a.svg") == [
        "lump, all training images (simsiam, seed 0)",
        "lump, benchmark.examples_per_task=50 (simsiam, seed 0)",
        "untrained network, all training images, all tasks",
        "untrained network, benchmark.examples_per_task=50, all tasks",
    ]
    drawn = json.loads(figures.accuracy_matrices(tmp_path / "m", runs, "knn_task")[2].read_text())["runs"]
    assert [one["name"] for one in drawn] == names_in(tmp_path / "a.svg")[:2]
    figures.plot_average_accuracy(tmp_path / "b.svg", [RUNS[0], run("lump", [[70.0, None]], seed=1)])
    assert names_in(tmp_path / "b.svg")[2:] == ["untrained network, all tasks"]


def test_every_probe_has_a_picture_or_a_table():
    assert set(tables.PICTURES) == set(figures.RECORDS) == set(figures.TITLES) == {r["probe"] for r, _ in DRAWN}
    assert not set(tables.PICTURES) & set(tables.ANALYSES)


def test_records_without_a_picture(tmp_path):
    content = {"probe": "geometry", "after": 1, "settings": {}, "values": {"l2_from_random": 1.0}}
    record = run_results.as_record(content)
    assert figures.draw_record(tmp_path / "r", record) == []
    assert figures.record_title(record) == ""
    assert list(tmp_path.iterdir()) == []
