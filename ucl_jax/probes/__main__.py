"""Probes saved networks of a run. Adds what it finds to the run's results.json, and pictures to RUN/analysis.

python -m ucl_jax.probe --workdir=RUN --probes=knn,linear,ood --after=0,1,5 --set=linear.fraction=0.1
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ucl_jax import cli
from ucl_jax.data.tasks import labelled
from ucl_jax.errors import require, usage_errors, user_choice
from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.files import disk_errors
from ucl_jax.probes import PROBES
from ucl_jax.probes.trained_run import TrainedRun
from ucl_jax.results import probe_figures
from ucl_jax.results.load import load_results, read_results
from ucl_jax.settings import PROBE_DEFAULTS, PROBE_SETTINGS, read_value, words_of
from ucl_jax.training.run_folder import claim, write_json

if TYPE_CHECKING:
    from ucl_jax.results.schema import Record, RunResult


def probe(
    workdir: pathlib.Path, names: Sequence[str], after: str, changes: Sequence[str], data_dir: str = ""
) -> list[pathlib.Path]:
    """Makes the records that results.json lacks, and saves each before the next is begun.

    Args:
      workdir: a run folder.
      names: names of PROBES.
      after: "last", "all", or numbers of tasks learned with commas between; 0 is the untrained network.
      changes: settings that differ from the defaults, each as PROBE.KEY=VALUE; values of a list have commas between.
      data_dir: the folder of the TFDS data sets; "" takes that of the run.

    Returns:
      The files of the pictures of the records that were asked for, new or old.

    Raises:
      UsageError: a name is unknown, a setting is out of range, a network was not kept, or data are missing.
    """
    from ucl_jax.results.schema import Record  # slow to import: not for --help

    probes = {name: user_choice("probe", name, PROBES) for name in names}
    settings = {name: PROBE_DEFAULTS[name] | _changes(name, changes) for name in probes}
    for change in changes:
        owner = change.partition(".")[0]
        require(owner in probes, f"--set={change}: {owner!r} is not among --probes={','.join(names)}")
    load_results(workdir)
    pictures: list[pathlib.Path] = []
    with disk_errors(workdir), TrainedRun(workdir, data_dir) as run, claim(workdir):
        for name, one in probes.items():
            require(
                labelled(run.stream_settings) or not one.needs_labels,
                f"the probe {name} needs labels, and the images of {workdir} have none; take another data set, such as "
                "--probes=ood --set=ood.dataset=cifar10",
            )
        chosen = _chosen(after, run)
        cases = {name: one.cases(run, settings[name]) for name, one in probes.items()}
        for name, one in probes.items():
            for case in cases[name]:
                for tasks_learned in [None] if one.whole_run else chosen:
                    record = Record(probe=name, after=tasks_learned, settings=json.loads(json.dumps(case)), values={})
                    saved = find(load_results(workdir), record)
                    depends_on = one.depends_on(run, case)
                    if saved is None or any(saved.values[key] != value for key, value in depends_on.items()):
                        print(f"{title(record)} ...", flush=True)
                        with usage_errors(f"the probe {title(record)} of {workdir}: "):
                            measured = one.measure(run, tasks_learned, case)
                        values = json.loads(json.dumps(measured, allow_nan=False))
                        saved = dataclasses.replace(record, values=values)
                        add(workdir, saved)
                    print(f"{title(record)}: {summary(saved)}", flush=True)
                    stem = workdir / "analysis" / stem_of(saved)
                    if (picture := probe_figures.draw_record(stem, saved)) is not None:
                        pictures += picture.paths
    return pictures


def find(results: RunResult, like: Record) -> Record | None:
    """Returns the record of the same probe, network and settings as `like`; None when there is none."""
    same = [record for record in results.analysis if _identity(record) == _identity(like)]
    return same[0] if same else None


def add(workdir: pathlib.Path, record: Record) -> None:
    """Puts a record into results.json, in place of one of the same probe, network and settings; keeps them sorted."""
    path = workdir / "results.json"
    results = read_results(path)
    others = [old for old in results.analysis if _identity(old) != _identity(record)]
    analysis = sorted([*others, record], key=_identity)
    write_json(path, results.with_analysis(analysis).to_json())


def _identity(record: Record) -> tuple:
    after = -1 if record.after is None else record.after
    return record.probe, after, json.dumps(record.settings, sort_keys=True)


def title(record: Record) -> str:
    """Returns a title such as "linear after task 5 (fraction=0.1, solver=ridge)", with settings other than defaults."""
    default = PROBE_DEFAULTS[record.probe]
    changed = {
        key: pathlib.PurePath(value).name if key == "other" else value
        for key, value in record.settings.items()
        if json.dumps(value) != json.dumps(default[key])
    }
    after = {None: "", 0: " untrained"}.get(record.after, f" after task {record.after}")
    told = ", ".join(f"{key}={words_of(value)}" for key, value in sorted(changed.items()))
    return f"{record.probe}{after}" + (f" ({told})" if told else "")


def stem_of(record: Record) -> str:
    """Returns the name of a record's pictures, without a suffix: its title with characters that suit a file name."""
    kept = "".join(letter if letter.isalnum() or letter in "._=" else "-" for letter in title(record))
    return "-".join(word for word in kept.split("-") if word)


