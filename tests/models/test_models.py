"""Tests the networks against PyTorch: forward passes, gradients, running statistics, initialisation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import scipy.stats
from flax import linen as nn
from flax import traverse_util
from jax.extend.core import ClosedJaxpr, Jaxpr

from ucl_jax.models.architectures import ARCHITECTURES
from ucl_jax.models.heads import MLP, Network
from ucl_jax.models.layers import BatchNorm, Conv, Dense, GroupNormMish
from ucl_jax.models.progressive import Column, Lateral, Progressive
from ucl_jax.models.resnet import CIFAR, IMAGENET, MAPS, ResNet18
from ucl_jax.objectives import losses

WIDTH, HIDDEN, OUTPUT, BOTTLENECK = 4, 24, 16, 8  # sizes of the golden network


def wave(shape, offset):
    """Returns numbers in [-1, 1], the same as in tests/golden_torch.py."""
    index = np.arange(np.prod(shape, dtype=int), dtype=np.float64)
    return np.sin(0.31 * index * index + 0.7 * index + offset).reshape(shape)


def make_network(dtype=jnp.float32):
    return Network(ResNet18(WIDTH, dtype), MLP(HIDDEN, OUTPUT, dtype, norm="all"), MLP(BOTTLENECK, dtype=dtype))


# These translate this package's names to those of tests/golden_torch.py.
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def torch_name(path):
    return ".".join(part for part in path[:-1] if part not in ("conv", "dense")) + "." + LEAVES[path[-1]]


def to_torch(x):
    """Transposes HWIO to OIHW, and [in, out] to [out, in]."""
    return np.transpose(x, (3, 2, 0, 1) if x.ndim == 4 else (1, 0) if x.ndim == 2 else (0,))


def from_torch(x):
    return np.transpose(x, (2, 3, 1, 0) if x.ndim == 4 else (1, 0) if x.ndim == 2 else (0,))


def golden_value(path, shape):
    """Returns the value that `fill` of tests/golden_torch.py gives to a parameter or statistic."""
    name = torch_name(path)
    shape = to_torch(np.empty(shape)).shape
    noise = wave(shape, float(sum(map(ord, name))))
    if len(shape) > 1:
        value = 2.0 / np.sqrt(np.prod(shape[1:])) * noise
    elif name.endswith(("norm.weight", "running_var")):
        value = 1.0 + 0.3 * noise
    else:
        value = 0.2 * noise
    return jnp.asarray(from_torch(value), jnp.float32)


def golden_variables(network, shape):
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros(shape), train=True))
    flat = {path: golden_value(path[1:], leaf.shape) for path, leaf in traverse_util.flatten_dict(variables).items()}
    return traverse_util.unflatten_dict(flat)


def golden_views():
    return [jnp.asarray(wave((6, 3, 16, 16), offset).transpose(0, 2, 3, 1), jnp.float32) for offset in (3.0, 4.0)]


# The whole network. All numbers come from tests/golden_torch.py (PyTorch 2.13.0, CPU, float64).

EVAL_FEATURES = [21.8250839, 2.4921307, 14.0834204, 5.8070669, 15.9244038, 0.060748]
EVAL_PROJECTION = [21.3810746, -13.3607162, -49.7100145, -33.9846355, 5.8525296, -13.7435905]
EVAL_PREDICTION = [-4.8549151, 108.9400631, 24.1418242, 24.4734338, -3.0760148, -79.9158125]
TRAIN_FEATURES = [0.5083694, 1.2783111, 1.0491334, 0.6118343, 0.9816238, 0.6715635]
TRAIN_PROJECTION = [0.4531636, 0.1135975, -2.5019059, -1.1953637, 1.3005837, -1.6768114]
TRAIN_PREDICTION = [1.1586947, 0.4021947, 0.0917178, -0.6541512, -0.0737056, -0.1483396]
LOSS = -0.0312154
GRADIENTS = {  # the norm, and the product with wave(shape, 0.5) in PyTorch's layout
    "backbone.stem.weight": [5.0832651, 0.686096],
    "backbone.stem_norm.weight": [0.7060754, -0.3304454],
    "backbone.stage2_block1.first.weight": [1.9852446, -2.6228016],
    "backbone.stage3_block1.shortcut.weight": [0.653549, -0.3043534],
    "backbone.stage4_block2.second_norm.bias": [0.0644889, 0.0563871],
    "projector.hidden.weight": [0.5617616, -0.0105922],
    "projector.output_norm.weight": [0.1130762, -0.0447772],
    "predictor.hidden.weight": [0.2611557, 0.0351184],
    "predictor.output.bias": [0.0987778, 0.1310973],
}
STATISTICS = {  # the first four numbers, after both views
    "backbone.stem_norm.running_mean": [0.1291594, 0.1478693, -0.0708886, -0.0589085],
    "backbone.stem_norm.running_var": [1.1818509, 1.1656592, 0.8601929, 0.886012],
    "backbone.stage4_block1.shortcut_norm.running_var": [1.3177796, 1.0879427, 0.8417013, 1.337995],
    "projector.hidden_norm.running_mean": [0.2191354, -0.1123166, -0.4797509, -0.0213592],
    "projector.output_norm.running_var": [0.8704865, 0.7125345, 0.9378766, 1.1602728],
    "predictor.hidden_norm.running_var": [1.1087553, 1.3937137, 1.270709, 1.2777856],
}


@pytest.fixture(scope="module")
def golden():
    return golden_variables(make_network(), (6, 16, 16, 3))


@pytest.fixture(scope="module")
def trained(golden):
    """Computes a SimSiam step without its update: outputs of the first view, loss, gradients, last statistics."""
    network, views = make_network(), golden_views()

    @jax.jit
    def step(params, state):
        def loss(params):
            first, updated = network.apply({"params": params, **state}, views[0], True, mutable=["batch_stats"])
            second, updated = network.apply({"params": params, **updated}, views[1], True, mutable=["batch_stats"])
            one = losses.negative_cosine(first.prediction, second.projection)
            two = losses.negative_cosine(second.prediction, first.projection)
            return one / 2 + two / 2, (first, updated["batch_stats"])

        return jax.value_and_grad(loss, has_aux=True)(params)

    (loss, (first, statistics)), gradients = step(golden["params"], {"batch_stats": golden["batch_stats"]})
    return first, loss, named(gradients), named(statistics)


def named(tree):
    return {torch_name(path): np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(tree).items()}


def test_evaluation_mode_equals_pytorch(golden):
    network = make_network()
    out = jax.jit(lambda images: network.apply(golden, images, False))(golden_views()[0])
    np.testing.assert_allclose(out.features[0, :6], EVAL_FEATURES, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out.projection[1, :6], EVAL_PROJECTION, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out.prediction[2, :6], EVAL_PREDICTION, rtol=1e-4, atol=1e-4)
    assert out.logits == ()
    np.testing.assert_array_equal(out.output, out.projection)


def test_training_mode_equals_pytorch(trained):
    first, loss, _, _ = trained
    np.testing.assert_allclose(first.features[0, :6], TRAIN_FEATURES, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(first.projection[1, :6], TRAIN_PROJECTION, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(first.prediction[2, :6], TRAIN_PREDICTION, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(loss, LOSS, atol=1e-5)


def test_gradients_equal_pytorchs(trained):
    _, _, gradients, _ = trained
    for name, expected in GRADIENTS.items():
        gradient = to_torch(gradients[name]).astype(np.float64)
        two = [np.linalg.norm(gradient), np.sum(gradient * wave(gradient.shape, 0.5))]
        np.testing.assert_allclose(two, expected, rtol=1e-3, atol=1e-4, err_msg=name)


def test_running_statistics_equal_pytorchs(trained):
    _, _, _, statistics = trained
    for name, expected in STATISTICS.items():
        np.testing.assert_allclose(statistics[name][:4], expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_without_a_predictor_there_is_no_prediction_and_the_rest_is_the_same(golden):
    network = Network(ResNet18(WIDTH), MLP(HIDDEN, OUTPUT, norm="all"))
    variables = golden_variables(network, (6, 16, 16, 3))
    assert set(variables["params"]) == {"backbone", "projector"}
    out = jax.jit(lambda images: network.apply(variables, images, False))(golden_views()[0])
    assert out.prediction == ()
    np.testing.assert_allclose(out.projection[1, :6], EVAL_PROJECTION, rtol=1e-4, atol=1e-4)


class Mean(nn.Module):
    """A backbone without parameters: its feature is the mean colour."""

    def __call__(self, x, train):
        return jnp.mean(x, axis=(1, 2))


@pytest.mark.parametrize("projector", [False, True])
def test_a_linear_head_reads_the_projection_or_else_the_features(projector):
    mlp = {"projector": MLP(5, 4, norm="all")} if projector else {}
    network = Network(Mean(), **mlp, head=Dense(7, jnp.bfloat16))
    images = jnp.asarray(wave((6, 2, 2, 3), 1.0), jnp.float32)
    variables = jax.tree.map(lambda x: x + 0.1, network.init(jax.random.key(0), images, True))
    out = network.apply(variables, images, False)
    np.testing.assert_allclose(out.features, images.mean(axis=(1, 2)), rtol=1e-5)
    assert out.prediction == ()
    assert isinstance(out.projection, tuple) == (not projector)
    weight = jax.tree.map(np.asarray, variables["params"]["head"]["dense"])
    x = np.asarray(out.projection if projector else out.features)
    # bfloat16 has 8 bits. The head returns float32, whatever type it computes in.
    np.testing.assert_allclose(out.logits, x @ weight["kernel"] + weight["bias"], rtol=0.03, atol=0.02)
    assert out.logits.dtype == jnp.float32
    np.testing.assert_array_equal(out.output, out.logits)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("norm", ["none", "hidden", "all"])
@pytest.mark.parametrize("unit_output", [False, True])
def test_layers_of_an_mlp_by_hand(layers, norm, unit_output):
    network = MLP(5, 4, layers=layers, norm=norm, unit_output=unit_output)
    x = 3.0 * wave((6, 3), 1.0)
    variables = network.init(jax.random.key(0), jnp.asarray(x, jnp.float32), True)
    variables = jax.tree.map(lambda leaf: leaf + jnp.asarray(0.3 * wave(leaf.shape, 2.0), jnp.float32), variables)
    out, _ = network.apply(variables, jnp.asarray(x, jnp.float32), True, mutable=["batch_stats"])

    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    names = [*("hidden", "hidden2")[: layers - 1], "output"]
    normed = {"none": [], "hidden": names[:-1], "all": names}[norm]
    assert set(params) == {*names, *(f"{name}_norm" for name in normed)}
    for name in names:
        x = x @ params[name]["dense"]["kernel"] + params[name]["dense"]["bias"]
        if name in normed:
            x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
            x = x * params[f"{name}_norm"]["scale"] + params[f"{name}_norm"]["bias"]
        if name != "output":
            x = np.maximum(x, 0)
    expected = x / np.linalg.norm(x, axis=1, keepdims=True) if unit_output else x
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


# The network of Osiris' code.


@pytest.mark.parametrize(("channels", "groups"), [(8, 2), (256, 32)])
def test_group_norm_and_mish(channels, groups):
    x, residual = (np.float32(wave((3, 2, 5, channels), offset)) for offset in (1.0, 2.0))
    scale, bias = 1 + 0.3 * wave((channels,), 3.0), wave((channels,), 4.0)
    norm = GroupNormMish()
    variables = norm.init(jax.random.key(0), x, True, residual)
    assert "batch_stats" not in variables
    assert not np.any(variables["params"]["group"]["scale"])  # a block starts as its shortcut
    assert np.all(norm.init(jax.random.key(0), x, True)["params"]["group"]["scale"] == 1)
    given = {"params": {"group": {"scale": jnp.float32(scale), "bias": jnp.float32(bias)}}}
    out = norm.apply(given, x, True, residual, True)
    grouped = np.float64(x).reshape(3, 10, groups, channels // groups)
    centred = grouped - grouped.mean((1, 3), keepdims=True)
    normal = centred / np.sqrt((centred**2).mean((1, 3), keepdims=True) + 1e-5)
    total = normal.reshape(x.shape) * scale + bias + residual
    np.testing.assert_allclose(out, total * np.tanh(np.log1p(np.exp(total))), rtol=1e-4, atol=1e-5)


def test_network_with_group_norm_sees_each_image_alone():
    (architecture,) = ARCHITECTURES["resnet18_group_norm"](1, WIDTH, jnp.float32, None, "cpu")
    network = architecture.build(lambda: {"projector": MLP(HIDDEN, OUTPUT, norm="none")})
    images = golden_views()[0]
    variables = network.init(jax.random.key(0), images, True)
    assert set(variables) == {"params"}
    forward = jax.jit(network.apply, static_argnums=2)
    together = forward(variables, images, True).projection
    np.testing.assert_allclose(forward(variables, images[:2], False).projection, together[:2], rtol=1e-4, atol=1e-5)
    assert np.std(together, axis=0).max() > 1e-3


# Sizes.


def test_resnet18_has_the_official_number_of_parameters():
    shapes = jax.eval_shape(lambda: ResNet18().init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=True))
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes["params"]))
    # models/backbones/ResNet18.py of divyam3897/UCL ends with "# 11173962", counted with a head of 512 * 10 + 10.
    assert count == 11_173_962 - (512 * 10 + 10) == 11_168_832
    # Each batch norm has a mean and a variance for each channel; 5 each have 64, 128, 256 and 512 channels.
    statistics = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes["batch_stats"]))
    assert statistics == 2 * 5 * (64 + 128 + 256 + 512)


@pytest.mark.parametrize(("size", "last"), [(32, 4), (64, 8), (17, 3)])
def test_sizes_of_the_feature_maps(size, last):
    """Checks that maps are halved three times, rounded up: the stem has no stride, and only the end is pooled."""
    network = ResNet18(width=16)

    def forward():
        images = jnp.zeros((2, size, size, 3))
        return network.init_with_output(jax.random.key(0), images, True, capture_intermediates=True)

    features, variables = jax.eval_shape(forward)
    assert features.shape == (2, 128)
    assert features.dtype == jnp.float32
    maps = {name: leaf["__call__"][0].shape for name, leaf in variables["intermediates"].items() if name != "__call__"}
    assert maps["stem"] == maps["stage1_block2"] == (2, size, size, 16)
    assert maps["stage2_block1"] == maps["stage2_block2"] == (2, -(-size // 2), -(-size // 2), 32)
    assert maps["stage3_block2"] == (2, -(-size // 4), -(-size // 4), 64)
    assert maps["stage4_block2"] == (2, last, last, 128)
    assert sorted(maps) == sorted(
        ["stem", "stem_norm", *(f"stage{stage}_block{block}" for stage in (1, 2, 3, 4) for block in (1, 2))]
    )


@pytest.mark.parametrize(
    ("stem", "sizes"),
    [
        (CIFAR._replace(padding=2), {"stem": 34, "stage1": 34, "stage2": 17, "stage3": 9, "stage4": 5}),
        (IMAGENET, {"stem": 8, "stage1": 8, "stage2": 4, "stage3": 2, "stage4": 1}),
    ],
    ids=["padding2", "imagenet"],
)
def test_sizes_of_the_feature_maps_behind_other_stems(stem, sizes):
    """Checks the maps of 32 pixels: CaSSLe's code has 34 after the stem, and torchvision's stem leaves a quarter."""
    network, images = ResNet18(width=4, beginning=stem), jnp.zeros((2, 32, 32, 3))
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), images, True))
    maps = jax.eval_shape(lambda v: network.apply(v, images, False, mutable=[MAPS])[1][MAPS], variables)
    assert {name.removesuffix("_map"): map_.shape[1] for name, (map_,) in maps.items()} == sizes


@pytest.mark.parametrize("stem", [CIFAR, CIFAR._replace(padding=2), IMAGENET], ids=["cifar", "padding2", "imagenet"])
def test_a_stem_is_a_convolution_a_norm_and_perhaps_a_pool(stem):
    network = ResNet18(width=5, beginning=stem)
    images = np.random.default_rng(0).normal(size=(2, 11, 11, 3)).astype(np.float32)
    got, variables = network.init_with_output(jax.random.key(0), images, False, method="begin")
    kernel = variables["params"]["stem"]["conv"]["kernel"]
    assert kernel.shape == (stem.kernel, stem.kernel, 3, 5)
    padded = np.pad(images, ((0, 0), (stem.padding,) * 2, (stem.padding,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (stem.kernel, stem.kernel), (1, 2))
    # Running statistics are fresh: mean 0, variance 1.
    want = np.einsum("byxcij,ijcf->byxf", windows[:, :: stem.stride, :: stem.stride], kernel) / np.sqrt(1 + 1e-5)
    want = np.maximum(want, 0)
    if stem.pool:
        around = np.pad(want, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        want = np.lib.stride_tricks.sliding_window_view(around, (3, 3), (1, 2))[:, ::2, ::2].max((-1, -2))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_sizes_of_the_heads():
    network = Network(ResNet18(width=4), MLP(2048, 2048, norm="all"), MLP())
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((2, 8, 8, 3)), train=True))
    shapes = {name: leaf.shape for name, leaf in named_shapes(variables["params"]).items() if "backbone" not in name}
    assert shapes == {  # Madaan et al. 2022: 2048 hidden and out; SimSiam: 512 between, no norm after the predictor
        "projector.hidden.weight": (32, 2048), "projector.hidden.bias": (2048,),
        "projector.output.weight": (2048, 2048), "projector.output.bias": (2048,),
        "predictor.hidden.weight": (2048, 512), "predictor.hidden.bias": (512,),
        "predictor.output.weight": (512, 2048), "predictor.output.bias": (2048,),
        "projector.hidden_norm.bias": (2048,), "projector.hidden_norm.weight": (2048,),
        "projector.output_norm.bias": (2048,), "projector.output_norm.weight": (2048,),
        "predictor.hidden_norm.bias": (512,), "predictor.hidden_norm.weight": (512,),
    }  # fmt: skip


def named_shapes(tree):
    return {torch_name(path): leaf for path, leaf in traverse_util.flatten_dict(tree).items()}


# Progressive networks.

COLUMNS, NARROW = 3, 2


def progressive(column):
    return Progressive(tuple(Network(Column(NARROW), MLP(6, 5, norm="all")) for _ in range(COLUMNS)), column)


@functools.cache
def columns():
    """Returns parameters and statistics of all columns, with random numbers added, as if they had been trained."""
    network = progressive(0)
    variables = jax.jit(lambda: network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), True))()
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: np.asarray(x) + rng.uniform(0, 0.2, x.shape).astype(np.float32), variables)


def some_images():
    return jnp.asarray(wave((4, 8, 8, 3), 3.0), jnp.float32)


@functools.cache
def running(column):
    """Compiles the forward pass in training mode: variables -> (Embedding, statistics after it)."""

    def forward(variables):
        out, updated = progressive(column).apply(variables, some_images(), True, mutable=["batch_stats"])
        return out, updated["batch_stats"]

    return jax.jit(forward)


def with_other_column(variables, column, collection="params"):
    """Returns the variables with every number of one column changed."""
    name = f"networks_{column}"
    branch = jax.tree.map(lambda x: 1.3 * x + 0.05, variables[collection][name])
    return {**variables, collection: {**variables[collection], name: branch}}


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_column_depends_on_those_before_it_and_on_none_after():
    variables, forward = columns(), running(1)
    out, _ = forward(variables)
    assert np.abs(out.features).max() > 0.1
    for collection in ("params", "batch_stats"):
        changed, _ = forward(with_other_column(variables, 0, collection))
        assert np.abs(changed.features - out.features).max() > 1e-3, collection
        assert_same(forward(with_other_column(variables, 2, collection))[0], out)
    assert np.abs(forward(with_other_column(variables, 1))[0].features - out.features).max() > 1e-3
    # A column's own running statistics do not count in training mode, which takes those of the batch.
    assert_same(forward(with_other_column(variables, 1, "batch_stats"))[0], out)


def test_only_the_column_in_use_updates_its_statistics_and_those_before_keep_theirs_to_the_bit():
    variables = columns()
    _, state = running(1)(variables)
    before = variables["batch_stats"]
    assert jax.tree.structure(state) == jax.tree.structure(before)
    for column in ("networks_0", "networks_2"):
        assert_same(state[column], before[column])
    flat, old = (traverse_util.flatten_dict(tree["networks_1"]) for tree in (state, before))
    assert len(flat) == 2 * (20 + 2)  # batch norms of the ResNet-18 and of the projector
    for path, value in flat.items():
        assert (np.asarray(value) != old[path]).all(), path


def test_a_column_reads_the_earlier_ones_through_its_laterals_alone():
    """Checks that a column whose laterals have scales of 0, or that has none, equals a ResNet-18."""
    variables = columns()
    (first, _), (second, _) = running(0)(variables), running(1)(variables)
    images = some_images()

    @jax.jit
    def alone(params, state):
        variables = {"params": params, "batch_stats": state}
        return Network(ResNet18(NARROW), MLP(6, 5, norm="all")).apply(variables, images, True, mutable=["batch_stats"])[
            0
        ]

    def network(column):
        both = (variables[c][f"networks_{column}"] for c in ("params", "batch_stats"))
        return [{**tree, "backbone": tree["backbone"]["resnet"]} for tree in both]

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), first, alone(*network(0)))
    own = alone(*network(1))
    assert np.abs(second.features - own.features).max() > 1e-2
    branch = variables["params"]["networks_1"]
    silent = {
        name: {**value, "scale": np.zeros(1, np.float32)} if name.startswith("laterals") else value
        for name, value in branch["backbone"].items()
    }
    assert sum(name.startswith("laterals") for name in silent) == 3
    params = {**variables["params"], "networks_1": {**branch, "backbone": silent}}
    quiet, _ = running(1)({**variables, "params": params})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), quiet, own)


def test_a_column_equals_stages_of_a_resnet_with_laterals_added():
    """Checks that the second column equals stages of a ResNet18 with Laterals added.

    The first column runs with its running statistics.
    """
    variables = columns()
    out, _ = running(1)(variables)

    def column(params, state, earlier, train):
        network = {"params": params["backbone"]["resnet"], "batch_stats": state["backbone"]["resnet"]}

        def run(*args, method):
            return ResNet18(NARROW).apply(network, *args, train, method=method, mutable=["batch_stats"])[0]

        maps = [run(1, run(some_images(), method="begin"), method="stage")]
        for number in (2, 3, 4):
            x = run(number, maps[-1], method="stage")
            if earlier:
                weights = {"params": params["backbone"][f"laterals_{number - 2}"]}
                added = Lateral(NARROW * 2 ** (number - 1)).apply(weights, [earlier[number - 2]])
                x = jnp.maximum(x + added, 0.0)
            maps.append(x)
        return maps

    @jax.jit
    def both(params, state):
        first = column(params["networks_0"], state["networks_0"], None, False)
        return column(params["networks_1"], state["networks_1"], first, True)

    maps = both(variables["params"], variables["batch_stats"])
    assert [x.shape for x in maps] == [(4, 8, 8, 2), (4, 4, 4, 4), (4, 2, 2, 8), (4, 1, 1, 16)]
    np.testing.assert_allclose(out.features, np.mean(maps[-1], axis=(1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_lateral_equals_numpy(count):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(count, 2, 5, 6, 2))
    scale, reduce, project = rng.normal(size=count), rng.normal(size=(2 * count, 2)), rng.normal(size=(3, 3, 2, 4))
    params = {
        "scale": scale,
        "reduce": {"conv": {"kernel": reduce[None, None]}},
        "project": {"conv": {"kernel": project}},
    }
    initial = Lateral(4).init(jax.random.key(0), [jnp.zeros(maps.shape[1:])] * count)["params"]
    assert jax.tree.map(np.shape, initial) == jax.tree.map(np.shape, params)
    assert ((np.asarray(initial["scale"]) > 0) & (np.asarray(initial["scale"]) < 0.1)).all()
    float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
    out = Lateral(4).apply({"params": jax.tree.map(float32, params)}, [float32(x) for x in maps])

    hidden = np.zeros((2, 5, 6, 2))
    for k in range(count):
        hidden += np.einsum("bhwc,cd->bhwd", scale[k] * maps[k], reduce[2 * k : 2 * k + 2])
    hidden = np.pad(np.maximum(hidden, 0.0), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((2, 3, 3, 4))
    for y in range(3):
        for x in range(3):
            window = hidden[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
            expected[:, y, x] = np.einsum("bhwc,hwcd->bd", window, project)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_a_phase_trains_its_own_column():
    params = columns()["params"]
    phases = ARCHITECTURES["progressive"](COLUMNS, NARROW, jnp.float32, None, "cpu")
    assert len(phases) == COLUMNS
    for phase, architecture in enumerate(phases):
        active = architecture.active(params)
        assert jax.tree.structure(active) == jax.tree.structure(params)
        for column in range(COLUMNS):
            name = f"networks_{column}"
            assert_same(active[name], params[name] if column == phase else jax.tree.map(np.zeros_like, params[name]))
        network = architecture.build(lambda: {"projector": MLP(6, 5, norm="all")})
        assert network == progressive(phase)
    # With one network for all tasks, all of it is trained.
    (only,) = ARCHITECTURES["resnet18"](COLUMNS, NARROW, jnp.float32, None, "cpu")
    assert only.active(params) is params
    projector = MLP(6, 5, norm="all")
    assert only.build(lambda: {"projector": projector}) == Network(ResNet18(NARROW), projector)


def test_sizes_and_names_of_all_columns():
    """Checks that every phase has all columns from the start, so that the states of a run have one structure."""
    width, tasks = 64, 3

    def build(heads):
        return [phase.build(heads) for phase in ARCHITECTURES["progressive"](tasks, width, jnp.float32, None, "cpu")]

    networks = build(lambda: {"head": Dense(100)})
    shapes = [jax.eval_shape(lambda n=n: n.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), True)) for n in networks]
    assert shapes[0] == shapes[1] == shapes[2]
    assert set(shapes[0]["params"]) == set(shapes[0]["batch_stats"]) == {f"networks_{t}" for t in range(tasks)}
    for column in range(tasks):
        branch = shapes[0]["params"][f"networks_{column}"]
        assert set(branch) == {"backbone", "head"}
        names = {"resnet", "laterals_0", "laterals_1", "laterals_2"} if column else {"resnet"}
        assert set(branch["backbone"]) == names
        count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(branch))
        # A column has the official ResNet-18 (see above) and its head. A lateral into stage 2, 3 or 4 has k scales, a
        # 1x1 convolution from k * c to c channels, and a 3x3 one to 2 c.
        laterals = sum(column + column * c * c + 9 * c * 2 * c for c in (64, 128, 256)) if column else 0
        assert count == 11_168_832 + 512 * 100 + 100 + laterals
        statistics = jax.tree.leaves(shapes[0]["batch_stats"][f"networks_{column}"])
        assert sum(int(np.prod(leaf.shape)) for leaf in statistics) == 2 * 5 * (64 + 128 + 256 + 512)


def test_columns_start_with_numbers_of_their_own():
    variables = jax.jit(lambda: progressive(1).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), True))()
    kernels = [
        np.ravel(
            variables["params"][f"networks_{column}"]["backbone"]["resnet"]["stage4_block2"]["first"]["conv"]["kernel"]
        )
        for column in range(COLUMNS)
    ]
    assert np.abs(np.corrcoef(kernels) - np.eye(COLUMNS)).max() < 0.1


# Initialisation.


@pytest.mark.parametrize(("kernel", "channels", "features"), [(3, 16, 64), (1, 64, 96), (3, 64, 16)])
def test_convolutions_start_normal_with_the_variance_of_fan_out(kernel, channels, features):
    """Checks that kernels start normal with a deviation of sqrt(2 / (k * k * out)).

    This is torchvision's kaiming_normal_(mode="fan_out", nonlinearity="relu").
    """
    params = Conv(features, kernel).init(jax.random.key(0), jnp.zeros((1, 8, 8, channels)))["params"]
    (weight,) = jax.tree.leaves(params)
    assert weight.shape == (kernel, kernel, channels, features)
    law = scipy.stats.norm(scale=np.sqrt(2 / (kernel * kernel * features)))
    assert scipy.stats.kstest(np.ravel(weight), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize(("inputs", "features"), [(64, 200), (400, 400)])
def test_dense_layers_start_as_pytorchs(inputs, features):
    """Checks that weight and bias start uniform within 1 / sqrt(in), as those of torch.nn.Linear."""
    params = Dense(features).init(jax.random.key(0), jnp.zeros((1, inputs)))["params"]["dense"]
    law = scipy.stats.uniform(-(inputs**-0.5), 2 * inputs**-0.5)
    for name, shape in (("kernel", (inputs, features)), ("bias", (features,))):
        assert params[name].shape == shape
        assert np.abs(params[name]).max() <= inputs**-0.5
        assert scipy.stats.kstest(np.ravel(params[name]), law.cdf).pvalue > 1e-3, name


def test_initialisation_of_a_whole_network_leaves_the_norms_at_1_0_0_1_and_uses_a_key_for_each_layer():
    network = make_network()
    init = jax.jit(lambda key: network.init(key, jnp.ones((1, 8, 8, 3)), train=True))
    variables = init(jax.random.key(0))
    flat = {".".join(path): np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(variables).items()}
    constant = {"scale": 1.0, "mean": 0.0, "var": 1.0}
    for name, value in flat.items():
        kind = name.rpartition(".")[2]
        if "norm" in name:
            np.testing.assert_array_equal(value, np.full(value.shape, constant.get(kind, 0.0)), err_msg=name)
    kernels = [value.ravel() for name, value in flat.items() if name.endswith("kernel")]
    assert len(kernels) == 20 + 4
    for i, a in enumerate(kernels):
        for b in kernels[:i]:  # two layers that shared a key would be in proportion
            n = min(a.size, b.size)
            assert abs(np.corrcoef(a[:n], b[:n])[0, 1]) < 0.6


# Layers.


# A norm, and a convolution with a 1x1 kernel, is computed in another way on accelerators, which a CPU can do too.
PLATFORMS = pytest.mark.parametrize("platform", ["cpu", "cuda"])


@PLATFORMS
@pytest.mark.parametrize("axes", [(6, 5), (4, 3, 2, 5)], ids=["dense", "image"])
def test_batch_norm_equals_numpy(axes, platform):
    """Checks that the biased variance normalises, and the unbiased one is kept with momentum 0.1, as in torch.nn."""
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 3.0, size=axes)
    scale, bias, mean, var = rng.normal(size=(4, 5)) + np.array([[1.0], [0.0], [0.0], [6.0]])
    variables = jax.tree.map(
        lambda v: jnp.asarray(v, jnp.float32),
        {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": var}},
    )
    rows = x.reshape(-1, 5)

    norm = BatchNorm(platform=platform)
    out, updated = norm.apply(variables, jnp.asarray(x, jnp.float32), True, mutable=["batch_stats"])
    expected = (x - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5) * scale + bias
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
    statistics = updated["batch_stats"]
    np.testing.assert_allclose(statistics["mean"], 0.9 * mean + 0.1 * rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics["var"], 0.9 * var + 0.1 * rows.var(0, ddof=1), rtol=1e-5)

    out, updated = norm.apply(variables, jnp.asarray(x, jnp.float32), False, mutable=["batch_stats"])
    np.testing.assert_allclose(out, (x - mean) / np.sqrt(var + 1e-5) * scale + bias, rtol=1e-4, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])


@PLATFORMS
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [False, True], ids=["alone", "residual"])
def test_batch_norm_has_the_gradient_of_its_formula_on_any_number_of_devices(relu, added, platform):
    """Checks output, statistics and gradients, on one device and on four, against the formula in float64.

    JAX differentiates the formula, so that nothing of the layer is used.
    """
    rng = np.random.default_rng(1)
    x, residual, target = rng.normal(2.0, 3.0, size=(3, 8, 2, 2, 3))
    inputs = {"x": x, "scale": rng.normal(size=3), "bias": rng.normal(size=3)} | (
        {"residual": residual} if added else {}
    )

    def formula(inputs):
        axes = (0, 1, 2)
        x, scale, bias = inputs["x"], inputs["scale"][None, None, None], inputs["bias"][None, None, None]
        y = (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + 1e-5) * scale + bias
        y = y + inputs["residual"] if added else y
        return jnp.maximum(y, 0) if relu else y

    with jax.enable_x64(True):
        wide = jax.tree.map(jnp.asarray, inputs)
        expected = np.asarray(formula(wide))
        gradient = jax.tree.map(np.asarray, jax.grad(lambda inputs: jnp.mean((formula(inputs) - target) ** 2))(wide))

    def loss(inputs, target, axis_name):
        variables = BatchNorm().init(jax.random.key(0), inputs["x"], True)
        variables["params"] = {name: inputs[name] for name in ("scale", "bias")}
        out, updated = BatchNorm(axis_name, platform=platform).apply(
            variables, inputs["x"], True, inputs.get("residual"), relu, mutable=["batch_stats"]
        )
        return jnp.mean(jnp.square(out - target)), (out, updated["batch_stats"])

    def check(out, statistics, found):
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(statistics["mean"], 0.1 * x.mean((0, 1, 2)), rtol=1e-5)
        np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * x.reshape(-1, 3).var(0, ddof=1), rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), found, gradient)

    narrow, target32 = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), (inputs, target))
    (_, (out, statistics)), found = jax.value_and_grad(loss, has_aux=True)(narrow, target32, None)
    check(out, statistics, found)

    def step(inputs, target):
        (_, aux), gradient = jax.value_and_grad(loss, has_aux=True)(inputs, target, "devices")
        return aux, gradient

    def split(v):
        return v.reshape(4, 2, 2, 2, 3)

    axes = {name: 0 if v.ndim == 4 else None for name, v in narrow.items()}
    shares = {name: split(v) if v.ndim == 4 else v for name, v in narrow.items()}
    (outs, of_devices), parts = jax.pmap(step, axis_name="devices", in_axes=(axes, 0))(shares, split(target32))
    # The loss is the mean of the four devices' losses. Each adds its own examples to the gradients of scale and bias.
    joined = {name: v.mean(0) if axes[name] is None else v.reshape(8, 2, 2, 3) / 4 for name, v in parts.items()}
    for device in range(4):
        check(outs.reshape(8, 2, 2, 3), jax.tree.map(lambda v, d=device: v[d], of_devices), joined)


@PLATFORMS
@pytest.mark.parametrize("places", [(), (4, 4)], ids=["dense", "image"])
def test_batch_norm_does_not_cancel_far_from_zero(places, platform):
    """Checks the variance far from zero, where mean of squares minus squared mean has no digit left in float32."""
    x = np.random.default_rng(0).normal(5000.0, 0.5, size=(64, *places, 3)).astype(np.float32)
    variables = BatchNorm().init(jax.random.key(0), x, True)
    wide = x.astype(np.float64)
    rows = wide.reshape(-1, 3)
    expected = (wide - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)

    def normalise(x, axis_name):
        return BatchNorm(axis_name, platform=platform).apply(variables, x, True, mutable=["batch_stats"])

    out, updated = normalise(x, None)
    outs, updates = jax.pmap(lambda x: normalise(x, "devices"), axis_name="devices")(x.reshape(4, 16, *places, 3))
    for got, statistics in ((out, updated), (outs.reshape(x.shape), jax.tree.map(lambda s: s[2], updates))):
        np.testing.assert_allclose(got, expected, atol=5e-3)
        np.testing.assert_allclose(statistics["batch_stats"]["var"], 0.9 + 0.1 * rows.var(0, ddof=1), rtol=1e-4)


def test_batch_norm_sends_as_much_whatever_the_number_of_devices():
    """Checks the sizes of all collectives, with their gradient: mean, variance, and the two means of the gradient."""
    x = jnp.ones((2, 2, 2, 3))
    variables = BatchNorm().init(jax.random.key(0), x, True)

    def loss(x):
        out, updated = BatchNorm("devices").apply(variables, x, True, mutable=["batch_stats"])
        return jnp.sum(jnp.square(out)), updated

    def sizes(devices):
        program = jax.make_jaxpr(jax.grad(loss, has_aux=True), axis_env=[("devices", devices)])(x)
        equations = equations_of(program.jaxpr)
        sent = [e for e in equations if "devices" in (e.params.get("axes") or e.params.get("axis_name") or ())]
        return [sum(v.aval.size for v in e.outvars) for e in sent]

    assert sizes(2) == sizes(256) == [3, 3, 3, 3]


@PLATFORMS
@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 1, 5), (3, 2, 6), (3, 2, 5), (1, 2, 6), (1, 2, 5)])
def test_convolution_equals_scipy_with_symmetric_padding(kernel, stride, size, platform):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(1, size, size, 2)), rng.normal(size=(kernel, kernel, 2, 3))
    params = {"params": {"conv": {"kernel": jnp.asarray(weight, jnp.float32)}}}
    out = Conv(3, kernel, stride, platform=platform).apply(params, jnp.asarray(x, jnp.float32))
    for feature in range(3):
        full = sum(
            scipy.signal.correlate2d(x[0, :, :, c], weight[:, :, c, feature], "same") for c in range(2)
        )  # "same" pads with zeros by k // 2 on every side
        np.testing.assert_allclose(out[0, :, :, feature], full[::stride, ::stride], rtol=1e-4, atol=1e-5)


# bfloat16.


def equations_of(jaxpr):
    """Yields the equations of a program of JAX, and those of all programs inside of it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda leaf: isinstance(leaf, (Jaxpr, ClosedJaxpr))):
            if isinstance(inner, (Jaxpr, ClosedJaxpr)):
                yield from equations_of(getattr(inner, "jaxpr", inner))


