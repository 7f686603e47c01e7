"""Plots and tables of finished or running runs, from what lies in their folders.

python -m ucl_jax.report runs/a runs/b [--out=runs/compared.png]
python -m ucl_jax.report --seeds --format=markdown results/*.json      # mean and deviation over seeds
"""

import argparse
import itertools
import pathlib
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from matplotlib.figure import Figure

from ucl_jax import metrics
from ucl_jax.errors import UsageError, read_json, require
from ucl_jax.logging import read_metrics

PROBE_TITLES = {
    "knn_task": "kNN within the task",
    "knn_all": "kNN over all classes seen",
    "head_task": "head within the task",
    "head_all": "head over all classes seen",
}
# Keys in which runs of one experiment may differ, for they change no number.
NEUTRAL = ("data_dir", "compilation_cache", "log.", "checkpoint.")
STYLE = {"dpi": 130, "bbox_inches": "tight"}


def load_results(workdir: pathlib.Path) -> dict[str, Any]:
    """`results.json` of a run folder, or such a file by its own name; UsageError when there is none."""
    path = pathlib.Path(workdir)
    path = path if path.suffix == ".json" else path / "results.json"
    require(path.exists(), f"{workdir} is no run folder with a results.json, or no run there has finished a task")
    results = read_json(path)
    require({"config", "finished", "probes"} <= results.keys(), f"{path} is damaged: it lacks what a run writes")
    return results


def run_name(results: dict[str, Any]) -> str:
    """Such as "lump (simsiam, seed 0)"."""
    config = results["config"]
    return f"{config['recipe']} ({config['objective']['name']}, seed {config['seed']})"


def table(runs: Sequence[dict[str, Any]], markup: str = "text") -> str:
    """Average accuracy and forgetting of runs side by side, in per cent and points, with chance and the random network.

    The random network's and chance's rows are those of the first run that has them.
    """
    definition = runs[0]["config"]["eval"]["forgetting"]
    probes = _probes(runs)
    rows = [
        [run_name(results) + ("" if results["finished"] else ", not finished"), *_cells([results], probes, definition)]
        for results in runs
    ]
    initial = next((r for r in runs if all(p["random_init"] for p in r["probes"].values())), None)
    if initial is not None:
        rows.append(["random network", *_unforgotten([_untrained(initial, name)] for name in probes)])
    rows.append(["chance", *_unforgotten([_chance(runs, name)] for name in probes)])
    return render([_header(probes), *rows], markup)


def table_of_seeds(runs: Sequence[dict[str, Any]], markup: str = "text") -> str:
    """As `table`, with a row for each objective and recipe: mean±deviation over the runs, which differ in their seed.

    The deviation is the unbiased one; the column n is the number of runs. The untrained network has a row for each
    objective, from all of its runs but those of an architecture that grows.
    """
    definition = runs[0]["config"]["eval"]["forgetting"]
    probes = _probes(runs)
    rows = []
    for objective in dict.fromkeys(r["config"]["objective"]["name"] for r in runs):
        of_objective = [r for r in runs if r["config"]["objective"]["name"] == objective]
        for recipe in dict.fromkeys(r["config"]["recipe"] for r in of_objective):
            group = [r for r in of_objective if r["config"]["recipe"] == recipe]
            require_same_config(group)
            seeds = [r["config"]["seed"] for r in group]
            require(len(set(seeds)) == len(seeds), f"two runs of {recipe} ({objective}) have one seed: {seeds}")
            rows.append([objective, recipe, str(len(group)), *_cells(group, probes, definition)])
        plain = {r["config"]["seed"]: r for r in of_objective if r["config"]["model"]["name"] == "resnet18"}
        if plain and all(r["probes"]["knn_task"]["random_init"] for r in plain.values()):
            cells = _unforgotten([_untrained(r, name) for r in plain.values()] for name in probes)
            rows.append([objective, "random network", str(len(plain)), *cells])
    rows.append(["", "chance", "", *_unforgotten([_chance(runs, name)] for name in probes)])
    return render([["objective", "recipe", "n", *_header(probes)[1:]], *rows], markup, left=2)


