"""Hurts runs as machines and people do, and counts what holds.

Machines flip bits, send SIGKILL, and have disks that are full or cannot be written to. People give wrong settings.

    python -m tests.torture [--kills=5] [--recipes=lump,pnn,gss,si] [--process_kills=5] [--flips=60] [--fills=4]
        [--overrides=2000] [--write]

Recipes are shrunk (tests/tiny.py). Full and read-only disks are real ones, small tmpfs, which take the right to mount.
The exit code is 0 when everything held. --write puts the counts into docs/reliability.md.
"""

import contextlib
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from tests import hostile, quick, tiny
from ucl_jax import cli
from ucl_jax.errors import UsageError
from ucl_jax.files import write_atomically
from ucl_jax.interop import torch_weights
from ucl_jax.results.tables import Table, make_frame, render
from ucl_jax.training import parallel
from ucl_jax.training.build import make_experiment
from ucl_jax.training.checkpoint import Checkpoints, Networks, numbers
from ucl_jax.training.provenance import commit, device_name

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reliability.md"
MARKED = re.compile(r"(?<=<!-- torture -->\n).*?(?=<!-- end -->)", re.DOTALL)
# These entries of a result differ between two runs of the same config.
TIMES = ("seconds", "images_per_second", "command")
LATE = "Event loop is closed"
SIZES = {"train__epochs": 12, "benchmark__num_tasks": 2}  # 60 steps a task
LIMIT = 300  # seconds; a process that takes longer counts as hung
LABELLED = ("gss",)  # recipes that are run with the supervised objective, as in the paper


class Count(NamedTuple):
    """Counts how often something was tried and how often it held, and lists the failures."""

    what: str
    tried: int
    held: int
    failures: tuple[str, ...] = ()


def recipe_of(name: str) -> str:
    """Returns the value of --config for a recipe."""
    return f"configs/{name}.py:digits" + (",supervised" if name in LABELLED else "")


class Process:
    """Runs a recipe in a process of its own, with one device. Its output goes to `log`, outside its folder."""

    def __init__(self, recipe: str, workdir: pathlib.Path, log: pathlib.Path, flags: Sequence[str] = (), **sizes):
        self.workdir, self._log = workdir, log
        command = [sys.executable, "launch.py", f"--config={recipe_of(recipe)}", f"--workdir={workdir}"]
        environment = os.environ | {"XLA_FLAGS": quick.XLA_FLAGS, "JAX_PLATFORMS": "cpu"}
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [*command, *tiny.flags(**sizes), *flags],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )

    def wait(self) -> int | None:
        """Returns the exit code; kills a process that takes longer than LIMIT, and returns None."""
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> bool:
        """Sends SIGKILL; returns whether the process was still running."""
        self.process.kill()
        return self.process.wait() == -signal.SIGKILL

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Waits until the condition is true; returns False if the process ended or hung before."""
        deadline = time.monotonic() + LIMIT
        while self.process.poll() is None and time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.002)
        return False

    @property
    def lines(self) -> list[str]:
        """The lines that the process has printed on stderr."""
        return self._log.read_text(errors="replace").strip().splitlines()

    def refused(self, saving: bool = False) -> str:
        """Returns "" if the process ends with exit code 2 and one clear last line, else what it did instead.

        A run that is stopped while `saving` may also print tracebacks of Orbax's threads (LATE), see
        docs/reliability.md.
        """
        code, lines = self.wait(), self.lines
        if code != 2:
            return f"exit code {code}: {lines[-1:]}"
        if not saving:
            clear = lines and lines[-1].startswith("error: ") and "Traceback" not in "".join(lines)
            return "" if clear else f"no clear line: {lines[-3:]}"
        raised = [line for line in lines if re.match(r"\w+(Error|Exception)\b", line) and LATE not in line]
        if sum(line.startswith("error: ") for line in lines) != 1 or raised:
            return f"no clear line: {raised[-1:] or lines[-3:]}"
        return ""


def steps_recorded(workdir: pathlib.Path) -> int:
    """Returns the last step in metrics.jsonl, 0 if there is none."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def like(recipe: str, **sizes):
    """Returns the shapes of a recipe's training state on one device, as restoring a checkpoint needs them."""
    objective = ",supervised" if recipe in LABELLED else ""
    experiment = make_experiment(tiny.config(recipe, f"digits{objective}", **sizes), parallel.AXIS, "cpu")
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(experiment.init)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)


