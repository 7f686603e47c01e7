"""Prints a table of runs, finished or still running, from the files in their folders; draws a plot or writes a page."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ucl_jax import cli, settings
from ucl_jax.errors import UsageError, require, usage_errors, user_choice
from ucl_jax.evaluation.accuracy_matrix import FORGETTING
from ucl_jax.results import compare, page, run_figures, serve, tables
from ucl_jax.results.load import find_runs, load_results, read_saved_config

if TYPE_CHECKING:
    from ucl_jax.results.schema import RunResult

PICTURES = (".png", ".svg", ".pdf")
PORT = 8000  # at which the page is served; if it is taken and was not asked for, a free one
CALLS = {
    "runs/a runs/b --out=compared.png": "the table of two runs, and a plot of their accuracy",
    "runs --out=report/": "a page about all runs below a folder, report/index.html",
    "runs --serve": "the page in a browser of this machine, kept up to date while runs go on",
    "runs --seeds --knn --format=latex": "mean and deviation over seeds by kNN alone, for a paper",
    "runs --pairs": "differences from the untrained network and finetune, paired by seed, with 95 % intervals",
    "runs --pairs --over=er": "the same, from er in place of finetune",
    "runs --pairs --out=differences.png": "the same as a picture",
}


def _is_page(out: str) -> bool:
    """Tells whether --out asks for a page (a folder) and not for a picture (a file with a suffix of PICTURES).

    Raises:
      UsageError: it is neither, or the picture's folder does not exist.
    """
    path = pathlib.Path(out)
    if path.suffix in PICTURES and not out.endswith("/") and not path.is_dir():
        require(path.parent.is_dir(), f"--out={out} is no picture in a folder: there is no {path.parent}")
        return False
    folder = path.is_dir() or (not path.exists() and (out.endswith("/") or not path.suffix))
    suffixes = ", ".join(PICTURES)
    require(folder, f"--out={out} is neither a picture ({suffixes}) nor a folder, for a page (end it with /)")
    return True


def _definition(runs: Sequence[RunResult], given: str | None) -> str:
    """Returns the definition of forgetting: that of --forgetting, else that of the runs' configs."""
    if given is not None:
        user_choice("definition of forgetting", given, FORGETTING)
        return given
    with usage_errors(advice="choose one, --forgetting=DEFINITION"):
        return compare.forgetting_definition(runs)


def _check_over(given: str, runs: Sequence[RunResult], begun: Sequence[pathlib.Path] = ()) -> None:
    """Raises UsageError where --over names neither a recipe of these runs nor one with its settings.

    Args:
      given: the value of --over.
      runs: results.
      begun: folders of runs without results; where there is no run at all, any recipe may come.
    """
    groups = compare.groups_of(runs, {"eval.forgetting"})
    known = compare.baseline_names(groups)
    if given in known:
        rows = [group.recipe for group in groups if group.runs[0].recipe == given]
        compared = any(baseline is not None for _, baseline in compare.baselines(groups, given))
        require(
            compared or len(rows) < 2,
            f"--over={given} names rows of several settings; give one of {', '.join(map(repr, rows))}",
        )
        return
    known = sorted({*known, *(read_saved_config(run / "config.json")["recipe"] for run in begun)})
    there = ", ".join(map(repr, known))
    require(given in known or not known, f"--over={given} is no recipe of these runs; give one of {there}")


def _with_results(given: Sequence[pathlib.Path], waiting: bool = False) -> list[pathlib.Path]:
    """Returns the paths, but for a folder of runs those runs in it that have results.

    A folder without runs may hold results that `reproduce --save` kept, as NAME.json. A path without any results stays,
    to be refused when it is read; with `waiting` a folder without any is left out.
    """
    found = []
    for path in given:
        below = [run for run in find_runs(path) if _has_results(run)]
        if not below and not (path / "config.json").exists():  # a run has its config before it has results
            below = sorted(path.glob("*.json"))
        found += below or ([] if waiting and path.is_dir() else [path])
    return found


def _has_results(run: pathlib.Path) -> bool:
    return (run / "results.json").exists()


def _serve(given: Sequence[pathlib.Path], forgetting: str | None, over: str | None, ports: Sequence[int]) -> None:
    """Serves the page about runs until KeyboardInterrupt; runs that begin in a folder of runs come onto it."""

    def begun() -> list[pathlib.Path]:
        return [run for path in given for run in find_runs(path) if not _has_results(run)]

    def files() -> list[pathlib.Path]:
        read = [
            path if path.suffix == ".json" else path / "results.json" for path in _with_results(given, waiting=True)
        ]
        return read + [run / "config.json" for run in begun()]

    def make(stamp: str) -> str:
        sources = [page.load_source(workdir) for workdir in _with_results(given, waiting=True)]
        runs = [source.results for source in sources]
        # Without runs no number is shown, so that any definition will do.
        definition = _definition(runs, forgetting) if runs else next(iter(FORGETTING))
        with usage_errors(advice="give each run once"):
            return page.build(sources, definition, stamp, list(map(str, begun())), over or compare.BASELINE)

    if over is not None:
        _check_over(over, [load_results(workdir) for workdir in _with_results(given, waiting=True)], begun())
    serve.serve(serve.LivePage(files, make), ports)


