"""Tests BYOL: its target network against NumPy, and its loss against two networks called by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import small
from tests.small import make_batch, make_keys
from ucl_jax.methods import METHODS
from ucl_jax.models.heads import MLP, Network
from ucl_jax.objectives import OBJECTIVES
from ucl_jax.objectives.target import without_predictor
from ucl_jax.types import Clock, Variables

close = functools.partial(small.assert_trees_close, rtol=1e-4, atol=1e-5)


def objective(**changes):
    return OBJECTIVES["byol"](small.ARCHITECTURE, small.AUGMENTATION, **(small.SETTINGS["byol"] | changes))


def clock(task_step, task_steps, task=0):
    return Clock(*(jnp.asarray(number, jnp.int32) for number in (task_step, task, task_step, task_steps, 1)))


def test_at_once_every_step_moves_the_target_by_its_own_momentum():
    made = objective(momentum=0.5, final_momentum=1.0)
    target = Variables({"projector": jnp.asarray([2.0])}, {"kept": jnp.ones(1)})
    online = {"projector": jnp.asarray([6.0])}
    for step, expected in ((0, 4.0), (5, 3.0), (10, 2.0)):  # momentum 0.5, 0.75, 1
        state = made.after_update(Variables(online, {"target": target}), clock(step, 10))
        np.testing.assert_allclose(state["target"].params["projector"], [expected], rtol=1e-6)
    small.assert_trees_equal(state["target"].state, target.state)


def test_the_target_starts_as_the_network_without_its_predictor():
    variables = small.alone("byol").init(jax.random.key(0), make_batch().image)
    assert set(variables.params) == {"backbone", "projector", "predictor"}
    target = variables.state["target"]
    small.assert_trees_equal(target.params, {name: variables.params[name] for name in ("backbone", "projector")})
    assert set(target.state["batch_stats"]) == {"backbone", "projector"}
    tree = {"a": {"predictor": {"b": 1}, "c": 2}, "predictor": 3}
    assert without_predictor(tree) == {"a": {"c": 2}}


@functools.cache
def networks():
    online = Network(small.Backbone(), MLP(12, 6), MLP(5))
    return online, Network(small.Backbone(), MLP(12, 6))


def call(network, params, state, views):
    """Returns the outputs of views one after the other in training mode, and the running statistics after them."""
    outputs = []
    for view in views:
        out, state = network.apply({"params": params, **state}, view, True, mutable=["batch_stats"])
        outputs.append(out)
    return outputs, state


def test_loss_gradient_and_statistics_equal_two_networks_called_by_hand():
    start, (online, follower) = small.started("byol"), networks()
    views = small.alone("byol").views(make_keys().example, make_batch())
    target = start.state["target"]
    (value, aux), gradient = small.value_and_grad("byol")(start.network, views)

    def cosine(p, z):
        return jnp.sum(p * z, axis=1) / jnp.linalg.norm(p, axis=1) / jnp.linalg.norm(z, axis=1)

    def by_hand(params):
        ours, statistics = call(online, params, {"batch_stats": start.state["batch_stats"]}, views.image)
        theirs, followed = call(follower, target.params, target.state, views.image)
        first = 2 - 2 * jnp.mean(cosine(ours[0].prediction, theirs[1].projection))
        second = 2 - 2 * jnp.mean(cosine(ours[1].prediction, theirs[0].projection))
        return first + second, (ours, statistics, followed)

    (expected, (ours, statistics, followed)), slopes = jax.jit(jax.value_and_grad(by_hand, has_aux=True))(
        start.params.network
    )
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    close(gradient, slopes, rtol=1e-2, atol=1e-4)
    close(aux.state["batch_stats"], statistics["batch_stats"])
    close(aux.state["target"].state, followed)
    small.assert_trees_equal(aux.state["target"].params, target.params)  # it moves only after the update
    np.testing.assert_allclose(aux.outputs.prediction[1], ours[1].prediction, rtol=1e-3, atol=1e-4)


def test_eval_loss_is_a_mean_over_examples():
    start, made = small.started("byol"), small.objective("byol")
    views = small.alone("byol").views(make_keys().example, make_batch())
    eval_loss = jax.jit(made.eval_loss)
    alone = [eval_loss(start.network, jax.tree.map(lambda x, i=i: x[i : i + 1], views)) for i in range(small.EXAMPLES)]
    np.testing.assert_allclose(eval_loss(start.network, views), np.mean(alone), rtol=1e-4)
    assert np.std(alone) > 1e-3


def test_through_the_train_step_the_target_follows_the_updated_parameters():
    method, optimizer = METHODS["finetune"](small.objective("byol"), small.SCENARIO), optax.sgd(0.1)
    step = small.make_step(method, optimizer, "byol")
    before = small.start_state(method, optimizer, small.started("byol"))
    for number in range(2):
        after, _ = step(before, make_batch(number))
        tau = 1.0 - 0.1 * (np.cos(np.pi * number / 100) + 1) / 2  # SPAN has 100 steps
        expected = jax.tree.map(
            lambda t, p, tau=tau: tau * t + (1 - tau) * p,
            before.model_state["target"].params,
            without_predictor(after.params.network),
        )
        close(after.model_state["target"].params, expected, rtol=1e-5, atol=1e-6)
        moved = jax.tree.map(
            lambda x, y: float(jnp.abs(x - y).max()),
            after.model_state["target"].params,
            before.model_state["target"].params,
        )
        assert max(jax.tree.leaves(moved)) > 1e-4
        before = after


@pytest.mark.parametrize("word", ["early", ""])
def test_another_word_for_the_first_update_is_refused(word):
    with pytest.raises(ValueError, match=rf"first_update is '{word}'.*late, at_once"):
        objective(first_update=word)
