"""Compares runs: which form a group, what each is called, in which settings they differ, how near the paper they are.

Its functions take `ucl_jax.results.schema.RunResult` and read no files. Accuracy and forgetting are computed from the
saved matrices, so that another definition of forgetting needs no new run.
"""

from __future__ import annotations

import collections
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ucl_jax.errors import check_argument
from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.results import paper

if TYPE_CHECKING:
    from ucl_jax.results.schema import ProbeName, RunResult

PROBE_TITLES: dict[ProbeName, str] = {
    "knn_task": "kNN within the task",
    "knn_all": "kNN over all classes seen",
    "head_task": "head within the task",
    "head_all": "head over all classes seen",
    "online_linear": "online linear probe over all classes",
}
KNN_PROBES: tuple[ProbeName, ...] = ("knn_task", "knn_all")

# Field of `schema.Representation` -> its name, as a column has it.
MEASURES = {
    "spread": "spread",
    "effective_rank": "effective rank",
    "rankme": "RankMe",
    "alignment": "alignment",
    "uniformity": "uniformity",
}


def forgetting_title(probe: ProbeName, definition: str, seen_rows: bool = False) -> str:
    """Returns the name of forgetting, such as "forgetting (max) by kNN within the task".

    Args:
      probe: a key of PROBE_TITLES.
      definition: a key of `accuracy_matrix.FORGETTING`.
      seen_rows: whether accuracies from before a task was learned are missing, see `seen_rows_only`.
    """
    return f"{forgetting_name(definition, seen_rows)} by {PROBE_TITLES[probe]}"


def forgetting_name(definition: str, seen_rows: bool) -> str:
    """Returns the name of forgetting alone, such as "forgetting (max)". Arguments as `forgetting_title`."""
    return f"forgetting ({definition}{' of seen rows' if seen_rows else ''})"


def with_stream(name: str, run: RunResult) -> str:
    """Returns a name, with the stream of a run behind it unless its tasks come one after the other."""
    return name if run.stream_name == "tasks" else f"{name}, stream {run.stream_name}"


# Config keys, or the beginnings of such, that change no number: runs of one group may differ in them.
NEUTRAL = ("data_dir", "benchmark.prepare", "compilation_cache", "image_cache", "log.", "checkpoint.")
# Config keys, or the beginnings of such, that do not affect the untrained network and its evaluation.
ONLY_FOR_TRAINING = (
    "recipe",
    "protocol",
    "seed",
    "method.",
    "train.",
    "augment.replay",
    "benchmark.joint",
    "stream.",
    "eval.forgetting",
    "eval.online_linear",
    *NEUTRAL,
)
# Settings in which 0 means all of something, and the words for that.
ZERO_MEANS_ALL = {
    "benchmark.examples_per_task": "all training images",
    "benchmark.test_examples_per_task": "all test images",
}
BASELINE = "finetune"  # the recipe over which differences are told, unless another one is given
# Keys that name what a recipe's argument has chosen, with the paper's choice.
OF_THE_PAPER = {"protocol": "ucl", "stream.name": "tasks"}
# Config keys, or the beginnings of such, that may be overridden in a run that is compared with the paper's numbers.
ALLOWED_BESIDE_PAPER = ("seed", "train.devices", "eval.forgetting", *NEUTRAL)


