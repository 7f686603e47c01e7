"""Makes a folder in which runs and probes only pretend to work."""

import sys

import pytest

from tests.pretended import LAUNCH, MAIN, PROBE
from ucl_jax.reproduce import __main__ as reproduce
from ucl_jax.reproduce import jobs, plan


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes a folder with a launch.py and a probe that pretend to work; runs go to its folder `runs`."""
    for name, text in (("launch.py", LAUNCH), ("probe.py", PROBE), ("main.py", MAIN)):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(jobs, "LAUNCH", tmp_path / "launch.py")
    monkeypatch.setattr(plan, "LAUNCH", tmp_path / "launch.py")
    monkeypatch.setattr(reproduce, "PROBE", (sys.executable, str(tmp_path / "probe.py")))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(jobs, "gpus", list)
    return tmp_path
