"""Makes one HTML page about runs, which needs no other file and no network.

The page can be read on a phone, in dark mode and by a screen reader. This module decides what the page shows; the
template, page.html, decides how it looks.
"""

from __future__ import annotations

import base64
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
    from ucl_jax.results.schema import ProbeName, RunResult


class Source(NamedTuple):
    """What a page shows of a run.

    Attributes:
      results: the content of `results.json`.
      entries: the entries of metrics.jsonl, [] where there is no such file.
      buffer: a PNG picture of the buffer after the last task learned, None where there is none.
      folder: the path that was read.
    """

    results: RunResult
    entries: list[dict[str, Any]]
    buffer: bytes | None
    folder: str


Block = dict[str, Any]  # what a macro of the template takes: the kind of the block, and its content
Draw = Callable[..., Block]  # see `_drawer`


def load_source(workdir: pathlib.Path) -> Source:
    """Reads what a page shows of a run: its results and, from a run folder, its training metrics and last buffer.

    Raises:
      UsageError: there are no results, or a file is damaged.
    """
    results = load_results(workdir)
    metrics = workdir / "metrics.jsonl"
    buffer = workdir / "plots" / f"buffer_evaluation{results.tasks_learned}.png"
    return Source(
        results,
        read_metrics(metrics) if metrics.exists() else [],
        buffer.read_bytes() if buffer.exists() else None,
        str(workdir),
    )


def write_page(folder: pathlib.Path, sources: Sequence[Source], definition: str) -> pathlib.Path:
    """Writes the page to folder/index.html, and returns that path. Other files in the folder stay.

    The accuracy matrices of all runs are drawn to folder/figures beside it, with their numbers.

    Args:
      folder: is made where it is missing.
      sources: the runs.
      definition: of forgetting, a key of `accuracy_matrix.FORGETTING`.

    Raises:
      ValueError: two runs have the same settings and the same seed.
      OSError: the folder cannot be written to.
    """
    text, path = build(sources, definition), folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    runs = [source.results for source in sources]
    for probe in compare.probes_of(runs):
        run_figures.accuracy_matrices(folder / "figures" / f"accuracy_matrices-{probe}", runs, probe)
    return path


