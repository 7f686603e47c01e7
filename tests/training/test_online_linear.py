"""Tests the online linear probe: its step by hand, what it changes in a run, and from where a run goes on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small, tiny
from ucl_jax import augment
from ucl_jax.data.benchmarks import CLASS_ORDERS
from ucl_jax.data.tasks import batch_indices, labelled_indices, open_stream
from ucl_jax.models.architectures import ARCHITECTURES
from ucl_jax.training import online_linear, parallel
from ucl_jax.training.build import make_augmentation, make_experiment, make_stream_settings
from ucl_jax.training.loop import LegDone, StepsDone, _probed, _selections
from ucl_jax.training.schedule import make_schedule
from ucl_jax.types import Batch, Probed, Span, Variables

MODES = ("none", "apart", "in_training_mode")
# Views that are quick to compile.
VIEWS = {"augment__crop": "padded", "augment__jitter_p": 0.0, "augment__gray_p": 0.0}


@pytest.fixture(scope="module", autouse=True)
def small_network():
    """Puts a network in the place of ResNet-18 that is quick to compile. It has 4 features."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "resnet18", lambda *_: (small.ARCHITECTURE,))
        yield


def softmax(x):
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


def test_two_steps_by_hand():
    """Checks SGD of momentum 0.9 at 0.4 * 16 / 256, without weight decay, on features with their own place's view."""
    config = tiny.config(
        "finetune",
        benchmark__class_order="cassle",  # its first four classes are not 0 to 3
        eval__online_linear="apart",
        eval__online_linear_rate=0.4,
        train__weight_decay=0.5,
        **VIEWS,
    )
    classes = sorted(CLASS_ORDERS["cassle"][:4])
    experiment, view = make_experiment(config, None, "cpu"), make_augmentation(config).present
    phase, state = experiment.phases[0], experiment.init()
    embed, step = jax.jit(phase.objective.embed, static_argnums=2), jax.jit(phase.train_step)
    rng = np.random.default_rng(0)
    kernel, bias = (np.asarray(state.online.params[name], np.float64) for name in ("kernel", "bias"))
    assert (kernel.shape, bias.shape) == ((4, 4), (4,))
    assert 0.3 < np.abs(kernel).max() < 4**-0.5  # as torch's Linear
    momentum = [np.zeros_like(kernel), np.zeros_like(bias)]
    for number in range(2):
        image = rng.integers(0, 256, (2, 16, 8, 8, 3), np.uint8)
        label = rng.choice(classes, 16).astype(np.int32)
        batch = Probed(*(Batch(one, label, np.ones(16, bool)) for one in image))
        after, metrics = step(state, batch, experiment.key, Span(*map(np.int32, (0, 0, 100, 10))))

        key = jax.random.fold_in(jax.random.fold_in(experiment.key, number), 6)
        keys = jnp.stack([jax.random.fold_in(key, place) for place in range(16)])
        shown = augment.apply(view, keys, image[1], 1)
        network = Variables(state.params.network, after.model_state)
        features = np.asarray(embed(network, shown, False)[0].features, np.float64)
        target = np.array([[one == other for other in classes] for one in label], np.float64)
        likely = softmax(features @ kernel + bias)
        np.testing.assert_allclose(
            metrics["online_linear/loss"], -np.mean(np.log(likely[target.astype(bool)])), rtol=1e-5
        )
        error = (likely - target) / 16
        momentum = [0.9 * old + new for old, new in zip(momentum, (features.T @ error, error.sum(axis=0)), strict=True)]
        kernel, bias = kernel - 0.025 * momentum[0], bias - 0.025 * momentum[1]
        np.testing.assert_allclose(after.online.params["kernel"], kernel, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(after.online.params["bias"], bias, rtol=1e-4, atol=1e-6)
        state = after
    logits = online_linear.logits(jax.device_get(state.online.params), features.astype(np.float32))
    np.testing.assert_allclose(logits, features @ kernel + bias, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@functools.cache
def made(mode, **more):
    """Returns config, experiment and compiled functions of LUMP on tiny digits, on one device."""
    settings = {
        "method__buffer_size": 24,
        "eval__online_linear": mode,
        "eval__online_linear_rate": 1.0,
        **VIEWS,
        **more,
    }
    config = tiny.config("lump", **settings)
    experiment = make_experiment(config, parallel.AXIS, "cpu")
    return config, experiment, parallel.compile_phases(experiment.phases, jax.local_devices()[:1])


def run(data_dir, mode, state=None, step=0, **more):
    """Trains two tasks; returns the metrics, the states after each call and the rows of each task."""
    config, experiment, compiled = made(mode, **more)
    state = jax.device_put(experiment.init() if state is None else state, compiled[0].sharding)
    metrics, states, rows = [], {}, []
    with open_stream(make_stream_settings(config), data_dir) as stream:
        for event in tiny.train(config, experiment, compiled, stream, state, step):
            if isinstance(event, StepsDone):
                metrics.append(jax.device_get(event.metrics))
                states[event.step] = jax.device_get(event.state)
            if isinstance(event, LegDone):
                rows.append(event.rows)
    return jax.tree.map(lambda *x: np.concatenate(x), *metrics), states, rows


@pytest.fixture(scope="module")
def runs(data_dir):
    """Returns a function: the value of `eval.online_linear` -> the run of that mode."""
    return functools.cache(functools.partial(run, data_dir))


def without_probe(metrics):
    return {name: values for name, values in metrics.items() if name != "online_linear/loss"}


# Runs with and without a probe, or with several steps a call, are different programs, which XLA may fuse in other ways.
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


def test_a_probe_apart_changes_nothing_of_the_run(runs):
    (metrics, states, rows), (other_metrics, other_states, other_rows) = runs("none"), runs("apart")
    small.assert_trees_close(without_probe(other_metrics), metrics, **ROUNDING)
    for step, state in states.items():
        small.assert_trees_close(other_states[step].replace(online=()), state, **ROUNDING)
    for row, other in zip(rows, other_rows, strict=True):
        assert {name: other[name] for name in row} == row
        assert other.keys() - row.keys() == {"online_linear"}
        assert None not in other["online_linear"].accuracy  # of all tasks, whether learned or not


def test_a_probe_in_training_mode_changes_only_the_running_statistics_of_the_backbone(runs):
    (metrics, states, _), (other_metrics, other_states, _) = runs("none"), runs("in_training_mode")
    small.assert_trees_close(without_probe(other_metrics), metrics, **ROUNDING)
    one, other = states[20], other_states[20]
    for name in ("params", "opt_state", "memory"):
        small.assert_trees_close(getattr(other, name), getattr(one, name), **ROUNDING)
    ours, theirs = (state.model_state["batch_stats"] for state in (other, one))
    assert ours.keys() == theirs.keys() == {"backbone", "projector", "predictor"}
    for name in ("projector", "predictor"):
        small.assert_trees_close(ours[name], theirs[name], **ROUNDING)
    for changed, same in zip(*map(jax.tree.leaves, (ours["backbone"], theirs["backbone"])), strict=True):
        assert np.max(np.abs(changed - same)) > 1e-3


def test_a_run_goes_on_to_the_bit(runs, data_dir):
    metrics, states, rows = runs("in_training_mode")
    left, after, rows_left = run(data_dir, "in_training_mode", states[7], 7)
    small.assert_trees_equal(left, jax.tree.map(lambda x: x[7:], metrics))
    small.assert_trees_equal(after[20], states[20])
    assert rows_left == rows


def test_several_steps_a_call_and_images_on_the_host_change_nothing(runs, data_dir, monkeypatch):
    metrics, states, rows = runs("in_training_mode")
    for held_bytes in (parallel.HELD_BYTES, 0):
        monkeypatch.setattr(parallel, "HELD_BYTES", held_bytes)
        together, after, same_rows = run(data_dir, "in_training_mode", train__steps_per_call=3)
        small.assert_trees_close(together, metrics, **ROUNDING)
        small.assert_trees_close(after[20], states[20], **ROUNDING)
        assert same_rows == rows


@pytest.mark.parametrize(("recipe", "argument"), [("multitask", "simsiam"), ("pnn", "simsiam"), ("er", "supervised")])
def test_joint_training_growing_networks_and_labels(recipe, argument, data_dir):
    settings = {"eval__online_linear": "in_training_mode", "train__epochs": 1, **VIEWS}
    config = tiny.config(recipe, f"digits,{argument}", **settings)
    experiment = make_experiment(config, parallel.AXIS, "cpu")
    compiled = parallel.compile_phases(experiment.phases, jax.local_devices()[:1])
    state = jax.device_put(experiment.init(), compiled[0].sharding)
    with open_stream(make_stream_settings(config), data_dir) as stream:
        *_, last = tiny.train(config, experiment, compiled, stream, state)
    assert len(last.rows["online_linear"].accuracy) == 2
    assert None not in last.rows["online_linear"].accuracy


def test_labelled_batches_are_of_all_images_in_an_order_of_their_own():
    index = labelled_indices(3, 1, 2, 50, 8, 5)
    assert index.shape == (5, 8)
    assert len(set(index.flat)) == 40  # each image at most once in an epoch
    assert index.max() > 40
    np.testing.assert_array_equal(labelled_indices(3, 1, 2, 50, 8, 6)[:5], index)
    for other in (labelled_indices(4, 1, 2, 50, 8, 5), labelled_indices(3, 0, 2, 50, 8, 5)):
        assert not np.array_equal(other, index)
    assert not np.array_equal(labelled_indices(3, 1, 3, 50, 8, 5), index)
    # Joint training learns from all images, too, in another order.
    assert not np.array_equal(batch_indices(3, 1, 2, 50, 8, 5)[0], index)
    again = labelled_indices(3, 1, 2, 10, 8, 2).ravel()
    assert sorted(again[:10]) == list(range(10))
    np.testing.assert_array_equal(again[10:], again[:6])


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_selections_are_from_all_tasks_and_what_is_left_is_the_tail(steps_per_call):
    sizes = [10, 7]
    schedule = make_schedule(sizes, 3, 4, "fill", steps_per_call)
    start, leg = schedule.periods[1].start, schedule.legs[1]  # 9; task 1 has 6 steps, 2 an epoch

    def selections(step):
        made = _probed(_selections(5, leg, schedule, step, 10 + np.arange(7)), 5, leg, schedule, step, 17)
        return jax.tree.map(lambda *x: np.concatenate(x, axis=1), *made)

    whole, present = selections(start), list(_selections(5, leg, schedule, start, np.arange(7)))
    np.testing.assert_array_equal(whole.present.index, 10 + np.concatenate([one.index for one in present], axis=1))
    expected = np.concatenate([labelled_indices(5, 1, epoch, 17, 4, 2) for epoch in range(3)]).T
    np.testing.assert_array_equal(whole.labelled.index, expected)
    assert whole.labelled.index.dtype == whole.present.index.dtype == np.int32
    for done in range(1, 6):
        for one, other in zip(jax.tree.leaves(selections(start + done)), jax.tree.leaves(whole), strict=True):
            np.testing.assert_array_equal(one, other[:, done:])
