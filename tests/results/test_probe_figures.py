"""Tests pictures of what probes found: that colours show the numbers, and what their titles say."""

import json
import re

import matplotlib
import numpy as np
import pytest

from tests import run_results
from tests.pictures import BOWL, ITEMS, LABEL, PANEL, POINTS, STEPS, TASK, pixels, share
from ucl_jax.results import drawing, probe_figures, tables
from ucl_jax.results.records import RECORD_TYPES


def test_heat_maps_show_their_values(tmp_path):
    viridis = matplotlib.colormaps["viridis"]
    probe_figures.cka(tmp_path / "low", {"a": {"rows": ["0"], "columns": ["0"], "values": [[0.0]]}}, "t")
    probe_figures.cka(tmp_path / "high", {"a": {"rows": ["0"], "columns": ["0"], "values": [[1.0]]}}, "t")
    for name, value in {"low": 0.0, "high": 1.0}.items():
        assert share(tmp_path / f"{name}.png", viridis(value)) > 15
        assert share(tmp_path / f"{name}.png", viridis(1 - value)) < 3  # only the end of the colour bar has it


def test_landscapes_of_a_group_have_one_scale(tmp_path):
    low, high = ({"steps": STEPS, "loss": [[loss] * 3] * 3} for loss in (1.0, 5.0))
    far = {"steps": STEPS, "loss": [[500.0] * 3, [500.0] * 3, [900.0] * 3]}
    alone = probe_figures.landscape(tmp_path / "l", [{"low": low, "high": high}], "t").paths
    beside = probe_figures.landscape(tmp_path / "m", [{"low": low, "high": high}, {"far": far}], "t").paths
    viridis = matplotlib.colormaps["viridis"]
    for path, of_picture in ((alone[0], 1), (beside[0], 0.5)):
        assert share(path, viridis(0.02)) > 8 * of_picture  # the middle of the lowest of 24 levels, and of the highest
        assert share(path, viridis(0.98)) > 8 * of_picture
    assert list(json.loads(beside[2].read_text())["panels"]) == ["low", "high", "far"]


@pytest.mark.parametrize(
    "loss", [[[1.0] * 3] * 3, [[None] * 3] * 3, [[1e-3, 1.0, 1e3]] * 3, [[-1.0, 0.0, 1.0]] * 3], ids=str
)
def test_landscapes_that_are_flat_empty_steep_or_negative(tmp_path, loss):
    picture = probe_figures.landscape(tmp_path / "l", [{"a": {"steps": STEPS, "loss": loss}}], "t")
    assert all(path.exists() for path in picture.paths)


def test_feature_maps_show_the_images_and_leave_most_maps_to_the_file(tmp_path):
    item = ITEMS[0] | {"maps": [[[0.0, 1.0]]] * 20, "channels": list(range(30, 50))}
    paths = probe_figures.feature_maps(tmp_path / "f", [item, ITEMS[1]], "t", most=3).paths
    assert share(paths[0], (1.0, 0.0, 0.0)) > 2
    assert share(paths[0], (0.0, 0.0, 1.0)) > 2
    assert len(json.loads(paths[2].read_text())["items"][0]["maps"]) == 20
    wide = probe_figures.feature_maps(tmp_path / "g", [item], "t").paths
    assert pixels(wide[0]).shape[1] > 1.5 * pixels(paths[0]).shape[1]
    assert re.findall("<!-- channel ([0-9]+) -->", paths[1].read_text()) == ["30", "31", "32", "7"]


def test_embedding_has_a_colour_for_each_task_and_a_bar_for_many(tmp_path):
    points = np.stack([np.arange(400.0), np.arange(400.0) % 20], 1).tolist()
    paths = probe_figures.embedding(tmp_path / "e", points, [0] * 200 + [1] * 200, [3] * 400, "t").paths
    for colour in drawing.COLOURS[:2]:
        rgb = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        assert share(paths[0], rgb) > 0.2
    probe_figures.embedding(tmp_path / "many", points, [0] * 400, list(range(100)) * 4, "t")


STAGES = {name: PANEL["values"] for name in ("stem", "stage1", "stage2", "stage3", "stage4")}
CKA = {"networks": [0, 2], "other_networks": [0, 1, 2], "cka": STAGES, "l2": [[0.0, 9.0, 2.5], [2.5, 9.0, 0.0]]}
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
    paths = probe_figures.draw_record(tmp_path / "r", record).paths
    assert [path.suffix for path in paths] == [".png", ".svg", ".json", ".csv"]
    assert json.loads(paths[2].read_text())["title"] == probe_figures.record_title(record) == title


def test_a_record_of_cka_names_its_checkpoints(tmp_path):
    probe_figures.draw_record(tmp_path / "r", run_results.as_record(DRAWN[0][0]))
    panels = json.loads((tmp_path / "r.json").read_text())["panels"]
    own = {"rows": ["0", "2"], "columns": ["0", "1", "2"], "values": PANEL["values"]}
    assert panels == dict.fromkeys(STAGES, own)


@pytest.mark.parametrize(
    ("other", "l2", "numbers"),
    [
        ("runs/b", [[9.0, 9.0, 9.0], [9.0, 9.0, 1.234]], ["1.23"]),
        ("", [[0.0, 9.0, 2.5], [2.5, 9.0, 0.0]], ["0", "2", "2.50"]),  # after 0 and after 2 tasks
        ("runs/b", [[None] * 3] * 2, []),  # the networks have different shapes
    ],
)
def test_a_record_of_cka_tells_the_distance_of_networks(other, l2, numbers):
    record = DRAWN[0][0] | {"settings": {"other": other}}
    note = probe_figures.record_note(run_results.as_record(record | {"values": CKA | {"l2": l2}}))
    assert note
    assert re.findall(r"\b\d+(?:\.\d+)?", note) == numbers


def test_every_probe_has_a_picture_or_a_table():
    pictures = probe_figures.RECORDS.keys()
    assert {record["probe"] for record, _ in DRAWN} == pictures
    assert {probe for probe, (settings, _) in RECORD_TYPES.items() if settings is not dict} == pictures
    assert RECORD_TYPES.keys() - pictures == tables.ANALYSES.keys()


def test_records_without_a_picture(tmp_path):
    content = {"probe": "geometry", "after": 1, "settings": {}, "values": run_results.GEOMETRY}
    record = run_results.as_record(content)
    assert probe_figures.draw_record(tmp_path / "r", record) is None
    assert probe_figures.record_title(record) == probe_figures.record_note(record) == ""
    assert list(tmp_path.iterdir()) == []
