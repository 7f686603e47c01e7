"""Tests what `ucl export` writes: PyTorch and ONNX compute our features from it, and the model card is right."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnx.reference
import pytest
import torch
from torch import nn

import ucl_jax
from tests import probed, run_results, tiny
from ucl_jax import export
from ucl_jax.data import memory, tfds_source
from ucl_jax.interop import encoder_files
from ucl_jax.results import model_card
from ucl_jax.training.build import make_experiment, make_stem
from ucl_jax.types import Variables

RNG = np.random.default_rng(0)
IMAGES = {kind: RNG.integers(0, 256, (7, *size, 3), np.uint8) for kind, size in (("onnx", (8, 8)), ("torch", (9, 20)))}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return probed.trained(tmp_path_factory.mktemp("export") / "run", "lump")


@pytest.fixture(scope="module", params=["safetensors", "torch", "onnx"])
def exported(request, run, tmp_path_factory):
    """Provides each format, and the folder that the command has written."""
    out = tmp_path_factory.mktemp(request.param) / "out"
    assert export.main([str(run), "--after=1", f"--format={request.param}", f"--out={out}"]) == 0
    return request.param, out


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_code_of_the_model_card_gives_our_features(exported, run):
    """Runs it in a process of its own, in the folder, as somebody would who has nothing else."""
    kind, out = exported
    images = IMAGES.get(kind, IMAGES["torch"])
    (code,) = blocks((out / "README.md").read_text())
    np.save(out / "images.npy", images)
    before, after = 'import numpy\nimages = numpy.load("images.npy")\n', '\nnumpy.save("features.npy", features)\n'
    after = "\nfeatures = getattr(features, 'detach', lambda: features)()" + after
    done = subprocess.run([sys.executable, "-c", before + code + after], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, expected = np.load(out / "features.npy"), ucl_jax.load(run, after=1).transform(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, **CLOSE)
    assert np.max(np.abs(expected - ucl_jax.load(run).transform(images))) > 1e-3  # another network would be noticed


@pytest.mark.parametrize("fit", tfds_source.FITS)
def test_the_module_for_pytorch_fits_images_as_we_do(fit):
    names: dict = {"__file__": "encoder.py"}
    exec(encoder_files.MODULE.read_text(), names)
    rng = np.random.default_rng(1)
    for shape in ((20, 13, 3), (13, 20, 3), (24, 24, 3)):
        image = rng.integers(0, 256, shape, np.uint8)
        expected = memory.fitted([image], 24, "resize" if fit == "none" else fit)[0]
        np.testing.assert_array_equal(names["fitted"](image, 24, fit), expected)


def test_the_model_card_has_the_numbers_of_the_run(exported, run):
    kind, out = exported
    card, results = (out / "README.md").read_text(), probed.results(run)
    for title, name in (("kNN within the task", "knn_task"), ("kNN over all classes seen", "knn_all")):
        probe = results["probes"][name]
        cells = [cell.strip() for cell in next(line for line in card.splitlines() if title in line).split("|")[2:-1]]
        expected = [probe["matrix"][0][0], np.mean(probe["random_init"]), probe["chance"]]
        assert cells == [f"{value:.2f}" for value in expected]
    for words in ("`lump`", "`simsiam`", "0, 1; 2, 3", "TFDS `digits`", results["versions"]["jax"], results["commit"]):
        assert words in card
    assert encoder_files.FORMATS[kind].file in card
    about = json.loads((out / "preprocessing.json").read_text())
    assert (about["input_size"], about["num_features"], about["mean"]) == ([3, 8, 8], 32, [0.4914, 0.4822, 0.4465])


class Reference(nn.Module):
    """A ResNet-18 written for this test, with torchvision's names; stem: kernel, stride, padding, pool."""

    def __init__(self, width, kernel, stride, padding, pool):
        super().__init__()

        def conv(inputs, outputs, kernel, stride, padding):
            return nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)

        def block(inputs, outputs, stride):
            made = nn.Module()
            made.conv1, made.bn1 = conv(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs)
            made.conv2, made.bn2 = conv(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs)
            if inputs != outputs:
                made.downsample = nn.Sequential(conv(inputs, outputs, 1, stride, 0), nn.BatchNorm2d(outputs))
            return made

        self.conv1, self.bn1 = conv(3, width, kernel, stride, padding), nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        of = [width, width, 2 * width, 4 * width, 8 * width]
        for n in range(1, 5):
            blocks = block(of[n - 1], of[n], 1 if n == 1 else 2), block(of[n], of[n], 1)
            setattr(self, f"layer{n}", nn.ModuleList(blocks))

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            for one in layer:
                y = one.bn2(one.conv2(torch.relu(one.bn1(one.conv1(x)))))
                x = torch.relu(y + (one.downsample(x) if hasattr(one, "downsample") else x))
        return x.mean((2, 3))


STEMS = {"small": {}, "padded": {"model__stem_padding": 2}, "imagenet": {"model__stem": "imagenet"}}


