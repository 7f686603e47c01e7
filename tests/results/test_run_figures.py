"""Tests pictures of runs: that colours show the numbers, and that no run is missing."""

import json
import re

import matplotlib
import matplotlib.figure
import numpy as np

from tests import tiny
from tests.pictures import RUNS, STREAM, run, share
from tests.run_results import evaluated, probe, result
from ucl_jax.results import drawing, model_card, run_figures


def test_matrices_of_several_runs_have_one_scale(tmp_path):
    """Checks that all matrices share a scale from the lowest chance to 100, on which 50 is darkest."""
    low, high = run("a", [[50.0]]), run("b", [[100.0]])
    run_figures.accuracy_matrices(tmp_path / "m", [low, high], "knn_task")
    viridis = matplotlib.colormaps["viridis"]
    assert share(tmp_path / "m.png", viridis(0.0)) > 8
    assert share(tmp_path / "m.png", viridis(1.0)) > 8
    run_figures.accuracy_matrices(tmp_path / "none", [low, high], "head_all")
    assert json.loads((tmp_path / "none.json").read_text())["runs"] == []


def test_a_probe_with_nothing_to_choose_has_no_matrix_and_no_number(tmp_path):
    """Checks the picture and the model card of a run whose tasks have a class each: kNN within the task is 100 %."""
    rows = [[100.0, None], [100.0, 100.0]]
    probes = {"knn_task": probe(rows, chance=100.0), "knn_all": probe([[100.0, None], [70.0, 81.0]])}
    tree = tiny.config("lump", "digits,simsiam").to_dict()
    single = result("lump", config=tree, probes=probes, settings={"benchmark.classes_per_task": 1})
    run_figures.plot_matrices(tmp_path / "m.svg", single)
    titles = re.findall("<!-- (kNN.*?) -->", (tmp_path / "m.svg").read_text())
    assert titles == ["kNN over all classes seen"]
    about = {"input_size": [3, 8, 8], "width": 4, "num_features": 32, "fit": "none"}
    card = model_card.model_card(single, 2, "onnx", "encoder.onnx", about)
    assert [line.split("|")[1:3] for line in card.splitlines() if "kNN" in line and "|" in line] == [
        [" kNN over all classes seen ", "          75.50 "]
    ]


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
    run_figures.plot_average_accuracy(tmp_path / "a.svg", runs)
    assert names_in(tmp_path / "a.svg") == [
        "lump, all training images (simsiam, seed 0)",
        "lump, benchmark.examples_per_task=50 (simsiam, seed 0)",
        "untrained network, all training images, all tasks",
        "untrained network, benchmark.examples_per_task=50, all tasks",
    ]
    drawn = json.loads(run_figures.accuracy_matrices(tmp_path / "m", runs, "knn_task").paths[2].read_text())["runs"]
    assert [one["name"] for one in drawn] == names_in(tmp_path / "a.svg")[:2]
    run_figures.plot_average_accuracy(tmp_path / "b.svg", [RUNS[0], run("lump", [[70.0, None]], seed=1)])
    assert names_in(tmp_path / "b.svg")[2:] == ["untrained network, all tasks"]


def test_a_strip_shows_the_share_of_each_task_by_its_colour(monkeypatch):
    """Checks colours column by column: 1 + 1/2 of four windows are of task 1, and 1 + 3/4 of two buffers."""
    figure = run_figures._stream(run("lump", [[90.0, None], [80.0, 97.0]], stream=STREAM))
    strips = [axis.images[0] for axis in figure.axes[:2]]
    for strip, columns, ends in zip(strips, ([1, 0.5, 0, 0], [1, 0.75]), ([0, 40], [0.5, 2.5])):
        drawn = strip.get_array()
        np.testing.assert_allclose((drawn == 0).mean(axis=0), columns)
        assert (np.diff(drawn, axis=0) >= 0).all()  # the first task is at the bottom
        assert strip.get_extent()[:2] == ends
        assert matplotlib.colors.to_hex(strip.cmap(strip.norm(0))) == drawing.COLOURS[0]
        assert matplotlib.colors.to_hex(strip.cmap(strip.norm(1))) == drawing.COLOURS[1]


