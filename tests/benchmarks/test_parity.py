"""Tests benchmarks.parity: our LUMP against the plain loop of PyTorch with the same draws; outcomes and differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import parity
from tests import tiny
from ucl_jax.buffers.base import BufferState
from ucl_jax.buffers.reservoir import reservoir, reservoir_slots
from ucl_jax.data.tasks import batch_indices
from ucl_jax.types import Batch

BATCH, SLOTS, IMAGES, EPOCHS = 8, 12, 20, 3


@jax.jit
def draws(key, step, seen):
    """Returns the slots that our step recalls, and the slots that its batch takes (SLOTS means none)."""
    recall_key, observe_key, *_ = jax.random.split(jax.random.fold_in(key, step), 6)
    stored = BufferState(jnp.arange(SLOTS), jnp.asarray(seen)[None])
    recalled = reservoir(SLOTS, 1).sample(stored, recall_key, BATCH, jnp.ones(SLOTS, bool)).items
    return recalled, reservoir_slots(observe_key, seen, SLOTS, jnp.ones(BATCH, bool))


def test_lump_follows_the_plain_loop_of_pytorch(monkeypatch):
    """Checks that over two tasks, loss, buffer and network of both programs stay the same.

    The buffer begins empty, is recalled in part, and comes to hold images twice; the last batches are filled up.
    """
    torch = pytest.importorskip("torch", reason="PyTorch, with which the benchmark compares, is not installed")
    from benchmarks import torch_lump

    config = tiny.config(
        "lump",
        "digits,simsiam",
        train__batch_size=BATCH,
        train__learning_rate=0.03,  # about 1e-3 for such a batch, so that rounding does not part them
        method__buffer_size=SLOTS,
        method__alpha=1.0,
    )
    pillow = parity.Pillow(config)
    ours = parity.Ours(config, pillow.augmentation)
    ours.train_step = jax.jit(ours.train_step.__wrapped__)
    # With seeds 0 and 1 the input of a ReLU comes so near to 0 that rounding decides whether it has a gradient.
    images = np.random.default_rng(2).integers(0, 256, (2, IMAGES, 8, 8, 3), np.uint8)
    network = jax.device_get(jax.jit(ours.objective.init)(jax.random.key(1), images[0, :1]))
    ours.start(network, jax.random.key(0))
    theirs = parity.torch_program(config, network)
    theirs.weak = lambda _: torch.from_numpy(pillow.replayed.transpose(0, 3, 1, 2).copy())

    twice = 0
    for task, image in enumerate(images):
        for epoch in range(EPOCHS):
            for index, first in zip(*batch_indices(0, task, epoch, IMAGES, BATCH)):
                recalled, taken = map(np.asarray, draws(ours.key, ours.state.step, theirs.seen))
                batch = Batch(image[index], np.zeros(BATCH, np.int32), first)
                loss, drawn = ours.step(batch), iter(taken[max(SLOTS - theirs.seen, 0) :].tolist())
                theirs.recall = recalled.tolist
                with monkeypatch.context() as patch:
                    patch.setattr("random.randint", lambda *_, drawn=drawn: next(drawn))
                    patch.setattr(np.random, "beta", lambda *_: ours.metrics["lambda"].item())
                    expected = theirs.step(*pillow.shown, batch.image)
                np.testing.assert_allclose(loss, expected, atol=2e-5)
                stored = ours.state.memory.buffer
                assert stored.offered == theirs.seen
                np.testing.assert_array_equal(stored.items.batch.image, theirs.raw)
                np.testing.assert_array_equal(stored.items.kept.image[0], theirs.frozen.permute(0, 2, 3, 1))
                twice += theirs.seen > SLOTS and len({x.tobytes() for x in theirs.raw.numpy()}) < SLOTS
        ours.end_task()
    assert twice
    state = theirs.network.state_dict()
    for name, value in torch_lump.from_ours(ours.state.network.params, ours.state.network.state["batch_stats"]).items():
        np.testing.assert_allclose(state[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_fall_is_counted_in_epochs():
    losses = np.array([0.0, 0.0, -0.2, -0.4, -0.6, -0.8])
    assert parity.fall(losses, 2) == 2.0  # the mean of -0.2 and -0.4 equals the level, and is not below it in float64
    assert parity.fall(losses / 10, 2) == 3.0  # it never falls


def test_differences_are_paired():
    outcomes = [{"ours": {"all": 50.0 + seed}, "torch": {"all": 47.0 + seed + seed % 2}} for seed in range(6)]
    found = parity.compare(outcomes, "ours", "torch", "all")
    assert found["mean"] == 2.5
    assert found["half"] == pytest.approx(2.570582 * (0.3 / 6) ** 0.5)  # Student's t of 5 degrees; the variance: 0.3
    assert found["p"] == 2 / 2**6  # all differences have one sign, as in two of all exchanges of signs


def test_without_the_data_set_a_line_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(parity.CONFIG, "data_dir", str(tmp_path))
    monkeypatch.setitem(parity.CONFIG, "benchmark.prepare", False)
    assert parity.main([f"--out={tmp_path}/parity.json"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("skipped: ")
