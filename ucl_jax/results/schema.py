"""Describes the files of a run folder as types: results.json, and the lines of metrics.jsonl.

What a config.json may hold is told by `ucl_jax.settings`.

A field without a default has to be there; a key that no field names is left alone, unless a type says otherwise, so
that a reader of today can read what a later version adds. JSON has no word for a number that is not finite: where a
measurement may fail, its type has null.
"""

import shlex
from collections.abc import Sequence
from dataclasses import field, fields
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictBool, model_validator
from pydantic.dataclasses import dataclass

# Whole numbers stay below what a float64 holds exactly, measured ones within a float32: those of a network do.
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

Accuracies = Annotated[list[Percent | None], Field(min_length=1)]  # of tasks; null where one was not evaluated
Matrix = Annotated[list[Accuracies], Field(min_length=1)]  # [rows, tasks]
NumberMatrix = Annotated[list[list[Number | None]], Field(min_length=1)]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_shape(name: str, rows: Sequence[Sequence[Any]], height: int, width: int) -> None:
    """Raises ValueError unless `rows` is a matrix [height, width]."""
    _require(len(rows) == height, f"`{name}` has {len(rows)} rows, not {height}")
    for place, row in enumerate(rows):
        _require(len(row) == width, f"row {place} of `{name}` has {len(row)} entries, not {width}")


def _require_known(name: str, values: Sequence[Any]) -> None:
    _require(any(value is not None for value in values), f"`{name}` has no number")


@dataclass(frozen=True, kw_only=True)
class _Optional:
    """A record whose fields with the default None may be missing; a null in their place is an error."""

    @model_validator(mode="before")
    @classmethod
    def _no_null(cls, given: Any) -> Any:
        names = [name for name, value in given.items() if value is None] if isinstance(given, dict) else []
        _require(not names, f"`{', '.join(names)}` is null")
        return given


# results.json: the config


@dataclass(frozen=True, kw_only=True)
class Named:
    """A section of a config that names what was chosen."""

    name: Name


@dataclass(frozen=True, kw_only=True)
class BenchmarkRead(Named):
    """What tables and figures read of `config.benchmark`."""

    joint: StrictBool
    examples_per_task: Count


@dataclass(frozen=True, kw_only=True)
class EvaluationRead:
    """What tables and figures read of `config.eval`."""

    forgetting: Literal["max", "first", "with_last"]
    tasks: Literal["all", "seen"]


@dataclass(frozen=True, kw_only=True)
class ConfigRead:
    """What tables and figures read of the config of a run."""

    recipe: Name
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)]
    benchmark: BenchmarkRead
    objective: Named
    model: Named
    eval: EvaluationRead


