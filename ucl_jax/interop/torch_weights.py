"""Weights of the official PyTorch code, github.com/divyam3897/UCL at cfaa81d, to and from the trees of this package.

python -m ucl_jax.convert FILE.pth

The official ResNet-18 and heads have the same layers under other names and with other axis orders, so that float32
weights carry over exactly. Of a file's entries these have no counterpart here: the batches that norms counted, the
third layer of projectors (`projector.layer2`, kept by the official code but not run), the predictor of Barlow Twins
(likewise), projector and predictor of supervised networks (likewise), and `encoder`, a second name for backbone and
projector. Neither PyTorch nor a pickle's own code is run to read a file.
"""

import argparse
import io
import pathlib
import pickle
import pickletools
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ucl_jax.errors import UsageError, require
from ucl_jax.types import Variables

BLOCK = {
    "first": "conv1",
    "first_norm": "bn1",
    "second": "conv2",
    "second_norm": "bn2",
    "shortcut": "downsample.0",
    "shortcut_norm": "downsample.1",
}
LAYERS = {
    "backbone/stem": "backbone.conv1",
    "backbone/stem_norm": "backbone.bn1",
    **{
        f"backbone/stage{stage}_block{block}/{ours}": f"backbone.layer{stage}.{block - 1}.{theirs}"
        for stage in (1, 2, 3, 4)
        for block in (1, 2)
        for ours, theirs in BLOCK.items()
    },
    "projector/hidden": "projector.layer1.0",
    "projector/hidden_norm": "projector.layer1.1",
    "projector/output": "projector.layer3.0",
    "projector/output_norm": "projector.layer3.1",
    "predictor/hidden": "predictor.layer1.0",
    "predictor/hidden_norm": "predictor.layer1.1",
    "predictor/output": "predictor.layer2",
    "head": "backbone.fc",
}
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
CONV = {"conv/kernel": "weight"}
DENSE = {"dense/kernel": "weight", "dense/bias": "bias"}


def _leaves(layer: str) -> dict[str, str]:
    return NORM if layer.endswith("_norm") else CONV if layer.startswith("backbone") else DENSE


# The path of a leaf of our trees -> its official name.
NAMES = {
    f"{ours}/{leaf}": f"{theirs}.{name}" for ours, theirs in LAYERS.items() for leaf, name in _leaves(ours).items()
}
PATHS = {name: path for path, name in NAMES.items()}
TO_OURS = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}  # axes, by their number
TO_OFFICIAL = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
HINTS = {
    "backbone": "set config.model.width to the file's, if it is a ResNet-18 for small images at all",
    "projector": "set config.objective.hidden_dim and output_dim to the file's",
    "predictor": "set config.objective.predictor_dim to the file's, and hidden_dim and output_dim",
    "head": "set config.objective.classes to the file's; the official code has 100 for any data",
}


def from_official(state_dict: Mapping[str, np.ndarray], like: Variables) -> Variables:
    """Reads a network out of an official state dict.

    Args:
      state_dict: official names, with `module.` before them or without; kernels OIHW and [out, in].
      like: the network of an objective, arrays or ShapeDtypeStructs.

    Returns:
      A network like it, of NumPy arrays in its dtypes; kernels HWIO and [in, out].

    Raises:
      UsageError: an entry is missing, of another shape, not finite (in the dtype of the trees), or of another network.
    """
    _require_counterpart(like)
    entries = {name.removeprefix("module."): array for name, array in state_dict.items()}
    finite: dict[str, bool] = {}  # of every entry that is used

    def convert(tree):
        leaves = flatten_dict(tree, sep="/")
        for path in sorted(leaves, key=lambda path: not path.startswith("backbone")):  # its errors explain others
            name, like = NAMES[path], leaves[path]
            require(
                name in entries,
                f"the file has no {name}, for {path}; take the objective (config.objective) that the file was made "
                "with, and a file of the whole network",
            )
            array, expected = np.asarray(entries[name]), tuple(like.shape[a] for a in TO_OFFICIAL[len(like.shape)])
            require(
                array.shape == expected,
                f"{name} is {list(array.shape)} in the file and {list(expected)} in this network ({path}); "
                f"{HINTS[path.split('/')[0]]}",
            )
            with np.errstate(over="ignore"):  # told below
                leaves[path] = array.transpose(TO_OURS[array.ndim]).astype(like.dtype, order="C")
            finite[name] = bool(np.isfinite(leaves[path]).all())
        return unflatten_dict(leaves, sep="/")

    network = Variables(convert(like.params), {"batch_stats": convert(like.state["batch_stats"])})
    for name in entries:
        require(
            name in finite or _is_unused(name, like.params),
            f"the file holds {name}, which this network has not; it is of another objective (config.objective) or "
            "architecture",
        )
    for name in entries:
        require(finite.get(name, True), f"{name} is not finite; take a file of a training that did not diverge")
    return network


