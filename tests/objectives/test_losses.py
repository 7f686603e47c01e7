"""Tests losses against PyTorch's numbers, on one device and over four, and the collectives that they use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ucl_jax import collectives
from ucl_jax.models.layers import unit
from ucl_jax.objectives import losses
from ucl_jax.objectives.base import contrastive
from ucl_jax.objectives.swav import swav_loss

DEVICES = 4


def wave(shape, offset):
    """Returns numbers in [-1, 1], the same as in tests/golden_torch.py."""
    index = np.arange(np.prod(shape, dtype=int), dtype=np.float64)
    return np.sin(0.31 * index * index + 0.7 * index + offset).reshape(shape)


def float32(x):
    return jnp.asarray(x, jnp.float32)


def pattern_dot(gradient):
    """Reduces a gradient to two numbers: its norm, and its product with a pattern, which shows signs and places."""
    gradient = np.asarray(gradient, np.float64)
    return [np.linalg.norm(gradient), np.sum(gradient * wave(gradient.shape, 0.5))]


def split(x):
    return x.reshape(DEVICES, -1, *x.shape[1:])


# Negative cosine.


def test_negative_cosine_equals_pytorch_and_stops_at_the_target():
    prediction, target = float32(2.0 * wave((8, 5), 1.0)), float32(wave((8, 5), 2.0) + 0.5)
    loss, (to_prediction, to_target) = jax.value_and_grad(losses.negative_cosine, (0, 1))(prediction, target)
    # COSINE of tests/golden_torch.py: -F.cosine_similarity(p, z.detach(), dim=-1).mean(), PyTorch 2.13.0 on a CPU.
    np.testing.assert_allclose(loss, -0.500769, atol=1e-6)
    np.testing.assert_allclose(pattern_dot(to_prediction), [0.1015413, 0.1776952], rtol=1e-5)
    np.testing.assert_array_equal(to_target, np.zeros((8, 5)))


def test_negative_cosine_of_parallel_opposite_and_orthogonal_rows_by_hand():
    prediction = float32([[3.0, 4.0], [1.0, 0.0], [0.0, 1e-6], [2.0, 0.0]])
    target = float32([[0.6, 0.8], [-5.0, 0.0], [0.0, 7e9], [0.0, 3.0]])
    each = jax.vmap(lambda p, z: losses.negative_cosine(p[None], z[None]))(prediction, target)
    np.testing.assert_allclose(each, [-1.0, 1.0, -1.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("zero", ["prediction", "target", "both"])
def test_negative_cosine_of_a_zero_vector_is_zero_with_a_finite_gradient(zero):
    prediction = jnp.zeros((1, 3)) if zero != "target" else float32([[0.0, 3.0, 4.0]])
    target = jnp.zeros((1, 3)) if zero != "prediction" else float32([[0.0, 3.0, 4.0]])
    loss, gradient = jax.value_and_grad(losses.negative_cosine)(prediction, target)
    # By hand: the norm is at least 1e-8, so the gradient at 0 is -unit(target) / 1e-8, and 0 for a zero target.
    expected = [0.0, -0.6e8, -0.8e8] if zero == "prediction" else [0.0, 0.0, 0.0]
    assert loss == 0.0
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-5)


def test_negative_cosine_of_bfloat16_is_computed_in_float32():
    prediction, target = (float32(wave((8, 64), o)).astype(jnp.bfloat16) for o in (1.0, 2.0))
    p, z = (np.asarray(x.astype(jnp.float32), np.float64) for x in (prediction, target))
    expected = -np.mean([u @ v / np.sqrt((u @ u) * (v @ v)) for u, v in zip(p, z)])
    loss = losses.negative_cosine(prediction, target)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, expected, atol=1e-6)  # a bfloat16 sum is off by 1e-3


# Barlow Twins.

# Golden numbers BARLOW of tests/golden_torch.py, by the formula of the official BarlowTwinsLoss in PyTorch 2.13.0:
# off_diagonal -> loss, pattern_dot of the gradient in the first view, and in the second.
BARLOW = {
    5e-3: (1.4049228, [0.3496635, 0.6534356], [0.3157069, -1.1402826]),
    0.3: (2.7483472, [0.3895772, 0.684341], [0.3675242, -1.1319209]),
}


def barlow_views():
    return tuple(float32(3.0 * wave((8, 5), offset) + 0.5) for offset in (1.0, 2.0))


@pytest.mark.parametrize("off_diagonal", BARLOW)
def test_barlow_twins_equals_pytorch(off_diagonal):
    loss, gradients = jax.value_and_grad(losses.barlow_twins, (0, 1))(*barlow_views(), off_diagonal)
    expected, *expected_gradients = BARLOW[off_diagonal]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for gradient, golden in zip(gradients, expected_gradients):
        np.testing.assert_allclose(pattern_dot(gradient), golden, rtol=1e-4)


def test_barlow_twins_default_weight_is_the_official_one():
    np.testing.assert_allclose(losses.barlow_twins(*barlow_views()), BARLOW[5e-3][0], rtol=1e-5)


@pytest.mark.parametrize("name", ["barlow_twins", "vicreg", "nt_xent", "info_nce_in_batch"])
def test_losses_of_bfloat16_are_computed_in_float32(name):
    a, b = (float32(wave((8, 6), offset)).astype(jnp.bfloat16) for offset in (1.0, 2.0))
    loss = SHARED[name](a, b, None)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, SHARED[name](float32(a), float32(b), None), rtol=1e-6)


def test_barlow_twins_of_equal_orthogonal_columns_by_hand():
    # The columns of a Hadamard matrix have correlations of 0 off the diagonal. On it they are (B - 1) / B, because the
    # sum is divided by B and the deviation by B - 1. The loss is D * (1 / B)^2.
    columns = float32([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    np.testing.assert_allclose(losses.barlow_twins(columns, 7.0 * columns + 2.0), 3 / 16, rtol=1e-5)


@pytest.mark.parametrize("off_diagonal", BARLOW)
def test_barlow_twins_over_devices_equals_one_device(off_diagonal):
    def loss(first, second):
        return losses.barlow_twins(first, second, off_diagonal, axis_name="devices")

    a, b = barlow_views()
    value = jax.pmap(loss, axis_name="devices")(split(a), split(b))
    np.testing.assert_allclose(value, np.full(DEVICES, BARLOW[off_diagonal][0]), rtol=1e-5)


def in_swav(first, second, axis_name):
    """Computes SwAV's loss with a queue of three, and prototypes that are constant."""
    prototypes = {"direction": float32(wave((4, 6), 5.0)), "length": float32(2 + wave((4, 1), 6.0))}
    queue = float32(wave((3, 2, 6), 7.0))
    return swav_loss(prototypes, jnp.stack([first, second]), queue, jnp.asarray(True), 0.2, 0.1, 3, axis_name)


