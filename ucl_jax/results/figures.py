"""Draws pictures of results from plain numbers.

A function that takes a `stem` writes the picture to stem.png and stem.svg and the numbers that it shows to stem.json
and stem.csv, and returns the paths. The same numbers give the same bytes. The colours suit colour-blind readers.

Matplotlib is imported by the first picture, so that a program that draws none does not wait for it.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.results import compare
from ucl_jax.results.compare import PROBE_TITLES
from ucl_jax.results.load import load_results, read_metrics

if TYPE_CHECKING:
    from ucl_jax.results.records import (
        CkaSettings,
        CkaValues,
        EmbeddingSettings,
        EmbeddingValues,
        FeatureMapsSettings,
        FeatureMapsValues,
        LandscapeSettings,
        LandscapeValues,
    )
    from ucl_jax.results.schema import ProbeName, ProbeResult, Record, RunResult

# Okabe and Ito 2008, without yellow, which is too pale for lines. More lines than colours have other marks and dashes.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
GREYS: tuple[dict[str, Any], ...] = (
    {"ls": "-.", "color": "0.6"},
    {"ls": (0, (1, 3)), "color": "0.3"},
    {"ls": (0, (6, 3)), "color": "0.75"},
)
MARKS, DASHES = "osD^vPX", ("-", "--", "-.", ":")
SAVE: dict[str, Any] = {"dpi": 130, "bbox_inches": "tight"}
# Names come from configs: a dollar sign in one must not start a formula.
STYLE: dict[Any, Any] = {"svg.hashsalt": "ucl_jax", "text.parse_math": False, "svg.fonttype": "path"}

Rows = Sequence[Sequence[Any]]


def styled(draw: Callable) -> Callable:
    """Returns a function that calls `draw` with Matplotlib set up as STYLE says."""

    @functools.wraps(draw)
    def wrapped(*arguments, **keywords):
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*arguments, **keywords)

    return wrapped


@styled
def few_shot(stem: pathlib.Path, series: dict[str, list[dict]], title: str) -> list[pathlib.Path]:
    """Draws accuracy and forgetting over the number of training images a task, as fig. 2 of the paper.

    A line shows means over seeds, a bar the unbiased deviation.

    Args:
      stem: path of the files without a suffix.
      series: name -> points {"images": int, "accuracy": [per seed, %], "forgetting": [per seed, points]}; a number may
        be None.
      title: of the picture.

    Returns:
      The paths of the files.
    """
    figure = _figure(9, 3.8)
    axes = figure.subplots(1, 2)
    styles = _lines(series)
    sizes = sorted({point["images"] for points in series.values() for point in points})
    for axis, (what, label) in zip(axes, {"accuracy": "accuracy, %", "forgetting": "forgetting, points"}.items()):
        for name, points in series.items():
            known = [(p["images"], [v for v in p[what] if v is not None]) for p in points]
            known = sorted((images, values) for images, values in known if values)
            if known:
                spread = [np.std(values, ddof=1) if len(values) > 1 else 0.0 for _, values in known]
                means = [np.mean(values) for _, values in known]
                axis.errorbar([images for images, _ in known], means, spread, label=name, capsize=3, **styles[name])
        axis.set_xscale("log")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.xaxis.minorticks_off()
        axis.set(xlabel="training images a task", ylabel=label)
        axis.grid(color="0.9")
    _legend(figure, axes[0])
    figure.suptitle(title)
    rows = [
        [name, point["images"], run, accuracy, forgetting]
        for name, points in series.items()
        for point in points
        for run, (accuracy, forgetting) in enumerate(itertools.zip_longest(point["accuracy"], point["forgetting"]))
    ]
    header = ["series", "images", "run", "accuracy", "forgetting"]
    return _save(stem, figure, {"title": title, "series": series}, header, rows)


@styled
def cka(
    stem: pathlib.Path, panels: dict[str, dict], title: str, axes: tuple[str, str] = ("", "")
) -> list[pathlib.Path]:
    """Draws similarities from 0 to 1 as heat maps with the numbers in the cells, as fig. 3 of the paper.

    Args:
      stem: path of the files without a suffix.
      panels: title -> {"rows": [labels], "columns": [labels], "values": rows x columns}.
      title: of the picture.
      axes: what the rows and the columns stand for.

    Returns:
      The paths of the files.
    """
    most = max((len(panel["columns"]) for panel in panels.values()), default=1)
    figure, places = _grid(len(panels), width=max(2.6, 0.5 * most + 0.9), height=max(2.4, 0.45 * most + 0.9), most=3)
    norm = _norm(0, 1)
    for axis, (name, panel) in zip(places, panels.items()):
        image = _heat(axis, accuracy_matrix.as_array(panel["values"]), panel["rows"], panel["columns"], norm, "{:.2f}")
        axis.set(title=name, ylabel=axes[0], xlabel=axes[1])
    if panels:
        figure.colorbar(image, ax=places, label="linear CKA")
    figure.suptitle(title)
    rows = _entries({name: (panel["rows"], panel["columns"], panel["values"]) for name, panel in panels.items()})
    return _save(stem, figure, {"title": title, "panels": panels}, ["panel", "row", "column", "value"], rows)


@styled
def landscape(stem: pathlib.Path, panels: dict[str, dict], title: str) -> list[pathlib.Path]:
    """Draws the loss around networks along two random directions, as fig. 5 of the paper; all panels have one scale.

    Args:
      stem: path of the files without a suffix.
      panels: title -> {"steps": [P], "loss": P x P, first direction x second; None where it is not finite}.
      title: of the picture.

    Returns:
      The paths of the files.
    """
    losses = {name: _finite(panel["loss"]) for name, panel in panels.items()}
    known = np.concatenate([loss[np.isfinite(loss)] for loss in losses.values()] or [np.zeros(0)])
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    high = high if high > low else low + 1.0
    steep = low > 0 and high / low > 50
    levels = (np.geomspace if steep else np.linspace)(low, high, 25)
    levels[[0, -1]] = low, high  # exactly, in spite of rounding
    norm = _norm(low, high, steep)
    figure, places = _grid(len(panels), width=3.3, height=3.0, most=4)
    for axis, (name, panel) in zip(places, panels.items()):
        steps, loss = panel["steps"], np.ma.masked_invalid(losses[name])
        if loss.count():
            image = axis.contourf(steps, steps, loss, levels, norm=norm, cmap="viridis")
            lines = [level for level in levels[::3] if loss.min() < level < loss.max()]
            if lines:
                drawn = axis.contour(steps, steps, loss, lines, colors="w", linewidths=0.7)
                axis.clabel(drawn, fontsize=7, fmt="%.3g")
        axis.plot(0, 0, marker="+", color="w", ms=9)
        axis.set(title=name, xlabel="second direction", ylabel="first direction", aspect="equal")
    if len(known):
        figure.colorbar(image, ax=places, label="loss", ticks=levels[::4], format="%.3g")
    figure.suptitle(title)
    rows = _entries({name: (panel["steps"], panel["steps"], panel["loss"]) for name, panel in panels.items()})
    return _save(stem, figure, {"title": title, "panels": panels}, ["panel", "first", "second", "loss"], rows)


@styled
def feature_maps(stem: pathlib.Path, items: list[dict], title: str, most: int = 8) -> list[pathlib.Path]:
    """Draws images with feature maps of them, as fig. 4 of the paper; each map has its own scale.

    Args:
      stem: path of the files without a suffix.
      items: {"task": int, "label": int, "image": H x W x 3 of 0..255, "maps": [h x w, ...]}, and where it is known
        "channels": the number of each map's channel.
      title: of the picture.
      most: the number of maps to draw for each image; the files of numbers have all of them.

    Returns:
      The paths of the files.
    """
    columns = 1 + max((min(most, len(item["maps"])) for item in items), default=0)
    figure = _figure(1.1 * columns + 0.6, 1.15 * max(1, len(items)) + 0.5)
    for axes, item in zip(figure.subplots(max(1, len(items)), columns, squeeze=False), items):
        axes[0].imshow(np.asarray(item["image"], np.uint8), interpolation="nearest")
        axes[0].set_ylabel(f"task {item['task'] + 1}\nclass {item['label']}", fontsize=8)
        for axis, values, channel in zip(axes[1:], item["maps"], _channels(item)):
            axis.imshow(np.asarray(values, np.float64), cmap="viridis", interpolation="nearest")
            axis.set_title("" if channel is None else f"channel {channel}", fontsize=7, pad=2)
        for axis in axes:
            axis.set(xticks=[], yticks=[])
        for axis in axes[1 + len(item["maps"]) :]:
            axis.axis("off")
    figure.suptitle(title)
    rows = [
        [number, item["task"], item["label"], place, channel, y, x, value]
        for number, item in enumerate(items)
        for place, (values, channel) in enumerate(zip(item["maps"], _channels(item)))
        for y, line in enumerate(values)
        for x, value in enumerate(line)
    ]
    header = ["item", "task", "label", "map", "channel", "y", "x", "value"]
    return _save(stem, figure, {"title": title, "items": items}, header, rows)


def _channels(item: Mapping[str, Any]) -> Sequence[int | None]:
    """Returns the channel of each map; None where it is not known."""
    return item.get("channels") or [None] * len(item["maps"])


@styled
def embedding(
    stem: pathlib.Path, points: Sequence[Sequence[float]], task: Sequence[int], label: Sequence[int], title: str
) -> list[pathlib.Path]:
    """Draws features as points [N, 2], once coloured by their task [N] (from 0) and once by their class [N]."""
    places = np.asarray(points, np.float64).reshape(-1, 2)
    figure = _figure(9, 4.4)
    axes = figure.subplots(1, 2)
    for axis, name, numbers, shift in zip(axes, ("task", "class"), (np.asarray(task), np.asarray(label)), (1, 0)):
        present = sorted(set(numbers.tolist()))
        if len(present) > len(COLOURS) * 3:
            image = axis.scatter(*places.T, s=16, c=numbers + shift, cmap="viridis", rasterized=True)
            figure.colorbar(image, ax=axis, label=name)
        else:
            for place, number in enumerate(present):
                style = {"color": COLOURS[place % len(COLOURS)], "marker": MARKS[place // len(COLOURS)]}
                chosen = places[numbers == number]
                axis.scatter(*chosen.T, s=16, linewidths=0, label=str(number + shift), rasterized=True, **style)
            axis.legend(title=name, fontsize=8, markerscale=1.5, loc="center left", bbox_to_anchor=(1, 0.5))
        axis.set(title=f"by {name}", xticks=[], yticks=[])
    figure.suptitle(title)
    content = {"title": title, "points": points, "task": task, "label": label}
    rows = [[*point, *rest] for point, *rest in zip(places.tolist(), task, label)]
    return _save(stem, figure, content, ["x", "y", "task", "label"], rows)


@styled
def accuracy_matrices(stem: pathlib.Path, runs: Sequence[RunResult], probe: ProbeName) -> list[pathlib.Path]:
    """Draws the accuracy matrices of runs by one probe, side by side; runs without that probe are left out."""
    having = [(name, run) for name, run in zip(compare.run_names(runs), runs) if probe in run.probes]
    found = [run.probes[probe] for _, run in having]
    tasks = max((each.shape[1] for each in found), default=1)
    norm = _norm(min((each.chance for each in found), default=0), 100)
    size = max(2.9, 0.42 * tasks + 1.0)
    figure, places = _grid(len(found), width=size, height=size - 0.2, most=4)
    for axis, (name, run), each in zip(places, having, found):
        image = _accuracy(axis, each, run.joint, norm)
        axis.set_title(name, fontsize=9)
    if found:
        figure.colorbar(image, ax=places, label="accuracy, %")
    figure.suptitle(PROBE_TITLES[probe])
    kept: list[dict[str, Any]] = [
        {"name": name, "matrix": each.matrix, "chance": each.chance} for (name, _), each in zip(having, found)
    ]
    rows = [
        [item["name"], after + 1, task + 1, value]
        for item in kept
        for after, line in enumerate(item["matrix"])
        for task, value in enumerate(line)
    ]
    return _save(stem, figure, {"probe": probe, "runs": kept}, ["run", "row", "task", "accuracy"], rows)


@styled
def average_accuracy(
    stem: pathlib.Path, groups: dict[str, list[RunResult]], probe: ProbeName, title: str, order: Sequence[str] = ()
) -> list[pathlib.Path]:
    """Draws the average accuracy over the tasks learned so far: mean and deviation over the runs of each group.

    Args:
      stem: path of the files without a suffix.
      groups: name -> the runs of a group.
      probe: a key of PROBE_TITLES; runs without it are left out.
      title: of the picture.
      order: names of groups; the place in it decides a group's colour, so that several pictures agree.

    Returns:
      The paths of the files.
    """
    figure = _figure(4.3, 4.0)
    axis = figure.subplots()
    rows = _average_accuracy(axis, groups, probe, order)
    axis.set(title=title)
    _legend(figure, axis)
    header = ["group", "run", "tasks", "accuracy"]
    content = {"title": title, "probe": probe, "rows": [dict(zip(header, row)) for row in rows]}
    return _save(stem, figure, content, header, rows)


@styled
def losses(
    stem: pathlib.Path, groups: dict[str, list[list[dict]]], title: str, order: Sequence[str] = ()
) -> list[pathlib.Path]:
    """Draws the training loss over steps: a line for each run, a colour for each group, as in `average_accuracy`.

    Args:
      stem: path of the files without a suffix.
      groups: name -> the entries of metrics.jsonl of each run; those without a "loss" are left out.
      title: of the picture.
      order: names of groups; the place in it decides a group's colour.

    Returns:
      The paths of the files.
    """
    figure = _figure(4.3, 4.0)
    axis = figure.subplots()
    rows, styles = [], _lines(order or groups)
    for name, runs in groups.items():
        for run, entries in enumerate(runs):
            points = [(e["step"], e["loss"]) for e in entries if "loss" in e]
            steps, values = [step for step, _ in points], [loss for _, loss in points]
            axis.plot(
                steps, values, label=name if run == 0 else None, alpha=0.8, **styles[name] | {"lw": 0.9, "marker": None}
            )
            rows += [[name, run, *point] for point in points]
    axis.set(xlabel="step", ylabel="loss", title=title)
    axis.grid(color="0.9")
    _legend(figure, axis)
    header = ["group", "run", "step", "loss"]
    content = {"title": title, "rows": [dict(zip(header, row)) for row in rows]}
    return _save(stem, figure, content, header, rows)


def draw_record(stem: pathlib.Path, record: Record) -> list[pathlib.Path]:
    """Draws a probe's record and returns the paths; returns [] for a probe whose numbers belong in a table."""
    draw = RECORDS.get(record.probe)
    return draw(stem, record_title(record), record.typed_settings, record.typed_values) if draw else []