def outcome(workdir: pathlib.Path, state) -> dict:
    """Returns all that a finished run leaves, except times."""
    results = json.loads((workdir / "results.json").read_text())
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    with Checkpoints(workdir / "checkpoints", keep=2) as checkpoints:
        restored, progress = checkpoints.restore(state)
    networks = Networks(workdir / "networks")
    arrays = [restored, *(networks.load(n, state.network) for n in networks.afters())]
    return {
        "results.json": {key: value for key, value in results.items() if key not in TIMES},
        "metrics.jsonl": [{key: value for key, value in e.items() if key not in TIMES} for e in entries],
        "progress": progress["rows"],
        "arrays": [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(arrays))],
    }


def difference(ours: dict, theirs: dict) -> str:
    """Says in which part two outcomes differ; returns "" if they are equal."""
    for key in ("results.json", "metrics.jsonl", "progress"):
        if ours[key] != theirs[key]:
            return f"another {key}"
    pairs = zip(ours["arrays"], theirs["arrays"], strict=True)
    return "" if all(np.array_equal(a, b) for a, b in pairs) else "other arrays"


def undisturbed(recipe: str, folder: pathlib.Path, **sizes) -> pathlib.Path:
    """Runs a recipe to its end without disturbance; returns its folder."""
    process = Process(recipe, folder / f"{recipe}-undisturbed", folder / "log", **sizes)
    if process.wait() != 0:
        raise UsageError(f"the undisturbed run of {recipe} failed: {process.lines[-1:]}")
    return process.workdir


def flip(path: pathlib.Path, place: int, bit: int) -> None:
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def flips(run: pathlib.Path, recipe: str, count: int, rng: np.random.Generator, **sizes) -> list[Count]:
    """Flips single bits in the newest checkpoint and in the last network of a run, and puts each right again.

    Every other flip is anywhere in a file chosen at random, the rest anywhere in all bytes.

    It holds if restoring warns and takes the checkpoint before the newest, to the bit, and if loading the network is
    refused.
    """
    state = like(recipe, **sizes)
    checkpoints, networks = run / "checkpoints", Networks(run / "networks")
    newest, before = sorted((int(path.name) for path in checkpoints.iterdir()), reverse=True)[:2]
    shutil.move(checkpoints / str(newest), run / "newest")
    with Checkpoints(checkpoints, keep=2) as those:
        expected, _ = those.restore(state)
    shutil.move(run / "newest", checkpoints / str(newest))

    def of_checkpoint() -> str:
        told = []
        with Checkpoints(checkpoints, keep=2) as those:
            restored, _ = those.restore(state, told.append)
        same = jax.tree.all(jax.tree.map(np.array_equal, jax.device_get(restored), jax.device_get(expected)))
        named = len(told) == 1 and str(checkpoints / str(newest)) in told[0]
        return "" if same and named and int(restored.step) == before else "loaded"

    def of_network() -> str:
        with contextlib.suppress(UsageError):
            networks.load(networks.afters()[-1], state.network)
            return "loaded"
        return ""

    def tried(what, folder, check):
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
        sizes_of = np.array([path.stat().st_size for path in files], float)
        failures = []
        for number in range(count):
            path = files[rng.choice(len(files), p=None if number % 2 else sizes_of / sizes_of.sum())]
            place, bit = int(rng.integers(path.stat().st_size)), int(rng.integers(8))
            flip(path, place, bit)
            if failure := check():
                failures.append(f"bit {bit} of byte {place} of {path.relative_to(folder)}: {failure}")
            flip(path, place, bit)
        return Count(what, count, count - len(failures), tuple(failures))

    last = run / "networks" / str(networks.afters()[-1])
    return [
        tried("a bit flipped in the newest checkpoint", checkpoints / str(newest), of_checkpoint),
        tried("a bit flipped in a network", last, of_network),
    ]


