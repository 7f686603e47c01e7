"""Measures how alike networks are, stage by stage: linear CKA (Kornblith et al. 2019; Nguyen et al. 2021).

The probe also gives the l2 distance between the parameters of the backbones, as in the paper's fig. 3. The paper's stem
is the output of the first convolution. Here it is the input of the first stage, after normalisation and ReLU.
"""

import functools
import pathlib

import jax
import numpy as np

from ucl_jax.errors import require
from ucl_jax.evaluation import representation
from ucl_jax.objectives import STAGES
from ucl_jax.probes.base import Probe, Settings, finite
from ucl_jax.probes.trained_run import TrainedRun
from ucl_jax.training.checkpoint import Networks
from ucl_jax.types import Params


def _measure(run: TrainedRun, after: None, settings: Settings) -> dict:
    batch_size = settings["batch_size"]
    images, _, _ = run.test_images(settings["images"])
    count = len(images) // batch_size
    require(count > 0, f"there are {len(images)} test images, fewer than cka.batch_size ({batch_size})")
    order = np.random.default_rng(settings["seed"]).permutation(len(images))[: count * batch_size]
    batches = images[order].reshape(count, batch_size, *images.shape[1:])
    rows = grams(run, batches)
    if not settings["other"]:
        other, columns = run, rows
    else:
        with TrainedRun(pathlib.Path(settings["other"]), run.data_dir) as other:
            require(
                run.stream_settings.image_size == other.stream_settings.image_size,
                f"{settings['other']} was trained on images of another size",
            )
            columns = grams(other, batches)
    return {
        "images": len(order),
        "networks": run.afters,
        "other_networks": other.afters,
        "cka": {name: _compare(rows[name], columns[name]) for name in STAGES if name in rows and name in columns},
        "l2": [[_distance(one, two) for two in _backbones(other)] for one in _backbones(run)],
    }


def _backbones(run: TrainedRun) -> list[Params]:
    """Returns the parameters of the backbone of every network; where the architecture grows, of the present column."""
    return [run.objective(after).backbone(run.network(after).params) for after in run.afters]


def _distance(one: Params, two: Params) -> float | None:
    """Returns the l2 distance of two backbones; None if their shapes differ."""
    if jax.tree.map(np.shape, one) != jax.tree.map(np.shape, two):
        return None
    return round(representation.l2_distance(one, two), 4)


def grams(run: TrainedRun, batches: np.ndarray) -> dict[str, np.ndarray]:
    """Computes Gram matrices of the maps that every network makes at each stage.

    Args:
      run: gives the networks.
      batches: images uint8 [batches, B, H, W, C].

    Returns:
      The name of a stage -> float32 [networks, batches, B, B].
    """
    found: dict[str, list] = {}
    for after in run.afters:
        of_batches = [_grams(run.objective(after).maps, run.network(after), batch) for batch in batches]
        for name in of_batches[0]:
            found.setdefault(name, []).append(np.stack([np.asarray(one[name]) for one in of_batches]))
    return {name: np.stack(of_networks) for name, of_networks in found.items()}


@functools.partial(jax.jit, static_argnums=0)
def _grams(maps, network, images):
    return jax.tree.map(representation.gram, maps(network, images))


def _compare(rows: np.ndarray, columns: np.ndarray) -> list[list[float | None]]:
    """Computes CKA of every pair of networks from Gram matrices [networks, batches, B, B]; None for constant maps."""
    sums = representation.minibatch_init(len(rows), len(columns))
    for batch in range(rows.shape[1]):
        sums = representation.minibatch_add(sums, rows[:, batch], columns[:, batch])
    return [[finite(value) for value in row] for row in representation.minibatch_cka(sums)]


def _resolved(run: TrainedRun, settings: Settings) -> list[Settings]:
    """Returns the settings with `other` as an absolute path, so that a folder has one name however it is given."""
    other = settings["other"]
    require(not other or (pathlib.Path(other) / "config.json").exists(), f"cka.other={other} is no run folder")
    return [settings | {"other": other and str(pathlib.Path(other).resolve())}]


def _networks(run: TrainedRun, settings: Settings) -> dict[str, list[int]]:
    """Returns which networks there are now. There are more once a run has gone on."""
    networks = Networks(pathlib.Path(settings["other"]) / "networks") if settings["other"] else run.networks
    return {"networks": run.afters, "other_networks": [0, *networks.afters()]}


cka = Probe(
    measure=_measure,
    cases=_resolved,
    whole_run=True,
    depends_on=_networks,
)
