"""Reads a folder of images: any formats, sizes and modes that Pillow opens.

Sub-folders are groups of images: tasks, or classes. The images of a folder without sub-folders are one group, which is
cut into tasks in the order of the files. Files that cannot be read as images are left out, and named.
"""

import os
import pathlib
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ucl_jax.data import decoded
from ucl_jax.data.tfds_source import FITS
from ucl_jax.errors import check_argument, check_word

PARTS = 5  # tasks that a folder without sub-folders is cut into, unless another number is given


class File(NamedTuple):
    """A file of the folder.

    Attributes:
      path: below the folder.
      size: in bytes; -1 for a link that leads nowhere.
      changed: the time of its last change, in nanoseconds.
    """

    path: str
    size: int
    changed: int


class Group(NamedTuple):
    """The files of one sub-folder, in order, with those of folders in it.

    Attributes:
      name: of the sub-folder; "" for those of a folder without sub-folders.
      files: its files; hidden ones, whose names begin with a dot, are none of them.
    """

    name: str
    files: tuple[File, ...]


# Order of files -> what they are sorted by. Numbers in names count as numbers, so that image2 is before image10.
ORDERS: dict[str, Callable[[File], Any]] = {
    "name": lambda file: _natural(file.path),
    "time": lambda file: (file.changed, _natural(file.path)),
}


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Returns the key of an order of names in which numbers count as numbers."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts]


