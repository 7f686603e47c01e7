"""Strict JAX for every test: no silent rank or dtype promotion, four virtual CPU devices.

What was compiled is kept in `.cache/jax` for the tests that follow, in this process and in others; in memory it is
kept for a file of tests only, for thousands of programs exhaust the memory maps that Linux gives a process.
"""

import gc
import os
import pathlib
import signal

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent.parent / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax
import pytest

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup, and so in every process that a test starts
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Files that take minutes, the longest first: a process that began one last would end alone.
SLOW = (
    "test_contract",
    "test_run",
    "test_probes",
    "test_torch_weights",
    "test_methods",
    "test_reproduce",
    "test_objectives",
)


def pytest_collection_modifyitems(items):
    names = [item.path.stem for item in items]
    order = sorted(range(len(items)), key=lambda i: SLOW.index(names[i]) if names[i] in SLOW else len(SLOW))
    items[:] = [items[i] for i in order]
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs():
    yield
    jax.clear_caches()
    gc.collect()
