"""Describes what each probe of saved networks writes into results.json: the types of its settings and its values.

A field without a default is required. JSON cannot hold a number that is not finite, so the type of a measurement that
may fail allows null.
"""

from collections.abc import Sequence
from typing import Annotated, Any, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass

from ucl_jax.errors import check_argument
from ucl_jax.results.fields import (
    AboveZero,
    Accuracies,
    Channel,
    Count,
    Name,
    NotNegative,
    Number,
    NumberMatrix,
    Percent,
    Points,
    Positive,
    StageName,
    Text,
    require_keys,
    require_known,
    require_shape,
)


@dataclass(frozen=True, kw_only=True)
class KnnRow:
    """The accuracy of kNN with one number of neighbours and one temperature.

    Attributes:
      task: within the task, in per cent, one a task.
      all: over all classes seen, in per cent, one a task.
    """

    k: Positive
    temperature: AboveZero
    task: Accuracies
    all: Accuracies

    def __post_init__(self):
        require_known("task", self.task)
        require_known("all", self.all)


@dataclass(frozen=True, kw_only=True)
class KnnValues:
    """What the probe `knn` found: a row for each number of neighbours and temperature."""

    rows: list[KnnRow]


@dataclass(frozen=True, kw_only=True)
class LinearValues:
    """What the probe `linear` found.

    Attributes:
      task: accuracy of a linear classifier for each task, in per cent.
      all: accuracy on each task of one classifier for all classes seen, in per cent.
      penalty_task: the penalty of ridge regression that was chosen for each task; null with another solver.
      penalty_all: the same of the one classifier.
    """

    task: Accuracies
    all: Accuracies
    penalty_task: list[Number | None]
    penalty_all: Number | None

    def __post_init__(self):
        require_known("task", self.task)
        require_known("all", self.all)


@dataclass(frozen=True, kw_only=True)
class LinearAugmentedValues:
    """What the probe `linear_augmented` found, of one classifier for all classes seen.

    Attributes:
      all: accuracy on each task, in per cent.
      task: the same where the classifier chooses among the classes of the task only.
    """

    task: Accuracies
    all: Accuracies


@dataclass(frozen=True, kw_only=True)
class OodValues:
    """What the probe `ood` found: the accuracy on a data set that the network was not trained on.

    Attributes:
      knn: accuracy of kNN, in per cent.
      linear: accuracy of a linear classifier, in per cent.
      chance: the accuracy of guessing, in per cent.
      train_images: how many images the bank has.
      test_images: how many images were classified.
      k: the number of neighbours.
      penalty: of the linear classifier.
    """

    knn: Percent
    linear: Percent
    chance: Percent
    train_images: Count
    test_images: Count
    k: Positive
    penalty: Number


@dataclass(frozen=True, kw_only=True)
class FinetuneValues:
    """What the probe `finetune` found: the accuracy of the network after training it further on another data set.

    Attributes:
      accuracy: after the last epoch, in per cent.
      by_epoch: after each epoch, in per cent.
      chance: the accuracy of guessing, in per cent.
    """

    accuracy: Percent
    by_epoch: list[Percent]
    chance: Percent


@dataclass(frozen=True, kw_only=True)
class TransferValues:
    """What the probe `transfer` found.

    Attributes:
      matrix: an accuracy matrix, in per cent.
      random_init: the untrained network's accuracy on each task, in per cent.
      forward: forward transfer, in points.
      backward: backward transfer, in points.
      learning_accuracy: the mean accuracy on a task right after learning it, in per cent.
    """

    matrix: list[list[Percent | None]]
    random_init: list[Percent | None]
    forward: Points | None
    backward: Points | None
    learning_accuracy: Percent | None


@dataclass(frozen=True, kw_only=True)
class GeometryValues:
    """What the probe `geometry` found: how far the parameters have moved, and whether the features have collapsed.

    Attributes:
      l2_from_random: the distance from the untrained network's parameters.
      l2_from_previous: the distance from the parameters one task earlier; null where that network was not kept.
      effective_rank: of the features.
      rankme: RankMe of the features; this and the next two are null in files that are older than they.
      alignment: the mean squared distance between the features of two views of an image, from 0 to 4.
      uniformity: how evenly the features of views are spread, from -8 (the most) to 0.
      dimensions: of the features.
      deviation_mean: the mean of `deviation`.
      deviation_least: the smallest of `deviation`.
      deviation: the standard deviation of each dimension of the features.
    """

    l2_from_random: NotNegative
    l2_from_previous: NotNegative | None
    effective_rank: Number
    rankme: Number | None = None
    alignment: Number | None = None
    uniformity: Number | None = None
    dimensions: Count
    deviation_mean: Number
    deviation_least: Number
    deviation: list[Number | None]


