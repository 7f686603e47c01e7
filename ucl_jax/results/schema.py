"""Describes the files of a run folder as types: results.json, and the lines of metrics.jsonl.

What a config.json may hold is described by `ucl_jax.settings`.

A field without a default is required. A key that no field names is kept and written back, so that adding a key needs no
new VERSION; giving a key another meaning does. JSON cannot hold a number that is not finite, so the type of a
measurement that may fail allows null.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, is_dataclass
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import ConfigDict, Field, StrictBool, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from ucl_jax.settings import flatten

VERSION: Final = 1  # of results.json

# Whole numbers are limited to those that a float64 holds exactly, measured ones to the range of a float32.
Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]
Positive = Annotated[int, Field(strict=True, ge=1, le=2**53)]
Number = Annotated[float, Field(strict=True, ge=-3.5e38, le=3.5e38)]
NotNegative = Annotated[float, Field(strict=True, ge=0, le=3.5e38)]
AboveZero = Annotated[float, Field(strict=True, gt=0, le=3.5e38)]
Percent = Annotated[float, Field(strict=True, ge=0, le=100)]
Points = Annotated[float, Field(strict=True, ge=-100, le=100)]  # a difference of two accuracies
Seconds = Annotated[float, Field(strict=True, ge=0, le=1e10)]
Channel = Annotated[int, Field(strict=True, ge=0, le=255)]  # of a pixel
Text = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]  # no control characters but tabs and line ends
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]

Accuracies = Annotated[list[Percent | None], Field(min_length=1)]  # one a task; null where it was not evaluated
Matrix = Annotated[list[Accuracies], Field(min_length=1)]  # [rows, tasks], a row after each task learned
NumberMatrix = Annotated[list[list[Number | None]], Field(min_length=1)]
ProbeName = Literal["knn_task", "knn_all", "head_task", "head_all"]
StageName = Literal["stem", "stage1", "stage2", "stage3", "stage4"]
KEEP_UNKNOWN_KEYS = ConfigDict(extra="allow")  # of a record that keeps the keys that no field names


class OtherVersion(ValueError):
    """A results.json has another version than this program reads."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_shape(name: str, rows: Sequence[Sequence[Any]], height: int, width: int) -> None:
    """Raises ValueError unless `rows` is a matrix [height, width]."""
    _require(len(rows) == height, f"`{name}` has {len(rows)} rows, not {height}")
    for place, row in enumerate(rows):
        _require(len(row) == width, f"row {place} of `{name}` has {len(row)} entries, not {width}")


def _require_keys(name: str, given: Collection[str], wanted: Sequence[str]) -> None:
    missing = [key for key in wanted if key not in given]
    _require(not missing, f"`{name}` lacks {', '.join(missing)}")


def _require_known(name: str, values: Sequence[Any]) -> None:
    _require(any(value is not None for value in values), f"`{name}` has no number")


@functools.cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def read_as(kind: Any, content: Any, place: tuple[str | int, ...] = ()) -> Any:
    """Returns parsed JSON as a type of this module.

    Args:
      kind: the type.
      content: what a JSON file, or a part of it, holds.
      place: the keys and indices that lead to this part in the file.

    Raises:
      ValueError: the content does not have the type; names the first wrong place, such as
        "$.probes.knn_task.matrix[1][0]", and what is wrong there.
    """
    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        keys = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in (*place, *first["loc"]))
        raise ValueError(f"${''.join(keys)}: {first['msg']}") from error


@dataclass(frozen=True, kw_only=True)
class _NoNulls:
    """Base of records in which an optional field may be missing, but must not be null."""

    @model_validator(mode="before")
    @classmethod
    def _no_null(cls, given: Any) -> Any:
        names = [name for name, value in given.items() if value is None] if isinstance(given, dict) else []
        _require(not names, f"`{', '.join(names)}` is null")
        return given


# results.json: the config


@dataclass(frozen=True, kw_only=True)
class Named:
    """A section of a config that has the name of what was chosen, such as `config.objective`."""

    name: Name


