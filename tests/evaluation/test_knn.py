"""Tests weighted kNN against plain Python and scikit-learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from ucl_jax.evaluation import knn

QUERIES, BANK, DIMENSION, CLASSES = 20, 50, 6, 4


def features(seed, count=BANK):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, DIMENSION)).astype(np.float32), rng.integers(0, CLASSES, count).astype(np.int32)


def reference_votes(queries, bank, labels, valid, num_classes, k, temperature):
    """Votes as Wu et al. 2018, section 3.4, in float64 and plain loops; the nearest neighbour has weight 1."""
    result = np.zeros((len(queries), num_classes))
    for q, query in enumerate(queries.astype(np.float64)):
        scored = []
        for entry, label, ok in zip(bank.astype(np.float64), labels, valid):
            if ok:
                scored.append((query @ entry / (np.linalg.norm(query) * np.linalg.norm(entry)), label))
        scored = sorted(scored, key=lambda pair: -pair[0])[:k]
        for similarity, label in scored:
            result[q, label] += np.exp((similarity - scored[0][0]) / temperature)
    return result


def run(function, *arrays, **settings):
    return np.asarray(jax.jit(functools.partial(function, **settings))(*map(jnp.asarray, arrays)))


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (7, 0.1), (BANK, 0.07), (BANK, 1.0)])
@pytest.mark.parametrize("padded", [False, True])
def test_votes_equal_a_plain_loop(k, temperature, padded):
    (queries, _), (bank, labels) = features(0, QUERIES), features(1)
    valid = np.arange(BANK) % 3 != 1 if padded else np.ones(BANK, bool)  # with padding, k = 50 exceeds the 33 valid
    settings = {"num_classes": CLASSES, "k": k, "temperature": temperature}
    expected = reference_votes(queries, bank, labels, valid, **settings)
    np.testing.assert_allclose(run(knn.votes, queries, bank, labels, valid, **settings), expected, rtol=2e-5)
    predicted = run(knn.predict, queries, bank, labels, valid, **settings)
    assert predicted.dtype == np.int32
    np.testing.assert_array_equal(predicted, expected.argmax(axis=1))


def test_approximate_search_finds_the_same_neighbours_where_there_is_no_tpu():
    (queries, _), (bank, labels) = features(0, QUERIES), features(1)
    settings = {"num_classes": CLASSES, "k": 7, "temperature": 0.1}
    arrays = queries, bank, labels, np.arange(BANK) % 3 != 1
    expected = run(knn.votes, *arrays, **settings)
    np.testing.assert_array_equal(run(knn.votes, *arrays, **settings, search="approximate"), expected)


def test_padding_never_votes_even_when_it_is_the_query_itself():
    queries, _ = features(0, QUERIES)
    bank = np.concatenate([queries, -queries])  # the padding has similarity 1, the only valid entries have -1
    labels = np.concatenate([np.zeros(QUERIES, np.int32), np.full(QUERIES, 3, np.int32)])
    valid = np.arange(2 * QUERIES) >= QUERIES
    votes = run(knn.votes, queries, bank, labels, valid, num_classes=CLASSES, k=2 * QUERIES, temperature=0.1)
    np.testing.assert_array_equal(votes[:, :3], np.zeros((QUERIES, 3)))
    assert votes[:, 3].min() >= 1.0  # the nearest valid entry's own vote


def test_no_temperature_overflows_or_vanishes():
    # In float32 exp(1 / 0.001) is infinite and exp(-1 / 0.001) is 0; the nearest must win all the same.
    bank = np.array([[0.95, 0.3122], [1.0, 0.0]], np.float32)
    queries = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    settings = {"num_classes": 2, "k": 2, "temperature": 0.001}
    assert run(knn.predict, queries, bank, np.array([0, 1]), np.ones(2, bool), **settings).tolist() == [1, 0]


def test_one_neighbour_agrees_with_scikit_learn():
    (queries, _), (bank, labels) = features(2, 200), features(3, 300)
    expected = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(bank, labels).predict(queries)
    predicted = run(knn.predict, queries, bank, labels, np.ones(300, bool), num_classes=CLASSES, k=1, temperature=0.1)
    np.testing.assert_array_equal(predicted, expected)


def test_many_neighbours_agree_with_scikit_learn():
    (queries, _), (bank, labels) = features(2, 200), features(3, 300)
    model = KNeighborsClassifier(25, weights=lambda distance: np.exp((1 - distance) / 0.1), metric="cosine")
    predicted = run(knn.predict, queries, bank, labels, np.ones(300, bool), num_classes=CLASSES, k=25, temperature=0.1)
    np.testing.assert_array_equal(predicted, model.fit(bank, labels).predict(queries))


def test_temperature_decides_between_one_near_and_two_far_neighbours():
    query = np.float32([[1.0, 0.0]])
    bank = np.float32([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]])  # cosines 1, 0.6, 0.6
    labels, valid = np.int32([0, 1, 1]), np.ones(3, bool)
    # One near neighbour outweighs two far ones where exp(0.4 / t) > 2: t < 0.577.
    for temperature, expected in ((0.5, 0), (0.7, 1)):
        predicted = run(knn.predict, query, bank, labels, valid, num_classes=2, k=3, temperature=temperature)
        np.testing.assert_array_equal(predicted, [expected])


def test_equal_votes_go_to_the_lowest_class():
    query = np.float32([[1.0, 0.0]])
    bank = np.float32([[0.6, 0.8], [0.6, -0.8], [-1.0, 0.0]])
    for labels, expected in (([3, 2, 0], 2), ([2, 3, 0], 2), ([0, 0, 1], 0)):
        arrays = query, bank, np.int32(labels), np.ones(3, bool)
        assert run(knn.predict, *arrays, num_classes=CLASSES, k=2, temperature=0.1).tolist() == [expected]


def test_only_directions_count():
    (queries, _), (bank, labels) = features(0, QUERIES), features(1)
    valid, settings = np.ones(BANK, bool), {"num_classes": CLASSES, "k": 7, "temperature": 0.1}
    scale = np.logspace(-4, 6, BANK, dtype=np.float32)[:, None]
    expected = reference_votes(queries, bank, labels, valid, **settings)
    np.testing.assert_allclose(
        run(knn.votes, 9 * queries, bank * scale, labels, valid, **settings), expected, rtol=2e-5
    )


def test_normalise_by_hand_and_of_zeros_and_bfloat16():
    rows = knn.normalise(jnp.asarray([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]], jnp.bfloat16))
    assert rows.dtype == jnp.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0], [0.0, -1.0]], rtol=1e-6)


def test_similarities_are_not_computed_in_low_precision():
    """Checks that the highest precision is asked for: accelerators multiply in tf32 or bfloat16 by default."""
    (queries, _), (bank, labels) = features(0, QUERIES), features(1)
    settings = {"num_classes": CLASSES, "k": 7, "temperature": 0.1}
    lowered = jax.jit(lambda *a: knn.votes(*a, **settings)).lower(queries, bank, labels, np.ones(BANK, bool))
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    assert len(products) == 2
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)