def record_title(record: Record) -> str:
    """Returns the title of a record's picture, such as "features after 5 tasks (pca)"; "" where it has no picture."""
    title = TITLES.get(record.probe)
    after = record.after
    when = "before training" if after == 0 else f"after {after} task{'' if after == 1 else 's'}"
    return title(record.typed_settings, when) if title else ""


def record_note(record: Record) -> str:
    """Returns a sentence to stand beside a record's picture; "" but for cka, where it tells an l2 distance."""
    values = record.typed_values
    if record.probe != "cka" or values.l2 is None:
        return ""
    if record.typed_settings.other:
        between, distance = "the last networks of the two runs", values.l2[-1][-1]
    else:
        first, last = values.networks[0], values.networks[-1]
        between, distance = f"the networks after {first} and after {last} tasks", values.l2[0][-1]
    if distance is None:
        return f"The backbones of {between} have different shapes, and so no l2 distance."
    return f"The l2 distance between the backbones of {between} is {distance:.2f}."


def _cka_title(settings: CkaSettings, when: str) -> str:
    other = f" (rows) and {pathlib.PurePath(settings.other).name}" if settings.other else ""
    return f"linear CKA of networks{other}"


TITLES: dict[str, Callable[[Any, str], str]] = {
    "cka": _cka_title,
    "feature_maps": lambda settings, when: f"feature maps {when}, {settings.stage}",
    "loss_landscape": lambda settings, when: f"loss of task {settings.task + 1} {when}",
    "embedding": lambda settings, when: f"features {when} ({settings.method})",
}


