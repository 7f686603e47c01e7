"""Shows what a file of the official PyTorch code (github.com/divyam3897/UCL at cfaa81d) holds, and converts weights.

python -m ucl_jax.convert FILE.pth

The official ResNet-18 and its heads have the same layers as those here, with other names and orders of axes. So float32
weights are converted exactly. Some entries of an official file have no counterpart here, and are ignored:

- the number of batches that each batch norm has seen;
- layers that the official code stores but does not run: the third layer of projectors (`projector.layer2`), the
  predictor of Barlow Twins, and the projector and the predictor of supervised networks;
- `encoder`, which is a second name for the backbone and the projector.

A file is read without PyTorch, and without running code of its pickle.
"""

import io
import pathlib
import pickle
import pickletools
import sys
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ucl_jax.cli import Parser, examples, returns_exit_code
from ucl_jax.errors import UsageError, require
from ucl_jax.types import Variables

# Names of layers: here -> in the official code.
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
# Names of the arrays of a layer: here -> in the official code.
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
CONV = {"conv/kernel": "weight"}
DENSE = {"dense/kernel": "weight", "dense/bias": "bias"}


def _leaves(layer: str) -> dict[str, str]:
    """Returns the names of the arrays of a layer: here -> in the official code."""
    return NORM if layer.endswith("_norm") else CONV if layer.startswith("backbone") else DENSE


# Path of an array in the trees of a network -> its official name, and the reverse.
NAMES = {
    f"{ours}/{leaf}": f"{theirs}.{name}" for ours, theirs in LAYERS.items() for leaf, name in _leaves(ours).items()
}
PATHS = {name: path for path, name in NAMES.items()}
# The number of axes of an array -> the order of axes by which `transpose` converts it.
TO_OURS = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
TO_OFFICIAL = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
PARTS = ("backbone", "projector", "predictor", "head")  # of a network of the official code
# What does not fit -> what a person can do. Where the shapes of a part do not fit, it is the part.
HINTS = {
    "backbone": "set config.model.width to the file's, if it is a ResNet-18 for small images at all",
    "projector": "set config.objective.hidden_dim and output_dim to the file's",
    "predictor": "set config.objective.predictor_dim to the file's, and hidden_dim and output_dim",
    "head": "set config.objective.classes to the file's; the official code has 100 for any data",
    "missing": "take the objective (config.objective) that the file was made with, and a file of the whole network",
    "unknown": "it is of another objective (config.objective) or architecture",
    "not finite": "take a file of a training that did not diverge",
    "state": "take another objective",
    "architecture": "set config.model.name=resnet18",
    "supervised projector": "set config.objective.projector=False",
}


class Mismatch(ValueError):
    """A state dict or a network cannot be converted.

    Attributes:
      hint: what does not fit, a key of HINTS.
    """

    def __init__(self, message: str, hint: str):
        super().__init__(message)
        self.hint = hint


def _check(condition: bool, message: str, hint: str) -> None:
    """Raises Mismatch unless `condition` is true."""
    if not condition:
        raise Mismatch(message, hint)


def from_official(state_dict: Mapping[str, np.ndarray], like: Variables) -> Variables:
    """Converts an official state dict to a network.

    Args:
      state_dict: arrays by their official names, with or without the prefix `module.`; kernels are OIHW and [out, in].
      like: a network with the trees, shapes and dtypes that are wanted, of arrays or ShapeDtypeStructs.

    Returns:
      A network of the same trees, shapes and dtypes, of NumPy arrays; kernels are HWIO and [in, out].

    Raises:
      Mismatch: an entry is missing, has another shape, is not finite in the wanted dtype, or is of another network.
    """
    _check_counterpart(like)
    entries = {name.removeprefix("module."): array for name, array in state_dict.items()}
    finite: dict[str, bool] = {}  # name of every entry that is used -> whether it is finite

    def convert(tree):
        leaves = flatten_dict(tree, sep="/")
        # The backbone comes first, because an error there explains errors in the heads.
        for path in sorted(leaves, key=lambda path: not path.startswith("backbone")):
            name, like = NAMES[path], leaves[path]
            _check(name in entries, f"the file has no {name}, for {path}", "missing")
            array, expected = np.asarray(entries[name]), tuple(like.shape[a] for a in TO_OFFICIAL[len(like.shape)])
            _check(
                array.shape == expected,
                f"{name} is {list(array.shape)} in the file and {list(expected)} in this network ({path})",
                path.split("/")[0],
            )
            with np.errstate(over="ignore"):  # an overflow is reported below
                leaves[path] = array.transpose(TO_OURS[array.ndim]).astype(like.dtype, order="C")
            finite[name] = bool(np.isfinite(leaves[path]).all())
        return unflatten_dict(leaves, sep="/")

    network = Variables(convert(like.params), {"batch_stats": convert(like.state["batch_stats"])})
    for name in entries:
        used = name in finite or _is_unused(name, like.params)
        _check(used, f"the file holds {name}, which this network does not have", "unknown")
    for name in entries:
        _check(finite.get(name, True), f"{name} is not finite", "not finite")
    return network


