"""Tests that a checkpoint restores the saved bits, also when the state was donated during the save."""

import hashlib
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests import tiny
from ucl_jax.errors import UsageError
from ucl_jax.training import parallel
from ucl_jax.training.build import make_experiment
from ucl_jax.training.checkpoint import Checkpoints, Networks
from ucl_jax.types import Variables


@pytest.fixture(scope="module")
def experiment():
    return make_experiment(tiny.config("lump"), parallel.AXIS, "cpu")


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
            doomed = advance(jax.tree.map(jnp.copy, state))  # so that the memory of the saved state is reused at once
            doomed = advance(doomed)
            del doomed
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        restored, progress = checkpoints.restore(experiment.init())
    assert progress == {"step": 3, "rows": {"knn": [[1.5, None]]}}
    for _ in range(3):
        host = jax.tree.map(lambda x: ~x if x.dtype == bool else x + np.ones((), x.dtype), host)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), host)
    assert jax.tree.structure(restored) == jax.tree.structure(host)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "3"]


def test_restored_arrays_lie_where_those_they_replace_lie(experiment, tmp_path):
    compiled = parallel.compile_phases(experiment.phases, jax.local_devices()[:2])[0]
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


STATE = {"step": jnp.arange(300, dtype=jnp.int32), "weight": jnp.linspace(0.0, 1.0, 500)}


@pytest.fixture
def folder(tmp_path):
    """Returns a folder with checkpoints of steps 1 and 2, whose progress is {"n": step}."""
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, STATE, {"n": step})
    return tmp_path / "checkpoints"


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def restore(folder):
    """Restores the newest checkpoint; returns its progress, and the warnings."""
    told = []
    with Checkpoints(folder, keep=2) as checkpoints:
        restored = checkpoints.restore(STATE, told.append)
    return restored and restored[1], told


def test_the_hashes_are_those_of_sha256sum(folder):
    listed = [line.split("  ") for line in (folder / "2" / "SHA256SUMS").read_text().splitlines()]
    assert sorted(name for _, name in listed) == [
        path.relative_to(folder / "2").as_posix() for path in files(folder / "2") if path.name != "SHA256SUMS"
    ]
    for value, name in listed:
        assert value == hashlib.sha256((folder / "2" / name).read_bytes()).hexdigest()
    if shutil.which("sha256sum"):
        assert (
            subprocess.run(["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"], cwd=folder / "2").returncode == 0
        )


def test_every_flipped_bit_is_found(folder):
    """Checks that a flipped bit in any file, progress and hashes included, is found, and nothing is loaded."""
    shutil.rmtree(folder / "1")
    rng = np.random.default_rng(0)
    tried = 0
    for path in files(folder / "2"):
        content = path.read_bytes()
        for place in rng.choice(len(content), min(40, len(content)), replace=False):
            changed = bytearray(content)
            changed[place] ^= 1 << rng.integers(8)
            path.write_bytes(changed)
            with pytest.raises(UsageError, match=r"checkpoints/2 is not used: .* not as it was saved; remove"):
                restore(folder)
            tried += 1
        path.write_bytes(content)
    assert tried > 200
    assert restore(folder) == ({"n": 2}, [])


def replace_by_a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("")


def cut(name, length):
    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(length * len(content))])

    return damage


