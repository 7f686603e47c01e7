"""Tests CaSSLe, PFR and PNR: their terms against the released codes, and whole steps against networks by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import golden, small
from tests.small import make_batch, make_keys
from ucl_jax.methods import METHODS, Scenario
from ucl_jax.methods.distillation import FrozenNetwork, Trained
from ucl_jax.methods.pnr import Remembered
from ucl_jax.models.heads import MLP, Embedding
from ucl_jax.objectives import OBJECTIVES, losses
from ucl_jax.types import Aux, Clock, Span, TrainedParams, Variables, Views

DISTILLATION = {"weight": 0.7, "hidden_dim": 5, "frozen_mode": "train"}
SETTINGS = {"cassle": DISTILLATION, "pfr": DISTILLATION, "pnr": DISTILLATION | {"negative_weight": 0.4}}
close = functools.partial(small.assert_trees_close, rtol=1e-4, atol=1e-5)

# Case of tests/golden.json -> method, and the objective whose criterion it is.
GOLDEN = {
    "cassle_contrastive": ("cassle", "simclr"),
    "cassle_predictive": ("cassle", "byol"),
    "cassle_predictive_mse": ("cassle", "vicreg"),
    "cassle_decorrelative": ("cassle", "barlow_twins"),
    "cassle_knowledge": ("cassle", "swav"),
    "pfr": ("pfr", "simsiam"),
    "pnr_simclr": ("pnr", "simclr"),
    "pnr_moco": ("pnr", "moco"),
    "pnr_byol": ("pnr", "byol"),
    "pnr_barlow": ("pnr", "barlow_twins"),
    "pnr_vicreg": ("pnr", "vicreg"),
}


def given_objective(name, settings):
    """Builds an objective of loss 0 with the criteria of another.

    Its outputs for the two views are its parameters z1 and z2, and those of its target k1 and k2, if there are any.
    """
    own = small.SETTINGS[name]
    given = own | {key: value for key, value in settings.items() if key in own}
    if name == "barlow_twins":
        given["deviation"] = "biased"
    made = OBJECTIVES[name](small.ARCHITECTURE, small.AUGMENTATION, **given)

    def embed(network, view, train):
        output = jnp.where(view[0, 0, 0, 0] == 0, network.params["z1"], network.params["z2"])
        return Embedding(output, output, (), ()), network.state

    def loss(network, views, clock):
        output = jnp.stack([network.params["z1"], network.params["z2"]])
        target = jnp.stack([network.state["k1"], network.state["k2"]]) if "k1" in network.state else ()
        return jnp.zeros((), output.dtype), Aux(network.state, {}, Embedding(output, output, (), (), target))

    images = tuple(jnp.full((8, 1, 1, 1), float(view)) for view in range(2))
    return small.objective("simsiam")._replace(
        loss=loss,
        embed=embed,
        distillation=made.distillation,
        pseudo_negatives=made.pseudo_negatives,
        views=lambda keys, batch, how: Views(images, None),
    )


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize("case", GOLDEN)
def test_the_term_and_its_gradients_equal_the_official_ones(case, precision):
    name, learned = GOLDEN[case]
    with golden.precise(precision):
        inputs, settings, expected = golden.read(case, precision)
        weights = {"weight": 1.0} | {key: settings[key] for key in ("weight", "negative_weight") if key in settings}
        if name == "pnr":  # for SimCLR and MoCo the code has no such weights
            weights = {"negative_weight": 1.0} | weights
        scenario = Scenario(2, 8, 8, lambda width: MLP(width, dtype=precision))
        given = weights | {"hidden_dim": len(inputs["b1"]), "frozen_mode": "train"}
        made = METHODS[name](given_objective(learned, settings), scenario, **given)
        frozen = Variables({"z1": inputs["f1"], "z2": inputs["f2"]}, {})
        if learned == "swav":
            prototypes = {"direction": inputs["teacher_direction"], "length": inputs["teacher_length"]}
            frozen.params["prototypes"] = prototypes
        state, queue = {}, ()
        if learned == "moco":  # queues are [2, D, K] there
            present, queue = (jnp.transpose(inputs[key], (2, 0, 1)) for key in ("queue", "past_queue"))
            state = {"k1": inputs["k1"], "k2": inputs["k2"], "queue": present}
        memory = Remembered(frozen, queue, jnp.int32(1)) if name == "pnr" else FrozenNetwork(frozen)

        def loss(x):
            head = {
                "hidden": {"dense": {"kernel": x["W1"].T, "bias": x["b1"]}},
                "hidden_norm": {"scale": x["gamma"], "bias": x["beta"]},
                "output": {"dense": {"kernel": x["W2"].T, "bias": x["b2"]}},
            }
            own = ()
            if learned == "swav":
                own = {"direction": x["student_direction"], "length": x["student_length"]}
            params = TrainedParams({"z1": x["z1"], "z2": x["z2"]}, head if name == "pnr" else Trained(head, own))
            return made.loss(params, state, memory, make_batch(), (), make_keys(), small.CLOCK)[0]

        if learned == "moco":
            # Projections are of length 1 there. Here they are normalised once more, so that the gradient along them is
            # missing. Of the official gradients only the first row is known whole.
            found, given = jax.jit(jax.grad(loss))(inputs), dict(expected["gradient"])
            for key in ("z1", "z2"):
                z, official = np.asarray(inputs[key][0]), np.asarray(given.pop(key)["first"][:6])
                across, ours = (g - (g @ z) * z for g in (official, np.asarray(found[key][0])))
                np.testing.assert_allclose(ours, across, **golden.TOLERANCE[precision])
            expected = expected | {"gradient": given}
        golden.check(loss, inputs, expected, precision)


@pytest.mark.parametrize(("name", "learned"), [("cassle", "byol"), ("cassle", "swav"), ("pnr", "simclr")])
def test_no_gradient_reaches_the_frozen_network(name, learned):
    made, start = method(name, learned), small.started(learned)
    own, memory = made.init(jax.random.key(0), make_batch(), start.network)
    params = TrainedParams(start.params.network, own)

    def loss(frozen):
        then = memory.replace(network=Variables(frozen, start.state))
        return made.loss(params, start.state, then, make_batch(), (), make_keys(), small.CLOCK)[0]

    assert not any(np.any(leaf) for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(start.params.network)))


# On a small real network.


@functools.cache
def method(name, learned="simsiam", **changes):
    return METHODS[name](small.objective(learned), small.SCENARIO, **(SETTINGS[name] | changes))


def second_task(learned="simsiam", name="cassle", **changes):
    """Takes a step of the first task, ends the task, and takes a step of the second; returns all states and metrics."""
    made, optimizer = method(name, learned, **changes), optax.sgd(0.1, momentum=0.9)
    step = small.make_step(made, optimizer, learned)
    first = small.start_state(made, optimizer, small.started(learned))
    state, _ = step(first, make_batch(0))
    ended = small.end_of_task(made, state)
    later, metrics = step(ended, make_batch(1), Span(*(jnp.asarray(n, jnp.int32) for n in (1, 1, 100, 10))))
    return first, state, ended, later, metrics


@pytest.mark.parametrize("name", ["cassle", "pnr"])
def test_in_the_first_task_a_step_is_finetunes_and_the_head_stays_as_it_was_drawn(name):
    optimizer = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9))
    made, plain = method(name), METHODS["finetune"](small.objective("simsiam"), small.SCENARIO)
    ours, theirs = (small.start_state(one, optimizer, small.started("simsiam")) for one in (made, plain))
    drawn_head = jax.tree.map(np.asarray, ours.params.method)
    for seed in range(2):
        ours, metrics = small.make_step(made, optimizer)(ours, make_batch(seed))
        theirs, _ = small.make_step(plain, optimizer)(theirs, make_batch(seed))
        close(ours.network, theirs.network)
        assert metrics["distillation"] == 0.0
    small.assert_trees_equal(ours.params.method, drawn_head)  # the same to the bit, in spite of weight decay
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(optax.tree.get(ours.opt_state, "trace").method))


@pytest.mark.parametrize("name", ["cassle", "pnr"])
def test_the_copy_is_the_network_as_the_last_task_left_it_with_its_statistics(name):
    first, learned, ended, later, metrics = second_task(name=name)
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
            dense, norm, last = (params.method.head[part] for part in ("hidden", "hidden_norm", "output"))
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
    (value, aux), gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(params)
    (expected, state), slopes = jax.jit(jax.value_and_grad(by_hand, has_aux=True))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    close(gradient, slopes, rtol=1e-2, atol=1e-4)
    close(aux.state, state)  # the copy and the head leave the network's state alone
    assert aux.outputs == ()


@pytest.mark.parametrize(("name", "learned"), [("cassle", "supervised"), ("pnr", "supervised"), ("pnr", "swav")])
def test_an_objective_without_the_criterion_is_refused(name, learned):
    with pytest.raises(ValueError, match=r"take .* method"):
        method(name, learned)


def test_pnr_keeps_the_frozen_networks_projections_from_the_second_task_on():
    """Checks MoCo's queue of frozen projections: random until the second task, then the newest are in front."""
    first, learned, ended, later, _ = second_task("moco", "pnr")
    drawn = np.asarray(first.memory.queue)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=2), 1.0, rtol=1e-6)
    for state in (learned, ended):
        np.testing.assert_array_equal(state.memory.queue, drawn)
    _, _, keys = small.step_keys(1)
    made = small.alone("moco")
    views = made.views(keys.example, make_batch(1)).image
    given = [made.embed(ended.memory.network, view, True)[0].projection for view in views]
    close(later.memory.queue[: small.EXAMPLES], jnp.stack(given, axis=1))
    np.testing.assert_array_equal(later.memory.queue[small.EXAMPLES :], drawn[: -small.EXAMPLES])


