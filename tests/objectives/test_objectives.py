"""Tests objectives on small real networks, against calls one after the other and NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from tests import small
from tests.small import CLOCK
from ucl_jax import objectives
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import MLP, Network
from ucl_jax.models.layers import Dense
from ucl_jax.models.progressive import Lateral, Progressive, only_column
from ucl_jax.models.resnet import BasicBlock, ResNet18
from ucl_jax.objectives.base import feature_std, forward_views, make_embed
from ucl_jax.types import Batch, Variables, Views

DEVICES, SIZE, EXAMPLES, OFF_DIAGONAL, CLASSES = 4, 8, 8, 0.3, 9


class Backbone(nn.Module):
    """A block of ResNet-18 and the spatial mean. It has every kind of layer, and is quick to compile."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train):
        return jnp.mean(BasicBlock(4, 2, axis_name=self.axis_name, name="block")(x, train), axis=(1, 2))


# These are easy to compute by hand: a view is the image times a random number, the weak view the image minus one.
AUGMENTATION = objectives.Augmentation(
    present=lambda key, image, view: (
        image.astype(jnp.float32) / 255.0 * jax.random.uniform(key, minval=0.5, maxval=2.0)
    ),
    weak=lambda key, image, view: image.astype(jnp.float32) / 255.0 - jax.random.uniform(key),
    plain=lambda image: image.astype(jnp.float32) / 255.0 - 0.5,
)


TARGET = {"momentum": 0.9, "final_momentum": 1.0, "first_update": "at_once"}
# The name before a "+" is the objective's name in the package.
SETTINGS = {
    "simsiam": {"hidden_dim": 12, "output_dim": 6, "predictor_dim": 5},
    "barlow_twins": {
        "hidden_dim": 12, "output_dim": 6, "off_diagonal": OFF_DIAGONAL, "layers": 2, "norm": "all", "scale": 1.0,
        "deviation": "unbiased",
    },
    "barlow_twins+cassle": {
        "hidden_dim": 12, "output_dim": 6, "off_diagonal": OFF_DIAGONAL, "layers": 3, "norm": "hidden", "scale": 0.1,
        "deviation": "biased",
    },
    "simclr": {"hidden_dim": 12, "output_dim": 6, "temperature": 0.5},
    "vicreg": {"hidden_dim": 12, "output_dim": 6, "similarity": 3.0, "variance": 2.0, "covariance": 5.0},
    "supervised": {"classes": CLASSES, "projector": False, "hidden_dim": 12, "output_dim": 6},
    "supervised+projector": {"classes": CLASSES, "projector": True, "hidden_dim": 12, "output_dim": 6},
}  # fmt: skip
# Objectives with more in their parameters or their state than a network of flax; each has a file of tests.
OTHERS = {
    "byol": {"hidden_dim": 12, "output_dim": 6, "predictor_dim": 5, **TARGET},
    "moco": {"hidden_dim": 12, "output_dim": 6, "temperature": 0.5, "queue_size": 11, **TARGET},
    "swav": {
        "hidden_dim": 12, "output_dim": 6, "prototypes": 7, "temperature": 0.2, "epsilon": 0.1, "iterations": 3,
        "queue_size": 5, "queue_epoch": 1, "frozen_epochs": 0,
    },
    "swav+empty": {
        "hidden_dim": 12, "output_dim": 6, "prototypes": 7, "temperature": 0.2, "epsilon": 0.1, "iterations": 3,
        "queue_size": 5, "queue_epoch": 9, "frozen_epochs": 0,
    },
}  # fmt: skip
SUPERVISED = ("supervised", "supervised+projector")


def make_objective(name, axis_name=None):
    architecture = Architecture(lambda heads: Network(Backbone(axis_name), **heads()))
    make = objectives.OBJECTIVES[name.partition("+")[0]]
    return make(architecture, AUGMENTATION, **(SETTINGS | OTHERS)[name], axis_name=axis_name)


