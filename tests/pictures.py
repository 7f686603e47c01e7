"""Holds what tests of pictures share: small numbers to draw, and how to look at pixels."""

import numpy as np
from PIL import Image

from tests import run_results

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
    {"task": 3, "label": 7, "image": [[[0, 0, 255]] * 4] * 4, "maps": [[[4.0, 5.0], [6.0, 7.0]]], "channels": [7]},
]
POINTS, TASK, LABEL = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], [0, 0, 1], [3, 4, 5]


def run(recipe, matrix, joint=False, seed=0, random_init=(60.0, 70.0), **more):
    """Returns the result of a run with an accuracy matrix."""
    probes = {"knn_task": run_results.probe(matrix, random_init=random_init), "knn_all": run_results.probe(matrix)}
    return run_results.result(recipe, joint=joint, seed=seed, probes=probes, **more)


STREAM = {"images": 40, "tasks": [[10, 0], [5, 5], [0, 10], [0, 10]], "buffer": [[8, 0], [6, 2]]}


def over_classes(**more):
    """Returns the result of a run over a stream of two classes, the second of which came late."""
    matrix = [[75.0, None], [65.0, 90.0], [60.0, 95.0]]
    probe = run_results.probe(matrix) | {"class_accuracy": matrix[-1], "class_matrix": matrix}
    evaluations = run_results.evaluated([40, 80, 120], [1, 2, 2])
    names = {"classes": [[4], [7]], "class_names": ["cat", "dog"]}
    return run_results.result(probes={"knn_task": probe, "knn_all": probe}, evaluations=evaluations, **names, **more)


RUNS = [run("lump", [[90.0, None], [80.0, 97.0]]), run("multitask", [[98.0, 99.0]], joint=True)]


def pixels(path):
    """Returns a picture as int [H, W, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def share(path, colour):
    """Returns the per cent of pixels that nearly have a colour, given as red, green, blue in 0..1."""
    near = np.abs(pixels(path) - 255 * np.array(colour[:3])).max(-1) < 6
    return 100 * near.mean()
