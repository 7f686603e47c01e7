"""Says why a process of a distributed run ended where JAX aborted it.

Process 0 serves the others. When it is lost, JAX aborts them, and no code of theirs runs any more. So each process
works in a child, and the parent prints the line. Nothing here imports JAX, because it starts threads, and a process
with threads must not be forked.
"""

import ctypes
import os
import signal
import sys

from ucl_jax import cli

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def continue_in_child() -> None:
    """Forks, and returns in the child alone. The parent waits for the child and ends as it did.

    Signals to the parent are passed on to the child. A terminal signals all processes of a group, so the child has a
    group of its own; it would get each signal twice otherwise. The child is killed when the parent dies. If the child
    was aborted, the parent prints a line and leaves with exit code 1.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # the parent died before prctl could tell the child
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