# results.json: the run's own probes


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """The settings of a kNN probe, with the neighbours that each entry of its matrix used; a head has none of them."""

    k: Positive | None = None
    k_rule: Name | None = None
    temperature: AboveZero | None = None
    k_used: list[list[Positive | None]] | None = None
    clipped: StrictBool | None = None


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What a probe found in a run: `matrix[t][i]` is the accuracy in per cent on task i after learning task t.

    A task that was learned has been evaluated. `random_init` is the accuracy on every task before training; null where
    the run is not finished or did not measure it. `chance` is that of guessing.
    """

    matrix: Matrix
    chance: Percent
    random_init: Annotated[list[Percent], Field(min_length=1)] | None = None
    settings: ProbeSettings = field(default_factory=ProbeSettings)
    average_accuracy: Percent | None = None
    forgetting: dict[str, Points | None] = field(default_factory=dict)

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
        """Rows and tasks of the matrix."""
        return len(self.matrix), len(self.matrix[0])


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Probes(_Optional):
    """The probes of a run by name; those of the linear head where there is one."""

    knn_task: ProbeResult
    knn_all: ProbeResult
    head_task: ProbeResult | None = None
    head_all: ProbeResult | None = None

    def __post_init__(self):
        rows, tasks = self.knn_task.shape
        for name in (each.name for each in fields(self)):
            if (probe := getattr(self, name)) is not None:
                _require_shape(f"{name}.matrix", probe.matrix, rows, tasks)


# results.json: records of analysis, made afterwards


@dataclass(frozen=True, kw_only=True)
class Record:
    """A record of a probe of saved networks: `after` so many tasks learned, null where it is about the whole run."""

    probe: Name
    after: Count | None
    settings: dict[str, Any]
    values: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class KnnRow:
    """Accuracy by kNN with `k` neighbours, within each task and over all classes seen."""

    k: Positive
    temperature: AboveZero
    task: Accuracies
    all: Accuracies

    def __post_init__(self):
        _require_known("task", self.task)
        _require_known("all", self.all)


@dataclass(frozen=True, kw_only=True)
class KnnValues:
    """A row for each number of neighbours and temperature."""

    rows: list[KnnRow]


@dataclass(frozen=True, kw_only=True)
class LinearValues:
    """Accuracy of linear classifiers, and the penalties that ridge regression chose."""

    task: Accuracies
    all: Accuracies
    penalty_task: list[Number | None] | None = None
    penalty_all: Number | None = None

    def __post_init__(self):
        _require_known("task", self.task)
        _require_known("all", self.all)


@dataclass(frozen=True, kw_only=True)
class OodValues:
    """Accuracy on another data set."""

    knn: Percent
    linear: Percent
    chance: Percent
    train_images: Count
    test_images: Count
    k: Positive | None = None
    penalty: Number | None = None


@dataclass(frozen=True, kw_only=True)
class FinetuneValues:
    """Accuracy of a network that was trained on with the labels of another data set."""

    accuracy: Percent
    by_epoch: list[Percent]
    chance: Percent


@dataclass(frozen=True, kw_only=True)
class TransferValues:
    """Forward and backward transfer, in points."""

    matrix: list[list[Percent | None]]
    random_init: list[Percent | None]
    forward: Points | None
    backward: Points | None
    learning_accuracy: Percent | None


@dataclass(frozen=True, kw_only=True)
class GeometryValues:
    """Where a network is, and whether its features collapse."""

    l2_from_random: NotNegative | None = None
    l2_from_previous: NotNegative | None = None
    effective_rank: Number | None = None
    dimensions: Count | None = None
    deviation_mean: Number | None = None
    deviation_least: Number | None = None
    deviation: list[Number | None] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Stages:
    """A matrix [networks, networks of the other run] for each stage of a backbone."""

    stem: NumberMatrix
    stage1: NumberMatrix
    stage2: NumberMatrix
    stage3: NumberMatrix
    stage4: NumberMatrix


@dataclass(frozen=True, kw_only=True)
class CkaValues:
    """How alike networks are; `l2` is missing in records of early versions."""

    checkpoints: Annotated[list[Count], Field(min_length=1)]
    other_checkpoints: Annotated[list[Count], Field(min_length=1)]
    cka: Stages
    l2: NumberMatrix | None = None

    def __post_init__(self):
        shape = len(self.checkpoints), len(self.other_checkpoints)
        for stage in (each.name for each in fields(self.cka)):
            _require_shape(f"cka.{stage}", getattr(self.cka, stage), *shape)
        if self.l2 is not None:
            _require_shape("l2", self.l2, *shape)


@dataclass(frozen=True, kw_only=True)
class CkaSettings:
    """What pictures read of the settings of cka: the folder of the other run, "" for none."""

    other: Text = ""


@dataclass(frozen=True, kw_only=True)
class LandscapeValues:
    """The loss [first direction, second direction] at `steps` along both."""

    steps: Annotated[list[Number], Field(min_length=2)]
    loss: NumberMatrix

    def __post_init__(self):
        _require_shape("loss", self.loss, len(self.steps), len(self.steps))


@dataclass(frozen=True, kw_only=True)
class LandscapeSettings:
    """What pictures read of the settings of loss_landscape."""

    task: Count = 0
    loss: Name = "classifier"


@dataclass(frozen=True, kw_only=True)
class FeatureMapsItem(_Optional):
    """An image [H, W, 3] of 0..255, and maps [h, w] of some channels."""

    task: Count
    label: Count
    image: Annotated[list[list[tuple[Channel, Channel, Channel]]], Field(min_length=1)]
    maps: list[NumberMatrix]
    channels: list[Count] | None = None

    def __post_init__(self):
        for name, rows in [("image", self.image), *((f"maps[{place}]", rows) for place, rows in enumerate(self.maps))]:
            _require(len(rows[0]) > 0, f"`{name}` is empty")
            _require_shape(name, rows, len(rows), len(rows[0]))
        if self.channels is not None:
            _require_shape("channels", [self.channels], 1, len(self.maps))


@dataclass(frozen=True, kw_only=True)
class FeatureMapsValues:
    """Images with the maps that a stage makes of them."""

    items: list[FeatureMapsItem]


@dataclass(frozen=True, kw_only=True)
class FeatureMapsSettings:
    """What pictures read of the settings of feature_maps."""

    stage: Name = "stage2"


@dataclass(frozen=True, kw_only=True)
class EmbeddingValues:
    """Points of features, with their tasks and classes."""

    points: Annotated[list[tuple[Number, Number]], Field(min_length=1)]
    task: list[Count]
    label: list[Count]

    def __post_init__(self):
        _require_shape("task", [self.task], 1, len(self.points))
        _require_shape("label", [self.label], 1, len(self.points))


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings:
    """What pictures read of the settings of embedding."""

    method: Name = "tsne"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A results.json: what a run was, and what it found so far.

    `classes` are the labels of each task. Which versions, device and commit there were is for people to read: a file
    may be without them.
    """

    finished: StrictBool
    config: ConfigRead
    probes: Probes
    command: str | None = None
    commit: Text | None = None
    versions: dict[str, Text] = field(default_factory=dict)
    device: Text = "-"
    seconds: Seconds = 0.0
    images_per_second: NotNegative = 0.0
    classes: list[list[Count]] | None = None
    analysis: list[Record] = field(default_factory=list)

    def __post_init__(self):
        _, tasks = self.probes.knn_task.shape
        _require(self.classes is None or len(self.classes) == tasks, f"`classes` is not of {tasks} tasks")
        try:
            shlex.split(self.command or "")
        except ValueError as error:
            raise ValueError(f"`command` is no command ({error})") from error


# A probe -> the types of the settings and values of its records; a record of a probe that is not here is read as it is.
RECORDS: dict[str, tuple[Any, Any]] = {
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
    """A line of metrics.jsonl: of a step where it has a loss, else of a task."""

    step: Count
    task: Count
    loss: Number = 0.0


Numbers = dict[str, Number | None]  # such a line, whatever its keys
