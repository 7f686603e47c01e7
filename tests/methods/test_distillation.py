"""Tests CaSSLe and PFR: their terms against the released codes, and whole steps against networks called by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import small
from tests.small import make_batch, make_keys
from ucl_jax.methods import METHODS, Scenario
from ucl_jax.models.heads import MLP, Embedding
from ucl_jax.objectives import losses
from ucl_jax.types import Aux, Clock, Span, TrainedParams, Variables, Views

SETTINGS = {"weight": 0.7, "hidden_dim": 5, "frozen_mode": "train"}
close = functools.partial(small.assert_trees_close, rtol=1e-4, atol=1e-5)

# The added term with its weight, in float64, by DonkeyShot21/cassle @ b5b0929 (distillers/predictive.py and
# decorrelative.py) and alviur/CVPR_PFR @ b95f701 (distillers/pfr.py): the loss, and the first entries and the norm of
# each gradient, with weights as [out, in].
GOLDEN = {
    "predictive": (
        1.9155620052325968,
        {
            "z1": ([-0.07663872422581572, 0.015027355074808622, -0.004304666169367486], 0.1739877878947036),
            "z2": ([0.008402954304466375, -0.011024963691238319, -0.009093538959416402], 0.15774052713271763),
            "W1": ([0.014458536278722983, -0.07812820300030579, 0.014439896885449992], 0.4586249139808054),
            "gamma": ([-0.019423267823279668, 0.027528294620093333, 0.018107039643615867], 0.10014383925198687),
            "W2": ([-0.01251867911326131, 0.08977382338859476, -0.03183676630027224], 0.45464637364931865),
            "b2": ([0.05837566524563282, 0.10114137678716792, 0.022464701796459388], 0.21821334520945537),
        },
    ),
    "decorrelative": (
        0.6233415479704133,
        {
            "z1": ([-0.0707097795432544, 0.02439147209694904, -0.0028944890507613167], 0.14866575570849452),
            "z2": ([-0.01722929608569649, 0.0019743719071285467, -0.010962365379416326], 0.09310886118459902),
            "W1": ([0.0047383377628706785, -0.05342400668496621, 0.01714890499404151], 0.27488373264396615),
            "gamma": ([-0.09330091698351277, -0.03331812575296443, 0.03403177181093759], 0.1321498283620489),
            "W2": ([-0.03205635464142495, 0.05619799165043397, -0.026740267428448476], 0.303427176619436),
        },
    ),
    "pfr": (
        0.04257686428507089,
        {
            "z1": ([0.007146188637381475, 0.006457948499768484, 0.01199800074716024], 0.0615154659540991),
            "z2": ([-0.0016436313789835071, 0.0027394689767577503, -0.00807127460621584], 0.11514220589313143),
            "W1": ([-0.0058104432228182285, 0.006821883726139554, 0.011475081253255212], 0.3134479911608229),
            "gamma": ([0.006582963916851819, -0.0030122172943892614, 0.0009648714302782444], 0.015341178945488247),
            "W2": ([-0.020965636799180565, -0.02995849753135799, 0.02447929363459094], 0.17926472684323835),
            "b2": ([-0.07677890517963705, 0.1448148285303365, -0.0428919153695596], 0.3102393459734112),
        },
    ),
}


def drawn(seed, shape, scale=1.0, shift=0.0):
    """Draws inputs of the golden values: RandomState(seed).standard_normal(shape) * scale + shift."""
    numbers = np.random.RandomState(seed).standard_normal(shape) * scale + shift
    return jnp.asarray(numbers, jnp.float32)


def golden_inputs(first, width, hidden):
    """Draws z1, z2, f1, f2 and the weights of the head from the case's seeds."""
    outputs = [drawn(first + place, (8, width)) for place in range(4)]
    head = {
        "W1": drawn(first + 10, (hidden, width), 0.5), "b1": drawn(first + 11, (hidden,), 0.1),
        "gamma": drawn(first + 12, (hidden,), 0.1, 1.0), "beta": drawn(first + 13, (hidden,), 0.1),
        "W2": drawn(first + 14, (width, hidden), 0.5), "b2": drawn(first + 15, (width,), 0.1),
    }  # fmt: skip
    return outputs, head


def given_objective(distance):
    """Builds an objective of loss 0, whose outputs for the two views are its parameters z1 and z2."""

    def embed(network, view, train):
        output = jnp.where(view[0, 0, 0, 0] == 0, network.params["z1"], network.params["z2"])
        return Embedding(output, output, (), ()), network.state

    def loss(network, views, clock):
        output = jnp.stack([network.params["z1"], network.params["z2"]])
        return jnp.zeros(()), Aux(network.state, {}, Embedding(output, output, (), ()))

    images = tuple(jnp.full((8, 1, 1, 1), float(view)) for view in range(2))
    return small.objective("simsiam")._replace(
        loss=loss, embed=embed, distance=distance, views=lambda keys, batch, how: Views(images, None)
    )


