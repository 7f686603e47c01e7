"""Takes images in memory as a data set, in place of a folder of images.

Labels, or the numbers of tasks, are what sub-folders are in a folder. Images with neither are cut into tasks in their
order.
"""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from PIL import Image

from ucl_jax.data.benchmarks import IN_MEMORY
from ucl_jax.data.decoded import Images, Split
from ucl_jax.data.folder import as_rgb, cut, read, reason
from ucl_jax.data.tfds_source import FITS
from ucl_jax.errors import check_argument, check_word

AnyImage = np.ndarray | Image.Image | str | os.PathLike
AnyImages = np.ndarray | Sequence[AnyImage]
MAY_BE = "uint8 [N, H, W, 3], or a list of files, PIL images or arrays uint8 [H, W, 3]"


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """Images in memory, to be trained on instead of a data set. Give labels, or tasks, or neither.

    Examples:
      >>> import numpy as np
      >>> images = np.random.default_rng(0).integers(0, 256, (60, 10, 10, 3), np.uint8)
      >>> Arrays(images, labels=["cat", "dog", "fox"] * 20).folders
      'classes'
      >>> Arrays(images.astype(float))
      Traceback (most recent call last):
      ValueError: images is float64 [60, 10, 10, 3]; it must be uint8 [N, H, W, 3], or a list of files, PIL images or \
arrays uint8 [H, W, 3]

    Attributes:
      images: uint8 [N, H, W, 3], or a sequence of N images, which may differ in size; see `check_images`.
      labels: [N], the class of each image: numbers or words. Classes are cut into tasks in sorted order, two a task
        unless that leaves one over or the config says otherwise; see `folder.cut`.
      tasks: [N], the task of each image, of images that have no labels. Tasks come in sorted order.

    Raises:
      ValueError: something has another shape or type, or both labels and tasks are given.
    """

    images: AnyImages
    labels: Sequence | np.ndarray | None = None
    tasks: Sequence | np.ndarray | None = None

    def __post_init__(self) -> None:
        check_images(self.images)
        check_argument(
            self.labels is None or self.tasks is None, "labels and tasks are both given; labels are cut into tasks"
        )
        for name in ("labels", "tasks"):
            shape = np.shape(getattr(self, name) if getattr(self, name) is not None else np.empty(len(self.images)))
            wanted = (len(self.images),)
            check_argument(shape == wanted, f"{name} has shape {shape}; one for each image is {wanted}")

    @property
    def folders(self) -> str:
        """Returns what the groups of images are, in the words of `config.benchmark.folders`."""
        return "classes" if self.labels is not None else "tasks"

    @cached_property
    def groups(self) -> np.ndarray | None:
        """Returns the number of the class or task of each image, int32 [N]; None where neither is given."""
        given = self.labels if self.labels is not None else self.tasks
        return None if given is None else np.unique(np.asarray(given), return_inverse=True)[1].astype(np.int32)

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the name of each class or task, by their numbers; () where neither is given."""
        given = self.labels if self.labels is not None else self.tasks
        return () if given is None else tuple(map(str, np.unique(np.asarray(given))))

    @cached_property
    def path(self) -> str:
        """Returns what stands for a path in the config of a run: a hash by which a run knows its images again."""
        found = hashlib.sha256(b"" if self.groups is None else self.groups.tobytes())
        for image in map(as_array, self.images):
            found.update(f"{image.shape}".encode() + image.tobytes())
        return IN_MEMORY + found.hexdigest()[:32]

    def count_tasks(self, num_tasks: int, classes_per_task: int, shared: bool) -> tuple[int, int]:
        """Returns how many tasks the images make, and of how many classes (or parts) each is.

        Args:
          num_tasks: 0 takes as many as there are, or PARTS of `folder` where tasks share them.
          classes_per_task: 0 takes what `folder.cut` says.
          shared: whether all tasks have the same classes, each with another part of their images.

        Raises:
          ValueError: there are too few classes.
        """
        groups = 0 if self.groups is None else 1 + int(self.groups.max())
        told = f"the images have {groups} {self.folders}"
        check_argument(
            self.labels is None or groups > 1, "labels are all the same; give at least 2 classes, or leave labels out"
        )
        return cut(groups, self.folders, num_tasks, classes_per_task, shared, told)


def check_images(images: AnyImages) -> None:
    """Checks that something is a stack of images, or a sequence of images in one or several of the allowed forms.

    Args:
      images: uint8 [N, H, W, 3]; or a sequence of images, each an array uint8 [H, W, 3] (RGB), [H, W, 4] (RGBA) or
        [H, W] (grey), or a PIL image, or the path of a file. N is at least 1.

    Raises:
      ValueError: it is something else.
    """
    wrong: list[object]
    if isinstance(images, np.ndarray):
        rgb = images.ndim == 4 and images.shape[3] == 3
        what, wrong = "is", [] if rgb and len(images) and _is_image(images[0]) else [images]
    elif isinstance(images, Sequence) and not isinstance(images, str) and len(images):
        what, wrong = "holds", [one for one in images if not _is_image(one)]
    else:
        what, wrong = "is", [images]
    if wrong:
        shown = wrong[0]
        kind = f"{shown.dtype} {list(shown.shape)}" if isinstance(shown, np.ndarray) else type(shown).__name__
        raise ValueError(f"images {what} {kind}; it must be {MAY_BE}")


def _is_image(one: object) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == np.uint8 and (one.ndim == 2 or one.shape[2:] in ((3,), (4,))) and one.size > 0
    return isinstance(one, Image.Image | str | os.PathLike)


def as_array(image: AnyImage) -> np.ndarray:
    """Returns an image in one of the forms of `check_images` as RGB, uint8 [H, W, 3]; transparency shows white.

    Raises:
      ValueError: its file cannot be read.
    """
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3:
        return np.ascontiguousarray(image)
    if not isinstance(image, str | os.PathLike):
        return np.asarray(as_rgb(Image.fromarray(image) if isinstance(image, np.ndarray) else image))
    try:
        with Image.open(image) as file:
            return np.asarray(as_rgb(file))
    except Exception as error:  # a damaged image can raise anything
        raise _unreadable(image, error) from error


def _unreadable(path: str | os.PathLike, error: Exception) -> ValueError:
    why = "there is no such file" if isinstance(error, FileNotFoundError) else reason(error)
    return ValueError(f"images holds '{os.fspath(path)}', which cannot be read ({why}); leave it out")


def fitted(images: AnyImages, size: int, fit: str) -> np.ndarray:
    """Brings images to size x size as a data set is brought to it: uint8 [N, size, size, 3].

    Files are read as those of a folder are, so that training and this give the same pixels.

    Args:
      images: see `check_images`.
      size: pixels a side.
      fit: how, a name in `tfds_source.FITS`.

    Raises:
      ValueError: they are no such images, `fit` is another word, a file cannot be read, or an image cannot be brought
        to the size.
    """
    check_word("fit", fit, FITS)
    check_images(images)
    if isinstance(images, np.ndarray) and images.shape[1:3] == (size, size):
        return images
    return np.stack([_fitted(image, size, fit) for image in images])


def _fitted(image: AnyImage, size: int, fit: str) -> np.ndarray:
    if not isinstance(image, str | os.PathLike):
        return np.asarray(FITS[fit](Image.fromarray(as_array(image)), size))
    try:
        return read(os.fspath(image), size, fit)
    except Exception as error:  # a damaged image can raise anything
        raise _unreadable(image, error) from error


def open_arrays(arrays: Arrays, parts: int, image_size: int, fit: str) -> Split:
    """Opens images in memory; the label of each is the number of its class, its task or its part.

    Args:
      arrays: the images.
      parts: without labels and tasks, into how many parts of equal size the images are cut, in their order.
      image_size: pixels a side.
      fit: how the images get that size, a name in `tfds_source.FITS`.

    Raises:
      ValueError: as `fitted` does, or there are fewer images than parts.
    """
    array, count = fitted(arrays.images, image_size, fit), len(arrays.images)
    labels = arrays.groups
    if labels is None:
        check_argument(count >= parts, f"{count} images cannot be cut into {parts} tasks; lower num_tasks")
        labels = (np.arange(count) * parts // count).astype(np.int32)
    return Split(labels, 1 + int(labels.max()), lambda indices: Images(array, indices), names=arrays.names)
