"""Makes any table or figure that is made of runs: plans the runs, trains what is missing, and reports.

Runs are in ROOT/BENCHMARK/RECIPE-OBJECTIVE-seedN; a protocol or stream that is not the default one stands before the
seed, as in RECIPE-OBJECTIVE-cassle-seedN. All studies share them: a finished run is not run again, and an interrupted
one goes on. Each study writes ROOT/STUDY-BENCHMARK.md, .csv and .json, and its figure beside them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from ucl_jax import cli, settings
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import UsageError, require, user_choice
from ucl_jax.files import write_atomically
from ucl_jax.recipes import offered
from ucl_jax.reproduce import probe_requests
from ucl_jax.reproduce.jobs import Job, Slot, make_slots, run_jobs
from ucl_jax.reproduce.plan import (
    Plan,
    PlannedRun,
    SlurmResources,
    check,
    config_of,
    keep_results,
    make_plan,
    print_failures,
    print_plan,
    saved_results,
    slurm_script,
    train,
)
from ucl_jax.reproduce.probe_requests import ProbeRequest, record
from ucl_jax.reproduce.studies import (
    EXAMPLES,
    OBJECTIVES,
    STUDIES,
    SUBSET,
    Runs,
    StudyOptions,
    StudyReport,
    known_recipes,
)
from ucl_jax.results import tables
from ucl_jax.results.compare import NEUTRAL
from ucl_jax.results.tables import Table

if TYPE_CHECKING:
    from ucl_jax.results.drawing import Picture

PROBE = (sys.executable, "-m", "ucl_jax.probe")
# Options that only one study has; keys of a config that a study varies, which --override may therefore not set.
OPTIONS = {"sizes": ("fewshot",), "datasets": ("table2",), "save": ("table1", "streams")}
VARIED = ("seed", "recipe", "benchmark.name", "objective.name")


def _number(name: str, most: int = 1000) -> Callable[[str], int]:
    """Returns a function that reads a whole number from 1 to `most`, the value of an option."""
    return lambda text: settings.read_value(f"--{name}", settings.integer(1, most), text)


class Command(NamedTuple):
    """A command line that was read and checked.

    Attributes:
      study: a key of STUDIES.
      benchmarks: names of benchmarks.
      options: what was chosen about the study.
      jobs: processes at a time; None for one a GPU, or one a core.
      dry_run: only say what would run.
      slurm: write the script of an array job with such resources for each run, and run nothing; None runs.
      markup: how the table is printed, a key of `tables.FORMATS`.
      save: the folder that results are kept in, as NAME.json, and taken from; None for none.
    """

    study: str
    benchmarks: list[str]
    options: StudyOptions
    jobs: int | None = None
    dry_run: bool = False
    slurm: SlurmResources | None = None
    markup: str = "text"
    save: pathlib.Path | None = None


def parse(argv: Sequence[str], prog: str = "python -m ucl_jax.reproduce") -> Command:
    """Reads and checks the command line.

    Raises:
      UsageError: an option is wrong; names it and, where there is a choice, what there is to choose from.
    """
    given = _parser(prog).parse_args(argv)
    study = user_choice("study", given.study, STUDIES)
    benchmarks, objectives, recipes, datasets = (
        _words(text) for text in (given.benchmarks, given.objectives, given.recipes, given.datasets)
    )
    require(bool(benchmarks), "--benchmarks is empty")
    known = dict.fromkeys(recipe for objective in OBJECTIVES for recipe in known_recipes(objective))
    for what, names, choices in (
        ("benchmark", benchmarks, BENCHMARKS),
        ("objective", objectives, dict.fromkeys(OBJECTIVES)),
        ("data set", datasets, BENCHMARKS),
        ("format", [given.format], tables.FORMATS),
        ("recipe", recipes if recipes != ["all"] else [], known),
    ):
        for name in names:
            user_choice(what, name, choices)
    data_dir = str(pathlib.Path(given.data_dir).expanduser().absolute()) if given.data_dir else ""
    overrides = [_read_override(pair, given.study) for pair in given.override]
    for option, owners in OPTIONS.items():
        require(
            not getattr(given, option) or given.study in owners,
            f"--{option} is an option of {' and '.join(owners)}, not of {given.study}",
        )
    require(given.save is None or len(benchmarks) == 1, "--save=DIR holds results of one benchmark: give one at a time")
    probe_settings: dict[str, probe_requests.Settings] = {}
    for change in given.set:
        probe, key, value = probe_requests.read_change(change)
        probe_settings.setdefault(probe, {})[key] = value
    options = StudyOptions(
        root=given.root,
        objectives=tuple(objectives) or study.objectives,
        seeds=given.seeds,
        recipes=tuple(recipes),
        overrides=(*overrides, *([("data_dir", data_dir)] if data_dir else [])),
        sizes=_read_sizes(given.sizes),
        datasets=tuple(datasets),
        data_dir=data_dir,
        probe_settings=probe_settings,
    )
    for option in ("nodes", "gpus"):
        require(given.slurm or getattr(given, option) is None, f"--{option} is an option of --slurm; give that too")
    slurm = SlurmResources(given.jobs, given.nodes or 1, given.gpus or 1) if given.slurm else None
    return Command(given.study, benchmarks, options, given.jobs, given.dry_run, slurm, given.format, given.save)


CALLS = {
    "table1 --benchmarks=digits --seeds=3": "the paper's Table 1 on the embedded digits",
    "table2 --benchmarks=cifar10 --objectives=simsiam --dry-run": "only what would run, and how long it takes",
    "fewshot --benchmarks=cifar100 --slurm": "an array job for a cluster",
    "cassle --benchmarks=cifar100_5x20 --dry-run": "the protocol of CaSSLe, beside published numbers",
    "streams --benchmarks=cifar10_16px --dry-run": "methods without task borders, each image once",
}


def _parser(prog: str) -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    lists = {"studies": {name: study.about for name, study in STUDIES.items()}} | offered()
    epilog = f"{cli.examples(prog, CALLS)}\n\n{cli.listed(lists)}"
    parser = cli.Parser(prog=prog, description=__doc__, epilog=epilog)
    add = parser.add_argument
    add("study", help="one of the studies below")
    add("--benchmarks", default="digits", help="names with commas between; default digits")
    add("--objectives", default="", help="names; default those of the table or figure")
    add("--seeds", type=_number("seeds"), default=3, help="how many: 0 .. SEEDS-1; default 3")
    add("--recipes", default="", help="names, or all; default those of the table or figure")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="a setting of every run, repeatable")
    where = "the folder of all that is written; default runs/reproduce"
    add("--root", type=pathlib.Path, default=pathlib.Path("runs/reproduce"), help=where)
    add("--jobs", type=_number("jobs"), help="processes at a time; default one a GPU, else one a core; on a TPU give 1")
    add("--dry-run", action="store_true", help="only say what would run, and how long it takes")
    add("--slurm", action="store_true", help="write an array-job script of the missing runs, and run nothing")
    add("--nodes", type=_number("nodes"), help="with --slurm: nodes for each run; default 1")
    add("--gpus", type=_number("gpus"), help="with --slurm: GPUs of a node for each run; default 1")
    add("--format", default="text", help=f"how the table is printed: {', '.join(tables.FORMATS)}")
    add(
        "--save",
        type=pathlib.Path,
        metavar="DIR",
        help="table1, streams: keep results as DIR/NAME.json",
    )
    add("--sizes", default="", help="fewshot: images a task, such as 10,25,all")
    add("--datasets", default="", help="table2: other data sets; default those of the paper that are prepared here")
    add("--data_dir", default="", help="the folder of TFDS; default $TFDS_DATA_DIR, else ~/tensorflow_datasets")
    add("--set", action="append", default=[], metavar="PROBE.KEY=VALUE", help="a setting of a probe, repeatable")
    return parser


def _words(text: str) -> list[str]:
    """Returns the words of a list with commas between, each once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _read_override(pair: str, study: str) -> tuple[str, str]:
    """Returns the key, without a "config." before it, and the value of a value of --override.

    Raises:
      UsageError: it has another form, or it is a setting that the study varies.
    """
    key, equals, value = pair.partition("=")
    require(bool(key and equals), f"--override={pair} is not KEY=VALUE")
    key = key.removeprefix("--config.").removeprefix("config.")
    require(key not in VARIED, f"--override={pair}: {key} is what the study varies; use --seeds, --recipes ...")
    few = study == "fewshot" and key in (EXAMPLES, SUBSET)
    require(not few, f"--override={pair}: fewshot varies it; use --sizes, --seeds")
    return key, value