def decorrelative(first, second):
    """Computes the loss of Barlow Twins in CaSSLe's code: standardised as by batch norm, and times 0.1."""
    first, second = (
        (x - x.mean(0, keepdims=True)) * jax.lax.rsqrt(x.var(0, keepdims=True) + 1e-5) for x in (first, second)
    )
    correlation = first.T @ second / len(first)
    identity = jnp.eye(len(correlation))
    return 0.1 * jnp.sum((identity + 5e-3 * (1 - identity)) * jnp.square(correlation - identity))


@pytest.mark.parametrize("case", GOLDEN)
def test_the_term_and_its_gradients_equal_the_official_ones(case):
    (z1, z2, f1, f2), head = golden_inputs(*((11040, 8, 4) if case == "pfr" else (11000, 6, 10)))
    distance = losses.byol
    if case == "decorrelative":
        distance = decorrelative
    made = METHODS["pfr" if case == "pfr" else "cassle"](
        given_objective(distance), Scenario(2, 8, MLP), **(SETTINGS | {"weight": 1.0, "hidden_dim": len(head["b1"])})
    )
    past = Variables({"z1": f1, "z2": f2}, {})
    _, memory = made.init(jax.random.key(0), make_batch(), past)

    def loss(outputs, head):
        own = {
            "hidden": {"dense": {"kernel": head["W1"].T, "bias": head["b1"]}},
            "hidden_norm": {"scale": head["gamma"], "bias": head["beta"]},
            "output": {"dense": {"kernel": head["W2"].T, "bias": head["b2"]}},
        }
        keys = make_keys()
        return made.loss(TrainedParams(outputs, own), {}, memory, make_batch(), (), keys, small.CLOCK)[0]

    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))({"z1": z1, "z2": z2}, head)
    expected, slopes = GOLDEN[case]
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    found = gradients[0] | gradients[1]
    for name, (first, norm) in slopes.items():
        np.testing.assert_allclose(found[name].ravel()[:3], first, rtol=1e-4, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(jnp.linalg.norm(found[name]), norm, rtol=1e-4, err_msg=name)

    def of_the_past(outputs):
        then = memory.replace(network=Variables(outputs, {}))
        params = TrainedParams({"z1": z1, "z2": z2}, made.init(jax.random.key(0), make_batch(), past)[0])
        return made.loss(params, {}, then, make_batch(), (), make_keys(), small.CLOCK)[0]

    assert not any(np.any(leaf) for leaf in jax.tree.leaves(jax.grad(of_the_past)(past.params)))


# On a small real network.


@functools.cache
def method(name, learned="simsiam", **changes):
    return METHODS[name](small.objective(learned), small.SCENARIO, **(SETTINGS | changes))


def second_task(learned="simsiam", name="cassle", **changes):
    """Takes a step of the first task, ends the task, and takes a step of the second; returns all states and metrics."""
    made, optimizer = method(name, learned, **changes), optax.sgd(0.1, momentum=0.9)
    step = small.make_step(made, optimizer, learned)
    first = small.start_state(made, optimizer, small.started(learned))
    state, _ = step(first, make_batch(0))
    ended = small.end_of_task(made, state)
    later, metrics = step(ended, make_batch(1), Span(*(jnp.asarray(n, jnp.int32) for n in (1, 1, 100, 10))))
    return first, state, ended, later, metrics


def test_in_the_first_task_a_step_is_finetunes_and_the_head_stays_as_it_was_drawn():
    optimizer = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9))
    made, plain = method("cassle"), METHODS["finetune"](small.objective("simsiam"), small.SCENARIO)
    ours, theirs = (small.start_state(one, optimizer, small.started("simsiam")) for one in (made, plain))
    drawn_head = jax.tree.map(np.asarray, ours.params.method)
    for seed in range(2):
        ours, metrics = small.make_step(made, optimizer)(ours, make_batch(seed))
        theirs, _ = small.make_step(plain, optimizer)(theirs, make_batch(seed))
        close(ours.network, theirs.network)
        assert metrics["distillation"] == 0.0
    small.assert_trees_equal(ours.params.method, drawn_head)  # the same to the bit, in spite of weight decay
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(optax.tree.get(ours.opt_state, "trace").method))


def test_the_copy_is_the_network_as_the_last_task_left_it_with_its_statistics():
    first, learned, ended, later, metrics = second_task()
    small.assert_trees_equal(ended.memory.network, learned.network)
    small.assert_trees_equal(later.memory, ended.memory)  # the copy is frozen during the task
    small.assert_trees_equal(first.memory.network, small.started("simsiam").network)
    assert float(metrics["distillation"]) != 0.0
    moved = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), later.params.method, ended.params.method)
    assert max(jax.tree.leaves(moved)) > 1e-4  # the head learns now


