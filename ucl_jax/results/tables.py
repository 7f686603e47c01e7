"""Makes tables of runs, as data frames of numbers, and writes them as text, Markdown, LaTeX or CSV.

Pandas is imported by the first table, so that a program that makes none does not wait for it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ucl_jax.errors import argument_choice, check_argument
from ucl_jax.results import compare, paper
from ucl_jax.results.compare import KNN_PROBES, MEASURES, PROBE_TITLES, RunGroup
from ucl_jax.settings import words_of

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from ucl_jax.results.schema import ProbeName, Record, RunResult

# Ends of the names of columns that belong to the column before.
DEVIATION, KNOWN, LOW, HIGH = " deviation", " runs", " low", " high"


class Table(NamedTuple):
    """A table whose numbers stay numbers until it is rendered.

    Rendered, some columns after a column X become part of its cells: "X deviation" gives "mean±deviation", "X runs"
    gives "(n=2)", the number of runs that X is of, and "X low" with "X high" gives "(low to high)", an interval.

    Attributes:
      title: "" for none.
      frame: the rows of the table; a missing number is NA.
      words: how many columns on the left hold words.
      legend: sentences to stand below the table.
      formats: a column -> the format of its numbers, where that is not ".2f".
      heads: a column -> (a title that neighbours share, its own name below that). A page and LaTeX, which have room for
        two lines of column names, show these in place of the name.
    """

    title: str
    frame: DataFrame
    words: int = 1
    legend: Sequence[str] = ()
    formats: Mapping[str, str] = {}
    heads: Mapping[str, tuple[str, str]] = {}


def make_frame(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> DataFrame:
    """Returns rows of words and numbers as a data frame; None is a missing value.

    A column of whole numbers, or of truth values, keeps its type where some are missing.
    """
    import pandas as pd

    cells = list(zip(*rows)) or [()] * len(columns)
    frame = pd.concat([pd.Series(list(column), dtype=_dtype(column)) for column in cells], axis=1)
    frame.columns = list(columns)
    return frame


def _dtype(values: Sequence[Any]) -> str:
    """Returns the pandas dtype of a column."""
    kinds = {bool if isinstance(value, np.bool_) else type(value) for value in values if value is not None}
    if kinds and kinds <= {bool}:
        return "boolean"
    if kinds and kinds <= {int}:
        return "Int64"
    return "float64" if all(issubclass(kind, int | float) for kind in kinds) else "object"


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Returns the mean and the unbiased deviation of values.

    Both are None where a value is missing or there is none; the deviation of one value is None.
    """
    known = compare.all_known(values)
    if not known:
        return None, None
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None


def with_deviation(*names: str) -> list[str]:
    """Returns the columns for numbers over runs: each name, followed by the name of its deviation."""
    return [column for name in names for column in (name, name + DEVIATION)]


# Rendering.


def render(table: Table, markup: str = "text") -> str:
    """Returns a table as text of a kind: "text", "markdown", "latex" or "csv"; title and legend are left out.

    LaTeX is a plain `tabular` with \\hline that needs no package, and numbers below zero have a minus sign. In CSV a
    deviation has a column of its own, and the cell of a missing number is empty.

    In plain text, which a terminal shows, a long name of a column has several lines.

    Raises:
      ValueError: there is no such markup.
    """
    return argument_choice("markup", markup, FORMATS)(table)


def without_empty(table: Table) -> Table:
    """Returns a table without the columns of numbers of which there is none."""
    empty = [name for name in table.frame.columns[table.words :] if table.frame[name].isna().all()]
    return table if table.frame.empty else table._replace(frame=table.frame.drop(columns=empty))


def shown(table: Table) -> DataFrame:
    """Returns the cells as text: numbers in their formats, deviations behind their means, "-" for missing values."""
    import pandas as pd

    names: list[str] = []
    texts: list[list[str]] = []
    for place, name in enumerate(table.frame.columns):
        column = table.frame.iloc[:, place]
        if place and name == names[-1] + DEVIATION:
            texts[-1] = [text if pd.isna(x) else f"{text}±{x:.2f}" for text, x in zip(texts[-1], column)]
        elif place and name in (names[-1] + LOW, names[-1] + HIGH):
            before, after = (" (", "") if name.endswith(LOW) else (" to ", ")")
            bounds = _texts(column, table.formats.get(names[-1], ".2f"))
            texts[-1] = [
                text if bound == "-" else text + before + bound + after for text, bound in zip(texts[-1], bounds)
            ]
        elif place and name == names[-1] + KNOWN:
            texts[-1] = [text if pd.isna(x) else f"{text} (n={x})" for text, x in zip(texts[-1], column)]
        else:
            names.append(name)
            texts.append(_texts(column, table.formats.get(name, ".2f")))
    return pd.DataFrame(list(zip(*texts)), columns=names)


