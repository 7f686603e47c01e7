"""Makes a folder in which runs and probes only pretend to work."""

import sys

import pytest

from tests.pretended import MAIN, PROBE, TRAIN
from ucl_jax.reproduce import __main__ as reproduce
from ucl_jax.reproduce import jobs, plan


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes a folder with a train.py and a probe.py that pretend to work; runs go to its folder `runs`."""
    for name, text in (("train.py", TRAIN), ("probe.py", PROBE), ("main.py", MAIN)):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(plan, "TRAIN", (sys.executable, str(tmp_path / "train.py")))
    monkeypatch.setattr(reproduce, "PROBE", (sys.executable, str(tmp_path / "probe.py")))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(jobs, "gpus", list)
    return tmp_path
