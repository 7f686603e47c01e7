"""Makes one HTML page about runs, which needs no other file and no network.

The page can be read on a phone, in dark mode, without JavaScript, by keyboard and by a screen reader. This module
decides what the page shows; the template, page.html, decides how it looks.
"""

from __future__ import annotations

import base64
import itertools
import pathlib
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.files import write_atomically
from ucl_jax.results import compare, drawing, probe_figures, run_figures, tables
from ucl_jax.results.compare import PROBE_TITLES, RunGroup, run_names
from ucl_jax.results.drawing import Picture
from ucl_jax.results.load import load_results, read_metrics
from ucl_jax.results.tables import Table

if TYPE_CHECKING:
    from ucl_jax.results.schema import ProbeName, RunResult, StreamRecord


class Source(NamedTuple):
    """What a page shows of a run.

    Attributes:
      results: the content of `results.json`.
      entries: the entries of metrics.jsonl, [] where there is no such file.
      buffers: PNG pictures of the buffer at the first, the middle and the last evaluation, by the number of the
        evaluation, from 1; those that there are.
      folder: the path that was read.
    """

    results: RunResult
    entries: list[dict[str, Any]]
    buffers: Mapping[int, bytes]
    folder: str


Block = dict[str, Any]  # what a macro of the template takes: the kind of the block, and its content
Draw = Callable[..., Block]  # see `_drawer`