def _by_knn(run: RunResult) -> RunResult:
    """Returns a run without its own probes other than kNN."""
    return dataclasses.replace(
        run, probes={name: one for name, one in run.probes.items() if name in compare.KNN_PROBES}
    )


@cli.returns_exit_code
def main(argv: Sequence[str], prog: str = "python -m ucl_jax.report") -> int:
    """Prints the table of runs; with --out, also draws their average accuracies or writes a page about them."""
    parser = cli.Parser(prog=prog, description=__doc__.splitlines()[0], epilog=cli.examples(prog, CALLS))
    parser.add_argument(
        "runs", nargs="+", type=pathlib.Path, metavar="RUN", help="a run folder, its results.json, or a folder of runs"
    )
    parser.add_argument("--seeds", action="store_true", help="one row for runs that differ in their seed alone")
    parser.add_argument(
        "--pairs", action="store_true", help="differences of accuracy, or with --forgetting of that, by seed"
    )
    parser.add_argument(
        "--over",
        metavar="RECIPE",
        help=f"for --pairs and a page: the recipe that others are compared with; default {compare.BASELINE}",
    )
    parser.add_argument("--knn", action="store_true", help="for tables and a plot: kNN alone, no linear probes")
    parser.add_argument("--format", default="text", help=f"how the table is written: {', '.join(tables.FORMATS)}")
    parser.add_argument("--caption", help="with --format=latex: the table floats, with this caption, which is LaTeX")
    parser.add_argument("--forgetting", help=f"definition: {', '.join(FORGETTING)}; default: that of the runs' configs")
    parser.add_argument(
        "--out",
        help="NAME.png, .svg or .pdf: a plot, with --seeds of forgetting too, with --pairs of differences; a folder: "
        "a page",
    )
    port = settings.integer(0, 65535)
    parser.add_argument(
        "--serve",
        metavar="PORT",
        type=lambda text: settings.read_value("--serve", port, text),
        help=f"show the page to browsers of this machine and keep it up to date; default: {PORT}, or a free one",
    )
    # argparse would take the run that follows --serve for its value.
    arguments = parser.parse_args([f"--serve={PORT}" if word == "--serve" else word for word in argv])
    if arguments.serve is not None:
        require(
            not (arguments.out or arguments.seeds or arguments.pairs or arguments.knn),
            "--serve shows the whole page: leave out --out, --seeds, --pairs and --knn",
        )
        ports = (PORT, 0) if "--serve" in argv else (arguments.serve,)
        _serve(arguments.runs, arguments.forgetting, arguments.over, ports)
        return 0
    user_choice("format", arguments.format, tables.FORMATS)
    require(arguments.caption is None or arguments.format == "latex", "--caption is for LaTeX: add --format=latex")
    as_page = arguments.out is not None and _is_page(arguments.out)
    workdirs = _with_results(arguments.runs)
    runs = [load_results(workdir) for workdir in workdirs]
    if arguments.knn:
        require(not as_page, "a page shows all probes: leave out --knn, or give --out=NAME.png")
        runs = [_by_knn(run) for run in runs]
    definition = _definition(runs, arguments.forgetting)
    require(not (arguments.seeds and arguments.pairs), "--seeds and --pairs are two tables: give one of them")
    require(
        arguments.over is None or arguments.pairs or as_page,
        "--over is for differences: add --pairs or, for a page, --out=FOLDER/ or --serve",
    )
    scored = compare.scored(runs)
    if arguments.over is not None:
        _check_over(arguments.over, scored)
    over = arguments.over or compare.BASELINE
    require(
        bool(scored) or as_page or not (arguments.seeds or arguments.pairs or arguments.out),
        "these runs have no accuracy, for their images have no labels: leave out --seeds, --pairs and --out=NAME.png",
    )
    if arguments.seeds or arguments.pairs:
        flag = "--seeds" if arguments.seeds else "--pairs"
        with usage_errors(advice=f"give {flag} runs of one benchmark, each once"):
            found = [
                tables.of_seeds(scored, definition)
                if arguments.seeds
                else tables.of_pairs(scored, over, arguments.forgetting)
            ]
    else:
        found = tables.of_runs(runs, definition)
    text = "\n\n".join(tables.render(table, arguments.format) for table in found)
    if arguments.caption is not None:
        text = f"\\begin{{table}}\n\\centering\n\\caption{{{arguments.caption}}}\n{text}\n\\end{{table}}"
    written = []
    if as_page:
        sources = [page.load_source(workdir) for workdir in workdirs]
        try:
            with usage_errors(advice="give each run once"):
                path = page.write_page(pathlib.Path(arguments.out), sources, definition, over)
        except OSError as error:
            raise UsageError(f"cannot write a page to {arguments.out}: {error.strerror}; give another --out") from error
        written = [f"page: {path}"]
    elif arguments.out is not None:
        path = pathlib.Path(arguments.out)
        if arguments.pairs:
            run_figures.plot_differences(path, scored, over, arguments.forgetting)
        else:
            run_figures.plot_average_accuracy(path, scored, definition if arguments.seeds else None)
        written = [f"plot: {arguments.out}"]
    # Another program may read a table that is not plain text from stdout, so other lines go to stderr then.
    print(text)
    for line in written:
        print(line, file=sys.stdout if arguments.format == "text" else sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
