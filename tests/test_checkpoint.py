"""What is saved is what comes back, to the bit, also when the state is donated meanwhile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ucl_jax import parallel
from ucl_jax.checkpoint import Checkpoints
from ucl_jax.experiment import make_experiment


@pytest.fixture(scope="module")
def experiment():
    return make_experiment(tiny.config("lump"), parallel.AXIS)


def test_saved_while_the_state_is_donated(experiment, tmp_path):
    state = experiment.init()
    host = jax.device_get(jax.tree.map(jnp.copy, state))

    def bump(tree):
        return jax.tree.map(lambda x: x ^ True if x.dtype == bool else x + jnp.ones((), x.dtype), tree)

    advance = jax.jit(bump, donate_argnums=0)
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        for step in (1, 2, 3):
            state = advance(state)
            checkpoints.save(step, state, {"step": step, "rows": {"knn": [[1.5, None]]}})
            doomed = advance(jax.tree.map(jnp.copy, state))  # memory is reused at once
            doomed = advance(doomed)
            del doomed
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        restored, record = checkpoints.restore(experiment.init())
    assert record == {"step": 3, "rows": {"knn": [[1.5, None]]}}
    for _ in range(3):
        host = jax.tree.map(lambda x: ~x if x.dtype == bool else x + np.ones((), x.dtype), host)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), host)
    assert jax.tree.structure(restored) == jax.tree.structure(host)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "3"]


def test_restored_arrays_lie_where_those_they_replace_lie(experiment, tmp_path):
    compiled = parallel.compile_stages(experiment.stages, jax.local_devices()[:2])[0]
    state = jax.device_put(experiment.init(), compiled.sharding)
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(5, state, {})
        checkpoints.wait()
        restored, _ = checkpoints.restore(state)
    assert all(leaf.sharding.is_equivalent_to(compiled.sharding, leaf.ndim) for leaf in jax.tree.leaves(restored))


def test_same_step_again_with_more_in_the_record(experiment, tmp_path):
    state = experiment.init()
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        assert checkpoints.restore(state) is None
        checkpoints.save(4, state, {"rows": []})
        checkpoints.save(4, state, {"rows": [1]})
        checkpoints.wait()
        assert checkpoints.restore(state)[1] == {"rows": [1]}


def test_what_a_killed_process_left_is_not_taken_for_a_checkpoint(experiment, tmp_path):
    state = experiment.init()
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        checkpoints.save(4, state, {})
    half = tmp_path / "checkpoints" / "9.orbax-checkpoint-tmp"
    (half / "state").mkdir(parents=True)
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        assert int(checkpoints.restore(state)[0].step) == 0
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["4"]
