"""Draws what probes of saved networks found: similarity, loss landscapes, feature maps and embeddings.

A function that takes a `stem` writes the picture to stem.png and stem.svg and the numbers that it shows to stem.json
and stem.csv. The same numbers give the same bytes.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.results import drawing
from ucl_jax.results.drawing import Picture

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
    from ucl_jax.results.schema import Record


@drawing.styled
def cka(stem: pathlib.Path, panels: dict[str, dict], title: str, axes: tuple[str, str] = ("", "")) -> Picture:
    """Draws similarities from 0 to 1 as heat maps with the numbers in the cells, as fig. 3 of the paper.

    Args:
      stem: path of the files without a suffix.
      panels: title -> {"rows": [labels], "columns": [labels], "values": rows x columns}.
      title: of the picture.
      axes: what the rows and the columns stand for.

    Returns:
      The picture.
    """
    most = max((len(panel["columns"]) for panel in panels.values()), default=1)
    width, height = max(2.6, 0.5 * most + 0.9), max(2.4, 0.45 * most + 0.9)
    figure, (places,) = drawing.new_grid([len(panels)], width=width, height=height, most=3)
    norm = drawing.make_norm(0, 1)
    for axis, (name, panel) in zip(places, panels.items()):
        values = accuracy_matrix.as_array(panel["values"])
        image = drawing.heat(axis, values, panel["rows"], panel["columns"], norm, "{:.2f}")
        axis.set(title=name, ylabel=axes[0], xlabel=axes[1])
    if panels:
        figure.colorbar(image, ax=places, label="linear CKA")
    figure.suptitle(title)
    rows = drawing.panel_rows({name: (each["rows"], each["columns"], each["values"]) for name, each in panels.items()})
    return drawing.save(stem, figure, {"title": title, "panels": panels}, ["panel", "row", "column", "value"], rows)


@drawing.styled
def landscape(stem: pathlib.Path, groups: Sequence[dict[str, dict]], title: str) -> Picture:
    """Draws the loss around networks along two random directions, as fig. 5 of the paper.

    Args:
      stem: path of the files without a suffix.
      groups: the panels, in groups that have a scale of colours each. A group is a dict: title of a panel ->
        {"steps": [P], "loss": P x P, first direction x second; None where it is not finite}.
      title: of the picture.

    Returns:
      The picture.
    """
    figure, places = drawing.new_grid([len(panels) for panels in groups], width=3.3, height=3.0, most=4)
    for axes, panels in zip(places, groups):
        _draw_losses(figure, axes, panels)
    figure.suptitle(title)
    every = {name: panel for panels in groups for name, panel in panels.items()}
    rows = drawing.panel_rows({name: (panel["steps"], panel["steps"], panel["loss"]) for name, panel in every.items()})
    return drawing.save(stem, figure, {"title": title, "panels": every}, ["panel", "first", "second", "loss"], rows)


def _draw_losses(figure, axes: np.ndarray, panels: dict[str, dict]) -> None:
    """Draws the panels of a group in `landscape` on their axes, with one bar of colours."""
    losses = {name: _finite(panel["loss"]) for name, panel in panels.items()}
    known = np.concatenate([loss[np.isfinite(loss)] for loss in losses.values()])
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    high = high if high > low else low + 1.0
    steep = low > 0 and high / low > 50
    levels = (np.geomspace if steep else np.linspace)(low, high, 25)
    levels[[0, -1]] = low, high  # exactly, in spite of rounding
    norm = drawing.make_norm(low, high, steep)
    for axis, (name, panel) in zip(axes, panels.items()):
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
        figure.colorbar(image, ax=axes, label="loss", ticks=levels[::4], format="%.3g")


@drawing.styled
def feature_maps(stem: pathlib.Path, items: list[dict], title: str, most: int = 8) -> Picture:
    """Draws images with feature maps of them, as fig. 4 of the paper; each map has its own scale.

    Args:
      stem: path of the files without a suffix.
      items: {"task": int, "label": int, "image": H x W x 3 of 0..255, "maps": [h x w, ...],
        "channels": the number of each map's channel}.
      title: of the picture.
      most: the number of maps to draw for each image; the files of numbers have all of them.

    Returns:
      The picture.
    """
    columns = 1 + max((min(most, len(item["maps"])) for item in items), default=0)
    figure = drawing.new_figure(1.1 * columns + 0.6, 1.15 * max(1, len(items)) + 0.5)
    for axes, item in zip(figure.subplots(max(1, len(items)), columns, squeeze=False), items):
        axes[0].imshow(np.asarray(item["image"], np.uint8), interpolation="nearest")
        axes[0].set_ylabel(f"task {item['task'] + 1}\nclass {item['label']}", fontsize=8)
        for axis, values, channel in zip(axes[1:], item["maps"], item["channels"]):
            axis.imshow(np.asarray(values, np.float64), cmap="viridis", interpolation="nearest")
            axis.set_title(f"channel {channel}", fontsize=7, pad=2)
        for axis in axes:
            axis.set(xticks=[], yticks=[])
        for axis in axes[1 + len(item["maps"]) :]:
            axis.axis("off")
    figure.suptitle(title)
    rows = [
        [number, item["task"], item["label"], place, channel, y, x, value]
        for number, item in enumerate(items)
        for place, (values, channel) in enumerate(zip(item["maps"], item["channels"]))
        for y, line in enumerate(values)
        for x, value in enumerate(line)
    ]
    header = ["item", "task", "label", "map", "channel", "y", "x", "value"]
    return drawing.save(stem, figure, {"title": title, "items": items}, header, rows)


@drawing.styled
def embedding(
    stem: pathlib.Path, points: Sequence[Sequence[float]], task: Sequence[int], label: Sequence[int], title: str
) -> Picture:
    """Draws features as points [N, 2], once coloured by their task [N] (from 0) and once by their class [N]."""
    places = np.asarray(points, np.float64).reshape(-1, 2)
    figure = drawing.new_figure(9, 4.4)
    axes = figure.subplots(1, 2)
    for axis, name, numbers, shift in zip(axes, ("task", "class"), (np.asarray(task), np.asarray(label)), (1, 0)):
        present = sorted(set(numbers.tolist()))
        colours = drawing.COLOURS
        if len(present) > len(colours) * 3:
            image = axis.scatter(*places.T, s=16, c=numbers + shift, cmap="viridis", rasterized=True)
            figure.colorbar(image, ax=axis, label=name)
        else:
            for place, number in enumerate(present):
                turn, colour = divmod(place, len(colours))
                style = {"color": colours[colour], "marker": drawing.MARKS[turn]}
                chosen = places[numbers == number]
                axis.scatter(*chosen.T, s=16, linewidths=0, label=str(number + shift), rasterized=True, **style)
            axis.legend(title=name, fontsize=8, markerscale=1.5, loc="center left", bbox_to_anchor=(1, 0.5))
        axis.set(title=f"by {name}", xticks=[], yticks=[])
    figure.suptitle(title)
    content = {"title": title, "points": points, "task": task, "label": label}
    rows = [[*point, *rest] for point, *rest in zip(places.tolist(), task, label)]
    return drawing.save(stem, figure, content, ["x", "y", "task", "label"], rows)


def draw_record(stem: pathlib.Path, record: Record) -> Picture | None:
    """Draws a probe's record; returns None for a probe whose numbers belong in a table."""
    if record.probe not in RECORDS:
        return None
    _, draw = RECORDS[record.probe]
    return draw(stem, record_title(record), record.typed_settings, record.typed_values)


def record_title(record: Record) -> str:
    """Returns the title of a record's picture, such as "features after 5 tasks (pca)"; "" where it has no picture."""
    if record.probe not in RECORDS:
        return ""
    title, _ = RECORDS[record.probe]
    after = record.after
    when = "before training" if after == 0 else f"after {after} task{'' if after == 1 else 's'}"
    return title(record.typed_settings, when)


def record_note(record: Record) -> str:
    """Returns a sentence to stand beside a record's picture; "" but for cka, where it tells an l2 distance."""
    if record.probe != "cka":
        return ""
    values = record.typed_values
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


def _draw_cka(stem: pathlib.Path, title: str, settings: CkaSettings, values: CkaValues) -> Picture:
    rows, columns = list(map(str, values.networks)), list(map(str, values.other_networks))
    panels = {name: {"rows": rows, "columns": columns, "values": matrix} for name, matrix in values.cka.items()}
    other = "tasks learned, other run" if settings.other else "tasks learned"
    return cka(stem, panels, title, ("tasks learned", other))


def _draw_landscape(stem: pathlib.Path, title: str, settings: LandscapeSettings, values: LandscapeValues) -> Picture:
    return landscape(stem, [{f"{settings.loss} loss": {"steps": values.steps, "loss": values.loss}}], title)


def _draw_feature_maps(
    stem: pathlib.Path, title: str, settings: FeatureMapsSettings, values: FeatureMapsValues
) -> Picture:
    return feature_maps(stem, [dataclasses.asdict(item) for item in values.items], title)


def _draw_embedding(stem: pathlib.Path, title: str, settings: EmbeddingSettings, values: EmbeddingValues) -> Picture:
    return embedding(stem, values.points, values.task, values.label, title)


# A probe -> its picture: (its title from the settings and a text of when, what draws it).
RECORDS: dict[str, tuple[Callable[[Any, str], str], Callable[[pathlib.Path, str, Any, Any], Picture]]] = {
    "cka": (_cka_title, _draw_cka),
    "feature_maps": (lambda settings, when: f"feature maps {when}, {settings.stage}", _draw_feature_maps),
    "loss_landscape": (lambda settings, when: f"loss of task {settings.task + 1} {when}", _draw_landscape),
    "embedding": (lambda settings, when: f"features {when} ({settings.method})", _draw_embedding),
}


def _finite(rows: drawing.Rows) -> np.ndarray:
    """Returns a matrix as an array with NaN for None and for infinities."""
    values = accuracy_matrix.as_array(rows)
    return np.where(np.isfinite(values), values, np.nan)