def _read_sizes(text: str) -> tuple[int, ...]:
    """Returns the numbers of --sizes, with 0 for "all"; raises UsageError where one is no number of images."""
    words = _words(text)
    require(
        all(word == "all" or (word.isdecimal() and len(word) < 10 and int(word)) for word in words),
        f"--sizes={text} is not numbers of images a task, or all, with commas between",
    )
    return tuple(0 if word == "all" else int(word) for word in words)


def finished(planned: Sequence[PlannedRun], kept: pathlib.Path | None) -> Runs:
    """Returns the results of those planned runs that are finished; `kept` may have some, as NAME.json."""
    found = {run: saved_results(run, kept) for run in planned}
    return {run: results for run, results in found.items() if results is not None and results.finished}


def probe_jobs(requests: Sequence[ProbeRequest], runs: Runs, data_dir: str) -> list[Job]:
    """Returns the probe processes that are still to run.

    A finished run has one for each probe whose records it lacks, and a pair of finished runs has one of its own.

    Args:
      requests: all probes of the study.
      runs: the results of finished runs.
      data_dir: the folder of TFDS; "" for that of the run.
    """
    lacking: dict[tuple, list[ProbeRequest]] = {}
    for request in requests:
        if _ready(request, runs):
            results = runs[request.run]
            last = results.tasks_learned
            afters = sorted({1, last}) if request.first_too else [last]
            if missing := [after for after in afters if record(results, request, after) is None]:
                lacking.setdefault((*_process(request), tuple(missing)), []).append(request)
    return [_probe_job(together, after, data_dir) for (*_, after), together in lacking.items()]


