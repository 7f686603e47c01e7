"""Reduces the features of test images to two dimensions, to be drawn."""

import numpy as np

from ucl_jax.probes.base import Probe, Settings
from ucl_jax.probes.trained_run import TrainedRun


def pca(features: np.ndarray, seed: int) -> np.ndarray:
    """Projects features [N, F] on their first two principal components: [N, 2].

    The sign of each direction is such that its largest entry is positive. `seed` is not used.
    """
    centred = features - features.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    largest = np.abs(directions).argmax(1)
    return centred @ (directions * np.sign(directions[np.arange(2), largest])[:, None]).T


def tsne(features: np.ndarray, seed: int) -> np.ndarray:
    """Embeds features [N, F] by t-SNE of scikit-learn, started from the principal components: [N, 2].

    Source: van der Maaten & Hinton 2008.
    """
    from sklearn.manifold import TSNE  # slow to import

    return TSNE(init="pca", perplexity=min(30.0, (len(features) - 1) / 3), random_state=seed).fit_transform(features)


PROJECTIONS = {"pca": pca, "tsne": tsne}


def _measure(run: TrainedRun, after: int, settings: Settings) -> dict:
    project = PROJECTIONS[settings["method"]]
    images, label, task = run.test_images(settings["images"])
    features = np.asarray(run.feature_extractor(after)(images).features, np.float64)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)  # kNN sees directions only
    points = project(features, settings["seed"])
    return {"points": points.round(4).tolist(), "task": task.tolist(), "label": label.tolist()}


embedding = Probe(measure=_measure)