def _texts(column: Series, form: str) -> list[str]:
    """Returns the cells of a column as text."""
    from pandas.api import types

    if types.is_float_dtype(column):
        text: Callable[[Any], str] = f"{{:{form}}}".format
    elif types.is_bool_dtype(column):
        text = {True: "yes", False: "no"}.__getitem__
    else:
        text = str
    return ["-" if missing else text(value) for value, missing in zip(column, column.isna())]


def _tabulate(
    table: Table,
    style: str,
    change: Callable[[str], str] = str,
    widest: int | None = None,
    widest_words: int | None = None,
    names: Sequence[str] | None = None,
) -> str:
    """Returns a table in a style of `tabulate`.

    Args:
      table: the table.
      style: the name of the style.
      change: is applied to the text of every cell and to the name of every column.
      widest: the most letters in a line of a column's name; None for any number.
      widest_words: likewise of a cell of words, unless a single word has more.
      names: of the columns; None for those of the table.
    """
    from tabulate import tabulate

    frame = shown(table)
    numbers = len(frame.columns) - table.words
    return tabulate(
        frame.map(change).values.tolist(),
        list(map(change, names or frame.columns)),
        maxheadercolwidths=widest,
        maxcolwidths=[widest_words] * table.words + [None] * numbers if len(frame) else None,
        break_long_words=False,
        break_on_hyphens=False,
        tablefmt=style,
        disable_numparse=True,
        colalign=("left",) * table.words + ("right",) * numbers if len(frame) else None,
    )


def _latex(table: Table) -> str:
    """Returns a table as LaTeX, whose head has two lines where columns share a title."""
    heads = [table.heads.get(name, ("", name)) for name in shown(table)]
    lines = _tabulate(table, "latex", names=[name for _, name in heads]).split("\n")
    spans = [(title, len(list(members))) for title, members in itertools.groupby(title for title, _ in heads)]
    if any(title for title, _ in spans):
        cells = [
            rf"\multicolumn{{{count}}}{{c}}{{{title}}}" if title else " & " * (count - 1) for title, count in spans
        ]
        lines.insert(2, f" {' & '.join(cells)} \\\\")
    # Plain LaTeX has no "±", and prints "|" as a dash; tabulate's description of the columns has no "|" to be spared.
    text = "\n".join(lines).replace("±", r"$\pm$").replace("|", r"\textbar{}")
    return re.sub(r"(?<=[ (])-(?=\d)", "$-$", text)


def _csv(table: Table) -> str:
    """Returns a table as CSV, without the columns of deviations and of numbers of runs that are empty."""
    beside = (DEVIATION, KNOWN)
    kept = [not (name.endswith(beside) and table.frame.iloc[:, n].isna().all()) for n, name in enumerate(table.frame)]
    return table.frame.loc[:, kept].to_csv(index=False, float_format="%.2f", lineterminator="\n").removesuffix("\n")


FORMATS: dict[str, Callable[[Table], str]] = {
    "text": lambda table: _tabulate(table, "simple", widest=20, widest_words=60),
    "markdown": lambda table: _tabulate(table, "pipe", lambda cell: cell.replace("|", "\\|")),
    "latex": _latex,
    "csv": _csv,
}


# Runs.

SAMPLES = tuple(compare.STREAM_PLACES)
STREAM_AVERAGE = "mean over the stream, {}"
OVER_UNTRAINED, HIGHER = "over untrained, {}", "seeds higher, {}"


