"""Lets one run work in several processes, on one machine or many: they start, stop and end together.

All processes compute the same steps, each on its own devices. Process 0 alone reads and writes the run folder and shows
progress. In one process, which is what `count` says unless `start` was called, nothing here communicates.
"""

import contextlib
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax._src.distributed import global_state  # the key-value store of JAX's service has no public name
from jax.experimental import multihost_utils

from ucl_jax import cli
from ucl_jax.errors import Stopped, UsageError
from ucl_jax.types import PyTree

HEARTBEAT_SECONDS = 30  # a process that was not heard of for so long is lost
START_SECONDS = 300  # for all processes to come
LEAVING_SECONDS = 20  # for all processes to leave, once all have finished
POLL_SECONDS = 1
ENDED = "ucl_jax/ended"  # the key under which the first process that fails tells why

_leaving = threading.Event()


def start(coordinator_address: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Connects this process with the others. Call it before anything that uses a device.

    Args:
      coordinator_address: "HOST:PORT" of process 0; None lets JAX detect it (Slurm, Open MPI, Cloud TPU, Kubernetes).
      num_processes: the number of processes; None detects it.
      process_id: the number of this process, from 0; None detects it.

    Raises:
      UsageError: something was neither given nor detected, or the processes did not come together in START_SECONDS.
    """
    # With it the loss of a process is told to `_watch`. Without, JAX aborts the others with a stack trace.
    jax.config.update("jax_enable_recoverability", True)
    # JAX aborts with a stack trace when processes do not come. This line is there first.
    late = threading.Timer(START_SECONDS, _exit_with, (2, f"the processes did not come together in {START_SECONDS} s"))
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            initialization_timeout=2 * START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError, IndexError) as error:
        raise UsageError(
            f"--distributed: {_first_line(error).rstrip('.')}; give --coordinator_address=HOST:PORT of process 0, "
            "--num_processes and --process_id, the same but for the last to every process"
        ) from error
    late.cancel()
    # When process 0 is lost, JAX aborts the others. Its message says why; the place in our code does not matter then.
    faulthandler.disable()
    if count() == 1:
        return
    threading.Thread(target=_watch, name="watch", daemon=True).start()


def count() -> int:
    """Returns the number of processes that work together. It touches no device."""
    return global_state.num_processes


def is_main() -> bool:
    """Tells whether this is process 0, which writes files and shows progress."""
    return global_state.process_id == 0


def share(value: Any) -> Any:
    """Returns in every process what process 0 gave: a value of JSON. All processes must call it."""
    if count() == 1:
        return value
    text = json.dumps(value).encode() if is_main() else b""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    content = np.frombuffer(text or bytes(size), np.uint8)
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(content)).tobytes())


def share_arrays(tree: PyTree) -> PyTree:
    """Returns in every process the arrays that process 0 gave, bit by bit. All processes must call it.

    Args:
      tree: arrays. Those of other processes give only shapes and dtypes; `jax.ShapeDtypeStruct` will do.
    """
    if count() == 1:
        return tree

    def share_one(x):
        content = np.asarray(x) if is_main() else np.zeros(x.shape, x.dtype)
        # As bytes, because a sum over processes would lose the sign of a zero.
        content = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        shared = np.asarray(multihost_utils.broadcast_one_to_all(content))
        return shared.view(x.dtype).reshape(x.shape)

    return jax.tree.map(share_one, tree)


def stop_request() -> cli.StopRequest:
    """Returns what tells a run to stop: signals to this process, or to any of several processes."""
    return cli.StopRequest() if count() == 1 else _SharedStopRequest()


class _SharedStopRequest(cli.StopRequest):
    """A stop request that all processes hear of at the same call of `poll`, whichever of them got the signal.

    JAX's preemption service owns SIGTERM, which clusters send before they take a machine away. SIGINT and SIGHUP are
    passed on to it.
    """

    SIGNALS: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGHUP)

    def __init__(self) -> None:
        super().__init__()
        self._polls = 0

    def _request(self, signum, frame):
        super()._request(signum, frame)
        signal.raise_signal(signal.SIGTERM)

    def poll(self) -> int | None:
        """Returns SIGTERM if all processes are to stop now, else None."""
        self._polls += 1
        return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(self._polls) else None


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Ends all processes together, whatever ends the block in one of them.

    If the block ends in every process, by itself or by `Stopped`, they wait for each other. If another exception ends
    it in one process, that process prints it and tells the others, which print it too. All leave with the same exit
    code. This does not return then: work that the devices will never finish would keep the process from leaving.
    """
    if count() == 1:
        yield
        return
    try:
        yield
    except Stopped:
        _leave()
        raise
    except BaseException as error:
        _fail(error)
    _leave()


def _leave() -> None:
    """Waits for the other processes, and then for their leaving, because process 0 serves them."""
    _leaving.set()
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # a process that is lost now had nothing left to do
        multihost_utils.sync_global_devices("leave")
    if is_main():
        until = time.monotonic() + LEAVING_SECONDS
        while len(_alive()) > 1 and time.monotonic() < until:
            time.sleep(0.1)
    jax.distributed.shutdown()


def _fail(error: BaseException) -> None:
    """Ends this process because of an exception, and lets the other processes know why."""
    code = 2 if isinstance(error, UsageError) else 130 if isinstance(error, KeyboardInterrupt) else 1
    if isinstance(error, jax.errors.JaxRuntimeError):
        # It may be that devices cannot reach those of a lost process, which `_watch` will tell.
        time.sleep(HEARTBEAT_SECONDS + 20 * POLL_SECONDS)
    message = {2: str(error), 130: "interrupted"}.get(code) or _first_line(error)
    try:
        content = json.dumps({"process": global_state.process_id, "code": code, "message": message})
        _client().key_value_set(ENDED, content, allow_overwrite=False)
    except Exception:  # another process failed first, or process 0 is lost, which `_watch` tells
        time.sleep(2 * HEARTBEAT_SECONDS)
    if code == 1:
        sys.excepthook(type(error), error, error.__traceback__)
    else:
        cli.report(message)
    if is_main():  # it serves the others, which need a moment to read the message
        time.sleep(5 * POLL_SECONDS)
    _exit(code)


def _first_line(error: BaseException) -> str:
    """Returns the type of an exception and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _client() -> Any:
    return global_state.client


def _alive() -> set[int]:
    """Returns the numbers of the processes that are not lost. It waits until each of them has asked."""
    return set(_client().get_live_nodes(list(range(count()))))


def _watch() -> None:
    """Ends this process, with one line, once another has failed or is lost."""
    while True:
        _end_if_told()
        try:
            lost = set(range(count())) - _alive()
        except Exception:  # process 0 is lost, or this process has left
            lost = {0}
        if lost:
            if _leaving.is_set():  # this process is about to leave too
                time.sleep(2 * LEAVING_SECONDS)
            _end_if_told()
            which = "processes " if len(lost) > 1 else "process "
            _exit_with(
                1,
                f"{which}{', '.join(map(str, sorted(lost)))} of {count()} ended or cannot be reached; "
                "the same command goes on from the last checkpoint",
            )
        time.sleep(POLL_SECONDS)


def _end_if_told() -> None:
    """Ends this process if another has told why it failed."""
    with contextlib.suppress(Exception):  # there is no such key, or process 0 is lost
        ended = json.loads(_client().key_value_try_get(ENDED))
        if ended["process"] != global_state.process_id:
            _exit_with(ended["code"], f"process {ended['process']} failed: {ended['message']}")


def _exit_with(code: int, message: str) -> None:
    """Prints one line and leaves at once."""
    cli.report(message)
    _exit(code)


def _exit(code: int) -> None:
    """Leaves at once. Threads and devices that wait for lost processes do not hold it up."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
