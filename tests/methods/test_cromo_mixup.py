"""Tests CroMo-Mixup: its loss against the released code, and what it does at the borders of tasks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import golden, small
from tests.small import make_batch, make_keys
from ucl_jax.buffers import Recalled
from ucl_jax.methods import METHODS, Scenario
from ucl_jax.methods.cromo_mixup import Remembered
from ucl_jax.methods.rehearsal import rehearsal, replayed_rows
from ucl_jax.models.heads import MLP, Embedding
from ucl_jax.objectives import OBJECTIVES
from ucl_jax.types import Batch, Span, TrainedParams, Variables, Views

SETTINGS = {
    "buffer_size": 9,
    "policy": "with_replacement",
    "replay_from": "past_tasks",
    "count": "examples",
    "replay_share": 0.5,
    "fixed_lambda": 0.7,
    "alpha": 1.0,
    "weight": 0.6,
    "hidden_dim": 5,
    "frozen_mode": "train",
}
close = functools.partial(small.assert_trees_close, rtol=1e-4, atol=1e-5)


def method(learned="simclr", **changes):
    return METHODS["cromo_mixup"](small.objective(learned), small.SCENARIO, **(SETTINGS | changes))


def given_batch(first, second):
    """Builds a batch whose images hold the two views [B, D] that `given_objective` shows of them."""
    count = len(first)
    return Batch(jnp.stack([first, second], axis=-1), jnp.zeros(count, jnp.int32), jnp.ones(count, bool))


def given_objective(settings):
    """Builds Barlow Twins on a network that is one matrix. The deviation is unbiased in this code."""
    own = {key: settings.get(key, value) for key, value in small.SETTINGS["barlow_twins"].items()}
    made = OBJECTIVES["barlow_twins"](small.ARCHITECTURE, small.AUGMENTATION, **own)

    def embed(network, view, train):
        output = view @ network.params["encoder"].T
        return Embedding(output, output, (), ()), network.state

    def forward(network, views):
        return embed(network, jnp.stack(views.image), True)

    return made._replace(
        embed=embed,
        views=lambda keys, batch, how: Views((batch.image[..., 0], batch.image[..., 1]), None),
        comparison=made.comparison._replace(forward=forward),
    )


@pytest.mark.parametrize("precision", golden.PRECISIONS)
def test_the_loss_and_its_gradients_equal_the_official_ones(precision):
    with golden.precise(precision):
        inputs, settings, expected = golden.read("cromo_mixup_barlow", precision)
        replayed, rows = settings["replayed"], replayed_rows(8, settings["replayed"] / 8)
        assert len(rows) == replayed == 5
        # The code mixes the first rows of a batch, we mix rows in between: their images come first there.
        order = np.zeros(8, int)
        order[rows], order[np.setdiff1d(np.arange(8), rows)] = np.arange(replayed), np.arange(replayed, 8)
        batch = given_batch(inputs["x1"][order], inputs["x2"][order])
        place = np.zeros(8, int)
        place[rows] = np.arange(replayed)
        scenario = Scenario(2, 8, 8, lambda width: MLP(width, dtype=precision))
        changes = {
            "policy": "reservoir",
            "replay_from": "buffer",
            "replay_share": replayed / 8,
            "fixed_lambda": settings["lambda"],
            "weight": settings["distillation_weight"],
            "hidden_dim": len(inputs["gamma"]),
        }
        made = METHODS["cromo_mixup"](given_objective(settings), scenario, **(SETTINGS | changes))
        frozen = Variables({"encoder": inputs["past_encoder"]}, {})
        store = rehearsal(9, policy="reservoir", tasks=2)
        stored = store.observe(store.init(jax.random.key(0), batch, frozen)[1], small.seen(batch), jax.random.key(1))
        memory = Remembered(frozen, stored)
        past = given_batch(inputs["old1"][place], inputs["old2"][place])
        recalled = Recalled(jnp.arange(8), stored.buffer.items._replace(batch=past))

        def loss(x):
            head = {
                "hidden": {"dense": {"kernel": x["W1"].T, "bias": jnp.zeros(7, precision)}},
                "hidden_norm": {"scale": x["gamma"], "bias": x["beta"]},
                "output": {"dense": {"kernel": x["W2"].T, "bias": x["b2"]}},
            }
            params = TrainedParams({"encoder": x["encoder"]}, head)
            return made.loss(params, {}, memory, batch, recalled, make_keys(), small.CLOCK)[0]

        golden.check(loss, inputs, expected, precision)


@pytest.mark.parametrize("learned", ["simsiam", "barlow_twins", "byol", "simclr", "vicreg"])
def test_both_directions_of_a_comparison_are_the_objective(learned):
    made, start = small.objective(learned), small.started(learned)
    views = small.alone(learned).views(make_keys().example, make_batch())

    @jax.jit
    def values(network):
        outputs, state = made.comparison.forward(network, views)
        one, query, key = made.comparison.one, outputs.query, outputs.key
        value, aux = made.loss(network, views, small.CLOCK)
        return value, made.comparison.both(outputs), (one(query[0], key[1]) + one(query[1], key[0])) / 2, state, aux

    value, both, mean, state, aux = values(start.network)
    np.testing.assert_allclose(both, value, rtol=1e-6)
    np.testing.assert_allclose(mean, value, rtol=1e-5)
    close(state, aux.state)


def test_in_the_first_task_the_loss_is_the_objective_of_the_present_beside_some_rows_twice():
    made, start, batch, keys = method(), small.started("simclr"), make_batch(), make_keys()
    own, memory = made.init(jax.random.key(0), batch, start.network)
    rows = replayed_rows(small.EXAMPLES, 0.5)
    np.testing.assert_array_equal(rows, [1, 3, 5])
    views = small.alone("simclr").views(keys.example, batch)
    comparison = small.objective("simclr").comparison

    def by_hand(params):
        twice = jax.tree.map(lambda x: jnp.concatenate([x, x[rows]]), views)
        outputs, state = comparison.forward(Variables(params.network, start.state), twice)
        return comparison.both(jax.tree.map(lambda x: x[:, : small.EXAMPLES], outputs)), state

    def ours(params):
        recalled = made.recall(memory, jax.random.key(0), small.EXAMPLES)
        clock = small.CLOCK._replace(task=jnp.int32(0))
        return made.loss(params, start.state, memory, batch, recalled, keys, clock)

    params = TrainedParams(start.params.network, own)
    (value, aux), gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(params)
    (expected, state), slopes = jax.jit(jax.value_and_grad(by_hand, has_aux=True))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    close(gradient, slopes)
    close(aux.state, state)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(made.active(own, small.CLOCK._replace(task=jnp.int32(0)))))


def test_images_of_a_task_are_kept_for_ever_and_replayed_from_the_next_task_on():
    made, optimizer = method(), optax.sgd(0.1)
    step = small.make_step(made, optimizer, "simclr")
    state = small.start_state(made, optimizer, small.started("simclr"))
    kept = []
    for task in range(3):
        span = Span(*(jnp.asarray(n, jnp.int32) for n in (task, task, 100, 10)))
        state, metrics = step(state, make_batch(task), span)
        assert (float(metrics["cross"]) != 0.0) == (float(metrics["distillation"]) != 0.0) == (task > 0)
        state = small.end_of_task(made, state)
        small.assert_trees_equal(state.memory.network, state.network)
        batch, filled = made.stored(state.memory)
        kept.append(np.asarray(batch.label))
        np.testing.assert_array_equal(filled, np.arange(9) < 3 * (task + 1))
        np.testing.assert_array_equal(kept[-1][: 3 * task], kept[task - 1][: 3 * task])
        assert set(kept[-1][3 * task : 3 * task + 3] // 100) == {task}
        recalled = made.recall(state.memory, jax.random.key(task), small.EXAMPLES).items.task
        assert np.max(recalled) <= task


@pytest.mark.parametrize(("count", "share", "rows"), [
    (8, 0.25, [3, 7]), (8, 0.75, [1, 2, 3, 5, 6, 7]), (6, 1.0, [0, 1, 2, 3, 4, 5]), (3, 0.25, [0]),
])  # fmt: skip
def test_replayed_rows_by_hand(count, share, rows):
    np.testing.assert_array_equal(replayed_rows(count, share), rows)


@pytest.mark.parametrize("devices", [2, 4])
def test_a_split_batch_has_the_same_replayed_rows(devices):
    part = 64 // devices
    split = [device * part + replayed_rows(part, 0.75) for device in range(devices)]
    np.testing.assert_array_equal(np.concatenate(split), replayed_rows(64, 0.75))


def test_rows_hold_different_examples():
    """Checks that as many examples are drawn as there are rows, each for one row."""
    made = method(replay_from="buffer", policy="reservoir", replay_share=0.5)
    memory = made.init(jax.random.key(0), make_batch(), small.started("simclr").network)[1]
    memory = made.observe(memory, small.seen(make_batch()), jax.random.key(1))
    recalled = made.recall(memory, jax.random.key(2), small.EXAMPLES)
    assert len(set(np.asarray(recalled.slot)[replayed_rows(small.EXAMPLES, 0.5)])) == 3


@pytest.mark.parametrize("learned", ["moco", "swav", "supervised"])
def test_an_objective_that_compares_with_something_else_is_refused(learned):
    with pytest.raises(ValueError, match=r"take the objective .* another method"):
        method(learned)
