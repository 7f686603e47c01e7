"""Makes any table or figure of the paper that is made of runs: plans the runs, trains what is missing, and reports.

    python -m ucl_jax.reproduce table1 --benchmarks=digits --seeds=3
    python -m ucl_jax.reproduce table2 --benchmarks=cifar10 --objectives=simsiam --dry-run
    python -m ucl_jax.reproduce fewshot --benchmarks=cifar100 --slurm

Runs are in ROOT/BENCHMARK/RECIPE-OBJECTIVE-seedN, and all studies share them: a finished run is not run again, and an
interrupted one goes on. Each study writes ROOT/STUDY-BENCHMARK.md, .csv and .json, and its figure beside them.
"""

import argparse
import json
import pathlib
import sys
import textwrap
from collections.abc import Callable, Sequence

from ucl_jax import cli, settings
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import UsageError, require, user_choice
from ucl_jax.files import write_atomically
from ucl_jax.reproduce import probe_requests
from ucl_jax.reproduce.jobs import Job, Slot, make_slots, run_jobs
from ucl_jax.reproduce.plan import (
    Plan,
    PlannedRun,
    check,
    keep_results,
    make_plan,
    print_failures,
    print_plan,
    saved_results,
    slurm_script,
    train,
)
from ucl_jax.reproduce.probe_requests import ProbeRequest, record
from ucl_jax.reproduce.studies import EXAMPLES, EXTRA_ROWS, ROWS, STUDIES, SUBSET, Runs, StudyReport, words
from ucl_jax.results import tables
from ucl_jax.results.compare import NEUTRAL
from ucl_jax.results.tables import Table

PROBE = (sys.executable, "-m", "ucl_jax.probe")
# Options that only one study has; keys of a config that a study varies, which --override may therefore not set.
OPTIONS = {"sizes": "fewshot", "datasets": "table2", "save": "table1"}
VARIED = ("seed", "recipe", "benchmark.name", "objective.name")


