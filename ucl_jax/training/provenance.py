"""Tells where results come from: the command, the commit, the versions of packages and the devices."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from ucl_jax.version import __version__

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "chex",
    "ml-collections",
    "tensorflow-datasets",
    "numpy",
)


class Origin(NamedTuple):
    """Tells how a config was given, for results.json.

    Attributes:
      command: the command that was typed, for people to read.
      argument: what followed the colon after the recipe's file; "" for nothing.
      overrides: "section.key" -> value, where the config differs from what the recipe gives for that argument.
    """

    command: str
    argument: str = ""
    overrides: Mapping[str, Any] = {}


class Commit(NamedTuple):
    """The state of the code. As text it is "SHA", or "SHA+changes".

    Attributes:
      sha: the git commit, 40 hexadecimal digits.
      changed: whether tracked files differ from that commit.
    """

    sha: str
    changed: bool

    def __str__(self) -> str:
        return self.sha + ("+changes" if self.changed else "")


def commit() -> Commit | None:
    """Returns the git commit of this code; None outside a git checkout."""
    root = pathlib.Path(__file__).parent.parent.parent

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", root, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if git("rev-parse", "--show-prefix"):  # installed in an environment inside another project's checkout
            return None
        return Commit(git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no")))
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Returns the versions of Python, of ucl_jax and of the packages that numbers depend on."""
    own = {"python": platform.python_version(), "ucl_jax": __version__}
    return own | {name: importlib.metadata.version(name) for name in PACKAGES}


def device_name(devices: list[jax.Device]) -> str:
    """Returns a name of the devices, such as "1 x NVIDIA H100" or "1 x cpu (AMD EPYC, 2 cores)".

    It has the cores that the process may use: how many threads add up a sum decides how it is rounded.
    """
    kind = devices[0].device_kind
    if devices[0].platform == "cpu":
        cpuinfo = pathlib.Path("/proc/cpuinfo")
        lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        there = os.cpu_count() or 1
        own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
        cores = f"{own} of {there} cores" if own < there else f"{there} cores"
        kind = f"{kind} ({names[0] if names else platform.machine()}, {cores})"
    return f"{len(devices)} x {kind}"