def summary(record: Record) -> str:
    """Returns the main numbers of a record in one line."""
    values = record.values
    told = [f"{key} {value:.2f}" for key, value in values.items() if isinstance(value, float)]
    rows = values.get("rows", [values] if "task" in values and "all" in values else [])
    for row in rows:
        asked = f"k={row['k']} " if "k" in row else ""
        averages = {key: accuracy_matrix.average_accuracy([row[key]], [len(row[key])]) for key in ("task", "all")}
        means = (f"{key} {average:.2f} %" for key, average in averages.items())
        told.append(asked + ", ".join(means))
    return "; ".join(told) or "done"


def _chosen(after: str, run: TrainedRun) -> list[int]:
    known = run.afters
    if after in ("last", "all"):
        return known[-1:] if after == "last" else known
    words = after.split(",")
    require(all(word.isdecimal() for word in words), f"--after={after} is neither last, all, nor numbers with commas")
    missing = [word for word in words if int(word) not in known]
    require(
        not missing,
        f"--after={after}: there is no network after {', '.join(missing)} tasks; known: {', '.join(map(str, known))}",
    )
    return sorted(map(int, words))


def _changes(name: str, changes: Sequence[str]) -> dict[str, Any]:
    """Returns the settings of a probe that `changes` give."""
    changed = {}
    for change in changes:
        target, equals, text = change.partition("=")
        owner, _, key = target.partition(".")
        require(bool(equals and key), f"--set={change} is not PROBE.KEY=VALUE")
        if owner == name:
            known = PROBE_SETTINGS[name]
            require(bool(known), f"--set={change}: {name} has no settings")
            changed[key] = read_value(f"{name}.{key}", user_choice(f"setting of {name}", key, known), text)
    return changed


CALLS = {
    "--workdir=RUN --probes=knn,linear,ood": "how good the last network of a run is, by three probes",
    "--workdir=RUN --probes=knn --after=1,5 --set=knn.k=1,run,tasks": "a list as a setting, for two networks",
    "--workdir=RUN --probes=cka --set=cka.other=OTHER_RUN": "all networks of a run beside those of another",
}


def _lists() -> dict[str, dict[str, str]]:
    """Returns the lists of --help: what each probe tells, and its settings with their defaults, as --set takes them."""
    folder = pathlib.Path(__file__).parent
    return {
        "probes": {name: cli.summary(folder / f"{name}.py") for name in PROBES},
        "settings and defaults": {
            name: "  ".join(f"{key}={words_of(value)}" for key, value in PROBE_DEFAULTS[name].items()) or "none"
            for name in PROBES
        },
    }


@cli.returns_exit_code
def main(argv: Sequence[str], prog: str = "python -m ucl_jax.probe") -> int:
    """Runs the probes that the command line asks for."""
    epilog = f"{cli.listed(_lists())}\n\n{cli.examples(prog, CALLS)}"
    parser = cli.Parser(prog=prog, description=__doc__.splitlines()[0], epilog=epilog)
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="a run folder")
    parser.add_argument("--probes", required=True, help="names of the list below, with commas between")
    after = "last (default), all, or numbers of tasks learned, 0 being untrained; transfer and cka take all"
    parser.add_argument("--after", default="last", help=after)
    parser.add_argument("--set", action="append", default=[], metavar="PROBE.KEY=VALUE", help="a setting")
    parser.add_argument("--data_dir", default="", help="of TFDS; default: the run's")
    given = parser.parse_args(argv)
    pictures = probe(given.workdir, given.probes.split(","), given.after, given.set, given.data_dir)
    drawn = f", pictures: {given.workdir / 'analysis'}" if pictures else ""
    print(f"results: {given.workdir / 'results.json'}{drawn}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
