"""Runs the notebook of the tour, as its reader would: each cell after the other, in a folder of its own."""

import json
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pytest

NOTEBOOK = pathlib.Path(__file__).parents[1] / "notebooks" / "tour.ipynb"


@pytest.fixture(scope="module")
def code():
    """Returns the cells of the notebook that hold code."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    names: dict = {}
    for cell in code:
        source = "".join(cell["source"])
        exec(compile(source.replace("EPOCHS = 100 ", "EPOCHS = 1 "), str(NOTEBOOK), "exec"), names)
        plt.close("all")
    assert names["EPOCHS"] == 1
    for found in names["runs"].values():
        assert np.shape(found["knn_task"]) == (5, 5)
        assert [features.shape for features in found["features"]] == [(len(names["kept"]), 128)] * 6
        assert not np.array_equal(found["features"][0], found["features"][-1])
    assert names["results"].finished
    assert names["model"].score(names["kept"], names["kept_labels"]) > 0.3  # chance is 0.1


def test_what_the_notebook_shows_is_what_its_cells_gave(code):
    """Checks that the notebook was saved after all of its cells had run in their order, and none had failed."""
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5