def _ready(request: ProbeRequest, runs: Runs) -> bool:
    """Tells whether the run that is to be probed is finished, and so is the one that it is compared with, if any."""
    other = request.settings.get("other", "")
    return request.run in runs and (not other or other in {str(run.folder.absolute()) for run in runs})


def _process(request: ProbeRequest) -> tuple[PlannedRun, str, str]:
    """Returns run, probe, and the other run's folder or "". Requests that agree in these are made by one process."""
    return request.run, request.probe, request.settings.get("other", "")


def _probe_job(requests: Sequence[ProbeRequest], after: Sequence[int], data_dir: str) -> Job:
    """Returns the process for requests that differ in one setting, such as the data set; it gets a list of values."""
    run, probe, other = _process(requests[0])
    values: dict[str, dict[str, None]] = {}
    for key, value in ((key, value) for request in requests for key, value in request.settings.items() if value != ""):
        values.setdefault(key, {})[settings.words_of(value)] = None
    command = [
        *PROBE,
        f"--workdir={run.folder.absolute()}",
        f"--probes={probe}",
        f"--after={','.join(map(str, after))}",
        *(f"--set={probe}.{key}={','.join(of_key)}" for key, of_key in values.items()),
        *([f"--data_dir={data_dir}"] if data_dir else []),
    ]
    name = f"{probe} of {run.path}" + (f" and {pathlib.PurePath(other).name}" if other else "")
    return Job(name, run.folder, tuple(command), "probe.txt")


def _probe(jobs: Sequence[Job], slots: Sequence[Slot]) -> dict[str, str]:
    """Runs probe processes and prints progress; returns the reason for each that failed, by name."""
    failed: dict[str, str] = {}
    done: list[Job] = []

    def ended(job: Job, code: int) -> None:
        done.append(job)
        if code != 0:
            failed[job.name] = f"{job.last_line()} (see {job.log})"
        word = f"FAILED, exit code {code}" if code else "done"
        print(f"[{len(done)}/{len(jobs)}] {job.name}: {word}", flush=True)

    run_jobs(jobs, slots, ended)
    return failed


