"""Tests GSS: the choice of slots against a plain loop, and similarities against gradients taken one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from tests import small
from tests.small import EXAMPLES, make_batch, make_keys
from ucl_jax.buffers.base import filled_in_order, uniform_sample
from ucl_jax.buffers.greedy import greedy_slots
from ucl_jax.methods import METHODS
from ucl_jax.models.heads import MLP, Network
from ucl_jax.models.layers import Dense
from ucl_jax.types import Keys

DEFAULTS = {
    "buffer_size": 2 * EXAMPLES, "compare": 4, "at_once": 0, "replay_view": "strong", "replay_from": "buffer",
    "count": "presentations",
}  # fmt: skip


@jax.jit
def choose(key, stored, seen, offered):
    return greedy_slots(key, seen, stored, offered, jnp.ones(offered.shape, bool))


@functools.cache
def gss(learned="simsiam", **changes):
    return small.make_method("gss", learned, **(DEFAULTS | changes))


# Which example takes which slot.


def one_by_one(key, stored, seen, offered):
    """Repeats `greedy_slots` in a plain loop, with the same random draws."""
    score, slots = np.array(stored, np.float32), []
    for mine, turn_key in zip(np.asarray(offered, np.float32), jax.random.split(key, len(offered))):
        draw, coin = jax.random.split(turn_key)
        slot = len(score)
        if seen < len(score):
            slot = seen
        elif mine < 1:
            rival = int(jax.random.categorical(draw, jnp.log(jnp.asarray(score))))
            if float(jax.random.uniform(coin)) < score[rival] / (score[rival] + mine):
                slot = rival
        if slot < len(score):
            score[slot] = mine
        seen += 1
        slots.append(slot)
    return slots, score


@pytest.mark.parametrize("seen", [0, 3, 5, 200])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_slots_equal_a_plain_loop(seen, seed):
    rng = np.random.default_rng([seen, seed])
    stored = np.where(np.arange(5) < seen, rng.uniform(0.05, 1.8, 5), 0.0).astype(np.float32)
    offered = rng.uniform(0.0, 1.5, 16).astype(np.float32)
    slots = choose(jax.random.key(seed), jnp.asarray(stored), jnp.asarray(seen), jnp.asarray(offered))
    expected_slots, _ = one_by_one(jax.random.key(seed), stored, seen, offered)
    assert slots.dtype == jnp.int32
    np.testing.assert_array_equal(slots, expected_slots)
    kept = np.asarray(slots) < 5
    assert kept.any()
    assert not kept[(offered >= 1) & (seen + np.arange(16) >= 5)].any()


def test_free_slots_are_filled_first_in_order_whatever_the_scores():
    offered = jnp.asarray([1.9, 1.0, 0.2, 2.0, 1.2])
    slots = choose(jax.random.key(0), jnp.asarray([0.7, 0.0, 0.0, 0.0]), jnp.asarray(1), offered)
    np.testing.assert_array_equal(
        slots, [1, 2, 3, 4, 4]
    )  # 4 is no slot: the last two come when all are full, and their scores are not below 1


def test_a_place_is_taken_as_often_as_the_paper_says():
    """Checks that example i is drawn with stored_i / sum, and replaced with stored_i / (stored_i + offered)."""
    stored, mine, count = np.array([0.2, 1.4, 0.6]), 0.5, 20_000

    def trial(key):
        return choose(key, jnp.asarray(stored, jnp.float32), jnp.asarray(99), jnp.asarray([mine], jnp.float32))[0]

    slots = np.asarray(jax.jit(jax.vmap(trial))(jax.random.split(jax.random.key(1), count)))
    expected = stored / stored.sum() * stored / (stored + mine)
    expected = np.append(expected, 1 - expected.sum())
    found = np.bincount(slots, minlength=4) / count
    assert np.abs(found - expected).max() < 5 * np.sqrt(0.25 / count)


def test_scores_of_the_batch_count_at_once():
    """Checks that the second example competes with the score of the first, which has just taken the only slot."""
    wins = 0
    for seed in range(200):
        slots = choose(jax.random.key(seed), jnp.asarray([1e6]), jnp.asarray(1), jnp.asarray([1e-6, 0.9]))
        assert slots[0] == 0
        wins += int(slots[1] == 0)
    assert wins == 0  # its probability is 1e-6 / (1e-6 + 0.9); against the old score, 1e6, it would always win


def test_the_last_writer_of_a_slot_wins_in_images_as_in_scores():
    method, start = gss(buffer_size=2), small.started("simsiam")
    twice = 0
    for seed in range(20):
        memory = small.memory_of(method, make_batch(), start)
        memory = method.observe(memory, step(1, [0.9] * EXAMPLES), jax.random.key(100 + seed))
        scores = np.linspace(0.1, 0.9, EXAMPLES).astype(np.float32)
        after = method.observe(memory, step(2, scores), jax.random.key(seed))
        slots, expected = one_by_one(jax.random.key(seed), memory.buffer.extra, EXAMPLES, scores)
        np.testing.assert_array_equal(after.buffer.extra, expected)
        assert after.buffer.offered == 2 * EXAMPLES
        for slot in range(2):
            writers = [place for place, taken in enumerate(slots) if taken == slot]
            twice += len(writers) > 1
            stored, before = ([x[slot] for x in jax.tree.leaves(m.buffer.items.batch)] for m in (after, memory))
            expected = [x[writers[-1]] for x in jax.tree.leaves(make_batch(2))] if writers else before
            small.assert_trees_equal(stored, expected)
            if writers:
                assert after.buffer.extra[slot] == scores[writers[-1]]
    assert twice > 5


def step(seed, scores):
    return small.seen(make_batch(seed), jnp.asarray(scores, jnp.float32))


def test_a_free_slot_takes_the_example_and_its_score():
    method = gss()
    memory = small.memory_of(method, make_batch(), small.started("simsiam"))
    assert memory.buffer.offered == 0
    scores = np.linspace(0.1, 1.9, EXAMPLES).astype(np.float32)
    memory = method.observe(memory, step(1, scores), jax.random.key(0))
    batch, filled = method.stored(memory)
    np.testing.assert_array_equal(filled, np.arange(2 * EXAMPLES) < EXAMPLES)
    small.assert_trees_equal(jax.tree.map(lambda x: x[:EXAMPLES], batch), make_batch(1))
    np.testing.assert_array_equal(memory.buffer.extra, [*scores, *[0] * EXAMPLES])


def test_examples_that_are_not_eligible_take_no_slot_and_no_turn():
    offered, eligible = jnp.asarray([0.1, 0.2, 0.3, 0.4]), jnp.asarray([True, False, True, False])
    slots = greedy_slots(jax.random.key(0), jnp.asarray(0), jnp.zeros(3), offered, eligible)
    np.testing.assert_array_equal(slots, [0, 3, 1, 3])


# Similarities.


HEADS = {
    "simsiam": lambda: {"projector": MLP(12, 6, norm="all"), "predictor": MLP(5)},
    "supervised": lambda: {"head": Dense(1000)},
}


@functools.cache
def single_gradient(learned):
    """Returns a function (params, state, image, label) -> gradient of the loss of this example alone."""
    network = Network(small.Backbone(), **HEADS[learned]())

    def loss(params, state, image, label):
        variables = {"params": params, **state}
        out = network.apply(variables, image[None].astype(jnp.float32) / 255.0 - 0.5, train=False)
        if learned == "supervised":
            return jax.nn.logsumexp(out.logits[0]) - out.logits[0, label]
        p, z = out.prediction[0], jax.lax.stop_gradient(out.projection[0])
        return -jnp.sum(p * z) / jnp.linalg.norm(p) / jnp.linalg.norm(z)

    return jax.jit(jax.grad(loss))


def scores_by_hand(learned, network, batch, others, part=lambda grads: grads):
    """Returns 1 + the largest cosine of each example's gradient with the gradients of the others."""

    def gradients(examples):
        grads = [
            single_gradient(learned)(*network, examples.image[i], examples.label[i]) for i in range(len(examples.label))
        ]
        return [np.asarray(ravel_pytree(part(g))[0], np.float64) for g in grads]

    past = gradients(others)
    return [1 + max(g @ o / np.linalg.norm(g) / np.linalg.norm(o) for o in past) for g in gradients(batch)]


