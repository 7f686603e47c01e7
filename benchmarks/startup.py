"""Measures the seconds from a command to its first training step, with a cold and a warm cache, and to its help.

python -m benchmarks.startup                                          # writes benchmarks/results/startup.json
python -m benchmarks.startup --config=configs/lump.py --repeats=1     # the paper's size, where cifar10 is prepared

The cache is the folder of compiled programs: it is empty before a cold run, and has the cold run's programs before a
warm one. Both are processes of launch.py as a person starts it, in a folder of their own. The time ends with the first
entry of metrics.jsonl.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks import measure
from benchmarks.measure import RESULTS, ROOT
from ucl_jax import cli
from ucl_jax.errors import UsageError, require

RESULT = RESULTS / "startup.json"
COMMANDS = {
    "launch.py": ["launch.py"],
    **{f"ucl_jax.{name}": ["-m", f"ucl_jax.{name}"] for name in ("probe", "report", "reproduce", "convert")},
}
LIMIT = 600.0  # seconds that a first step may take
HELPS = 3  # times that each command prints its help


def first_step(config: str, cache: pathlib.Path, overrides: list[str]) -> float:
    """Returns the seconds from starting launch.py to its first entry of metrics.jsonl; the process is then killed.

    Args:
      config: the value of --config.
      cache: the folder of compiled programs.
      overrides: further arguments, --config.KEY=VALUE.

    Raises:
      UsageError: it ended before, or took longer than LIMIT.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as told:
        workdir = pathlib.Path(folder, "run")
        began = time.perf_counter()
        child = measure.start_run(config, workdir, [f"--config.compilation_cache={cache}", *overrides], told)
        try:
            while not measure.has_step(workdir):
                spent = time.perf_counter() - began
                if child.poll() is not None or spent > LIMIT:
                    told.seek(0)
                    lines = told.read().splitlines() or [f"exit code {child.returncode}"]
                    raise UsageError(f"launch.py showed no step: {lines[-1].removeprefix('error: ')}")
                time.sleep(0.005)
            return time.perf_counter() - began
        finally:
            child.kill()  # SIGTERM would make it save first
            child.wait()


def help_time(arguments: list[str]) -> float:
    """Returns the seconds of a Python process with these arguments and --help."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments, "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def measure_first_step(config: str, repeats: int, overrides: list[str]) -> dict:
    """Measures cold and warm runs in turns; returns their seconds, and the number of programs in the cache."""
    seconds = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats):
            cache = pathlib.Path(folder, str(number))
            for name, values in seconds.items():
                values.append(first_step(config, cache, overrides))
                print(f"{config}, {name}: {values[-1]:.1f} s", file=sys.stderr, flush=True)
            programs = sum(1 for file in cache.iterdir() if file.name.endswith("-cache"))
    return {"programs": programs, "seconds": {name: measure.spread(values) for name, values in seconds.items()}}


def table(result: dict) -> str:
    """Returns the result as text: a row for each config and command, with median, least and most."""

    def told(values):
        return f"{values['median']:.2f} ({values['least']:.2f} to {values['most']:.2f})"

    lines = [f"{'seconds to the first step':44} {'cold cache':>26} {'warm cache':>26}"]
    for config, one in result["first_step"].items():
        seconds = one["seconds"]
        lines.append(f"{config:44} {told(seconds['cold']):>26} {told(seconds['warm']):>26}")
    lines += ["", "seconds to --help"]
    lines += [f"{name:44} {told(values):>26}" for name, values in result["help"].items()]
    return "\n".join(lines)


@cli.returns_exit_code
def main(argv: list[str]) -> int:
    """Measures and prints a table; the file keeps the first steps of other configs."""
    parser = cli.Parser(
        prog="python -m benchmarks.startup",
        description=__doc__.splitlines()[0],
        epilog="Further arguments, --config.KEY=VALUE, go to launch.py.",
    )
    parser.add_argument("--config", default="configs/lump.py:digits", help="a recipe as launch.py takes it")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of a cold and a warm run")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    given, overrides = parser.parse_known_args(argv)
    unknown = [argument for argument in overrides if not argument.startswith("--config.")]
    require(not unknown, f"unknown arguments: {' '.join(unknown)}; see {parser.prog} --help")
    measure.check_out(given.out, RESULT)
    require(given.repeats >= 1, f"--repeats={given.repeats} must be at least 1")
    steps = measure_first_step(given.config, given.repeats, overrides)
    helps = measure.alternate(
        {name: lambda arguments=arguments: help_time(arguments) for name, arguments in COMMANDS.items()}, HELPS
    )
    name = " ".join([given.config, *overrides])
    earlier = json.loads(given.out.read_text())["first_step"] if given.out.exists() else {}
    result = {
        "help": {command: measure.spread(values) for command, values in helps.items()},
        "first_step": earlier | {name: {"repeats": given.repeats, **steps, **measure.where()}},
        **measure.where(),
    }
    measure.save(given.out, result)
    print(json.dumps(result) if given.json else table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
