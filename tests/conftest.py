"""Makes JAX strict in every test: ranks and dtypes are never promoted silently, and there are four virtual CPU devices.

Compiled programs are kept in `.cache/jax`, for later tests of any process. In memory they are kept only until the end
of a test file, because thousands of programs exhaust the memory maps that Linux gives a process.

Garbage is looked for seldom. Tracing makes many objects, and looking through them took a tenth of the time of tests
whose programs were compiled already.
"""

import gc
import os
import pathlib
import signal

from tests import quick

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=4", quick.XLA_FLAGS]
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent.parent / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax
import pytest

from tests.small_networks import ARCHITECTURES
from ucl_jax.models import architectures

# nohup ignores the first, a shell the second for what it starts with &; each process of a test would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Files, and folders whose tests share what takes long, that take more than about 15 seconds of a core, the longest
# first: a process that began one last would end alone. The others are some seven minutes of a core.
SHARING = ("probes",)
SLOW = (
    "test_contract",
    "test_run",
    "test_pages_commands",
    "test_official_copies",
    "test_processes",
    "probes",
    "test_compiled",
    "test_command",
    "test_parallel",
    "test_distillation",
    "test_models",
    "test_objectives",
    "test_der",
    "test_studies",
    "test_convolution",
    "test_augment",
    "test_startup",
    "test_wheel",
    "test_beside",
    "test_methods",
    "test_gss",
    "test_torch_weights",
    "test_api",
    "test_export",
    "test_tour",
    "test_page_in_browser",
    "test_online_linear",
    "test_folder_run",
    "test_alignment",
    "test_osiris",
    "test_loop",
    "test_page",
    "test_cromo_mixup",
    "test_si",
    "test_agem",
    "test_drawing",
)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Puts long files first, and tells pytest-xdist that the tests of a file, or of a folder, belong to one process.

    Only tests of the contract are handed out one by one: they share nothing, and take longest.
    """

    def group(item):
        return item.path.parent.name if item.path.parent.name in SHARING else item.path.stem

    items.sort(key=lambda item: SLOW.index(group(item)) if group(item) in SLOW else len(SLOW))
    for item in items:
        if group(item) != "test_contract":
            item.add_marker(pytest.mark.xdist_group(group(item)))
        if group(item) in SLOW:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    gc.freeze()  # nothing that was imported becomes garbage
    gc.set_threshold(50_000)


@pytest.fixture
def small_networks(monkeypatch):
    """Puts the networks of tests/small_networks.py in the place of those that recipes name."""
    for name, made in ARCHITECTURES.items():
        monkeypatch.setitem(architectures.ARCHITECTURES, name, made)


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs():
    yield
    jax.clear_caches()
    gc.collect()
