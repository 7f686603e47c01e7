"""Tests linear probes against scikit-learn, plain NumPy and cases worked by hand."""

import itertools

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.preprocessing import StandardScaler

from ucl_jax.evaluation import linear

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
SGD = {"epochs": 3, "batch_size": 32, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "seed": 0}


def overlapping(seed, count, dimensions=10, classes=(1, 4, 7), spread=1.5):
    """Draws float32 features of classes that overlap, with means and scales that differ by dimension."""
    rng = np.random.default_rng(seed)
    label = rng.choice(np.int32(classes), count)
    centres = np.random.default_rng(99).normal(size=(1 + max(classes), dimensions))
    x = centres[label] + spread * rng.normal(size=(count, dimensions))
    return (x * np.logspace(-2, 2, dimensions) + np.linspace(-5, 50, dimensions)).astype(np.float32), label


def standardised(train, other):
    """Standardises both arrays in float64, by the mean and deviation of the first."""
    scaler = StandardScaler().fit(train.astype(np.float64))
    return scaler.transform(train.astype(np.float64)), scaler.transform(other.astype(np.float64))


def accuracy(predicted, label):
    return np.mean(predicted == label)


@pytest.mark.parametrize("dimensions", [10, 400], ids=["more_examples", "more_dimensions"])
@pytest.mark.parametrize("penalty", [0.01, 30.0])
def test_ridge_equals_scikit_learn(dimensions, penalty):
    (x, label), (query, _) = overlapping(0, 300, dimensions), overlapping(1, 200, dimensions)
    for features in (x, query):  # one direction hardly varies, and one not at all
        features[:, 0] = features[:, 1] * (1 + 1e-2 * features[:, 0])
        features[:, 2] = features[:, 3]
    classifier, used = linear.fit_ridge(x, label, penalties=[penalty], seed=0)
    assert used == penalty
    train, test = standardised(x, query)
    reference = Ridge(penalty, solver="cholesky").fit(train, np.float64(label[:, None] == np.unique(label)))
    np.testing.assert_allclose(linear.scores(classifier, query), reference.predict(test), rtol=1e-6, atol=1e-8)
    other = RidgeClassifier(penalty, solver="cholesky").fit(train, label)
    predicted, _ = linear.ridge(x, label, query, penalties=[penalty], seed=0)
    assert predicted.dtype == np.int32
    np.testing.assert_array_equal(predicted, other.predict(test))


def test_the_penalty_is_the_best_on_the_validation_part():
    """Checks that the penalty is that of scikit-learn's best fit on the same parts, on data where penalties matter."""
    chosen = set()
    for seed in range(10):
        x, label = overlapping(seed, 100, 40, spread=0.5 * 1.4**seed)
        rest, held = linear._parts(label, seed)
        train, test = standardised(x[rest], x[held])
        targets = np.float64(label[:, None] == np.unique(label))
        ranking = []
        for penalty in PENALTIES:
            model = Ridge(penalty, solver="cholesky").fit(train, targets[rest])
            output = model.predict(test)
            wrong = np.sum(np.unique(label)[output.argmax(axis=1)] != label[held])
            ranking.append((wrong, np.sum((output - targets[held]) ** 2), penalty))
        _, penalty = linear.fit_ridge(x, label, penalties=PENALTIES[::-1], seed=seed)
        assert penalty == min(ranking)[2]
        chosen.add(penalty)
    assert len(chosen) >= 3


def test_ridge_uses_every_example_in_the_end():
    x, label = overlapping(0, 100)
    classifier, penalty = linear.fit_ridge(x, label, penalties=PENALTIES, seed=3)
    again, _ = linear.fit_ridge(x, label, penalties=[penalty], seed=0)  # a single penalty needs no validation
    np.testing.assert_array_equal(classifier.weight, again.weight)


def test_the_validation_part_is_a_fifth_of_each_class():
    label = np.repeat([0, 3, 5, 6, 9], [1, 2, 7, 8, 50])
    label = np.random.default_rng(0).permutation(label)
    rest, held = linear._parts(label, 0)
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, held])), np.arange(len(label)))
    assert [int(np.sum(label[held] == c)) for c in (0, 3, 5, 6, 9)] == [0, 1, 1, 2, 10]
    np.testing.assert_array_equal(linear._parts(label, 0)[1], held)
    assert not np.array_equal(linear._parts(label, 1)[1], held)


def test_one_example_a_class_takes_the_middle_penalty():
    x, label = np.float32([[0, 0], [1, 0], [0, 3]]), np.int32([2, 5, 0])
    predicted, penalty = linear.ridge(x, label, x, penalties=[10.0, 0.1, 1.0], seed=0)
    assert penalty == 1.0
    np.testing.assert_array_equal(predicted, label)


