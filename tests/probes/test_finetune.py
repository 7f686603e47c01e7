"""Tests that fine-tuning learns another data set, and leaves the run as it was."""

import jax
import numpy as np

from tests.probed import measure


def test_finetuning_learns_another_data_set_and_leaves_the_run_alone(subject, lump):
    before = jax.tree.map(np.array, subject.network(2))
    few = {"dataset": "digits", "train_images": 400, "test_images": 100, "batch_size": 32}
    values = measure(subject, "finetune", **few, epochs=8)
    assert len(values["by_epoch"]) == 8
    assert values["accuracy"] == values["by_epoch"][-1] > 70
    assert measure(subject, "finetune", **few, epochs=1, learning_rate=1e-9)["accuracy"] < 50
    jax.tree.map(np.testing.assert_array_equal, subject.network(2), before)
    assert subject.networks.afters() == [1, 2]
