"""Holds what the pictures of `run_figures` and `probe_figures` share: their style, their parts, and how they are saved.

The colours suit colour-blind readers. Matplotlib is imported by the first picture, so that a program that draws none
does not wait for it.
"""

from __future__ import annotations

import csv
import functools
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1b1f24"  # of texts, axes and the last line
GREY = "0.5"  # of lines to compare with; it contrasts with a light and with a dark page
# Okabe and Ito 2008, without yellow, which is too pale for lines. More lines than colours have other marks and dashes.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
GREYS: tuple[dict[str, Any], ...] = tuple(
    {"ls": dashes, "color": GREY, "lw": 1.2} for dashes in ("-.", (0, (1, 3)), (0, (6, 3)))
)
MOST_NAMES = 25  # rows of a heat map; of more rows not all have their names
MARKS, DASHES = "osD^vPX", ("-", "--", "-.", ":")
SAVE: dict[str, Any] = {"dpi": 130, "bbox_inches": "tight", "pad_inches": 0.1}
# Names come from configs: a dollar sign in one must not start a formula.
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "ucl_jax",
    "svg.fonttype": "path",
    "text.parse_math": False,
    "legend.frameon": False,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
# A picture drawn with these settings has no background, and `follow_scheme` can make it one for light and dark pages.
ON_ANY_PAGE: dict[Any, Any] = {"figure.facecolor": "none", "axes.facecolor": "none"}
Rows = Sequence[Sequence[Any]]


def styled(draw: Callable) -> Callable:
    """Returns a function that calls `draw` with Matplotlib set up as STYLE says."""

    @functools.wraps(draw)
    def wrapped(*arguments, **keywords):
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*arguments, **keywords)

    return wrapped


def follow_scheme(svg: str, dark_ink: str) -> str:
    """Returns an SVG picture whose texts, axes and lines of INK take another colour where a page is dark.

    Args:
      svg: a picture drawn by this module with the settings ON_ANY_PAGE.
      dark_ink: the colour in the dark.
    """
    style = f"svg {{color: {INK}}} @media (prefers-color-scheme: dark) {{svg {{color: {dark_ink}}}}}</style>"
    return svg.replace(INK, "currentColor").replace("</style>", style, 1)


def heat(axis, values: np.ndarray, rows: Sequence, columns: Sequence, norm, form: str):
    """Draws a heat map and returns the image.

    Up to MOST_NAMES rows have their names, and numbers that are dark on light or light on dark. A map with more rows
    has no numbers, and names of some rows only.
    """
    image = axis.imshow(values, norm=norm, cmap="viridis")
    few = len(rows) <= MOST_NAMES
    for (row, column), value in np.ndenumerate(values) if few else ():
        if np.isfinite(value):
            colour = ink(image.cmap(norm(value)))
            axis.text(column, row, form.format(value), ha="center", va="center", fontsize=8, color=colour)
    named = range(len(rows)) if few else spread(len(rows), MOST_NAMES)
    axis.set_xticks(range(len(columns)), list(columns))
    axis.set_yticks(named, [rows[place] for place in named])
    return image


def shares(axis: Axes, counts: np.ndarray, ends: tuple[float, float]):
    """Draws how large the share of each of K kinds is, one on the other, and returns the image.

    Args:
      axis: to draw on; its heights are per cent.
      counts: int [W, K] for each of W places; a place without any stays white.
      ends: where the first place begins and the last one ends.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    kinds, height = counts.shape[1], 200
    levels = (np.arange(height)[:, None, None] + 0.5) / height
    below = np.cumsum(counts, axis=1) <= levels * counts.sum(axis=1, keepdims=True)
    kind = np.ma.masked_equal(below.sum(-1), kinds)
    colours = COLOURS[:kinds] if kinds <= len(COLOURS) else colormaps["viridis"](np.linspace(0, 1, kinds))
    return axis.imshow(
        kind,
        cmap=ListedColormap(colours),
        vmin=-0.5,
        vmax=kinds - 0.5,
        extent=(*ends, 0, 100),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )


def name_bar(figure, image, axes, names: Sequence[str], what: str) -> None:
    """Draws the colours of kinds beside the axes with their names, as many of them as there is room for."""
    shown = spread(len(names), 10)
    figure.colorbar(image, ax=axes, label=what).set_ticks(shown, labels=[names[place] for place in shown])


def spread(count: int, most: int) -> np.ndarray:
    """Returns at most `most` of the places 0 .. count - 1, evenly spread, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def ink(colour: Sequence[float]) -> str:
    """Returns black or white, whichever is easier to read on a colour of red, green and blue in 0..1 (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return "#000000" if float(np.dot([0.2126, 0.7152, 0.0722], linear)) > 0.179 else "#ffffff"


def lines(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Returns colour, dashes and mark for the line of each name; the first 28 differ from each other."""
    styles = {}
    for number, name in enumerate(names):
        turn, place = divmod(number, len(COLOURS))
        dashes, mark = DASHES[turn % len(DASHES)], MARKS[number % len(MARKS)]
        styles[name] = {"color": COLOURS[place], "ls": dashes, "lw": 1.6, "marker": mark, "ms": 4.5}
    return styles


