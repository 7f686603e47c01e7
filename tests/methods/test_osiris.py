"""Tests Osiris: its loss against the released code, and what it does at the borders of tasks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import golden, small
from tests.small import make_batch, make_keys
from ucl_jax.buffers import Recalled
from ucl_jax.methods import METHODS
from ucl_jax.methods.osiris import Remembered
from ucl_jax.methods.rehearsal import replayed_rows
from ucl_jax.models.heads import Embedding
from ucl_jax.objectives import OBJECTIVES
from ucl_jax.training import loop
from ucl_jax.training.build import Phase
from ucl_jax.types import Batch, Clock, Span, TrainedParams, Variables, Views

SETTINGS = {
    "buffer_size": 9,
    "policy": "reservoir",
    "replay_from": "buffer",
    "count": "presentations",
    "replay_share": 0.75,
    "past": "replay",
    "frozen_mode": "train",
}


def method(learned="simclr", **changes):
    return METHODS["osiris"](small.objective(learned), small.SCENARIO, **(SETTINGS | changes))


def given_batch(first, second):
    """Builds a batch whose images hold features [B, D] of two views, and in a last column the number of the view."""
    count = len(first)
    views = [
        jnp.concatenate([x, jnp.full((count, 1), view, x.dtype)], axis=1) for view, x in enumerate((first, second))
    ]
    return Batch(jnp.stack(views, axis=-1), jnp.zeros(count, jnp.int32), jnp.ones(count, bool))


def given_objective(settings, precision):
    """Builds SimCLR whose backbone is the identity, and for a frozen network its parameters past1 and past2."""
    given = {"hidden_dim": 9, "output_dim": 4, "temperature": settings["temperature"], "dtype": precision}
    made = OBJECTIVES["simclr"](small.ARCHITECTURE, small.AUGMENTATION, **given)

    def embed(network, view, train):
        features = jnp.where(view[0, -1] == 0, network.params["past1"], network.params["past2"])
        return Embedding(features, features, (), ()), network.state

    def forward(network, views):
        features = jnp.stack(views.image)[..., :-1]
        projection = jax.vmap(partial(made.contrast.project, network.params["projector"]))(features)
        return Embedding(features, projection, (), ()), network.state

    return made._replace(
        embed=embed,
        views=lambda keys, batch, how: Views((batch.image[..., 0], batch.image[..., 1]), None),
        comparison=made.comparison._replace(forward=forward),
    )


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize(("case", "past"), [("osiris_r", "replay"), ("osiris_d", "distil")])
def test_the_loss_and_its_gradients_equal_the_official_ones(case, past, precision):
    with golden.precise(precision):
        inputs, settings, expected = golden.read(case, precision)
        made = METHODS["osiris"](given_objective(settings, precision), small.SCENARIO, **(SETTINGS | {"past": past}))
        rows, place = replayed_rows(8, 0.75), np.zeros(8, int)
        place[rows] = np.arange(6)
        frozen = Variables({key: inputs[key] for key in ("past1", "past2")}, {}) if past == "distil" else ()
        batch = given_batch(inputs["x1"], inputs["x2"])
        fresh = Variables({"projector": jnp.zeros(1)}, {})
        memory = made.observe(made.init(jax.random.key(0), batch, fresh)[1], small.seen(batch), jax.random.key(1))
        memory = Remembered(frozen, memory.rehearsed)

        def projector(x, name):
            bias = jnp.zeros(4, precision)  # the last layer has none there
            return {
                "hidden": {"dense": {"kernel": x[f"{name}.W1"].T, "bias": x[f"{name}.b1"]}},
                "output": {"dense": {"kernel": x[f"{name}.W2"].T, "bias": bias}},
            }

        def loss(x):
            params = TrainedParams({"projector": projector(x, "g")}, projector(x, "h"))
            items = memory.rehearsed.buffer.items._replace(batch=given_batch(x["u1"][place], x["u2"][place]))
            arguments = given_batch(x["x1"], x["x2"]), Recalled(jnp.arange(8), items), make_keys(), small.CLOCK
            return made.loss(params, {}, memory, *arguments)

        golden.check(lambda x: loss(x)[0], inputs, expected, precision)
        metrics = loss(inputs)[1].metrics
        np.testing.assert_allclose(2 * metrics["cross"], expected["cross"], **golden.TOLERANCE[precision])
        np.testing.assert_allclose(2 * metrics["past"], expected["past"], **golden.TOLERANCE[precision])


@pytest.mark.parametrize("past", ["replay", "distil"])
def test_the_second_projector_is_a_copy_at_the_second_task_and_goes_on_from_there(past):
    made, optimizer = method(past=past), optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9))
    step = small.make_step(made, optimizer, "simclr")
    phase = Phase(small.objective("simclr"), made, step)
    state = small.start_state(made, optimizer, small.started("simclr"))
    for task in range(3):
        before = state.params.method
        clock = Clock(*(jnp.asarray(n, jnp.int32) for n in (task, task, 0, 100, 10)))
        state = loop.begin_task(phase, state, clock)
        projector = state.params.network["projector"]
        small.assert_trees_equal(state.params.method, projector if task == 1 else before)
        old = jax.tree.map(np.asarray, state.params.method)
        state, metrics = step(
            state, make_batch(task), Span(*(jnp.asarray(n, jnp.int32) for n in (task, task, 100, 10)))
        )
        moved = jax.tree.map(lambda x, y: bool(np.any(np.asarray(x) != y)), state.params.method, old)
        assert all(jax.tree.leaves(moved)) == any(jax.tree.leaves(moved)) == (task > 0)
        assert (float(metrics["cross"]) != 0.0) == (float(metrics["past"]) != 0.0) == (task > 0)
        state = loop.end_task(phase, state)
        if past == "distil":
            small.assert_trees_equal(state.memory.network, state.network)
        else:
            assert state.memory.network == ()  # Osiris-R stores no network
    assert state.memory.rehearsed.buffer.offered == 3 * small.EXAMPLES


def test_in_the_first_task_the_loss_is_the_objective_of_the_present_beside_some_rows_twice():
    made, start, batch, keys = method(), small.started("simclr"), make_batch(), make_keys()
    own, memory = made.init(jax.random.key(0), batch, start.network)
    memory = made.observe(memory, small.seen(make_batch(1)), jax.random.key(1))  # stored images are not shown yet
    views = small.alone("simclr").views(keys.example, batch)
    rows, comparison = replayed_rows(small.EXAMPLES, 0.75), small.objective("simclr").comparison
    recalled = made.recall(memory, jax.random.key(0), small.EXAMPLES)
    clock = small.CLOCK._replace(task=jnp.int32(0))
    value, aux = jax.jit(made.loss)(
        TrainedParams(start.params.network, own), start.state, memory, batch, recalled, keys, clock
    )
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x[rows]]), views)
    outputs, state = jax.jit(comparison.forward)(start.network, twice)
    expected = comparison.both(jax.tree.map(lambda x: x[:, : small.EXAMPLES], outputs))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    small.assert_trees_close(aux.state, state, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("learned", [name for name in OBJECTIVES if name != "simclr"])
def test_an_objective_without_negatives_in_the_batch_is_refused(learned):
    with pytest.raises(ValueError, match="take the objective simclr, or another method"):
        method(learned)


def test_another_word_for_the_past_loss_is_refused():
    with pytest.raises(ValueError, match=r"past is 'distill'.*replay, distil"):
        method(past="distill")
