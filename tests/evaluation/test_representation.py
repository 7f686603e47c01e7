"""Tests similarity, collapse and distance against their definitions in plain NumPy, and on cases worked by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ucl_jax.evaluation import representation


def related(seed, count=40, left=12, right=7, offset=3.0):
    """Draws two float32 representations of the same examples that have something in common."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(count, 4)) * [3.0, 1.0, 0.5, 0.2]
    maps = np.random.default_rng(77)
    x, y = (common @ maps.normal(size=(4, size)) + rng.normal(size=(count, size)) + offset for size in (left, right))
    return x.astype(np.float32), y.astype(np.float32)


def rotation(size, seed=5):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def reference_cka(x, y):
    """Computes tr(K H L H) / sqrt(tr(K H K H) tr(L H L H)): Kornblith et al. 2019, equations 2 and 3."""
    x, y = np.float64(x), np.float64(y)
    k, m, h = x @ x.T, y @ y.T, np.eye(len(x)) - 1 / len(x)
    hsic = [np.trace(a @ h @ b @ h) for a, b in ((k, m), (k, k), (m, m))]
    return hsic[0] / np.sqrt(hsic[1] * hsic[2])


def reference_hsic1(k, m):
    """Computes equation 5 of Song et al. 2012, entry by entry."""
    n = len(k)
    off = [(i, j) for i in range(n) for j in range(n) if i != j]
    trace = sum(k[i, j] * m[j, i] for i, j in off)
    sums = sum(k[i, j] for i, j in off) * sum(m[i, j] for i, j in off)
    product = sum(k[i, j] * m[j, q] for i, j in off for q in range(n) if q != j)
    return (trace + sums / ((n - 1) * (n - 2)) - 2 * product / (n - 2)) / (n * (n - 3))


@pytest.mark.parametrize(("count", "left"), [(40, 12), (10, 12), (10, 200)])
def test_cka_equals_the_definition(count, left):
    x, y = related(0, count, left)
    expected = reference_cka(x, y)
    assert 0.2 < expected < 0.999
    assert representation.cka(x, y) == pytest.approx(expected, rel=1e-9)
    assert representation.cka(y, x) == pytest.approx(expected, rel=1e-9)


def test_cka_by_hand():
    # Both are centred already, and x'y = [2, 0], so CKA is 4 / (sqrt(4 + 64) * 2).
    x, y = np.array([[1, 0], [-1, 0], [0, 2], [0, -2]]), np.array([[1], [-1], [0], [0]])
    assert representation.cka(x, y) == pytest.approx(4 / (np.sqrt(68) * 2))