# Losses of parameters that are shared, by both views and the axis.
SHARED = {
    "negative_cosine": lambda a, b, axis: losses.negative_cosine(a, b),
    "barlow_twins": lambda a, b, axis: losses.barlow_twins(a, b, 0.3, axis_name=axis),
    "barlow_twins_biased": lambda a, b, axis: losses.barlow_twins(a, b, 0.3, 0.1, True, axis),
    "vicreg": lambda a, b, axis: losses.vicreg(a, b, 1.0, 2.0, 3.0, axis),
    "nt_xent": lambda a, b, axis: losses.nt_xent(a, b, 0.5, axis),
    "info_nce": lambda a, b, axis: losses.info_nce(a, b, unit(float32(wave((3, 6), 4.0))), 0.5),
    "info_nce_in_batch": lambda a, b, axis: losses.info_nce_in_batch(a, b, 0.5, axis),
    "contrastive": lambda a, b, axis: contrastive(0.5, axis).loss((), jnp.stack([a, b]), (), jnp.stack([b, 2 * a - b])),
    "masked": lambda a, b, axis: losses.symmetric_info_nce(
        jnp.stack([a, b]), jnp.stack([b, 2 * a - b]), 0.5, axis, True
    ),
    "beside_frozen": lambda a, b, axis: losses.nt_xent_beside_frozen(
        jnp.stack([a, b]), jnp.stack([b, 2 * a]), jnp.stack([b - a, a]), 0.5, 0.7, 0.3, axis
    ),
    "with_others": lambda a, b, axis: losses.contrast_with_others(
        jnp.stack([a, b]), jnp.stack([b - a, 2 * a + b]), 0.5, axis
    ),
    "swav": in_swav,
    "cross_entropy": lambda a, b, axis: losses.cross_entropy(a, jax.lax.stop_gradient(jax.nn.softmax(b))),
}


@pytest.mark.parametrize("name", SHARED)
def test_averaged_gradient_over_devices_equals_that_of_one_device(name):
    """Checks that the averaged gradient over devices is that of one device.

    As in the train step, parameters are shared, and each device differentiates its own loss.
    """
    weight = float32(wave((5, 6), 3.0))

    def loss(weight, first, second, axis_name):
        return SHARED[name](*(jnp.matmul(x, weight, precision="highest") for x in (first, second)), axis_name)

    def step(weight, first, second):
        value, gradient = jax.value_and_grad(loss)(weight, first, second, "devices")
        return collectives.mean((value, gradient), "devices")

    a, b = barlow_views()
    value, gradient = jax.value_and_grad(loss)(weight, a, b, None)
    values, gradients = jax.pmap(step, axis_name="devices", in_axes=(None, 0, 0))(weight, split(a), split(b))
    np.testing.assert_allclose(values, np.full(DEVICES, value), rtol=1e-5)
    for device in gradients:
        np.testing.assert_allclose(device, gradient, rtol=1e-4, atol=1e-5)


