"""Tests official weights in this package's networks: features, losses, gradients and training equal PyTorch in float64.

The network in PyTorch has the layers and names of the official code, github.com/divyam3897/UCL at cfaa81d.
"""

import contextlib
import copy
import functools
import os
import pathlib
import pickle
import pickletools
import re
import subprocess
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.small import CLOCK
from ucl_jax import objectives
from ucl_jax.errors import UsageError
from ucl_jax.interop import torch_weights
from ucl_jax.models import architectures
from ucl_jax.types import Variables, Views

torch = pytest.importorskip("torch")
nn = torch.nn

WIDTH, SIZE, EXAMPLES, STEPS, CLASSES = 4, 12, 8, 5, 7
HIDDEN, OUTPUT, PREDICTOR = 12, 10, 6
MOMENTUM, WEIGHT_DECAY, OFF_DIAGONAL = 0.9, 5e-4, 5e-3
LEARNING_RATE = {"simsiam": 3e-3, "barlow_twins": 3e-4, "supervised": 0.03}
SETTINGS = {
    "simsiam": {"hidden_dim": HIDDEN, "output_dim": OUTPUT, "predictor_dim": PREDICTOR},
    "barlow_twins": {
        "hidden_dim": HIDDEN,
        "output_dim": OUTPUT,
        "layers": 2,
        "norm": "all",
        "off_diagonal": OFF_DIAGONAL,
        "scale": 1.0,
        "deviation": "unbiased",
    },
    "supervised": {"classes": CLASSES, "projector": False, "hidden_dim": HIDDEN, "output_dim": OUTPUT},
}
# With these seeds no input of a ReLU is so near 0 that its sign could differ between float32 and float64.
SEEDS = {"simsiam": 1, "barlow_twins": 5, "supervised": 12}


def make_objective(name, width=WIDTH, **changes):
    """Builds the objective under test; its features take images as they are."""
    (architecture,) = architectures.resnet18(1, width, jnp.float32, None, "cpu")
    augmentation = objectives.Augmentation(
        present=lambda key, image, view: image, weak=lambda key, image, view: image, plain=lambda image: image
    )
    return objectives.OBJECTIVES[name](architecture, augmentation, **SETTINGS[name] | changes)


def make_views(name, images, labels):
    """Turns images [2, B, 3, H, W] and labels [B, C] into this package's views."""
    images = jnp.asarray(images.transpose(0, 1, 3, 4, 2))
    return Views((images[0],), jnp.asarray(labels)) if name == "supervised" else Views(tuple(images), None)


@functools.cache
def like(name, **changes):
    """Returns the shapes of an objective's network, as loading weights needs them."""
    images = jax.ShapeDtypeStruct((2, SIZE, SIZE, 3), jnp.float32)
    return jax.eval_shape(make_objective(name, **changes).init, jax.eval_shape(lambda: jax.random.key(0)), images)


# The official network


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (self.downsample(x) if self.downsample else x))


