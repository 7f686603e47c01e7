"""Tests DER and DER++ on a small real network, against penalties put together in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import small
from tests.small import EXAMPLES, make_batch, make_keys
from ucl_jax.types import Variables

DEFAULTS = {
    "buffer_size": 2 * EXAMPLES, "policy": "reservoir", "alpha": 0.7, "beta": 0.0, "target": "features",
    "replay_from": "buffer", "count": "presentations",
}  # fmt: skip
VARIANTS = [("simsiam", "features"), ("simsiam", "output"), ("supervised", "output")]
close = functools.partial(small.assert_trees_close, rtol=1e-4, atol=1e-5)


@functools.cache
def der(learned="simsiam", **changes):
    return small.make_method("der", learned, **(DEFAULTS | changes))


@functools.cache
def gradient(learned="simsiam", **changes):
    """Returns a function -> ((loss, Aux), gradient) of DER with these settings, or of finetune without any."""
    method = small.make_raw("der", learned, **(DEFAULTS | changes)) if changes else small.make_raw("finetune", learned)
    compiled = jax.jit(jax.value_and_grad(method.loss, has_aux=True))

    def value_and_grad(*arguments):
        found, grads = compiled(*arguments, small.CLOCK)
        return found, grads.network

    return value_and_grad


def choose(embedding, learned, target):
    if target == "features":
        return embedding.features
    return embedding.logits if learned == "supervised" else embedding.projection


def observe(method, memory, *seeds):
    """Returns the memory after batches of these seeds, with targets drawn at random."""
    shape = jax.tree.leaves(memory.buffer.items.kept)[0].shape[1:]
    for seed in seeds:
        kept = jax.random.normal(jax.random.key(100 + seed), (EXAMPLES, *shape))
        memory = method.observe(memory, small.seen(make_batch(seed), kept), jax.random.key(seed))
    return memory


@pytest.mark.parametrize(("learned", "target"), VARIANTS)
def test_stored_targets_are_outputs_for_the_first_view_in_that_step(learned, target):
    """Checks that stored targets are outputs in training mode, by the parameters and statistics before the update."""
    optimizer = optax.sgd(0.5)
    method = small.make_raw("der", learned, **(DEFAULTS | {"target": target}))
    step = small.make_step(method, optimizer, learned)
    state = small.start_state(method, optimizer, small.started(learned))
    for number in range(2):
        after, _ = step(state, make_batch(number))
        _, _, keys = small.step_keys(state.step)
        views = small.alone(learned).views(keys.example, make_batch(number))
        out, _ = small.alone(learned).embed(state.network, views.image[0], True)
        place = slice(number * EXAMPLES, (number + 1) * EXAMPLES)
        kept = after.memory.buffer.items.kept[place]
        np.testing.assert_array_equal(after.memory.buffer.items.batch.label[place], make_batch(number).label)
        np.testing.assert_allclose(kept, choose(out, learned, target), rtol=1e-3, atol=1e-5)
        assert np.std(kept) > 0.01
        # They are not outputs for the second view, nor after the update, nor with running statistics.
        others = [
            small.alone(learned).embed(Variables(after.params.network, state.model_state), views.image[0], True)[0],
            small.alone(learned).embed(state.network, views.image[0], False)[0],
        ]
        if learned == "simsiam":
            others.append(small.alone(learned).embed(state.network, views.image[1], True)[0])
        for other in others:
            assert np.abs(kept - choose(other, learned, target)).max() > 1e-3
        state = after


@pytest.mark.parametrize(("learned", "target", "beta"), [
    *((*variant, 0.0) for variant in VARIANTS), ("simsiam", "features", 0.4), ("supervised", "output", 0.4),
])  # fmt: skip
def test_loss_gradient_and_statistics_equal_terms_by_hand(learned, target, beta):
    objective, start = small.alone(learned), small.started(learned)
    settings = {"target": target, "beta": beta}
    method, batch, keys = der(learned, **settings), make_batch(3), make_keys(5)
    memory = observe(method, small.memory_of(method, batch, start), 1, 2)
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    (value, aux), grads = gradient(learned, **settings)(*start, memory, batch, past, keys)

    # The present.
    (present, present_aux), expected_grads = small.value_and_grad(learned)(
        start.network, objective.views(keys.example, batch)
    )
    # Squared errors on weak views of the first sample, number by number.
    weak = objective.views(keys.past, past[0].items.batch, "replayed").image[0]
    present_network = Variables(start.params.network, present_aux.state)
    out, replayed_state = objective.embed(present_network, weak, True)
    # The official code replays features through the backbone alone: heads keep the statistics of the present.
    kept = {"features": ("projector", "predictor"), "output": ("predictor",)}[target]
    of_present = {k: v for k, v in present_aux.state["batch_stats"].items() if k in kept}
    model_state = {"batch_stats": replayed_state["batch_stats"] | of_present}
    now, then = np.asarray(choose(out, learned, target), np.float64), np.asarray(past[0].items.kept, np.float64)
    penalty = DEFAULTS["alpha"] * sum((a - b) ** 2 for a, b in zip(now.flat, then.flat)) / now.size
    # DER++: the objective on fresh views of the second sample.
    if beta:
        views = objective.views(keys.method, past[1].items.batch)
        (replayed, last), replayed_grads = small.value_and_grad(learned)(
            Variables(start.params.network, model_state), views
        )
        penalty, model_state = penalty + beta * float(replayed), last.state
        expected_grads = jax.tree.map(lambda g, r: g + beta * r, expected_grads, replayed_grads)
    assert abs(penalty) > 0.05
    np.testing.assert_allclose(aux.metrics["penalty"], penalty, rtol=1e-4)
    np.testing.assert_allclose(value, float(present) + penalty, rtol=1e-4)
    close(aux.state, model_state)
    close(aux.outputs, choose(present_aux.outputs, learned, target)[0])

    # The gradient of the mean of squares goes through the present outputs, not through the stored ones.
    slope = jnp.asarray(2 * DEFAULTS["alpha"] * (now - then) / now.size, jnp.float32)
    pulls = pull_back(learned, target)(*present_network, weak, slope)
    expected_grads = jax.tree.map(jnp.add, expected_grads, pulls)
    close(grads, expected_grads, rtol=2e-3, atol=2e-5)


@functools.cache
def pull_back(learned, target):
    def pull(params, model_state, view, slope):
        objective = small.objective(learned)
        _, back = jax.vjp(
            lambda p: choose(objective.embed(Variables(p, model_state), view, True)[0], learned, target), params
        )
        return back(slope)[0]

    return jax.jit(pull)


@pytest.mark.parametrize(("beta", "replay_from"), [(0.0, "buffer"), (0.4, "buffer"), (0.4, "past_tasks")])
def test_with_nothing_to_replay_it_is_finetune(beta, replay_from):
    start, batch, keys = small.started("simsiam"), make_batch(3), make_keys(5)
    settings = {"beta": beta, "replay_from": replay_from}
    method = der(**settings)
    memory = small.memory_of(method, batch, start)
    if replay_from == "past_tasks":
        memory = observe(method, memory, 1)  # examples of the present task, which do not count as past
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    (value, aux), grads = gradient(**settings)(*start, memory, batch, past, keys)
    (expected, expected_aux), expected_grads = gradient()(*start, (), batch, (), keys)
    # Two programs, which XLA may fuse in other ways.
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    small.assert_trees_close(aux.state, expected_aux.state, rtol=1e-6)
    small.assert_trees_close(grads, expected_grads, rtol=1e-5, atol=1e-6)
    assert aux.metrics["penalty"] == 0.0


def test_the_second_sample_is_drawn_independently_of_the_first():
    """Checks that each sample is one of 4 stored examples, and all 16 pairs are equally likely."""
    method, count, size = small.make_raw("der", **(DEFAULTS | {"beta": 0.4, "buffer_size": 4})), 8000, 4
    memory = observe(method, small.memory_of(method, make_batch(), small.started("simsiam")), 1)
    labels = list(np.asarray(memory.buffer.items.batch.label))
    assert len(set(labels)) == size

    def draw(key):
        return [sample.items.batch.label[0] for sample in method.recall(memory, key, 1)]

    first, second = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), count))
    pairs = np.zeros((size, size))
    np.add.at(pairs, ([labels.index(x) for x in first], [labels.index(x) for x in second]), 1)
    deviation = np.sqrt(count / 16 * (1 - 1 / 16))
    assert np.abs(pairs - count / 16).max() < 5 * deviation
    assert len(der().recall(memory, jax.random.key(0), 1)) == 1  # DER draws no second sample


def test_targets_go_with_their_examples():
    method = der(beta=0.4)
    memory = observe(method, small.memory_of(method, make_batch(), small.started("simsiam")), 1)
    kept = jax.random.normal(jax.random.key(101), (EXAMPLES, 4))
    for sample in method.recall(memory, jax.random.key(3), EXAMPLES):
        place = np.asarray(sample.items.batch.label) - 100
        assert sorted(place) == list(range(EXAMPLES))
        np.testing.assert_array_equal(sample.items.kept, kept[place])
        np.testing.assert_array_equal(sample.items.batch.image, make_batch(1).image[place])


@pytest.mark.parametrize(("name", "value", "message"), [
    ("target", "outputs", "target is 'outputs'.*features, output"),
])  # fmt: skip
def test_a_setting_out_of_range_is_an_error_that_names_it(name, value, message):
    with pytest.raises(ValueError, match=message):
        small.make_raw("der", **(DEFAULTS | {name: value}))