def every_run(runs: Sequence[RunResult], definition: str) -> Table:
    """Makes the table of average accuracy and forgetting of runs: a row a run, then untrained networks, then chance.

    By each probe it also has the points by which a run is above its own network before training.

    With streams among the runs there are columns for how many images were seen, of how many gradients were taken, and
    the mean over the stream by each probe, see `accuracy_matrix.stream_average`.

    Untrained networks have a row for each seed. Those with different settings have rows of their own, see
    `compare.untrained_networks`. The row for chance has the numbers of the first run that has them.

    Args:
      runs: results.
      definition: of forgetting, a key of `accuracy_matrix.FORGETTING`.
    """
    probes = compare.probes_of(runs)
    titles = iter(_header(runs, probes, definition))
    columns = [
        "",
        *(name for title, lost in zip(titles, titles) for name in (title, OVER_UNTRAINED.format(title), lost)),
    ]
    streams = any(run.is_stream for run in runs)
    columns += [*SAMPLES, *(STREAM_AVERAGE.format(PROBE_TITLES[name]) for name in probes)] if streams else []
    blank = [None] * (len(SAMPLES) + len(probes)) if streams else []
    rows: list[list[Any]] = []
    for name, run in zip(compare.run_names(runs), runs):
        cells: list[Any] = [name + ("" if run.finished else ", not finished")]
        for probe in probes:
            cells += [
                compare.average_accuracy(run, probe),
                compare.over_untrained(run, probe),
                compare.forgetting(run, probe, definition),
            ]
        rows.append(cells + (_of_stream(run, probes) if streams else []))
    for label, measured in compare.untrained_networks(runs).items():
        for run in measured:
            before = (cell for name in probes for cell in (compare.untrained(run, name), None, None))
            rows.append([f"{label}, seed {run.seed}" if len(measured) > 1 else label, *before, *blank])
    rows.append(["chance", *(cell for name in probes for cell in (compare.chance(runs, name), None, None)), *blank])
    over = {OVER_UNTRAINED.format(PROBE_TITLES[name]): PROBE_TITLES[name] for name in probes}
    heads = _heads(runs, probes, definition) | {column: (title, "over untrained") for column, title in over.items()}
    return Table("", make_frame(columns, rows), formats=dict.fromkeys(over, "+.2f"), heads=heads)


def _of_stream(run: RunResult, probes: Sequence[ProbeName]) -> list[Any]:
    """Returns the cells of a run in the columns SAMPLES and STREAM_AVERAGE."""
    return [*_samples(run), *(compare.stream_average(run, name) for name in probes)]


def _samples(run: RunResult) -> list[int | None]:
    """Returns the cells of a run in the columns SAMPLES."""
    last = run.evaluations[-1] if run.evaluations else None
    return [last.images_seen, last.gradient_samples] if last else [None, None]


def of_streams(runs: Sequence[RunResult]) -> Table:
    """Makes the table of accuracy by kNN at the end of streams, and on the average over each of them.

    The runs of a row differ in their seed alone. Each stream has rows for untrained networks, too.

    Args:
      runs: results of one benchmark that have both kNN probes.
    """
    rows: list[list[Any]] = []
    for (stream, objective), members in compare.by_stream(runs).items():
        for group in compare.groups_of(members):
            found = [values for probe in KNN_PROBES for values in compare.stream_scores(group.runs, probe).values()]
            cells = [cell for values in found for cell in mean_and_deviation(values)]
            rows.append([objective, stream, group.recipe, len(group.runs), *cells, *_samples(group.runs[0])])
        for label, measured in compare.untrained_networks(members).items():
            cells = []
            for probe in KNN_PROBES:
                cells += [*mean_and_deviation([compare.untrained(run, probe) for run in measured]), None, None]
            rows.append([objective, stream, label, len(measured), *cells, None, None])
    heads = with_deviation(*(f"{PROBE_TITLES[name]}, {what}" for name in KNN_PROBES for what in ("end", "average")))
    return Table("", make_frame(["objective", "stream", "recipe", "n", *heads, *SAMPLES], rows), words=3)


def of_classes(runs: Sequence[RunResult]) -> Table:
    """Makes the table of the accuracy of each class by kNN over all classes, when the run was last evaluated, in %.

    Args:
      runs: results; each has a column, and those that did not record it are left out.
    """
    named = dict(zip(compare.run_names(runs), runs))
    found = {name: run.class_accuracy for name, run in named.items() if run.class_accuracy}
    labels = sorted(set().union(*found.values()))
    names: dict[int, set[str]] = {label: set() for label in labels}  # which differ only between benchmarks
    for run in (run for name, run in named.items() if name in found):
        for label, name in zip(itertools.chain(*run.classes or ()), itertools.chain(*run.named_classes)):
            names[label].add(name)
    rows = [[" / ".join(sorted(names[label])), *(one.get(label) for one in found.values())] for label in labels]
    return Table("", make_frame(["class", *found], rows))