def _check_counterpart(network: Variables) -> None:
    """Raises Mismatch if the official code has no such network."""
    for part in network.state:
        _check(part == "batch_stats", f"{part} has no counterpart in the official code", "state")
    for part in network.params:
        _check(part in PARTS, f"{part} has no counterpart in the official code", "architecture")
    _check(
        not {"projector", "head"} <= set(network.params),
        "supervised networks of the official code run no projector",
        "supervised projector",
    )


def _is_unused(name: str, parts: Collection[str]) -> bool:
    """Tells whether an entry without a counterpart is one of those that official files have and that are ignored.

    Args:
      name: the official name.
      parts: the parts of the network, such as "projector".
    """
    for alias, part in (("encoder.0.", "backbone."), ("encoder.1.", "projector.")):
        if name.startswith(alias):
            name = part + name.removeprefix(alias)
            return name in PATHS or _is_unused(name, parts)
    absent = [f"{part}." for part in ("projector", "predictor") if part not in parts]
    return name.endswith(".num_batches_tracked") or name.startswith(("projector.layer2.", *absent))


def to_official(network: Variables) -> dict[str, np.ndarray]:
    """Converts the parameters and running statistics of a network to an official state dict.

    It is the reverse of `from_official`. Entries that have no counterpart here are left out, so the official code must
    load the state dict by `load_state_dict(..., strict=False)`.

    Returns:
      Arrays by their official names, without the prefix `module.`; kernels are OIHW and [out, in].

    Raises:
      Mismatch: the official code has no such network.
    """
    _check_counterpart(network)
    official = {}
    for tree in (network.params, network.state["batch_stats"]):
        for path, leaf in flatten_dict(tree, sep="/").items():
            array = np.asarray(leaf)
            official[NAMES[path]] = np.ascontiguousarray(array.transpose(TO_OFFICIAL[array.ndim]))
    return official


# Names of PyTorch's storage types -> the dtype of their elements.
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


# Limits on what reading a file may take, because a file can be hostile. A file of the official code has some 10,000
# instructions, and comes nowhere near the other limits.
INSTRUCTIONS = 200_000  # instructions of the pickle; each makes an object of at most some 200 bytes
TUPLE = 1000  # objects in a tuple, those inside others included, because Python walks through them by recursion
EXPANDED = 16  # total size of the tensors that show an element of their storage more than once, in sizes of the file


class _Tensor(NamedTuple):
    """A tensor as a pickle describes it.

    Attributes:
      storage: its storage as the pickle describes that: a tuple with the type, second, and the key of the file, third.
      offset: the position of its first element in the storage.
      shape: its shape.
      strides: its strides, in elements.
    """

    storage: tuple
    offset: int
    shape: tuple
    strides: tuple


# What a pickle may call. These are instances, and not functions or classes, because a pickle can set attributes of what
# it gets. An instance without a `__dict__` has none to set, and its class cannot be reached.
class _MakeTensor:
    """Stands in for PyTorch's function that makes a tensor."""

    __slots__ = ()

    def __call__(self, storage, offset, shape, strides, *_):
        return _Tensor(storage, offset, shape, strides)


class _MakeParameter:
    """Stands in for PyTorch's function that makes a parameter of a tensor."""

    __slots__ = ()

    def __call__(self, tensor, *_):
        return tensor


class _Dict(dict):
    """A dict in place of an OrderedDict. It drops the attributes that the OrderedDict of a state dict has."""

    __slots__ = ()

    def __setstate__(self, state):
        pass


class _MakeDict:
    """Stands in for the class OrderedDict."""

    __slots__ = ()

    def __call__(self):
        return _Dict()


CALLABLES = {
    ("collections", "OrderedDict"): _MakeDict(),
    ("torch._utils", "_rebuild_tensor_v2"): _MakeTensor(),
    ("torch._utils", "_rebuild_parameter"): _MakeParameter(),
}