class RunGroup(NamedTuple):
    """A group: runs that differ in their seed alone.

    Attributes:
      benchmark: the name of the benchmark.
      objective: the name of the objective.
      recipe: the recipe's name, followed by the settings that tell this group from others of the same benchmark,
        objective and recipe: "lump, method.alpha=0.1".
      runs: a result for each seed, in the order given.
      varied: the keys of those settings.
    """

    benchmark: str
    objective: str
    recipe: str
    runs: list[RunResult]
    varied: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Returns the recipe and the objective, such as "lump (simsiam)"."""
        return f"{self.recipe} ({self.objective})"

    @property
    def key(self) -> tuple[str, str, str]:
        """Returns the key in the paper's tables: benchmark, objective, and the recipe's name without settings."""
        return self.benchmark, self.objective, self.runs[0].recipe


# Numbers of runs.


def probes_of(runs: Sequence[RunResult]) -> list[ProbeName]:
    """Returns the names of the runs' own probes, in the order of PROBE_TITLES.

    A probe that has nothing to choose in any of the runs is left out, unless that is true of all probes.
    """
    names = [name for name in PROBE_TITLES if any(name in run.probes for run in runs)]
    return [name for name in names if any(chooses(run, name) for run in runs)] or names


def scored(runs: Sequence[RunResult]) -> list[RunResult]:
    """Returns the runs whose images have labels, so that they have probes of their own."""
    return [run for run in runs if run.probes]


def seeds(runs: Sequence[RunResult]) -> list[int]:
    """Returns the seed of each run."""
    return [run.seed for run in runs]


def all_known(values: Sequence[float | None]) -> list[float] | None:
    """Returns the values, or None where any of them is missing."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def chooses(run: RunResult, probe: ProbeName) -> bool:
    """Tells whether a run has a probe, and the probe has something to choose.

    Within a task of a single class there is nothing to choose: any network has 100 %.
    """
    return probe in run.probes and run.probes[probe].chance < 100


def average_accuracy(run: RunResult, probe: ProbeName) -> float | None:
    """Returns the average accuracy of a run by a probe, in per cent, over the tasks learned.

    It is None where the run lacks the probe, or the probe has nothing to choose. So are `forgetting` and
    `stream_average`.
    """
    if not chooses(run, probe):
        return None
    return accuracy_matrix.average_accuracy(run.probes[probe].matrix, run.tasks_seen)


def forgetting(run: RunResult, probe: ProbeName, definition: str) -> float | None:
    """Returns the forgetting of a run by a probe, in points, by a definition of `accuracy_matrix.FORGETTING`."""
    if not chooses(run, probe):
        return None
    return accuracy_matrix.forgetting(run.probes[probe].matrix, definition, run.tasks_seen)


def stream_average(run: RunResult, probe: ProbeName) -> float | None:
    """Returns the mean of the average accuracies of a run in all rows by a probe, in per cent."""
    if not chooses(run, probe):
        return None
    return accuracy_matrix.stream_average(run.probes[probe].matrix, run.tasks_seen)


def stream_scores(runs: Sequence[RunResult], probe: ProbeName) -> dict[str, list[float | None]]:
    """Returns the average accuracy of runs over a stream by a probe, in per cent.

    Each list has a number for each run: "end" those after the last image, "average" the means over all evaluations.
    """
    return {
        "end": [average_accuracy(run, probe) for run in runs],
        "average": [stream_average(run, probe) for run in runs],
    }


def by_stream(runs: Iterable[RunResult]) -> dict[tuple[str, str], list[RunResult]]:
    """Returns the runs over each stream with each objective, by the names of both, in the order given."""
    found: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        found.setdefault((run.stream_name, run.objective), []).append(run)
    return found


def scores(
    runs: Sequence[RunResult], probe: ProbeName, definition: str
) -> tuple[list[float | None], list[float | None]]:
    """Returns the average accuracy (per cent) and the forgetting (points) of each run by a probe.

    Args:
      runs: results; those without the probe, or where it has nothing to choose, are left out.
      probe: a key of PROBE_TITLES.
      definition: of forgetting, a key of `accuracy_matrix.FORGETTING`.
    """
    having = [run for run in runs if chooses(run, probe)]
    return (
        [average_accuracy(run, probe) for run in having],
        [forgetting(run, probe, definition) for run in having],
    )


def untrained(run: RunResult, probe: ProbeName) -> float | None:
    """Returns the untrained network's average accuracy by a probe, in per cent; None where it was not measured."""
    initial = run.probes[probe].random_init if chooses(run, probe) else None
    return None if initial is None else float(np.mean(initial))


def over_untrained(run: RunResult, probe: ProbeName) -> float | None:
    """Returns by how many points a run's average accuracy is above that of its own network before training."""
    before = untrained(run, probe)
    after = average_accuracy(run, probe)
    return None if before is None or after is None else after - before


class PairedDifference(NamedTuple):
    """Summarises differences of numbers that belong together in pairs, such as those of two methods with the same seed.

    Attributes:
      mean: of the differences.
      low, high: the ends of the 95 % interval of the mean, by Student's t; None for a single pair.
      higher: in how many pairs the first number is the higher one.
      pairs: the number of pairs.
    """

    mean: float
    low: float | None
    high: float | None
    higher: int
    pairs: int