@pytest.mark.parametrize("stem", STEMS)
def test_networks_of_every_stem(stem, tmp_path):
    """Compares fresh networks with random statistics, which are not 0 and 1, with PyTorch and with ONNX's own."""
    config = tiny.config("finetune", "digits,moco", benchmark__image_size=32, **STEMS[stem])
    experiment, rng = make_experiment(config, None, "cpu"), np.random.default_rng(0)
    network = jax.tree.map(
        lambda x: (x + rng.uniform(0.1, 0.3, x.shape)).astype(x.dtype) if x.dtype == jnp.float32 else x,
        experiment.init().network,
    )
    images = rng.integers(0, 256, (3, 32, 32, 3), np.uint8)
    ours = jax.jit(experiment.phases[0].objective.features)(network, images).features

    arrays = encoder_files.state_dict(network)
    reference = Reference(4, *make_stem(config)).eval()
    reference.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    mean, std = (np.array(config.augment[key], np.float32) for key in ("mean", "std"))
    pixels = torch.tensor(((images / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))
    scale = float(np.max(np.abs(ours)))
    np.testing.assert_allclose(reference(pixels).detach().numpy() / scale, ours / scale, **CLOSE)

    shape = encoder_files.Shape(32, "none", config.augment.mean, config.augment.std, 4, make_stem(config))
    encoder_files.write_onnx(tmp_path / "encoder.onnx", arrays, shape)
    (found,) = onnx.reference.ReferenceEvaluator(str(tmp_path / "encoder.onnx")).run(None, {"images": images})
    np.testing.assert_allclose(found / scale, ours / scale, **CLOSE)


@pytest.mark.parametrize(("stem", "kind"), [("padded", "safetensors"), ("small", "torch"), ("imagenet", "torch")])
def test_the_lines_for_timm_build_the_network(stem, kind, tmp_path, monkeypatch):
    """Carries out the lines of a model card, with `Reference` in the place of timm's network, whose names it has."""
    config = tiny.config("finetune", "digits", model__width=64, **STEMS[stem])
    rng, own_stem = np.random.default_rng(0), make_stem(config)
    like = jax.eval_shape(make_experiment(config, None, "cpu").init).network
    arrays = encoder_files.state_dict(jax.tree.map(lambda x: rng.uniform(0.01, 0.1, x.shape).astype(x.dtype), like))
    shape = encoder_files.Shape(32, "none", config.augment.mean, config.augment.std, 64, own_stem)
    file, write = encoder_files.FORMATS[kind]
    write(tmp_path / file, arrays, shape)

    asked, timm = [], types.ModuleType("timm")
    timm.create_model = lambda *words, **more: asked.append((words, more)) or Reference(64, 7, 2, 3, True)
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.chdir(tmp_path)
    card = model_card.model_card(run_results.result(config=config.to_dict()), 1, kind, file, shape.to_json())
    (lines,) = re.findall(r"In timm:\n\n```python\n(.*?)```", card, re.DOTALL)
    names: dict = {}
    exec(lines, names)
    assert asked == [(("resnet18",), {"num_classes": 0})]

    reference = Reference(64, *own_stem).eval()
    reference.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    pixels = torch.tensor(rng.normal(size=(2, 3, 32, 32)).astype(np.float32))
    assert not names["model"].training
    assert torch.equal(names["model"](pixels), reference(pixels))


@pytest.mark.parametrize(
    ("recipe", "more", "reason"),
    [("pnn", {}, "several columns"), ("finetune", {"model__name": "resnet18_group_norm"}, "no batch norm")],
)
def test_other_architectures_are_refused(recipe, more, reason, run, tmp_path, capsys):
    config = tiny.config(recipe, "digits", **more)
    network = jax.eval_shape(make_experiment(config, None, "cpu").init).network
    with pytest.raises(ValueError, match=reason):
        encoder_files.state_dict(Variables(network.params, network.state))
    folder = shutil.copytree(run, tmp_path / "run")
    results = probed.results(run)
    results["config"]["model"]["name"] = config.model.name
    (folder / "results.json").write_text(json.dumps(results))
    assert export.main([str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"'{config.model.name}'" in line
    assert "model.name=resnet18" in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["--after=3"], "--after"), (["--after=x"], "--after=x"), (["--format=tf"], "--format"), ([], "results.json")],
)
def test_a_wrong_command_is_told_in_one_line(words, expected, run, tmp_path, capsys):
    assert export.main([str(run if words else tmp_path), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


@pytest.mark.parametrize("package", ["safetensors", "torch", "onnx"])
def test_a_missing_package_is_told_with_its_cure(package, run, tmp_path):
    """Runs the command in a process whose first folder has a package that cannot be imported."""
    (tmp_path / f"{package}.py").write_text("raise ImportError")
    words = [str(run), f"--format={package}", f"--out={tmp_path / 'out'}"]
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from ucl_jax import export; "
    start += "sys.exit(export.main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", start, *words], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "pip install" in line
    assert package in line
    assert not list((tmp_path / "out").iterdir())


def test_the_untrained_network_can_be_exported(run, tmp_path):
    assert export.main([str(run), "--after=0", "--format=torch", f"--out={tmp_path}"]) == 0
    arrays = torch.load(tmp_path / "encoder.pth", weights_only=True)
    assert torch.equal(arrays["bn1.running_mean"], torch.zeros(4))
    assert arrays["layer4.1.bn2.num_batches_tracked"].dtype == torch.int64


def test_the_network_that_was_exported_last_is_loaded(run, tmp_path):
    for after, kind in (1, "safetensors"), (2, "torch"):
        assert export.main([str(run), f"--after={after}", f"--format={kind}", f"--out={tmp_path}"]) == 0
    spec = importlib.util.spec_from_file_location("exported_encoder", tmp_path / "encoder.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encoder, about = module.load()
    found = encoder(module.preprocess(IMAGES["torch"], about)).detach().numpy()
    np.testing.assert_allclose(found, ucl_jax.load(run, after=2).transform(IMAGES["torch"]), **CLOSE)