def build(sources: Sequence[Source], definition: str, stamp: str = "") -> str:
    """Returns the HTML of the page about runs; the same runs give the same text.

    Args:
      sources: the runs.
      definition: of forgetting, a key of `accuracy_matrix.FORGETTING`.
      stamp: that of a page which is served, and loads itself again when its stamp has changed; "" for a file.

    Raises:
      ValueError: two runs have the same settings and the same seed.
    """
    runs = [source.results for source in sources]
    groups, names = compare.groups_of(runs, {"eval.forgetting"}), run_names(runs)
    scored = [group for group in groups if group.runs[0].probes]  # those whose images have labels
    with tempfile.TemporaryDirectory() as folder:
        draw = _drawer(pathlib.Path(folder))
        blocks = {
            "Summary": _summary(scored, definition),
            "Every run": [_table(table, "Every run") for table in tables.of_runs(runs, definition)],
            "Average accuracy over tasks": _curves(scored, draw),
            "Accuracy matrices": _matrices(scored),
            "Training loss": _losses(groups, sources, draw),
            "Analysis": _analysis(groups, dict(zip(names, runs)), draw),
            "What came when": _streams(dict(zip(names, runs)), draw),
            "What the buffers hold": _buffers(dict(zip(names, sources))),
            "Settings that differ": _settings(groups),
            "How each run was made": [{"kind": "runs", "items": list(map(_how_made, names, sources))}],
            "Accuracy of each class at the end": _classes([run for run in runs if run.is_stream]),
        }
    # Sections without content are left out. Ids count them too, so that a link to a section stays valid.
    sections = [
        {"id": f"s{number}", "title": title, "blocks": content}
        for number, (title, content) in enumerate(blocks.items())
        if content
    ]
    return _template().render(
        title="Unsupervised continual learning",
        headline=_headline(scored, definition),
        counted=f"{_count(len(runs), 'run')}, {_count(len(groups), 'group')}",
        pending=[name for name, run in zip(names, runs) if not run.finished],
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


def _headline(groups: Sequence[RunGroup], definition: str) -> list[dict[str, Any]]:
    """Returns the numbers of the first sentences: for each benchmark those of the group with the highest accuracy."""
    said = []
    for benchmark in dict.fromkeys(group.benchmark for group in groups):
        here = [group for group in groups if group.benchmark == benchmark]
        probe = compare.probes_of([run for group in here for run in group.runs])[0]
        done = [group for group in here if all(run.finished for run in group.runs)] or here
        continual = [group for group in done if not group.runs[0].joint] or done
        scores = [compare.scores(group.runs, probe, definition) for group in continual]
        means = [float(np.mean(known)) if (known := compare.all_known(of_runs)) else -1.0 for of_runs, _ in scores]
        place = int(np.argmax(means))
        best, (accuracy, lost) = continual[place], scores[place]
        before = [compare.untrained(run, probe) for run in best.runs]
        said.append(
            {
                "benchmark": benchmark,
                "of_many": len(continual) > 1,
                "name": best.name,
                "accuracy": _mean(accuracy),
                "probe": PROBE_TITLES[probe],
                "forgetting": _mean(lost),
                "runs": _count(len(best.runs), "run"),
                "untrained": _mean(before),
            }
        )
    return said


def _mean(values: Sequence[float | None]) -> str:
    """Returns "mean±deviation", or the number where there is one; "" where one is missing."""
    mean, deviation = tables.mean_and_deviation(values)
    if mean is None:
        return ""
    return f"{mean:.2f}" + ("" if deviation is None else f"±{deviation:.2f}")


def _summary(groups: Sequence[RunGroup], definition: str) -> list[Block]:
    """Returns a table for each benchmark: a row for each group, beside the paper's numbers."""
    note = (
        "Accuracy in per cent, averaged over all tasks after the last one; forgetting in points. Mean±deviation over "
        "the n runs that differ in their seed alone. The paper's numbers (Madaan et al., ICLR 2022, table 1) are for "
        "kNN within the task; “-” where it has none, or where the runs have other settings than their recipe."
    )
    parts = [
        (_heading(table.title), _table(table, f"Summary, {table.title}"))
        for table in tables.against_paper(groups, definition)
    ]
    return [_paragraph(note), *(block for part in parts for block in part)] if parts else []


def _families(groups: Sequence[RunGroup]) -> dict[str, list[RunGroup]]:
    """Returns the groups of each benchmark and objective, as "simsiam on cifar10" -> groups."""
    families: dict[str, list[RunGroup]] = {}
    for group in groups:
        families.setdefault(f"{group.objective} on {group.benchmark}", []).append(group)
    return families


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
                if (having := [run for run in group.runs if probe in run.probes])
            ]
            runs_of = {group.recipe: group.runs for group in members}
            pictures.append(
                draw(
                    run_figures.average_accuracy,
                    runs_of,
                    probe,
                    PROBE_TITLES[probe],
                    order,
                    caption=f"{family}, {PROBE_TITLES[probe]}",
                    alt=f"Average accuracy after each task, {family}, {PROBE_TITLES[probe]}; last: {', '.join(ends)}",
                )
            )
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
    note = "Accuracy in per cent on each task (column) after learning each (row), mean over the runs given."
    blocks = [_paragraph(note)] if groups else []
    for probe in compare.probes_of([run for group in groups for run in group.runs]):
        having = [group for group in groups if any(probe in run.probes for run in group.runs)]
        blocks += [
            _heading(PROBE_TITLES[probe]),
            {"kind": "matrices", "items": [_matrix(group, probe) for group in having]},
        ]
    return blocks