def kills(recipe: str, folder: pathlib.Path, expected: dict, count: int, rng: np.random.Generator, **sizes) -> Count:
    """Kills one run `count` times, at random moments; starts it again each time, and in the end lets it finish.

    A moment is a step further than where the process began, plus a fraction of a second, so that the run makes
    progress.

    It holds if all that the run leaves equals the undisturbed run's, arrays to the bit.
    """
    workdir, log, total = folder / f"{recipe}-killed", folder / "log", expected["metrics.jsonl"][-1]["step"]
    done, failures, began = 0, [], 0
    while done < count:
        if (workdir / "results.json").exists() and json.loads((workdir / "results.json").read_text())["finished"]:
            shutil.rmtree(workdir)  # it had finished, too late to kill: begin again
            began = 0
        # The rest of the run is shared among the kills that are left.
        target = began + int(rng.integers(1, max((total - began) // (count - done + 1), 2)))
        process = Process(recipe, workdir, log, **sizes)
        process.wait_for(lambda target=target: steps_recorded(workdir) >= target)
        time.sleep(rng.uniform(0, 0.3))  # anywhere in a step, a save, an evaluation
        if process.kill():
            done, began = done + 1, steps_recorded(workdir)
        elif process.process.returncode != 0:
            failures.append(f"exit code {process.process.returncode}: {process.lines[-1:]}")
            break
    process = Process(recipe, workdir, log, **sizes)
    if (code := process.wait()) != 0:
        failures.append(f"exit code {code}: {process.lines[-1:]}")
    if not failures and (differing := difference(outcome(workdir, like(recipe, **sizes)), expected)):
        failures.append(f"{recipe}: {differing}")
    return Count(f"{recipe}: SIGKILL at a random moment", done, 0 if failures else done, tuple(failures))


def together(recipe: str, workdir: pathlib.Path, folder: pathlib.Path, **sizes) -> list[Process]:
    """Starts two processes that carry out one run."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        address = f"localhost:{found.getsockname()[1]}"
    flags = ["--distributed", f"--coordinator_address={address}", "--num_processes=2"]
    return [
        Process(recipe, workdir, folder / f"log{number}", [*flags, f"--process_id={number}"], **sizes)
        for number in range(2)
    ]


def process_kills(recipe: str, folder: pathlib.Path, count: int, rng: np.random.Generator, **sizes) -> Count:
    """Kills one process of a run of two, or sends it SIGTERM, at random moments; and starts both again each time.

    A kill holds if the other process ends within a minute; where process 1 was killed, with exit code 1 and one line
    that names it. SIGTERM holds if both end with exit code 143. The last run holds if all that it leaves equals what
    the undisturbed run of two processes leaves, arrays to the bit.
    """
    calm, workdir, failures = folder / "calm", folder / "disturbed", []
    if codes := [code for code in [process.wait() for process in together(recipe, calm, folder, **sizes)] if code]:
        raise UsageError(f"the undisturbed run of two processes failed: {codes}")
    expected = outcome(calm, like(recipe, **sizes))
    total = expected["metrics.jsonl"][-1]["step"]
    for number in range(count):
        if (workdir / "results.json").exists() and json.loads((workdir / "results.json").read_text())["finished"]:
            shutil.rmtree(workdir)
        began = steps_recorded(workdir)
        # A third of the signals come while the processes start; the rest of the run is shared among the others.
        target = began + int(rng.integers(0, max((total - began) // (count - number + 1), 2))) * int(
            rng.integers(3) > 0
        )
        processes = together(recipe, workdir, folder, **sizes)
        processes[0].wait_for(lambda target=target: steps_recorded(workdir) >= target)
        time.sleep(rng.uniform(0, 10 if target == began else 0.3))
        who, signum = int(rng.integers(2)), [signal.SIGKILL, signal.SIGTERM][int(rng.integers(4) == 0)]
        late = processes[who].process.poll() is not None
        met = any(line.startswith(("task 1 ", "resuming ")) for line in processes[0].lines)
        processes[who].process.send_signal(signum)
        sent = time.monotonic()
        hangs = any([process.wait_for(lambda sent=sent: time.monotonic() - sent > 60) for process in processes])
        for process in processes:
            process.kill()
        codes = [process.process.returncode for process in processes]
        told = [line for line in processes[0].lines if line.startswith("error: ")]
        named = codes[0] == 1 and len(told) == 1 and "process 1 of 2" in told[0]
        # Process 0 may have had nothing left to do when it lost process 1.
        ended = codes == [143, 143] if signum == signal.SIGTERM else who == 0 or codes[0] == 0 or named
        # Processes that had not met wait for each other as long as at any start, which is no hang. Both may have been
        # about to end.
        if met and not late and codes != [0, 0] and (hangs or not ended):
            failures.append(f"{signal.Signals(signum).name} to {who} after step {began}: exit codes {codes}, {told}")
    codes = [process.wait() for process in together(recipe, workdir, folder, **sizes)]
    differing = f"exit codes {codes}" if any(codes) else difference(outcome(workdir, like(recipe, **sizes)), expected)
    failures += [f"the last run: {differing}"] if differing else []
    what = f"{recipe}: SIGKILL or SIGTERM to one of two processes"
    return Count(what, count, count - len(failures), tuple(failures))


def first_save_kills(recipe: str, folder: pathlib.Path, count: int, **sizes) -> Count:
    """Kills runs that begin with official weights (`init_from`) while they save for the first time.

    It holds if the run that is started again by the same command begins with the weights too: it ends as the
    undisturbed run.
    """
    import torch  # imported late, because other tests use this module without it

    weights = folder / "official.pth"
    fresh = jax.device_get(make_experiment(tiny.config(recipe, **sizes), None, "cpu").init().network)
    moved = fresh._replace(params=jax.tree.map(lambda x: x + np.float32(0.01), fresh.params))
    official = torch_weights.to_official(moved)
    torch.save({"state_dict": {name: torch.from_numpy(array.copy()) for name, array in official.items()}}, weights)
    sizes["init_from"] = str(weights)
    (folder / "from-weights").mkdir()
    expected = outcome(undisturbed(recipe, folder / "from-weights", **sizes), like(recipe, **sizes))
    done, failures = 0, []
    while done < count:
        workdir = folder / f"{recipe}-first-save-{done}"
        process = Process(recipe, workdir, folder / "log", **sizes)
        process.wait_for(lambda place=workdir / "checkpoints": any(place.glob(".*.new*")))
        process.kill()
        if numbers(workdir / "checkpoints"):
            shutil.rmtree(workdir)  # the save had just ended: try again
            continue
        done += 1
        again = Process(recipe, workdir, folder / "log", **sizes)
        if (code := again.wait()) != 0:
            failures.append(f"exit code {code}: {again.lines[-1:]}")
        elif differing := difference(outcome(workdir, like(recipe, **sizes)), expected):
            failures.append(differing)
    return Count(f"{recipe} with init_from: SIGKILL in the first save", done, done - len(failures), tuple(failures))


def hostile_overrides(count: int, seed: int) -> Count:
    """Gives launch.py overrides drawn at random.

    It holds if each is refused by one line that names its key and exit code 2, or accepted and sensible.
    """
    judged = [(override, hostile.judge(override)[0]) for override in hostile.draw(count, seed)]
    failures = tuple(f"{override}: {failure}" for override, failure in judged if failure)
    return Count("a setting drawn at random", count, count - len(failures), failures)


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size: int) -> Iterator[pathlib.Path]:
    """Mounts a real file system of `size` bytes at `folder` for the length of the context.

    Raises:
      PermissionError: this process may not mount.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        raise PermissionError(f"cannot mount a tmpfs at {folder}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: pathlib.Path, free: int) -> pathlib.Path:
    """Fills a disk up to `free` bytes; returns the file that takes the room."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while (left := shutil.disk_usage(folder).free - free) > 0:
            with contextlib.suppress(OSError):
                file.write(bytes(min(left, 1 << 16)))
    return ballast


def full_disk(recipe: str, folder: pathlib.Path, expected: dict, fills: Sequence[tuple[int, int]], **sizes) -> Count:
    """Fills the disk that a run writes to: at each step of `fills` (step, bytes left), until so many bytes are left.

    Then it makes room again and lets the run go on.

    It holds if the run ends with exit code 2 and one line and, once there is room, goes on to the undisturbed outcome.
    """
    failures = []
    for step, free in fills:
        with small_disk(folder / "disk", 32 << 20) as disk:
            workdir, log = disk / "run", folder / "log"
            process = Process(recipe, workdir, log, **sizes)
            if not process.wait_for(lambda step=step, workdir=workdir: steps_recorded(workdir) >= step):
                failures.append(f"exit code {process.wait()} before the disk was full: {process.lines[-1:]}")
                continue
            ballast = fill(disk, free)
            failure = process.refused(saving=True)
            ballast.unlink()
            if not failure:
                process = Process(recipe, workdir, log, **sizes)
                if (code := process.wait()) != 0:
                    failure = f"exit code {code} once there was room: {process.lines[-1:]}"
            failure = failure or difference(outcome(workdir, like(recipe, **sizes)), expected)
            failures += [f"{recipe}, full at step {step} up to {free} bytes: {failure}"] if failure else []
    return Count("a disk that fills up during a run", len(fills), len(fills) - len(failures), tuple(failures))


def no_room(recipe: str, folder: pathlib.Path, **sizes) -> Count:
    """Starts a run on a disk that is too small for it.

    It holds if the run is refused before training, by exit code 2 and one line with the space needed, and leaves no
    file.
    """
    with small_disk(folder / "disk", 1 << 20) as disk:
        process = Process(recipe, disk / "run", folder / "log", **sizes)
        failure = process.refused() or ("" if len(process.lines) == 1 else f"more than a line: {process.lines}")
        failure = failure or ("files are left" if list(disk.iterdir()) else "")
    return Count("a disk without room", 1, int(not failure), (failure,) if failure else ())


def read_only(recipe: str, folder: pathlib.Path, expected: dict, **sizes) -> list[Count]:
    """Starts a new run, and a run that was killed before, on a disk that cannot be written to.

    It holds if both are refused, by exit code 2 and one line, and if the killed run, once it can write, goes on to the
    undisturbed outcome.
    """
    counts = []
    with small_disk(folder / "disk", 32 << 20) as disk:

        def remount(how):
            subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)

        for what in ("new", "killed"):
            workdir, log = disk / "run", folder / "log"
            if what == "killed":
                process = Process(recipe, workdir, log, **sizes)
                process.wait_for(lambda workdir=workdir: steps_recorded(workdir) >= 13)
                process.kill()
            remount("ro")
            process = Process(recipe, workdir, log, **sizes)
            failure = process.refused() or ("" if len(process.lines) == 1 else f"more than a line: {process.lines}")
            remount("rw")
            if what == "killed" and not failure:
                process = Process(recipe, workdir, log, **sizes)
                if (code := process.wait()) != 0:
                    failure = f"exit code {code} when it could be written to again: {process.lines[-1:]}"
                failure = failure or difference(outcome(workdir, like(recipe, **sizes)), expected)
            what = f"a disk that cannot be written to, {what} run"
            counts.append(Count(what, 1, int(not failure), (failure,) if failure else ()))
    return counts


WAYS = {"2>&1 | head -n 1": "head", "2>&-": "closed", ">/dev/full 2>&1": "full"}


def unread_output(recipe: str, folder: pathlib.Path, expected: dict, ways: dict[str, str] = WAYS, **sizes) -> Count:
    """Runs a recipe whose output nobody reads, once for each shell redirection in `ways` (redirection -> folder name).

    It holds if the exit code is 0 and the outcome equals the undisturbed run's.
    """
    failures = []
    for way, name in ways.items():
        workdir = folder / f"{recipe}-{name}"
        flags = " ".join([f"--config={recipe_of(recipe)}", f"--workdir={workdir}", *tiny.flags(**sizes)])
        redirected, _, rest = way.partition(" |")
        shell = f"set -o pipefail; {sys.executable} launch.py {flags} {redirected}" + (f" |{rest}" if rest else "")
        done = subprocess.run(
            ["bash", "-c", shell],
            cwd=ROOT,
            env=os.environ | {"XLA_FLAGS": quick.XLA_FLAGS, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=LIMIT,
        )
        if done.returncode != 0:
            failures.append(f"{way}: exit code {done.returncode}")
        elif differing := difference(outcome(workdir, like(recipe, **sizes)), expected):
            failures.append(f"{way}: {differing}")
    return Count("output that nobody reads", len(ways), len(ways) - len(failures), tuple(failures))


def table(counts: Sequence[Count]) -> str:
    """Renders the counts as a Markdown table."""
    rows = [["what happens", "tried", "held"], *([c.what, str(c.tried), str(c.held)] for c in counts)]
    return render(Table("", make_frame(rows[0], rows[1:])), "markdown")


def torture(given, folder: pathlib.Path) -> list[Count]:
    """Runs everything that the command line asks for, and prints each count at once."""
    rng = np.random.default_rng(given.seed)
    recipes = given.recipes.split(",")
    counts: list[Count] = []

    def tell(*more: Count) -> None:
        for count in more:
            print(f"{count.what}: {count.held} of {count.tried} held", flush=True)
            for failure in count.failures:
                print(f"  {failure}", flush=True)
        counts.extend(more)

    if given.overrides:
        tell(hostile_overrides(given.overrides, given.seed))
    for recipe in recipes:
        run = undisturbed(recipe, folder, **SIZES)
        expected = outcome(run, like(recipe, **SIZES))
        if given.kills:
            tell(kills(recipe, folder, expected, given.kills, rng, **SIZES))
        if recipe == recipes[0]:
            if given.kills:
                tell(first_save_kills(recipe, folder, given.kills, **SIZES))
            if given.process_kills:
                tell(process_kills(recipe, folder, given.process_kills, rng, **SIZES))
            if given.flips:
                tell(*flips(run, recipe, given.flips, rng, **SIZES))
            tell(unread_output(recipe, folder, expected, **SIZES))
            # Every other moment leaves no byte, not enough for a line of metrics.jsonl; the others leave room for a
            # part of a checkpoint.
            moments = [(int(rng.integers(1, 119)), int(rng.integers(0, 400_000)) * (n % 2)) for n in range(given.fills)]
            try:
                tell(no_room(recipe, folder, **SIZES))
                tell(full_disk(recipe, folder, expected, moments, **SIZES))
                tell(*read_only(recipe, folder, expected, **SIZES))
            except PermissionError as error:
                print(f"left out: full and read-only disks: {error}", flush=True)
    return counts


@cli.returns_exit_code
def main(argv: Sequence[str]) -> int:
    """Runs everything and prints the table."""
    parser = cli.Parser(prog="python -m tests.torture", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=5, help="SIGKILLs for each recipe")
    parser.add_argument("--process_kills", type=int, default=5, help="signals to one of two processes of a run")
    parser.add_argument("--recipes", default="lump,pnn,gss,si", help="the first one is also what disks are tried with")
    parser.add_argument("--flips", type=int, default=60, help="single bits, in a checkpoint and in a network each")
    parser.add_argument("--fills", type=int, default=4, help="how often a disk is filled during a run")
    parser.add_argument("--overrides", type=int, default=2000, help="settings drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--write", action="store_true", help=f"put the counts into {PAGE.relative_to(ROOT)}")
    given = parser.parse_args(argv)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        counts = torture(given, pathlib.Path(folder))
    note = (
        f"`python -m tests.torture {' '.join(argv)}`".replace(" `", "`")
        + f" on {datetime.date.today()}, {(time.monotonic() - began) / 60:.0f} min, {device_name(jax.devices()[:1])}, "
        f"commit {commit()}."
    )
    text = f"{table(counts)}\n\n{note}\n"
    print(f"\n{text}", end="")
    if given.write:
        write_atomically(PAGE, MARKED.sub(lambda _: text, PAGE.read_text()))
    return int(any(count.held < count.tried for count in counts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
