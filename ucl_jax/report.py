"""Tables, plots and a page of finished or running runs, from what lies in their folders.

python -m ucl_jax.report runs/a runs/b [--out=runs/compared.png]
python -m ucl_jax.report runs/* --out=report/                           # one page: report/index.html
python -m ucl_jax.report --seeds --format=markdown results/*.json      # mean and deviation over seeds
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from ucl_jax import cli, figures, metrics, page, tables
from ucl_jax.errors import UsageError, choose, require, write_whole
from ucl_jax.results.load import read_metrics, read_results


def load_results(workdir: pathlib.Path) -> dict[str, Any]:
    """Returns `results.json` of a run folder, or such a file by its own name.

    Raises:
      UsageError: there is none, or it is damaged.
    """
    path = pathlib.Path(workdir)
    path = path if path.suffix == ".json" else path / "results.json"
    require(path.exists(), f"{workdir} is no run folder with a results.json, or no run there has finished a task")
    return read_results(path)


def plot_run(workdir: pathlib.Path) -> None:
    """Draws accuracy_matrix.png, average_accuracy.png and loss.png into `workdir/plots`."""
    results, folder = load_results(workdir), workdir / "plots"
    folder.mkdir(exist_ok=True)
    figures.plot_matrices(folder / "accuracy_matrix.png", results)
    if not results["config"]["benchmark"]["joint"]:
        figures.plot_average_accuracy(folder / "average_accuracy.png", [results])
    figures.plot_loss(folder / "loss.png", read_metrics(workdir / "metrics.jsonl"))


def load_source(workdir: pathlib.Path) -> page.Source:
    """What a page shows of a run: its results, and of a folder the records of training and the last buffer.

    Raises:
      UsageError: there are no results, or a file is damaged.
    """
    results = load_results(workdir)
    records = workdir / "metrics.jsonl"
    buffer = workdir / "plots" / f"buffer_task{tables.tasks_learned(results)}.png"
    return page.Source(
        results,
        read_metrics(records) if records.exists() else [],
        buffer.read_bytes() if buffer.exists() else None,
        str(workdir),
    )


def write_page(folder: pathlib.Path, sources: Sequence[page.Source], forgetting: str | None = None) -> pathlib.Path:
    """Writes folder/index.html, whole or not at all, which needs no other file; what else is in there stays.

    The accuracy matrices of all runs are drawn to folder/figures beside it, with their numbers.

    Raises:
      UsageError: the folder cannot be written to; one run is given twice; the runs' definitions of forgetting differ.
    """
    text = page.build(sources, tables.forgetting_of([s.results for s in sources], forgetting))
    path = folder / "index.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
        runs = [source.results for source in sources]
        for probe in tables.probes_of(runs):
            figures.accuracy_matrices(folder / "figures" / f"accuracy_matrices-{probe}", runs, probe)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; give another --out") from error
    return path


def _is_page(out: str) -> bool:
    """Whether --out asks for a page in a folder, not for a picture; raises UsageError for neither."""
    path = pathlib.Path(out)
    if path.suffix == ".png" and not out.endswith("/") and not path.is_dir():
        require(path.parent.is_dir(), f"--out={out} is no NAME.png in a folder: there is no {path.parent}")
        return False
    folder = path.is_dir() or (not path.exists() and (out.endswith("/") or not path.suffix))
    require(folder, f"--out={out} is neither NAME.png, for a picture, nor a folder, for a page (end it with /)")
    return True


@cli.returns_exit_code
def main(argv: Sequence[str]) -> int:
    """Prints the table of runs; --out draws their average accuracies, or writes a page about them."""
    parser = cli.Parser(prog="python -m ucl_jax.report", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN", help="a run folder, or its results.json")
    parser.add_argument("--seeds", action="store_true", help="one row for runs that differ in their seed")
    parser.add_argument("--format", default="text", help=f"of the table: {', '.join(tables.FORMATS)}")
    parser.add_argument("--forgetting", help=f"{', '.join(metrics.FORGETTING)}; by default that of the runs' configs")
    parser.add_argument("--out", help="NAME.png: average accuracy over tasks, all runs in one. A folder: index.html")
    arguments = parser.parse_args(argv)
    choose("format", arguments.format, tables.FORMATS)
    if arguments.forgetting is not None:
        choose("definition of forgetting", arguments.forgetting, metrics.FORGETTING)
    as_page = arguments.out is not None and _is_page(arguments.out)
    runs = [load_results(workdir) for workdir in arguments.runs]
    tell = tables.table_of_seeds if arguments.seeds else tables.table
    text = tell(runs, arguments.format, arguments.forgetting)
    written = []
    if as_page:
        sources = [load_source(workdir) for workdir in arguments.runs]
        written = [f"page: {write_page(pathlib.Path(arguments.out), sources, arguments.forgetting)}"]
    elif arguments.out is not None:
        figures.plot_average_accuracy(pathlib.Path(arguments.out), runs)
        written = [f"plot: {arguments.out}"]
    # What was written is told beside a table that another program reads, not in it.
    print(text)
    for line in written:
        print(line, file=sys.stdout if arguments.format == "text" else sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