def test_bfloat16_keeps_parameters_and_statistics_in_float32_and_computes_in_bfloat16(golden):
    network, images = make_network(jnp.bfloat16), golden_views()[0]
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=True))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}

    def forward(variables, images):
        return network.apply(variables, images, True, mutable=["batch_stats"])

    equations = equations_of(jax.make_jaxpr(forward)(golden, images).jaxpr)
    found = [each for each in equations if each.primitive.name in ("conv_general_dilated", "dot_general")]
    assert len(found) == 24  # on a CPU some convolutions are matrix products
    for equation in found:
        assert [operand.aval.dtype for operand in equation.invars] == [jnp.bfloat16, jnp.bfloat16], equation

    out, updated = jax.jit(forward)(golden, images)
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
    assert out.features.dtype == jnp.float32
    reference, expected = jax.jit(lambda v, x: make_network().apply(v, x, True, mutable=["batch_stats"]))(
        golden, images
    )
    # bfloat16 has 8 bits, so steps of 0.4 %; over 17 layers a few of them add up.
    error = np.linalg.norm(out.features - reference.features) / np.linalg.norm(reference.features)
    assert 1e-4 < error < 0.05
    stem = "backbone", "stem_norm", "mean"
    a, b = (traverse_util.flatten_dict(s["batch_stats"])[stem] for s in (updated, expected))
    np.testing.assert_allclose(a, b, rtol=0.01, atol=1e-3)
