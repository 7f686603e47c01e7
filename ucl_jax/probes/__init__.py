"""Measures saved networks: the probes by their names. To add one, see docs/architecture.md."""

from ucl_jax.probes.base import Probe
from ucl_jax.probes.cka import cka
from ucl_jax.probes.embedding import embedding
from ucl_jax.probes.feature_maps import feature_maps
from ucl_jax.probes.finetune import finetune
from ucl_jax.probes.geometry import geometry
from ucl_jax.probes.knn import knn
from ucl_jax.probes.linear import linear
from ucl_jax.probes.linear_augmented import linear_augmented
from ucl_jax.probes.loss_landscape import loss_landscape
from ucl_jax.probes.ood import ood
from ucl_jax.probes.transfer import transfer

PROBES: dict[str, Probe] = {
    "knn": knn,
    "linear": linear,
    "linear_augmented": linear_augmented,
    "ood": ood,
    "finetune": finetune,
    "transfer": transfer,
    "cka": cka,
    "geometry": geometry,
    "feature_maps": feature_maps,
    "loss_landscape": loss_landscape,
    "embedding": embedding,
}