class ResNet(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        inputs = width
        for stage in range(4):
            outputs = width * 2**stage
            blocks = Block(inputs, outputs, 1 + (stage > 0)), Block(outputs, outputs, 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            inputs = outputs
        self.fc = nn.Linear(inputs, classes) if classes else nn.Identity()

    def features(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x.mean(dim=(2, 3))

    def forward(self, x):
        return self.fc(self.features(x))


def linear_norm(inputs, outputs, *more):
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), *more)


class Projector(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.layer1 = linear_norm(inputs, HIDDEN, nn.ReLU())
        self.layer2 = linear_norm(HIDDEN, HIDDEN, nn.ReLU())
        self.layer3 = linear_norm(HIDDEN, OUTPUT)

    def forward(self, x):
        return self.layer3(self.layer1(x))


class Predictor(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = linear_norm(OUTPUT, PREDICTOR, nn.ReLU())
        self.layer2 = nn.Linear(PREDICTOR, OUTPUT)

    def forward(self, x):
        return self.layer2(self.layer1(x))


class Official(nn.Module):
    def __init__(self, name, width=WIDTH):
        super().__init__()
        self.backbone = ResNet(width, CLASSES if name == "supervised" else None)
        self.projector = Projector(8 * width)
        self.encoder = nn.Sequential(self.backbone, self.projector)
        self.predictor = Predictor()
        self.name = name

    def forward(self, views, labels):
        if self.name == "supervised":
            return nn.functional.cross_entropy(self.backbone(views[0]), labels)
        z = [self.encoder(view) for view in views]
        if self.name == "barlow_twins":
            a, b = ((x - x.mean(0)) / x.std(0) for x in z)
            one = torch.eye(OUTPUT, dtype=a.dtype)
            return ((one + OFF_DIAGONAL * (1 - one)) * (a.T @ b / len(a) - one) ** 2).sum()
        p = [self.predictor(x) for x in z]
        cosines = [nn.functional.cosine_similarity(p[i], z[1 - i].detach(), dim=-1).mean() for i in (0, 1)]
        return -sum(cosines) / 2


def make_official(name, seed=0, **keywords):
    """Builds the official network, with batch norms of random numbers instead of 0 and 1."""
    torch.manual_seed(seed)
    model = Official(name, **keywords)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.5, 1.5)
                for tensor in (module.bias, module.running_mean):
                    tensor.normal_(0, 0.3)
    return model


def save(model, path, prefix="module."):
    """Saves a model as the official code does: DataParallel wraps it, of which only a prefix remains."""
    state_dict = nn.DataParallel(model).state_dict() if prefix else model.state_dict()
    torch.save({"epoch": 200, "state_dict": state_dict}, path)
    return path


@functools.cache
def arrays(name, **keywords):
    """Returns an official state dict as NumPy arrays."""
    return {key: tensor.numpy() for key, tensor in make_official(name, **keywords).state_dict().items()}


def assert_same_trees(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


# The same numbers


class Trained(NamedTuple):
    """Numbers of five training steps, by official names.

    Features are in evaluation mode. Gradients and statistics are those of the first step, parameters those of the last.
    """

    features: Any
    losses: list
    gradients: dict
    statistics: dict
    parameters: dict


def inputs(seed):
    """Draws images [STEPS, 2, B, 3, H, W] and labels [STEPS, B, C]."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(STEPS, 2, EXAMPLES, 3, SIZE, SIZE)).astype(np.float32)
    images[:, 1] = images[:, 0] + 0.5 * images[:, 1]  # the two views of an image are similar
    return images, np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, (STEPS, EXAMPLES))]


def train_official(name, model, images, labels):
    """Trains the official network for five steps in float64."""
    model = copy.deepcopy(model).double()
    images, labels = torch.tensor(images).double(), torch.tensor(labels).double()
    with torch.no_grad():
        features = model.eval().backbone.features(images[0, 0]).numpy()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE[name], momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    losses = []
    model.train()
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = model(images[step], labels[step])
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            gradients = {key: p.grad.numpy().copy() for key, p in model.named_parameters() if p.grad is not None}
            statistics = {key: buffer.numpy().copy() for key, buffer in model.named_buffers()}
        optimizer.step()
    parameters = {key: p.detach().numpy() for key, p in model.named_parameters() if key in gradients}
    return Trained(features, losses, gradients, statistics, parameters)


def named(params):
    """Returns parameters, or their gradients, by official names."""
    return torch_weights.to_official(Variables(params, {"batch_stats": {}}))


def train_ours(name, network, images, labels):
    """Trains this package's network for five steps in float32."""
    objective = make_objective(name)
    optimizer = optax.chain(optax.add_decayed_weights(WEIGHT_DECAY), optax.sgd(LEARNING_RATE[name], MOMENTUM))

    @jax.jit
    def train_step(network, opt_state, image, views):
        features = objective.features(network, image).features
        (loss, aux), gradients = jax.value_and_grad(
            lambda params: objective.loss(Variables(params, network.state), views, CLOCK), has_aux=True
        )(network.params)
        updates, opt_state = optimizer.update(gradients, opt_state, network.params)
        network = Variables(optax.apply_updates(network.params, updates), aux.state)
        return network, opt_state, features, loss, gradients

    losses = []
    opt_state = optimizer.init(network.params)
    for step in range(STEPS):
        views = make_views(name, images[step], labels[step])
        image = jnp.asarray(images[step, 0].transpose(0, 2, 3, 1))
        network, opt_state, features, loss, gradients = train_step(network, opt_state, image, views)
        losses.append(loss.item())
        if step == 0:
            first = features, named(gradients), torch_weights.to_official(Variables({}, network.state))
    return Trained(first[0], losses, *first[1:], named(network.params))


@pytest.fixture(scope="module", params=SETTINGS)
def trained(request, tmp_path_factory):
    """Trains both networks from one file; returns both, and the official weights at the start."""
    name = request.param
    model = make_official(name, SEEDS[name])
    path = save(model, tmp_path_factory.mktemp("convert") / f"finetune_{name}_4.pth")
    images, labels = inputs(SEEDS[name])
    ours = train_ours(name, torch_weights.load(path, like(name)), images, labels)
    return ours, train_official(name, model, images, labels), dict(model.named_parameters())


def error(found, expected):
    """Returns the norm of the difference, relative to the norm of what is expected."""
    return np.linalg.norm(np.asarray(found, np.float64) - expected) / np.linalg.norm(expected)


def test_eval_features(trained):
    ours, theirs, _ = trained
    assert error(ours.features, theirs.features) < 1e-5


def test_losses(trained):
    ours, theirs, _ = trained
    np.testing.assert_allclose(ours.losses[0], theirs.losses[0], rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=5e-5, atol=5e-6)


def test_every_gradient(trained):
    ours, theirs, _ = trained
    assert ours.gradients.keys() == theirs.gradients.keys()
    norms = {name: np.linalg.norm(gradient) for name, gradient in theirs.gradients.items()}
    for name, expected in theirs.gradients.items():
        if norms[name] < 1e-12:  # the normalisation that follows cancels this parameter
            assert name.startswith(("projector.", "predictor.")), name
            assert np.linalg.norm(ours.gradients[name]) < 1e-5 * min(n for n in norms.values() if n > 1e-12), name
        else:
            assert error(ours.gradients[name], expected) < 1e-4, name


def test_running_statistics_after_a_step(trained):
    ours, theirs, _ = trained
    assert ours.statistics
    for name, found in ours.statistics.items():
        assert error(found, theirs.statistics[name]) < 1e-5, name


def test_parameters_after_five_steps(trained):
    ours, theirs, start = trained
    assert ours.parameters.keys() == theirs.parameters.keys()
    for name, expected in theirs.parameters.items():
        before = start[name].detach().double().numpy()
        rounding = 3e-6 * np.linalg.norm(expected)  # from five additions
        assert np.linalg.norm(ours.parameters[name] - expected) < 1e-3 * np.linalg.norm(expected - before) + rounding, (
            name
        )


# Names, shapes and trees


@contextlib.contextmanager
def refused(message, hint):
    """Checks that the block raises a Mismatch whose message matches `message`, and whose hint contains `hint`."""
    with pytest.raises(torch_weights.Mismatch, match=message) as caught:
        yield
    assert hint in torch_weights.HINTS[caught.value.hint]


@pytest.mark.parametrize("name", SETTINGS)
def test_round_trips_are_exact(name):
    official = arrays(name)
    network = torch_weights.from_official(official, like(name))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), network) == jax.tree.map(lambda x: (x.shape, x.dtype), like(name))
    back = torch_weights.to_official(network)
    assert len(back) == len(jax.tree.leaves(network))
    for key, array in back.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, official[key])
    assert_same_trees(torch_weights.from_official(back, like(name)), network)


