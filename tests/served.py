"""Serves the page about a folder of runs by a real process."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


@contextlib.contextmanager
def serving(folder, told=None, words=(), port="--serve=0"):
    """Gives the address of the page about the runs of a folder, and ends the server by Ctrl-C.

    Args:
      folder: of runs.
      told: None, or a list to which the exit code and the lines of stderr are added in the end.
      words: more words of the command.
      port: the words that ask for the page.
    """
    server = subprocess.Popen(
        [sys.executable, "-m", "ucl_jax", "report", port, *words, str(folder)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if "DISPLAY" not in name},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield server.stdout.readline().split()[1].rstrip(",")
    finally:
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
        if told is not None:
            told += [server.returncode, errors.splitlines()]