def of_runs(runs: Sequence[RunResult], definition: str) -> list[Table]:
    """Makes the tables of every run: `every_run` of those with labels, and `without_labels` of the others.

    Args:
      runs: results.
      definition: of forgetting, a key of `accuracy_matrix.FORGETTING`.
    """
    scored = compare.scored(runs)
    others = [run for run in runs if not run.probes]
    return ([every_run(scored, definition)] if scored else []) + ([without_labels(others)] if others else [])


def without_labels(runs: Sequence[RunResult]) -> Table:
    """Makes the table of what runs measured without labels: a row for each evaluation, the untrained network first.

    CKA compares features of the same images by this network with those by an earlier one that was trained.
    """
    rows: list[list[Any]] = []
    places, what = compare.row_places(runs)
    for name, run in zip(compare.run_names(runs), runs):
        found = run.representation
        if found is not None:
            counted = [("untrained", found.random_init), *zip(places(run), found.rows)]
            for after, row in counted:
                if row is not None:
                    cka = [*(row.cka[-1:] or [None]), *(row.cka[:1] or [None])]
                    rows.append([name, str(after), *(getattr(row, key) for key in MEASURES), *cka])
    columns = ["", what, *MEASURES.values(), "CKA with the evaluation before", "CKA with the first evaluation"]
    return Table("", make_frame(columns, rows), words=2)


def of_seeds(runs: Sequence[RunResult], definition: str) -> Table:
    """Makes the table of average accuracy and forgetting with a row for each objective and recipe.

    The runs of a row differ in their seed alone. A recipe with several settings has a row for each, named by what
    differs, see `compare.groups_of`. The deviation is the unbiased one; the column n is the number of runs.
    Each objective has rows for its untrained networks, see `compare.untrained_networks`; runs of an architecture that
    grows do not count for them.

    Args:
      runs: results of one benchmark.
      definition: of forgetting, a key of `accuracy_matrix.FORGETTING`.

    Raises:
      ValueError: there are several benchmarks, or two runs of a row have one seed.
    """
    return _seeds("", _of_one_benchmark(runs), definition)


def _of_one_benchmark(runs: Sequence[RunResult]) -> list[RunGroup]:
    """Returns the groups of runs, which may differ in `eval.forgetting`.

    Raises:
      ValueError: there are several benchmarks, which the rows of one table would not tell apart.
    """
    names = list(dict.fromkeys(run.benchmark for run in runs))
    check_argument(len(names) < 2, f"the runs are of several benchmarks ({', '.join(names)})")
    return compare.groups_of(runs, {"eval.forgetting"})


def of_pairs(runs: Sequence[RunResult], over: str = compare.BASELINE, definition: str | None = None) -> Table:
    """Makes the table of `pairs` with rows for each objective and recipe, as in `of_seeds`.

    Args:
      runs: results of one benchmark, with or without those of `over`.
      over: what runs are compared with, see `compare.baselines`.
      definition: see `pairs`.

    Raises:
      ValueError: there are several benchmarks, or two runs of a row have one seed.
    """
    return pairs(_of_one_benchmark(runs), over, definition)


def pairs(groups: Sequence[RunGroup], over: str = compare.BASELINE, definition: str | None = None) -> Table:
    """Makes the table of differences of average accuracy or forgetting, paired by seed: n seeds, 95 % intervals.

    A row says by how many points a group is above its untrained networks or above the recipe `over`: the mean over
    seeds, its 95 % interval by Student's t, and in how many seeds of all the group is higher. See `compare.baselines`.
    A group has no row for what it shares no seed with.

    Args:
      groups: groups of runs of one benchmark.
      over: what they are compared with, see `compare.baselines`.
      definition: of forgetting, a key of `accuracy_matrix.FORGETTING`; None compares accuracies.

    Raises:
      ValueError: two runs of a group have one seed.
    """
    probes = compare.probes_of([run for group in groups for run in group.runs])
    rows: list[list[Any]] = []
    for group in groups:
        check_seeds(group.name, group.runs)
    for group, name, found in compare.differences(groups, over, definition):
        cells = [[one.mean, one.low, one.high, one.higher, one.pairs] if one else [None] * 5 for one in found]
        rows.append([group.objective, group.recipe, name, *itertools.chain(*cells)])
    seen_rows = compare.seen_rows_only(run for group in groups for run in group.runs)
    titles = [
        compare.forgetting_title(name, definition, seen_rows) if definition else PROBE_TITLES[name] for name in probes
    ]
    columns = [
        name
        for title in titles
        for name in (title, title + LOW, title + HIGH, HIGHER.format(title), HIGHER.format(title) + KNOWN)
    ]
    heads: dict[str, tuple[str, str]] = {}
    for title in titles:
        heads |= {title: (title, "difference, points"), HIGHER.format(title): (title, "seeds higher")}
    frame = make_frame(["objective", "recipe", "over", *columns], rows)
    return Table("", frame, words=3, formats=dict.fromkeys(titles, "+.2f"), heads=heads)


