"""Tests SwAV: its loss against a network called by hand, and its prototypes and queue over epochs and tasks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import small
from tests.small import EXAMPLES, make_batch, make_keys
from ucl_jax.methods import METHODS
from ucl_jax.models.heads import MLP, Network
from ucl_jax.types import Clock, Span, Variables

close = functools.partial(small.assert_trees_close, rtol=1e-4, atol=1e-5)
S = small.SETTINGS["swav"]


def clock(epoch):
    """Returns the clock in the middle of an epoch of ten steps of the second task."""
    return Clock(*(jnp.asarray(number, jnp.int32) for number in (205 + 10 * epoch, 1, 5 + 10 * epoch, 100, 10)))


def unit(x):
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def assign(scores):
    """Computes the assignments with all factors of the paper's algorithm, which cancel out."""
    shares = jnp.exp(scores / S["epsilon"])
    shares = shares / jnp.sum(shares)
    rows, columns = shares.shape
    for _ in range(S["iterations"]):
        shares = shares / jnp.sum(shares, axis=0, keepdims=True) / columns
        shares = shares / jnp.sum(shares, axis=1, keepdims=True) / rows
    return shares * rows


# Epoch 1 is before the queue's first epoch, which is 2. A queue with an empty last place is not full.
@pytest.mark.parametrize(("epoch", "full", "used"), [(1, True, False), (2, True, True), (2, False, False)])
def test_loss_gradient_and_state_equal_a_network_called_by_hand(epoch, full, used):
    start, network = small.started("swav"), Network(small.Backbone(), MLP(12, 6))
    views = small.alone("swav").views(make_keys().example, make_batch())
    queue = np.random.default_rng(0).normal(size=(S["queue_size"], 2, 6)).astype(np.float32)
    queue[-1] *= full
    state = start.state | {"queue": jnp.asarray(queue)}

    def ours(params):
        return small.objective("swav").loss(Variables(params, state), views, clock(epoch))

    def by_hand(params):
        statistics, z = {"batch_stats": start.state["batch_stats"]}, []
        for view in views.image:
            out, statistics = network.apply({"params": params, **statistics}, view, True, mutable=["batch_stats"])
            z.append(unit(out.projection))
        centres = unit(params["prototypes"]["direction"]) * params["prototypes"]["length"]
        terms = []
        for view, other in ((0, 1), (1, 0)):
            rows = jnp.concatenate([z[view], unit(queue[:, view])]) if used else z[view]
            shares = jax.lax.stop_gradient(assign(rows @ centres.T))[:EXAMPLES]
            logits = z[other] @ centres.T / S["temperature"]
            terms.append(-jnp.mean(jnp.sum(shares * jnp.log(jax.nn.softmax(logits)), axis=1)))
        return sum(terms) / 2, (z, statistics)

    both = [jax.jit(jax.value_and_grad(f, has_aux=True))(start.params.network) for f in (ours, by_hand)]
    ((value, aux), gradient), ((expected, (z, statistics)), slopes) = both
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    close(gradient, slopes, rtol=1e-2, atol=1e-4)
    assert all(np.any(leaf) for leaf in gradient["prototypes"].values())
    close(aux.state["batch_stats"], statistics["batch_stats"])
    entered = np.concatenate([np.stack(z, axis=1), queue])[: S["queue_size"]]
    np.testing.assert_allclose(aux.state["queue"], entered, rtol=1e-3, atol=1e-4)


def test_prototypes_start_as_a_linear_layer_with_its_lengths():
    prototypes = small.alone("swav").init(jax.random.key(0), make_batch().image).params["prototypes"]
    assert {name: leaf.shape for name, leaf in prototypes.items()} == {"direction": (9, 6), "length": (9, 1)}
    assert np.abs(prototypes["direction"]).max() <= 6**-0.5
    np.testing.assert_allclose(
        prototypes["length"], np.linalg.norm(prototypes["direction"], axis=1)[:, None], rtol=1e-6
    )
    np.testing.assert_allclose(np.mean(np.square(prototypes["length"])), 1 / 3, rtol=0.3)


def test_prototypes_are_not_trained_in_the_first_epoch_of_a_task():
    method = METHODS["finetune"](small.objective("swav"), small.SCENARIO)
    optimizer = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9))
    state, step = (
        small.start_state(method, optimizer, small.started("swav")),
        small.make_step(method, optimizer, "swav"),
    )
    for epoch_steps, trained in ((1, False), (1, True), (3, False)):  # the second step is in epoch 1, the third in 0
        span = Span(*(jnp.asarray(number, jnp.int32) for number in (0, 0, 100, epoch_steps)))
        after, _ = step(state, make_batch(), span)
        before, now = (one.params.network["prototypes"] for one in (state, after))
        for name, leaf in now.items():
            assert np.any(leaf != before[name]) == trained, (name, epoch_steps)
        assert np.any(after.params.network["projector"]["output"]["dense"]["bias"] != 0)
        state = after


def test_every_task_begins_with_an_empty_queue():
    start, made = small.started("swav"), small.objective("swav")
    state = made.begin_task(start.network, clock(0))
    assert np.any(start.state["queue"])
    assert not np.any(state["queue"])
    small.assert_trees_equal(state, start.state | {"queue": np.zeros((S["queue_size"], 2, 6), np.float32)})