@dataclass(frozen=True, kw_only=True)
class BenchmarkKeys(Named):
    """The part of `config.benchmark` that tables and figures read."""

    joint: StrictBool
    examples_per_task: Count


@dataclass(frozen=True, kw_only=True)
class EvaluationKeys:
    """The part of `config.eval` that tables and figures read."""

    forgetting: Literal["max", "first", "with_last"]
    tasks: Literal["all", "seen"]


@dataclass(frozen=True, kw_only=True)
class ConfigKeys:
    """The part of a run's config that tables and figures read."""

    recipe: Name
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)]
    benchmark: BenchmarkKeys
    objective: Named
    model: Named
    eval: EvaluationKeys


# results.json: the run's own probes


@dataclass(frozen=True, kw_only=True, config=KEEP_UNKNOWN_KEYS)
class ProbeSettings:
    """The settings of a kNN probe; a linear head has none of them.

    k: the number of neighbours that was asked for.
    k_rule: how the number used follows from it (`eval.knn_k_rule`).
    temperature: of the neighbours' weights.
    k_used: [rows, tasks], the number of neighbours that each entry of the accuracy matrix used.
    clipped: whether some bank was smaller than the number asked for.
    """

    k: Positive | None = None
    k_rule: Name | None = None
    temperature: AboveZero | None = None
    k_used: list[list[Positive | None]] | None = None
    clipped: StrictBool | None = None


@dataclass(frozen=True, kw_only=True, config=KEEP_UNKNOWN_KEYS)
class ProbeResult:
    """What a probe of the run itself found.

    settings: of the probe.
    matrix: the accuracy matrix: `matrix[t][i]` is the accuracy in per cent on task i after learning task t. Tasks that
      were learned have an entry.
    rows: "all" where every task was evaluated after every task, else "seen".
    average_accuracy: in per cent.
    forgetting: in points, by the name of each definition.
    chance: the accuracy of guessing, in per cent.
    random_init: the untrained network's accuracy on each task, in per cent; null where the run is not finished or did
      not measure it.
    """

    settings: ProbeSettings = field(default_factory=ProbeSettings)
    matrix: Matrix
    rows: Name | None = None
    average_accuracy: Percent | None = None
    forgetting: dict[str, Points | None] = field(default_factory=dict)
    chance: Percent
    random_init: Annotated[list[Percent], Field(min_length=1)] | None = None

    def __post_init__(self):
        rows, tasks = self.shape
        _require_shape("matrix", self.matrix, rows, tasks)
        _require(rows <= tasks, f"`matrix` has {rows} rows for {tasks} tasks")
        for place, row in enumerate(self.matrix):
            _require(None not in row[: place + 1], f"row {place} of `matrix` lacks a task that was learned")
        if self.random_init is not None:
            _require_shape("random_init", [self.random_init], 1, tasks)
        if self.settings.k_used is not None:
            _require_shape("settings.k_used", self.settings.k_used, rows, tasks)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and of tasks of the accuracy matrix."""
        return len(self.matrix), len(self.matrix[0])


# results.json: records of probes that were asked of saved networks afterwards


@dataclass(frozen=True, kw_only=True, config=KEEP_UNKNOWN_KEYS)
class Record:
    """What a probe of a saved network found.

    probe: the probe's name.
    after: the number of tasks that the network has learned; null where the record is about the whole run.
    settings: of the probe, as it wrote them.
    values: what it found, as it wrote it. `typed_values` has the fields that tables and pictures read.
    """

    probe: Name
    after: Count | None
    settings: dict[str, Any]
    values: dict[str, Any]

    @property
    def typed_settings(self) -> Any:
        """The settings as the type that RECORD_TYPES has for the probe; unchanged if the probe is not in it.

        Raises:
          ValueError: they do not have that type; names the wrong place.
        """
        return read_as(RECORD_TYPES.get(self.probe, (dict, dict))[0], self.settings, ("settings",))

    @property
    def typed_values(self) -> Any:
        """The values as the type that RECORD_TYPES has for the probe; unchanged if the probe is not in it.

        Raises:
          ValueError: they do not have that type; names the wrong place.
        """
        return read_as(RECORD_TYPES.get(self.probe, (dict, dict))[1], self.values, ("values",))


@dataclass(frozen=True, kw_only=True)
class KnnRow:
    """The accuracy of kNN with one number of neighbours and one temperature.

    task: within the task, in per cent, one a task.
    all: over all classes seen, in per cent, one a task.
    """

    k: Positive
    temperature: AboveZero
    task: Accuracies
    all: Accuracies

    def __post_init__(self):
        _require_known("task", self.task)
        _require_known("all", self.all)


@dataclass(frozen=True, kw_only=True)
class KnnValues:
    """What the probe `knn` found: a row for each number of neighbours and temperature."""

    rows: list[KnnRow]


@dataclass(frozen=True, kw_only=True)
class LinearValues:
    """What the probe `linear` found.

    task: accuracy of a linear classifier for each task, in per cent.
    all: accuracy on each task of one classifier for all classes seen, in per cent.
    penalty_task: the penalty of ridge regression that was chosen for each task; null with another solver.
    penalty_all: the same of the one classifier.
    """

    task: Accuracies
    all: Accuracies
    penalty_task: list[Number | None] | None = None
    penalty_all: Number | None = None

    def __post_init__(self):
        _require_known("task", self.task)
        _require_known("all", self.all)


@dataclass(frozen=True, kw_only=True)
class OodValues:
    """What the probe `ood` found: the accuracy on a data set that the network was not trained on.

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
    k: Positive | None = None
    penalty: Number | None = None