def paired_difference(ours: Mapping[int, float | None], theirs: Mapping[int, float | None]) -> PairedDifference | None:
    """Compares numbers seed by seed, so that what a seed does to both of them drops out.

    Args:
      ours: seed -> a number.
      theirs: seed -> the number that is subtracted.

    Returns:
      The differences over the seeds that have both numbers, or None where there is no such seed.
    """
    from scipy import stats

    pairs = [(ours[seed], theirs.get(seed)) for seed in ours]
    differences = np.array([one - other for one, other in pairs if one is not None and other is not None])
    if not len(differences):
        return None
    mean, higher = float(differences.mean()), int((differences > 0).sum())
    if len(differences) == 1:
        return PairedDifference(mean, None, None, higher, 1)
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    return PairedDifference(mean, mean - half, mean + half, higher, len(differences))


def baselines(groups: Sequence[RunGroup], over: str = BASELINE) -> list[tuple[RunGroup, RunGroup | None]]:
    """Returns each group with what it is compared with: its own untrained networks, given as None, and a recipe.

    A group of that recipe is compared with if it has the group's benchmark, objective and stream. Where there are
    several of these, the settings in which they differ must be the group's, as far as it has them.

    Args:
      groups: groups of runs of any benchmarks.
      over: the recipe; or one of its groups, by its `RunGroup.recipe` with settings, whose settings may be others.
    """
    pairs: list[tuple[RunGroup, RunGroup | None]] = []
    for group in groups:
        pairs.append((group, None))
        pairs += [(group, other) for other in groups if other is not group and _is_baseline(other, group, over)]
    return pairs


def baseline_names(groups: Sequence[RunGroup]) -> list[str]:
    """Returns what `baselines` takes as `over`: the recipes of groups, and the groups with their settings; sorted."""
    return sorted({name for group in groups for name in (group.runs[0].recipe, group.recipe)})


def _is_baseline(other: RunGroup, group: RunGroup, over: str) -> bool:
    """Tells whether `other` is a group of `over` that another group is compared with, see `baselines`."""
    if over not in baseline_names([other]) or other.objective != group.objective:
        return False
    here, there = own_settings(group.runs[0]), own_settings(other.runs[0])
    shared = [
        key
        for key in here.keys() & there.keys()
        if (key in other.varied and over != other.recipe)
        or (key.startswith(("benchmark.", "stream.")) and key != "benchmark.joint")
    ]
    return all(here[key] == there[key] for key in shared)


def baseline_name(baseline: RunGroup | None) -> str:
    """Returns what tables and pictures call a baseline of `baselines`."""
    return baseline.recipe if baseline else "untrained network"


def above(
    group: RunGroup, baseline: RunGroup | None, probe: ProbeName, definition: str | None = None
) -> PairedDifference | None:
    """Returns by how many points the average accuracy or the forgetting of a group is above a baseline, by seed.

    Args:
      group: a group of runs.
      baseline: another group; None for the group's own networks before training, which have forgotten nothing.
      probe: a key of PROBE_TITLES.
      definition: of forgetting, a key of `accuracy_matrix.FORGETTING`; None for accuracy.

    Returns:
      The differences, or None where no seed has both numbers.
    """
    if baseline is None:
        theirs = {} if definition else {run.seed: untrained(run, probe) for run in group.runs}
    else:
        theirs = by_seed(baseline.runs, probe, definition)
    return paired_difference(by_seed(group.runs, probe, definition), theirs)


def differences(
    groups: Sequence[RunGroup], over: str = BASELINE, definition: str | None = None
) -> list[tuple[RunGroup, str, list[PairedDifference | None]]]:
    """Returns each group, the name of what it is compared with, and its differences by each of `probes_of`.

    What shares no seed with a group is left out.

    Args:
      groups: groups of runs of one benchmark.
      over: what they are compared with, see `baselines`.
      definition: see `above`.
    """
    probes = probes_of([run for group in groups for run in group.runs])
    found = [
        (group, baseline_name(baseline), [above(group, baseline, probe, definition) for probe in probes])
        for group, baseline in baselines(groups, over)
    ]
    return [row for row in found if any(row[2])]


