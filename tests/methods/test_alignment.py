"""Tests CLA and ARP: their terms against the released code, and whole steps against networks called by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import golden, small
from tests.small import EXAMPLES, make_batch, make_keys
from ucl_jax.buffers import Recalled
from ucl_jax.methods import METHODS, Scenario
from ucl_jax.methods.cla import Averaged
from ucl_jax.methods.rehearsal import Item
from ucl_jax.models.heads import MLP, Embedding
from ucl_jax.types import Aux, TrainedParams, Variables, Views

BUFFER = {"buffer_size": 3 * EXAMPLES, "policy": "fifo", "replay_from": "buffer", "count": "presentations"}
SETTINGS = {
    "arp": {**BUFFER, "weight": 0.7, "hidden_dim": 5},
    "cla": {**BUFFER, "weight": 0.7, "hidden_dim": 5, "aligned": "replayed", "momentum": 0.8},
}
close = functools.partial(small.assert_trees_close, rtol=1e-4, atol=1e-5)


def given_head(x):
    """Returns the parameters of a head; its first layer has a bias here, which batch norm takes away again."""
    return {
        "hidden": {"dense": {"kernel": x["W1"].T, "bias": jnp.full(len(x["W1"]), 3.0, x["W1"].dtype)}},
        "hidden_norm": {"scale": x["gamma"], "bias": x["beta"]},
        "output": {"dense": {"kernel": x["W2"].T, "bias": x["b2"]}},
    }


def given_objective(shown, projections):
    """Builds an objective of loss 0: `shown` are its views, `projections(params, view)` is what the network gives."""

    def embed(network, view, train):
        return Embedding((), projections(network.params, view), (), ()), {}

    def loss(network, views, clock):
        outputs = jnp.stack([projections(network.params, view) for view in views.image])
        return jnp.zeros((), outputs.dtype), Aux({}, {}, Embedding((), outputs, (), ()))

    return small.objective("simsiam")._replace(
        views=lambda keys, batch, how: Views(shown, None), embed=embed, loss=loss
    )


def of_dtype(precision, count):
    return Scenario(2, count, count, lambda width: MLP(width, dtype=precision))


@pytest.mark.parametrize("precision", golden.PRECISIONS)
def test_the_term_of_cla_and_its_average_equal_the_official_ones(precision):
    with golden.precise(precision):
        inputs, settings, expected = golden.read("cla_ema_alignment", precision)
        given = SETTINGS["cla"] | {
            "weight": settings["weight"], "momentum": settings["momentum"], "hidden_dim": 7, "aligned": "all",
        }  # fmt: skip
        past = {"encoder": inputs["past_encoder"], "projector": inputs["past_projector"]}
        memory = Averaged(rehearsed=(), average=past)

        def projections(params, view):
            product = functools.partial(jnp.matmul, precision="highest")
            return product(product(view, params["encoder"].T), params["projector"].T)

        def made(x):
            return METHODS["cla"](given_objective((x["x1"], x["x2"]), projections), of_dtype(precision, 6), **given)

        def params(x):
            return TrainedParams({"encoder": x["encoder"], "projector": x["projector"]}, given_head(x))

        def loss(x):
            return made(x).loss(params(x), {}, memory, make_batch(), (), make_keys(), small.CLOCK)[0]

        golden.check(loss, inputs, expected, precision)
        after = made(inputs).observe(memory, small.seen(make_batch(), after=params(inputs)), jax.random.key(0)).average
        golden.check_summary(after["encoder"], expected["past_encoder_after"], precision)
        golden.check_summary(after["projector"], expected["past_projector_after"], precision)


@pytest.mark.parametrize("precision", golden.PRECISIONS)
def test_the_term_of_arp_and_what_it_stores_equal_the_official_ones(precision):
    """Checks the term for 4 replayed images beside 4 present ones, whose projections are rows of zeros but for one."""
    with golden.precise(precision):
        inputs, settings, expected = golden.read("arp_alignment", precision)
        given = SETTINGS["arp"] | {"buffer_size": 8, "weight": settings["weight"], "hidden_dim": 7}
        batch = jax.tree.map(lambda x: x[:4], make_batch())
        items = Item(batch, inputs["stored"], jnp.zeros(4, jnp.int32))
        recalled = Recalled(slot=jnp.asarray([6, 1, 4, 0], jnp.int32), items=items)

        def forward(x):
            objective = given_objective((x["z1"], x["z2"]), lambda params, view: view)
            made, single = (METHODS["arp"](objective, of_dtype(x, 4), **given) for x in (precision, "float32"))
            memory = single.init(jax.random.key(0), batch, Variables({}, {}))[1]
            memory = memory.replace(buffer=memory.buffer.replace(offered=jnp.full(1, 7, jnp.int32)))
            params = TrainedParams({}, given_head(x))
            value, aux = made.loss(params, {}, memory, batch, recalled, make_keys(), small.CLOCK)
            return value, (aux, made, memory)

        golden.check(lambda x: forward(x)[0], inputs, expected, precision)
        _, (aux, made, memory) = forward(inputs)
        golden.check_summary(aux.outputs[1], expected["feature_given_to_the_buffer"], precision)
        step = small.seen(batch, aux.outputs)._replace(recalled=recalled)
        kept = made.observe(memory, step, jax.random.key(0)).buffer.items.kept
        mean = 0.5 * inputs["stored"] + 0.5 * (inputs["z1"] + inputs["z2"]) / 2  # slots 0 and 7 got new images
        np.testing.assert_allclose(kept[jnp.asarray([6, 4])], mean[jnp.asarray([0, 2])], **golden.TOLERANCE[precision])


# On a small real network.


def predicted_by_hand(head, rows):
    """Computes what a head gives for rows [N, D], by the statistics of all of them."""
    dense, norm, last = (head[part] for part in ("hidden", "hidden_norm", "output"))
    x = rows @ dense["dense"]["kernel"] + dense["dense"]["bias"][None]
    x = (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-5)
    x = jnp.maximum(x * norm["scale"][None] + norm["bias"][None], 0)
    return x @ last["dense"]["kernel"] + last["dense"]["bias"][None]


def negative_cosine(predicted, target):
    return -jnp.mean(
        jnp.sum(predicted * target, 1) / jnp.linalg.norm(predicted, axis=1) / jnp.linalg.norm(target, axis=1)
    )


def two_views(objective, keys, batch, past):
    views = objective.views(keys.example, batch), objective.views(keys.past, past.items.batch)
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), *views)


@pytest.mark.parametrize(
    ("name", "learned"), [("arp", "simsiam"), ("cla", "moco"), ("cla without replay", "barlow_twins")]
)
def test_loss_and_gradient_equal_terms_by_hand(name, learned):
    """Checks a step after two others, so that there is a past, and the memory after it."""
    aligned = {"cla": {"aligned": "replayed"}, "cla without replay": {"aligned": "all"}}.get(name, {})
    name, objective, start = name.split()[0], small.alone(learned), small.started(learned)
    raw = small.make_raw(name, learned, **(SETTINGS[name] | aligned))
    made = small.compiled(raw)
    replays = aligned != {"aligned": "all"}
    own, memory = made.init(jax.random.key(1), make_batch(), start.network)
    other = jax.tree.map(lambda x: 1.1 * x + 0.05, start.params.network)
    params = TrainedParams(start.params.network, own)
    for number in range(2):
        recalled = made.recall(memory, jax.random.key(number), EXAMPLES)
        _, aux = made.loss(params, start.state, memory, make_batch(number), recalled, make_keys(number))
        step = small.seen(make_batch(number), aux.outputs, after=TrainedParams(other, own))._replace(recalled=recalled)
        memory = made.observe(memory, step, jax.random.key(number))
    batch, keys = make_batch(3), make_keys(5)
    recalled = made.recall(memory, jax.random.key(3), EXAMPLES)
    views = two_views(objective, keys, batch, recalled) if replays else objective.views(keys.example, batch)

    def by_hand(params):
        network = Variables(params.network, start.state)
        value, aux = small.objective(learned).loss(network, views, small.CLOCK)
        first = EXAMPLES if replays else 0
        now = jnp.concatenate([aux.outputs.projection[0, first:], aux.outputs.projection[1, first:]])
        if name == "arp":
            then = jnp.concatenate([recalled.items.kept] * 2)
        else:
            average = jax.tree.map(lambda x, y: 0.64 * x + 0.36 * y, start.params.network, other)
            both = jnp.concatenate([view[first:] for view in views.image])
            then = small.objective(learned).embed(Variables(average, start.state), both, True)[0].projection
        return value + 0.7 * negative_cosine(predicted_by_hand(params.method, now), then), aux

    def ours(params):
        return raw.loss(params, start.state, memory, batch, recalled, keys, small.CLOCK)

    (value, aux), gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(params)
    (expected, theirs), slopes = jax.jit(jax.value_and_grad(by_hand, has_aux=True))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    close(gradient, slopes, rtol=1e-2, atol=1e-4)
    close(aux.state, theirs.state)
    assert float(aux.metrics["alignment"]) != 0.0
    if name == "arp":
        mean = np.mean(theirs.outputs.projection, axis=0)
        old = memory.buffer.items.kept
        step = small.seen(batch, aux.outputs)._replace(recalled=recalled)
        after = made.observe(memory, step, jax.random.key(0)).buffer.items
        for slot, kept in enumerate(np.asarray(old)[: 2 * EXAMPLES]):
            place = np.flatnonzero(np.asarray(recalled.slot) == slot)
            expected = 0.5 * kept + 0.5 * mean[EXAMPLES + place[0]] if len(place) else kept
            np.testing.assert_allclose(after.kept[slot], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(after.kept[2 * EXAMPLES :], mean[:EXAMPLES], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["arp", "cla"])
def test_replay_starts_when_more_than_a_batch_are_stored(name):
    """Checks that with a batch stored, the loss is that of the present twice, and nothing kept is changed."""
    objective, start = small.alone("simsiam"), small.started("simsiam")
    made = small.make_method(name, **SETTINGS[name])
    own, memory = made.init(jax.random.key(1), make_batch(), start.network)
    params = TrainedParams(start.params.network, own)
    for number in range(2):
        batch, keys = make_batch(number), make_keys(number)
        recalled = made.recall(memory, jax.random.key(number), EXAMPLES)
        value, aux = made.loss(params, start.state, memory, batch, recalled, keys)
        views = jax.tree.map(lambda x: jnp.concatenate([x, x]), objective.views(keys.example, batch))
        np.testing.assert_allclose(value, objective.loss(start.network, views)[0], rtol=1e-5)
        assert aux.metrics["alignment"] == 0.0
        step = small.seen(batch, aux.outputs, after=params)._replace(recalled=recalled)
        before, memory = memory, made.observe(memory, step, jax.random.key(number))
    before, after = ((m if name == "arp" else m.rehearsed).buffer.items for m in (before, memory))
    small.assert_trees_equal(*(jax.tree.map(lambda x: x[:EXAMPLES], items) for items in (before, after)))
    recalled = made.recall(memory, jax.random.key(2), EXAMPLES)
    assert made.loss(params, start.state, memory, batch, recalled, keys)[1].metrics["alignment"] != 0.0


def test_a_train_step_moves_the_average_to_the_parameters_after_it():
    made, optimizer = small.make_raw("cla", **SETTINGS["cla"]), optax.sgd(0.1)
    start = small.start_state(made, optimizer, small.started("simsiam"))
    state, _ = small.make_step(made, optimizer)(start, make_batch())
    expected = jax.tree.map(lambda x, y: 0.8 * x + 0.2 * y, start.network.params, state.network.params)
    close(state.memory.average, expected)
    small.assert_trees_equal(start.memory.average, start.network.params)


@pytest.mark.parametrize("name", ["arp", "cla"])
def test_objectives_without_projections_and_small_buffers_are_refused(name):
    with pytest.raises(ValueError, match="needs projections"):
        small.make_raw(name, "supervised", **SETTINGS[name])
    with pytest.raises(ValueError, match=f"buffer_size is {EXAMPLES}"):
        small.make_raw(name, **(SETTINGS[name] | {"buffer_size": EXAMPLES}))


def test_another_word_for_what_is_aligned_is_refused():
    with pytest.raises(ValueError, match=r"aligned is 'past'.*replayed, all"):
        small.make_raw("cla", **(SETTINGS["cla"] | {"aligned": "past"}))