def _with_legend(options: StudyOptions, table: Table, pending: int, planned: int) -> Table:
    """Returns a table whose legend also tells the changed settings and how many runs are not finished."""
    legend = list(table.legend)
    if overrides := _overrides(options):
        legend.append(f"Settings changed: {', '.join(overrides)}.")
    changed = [
        f"{probe}.{key}={settings.words_of(value)}"
        for probe, of_probe in options.probe_settings.items()
        for key, value in of_probe.items()
    ]
    if changed:
        legend.append(f"Settings of probes changed: {', '.join(changed)}.")
    if pending:
        legend.append(f"{pending} of {planned} runs are not finished.")
    return table._replace(legend=legend)


def _overrides(options: StudyOptions) -> list[str]:
    """Returns the overrides that may change a number, as KEY=VALUE each."""
    return [f"{key}={value}" for key, value in options.overrides if not key.startswith(NEUTRAL)]


def _print(table: Table, markup: str, out: TextIO) -> None:
    """Prints a table with its title and legend; the table alone goes to `out`.

    A terminal and a page of a paper are narrow. So plain text and LaTeX have no empty columns.
    """
    print(f"\n{table.title}\n", flush=True)
    kept = tables.without_empty(table) if markup in ("text", "latex") else table
    print(tables.render(kept, markup), file=out, flush=True)
    print("", *(textwrap.fill(line, 116, subsequent_indent="  ") for line in table.legend), sep="\n", flush=True)


def _save(command: Command, benchmark: str, report: StudyReport, draw: bool) -> list[pathlib.Path]:
    """Writes the table, the numbers and the figure of a report; returns the files.

    They hold no times, so that the same results give the same files.
    """
    stem = command.options.root / f"{command.study}-{benchmark}"
    table = report.table
    figure = report.figure if draw else None
    shown = [f"![{figure[-1]}]({stem.name}-figure.png)"] if figure else []
    page = "\n\n".join([f"# {table.title}", tables.render(table, "markdown"), *table.legend, *shown])
    numbers = {"study": command.study, "benchmark": benchmark, "overrides": _overrides(command.options)}
    numbers |= {"legend": table.legend}
    texts = {
        "md": page,
        "csv": tables.render(table, "csv"),
        "json": json.dumps({**numbers, "rows": report.numbers}, indent=1, allow_nan=False),
    }
    files = [stem.with_name(f"{stem.name}.{suffix}") for suffix in texts]
    for path, text in zip(files, texts.values()):
        write_atomically(path, f"{text}\n")
    if figure is not None:
        kind, drawn, title = figure
        files += _figures()[kind](stem.with_name(f"{stem.name}-figure"), drawn, title).paths
    return files


def _figures() -> dict[str, Callable[[pathlib.Path, Any, str], Picture]]:
    """Returns the functions that draw the figures of studies, by the name that `StudyReport.figure` has for each."""
    from ucl_jax.results import probe_figures, run_figures  # imported late, for a plan needs no figure

    return {"few_shot": run_figures.few_shot, "cka": probe_figures.cka, "landscape": probe_figures.landscape}


def _print_files(files: Sequence[pathlib.Path]) -> None:
    """Prints the files that were written, those that differ only in their suffix on one line."""
    suffixes: dict[pathlib.Path, list[str]] = {}
    for path in files:
        suffixes.setdefault(path.with_suffix(""), []).append(path.suffix)
    print("\nfiles:", *(f"  {stem}{', '.join(of)}" for stem, of in suffixes.items()), sep="\n", flush=True)


def _print_plan(command: Command, plan: Plan, requests: Sequence[ProbeRequest], slots: Sequence[Slot]) -> None:
    """Prints which runs are to be trained, how long that takes, and how many probe processes follow."""
    options = command.options
    print(f"{command.study} on {', '.join(command.benchmarks)}, in {options.root}")
    for objective in options.objectives:
        if left_out := set(options.recipes) - {"all", *known_recipes(objective)}:
            print(f"there is no {', '.join(sorted(left_out))} with {objective}")
    print_plan(plan, len(slots))
    runs = finished(plan.planned, command.save)
    later = {_process(request) for request in requests if not _ready(request, runs)}
    if lacking := len(probe_jobs(requests, runs, options.data_dir)) + len(later):
        kinds = ", ".join(dict.fromkeys(request.probe for request in requests))
        print(f"then {lacking} probe process{'es' if lacking > 1 else ''} ({kinds})", flush=True)