def test_only_classes_that_were_shown_are_predicted():
    x, label = overlapping(0, 200)
    query = np.random.default_rng(0).normal(scale=100, size=(500, 10))
    settings = {"penalties": PENALTIES, "seed": 0}
    for predicted in (linear.ridge(x, label, query, **settings)[0], linear.sgd(x, label, query, **SGD)):
        assert set(predicted.tolist()) == {1, 4, 7}
    x, label = x[:9], np.full(9, 6)
    for predicted in (linear.ridge(x, label, query, **settings)[0], linear.sgd(x, label, query, **SGD)):
        np.testing.assert_array_equal(predicted, np.full(500, 6))


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
def test_a_constant_dimension_changes_nothing_whatever_the_query_has_there(constant):
    (x, label), (query, _) = overlapping(0, 200), overlapping(1, 300)
    rounding = np.nextafter(np.float32(constant), np.float32(2 * constant))
    column = np.where(label == 1, rounding, np.float32(constant))
    wider = np.concatenate([x, column[:, None]], axis=1)
    wider_query = np.concatenate([query, np.linspace(-1e3, 1e3, 300, dtype=np.float32)[:, None]], axis=1)
    for function, settings in ((linear.fit_ridge, {"penalties": [1.0], "seed": 0}), (linear.fit_sgd, SGD)):
        plain, wide = function(x, label, **settings), function(wider, label, **settings)
        plain, wide = (c[0] if function is linear.fit_ridge else c for c in (plain, wide))
        tolerance = 1e-8 if function is linear.fit_ridge else 1e-4
        np.testing.assert_allclose(
            linear.scores(wide, wider_query), linear.scores(plain, query), rtol=tolerance, atol=tolerance
        )


def reference_sgd(x, position, batches, rates, momentum, weight_decay):
    """Trains logistic regression by SGD in float64, one example at a time."""
    classes = 1 + position.max()
    params = [np.zeros((x.shape[1], classes)), np.zeros(classes)]
    velocity = [np.zeros_like(p) for p in params]
    for batch, rate in zip(batches, rates):
        gradient = [weight_decay * params[0], np.zeros(classes)]
        batch = batch[batch >= 0]
        for i in batch:
            odds = np.exp(x[i] @ params[0] + params[1])
            slope = (odds / odds.sum() - np.eye(classes)[position[i]]) / len(batch)
            gradient = [gradient[0] + np.outer(x[i], slope), gradient[1] + slope]
        velocity = [momentum * v + g for v, g in zip(velocity, gradient)]
        params = [p - rate * v for p, v in zip(params, velocity)]
    return params


def test_sgd_equals_a_plain_loop():
    x, label = overlapping(0, 200)
    settings = SGD | {"weight_decay": 0.01}
    classifier = linear.fit_sgd(x, label, **settings)
    batches = linear._batches(200, 3, 32, 0)
    assert batches.shape == (21, 32)
    for epoch in np.split(batches, 3):
        np.testing.assert_array_equal(np.sort(epoch[epoch >= 0]), np.arange(200))
    rates = [0.1 * (1 + np.cos(np.pi * s / 21)) / 2 for s in range(21)]
    mean, scale = x.astype(np.float64).mean(axis=0), x.astype(np.float64).std(axis=0)
    position = np.searchsorted(np.unique(label), label)
    weight, bias = reference_sgd((x - mean) / scale, position, batches, rates, 0.9, 0.01)
    np.testing.assert_allclose(linear.scores(classifier, x), (x - mean) / scale @ weight + bias, rtol=1e-4, atol=1e-5)


def test_sgd_goes_to_the_optimum_of_scikit_learn():
    """Checks that SGD on full batches ends at scikit-learn's optimum.

    The mean cross-entropy + decay / 2 |W|^2 is scikit-learn's loss with C = 1 / (N decay).
    """
    (x, label), (query, _) = overlapping(0, 300), overlapping(1, 400)
    settings = SGD | {"epochs": 1000, "batch_size": 512, "learning_rate": 0.3, "weight_decay": 0.01}
    classifier = linear.fit_sgd(x, label, **settings)
    train, test = standardised(x, query)
    reference = LogisticRegression(C=1 / (300 * 0.01), tol=1e-8, max_iter=1000).fit(train, label)
    odds = np.exp(linear.scores(classifier, query))
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), reference.predict_proba(test), atol=1e-4)