def by_seed(runs: Sequence[RunResult], probe: ProbeName, definition: str | None) -> dict[int, float | None]:
    """Returns the average accuracy (per cent) or the forgetting (points) of each seed.

    Args:
      runs: results that differ in their seed.
      probe: a key of PROBE_TITLES.
      definition: of forgetting, a key of `accuracy_matrix.FORGETTING`; None for accuracy.
    """
    if definition is None:
        return {run.seed: average_accuracy(run, probe) for run in runs}
    return {run.seed: forgetting(run, probe, definition) for run in runs}


# What the evaluations of a stream are numbered by -> the number of each in a run.
STREAM_PLACES: dict[str, Callable[[RunResult], list[int]]] = {
    "images seen": lambda run: run.images_seen,
    "gradient samples": lambda run: run.gradient_samples,
}


def row_places(
    runs: Sequence[RunResult], in_streams: str = "images seen"
) -> tuple[Callable[[RunResult], list[int]], str]:
    """Returns what the rows of the runs' accuracy matrices are numbered by: tasks learned or, in streams, images.

    Args:
      runs: the runs.
      in_streams: which images count, a key of `STREAM_PLACES`.

    Returns:
      A run -> the number of each row; what is numbered, "tasks learned" or `in_streams`.
    """
    if any(run.is_stream for run in runs):
        return STREAM_PLACES[in_streams], in_streams
    return lambda run: list(range(1, run.tasks_learned + 1)), "tasks learned"


def gradients_differ(runs: Sequence[RunResult]) -> bool:
    """Tells whether some streams among the runs took more gradients for each image that they saw than others."""
    streams = [run for run in runs if run.is_stream and run.gradient_samples]
    return len({run.gradient_samples[-1] / max(run.images_seen[-1], 1) for run in streams}) > 1


def chance(runs: Sequence[RunResult], probe: ProbeName) -> float | None:
    """Returns the accuracy of guessing, in per cent, of the first run where the probe has something to choose."""
    return next((run.probes[probe].chance for run in runs if chooses(run, probe)), None)


def forgetting_definition(runs: Sequence[RunResult]) -> str:
    """Returns the definition of forgetting that the configs of all runs name, a key of `accuracy_matrix.FORGETTING`.

    Raises:
      ValueError: the runs have different ones.
    """
    names = list(dict.fromkeys(run.forgetting_definition for run in runs))
    check_argument(len(names) == 1, f"the runs differ in eval.forgetting ({', '.join(names)})")
    return names[0]


def seen_rows_only(runs: Iterable[RunResult]) -> bool:
    """Tells whether some run evaluated tasks only once they were learned (`eval.tasks=seen`).

    Forgetting that looks for a task's best accuracy then lacks those from before the task was learned.
    """
    return any(run.seen_tasks_only and run.tasks_learned > 1 for run in runs)


# Runs that belong together.


def own_settings(run: RunResult, but: Collection[str] = ()) -> dict[str, Any]:
    """Returns the settings of a run, without the seed, the keys of `but`, and those that change no number (NEUTRAL)."""
    kept = run.settings.items()
    return {key: value for key, value in kept if key != "seed" and key not in but and not key.startswith(NEUTRAL)}