class _Unpickler(pickle.Unpickler):
    """An unpickler that makes only plain containers, numbers, strings and `_Tensor`s, and calls only CALLABLES."""

    def find_class(self, module, name):
        """Returns what a pickle may call or name; raises UsageError for anything else."""
        if (module, name) in CALLABLES:
            return CALLABLES[module, name]
        if module == "torch" and name in STORAGES:
            return name
        raise UsageError(f"it holds {f'{module}.{name}'[:100]!r}, which is no part of a state dict; {RESAVE}")

    def persistent_load(self, pid):
        """Returns the description of a storage as it is, a tuple."""
        return pid


def _check_pickle(content: bytes) -> None:
    """Raises ValueError for a pickle that would take memory or stack out of proportion to its length.

    Python's unpickler allocates memory for all memo entries below the highest number that a pickle uses. Moreover, a
    tuple can contain others many times and nest as deep as the pickle is long. Hashing such a tuple, as the key of a
    dict, overflows the stack and ends the process. So this function follows the instructions of the pickle first, with
    the sizes of objects in place of the objects.
    """
    sizes: list[Any] = []  # the unpickler's stack, with sizes as objects and None as a mark
    memo: dict[int | None, Any] = {}  # numbers only; None because pickletools gives some instructions no argument
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
            size = min(1 + sum(filter(None, taken)), TUPLE + 1)  # POP may take a mark
            if name in ("OBJ", "INST"):
                raise ValueError(f"it makes an object ({name}), which torch.save does not do")
            if size > TUPLE and name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"):
                raise ValueError(f"a {name.rstrip('123').lower()} of more than {TUPLE} objects")
            sizes += [size] * len(after)


def read_pth(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a .pth file of PyTorch 1.6 or later, as arrays of their own dtypes, by name.

    Tensors with the same storage share its memory, as in PyTorch. Reading takes a small multiple of the file's size,
    and 100 MB, of memory.

    Args:
      path: a file that `torch.save` wrote, of a state dict or of a dict with one under `state_dict` or `model`.

    Raises:
      UsageError: the file is missing, damaged, of an older PyTorch, has no tensors, or holds objects of other types.
        Such objects are not made.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(_read_tensors(archive, pathlib.Path(path).stat().st_size))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except zipfile.BadZipFile as error:
        with open(path, "rb") as file:
            damaged = file.read(2) == b"PK"
        advice = "is damaged; copy it again" if damaged else f"is not a file of torch.save since PyTorch 1.6; {RESAVE}"
        raise UsageError(f"{path} {advice} ({error})") from error
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror or error}); give a .pth file") from error
    except Exception as error:  # a damaged pickle can raise anything
        what = " ".join(f"{type(error).__name__}: {error}"[:200].split())
        raise UsageError(f"{path} is damaged ({what}); copy it again, or {RESAVE}") from error


def _read_tensors(archive: zipfile.ZipFile, file_size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields name and array of every tensor in the state dict of an open file; raises ValueError if it is damaged."""
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
    """Returns the part of a storage that a tensor shows; raises ValueError if it reaches outside of the storage."""
    _, offset, shape, strides = tensor
    if not (type(shape) is type(strides) is tuple and all(type(n) is int for n in (offset, *shape, *strides))):
        raise ValueError("a shape, strides or a place that are no integers")
    empty = 0 in shape
    end = offset + 1 + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if min(0, offset, *shape, *strides) < 0 or (end > elements.size and not empty):
        raise ValueError(
            f"shape {shape} with strides {strides} from element {offset} on reaches outside of its {elements.size} "
            "elements"
        )
    steps = [stride * elements.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(elements[:0] if empty else elements[offset:], shape, steps)


def load(path: str | pathlib.Path, like: Variables) -> Variables:
    """Reads a .pth file of the official code and converts it to a network like `like`.

    Raises:
      UsageError: those of `read_pth`, or the file does not fit the network; names the file and what to do.
    """
    state_dict = read_pth(path)
    try:
        return from_official(state_dict, like)
    except Mismatch as error:
        raise UsageError(f"{path}: {error}; {HINTS[error.hint]}") from None


@returns_exit_code
def main(argv: Sequence[str], prog: str = "python -m ucl_jax.convert") -> int:
    """Prints the entries of a file, their shapes, and what they are converted to."""
    calls = {"model_final.pth": "the names and shapes in a file, and what each becomes here"}
    parser = Parser(prog=prog, description=__doc__.splitlines()[0], epilog=examples(prog, calls))
    parser.add_argument("file", type=pathlib.Path, metavar="FILE.pth", help="a file of the official code")
    state_dict = read_pth(parser.parse_args(argv).file)
    for name, array in state_dict.items():
        bare = name.removeprefix("module.")
        target = PATHS.get(bare) or ("not used" if _is_unused(bare, PARTS) else "unknown")
        print(f"{name} {list(array.shape)} {array.dtype} -> {target}")
    return 0
