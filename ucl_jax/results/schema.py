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

    Attributes:
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
class Evaluated:
    """When a network was evaluated, which gave a row of each accuracy matrix.

    Attributes:
      step: the steps done in the whole run.
      images_seen: how many images of the stream were shown by then; several updates on a batch count it once.
      gradient_samples: of how many images gradients were taken by then, of present and of replayed ones.
      tasks_seen: the number of tasks that count as seen, the first ones.
    """

    step: Count
    images_seen: Count
    gradient_samples: Count
    tasks_seen: Positive


@dataclass(frozen=True, kw_only=True, config=KEEP_UNKNOWN_KEYS)
class ProbeResult:
    """What a probe of the run itself found.

    Attributes:
      settings: of the probe.
      matrix: the accuracy matrix: `matrix[r][i]` is the accuracy in per cent on task i when the network was evaluated
        for the time r, as a rule after learning task r. Tasks that were seen have an entry.
      rows: "all" where every task was evaluated every time, else "seen".
      average_accuracy: of the last row, in per cent.
      stream_average: the mean of the average accuracies of all rows, in per cent.
      class_accuracy: of the last row, in per cent, for each class of the run in the order of labels; null for a class
        that was not evaluated, and for probes that do not record it.
      class_matrix: the same of every row: `class_matrix[r][c]` is the accuracy on class c in row r; null for probes
        that do not record it, and in older files.
      forgetting: in points, by the name of each definition.
      chance: the accuracy of guessing, in per cent.
      random_init: the untrained network's accuracy on each task, in per cent; null where the run is not finished or did
        not measure it, and for the online linear probe, which is trained with the network.
    """

    settings: ProbeResultSettings = field(default_factory=ProbeResultSettings)
    matrix: AccuracyMatrix
    rows: Name | None = None
    average_accuracy: Percent | None = None
    stream_average: Percent | None = None
    class_accuracy: list[Percent | None] | None = None
    class_matrix: list[list[Percent | None]] | None = None
    forgetting: dict[str, Points | None] = field(default_factory=dict)
    chance: Percent
    random_init: Annotated[list[Percent], Field(min_length=1)] | None = None

    def __post_init__(self):
        rows, tasks = self.shape
        require_shape("matrix", self.matrix, rows, tasks)
        if self.random_init is not None:
            require_shape("random_init", [self.random_init], 1, tasks)
        if self.settings.k_used is not None:
            require_shape("settings.k_used", self.settings.k_used, rows, tasks)
        if self.class_matrix is not None:
            require_shape("class_matrix", self.class_matrix, rows, len(self.class_accuracy or ()))

    @property
    def shape(self) -> tuple[int, int]:
        """Returns the numbers of rows and of tasks of the accuracy matrix."""
        return len(self.matrix), len(self.matrix[0])


# results.json: the stream


@dataclass(frozen=True, kw_only=True, config=KEEP_UNKNOWN_KEYS)
class StreamRecord:
    """What came when, and what the buffer held.

    Attributes:
      images: the number of images of one pass over the stream.
      tasks: [windows, tasks], how many images of each task came in each window. All windows are equally long.
      buffer: [rows, tasks], how many images of each task the buffer held when each row of the accuracy matrices was
        made. [] where there is no buffer, and where tasks have the same classes, so that a label does not tell the
        task.
      classes: [windows, classes], how many images of each class came in each window, in the order of labels; None
        where the images have no labels, and in files that are older than this field.
    """

    images: Positive
    tasks: Annotated[list[list[Count]], Field(min_length=1)]
    buffer: list[list[Count]] = field(default_factory=list)
    classes: list[list[Count]] | None = None


# results.json: what is measured without labels


@dataclass(frozen=True, kw_only=True, config=KEEP_UNKNOWN_KEYS)
class Representation:
    """What was measured of a network without labels, on held-out images of all tasks.

    Attributes:
      spread: the mean deviation of unit features, times the root of their dimensions: 0 where they have collapsed.
      effective_rank, rankme: how many directions the features use, by two definitions.
      alignment: the mean squared distance of two views.
      uniformity: how evenly the features are spread; the lower, the more.
      cka: linear CKA with the network after each earlier task, of the same images; null where it is not defined.
    """

    spread: NotNegative
    effective_rank: NotNegative
    rankme: NotNegative
    alignment: NotNegative
    uniformity: Number
    cka: list[Number | None] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, config=KEEP_UNKNOWN_KEYS)
class RepresentationResult:
    """What a run measured without labels.

    Attributes:
      rows: after each task learned.
      random_init: of the untrained network; null where the run is not finished or did not measure it.
    """

    rows: Annotated[list[Representation], Field(min_length=1)]
    random_init: Representation | None = None


# results.json: records of probes that were asked of saved networks afterwards


