"""Lets a process of several end with a line of ours, whatever ends it.

JAX aborts a process once the one that serves all is lost, and no code of that process runs then. So the work is done in
a child, and its parent says what the same command will do. Nothing here imports JAX: a process with threads must not be
forked.
"""

import ctypes
import os
import signal
import sys

from ucl_jax import cli

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def continue_in_child() -> None:
    """Returns in a child process alone; the parent waits for the child, and leaves as it did.

    Signals to the parent are passed on. The child has a process group of its own, because those of a terminal would
    reach it twice otherwise. It dies with the parent. If it was aborted, the parent prints a line and leaves with exit
    code 1.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before that
            os._exit(1)
        return
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == -signal.SIGABRT:
        cli.report(
            "JAX ended this process, as it does when process 0 ended or cannot be reached; "
            "the same command goes on from the last checkpoint"
        )
        code = 1
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