def test_a_strip_is_of_classes_where_a_task_has_several():
    """Checks the height of the first class, which is 3 of 4 and then none of the images of two windows."""
    stream = {"images": 8, "tasks": [[4, 0], [0, 4]], "classes": [[3, 1, 0, 0], [0, 0, 2, 2]]}
    several = run("lump", [[90.0, None], [80.0, 97.0]], stream=stream, classes=[[0, 1], [2, 3]], class_names=[*"abcd"])
    strip, bar = run_figures._stream(several).axes
    np.testing.assert_allclose((strip.images[0].get_array() == 0).mean(axis=0), [0.75, 0])
    assert [tick.get_text() for tick in bar.get_yticklabels()] == ["a", "b", "c", "d"]
    assert bar.get_ylabel() == "class"


def test_a_window_without_images_stays_white_and_each_of_many_tasks_has_its_colour():
    axis = drawing.new_figure(1, 1).subplots()
    assert drawing.shares(axis, np.array([[0, 0], [1, 1]]), (0, 1)).get_array().mask.all(axis=0).tolist() == [
        True,
        False,
    ]
    for kinds in (2, 20, 100):
        image = drawing.shares(axis, np.eye(kinds, dtype=int), (0, 1))
        assert (image.get_array() == np.arange(kinds)).all()
        assert len({tuple(image.cmap(image.norm(kind))) for kind in range(kinds)}) == kinds


def test_labels_are_counted_by_task_where_tasks_share_none():
    labels = np.array([3, 0, 0, 5, 4])
    assert run_figures.count_tasks(labels, [(0, 1), (4, 3), (5, 2), (6, 7)]) == [2, 2, 1, 0]
    assert run_figures.count_tasks(labels, [(0, 3, 4, 5)] * 2) == []


def test_forgetting_is_drawn_as_mean_and_deviation_of_the_seeds(tmp_path, monkeypatch):
    matrices = [[[90.0, None], [70.0, 80.0]], [[60.0, None], [56.0, 80.0]]]  # 20 and 4 points of task 1 are lost
    runs = [run("lump", matrix, seed=seed) for seed, matrix in enumerate(matrices)]
    figures = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    run_figures.plot_average_accuracy(tmp_path / "a.png", [*runs, RUNS[1]], "max")
    upper, _, lower, _ = figures[0].axes
    assert upper.lines[0].get_label() == "lump (simsiam), n=2"
    assert upper.lines[0].get_ydata().tolist() == [75.0, 71.5]
    assert lower.lines[0].get_xdata().tolist() == [2]
    assert lower.lines[0].get_ydata().tolist() == [12.0]
    heights = lower.collections[0].get_paths()[0].vertices[:, 1]
    assert [round(height, 4) for height in (heights.min(), heights.max())] == [0.6863, 23.3137]  # 12 -+ 8 sqrt(2)


def test_rows_of_a_stream_are_drawn_over_images_seen(tmp_path, monkeypatch):
    images = [40, 80, 100]
    streams = [
        run("lump", [[60.0, None], [90.0, 50.0], [70.0, last]], seed=seed, evaluations=evaluated(images, [1, 2, 2]))
        for seed, last in enumerate((66.0, 70.0))
    ]
    figures = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    run_figures.plot_average_accuracy(tmp_path / "a.png", streams, "max")
    upper, _, lower, _ = figures[0].axes
    assert upper.lines[0].get_xdata().tolist() == images
    assert upper.lines[0].get_ydata().tolist() == [60, 70, 69]
    assert lower.lines[0].get_xdata().tolist() == images[1:]
    assert lower.lines[0].get_ydata().tolist() == [0, 10]  # of task 1 20 points are lost, of task 2 none
