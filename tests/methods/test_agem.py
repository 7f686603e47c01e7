"""Tests A-GEM: its projection by hand, and steps of a small real network against two gradients put together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from jax.flatten_util import ravel_pytree

from tests import small
from tests.small import EXAMPLES, make_batch
from ucl_jax.methods.agem import without_conflict

DEFAULTS = {
    "buffer_size": 10 * EXAMPLES, "policy": "reservoir", "replay_from": "past_tasks", "count": "presentations",
    "replay_view": "strong",
}  # fmt: skip
SHARED, SHARE = {"policy": "equal_share", "count": "examples", "buffer_size": 14}, 14 // small.TASKS
LEARNING_RATE = 0.3
OPTIMIZER = optax.sgd(LEARNING_RATE)


def tree(*numbers):
    """Makes a tree of two leaves of different shapes: the first number is in one, the others are in the other."""
    return {"a": jnp.asarray([[numbers[0]]], jnp.float32), "b": {"c": jnp.asarray(numbers[1:], jnp.float32)}}


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0], np.float64)


# The projection.


@pytest.mark.parametrize(("grads", "reference", "expected"), [
    ((1.0, 2.0), (3.0, 1.0), (1.0, 2.0)),  # they agree
    ((1.0, 2.0), (2.0, -1.0), (1.0, 2.0)),  # at a right angle
    ((1.0, -2.0), (1.0, 1.0), (1.5, -1.5)),  # product -1, length 2: half the reference is added
    ((1.0, 2.0, -1.0), (-1.0, -1.0, 1.0), (-1 / 3, 2 / 3, 1 / 3)),  # product -4, length 3
    ((-2.0, 0.0), (4.0, 0.0), (0.0, 0.0)),  # opposite: nothing is left
    ((0.0, 0.0), (1.0, 5.0), (0.0, 0.0)),
])  # fmt: skip
def test_without_conflict_equals_numbers_worked_by_hand(grads, reference, expected):
    # Neither length matters: a reference times 10 gives the same.
    for scale in (1.0, 10.0):
        found = without_conflict(tree(*grads), tree(*(scale * x for x in reference)))
        small.assert_trees_close(found, tree(*expected), rtol=1e-6, atol=1e-6)


def random_pair(seed):
    return (tree(*np.random.default_rng([seed, which]).normal(size=7)) for which in (0, 1))


def test_agreeing_gradients_are_untouched_to_the_bit_and_others_end_at_a_right_angle():
    kinds = set()
    for seed in range(40):
        grads, reference = random_pair(seed)
        product = flat(grads) @ flat(reference)
        found = without_conflict(grads, reference)
        kinds.add(product >= 0)
        if product >= 0:
            small.assert_trees_equal(found, grads)
        else:
            np.testing.assert_allclose(flat(found) @ flat(reference), 0.0, atol=1e-5)
    assert kinds == {True, False}


def test_without_conflict_gives_the_nearest_gradient_with_no_negative_product():
    rng = np.random.default_rng(0)
    for seed in range(40):
        grads, reference = random_pair(seed)
        g, r, found = flat(grads), flat(reference), flat(without_conflict(grads, reference))
        assert found @ r >= -1e-5
        # The nearest on the plane at a right angle to the reference, from a basis of that plane.
        basis = np.linalg.svd(r[None])[2][1:]
        nearest = g if g @ r >= 0 else basis.T @ (basis @ g)
        np.testing.assert_allclose(found, nearest, atol=1e-5)
        # No other allowed gradient is nearer.
        others = found + rng.normal(size=(200, 7)) * rng.uniform(0.001, 2.0, size=(200, 1))
        others = others[others @ r >= 0]
        assert np.all(np.linalg.norm(others - g, axis=1) > np.linalg.norm(found - g) - 1e-5)


def test_a_reference_of_zeros_leaves_the_gradient_to_the_bit():
    grads, zeros = tree(1.0, -2.0, 3e20), tree(0.0, 0.0, 0.0)
    small.assert_trees_equal(without_conflict(grads, zeros), grads)
    # A reference so small that its square is 0 in float32 keeps the result finite.
    assert np.all(np.isfinite(flat(without_conflict(tree(1.0, -2.0), tree(1e-30, 1e-30)))))


# Through the train step.


@functools.cache
def agem(learned="simsiam", **changes):
    method = small.make_raw("agem", learned, **(DEFAULTS | changes))
    return method, small.make_step(method, OPTIMIZER, learned)


@functools.cache
def finetune(learned="simsiam"):
    method = small.make_raw("finetune", learned)
    return method, small.make_step(method, OPTIMIZER, learned)


def start(method, learned="simsiam"):
    return small.start_state(method, OPTIMIZER, small.started(learned))


def gradients_by_hand(method, state, batch):
    """Returns the gradients on the present and on recalled examples, the labels of the recalled, and the new state."""
    objective, value_and_grad = small.alone("simsiam"), small.value_and_grad("simsiam")
    recall_key, _, keys = small.step_keys(state.step)
    past = method.recall(state.memory, recall_key, EXAMPLES)
    (_, aux), grads = value_and_grad(state.network, objective.views(keys.example, batch))
    _, reference = value_and_grad(state.network, objective.views(keys.past, past.items.batch))
    return flat(grads), flat(reference), np.asarray(past.items.batch.label), aux.state


def projected_by_hand(grads, reference):
    return grads - min(grads @ reference, 0) / (reference @ reference) * reference


def test_steps_are_finetunes_while_there_is_no_earlier_task():
    """Checks that in the first task, steps equal finetune's, although the buffer holds earlier batches of the task."""
    (method, step), (other, finetune_step) = agem(), finetune()
    state, expected = start(method), start(other)
    for seed in range(3):
        state, metrics = step(state, make_batch(seed))
        expected, expected_metrics = finetune_step(expected, make_batch(seed))
        close = functools.partial(small.assert_trees_close, rtol=1e-5, atol=1e-6)
        close((state.params, state.model_state), (expected.params, expected.model_state))
        close(metrics, expected_metrics)
    assert state.memory.buffer.offered == 3 * EXAMPLES