def _require_counterpart(network: Variables) -> None:
    params = network.params
    for part in network.state:
        require(part == "batch_stats", f"{part} has no counterpart in the official code; take another objective")
    for part in params:
        require(part in HINTS, f"{part} has no counterpart in the official code; set config.model.name=resnet18")
    require(
        not {"projector", "head"} <= set(params),
        "supervised networks of the official code run no projector; set config.objective.projector=False",
    )


def _is_unused(name: str, parts: Mapping) -> bool:
    """Whether an entry without counterpart is one of those that official files have; `parts` are the network's."""
    for alias, part in (("encoder.0.", "backbone."), ("encoder.1.", "projector.")):
        if name.startswith(alias):
            name = part + name.removeprefix(alias)
            return name in PATHS or _is_unused(name, parts)
    absent = [f"{part}." for part in ("projector", "predictor") if part not in parts]
    return name.endswith(".num_batches_tracked") or name.startswith(("projector.layer2.", *absent))


def to_official(network: Variables) -> dict[str, np.ndarray]:
    """Names parameters and running statistics as the official code does, without `module.`.

    It is the reverse of `from_official`.

    Without what has no counterpart here: `load_state_dict(..., strict=False)` finds no unexpected key. Kernels OIHW
    and [out, in].

    Raises:
      UsageError: the network has no official counterpart.
    """
    _require_counterpart(network)
    official = {}
    for tree in (network.params, network.state["batch_stats"]):
        for path, leaf in flatten_dict(tree, sep="/").items():
            array = np.asarray(leaf)
            official[NAMES[path]] = np.ascontiguousarray(array.transpose(TO_OFFICIAL[array.ndim]))
    return official


STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
RESAVE = 'load it with PyTorch and torch.save({"state_dict": model.state_dict()}, path)'


# What reading a file may take at most. A file of the official code has some 10,000 instructions and none of the rest.
INSTRUCTIONS = 200_000  # of the pickle; one makes an object of some 200 bytes at most
TUPLE = 1000  # the objects in one, counted each time they occur: Python walks them by recursion
EXPANDED = 16  # the size of all tensors that show elements more than once, in sizes of the file


class _Tensor(NamedTuple):
    """What a pickle tells of a tensor: a place in a storage, `shape` and `strides` in elements."""

    storage: tuple
    offset: int
    shape: tuple
    strides: tuple


# What a pickle may call: instances without a `__dict__`, of which a pickle can set no attribute, nor reach the class.
class _MakeTensor:
    __slots__ = ()

    def __call__(self, storage, offset, shape, strides, *_):
        return _Tensor(storage, offset, shape, strides)


class _MakeParameter:
    __slots__ = ()

    def __call__(self, tensor, *_):
        return tensor


class _Dict(dict):
    """In place of an OrderedDict; the attributes that a state dict's has are not kept."""

    __slots__ = ()

    def __setstate__(self, state):
        pass


class _MakeDict:
    __slots__ = ()

    def __call__(self):
        return _Dict()


CALLABLES = {
    ("collections", "OrderedDict"): _MakeDict(),
    ("torch._utils", "_rebuild_tensor_v2"): _MakeTensor(),
    ("torch._utils", "_rebuild_parameter"): _MakeParameter(),
}


class _Unpickler(pickle.Unpickler):
    """Makes plain containers, numbers, strings and `_Tensor`s, and calls nothing but CALLABLES."""

    def find_class(self, module, name):
        if (module, name) in CALLABLES:
            return CALLABLES[module, name]
        if module == "torch" and name in STORAGES:
            return name
        raise UsageError(f"it holds {f'{module}.{name}'[:100]!r}, which is no part of a state dict; {RESAVE}")

    def persistent_load(self, pid):
        return pid