def mean_text(values: Sequence[float | None]) -> str:
    """Returns "mean±deviation", or the number where there is one; "" where one is missing."""
    mean, deviation = mean_and_deviation(values)
    if mean is None:
        return ""
    return f"{mean:.2f}" + ("" if deviation is None else f"±{deviation:.2f}")


def check_seeds(name: str, runs: Sequence[RunResult]) -> None:
    """Raises ValueError where two runs of a row, which `name` names, have one seed."""
    own = compare.seeds(runs)
    check_argument(len(set(own)) == len(own), f"two runs of {name} have one seed: {own}")


def against_paper(groups: Sequence[RunGroup], definition: str) -> list[Table]:
    """Makes a table for each benchmark, as `of_seeds` does, with the paper's numbers beside those of the same probe.

    Args:
      groups: groups of runs of any benchmarks.
      definition: of forgetting, a key of `accuracy_matrix.FORGETTING`.

    Raises:
      ValueError: two runs of a group have one seed.
    """
    names = dict.fromkeys(group.benchmark for group in groups)
    return [
        _seeds(name, [group for group in groups if group.benchmark == name], definition, beside=True) for name in names
    ]


def _seeds(title: str, groups: Sequence[RunGroup], definition: str, beside: bool = False) -> Table:
    """Makes a table of groups of one benchmark; with `beside`, the paper's numbers follow those of the first probe."""
    runs = [run for group in groups for run in group.runs]
    probes = compare.probes_of(runs)
    rows = []

    def row(words: Sequence[Any], cells: list[Any], theirs: Sequence[Any] = (None,) * 4) -> list[Any]:
        return [*words, *cells[:4], *(theirs if beside else ()), *cells[4:]]

    header = with_deviation(*_header(runs, probes, definition))
    papers = with_deviation(PAPER.format("accuracy"), PAPER.format("forgetting"))
    columns = row(["objective", "recipe", "n"], header, papers)
    for objective in dict.fromkeys(group.objective for group in groups):
        of_objective = [group for group in groups if group.objective == objective]
        for group in of_objective:
            check_seeds(group.name, group.runs)
            pending = sum(not run.finished for run in group.runs)
            recipe = group.recipe + (f", {pending} not finished" if pending else "")
            theirs = compare.paper_row(group, groups) or (None, None)
            shown = [number for value in theirs for number in value or (None, None)]
            rows.append(row([objective, recipe, len(group.runs)], _numbers(group.runs, probes, definition), shown))
        plain = [run for group in of_objective for run in group.runs if run.model == "resnet18"]
        for label, measured in compare.untrained_networks(plain).items():
            cells = _without_forgetting([compare.untrained(run, name) for run in measured] for name in probes)
            rows.append(row([objective, label, len(measured)], cells))
    rows.append(row(["", "chance", None], _without_forgetting([compare.chance(runs, name)] for name in probes)))
    heads = _heads(runs, probes, definition)
    heads |= {name: (PROBE_TITLES[probes[0]], name) for name in papers}
    return Table(title, make_frame(columns, rows), words=2, heads=heads)


def _header(runs: Sequence[RunResult], probes: Sequence[ProbeName], definition: str) -> list[str]:
    """Returns the columns of each probe: those of its average accuracy and of its forgetting."""

    def forgetting(probe: ProbeName) -> str:
        # Over all classes seen a task has no entry before it is learned, whatever is evaluated.
        known = not probe.endswith("_all") and definition != "first"
        return compare.forgetting_title(probe, definition, known and compare.seen_rows_only(runs))

    return [name for probe in probes for name in (PROBE_TITLES[probe], forgetting(probe))]


