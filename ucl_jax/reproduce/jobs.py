"""Runs processes, each in a folder of its own, on the GPUs or CPU cores of this machine.

JAX is not imported here, so that the processes have the devices to themselves.
"""

import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ucl_jax.cli import StopRequest
from ucl_jax.errors import Stopped
from ucl_jax.files import locked

POLL = 0.05  # seconds between two checks of the processes


class Slot(NamedTuple):
    """A place for one process at a time.

    Attributes:
      environment: variables that the process gets in addition.
      cores: the CPU cores that it may use; None for all.
    """

    environment: dict[str, str]
    cores: tuple[int, ...] | None = None


def gpus() -> list[str]:
    """Returns the NVIDIA GPUs that a process here may use, as CUDA_VISIBLE_DEVICES names them; JAX is not asked."""
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return []
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [word for word in given.split(",") if word and not word.startswith("-")]
    found = [path.name.removeprefix("nvidia") for path in pathlib.Path("/dev").glob("nvidia[0-9]*")]
    return sorted(found, key=lambda word: (len(word), word))


def make_slots(jobs: int | None = None) -> list[Slot]:
    """Returns slots for `jobs` processes: each has a GPU or, on a machine without GPU, a share of the CPU cores.

    Args:
      jobs: processes at a time; None for one a GPU or, without GPU, one a core. Several may share a GPU or a core.
        A single process without GPU gets all cores; one with a single core computes in a single thread.
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
    """A process to run.

    Attributes:
      name: its name in messages.
      folder: where it works; no other process may work there at the same time.
      command: the program and its arguments.
      output: the file of the folder that gets what it prints.
    """

    name: str
    folder: pathlib.Path
    command: tuple[str, ...]
    output: str = "output.txt"

    @property
    def log(self) -> pathlib.Path:
        """Returns the path of the file that has its command and, below, what it prints."""
        return self.folder / self.output

    def last_line(self) -> str:
        """Returns the last line that it printed."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines()[1:] if line.strip()]
        return lines[-1] if lines else "it printed nothing"


def run_jobs(jobs: Sequence[Job], slots: Sequence[Slot], ended: Callable[[Job, int], None]) -> None:
    """Runs jobs in order, one in a slot at a time.

    A job starts once no other process holds the lock of its folder: a run may still be saving itself after its parent
    was killed. When this process is stopped, the jobs get SIGTERM, upon which runs save themselves.

    Args:
      jobs: what to run.
      slots: where to run it.
      ended: is called with each job and its exit code when it has ended.

    Raises:
      Stopped: SIGINT, SIGTERM or SIGHUP arrived; every job has ended by then.
    """
    waiting, free = list(jobs), list(slots)
    told: set[pathlib.Path] = set()
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
                    if locked(job.folder):
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


# A new process runs this before it becomes the job: it asks for SIGTERM when its parent dies, and keeps to its cores. A
# `preexec_fn` could do the same, but makes Python fork, which is unsafe in a process that has imported JAX.
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
    """Starts a job in a slot."""
    job.folder.mkdir(parents=True, exist_ok=True)
    cores = ",".join(map(str, sorted(slot.cores or ())))
    with job.log.open("w") as output:
        print(f"$ {shlex.join(job.command)}", file=output, flush=True)
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PREPARE, str(os.getpid()), cores, *job.command],
            env=os.environ | slot.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,  # so that Ctrl-C reaches this process alone: a run ends unsaved at a second signal
        )