@pytest.mark.parametrize("name", SETTINGS)
def test_torch_loads_what_is_exported(name):
    network = torch_weights.from_official(arrays(name), like(name))
    model = Official(name)
    exported = {key: torch.from_numpy(array) for key, array in torch_weights.to_official(network).items()}
    loaded = model.load_state_dict(exported, strict=False)
    assert not loaded.unexpected_keys
    ours = [f"{part}." for part in network.params] if name != "supervised" else ["backbone."]
    missing = {key for key in loaded.missing_keys if key.startswith(tuple(ours))}
    assert all(key.endswith("num_batches_tracked") or "projector.layer2" in key for key in missing)
    reference = make_official(name).eval()
    images = torch.from_numpy(inputs(1)[0][0, 0])
    with torch.no_grad():
        torch.testing.assert_close(model.eval().backbone(images), reference.backbone(images), rtol=0, atol=0)


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_both_prefixes(tmp_path, prefix):
    model = make_official("simsiam")
    path = save(model, tmp_path / "a.pth", prefix)
    assert all(key.startswith(prefix) for key in torch_weights.read_pth(path))
    expected = torch_weights.from_official(arrays("simsiam"), like("simsiam"))
    assert_same_trees(torch_weights.load(path, like("simsiam")), expected)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"model": {"state_dict": s}}])
