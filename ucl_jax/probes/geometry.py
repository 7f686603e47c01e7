"""Measures, without labels, how far the parameters of a network have moved and how its features are spread."""

import jax
import numpy as np

from ucl_jax.evaluation import representation as shapes
from ucl_jax.probes.base import Probe, Settings, finite
from ucl_jax.probes.trained_run import TrainedRun
from ucl_jax.training.unlabelled import view_features


def _measure(run: TrainedRun, after: int, settings: Settings) -> dict:
    backbone = run.objective(after).backbone
    here = backbone(run.network(after).params)

    def distance(other):
        return shapes.l2_distance(here, backbone(run.network(other).params))

    features = np.concatenate([task.query for task in run.features(after, own_phase=False)])
    deviation = shapes.deviation(features)
    image, label, _ = run.test_images(settings["images"])
    first, second = (
        view_features(run.objective(after), run.network(after), image, label, key, run.evaluation.batch_size)
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


geometry = Probe(measure=_measure)
