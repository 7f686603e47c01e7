"""Tests ER on a small real network, and what rehearsal methods share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.small import EXAMPLES, make_batch, make_keys
from ucl_jax.methods.rehearsal import past_or_present, stand_in

OWN = {
    "er": {"replay_view": "strong", "policy": "reservoir"},
    "agem": {"replay_view": "strong", "policy": "equal_share"},
    "gss": {"replay_view": "strong", "compare": 3, "at_once": 0},
    "der": {"policy": "reservoir", "alpha": 0.1, "beta": 0.0, "target": "features"},
}
BUFFER = {"buffer_size": 3 * EXAMPLES, "replay_from": "buffer", "count": "presentations"}
DEFAULTS = BUFFER | OWN["er"]
close = functools.partial(small.assert_trees_close, rtol=1e-4, atol=1e-5)


@functools.cache
def er(learned, **changes):
    return small.make_method("er", learned, **(DEFAULTS | changes))


def observe(method, memory, *seeds):
    for seed in seeds:
        memory = method.observe(memory, small.seen(make_batch(seed)), jax.random.key(seed))
    return memory


def cross_entropy(logits, labels):
    """Computes the cross-entropy in NumPy; labels are numbers of classes."""
    logits = np.asarray(logits, np.float64)
    log_sum = np.log(np.sum(np.exp(logits - logits.max(1, keepdims=True)), axis=1)) + logits.max(1)
    return np.mean([total - row[label] for total, row, label in zip(log_sum, logits, labels)])


# Helpers.


def test_past_or_present_takes_all_of_one():
    past, present = (
        {"a": jnp.asarray([1.0, 2.0]), "b": jnp.ones((2, 3))},
        {"a": jnp.zeros(2), "b": jnp.full((2, 3), 7.0)},
    )
    small.assert_trees_equal(past_or_present(past, present, jnp.asarray(True)), past)
    small.assert_trees_equal(past_or_present(past, present, jnp.asarray(False)), present)


def test_rows_that_stand_in_for_the_past_are_those_of_the_same_device():
    rows = jnp.arange(8)
    np.testing.assert_array_equal(stand_in(rows, 8), rows)
    np.testing.assert_array_equal(stand_in(rows, 4), [0, 2, 4, 6])
    np.testing.assert_array_equal(stand_in(rows, 12), [0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7])
    for n in (4, 12, 20):
        both = np.concatenate([stand_in(half, n // 2) for half in np.split(rows, 2)])
        np.testing.assert_array_equal(both, stand_in(rows, n))


def test_a_batch_enters_the_buffer_after_the_last_of_its_updates():
    method, batch = er("simsiam", count="examples"), make_batch(1)
    memory = small.memory_of(method, batch, small.started("simsiam"))
    for last, offered in ((False, 0), (False, 0), (True, EXAMPLES)):
        memory = method.observe(memory, small.seen(batch, last=last), jax.random.key(0))
        assert memory.buffer.offered == offered


# The loss.


@pytest.mark.parametrize(("learned", "replay_view"), [
    ("simsiam", "strong"), ("barlow_twins", "strong"), ("supervised", "strong"), ("simsiam", "weak"),
    ("supervised", "weak"),
])  # fmt: skip
def test_loss_is_the_objectives_on_present_and_past_views_together(learned, replay_view):
    objective, start = small.alone(learned), small.started(learned)
    method, batch, keys = er(learned, replay_view=replay_view), make_batch(3), make_keys(5)
    memory = observe(method, small.memory_of(method, batch, start), 1, 2)
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    value, aux = method.loss(*start, memory, batch, past, keys)

    present, replayed = objective.views(keys.example, batch), objective.views(keys.past, past.items.batch)
    if replay_view == "weak":  # the image minus a random number, as in small.AUGMENTATION
        pairs = jax.vmap(jax.random.split)(keys.past)
        image = np.asarray(past.items.batch.image, np.float32) / 255
        shown = [image - np.array([jax.random.uniform(k) for k in some]).reshape(-1, 1, 1, 1)
                 for some in ([keys.past] if learned == "supervised" else [pairs[:, 0], pairs[:, 1]])]  # fmt: skip
        replayed = replayed._replace(image=tuple(shown))
    together = jax.tree.map(lambda x, y: jnp.asarray(np.concatenate([x, y])), present, replayed)
    expected, expected_aux = objective.loss(start.network, together)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    close((aux.state, aux.metrics), (expected_aux.state, expected_aux.metrics))
    assert aux.outputs == ()
    assert abs(expected - objective.loss(start.network, present)[0]) > 1e-3  # the past changes the loss

    if learned == "supervised":
        labels = [*range(300, 300 + EXAMPLES), *np.asarray(past.items.batch.label)]
        assert set(np.asarray(past.items.batch.label) // 100) == {1, 2}
        logits = objective.embed(start.network, together.image[0], True)[0].logits
        np.testing.assert_allclose(value, cross_entropy(logits, labels), rtol=1e-4)


@pytest.mark.parametrize("learned", ["simsiam", "supervised"])
@pytest.mark.parametrize("replay_from", ["buffer", "past_tasks"])
def test_with_nothing_to_replay_it_is_the_objective_on_the_present_twice(learned, replay_from):
    """Checks that with nothing to replay, the loss is the objective's on two copies of the present.

    Means and statistics over two copies are those of one, except for the unbiased running variance.
    """
    objective, start = small.alone(learned), small.started(learned)
    method, batch, keys = er(learned, replay_from=replay_from), make_batch(3), make_keys(5)
    memory = small.memory_of(method, batch, start)
    if replay_from == "past_tasks":
        memory = observe(method, memory, 1)  # examples of the present task, which do not count as past
    value, aux = method.loss(*start, memory, batch, method.recall(memory, jax.random.key(0), EXAMPLES), keys)
    present = objective.views(keys.example, batch)
    np.testing.assert_allclose(value, objective.loss(start.network, present)[0], rtol=1e-5)
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), present)
    np.testing.assert_allclose(value, objective.loss(start.network, twice)[0], rtol=1e-5)
    close(aux.state, objective.loss(start.network, twice)[1].state)


def test_past_tasks_replays_earlier_tasks_only():
    start = small.started("simsiam")
    method = er("simsiam", replay_from="past_tasks")
    memory = observe(method, small.memory_of(method, make_batch(), start), 1)
    memory = observe(method, small.ended(method, memory), 2)
    for seed in range(5):
        past = method.recall(memory, jax.random.key(seed), EXAMPLES)
        assert sorted(np.asarray(past.items.batch.label)) == list(range(100, 100 + EXAMPLES))
        np.testing.assert_array_equal(past.items.batch.image, make_batch(1).image[past.items.batch.label - 100])


@pytest.mark.parametrize(("name", "value", "message"), [
    ("replay_from", "past", r"replay_from is 'past'.*buffer, past_tasks"),
    ("count", "", r"count is ''.*presentations, examples"),
])  # fmt: skip
@pytest.mark.parametrize("method", ["er", "agem", "der"])
def test_settings_of_the_buffer_are_checked_for_each_method(method, name, value, message):
    with pytest.raises(ValueError, match=message):
        small.make_raw(method, **(BUFFER | OWN[method] | {name: value}))


@pytest.mark.parametrize("method", ["er", "agem", "gss"])
def test_how_the_past_is_shown_is_checked(method):
    with pytest.raises(ValueError, match=r"replay_view is 'week'.*strong, weak"):
        small.make_raw(method, **(BUFFER | OWN[method] | {"replay_view": "week"}))