# Contrastive.


def test_nt_xent_by_pencil():
    # Views are alike, and the two images orthogonal: each anchor has the cosines 1 (its positive), 0 and 0.
    z = float32([[1.0, 0.0], [0.0, 3.0]])
    np.testing.assert_allclose(losses.nt_xent(z, 2.0 * z, 1.0), np.log(np.e + 2) - 1, rtol=1e-6)
    # InfoNCE within the batch has the cosines 1 and 0.
    np.testing.assert_allclose(losses.info_nce_in_batch(z, 2.0 * z, 1.0), np.log(np.e + 1) - 1, rtol=1e-6)


def test_info_nce_by_pencil_and_without_gradient_through_keys():
    query, key, negatives = float32([[2.0, 0.0]]), float32([[0.0, 1.0]]), float32([[1.0, 0.0], [-1.0, 0.0]])
    # At temperature 1/2 the positive has 0, the negatives 2 and -2.
    expected = np.log(1 + np.exp(2) + np.exp(-2))
    value, (of_key, of_negatives) = jax.value_and_grad(losses.info_nce, (1, 2))(query, key, negatives, 0.5)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert not np.any(of_key)
    assert not np.any(of_negatives)


# Assignments.


def sinkhorn_by_hand(scores, weight, epsilon, iterations):
    """Repeats rows of whole weights, and divides columns and rows in turn, in float64."""
    rows = np.repeat(np.arange(len(scores)), weight)
    shares = np.exp(np.asarray(scores, np.float64)[rows] / epsilon)
    for _ in range(iterations):
        shares /= shares.sum(0)
        shares /= shares.sum(1, keepdims=True)
    return np.stack(
        [shares[np.argmax(rows == row)] if row in rows else np.full(4, np.nan) for row in range(len(scores))]
    )


@pytest.mark.parametrize("weight", [(1, 1, 1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 2, 3, 1, 2), (1, 1, 1, 1, 0, 0, 0, 0)])
@pytest.mark.parametrize("devices", [1, DEVICES])
def test_assignments_count_examples_by_their_weight(weight, devices):
    scores, own = float32(wave((8, 4), 1.0)), float32(weight)
    expected = sinkhorn_by_hand(scores, weight, 0.2, 3)
    axis = "devices"
    mapped = jax.pmap(
        lambda s, w: losses.sinkhorn(s, w, epsilon=0.2, iterations=3, axis_name=axis),
        axis,
        devices=jax.devices()[:devices],
    )
    shape = (devices, 8 // devices)
    found = mapped(scores.reshape(*shape, 4), own.reshape(shape)).reshape(8, 4)
    counted = np.asarray(weight) > 0
    np.testing.assert_allclose(found[counted], expected[counted], rtol=1e-5, atol=1e-7)


def test_assignments_of_large_scores_are_finite_and_rows_sum_to_1():
    scores = 1e3 * float32(wave((8, 4), 1.0))
    found = losses.sinkhorn(scores, jnp.ones(8), epsilon=0.05, iterations=3)
    np.testing.assert_allclose(np.sum(found, axis=1), np.ones(8), rtol=1e-5)


# Cross-entropy.


def cross_entropy_by_hand(logits, label):
    """Computes the mean of -sum of label * log softmax, by a loop over float64."""
    logits, label = np.asarray(logits, np.float64), np.asarray(label, np.float64)
    rows = [-sum(w * (x - row.max() - np.log(np.exp(row - row.max()).sum())) for w, x in zip(weights, row))
            for weights, row in zip(label, logits)]  # fmt: skip
    return sum(rows) / len(rows)


LABELS = {
    "one_hot": np.eye(5)[[0, 4, 2, 2, 1, 3, 0, 4]],
    "mixed": 0.7 * np.eye(5)[[0, 4, 2, 2, 1, 3, 0, 4]] + 0.3 * np.eye(5)[[1, 1, 0, 2, 3, 3, 4, 2]],
    "weights": np.abs(wave((8, 5), 4.0)),  # rows need not sum to 1
}


@pytest.mark.parametrize("labels", LABELS)
def test_cross_entropy_equals_numpy(labels):
    logits, label = float32(3.0 * wave((8, 5), 1.0)), float32(LABELS[labels])
    loss, gradient = jax.value_and_grad(losses.cross_entropy)(logits, label)
    np.testing.assert_allclose(loss, cross_entropy_by_hand(logits, label), rtol=1e-5)
    # The gradient is (softmax * sum of the row's label - label) / B.
    x, weights = np.asarray(logits, np.float64), np.asarray(label, np.float64)
    softmax = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(gradient, (softmax * weights.sum(1, keepdims=True) - weights) / 8, rtol=1e-4, atol=1e-6)


def test_cross_entropy_by_pencil():
    # Equal logits give log 4. A logit of log 3 among three zeros has p = 1/2, the others have 1/6.
    each = jax.vmap(lambda x, y: losses.cross_entropy(x[None], y[None]))
    logits = float32([[7.0] * 4, [np.log(3.0), 0.0, 0.0, 0.0], [np.log(3.0), 0.0, 0.0, 0.0]])
    label = float32([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.5]])
    np.testing.assert_allclose(each(logits, label), [np.log(4), np.log(2), np.log(12) / 2], rtol=1e-6)


