"""Tests that the number of devices changes no number beyond rounding, and that each function compiles once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from ucl_jax.data.tasks import open_stream
from ucl_jax.training import parallel
from ucl_jax.training.build import make_experiment, make_stream_settings
from ucl_jax.training.loop import StepsDone
from ucl_jax.training.step import consecutive
from ucl_jax.types import Selection, Span

# At these learning rates 20 steps stay near the start. Sums in another order differ by 1e-7, and the distance between
# two runs was measured as 1e-5 of the way travelled, on three seeds and both objectives, unless one of some 10,000
# activations near 0 falls on the other side of a ReLU: then up to 4e-2 (two of twelve runs). Each of these mistakes was
# tried: local instead of global statistics, gradients that are not averaged, keys from the place on a device. They make
# the distance 2 to 12 times the way, and change the first five losses by 5e-2.
LEARNING_RATE = {"simsiam": 0.01, "barlow_twins": 0.0001}
FIRST_STEPS, LATER_STEPS, WAY = 1e-4, 5e-2, 0.1


def run_on(devices: int, objective: str, data_dir: str):
    """Trains LUMP for 20 steps over the border of two tasks; returns the losses, the first state and the last."""
    config = tiny.config(
        "lump",
        f"digits,{objective}",
        seed=1,
        method__buffer_size=24,
        train__learning_rate=LEARNING_RATE[objective],
        eval__online_linear="in_training_mode",
    )
    experiment = make_experiment(config, parallel.AXIS, "cpu")
    compiled = parallel.compile_phases(experiment.phases, parallel.choose_devices(devices, 16))
    state = jax.device_put(experiment.init(), compiled[0].sharding)
    start, losses = jax.device_get(state), []
    with open_stream(make_stream_settings(config), data_dir) as stream:
        for event in tiny.train(config, experiment, compiled, stream, state):
            if isinstance(event, StepsDone):
                losses.extend(np.asarray(event.metrics["loss"]))
    assert len(losses) == 20
    return np.array(losses), start, jax.device_get(event.state)


def distance(one, other) -> float:
    """Returns the Euclidean distance of two pytrees."""
    squares = jax.tree.map(lambda a, b: np.sum(np.square(a - b, dtype=np.float64)), one, other)
    return float(np.sqrt(sum(jax.tree.leaves(squares))))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.mark.parametrize("objective", ["simsiam", "barlow_twins"])
def test_one_two_and_four_devices_agree(objective, data_dir):
    losses, start, state = run_on(1, objective, data_dir)
    assert int(state.memory.task) == 2
    for devices in (2, 4):
        other_losses, other_start, other = run_on(devices, objective, data_dir)
        assert distance(other_start.params, start.params) == 0
        np.testing.assert_allclose(other_losses[:5], losses[:5], rtol=FIRST_STEPS, atol=FIRST_STEPS)
        np.testing.assert_allclose(other_losses, losses, rtol=LATER_STEPS, atol=LATER_STEPS)
        for name in ("params", "model_state", "online"):
            way = distance(getattr(state, name), getattr(start, name))
            assert distance(getattr(other, name), getattr(state, name)) < WAY * way, name
        # The stored images and their slots are the same to the bit. Frozen views are not: each is computed on its
        # example's device.
        ours, theirs = state.memory.buffer, other.memory.buffer
        assert theirs.offered == ours.offered == 20 * 16
        np.testing.assert_array_equal(theirs.items.task, ours.items.task)
        jax.tree.map(np.testing.assert_array_equal, theirs.items.batch, ours.items.batch)
        np.testing.assert_allclose(theirs.items.kept.image[0], ours.items.kept.image[0], atol=1e-5)


def test_train_step_and_features_compile_once(data_dir):
    """Checks that neither a new task, nor an evaluation, nor a state from the host compiles anything again."""
    config = tiny.config("lump", train__epochs=1)
    experiment = make_experiment(config, parallel.AXIS, "cpu")
    calls = []

    def counted(name, function):
        def wrapped(*arguments):
            calls.append(name)
            return function(*arguments)

        return wrapped

    compiled = parallel.parallelise(
        counted("step", experiment.phases[0].train_step),
        counted("features", experiment.phases[0].objective.features),
        parallel.choose_devices(2, 16),
    )
    compilations = []

    def listen(event, duration, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            compilations.append(details)

    def run():
        state = jax.device_put(jax.device_get(experiment.init()), compiled.sharding)
        with open_stream(make_stream_settings(config), data_dir) as stream:
            return list(tiny.train(config, experiment, [compiled], stream, state))

    assert [type(event).__name__ for event in run()].count("LegDone") == 2
    assert sorted(calls) == ["features", "step"]
    jax.monitoring.register_event_duration_secs_listener(listen)
    run()
    assert sorted(calls) == ["features", "step"]
    assert compilations == []
    # The listener would have heard a compilation.
    jax.jit(lambda x: x * 3.5)(jnp.ones(3)).block_until_ready()
    assert len(compilations) >= 1


def test_state_is_donated(data_dir):
    config = tiny.config("finetune")
    experiment = make_experiment(config, parallel.AXIS, "cpu")
    compiled = parallel.compile_phases(experiment.phases, jax.local_devices()[:2])[0]
    state = jax.device_put(experiment.init(), compiled.sharding)
    with open_stream(make_stream_settings(config), data_dir) as stream:
        examples = stream.training(slice(0, stream.train_sizes[0]))
    span = Span(*map(np.int32, (0, 0, 10, 10)))
    selection = Selection(np.arange(16)[:, None], np.ones((16, 1), bool))
    compiled.train_steps(state, compiled.hold(examples, 80), selection, experiment.key, span)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def trained(data_dir, devices, **settings):
    """Trains LUMP; returns how many steps each call made, their metrics, and the first and the last state."""
    config = tiny.config("lump", method__buffer_size=24, **settings)
    experiment = make_experiment(config, parallel.AXIS, "cpu")
    compiled = parallel.compile_phases(experiment.phases, parallel.choose_devices(devices, 16))
    start = jax.device_get(experiment.init())
    state, metrics = jax.device_put(start, compiled[0].sharding), []
    with open_stream(make_stream_settings(config), data_dir) as stream:
        for event in tiny.train(config, experiment, compiled, stream, state):
            if isinstance(event, StepsDone):
                metrics.append(jax.device_get(event.metrics))
    sizes = [len(one["loss"]) for one in metrics]
    together = jax.tree.map(lambda *x: np.concatenate(x), *metrics)
    return sizes, together, start, jax.device_get(event.state)


@pytest.mark.parametrize("devices", [1, 2])
def test_several_steps_a_call_and_images_on_the_host_change_no_bit(devices, data_dir, monkeypatch):
    """Checks every metric and the last state, over a task border that is not the end of a call of three steps."""
    sizes, *single = trained(data_dir, devices)
    assert sizes == [1] * 20
    sizes, *together = trained(data_dir, devices, train__steps_per_call=3)
    assert sizes == [3, 3, 3, 1] * 2
    jax.tree.map(np.testing.assert_array_equal, together, single)
    monkeypatch.setattr(parallel, "HELD_BYTES", 0)
    for steps_per_call in (1, 3):
        _, *streamed = trained(data_dir, devices, train__steps_per_call=steps_per_call)
        jax.tree.map(np.testing.assert_array_equal, streamed, single)


@pytest.mark.usefixtures("small_networks")
def test_the_loop_of_accelerators_makes_the_same_steps(data_dir, monkeypatch):
    """Checks several steps in a loop, as on an accelerator, against copies; a CPU rounds a loop differently."""

    def run(unroll):
        monkeypatch.setattr(parallel, "consecutive", lambda train_step, **_: consecutive(train_step, unroll))
        return trained(data_dir, 1, train__steps_per_call=3, train__learning_rate=0.01)

    (_, metrics, start, copies), (_, loop_metrics, _, loop) = run(unroll=True), run(unroll=False)
    np.testing.assert_allclose(loop_metrics["loss"], metrics["loss"], rtol=1e-4, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, loop.memory.buffer.offered, copies.memory.buffer.offered)
    for one, other, first in zip(*(jax.tree.leaves(state.params) for state in (loop, copies, start))):
        assert np.linalg.norm(one - other) <= 0.01 * np.linalg.norm(other - first) + 1e-6


def test_examples_that_fit_are_held_by_every_device(data_dir, monkeypatch):
    config = tiny.config("finetune")
    experiment = make_experiment(config, parallel.AXIS, "cpu")
    compiled = parallel.compile_phases(experiment.phases, jax.local_devices()[:2])[0]
    with open_stream(make_stream_settings(config), data_dir) as stream:
        examples = stream.training(slice(0, stream.train_sizes[0]))
    held = compiled.hold(examples, 100)  # the largest task has 100
    assert held.image.sharding == compiled.sharding
    np.testing.assert_array_equal(held.image[:80], np.asarray(examples.image).reshape(80, -1))
    assert held.label.shape == (100,)
    assert not held.image[80:].any()
    monkeypatch.setattr(parallel, "HELD_BYTES", 100 * examples.image[0].nbytes - 1)
    assert compiled.hold(examples, 100) is examples


def test_features_on_four_devices_are_those_of_one(data_dir):
    config = tiny.config("finetune")
    experiment = make_experiment(config, parallel.AXIS, "cpu")
    with open_stream(make_stream_settings(config), data_dir) as stream:
        image = stream.task(0).train_image[:32]
    features = []
    for count in (1, 4):
        compiled = parallel.compile_phases(experiment.phases, jax.local_devices()[:count])[0]
        state = jax.device_put(experiment.init(), compiled.sharding)
        features.append(np.asarray(compiled.features(state.network, image).features))
    assert features[0].shape == (32, 32)
    np.testing.assert_allclose(features[1], features[0], rtol=1e-5, atol=1e-6)


def test_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"^batch_size is 18, .* 4 devices"):
        parallel.choose_devices(0, 18)
    with pytest.raises(ValueError, match=r"^devices is 5, .* has 4"):
        parallel.choose_devices(5, 20)
    assert len(parallel.choose_devices(3, 18)) == 3


def test_options_that_this_xla_does_not_know_are_left_out(monkeypatch):
    known = dict(parallel.CPU_OPTIONS)
    monkeypatch.setattr(parallel, "CPU_OPTIONS", known | {"xla_cpu_no_such_option": True})
    assert parallel.compiler_options("cpu") == known
    assert parallel.compiler_options("gpu") == {}