@pytest.mark.parametrize("shape", [(40, 12), (10, 3, 3, 4)])
def test_cka_is_1_with_itself_rotated_scaled_and_moved(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    turned = x.reshape(len(x), -1) @ rotation(x[0].size)
    for other in (x, turned, 1e-3 * x, 50 * turned - 7):
        assert representation.cka(x, other) == pytest.approx(1.0, abs=1e-9)
    assert representation.cka(x, x.reshape(len(x), -1) * np.linspace(0, 3, x[0].size)) < 0.99


def hsic1(left, right):
    """Computes HSIC_1 of two Gram matrices [B, B], as the sums over one minibatch."""
    sums = representation.minibatch_init(1, 1)
    return representation.minibatch_add(sums, left[None], right[None]).cross.item()


def test_hsic1_equals_the_formula_and_the_u_statistic():
    x, y = related(1, 7)
    k, m = np.float64(x) @ np.float64(x).T, np.float64(y) @ np.float64(y).T
    assert hsic1(k, m) == pytest.approx(reference_hsic1(k, m))
    # By Song et al. 2012, section 2.4, it is the mean over all ordered quadruples of different examples.
    terms = [k[s, t] * (m[s, t] + m[u, v] - 2 * m[s, u]) for s, t, u, v in itertools.permutations(range(7), 4)]
    assert hsic1(k, m) == pytest.approx(np.mean(terms))
    # The diagonal does not count.
    assert hsic1(k + np.diag(np.arange(7.0)), m) == pytest.approx(np.mean(terms))
    sums = representation.minibatch_add(representation.minibatch_init(2, 1), np.stack([k, m]), m[None])
    np.testing.assert_allclose(sums.cross[:, 0], [np.mean(terms), reference_hsic1(m, m)])
    np.testing.assert_allclose(sums.left, [reference_hsic1(k, k), reference_hsic1(m, m)])


def test_hsic1_is_unbiased():
    """Checks that the estimate is 0 on average for independent representations; the biased one is always above 0."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3000, 8, 3)), rng.normal(size=(3000, 8, 2))
    values = np.array([hsic1(a @ a.T, b @ b.T) for a, b in zip(x, y)])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(3000)
    assert (values < 0).any()
    assert min(reference_cka(a, b) for a, b in zip(x[:50], y[:50])) > 0.01


def test_gram_is_centred_and_gives_the_same_hsic1():
    x, y = related(2, 9, offset=100.0)
    grams = [np.asarray(jax.jit(representation.gram)(z)) for z in (x, y)]
    assert grams[0].dtype == np.float32
    centred = np.float64(x) - np.float64(x).mean(axis=0)
    np.testing.assert_allclose(grams[0], centred @ centred.T, rtol=1e-3, atol=1e-3)
    plain = [np.float64(z) @ np.float64(z).T for z in (x, y)]
    assert hsic1(*grams) == pytest.approx(reference_hsic1(*plain), rel=1e-3)
    maps = np.random.default_rng(0).normal(size=(5, 2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(
        representation.gram(jnp.asarray(maps)),
        representation.gram(jnp.asarray(maps.reshape(5, -1))),
        rtol=1e-6,
        atol=1e-5,
    )
    lowered = jax.jit(representation.gram).lower(x).as_text()
    assert "precision = [HIGHEST, HIGHEST]" in lowered


def fold(lefts, rights, batch):
    """Computes CKA over minibatches, for each pair of two lists of representations of the same examples."""
    sums = representation.minibatch_init(len(lefts), len(rights))
    for start in range(0, len(lefts[0]), batch):
        grams = (
            np.stack([representation.gram(jnp.asarray(x[start : start + batch])) for x in side])
            for side in (lefts, rights)
        )
        sums = representation.minibatch_add(sums, *grams)
    return representation.minibatch_cka(sums)


def test_minibatch_cka_equals_its_definition():
    x, y = related(3, 24)
    batches = [(np.float64(x[s : s + 8]), np.float64(y[s : s + 8])) for s in (0, 8, 16)]
    hsic = [
        np.mean([reference_hsic1(a @ a.T, b @ b.T) for a, b in pairs])
        for pairs in (batches, [(a, a) for a, _ in batches], [(b, b) for _, b in batches])
    ]
    expected = hsic[0] / (np.sqrt(hsic[1]) * np.sqrt(hsic[2]))
    values = fold([x, y], [y, x, x + 1], 8)
    assert values.shape == (2, 3)
    np.testing.assert_allclose(values, [[expected, 1, 1], [1, expected, expected]], rtol=1e-4)


def test_minibatch_cka_is_1_with_itself_rotated_and_scaled():
    x, _ = related(4, 64)
    np.testing.assert_allclose(fold([x], [x], 16), [[1.0]], rtol=1e-12)
    np.testing.assert_allclose(fold([x], [x @ np.float32(rotation(12)), 100 * x, 0.01 * x - 1], 16), 1.0, rtol=1e-4)


def test_minibatch_cka_is_near_the_full_one_for_many_examples_and_does_not_depend_on_the_batch():
    x, y = related(5, 2048)
    full = representation.cka(x, y)
    small, large = fold([x], [y], 16)[0, 0], fold([x], [y], 512)[0, 0]
    assert small == pytest.approx(full, abs=0.02)
    assert large == pytest.approx(full, abs=0.005)
    biased = np.mean([representation.cka(x[s : s + 16], y[s : s + 16]) for s in range(0, 2048, 16)])
    assert abs(biased - full) > 3 * abs(small - full)


@pytest.mark.parametrize("value", [0.0, 0.1, -1234.5])
def test_a_constant_representation_has_no_cka(value):
    x, _ = related(6, 16)
    constant = np.full((16, 5), value, np.float32) * np.linspace(0.3, 1, 5, dtype=np.float32)
    constant[::3] = np.nextafter(constant[::3], 2 * constant[::3])  # constant except for the last digit
    assert np.isnan(representation.cka(x, constant))
    assert np.isnan(representation.cka(constant, constant))
    np.testing.assert_array_equal(np.isnan(fold([x, constant], [x, constant], 8)), [[False, True], [True, True]])
    assert representation.effective_rank(constant) == 0.0
    assert np.isnan(representation.minibatch_cka(representation.minibatch_init(1, 2))).all()


def test_too_few_or_other_examples_are_an_error():
    with pytest.raises(ValueError, match="needs at least 4"):
        hsic1(np.eye(3), np.eye(3))
    with pytest.raises(ValueError, match="compares 3 with 4"):
        representation.cka(np.eye(3), np.eye(4))


def test_rankme_is_that_of_features_that_are_not_centred():
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], float)
    assert representation.rankme(signs) == pytest.approx(2, rel=1e-5)
    assert representation.rankme(9 + signs) < 1.6  # the mean is the largest direction
    values = np.linalg.svd(np.arange(12.0).reshape(4, 3) ** 2, compute_uv=False)
    share = values / values.sum() + 1e-7
    assert representation.rankme(np.arange(12.0).reshape(4, 3) ** 2) == pytest.approx(np.prod(share**-share))
    assert np.isfinite(representation.rankme(np.zeros((4, 3))))


def test_alignment_and_uniformity_equal_plain_loops():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 7, 5))
    unit = lambda row: row / np.linalg.norm(row)  # noqa: E731
    pairs = [np.sum((unit(a) - unit(b)) ** 2) for a, b in zip(x, y)]
    assert representation.alignment(x, 3 * y) == pytest.approx(np.mean(pairs))
    assert representation.alignment(x, -x) == pytest.approx(4)
    kernel = [np.exp(-2 * np.sum((unit(x[i]) - unit(x[j])) ** 2)) for i in range(7) for j in range(i)]
    assert representation.uniformity(x * 2) == pytest.approx(np.log(np.mean(kernel)))
    assert representation.uniformity(np.ones((4, 3))) == pytest.approx(0)
    assert representation.uniformity(np.array([[1.0, 0], [-1, 0]])) == pytest.approx(-8)
    with pytest.raises(ValueError, match="1 examples"):
        representation.uniformity(np.ones((1, 3)))


def test_effective_rank():
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=5)))  # 32 x 5, centred and orthogonal
    for rank in range(1, 6):
        assert representation.effective_rank(signs[:, :rank]) == pytest.approx(rank)
        assert representation.effective_rank(9 + signs[:, :rank] @ rotation(5)[:rank]) == pytest.approx(rank)
    # Singular values in the ratio 3 : 1 have shares 3/4 and 1/4.
    entropy = 0.75 * np.log(4 / 3) + 0.25 * np.log(4)
    assert representation.effective_rank(signs[:, :2] * [3, 1]) == pytest.approx(np.exp(entropy))
    x, _ = related(7)
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(np.float64(x).T)), 0))
    share = values / values.sum()
    assert representation.effective_rank(x) == pytest.approx(np.prod(share**-share))


def test_deviation():
    x = np.array([[2.0, 0.0], [0.0, 0.5], [-1.0, 0.0], [0.0, -9.0]])
    np.testing.assert_allclose(representation.deviation(x), [1.0, 1.0])  # each sqrt(1/2), scaled by sqrt(2)
    x = np.array([[3.0, 4.0], [6.0, 8.0], [4.0, 3.0], [0.4, 0.3]])  # normalised, each is 0.6 or 0.8
    np.testing.assert_allclose(representation.deviation(x), np.full(2, 0.1 * np.sqrt(2)))
    np.testing.assert_allclose(
        representation.deviation(np.arange(1.0, 6)[:, None] * np.ones(8)), np.zeros(8), atol=1e-7
    )
    even = representation.deviation(np.random.default_rng(0).normal(size=(5000, 32)))
    assert even.shape == (32,)
    np.testing.assert_allclose(even, np.ones(32), atol=0.05)
    np.testing.assert_array_equal(representation.deviation(np.zeros((3, 2))), [0, 0])


def test_l2_distance():
    a = {"w": jnp.zeros((2, 2)), "b": [jnp.ones(3, jnp.bfloat16), np.float32(1)]}
    b = {"w": jnp.full((2, 2), 2.0), "b": [jnp.asarray([1.0, 4.0, 1.0], jnp.bfloat16), np.float32(1)]}
    assert representation.l2_distance(a, b) == 5.0  # the root of 4 * 4 + 9
    assert representation.l2_distance(a, a) == 0.0
    for other in ({"w": a["w"]}, a | {"w": jnp.zeros((1, 2))}, a | {"w": jnp.zeros(())}):
        with pytest.raises(ValueError, match="networks that differ"):
            representation.l2_distance(a, other)
