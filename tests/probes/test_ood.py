"""Tests accuracy on another data set against weighted kNN worked by hand."""

import numpy as np
import pytest

from tests.probed import measure


def test_ood_is_weighted_knn_and_ridge_over_all_classes(subject):
    values = measure(subject, "ood", dataset="digits", train_images=200, test_images=100, k="7")
    assert (values["train_images"], values["test_images"], values["chance"]) == (200, 100, 10)
    with subject.other_data("digits", 200, 100) as stream:
        data = stream.task(0)
    bank, query = (
        np.asarray(subject.objective(2).features(subject.network(2), np.asarray(images)).features, np.float64)
        for images in (data.train_image, data.test_image)
    )
    bank, query = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, query))
    correct = 0
    for one, label in zip(query @ bank.T, data.test_label):
        nearest = np.argsort(-one)[:7]
        scores = np.bincount(data.train_label[nearest], np.exp(one[nearest] / 0.1), 10)
        correct += scores.argmax() == label
    assert values["knn"] == pytest.approx(correct, abs=1)
    assert 20 < values["knn"] <= 100
    assert 20 < values["linear"] <= 100
