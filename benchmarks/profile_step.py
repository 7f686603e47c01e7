"""Traces some training steps of LUMP by jax.profiler, and lists the operations that take most time.

    python -m benchmarks.profile_step --out=runs/profile --steps=10 --dtype=bfloat16     # the paper's size
    python -m benchmarks.profile_step --out=runs/profile --read                          # only the table, again

OUT/plugins/profile/TIME holds the trace: *.xplane.pb for TensorBoard or XProf, *.trace.json.gz for Perfetto. Times are
summed over the threads or streams of the device, so that their total may be more than the wall time of the steps.
"""

import argparse
import collections
import gzip
import json
import pathlib
import re
import sys

from benchmarks import measure, step
from ucl_jax.cli import Parser, returns_exit_code
from ucl_jax.errors import UsageError, require, user_choice
from ucl_jax.results.tables import Table, make_frame, render

UNTIMED = 2  # steps before the trace: the first one compiles


def record(config, folder: pathlib.Path, steps: int) -> float:
    """Writes a trace of some steps of the real training loop into a folder; returns the seconds a step meanwhile."""
    import jax

    loop = measure.Loop(config, step.IMAGES)
    loop.steps(UNTIMED)
    with jax.profiler.trace(str(folder)):
        return loop.steps(steps)


def read(folder: pathlib.Path) -> list[dict]:
    """Returns the events of the latest trace in a folder.

    Raises:
      UsageError: there is no trace, or it is damaged.
    """
    found = sorted(folder.glob("plugins/profile/*/*.trace.json.gz"))
    require(bool(found), f"--out: there is no trace in {folder}")
    try:
        return json.loads(gzip.decompress(found[-1].read_bytes()))["traceEvents"]
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise UsageError(f"{found[-1]} is damaged: {error}") from None


def operations(events: list[dict]) -> dict[str, tuple[float, int]]:
    """Returns the seconds and calls of each kind of operation, the longest first.

    A kind is a name without its number: "fusion.12" and "fusion.7.clone" are "fusion". The steps, modules and scopes in
    a device's trace, which contain operations, do not count. The time of an operation does not include that of the
    operations within it on the same thread, such as those in a loop.

    Args:
      events: the events of a Chrome trace; `ts` and `dur` are in microseconds.
    """
    threads = {(e["pid"], e.get("tid")): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    streams = {thread for thread, name in threads.items() if name.startswith("Stream")}
    ours = collections.defaultdict(list)
    for event in events:
        thread = event.get("pid"), event.get("tid")
        if event.get("ph") == "X" and (thread in streams if streams else "hlo_op" in event.get("args", {})):
            ours[thread].append(event)
    seconds, calls = collections.Counter(), collections.Counter()
    for events_of in ours.values():
        inside = []  # the operations that contain the present one: kind and end
        for event in sorted(events_of, key=lambda e: (e["ts"], -e["dur"])):
            while inside and inside[-1][1] <= event["ts"]:
                inside.pop()
            name = kind(event["args"].get("hlo_op", event["name"]) if "args" in event else event["name"])
            seconds[name] += event["dur"]
            calls[name] += 1
            if inside:
                seconds[inside[-1][0]] -= event["dur"]
            inside.append((name, event["ts"] + event["dur"]))
    return {name: (micro / 1e6, calls[name]) for name, micro in seconds.most_common()}


def kind(name: str) -> str:
    """Returns the name of an operation without its number: "loop_add_fusion.3.clone" -> "loop_add_fusion"."""
    return re.sub(r"(\.(\d+|clone|remat\d*))+$|_\d+$", "", name)


def table(found: dict[str, tuple[float, int]], steps: int, top: int) -> str:
    """Returns the `top` longest kinds as text, with time and calls for a step."""
    total = sum(seconds for seconds, _ in found.values())
    columns, rows = ["operation", "ms a step", "share", "calls a step"], []
    for name, (seconds, calls) in list(found.items())[:top]:
        rows.append([name, f"{1e3 * seconds / steps:.3f}", f"{100 * seconds / total:.1f} %", f"{calls / steps:.4g}"])
    rest = [seconds for seconds, _ in list(found.values())[top:]]
    if rest:
        rows.append([f"{len(rest)} others", f"{1e3 * sum(rest) / steps:.3f}", f"{100 * sum(rest) / total:.1f} %", "-"])
    return render(Table("", make_frame(columns, rows)))


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses and checks the command line; raises UsageError."""
    parser = Parser(prog="python -m benchmarks.profile_step", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the folder of the trace")
    parser.add_argument("--size", default="paper", help="paper, demo")
    parser.add_argument("--steps", type=int, default=10, help="that are traced")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="of the config tree")
    parser.add_argument("--top", type=int, default=30, help="lines of the table")
    parser.add_argument("--read", action="store_true", help="read the trace that is there; --steps as it was made")
    given = parser.parse_args(argv)
    require(given.steps >= 1, f"--steps is {given.steps}; it must be at least 1")
    require(given.top >= 1, f"--top is {given.top}; it must be at least 1")
    user_choice("--dtype", given.dtype, step.DTYPES)
    given.config = step.get_config(given.size, [*given.override, f"model.dtype={given.dtype}"])
    return given


@returns_exit_code
def main(argv: list[str]) -> int:
    """Writes a trace, unless --read is given, and prints the table of the latest one."""
    given = parse(argv)
    if not given.read:
        seconds = record(given.config, given.out, given.steps)
        told = " ".join(f"{key} {value};" for key, value in measure.where().items())
        print(f"{1e3 * seconds:.3f} ms a step while traced; {given.size}, {given.dtype}; {told}")
    found = operations(read(given.out))
    require(bool(found), f"the trace in {given.out} holds no operation of a device")
    print(table(found, given.steps, given.top))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