def filled_memory(method, learned):
    memory = small.memory_of(method, make_batch(), small.started(learned))
    return method.observe(memory, step(1, [0.1] * EXAMPLES), jax.random.key(0))


@pytest.mark.parametrize("learned", ["simsiam", "supervised"])
def test_scores_equal_gradients_taken_one_by_one(learned):
    method, start, batch, keys = gss(learned), small.started(learned), make_batch(3), make_keys(5)
    memory = filled_memory(method, learned)
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    value, aux = method.loss(*start, memory, batch, past, keys)
    others = drawn(memory, keys, DEFAULTS["compare"])
    assert len(set(np.asarray(others.label))) == DEFAULTS["compare"]
    expected = scores_by_hand(learned, start.network, batch, others)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(aux.outputs, expected, rtol=1e-3, atol=1e-3)

    # The loss is the same as ER's.
    objective = small.alone(learned)
    views = objective.views(keys.example, batch), objective.views(keys.past, past.items.batch)
    together = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), *views)
    expected, expected_aux = objective.loss(start.network, together)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    small.assert_trees_close(aux.state, expected_aux.state, rtol=1e-4, atol=1e-5)


def drawn(memory, keys, count):
    """Returns the stored examples that a step compares with."""
    return uniform_sample(memory.buffer, keys.batch, count, filled_in_order(memory.buffer)).items.batch