@dataclass(frozen=True, kw_only=True)
class CkaValues:
    """What the probe `cka` found: how alike networks are.

    Attributes:
      networks: the number of tasks that each network of the run has learned (rows).
      other_networks: the same of the other run, or of the same run again (columns).
      cka: for each stage of the backbone, linear CKA from 0 to 1, [rows, columns].
      l2: distances between the parameters of backbones, [rows, columns]; null where their shapes differ.
    """

    networks: Annotated[list[Count], Field(min_length=1)]
    other_networks: Annotated[list[Count], Field(min_length=1)]
    cka: dict[StageName, NumberMatrix]
    l2: NumberMatrix

    def __post_init__(self):
        shape = len(self.networks), len(self.other_networks)
        require_keys("cka", self.cka, get_args(StageName))
        for stage, matrix in self.cka.items():
            require_shape(f"cka.{stage}", matrix, *shape)
        require_shape("l2", self.l2, *shape)


@dataclass(frozen=True, kw_only=True)
class CkaSettings:
    """The settings of the probe `cka` that pictures read: the folder of the other run, "" for none."""

    other: Text


@dataclass(frozen=True, kw_only=True)
class LandscapeValues:
    """What the probe `loss_landscape` found.

    Attributes:
      steps: the places along both directions at which the loss was computed, P of them.
      loss: [P, P], along the first direction and the second; null where it is not finite.
    """

    steps: Annotated[list[Number], Field(min_length=2)]
    loss: NumberMatrix

    def __post_init__(self):
        require_shape("loss", self.loss, len(self.steps), len(self.steps))


@dataclass(frozen=True, kw_only=True)
class LandscapeSettings:
    """The settings of the probe `loss_landscape` that pictures read."""

    task: Count
    loss: Name


@dataclass(frozen=True, kw_only=True)
class FeatureMapsItem:
    """An image with feature maps of it.

    Attributes:
      task: the image's task.
      label: the image's class.
      image: [H, W, 3] of 0..255.
      maps: [h, w] each, of some channels.
      channels: the number of the channel of each map.
    """

    task: Count
    label: Count
    image: Annotated[list[list[tuple[Channel, Channel, Channel]]], Field(min_length=1)]
    maps: list[NumberMatrix]
    channels: list[Count]

    def __post_init__(self):
        grids: list[tuple[str, Sequence[Sequence[Any]]]] = [("image", self.image)]
        grids += [(f"maps[{place}]", rows) for place, rows in enumerate(self.maps)]
        for name, rows in grids:
            check_argument(len(rows[0]) > 0, f"`{name}` is empty")
            require_shape(name, rows, len(rows), len(rows[0]))
        require_shape("channels", [self.channels], 1, len(self.maps))


@dataclass(frozen=True, kw_only=True)
class FeatureMapsValues:
    """What the probe `feature_maps` found: images with the maps that a stage of the network makes of them."""

    items: list[FeatureMapsItem]


@dataclass(frozen=True, kw_only=True)
class FeatureMapsSettings:
    """The settings of the probe `feature_maps` that pictures read."""

    stage: Name


@dataclass(frozen=True, kw_only=True)
class EmbeddingValues:
    """What the probe `embedding` found: features of N images, reduced to two dimensions.

    Attributes:
      points: [N, 2].
      task: [N], the task of each image.
      label: [N], the class of each image.
    """

    points: Annotated[list[tuple[Number, Number]], Field(min_length=1)]
    task: list[Count]
    label: list[Count]

    def __post_init__(self):
        require_shape("task", [self.task], 1, len(self.points))
        require_shape("label", [self.label], 1, len(self.points))


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings:
    """The settings of the probe `embedding` that pictures read."""

    method: Name


# A probe -> the types of its settings and of its values. The settings have a type of their own, in place of dict, where
# a picture is drawn of the record: there is no table then. Records of other probes are read without a type.
RECORD_TYPES: dict[str, tuple[Any, Any]] = {
    "knn": (dict, KnnValues),
    "linear": (dict, LinearValues),
    "linear_augmented": (dict, LinearAugmentedValues),
    "ood": (dict, OodValues),
    "finetune": (dict, FinetuneValues),
    "transfer": (dict, TransferValues),
    "geometry": (dict, GeometryValues),
    "cka": (CkaSettings, CkaValues),
    "feature_maps": (FeatureMapsSettings, FeatureMapsValues),
    "loss_landscape": (LandscapeSettings, LandscapeValues),
    "embedding": (EmbeddingSettings, EmbeddingValues),
}
