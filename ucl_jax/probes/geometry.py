"""Where a network is, and whether its features collapse."""

import numpy as np

from ucl_jax import geometry as shapes
from ucl_jax.probes.base import Probe, Settings, finite
from ucl_jax.subject import Subject


def _measure(subject: Subject, after: int, settings: Settings) -> dict:
    backbone = subject.objective(after).backbone
    here = backbone(subject.network(after)[0])

    def distance(other):
        return shapes.l2_distance(here, backbone(subject.network(other)[0]))

    features = np.concatenate([task.query for task in subject.features(after, own_stage=False)])
    deviation = shapes.deviation(features)
    return {
        "l2_from_random": distance(0),
        "l2_from_previous": distance(after - 1) if after - 1 in subject.checkpoints else None,
        "effective_rank": shapes.effective_rank(features),
        "dimensions": features.shape[1],
        "deviation_mean": float(deviation.mean()),
        "deviation_least": float(deviation.min()),
        "deviation": [finite(value) for value in deviation],
    }


geometry = Probe(settings={}, measure=_measure)