def test_wrappings_of_a_state_dict(tmp_path, wrap):
    torch.save(wrap(make_official("supervised").state_dict()), tmp_path / "a.pth")
    found = torch_weights.read_pth(tmp_path / "a.pth")
    assert found.keys() == arrays("supervised").keys()
    assert_same_trees(found, dict(arrays("supervised")))


def test_simsiam_file_serves_barlow_twins_whose_own_has_a_predictor_too():
    params, _ = torch_weights.from_official(arrays("simsiam"), like("barlow_twins"))
    assert set(params) == {"backbone", "projector"}


@pytest.mark.parametrize(
    ("name", "changes", "message", "setting"),
    [
        (
            "simsiam",
            {"width": 8},
            r"conv1\.weight is \[4, 4, 3, 3\] in the file and \[8, 8, 3, 3\] ",
            "config.model.width",
        ),
        ("simsiam", {"hidden_dim": 9}, r"layer1\.0\.\w+ is \[12.* and \[9", "config.objective.hidden_dim"),
        ("barlow_twins", {"output_dim": 9}, r"projector\.", "output_dim"),
        ("simsiam", {"predictor_dim": 9}, r"predictor\.", "config.objective.predictor_dim"),
        ("supervised", {"classes": 9}, r"backbone\.fc\.\w+ ", "config.objective.classes"),
        ("supervised", {"projector": True}, "projector", "config.objective.projector=False"),
    ],
)
def test_other_shapes_name_the_setting(name, changes, message, setting):
    with refused(message, setting):
        torch_weights.from_official(arrays(name), like(name, **changes))


def test_reading_a_file_names_it_and_the_setting(tmp_path):
    path = save(make_official("simsiam"), tmp_path / "a.pth")
    with pytest.raises(UsageError, match=rf"^{re.escape(str(path))}: \S+conv1\.weight .* config\.model\.width "):
        torch_weights.load(path, like("simsiam", width=8))


@pytest.mark.parametrize("file", ["simsiam", "barlow_twins"])
def test_missing_entry(file):
    with refused(r"has no backbone\.fc\.\w+, for head/", "config.objective"):
        torch_weights.from_official(arrays(file), like("supervised"))


def test_missing_statistics():
    short = {key: array for key, array in arrays("simsiam").items() if key != "backbone.bn1.running_var"}
    with refused(r"has no backbone\.bn1\.running_var, for backbone/stem_norm/var", "a file of the whole network"):
        torch_weights.from_official(short, like("simsiam"))


@pytest.mark.parametrize(
    "extra", ["backbone.layer1.2.conv1.weight", "backbone.conv1.bias", "encoder.0.layer1.0.conv3.weight", "queue"]
)
def test_entry_of_another_architecture_is_refused(extra):
    with refused(rf"holds {extra}, ", "config.objective"):
        torch_weights.from_official(arrays("simsiam") | {f"module.{extra}": np.zeros(3)}, like("simsiam"))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])  # 1e39 is infinite in float32
@pytest.mark.parametrize("name", ["backbone.layer2.0.conv1.weight", "projector.layer1.1.running_var"])
def test_numbers_that_are_not_finite_name_file_and_tensor(tmp_path, name, value):
    state_dict = {key: torch.from_numpy(array.astype(np.float64)) for key, array in arrays("simsiam").items()}
    for bad in (name, "predictor.layer2.bias"):
        state_dict[bad].view(-1)[-1] = value
    torch.save(state_dict, tmp_path / "a.pth")
    with pytest.raises(UsageError, match=rf"a\.pth: {re.escape(name)} is not finite"):
        torch_weights.load(tmp_path / "a.pth", like("simsiam"))


def test_supervised_file_is_not_taken_for_an_unsupervised_one():
    with refused(r"holds backbone\.fc\.weight, ", "config.objective"):
        torch_weights.from_official(arrays("supervised"), like("simsiam"))


