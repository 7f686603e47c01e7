"""Processes, each in a folder of its own: places for them on this machine, and running them there.

Nothing here imports JAX: the processes have the devices to themselves.
"""

import fcntl
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import ucl_jax
from ucl_jax.cli import StopRequest
from ucl_jax.errors import Stopped

LAUNCH = pathlib.Path(ucl_jax.__file__).parent.parent / "launch.py"
POLL = 0.05  # seconds between two looks at the processes


class Slot(NamedTuple):
    """Where a process runs: what its environment has more, and its CPU cores (None: all)."""

    environment: dict[str, str]
    cores: tuple[int, ...] | None = None


def gpus() -> list[str]:
    """Returns the NVIDIA GPUs that a process here may use, found without JAX."""
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return []
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [word for word in given.split(",") if word and not word.startswith("-")]
    found = [path.name.removeprefix("nvidia") for path in pathlib.Path("/dev").glob("nvidia[0-9]*")]
    return sorted(found, key=lambda word: (len(word), word))


def make_slots(jobs: int | None = None) -> list[Slot]:
    """Places for `jobs` processes: each has one GPU, or without one its share of the CPU cores.

    None is one a device: a GPU, else a core. A process with one core computes in one thread; one alone on a machine
    without GPU has all of it.
    """
    devices = gpus()
    if devices:
        jobs = jobs or len(devices)
        sharing = -(-jobs // len(devices))
        memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / sharing:.2f}"} if sharing > 1 else {}
        return [Slot({"CUDA_VISIBLE_DEVICES": devices[place % len(devices)], **memory}) for place in range(jobs)]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    jobs = jobs or len(cores)
    if jobs == 1:
        return [Slot({})]
    shares = [tuple(cores[place::jobs]) or (cores[place % len(cores)],) for place in range(jobs)]
    one = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()}
    return [Slot(one if len(share) == 1 else {}, share) for share in shares]


class Job(NamedTuple):
    """A process to run: its name in messages, the folder that nobody else may work in, and its output's name there."""

    name: str
    folder: pathlib.Path
    command: tuple[str, ...]
    output: str = "output.txt"

    @property
    def log(self) -> pathlib.Path:
        """What it prints, below its command."""
        return self.folder / self.output

    def last_line(self) -> str:
        """Returns the last line of what it printed."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines()[1:] if line.strip()]
        return lines[-1] if lines else "it printed nothing"


def run_jobs(jobs: Sequence[Job], slots: Sequence[Slot], ended: Callable[[Job, int], None]) -> None:
    """Runs all jobs in order, one in a slot at a time, and calls `ended` with the exit code of each.

    One starts once nobody holds its folder's lock, such as a run that is still saving itself after its parent was
    killed. All processes end with this one: they get SIGTERM, upon which runs save themselves.

    Raises:
      Stopped: SIGINT, SIGTERM or SIGHUP came; every process has ended by then.
    """
    waiting, free, told = list(jobs), list(slots), set()
    running: dict[subprocess.Popen, tuple[Job, Slot]] = {}
    with StopRequest() as stop:
        try:
            while (waiting or running) and stop.signum is None:
                for process in [process for process in running if process.poll() is not None]:
                    job, slot = running.pop(process)
                    free.append(slot)
                    ended(job, process.returncode)
                busy = {job.folder for job, _ in running.values()}
                for job in list(waiting):
                    if not free:
                        break
                    if job.folder in busy:
                        continue
                    if _locked(job.folder):
                        if job.folder not in told:
                            print(f"{job.name} waits for another process in {job.folder}", flush=True)
                        told.add(job.folder)
                        continue
                    waiting.remove(job)
                    busy.add(job.folder)
                    slot = free.pop(0)
                    running[_start(job, slot)] = job, slot
                time.sleep(POLL)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()
    if stop.signum is not None:
        name = signal.Signals(stop.signum).name
        raise Stopped(f"stopped by {name}; what was running is saved, the same command goes on", stop.signum)


# What a new process does before it becomes the job: it dies with its parent (after saving, by SIGTERM) and keeps to its
# cores. Not a `preexec_fn`, which forks: that is unsafe in a process that has JAX.
PREPARE = """
import ctypes, os, signal, sys
parent, cores, *command = sys.argv[1:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):
        os._exit(1)
if cores and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, map(int, cores.split(",")))
os.execvp(command[0], command)
"""


def _start(job: Job, slot: Slot) -> subprocess.Popen:
    job.folder.mkdir(parents=True, exist_ok=True)
    cores = ",".join(map(str, sorted(slot.cores or ())))
    with job.log.open("w") as output:
        print(f"$ {shlex.join(job.command)}", file=output, flush=True)
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PREPARE, str(os.getpid()), cores, *job.command],
            cwd=LAUNCH.parent,
            env=os.environ | slot.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,  # Ctrl-C reaches this process only: a second signal would end a run before it is saved
        )


def _locked(folder: pathlib.Path) -> bool:
    """Tells whether a process is training in a folder, see `training.run.claim`."""
    if not (folder / "lock").exists():
        return False
    with (folder / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
