"""Tests embeddings against scikit-learn."""

import numpy as np
from sklearn.decomposition import PCA

from tests.probed import measure


def test_embedding_is_scikit_learns_pca(subject):
    values = measure(subject, "embedding", method="pca", images=60)
    images, label, task = subject.test_images(60)
    assert (values["label"], values["task"]) == (label.tolist(), task.tolist())
    features = np.asarray(subject.objective(2).features(subject.network(2), images).features, np.float64)
    expected = PCA(2).fit_transform(features / np.linalg.norm(features, axis=1, keepdims=True))
    np.testing.assert_allclose(np.abs(values["points"]), np.abs(expected), atol=1e-3)
    assert np.shape(measure(subject, "embedding", images=20)["points"]) == (20, 2)