@pytest.mark.parametrize("negative_weight", [0.0, 1.0, 3.0])
def test_pnr_with_simclr_counts_pseudo_negatives_by_their_weight(negative_weight):
    rng = np.random.default_rng(0)
    z, p, y = (rng.normal(size=(2, 4, 5)) for _ in range(3))
    found = losses.nt_xent_beside_frozen(*map(jnp.float32, (z, p, y)), 0.5, 0.7, negative_weight)
    z, p, y = (x.reshape(8, 5) / np.linalg.norm(x.reshape(8, 5), axis=1, keepdims=True) for x in (z, p, y))
    present, past = [], []
    for i in range(8):
        others = [j for j in range(8) if j != i]
        near = np.exp(z[i] @ z[others].T / 0.5).sum() + negative_weight * np.exp(z[i] @ y[others].T / 0.5).sum()
        present.append(np.log(near) - z[i] @ z[(i + 4) % 8] / 0.5)
        near = np.exp(p[i] @ y[others].T / 0.5).sum() + negative_weight * np.exp(p[i] @ z[others].T / 0.5).sum()
        past.append(np.log(near) - p[i] @ y[i] / 0.5)
    np.testing.assert_allclose(found, np.mean(present) + 0.7 * np.mean(past), rtol=1e-5)


