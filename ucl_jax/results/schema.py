"""Describes the files of a run folder as types: results.json, and the lines of metrics.jsonl.

What a config.json may hold is told by `ucl_jax.settings`.

A field without a default has to be there. A key that no field names is left alone and is written back: adding a key
needs no new VERSION, giving one another meaning does. JSON has no word for a number that is not finite: where a
measurement may fail, its type has null.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, is_dataclass
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import ConfigDict, Field, StrictBool, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from ucl_jax.settings import flatten

VERSION = 1  # of results.json

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
ProbeName = Literal["knn_task", "knn_all", "head_task", "head_all"]
StageName = Literal["stem", "stage1", "stage2", "stage3", "stage4"]
OPEN = ConfigDict(extra="allow")  # keeps the keys that no field names


class OtherVersion(ValueError):
    """A results.json is of another version than this program reads."""


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
    """Returns JSON as a type of this module; `place` is where in the file it stands.

    Raises:
      ValueError: names the first place that is not of the type, such as "$.probes.knn_task.matrix[1][0]", and why.
    """
    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        keys = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in (*place, *first["loc"]))
        raise ValueError(f"${''.join(keys)}: {first['msg']}") from error


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


@dataclass(frozen=True, kw_only=True, config=OPEN)
class ProbeSettings:
    """The settings of a kNN probe, with the neighbours that each entry of its matrix used; a head has none of them."""

    k: Positive | None = None
    k_rule: Name | None = None
    temperature: AboveZero | None = None
    k_used: list[list[Positive | None]] | None = None
    clipped: StrictBool | None = None


@dataclass(frozen=True, kw_only=True, config=OPEN)
class ProbeResult:
    """What a probe found in a run: `matrix[t][i]` is the accuracy in per cent on task i after learning task t.

    A task that was learned has been evaluated. `rows` tells whether the others were too. `random_init` is the accuracy
    on every task before training; null where the run is not finished or did not measure it. `chance` is that of
    guessing.
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
        """Rows and tasks of the matrix."""
        return len(self.matrix), len(self.matrix[0])


# results.json: records of analysis, made afterwards


@dataclass(frozen=True, kw_only=True, config=OPEN)
class Record:
    """A record of a probe of saved networks: `after` so many tasks learned, null where it is about the whole run.

    `settings` and `values` are as the probe wrote them; `typed_settings` and `typed_values` have the fields that
    tables and pictures read.
    """

    probe: Name
    after: Count | None
    settings: dict[str, Any]
    values: dict[str, Any]

    @property
    def typed_settings(self) -> Any:
        """The settings as their type in RECORDS; of a probe that is not there, as they are.

        Raises:
          ValueError: they are not of that type; names the place.
        """
        return read_as(RECORDS.get(self.probe, (dict, dict))[0], self.settings, ("settings",))

    @property
    def typed_values(self) -> Any:
        """The values as their type in RECORDS; of a probe that is not there, as they are.

        Raises:
          ValueError: they are not of that type; names the place.
        """
        return read_as(RECORDS.get(self.probe, (dict, dict))[1], self.values, ("values",))


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
class CkaValues:
    """How alike networks are: a matrix [networks, networks of the other run] for each stage of a backbone.

    `l2` is missing in records of early versions.
    """

    checkpoints: Annotated[list[Count], Field(min_length=1)]
    other_checkpoints: Annotated[list[Count], Field(min_length=1)]
    cka: dict[StageName, NumberMatrix]
    l2: NumberMatrix | None = None

    def __post_init__(self):
        shape = len(self.checkpoints), len(self.other_checkpoints)
        _require_keys("cka", self.cka, get_args(StageName))
        for stage, matrix in self.cka.items():
            _require_shape(f"cka.{stage}", matrix, *shape)
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


@dataclass(frozen=True, kw_only=True, config=OPEN)
class RunResult:
    """A results.json: what a run was, and what it found so far.

    Attributes:
      version: of this description.
      finished: whether all tasks were learned.
      config: the whole config tree of the run.
      argument: what the recipe's file was given after its colon, such as "digits,simsiam"; "" for nothing.
      overrides: "section.key" -> value where the config differs from what the recipe gives for that argument.
      command: what was typed, for people to read.
      commit: of the code; None outside a checkout.
      versions: of Python and the packages that numbers depend on.
      device: in words.
      seconds: of wall time.
      images_per_second: of training.
      classes: the labels of each task.
      probes: what each probe of the run found.
      analysis: records of probes that were made afterwards.
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
        """Returns the result that a results.json holds.

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
        read_as(ConfigRead, result.config, ("config",))
        for place, record in enumerate(result.analysis):
            for part, kind in zip(("settings", "values"), RECORDS.get(record.probe, ())):
                read_as(kind, getattr(record, part), ("analysis", place, part))
        return result

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes; what a probe or a run may be without is left out where it is missing."""
        tree = _plain(self)
        for probe in tree["probes"].values():
            probe["settings"] = {key: value for key, value in probe["settings"].items() if value is not None}
            if probe["rows"] is None:
                del probe["rows"]
        if not self.analysis:
            del tree["analysis"]
        return tree

    def with_analysis(self, analysis: Sequence[Record]) -> Self:
        """Returns the same result with these records of analysis."""
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
        """The seed of all that is random in the run."""
        return self.config["seed"]

    @property
    def benchmark(self) -> str:
        """The benchmark's name."""
        return self.config["benchmark"]["name"]

    @property
    def objective(self) -> str:
        """The objective's name."""
        return self.config["objective"]["name"]

    @property
    def model(self) -> str:
        """The architecture's name."""
        return self.config["model"]["name"]

    @property
    def joint(self) -> bool:
        """Whether all tasks were learned at once."""
        return self.config["benchmark"]["joint"]

    @property
    def examples_per_task(self) -> int:
        """The training images a task; 0 stands for all."""
        return self.config["benchmark"]["examples_per_task"]

    @property
    def tasks_learned(self) -> int:
        """How many tasks were learned; joint training is one."""
        return self.probes["knn_task"].shape[0]

    @property
    def name(self) -> str:
        """Such as "lump (simsiam, seed 0)"."""
        return f"{self.recipe} ({self.objective}, seed {self.seed})"


def _plain(value: Any) -> Any:
    """Returns a tree of dataclasses, dicts and lists as JSON has it; the keys that no field names come last."""
    if is_dataclass(value):
        return {name: _plain(item) for name, item in vars(value).items()}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


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
