"""Tests what every method owes to the rest of the package, with every objective: each pair learns two tiny tasks.

The network is a convolution or two (tests/small_networks.py), and keys are those of tests/quick_keys.py; everything
else is as the recipes have it.
"""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests import quick_keys, tiny
from ucl_jax.data.tasks import open_stream
from ucl_jax.errors import UsageError
from ucl_jax.methods import METHODS
from ucl_jax.objectives import OBJECTIVES
from ucl_jax.reproduce.studies import IMPOSSIBLE
from ucl_jax.settings import OBJECTIVE_SETTINGS, POLICIES, check
from ucl_jax.training import parallel
from ucl_jax.training.build import make_experiment, make_stream_settings
from ucl_jax.training.loop import LegDone, StepsDone

pytestmark = pytest.mark.usefixtures("small_networks")
RECIPES = [recipe for recipe in tiny.RECIPES if not tiny.config(recipe).benchmark.joint]
FORBIDDEN = [(recipe, objective) for objective, refusing in IMPOSSIBLE.items() for recipe in refusing]
PAIRS = [(recipe, objective) for recipe in RECIPES for objective in OBJECTIVES]
# At this rate 10 steps stay near the start, so that rounding errors are not amplified (see test_parallel.py).
LEARNING_RATE = 0.01
ENDED = itertools.count(1)  # tests that this process has ended
LEARNING_RATES = {"barlow_twins": 0.0001, "vicreg": 0.0001}  # objectives that need another rate


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Returns a folder for data sets. In it lies `domains`, a folder of two domains with images of two classes each."""
    data_dir, rng = tmp_path_factory.mktemp("tfds"), np.random.default_rng(0)
    for domain, name, number in itertools.product("ab", ("cat", "dog"), range(28)):
        path = data_dir / "domains" / domain / name / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return str(data_dir)


def pair_config(recipe, objective, benchmark="digits"):
    settings = {
        "augment__crop": "padded", "augment__jitter_p": 0.0, "augment__gray_p": 0.0, "train__epochs": 1,
        "train__batch_size": 16, "train__learning_rate": LEARNING_RATES.get(objective, LEARNING_RATE),
    }  # fmt: skip
    # A queue is full after two batches of 16. There is one epoch, so nothing may begin in a later one.
    short = {"queue_size": 24, "queue_epoch": 0, "frozen_epochs": 0}
    settings |= {f"objective__{key}": short[key] for key in short.keys() & OBJECTIVE_SETTINGS[objective].keys()}
    method = tiny.config(recipe).method
    if "buffer_size" in method:
        settings["method__buffer_size"] = 40 if method.name == "min_red" else 24  # twice a batch and more
    if "weight" in method:
        settings["method__weight"] = max(method.weight, 1.0)  # a weak term would hide its mistakes
    return tiny.config(recipe, f"{benchmark},{objective}", **settings)


class Traced:
    """Compiles the phases of an experiment, and records each tracing of a train step in `traces`."""

    def __init__(self, config, devices):
        self.config, self.traces = config, []
        self.experiment = make_experiment(config, parallel.AXIS, "cpu")
        counted = [s._replace(train_step=self._count(n, s.train_step)) for n, s in enumerate(self.experiment.phases)]
        self.compiled = parallel.compile_phases(counted, parallel.choose_devices(devices, config.train.batch_size))

    def _count(self, number, function):
        def counted(*arguments):
            self.traces.append(number)
            return function(*arguments)

        return counted

    def start(self):
        return jax.device_put(self.experiment.init(), self.compiled[0].sharding)

    def run(self, data_dir, state, step=0, legs_done=0):
        """Trains from `state` on; returns each event as (name, step, host copy of the state, metrics or rows)."""
        state = jax.device_put(state, self.compiled[0].sharding)
        events = []
        with open_stream(make_stream_settings(self.config), data_dir) as stream:
            for event in tiny.train(self.config, self.experiment, self.compiled, stream, state, step, legs_done):
                if isinstance(event, StepsDone):
                    events.append(("step", event.step, jax.device_get(event.state), jax.device_get(event.metrics)))
                if isinstance(event, LegDone):
                    events.append(("leg", event.step, jax.device_get(event.state), event.rows))
        return events


def signature(tree):
    return jax.tree.structure(tree), [(np.shape(leaf), np.asarray(leaf).dtype) for leaf in jax.tree.leaves(tree)]


def distance(one, other):
    squares = jax.tree.map(lambda a, b: np.sum(np.square(a - b, dtype=np.float64)), one, other)
    return float(np.sqrt(sum(jax.tree.leaves(squares))))


@pytest.fixture(autouse=True)
def keys_that_compile_soon(monkeypatch):
    """Makes `jax.random.key` give the keys of tests/quick_keys.py, whose random numbers compile sooner."""
    monkeypatch.setattr(jax.random, "key", quick_keys.key)


@pytest.fixture(autouse=True)
def forgotten_pairs():
    """Drops compiled programs after every fourth test: hardly another test can use them (see conftest.py)."""
    yield
    if next(ENDED) % 4 == 0:
        jax.clear_caches()


def test_the_recipes_here_are_all_methods():
    assert {pair_config(recipe, "simsiam").method.name for recipe in RECIPES} == set(METHODS)


@pytest.mark.parametrize(
    ("recipe", "objective", "change"),
    [
        *((*pair, "") for pair in PAIRS if pair not in FORBIDDEN),  # "" changes nothing of the recipe
        *(("er", "simsiam", f"policy={policy}") for policy in POLICIES if policy != "reservoir"),
        ("min_red", "simsiam", "features=arrival"),
        ("cla", "simsiam", "aligned=all"),
    ],
)
def test_every_pair_keeps_the_contract(recipe, objective, change, data_dir):
    config = pair_config(recipe, objective)
    if change:
        key, _, value = change.partition("=")
        config.method[key] = value
    one = Traced(config, 1)
    start = jax.device_get(one.start())
    events = one.run(data_dir, start)
    assert [name for name, *_ in events] == (["step"] * 5 + ["leg"]) * 2

    # The state keeps its structure, shapes and dtypes through every step and end_task, and stays finite.
    for name, step, state, found in events:
        assert signature(state) == signature(start), (name, step)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state)), (name, step)
        if name == "step":
            assert all(np.isfinite(value) for value in found.values()), (step, found)
    assert distance(events[-1][2].params, start.params) > 0

    # Each phase is compiled once: an architecture that grows has one phase a task, any other has one.
    assert one.traces == list(range(len(one.experiment.phases)))

    # A run that goes on from the third step of the second task gives the same bits.
    _, step, middle, _ = events[8]
    again = one.run(data_dir, middle, step, legs_done=1)
    assert len(one.traces) == len(one.experiment.phases)
    for (name, at, state, found), (other_name, other_at, other_state, other_found) in zip(
        events[9:], again, strict=True
    ):
        assert (name, at) == (other_name, other_at)
        jax.tree.map(np.testing.assert_array_equal, other_state, state)
        assert other_found == found

    # Several devices give what one device gives, up to rounding.
    for devices in (2, 4) if recipe == "finetune" else (2,):
        others = Traced(config, devices).run(data_dir, start)
        for (name, _, _, found), (_, _, _, other_found) in zip(events, others, strict=True):
            if name == "step":
                np.testing.assert_allclose(other_found["loss"], found["loss"], rtol=1e-3, atol=1e-4)
        state, other = events[-1][2], others[-1][2]
        assert distance(other.params, state.params) < 1e-2 * distance(state.params, start.params)
        for ours, theirs in zip(jax.tree.leaves(state.memory), jax.tree.leaves(other.memory), strict=True):
            if ours.dtype == np.float32:
                np.testing.assert_allclose(theirs, ours, rtol=1e-2, atol=1e-3)
            else:
                np.testing.assert_array_equal(theirs, ours)


# Name -> recipe, settings of the section `stream`, and the events: s for a step, l for the end of a leg.
ONE_PASS = {"stream__boundaries": "hidden", "stream__passes": "one"}
STREAMS = {
    "one pass, evaluated on the way": (
        "er",
        ONE_PASS | {"stream__evaluate_every": 56, "stream__updates_per_batch": 3, "stream__replay_per_batch": 24},
        ("s" * 12 + "l") + ("s" * 9 + "l") + ("s" * 9 + "l"),  # 160 images in batches of 16: after 64, 112 and 160
    ),
    "replay of refreshed images": ("arp", ONE_PASS | {"stream__updates_per_batch": 2}, "s" * 20 + "l"),
    "draws from the buffer alone": ("min_red", ONE_PASS | {"stream__updates_per_batch": 3}, "s" * 30 + "l"),
    "snapshots": ("si", {"stream__boundaries": "hidden", "stream__snapshot_every": 64}, "sssslssssl" + "ssl"),
    # 80 images a task, in batches of 16; or 160 of the whole stream, where the boundaries are hidden.
    "random parts that mix and come back": (
        "der",
        {"stream__order": "data", "stream__blur": 0.5, "stream__blur_shape": "gaussian", "stream__repeat": 2}
        | {"benchmark__classes_per_task": 4, "stream__imbalance": 2.0},
        ("s" * 3 + "l") * 4,
    ),
    "near copies of hidden tasks": (
        "lump",
        ONE_PASS | {"stream__correlation": 2, "stream__blur": 0.5, "stream__updates_per_batch": 2},
        "s" * 40 + "l",
    ),
    "near copies of all tasks together": (
        "min_red",
        ONE_PASS | {"benchmark__joint": True, "stream__correlation": 2, "stream__updates_per_batch": 2},
        "s" * 40 + "l",
    ),
    "as they are stored, in rounds": (
        "cassle",
        {"stream__order": "file", "stream__passes": "one", "stream__repeat": 2, "benchmark__classes_per_task": 4},
        ("s" * 3 + "l") * 4,
    ),
    "domains of a folder": (
        "cassle",
        {"stream__order": "domain", "stream__blur": 0.5, "benchmark__path": "domains", "benchmark__folders": "domains"}
        | {"benchmark__image_size": 8, "benchmark__classes_per_task": 2, "benchmark__validation_fraction": 0.2}
        | {"benchmark__examples_per_task": 40, "benchmark__test_examples_per_task": 10},
        "ssslsssl",
    ),
    "evaluated inside a task": ("osiris_d", {"stream__evaluate_every": 48}, "sssl" + "ssl" + "sl" + "sssl" + "sl"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_every_stream_goes_on_where_it_stopped(name, data_dir, monkeypatch):
    """Checks that a run over a stream ends with the same bits from wherever it goes on, and on two devices."""
    recipe, settings, expected = STREAMS[name]
    config = pair_config(recipe, "simclr", "folder" if "benchmark__path" in settings else "digits")
    monkeypatch.chdir(data_dir)
    for key, value in settings.items():
        section, _, setting = key.partition("__")
        config[section][setting] = value
    one = Traced(config, 1)
    start = jax.device_get(one.start())
    events = one.run(data_dir, start)
    assert "".join({"step": "s", "leg": "l"}[name] for name, *_ in events) == expected
    for place in (1, expected.index("l") - 1, expected.index("l"), len(events) - 3):
        _, step, middle, _ = events[place]
        again = one.run(data_dir, middle, step, legs_done=expected[: place + 1].count("l"))
        for (kind, at, state, found), (*other, other_state, other_found) in zip(
            events[place + 1 :], again, strict=True
        ):
            assert [kind, at] == other
            jax.tree.map(np.testing.assert_array_equal, other_state, state)
            assert other_found == found
    assert len(one.traces) == 1
    others = Traced(config, 2).run(data_dir, start)
    assert distance(others[-1][2].params, events[-1][2].params) < 1e-2 * distance(events[-1][2].params, start.params)


@pytest.mark.parametrize("recipe", RECIPES)
def test_methods_that_need_boundaries_are_refused_without_them(recipe):
    config = pair_config(recipe, "simsiam" if recipe == "gss" else "simclr")
    config.stream.boundaries = "hidden"
    needing = {"si", "agem", "cassle", "pfr", "pnr", "cromo_mixup", "osiris_r", "osiris_d", "pnn"}
    with pytest.raises(UsageError, match=r"^config\..*boundaries") if recipe in needing else contextlib.nullcontext():
        check(config)
        make_experiment(config, None, "cpu")
    if recipe not in ("agem", "pnn"):  # which need to know the tasks, not only where they begin
        config.stream.snapshot_every = 64
        check(config)
        make_experiment(config, None, "cpu")


@pytest.mark.parametrize(
    ("recipe", "refused"), [("finetune", True), ("lump", True), ("cromo_mixup", True), ("er", False)]
)
def test_replay_that_a_method_cannot_have_is_refused(recipe, refused):
    config = pair_config(recipe, "simclr")
    config.stream.replay_per_batch = 24
    message = r"^config\.stream\.replay_per_batch is 24"
    with pytest.raises(UsageError, match=message) if recipe != "er" else contextlib.nullcontext():
        make_experiment(config, None, "cpu")


@pytest.mark.parametrize(("joint", "shares"), [(False, 2), (True, 1)])
def test_methods_are_told_the_number_of_tasks(joint, shares):
    config = pair_config("agem", "simsiam")
    config.benchmark.joint = joint
    buffer = jax.eval_shape(make_experiment(config, None, "cpu").init).memory.buffer
    assert buffer.offered.shape == (shares,)
    assert buffer.items.task.shape == (24,)


@pytest.mark.parametrize(("recipe", "objective"), FORBIDDEN)
def test_a_forbidden_pair_is_refused_by_the_key(recipe, objective):
    with pytest.raises(UsageError, match=r"^config\.method: "):
        make_experiment(pair_config(recipe, objective), None, "cpu")


def test_progressive_columns_are_frozen_once_learned(data_dir):
    """Checks that in a run of PNN the first column never changes after its task, nor does its task's accuracy."""
    run = Traced(pair_config("pnn", "supervised"), 2)
    start = jax.device_get(run.start())
    events = run.run(data_dir, start)
    first, last = events[5], events[11]
    assert (first[0], last[0]) == ("leg", "leg")
    for part in (lambda state: state.params.network, lambda state: state.model_state["batch_stats"]):
        learned, later = part(first[2]), part(last[2])
        jax.tree.map(np.testing.assert_array_equal, later["networks_0"], learned["networks_0"])
        jax.tree.map(np.testing.assert_array_equal, learned["networks_1"], part(start)["networks_1"])
        assert distance(later["networks_1"], learned["networks_1"]) > 0
    for probe in ("knn_task", "head_task"):
        assert last[3][probe].accuracy[0] == first[3][probe].accuracy[0]
    assert jnp.all(jnp.asarray(last[3]["knn_all"].accuracy) >= 0)
