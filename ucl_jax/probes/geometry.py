"""Measures, without labels, how far the parameters of a network have moved and how its features are spread."""

import jax
import jax.numpy as jnp
import numpy as np

from ucl_jax.evaluation import evaluators
from ucl_jax.evaluation import representation as shapes
from ucl_jax.probes.base import Probe, Settings, finite
from ucl_jax.probes.trained_run import TrainedRun
from ucl_jax.types import Batch


def _measure(run: TrainedRun, after: int, settings: Settings) -> dict:
    backbone = run.objective(after).backbone
    here = backbone(run.network(after).params)

    def distance(other):
        return shapes.l2_distance(here, backbone(run.network(other).params))

    features = np.concatenate([task.query for task in run.features(after, own_phase=False)])
    deviation = shapes.deviation(features)
    first, second = (
        views_features(run, after, settings["images"], key)
        for key in jax.random.split(jax.random.key(settings["seed"]))
    )
    return {
        "l2_from_random": distance(0),
        "l2_from_previous": distance(after - 1) if after - 1 in run.afters else None,
        "effective_rank": shapes.effective_rank(features),
        "rankme": shapes.rankme(features),
        "alignment": shapes.alignment(first, second),
        "uniformity": shapes.uniformity(first),
        "dimensions": features.shape[1],
        "deviation_mean": float(deviation.mean()),
        "deviation_least": float(deviation.min()),
        "deviation": [finite(value) for value in deviation],
    }


def views_features(run: TrainedRun, after: int, count: int, key: jax.Array) -> np.ndarray:
    """Computes the features [N, F] of one augmented view of each of at most `count` test images, in evaluation mode."""
    objective, network = run.objective(after), run.network(after)
    image, label, _ = run.test_images(count)

    @jax.jit
    def features(shown):
        image, label, keys = shown
        batch = Batch(image, label, jnp.ones(len(label), bool))
        view = objective.views(jax.random.wrap_key_data(keys), batch, "present").image[0]
        return objective.embed(network, view, False)[0].features

    keys = np.asarray(jax.random.key_data(jax.random.split(key, len(label))))
    return evaluators.extract(features, (image, label, keys), run.evaluation.batch_size)


geometry = Probe(measure=_measure)
