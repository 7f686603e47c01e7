"""Tests MoCo: its loss against two networks called by hand, and its queue over steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests import small
from tests.small import EXAMPLES, make_batch, make_keys
from ucl_jax.methods import METHODS
from ucl_jax.models.heads import MLP, Network
from ucl_jax.types import Variables

close = functools.partial(small.assert_trees_close, rtol=1e-4, atol=1e-5)
SIZE, TEMPERATURE = (small.SETTINGS["moco"][key] for key in ("queue_size", "temperature"))


def unit(x):
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def call(network, params, state, views):
    """Returns unit projections of views one after the other in training mode, and the running statistics after them."""
    outputs = []
    for view in views:
        out, state = network.apply({"params": params, **state}, view, True, mutable=["batch_stats"])
        outputs.append(unit(out.projection))
    return outputs, state


def test_loss_gradient_and_state_equal_two_networks_called_by_hand():
    start, network = small.started("moco"), Network(small.Backbone(), MLP(12, 6, norm="none"))
    views = small.alone("moco").views(make_keys().example, make_batch())
    target, queue = start.state["target"], start.state["queue"]
    (value, aux), gradient = small.value_and_grad("moco")(start.network, views)

    def by_hand(params):
        queries, statistics = call(network, params, {"batch_stats": start.state["batch_stats"]}, views.image)
        keys, followed = call(network, target.params, target.state, views.image)
        terms = []
        for view, other in ((0, 1), (1, 0)):
            logits = [jnp.sum(queries[view] * keys[other], 1, keepdims=True), queries[view] @ queue[:, other].T]
            share = jax.nn.softmax(jnp.concatenate(logits, axis=1) / TEMPERATURE)
            terms.append(-jnp.mean(jnp.log(share[:, 0])))
        return sum(terms) / 2, (keys, statistics, followed)

    (expected, (keys, statistics, followed)), slopes = jax.jit(jax.value_and_grad(by_hand, has_aux=True))(
        start.params.network
    )
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    close(gradient, slopes, rtol=1e-2, atol=1e-4)
    close(aux.state["batch_stats"], statistics["batch_stats"])
    close(aux.state["target"].state, followed)
    small.assert_trees_equal(aux.state["target"].params, target.params)  # it moves only after the update
    entered = np.concatenate([np.stack(keys, axis=1), queue])[:SIZE]
    np.testing.assert_allclose(aux.state["queue"], entered, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(jnp.linalg.norm(aux.outputs.projection, axis=-1), np.ones((2, EXAMPLES)), rtol=1e-5)


def test_the_queue_starts_with_random_unit_vectors_of_the_key():
    init, images = small.alone("moco").init, make_batch().image
    queue = init(jax.random.key(0), images).state["queue"]
    assert queue.shape == (SIZE, 2, 6)
    np.testing.assert_allclose(jnp.linalg.norm(queue, axis=-1), np.ones((SIZE, 2)), rtol=1e-5)
    assert len(np.unique(queue)) == queue.size
    np.testing.assert_array_equal(queue, init(jax.random.key(0), images).state["queue"])
    assert np.all(queue != init(jax.random.key(1), images).state["queue"])


def test_the_target_follows_and_the_queue_goes_on_over_tasks():
    made = small.objective("moco")
    method, optimizer = METHODS["finetune"](made, small.SCENARIO), optax.sgd(0.1)
    state = small.start_state(method, optimizer, small.started("moco"))
    after, _ = small.make_step(method, optimizer, "moco")(state, make_batch())
    target = jax.tree.map(
        lambda t, p: 0.9 * t + 0.1 * p, state.model_state["target"].params, after.params.network
    )  # the first of 100 steps
    close(after.model_state["target"].params, target)
    small.assert_trees_equal(made.begin_task(after.network, small.CLOCK), after.model_state)


def test_eval_loss_is_a_mean_over_examples():
    start, made = small.started("moco"), small.objective("moco")
    views = small.alone("moco").views(make_keys().example, make_batch())
    eval_loss = jax.jit(made.eval_loss)
    network = Variables(*start.network)
    alone = [eval_loss(network, jax.tree.map(lambda x, i=i: x[i : i + 1], views)) for i in range(EXAMPLES)]
    np.testing.assert_allclose(eval_loss(network, views), np.mean(alone), rtol=1e-4)
    assert np.std(alone) > 1e-3