def test_constant_features_give_the_commonest_class():
    x, label = np.ones((10, 3), np.float32), np.int32([1] * 4 + [5] * 6)
    assert linear.ridge(x, label, 9 * x, penalties=PENALTIES, seed=0)[0].tolist() == [5] * 10
    assert linear.sgd(x, label, 9 * x, **SGD).tolist() == [5] * 10


def test_both_learn_what_can_be_learned():
    (x, label), (query, answer) = overlapping(0, 1500), overlapping(1, 1000)
    train, test = standardised(x, query)
    reference = LogisticRegression().fit(train, label).score(test, answer)
    assert 0.6 < reference < 0.95
    assert abs(accuracy(linear.ridge(x, label, query, penalties=PENALTIES, seed=0)[0], answer) - reference) < 0.03
    assert abs(accuracy(linear.sgd(x, label, query, **SGD), answer) - reference) < 0.03


def test_a_seed_decides_everything():
    (x, label), (query, _) = overlapping(0, 100), overlapping(1, 100)
    fits = [linear.scores(linear.fit_sgd(x, label, **SGD | {"seed": seed}), query) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(fits[0], fits[1])
    assert np.abs(fits[0] - fits[2]).max() > 1e-3
    fits = [linear.fit_ridge(x, label, penalties=PENALTIES, seed=0) for _ in range(2)]
    np.testing.assert_array_equal(fits[0][0].weight, fits[1][0].weight)
    assert fits[0][1] == fits[1][1]


def test_subset_is_balanced_and_nested():
    label = np.random.default_rng(0).permutation(np.repeat([0, 3, 8], [200, 100, 4]))
    parts = [linear.subset(label, fraction, seed=0) for fraction in (0.01, 0.1, 0.5, 1.0)]
    counts = [[int(np.sum(label[part] == c)) for c in (0, 3, 8)] for part in parts]
    assert counts == [[2, 1, 1], [20, 10, 1], [100, 50, 2], [200, 100, 4]]
    for small, large in itertools.pairwise(parts):
        assert set(small.tolist()) < set(large.tolist())
        assert (np.diff(small) > 0).all()
    np.testing.assert_array_equal(parts[-1], np.arange(304))
    assert not np.array_equal(parts[1], linear.subset(label, 0.1, seed=1))
    # The examples of a class do not depend on which other classes there are.
    keep = np.flatnonzero(label != 8)
    alone = keep[linear.subset(label[keep], 0.1, seed=0)]
    assert set(alone.tolist()) == {i for i in parts[1].tolist() if label[i] != 8}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: linear.subset(y, 0.0, 0), "fraction of the labels is 0.0"),
        (lambda x, y: linear.subset(y, 1.5, 0), "fraction of the labels is 1.5"),
        (lambda x, y: linear.subset(y[:0], 0.5, 0), "no labels"),
        (lambda x, y: linear.fit_ridge(x, y, penalties=[], seed=0), "list of numbers above 0"),
        (lambda x, y: linear.fit_ridge(x, y, penalties=[1.0, 0.0], seed=0), "list of numbers above 0"),
        (lambda x, y: linear.fit_ridge(x[:0], y[:0], penalties=[1.0], seed=0), "no labels"),
        (lambda x, y: linear.fit_ridge(x * np.nan, y, penalties=[1.0], seed=0), "not all finite"),
        (lambda x, y: linear.fit_sgd(x * np.inf, y, **SGD), "not all finite"),
        (lambda x, y: linear.fit_sgd(x[:0], y[:0], **SGD), "no labels"),
        (lambda x, y: linear.fit_sgd(x, y, **SGD | {"epochs": 0}), "0 epochs"),
        (lambda x, y: linear.fit_sgd(x, y, **SGD | {"batch_size": 0}), "batches of 0"),
        (lambda x, y: linear.fit_sgd(x, y, **SGD | {"learning_rate": 0.0}), "learning rate"),
        (lambda x, y: linear.fit_sgd(x, y, **SGD | {"learning_rate": 1e30, "weight_decay": 1.0}), "diverged; lower"),
        (lambda x, y: linear.fit_sgd(x, y, **SGD | {"momentum": 1.0}), "momentum"),
        (lambda x, y: linear.fit_sgd(x, y, **SGD | {"weight_decay": -0.1}), "weight decay"),
    ],
)
def test_bad_arguments_are_refused_with_a_reason(call, message):
    x, label = overlapping(0, 20)
    with pytest.raises(ValueError, match=message) as error, np.errstate(invalid="ignore"):
        call(np.abs(x) + 1, label)
    assert "\n" not in str(error.value)
