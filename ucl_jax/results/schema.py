"""Describes the files of a run folder as types: results.json, and the lines of metrics.jsonl.

What a config.json may hold is described by `ucl_jax.settings`.

A field without a default is required. A key that no field names is kept and written back, so that adding a key needs no
new VERSION; giving a key another meaning does. JSON cannot hold a number that is not finite, so the type of a
measurement that may fail allows null.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, is_dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, StrictBool
from pydantic.dataclasses import dataclass

from ucl_jax.errors import check_argument
from ucl_jax.results.fields import (
    AboveZero,
    AccuracyMatrix,
    Count,
    Name,
    NotNegative,
    Number,
    Percent,
    Points,
    Positive,
    Seconds,
    Text,
    read_as,
    require_keys,
    require_shape,
)
from ucl_jax.results.records import RECORD_TYPES
from ucl_jax.settings import flatten

VERSION: Final = 1  # of results.json

ProbeName = Literal["knn_task", "knn_all", "head_task", "head_all", "online_linear"]
KEEP_UNKNOWN_KEYS = ConfigDict(extra="allow")  # of a record that keeps the keys that no field names


class OtherVersion(ValueError):
    """A results.json has another version than this program reads."""


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
class ProbeResultSettings:
    """The settings of a kNN probe; other probes have none of them.

    k: the number of neighbours that was asked for.
    k_rule: how the number used follows from it (`eval.knn_k_rule`).
    temperature: of the neighbours' weights.
    search: how the neighbours were found (`eval.knn_search`); None in files that are older than this setting.
    k_used: [rows, tasks], the number of neighbours that each entry of the accuracy matrix used.
    clipped: whether some bank was smaller than the number asked for.
    """

    k: Positive | None = None
    k_rule: Name | None = None
    temperature: AboveZero | None = None
    search: Name | None = None
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
      not measure it, and for the online linear probe, which is trained with the network.
    """

    settings: ProbeResultSettings = field(default_factory=ProbeResultSettings)
    matrix: AccuracyMatrix
    rows: Name | None = None
    average_accuracy: Percent | None = None
    forgetting: dict[str, Points | None] = field(default_factory=dict)
    chance: Percent
    random_init: Annotated[list[Percent], Field(min_length=1)] | None = None

    def __post_init__(self):
        rows, tasks = self.shape
        require_shape("matrix", self.matrix, rows, tasks)
        check_argument(rows <= tasks, f"`matrix` has {rows} rows for {tasks} tasks")
        for place, row in enumerate(self.matrix):
            check_argument(None not in row[: place + 1], f"row {place} of `matrix` lacks a task that was learned")
        if self.random_init is not None:
            require_shape("random_init", [self.random_init], 1, tasks)
        if self.settings.k_used is not None:
            require_shape("settings.k_used", self.settings.k_used, rows, tasks)

    @property
    def shape(self) -> tuple[int, int]:
        """Returns the numbers of rows and of tasks of the accuracy matrix."""
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
        """Returns the settings as the type that RECORD_TYPES has for the probe; unchanged if the probe is not in it.

        Raises:
          ValueError: they do not have that type; names the wrong place.
        """
        return read_as(RECORD_TYPES.get(self.probe, (dict, dict))[0], self.settings, ("settings",))

    @property
    def typed_values(self) -> Any:
        """Returns the values as the type that RECORD_TYPES has for the probe; unchanged if the probe is not in it.

        Raises:
          ValueError: they do not have that type; names the wrong place.
        """
        return read_as(RECORD_TYPES.get(self.probe, (dict, dict))[1], self.values, ("values",))


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
        require_keys("probes", self.probes, ("knn_task", "knn_all"))
        rows, tasks = self.probes["knn_task"].shape
        for name, probe in self.probes.items():
            require_shape(f"probes.{name}.matrix", probe.matrix, rows, tasks)
        check_argument(self.classes is None or len(self.classes) == tasks, f"`classes` is not of {tasks} tasks")

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
        """Returns the config as "section.key" -> value."""
        return flatten(self.config)

    @property
    def recipe(self) -> str:
        """Returns the recipe's name, such as "lump"."""
        return self.config["recipe"]

    @property
    def seed(self) -> int:
        """Returns the seed of everything random in the run."""
        return self.config["seed"]

    @property
    def benchmark(self) -> str:
        """Returns the name of the benchmark, such as "cifar10"."""
        return self.config["benchmark"]["name"]

    @property
    def objective(self) -> str:
        """Returns the name of the objective, such as "simsiam"."""
        return self.config["objective"]["name"]

    @property
    def model(self) -> str:
        """Returns the name of the architecture, such as "resnet18"."""
        return self.config["model"]["name"]

    @property
    def joint(self) -> bool:
        """Tells whether all tasks were learned at once."""
        return self.config["benchmark"]["joint"]

    @property
    def examples_per_task(self) -> int:
        """Returns the number of training images a task; 0 means all of them."""
        return self.config["benchmark"]["examples_per_task"]

    @property
    def forgetting_definition(self) -> str:
        """Returns the definition of forgetting that the config names, a key of `accuracy_matrix.FORGETTING`."""
        return self.config["eval"]["forgetting"]

    @property
    def seen_tasks_only(self) -> bool:
        """Tells whether tasks were evaluated only once they were learned (`eval.tasks=seen`)."""
        return self.config["eval"]["tasks"] == "seen"

    @property
    def tasks_learned(self) -> int:
        """Returns the number of tasks learned so far; joint training learns one."""
        return self.probes["knn_task"].shape[0]

    @property
    def tasks(self) -> int:
        """Returns the number of tasks that are evaluated."""
        return self.probes["knn_task"].shape[1]

    @property
    def name(self) -> str:
        """Returns the recipe, objective and seed, such as "lump (simsiam, seed 0)"."""
        return f"{self.recipe} ({self.objective}, seed {self.seed})"


def _plain(value: Any) -> Any:
    """Returns a tree of dataclasses, dicts and lists as dicts and lists; keys that no field names come last."""
    if is_dataclass(value):
        return {name: _plain(item) for name, item in vars(value).items()}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


# metrics.jsonl


@dataclass(frozen=True, kw_only=True)
class MetricsEntry:
    """A line of metrics.jsonl: about a step where it has a loss, else about a task."""

    step: Count
    task: Count
    loss: Number = 0.0


AnyEntry = dict[str, Number | None]  # a line of metrics.jsonl with any keys
