"""Writes an encoder, a ResNet-18 with batch norm, to files that other programs read: PyTorch, timm, ONNX.

The packages that write them are imported when they are needed: `pip install 'ucl_jax[export]'`.
"""

import importlib
import pathlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ucl_jax.errors import UsageError, check_argument
from ucl_jax.files import replacing
from ucl_jax.interop import torch_weights
from ucl_jax.models.resnet import Stem
from ucl_jax.types import Variables

OPSET, IR_VERSION = 17, 8  # of ONNX; what uses them is many years old, so that any runtime reads the files
MODULE = pathlib.Path(__file__).with_name("torch_encoder.txt")  # the PyTorch module that loads the files


class Shape(NamedTuple):
    """Holds what an encoder expects of images, and how it is built.

    Attributes:
      image_size: S; images are uint8 [N, S, S, 3], RGB.
      fit: how images of other sizes are brought to it, a name in `tfds_source.FITS`.
      mean, std: of each channel, for pixels in [0, 1].
      width: channels of the first stage; there are 8 times as many features.
      stem: how the network begins.
    """

    image_size: int
    fit: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    width: int
    stem: Stem

    def to_json(self) -> dict[str, Any]:
        """Returns what preprocessing.json holds beside the name of the file; keys that timm has are named as there."""
        return {
            "architecture": "resnet18",
            "input_size": [3, self.image_size, self.image_size],
            "channels": "RGB",
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": "bilinear",
            "fit": self.fit,
            "num_classes": 0,
            "num_features": 8 * self.width,
            "width": self.width,
            "stem": self.stem._asdict(),
        }


def state_dict(network: Variables) -> dict[str, np.ndarray]:
    """Returns the backbone of a network as the state dict of a ResNet-18 without `fc`, with torchvision's names.

    Args:
      network: a network of one ResNet-18 with batch norm, whatever its heads.

    Returns:
      Arrays by their names; kernels are OIHW.

    Raises:
      ValueError: the network is of another architecture.
    """
    check_argument("backbone" in network.params, "network is no ResNet-18: it has several columns")
    statistics = network.state.get("batch_stats", {})
    check_argument("backbone" in statistics, "network has no batch norm, which a plain ResNet-18 has")
    own = [{"backbone": tree["backbone"]} for tree in (network.params, statistics)]
    named = torch_weights.to_official(Variables(own[0], {"batch_stats": own[1]}))
    found = {name.removeprefix("backbone."): array for name, array in named.items()}
    for name in [name for name in found if name.endswith("running_var")]:
        found[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return found


def _need(package: str, name: str) -> ModuleType:
    """Imports a module of an optional package; raises UsageError, which says how to install it, if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = "torch" if package == "torch" else "'ucl_jax[export]'"
        raise UsageError(
            f"this format needs the package {package}, which is not installed: pip install {extra}"
        ) from error


def write_safetensors(path: pathlib.Path, arrays: Mapping[str, np.ndarray], shape: Shape) -> None:
    """Writes a state dict as a safetensors file; raises UsageError where that package is missing."""
    package = _need("safetensors", "safetensors.numpy")
    with replacing(path) as file:
        file.write(package.save(dict(arrays), metadata={"format": "pt"}))


def write_torch(path: pathlib.Path, arrays: Mapping[str, np.ndarray], shape: Shape) -> None:
    """Writes a state dict as a file of `torch.save`; raises UsageError where PyTorch is missing."""
    torch = _need("torch", "torch")
    with replacing(path) as file:
        torch.save({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, file)


def write_onnx(path: pathlib.Path, arrays: Mapping[str, np.ndarray], shape: Shape) -> None:
    """Writes an ONNX file of the encoder with its preprocessing; raises UsageError where the package onnx is missing.

    Its input `images` is uint8 [N, S, S, 3], its output `features` float32 [N, F].
    """
    onnx = _need("onnx", "onnx")
    with replacing(path) as file:
        file.write(onnx_model(onnx, arrays, shape).SerializeToString())


def onnx_model(onnx: Any, arrays: Mapping[str, np.ndarray], shape: Shape) -> Any:
    """Returns the model that `write_onnx` writes.

    Args:
      onnx: the package.
      arrays: the state dict.
      shape: of the encoder.
    """
    helper, numpy_helper, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    constants = {name: array for name, array in arrays.items() if array.ndim}
    constants |= {"scale": np.array(255, np.float32)}
    constants |= {"mean": np.array(shape.mean, np.float32), "std": np.array(shape.std, np.float32)}
    nodes: list[Any] = []

    def add(kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def conv_norm(x: str, conv: str, norm: str, stride: int = 1, padding: int | None = None) -> str:
        kernel = arrays[f"{conv}.weight"].shape[-1]
        pads = [kernel // 2 if padding is None else padding] * 4
        x = add("Conv", x, f"{conv}.weight", kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)
        parts = (f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))
        return add("BatchNormalization", x, *parts, epsilon=1e-5)

    x = add("Div", add("Cast", "images", to=kinds.FLOAT), "scale")
    x = add("Transpose", add("Div", add("Sub", x, "mean"), "std"), perm=[0, 3, 1, 2])
    x = add("Relu", conv_norm(x, "conv1", "bn1", shape.stem.stride, shape.stem.padding))
    if shape.stem.pool:
        x = add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            layer, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = add("Relu", conv_norm(x, f"{layer}.conv1", f"{layer}.bn1", stride))
            y = conv_norm(y, f"{layer}.conv2", f"{layer}.bn2")
            if f"{layer}.downsample.0.weight" in arrays:
                x = conv_norm(x, f"{layer}.downsample.0", f"{layer}.downsample.1", stride)
            x = add("Relu", add("Add", y, x))
    nodes.append(helper.make_node("Flatten", [add("GlobalAveragePool", x)], ["features"]))
    size = shape.image_size
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("images", kinds.UINT8, ["N", size, size, 3])],
        [helper.make_tensor_value_info("features", kinds.FLOAT, ["N", 8 * shape.width])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="ucl_jax")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


class Format(NamedTuple):
    """A format of files.

    Attributes:
      file: the name of the file.
      write: path, state dict, shape -> nothing.
    """

    file: str
    write: Callable[[pathlib.Path, Mapping[str, np.ndarray], Shape], None]


FORMATS = {
    "safetensors": Format("encoder.safetensors", write_safetensors),
    "torch": Format("encoder.pth", write_torch),
    "onnx": Format("encoder.onnx", write_onnx),
}