def make_network(name):
    """Builds the network that `make_objective` should have built."""
    return {
        "simsiam": lambda: Network(Backbone(), MLP(12, 6, norm="all"), MLP(5)),
        "barlow_twins": lambda: Network(Backbone(), MLP(12, 6, norm="all")),
        "barlow_twins+cassle": lambda: Network(Backbone(), MLP(12, 6, layers=3)),
        "simclr": lambda: Network(Backbone(), MLP(12, 6, norm="none")),
        "vicreg": lambda: Network(Backbone(), MLP(12, 6, layers=3)),
        "supervised": lambda: Network(Backbone(), head=Dense(CLASSES)),
        "supervised+projector": lambda: Network(Backbone(), MLP(12, 6, norm="all"), head=Dense(CLASSES)),
    }[name]()


def make_batch(seed=0, count=EXAMPLES):
    image = np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    return Batch(jnp.asarray(image), jnp.arange(count, dtype=jnp.int32), jnp.ones(count, bool))


def keys(seed=0, count=EXAMPLES):
    return jax.random.split(jax.random.key(seed), count)


def make_views(seed=0, shape=(EXAMPLES, SIZE, SIZE, 3), views=2):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(views, *shape)), jnp.float32)


def views_of(name):
    """Returns views for the loss of an objective. Every second label is mixed and sums to 0.9, as LUMP's may."""
    first, second = make_views()
    if name not in SUPERVISED:
        return Views((first, second), None)
    label = np.eye(CLASSES)[[0, 3, 3, 8, 1, 0, 5, 2]]
    label[::2] = 0.6 * label[::2] + 0.3 * label[::-2]
    return Views((first,), jnp.asarray(label, jnp.float32))