def _draw_cka(stem: pathlib.Path, title: str, settings: CkaSettings, values: CkaValues) -> list[pathlib.Path]:
    rows, columns = list(map(str, values.networks)), list(map(str, values.other_networks))
    panels = {name: {"rows": rows, "columns": columns, "values": matrix} for name, matrix in values.cka.items()}
    other = "tasks learned, other run" if settings.other else "tasks learned"
    return cka(stem, panels, title, ("tasks learned", other))


def _draw_landscape(
    stem: pathlib.Path, title: str, settings: LandscapeSettings, values: LandscapeValues
) -> list[pathlib.Path]:
    return landscape(stem, {f"{settings.loss} loss": {"steps": values.steps, "loss": values.loss}}, title)


def _draw_feature_maps(
    stem: pathlib.Path, title: str, settings: FeatureMapsSettings, values: FeatureMapsValues
) -> list[pathlib.Path]:
    return feature_maps(stem, [dataclasses.asdict(item) for item in values.items], title)


def _draw_embedding(
    stem: pathlib.Path, title: str, settings: EmbeddingSettings, values: EmbeddingValues
) -> list[pathlib.Path]:
    return embedding(stem, values.points, values.task, values.label, title)


RECORDS: dict[str, Callable[[pathlib.Path, str, Any, Any], list[pathlib.Path]]] = {
    "cka": _draw_cka,
    "feature_maps": _draw_feature_maps,
    "loss_landscape": _draw_landscape,
    "embedding": _draw_embedding,
}


