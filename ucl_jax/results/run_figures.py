"""Draws what runs found themselves: accuracy matrices, average accuracy, losses, and the images of a buffer.

A function that takes a `stem` writes the picture to stem.png and stem.svg and the numbers that it shows to stem.json
and stem.csv. The same numbers give the same bytes. A function that takes a `path` writes one picture there.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.results import compare, drawing
from ucl_jax.results.compare import MEASURES, PROBE_TITLES, RunGroup
from ucl_jax.results.drawing import Picture
from ucl_jax.results.load import load_results, read_metrics

PARTS = ("stream", "buffer")  # of a picture of a stream: what came when, and the tasks in the buffer

if TYPE_CHECKING:
    from ucl_jax.results.schema import ProbeName, ProbeResult, RepresentationResult, RunResult


@drawing.styled
def few_shot(stem: pathlib.Path, series: dict[str, list[dict]], title: str) -> Picture:
    """Draws accuracy and forgetting over the number of training images a task, as fig. 2 of the paper.

    A line shows means over seeds, a bar the unbiased deviation.

    Args:
      stem: path of the files without a suffix.
      series: name -> points {"images": int, "accuracy": [per seed, %], "forgetting": [per seed, points]}; a number may
        be None.
      title: of the picture.

    Returns:
      The picture.
    """
    figure = drawing.new_figure(9, 3.8)
    axes = figure.subplots(1, 2)
    styles = drawing.lines(series)
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
        axis.grid()
    drawing.legend(figure, axes[0])
    figure.suptitle(title)
    rows = [
        [name, point["images"], run, accuracy, forgetting]
        for name, points in series.items()
        for point in points
        for run, (accuracy, forgetting) in enumerate(itertools.zip_longest(point["accuracy"], point["forgetting"]))
    ]
    header = ["series", "images", "run", "accuracy", "forgetting"]
    return drawing.save(stem, figure, {"title": title, "series": series}, header, rows)


@drawing.styled
def accuracy_matrices(stem: pathlib.Path, runs: Sequence[RunResult], probe: ProbeName) -> Picture:
    """Draws the accuracy matrices of runs by one probe, side by side.

    Runs without that probe, or where it has nothing to choose, are left out.
    """
    having = [(name, run) for name, run in zip(compare.run_names(runs), runs) if compare.chooses(run, probe)]
    found = [run.probes[probe] for _, run in having]
    tasks = max((each.shape[1] for each in found), default=1)
    norm = drawing.make_norm(min((each.chance for each in found), default=0), 100)
    size = max(2.9, 0.42 * tasks + 1.0)
    figure, (places,) = drawing.new_grid([len(found)], width=size, height=size - 0.2, most=4)
    for axis, (name, run), each in zip(places, having, found):
        image = _accuracy(axis, each, run, norm)
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
    return drawing.save(stem, figure, {"probe": probe, "runs": kept}, ["run", "row", "task", "accuracy"], rows)


@drawing.styled
def average_accuracy(
    stem: pathlib.Path,
    groups: dict[str, list[RunResult]],
    probe: ProbeName,
    title: str,
    order: Sequence[str] = (),
    in_streams: str = "images seen",
) -> Picture:
    """Draws the average accuracy over the tasks learned so far, or for streams over images.

    A line shows means over the runs of a group, a band the deviation.

    Args:
      stem: path of the files without a suffix.
      groups: name -> the runs of a group.
      probe: a key of PROBE_TITLES; runs without it, or where it has nothing to choose, are left out.
      title: of the picture.
      order: names of groups; the place in it decides a group's colour, so that several pictures agree.
      in_streams: which images count in streams, a key of `compare.STREAM_PLACES`.

    Returns:
      The picture.
    """
    figure = drawing.new_figure(4.3, 4.0)
    axis = figure.subplots()
    rows = _average_accuracy(axis, groups, probe, order, in_streams)
    axis.set(title=title)
    drawing.legend(figure, axis)
    header = ["group", "run", "tasks", "accuracy"]
    content = {"title": title, "probe": probe, "over": in_streams, "rows": [dict(zip(header, row)) for row in rows]}
    return drawing.save(stem, figure, content, header, rows)


@drawing.styled
def differences(
    stem: pathlib.Path,
    groups: Sequence[RunGroup],
    title: str,
    over: str = compare.BASELINE,
    definition: str | None = None,
) -> Picture:
    """Draws by how many points groups are above what they are compared with, and 95 % intervals: a panel a probe.

    Args:
      stem: path of the files without a suffix.
      groups: groups of runs of one benchmark.
      title: of the picture.
      over: what they are compared with, see `compare.baselines`.
      definition: of forgetting, a key of `accuracy_matrix.FORGETTING`, which is then compared between runs; None
        compares accuracy, with that of untrained networks, too.

    Returns:
      The picture.
    """
    figure, rows = _differences(groups, title, over, definition)
    header = ["objective", "recipe", "over", "probe", *compare.PairedDifference._fields]
    content = {"title": title, "rows": [dict(zip(header, row)) for row in rows]}
    return drawing.save(stem, figure, content, header, rows)


@drawing.styled
def plot_differences(path: pathlib.Path, runs: Sequence[RunResult], over: str, definition: str | None = None) -> None:
    """Draws the picture that `differences` draws into one file, without its numbers.

    Args:
      path: where the picture is written.
      runs: of one benchmark; those that differ in their seed alone are a group.
      over: see `differences`.
      definition: see `differences`.
    """
    figure, _ = _differences(compare.groups_of(runs, {"eval.forgetting"}), "", over, definition)
    figure.savefig(path, **drawing.SAVE)


def _differences(
    groups: Sequence[RunGroup], title: str, over: str, definition: str | None
) -> tuple[Any, list[list[Any]]]:
    """Returns the figure of `differences`, and its numbers: objective, recipe, what it is over, probe, and the pair."""
    probes = compare.probes_of([run for group in groups for run in group.runs])
    pairs = compare.differences(groups, over, definition)
    styles, rows, names = drawing.lines(dict.fromkeys(name for _, name, _ in pairs)), [], []
    for group, name, by_probe in pairs:
        seeds = sorted({found.pairs for found in by_probe if found})
        names.append(f"{group.name} over {name}, n={' or '.join(map(str, seeds)) or 0}")
    seen_rows = compare.seen_rows_only(run for group in groups for run in group.runs)
    what = f" of {compare.forgetting_name(definition, seen_rows)}" if definition else ""
    width = 0.075 * max(map(len, names), default=0)  # of the names, in inches
    figure = drawing.new_figure(max(2.6, width) + 3.0 * len(probes), 1.0 + 0.3 * len(pairs))
    axes = figure.subplots(1, len(probes), sharey=True, squeeze=False)[0]
    for column, (axis, probe) in enumerate(zip(axes, probes)):
        for place, (group, name, by_probe) in enumerate(pairs):
            found = by_probe[column]
            if found is not None:
                half = None if found.low is None else found.mean - found.low
                axis.errorbar(found.mean, place, xerr=half, capsize=3, **styles[name] | {"ls": "none"})
                rows.append([group.objective, group.recipe, name, probe, *found])
        axis.axvline(0, color=drawing.GREY, lw=1)
        axis.set(title=PROBE_TITLES[probe], xlabel=f"difference{what}, points")
        axis.grid(axis="x")
    axes[0].set_yticks(range(len(pairs)), names)
    axes[0].set_ylim(len(pairs) - 0.4, -0.6)  # the first one above
    figure.suptitle(title)
    return figure, rows


@drawing.styled
def losses(stem: pathlib.Path, groups: dict[str, list[list[dict]]], title: str, order: Sequence[str] = ()) -> Picture:
    """Draws the training loss over steps: a line for each run, a colour for each group, as in `average_accuracy`.

    Args:
      stem: path of the files without a suffix.
      groups: name -> the entries of metrics.jsonl of each run; those without a "loss" are left out.
      title: of the picture.
      order: names of groups; the place in it decides a group's colour.

    Returns:
      The picture.
    """
    figure = drawing.new_figure(4.3, 4.0)
    axis = figure.subplots()
    rows, styles = [], drawing.lines(order or groups)
    for name, runs in groups.items():
        for run, entries in enumerate(runs):
            points = [(e["step"], e["loss"]) for e in entries if "loss" in e]
            steps, values = [step for step, _ in points], [loss for _, loss in points]
            axis.plot(
                steps, values, label=name if run == 0 else None, alpha=0.8, **styles[name] | {"lw": 0.9, "marker": None}
            )
            rows += [[name, run, *point] for point in points]
    axis.set(xlabel="step", ylabel="loss", title=title)
    axis.grid()
    drawing.legend(figure, axis)
    header = ["group", "run", "step", "loss"]
    content = {"title": title, "rows": [dict(zip(header, row)) for row in rows]}
    return drawing.save(stem, figure, content, header, rows)


@drawing.styled
def plot_run(workdir: pathlib.Path) -> None:
    """Draws accuracy_matrix.png, average_accuracy.png, stream.png and loss.png of a run into `workdir/plots`.

    Of a run over a stream of known classes it draws class_accuracy.png, too. Of a run on images without labels it draws
    representation.png, stream.png and loss.png.

    Raises:
      UsageError: a file of the run is missing or damaged.
    """
    results, folder = load_results(workdir), workdir / "plots"
    folder.mkdir(exist_ok=True)
    plot_measured(folder, results)
    if results.probes and not results.only_at_end:
        plot_average_accuracy(folder / "average_accuracy.png", [results])
    if results.stream is not None:
        _stream(results).savefig(folder / "stream.png", **drawing.SAVE)
    if results.is_stream and results.class_matrix is not None:
        _classes(results).savefig(folder / "class_accuracy.png", **drawing.SAVE)
    plot_loss(folder / "loss.png", read_metrics(workdir / "metrics.jsonl"))


@drawing.styled
def plot_measured(folder: pathlib.Path, results: RunResult) -> pathlib.Path:
    """Draws accuracy_matrix.png of a run or, where images have no labels, representation.png; returns its path.

    Args:
      folder: where the picture is written.
      results: of a run that was evaluated at least once.
    """
    if results.representation is not None:
        _representation(results).savefig(path := folder / "representation.png", **drawing.SAVE)
    else:
        plot_matrices(path := folder / "accuracy_matrix.png", results)
    return path


def _representation(run: RunResult):
    """Draws what a run measured without labels over its evaluations, and CKA between them; returns the figure."""
    found = run.representation
    assert found is not None
    (places, what), styles = compare.row_places([run]), drawing.lines(["measure"])
    figure, (panels,) = drawing.new_grid([len(MEASURES) + 1], width=2.9, height=2.6, most=3)
    *axes, last = panels
    for axis, (name, title) in zip(axes, MEASURES.items()):
        axis.plot(places(run), [getattr(row, name) for row in found.rows], **styles["measure"])
        if found.random_init is not None:
            axis.axhline(getattr(found.random_init, name), color=drawing.GREY, ls="--", label="untrained network")
        axis.set(title=title, xlabel=what)
        drawing.whole_numbers(axis)
        axis.grid()
    drawing.legend(figure, axes[0])
    image = drawing.heat(last, _cka(found), places(run), places(run), drawing.make_norm(0, 1), "{:.2f}")
    last.set(title="CKA", xlabel=what, ylabel=what)
    figure.colorbar(image, ax=last)
    figure.suptitle(run.name)
    return figure


def _cka(found: RepresentationResult) -> np.ndarray:
    """Returns CKA between the networks of two evaluations each, float [rows, rows]; NaN where it is not defined."""
    cka = np.eye(len(found.rows))
    for place, row in enumerate(found.rows):
        cka[place, :place] = cka[:place, place] = accuracy_matrix.as_array([row.cka])[0]
    return cka


def plot_matrices(path: pathlib.Path, results: RunResult) -> None:
    """Draws the accuracy matrix of every probe of a run that has something to choose as a heat map."""
    probes = {name: results.probes[name] for name in compare.probes_of([results])}
    rows, columns = next(iter(probes.values())).shape
    figure = drawing.new_figure(len(probes) * max(3.6, 0.5 * columns + 1.6), max(1.9, 0.42 * rows + 1.5))
    for axis, (name, probe) in zip(figure.subplots(1, len(probes), squeeze=False)[0], probes.items()):
        image = _accuracy(axis, probe, results, drawing.make_norm(probe.chance, 100))
        axis.set_aspect("auto")
        axis.set_title(PROBE_TITLES[name])
        figure.colorbar(image, ax=axis, label="accuracy, %")
    figure.suptitle(results.name)
    figure.savefig(path, **drawing.SAVE)


@drawing.styled
def plot_average_accuracy(path: pathlib.Path, runs: Sequence[RunResult], forgetting: str | None = None) -> None:
    """Draws runs' average accuracy over the tasks learned, by every probe; joint training and chance are flat lines.

    Args:
      path: where the picture is written.
      runs: any runs; each is a line.
      forgetting: None, or a definition of forgetting. With it, runs that differ in their seed alone are one line, with
        a band of one standard deviation, and panels below show how much is forgotten.
    """
    probes = compare.probes_of(runs)
    if forgetting is None:
        groups = {name: [run] for name, run in zip(compare.run_names(runs), runs)}
    else:
        groups = {f"{group.name}, n={len(group.runs)}": group.runs for group in compare.groups_of(runs)}
    height = 3.4 if forgetting is None else 5.8
    figure = drawing.new_figure(4.5 * len(probes), height)
    places = figure.subplots(1 if forgetting is None else 2, len(probes), squeeze=False)
    for column, probe in enumerate(probes):
        axis = places[0, column]
        _average_accuracy(axis, groups, probe)
        if (guessing := compare.chance(runs, probe)) is not None:
            axis.axhline(guessing, ls=":", color=drawing.GREY, label="chance, all tasks")
        axis.set_title(PROBE_TITLES[probe])
        if forgetting is not None:
            _forgetting(places[1, column], groups, probe, forgetting)
    fullest = max(places[0], key=lambda axis: len(axis.get_legend_handles_labels()[1]))
    drawing.legend(figure, fullest)
    figure.set_figheight(height + 0.1 * len(fullest.get_legend_handles_labels()[1]))
    figure.savefig(path, **drawing.SAVE)


@drawing.styled
def plot_loss(path: pathlib.Path, entries: Sequence[dict[str, Any]]) -> None:
    """Draws the training loss over steps, and where a new task begins."""
    entries = [entry for entry in entries if "loss" in entry]
    figure = drawing.new_figure(7, 3)
    axis = figure.subplots()
    axis.plot([e["step"] for e in entries], [e["loss"] for e in entries], lw=1, color=drawing.COLOURS[0])
    for before, after in itertools.pairwise(entries):
        if before["task"] != after["task"]:
            axis.axvline((before["step"] + after["step"]) / 2, color=drawing.GREY, lw=1, ls=":")
    axis.set(xlabel="step", ylabel="loss", title="training loss (dotted: a new task)")
    figure.savefig(path, **drawing.SAVE)


@drawing.styled
def plot_buffer(
    path: pathlib.Path, images: np.ndarray, labels: np.ndarray, classes: Sequence[Sequence[int]], most: int = 256
) -> None:
    """Draws the images of a buffer ordered by task, and tells how many are of each task.

    Where tasks have the same classes, a label does not tell the task. Then images are ordered by label.

    Args:
      path: where the picture is written.
      images: stored images, uint8 [S, H, W, C].
      labels: their labels, [S].
      classes: the labels of each task.
      most: how many images to show; where more are stored, evenly spaced ones are chosen.
    """
    counts = count_tasks(labels, classes)
    task_of = {label: task for task, own in enumerate(classes) for label in own}
    order = np.argsort([task_of[int(label)] for label in labels] if counts else labels, kind="stable")
    shown = order[np.linspace(0, len(order) - 1, min(most, len(order))).astype(int)]
    columns = max(1, int(np.ceil(np.sqrt(1.6 * len(shown)))))
    rows = max(1, -(-len(shown) // columns))
    height, width = images.shape[1:3]
    grid = np.full((rows * (height + 1), columns * (width + 1), 3), 255, np.uint8)
    for place, index in enumerate(shown):
        row, column = divmod(place, columns)
        grid[row * (height + 1) :, column * (width + 1) :][:height, :width] = images[index]
    figure = drawing.new_figure(8, 8 * grid.shape[0] / grid.shape[1] + 0.5)
    axis = figure.subplots()
    axis.imshow(grid, interpolation="nearest")
    axis.axis("off")
    held = ", ".join(f"task {task + 1}: {count}" for task, count in enumerate(counts) if count)
    title = f"{len(images)} images in the buffer" + (f" ({held})" if held else "")
    axis.set_title(title, fontsize=9, wrap=True)
    figure.savefig(path, **drawing.SAVE)


def count_tasks(labels: np.ndarray, classes: Sequence[Sequence[int]]) -> list[int]:
    """Counts how many labels are of each task; [] where tasks have the same classes, so that a label does not tell it.

    Args:
      labels: int [n], each in `classes`.
      classes: the labels of each task.
    """
    if len(set(itertools.chain(*classes))) < sum(map(len, classes)):
        return []
    return [int(np.isin(labels, list(own)).sum()) for own in classes]


@drawing.styled
def representation(stem: pathlib.Path, run: RunResult) -> Picture:
    """Draws what a run measured without labels after each evaluation, and CKA between its networks."""
    assert run.representation is not None
    places, _ = compare.row_places([run])
    rows = zip(places(run), run.representation.rows)
    numbers = [[place, name, getattr(row, name)] for place, row in rows for name in MEASURES]
    content = {"rows": numbers, "cka": _cka(run.representation)}
    return drawing.save(stem, _representation(run), content, ["place", "measure", "value"], numbers)


@drawing.styled
def stream(stem: pathlib.Path, run: RunResult, parts: Sequence[str] = PARTS) -> Picture:
    """Draws which class or task came when in the stream of a run, which has a record of it, and its buffer's tasks.

    Args:
      stem: path of the files without a suffix.
      run: the run.
      parts: what is drawn: "stream", "buffer" if there is one, or both.
    """
    assert run.stream is not None
    record = run.stream
    counts = {"stream": record.tasks, "buffer": record.buffer}
    drawn = {part: counts[part] for part in parts}
    rows = [
        [part, place, task + 1, count]
        for part, of_places in drawn.items()
        for place, row in enumerate(of_places)
        for task, count in enumerate(row)
    ]
    numbers = {"images": record.images, **drawn, "classes": record.classes}
    return drawing.save(stem, _stream(run, parts), numbers, ["part", "place", "task", "images"], rows)


@drawing.styled
def class_accuracy(stem: pathlib.Path, run: RunResult) -> Picture:
    """Draws the accuracy of each class in the course of a run that recorded it, by kNN over all classes."""
    assert run.class_matrix is not None
    (places, what), names = compare.row_places([run]), run.names_of_labels
    rows = [
        [place, name, value]
        for place, values in zip(places(run), run.class_matrix)
        for name, value in zip(names, values)
    ]
    content = {"classes": names, what.replace(" ", "_"): places(run), "accuracy": run.class_matrix}
    return drawing.save(stem, _classes(run), content, [what, "class", "accuracy"], rows)


def _classes(run: RunResult):
    """Draws the accuracy of each class when the run was evaluated as a heat map, a row a class; returns the figure."""
    assert run.class_matrix is not None
    (places, what), names = compare.row_places([run]), run.names_of_labels
    matrix = accuracy_matrix.as_array(run.class_matrix).T
    height = 0.26 * min(len(names), drawing.MOST_NAMES) + 1.2
    figure = drawing.new_figure(max(4.0, 0.55 * len(places(run)) + 2.2), height)
    axis = figure.subplots()
    image = drawing.heat(axis, matrix, names, places(run), drawing.make_norm(0, 100), "{:.0f}")
    axis.set_aspect("auto")
    axis.set(xlabel=what, ylabel="class", title=PROBE_TITLES["knn_all"])
    axis.tick_params("x", rotation=45)
    figure.colorbar(image, ax=axis, label="accuracy, %")
    figure.suptitle(compare.with_stream(run.name, run))
    return figure


def _stream(run: RunResult, parts: Sequence[str] = PARTS):
    """Draws what came when as a strip and, below it, the shares of tasks in the buffer; returns the figure.

    The strip is of classes where they are recorded and say more than the tasks.
    """
    record = run.stream
    assert record is not None
    tasks = [str(task + 1) for task in range(len(record.tasks[0]))]
    what, counts, names = "task", record.tasks, tasks
    # Where each task is a class of its own, the two strips would be the same.
    if record.classes is not None and [len(own) for own in run.classes or ()] != [1] * len(run.labels):
        what, counts = "class", record.classes
        names = run.names_of_labels if len(run.labels) <= 10 else [str(label) for label in run.labels]
    strips = []
    if "stream" in parts:
        over = (0.0, float(record.images))
        strips.append((counts, names, what, over, "images of the stream", f"share of each {what}, %"))
    if "buffer" in parts and record.buffer:
        ends = (0.5, len(record.buffer) + 0.5)
        strips.append((record.buffer, tasks, "task", ends, "evaluation", "share in the buffer, %"))
    figure = drawing.new_figure(7, 1.9 * len(strips) + 0.4)
    axes = figure.subplots(len(strips), 1, squeeze=False)[:, 0]
    for axis, (numbers, kinds, of, ends, across, up) in zip(axes, strips):
        image = drawing.shares(axis, np.array(numbers), ends)
        axis.set(xlabel=across, ylabel=up)
        drawing.whole_numbers(axis)
        drawing.name_bar(figure, image, axis, kinds, of)
    figure.suptitle(compare.with_stream(run.name, run))
    return figure


def _average_accuracy(
    axis,
    groups: dict[str, list[RunResult]],
    probe: ProbeName,
    order: Sequence[str] = (),
    in_streams: str = "images seen",
) -> list[list]:
    """Draws average accuracy on an axis; returns rows of group, run, place, average accuracy.

    The place is the number of tasks learned. For streams it is the number of images, as `in_streams` counts them.
    """
    having = {name: [run for run in runs if compare.chooses(run, probe)] for name, runs in groups.items()}
    shown = list(itertools.chain.from_iterable(having.values()))
    places, what = compare.row_places(shown, in_streams)
    rows, styles = [], drawing.lines(order or groups)
    for name, runs in having.items():
        curves = [accuracy_matrix.average_accuracies(run.probes[probe].matrix, run.tasks_seen) for run in runs]
        if not any(curves):
            continue
        reached = min(map(len, curves)) or max(map(len, curves))
        together = np.array([curve[:reached] for curve in curves if len(curve) >= reached])
        means = together.mean(0)
        if runs[0].only_at_end:
            axis.axhline(means[-1], ls="--", color=drawing.GREY, label=name)
            rows += [[name, run, "all", curve[-1]] for run, curve in enumerate(curves) if curve]
            continue
        _band(axis, places(max(runs, key=places))[:reached], together, label=name, **styles[name])
        rows += [[name, run, *row] for run, curve in enumerate(curves) for row in zip(places(runs[run]), curve)]
    measured = [run for run in shown if compare.untrained(run, probe) is not None]
    starts = compare.untrained_networks([run for run in measured if run.model == shown[0].model])
    for (label, group), style in zip(starts.items(), itertools.cycle(drawing.GREYS)):
        axis.axhline(np.mean([compare.untrained(run, probe) for run in group]), label=f"{label}, all tasks", **style)
    drawing.whole_numbers(axis)
    axis.set(xlabel=what, ylabel="average accuracy, %")
    axis.grid()
    return rows


def _forgetting(axis, groups: dict[str, list[RunResult]], probe: ProbeName, definition: str) -> None:
    """Draws on an axis how much is forgotten in each row but the first; joint training forgets nothing."""
    styles = drawing.lines(groups)
    places, what = compare.row_places([run for runs in groups.values() for run in runs])
    for name, runs in groups.items():
        having = [run for run in runs if compare.chooses(run, probe) and not run.joint]
        reached = min((run.tasks_learned for run in having), default=0)
        curves = [
            [
                accuracy_matrix.forgetting(run.probes[probe].matrix[:rows], definition, run.tasks_seen[:rows])
                for rows in range(2, reached + 1)
            ]
            for run in having
        ]
        if reached > 1:
            _band(axis, places(having[0])[1:reached], np.array(curves, float), **styles[name])
    drawing.whole_numbers(axis)
    axis.set(xlabel=what, ylabel=f"forgetting ({definition}), points")
    axis.grid()


def _band(axis, places: Sequence[int], curves: np.ndarray, **style) -> None:
    """Draws the mean of curves [runs, places] on an axis and, of several, a band of one standard deviation."""
    means = curves.mean(0)
    axis.plot(places, means, **style)
    if len(curves) > 1:
        spread = curves.std(0, ddof=1)
        axis.fill_between(places, means - spread, means + spread, color=style["color"], alpha=0.15, lw=0)


def _accuracy(axis, probe: ProbeResult, run: RunResult, norm):
    """Draws the accuracy matrix of a probe of a run on an axis, and returns the image."""
    matrix, (places, what) = accuracy_matrix.as_array(probe.matrix), compare.row_places([run])
    names = ["all"] if run.only_at_end else places(run)
    image = drawing.heat(axis, matrix, names, range(1, matrix.shape[1] + 1), norm, "{:.0f}")
    axis.set(xlabel="task", ylabel=what if run.is_stream else "after learning task")
    return image