def reproduce(command: Command) -> int:
    """Carries out a command; returns the exit code: 1 where a run or a probe failed.

    Another program may read a table that is not plain text. So stdout gets nothing but that table, and all other words
    go to stderr.

    Raises:
      UsageError: a folder holds a run with other settings, or launch.py or a data set is missing; nothing was started.
      OSError: a file cannot be written; finished runs are kept.
      Stopped: a signal arrived; the runs in progress were saved.
    """
    out = sys.stdout
    with contextlib.redirect_stdout(out if command.markup == "text" else sys.stderr):
        return _carry_out(command, out)


def _carry_out(command: Command, out: TextIO) -> int:
    """Carries out a command as `reproduce` does, and prints its tables to `out`."""
    study, options, save = STUDIES[command.study], command.options, command.save
    of_benchmark = {benchmark: study.plan(options, benchmark) for benchmark in command.benchmarks}
    planned = [run for each in of_benchmark.values() for run in each]
    chosen = f"--recipes={','.join(options.recipes)} leaves no run for --objectives={','.join(options.objectives)}"
    require(bool(planned), chosen)
    check(planned)
    requests = study.requests(options, planned)
    used = sorted({request.probe for request in requests})
    for probe, changed in options.probe_settings.items():
        wrong = (
            f"--set={probe}.{next(iter(changed))}: {command.study} uses {', '.join(used) or 'no probe'}, not {probe}"
        )
        require(probe in used, wrong)
    slots = make_slots(command.jobs)
    plan = make_plan(planned, options.root, save)
    _print_plan(command, plan, requests, slots)
    unprepared = _unprepared(plan, prepare=not (command.dry_run or command.slurm))
    if command.dry_run or command.slurm:
        print("".join(f"note: {message}\n" for message in unprepared), end="")
    if command.dry_run:
        return 0
    options.root.mkdir(parents=True, exist_ok=True)
    if save:
        save.mkdir(parents=True, exist_ok=True)
    if command.slurm:
        return _slurm(command, plan, command.slurm)
    require(not unprepared, "; ".join(unprepared))
    try:
        failed = train(plan, slots)
    finally:  # also when the study is stopped
        if save:
            keep_results(planned, save)
    failed |= _probe(probe_jobs(requests, finished(planned, save), options.data_dir), slots)
    files = []
    for benchmark, own in of_benchmark.items():
        runs = finished(own, save)
        report = study.report(options, own, runs)
        report = report._replace(table=_with_legend(options, report.table, len(own) - len(runs), len(own)))
        _print(report.table, command.markup, out)
        files += _save(command, benchmark, report, draw=bool(runs))
    _print_files(files)
    print_failures(failed)
    return 1 if failed else 0


def _unprepared(plan: Plan, prepare: bool) -> list[str]:
    """Returns a message for each data set that missing runs need and that is not prepared on this machine.

    With `prepare`, what the runs would prepare is prepared first.
    """
    if not plan.missing:
        return []
    from ucl_jax.data import tfds_source  # imported late, for TFDS takes a second

    messages = []
    keys = ("benchmark.tfds_name", "data_dir", "benchmark.prepare")
    configs = map(config_of, plan.missing)
    for name, data_dir, allowed in dict.fromkeys(tuple(config[key] for key in keys) for config in configs):
        try:
            tfds_source.load_builder(name, data_dir, prepare and allowed)
        except UsageError as error:
            messages.append(str(error))
    return messages


def _slurm(command: Command, plan: Plan, resources: SlurmResources) -> int:
    """Writes the script of the missing runs and prints what to do with it; returns the exit code."""
    if not plan.missing:
        print("every run is finished: the same command without --slurm makes the table")
        return 0
    path = command.options.root / f"reproduce-{command.study}.sh"
    write_atomically(path, slurm_script(f"reproduce-{command.study}", plan.missing, resources))
    print(f"submit it:  sbatch {path}")
    print("then the same command without --slurm runs the probes and makes the table")
    return 0


@cli.returns_exit_code
def main(argv: Sequence[str], prog: str = "python -m ucl_jax.reproduce") -> int:
    """Carries out the command and returns its exit code."""
    command = parse(argv, prog)
    try:
        return reproduce(command)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}; take another --root") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
