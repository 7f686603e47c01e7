"""The loop: where tasks begin, what is left after a restart, and what it yields."""

import jax
import numpy as np
import pytest
import tiny

from ucl_jax import parallel, train
from ucl_jax.data.stream import batch_indices, open_stream
from ucl_jax.experiment import make_experiment


def test_schedule_by_hand():
    # 10 examples in batches of 4 are 3 steps an epoch, 4 are 1, 9 are 3.
    schedule = train.make_schedule([10, 4, 9], epochs=2, batch_size=4)
    assert schedule == ((0, 6, 8, 14), (3, 1, 3))
    assert schedule.total == 14
    # The paper: 10,000 images a task in batches of 256 are 40 steps; 5 tasks of 200 epochs are 40,000.
    assert train.make_schedule([10_000] * 5, 200, 256).total == 40_000


def test_what_is_left_is_the_tail_of_the_whole():
    schedule = train.make_schedule([10, 7], epochs=3, batch_size=4)
    whole = list(train._batches(0, 1, schedule, 9, 7, 4))
    assert [epoch for epoch, _, _ in whole] == [0, 0, 1, 1, 2, 2]
    for done in range(7):
        left = list(train._batches(0, 1, schedule, 9 + done, 7, 4))
        assert [epoch for epoch, _, _ in left] == [epoch for epoch, _, _ in whole[done:]]
        for (_, first, index), (_, other_first, other_index) in zip(left, whole[done:]):
            np.testing.assert_array_equal(index, other_index)
            np.testing.assert_array_equal(first, other_first)
    np.testing.assert_array_equal(np.stack([index for _, _, index in whole[2:4]]), batch_indices(0, 1, 1, 7, 4)[0])


@pytest.mark.parametrize(
    ("recipe", "tasks", "matrix"),
    [
        ("finetune", "seen", [[True, False], [True, True]]),
        ("finetune", "all", [[True, True], [True, True]]),
        ("multitask", "seen", [[True, True]]),
    ],
)
def test_events_and_the_shape_of_the_matrix(recipe, tasks, matrix, tmp_path):
    config = tiny.config(recipe, eval__tasks=tasks, train__epochs=1)
    experiment = make_experiment(config, parallel.AXIS)
    compiled = parallel.compile_stages(experiment.stages, jax.local_devices()[:1])
    state = jax.device_put(experiment.init(), compiled.sharding)
    with open_stream(config.benchmark, str(tmp_path)) as stream:
        events = [
            (type(event).__name__, event.step, getattr(event, "rows", None))
            for event in train.train(config, experiment, compiled, stream, state, 0, 0)
        ]
    steps = [step for name, step, _ in events if name == "StepDone"]
    assert steps == list(range(1, 11))  # 2 x 80 images in batches of 16, in whichever order
    rows = [rows for name, _, rows in events if name == "TaskDone"]
    assert [[a is not None for a in row["knn_task"].accuracy] for row in rows] == matrix
    assert [step for name, step, _ in events if name == "TaskDone"] == ([5, 10] if len(matrix) == 2 else [10])