def _number(name: str, most: int = 1000) -> Callable[[str], int]:
    """Returns a function that reads a whole number from 1 to `most`, the value of an option."""
    return lambda text: settings.read_value(f"--{name}", settings.integer(1, most), text)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parses and checks the command line, and returns its options.

    Raises:
      UsageError: an option is wrong; names it and, where there is a choice, what there is to choose from.
    """
    about = "".join(f"  {name:10} {study.about}\n" for name, study in STUDIES.items())
    parser = cli.Parser(
        prog="python -m ucl_jax.reproduce",
        description=f"{__doc__}\nstudies:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("study", help="one of the studies above")
    add("--benchmarks", default="digits", help=f"with commas between: {', '.join(BENCHMARKS)}")
    add("--objectives", default="", help=f"{', '.join(ROWS)}; default all; for cka and landscape supervised,simsiam")
    add("--seeds", type=_number("seeds"), default=3, help="how many: 0 .. SEEDS-1; default 3")
    add("--recipes", default="", help="names, or all; default those that the paper's table has")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="a setting of every run, repeatable")
    add("--root", type=pathlib.Path, default=pathlib.Path("runs/reproduce"), help="the folder of all that is written")
    add("--jobs", type=_number("jobs"), help="processes at a time; default one a GPU, else one a core; on a TPU give 1")
    add("--dry-run", action="store_true", help="only say what would run, and how long it takes")
    add("--slurm", action="store_true", help="write an array-job script of the missing runs, and run nothing")
    add("--format", default="text", help=f"how the table is printed: {', '.join(tables.FORMATS)}")
    add("--save", type=pathlib.Path, metavar="DIR", help="table1: keep results as DIR/NAME.json, and use those there")
    add("--sizes", default="", help="fewshot: images a task, such as 10,25,all")
    add("--datasets", default="", help="table2: other data sets; default those of the paper that are prepared here")
    add("--data_dir", default="", help="the folder of TFDS; default $TFDS_DATA_DIR, else ~/tensorflow_datasets")
    add("--set", action="append", default=[], metavar="PROBE.KEY=VALUE", help="a setting of a probe, repeatable")
    given = parser.parse_args(argv)
    study = user_choice("study", given.study, STUDIES)
    given.benchmarks = words(given.benchmarks)
    given.objectives = words(given.objectives) or list(study.objectives)
    require(bool(given.benchmarks), "--benchmarks is empty")
    for benchmark in given.benchmarks:
        user_choice("benchmark", benchmark, BENCHMARKS)
    for objective in given.objectives:
        user_choice("objective", objective, ROWS)
    for name in words(given.datasets):
        user_choice("data set", name, BENCHMARKS)
    user_choice("format", given.format, tables.FORMATS)
    recipes = dict.fromkeys(recipe for rows in (ROWS, EXTRA_ROWS) for row in rows.values() for recipe in row)
    for recipe in words(given.recipes) if given.recipes != "all" else []:
        user_choice("recipe", recipe, recipes)
    if given.data_dir:
        given.data_dir = str(pathlib.Path(given.data_dir).expanduser().absolute())
        given.override.append(f"data_dir={given.data_dir}")
    for place, pair in enumerate(given.override):
        key, equals, _ = pair.partition("=")
        require(bool(key and equals), f"--override={pair} is not KEY=VALUE")
        given.override[place] = pair = pair.removeprefix("--config.").removeprefix("config.")
        key = pair.partition("=")[0]
        require(key not in VARIED, f"--override={pair}: {key} is what the study varies; use --seeds, --recipes ...")
        few = given.study == "fewshot" and key in (EXAMPLES, SUBSET)
        require(not few, f"--override={pair}: fewshot varies it; use --sizes, --seeds")
    for option, owner in OPTIONS.items():
        require(
            not getattr(given, option) or given.study == owner,
            f"--{option} is an option of {owner}, not of {given.study}",
        )
    for change in given.set:
        probe_requests.check(change)
    if given.save is not None:
        require(len(given.benchmarks) == 1, "--save=DIR holds results of one benchmark: give one at a time")
    return given


def finished(planned: Sequence[PlannedRun], kept: pathlib.Path | None) -> Runs:
    """Returns the results of those planned runs that are finished; `kept` may have some, as NAME.json."""
    found = {run: saved_results(run, kept) for run in planned}
    return {run: results for run, results in found.items() if results is not None and results.finished}


def probe_jobs(given: argparse.Namespace, requests: Sequence[ProbeRequest], runs: Runs) -> list[Job]:
    """Returns the probe processes that are still to run.

    A finished run has one for each probe whose records it lacks, and a pair of finished runs has one of its own.
    """
    lacking: dict[tuple, list[ProbeRequest]] = {}
    for request in requests:
        if _ready(request, runs):
            results = runs[request.run]
            last = results.tasks_learned
            afters = [last] if request.after == "last" else sorted({1, last})
            if missing := [after for after in afters if record(results, request, after) is None]:
                lacking.setdefault((*_process(request), tuple(missing)), []).append(request)
    return [_probe_job(given, together, after) for (*_, after), together in lacking.items()]


def _ready(request: ProbeRequest, runs: Runs) -> bool:
    """Tells whether the run that is to be probed is finished, and so is the one that it is compared with, if any."""
    other = request.settings.get("other", "")
    return request.run in runs and (not other or other in {str(run.folder.absolute()) for run in runs})


def _process(request: ProbeRequest) -> tuple[PlannedRun, str, str]:
    """Returns run, probe, and the other run's folder or "". Requests that agree in these are made by one process."""
    return request.run, request.probe, request.settings.get("other", "")