def half(tree):
    """Returns the share of the first of two devices."""
    return jax.tree.map(lambda x: x[: EXAMPLES // 2], tree)


@pytest.mark.parametrize(("compare", "number"), [(0, EXAMPLES), (7, 7), (99, 2 * EXAMPLES)])
def test_as_many_stored_examples_are_compared_as_is_asked_for(compare, number):
    """Checks that with `compare` 0 as many are compared as the batch has; the loss is given one of two shares."""
    method, start, batch, keys = (
        gss("supervised", compare=compare),
        small.started("supervised"),
        make_batch(3),
        make_keys(5),
    )
    memory = filled_memory(method, "supervised")
    memory = method.observe(memory, step(2, [0.1] * EXAMPLES), jax.random.key(1))
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    keys = Keys(keys.batch, *half(keys[1:]))
    _, aux = method.loss(*start, memory, half(batch), half(past), keys)
    others = drawn(memory, keys, number)
    assert len(set(np.asarray(others.label))) == number
    expected = scores_by_hand("supervised", start.network, half(batch), others)
    np.testing.assert_allclose(aux.outputs, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("at_once", [1, 5, EXAMPLES, 99])
def test_gradients_in_chunks_give_the_same_scores_and_take_the_memory_that_is_told(at_once):
    start, batch, keys = small.started("supervised"), make_batch(3), make_keys(5)
    whole, chunked = gss("supervised"), gss("supervised", at_once=at_once)
    memory = whole.observe(filled_memory(whole, "supervised"), step(2, [0.1] * EXAMPLES), jax.random.key(1))
    past = whole.recall(memory, jax.random.key(3), EXAMPLES)
    scores = [method.loss(*start, memory, batch, past, keys)[1].outputs for method in (whole, chunked)]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-5)
    parameters = sum(x.size for x in jax.tree.leaves(start.network.params))
    assert whole.step_bytes(start.network.params) == 4 * parameters * (DEFAULTS["compare"] + EXAMPLES)
    held = DEFAULTS["compare"] + min(at_once, EXAMPLES)
    assert chunked.step_bytes(jax.eval_shape(lambda: start.network.params)) == 4 * parameters * held


def test_only_what_is_trained_is_compared():
    objective = small.objective("simsiam")._replace(
        active=lambda tree, clock: {
            k: v if k == "projector" else jax.tree.map(jnp.zeros_like, v) for k, v in tree.items()
        }
    )
    method = small.compiled(METHODS["gss"](objective, small.SCENARIO, **DEFAULTS))
    start, batch, keys = small.started("simsiam"), make_batch(3), make_keys(5)
    memory = filled_memory(method, "simsiam")
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    _, aux = method.loss(*start, memory, batch, past, keys)
    others = drawn(memory, keys, DEFAULTS["compare"])
    expected = scores_by_hand("simsiam", start.network, batch, others, lambda grads: grads["projector"])
    np.testing.assert_allclose(aux.outputs, expected, rtol=1e-3, atol=1e-3)
    assert np.abs(np.subtract(expected, scores_by_hand("simsiam", start.network, batch, others))).max() > 0.01


def test_through_the_train_step_the_first_batch_scores_a_tenth_and_the_second_what_it_is_like():
    optimizer = optax.sgd(0.1)
    method = small.make_raw("gss", **DEFAULTS)
    train_step = small.make_step(method, optimizer)
    before = small.start_state(method, optimizer, small.started("simsiam"))
    first, _ = train_step(before, make_batch(1))
    np.testing.assert_allclose(first.memory.buffer.extra, [0.1] * EXAMPLES + [0.0] * EXAMPLES, rtol=1e-6)
    second, _ = train_step(first, make_batch(2))
    _, _, keys = small.step_keys(first.step)
    others = drawn(first.memory, keys, DEFAULTS["compare"])
    # Scores are of the parameters before the update.
    expected = scores_by_hand("simsiam", first.network, make_batch(2), others)
    np.testing.assert_allclose(second.memory.buffer.extra, [0.1] * EXAMPLES + expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(second.memory.buffer.items.batch.label, [*make_batch(1).label, *make_batch(2).label])
    # Scores do not change the loss: the first step learns from the present twice, as nothing is stored.
    _, _, keys = small.step_keys(before.step)
    views = small.alone("simsiam").views(keys.example, make_batch(1))
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), views)
    _, grads = small.value_and_grad("simsiam")(before.network, twice)
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, before.network.params, grads)
    small.assert_trees_close(first.network.params, moved, rtol=1e-4, atol=1e-5)


