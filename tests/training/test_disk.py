"""Fills a real disk of two megabytes: every writer leaves what was there before, and says in a line that it is full."""

import contextlib
import json
import threading

import jax
import numpy as np
import pytest

from tests.torture import fill, small_disk
from ucl_jax.errors import UsageError
from ucl_jax.files import disk_errors
from ucl_jax.results import run_figures
from ucl_jax.training import parallel
from ucl_jax.training.checkpoint import Checkpoints, Networks
from ucl_jax.training.metric_writers import MetricsFile, TensorBoard, read_metrics
from ucl_jax.training.run_folder import write_json
from ucl_jax.types import Variables

STATE = {"weight": np.random.default_rng(0).normal(size=100_000).astype(np.float32)}
ENTRIES = [{"step": step, "task": 0, "loss": 1 / step} for step in range(1, 500)]


@pytest.fixture(scope="module")
def mounted(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(small_disk(tmp_path_factory.mktemp("disk"), 2 << 20))
        except PermissionError as error:
            pytest.skip(str(error))


@pytest.fixture
def disk(mounted):
    """Provides an empty disk, and empties it again afterwards."""
    yield mounted
    for path in sorted(mounted.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def full_disk_error(disk, work, free=0):
    """Runs `work` on the disk with `free` bytes left, expects it to be refused, and returns the message."""
    ballast = fill(disk, free)
    message = "No space left on device; what was saved before is kept"
    with pytest.raises(UsageError, match=message) as caught, disk_errors(disk):
        work()
    ballast.unlink()
    return str(caught.value)


def test_results(disk):
    write_json(disk / "results.json", {"a": 1})
    full_disk_error(disk, lambda: write_json(disk / "results.json", {"a": "b" * 10_000}))
    assert json.loads((disk / "results.json").read_text()) == {"a": 1}
    assert [path.name for path in disk.iterdir()] == ["results.json"]


def test_records(disk):
    file = MetricsFile(disk / "metrics.jsonl", 0, 0)

    def write():
        with contextlib.closing(file):
            for entry in ENTRIES:
                file.write(entry)

    full_disk_error(disk, write)
    kept = read_metrics(disk / "metrics.jsonl")
    assert kept == ENTRIES[: len(kept)]
    (disk / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in ENTRIES))
    full_disk_error(disk, lambda: MetricsFile(disk / "metrics.jsonl", 250, 0))  # drops entries: a new file
    assert read_metrics(disk / "metrics.jsonl") == ENTRIES


def test_tensorboard(disk):
    board = TensorBoard(disk / "tensorboard", 0)

    def write():
        with contextlib.closing(board):
            for entry in ENTRIES:
                board.write(entry)

    full_disk_error(disk, write)


def test_plots(disk):
    (disk / "plots").mkdir()
    full_disk_error(disk, lambda: run_figures.plot_loss(disk / "plots" / "loss.png", ENTRIES))


@pytest.mark.parametrize("free", [0, 100_000])
def test_checkpoints(disk, free):
    def save():
        with Checkpoints(disk / "checkpoints", keep=2) as checkpoints:
            checkpoints.save(2, STATE, {"n": 2})

    with Checkpoints(disk / "checkpoints", keep=2) as checkpoints:
        checkpoints.save(1, STATE, {"n": 1})
    assert f"cannot save {disk / 'checkpoints' / '2'}: No space left on device" in full_disk_error(disk, save, free)
    assert [path.name for path in (disk / "checkpoints").iterdir()] == ["1"]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("checkpoints")]
    with Checkpoints(disk / "checkpoints", keep=2) as checkpoints:
        restored, progress = checkpoints.restore(STATE)
    assert progress == {"n": 1}
    np.testing.assert_array_equal(restored["weight"], STATE["weight"])


def test_networks(disk):
    networks = Networks(disk / "networks")
    assert f"cannot save {disk / 'networks' / '1'}: " in full_disk_error(
        disk, lambda: networks.save(1, Variables(STATE, {})), 100_000
    )
    assert networks.afters() == []


@pytest.fixture
def no_cache():
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_compiled_programs_do_without(disk, no_cache):
    told = []
    parallel.keep_compiled(str(disk / "cache"), told.append)
    assert len(told) == 1
    assert f"{disk / 'cache'}: less than 50 MB " in told[0]
    assert jax.config.jax_compilation_cache_dir is None


def test_compiled_programs_are_kept_where_there_is_room(tmp_path, no_cache):
    parallel.keep_compiled(str(tmp_path / "cache"), pytest.fail)
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache")