def _heads(runs: Sequence[RunResult], probes: Sequence[ProbeName], definition: str) -> dict[str, tuple[str, str]]:
    """Returns the `Table.heads` of the columns that `_header` returns."""
    names = iter(_header(runs, probes, definition))
    heads: dict[str, tuple[str, str]] = {}
    for probe, accuracy, forgetting in zip(probes, names, names):
        title = PROBE_TITLES[probe]
        heads |= {accuracy: (title, "accuracy, %"), forgetting: (title, forgetting.removesuffix(f" by {title}"))}
    return heads


def _numbers(runs: Sequence[RunResult], probes: Sequence[ProbeName], definition: str) -> list[float | None]:
    """Returns mean and deviation over runs of the average accuracy and of the forgetting by each probe."""
    scores = (values for name in probes for values in compare.scores(runs, name, definition))
    return [number for values in scores for number in mean_and_deviation(values)]


def _without_forgetting(values_of_probes: Iterable[Sequence[float | None]]) -> list[float | None]:
    """Returns mean and deviation of the accuracies by each probe, each followed by empty cells for forgetting."""
    return [number for values in values_of_probes for number in (*mean_and_deviation(values), None, None)]


PAPER, DIFFERENCE = "the paper's {}", "difference of {}"


def beside_columns(name: str, what: str) -> list[str]:
    """Returns the names of the columns that `beside` fills.

    Args:
      name: of the column with our numbers.
      what: these numbers are, in a word for the names of the other columns.
    """
    return [*with_deviation(name, PAPER.format(what)), DIFFERENCE.format(what), f"{what} within"]


def signed(*what: str) -> dict[str, str]:
    """Returns the formats of the columns of differences, `Table.formats`, for the same words as `beside_columns`."""
    return {DIFFERENCE.format(word): "+.2f" for word in what}


def beside(ours: Sequence[float | None], theirs: paper.Value | None) -> list[Any]:
    """Returns what the columns of `beside_columns` hold.

    These are our mean and deviation, the paper's mean and deviation, the difference of the means, and whether it is
    within the spread of both; None for what is missing.

    Args:
      ours: our numbers, one a run; None where a run has none.
      theirs: the paper's; None where it has none.
    """
    compared = compare.compare_with_paper(ours, theirs)
    judged = (compared.difference, compared.within) if compared else (None, None)
    return [*mean_and_deviation(ours), *(theirs or (None, None)), *judged]


def settings_that_differ(groups: Sequence[RunGroup]) -> Table:
    """Makes a table with a row for each setting that is not the same everywhere, a column for each group."""
    settings = [compare.own_settings(group.runs[0]) for group in groups]
    columns = ["setting", *(f"{group.name}, {group.benchmark}" for group in groups)]
    rows = [
        [key, *(compare.shown_setting(key, own[key]) if key in own else None for own in settings)]
        for key in compare.differing_keys(settings)
    ]
    return Table("", make_frame(columns, rows), words=len(columns))


# Records of probes that were asked of saved networks.

ANALYSES = {
    "knn": "kNN with other settings, accuracy in %",
    "linear": "Linear classifiers on features of plain images, accuracy in %",
    "linear_augmented": "A linear classifier trained on augmented images, accuracy in %",
    "ood": "Other data sets, accuracy in %",
    "finetune": "Fine-tuning on other data sets, accuracy in %",
    "transfer": "Transfer between tasks, in % and points",
    "geometry": "Geometry of parameters and features",
}
# Settings that each row of a record's values has for itself.
SETTINGS_OF_ROWS = {"knn": ("k", "temperature")}

Words = dict[str, str]
Numbers = dict[str, float | None]


def analysis_tables(groups: Sequence[RunGroup]) -> list[Table]:
    """Makes a table of the records of each probe, with a row for each group, number of tasks learned, and setting.

    The column n is the number of runs that have the row; a number that fewer runs have says so. A probe whose records
    are drawn as pictures has no table.
    """
    records = [record for group in groups for run in group.runs for record in run.analysis]
    distinguishing = {
        probe: _varied(probe, [record.settings for record in records if record.probe == probe])
        for probe in dict.fromkeys(record.probe for record in records)
    }
    # Probe -> (place of the group, tasks learned, settings...) -> seed -> numbers.
    found: dict[str, dict[tuple, dict[int, Numbers]]] = {}
    for place, group in enumerate(groups):
        for run in group.runs:
            for record in run.analysis:
                for settings, numbers in _observations(record, distinguishing[record.probe]):
                    seeds = found.setdefault(record.probe, {}).setdefault((place, record.after, *settings.items()), {})
                    seeds[run.seed] = numbers
    return [_analysis_table(ANALYSES.get(probe, probe), groups, rows) for probe, rows in found.items()]