def require_same_config(runs: Sequence[dict[str, Any]], but: Collection[str] = ()) -> None:
    """Raises UsageError when configs differ in more than seeds, the keys of `but`, and what changes no number."""
    trees = [flatten_dict(run["config"], sep=".") for run in runs]
    for key in sorted(set().union(*trees) - {"seed", *but}):
        values = [tree.get(key) for tree in trees]
        require(
            key.startswith(NEUTRAL) or all(value == values[0] for value in values),
            f"runs of {run_name(runs[0])} and others of its row differ in {key} ({', '.join(map(str, values))}); "
            "give only runs that differ in their seed",
        )


def render(rows: Sequence[Sequence[str]], markup: str = "text", left: int = 1) -> str:
    """Cells as lines, the first row being the header; `left` columns are words. `markup` is "text" or "markdown"."""
    if markup == "markdown":
        rule = ["---"] * left + ["---:"] * (len(rows[0]) - left)
        return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(c.ljust(w) if place < left else c.rjust(w) for place, (c, w) in enumerate(zip(row, widths)))
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _probes(runs: Sequence[dict[str, Any]]) -> list[str]:
    """The probes of any of the runs, in the order of PROBE_TITLES."""
    return [name for name in PROBE_TITLES if any(name in results["probes"] for results in runs)]


def _header(probes: Sequence[str]) -> list[str]:
    return ["", *(cell for name in probes for cell in (PROBE_TITLES[name], "forgetting"))]


def _cells(runs: Sequence[dict[str, Any]], probes: Sequence[str], definition: str) -> list[str]:
    """Average accuracy and forgetting by each probe, of one run or over several."""
    cells = []
    for name in probes:
        matrices = [results["probes"][name]["matrix"] for results in runs if name in results["probes"]]
        cells.append(_mean([metrics.average_accuracy(matrix) for matrix in matrices]))
        cells.append(_mean([metrics.forgetting(matrix, definition) for matrix in matrices]))
    return cells


def _mean(values: Sequence[float | None]) -> str:
    """`mean±deviation`, the number alone when there is one, `-` when there is none."""
    if not values or None in values:
        return "-"
    spread = f"±{np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def _unforgotten(values_of_probes: Iterable[Sequence[float | None]]) -> list[str]:
    """Cells of accuracies by each probe to which no forgetting belongs."""
    return [cell for values in values_of_probes for cell in (_mean(values), "-")]


def _untrained(results: dict[str, Any], name: str) -> float | None:
    initial = results["probes"].get(name, {}).get("random_init")
    return None if initial is None else float(np.mean(initial))


def _chance(runs: Sequence[dict[str, Any]], name: str) -> float:
    return next(results["probes"][name]["chance"] for results in runs if name in results["probes"])


def plot_run(workdir: pathlib.Path) -> None:
    """Draws accuracy_matrix.png, average_accuracy.png and loss.png into `workdir/plots`."""
    results, folder = load_results(workdir), workdir / "plots"
    folder.mkdir(exist_ok=True)
    plot_matrices(folder / "accuracy_matrix.png", results)
    if not results["config"]["benchmark"]["joint"]:
        plot_average_accuracy(folder / "average_accuracy.png", [results])
    plot_loss(folder / "loss.png", read_metrics(workdir / "metrics.jsonl"))


def plot_matrices(path: pathlib.Path, results: dict[str, Any]) -> None:
    """The accuracy matrix of every probe as a heat map."""
    probes = results["probes"]
    shapes = [metrics.as_array(probe["matrix"]).shape for probe in probes.values()]
    rows, columns = shapes[0]
    figure = Figure(
        figsize=(len(probes) * max(3.6, 0.5 * columns + 1.6), max(1.9, 0.42 * rows + 1.5)), layout="constrained"
    )
    for axis, (name, probe) in zip(figure.subplots(1, len(probes), squeeze=False)[0], probes.items()):
        matrix = metrics.as_array(probe["matrix"])
        image = axis.imshow(matrix, vmin=probe["chance"], vmax=100, cmap="viridis", aspect="auto")
        for (t, i), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                dark = value < (probe["chance"] + 100) / 2
                axis.text(i, t, f"{value:.0f}", ha="center", va="center", fontsize=8, color="w" if dark else "k")
        axis.set_xticks(range(columns), range(1, columns + 1))
        joint = results["config"]["benchmark"]["joint"]
        axis.set_yticks(range(rows), ["all"] if joint else range(1, rows + 1))
        axis.set(xlabel="task", ylabel="after learning task", title=PROBE_TITLES[name])
        figure.colorbar(image, ax=axis, label="accuracy, %")
    figure.suptitle(run_name(results))
    figure.savefig(path, **STYLE)