def test_other_architectures_are_refused():
    trees = Variables({"networks_0": {"backbone": {"resnet": {}}}}, {"batch_stats": {}})
    for convert in (
        lambda: torch_weights.from_official(arrays("simsiam"), trees),
        lambda: torch_weights.to_official(trees),
    ):
        with refused(r"^networks_0 ", "config.model.name=resnet18"):
            convert()


# Files


TENSORS = {
    "columns": lambda: torch.arange(12.0).reshape(3, 4).T,
    "middle": lambda: torch.arange(20.0)[3:15:2].reshape(2, 3),
    "parameter": lambda: nn.Parameter(torch.arange(10.0)[4:]),
    "strided": lambda: torch.arange(120).reshape(2, 3, 4, 5)[:, 1:, ::2].permute(3, 0, 2, 1),
    "scalar": lambda: torch.tensor(7),
    "empty": lambda: torch.zeros(0, 3),
    "channels_last": lambda: torch.arange(48.0).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last),
    **{
        name: lambda name=name: (torch.arange(-3, 4) / 3).to(getattr(torch, name))
        for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "bool")
    },
    "uint8": lambda: torch.arange(250, 256).to(torch.uint8),
}


def rewrite(path, **changes):
    """Changes the members of a file of torch.save.

    `changes` maps the end of a member's name to a function of its content; a member is left out if that returns None.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", changes.pop("compression", zipfile.ZIP_STORED)) as archive:
        for name, content in members.items():
            change = next((c for end, c in changes.items() if name.endswith(end)), lambda content: content)
            if (content := change(content)) is not None:
                archive.writestr(name, content)
    return path


EIGHT = np.arange(8, dtype="<f4")


def write_pickle(path, content, storage=EIGHT):
    """Writes pickled bytes into a file like one of torch.save, with one storage "0"."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", storage.tobytes())
    return path