def _probe_job(given: argparse.Namespace, requests: Sequence[ProbeRequest], after: Sequence[int]) -> Job:
    """Returns the process for requests that differ in one setting, such as the data set; it gets a list of values."""
    run, probe, other = _process(requests[0])
    values: dict[str, dict[str, None]] = {}
    for key, value in ((key, value) for request in requests for key, value in request.settings.items() if value):
        values.setdefault(key, {})[value] = None
    command = [
        *PROBE,
        f"--workdir={run.folder.absolute()}",
        f"--probes={probe}",
        f"--after={','.join(map(str, after))}",
        *(f"--set={probe}.{key}={','.join(of_key)}" for key, of_key in values.items()),
        *([f"--data_dir={given.data_dir}"] if given.data_dir else []),
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


def _with_legend(given: argparse.Namespace, table: Table, pending: int, planned: int) -> Table:
    """Returns a table whose legend also tells the changed settings and how many runs are not finished."""
    legend = list(table.legend)
    if overrides := _overrides(given):
        legend.append(f"Settings changed: {', '.join(overrides)}.")
    if given.set:
        legend.append(f"Settings of probes changed: {', '.join(given.set)}.")
    if pending:
        legend.append(f"{pending} of {planned} runs are not finished.")
    return table._replace(legend=legend)


def _overrides(given: argparse.Namespace) -> list[str]:
    """Returns the overrides that may change a number."""
    return [pair for pair in given.override if not pair.startswith(NEUTRAL)]


def _print(table: Table, markup: str) -> None:
    """Prints a table with its title and legend; as plain text it loses its empty columns, to be less wide."""
    kept = table.frame if table.frame.empty or markup != "text" else table.frame.dropna(axis="columns", how="all")
    print(f"\n{table.title}\n\n{tables.render(table._replace(frame=kept), markup)}\n")
    print("\n".join(textwrap.fill(line, 116, subsequent_indent="  ") for line in table.legend), flush=True)


def _save(given: argparse.Namespace, benchmark: str, report: StudyReport, draw: bool) -> list[pathlib.Path]:
    """Writes the table, the numbers and the figure of a report; returns the files.

    They hold no times, so that the same results give the same files.
    """
    stem = given.root / f"{given.study}-{benchmark}"
    table = report.table
    figure = report.figure if draw else None
    shown = [f"![{figure[-1]}]({stem.name}-figure.png)"] if figure else []
    page = "\n\n".join([f"# {table.title}", tables.render(table, "markdown"), *table.legend, *shown])
    numbers = {"study": given.study, "benchmark": benchmark, "overrides": _overrides(given), "legend": table.legend}
    texts = {
        "md": page,
        "csv": tables.render(table, "csv"),
        "json": json.dumps({**numbers, "rows": report.numbers}, indent=1, allow_nan=False),
    }
    files = [stem.with_name(f"{stem.name}.{suffix}") for suffix in texts]
    for path, text in zip(files, texts.values()):
        write_atomically(path, f"{text}\n")
    if figure is not None:
        from ucl_jax.results import figures  # its import takes seconds

        name, drawn, title = figure
        files += figures.STUDY_FIGURES[name](stem.with_name(f"{stem.name}-figure"), drawn, title)
    return files


def _print_files(files: Sequence[pathlib.Path]) -> None:
    """Prints the files that were written, those that differ only in their suffix on one line."""
    suffixes: dict[pathlib.Path, list[str]] = {}
    for path in files:
        suffixes.setdefault(path.with_suffix(""), []).append(path.suffix)
    print("\nfiles:", *(f"  {stem}{', '.join(of)}" for stem, of in suffixes.items()), sep="\n", flush=True)


def _print_plan(given: argparse.Namespace, plan: Plan, requests: Sequence[ProbeRequest], slots: Sequence[Slot]) -> None:
    """Prints which runs are to be trained, how long that takes, and how many probe processes follow."""
    print(f"{given.study} on {', '.join(given.benchmarks)}, in {given.root}")
    for objective in given.objectives:
        if left_out := set(words(given.recipes)) - {"all", *ROWS[objective], *EXTRA_ROWS[objective]}:
            print(f"there is no {', '.join(sorted(left_out))} with {objective}")
    print_plan(plan, len(slots))
    runs = finished(plan.planned, given.save)
    later = {_process(request) for request in requests if not _ready(request, runs)}
    if lacking := len(probe_jobs(given, requests, runs)) + len(later):
        kinds = ", ".join(dict.fromkeys(request.probe for request in requests))
        print(f"then {lacking} probe process{'es' if lacking > 1 else ''} ({kinds})", flush=True)


def reproduce(given: argparse.Namespace) -> int:
    """Carries out a checked command line; returns the exit code: 1 where a run or a probe failed.

    Raises:
      UsageError: a folder holds a run with other settings, or launch.py or a data set is missing; nothing was started.
      OSError: a file cannot be written; finished runs are kept.
      Stopped: a signal arrived; the runs in progress were saved.
    """
    study = STUDIES[given.study]
    of_benchmark = {benchmark: study.plan(given, benchmark) for benchmark in given.benchmarks}
    planned = [run for each in of_benchmark.values() for run in each]
    require(bool(planned), f"--recipes={given.recipes} leaves no run for --objectives={','.join(given.objectives)}")
    check(planned)
    requests = study.requests(given, planned)
    for change in given.set:
        probe, used = change.partition(".")[0], sorted({request.probe for request in requests})
        require(probe in used, f"--set={change}: {given.study} uses {', '.join(used) or 'no probe'}, not {probe}")
    slots = make_slots(given.jobs)
    plan = make_plan(planned, given.root, given.save)
    _print_plan(given, plan, requests, slots)
    unprepared = _unprepared(given, plan)
    if given.dry_run or given.slurm:
        print("".join(f"note: {message}\n" for message in unprepared), end="")
    if given.dry_run:
        return 0
    given.root.mkdir(parents=True, exist_ok=True)
    if given.save:
        given.save.mkdir(parents=True, exist_ok=True)
    if given.slurm:
        return _slurm(given, plan)
    require(not unprepared, "; ".join(unprepared))
    try:
        failed = train(plan, slots)
    finally:  # also when the study is stopped
        if given.save:
            keep_results(planned, given.save)
    failed |= _probe(probe_jobs(given, requests, finished(planned, given.save)), slots)
    files = []
    for benchmark, own in of_benchmark.items():
        runs = finished(own, given.save)
        report = study.report(given, own, runs)
        report = report._replace(table=_with_legend(given, report.table, len(own) - len(runs), len(own)))
        _print(report.table, given.format)
        files += _save(given, benchmark, report, draw=bool(runs))
    _print_files(files)
    print_failures(failed)
    return 1 if failed else 0


def _unprepared(given: argparse.Namespace, plan: Plan) -> list[str]:
    """Returns a message for each data set that missing runs need and that is not prepared on this machine."""
    changed = dict(pair.split("=", 1) for pair in given.override)
    if not plan.missing or "benchmark.tfds_name" in changed:
        return []
    from ucl_jax.data import tfds_source  # imported late, for TFDS takes a second

    messages = []
    for name in dict.fromkeys(run.benchmark for run in plan.missing):
        try:
            tfds_source.load_builder(BENCHMARKS[name].tfds_name, changed.get("data_dir"))
        except UsageError as error:
            messages.append(str(error))
    return messages


def _slurm(given: argparse.Namespace, plan: Plan) -> int:
    """Writes the script of the missing runs and prints what to do with it; returns the exit code."""
    if not plan.missing:
        print("every run is finished: the same command without --slurm makes the table")
        return 0
    path = given.root / f"reproduce-{given.study}.sh"
    write_atomically(path, slurm_script(f"reproduce-{given.study}", plan.missing, given.jobs))
    print(f"submit it:  sbatch {path}")
    print("then the same command without --slurm runs the probes and makes the table")
    return 0


@cli.returns_exit_code
def main(argv: Sequence[str]) -> int:
    """Carries out the command and returns its exit code."""
    given = parse(argv)
    try:
        return reproduce(given)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}; take another --root") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