def _analysis_table(title: str, groups: Sequence[RunGroup], found: dict[tuple, dict[int, Numbers]]) -> Table:
    """Makes the table of one probe from (place of the group, tasks learned, settings...) -> seed -> numbers."""
    words = list(dict.fromkeys(name for key in found for name, _ in key[2:]))
    names = list(dict.fromkeys(name for seeds in found.values() for numbers in seeds.values() for name in numbers))
    # A number may have the name of a setting, such as "train images" of ood.
    settings_beside = (f"{word}, set" if word in names else word for word in words)
    numbers = [column for name in names for column in (name, name + DEVIATION, name + KNOWN)]
    rows = []
    for (place, after, *settings), seeds in found.items():
        given = dict(settings)
        cells = [cell for name in names for cell in _over_known([n.get(name) for n in seeds.values()])]
        rows.append([groups[place].name, after, *(given.get(word) for word in words), len(seeds), *cells])
    columns = ["group", "tasks learned", *settings_beside, "n", *numbers]
    return Table(title, make_frame(columns, rows), words=2 + len(words))


def _over_known(values: Sequence[float | None]) -> tuple[float | None, float | None, int | None]:
    """Returns the mean and deviation of the values that are known, and how many are known where some are missing.

    A whole number that is the same in all runs, such as a number of images, is returned as it is, without deviation.
    """
    known = [value for value in values if value is not None]
    same = len(set(known)) == 1 and isinstance(known[0], int)
    few = len(known) if 0 < len(known) < len(values) else None
    return (known[0], None, few) if same else (*mean_and_deviation(known), few)


def _varied(probe: str, settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the keys of settings that tell a probe's records apart.

    These are the keys with different values among the records that have them. Where such keys do not tell all different
    settings apart, the keys that only some records have are returned too.
    """
    own = SETTINGS_OF_ROWS.get(probe, ())
    kept = [{key: words_of(value) for key, value in each.items() if key not in own} for each in settings]
    keys = list(dict.fromkeys(key for each in kept for key in each))
    varied = [key for key in keys if len({each[key] for each in kept if key in each}) > 1]
    distinct = {tuple(each.get(key) for key in varied) for each in kept}
    different = {tuple(sorted(each.items())) for each in kept}
    return varied if len(distinct) == len(different) else [key for key in keys if key in compare.differing_keys(kept)]


def _observations(record: Record, differ: Sequence[str]) -> Iterator[tuple[Words, Numbers]]:
    """Yields the table rows of a record: (settings, numbers).

    The settings are those that say what was measured, and those in `differ`, which tell the probe's records apart. The
    numbers of a probe that is not known here are all of its values that are numbers.
    """
    values, settings = record.typed_values, record.settings

    def words(*names: str) -> Words:
        present = [name for name in dict.fromkeys([*names, *differ]) if name in settings]
        return {name.replace("_", " "): words_of(settings[name]) for name in present}

    def over_tasks(row: Any) -> Numbers:
        return {"within the task": _mean_of(row.task), "all classes": _mean_of(row.all)}

    if record.probe == "knn":
        for row in values.rows:
            yield {"k": str(row.k), "temperature": str(row.temperature)} | words(), over_tasks(row)
    elif record.probe in ("linear", "linear_augmented"):
        yield words("solver", "fraction"), over_tasks(values)
    elif record.probe == "transfer":
        transfers = {"forward": values.forward, "backward": values.backward}
        random = {"untrained network": _mean_of(values.random_init)}
        yield words(), {"learning accuracy": values.learning_accuracy} | transfers | random
    elif isinstance(record.typed_settings, dict):  # they have another type where a picture is drawn
        found = record.values.items()  # in the order in which the probe wrote them
        scalars = {n.replace("_", " "): v for n, v in found if v is None or isinstance(v, int | float)}
        yield words("dataset", "epochs", "learning_rate"), scalars


def _mean_of(values: Sequence[float | None]) -> float | None:
    """Returns the mean of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