def plot_average_accuracy(path: pathlib.Path, runs: Sequence[dict[str, Any]]) -> None:
    """Average accuracy over the tasks seen, after each task; joint training and chance as lines."""
    probes = _probes(runs)
    figure = Figure(figsize=(4.5 * len(probes), 3.4), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(probes), squeeze=False)[0], probes):
        having = [results for results in runs if name in results["probes"]]
        for results in having:
            averages = [float(np.nanmean(row)) for row in metrics.as_array(results["probes"][name]["matrix"])]
            if results["config"]["benchmark"]["joint"]:
                axis.axhline(averages[-1], ls="--", color="0.4", label=run_name(results))
            else:
                axis.plot(range(1, len(averages) + 1), averages, marker="o", label=run_name(results))
        if (untrained := _untrained(having[0], name)) is not None:
            axis.axhline(untrained, ls="-.", color="0.6", label="random network, all tasks")
        axis.axhline(having[0]["probes"][name]["chance"], ls=":", color="0.7", label="chance, all tasks")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set(xlabel="tasks learned", ylabel="average accuracy, %", title=PROBE_TITLES[name])
    axis.legend(fontsize=8)
    figure.savefig(path, **STYLE)


def plot_loss(path: pathlib.Path, records: Sequence[dict[str, Any]]) -> None:
    """Training loss over steps, with the borders of tasks."""
    records = [record for record in records if "loss" in record]
    figure = Figure(figsize=(7, 3), layout="constrained")
    axis = figure.subplots()
    axis.plot([r["step"] for r in records], [r["loss"] for r in records], lw=1)
    for before, after in itertools.pairwise(records):
        if before["task"] != after["task"]:
            axis.axvline((before["step"] + after["step"]) / 2, color="0.7", lw=1, ls=":")
    axis.set(xlabel="step", ylabel="loss", title="training loss (dotted: a new task)")
    figure.savefig(path, **STYLE)


def plot_buffer(
    path: pathlib.Path, images: np.ndarray, labels: np.ndarray, classes: Sequence[Sequence[int]], most: int = 256
) -> None:
    """What a buffer holds: a grid of images uint8 [S, H, W, C] ordered by task, and how many are of each task.

    Args:
      path: of the picture.
      images: stored images.
      labels: their labels [S].
      classes: labels of each task.
      most: images to show, evenly chosen where more are stored.
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
    figure = Figure(figsize=(8, 8 * grid.shape[0] / grid.shape[1] + 0.5), layout="constrained")
    axis = figure.subplots()
    axis.imshow(grid, interpolation="nearest")
    axis.axis("off")
    held = ", ".join(f"task {task + 1}: {count}" for task, count in enumerate(counts) if count)
    axis.set_title(f"{len(images)} images in the buffer ({held})", fontsize=9, wrap=True)
    figure.savefig(path, **STYLE)


def main(argv: Sequence[str]) -> int:
    """Prints the table of runs; with --out also draws their average accuracies."""
    parser = argparse.ArgumentParser(prog="python -m ucl_jax.report", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN", help="a run folder, or its results.json")
    parser.add_argument("--seeds", action="store_true", help="one row for runs that differ in their seed")
    parser.add_argument("--format", choices=("text", "markdown"), default="text")
    parser.add_argument("--out", type=pathlib.Path, help="a PNG file for average accuracy over tasks, all runs in one")
    arguments = parser.parse_args(argv)
    try:
        runs = [load_results(workdir) for workdir in arguments.runs]
        out = arguments.out
        require(
            out is None or (out.suffix == ".png" and out.parent.is_dir()), f"--out={out} is no NAME.png in a folder"
        )
        text = (table_of_seeds if arguments.seeds else table)(runs, arguments.format)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    if out:
        plot_average_accuracy(out, runs)
        print(f"plot: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
