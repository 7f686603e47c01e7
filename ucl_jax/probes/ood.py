"""Measures the accuracy of frozen features on other data sets than that of the run.

Images are classified by kNN, as in the paper's Table 2, and by a linear classifier.
"""

import os

import numpy as np

from ucl_jax.data import prepare
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.evaluation.evaluators import TaskFeatures, knn_accuracy, put_bank
from ucl_jax.probes.base import Probe, Settings, accuracy, each
from ucl_jax.probes.knn import neighbours
from ucl_jax.probes.linear import predict
from ucl_jax.probes.trained_run import TrainedRun
from ucl_jax.results.paper import DATASETS


def _measure(run: TrainedRun, after: int, settings: Settings) -> dict:
    name = settings["dataset"]
    with run.other_data(name, settings["train_images"], settings["test_images"]) as stream:
        data = stream.task(0)
        num_classes = len(stream.classes[0])
    read = run.feature_extractor(after, run.normalised_for(name))
    bank, query = (np.asarray(read(images).features) for images in (data.train_image, data.test_image))
    task = TaskFeatures(bank, data.train_label, query, data.test_label)
    k = min(neighbours(run, after, settings["k"]), len(bank))
    solver = {"solver": "ridge", "penalties": settings["penalties"], "seed": settings["seed"]}
    predicted, penalty = predict(bank, data.train_label, query, solver)
    return {
        "knn": knn_accuracy(task, put_bank(bank, data.train_label), k, settings["temperature"], num_classes),
        "k": k,
        "linear": accuracy(predicted, data.test_label),
        "penalty": penalty,
        "chance": 100.0 / num_classes,
        "train_images": len(bank),
        "test_images": len(query),
    }


def datasets(run: TrainedRun, settings: Settings) -> list[Settings]:
    """Returns a case for each data set.

    The word "available" stands for those of DATASETS that are prepared here, without that of the run. The path of a
    folder becomes an absolute one, so that the record says which folder it was.

    Raises:
      UsageError: none is available.
    """
    if settings["dataset"] == ("available",):
        own = run.stream_settings.tfds_name.partition(":")[0]
        others = [name for name in DATASETS if BENCHMARKS[name].tfds_name != own]
        settings = settings | {"dataset": tuple(prepare.prepared_of(others, run.data_dir))}
    named = tuple(os.path.abspath(os.path.expanduser(one)) if "/" in one else one for one in settings["dataset"])
    return each("dataset")(run, settings | {"dataset": named})


ood = Probe(measure=_measure, cases=datasets)
