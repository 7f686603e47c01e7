"""Decodes the images of a data set once, and keeps them: in memory, or in a cache that all runs of a machine share.

Either way all images of a split are in one array uint8 [N, S, S, 3]. A task is a view of it (`Images`), and only what a
batch or a chunk of the evaluation needs is copied. In the cache the array is a file that is mapped into memory, so that
the memory of a run does not grow with the data set.

Each split has a folder in the cache. One process writes it, and others wait. It is whole or not there at all.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import PIL
import tqdm

from ucl_jax.data.prepare import exclusive
from ucl_jax.errors import UsageError
from ucl_jax.files import replacing, write_atomically

VERSION = 1  # of the files in the cache
CHUNK = 256  # images that a thread decodes at once
THREADS = os.cpu_count() or 1  # Pillow decodes without the lock of the interpreter


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Some images of a larger array. They are copied only when they are taken from it, like those of an array.

    Attributes:
      array: uint8 [N, S, S, 3], in memory or a memory map.
      index: int64 [n], their places in it.
    """

    array: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, places: Any) -> np.ndarray:
        return self.array[self.index[places]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the shape that they have together, (n, S, S, 3)."""
        return len(self), *self.array.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """Returns the type of their values, uint8."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """Returns the number of their axes."""
        return self.array.ndim


class Source(Protocol):
    """Encoded images, which can be decoded."""

    @property
    def name(self) -> str:
        """Returns what messages call it."""

    @property
    def identity(self) -> Any:
        """Returns all that the decoded pixels depend on, as JSON can hold it."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Returns the shape (N, S, S, 3) of all images together."""

    def decode(self, indices: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        """Decodes the images at `indices` (int [n]); it is called from several threads.

        Returns:
          The images, uint8 [n, S, S, 3], and for the index of each that cannot be decoded a reason.
        """


class Split(NamedTuple):
    """An opened split of labelled images.

    Attributes:
      labels: int32 [N], values in [0, num_classes), or -1 for an image that no task may have.
      num_classes: the number of classes of the data set.
      images: the function that `reader` makes: indices int64 [n] -> their images.
      domains: int64 [N], the domain of each image; None where it was not asked for.
      names: of the classes, by their numbers; () where they have none.
    """

    labels: np.ndarray
    num_classes: int
    images: Callable[[np.ndarray], Images]
    domains: np.ndarray | None = None
    names: tuple[str, ...] = ()


class Decoded(NamedTuple):
    """Holds all images of a source.

    Attributes:
      array: uint8 [N, S, S, 3]. What it has for an image that cannot be decoded has no meaning.
      problems: the index of each image that cannot be decoded -> the reason.
    """

    array: np.ndarray
    problems: dict[int, str]


def reader(source: Source, cache: str) -> Callable[[np.ndarray], Images]:
    """Returns a function that decodes the images at given indices (int64 [n]), or finds them in the cache.

    With a cache all images of the source are decoded now, unless they are there. Without one, they are decoded when the
    function is called.

    Args:
        source: the encoded images, of which each can be decoded.
        cache: a folder; "" keeps images in memory.

    Raises:
        UsageError: as `decode_all` does. The function that is returned raises it, too.
    """
    if cache:
        return partial(Images, decode_all(source, cache).array)
    array = np.empty(source.shape, np.uint8)  # memory is taken for those images only that are decoded

    def images(indices: np.ndarray) -> Images:
        _decode(source, indices, partial(_put, array))
        return Images(array, indices)

    return images


def decode_all(source: Source, cache: str) -> Decoded:
    """Decodes all images of a source, or finds them in the cache.

    Args:
        source: the encoded images.
        cache: a folder, where a memory map of them is made; "" keeps them in memory.

    Raises:
        UsageError: an image cannot be decoded, and the source does not allow that; or the cache cannot be written to,
            or has no room.
    """
    if not cache:
        array = np.empty(source.shape, np.uint8)
        return Decoded(array, _decode(source, np.arange(len(array)), partial(_put, array)))
    identity = json.dumps([VERSION, PIL.__version__, source.shape, source.identity])
    words = "-".join(re.findall(r"[A-Za-z0-9_.]+", source.name))[:60]
    folder = pathlib.Path(cache).expanduser() / f"{words}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if (found := _find(folder, source.shape)) is None:
        with _writing(folder), exclusive(folder):
            if (found := _find(folder, source.shape)) is None:  # nobody has written it meanwhile
                _write(folder, source)
                found = _find(folder, source.shape)
    assert found is not None
    return found


def _find(folder: pathlib.Path, shape: tuple[int, ...]) -> Decoded | None:
    """Returns what a folder of the cache holds; None where it holds nothing, or another shape or size."""
    try:
        array = np.load(folder / "images.npy", mmap_mode="r")  # raises ValueError where the file is too short
        problems = json.loads((folder / "problems.json").read_text())
        whole = (array.shape, array.dtype) == (shape, np.uint8)
        whole = whole and (folder / "images.npy").stat().st_size == array.offset + array.nbytes
        return Decoded(array, {int(index): str(reason) for index, reason in problems.items()}) if whole else None
    except (OSError, ValueError, AttributeError):
        return None


def _write(folder: pathlib.Path, source: Source) -> None:
    """Writes all images of a source to a folder of the cache. The images get their name last, when they are whole."""
    with replacing(folder / "images.npy") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": source.shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        start, each = file.tell(), int(np.prod(source.shape[1:]))
        size = start + source.shape[0] * each
        free = shutil.disk_usage(folder).free
        if free < size:
            raise UsageError(
                f"{folder.parent} has room for {free / 1e9:.1f} GB, and the decoded images of {source.name} need "
                f"{size / 1e9:.1f} GB: make room, set config.image_cache to another folder, or to '' for memory"
            )
        os.posix_fallocate(file.fileno(), 0, size)

        def put(indices: np.ndarray, images: np.ndarray) -> None:
            os.pwrite(file.fileno(), images.tobytes(), start + int(indices[0]) * each)

        problems = _decode(source, np.arange(source.shape[0]), put, progress=True)
        write_atomically(folder / "problems.json", json.dumps(problems))


@contextlib.contextmanager
def _writing(folder: pathlib.Path) -> Iterator[None]:
    """Turns an OSError of the block into a UsageError that names the folder and the key."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot keep decoded images in {folder} ({error.strerror}): set config.image_cache to another folder, or "
            "to '' for memory"
        ) from error


def _put(array: np.ndarray, indices: np.ndarray, images: np.ndarray) -> None:
    array[indices] = images


def _decode(
    source: Source, indices: np.ndarray, put: Callable[[np.ndarray, np.ndarray], None], progress: bool = False
) -> dict[int, str]:
    """Decodes images in several threads.

    Args:
        source: the encoded images.
        indices: int [n], which of them.
        put: indices [m], images uint8 [m, S, S, 3] -> nothing; takes consecutive ones of them, in any order.
        progress: whether to show on standard error how far it is.

    Returns:
        The index of each image that cannot be decoded -> the reason, in order.
    """
    chunks = [indices[start : start + CHUNK] for start in range(0, len(indices), CHUNK)]

    def work(chunk: np.ndarray) -> dict[int, str]:
        images, problems = source.decode(chunk)
        put(chunk, images)
        return problems

    found: dict[int, str] = {}
    terminal = sys.stderr.isatty()
    if progress and not terminal:
        print(f"decoding {len(indices)} images of {source.name} into the cache", file=sys.stderr, flush=True)
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm.tqdm(
            total=len(indices), desc=f"decoding {source.name}", unit="image", disable=not (progress and terminal)
        ) as bar,
    ):
        try:
            for chunk, problems in zip(chunks, pool.map(work, chunks)):
                found |= problems
                bar.update(len(chunk))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return found