@dataclass(frozen=True, kw_only=True, config=KEEP_UNKNOWN_KEYS)
class Record:
    """What a probe of a saved network found.

    Attributes:
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
      class_names: the name of each class of the run, in the order of labels; None where classes have no names, and in
        files that are older than this key.
      evaluations: when each row of the accuracy matrices was made; null in files that are older than this key, whose
        rows are those after each task.
      stream: what came when; None in files that are older than this field.
      probes: what each of the run's own probes found, by name; none where the images have no labels.
      representation: what was measured without labels; None where the images have labels.
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
    class_names: list[str] | None = None
    evaluations: list[Evaluated] | None = None
    stream: StreamRecord | None = None
    probes: dict[ProbeName, ProbeResult]
    representation: RepresentationResult | None = None
    analysis: list[Record] = field(default_factory=list)

    def __post_init__(self):
        if self.representation is None:
            require_keys("probes", self.probes, ("knn_task", "knn_all"))
        rows, tasks = self.shape
        for name, probe in self.probes.items():
            require_shape(f"probes.{name}.matrix", probe.matrix, rows, tasks)
        check_argument(self.classes is None or len(self.classes) == tasks, f"`classes` is not of {tasks} tasks")
        if self.stream is not None:
            for part, counts in (("tasks", self.stream.tasks), ("buffer", self.stream.buffer)):
                require_shape(f"stream.{part}", counts, len(counts), tasks)
            if self.stream.classes is not None:
                require_shape("stream.classes", self.stream.classes, len(self.stream.tasks), len(self.labels))

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
        result._check_rows()
        for place, record in enumerate(result.analysis):
            for part, kind in zip(("settings", "values"), RECORD_TYPES.get(record.probe, ())):
                read_as(kind, getattr(record, part), ("analysis", place, part))
        return result

    def _check_rows(self) -> None:
        """Raises ValueError unless the rows of the accuracy matrices have the tasks that were seen by then."""
        seen, (rows, tasks) = self.tasks_seen, self.shape
        check_argument(len(seen) == rows, f"$.evaluations: it has {len(seen)} entries for {rows} rows")
        check_argument(
            seen == sorted(seen) and seen[-1] <= tasks,
            f"$: there are {tasks} tasks, and the rows have seen {', '.join(map(str, seen))}",
        )
        for name, probe in self.probes.items():
            for place, row in enumerate(probe.matrix):
                check_argument(
                    None not in row[: seen[place]], f"$.probes.{name}.matrix[{place}]: it lacks a task that was seen"
                )

    def to_json(self) -> dict[str, Any]:
        """Returns a tree that `from_json` takes, without the optional keys that have no value."""
        tree = _plain(self)
        for probe in tree["probes"].values():
            probe["settings"] = {key: value for key, value in probe["settings"].items() if value is not None}
            for key in ("rows", "stream_average", "class_accuracy", "class_matrix"):
                if probe[key] is None:
                    del probe[key]
        for key in ("class_names", "evaluations", "stream", "representation"):
            if tree[key] is None:
                del tree[key]
        if self.stream is not None and self.stream.classes is None:
            del tree["stream"]["classes"]
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
    def stream_name(self) -> str:
        """Returns the name of the stream, such as "tasks", which is the only one of older files."""
        return self.config.get("stream", {}).get("name", "tasks")

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
    def shape(self) -> tuple[int, int]:
        """Returns how often the network was evaluated, and the number of tasks."""
        if self.representation is not None:
            return len(self.representation.rows), len(self.classes or ())
        return self.probes["knn_task"].shape

    @property
    def tasks_learned(self) -> int:
        """Returns `after` of the latest network: how often it was evaluated, as a rule after each task learned."""
        return self.shape[0]

    @property
    def tasks_seen(self) -> list[int]:
        """Returns the number of tasks seen in each row of the accuracy matrices."""
        if self.evaluations is not None:
            return [row.tasks_seen for row in self.evaluations]
        rows, tasks = self.shape
        return [tasks] if self.joint else list(range(1, rows + 1))

    @property
    def class_accuracy(self) -> dict[int, float | None]:
        """Returns the label of a class -> its accuracy by kNN over all classes in the last row; {} in older files."""
        return dict(zip(self.labels, (self.probes["knn_all"].class_accuracy if self.probes else None) or ()))

    @property
    def class_matrix(self) -> list[list[float | None]] | None:
        """Returns the accuracy of each class by kNN over all classes in each row, or None if it was not recorded."""
        return self.probes["knn_all"].class_matrix if self.probes else None

    @property
    def names_of_labels(self) -> list[str]:
        """Returns the name of each class of the run, or its label where it has none, in the order of labels."""
        return self.class_names or [str(label) for label in self.labels]

    @property
    def labels(self) -> list[int]:
        """Returns the labels of all classes of the run, in order."""
        return sorted(set().union(*self.classes or ()))

    @property
    def named_classes(self) -> list[list[str]]:
        """Returns the classes of each task by name or, where they have none, by label; [] in older files."""
        names = dict(zip(self.labels, self.names_of_labels))
        return [[names[label] for label in task] for task in self.classes or ()]

    @property
    def images_seen(self) -> list[int]:
        """Returns the number of images shown until each row; in older files, which lack it, the number of the row."""
        return [row.images_seen for row in self.evaluations or ()] or list(range(1, self.tasks_learned + 1))

    @property
    def gradient_samples(self) -> list[int]:
        """Returns of how many images gradients were taken until each row; in older files, which lack it, []."""
        return [row.gradient_samples for row in self.evaluations or ()]

    @property
    def rows_are_tasks(self) -> bool:
        """Tells whether each row is that after one more task; it is not in joint training and in most streams."""
        return self.tasks_seen == list(range(1, self.tasks_learned + 1))

    @property
    def only_at_end(self) -> bool:
        """Tells whether it is joint training that was evaluated at its end alone, so that it has no course to show."""
        return self.joint and self.tasks_learned == 1

    @property
    def is_stream(self) -> bool:
        """Tells whether rows are times in a stream, and not the tasks learned or the end of joint training."""
        return not self.only_at_end and not self.rows_are_tasks

    @property
    def tasks(self) -> int:
        """Returns the number of tasks that are evaluated."""
        return self.shape[1]

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
    """A line of metrics.jsonl: about a step where it has a loss, else about an evaluation."""

    step: Count
    task: Count
    loss: Number = 0.0


AnyEntry = dict[str, Number | None]  # a line of metrics.jsonl with any keys