def distance(name, learned, predicted, target):
    """Computes the distance by the definitions of shared/reference/field.md, in plain JAX."""
    if name == "pfr" or learned in ("simsiam", "byol"):
        cosine = jnp.sum(predicted * target, 1) / jnp.linalg.norm(predicted, axis=1) / jnp.linalg.norm(target, axis=1)
        return jnp.mean(-cosine if name == "pfr" else 2 - 2 * cosine)
    a, b = ((x - x.mean(0, keepdims=True)) / x.std(0, ddof=1, keepdims=True) for x in (predicted, target))
    correlation = jnp.matmul(a.T, b, precision="highest") / len(a)
    eye = jnp.eye(len(correlation))
    return jnp.sum(jnp.where(eye == 1, 1.0, small.SETTINGS[learned]["off_diagonal"]) * (correlation - eye) ** 2)


@pytest.mark.parametrize("frozen_mode", ["train", "eval"])
@pytest.mark.parametrize(("name", "learned"), [
    ("cassle", "simsiam"), ("cassle", "barlow_twins"), ("cassle", "byol"), ("pfr", "simsiam"), ("pfr", "supervised"),
])  # fmt: skip
def test_loss_and_gradient_equal_terms_by_hand(name, learned, frozen_mode):
    objective, start, batch, keys = small.alone(learned), small.started(learned), make_batch(3), make_keys(5)
    made = method(name, learned, frozen_mode=frozen_mode)
    own, memory = made.init(jax.random.key(1), batch, start.network)
    rng = np.random.default_rng(1)
    other = jax.tree.map(lambda x: x + rng.uniform(0, 0.2, x.shape).astype(np.float32), start.network)
    memory = memory.replace(network=other)
    views = objective.views(keys.example, batch)

    def by_hand(params):
        network = Variables(params.network, start.state)
        value, aux = small.objective(learned).loss(network, views, small.CLOCK)
        terms = []
        for place, view in enumerate(views.image):
            now = aux.outputs.features[place] if name == "pfr" else aux.outputs.projection[place]
            then, _ = small.objective(learned).embed(other, view, frozen_mode == "train")
            dense, norm, last = (params.method[part] for part in ("hidden", "hidden_norm", "output"))
            x = now @ dense["dense"]["kernel"] + dense["dense"]["bias"][None]
            x = (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-5)
            x = jnp.maximum(x * norm["scale"][None] + norm["bias"][None], 0)
            predicted = x @ last["dense"]["kernel"] + last["dense"]["bias"][None]
            target = then.features if name == "pfr" else then.projection
            terms.append(distance(name, learned, predicted, target))
        return value + 0.7 * sum(terms) / len(terms), aux.state

    def ours(params):
        return made.loss(params, start.state, memory, batch, (), keys, small.CLOCK)

    params = TrainedParams(start.params.network, own)
    (value, aux), gradient = small.quick_jit(jax.value_and_grad(ours, has_aux=True))(params)
    (expected, state), slopes = small.quick_jit(jax.value_and_grad(by_hand, has_aux=True))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    close(gradient, slopes, rtol=1e-2, atol=1e-4)
    close(aux.state, state)  # the copy and the head leave the network's state alone
    assert aux.outputs == ()


def test_cassle_needs_projections():
    with pytest.raises(ValueError, match="projections"):
        method("cassle", "supervised")


@pytest.mark.parametrize("name", ["cassle", "pfr"])
def test_another_word_for_the_frozen_network_is_refused(name):
    with pytest.raises(ValueError, match=r"frozen_mode is 'test'.*train, eval"):
        method(name, frozen_mode="test")


def test_the_head_has_the_width_that_was_asked_for():
    own, _ = method("cassle", hidden_dim=9).init(jax.random.key(0), make_batch(), small.started("simsiam").network)
    shapes = {name: part["dense"]["kernel"].shape for name, part in own.items() if "dense" in part}
    assert shapes == {"hidden": (6, 9), "output": (9, 6)}  # projections have 6 dimensions


def test_the_clock_says_when_there_is_a_past():
    made, start = method("cassle"), small.started("simsiam")
    own, memory = made.init(jax.random.key(0), make_batch(), start.network)
    params = TrainedParams(start.params.network, own)
    for task, term in ((0, False), (1, True)):
        clock = Clock(*(jnp.asarray(n, jnp.int32) for n in (7, task, 2, 5, 5)))
        _, aux = made.loss(params, start.state, memory, make_batch(), (), make_keys(), clock)
        assert (float(aux.metrics["distillation"]) != 0.0) == term
        found = made.active(own, clock)
        assert any(np.any(leaf) for leaf in jax.tree.leaves(found)) == term