def differing_keys(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the keys whose value is not the same in all `settings`, or that some of them lack, sorted."""
    missing = object()
    keys = sorted(set().union(*settings))
    return [k for k in keys if any(s.get(k, missing) != settings[0].get(k, missing) for s in settings)]


def changed_settings(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Describes each setting that differs and changes numbers, such as "train.epochs (2 there, 3 here)"."""
    return [
        f"{key} ({json.dumps(there.get(key))} there, {json.dumps(here.get(key))} here)"
        for key in differing_keys([there, here])
        if not key.startswith(NEUTRAL)
    ]


def groups_of(runs: Sequence[RunResult], but: Collection[str] = ()) -> list[RunGroup]:
    """Returns the groups that runs form: those with equal settings are together, in the order given.

    Args:
      runs: results of any runs.
      but: keys of settings in which runs of one group may differ, besides the seed.
    """
    by_settings: dict[str, tuple[dict[str, Any], list[RunResult]]] = {}
    for run in runs:
        own = own_settings(run, but)
        by_settings.setdefault(json.dumps(own, sort_keys=True), (own, []))[1].append(run)

    def key(run: RunResult) -> tuple[str, str, str]:
        return run.benchmark, run.objective, run.recipe

    alike: dict[tuple[str, str, str], list[tuple[dict[str, Any], RunResult]]] = {}
    for own, (first, *_) in by_settings.values():
        alike.setdefault(key(first), []).append((own, first))
    varied = {of: tuple(_told_apart_by(*zip(*settings))) for of, settings in alike.items()}
    groups = []
    for own, members in by_settings.values():
        benchmark, objective, recipe = of = key(members[0])
        name = _with_settings(recipe, varied[of], own)
        groups.append(RunGroup(benchmark, objective, name, members, varied[of]))
    return groups


def _told_apart_by(settings: Sequence[Mapping[str, Any]], runs: Sequence[RunResult]) -> list[str]:
    """Returns the keys in which settings differ.

    A stream or a protocol sets many keys. Such a key says nothing beside the name of the stream or protocol. It is left
    out, unless somebody has overridden it.

    Args:
      settings: those of each run.
      runs: the runs, in the same order.
    """
    alike: dict[tuple, list[Mapping[str, Any]]] = {}
    for own in settings:
        alike.setdefault(tuple(own.get(word) for word in OF_THE_PAPER), []).append(own)
    kept = {*OF_THE_PAPER}.union(*(run.overrides for run in runs), *map(differing_keys, alike.values()))
    return [key for key in differing_keys(settings) if key in kept]


def shown_setting(key: str, value: Any) -> str:
    """Returns the value of a setting as text: "0 (all training images)" where 0 means all of something."""
    return f"{value} ({ZERO_MEANS_ALL[key]})" if key in ZERO_MEANS_ALL and value == 0 else str(value)


def _with_settings(name: str, keys: Iterable[str], settings: Mapping[str, Any]) -> str:
    """Returns a name followed by settings, such as "lump, method.alpha=0.1"; keys without a setting are left out."""
    words = [
        ZERO_MEANS_ALL[key] if key in ZERO_MEANS_ALL and settings[key] == 0 else f"{key}={settings[key]}"
        for key in keys
        if key in settings
    ]
    return ", ".join([name, *words])


def run_names(runs: Sequence[RunResult]) -> list[str]:
    """Returns a name for each run that tells it from the others, such as "lump, method.alpha=0.1 (simsiam, seed 0)".

    Runs that differ in no setting that changes a number are numbered: "lump (simsiam, seed 0), run 2".
    """
    group_of = {id(run): group for group in groups_of(runs, {"eval.forgetting"}) for run in group.runs}

    def named(run: RunResult, benchmark: bool) -> str:
        group = group_of[id(run)]
        return f"{group.recipe} ({group.objective}, {f'{group.benchmark}, ' if benchmark else ''}seed {run.seed})"

    several = len({run.benchmark for run in runs}) > 1
    times = collections.Counter(named(run, benchmark=False) for run in runs)
    names = [named(run, benchmark=several and times[named(run, benchmark=False)] > 1) for run in runs]
    seen: collections.Counter[str] = collections.Counter()
    for place, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[place] = f"{name}, run {seen[name]}"
    return names


def untrained_networks(runs: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Returns the runs that measured their untrained network, one for each seed, by a label for tables and pictures.

    The label is "untrained network". Where runs of one seed measured different numbers, each value of the settings that
    explain the difference has a label of its own, such as "untrained network, benchmark.examples_per_task=50".
    """
    measured = [run for run in runs if any(probe.random_init for probe in run.probes.values())]
    pairs = [pair for pair in itertools.combinations(measured, 2) if _measured_otherwise(*pair)]
    differences = [set(differing_keys([_before_training(one), _before_training(other)])) for one, other in pairs]
    keys = sorted(_telling_keys([keys for keys in differences if keys]))  # where no setting differs, the machines did
    by_label: dict[str, dict[int, RunResult]] = {}
    for run in measured:
        label = _with_settings("untrained network", keys, _before_training(run))
        by_label.setdefault(label, {}).setdefault(run.seed, run)
    return {label: list(by_seed.values()) for label, by_seed in by_label.items()}


def _before_training(run: RunResult) -> dict[str, Any]:
    """Returns the settings of a run that its untrained network and the accuracy of that network depend on."""
    return {key: value for key, value in run.settings.items() if not key.startswith(ONLY_FOR_TRAINING)}


def _measured_otherwise(one: RunResult, other: RunResult) -> bool:
    """Tells whether two runs of one seed measured different numbers for their untrained network."""
    shared = one.probes.keys() & other.probes.keys()
    return one.seed == other.seed and any(one.probes[p].random_init != other.probes[p].random_init for p in shared)


def _telling_keys(differences: Sequence[set[str]]) -> set[str]:
    """Returns few keys, of which every set has one; seeds of subsets, which say least, are left out first."""
    kept = set().union(*differences)
    for key in sorted(kept, key=lambda key: (not key.endswith("_seed"), key.endswith(".name"), key)):
        if all(keys & (kept - {key}) for keys in differences):
            kept.remove(key)
    return kept


def require_same_config(runs: Sequence[RunResult], but: Collection[str] = ()) -> None:
    """Checks that runs differ only in their seed, the keys of `but`, and settings that change no number.

    Raises:
      ValueError: they differ in another setting; names the first one.
    """
    settings = [own_settings(run, but) for run in runs]
    if keys := differing_keys(settings):
        values = ", ".join(str(own.get(keys[0])) for own in settings)
        raise ValueError(f"runs of {runs[0].name} and others of its row differ in {keys[0]} ({values})")


# The paper.

WITHIN = (
    "within: |difference| <= the paper's deviation + ours, each over its runs (ours is 0 where there is one run); "
    "difference: ours - the paper's."
)


class Comparison(NamedTuple):
    """The paper's number and how ours compares with it, in per cent or points.

    Attributes:
      mean: the paper's mean.
      deviation: the paper's deviation.
      difference: our mean - the paper's mean.
      within: whether the difference is within the spread of both, see WITHIN.
    """

    mean: float
    deviation: float
    difference: float
    within: bool


def compare_with_paper(ours: Sequence[float | None], theirs: paper.Value | None) -> Comparison | None:
    """Compares our values, one a run, with the paper's; returns None where either or one of our values is missing.

    This is the one place that decides what "within the paper's spread" means.
    """
    known = all_known(ours)
    if not known or theirs is None:
        return None
    difference = float(np.mean(known)) - theirs.mean
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    within = abs(difference) <= theirs.deviation + spread + 1e-9  # allows for rounding
    return Comparison(*theirs, difference, within)


def overridden(run: RunResult) -> set[str]:
    """Returns the config keys whose values are not the recipe's own, without those of ALLOWED_BESIDE_PAPER."""
    return {key for key in run.overrides if not key.startswith(ALLOWED_BESIDE_PAPER)}


def paper_row(group: RunGroup, others: Sequence[RunGroup]) -> paper.PaperRow | None:
    """Returns the paper's numbers for a group; None where it has none, or the runs changed their recipe's settings.

    Args:
      group: the group that is asked about.
      others: all groups of the same table.
    """
    return paper.TABLE1.get(group.key) if _as_the_recipe(group, others) else None


def _as_the_recipe(group: RunGroup, others: Sequence[RunGroup]) -> bool:
    """Tells whether a group's settings are its recipe's own, as far as the results say.

    They are not where a setting was overridden, only some of the images were used, or the recipe's argument names
    another protocol or stream than the paper's. They are not either where another
    group of the same recipe has a different value that nobody overrode, as when the recipe was edited in between.
    """
    if any(run.settings.get(key) for run in group.runs for key in ZERO_MEANS_ALL):
        return False
    if any(run.settings.get(key, word) != word for run in group.runs for key, word in OF_THE_PAPER.items()):
        return False
    if any(overridden(run) for run in group.runs):
        return False
    of_recipe = [other for other in others if other.key == group.key]
    set_there = {key for other in of_recipe for run in other.runs for key in overridden(run)}
    return set(group.varied) <= set_there | {*ZERO_MEANS_ALL, *OF_THE_PAPER}
