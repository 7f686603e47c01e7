"""Tests the reservoir: how slots are drawn, how items are written and sampled, and which items are kept how often."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ucl_jax.buffers import BUFFERS, Offer
from ucl_jax.buffers.base import capacity, filled_in_order, write
from ucl_jax.buffers.reservoir import equal_share, reservoir_slots


def init(example, size, parts=1):
    """Makes an empty reservoir."""
    return equal_share(size, parts).init(example)


def offer(stored, key, new, eligible=None, part=0):
    """Offers items to a reservoir, all of them unless `eligible` says which."""
    count = jax.tree.leaves(new)[0].shape[0]
    eligible = jnp.ones(count, bool) if eligible is None else eligible
    offered = Offer(items=new, eligible=eligible, task=jnp.asarray(part, jnp.int32), score=jnp.zeros(count))
    return equal_share(capacity(stored), stored.offered.shape[0]).add(stored, key, offered)


def draw(stored, key, count, allowed=None):
    """Draws items of a reservoir, from all slots unless `allowed` says which."""
    policy = equal_share(capacity(stored), stored.offered.shape[0])
    allowed = jnp.ones(capacity(stored), bool) if allowed is None else allowed
    return policy.sample(stored, key, count, allowed).items


add, sample, write_all = jax.jit(offer), jax.jit(draw, static_argnums=2), jax.jit(write)
UNLIKELY = 1e-4  # keys are fixed, so a test that passes once passes always; a wrong law gives p-values far below


def items(numbers):
    """Makes items that carry a number in every leaf, of different ranks and dtypes; 0 stands for an empty slot."""
    number = np.asarray(numbers, np.int32)
    return {
        "image": np.broadcast_to(number[:, None, None].astype(np.uint8), (len(number), 2, 3)),
        "view": (number.astype(np.float32)[:, None] * np.ones((1, 4), np.float32), number),
        "flag": number > 0,
    }


def numbers(stored):
    """Returns the numbers of stored items, after checking that all leaves of an item carry the same number."""
    number = np.asarray(stored["view"][1])
    np.testing.assert_array_equal(stored["image"], np.broadcast_to(number[:, None, None], stored["image"].shape))
    np.testing.assert_array_equal(stored["view"][0], np.broadcast_to(number[:, None], stored["view"][0].shape))
    np.testing.assert_array_equal(stored["flag"], number > 0)
    return number


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@functools.partial(jax.jit, static_argnames=("size", "batch", "draws"))
def many_slots(seen, eligible, *, size, batch, draws):
    return jax.vmap(lambda key: reservoir_slots(key, seen, size, eligible))(keys(draws))


# An empty reservoir.


def test_storage_starts_as_zeros_of_the_items_shapes_and_dtypes():
    buffer = init(items([7, 8]), 5)
    assert capacity(buffer) == 5
    assert buffer.offered.dtype == jnp.int32
    assert buffer.offered == 0
    expected = {
        "image": np.zeros((5, 2, 3), np.uint8),
        "view": (np.zeros((5, 4), np.float32), np.zeros(5, np.int32)),
        "flag": np.zeros(5, bool),
    }
    jax.tree.map(np.testing.assert_array_equal, buffer.items, expected)
    assert jax.tree.map(lambda x: x.dtype, buffer.items) == jax.tree.map(lambda x: x.dtype, expected)
    np.testing.assert_array_equal(filled_in_order(buffer), np.zeros(5, bool))


# Slots.


def test_first_positions_fill_in_order():
    for seen in (0, 3):
        slot = np.asarray(many_slots(seen, jnp.ones(12, bool), size=8, batch=12, draws=50))
        np.testing.assert_array_equal(slot[:, : 8 - seen], np.tile(np.arange(seen, 8), (50, 1)))


@pytest.mark.parametrize("seen", [5, 9, 40])
def test_later_positions_take_each_slot_with_probability_1_over_position_plus_1(seen):
    """Checks that the slot is a uniform draw from 0..position, kept if it is below size (Vitter 1985, algorithm R).

    The official code draws `randint(0, seen + 1)`.
    """
    size, draws = 5, 20_000
    slot = np.asarray(many_slots(seen, jnp.ones(3, bool), size=size, batch=3, draws=draws))
    for j in range(3):
        choices = seen + j + 1
        observed = np.bincount(slot[:, j], minlength=size + 1)
        assert len(observed) == size + 1  # the last choice means that the example is not kept
        expected = draws / choices * np.array([1.0] * size + [choices - size])
        assert scipy.stats.chisquare(observed, expected).pvalue > UNLIKELY
    # The draws of one batch are independent of each other.
    table = np.histogram2d(slot[:, 0], slot[:, 1], bins=np.arange(size + 2))[0]
    assert scipy.stats.chi2_contingency(table).pvalue > UNLIKELY


def test_examples_that_are_not_eligible_get_no_slot_and_no_position():
    eligible = np.array([False, True, True, False, False, True, True, False, True])
    slot = np.asarray(many_slots(1, jnp.asarray(eligible), size=4, batch=9, draws=20_000))
    np.testing.assert_array_equal(slot[:, ~eligible], 4)
    np.testing.assert_array_equal(slot[:, eligible][:, :3], np.tile([1, 2, 3], (20_000, 1)))
    for j, position in ((6, 4), (8, 5)):  # the fifth and the sixth eligible example
        observed = np.bincount(slot[:, j], minlength=5)
        expected = 20_000 / (position + 1) * np.array([1, 1, 1, 1, position - 3])
        assert scipy.stats.chisquare(observed, expected).pvalue > UNLIKELY


# Writes.


@pytest.mark.parametrize(("size", "batch"), [(4, 30), (16, 5), (1, 9)])
def test_write_equals_a_loop_with_many_duplicates(size, batch):
    rng = np.random.default_rng(size)
    for _ in range(20):
        slot = rng.integers(0, size + 2, batch).astype(np.int32)  # a slot of size or above writes nothing
        old, new = rng.integers(1, 100, size), rng.integers(100, 200, batch)
        expected = old.copy()
        for j in range(batch):
            if slot[j] < size:
                expected[slot[j]] = new[j]
        np.testing.assert_array_equal(numbers(write_all(items(old), items(new), slot)), expected)


def test_write_never_gives_a_scatter_two_writers_of_one_place():
    """Checks that no two examples are written to one place: XLA leaves their order undefined, though CPUs keep it."""
    slot = jnp.asarray([1, 1, 5, 0, 1, 9, 3, 3], jnp.int32)
    arguments = {"n": jnp.zeros(4)}, {"n": jnp.arange(8.0)}, slot
    closed = jax.make_jaxpr(write)(*arguments)
    (scatter,) = (equation for equation in closed.jaxpr.eqns if equation.primitive.name == "scatter")
    indices = closed.jaxpr.replace(outvars=[scatter.invars[1]])
    (target,) = jax.core.eval_jaxpr(indices, closed.consts, *jax.tree.leaves(arguments))
    target = np.ravel(target)
    assert len(set(target)) == 8
    # Only the last writer of a slot keeps its place. All others lie beyond the 4 slots, where `mode="drop"` drops them.
    assert {int(j): int(place) for j, place in enumerate(target) if place < 4} == {3: 0, 4: 1, 7: 3}


# Adding.


def test_add_fills_in_order_across_batches_and_only_what_is_eligible():
    buffer = init(items([1]), 6)
    buffer = add(buffer, jax.random.key(0), items([11, 12, 13]), jnp.asarray([True, False, True]))
    np.testing.assert_array_equal(numbers(buffer.items), [11, 13, 0, 0, 0, 0])
    np.testing.assert_array_equal(filled_in_order(buffer), [True, True, False, False, False, False])
    buffer = add(buffer, jax.random.key(1), items([14, 15, 16]))
    np.testing.assert_array_equal(numbers(buffer.items), [11, 13, 14, 15, 16, 0])
    assert buffer.offered == 5


@pytest.mark.parametrize(("size", "batch", "steps", "skip"), [(4, 7, 4, False), (9, 3, 8, False), (4, 7, 4, True)])
def test_every_item_offered_is_kept_with_the_same_probability(size, batch, steps, skip):
    """Checks that every item is kept equally often, whether a batch is larger than the buffer or smaller.

    With `skip`, every third example is not eligible and must never be kept.
    """
    runs, total = 4_000, batch * steps
    offered = np.arange(total) % 3 != 1 if skip else np.ones(total, bool)

    def run(key):
        buffer = init({"n": jnp.zeros(1, jnp.int32)}, size)
        for step, step_key in enumerate(jax.random.split(key, steps)):
            place = slice(step * batch, (step + 1) * batch)
            new = {"n": jnp.arange(total, dtype=jnp.int32)[place] + 1}
            buffer = offer(buffer, step_key, new, jnp.asarray(offered[place]))
        return buffer.items["n"], buffer.offered

    kept, seen = map(np.asarray, jax.jit(jax.vmap(run))(keys(runs)))
    np.testing.assert_array_equal(seen, offered.sum())
    assert kept.min() >= 1  # the buffer is full
    assert all(len(set(row)) == size for row in kept)  # no item twice
    count = np.bincount(kept.ravel(), minlength=total + 1)[1:]
    np.testing.assert_array_equal(count[~offered], 0)
    assert equally_likely(count[offered], runs, size) > UNLIKELY


def equally_likely(count, runs, size):
    """Returns the p-value of how often each of n items occurs in `runs` simple random samples of `size`.

    The indicators of a run have variance p (1 - p), p = size / n, and correlation -1 / (n - 1), so that the sum below
    is chi-square with n - 1 degrees of freedom.
    """
    n = len(count)
    expected = runs * size / n
    statistic = np.sum((count - expected) ** 2 / (expected * (1 - size / n))) * (n - 1) / n
    return scipy.stats.chi2(n - 1).sf(statistic)


def test_each_part_holds_a_uniform_sample_of_what_it_was_offered():
    """Checks that each of three parts of 4 slots samples its own offers uniformly, even when offers interleave.

    The second part is offered fewer than 4 items.
    """
    runs, offers = 4_000, {0: (1, 18), 1: (101, 3), 2: (201, 9)}  # part -> (its first number, how many it is offered)

    def run(key):
        buffer = init({"n": jnp.zeros(1, jnp.int32)}, 14, parts=3)
        for part, step, step_key in zip((0, 0, 1, 2, 0, 2, 2), (0, 1, 0, 0, 2, 1, 2), jax.random.split(key, 7)):
            first, number = offers[part]
            count = number // 3 if part != 1 else number
            new = {"n": jnp.arange(count, dtype=jnp.int32) + first + step * count}
            buffer = offer(buffer, step_key, new, part=part)
        return buffer.items["n"], buffer.offered, filled_in_order(buffer)

    kept, seen, filled = map(np.asarray, jax.jit(jax.vmap(run))(keys(runs)))
    assert kept.shape == (runs, 12)  # 14 slots make three parts of 4; the rest is not allocated
    np.testing.assert_array_equal(seen, np.tile([18, 3, 9], (runs, 1)))
    np.testing.assert_array_equal(filled, np.tile([True] * 7 + [False] + [True] * 4, (runs, 1)))
    np.testing.assert_array_equal(kept > 0, filled)
    np.testing.assert_array_equal(kept[:, 4:7], np.tile([101, 102, 103], (runs, 1)))
    for part in (0, 2):
        first, number = offers[part]
        count = np.bincount(kept[:, 4 * part : 4 * part + 4].ravel() - first, minlength=number)
        assert len(count) == number  # only what this part was offered
        assert count.sum() == 4 * runs
        assert equally_likely(count, runs, 4) > UNLIKELY


def test_add_is_jitted_with_donation_and_keeps_shapes_and_dtypes():
    donating_add = jax.jit(offer, donate_argnums=0)
    before = jax.eval_shape(lambda: init(items([1]), 6))
    buffer = jax.tree.map(jnp.copy, init(items([1]), 6))
    for step in range(3):
        given = buffer
        buffer = donating_add(given, jax.random.key(step), items(range(10 * step + 1, 10 * step + 5)))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given.items))
        assert jax.eval_shape(lambda b: b, buffer) == before
    assert donating_add._cache_size() == 1
    assert buffer.offered == 12
    assert set(numbers(buffer.items)) <= {1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24}
    assert len(set(numbers(buffer.items))) == 6


# Sampling.


@functools.partial(jax.jit, static_argnames=("size", "stored", "count", "draws"))
def many_samples(allowed, *, size, stored, count, draws=2_000):
    buffer = offer(init(items([1]), size), jax.random.key(0), items(range(1, stored + 1)))
    return jax.vmap(lambda key: draw(buffer, key, count, allowed))(keys(draws))["view"][1]


@pytest.mark.parametrize(("size", "stored", "count"), [(8, 8, 5), (12, 7, 7)])
def test_sample_is_without_replacement_and_uniform(size, stored, count):
    drawn = np.asarray(many_samples(None, size=size, stored=stored, count=count))
    assert all(len(set(row)) == count for row in drawn)
    assert drawn.min() >= 1  # an empty slot is never drawn
    assert drawn.max() <= stored
    for column in drawn.T:  # every item is equally likely at every place of the batch
        assert scipy.stats.chisquare(np.bincount(column, minlength=stored + 1)[1:]).pvalue > UNLIKELY


@pytest.mark.parametrize(("stored", "count"), [(3, 8), (4, 8)])
def test_where_fewer_are_stored_all_are_used_equally_often(stored, count):
    drawn = np.asarray(many_samples(None, size=6, stored=stored, count=count))
    uses = np.stack([np.bincount(row, minlength=7)[1:] for row in drawn])
    np.testing.assert_array_equal(uses[:, stored:], 0)
    assert uses[:, :stored].min() == count // stored
    assert uses[:, :stored].max() == -(-count // stored)
    np.testing.assert_array_equal(uses.sum(axis=1), count)


def test_only_allowed_items_are_drawn_equally_often():
    allowed = np.array([True, False, True, True, False, True, True, True])  # slots 6 and 7 are allowed, yet empty
    drawn = np.asarray(many_samples(jnp.asarray(allowed), size=8, stored=6, count=4))
    assert all(sorted(row) == [1, 3, 4, 6] for row in drawn)
    for column in drawn.T:
        assert scipy.stats.chisquare(np.bincount(column, minlength=7)[[1, 3, 4, 6]]).pvalue > UNLIKELY


def test_sample_returns_whole_items():
    buffer = add(init(items([1]), 5), jax.random.key(0), items([21, 22, 23, 24, 25]))
    drawn = numbers(sample(buffer, jax.random.key(1), 5))
    assert sorted(drawn) == [21, 22, 23, 24, 25]


@pytest.mark.parametrize("why", ["empty", "none_allowed"])
def test_sample_gives_zeros_when_there_is_nothing_to_draw_from(why):
    buffer, allowed = init(items([1]), 5), None
    if why == "none_allowed":
        buffer = add(buffer, jax.random.key(0), items([21, 22, 23]))
        allowed = jnp.asarray([False, False, False, True, True])
    drawn = sample(buffer, jax.random.key(1), 4, allowed)
    np.testing.assert_array_equal(numbers(drawn), np.zeros(4))
    assert jax.tree.map(lambda x: x.dtype, drawn) == jax.tree.map(lambda x: x.dtype, buffer.items)


# Every policy.


def offered(numbers, eligible=None, task=0):
    eligible = np.ones(len(numbers), bool) if eligible is None else np.asarray(eligible)
    scores = np.linspace(0.2, 0.8, len(numbers), dtype=np.float32)
    return Offer(
        items=items(numbers),
        eligible=jnp.asarray(eligible),
        task=jnp.asarray(task, jnp.int32),
        score=jnp.asarray(scores),
        kept=jnp.zeros((6, 2)),  # no example has a feature
    )


@pytest.mark.parametrize("name", [name for name in BUFFERS if name != "with_replacement"])
def test_a_policy_fills_free_slots_first_and_then_holds_what_it_was_offered(name):
    buffer = BUFFERS[name](6, 1)
    stored = buffer.init(items([1]))
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), stored)
    assert not np.any(buffer.filled(stored))
    stored = buffer.add(stored, jax.random.key(0), offered([11, 12, 13], [True, False, True]))
    np.testing.assert_array_equal(numbers(stored.items), [11, 13, 0, 0, 0, 0])
    np.testing.assert_array_equal(buffer.filled(stored), np.arange(6) < 2)
    recalled = buffer.sample(stored, jax.random.key(1), 2, jnp.ones(6, bool))
    np.testing.assert_array_equal(numbers(recalled.items), numbers(stored.items)[recalled.slot])
    assert sorted(numbers(recalled.items)) == [11, 13]
    for step in range(5):
        new = np.arange(20 + 10 * step, 24 + 10 * step)
        stored = buffer.add(stored, jax.random.key(step), offered(new))
    assert np.all(buffer.filled(stored))
    assert len(set(numbers(stored.items))) == 6
    assert set(numbers(stored.items)) <= {11, 13} | {20 + 10 * step + place for step in range(5) for place in range(4)}
    assert jax.tree.map(lambda x: (x.shape, x.dtype), stored) == shapes


def test_with_replacement_every_slot_is_a_draw_of_its_own_from_all_of_the_task():
    """Checks that slots are uniform over what was offered of their task, and independent of each other."""
    buffer, runs = BUFFERS["with_replacement"](4, 2), 4_000
    eligible = np.array([True, False, True])  # items 1, 3, 4, 6, 7, 9 of the first task, and 10, 12 of the second

    def run(key):
        stored = buffer.init({"n": jnp.zeros(1, jnp.int32)})
        filled = [buffer.filled(stored)]
        for step, step_key in enumerate(jax.random.split(key, 4)):
            new = {"n": jnp.arange(3, dtype=jnp.int32) + 3 * step + 1}
            offer = Offer(new, jnp.asarray(eligible), jnp.asarray(step // 3, jnp.int32), jnp.zeros(3))
            stored = buffer.add(stored, step_key, offer)
            filled.append(buffer.filled(stored))
        nothing = buffer.add(stored, key, offer._replace(eligible=jnp.zeros(3, bool)))
        return stored.items["n"], nothing.items["n"], jnp.stack(filled)

    kept, after_nothing, filled = map(np.asarray, jax.jit(jax.vmap(run))(keys(runs)))
    np.testing.assert_array_equal(after_nothing, kept)
    half = [True, True, False, False]
    np.testing.assert_array_equal(filled[0], [[False] * 4, half, half, half, [True] * 4])
    for slot in range(4):
        numbers = [1, 3, 4, 6, 7, 9] if slot < 2 else [10, 12]
        observed = np.array([np.sum(kept[:, slot] == number) for number in numbers])
        assert observed.sum() == runs
        assert scipy.stats.chisquare(observed).pvalue > UNLIKELY
    for one, other in ((0, 1), (2, 3), (1, 2)):
        table = np.histogram2d(kept[:, one], kept[:, other], bins=np.arange(0.5, 13))[0]
        table = table[table.any(axis=1)][:, table.any(axis=0)]
        assert scipy.stats.chi2_contingency(table).pvalue > UNLIKELY


def test_fifo_keeps_the_last_that_were_offered():
    buffer = BUFFERS["fifo"](5, 1)
    stored, kept = buffer.init(items([1])), []
    rng, number = np.random.default_rng(0), 1
    for step in range(12):
        new = np.arange(number, number + 7)
        eligible = rng.uniform(size=7) < 0.6
        kept += list(new[eligible])
        number += 7
        stored = jax.jit(buffer.add)(stored, jax.random.key(step), offered(new, eligible))
        assert sorted(n for n in numbers(stored.items) if n) == sorted(kept[-5:])
        assert stored.offered == len(kept)


@pytest.mark.parametrize(
    "new",
    [
        {"n": jnp.zeros(3), "x": jnp.zeros((3, 2), jnp.uint8)},  # another dtype
        {"n": jnp.zeros(3, jnp.int32), "x": jnp.zeros((3, 1), jnp.uint8)},  # it would be broadcast
        {"n": jnp.zeros(3, jnp.int32)},
    ],
)
def test_items_of_another_kind_are_not_written(new):
    items = {"n": jnp.zeros(4, jnp.int32), "x": jnp.zeros((4, 2), jnp.uint8)}
    with pytest.raises(AssertionError):
        write(items, new, jnp.arange(3))