def _check_pickle(content: bytes) -> None:
    """Raises ValueError for a pickle whose objects would not be in proportion to its length.

    The unpickler trusts the numbers of memo entries and makes room for all below them. Objects may stand in others
    many times over, and as deep as the pickle is long, on which Python's stack ends (and the process with it) when a
    tuple becomes a key of a dict. So the pickle is followed here first, with the sizes of objects in their place.
    """
    sizes: list[Any] = []
    memo: dict[int, Any] = {}
    for count, (instruction, argument, _) in enumerate(pickletools.genops(content)):
        name, before, after = instruction.name, instruction.stack_before, instruction.stack_after
        if count == INSTRUCTIONS:
            raise ValueError(f"more than {INSTRUCTIONS} instructions")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(memo) if argument is None else argument
            if not 0 <= place < INSTRUCTIONS:
                raise ValueError(f"memo entry {place}")
            memo[place] = sizes[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            sizes.append(memo[argument])
        elif name == "MARK":
            sizes.append(None)
        else:
            taken = []
            if pickletools.markobject in before:
                while (size := sizes.pop()) is not None:
                    taken.append(size)
                before = before[: before.index(pickletools.markobject)]
            taken += [sizes.pop() for _ in before]
            size = min(1 + sum(filter(None, taken)), TUPLE + 1)  # POP may take a mark, which is None
            if name in ("OBJ", "INST"):
                raise ValueError(f"it makes an object ({name}), which torch.save does not do")
            if size > TUPLE and name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"):
                raise ValueError(f"a {name.rstrip('123').lower()} of more than {TUPLE} objects")
            sizes += [size] * len(after)


def read_pth(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a .pth file of PyTorch 1.6 or later, as arrays of their own dtypes.

    Tensors of one storage share its memory, as in PyTorch. Reading takes a small multiple of the file and 100 MB.

    Args:
      path: a file of `torch.save`, of a state dict or of a dict with one under `state_dict` or `model`.

    Raises:
      UsageError: the file is missing, damaged, older, without tensors, or holds other objects, of which none is made.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(_read_tensors(archive, pathlib.Path(path).stat().st_size))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except zipfile.BadZipFile as error:
        with open(path, "rb") as file:
            damaged = file.read(2) == b"PK"
        advice = "is damaged; copy it again" if damaged else f"is no file of torch.save since PyTorch 1.6; {RESAVE}"
        raise UsageError(f"{path} {advice} ({error})") from error
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror or error}); give a .pth file") from error
    except Exception as error:  # a damaged pickle can raise anything
        what = " ".join(f"{type(error).__name__}: {error}"[:200].split())
        raise UsageError(f"{path} is damaged ({what}); copy it again, or {RESAVE}") from error


def _read_tensors(archive: zipfile.ZipFile, file_size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Name and array of every tensor in the state dict of an open file."""
    members = archive.infolist()
    require(
        all(member.compress_type == zipfile.ZIP_STORED for member in members),
        f"it is compressed, which torch.save does not do; {RESAVE}",
    )
    if sum(member.file_size for member in members) > file_size:
        raise ValueError("members that overlap")
    pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    require(len(pickles) == 1, f"it is a zip file, but not of torch.save; {RESAVE}")
    root = pickles[0].removesuffix("data.pkl")
    order = archive.read(f"{root}byteorder").decode() if f"{root}byteorder" in archive.namelist() else "little"
    pickled = archive.read(pickles[0])
    _check_pickle(pickled)
    content = _Unpickler(io.BytesIO(pickled)).load()
    for key in ("state_dict", "model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    content = content if isinstance(content, dict) else {}
    tensors = {name: v for name, v in content.items() if isinstance(name, str) and isinstance(v, _Tensor)}
    require(bool(tensors), f"it holds no tensors by name; {RESAVE}")
    storages, expanded = {}, 0
    for name, tensor in tensors.items():
        _, kind, key, _, _ = tensor.storage
        if not (isinstance(kind, str) and isinstance(key, str) and name.isprintable()):
            raise ValueError(f"the tensor {name!r}")
        if key not in storages:
            elements = np.frombuffer(bytearray(archive.read(f"{root}data/{key}")), STORAGES[kind])
            storages[key] = kind, elements if order == sys.byteorder else elements.byteswap()
        if storages[key][0] != kind:
            raise ValueError(f"the storage {key!r} is {kind} and {storages[key][0]}")
        elements = storages[key][1]
        array = _strided(elements, tensor)
        expanded += array.nbytes if array.nbytes > elements.nbytes else 0
        if expanded > EXPANDED * file_size:
            raise ValueError(f"{name} and others expand to {expanded} bytes")
        yield name, array


def _strided(elements: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """The part of a storage that a tensor shows; ValueError when it reaches outside."""
    _, offset, shape, strides = tensor
    if not (type(shape) is type(strides) is tuple and all(type(n) is int for n in (offset, *shape, *strides))):
        raise ValueError("a shape, strides or a place that are no integers")
    empty = 0 in shape
    end = offset + 1 + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if min(0, offset, *shape, *strides) < 0 or (end > elements.size and not empty):
        raise ValueError(f"shape {shape}, strides {strides} at {offset} of {elements.size} elements")
    steps = [stride * elements.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(elements[:0] if empty else elements[offset:], shape, steps)


def load(path: str | pathlib.Path, like: Variables) -> Variables:
    """Applies `from_official` to the file that `read_pth` reads; raises UsageError as they do, with the file's name."""
    state_dict = read_pth(path)
    try:
        return from_official(state_dict, like)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def main(argv: Sequence[str]) -> int:
    """Lists the entries of a file, their shapes, and what they become."""
    parser = argparse.ArgumentParser(prog="python -m ucl_jax.convert", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path, metavar="FILE.pth", help="a file of the official code")
    try:
        state_dict = read_pth(parser.parse_args(argv).file)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, array in state_dict.items():
        bare = name.removeprefix("module.")
        target = PATHS.get(bare) or ("not used" if _is_unused(bare, HINTS) else "unknown")
        print(f"{name} {list(array.shape)} {array.dtype} -> {target}")
    return 0
