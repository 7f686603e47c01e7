"""Tests that whatever is wrong in a config, also what shows only once data and devices are known, names its key."""

import jax
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from tests import tiny
from ucl_jax.data import tfds_source
from ucl_jax.errors import UsageError
from ucl_jax.training.build import check_batches, make_experiment, make_run_settings
from ucl_jax.training.provenance import Origin
from ucl_jax.training.run import run
from ucl_jax.types import Batch, Span


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tfds_source.load_builder("digits", str(folder))
    return str(folder)


@pytest.mark.parametrize(
    ("arg", "key", "value", "named"),
    [
        ("digits", "train.devices", 5, "config.train.devices is 5"),
        ("digits", "train.batch_size", 18, "config.train.batch_size is 18"),
        ("digits", "eval.batch_size", 18, "config.eval.batch_size is 18"),
        ("digits", "benchmark.num_tasks", 6, "config.benchmark.num_tasks is 6"),
        ("digits", "benchmark.examples_per_task", 300, "config.benchmark.examples_per_task is 300"),
        ("digits", "benchmark.test_examples_per_task", 300, "config.benchmark.test_examples_per_task is 300"),
        ("digits", "benchmark.examples_per_task", 6, "config.train.devices"),
        ("digits,barlow_twins", "method.compare", 4, "config.method: GSS"),
    ],
)
def test_what_only_data_and_devices_show_names_the_key(arg, key, value, named, data_dir, tmp_path):
    config = tiny.config("gss", arg, data_dir=data_dir, **{key.replace(".", "__"): value})
    with pytest.raises(UsageError) as caught:
        run(config, tmp_path / "run", Origin(""))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_batches_must_divide_by_the_devices_and_have_two_images():
    check_batches([16, 4, 8], 4)
    check_batches([2, 3], 1)
    with pytest.raises(UsageError, match=r"task 2 .* 6 images.* 4 devices.*config\.train\.devices"):
        check_batches([16, 6], 4)
    with pytest.raises(UsageError, match=r"task 3 has 1 training image.*config\.benchmark\.examples_per_task"):
        check_batches([16, 8, 1], 1)


def test_devices_get_whole_groups_of_paired_rows():
    for share, pairing in (("0.75", 4), ("0.25", 4), ("0.5", 2), ("1.0", 1), ("0.3", 10)):
        method = tiny.config("osiris_r", "digits,simclr", method__replay_share=float(share))
        assert make_experiment(method, None, "cpu").phases[0].method.pairing == pairing
    check_batches([16, 8], 2, 4)
    check_batches([6], 1, 4)
    with pytest.raises(UsageError, match=r"task 2 has 6 images .* 2 devices.*config\.method\.replay_share .* of 4;"):
        check_batches([16, 12], 2, 4)


def test_run_settings_are_those_of_the_config():
    config = tiny.config("er", train__epochs=7, eval__random_init=False, eval__forgetting="first")
    config.stream.replay_per_batch = 24
    settings = make_run_settings(config)
    assert (settings.epochs, settings.replay_per_batch) == (7, 24)
    assert (settings.random_init, settings.forgetting) == (False, "first")
    assert settings.evaluation == (config.eval.tasks, (5, "fixed", 0.1, "exact"), 64)
    assert settings.checkpoint._asdict() == config.checkpoint.to_dict()
    assert settings.log._asdict() == config.log.to_dict()


@pytest.mark.parametrize(("recipe", "convolutions"), [("lump", 20), ("pnn", 15 + 20 + 3 * 2)])
def test_the_platform_reaches_every_convolution(recipe, convolutions):
    """Checks that for an accelerator all convolutions are XLA's: those of ResNet-18, and of PNN's laterals.

    PNN's second column does not read the last stage, of 5 convolutions, of the first. For a CPU, convolutions of small
    maps are matrix products.
    """
    experiment = make_experiment(tiny.config(recipe), None, "tpu")
    network = jax.eval_shape(experiment.init).network
    images = np.zeros((4, 8, 8, 3), np.uint8)
    text = jax.jit(experiment.phases[-1].objective.features).lower(network, images).as_text()
    assert text.count("stablehlo.convolution(") == convolutions


def precisions(jaxpr, of):
    """Yields the precision of each equation `of` a kind in a jaxpr and in those within it."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == of:
            yield equation.params["precision"]
        for inner in jaxprs_in_params(equation.params):
            yield from precisions(inner, of)


@pytest.mark.parametrize("recipe", ["lump", "cassle"])
@pytest.mark.parametrize("matmul_precision", ["float32", "tensorfloat32", "bfloat16"])
def test_matmul_precision_reaches_every_product_forward_and_backward(recipe, matmul_precision):
    experiment = make_experiment(tiny.config(recipe, model__matmul_precision=matmul_precision), None, "tpu")
    phase, state = experiment.phases[0], jax.eval_shape(experiment.init)
    images = np.zeros((4, 8, 8, 3), np.uint8)
    batch, span = Batch(images, np.zeros(4, np.int32), np.ones(4, bool)), Span(*map(np.int32, (0, 0, 1000, 10)))
    step = jax.make_jaxpr(phase.train_step)(state, batch, experiment.key, span).jaxpr
    features = jax.make_jaxpr(phase.objective.features)(state.network, images).jaxpr
    asked = {jax.lax.Precision(matmul_precision)}
    for jaxpr, passes in ((step, 3), (features, 1)):
        found = [set(told) for told in precisions(jaxpr, "conv_general_dilated")]
        assert len(found) >= 20 * passes - 1  # the images need no gradient
        assert all(told == asked for told in found)
    products = [set(told) for told in precisions(step, "dot_general")]
    assert asked in products
    assert all(told in (asked, {jax.lax.Precision.HIGHEST}) for told in products)  # crops always have float32