def test_steps_equal_gradients_by_hand_projected_in_numpy():
    method, step = agem()
    state = start(method)
    state, _ = step(state, make_batch(0))
    state = small.end_of_task(method, state)
    cosines = []
    for seed in range(1, 9):
        grads, reference, labels, model_state = gradients_by_hand(method, state, make_batch(seed))
        # Only the earlier task is recalled, although the buffer holds the present one as well.
        assert sorted(labels) == list(range(EXAMPLES))
        after, metrics = step(state, make_batch(seed))
        moved = flat(after.params) - flat(state.params)
        expected = projected_by_hand(grads, reference)
        np.testing.assert_allclose(moved, -LEARNING_RATE * expected, rtol=1e-3, atol=2e-6)
        np.testing.assert_allclose(metrics["grad_norm"], np.linalg.norm(expected), rtol=1e-4)
        # Running statistics come from the present alone.
        small.assert_trees_close(after.model_state, model_state, rtol=1e-4, atol=1e-5)
        cosines.append(grads @ reference / np.linalg.norm(grads) / np.linalg.norm(reference))
        state = after
    assert min(cosines) < -0.01 < 0.01 < max(cosines), cosines  # steps with and without a projection occur


def test_with_replay_from_the_buffer_the_present_task_counts_too():
    method, step = agem(replay_from="buffer")
    state, cosines = start(method), []
    for seed in range(8):
        if seed:
            grads, reference, labels, _ = gradients_by_hand(method, state, make_batch(seed))
            assert set(labels // 100) <= set(range(seed))
            expected = projected_by_hand(grads, reference)
            cosines.append(grads @ reference / np.linalg.norm(grads) / np.linalg.norm(reference))
        after, _ = step(state, make_batch(seed))
        if seed:
            moved = flat(after.params) - flat(state.params)
            np.testing.assert_allclose(moved, -LEARNING_RATE * expected, rtol=1e-3, atol=2e-6)
        state = after
    assert min(cosines) < -0.01, cosines


def test_an_empty_memory_is_finite_where_the_loss_of_empty_images_is_not():
    """Checks that Barlow Twins stays finite with an empty memory, whose deviations, its divisors, are 0."""
    (method, step), (other, finetune_step) = agem("barlow_twins"), finetune("barlow_twins")
    state, _ = step(start(method, "barlow_twins"), make_batch(0))
    expected, _ = finetune_step(start(other, "barlow_twins"), make_batch(0))
    assert np.all(np.isfinite(flat(state.params)))
    small.assert_trees_close(state.params, expected.params, rtol=1e-5, atol=1e-6)


def test_reference_is_the_gradient_of_the_objective_on_recalled_examples():
    method, step = agem()
    state, _ = step(start(method), make_batch(0))
    state = small.end_of_task(method, state)
    recall_key, _, keys = small.step_keys(state.step)
    past = method.recall(state.memory, recall_key, EXAMPLES)
    reference = jax.jit(jax.grad(method.reference))
    found = reference(state.params, state.model_state, state.memory, past, keys, small.CLOCK)
    _, expected, _, _ = gradients_by_hand(method, state, make_batch(1))
    np.testing.assert_allclose(flat(found), expected, rtol=1e-3, atol=1e-6)


# An equal share of the buffer for each task.


def observed(memory, method, seed, key, first=True):
    return method.observe(memory, small.seen(make_batch(seed, first)), key)


def test_each_task_has_an_equal_share_of_its_own_images_each_counted_once():
    """Checks that each of three tasks fills only its own share, and an image is offered once in any number of epochs.

    The tasks have three batches, two images (fewer than the share), and two batches.
    """
    method = small.make_method("agem", **(DEFAULTS | SHARED))
    memory = small.memory_of(method, make_batch(), small.started("simsiam"))
    tasks = [{0: True, 1: True, 2: True}, {3: np.arange(EXAMPLES) < 2}, {4: True, 5: True}]
    for task, batches in enumerate(tasks):
        for epoch in range(3):
            for seed, first in batches.items():
                before = memory
                key = jax.random.fold_in(jax.random.key(seed), epoch)
                memory = observed(memory, method, seed, key, first if epoch == 0 else False)
                if epoch:
                    small.assert_trees_equal(memory, before)  # no image is offered twice
                # Only images of earlier tasks are recalled, while this task fills its own slots.
                past = np.asarray(method.recall(memory, key, EXAMPLES).items.batch.label)
                assert task == 0 or set(past // 100) <= set().union(*tasks[:task])
        memory = small.ended(method, memory)
    batch, filled = method.stored(memory)
    assert batch.label.shape == (3 * SHARE,)  # each task has 14 // 3 slots
    np.testing.assert_array_equal(filled, [True] * SHARE + [True] * 2 + [False] * 2 + [True] * SHARE)
    label, shares = np.asarray(batch.label), np.arange(3 * SHARE) // SHARE
    for task, batches in enumerate(tasks):
        mine = label[(shares == task) & filled]
        assert set(mine // 100) <= set(batches)
        assert len(set(mine)) == len(mine)
        for place in np.flatnonzero((shares == task) & filled):
            np.testing.assert_array_equal(batch.image[place], make_batch(label[place] // 100).image[label[place] % 100])
    np.testing.assert_array_equal(label[SHARE : SHARE + 2], [300, 301])
    assert set(np.asarray(method.recall(memory, jax.random.key(0), 3 * SHARE - 2).items.batch.label)) == set(
        label[filled]
    )


def test_the_share_of_a_task_is_a_uniform_sample_of_it_whatever_the_number_of_tasks_before():
    """Checks that each of 18 images of a task is kept with the same probability, as if drawn at its end."""
    method, runs = small.make_raw("agem", **(DEFAULTS | SHARED)), 2_000

    def run(key):
        memory = small.memory_of(method, make_batch(), small.started("simsiam"))
        for task in range(2):
            for seed in range(3):
                memory = observed(memory, method, seed, jax.random.fold_in(jax.random.fold_in(key, task), seed))
            memory = small.ended(method, memory)
        return memory.buffer.items.batch.label

    kept = np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(1), runs)))
    places = [100 * seed + place for seed in range(3) for place in range(EXAMPLES)]
    for task in range(2):
        count = np.array([np.sum(kept[:, task * SHARE : (task + 1) * SHARE] == label) for label in places])
        assert count.sum() == SHARE * runs
        # The variance is that of simple random sampling, see tests/buffers.
        n, p = len(places), SHARE / len(places)
        statistic = np.sum((count - runs * p) ** 2) / (runs * p * (1 - p)) * (n - 1) / n
        assert scipy.stats.chi2(n - 1).sf(statistic) > 1e-4
    assert np.mean(kept[:, :SHARE] == kept[:, SHARE : 2 * SHARE]) < 0.1  # the tasks are drawn independently


def test_another_policy_is_refused():
    with pytest.raises(ValueError, match=r"policy is 'ring'.*reservoir, equal_share"):
        small.make_raw("agem", **(DEFAULTS | SHARED | {"policy": "ring"}))
