"""Measures a network on held-out images without labels: how its features are spread, how alike those of views."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ucl_jax.data.tasks import TaskStream, choose_test_images
from ucl_jax.evaluation import evaluators, representation
from ucl_jax.objectives import Objective
from ucl_jax.types import Array, Batch, Variables

IMAGES = 1024  # held-out images that are measured, of all tasks


class Measured(NamedTuple):
    """Holds what was measured; the functions of the same names are in `evaluation/representation.py`.

    Attributes:
      spread: the mean of `deviation` over dimensions: about 1 where directions are even, 0 where they have collapsed.
      effective_rank: from 1 to min(N - 1, F); 0 where all features are the same.
      rankme: from 1 to min(N, F).
      alignment: in [0, 4].
      uniformity: in [-8, 0].
      features: float32 [N, F] of the images as they are.
    """

    spread: float
    effective_rank: float
    rankme: float
    alignment: float
    uniformity: float
    features: np.ndarray


def measure(objective: Objective, network: Variables, stream: TaskStream, batch_size: int, seed: int = 0) -> Measured:
    """Measures a network, on one device, on at most IMAGES test images of all tasks. They are always the same.

    Args:
      objective: gives features and views.
      network: the network.
      stream: the tasks, with two test images at least.
      batch_size: images that are shown to the network at once.
      seed: of the views.
    """
    image, label, _ = choose_test_images(stream, IMAGES)
    shown = jax.jit(objective.features)
    features = evaluators.extract(lambda images: shown(network, images).features, image, batch_size)
    keys = jax.random.split(jax.random.key(seed))
    first, second = (view_features(objective, network, image, label, key, batch_size) for key in keys)
    return Measured(
        spread=float(representation.deviation(features).mean()),
        effective_rank=representation.effective_rank(features),
        rankme=representation.rankme(features),
        alignment=representation.alignment(first, second),
        uniformity=representation.uniformity(first),
        features=features,
    )


def view_features(
    objective: Objective, network: Variables, image: np.ndarray, label: np.ndarray, key: Array, batch_size: int
) -> np.ndarray:
    """Computes the features [N, F] of one augmented view of each of N images, in evaluation mode."""
    keys = np.asarray(jax.random.key_data(jax.random.split(key, len(label))))
    return evaluators.extract(
        lambda shown: _view_features(objective, network, *shown), (image, label, keys), batch_size
    )


# The network is an argument, so that the networks of all evaluations share one program.
@functools.partial(jax.jit, static_argnums=0)
def _view_features(objective: Objective, network: Variables, image: Array, label: Array, keys: Array) -> Array:
    batch = Batch(image, label, jnp.ones(len(label), bool))
    view = objective.views(jax.random.wrap_key_data(keys), batch, "present").image[0]
    return objective.embed(network, view, False)[0].features
