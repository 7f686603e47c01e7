"""Tests the plan of a run: where periods begin, where legs end, and what was shown by then."""

import pytest

from ucl_jax.training.schedule import Leg, Period, make_schedule, period_sizes


def test_schedule_by_hand():
    # 10 examples in batches of 4 are 3 steps an epoch, 4 are 1, and 9 are 3.
    schedule = make_schedule([10, 4, 9], epochs=2, batch_size=4)
    assert schedule.periods == (
        Period(slice(0, 10), 0, 6, 3, 4),
        Period(slice(10, 14), 6, 2, 1, 4),
        Period(slice(14, 23), 8, 6, 3, 4),
    )
    assert schedule.legs == (Leg(0, 6, True), Leg(1, 8, True), Leg(2, 14, True))
    assert schedule.total == 14
    assert [schedule.periods[2].epoch(step) for step in (9, 11, 12, 14)] == [0, 0, 1, 1]
    # The paper: 10,000 images a task in batches of 256 are 40 steps; 5 tasks of 200 epochs are 40,000.
    assert make_schedule([10_000] * 5, 200, 256).total == 40_000
    # Steps are int32: 2**31 - 1 of them, and no more.
    assert make_schedule([2**31 - 1], 1, 1).total == 2**31 - 1
    with pytest.raises(ValueError, match=r"^epochs is 1000000: .* 25000000000 steps"):
        make_schedule([10_000] * 5, 10**6, 2)


def test_a_task_smaller_than_a_batch_is_one_batch_of_its_own_size():
    schedule = make_schedule([10, 100, 300], epochs=2, batch_size=256)
    assert [(p.end, p.epoch_steps, p.batch_size) for p in schedule.periods] == [(2, 1, 10), (4, 1, 100), (8, 2, 256)]
    assert [schedule.images_seen(leg) for leg in schedule.legs] == [20, 220, 220 + 4 * 256]


def test_a_last_batch_that_is_not_full_may_be_dropped():
    # CaSSLe: 10,000 images in batches of 256 are 39 steps an epoch; 500 epochs of 5 tasks.
    schedule = make_schedule([10_000] * 5, 500, 256, "drop")
    assert (schedule.periods[4].epoch_steps, schedule.total) == (39, 5 * 500 * 39)
    # A task that is smaller than a batch is one batch all the same.
    dropped = make_schedule([10, 8, 3], 2, 4, "drop")
    assert [(p.end, p.epoch_steps, p.batch_size) for p in dropped.periods] == [(4, 2, 4), (8, 2, 4), (10, 1, 3)]
    with pytest.raises(ValueError, match=r"^last_batch is 'dropped'"):
        make_schedule([10], 2, 4, "dropped")


def test_periods_are_tasks_the_stream_or_parts_of_it():
    assert period_sizes([10, 4, 9], "known") == [10, 4, 9]
    assert period_sizes([10, 4, 9], "hidden") == [23]
    assert period_sizes([10, 4, 9], "hidden", 8) == [8, 8, 7]
    assert period_sizes([10, 4, 10], "hidden", 8) == [8, 8, 8]
    with pytest.raises(ValueError, match=r"^boundaries is 'none'"):
        period_sizes([10], "none")


def test_evaluations_are_after_the_batch_that_has_the_last_of_the_images():
    # Batches of 4: after 8, 16, 24 (the end of task 0 is after 12), and at the end, after 28 images.
    schedule = make_schedule([12, 16], 1, 4, updates_per_batch=3, evaluate_every=7)
    assert schedule.legs == (
        Leg(0, 6, True), Leg(0, 9, False), Leg(1, 12, True), Leg(1, 18, True), Leg(1, 21, True)
    )  # fmt: skip
    assert [schedule.images_seen(leg) for leg in schedule.rows] == [8, 16, 24, 28]
    # 3 updates on each batch, with 4 present and 10 replayed images.
    assert [schedule.gradient_samples(leg, lambda images: images + 10) for leg in schedule.rows] == [84, 168, 252, 294]
    # All examples of a task can be drawn from its start, unless they come in order.
    assert [schedule.reached(leg) for leg in schedule.rows] == [12, 28, 28, 28]
    assert [schedule._replace(in_order=True).reached(leg) for leg in schedule.rows] == [8, 16, 24, 28]


def test_images_that_come_in_order_are_seen_once():
    # Of three batches of 4 the last one has two new images.
    schedule = make_schedule([10], 1, 4, updates_per_batch=3, in_order=True, evaluate_every=4)
    assert [schedule.images_seen(leg) for leg in schedule.rows] == [4, 8, 10]
    assert [schedule.gradient_samples(leg, lambda images: images) for leg in schedule.rows] == [12, 24, 36]
    dropping = make_schedule([10, 7], 1, 4, "drop", in_order=True)
    assert [dropping.images_seen(leg) for leg in dropping.rows] == [8, 12]


def test_a_number_of_evaluations_is_spread_over_all_images():
    schedule = make_schedule([1442], 1, 32, in_order=True, evaluate_every=-10)
    # 46 batches, of 1,472 images: after each 148 images at the latest, in whole batches.
    assert [leg.end for leg in schedule.rows] == [5, 10, 14, 19, 24, 28, 33, 37, 42, 46]
    assert len(make_schedule([40, 40], 2, 4, evaluate_every=-4).rows) == 4


def test_several_evaluations_may_be_due_in_one_batch():
    assert [leg.end for leg in make_schedule([10], 2, 4, evaluate_every=1).legs] == [1, 2, 3, 4, 5, 6]
    assert make_schedule([10], 2, 4, evaluate_every=10**6).legs == (Leg(0, 6, True),)
    assert make_schedule([10, 10], 0, 4).legs == (Leg(0, 0, True), Leg(1, 0, True))