def load_source(workdir: pathlib.Path) -> Source:
    """Reads what a page shows of a run: its results and, from a run folder, its training metrics and buffers.

    Raises:
      UsageError: there are no results, or a file is damaged.
    """
    results = load_results(workdir)
    metrics = workdir / "metrics.jsonl"
    last = results.tasks_learned
    buffers = {number: workdir / "plots" / f"buffer_evaluation{number}.png" for number in (1, (last + 1) // 2, last)}
    return Source(
        results,
        read_metrics(metrics) if metrics.exists() else [],
        {number: path.read_bytes() for number, path in buffers.items() if path.exists()},
        str(workdir),
    )


def write_page(
    folder: pathlib.Path, sources: Sequence[Source], definition: str, over: str = compare.BASELINE
) -> pathlib.Path:
    """Writes the page to folder/index.html, and returns that path. Other files in the folder stay.

    The accuracy matrices of all runs are drawn to folder/figures beside it, with their numbers.

    Args:
      folder: is made where it is missing.
      sources: the runs.
      definition: of forgetting, a key of `accuracy_matrix.FORGETTING`.
      over: what the runs are compared with, see `compare.baselines`.

    Raises:
      ValueError: two runs have the same settings and the same seed.
      OSError: the folder cannot be written to.
    """
    text, path = build(sources, definition, over=over), folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    runs = [source.results for source in sources]
    for probe in compare.probes_of(runs):
        run_figures.accuracy_matrices(folder / "figures" / f"accuracy_matrices-{probe}", runs, probe)
    return path


def build(
    sources: Sequence[Source],
    definition: str,
    stamp: str = "",
    begun: Sequence[str] = (),
    over: str = compare.BASELINE,
) -> str:
    """Returns the HTML of the page about runs; the same runs give the same text.

    Args:
      sources: the runs.
      definition: of forgetting, a key of `accuracy_matrix.FORGETTING`.
      stamp: that of a page which is served, and loads itself again when its stamp has changed; "" for a file.
      begun: the folders of runs that have no results yet.
      over: what the runs are compared with, see `compare.baselines`.

    Raises:
      ValueError: two runs have the same settings and the same seed.
    """
    runs = [source.results for source in sources]
    groups, names = compare.groups_of(runs, {"eval.forgetting"}), run_names(runs)
    named, scored = dict(zip(names, runs)), compare.scored(runs)
    with_labels = [group for group in groups if group.runs[0].probes]
    with tempfile.TemporaryDirectory() as folder:
        draw = _drawer(pathlib.Path(folder))
        blocks = {
            "Summary": _summary(with_labels, definition, over, draw),
            "Average accuracy over tasks": _curves(with_labels, draw),
            "Accuracy matrices": _matrices(with_labels),
            "Measured without labels": _unlabelled([group for group in groups if not group.runs[0].probes], draw),
            "What came when": _streams(groups, draw),
            "What the buffers hold": _buffers(groups, sources),
            "Training loss": _losses(groups, sources, draw),
            "Analysis": _analysis(groups, named, draw),
            "Every run": [_table(tables.every_run(scored, definition), "Every run")] if scored else [],
            "Accuracy of each class": _classes([group for group in with_labels if group.runs[0].is_stream], draw),
            "Settings that differ": _settings(groups),
            "How each run was made": _made(groups, sources),
        }
    # Sections without content are left out. Ids count them too, so that a link to a section stays valid.
    sections = [
        {"id": f"s{number}", "title": title, "blocks": content}
        for number, (title, content) in enumerate(blocks.items())
        if content
    ]
    pending = [
        f"{name} ({run.tasks_seen[-1]} of {_count(run.tasks, 'task')} seen)"
        for name, run in named.items()
        if not run.finished
    ]
    return _template().render(
        title="Unsupervised continual learning",
        headline=_headline(with_labels, definition, over),
        counted=f"{_count(len(runs), 'run')}, {_count(len(groups), 'group')}" if runs else "",
        pending=pending,
        begun=begun,
        sections=sections,
        stamp=stamp,
    )


def _template() -> Any:
    """Returns the Jinja template of the page; it escapes all that is put into it."""
    import jinja2  # imported late, for --help should not wait for it

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html")


def _headline(groups: Sequence[RunGroup], definition: str, over: str) -> list[dict[str, Any]]:
    """Returns the numbers of the first sentences: those of the best group of each benchmark and stream."""
    said = []
    for ground in dict.fromkeys(map(_ground, groups)):
        here = [group for group in groups if _ground(group) == ground]
        runs = [run for group in here for run in group.runs]
        probe = compare.probes_of(runs)[0]
        done = [group for group in here if all(run.finished for run in group.runs)] or here
        continual = [group for group in done if not group.runs[0].joint] or done
        scores = [compare.scores(group.runs, probe, definition) for group in continual]
        means = [float(np.mean(known)) if (known := compare.all_known(of_runs)) else -1.0 for of_runs, _ in scores]
        place = int(np.argmax(means))
        best, (accuracy, lost) = continual[place], scores[place]
        found = {
            baseline.name if baseline else "the untrained network": compare.above(best, baseline, probe)
            for group, baseline in compare.baselines(here, over)
            if group is best
        }
        said.append(
            {
                "benchmark": ground,
                "by_task": not best.runs[0].is_stream,
                "of_many": len(continual) > 1,
                "name": best.name,
                "accuracy": tables.mean_text(accuracy),
                "probe": PROBE_TITLES[probe],
                "forgetting": tables.mean_text(lost),
                "runs": _count(len(best.runs), "run"),
                "differences": [
                    {"over": name, "text": _difference(difference)} for name, difference in found.items() if difference
                ],
            }
        )
    return said


def _difference(found: compare.PairedDifference) -> str:
    """Returns a difference in words, such as "+1.76 points (95 % interval +0.40 to +3.12, n = 10)"."""
    interval = unsure = ""
    if found.low is not None and found.high is not None:
        interval = f"95\u00a0% interval {found.low:+.2f} to {found.high:+.2f}, "
        unsure = ", which shows no difference" if found.low <= 0 <= found.high else ""
    return f"{found.mean:+.2f} points ({interval}n\u00a0=\u00a0{found.pairs}{unsure})"


def _summary(groups: Sequence[RunGroup], definition: str, over: str, draw: Draw) -> list[Block]:
    """Returns for each family of groups a table of them beside the paper's numbers, and their differences."""
    note = (
        "Accuracy in per cent, averaged over all tasks after the last one; forgetting in points. Mean±deviation over "
        "the n runs that differ in their seed alone."
    )
    beside = (
        "The paper's numbers (Madaan et al., ICLR 2022, table 1) are for kNN within the task; “-” where it has none, "
        "or where the runs have other settings than their recipe."
    )
    blocks, compared = [], False
    for family, members in _families(groups).items():
        (table,) = tables.against_paper(members, definition)
        compared = compared or any(compare.paper_row(group, members) for group in members)
        table = _without_objective(table)
        blocks += [_heading(family), _table(table, f"Summary, {family}")]
        for measured in (None, definition):
            blocks += _differences(family, members, over, draw, measured)
    return [_paragraph(f"{note} {beside}" if compared else note), *blocks] if blocks else []


def _without_objective(table: Table) -> Table:
    """Returns a table without its first column, the objective, which is the same in all rows of a family."""
    return table._replace(frame=table.frame.drop(columns="objective"), words=table.words - 1)


def _differences(family: str, groups: Sequence[RunGroup], over: str, draw: Draw, definition: str | None) -> list[Block]:
    """Returns the differences between groups of a family, as a table and a picture; nothing for a single run.

    They are differences of forgetting by a definition of it, or with None of accuracy.
    """
    table = _without_objective(tables.pairs(groups, over, definition))
    if table.frame.empty or sum(len(group.runs) for group in groups) == 1:
        return []
    if definition:
        told = (
            f"How many points more is forgotten than by {over}, seed by seed. Below 0 a method forgets less. The "
            "columns are those of the table above."
        )
    else:
        told = (
            f"How much higher the average accuracy is than that of the untrained network and of {over}, seed by seed: "
            "the mean over n seeds, its 95 % interval by Student's t, and with how many of the seeds it is higher. A "
            "single seed has no interval."
        )
    what = " of forgetting" if definition else ""
    blocks = [_heading(f"{family}: differences{what}, paired by seed"), _paragraph(told)]
    blocks.append(_table(table, f"Differences{what} paired by seed, {family}"))
    if table.frame[[name for name in table.frame if name.endswith(tables.LOW)]].notna().any(axis=None):
        title = f"{family}: mean differences{what} and 95 % intervals"
        alt = f"{title}; the numbers are those of the table above"
        blocks += _pictures([draw(run_figures.differences, groups, family, over, definition, caption=title, alt=alt)])
    return blocks


def _families(groups: Sequence[RunGroup]) -> dict[str, list[RunGroup]]:
    """Returns the groups of each benchmark, objective and stream, as "simsiam on cifar10" -> groups."""
    families: dict[str, list[RunGroup]] = {}
    for group in groups:
        families.setdefault(f"{group.objective} on {_ground(group)}", []).append(group)
    return families


def _ground(group: RunGroup) -> str:
    """Returns the name of what a group learned: its benchmark and, unless its tasks come in turn, its stream."""
    return compare.with_stream(group.benchmark, group.runs[0])


def _recipes(groups: Sequence[RunGroup]) -> list[str]:
    """Returns the recipe of each group, each once, with the settings that tell groups apart."""
    return list(dict.fromkeys(group.recipe for group in groups))


def _curves(groups: Sequence[RunGroup], draw: Draw) -> list[Block]:
    """Returns pictures of average accuracy over the tasks learned, by each probe."""
    pictures, order = [], _recipes(groups)
    for family, members in _families(groups).items():
        for probe in compare.probes_of([run for group in members for run in group.runs]):
            ends = [
                f"{group.recipe} {np.mean([compare.average_accuracy(run, probe) for run in having]):.1f} %"
                for group in members
                if (having := [run for run in group.runs if compare.chooses(run, probe)])
            ]
            runs_of = {group.recipe: group.runs for group in members}
            title = PROBE_TITLES[probe]
            said = {"images seen": f"{family}, {title}"}
            if compare.gradients_differ([run for group in members for run in group.runs]):
                said["gradient samples"] = f"{family}, {title}, over gradient samples"
            for over, caption in said.items():
                alt = f"Average accuracy after each task, {caption}; last: {', '.join(ends)}"
                drawn = runs_of, probe, title, order, over
                pictures.append(draw(run_figures.average_accuracy, *drawn, caption=caption, alt=alt))
    note = "Over the tasks seen so far. Lines are means over seeds, the shade is one deviation."
    return [_paragraph(note), *_pictures(pictures)] if pictures else []


def _losses(groups: Sequence[RunGroup], sources: Sequence[Source], draw: Draw) -> list[Block]:
    """Returns pictures of the training loss; [] where no run has entries of it."""
    entries = {id(source.results): source.entries for source in sources}
    pictures, order = [], _recipes(groups)
    for family, members in _families(groups).items():
        entries_of = {group.recipe: [entries[id(run)] for run in group.runs if entries[id(run)]] for group in members}
        if entries_of := {name: kept for name, kept in entries_of.items() if kept}:
            alt = f"Training loss over steps, {family}: {', '.join(entries_of)}"
            pictures.append(
                draw(run_figures.losses, entries_of, family, order, caption=f"{family}; a line for each run", alt=alt)
            )
    return _pictures(pictures)


def _matrices(groups: Sequence[RunGroup]) -> list[Block]:
    """Returns the accuracy matrices of all groups by each probe."""
    note = (
        "Accuracy in per cent on each task (column) after so many tasks learned, or images of a stream seen (row): the "
        "mean over the runs given."
    )
    blocks = [_paragraph(note)] if groups else []
    for probe in compare.probes_of([run for group in groups for run in group.runs]):
        having = [group for group in groups if any(compare.chooses(run, probe) for run in group.runs)]
        blocks += [
            _heading(PROBE_TITLES[probe]),
            {"kind": "matrices", "items": [_matrix(group, probe) for group in having]},
        ]
    return blocks


def _matrix(group: RunGroup, probe: ProbeName) -> Block:
    """Returns a group's accuracy matrix: the mean over those of its runs that have learned the most tasks."""
    probes = [run.probes[probe] for run in group.runs if compare.chooses(run, probe)]
    furthest = max(each.shape[0] for each in probes)
    matrices = [accuracy_matrix.as_array(each.matrix) for each in probes if each.shape[0] == furthest]
    mean = np.mean(matrices, axis=0)
    places, what = compare.row_places(group.runs)
    longest = next(run for run in group.runs if compare.chooses(run, probe) and run.probes[probe].shape[0] == furthest)
    names = ["all"] if longest.only_at_end else places(longest)
    name, rest = group.name, f"{group.benchmark}, {_count(len(matrices), 'run')}"
    return {
        "label": f"Accuracy matrix, {name}, {rest}, {PROBE_TITLES[probe]}",
        "name": name,
        "rest": rest,
        "what": what,
        "tasks": mean.shape[1],
        "rows": [
            {"name": row, "cells": [_heat(value, probes[0].chance) for value in values]}
            for row, values in zip(names, mean)
        ],
    }


def _heat(value: float, chance: float) -> dict[str, str] | None:
    """Returns an accuracy as text, with the colours of its cell and of the text; None for NaN."""
    if not np.isfinite(value):
        return None
    from matplotlib import colormaps  # imported late, for --help should not wait for it

    colour = colormaps["viridis"](float(np.clip((value - chance) / max(100 - chance, 1), 0, 1)))
    shade = "#" + "".join(f"{round(255 * part):02x}" for part in colour[:3])
    return {"text": f"{value:.1f}", "shade": shade, "ink": drawing.ink(colour)}


def _analysis(groups: Sequence[RunGroup], runs: Mapping[str, RunResult], draw: Draw) -> list[Block]:
    """Returns the tables of the groups' analysis records, and the pictures of those of each run (name -> run)."""
    found = tables.analysis_tables(groups)
    blocks = [block for table in found for block in (_heading(table.title), _table(table, table.title))]
    pictures = []
    for name, run in runs.items():
        for record in run.analysis:
            if title := probe_figures.record_title(record):
                note = probe_figures.record_note(record)
                said = f"{name}: {title}" + (f". {note}" if note else "")
                pictures.append(draw(probe_figures.draw_record, record, caption=said, alt=said))
    return [*blocks, *([_heading("Pictures"), *_pictures(pictures)] if pictures else [])]


def _unlabelled(groups: Sequence[RunGroup], draw: Draw) -> list[Block]:
    """Returns what the runs of groups measured without labels: a table of all runs, and a picture of each group."""
    runs = [run for group in groups for run in group.runs]
    if not runs:
        return []
    note = (
        "These images have no labels, and so there is no accuracy. Spread is 0 where features have collapsed. "
        "Effective rank and RankMe say how many directions they use. Alignment is the mean squared distance of two "
        "views of an image. The lower uniformity is, the more evenly features are spread. CKA is 1 where two networks "
        "have the same features."
    )
    pictures = []
    for group in groups:
        said = _title(group, group.runs[0])
        alt = f"Spread, effective rank, RankMe, alignment, uniformity and CKA in the course of {said}"
        pictures.append(draw(run_figures.representation, group.runs[0], caption=said, alt=alt))
    return [_paragraph(note), _table(tables.without_labels(runs), "Measured without labels"), *_pictures(pictures)]


def _title(group: RunGroup, run: RunResult) -> str:
    """Returns the name of a run that stands for its group, such as "lump (simsiam) on digits, seed 0"."""
    return f"{group.name} on {group.benchmark}, seed {run.seed}"


def _streams(groups: Sequence[RunGroup], draw: Draw) -> list[Block]:
    """Returns pictures of the streams of the groups' first runs, and of the tasks in their buffers; equal ones once."""
    parts: dict[str, tuple[str, Callable[[StreamRecord], Any]]] = {
        "stream": (
            "Of which classes or tasks the images of the stream are, from its beginning to its end.",
            lambda record: (record.images, record.tasks, record.classes),
        ),
        "buffer": ("Of which tasks the images in the buffer are, at each evaluation.", lambda record: record.buffer),
    }
    blocks = []
    for part, (note, numbers) in parts.items():
        equal: dict[str, list[RunGroup]] = {}
        for group in groups:
            if (record := group.runs[0].stream) is not None and (shown := numbers(record)):
                equal.setdefault(repr((group.benchmark, shown)), []).append(group)
        pictures = []
        for members in equal.values():
            said = "; ".join(_title(group, group.runs[0]) for group in members)
            alt = f"Shares of classes or tasks in the {part}: {said}"
            pictures.append(draw(run_figures.stream, members[0].runs[0], (part,), caption=said, alt=alt))
        blocks += [_paragraph(note), *_pictures(pictures)] if pictures else []
    return blocks


def _buffers(groups: Sequence[RunGroup], sources: Sequence[Source]) -> list[Block]:
    """Returns pictures of the buffer over time, of the first run of each group that has them."""
    buffers = {id(source.results): source.buffers for source in sources}
    pictures = []
    for group in groups:
        run = next((run for run in group.runs if buffers[id(run)]), group.runs[0])
        places, what = compare.row_places([run])
        for number, picture in buffers[id(run)].items():
            said = f"{_title(group, run)}, {what}: {places(run)[number - 1]}"
            pictures.append(_picture(picture, "png", said, f"Images in the buffer of {said}; in the order of tasks"))
    note = "The images at the first, the middle and the last evaluation, in the order of tasks."
    return [_paragraph(note), *_pictures(pictures)] if pictures else []


def _settings(groups: Sequence[RunGroup]) -> list[Block]:
    """Returns the table of settings that are not the same in all groups."""
    if len(groups) < 2:
        return []
    table = tables.settings_that_differ(groups)
    if table.frame.empty:
        return [_paragraph("All settings but the seed are the same.")]
    return [_table(table, "Settings that differ")]


def _classes(groups: Sequence[RunGroup], draw: Draw) -> list[Block]:
    """Returns the accuracy of each class in runs over streams: a picture of each group's first run, and a table."""
    if not groups:
        return []
    pictures = []
    for group in groups:
        if group.runs[0].class_matrix is not None:
            said = _title(group, group.runs[0])
            alt = f"Heat map of the accuracy of each class over the stream: {said}"
            pictures.append(draw(run_figures.class_accuracy, group.runs[0], caption=said, alt=alt))
    table = tables.of_classes([run for group in groups for run in group.runs])
    return [*_pictures(pictures), _heading("At the end"), _table(table, "Accuracy of each class at the end")]


def _made(groups: Sequence[RunGroup], sources: Sequence[Source]) -> list[Block]:
    """Returns how the runs of each group were made."""
    folders = {id(source.results): source.folder for source in sources}
    items = []
    for group in groups:
        whole = _duration(sum(run.seconds for run in group.runs))
        title = f"{group.name} on {group.benchmark}: {_count(len(group.runs), 'run')}, {whole}"
        items.append({"title": title, "runs": [_how_made(run, folders[id(run)]) for run in group.runs]})
    return [{"kind": "made", "items": items}] if items else []


def _how_made(run: RunResult, folder: str) -> dict[str, Any]:
    """Returns how a run was made: command, commit, versions, device, time and folder."""
    speed = f", {run.images_per_second:.0f} images a second" if run.images_per_second else ""
    return {
        "seed": f"seed {run.seed}" + ("" if run.finished else ", not finished"),
        "command": run.command,
        "commit": run.commit,
        "tasks": "; ".join(", ".join(task) for task in run.named_classes),
        "versions": ", ".join(f"{package} {version}" for package, version in run.versions.items()),
        "device": run.device,
        "time": _duration(run.seconds) + speed,
        "folder": shlex.quote(folder),
    }


def _duration(seconds: float) -> str:
    """Returns a time as text that stays on one line, such as "1 h 02 min" or "1 min 53 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return text.replace(" ", "\u00a0")


def _drawer(folder: pathlib.Path) -> Draw:
    """Returns a function (figure, *arguments, caption, alt) -> a picture of the page.

    `figure` is a function of `run_figures` or `probe_figures`; it draws `arguments` into `folder`.
    """
    count = itertools.count()

    def draw(figure: Callable, *arguments, caption: str, alt: str) -> Block:
        from matplotlib import rc_context  # imported late, for --help should not wait for it

        with rc_context(drawing.ON_ANY_PAGE):
            picture: Picture = figure(folder / str(next(count)), *arguments)
        _, svg, _, _ = picture.paths
        shown = drawing.follow_scheme(svg.read_text(encoding="utf-8"), DARK_INK)
        return _picture(shown.encode(), "svg+xml", caption, alt, picture.width > WIDE)

    return draw


DARK_INK = "#e6edf3"  # of pictures where the page is dark, as --ink of page.html
WIDE = 450  # points; a phone cannot show the whole of a wider picture


def _picture(data: bytes, kind: str, caption: str, alt: str, wide: bool = False) -> Block:
    """Returns a picture of the page, which holds its data; `kind` is "png" or "svg+xml"."""
    return {
        "source": f"data:image/{kind};base64,{base64.b64encode(data).decode()}",
        "caption": caption,
        "alt": alt,
        "wide": wide,
        "drawn": kind != "png",
    }


def _pictures(items: list[Block]) -> list[Block]:
    return [{"kind": "pictures", "items": items}] if items else []


def _table(table: Table, label: str) -> Block:
    """Returns a table of the page; columns of numbers of which there is none are left out.

    Its header has a second line where `Table.heads` gives columns a title that they share.
    """
    cells = tables.shown(tables.without_empty(table))
    columns = [
        {"place": place, "number": place >= table.words, "over": over, "name": name}
        for place, column in enumerate(cells.columns)
        for over, name in [table.heads.get(column, ("", column))]
    ]
    spans = [(over, list(members)) for over, members in itertools.groupby(columns, key=lambda column: column["over"])]
    return {"kind": "table", "label": label, "spans": spans, "rows": cells.values.tolist(), "words": table.words}


def _heading(text: str) -> Block:
    return {"kind": "heading", "text": text}


def _paragraph(text: str) -> Block:
    return {"kind": "paragraph", "text": text}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