def legend(figure, axis) -> None:
    """Puts the legend below the axes, where it hides no line."""
    handles, labels = axis.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)


def new_figure(width: float, height: float):
    """Returns an empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def whole_numbers(axis) -> None:
    """Puts ticks at whole numbers alone along the horizontal axis, even if there is a single one."""
    axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def make_norm(low: float, high: float, logarithmic: bool = False):
    """Returns Matplotlib's norm that maps values from `low` to `high` to 0..1."""
    from matplotlib.colors import LogNorm, Normalize

    return (LogNorm if logarithmic else Normalize)(low, high)


def new_grid(groups: Sequence[int], width: float, height: float, most: int) -> tuple[Any, list[np.ndarray]]:
    """Returns a figure and its axes in a grid, in which each group of panels begins a row.

    Args:
        groups: how many panels each group has.
        width: of a panel, in inches.
        height: of a panel, in inches.
        most: the number of panels in a row.

    Returns:
        The figure; for each group its axes [panels].
    """
    columns = max(1, min(most, max(groups)))
    rows = [max(1, -(-panels // columns)) for panels in groups]
    figure = new_figure(width * columns + 1.0, height * sum(rows) + 0.4)
    axes = np.split(figure.subplots(sum(rows), columns, squeeze=False), np.cumsum(rows)[:-1])
    of_groups = [of_group.ravel() for of_group in axes]
    for of_group, panels in zip(of_groups, groups):
        for axis in of_group[panels:]:
            axis.remove()
    return figure, [of_group[:panels] for of_group, panels in zip(of_groups, groups)]


def panel_rows(panels: Mapping[str, tuple[Sequence, Sequence, Rows]]) -> list[list]:
    """Returns rows [panel, row label, column label, value] of panels: title -> (row labels, column labels, values)."""
    return [
        [name, row, column, value]
        for name, (rows, columns, matrix) in panels.items()
        for row, values in zip(rows, matrix)
        for column, value in zip(columns, values)
    ]


class Picture(NamedTuple):
    """A picture that was saved with its numbers.

    Attributes:
      paths: of NAME.png, NAME.svg, NAME.json and NAME.csv, in this order.
      width: of the picture, in points (1/72 of an inch).
    """

    paths: list[pathlib.Path]
    width: float


def save(stem: pathlib.Path, figure: Figure, numbers: Any, header: Sequence[str], rows: Rows) -> Picture:
    """Saves a picture, without a date so that its bytes can be compared, and its numbers.

    Args:
      stem: path of the files without a suffix; its folder is made if it is not there.
      figure: a Matplotlib figure.
      numbers: what the JSON file holds.
      header: the names of the columns of the CSV file.
      rows: the rows of the CSV file.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    png, svg, as_json, as_csv = paths = [
        stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "svg", "json", "csv")
    ]
    figure.savefig(png, metadata={"Software": None}, **SAVE)
    figure.savefig(svg, metadata={"Date": None, "Creator": None}, **SAVE)
    as_json.write_text(json.dumps(_plain(numbers), allow_nan=False) + "\n")
    with as_csv.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(_plain([header, *rows]))
    return Picture(paths, 72 * (figure.get_tightbbox().width + 2 * SAVE["pad_inches"]))


def _plain(value: Any) -> Any:
    """Returns a tree of values as JSON can hold it, with None for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
