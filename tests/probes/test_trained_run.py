"""Tests what a probe sees of a run: its networks, its images, and other data sets."""

import jax
import numpy as np
import pytest

from tests.probed import trained
from ucl_jax.data.tasks import open_stream
from ucl_jax.errors import UsageError
from ucl_jax.probes.trained_run import TrainedRun


def test_the_network_after_every_task_is_kept(subject, lump):
    assert subject.afters == [0, 1, 2]
    last, first = subject.network(2).params, subject.network(1).params
    assert not any(map(np.array_equal, jax.tree.leaves(last["backbone"]), jax.tree.leaves(first["backbone"])))
    fresh = subject.experiment.init()
    jax.tree.map(np.testing.assert_array_equal, subject.network(0).params, fresh.network.params)
    assert {path.name for path in (lump / "networks").iterdir()} == {"1", "2"}


def test_images_are_those_of_the_runs_seed_where_it_says_so(subject):
    """Checks that with `subset_seed` -1, a probe sees the images that the run's seed chooses.

    That the run itself had them follows from `test_knn_is_the_runs_own_probe`.
    """
    with open_stream(subject.stream_settings._replace(subset_seed=3), subject.data_dir) as stream:
        for task in (0, 1):
            jax.tree.map(np.testing.assert_array_equal, subject.stream.task(task), stream.task(task))


def test_other_data_are_normalised_in_their_own_way(subject):
    image = np.full((1, 8, 8, 3), 128, np.uint8)
    one, other = (
        subject.feature_extractor(2, subject.normalised_for(name))(image).features for name in ("digits", "mnist")
    )
    np.testing.assert_allclose(one, subject.feature_extractor(2)(image).features, rtol=1e-6)
    assert np.max(np.abs(one - other)) > 1e-3


def test_a_run_may_keep_no_networks(tmp_path):
    folder = trained(tmp_path / "run", "finetune", checkpoint__networks=False)
    assert not (folder / "networks").exists()
    with pytest.raises(UsageError, match="holds no network"):
        TrainedRun(folder)
