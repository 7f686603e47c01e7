"""Tests the optimisers against values of CaSSLe's code, and what they do at the borders of tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import golden, small
from ucl_jax.training import optimizers
from ucl_jax.types import Clock


def clock(task_step=0, task_steps=10, epoch_steps=1):
    return Clock(*(jnp.asarray(n, jnp.int32) for n in (task_step, 0, task_step, task_steps, epoch_steps)))


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize("name", ["lars_clip_exclude", "lars_clip_all", "lars_plain"])
def test_lars_gives_the_values_of_the_released_code(name, precision):
    with golden.precise(precision):
        inputs, settings, expected = golden.read(name, precision)
        rates = jnp.asarray(settings["rates"], precision)
        optimizer = optimizers.lars(
            lambda clock: rates[clock.task_step],
            settings["momentum"],
            settings["weight_decay"],
            eta=settings["eta"],
            clip=settings["clip"],
            exclude_1d=settings["exclude_1d"],
        )
        params = {key: inputs[key] for key in settings["order"]}
        state = optimizer.init(params)
        for step in range(len(rates)):
            gradient = {key: inputs[f"gradient_{key}_{step}"] for key in params}
            updates, state = optimizer.update(gradient, state, params, clock=clock(step))
            params = optax.apply_updates(params, updates)
        for key, value in expected.items():
            np.testing.assert_allclose(params[key], value, **golden.TOLERANCE[precision])


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize("name", ["warmup_cosine", "warmup_cosine_minimum"])
def test_warmup_and_cosine_give_the_values_of_the_released_code(name, precision):
    with golden.precise(precision):
        _, s, expected = golden.read(name, precision)
        rate = optimizers.warmup_cosine(s["base"], s["warmup_epochs"], s["warmup_start"], s["minimum"])
        for epoch, value in zip(s["at"], expected["rate"], strict=True):
            for place in (0, 38):  # it is set once an epoch
                at = clock(39 * epoch + place, 39 * s["epochs"], 39)
                np.testing.assert_allclose(rate(at), value, **golden.TOLERANCE[precision])


def test_a_cosine_without_warm_up_begins_at_the_rate_and_ends_at_the_minimum():
    rate = optimizers.warmup_cosine(0.4, 0, 0.003, 0.1)
    np.testing.assert_allclose([rate(clock(epoch, 8)) for epoch in (0, 4, 8)], [0.4, 0.25, 0.1], rtol=1e-6)
    warming = optimizers.warmup_cosine(0.4, 10, 0.003, 0.0)  # a task shorter than the warm-up
    np.testing.assert_allclose([warming(clock(epoch, 2)) for epoch in (0, 1)], [0.003, 0.003 + 0.397 / 9], rtol=1e-6)


def test_sgd_is_that_of_optax():
    rng = np.random.default_rng(0)
    params = {"a": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32), "b": jnp.asarray(rng.normal(size=4), jnp.float32)}
    ours = optimizers.sgd(optimizers.constant(0.3), 0.9, 0.01)
    theirs = optax.with_extra_args_support(optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.3, 0.9)))
    found = []
    for optimizer in (ours, theirs):
        values, state = params, optimizer.init(params)
        for step in range(3):
            gradient = {key: jnp.sin(value + step) for key, value in params.items()}
            updates, state = optimizer.update(gradient, state, values, clock=clock(step))
            values = optax.apply_updates(values, updates)
        found.append((values, jax.tree.leaves(state)))
    small.assert_trees_equal(*found)


def test_restarting_forgets_the_momentum_at_the_first_step_of_a_task_only():
    params = {"a": jnp.ones(3)}
    optimizer = optimizers.restarted(optimizers.sgd(optimizers.constant(1.0), 0.5, 0.0))
    state, lengths = optimizer.init(params), []
    for step in (0, 1, 2, 0, 1):
        updates, state = optimizer.update({"a": jnp.ones(3)}, state, params, clock=clock(step))
        lengths.append(float(-updates["a"][0]))
    assert lengths == [1.0, 1.5, 1.75, 1.0, 1.5]


def test_lars_in_the_train_step_changes_nothing_that_is_not_active():
    """Checks that weights which a phase masks stay as they are, although an earlier phase has left them momentum."""
    start, learned = small.started("simsiam"), small.objective("simsiam")
    frozen = jax.tree.map(jnp.zeros_like, start.params.network["backbone"])
    masked = learned._replace(active=lambda tree, *_: tree | {"backbone": frozen})
    optimizer = optimizers.lars(optimizers.constant(0.3), 0.9, 0.01, eta=0.02, clip=True, exclude_1d=False)

    def step(objective, state):
        method = small.METHODS["finetune"](objective, small.SCENARIO)
        made = jax.jit(small.make_train_step(objective, method, optimizer))
        return made(state, small.make_batch(), small.RUN_KEY, small.SPAN)[0]

    state = step(learned, small.start_state(small.make_raw("finetune"), optimizer, start))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))
    before = small.to_numpy(state.params.network)
    after = small.to_numpy(step(masked, state).params.network)
    small.assert_trees_equal(after["backbone"], before["backbone"])
    assert np.any(after["predictor"]["output"]["dense"]["kernel"] != before["predictor"]["output"]["dense"]["kernel"])