DAMAGES = {
    "a step that is a file": (replace_by_a_file, "Not a directory"),
    "an empty folder": (lambda folder: shutil.rmtree(folder) or folder.mkdir(), "has no SHA256SUMS"),
    "no hashes": (lambda folder: (folder / "SHA256SUMS").unlink(), "has no SHA256SUMS"),
    "half the hashes": (cut("SHA256SUMS", 0.5), "is not as it was saved"),
    "empty hashes": (cut("SHA256SUMS", 0), "is not as it was saved"),
    "no metadata": (lambda folder: (folder / "_CHECKPOINT_METADATA").unlink(), "_CHECKPOINT_METADATA is not"),
    "half the metadata": (cut("_CHECKPOINT_METADATA", 0.5), "_CHECKPOINT_METADATA is not as it was saved"),
    "empty metadata": (cut("_CHECKPOINT_METADATA", 0), "_CHECKPOINT_METADATA is not as it was saved"),
    "no arrays": (lambda folder: shutil.rmtree(folder / "d"), "d/"),
    "one file more": (lambda folder: (folder / "more").write_text(""), "more is not as it was saved"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_newest_is_named_and_the_one_before_serves(folder, damage):
    inflict, reason = DAMAGES[damage]
    inflict(folder / "2")
    progress, (line,) = restore(folder)
    assert progress == {"n": 1}
    assert f"{folder}/2 is not used: " in line
    assert reason in line
    assert line.endswith("going on from that of step 1")
    with Checkpoints(folder, keep=2) as checkpoints:  # the run goes on, and saves over the damaged checkpoint
        checkpoints.save(2, STATE, {"n": 20})
    assert restore(folder) == ({"n": 20}, [])


def test_no_good_checkpoint_is_refused(folder):
    for step in ("1", "2"):
        (folder / step / "SHA256SUMS").unlink()
    with pytest.raises(UsageError, match=r"checkpoints/2 is not used: .*checkpoints/1 is not used: .*remove"):
        restore(folder)


def test_damaged_checkpoint_of_a_later_step_takes_no_place(folder):
    (folder / "2" / "SHA256SUMS").unlink()
    with Checkpoints(folder, keep=1) as checkpoints:
        checkpoints.restore(STATE, str)
        checkpoints.save(1, STATE, {"n": 10})
    assert [path.name for path in folder.iterdir()] == ["1"]
    assert restore(folder) == ({"n": 10}, [])


def test_what_a_killed_process_left_is_not_taken_for_a_checkpoint(folder):
    (folder / ".9.new" / "state").mkdir(parents=True)
    (folder / ".9.new.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    assert restore(folder) == ({"n": 2}, [])
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]


def test_killed_between_the_two_renames(folder):
    (folder / "2").rename(folder / ".2.old")
    assert restore(folder) == ({"n": 2}, [])
    shutil.copytree(folder / "2", folder / ".2.old")  # the process was killed before it removed the older copy
    assert restore(folder) == ({"n": 2}, [])
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]


def test_save_that_fails_is_told_at_the_next_and_leaves_the_last_good_one(folder):
    message = r"cannot save .*checkpoints/3: .* what was saved before is kept"
    with pytest.raises(UsageError, match=message), Checkpoints(folder, keep=2) as checkpoints:
        checkpoints.save(3, STATE, {"n": object()})  # an object that JSON cannot hold
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]
    assert restore(folder) == ({"n": 2}, [])


def test_a_save_for_which_there_is_no_room_is_not_begun(folder, monkeypatch):
    usage = shutil.disk_usage(folder)._replace(free=2000)  # STATE has 3200 bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(ocp.Checkpointer, "save", lambda *arguments, **settings: pytest.fail("Orbax was asked"))
    message = r"cannot save .*checkpoints/3: No space left on device; what was saved before is kept"
    with pytest.raises(UsageError, match=message), Checkpoints(folder, keep=2) as checkpoints:
        checkpoints.save(3, STATE, {"n": 3})
    assert restore(folder) == ({"n": 2}, [])


def test_networks_are_checked_too(tmp_path):
    networks = Networks(tmp_path / "networks")
    networks.save(1, Variables({"w": jnp.ones(4)}, {"m": jnp.zeros(2)}))
    networks.save(1, Variables({"w": jnp.full(4, 2.0)}, {"m": jnp.zeros(2)}))  # replaces the earlier one
    like = Variables({"w": jnp.zeros(4)}, {"m": jnp.ones(2)})
    params, state = networks.load(1, like)
    np.testing.assert_array_equal(params["w"], np.full(4, 2.0))
    np.testing.assert_array_equal(state["m"], np.zeros(2))
    assert networks.afters() == [1]
    for path in files(tmp_path / "networks" / "1"):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if content else b" ")
        with pytest.raises(UsageError, match=r"networks/1 is not used: .* not as it was saved"):
            networks.load(1, like)
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"no network after 2 tasks .*; kept: 1"):
        networks.load(2, like)