@dataclass(frozen=True, kw_only=True)
class FinetuneValues:
    """What the probe `finetune` found: the accuracy of the network after training it further on another data set.

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

    l2_from_random: the distance from the untrained network's parameters.
    l2_from_previous: the distance from the parameters one task earlier.
    effective_rank: of the features.
    dimensions: of the features.
    deviation_mean: the mean of `deviation`.
    deviation_least: the smallest of `deviation`.
    deviation: the standard deviation of each dimension of the features.
    """

    l2_from_random: NotNegative | None = None
    l2_from_previous: NotNegative | None = None
    effective_rank: Number | None = None
    dimensions: Count | None = None
    deviation_mean: Number | None = None
    deviation_least: Number | None = None
    deviation: list[Number | None] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class CkaValues:
    """What the probe `cka` found: how alike networks are.

    networks: the number of tasks that each network of the run has learned (rows).
    other_networks: the same of the other run, or of the same run again (columns).
    cka: for each stage of the backbone, linear CKA from 0 to 1, [rows, columns].
    l2: distances between the parameters of backbones, [rows, columns]; missing in records of early versions.
    """

    networks: Annotated[list[Count], Field(min_length=1)]
    other_networks: Annotated[list[Count], Field(min_length=1)]
    cka: dict[StageName, NumberMatrix]
    l2: NumberMatrix | None = None

    def __post_init__(self):
        shape = len(self.networks), len(self.other_networks)
        _require_keys("cka", self.cka, get_args(StageName))
        for stage, matrix in self.cka.items():
            _require_shape(f"cka.{stage}", matrix, *shape)
        if self.l2 is not None:
            _require_shape("l2", self.l2, *shape)


@dataclass(frozen=True, kw_only=True)
class CkaSettings:
    """The settings of the probe `cka` that pictures read: the folder of the other run, "" for none."""

    other: Text = ""


@dataclass(frozen=True, kw_only=True)
class LandscapeValues:
    """What the probe `loss_landscape` found.

    steps: the places along both directions at which the loss was computed, P of them.
    loss: [P, P], along the first direction and the second; null where it is not finite.
    """

    steps: Annotated[list[Number], Field(min_length=2)]
    loss: NumberMatrix

    def __post_init__(self):
        _require_shape("loss", self.loss, len(self.steps), len(self.steps))