# The figures that studies name.
STUDY_FIGURES: dict[str, Callable[[pathlib.Path, Any, str], list[pathlib.Path]]] = {
    "few_shot": few_shot,
    "cka": cka,
    "landscape": landscape,
}


@styled
def plot_run(workdir: pathlib.Path) -> None:
    """Draws accuracy_matrix.png, average_accuracy.png and loss.png of a run into `workdir/plots`.

    Raises:
      UsageError: a file of the run is missing or damaged.
    """
    results, folder = load_results(workdir), workdir / "plots"
    folder.mkdir(exist_ok=True)
    plot_matrices(folder / "accuracy_matrix.png", results)
    if not results.joint:
        plot_average_accuracy(folder / "average_accuracy.png", [results])
    plot_loss(folder / "loss.png", read_metrics(workdir / "metrics.jsonl"))


def plot_matrices(path: pathlib.Path, results: RunResult) -> None:
    """Draws the accuracy matrix of every probe of a run as a heat map."""
    probes = results.probes
    rows, columns = next(iter(probes.values())).shape
    figure = _figure(len(probes) * max(3.6, 0.5 * columns + 1.6), max(1.9, 0.42 * rows + 1.5))
    for axis, (name, probe) in zip(figure.subplots(1, len(probes), squeeze=False)[0], probes.items()):
        image = _accuracy(axis, probe, results.joint, _norm(probe.chance, 100))
        axis.set_aspect("auto")
        axis.set_title(PROBE_TITLES[name])
        figure.colorbar(image, ax=axis, label="accuracy, %")
    figure.suptitle(results.name)
    figure.savefig(path, **SAVE)


