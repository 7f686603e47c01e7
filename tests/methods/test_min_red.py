"""Tests MinRed: its features against the released code, and whole steps against networks called by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden, small
from tests.small import EXAMPLES, make_batch, make_keys
from ucl_jax.buffers import Recalled
from ucl_jax.methods import METHODS
from ucl_jax.models.heads import Embedding
from ucl_jax.types import Aux, Views

SETTINGS = {"buffer_size": 3 * EXAMPLES, "count": "presentations", "features": "visit"}


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def given_objective(first, second):
    """Builds an objective of loss 0 whose projections of the two views are given."""
    out = Embedding((), jnp.stack([first, second]), (), ())
    return small.objective("simsiam")._replace(
        views=lambda keys, batch, how: Views((batch.image,) * 2, None),
        embed=lambda network, view, train: (jax.tree.map(lambda x: x[0], out), {}),
        loss=lambda network, views, clock: (jnp.zeros(()), Aux({}, {}, out)),
    )


@pytest.mark.parametrize("precision", golden.PRECISIONS)
def test_the_feature_after_two_visits_equals_the_official_one(precision):
    with golden.precise(precision):
        inputs, settings, expected = golden.read("minred_feature", precision)
        assert settings == {"average": 0.5}
        start, batch = small.started("simsiam"), jax.tree.map(lambda x: x[:1], make_batch())
        first, second = (
            METHODS["min_red"](given_objective(inputs[f"{visit}1"], inputs[f"{visit}2"]), small.SCENARIO, **SETTINGS)
            for visit in ("first", "second")
        )
        memory = first.init(jax.random.key(0), batch, start.network)[1]
        for made in (first, first, second):  # the image enters in the first step
            past = Recalled(slot=jnp.zeros(1, jnp.int32), items=jax.tree.map(lambda x: x[:1], memory.buffer.items))
            _, aux = made.loss(*start, memory, batch, past, make_keys(), small.CLOCK)
            step = small.seen(batch, aux.outputs)._replace(recalled=past)
            memory = made.observe(memory, step, jax.random.key(0))
        np.testing.assert_allclose(memory.buffer.items.kept[0], expected["feature"], **golden.TOLERANCE[precision])


@pytest.mark.parametrize("features", ["visit", "arrival"])
@pytest.mark.parametrize("learned", ["simsiam", "simclr"])
def test_steps_equal_those_by_hand(learned, features):
    """Checks three steps: the first has only the present, the others have only what was stored before them."""
    objective, start = small.alone(learned), small.started(learned)
    method = small.make_method("min_red", learned, **(SETTINGS | {"features": features}))
    memory, kept = small.memory_of(method, make_batch(), start), {}
    for number in range(3):
        batch, keys = make_batch(number + 1), make_keys(number)
        past = method.recall(memory, jax.random.key(number), EXAMPLES)
        value, aux = method.loss(*start, memory, batch, past, keys)
        views = objective.views(keys.past, past.items.batch) if number else objective.views(keys.example, batch)
        expected, outputs = objective.loss(start.network, views)
        np.testing.assert_allclose(value, expected, rtol=1e-4)
        small.assert_trees_close(aux.state, outputs.state, rtol=1e-4, atol=1e-5)

        one, two = np.asarray(outputs.outputs.projection, np.float64)
        if number:
            labels = np.asarray(past.items.batch.label)
            assert len(set(labels)) == EXAMPLES
            for label, new in zip(labels, (one + two) / 2 if features == "arrival" else unit(one + two)):
                old = kept[int(label)]
                average = 0.5 * old + 0.5 * new
                kept[int(label)] = average if features == "arrival" else unit(average) if np.any(old) else new
        plain = objective.views(None, batch, "plain").image[0]
        arrived = np.asarray(objective.embed(start.network, plain, True)[0].projection)
        for label, projection in zip(np.asarray(batch.label), arrived):
            kept[int(label)] = projection if features == "arrival" else np.zeros_like(projection)
        memory = method.observe(memory, small.seen(batch, aux.outputs)._replace(recalled=past), jax.random.key(number))
        items = memory.buffer.items
        for label, found in zip(np.asarray(items.batch.label)[: (number + 1) * EXAMPLES], np.asarray(items.kept)):
            np.testing.assert_allclose(found, kept[int(label)], rtol=1e-4, atol=1e-5)
    trained_on = np.any(np.asarray(items.kept) != 0, axis=1)
    assert trained_on.all() if features == "arrival" else 0 < trained_on.sum() < len(trained_on)


def test_images_leave_by_their_features():
    """Checks that the features of this step decide, and that images without one stay."""
    method = small.make_method("min_red", **(SETTINGS | {"buffer_size": 2 * EXAMPLES + 1}))
    start, zeros = small.started("simsiam"), jnp.zeros((EXAMPLES, 6))
    memory = small.memory_of(method, make_batch(), start)
    for number in range(2):
        step = small.seen(make_batch(number), (zeros, zeros))
        memory = method.observe(memory, step._replace(recalled=method.recall(memory, jax.random.key(0), EXAMPLES)),
                                jax.random.key(0))  # fmt: skip
    everything = jnp.ones((2 * EXAMPLES, 6)).at[:, 0].set(jnp.arange(2.0 * EXAMPLES))
    past = method.recall(memory, jax.random.key(0), 2 * EXAMPLES)
    step = small.seen(make_batch(2), (zeros, everything[past.slot]))._replace(recalled=past)
    memory = method.observe(memory, step, jax.random.key(0))
    labels = set(np.asarray(memory.buffer.items.batch.label))
    assert set(range(200, 200 + EXAMPLES)) <= labels  # the new ones
    # Angles are 0, 24.1, 41.8, 53.3, 60.8, 65.9, 69.6, 72.3, 74.4, 76.0, 77.4 and 78.5 degrees. One slot was free,
    # so that 5 left: 10, 8, 9, 6 and 4.
    assert labels & set(range(200)) == {0, 1, 2, 3, 5, 101, 105}


@pytest.mark.parametrize(("change", "message"), [
    ({"features": "visits"}, "features is 'visits'.*visit, arrival"),
    ({"count": "all"}, "count is 'all'"),
])  # fmt: skip
def test_a_word_that_is_not_known_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        small.make_raw("min_red", **(SETTINGS | change))


def test_an_objective_without_projections_is_refused():
    with pytest.raises(ValueError, match="MinRed needs projections"):
        small.make_raw("min_red", "supervised", **SETTINGS)