@dataclass(frozen=True, kw_only=True)
class LandscapeSettings:
    """The settings of the probe `loss_landscape` that pictures read."""

    task: Count = 0
    loss: Name = "classifier"


@dataclass(frozen=True, kw_only=True)
class FeatureMapsItem(_NoNulls):
    """An image with feature maps of it.

    task: the image's task.
    label: the image's class.
    image: [H, W, 3] of 0..255.
    maps: [h, w] each, of some channels.
    channels: the number of the channel of each map, where it is known.
    """

    task: Count
    label: Count
    image: Annotated[list[list[tuple[Channel, Channel, Channel]]], Field(min_length=1)]
    maps: list[NumberMatrix]
    channels: list[Count] | None = None

    def __post_init__(self):
        grids: list[tuple[str, Sequence[Sequence[Any]]]] = [("image", self.image)]
        grids += [(f"maps[{place}]", rows) for place, rows in enumerate(self.maps)]
        for name, rows in grids:
            _require(len(rows[0]) > 0, f"`{name}` is empty")
            _require_shape(name, rows, len(rows), len(rows[0]))
        if self.channels is not None:
            _require_shape("channels", [self.channels], 1, len(self.maps))


@dataclass(frozen=True, kw_only=True)
class FeatureMapsValues:
    """What the probe `feature_maps` found: images with the maps that a stage of the network makes of them."""

    items: list[FeatureMapsItem]


@dataclass(frozen=True, kw_only=True)
class FeatureMapsSettings:
    """The settings of the probe `feature_maps` that pictures read."""

    stage: Name = "stage2"


@dataclass(frozen=True, kw_only=True)
class EmbeddingValues:
    """What the probe `embedding` found: features of N images, reduced to two dimensions.

    points: [N, 2].
    task: [N], the task of each image.
    label: [N], the class of each image.
    """

    points: Annotated[list[tuple[Number, Number]], Field(min_length=1)]
    task: list[Count]
    label: list[Count]

    def __post_init__(self):
        _require_shape("task", [self.task], 1, len(self.points))
        _require_shape("label", [self.label], 1, len(self.points))


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings:
    """The settings of the probe `embedding` that pictures read."""

    method: Name = "tsne"