@pytest.mark.parametrize("name", ["cassle", "pfr", "pnr"])
def test_another_word_for_the_frozen_network_is_refused(name):
    with pytest.raises(ValueError, match=r"frozen_mode is 'test'.*train, eval"):
        method(name, frozen_mode="test")


def test_the_head_has_the_width_that_was_asked_for():
    own, _ = method("cassle", hidden_dim=9).init(jax.random.key(0), make_batch(), small.started("simsiam").network)
    shapes = {name: part["dense"]["kernel"].shape for name, part in own.head.items() if "dense" in part}
    assert shapes == {"hidden": (6, 9), "output": (9, 6)}  # projections have 6 dimensions


def test_the_clock_says_when_there_is_a_past():
    made, start = method("cassle"), small.started("simsiam")
    own, memory = made.init(jax.random.key(0), make_batch(), start.network)
    params = TrainedParams(start.params.network, own)
    for task, term in ((0, False), (1, True)):
        clock = Clock(*(jnp.asarray(n, jnp.int32) for n in (7, task, 2, 5, 1)))
        _, aux = made.loss(params, start.state, memory, make_batch(), (), make_keys(), clock)
        assert (float(aux.metrics["distillation"]) != 0.0) == term
        found = made.active(own, clock)
        assert any(np.any(leaf) for leaf in jax.tree.leaves(found)) == term