def test_cross_entropy_of_large_logits_does_not_overflow():
    logits = float32([[1e4, 0.0, -1e4], [-3e38, 0.0, 5.0], [1000.0, 1000.0, 0.0]])
    label = float32([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    loss, gradient = jax.value_and_grad(losses.cross_entropy)(logits, label)
    np.testing.assert_allclose(loss, (2e4 + np.log1p(np.exp(-5.0)) + np.log(2)) / 3, rtol=1e-6)
    expected = [[1.0, 0.0, -1.0], [0.0, 1 / (1 + np.exp(5)), -1 / (1 + np.exp(5))], [-0.5, 0.5, 0.0]]
    np.testing.assert_allclose(gradient, np.array(expected) / 3, rtol=1e-4, atol=1e-7)


def test_cross_entropy_of_bfloat16_is_computed_in_float32():
    logits, label = float32(6.0 * wave((8, 5), 1.0)).astype(jnp.bfloat16), float32(LABELS["mixed"])
    loss = losses.cross_entropy(logits, label)
    assert loss.dtype == jnp.float32
    expected = cross_entropy_by_hand(logits.astype(jnp.float32), label)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)  # a bfloat16 softmax is off by 1e-3


def test_cross_entropy_is_linear_in_the_label():
    """Checks that the loss of mixed labels is the mixture of the losses."""
    logits, a, b = (float32(x) for x in (wave((8, 5), 1.0), LABELS["one_hot"], LABELS["weights"]))
    mixed = losses.cross_entropy(logits, 0.3 * a - 1.7 * b)
    np.testing.assert_allclose(
        mixed, 0.3 * losses.cross_entropy(logits, a) - 1.7 * losses.cross_entropy(logits, b), rtol=1e-5
    )


# Collectives.


def test_collectives_without_an_axis_are_the_identity():
    tree = {"a": float32([[1.0, 2.0]]), "b": (jnp.arange(3),)}
    for collective in (collectives.mean, collectives.gather):
        result = collective(tree, None)
        assert jax.tree.structure(result) == jax.tree.structure(tree)
        jax.tree.map(np.testing.assert_array_equal, result, tree)
    np.testing.assert_array_equal(collectives.maximum(tree["a"], None), tree["a"])
    assert collectives.size(None) == 1
    np.testing.assert_array_equal(collectives.places(3, None), [0, 1, 2])


def test_collectives_over_devices_by_hand():
    def f(x):
        places = collectives.places(2, "devices")
        assert collectives.size("devices") == DEVICES  # a Python integer while tracing
        assert places.dtype == jnp.int32
        tree = {"x": x, "pair": (x[:, 0],)}
        highest = collectives.maximum(x, "devices")
        return collectives.mean(tree, "devices"), collectives.gather(tree, "devices"), places, highest

    x = np.arange(DEVICES * 2 * 3, dtype=np.float32).reshape(DEVICES, 2, 3)
    mean, gathered, places, highest = jax.pmap(f, axis_name="devices")(x)
    for device in range(DEVICES):
        np.testing.assert_array_equal(mean["x"][device], (x[0] + x[1] + x[2] + x[3]) / 4)
        np.testing.assert_array_equal(mean["pair"][0][device], (x[0] + x[1] + x[2] + x[3])[:, 0] / 4)
        np.testing.assert_array_equal(highest[device], x[3])  # the last device has the largest numbers
        np.testing.assert_array_equal(gathered["x"][device], np.concatenate(list(x)))
        np.testing.assert_array_equal(gathered["pair"][0][device], np.concatenate(list(x))[:, 0])
        np.testing.assert_array_equal(places[device], [2 * device, 2 * device + 1])
