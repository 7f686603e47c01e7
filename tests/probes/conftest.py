"""Trains two runs, once for all tests of probes."""

import shutil

import pytest

from tests.probed import trained
from ucl_jax.probes.trained_run import TrainedRun


@pytest.fixture(scope="session")
def lump(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("lump") / "run", "lump", seed=3, benchmark__subset_seed=-1)


@pytest.fixture(scope="session")
def pnn(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("pnn") / "run", "pnn", "digits,barlow_twins")


@pytest.fixture
def workdir(lump, tmp_path):
    """Copies the run into a folder that a test may write to."""
    return shutil.copytree(lump, tmp_path / "run")


@pytest.fixture(scope="session")
def subject(lump):
    with TrainedRun(lump) as opened:
        yield opened