@dataclass(frozen=True, kw_only=True, config=KEEP_UNKNOWN_KEYS)
class RunResult:
    """The content of a results.json: how a run was made, and what it has found so far.

    Attributes:
      version: of the file's format.
      finished: whether all tasks were learned.
      config: the whole config tree of the run.
      argument: what the recipe's file was given after its colon, such as "digits,simsiam"; "" for nothing.
      overrides: "section.key" -> value where the config differs from what the recipe gives for that argument.
      command: the command that was typed, for people to read.
      commit: the commit of the code; None outside a checkout.
      versions: of Python and the packages that numbers depend on, by name.
      device: the device in words.
      seconds: wall time of the run.
      images_per_second: speed of training.
      classes: the labels of each task.
      probes: what each of the run's own probes found, by name.
      analysis: records of probes that were asked of the saved networks afterwards.
    """

    version: Literal[1] = VERSION
    finished: StrictBool
    config: dict[str, Any]
    argument: Text
    overrides: dict[Name, Any]
    command: str | None = None
    commit: Text | None = None
    versions: dict[str, Text] = field(default_factory=dict)
    device: Text = "-"
    seconds: Seconds = 0.0
    images_per_second: NotNegative = 0.0
    classes: list[list[Count]] | None = None
    probes: dict[ProbeName, ProbeResult]
    analysis: list[Record] = field(default_factory=list)

    def __post_init__(self):
        _require_keys("probes", self.probes, ("knn_task", "knn_all"))
        rows, tasks = self.probes["knn_task"].shape
        for name, probe in self.probes.items():
            _require_shape(f"probes.{name}.matrix", probe.matrix, rows, tasks)
        _require(self.classes is None or len(self.classes) == tasks, f"`classes` is not of {tasks} tasks")

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Returns the result that the parsed content of a results.json describes.

        Raises:
          OtherVersion: it has no version, or another than VERSION.
          ValueError: it is malformed; names the first place that is wrong.
        """
        if not isinstance(content, Mapping):
            raise ValueError("it is no JSON object")
        version = content.get("version")
        if type(version) is not int or version != VERSION:
            found = "has no version" if version is None else f"is of version {str(version)[:20]}"
            raise OtherVersion(f"{found}, and this program reads version {VERSION} of results.json")
        result = read_as(cls, content)
        read_as(ConfigKeys, result.config, ("config",))
        for place, record in enumerate(result.analysis):
            for part, kind in zip(("settings", "values"), RECORD_TYPES.get(record.probe, ())):
                read_as(kind, getattr(record, part), ("analysis", place, part))
        return result

    def to_json(self) -> dict[str, Any]:
        """Returns a tree that `from_json` takes, without the optional keys that have no value."""
        tree = _plain(self)
        for probe in tree["probes"].values():
            probe["settings"] = {key: value for key, value in probe["settings"].items() if value is not None}
            if probe["rows"] is None:
                del probe["rows"]
        if not self.analysis:
            del tree["analysis"]
        return tree

    def with_analysis(self, analysis: Sequence[Record]) -> Self:
        """Returns a copy of the result with other records of analysis."""
        return type(self)(**vars(self) | {"analysis": list(analysis)})

    @property
    def settings(self) -> dict[str, Any]:
        """The config as "section.key" -> value."""
        return flatten(self.config)

    @property
    def recipe(self) -> str:
        """The recipe's name, such as "lump"."""
        return self.config["recipe"]

    @property
    def seed(self) -> int:
        """The seed of everything random in the run."""
        return self.config["seed"]

    @property
    def benchmark(self) -> str:
        """The name of the benchmark, such as "cifar10"."""
        return self.config["benchmark"]["name"]

    @property
    def objective(self) -> str:
        """The name of the objective, such as "simsiam"."""
        return self.config["objective"]["name"]

    @property
    def model(self) -> str:
        """The name of the architecture, such as "resnet18"."""
        return self.config["model"]["name"]

    @property
    def joint(self) -> bool:
        """Whether all tasks were learned at once."""
        return self.config["benchmark"]["joint"]

    @property
    def examples_per_task(self) -> int:
        """The number of training images a task; 0 means all of them."""
        return self.config["benchmark"]["examples_per_task"]

    @property
    def tasks_learned(self) -> int:
        """The number of tasks learned so far; joint training learns one."""
        return self.probes["knn_task"].shape[0]

    @property
    def name(self) -> str:
        """The recipe, objective and seed, such as "lump (simsiam, seed 0)"."""
        return f"{self.recipe} ({self.objective}, seed {self.seed})"


def _plain(value: Any) -> Any:
    """Returns a tree of dataclasses, dicts and lists as dicts and lists; keys that no field names come last."""
    if is_dataclass(value):
        return {name: _plain(item) for name, item in vars(value).items()}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


# A probe -> the types of its settings and of its values. Records of other probes are read without a type.
RECORD_TYPES: dict[str, tuple[Any, Any]] = {
    "knn": (dict, KnnValues),
    "linear": (dict, LinearValues),
    "ood": (dict, OodValues),
    "finetune": (dict, FinetuneValues),
    "transfer": (dict, TransferValues),
    "geometry": (dict, GeometryValues),
    "cka": (CkaSettings, CkaValues),
    "feature_maps": (FeatureMapsSettings, FeatureMapsValues),
    "loss_landscape": (LandscapeSettings, LandscapeValues),
    "embedding": (EmbeddingSettings, EmbeddingValues),
}


# metrics.jsonl


@dataclass(frozen=True, kw_only=True)
class MetricsRecord:
    """A line of metrics.jsonl: about a step where it has a loss, else about a task."""

    step: Count
    task: Count
    loss: Number = 0.0


Numbers = dict[str, Number | None]  # a line of metrics.jsonl with any keys
