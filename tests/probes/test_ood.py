"""Tests accuracy on another data set, of TFDS or in a folder, against weighted kNN worked by hand."""

import os

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.probed import measure, results
from ucl_jax import probe


@pytest.fixture
def labelled(tmp_path):
    """A folder of the digits 0, 1 and 2: a sub-folder for each, of 30 images."""
    digits = load_digits()
    images = np.repeat(np.uint8(digits.images * 15)[..., None], 3, axis=-1)
    for label in range(3):
        (tmp_path / "labelled" / f"digit {label}").mkdir(parents=True)
        for n, one in enumerate(images[digits.target == label][:30]):
            Image.fromarray(one).save(tmp_path / "labelled" / f"digit {label}" / f"{n}.png")
    return str(tmp_path / "labelled")


def by_hand(subject, name, k, *counts):
    """Returns the accuracy of kNN after two tasks, by loops over images."""
    with subject.other_data(name, *counts) as stream:
        data, classes = stream.task(0), len(stream.classes[0])
    bank, query = (
        np.asarray(subject.objective(2).features(subject.network(2), np.asarray(images)).features, np.float64)
        for images in (data.train_image, data.test_image)
    )
    bank, query = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, query))
    correct = 0
    for one, label in zip(query @ bank.T, data.test_label):
        nearest = np.argsort(-one)[:k]
        scores = np.bincount(data.train_label[nearest], np.exp(one[nearest] / 0.1), classes)
        correct += scores.argmax() == label
    return 100 * correct / len(query)


def test_ood_is_weighted_knn_and_ridge_over_all_classes(subject):
    values = measure(subject, "ood", dataset="digits", train_images=200, test_images=100, k="7")
    assert (values["train_images"], values["test_images"], values["chance"]) == (200, 100, 10)
    assert values["knn"] == pytest.approx(by_hand(subject, "digits", 7, 200, 100), abs=1)
    assert 20 < values["knn"] <= 100
    assert 20 < values["linear"] <= 100


def test_a_labelled_folder_is_asked_as_other_data_sets_are(subject, labelled):
    values = measure(subject, "ood", dataset=labelled, k="7")
    assert (values["train_images"], values["test_images"], values["chance"]) == (81, 9, pytest.approx(100 / 3))
    assert values["knn"] == pytest.approx(by_hand(subject, labelled, 7, 0, 0))
    assert 50 < values["knn"] <= 100


def test_the_record_has_the_whole_path_of_a_folder(workdir, labelled, monkeypatch, capsys):
    monkeypatch.chdir(os.path.dirname(labelled))
    assert probe.main([f"--workdir={workdir}", "--probes=ood", "--set=ood.dataset=digits,./labelled"]) == 0
    datasets = [record["settings"]["dataset"] for record in results(workdir)["analysis"]]
    assert sorted(datasets) == sorted(["digits", labelled])
    os.mkdir("few")
    assert probe.main([f"--workdir={workdir}", "--probes=ood", "--set=ood.dataset=./few"]) == 2
    assert capsys.readouterr().err.startswith("error: the data set folders is 'classes', but ")