def sub_folders(path: str) -> list[str]:
    """Returns the names of the sub-folders of a folder that hold a file, in order of their names.

    A link that leads back to the folder, or to one that it lies in, is no sub-folder.

    Raises:
        ValueError: it is no folder, or cannot be read.
    """
    try:
        names = [entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as error:
        raise ValueError(
            f"path is {path!r}, which cannot be read as a folder ({error.strerror}); correct it"
        ) from error
    here = pathlib.Path(path).resolve()
    within = [name for name in names if not here.is_relative_to((here / name).resolve())]
    return [name for name in sorted(within, key=_natural) if any(_names(os.path.join(path, name)))]


def class_folders(path: str) -> list[str]:
    """Returns the names of the classes of a folder of domains: those of the folders in its sub-folders, in order."""
    return sorted({name for one in sub_folders(path) for name in sub_folders(os.path.join(path, one))}, key=_natural)


def count_tasks(path: str, folders: str, num_tasks: int, classes_per_task: int, shared: bool) -> tuple[int, int]:
    """Returns how many tasks a folder makes, and of how many sub-folders (or parts) each is.

    Args:
        path: the folder.
        folders: "tasks": its sub-folders are tasks, or the folder, which has none, is cut into them; "classes": its
            sub-folders are classes; "domains": they are domains, each of which is a task, and hold folders of classes.
        num_tasks: 0 takes as many as there are, or PARTS where there are no sub-folders or tasks share them.
        classes_per_task: 0 takes what `cut` says.
        shared: whether all tasks have the same sub-folders, each with another part of their images.

    Raises:
        ValueError: it is no folder, cannot be read, or has too few sub-folders.
    """
    names = sub_folders(path)
    check_argument(
        folders == "tasks" or len(names) > 1,
        f"folders is {folders!r}, but {path!r} has {len(names)} sub-folders with files; give a folder for each of "
        "them, or set folders to tasks",
    )
    if folders == "domains":
        classes = class_folders(path)
        check_argument(
            len(classes) > 1,
            f"folders is 'domains', but the sub-folders of {path!r} hold {len(classes)} folders with files; make a "
            "folder for each class in each domain",
        )
        return num_tasks or len(names), classes_per_task or len(classes)
    told = f"{path!r} has {len(names)} sub-folders with files"
    return cut(len(names), folders, num_tasks, classes_per_task, shared, told)


def cut(groups: int, folders: str, num_tasks: int, classes_per_task: int, shared: bool, told: str) -> tuple[int, int]:
    """Returns how many tasks groups of images make, and of how many groups (or parts) each is.

    Args:
        groups: their number; 0 where the images are not in groups, and are cut into PARTS tasks.
        folders: what a group is, "tasks" or "classes".
        num_tasks: 0 takes as many as there are, or PARTS where tasks share the groups.
        classes_per_task: 0 takes 1 for tasks, and all groups where tasks share them. For classes it takes as many as
            `num_tasks` leaves for each, or without that the least number from 2 on that leaves none over.
        shared: whether all tasks have the same groups, each with another part of their images.
        told: says how many groups there are, for the message.

    Raises:
        ValueError: there are fewer groups than a task needs.
    """
    if classes_per_task:
        of_each = classes_per_task
    elif shared:
        of_each = max(groups, 1)
    elif folders == "tasks":
        of_each = 1
    elif num_tasks:
        of_each = groups // num_tasks
        check_argument(of_each > 0, f"num_tasks is {num_tasks}, but {told}; lower it")
    else:
        of_each = next((n for n in range(2, groups) if groups % n == 0), max(groups, 2))
    there = groups or PARTS * of_each
    check_argument(there >= of_each, f"classes_per_task is {of_each}, but {told}; lower it")
    return num_tasks or (PARTS if shared else there // of_each), of_each


def groups(path: str, file_order: str) -> list[Group]:
    """Returns the groups of a folder in the order of their names, and the files of each in the order asked for.

    Args:
        path: the folder.
        file_order: "name" or "time", that of the last change.

    Raises:
        ValueError: it is no folder, cannot be read, or holds no file; or `file_order` is another word.
    """
    check_word("file_order", file_order, ORDERS)
    found = [Group(name, _files(path, _names(os.path.join(path, name)), file_order)) for name in sub_folders(path)] or [
        Group("", _files(path, _names(path), file_order))
    ]
    check_argument(any(group.files for group in found), f"path is {path!r}, which holds no file; give another folder")
    return found


def _names(path: str) -> Iterator[str]:
    """Yields the path of each file in a folder and those below it, without hidden ones."""
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(folder, name) for name in files if not name.startswith("."))


def _files(path: str, names: Iterable[str], file_order: str) -> tuple[File, ...]:
    """Returns the files with these names, sorted, with paths that begin at `path`."""
    found = []
    for name in names:
        try:
            about = os.stat(name)
        except OSError:  # a link that leads nowhere; it is named when it is opened
            found.append(File(os.path.relpath(name, path), -1, 0))
            continue
        if stat.S_ISREG(about.st_mode):
            found.append(File(os.path.relpath(name, path), about.st_size, about.st_mtime_ns))
    return tuple(sorted(found, key=ORDERS[file_order]))


def printable(name: str) -> str:
    """Returns the name of a file for people: bytes that are not UTF-8 are escaped, as are control characters."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class Source(NamedTuple):
    """The files of a folder as a `decoded.Source`.

    Attributes:
      path: of the folder.
      files: all of them, group after group.
      image_size: S; images become [S, S, 3].
      fit: how they get that size, a name in `tfds_source.FITS`.
    """

    path: str
    files: Sequence[File]
    image_size: int
    fit: str

    @property
    def name(self) -> str:
        """Returns the name of the folder."""
        return f"'{os.path.basename(self.path)}'"

    @property
    def identity(self) -> list:
        """Returns all that decoded pixels depend on."""
        return [os.path.abspath(self.path), self.fit, self.files]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Returns the shape (N, S, S, 3) of all images together."""
        return len(self.files), self.image_size, self.image_size, 3

    def decode(self, indices: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        """Decodes the images at `indices`, see `decoded.Source`; black for those that cannot be decoded."""
        images, problems = np.zeros((len(indices), *self.shape[1:]), np.uint8), {}
        for place, index in enumerate(indices):
            try:
                images[place] = read(os.path.join(self.path, self.files[index].path), self.image_size, self.fit)
            except Exception as error:  # a damaged image can raise anything
                problems[int(index)] = "empty" if self.files[index].size == 0 else reason(error)
        return images, problems


def reason(error: Exception) -> str:
    """Returns why an image cannot be decoded, without the path, which Pillow puts into its messages."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "in no format of images that Pillow reads"
    if isinstance(error, Image.DecompressionBombError):
        return "too large: more pixels than Pillow decodes"
    if isinstance(error, FileNotFoundError):
        return "a link that leads nowhere"
    return " ".join(str(error).split())[:200] or type(error).__name__


def read(path: str, size: int, fit: str) -> np.ndarray:
    """Reads an image file as `as_rgb` does: uint8 [size, size, 3].

    Raises:
        Exception: of any type, where the file is damaged or no image.
    """
    with Image.open(path) as file:
        file.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded no larger than needed, which is faster
        return np.asarray(FITS[fit](as_rgb(file), size))


def as_rgb(image: Image.Image) -> Image.Image:
    """Makes an image RGB: turned as its EXIF data say, and on white where it is transparent.

    Of an animation it is the first frame. Grey levels of 16 bits become 8 bits.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 2**16 - 1) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


class Opened(NamedTuple):
    """An opened folder.

    Attributes:
      split: its images; the label of each is the number of its group, or of its part where the folder has one group.
      left_out: a line for each file that is left out: its path and the reason.
      files: the file of each image.
    """

    split: decoded.Split
    left_out: tuple[str, ...]
    files: Sequence[File]


def open_folder(
    path: str, names: Sequence[str], parts: int, image_size: int, fit: str, file_order: str, cache: str
) -> Opened:
    """Opens a folder of images, all of which are decoded, unless the cache has them.

    Args:
        path: the folder.
        names: of its sub-folders, in the order of their labels; () for a folder without sub-folders.
        parts: without sub-folders, into how many parts of equal size the images are cut, in their order.
        image_size: S of the images [S, S, 3].
        fit: how they get that size, a name in `tfds_source.FITS`.
        file_order: "name" or "time", that of the last change.
        cache: see `decoded.decode_all`.

    Raises:
        ValueError: it is no folder or cannot be read, or a sub-folder or the folder has no image that can be decoded,
            or has other sub-folders than `names`, or more images lie beside the sub-folders than in them; or an
            argument is another word.
        UsageError: see `decoded.decode_all`.
    """
    check_word("fit", fit, FITS)
    found = groups(path, file_order)
    unknown = sorted({group.name for group in found if group.name} - set(names))
    check_argument(
        bool(found[0].name) == bool(names) and not unknown,
        f"validation_path is {path!r}, whose sub-folders are not those of path ({', '.join(unknown[:5]) or 'none'}); "
        "make them alike",
    )
    source = Source(path, tuple(file for group in found for file in group.files), image_size, fit)
    loose = sorted(entry.name for entry in os.scandir(path) if names and entry.is_file() and entry.name[0] != ".")
    images = [name for name in loose if os.path.splitext(name)[1].lower() in Image.registered_extensions()]
    check_argument(
        len(images) <= len(source.files),
        f"path is {path!r}, where {len(images)} images lie beside the sub-folders ({', '.join(names[:5])}), which have "
        f"{len(source.files)} files; move the images into a sub-folder, or the sub-folders away",
    )
    array, problems = decoded.decode_all(source, cache)
    good = np.array([index not in problems for index in range(len(array))])
    labels = np.full(len(array), -1, np.int32)
    if names:
        number = {name: label for label, name in enumerate(names)}
        labels[:] = [number[group.name] for group in found for _ in group.files]
        labels[~good] = -1
    else:
        labels[good] = np.arange(good.sum()) * parts // max(good.sum(), 1)
    left_out = tuple(f"{printable(source.files[index].path)}: {why}" for index, why in problems.items())
    left_out += tuple(f"{printable(name)}: beside the sub-folders" for name in loose)
    empty = sorted(set(range(len(names) or parts)) - set(labels.tolist()))
    first = left_out[0] if left_out else ""
    check_argument(
        bool(good.any()),
        f"path is {path!r}, where none of {len(array)} files can be used as an image ({first}); give another folder",
    )
    wrong = (
        f"sub-folder {names[empty[0]]!r} has no image that can be read; remove it"
        if names and empty
        else f"{good.sum()} images cannot be cut into {parts} tasks; lower num_tasks"
    )
    check_argument(not empty, f"path is {path!r}, where {wrong}")
    count = len(names) or parts
    names = list(map(printable, names)) or (
        [f"part {number + 1}" for number in range(parts)] if parts > 1 else ["all images"]
    )
    split = decoded.Split(labels, count, lambda indices: decoded.Images(array, indices), names=tuple(names))
    return Opened(split, left_out, source.files)


def with_domains(opened: Opened, classes: Sequence[str]) -> Opened:
    """Makes the sub-folders of an opened folder domains, and the folders in them classes.

    Args:
        opened: by `open_folder`, with sub-folders.
        classes: the names of the folders in these, in the order of their labels.

    Returns:
        The same images with labels and domains. A file that is in no folder of these classes is left out.
    """
    domains, number = opened.split.labels, {name: label for label, name in enumerate(classes)}
    within = [file.path.split(os.sep)[1:-1] for file in opened.files]
    labels = np.array([number.get(folders[0], -1) if folders else -1 for folders in within], np.int32)
    loose = (printable(opened.files[place].path) for place in np.flatnonzero((labels < 0) & (domains >= 0)).tolist())
    split = opened.split._replace(
        labels=np.where(domains >= 0, labels, -1),
        num_classes=len(classes),
        domains=np.maximum(domains, 0),  # an image that cannot be read has no label; its domain does not matter
        names=tuple(map(printable, classes)),
    )
    left_out = opened.left_out + tuple(f"{name}: in no folder of a class" for name in loose)
    return opened._replace(split=split, left_out=left_out)