def test_opposite_gradients_score_0_and_no_less():
    """Checks that opposite gradients never score below 0 by rounding: a negative score would keep its slot for ever."""
    start, keys = small.started("simsiam"), make_keys(5)
    batch = jax.tree.map(lambda x: x[jnp.zeros(EXAMPLES, jnp.int32)], make_batch(3))
    objective = small.objective("simsiam")
    signs = iter([1.0, -1.0])  # the batch's gradients, then those of the past

    def turned(network, views):
        return next(signs) * objective.eval_loss(network, views)

    method = METHODS["gss"](objective._replace(eval_loss=turned), small.SCENARIO, **(DEFAULTS | {"compare": 1}))
    memory = method.observe(
        small.memory_of(method, batch, start), small.seen(batch, jnp.full(EXAMPLES, 0.1)), keys.batch
    )
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    _, aux = jax.jit(method.loss)(*start, memory, batch, past, keys, small.CLOCK)
    np.testing.assert_allclose(aux.outputs, 0.0, atol=1e-5)
    assert np.all(np.asarray(aux.outputs) >= 0)


# Settings.


def test_barlow_twins_is_refused_because_single_examples_have_no_loss():
    with pytest.raises(ValueError, match=r"simsiam.*supervised"):
        small.make_raw("gss", "barlow_twins", **DEFAULTS)