@styled
def plot_average_accuracy(path: pathlib.Path, runs: Sequence[RunResult]) -> None:
    """Draws runs' average accuracy over the tasks learned, by every probe; joint training and chance are flat lines."""
    probes, names = compare.probes_of(runs), compare.run_names(runs)
    figure = _figure(4.5 * len(probes), 3.4)
    places = figure.subplots(1, len(probes), squeeze=False)[0]
    for axis, probe in zip(places, probes):
        _average_accuracy(axis, {name: [results] for name, results in zip(names, runs)}, probe)
        axis.axhline(compare.chance(runs, probe), ls=":", color="0.7", label="chance, all tasks")
        axis.set_title(PROBE_TITLES[probe])
    _legend(figure, places[0])  # all runs have the first probe
    figure.set_figheight(3.4 + 0.1 * len(places[0].get_legend_handles_labels()[1]))
    figure.savefig(path, **SAVE)


@styled
def plot_loss(path: pathlib.Path, entries: Sequence[dict[str, Any]]) -> None:
    """Draws the training loss over steps, and where a new task begins."""
    entries = [entry for entry in entries if "loss" in entry]
    figure = _figure(7, 3)
    axis = figure.subplots()
    axis.plot([e["step"] for e in entries], [e["loss"] for e in entries], lw=1, color=COLOURS[0])
    for before, after in itertools.pairwise(entries):
        if before["task"] != after["task"]:
            axis.axvline((before["step"] + after["step"]) / 2, color="0.7", lw=1, ls=":")
    axis.set(xlabel="step", ylabel="loss", title="training loss (dotted: a new task)")
    figure.savefig(path, **SAVE)