def tensor_pickle(offset, shape, strides, storage="FloatStorage", key="0"):
    """Writes out the pickle of a state dict with one tensor `a`."""
    return (
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(("
        + b"X\x07\x00\x00\x00storagectorch\n%s\n" % storage.encode()
        + b"X\x01\x00\x00\x00%sX\x03\x00\x00\x00cpuK\x08tQ" % key.encode()
        + b"".join(pickle.dumps(x, 2)[2:-1] for x in (offset, shape, strides))
        + b"\x89}tRs."
    )


def test_tensors_of_every_kind(tmp_path):
    tensors = {name: make() for name, make in TENSORS.items()}
    torch.save({"state_dict": OrderedDict(tensors)}, tmp_path / "a.pth")
    found = torch_weights.read_pth(tmp_path / "a.pth")
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        assert str(found[name].dtype) == str(tensor.dtype).removeprefix("torch."), name
        same_kind = tensor.float().numpy() if name == "bfloat16" else tensor.numpy()
        np.testing.assert_array_equal(found[name].astype(same_kind.dtype), same_kind, err_msg=name)
        found[name][...] = 0  # writing to the array does not change the file


def test_tensors_that_share_a_storage(tmp_path):
    base = torch.arange(6.0)
    torch.save({"a": base[:3], "b": base[3:], "c": base.reshape(2, 3).T}, tmp_path / "a.pth")
    found = torch_weights.read_pth(tmp_path / "a.pth")
    assert [array.tolist() for array in found.values()] == [[0, 1, 2], [3, 4, 5], [[0, 3], [1, 4], [2, 5]]]


def test_expanded_tensors_are_read_as_they_look(tmp_path):
    tensors = {
        "a": torch.arange(3.0).expand(4, 3),
        "b": torch.tensor(7).expand(2, 3),
        "c": torch.zeros(1, 0).expand(5, 0),
    }
    torch.save(tensors, tmp_path / "a.pth")
    found = torch_weights.read_pth(tmp_path / "a.pth")
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


def test_weights_of_other_precisions_become_float32(tmp_path):
    torch.save(make_official("simsiam").to(torch.bfloat16).state_dict(), tmp_path / "a.pth")
    network = torch_weights.load(tmp_path / "a.pth", like("simsiam"))
    assert {leaf.dtype for leaf in jax.tree.leaves(network)} == {np.dtype(np.float32)}
    expected = torch.tensor(arrays("simsiam")["backbone.conv1.weight"]).bfloat16().float().numpy()
    np.testing.assert_array_equal(network.params["backbone"]["stem"]["conv"]["kernel"], expected.transpose(2, 3, 1, 0))


def test_byte_order(tmp_path):
    path = tmp_path / "a.pth"
    for tensor in (torch.arange(5.0), torch.arange(5.0).bfloat16(), torch.arange(5)):
        torch.save({"a": tensor}, path)
        rewrite(path, byteorder=lambda _: b"big", **{"data/0": lambda raw, t=tensor: swapped(raw, t.element_size())})
        assert torch_weights.read_pth(path)["a"].tolist() == [0, 1, 2, 3, 4]
    torch.save({"a": torch.arange(5.0)}, path)
    assert torch_weights.read_pth(rewrite(path, byteorder=lambda _: None))["a"].tolist() == [0, 1, 2, 3, 4]


def swapped(raw, size):
    return np.frombuffer(raw, f"u{size}").byteswap().tobytes()


class Call:
    """An object whose pickle is a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "attack",
    [
        lambda path: Call(os.system, f"touch {path}"),
        lambda path: Call(exec, f"import os; os.mkdir({str(path)!r})"),
        lambda path: Call(os.mkdir, str(path)),
        lambda path: Call(pathlib.Path.touch, path),
    ],
)
def test_pickled_code_is_not_run(tmp_path, attack):
    made = tmp_path / "made"
    for place in ("a", "epoch"):
        weights = {"a": torch.ones(3), "epoch": 3, place: attack(made)}
        torch.save({"state_dict": weights, "epoch": weights["epoch"]}, tmp_path / "a.pth")
        with pytest.raises(UsageError, match=r"a\.pth: .*state dict"):
            torch_weights.read_pth(tmp_path / "a.pth")
    assert not made.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)  # PyTorch does run the call in this file
    assert made.exists()


def test_what_a_pickle_can_reach_cannot_be_changed(tmp_path):
    good = write_pickle(tmp_path / "good.pth", tensor_pickle(2, (2,), (1,)))
    assert torch_weights.read_pth(good)["a"].tolist() == [2, 3]
    for attributes in ({"__call__": 1}, {"__defaults__": ()}, {"__code__": 2}, {"__class__": 3}, {"new": 4}):
        for state in ((None, attributes), attributes):
            pickled = pickle.dumps(state, 2)[2:-1]
            for reached in (*torch_weights.CALLABLES, ("torch", "FloatStorage")):
                content = b"\x80\x02c%s\n%s\n" % tuple(name.encode() for name in reached) + pickled + b"b."
                with pytest.raises(UsageError, match="damaged"):
                    torch_weights.read_pth(write_pickle(tmp_path / "bad.pth", content))
    assert torch_weights.read_pth(good)["a"].tolist() == [2, 3]
    for given in torch_weights.CALLABLES.values():  # none of these leads to the unpickler or to a function's code
        assert not hasattr(given, "__dict__")
        assert not hasattr(given, "__self__")
        assert not hasattr(given, "__code__")


def test_an_ordered_dict_is_made_empty_and_keeps_no_attributes(tmp_path):
    copied = pickle.dumps({"a": 1}, 2)[:-1] + b"\x85ccollections\nOrderedDict\n2R."
    with pytest.raises(UsageError, match="damaged"):
        torch_weights.read_pth(write_pickle(tmp_path / "a.pth", copied))
    state_dict = OrderedDict(a=torch.ones(2))
    state_dict._metadata, state_dict.get = OrderedDict(version=1), 5
    torch.save({"state_dict": state_dict}, tmp_path / "b.pth")
    assert torch_weights.read_pth(tmp_path / "b.pth")["a"].tolist() == [1, 1]


# Files made to exhaust the memory, the stack or the time of the process that reads them.


def nested(times, key):
    """Returns the pickle of a dict with one tensor, and with tuples nested `times` deep as a key or as a value."""
    place = b"K\x01" + b"\x85" * times + b"K\x02s" if key else b"K\x02K\x01" + b"\x85" * times + b"s"
    return tensor_pickle(0, (2,), (1,)).replace(b"\x80\x02}", b"\x80\x02}" + place)


def names_of_one_storage(count, length):
    one = tensor_pickle(0, (length,), (1,))
    name, rest = b"X\x01\x00\x00\x00a", one[len(b"\x80\x02}X\x01\x00\x00\x00a") : -1]
    return (
        b"\x80\x02}"
        + b"".join(name.replace(b"\x01", b"\x03").replace(b"a", b"%03d" % i) + rest for i in range(count))
        + b"."
    )


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r\xff\xff\xff\x01" + tensor_pickle(0, (2,), (1,))[3:],  # memo entry 2^25 - 1 would take 0.5 GB
        b"\x80\x02}p%d\n" % 2**25 + tensor_pickle(0, (2,), (1,))[3:],
        b"\x80\x05\x96" + (2**33).to_bytes(8, "little") + b".",
        b"\x80\x04\x95" + (2**33).to_bytes(8, "little") + b"}.",
        nested(1000, key=False),
    ],
)
def test_memory_is_bounded(tmp_path, content):
    path = write_pickle(tmp_path / "a.pth", content)
    tracemalloc.start()
    with pytest.raises(UsageError, match=r"a\.pth is damaged"):
        torch_weights.read_pth(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * path.stat().st_size + 2**20


def test_long_pickles_are_refused(tmp_path):
    """Checks that a pickle of a million sets is refused: each takes a byte in the file and 200 in memory."""
    path = write_pickle(tmp_path / "a.pth", b"\x80\x04" + b"\x8f" * 10**6 + b".")
    with pytest.raises(UsageError, match=r"a\.pth is damaged .*more than 200000 instructions"):
        torch_weights.read_pth(path)


def test_tensors_of_one_storage_share_its_memory(tmp_path):
    elements = 2**18
    path = write_pickle(tmp_path / "a.pth", names_of_one_storage(150, elements), np.arange(elements, dtype="<f4"))
    tracemalloc.start()
    found = torch_weights.read_pth(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 150
    assert all(array[-1] == elements - 1 for array in found.values())
    assert peak < 3 * path.stat().st_size


def test_members_that_overlap_are_refused(tmp_path):
    """Checks that a zip file of 100 entries that point to the same bytes is refused."""
    path = write_pickle(tmp_path / "a.pth", tensor_pickle(0, (2,), (1,)), np.zeros(10**4, "<f4"))
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("archive/data/0")
        for i in range(1, 100):
            again = copy.copy(first)
            again.filename = f"archive/data/{i}"
            archive.filelist.append(again)
        archive._didModify = True
    with pytest.raises(UsageError, match="members that overlap"):
        torch_weights.read_pth(path)


def test_a_storage_of_two_kinds_is_refused(tmp_path):
    other = tensor_pickle(0, (2,), (1,), storage="IntStorage")[3:].replace(b"X\x01\x00\x00\x00a", b"X\x01\x00\x00\x00b")
    content = tensor_pickle(0, (2,), (1,))[:-1] + other
    with pytest.raises(UsageError, match="the storage '0' is IntStorage and FloatStorage"):
        torch_weights.read_pth(write_pickle(tmp_path / "a.pth", content))


def test_deep_nesting_does_not_end_the_process(tmp_path):
    """Checks that neither tuples nested 190,000 deep nor a key of 2^40 tuples ends or stops the process.

    The test runs a process of its own, because an overflow of the C stack raises no exception.
    """
    doubled = nested(1, key=True).replace(b"K\x01\x85", b"K\x01" + b"2\x86" * 40)
    kind = tensor_pickle(0, (2,), (1,)).replace(b"ctorch\nFloatStorage\n", b"K\x01" + b"\x85" * 190_000)
    deep = {"key": nested(190_000, key=True), "kind": kind, "doubled": doubled}
    lists = tensor_pickle(0, (2,), (1,)).replace(b"}", b"}K\x01" + b"]" * 90_000 + b"a" * 89_999 + b"s", 1)
    paths = [str(write_pickle(tmp_path / f"{name}.pth", content)) for name, content in {**deep, "lists": lists}.items()]
    code = "import sys; from ucl_jax import convert; print([convert.main([path]) for path in sys.argv[1:]])"
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["a [2] float32 -> unknown", "[2, 2, 2, 0]"]
    assert [line.partition(" (")[0] for line in done.stderr.splitlines()] == [
        f"error: {p} is damaged" for p in paths[:3]
    ]


def test_a_file_of_the_official_code_is_far_from_the_limits(tmp_path):
    """Checks that a file of the paper's network, with all names twice and the momentum, is far from the limits."""
    model = nn.DataParallel(make_official("simsiam"))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    path = tmp_path / "a.pth"
    torch.save({"epoch": 3, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("a/data.pkl")
    assert sum(1 for _ in pickletools.genops(pickled)) < torch_weights.INSTRUCTIONS / 10
    assert len(torch_weights.read_pth(path)) == len(model.state_dict())


@pytest.mark.parametrize(
    "content",
    [
        tensor_pickle(7, (2,), (1,)),
        tensor_pickle(0, (3, 3), (4, 1)),
        tensor_pickle(-1, (2,), (1,)),
        tensor_pickle(7, (2,), (-1,)),
        tensor_pickle(0, (10**12,), (0,)),
        tensor_pickle(0, (10**4,), (0,)),
        tensor_pickle(0, (2**70,), (0,)),
        tensor_pickle(0, (-1,), (1,)),
        tensor_pickle(0, (2, 2), (1,)),
        tensor_pickle(0, (2.0,), (1,)),
        tensor_pickle(0, 2, 1),
        tensor_pickle(0, (2,), (1,), key="7"),
        b"",
        b"\x80\x02}.tail"[:3],
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        tensor_pickle(0, (2,), (1,), storage="NoStorage").replace(b"ctorch\nNoStorage\n", b"]"),
        tensor_pickle(0, (2,), (1,)).replace(b"X\x01\x00\x00\x00a", b"X\x01\x00\x00\x00\n"),
    ],
)
def test_tensors_outside_their_storage_and_damaged_pickles(tmp_path, content):
    with pytest.raises(UsageError, match=r"a\.pth is damaged") as caught:
        torch_weights.read_pth(write_pickle(tmp_path / "a.pth", content))
    assert "\n" not in str(caught.value)


def test_older_format(tmp_path):
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(UsageError, match=r"PyTorch 1\.6"):
        torch_weights.read_pth(tmp_path / "a.pth")


@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
def test_truncated_file(tmp_path, share):
    path = save(make_official("simsiam"), tmp_path / "a.pth")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UsageError, match=r"a\.pth is damaged"):
        torch_weights.read_pth(path)


def test_flipped_byte(tmp_path):
    path = save(make_official("simsiam"), tmp_path / "a.pth")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"is damaged"):
        torch_weights.read_pth(path)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(UsageError, match=rf"cannot read {re.escape(str(path))} "):
            torch_weights.read_pth(path)


@pytest.mark.parametrize(
    "content", [{"epoch": 3}, {"state_dict": {}}, [torch.ones(3)], {"state_dict": {3: torch.ones(3)}}]
)
def test_file_without_tensors(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UsageError, match=r"a\.pth: .*torch\.save"):
        torch_weights.read_pth(tmp_path / "a.pth")


def test_other_zip_files(tmp_path):
    path = tmp_path / "a.pth"
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3))
    with pytest.raises(UsageError, match=r"not of torch\.save"):
        torch_weights.read_pth(path)
    torch.save({"a": torch.ones(3)}, path)
    with pytest.raises(UsageError, match=r"it is compressed"):
        torch_weights.read_pth(rewrite(path, compression=zipfile.ZIP_DEFLATED))


# The command line


def test_listing(tmp_path, capsys):
    path = tmp_path / "a.pth"
    state_dict = nn.DataParallel(make_official("supervised")).state_dict()
    torch.save({"state_dict": state_dict | {"module.queue": torch.ones(2, 3)}}, path)
    assert torch_weights.main([str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(state_dict) + 1
    for line in (
        "module.backbone.conv1.weight [4, 3, 3, 3] float32 -> backbone/stem/conv/kernel",
        "module.backbone.layer2.0.downsample.1.running_var [8] float32 -> backbone/stage2_block1/shortcut_norm/var",
        "module.backbone.fc.bias [7] float32 -> head/dense/bias",
        "module.backbone.bn1.num_batches_tracked [] int64 -> not used",
        "module.encoder.0.conv1.weight [4, 3, 3, 3] float32 -> not used",
        "module.projector.layer2.0.bias [12] float32 -> not used",
        "module.queue [2, 3] float32 -> unknown",
    ):
        assert line in lines


def test_command_line_error(tmp_path, capsys):
    assert torch_weights.main([str(tmp_path / "none.pth")]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: cannot read")
    assert err.count("\n") == 1