def shaken(tree, seed=0):
    """Adds random numbers to a tree, because scales of 1 and biases of 0, as at the start, would hide mistakes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: np.asarray(leaf) + rng.uniform(0, 0.2, leaf.shape).astype(np.float32), tree)


@functools.cache
def started(name):
    """Returns an objective, and a network with random numbers added, as if it had been trained."""
    objective = make_objective(name)
    return objective, jax.tree.map(shaken, jax.jit(objective.init)(jax.random.key(0), make_batch().image))


def one_after_the_other(network, params, state, views):
    outputs = []
    for view in views:
        out, state = network.apply({"params": params, **state}, view, train=True, mutable=["batch_stats"])
        outputs.append(out)
    return outputs, state


def assert_trees_close(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


# Two views in one pass.


@pytest.mark.parametrize(("kind", "count"), [("block", 3), ("resnet18", 2)])
def test_forward_views_equals_calls_one_after_the_other(kind, count):
    backbone = Backbone() if kind == "block" else ResNet18(width=4)
    network = Network(backbone, MLP(12, 6, norm="all"), MLP(5))
    views = make_views(views=count) * jnp.arange(1.0, count + 1.0).reshape(-1, 1, 1, 1, 1)  # so that order matters
    variables = shaken(jax.jit(lambda: network.init(jax.random.key(0), views[0], train=True))())
    params, state = variables["params"], {"batch_stats": variables["batch_stats"]}

    passed = jax.jit(functools.partial(forward_views, make_embed(network)))
    out, after = passed(Variables(params, state), Views(tuple(views), None))
    reference = jax.jit(functools.partial(one_after_the_other, network))
    expected, expected_state = reference(params, state, views)
    for view in range(count):
        assert_trees_close(jax.tree.map(lambda x, v=view: x[v], out), expected[view], rtol=1e-3, atol=1e-4)
    assert_trees_close(after, expected_state, rtol=1e-4, atol=1e-5)


def test_feature_std_equals_numpy():
    features = np.random.default_rng(0).normal(1.0, 2.0, size=(40, 6))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = np.mean(unit.std(axis=0)) * np.sqrt(6)
    np.testing.assert_allclose(feature_std(jnp.asarray(features, jnp.float32)), expected, rtol=1e-5)


def test_feature_std_is_0_on_collapse_and_about_1_when_spread():
    """Checks that one direction gives 0, and an isotropic Gaussian 1 (1 / sqrt(D) in Chen & He 2021, section 4.1)."""
    direction = jnp.asarray([[3.0, -1.0, 2.0, 0.5]])
    collapsed = direction * jnp.arange(1.0, 9.0)[:, None]  # lengths do not matter
    np.testing.assert_allclose(feature_std(collapsed), 0.0, atol=1e-6)
    np.testing.assert_allclose(feature_std(jnp.zeros((5, 4))), 0.0)
    spread = jax.random.normal(jax.random.key(0), (2000, 64))
    np.testing.assert_allclose(feature_std(spread), 1.0, atol=0.01)


def test_feature_std_of_bfloat16_is_computed_in_float32():
    features = jnp.asarray(np.random.default_rng(0).normal(size=(40, 6)), jnp.bfloat16)
    expected = feature_std(features.astype(jnp.float32))
    assert expected.dtype == feature_std(features).dtype == jnp.float32
    np.testing.assert_array_equal(feature_std(features), expected)


# Losses.


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def simsiam_by_hand(first, second):
    one = -np.mean(np.sum(unit(first.prediction) * unit(second.projection), axis=1))
    two = -np.mean(np.sum(unit(second.prediction) * unit(first.projection), axis=1))
    return one / 2 + two / 2


def barlow_twins_by_hand(first, second):
    return correlation_by_hand(*((x - x.mean(0)) / x.std(0, ddof=1) for x in (first.projection, second.projection)))


def barlow_twins_of_cassle_by_hand(first, second):
    deviate = lambda x: np.sqrt(x.var(0) + 1e-5)  # noqa: E731
    return 0.1 * correlation_by_hand(*((x - x.mean(0)) / deviate(x) for x in (first.projection, second.projection)))


def correlation_by_hand(a, b):
    return sum(
        (1.0 if i == j else OFF_DIAGONAL) * (np.sum(a[:, i] * b[:, j]) / len(a) - float(i == j)) ** 2
        for i in range(a.shape[1])
        for j in range(a.shape[1])
    )


def supervised_by_hand(out, label):
    """Computes -log of the softmax at the labels, in a plain loop."""
    total = 0.0
    for logits, weights in zip(out.logits, label):
        for c in range(CLASSES):
            total -= weights[c] * (logits[c] - np.log(sum(np.exp(logits))))
    return total / len(label)


def simclr_by_hand(first, second):
    """Computes NT-Xent in a plain loop over anchors and candidates."""
    z, total = unit(np.concatenate([first.projection, second.projection])), 0.0
    for i in range(len(z)):
        others = [np.exp(z[i] @ z[j] / 0.5) for j in range(len(z)) if j != i]
        total -= np.log(np.exp(z[i] @ z[(i + EXAMPLES) % len(z)] / 0.5) / sum(others))
    return total / len(z)


def vicreg_by_hand(first, second):
    value = 3.0 * np.mean((first.projection - second.projection) ** 2)
    for z in (first.projection, second.projection):
        covariance = np.cov(z.T)
        value += 2.0 * np.mean(np.maximum(0, 1 - np.sqrt(z.var(0, ddof=1) + 1e-4)))
        value += 5.0 * sum(covariance[i, j] ** 2 for i in range(6) for j in range(6) if i != j) / 6
    return value


BY_HAND = {
    "simsiam": simsiam_by_hand,
    "barlow_twins": barlow_twins_by_hand,
    "barlow_twins+cassle": barlow_twins_of_cassle_by_hand,
    "simclr": simclr_by_hand,
    "vicreg": vicreg_by_hand,
}


def value_and_grad(objective, variables, views):
    def loss(params):
        return objective.loss(Variables(params, variables.state), views, CLOCK)

    return jax.value_and_grad(loss, has_aux=True)(variables.params)


@functools.cache
def on_one_device(name):
    objective, variables = started(name)
    return jax.jit(functools.partial(value_and_grad, objective))(variables, views_of(name))


def off_identity(a, b):
    difference = jnp.square(jnp.matmul(a.T, b, precision="highest") / len(a) - jnp.eye(6))
    return jnp.sum(jnp.where(jnp.eye(6) == 1.0, difference, OFF_DIAGONAL * difference))


def barlow_twins_in_jax(first, second):
    return off_identity(
        *(
            (x - x.mean(0, keepdims=True)) / x.std(0, ddof=1, keepdims=True)
            for x in (first.projection, second.projection)
        )
    )


def barlow_twins_of_cassle_in_jax(first, second):
    normal = nn.BatchNorm(use_running_average=False, use_scale=False, use_bias=False)
    apply = lambda x: normal.apply({}, x, mutable=["batch_stats"])[0]  # noqa: E731
    return 0.1 * off_identity(apply(first.projection), apply(second.projection))


def simsiam_in_jax(first, second):
    rows = cosine(first.prediction, second.projection), cosine(second.prediction, first.projection)
    return -jnp.mean(jnp.stack(rows))


def simclr_in_jax(first, second):
    z = jnp.concatenate([first.projection, second.projection])
    z = z / jnp.linalg.norm(z, axis=1, keepdims=True)
    logits = jnp.matmul(z, z.T, precision="highest") / 0.5 - 1e9 * jnp.eye(len(z))
    return optax.softmax_cross_entropy_with_integer_labels(logits, (jnp.arange(len(z)) + EXAMPLES) % len(z)).mean()


def vicreg_in_jax(first, second):
    value = 3.0 * jnp.mean(jnp.square(first.projection - second.projection))
    for z in (first.projection, second.projection):
        value += 2.0 * jnp.mean(jnp.maximum(0, 1 - jnp.sqrt(jnp.var(z, axis=0, ddof=1) + 1e-4)))
        value += 5.0 * jnp.sum(jnp.square(jnp.cov(z.T) * (1 - jnp.eye(6)))) / 6
    return value


IN_JAX = {
    "simsiam": simsiam_in_jax,
    "barlow_twins": barlow_twins_in_jax,
    "barlow_twins+cassle": barlow_twins_of_cassle_in_jax,
    "simclr": simclr_in_jax,
    "vicreg": vicreg_in_jax,
}


def cosine(prediction, target):
    target = jax.lax.stop_gradient(target)
    lengths = jnp.linalg.norm(prediction, axis=1) * jnp.linalg.norm(target, axis=1)
    return jnp.sum(prediction * target, axis=1) / lengths


@pytest.mark.parametrize("name", BY_HAND)
def test_loss_and_gradient_equal_the_formula_on_outputs_of_two_calls(name):
    _, variables = started(name)
    network = make_network(name)
    (value, aux), gradient = on_one_device(name)

    def reference(params):
        outputs, state = one_after_the_other(network, params, variables.state, make_views())
        return IN_JAX[name](*outputs), (outputs, state)

    (_, (outputs, state)), expected = jax.jit(jax.value_and_grad(reference, has_aux=True))(variables.params)
    outputs = jax.tree.map(lambda x: np.asarray(x, np.float64), outputs)
    np.testing.assert_allclose(value, BY_HAND[name](*outputs), rtol=1e-4)
    assert_trees_close(gradient, expected, rtol=1e-2, atol=1e-4)
    assert_trees_close(aux.state, state, rtol=1e-4, atol=1e-5)
    assert list(aux.metrics) == ["feature_std"]
    expected = np.mean(unit(outputs[0].features).std(axis=0)) * np.sqrt(4)
    np.testing.assert_allclose(aux.metrics["feature_std"], expected, rtol=1e-4)
    both = jax.tree.map(lambda *views: np.stack(views), *outputs)
    assert_trees_close(aux.outputs, both, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SUPERVISED)
def test_supervised_loss_and_gradient_equal_the_formula_on_the_output_of_a_call(name):
    _, variables = started(name)
    network, views = make_network(name), views_of(name)
    (value, aux), gradient = on_one_device(name)

    def reference(params):
        (out,), state = one_after_the_other(network, params, variables.state, views.image)
        assert out.logits.shape == (EXAMPLES, CLASSES)
        ratio = jnp.exp(out.logits) / jnp.sum(jnp.exp(out.logits), axis=1, keepdims=True)
        return -jnp.sum(views.label * jnp.log(ratio)) / EXAMPLES, (out, state)

    (_, (out, state)), expected = jax.jit(jax.value_and_grad(reference, has_aux=True))(variables.params)
    params = variables.params
    assert ("projector" in params) == (name == "supervised+projector")
    assert params["head"]["dense"]["kernel"].shape == ((6 if "projector" in params else 4), CLASSES)
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), out)
    np.testing.assert_allclose(value, supervised_by_hand(wide, np.asarray(views.label)), rtol=1e-4)
    assert_trees_close(gradient, expected, rtol=1e-2, atol=1e-4)
    assert_trees_close(aux.state, state, rtol=1e-4, atol=1e-5)
    assert_trees_close(aux.outputs, jax.tree.map(lambda x: x[None], out), rtol=1e-3, atol=1e-4)
    assert sorted(aux.metrics) == ["accuracy", "feature_std"]
    spread = np.mean(unit(wide.features).std(axis=0)) * np.sqrt(4)
    np.testing.assert_allclose(aux.metrics["feature_std"], spread, rtol=1e-4)


def test_accuracy_of_the_batch_by_hand():
    objective, variables = started("supervised")
    views = views_of("supervised")
    (_, aux), _ = on_one_device("supervised")
    predicted = np.argmax(aux.outputs.logits[0], axis=1)
    # Three labels are the predicted class, five are the class after it. Of a mixed label the larger part counts.
    label = 0.7 * np.eye(CLASSES)[np.where(np.arange(EXAMPLES) < 3, predicted, (predicted + 1) % CLASSES)]
    label += 0.3 * np.eye(CLASSES)[(predicted + 2) % CLASSES]
    views = views._replace(label=jnp.asarray(label, jnp.float32))
    _, aux = jax.jit(objective.loss)(variables, views, CLOCK)
    np.testing.assert_allclose(aux.metrics["accuracy"], 3 / 8)


@pytest.mark.parametrize("name", SETTINGS | OTHERS)
def test_over_devices_equals_one_device(name):
    """Checks that value, gradient and state are the same with the batch split over four devices."""
    _, variables = started(name)
    objective = make_objective(name, "devices")

    def device_step(variables, views):
        (value, aux), gradient = value_and_grad(objective, variables, views)
        return *jax.lax.pmean((value, gradient), "devices"), aux.state

    (value, aux), gradient = on_one_device(name)
    shares = jax.tree.map(lambda x: x.reshape(DEVICES, EXAMPLES // DEVICES, *x.shape[1:]), views_of(name))
    mapped = jax.pmap(device_step, axis_name="devices", in_axes=(None, 0))
    values, gradients, states = mapped(variables, shares)
    for device in range(DEVICES):
        mine = jax.tree.map(lambda x, d=device: x[d], (values, gradients, states))
        np.testing.assert_allclose(mine[0], value, rtol=1e-4)
        assert_trees_close(mine[1], gradient, rtol=1e-2, atol=1e-4)
        assert_trees_close(mine[2], aux.state, rtol=1e-4, atol=1e-5)


# The loss without batch statistics.

ONE_BY_ONE = {"simsiam": simsiam_by_hand, "supervised": supervised_by_hand, "supervised+projector": supervised_by_hand}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_eval_loss_is_the_mean_over_examples_and_takes_running_statistics(name):
    objective, variables = started(name)
    views, tree = views_of(name), {"params": variables.params, **variables.state}
    outputs = jax.jit(lambda image: make_network(name).apply(tree, image, False))
    out = jax.tree.map(lambda x: np.asarray(x, np.float64), outputs(views.image[0]))
    if name == "simsiam":
        other = jax.tree.map(lambda x: np.asarray(x, np.float64), outputs(views.image[1]))
    else:
        other = np.asarray(views.label, np.float64)

    eval_loss = jax.jit(objective.eval_loss)
    np.testing.assert_allclose(eval_loss(variables, views), ONE_BY_ONE[name](out, other), rtol=1e-4)
    alone = [eval_loss(variables, jax.tree.map(lambda x, i=i: x[i : i + 1], views)) for i in range(EXAMPLES)]
    for i, value in enumerate(alone):
        one = jax.tree.map(lambda x, i=i: x[i : i + 1], (out, other))
        np.testing.assert_allclose(value, ONE_BY_ONE[name](*one), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.mean(alone), eval_loss(variables, views), rtol=1e-4)
    (trained, _), _ = on_one_device(name)
    assert abs(float(trained) - np.mean(alone)) > 1e-3  # the batch's statistics differ from the running ones


@pytest.mark.parametrize("name", ["barlow_twins", "simclr", "vicreg", "swav"])
def test_an_objective_that_compares_examples_has_no_loss_of_one(name):
    assert make_objective(name).eval_loss is None


# Start, views, features.


@pytest.mark.parametrize("name", SETTINGS)
def test_init_depends_on_the_key_and_not_on_the_images(name):
    objective = make_objective(name)
    init = jax.jit(objective.init)
    variables = init(jax.random.key(0), make_batch(0).image)
    one_image = init(jax.random.key(0), make_batch(1).image[:1])  # as `init_state` does
    assert_trees_close(variables, one_image, rtol=0, atol=0)
    network = make_network(name)
    expected = jax.jit(lambda key: network.init(key, jnp.zeros((2, SIZE, SIZE, 3)), True)["params"])
    assert_trees_close(variables.params, expected(jax.random.key(0)), rtol=1e-5, atol=1e-6)
    for path, leaf in jax.tree.leaves_with_path(variables.state):
        np.testing.assert_array_equal(leaf, np.full(leaf.shape, 1.0 if path[-1].key == "var" else 0.0))


def test_views_are_two_draws_an_example_from_its_own_key():
    objective, batch = make_objective("simsiam"), make_batch()
    first, second = objective.views(keys(), batch, "present").image
    image = np.asarray(batch.image, np.float32) / 255
    for b, key in enumerate(keys()):
        one, two = (jax.random.uniform(k, minval=0.5, maxval=2.0) for k in jax.random.split(key))
        np.testing.assert_allclose(first[b], image[b] * one, rtol=1e-6)
        np.testing.assert_allclose(second[b], image[b] * two, rtol=1e-6)


@pytest.mark.parametrize("name", ["simsiam", "supervised"])
def test_a_replayed_view_is_one_weak_view(name):
    objective, batch = make_objective(name), make_batch()
    (weak,) = objective.views(keys(), batch, "replayed").image
    image = np.asarray(batch.image, np.float32) / 255
    for b, key in enumerate(keys()):
        np.testing.assert_allclose(weak[b], image[b] - jax.random.uniform(key), atol=1e-6)


def test_weak_views_are_two_draws_an_example_from_its_own_key():
    objective, batch = make_objective("simsiam"), make_batch()
    views = objective.views(keys(), batch, "weak").image
    image = np.asarray(batch.image, np.float32) / 255
    for b, key in enumerate(keys()):
        for view, own in zip(views, jax.random.split(key)):
            np.testing.assert_allclose(view[b], image[b] - jax.random.uniform(own), atol=1e-6)


def test_supervised_views_are_one_draw_an_example_and_its_label_one_hot():
    objective, batch = make_objective("supervised"), make_batch()
    views = objective.views(keys(), batch, "present")
    image = np.asarray(batch.image, np.float32) / 255
    (shown,) = views.image
    assert shown.shape == (EXAMPLES, SIZE, SIZE, 3)
    for b, key in enumerate(keys()):
        np.testing.assert_allclose(shown[b], image[b] * jax.random.uniform(key, minval=0.5, maxval=2.0), rtol=1e-6)
    labels = [4, 0, 8, 4, 1, 2, 3, 7]
    expected = np.array([[float(c == label) for c in range(CLASSES)] for label in labels])
    for how in ("present", "weak", "replayed", "plain"):
        views = objective.views(keys(), batch._replace(label=jnp.asarray(labels, jnp.int32)), how)
        np.testing.assert_array_equal(views.label, expected)
        assert views.label.dtype == jnp.float32


@pytest.mark.parametrize("name", ["simsiam", "supervised"])
def test_plain_views_are_the_images_as_they_are_tested(name):
    objective, batch = make_objective(name), make_batch()
    shown = np.asarray(batch.image, np.float32) / 255 - 0.5
    views = objective.views(None, batch, "plain").image
    assert len(views) == (2 if name == "simsiam" else 1)
    for view in views:
        np.testing.assert_allclose(view, shown, atol=1e-6)


@pytest.mark.parametrize("name", ["simsiam", "supervised"])
def test_another_way_to_show_images_is_refused(name):
    with pytest.raises(ValueError, match=r"how is 'strong'.*present, weak, replayed, plain"):
        make_objective(name).views(keys(), make_batch(), "strong")


@pytest.mark.parametrize("name", ["simsiam", "supervised+projector"])
def test_embed_is_a_call_of_the_network_and_updates_statistics_in_training_only(name):
    objective, variables = started(name)
    network, view = make_network(name), make_views()[0]
    tree = {"params": variables.params, **variables.state}

    def both(view):
        return network.apply(tree, view, True, mutable=["batch_stats"]), network.apply(tree, view, False)

    (out, updated), tested = jax.jit(both)(view)
    embed = jax.jit(objective.embed, static_argnums=2)
    got, state = embed(variables, view, True)
    assert_trees_close(got, out, rtol=1e-4, atol=1e-5)
    assert_trees_close(state, updated, rtol=1e-5, atol=1e-6)
    got, state = embed(variables, view, False)
    assert_trees_close(got, tested, rtol=1e-4, atol=1e-5)
    assert_trees_close(state, variables.state, rtol=0, atol=0)
    assert np.abs(out.features - tested.features).max() > 1e-2
    assert got.output.shape == (EXAMPLES, 6 if name == "simsiam" else CLASSES)
    np.testing.assert_array_equal(got.output, got.projection if name == "simsiam" else got.logits)


@pytest.mark.parametrize("name", SETTINGS)
def test_what_an_objective_says_of_itself(name):
    objective = make_objective(name)
    assert objective.classes == (CLASSES if name in SUPERVISED else None)
    tree = {"a": np.ones(2)}
    assert objective.active(tree, CLOCK) is tree  # one network for all tasks is trained as a whole


@pytest.mark.parametrize("name", SUPERVISED)
def test_readout_of_a_supervised_objective_holds_the_logits_in_evaluation_mode(name):
    objective, variables = started(name)
    images = make_batch().image
    readout = jax.jit(objective.features)(variables, images)
    shown = jnp.asarray(np.asarray(images, np.float32) / 255 - 0.5)
    tree = {"params": variables.params, **variables.state}
    expected = jax.jit(lambda shown: make_network(name).apply(tree, shown, False))(shown)
    assert readout.logits.shape == (EXAMPLES, CLASSES)
    assert readout.logits.dtype == readout.features.dtype == jnp.float32
    np.testing.assert_allclose(readout.features, expected.features, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(readout.logits, expected.logits, rtol=1e-4, atol=1e-6)
    # The head by hand.
    dense = variables.params["head"]["dense"]
    x = np.asarray(expected.projection if name == "supervised+projector" else expected.features)
    np.testing.assert_allclose(readout.logits, x @ dense["kernel"] + dense["bias"], rtol=1e-4, atol=1e-5)


def test_features_are_the_backbones_in_evaluation_mode_and_each_images_own():
    objective, variables = started("simsiam")
    network, images = make_network("simsiam"), make_batch().image
    features = jax.jit(objective.features)
    out, logits = features(variables, images)
    assert logits == ()
    assert out.shape == (EXAMPLES, 4)
    assert out.dtype == jnp.float32
    shown = np.asarray(images, np.float32) / 255 - 0.5
    tree = {"params": variables.params, **variables.state}
    expected = jax.jit(lambda shown: network.apply(tree, shown, False).features)(jnp.asarray(shown))
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-6)
    # The rest of the batch does not matter, so a probe may pad it with anything.
    others = jnp.where((jnp.arange(EXAMPLES) % 3 == 0).reshape(-1, 1, 1, 1), images, 255 - images)
    np.testing.assert_allclose(features(variables, others).features[::3], out[::3], rtol=1e-5)
    single = features(variables, images[3:4]).features
    np.testing.assert_allclose(single[0], out[3], rtol=1e-5)


# A phase a task.


class Column(nn.Module):
    """A small ucl_jax.models.progressive.Column: two blocks.

    The second also reads the first blocks of earlier columns.
    """

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, earlier, train):
        first = BasicBlock(4, 2, axis_name=self.axis_name, name="first")(x, train)
        second = BasicBlock(4, 2, axis_name=self.axis_name, name="second")(first, train)
        if earlier:
            second = nn.relu(second + Lateral(4, name="lateral")([maps[0] for maps in earlier]))
        return [first, second]


def stage_of(name, column, tasks=3):
    def build(heads):
        return Progressive(tuple(Network(Column(), **heads()) for _ in range(tasks)), column)

    architecture = Architecture(build, functools.partial(only_column, column))
    return objectives.OBJECTIVES[name](architecture, AUGMENTATION, **SETTINGS[name])


@pytest.mark.parametrize("name", ["simsiam", "supervised"])
def test_loss_of_a_stage_changes_the_statistics_of_its_own_column_only(name):
    """Checks that other columns keep their statistics to the bit, also through `forward_views`."""
    objective = stage_of(name, 1)
    variables = jax.tree.map(shaken, jax.jit(objective.init)(jax.random.key(0), make_batch().image))
    model_state = variables.state["batch_stats"]
    assert sorted(variables.params) == sorted(model_state) == ["networks_0", "networks_1", "networks_2"]
    (_, aux), gradient = jax.jit(functools.partial(value_and_grad, objective))(variables, views_of(name))
    assert jax.tree.structure(aux.state) == jax.tree.structure(variables.state)
    after = aux.state["batch_stats"]
    for column in ("networks_0", "networks_2"):
        assert_trees_close(after[column], model_state[column], rtol=0, atol=0)
    for old, new in zip(*(jax.tree.leaves(tree["networks_1"]) for tree in (model_state, after))):
        assert (np.asarray(old) != new).all()
    # The loss depends on the column before through the laterals, but the phase does not train it.
    active = objective.active(gradient, CLOCK)
    assert np.abs(gradient["networks_0"]["backbone"]["first"]["first"]["conv"]["kernel"]).max() > 1e-6
    assert_trees_close(active["networks_1"], gradient["networks_1"], rtol=0, atol=0)
    for column in ("networks_0", "networks_2"):
        assert_trees_close(active[column], jax.tree.map(np.zeros_like, gradient[column]), rtol=0, atol=0)


def test_every_stage_starts_with_all_columns_and_the_same_numbers():
    images = make_batch().image
    starts = [jax.jit(stage_of("supervised", column).init)(jax.random.key(0), images) for column in range(3)]
    for start in starts[1:]:
        assert_trees_close(start, starts[0], rtol=0, atol=0)
    params = starts[0].params
    for column, count in (("networks_0", None), ("networks_1", 1), ("networks_2", 2)):
        assert set(params[column]) == {"backbone", "head"}
        assert ("lateral" in params[column]["backbone"]) == (count is not None)
        if count:
            assert params[column]["backbone"]["lateral"]["scale"].shape == (count,)


RATES = {"vicreg": 0.001}  # objectives whose gradients need another rate


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_sixty_steps_on_one_batch_lower_the_loss(name):
    optimizer, method = optax.sgd(RATES.get(name, 0.05), momentum=0.9), small.make_raw("finetune", name)
    step, state = small.make_step(method, optimizer, name), small.start_state(method, optimizer, small.started(name))
    losses = []
    for _ in range(60):
        state, metrics = step(state, small.make_batch())
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2