@styled
def plot_buffer(
    path: pathlib.Path, images: np.ndarray, labels: np.ndarray, classes: Sequence[Sequence[int]], most: int = 256
) -> None:
    """Draws the images of a buffer ordered by task, and tells how many are of each task.

    Args:
      path: where the picture is written.
      images: stored images, uint8 [S, H, W, C].
      labels: their labels, [S].
      classes: the labels of each task.
      most: how many images to show; where more are stored, evenly spaced ones are chosen.
    """
    task_of = {label: task for task, labels_of in enumerate(classes) for label in labels_of}
    tasks = np.array([task_of[int(label)] for label in labels], dtype=int)
    order = np.argsort(tasks, kind="stable")
    shown = order[np.linspace(0, len(order) - 1, min(most, len(order))).astype(int)]
    columns = max(1, int(np.ceil(np.sqrt(1.6 * len(shown)))))
    rows = max(1, -(-len(shown) // columns))
    height, width = images.shape[1:3]
    grid = np.full((rows * (height + 1), columns * (width + 1), 3), 255, np.uint8)
    for place, index in enumerate(shown):
        row, column = divmod(place, columns)
        grid[row * (height + 1) :, column * (width + 1) :][:height, :width] = images[index]
    counts = np.bincount(tasks, minlength=len(classes))
    figure = _figure(8, 8 * grid.shape[0] / grid.shape[1] + 0.5)
    axis = figure.subplots()
    axis.imshow(grid, interpolation="nearest")
    axis.axis("off")
    held = ", ".join(f"task {task + 1}: {count}" for task, count in enumerate(counts) if count)
    axis.set_title(f"{len(images)} images in the buffer ({held})", fontsize=9, wrap=True)
    figure.savefig(path, **SAVE)


def _average_accuracy(
    axis, groups: dict[str, list[RunResult]], probe: ProbeName, order: Sequence[str] = ()
) -> list[list]:
    """Draws average accuracy on an axis; returns rows of group, run, tasks learned, average accuracy."""
    having = {name: [run for run in runs if probe in run.probes] for name, runs in groups.items()}
    rows, styles = [], _lines(order or groups)
    for name, runs in having.items():
        curves = [accuracy_matrix.average_accuracies(run.probes[probe].matrix, run.joint) for run in runs]
        if not any(curves):
            continue
        reached = min(map(len, curves)) or max(map(len, curves))
        together = np.array([curve[:reached] for curve in curves if len(curve) >= reached])
        means = together.mean(0)
        if runs[0].joint:
            axis.axhline(means[-1], ls="--", color="0.4", label=name)
            rows += [[name, run, "all", curve[-1]] for run, curve in enumerate(curves) if curve]
            continue
        axis.plot(range(1, reached + 1), means, label=name, **styles[name])
        if len(together) > 1:
            spread = together.std(0, ddof=1)
            axis.fill_between(
                range(1, reached + 1), means - spread, means + spread, color=styles[name]["color"], alpha=0.15, lw=0
            )
        rows += [[name, run, tasks, a] for run, curve in enumerate(curves) for tasks, a in enumerate(curve, start=1)]
    shown = list(itertools.chain.from_iterable(having.values()))
    starts = compare.untrained_networks([run for run in shown if run.model == shown[0].model])
    for (label, group), style in zip(starts.items(), itertools.cycle(GREYS)):
        axis.axhline(np.mean([compare.untrained(run, probe) for run in group]), label=f"{label}, all tasks", **style)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set(xlabel="tasks learned", ylabel="average accuracy, %")
    axis.grid(color="0.9")
    return rows


def _accuracy(axis, probe: ProbeResult, joint: bool, norm):
    """Draws the accuracy matrix of a probe on an axis, and returns the image."""
    matrix = accuracy_matrix.as_array(probe.matrix)
    rows, columns = matrix.shape
    names = ["all"] if joint else range(1, rows + 1)
    image = _heat(axis, matrix, names, range(1, columns + 1), norm, "{:.0f}")
    axis.set(xlabel="task", ylabel="after learning task")
    return image


def _heat(axis, values: np.ndarray, rows: Sequence, columns: Sequence, norm, form: str):
    """Draws a heat map with its numbers, dark on light or light on dark, and returns the image."""
    image = axis.imshow(values, norm=norm, cmap="viridis")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = ink(image.cmap(norm(value)))
            axis.text(column, row, form.format(value), ha="center", va="center", fontsize=8, color=colour)
    axis.set_xticks(range(len(columns)), list(columns))
    axis.set_yticks(range(len(rows)), list(rows))
    return image


def ink(colour: Sequence[float]) -> str:
    """Returns black or white, whichever is easier to read on a colour of red, green and blue in 0..1 (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return "#000000" if float(np.dot([0.2126, 0.7152, 0.0722], linear)) > 0.179 else "#ffffff"


def _lines(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Returns colour, dashes and mark for the line of each name; the first 28 differ from each other."""
    styles = {}
    for number, name in enumerate(names):
        turn, place = divmod(number, len(COLOURS))
        dashes, mark = DASHES[turn % len(DASHES)], MARKS[number % len(MARKS)]
        styles[name] = {"color": COLOURS[place], "ls": dashes, "lw": 1.6, "marker": mark, "ms": 4.5}
    return styles


def _legend(figure, axis) -> None:
    """Puts the legend below the axes, where it hides no line."""
    handles, labels = axis.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)


def _figure(width: float, height: float):
    """Returns an empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _norm(low: float, high: float, logarithmic: bool = False):
    """Returns Matplotlib's norm that maps values from `low` to `high` to 0..1."""
    from matplotlib.colors import LogNorm, Normalize

    return (LogNorm if logarithmic else Normalize)(low, high)


def _grid(panels: int, width: float, height: float, most: int) -> tuple[Any, np.ndarray]:
    """Returns a figure and its axes: `panels` of them, at most `most` in a row, each of the given size in inches."""
    columns = max(1, min(most, panels))
    rows = max(1, -(-panels // columns))
    figure = _figure(width * columns + 1.0, height * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[panels:]:
        axis.remove()
    return figure, axes[:panels]


def _entries(panels: Mapping[str, tuple[Sequence, Sequence, Rows]]) -> list[list]:
    """Returns rows [panel, row label, column label, value] of panels: title -> (row labels, column labels, values)."""
    return [
        [name, row, column, value]
        for name, (rows, columns, matrix) in panels.items()
        for row, values in zip(rows, matrix)
        for column, value in zip(columns, values)
    ]


def _finite(rows: Rows) -> np.ndarray:
    """Returns a matrix as an array with NaN for None and for infinities."""
    values = accuracy_matrix.as_array(rows)
    return np.where(np.isfinite(values), values, np.nan)


def _save(stem: pathlib.Path, figure, numbers: Any, header: Sequence[str], rows: Rows) -> list[pathlib.Path]:
    """Writes a picture, without a date so that its bytes can be compared, and its numbers; returns the paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    png, svg, as_json, as_csv = paths = [
        stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "svg", "json", "csv")
    ]
    figure.savefig(png, metadata={"Software": None}, **SAVE)
    figure.savefig(svg, metadata={"Date": None, "Creator": None}, **SAVE)
    as_json.write_text(json.dumps(_plain(numbers), allow_nan=False) + "\n")
    with as_csv.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(_plain([header, *rows]))
    return paths


def _plain(value: Any) -> Any:
    """Returns a tree of values as JSON can hold it, with None for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