def _matrix(group: RunGroup, probe: ProbeName) -> Block:
    """Returns a group's accuracy matrix: the mean over those of its runs that have learned the most tasks."""
    probes = [run.probes[probe] for run in group.runs if probe in run.probes]
    furthest = max(each.shape[0] for each in probes)
    matrices = [accuracy_matrix.as_array(each.matrix) for each in probes if each.shape[0] == furthest]
    mean = np.mean(matrices, axis=0)
    names = ["all"] if group.runs[0].joint else range(1, furthest + 1)
    name, rest = group.name, f"{group.benchmark}, {_count(len(matrices), 'run')}"
    return {
        "label": f"Accuracy matrix, {name}, {rest}, {PROBE_TITLES[probe]}",
        "name": name,
        "rest": rest,
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


def _streams(runs: Mapping[str, RunResult], draw: Draw) -> list[Block]:
    """Returns pictures of the streams and of the shares of tasks in the buffers (name -> run), equal ones once."""
    equal: dict[str, list[str]] = {}
    for name, run in runs.items():
        if run.stream is not None:
            equal.setdefault(repr((run.benchmark, run.stream)), []).append(name)
    pictures = []
    for names in equal.values():
        run, said = runs[names[0]], ", ".join(names)
        alt = f"Shares of tasks over the stream and in the buffer, {run.benchmark}: {said}"
        pictures.append(draw(run_figures.stream, run, caption=f"{run.benchmark}: {said}", alt=alt))
    return _pictures(pictures)


def _buffers(sources: Mapping[str, Source]) -> list[Block]:
    """Returns the pictures of the runs' last buffers (name -> run)."""
    pictures = []
    for name, source in sources.items():
        if source.buffer is not None:
            said = f"{name}, after the last task learned"
            pictures.append(_picture(source.buffer, "png", said, f"Images stored by {said}, ordered by task"))
    return _pictures(pictures)


def _settings(groups: Sequence[RunGroup]) -> list[Block]:
    """Returns the table of settings that are not the same in all groups."""
    table = tables.settings_that_differ(groups)
    if table.frame.empty:
        return [_paragraph("All settings but the seed are the same.")]
    return [_table(table, "Settings that differ")]


def _classes(streams: Sequence[RunResult]) -> list[Block]:
    """Returns the table of the accuracy of each class in runs over streams; nothing without such runs."""
    return [_table(tables.of_classes(streams), "Accuracy of each class at the end")] if streams else []


def _how_made(name: str, source: Source) -> dict[str, Any]:
    """Returns how a run was made: command, commit, versions, device, time and folder."""
    run = source.results
    pending = "" if run.finished else ", not finished"
    speed = f", {run.images_per_second:.0f} images a second" if run.images_per_second else ""
    return {
        "title": f"{name} on {run.benchmark}{pending}: {_duration(run.seconds)}",
        "command": run.command,
        "commit": run.commit,
        "versions": ", ".join(f"{package} {version}" for package, version in run.versions.items()),
        "device": run.device,
        "time": _duration(run.seconds) + speed,
        "folder": shlex.quote(source.folder),
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
    count = iter(range(10**9))

    def draw(figure: Callable, *arguments, caption: str, alt: str) -> Block:
        picture: Picture = figure(folder / str(next(count)), *arguments)
        _, svg, _, _ = picture.paths
        return _picture(svg.read_bytes(), "svg+xml", caption, alt, picture.width > WIDE)

    return draw


WIDE = 450  # points; a phone cannot show the whole of a wider picture


def _picture(data: bytes, kind: str, caption: str, alt: str, wide: bool = False) -> Block:
    """Returns a picture of the page, which holds its data; `kind` is "png" or "svg+xml"."""
    return {
        "source": f"data:image/{kind};base64,{base64.b64encode(data).decode()}",
        "caption": caption,
        "alt": alt,
        "wide": wide,
    }


def _pictures(items: list[Block]) -> list[Block]:
    return [{"kind": "pictures", "items": items}] if items else []


def _table(table: Table, label: str) -> Block:
    cells = tables.shown(table)
    rows = {"names": list(cells.columns), "rows": cells.values.tolist(), "words": table.words}
    return {"kind": "table", "label": label, **rows}


def _heading(text: str) -> Block:
    return {"kind": "heading", "text": text}


def _paragraph(text: str) -> Block:
    return {"kind": "paragraph", "text": text}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
