"""Builds Tiny-ImageNet as a TFDS data set, without TensorFlow."""

import collections
import contextlib
import io
import itertools
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterator

import tensorflow_datasets as tfds
from PIL import Image, UnidentifiedImageError

from ucl_jax.data.tiny_imagenet_classes import CLASSES
from ucl_jax.errors import UsageError

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
ROOT = "tiny-imagenet-200"

SIDE = 64
TRAIN_IMAGE = re.compile(r"train/([^/]+)/images/[^/]+\.JPEG")
ANNOTATIONS = "val/val_annotations.txt"

Read = Callable[[str], bytes]
# The files of an archive: their names below ROOT, with '/' between parts, and a function that reads one of them. The
# function raises ValueError where it cannot.
Files = tuple[list[str], Read]


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """100,000 training and 10,000 validation images of 64x64 pixels in 200 classes of ImageNet.

    The archive's test images have no labels and are left out. Class k is the k-th WordNet ID (wnid, e.g. n02124075) in
    the archive's wnids.txt, so that "the first 100 classes" are the first 100 lines of that file, as in the official
    code. The file is not sorted; torchvision's ImageFolder, which sorts, gives another order. JPEG files are stored
    unchanged, except the few grey ones: these are stored as RGB PNG of the same pixels, so that every reader of TFDS
    gets [64, 64, 3].
    """

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {  # noqa: RUF012 (this is how TFDS declares it)
        "2.0.0": "Labels follow wnids.txt, as in the official code, so that the first 100 classes are the paper's.",
        "1.0.0": "Labels followed the sorted wnids.",
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"{ROOT}.zip from {URL}, or the extracted folder {ROOT}/; its checksum is not checked."
    )
    # Size, SHA-256 and (not used by TFDS) MD5 90528d7ca1a48142e341f4ef8d21d0de, as published by several projects.
    url_infos = {  # noqa: RUF012 (this is how TFDS declares it)
        URL: tfds.download.checksums.UrlInfo(
            size=248_100_043,
            checksum="6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
            filename=f"{ROOT}.zip",
        )
    }

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(SIDE, SIDE, 3)),
            "label": tfds.features.ClassLabel(names=list(CLASSES)),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="http://cs231n.stanford.edu/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        path = _archive(pathlib.Path(dl_manager.manual_dir))
        with _naming_archive(path):
            names, read = _files(path)
            _check_order(_text("wnids.txt", read).splitlines())
            train, validation = _train_images(names), _validation_images(names, _text(ANNOTATIONS, read))
        return {
            "train": self._generate_examples(path, train, read),
            "validation": self._generate_examples(path, validation, read),
        }

    def _generate_examples(self, path: pathlib.Path, wnid_of: dict[str, str], read: Read) -> Iterator[tuple[str, dict]]:
        for name, wnid in wnid_of.items():
            with _naming_archive(path):
                image = _rgb_file(name, read(name))
            yield name, {"image": image, "label": wnid}


@contextlib.contextmanager
def _naming_archive(path: pathlib.Path) -> Iterator[None]:
    """Turns a ValueError about the content of the archive into a UsageError that names the archive."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{path} is not a valid Tiny-ImageNet: {error}; download {URL} again") from error


def _archive(manual_dir: pathlib.Path) -> pathlib.Path:
    """Returns the archive or the extracted folder that is in `manual_dir`; raises ValueError if there is neither."""
    for name in (f"{ROOT}.zip", ROOT):
        if (path := manual_dir / name).exists():
            return path
    raise ValueError(f"{manual_dir} holds neither {ROOT}.zip nor {ROOT}")


def _files(path: pathlib.Path) -> Files:
    """Returns the files of an archive or of an extracted folder.

    Raises:
        ValueError: it is neither of them, lacks wnids.txt or the annotations, or holds the same name twice or a name
            that leads out of it.
    """
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        load: Read = lambda name: (path / name).read_bytes()  # noqa: E731
    else:
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ValueError(f"it is not a zip archive ({error})") from error
        members = archive.namelist()
        for name in members:
            if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                raise ValueError(f"it holds {name!r}, a path that leads out of it")
        names = [name.removeprefix(f"{ROOT}/") for name in members if name.startswith(f"{ROOT}/")]
        load = lambda name: archive.read(f"{ROOT}/{name}")  # noqa: E731
    if missing := {"wnids.txt", ANNOTATIONS} - set(names):
        raise ValueError(f"it lacks {ROOT}/{min(missing)}")
    (name, times), *_ = collections.Counter(names).most_common(1)
    if times > 1:
        raise ValueError(f"it holds {name!r} twice")

    def read(name: str) -> bytes:
        try:
            return load(name)
        except Exception as error:  # a damaged archive can raise anything
            raise ValueError(f"{name!r} cannot be read ({error})") from error

    return names, read


def _text(name: str, read: Read) -> str:
    """Reads a text file; raises ValueError if it is not UTF-8."""
    try:
        return read(name).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not text ({error})") from error


def _check_order(wnids: list[str]) -> None:
    """Raises ValueError unless these are the official classes in their official order, by which tasks are cut."""
    for number, (found, official) in enumerate(itertools.zip_longest(wnids, CLASSES, fillvalue=""), 1):
        if found.strip() != official:
            raise ValueError(f"wnids.txt, line {number} is {found!r}, officially {official!r}")


def _train_images(names: list[str]) -> dict[str, str]:
    """Returns the wnid of every training image by its name; raises ValueError for a misplaced or missing one."""
    wnid_of = {}
    for name in names:
        if name.startswith("train/") and name.endswith(".JPEG"):
            match = TRAIN_IMAGE.fullmatch(name)
            if not match or match[1] not in CLASSES:
                raise ValueError(f"{name!r} is not in train/WNID/images of a WNID in wnids.txt")
            wnid_of[name] = match[1]
    return _complete(wnid_of, "train")


def _validation_images(names: list[str], annotations: str) -> dict[str, str]:
    """Returns the wnid of every validation image by its name, from the lines of `annotations`.

    Raises:
        ValueError: a line names no image, an image twice or an unknown class; an image or a class has no line.
    """
    images = {name for name in names if name.startswith("val/images/") and name.endswith(".JPEG")}
    wnid_of = {}
    for number, line in enumerate(annotations.splitlines(), 1):
        where = f"{ANNOTATIONS}, line {number}"
        file, wnid, *_box = (*line.split(), "", "")
        name = f"val/images/{file}"
        if name not in images or name in wnid_of:
            raise ValueError(f"{where} names {file!r}, which is {'named twice' if name in wnid_of else 'not there'}")
        if wnid not in CLASSES:
            raise ValueError(f"{where} has the class {wnid!r}, which is not in wnids.txt")
        wnid_of[name] = wnid
    if unnamed := images - set(wnid_of):
        raise ValueError(f"{ANNOTATIONS} does not name {min(unnamed)!r}")
    return _complete(wnid_of, "val")


def _complete(wnid_of: dict[str, str], folder: str) -> dict[str, str]:
    """Returns `wnid_of`; raises ValueError if a class has no image."""
    if missing := set(CLASSES) - set(wnid_of.values()):
        raise ValueError(f"{folder} has no image of {min(missing)}")
    return wnid_of


def _rgb_file(name: str, jpeg: bytes) -> io.BytesIO:
    """Returns an RGB JPEG file unchanged, a grey one as RGB PNG; raises ValueError unless it has SIDE x SIDE pixels."""
    file = io.BytesIO(jpeg)
    try:
        with Image.open(file, formats=("JPEG",)) as image:
            if image.size != (SIDE, SIDE):
                raise ValueError(f"it has {image.width}x{image.height} pixels, not {SIDE}x{SIDE}")
            image.load()
            if image.mode != "RGB":
                file = io.BytesIO()
                image.convert("RGB").save(file, "png")
    except UnidentifiedImageError as error:
        raise ValueError(f"{name!r} is not a JPEG image") from error
    except Exception as error:  # a damaged image can raise anything
        raise ValueError(f"{name!r} is not a valid image ({error})") from error
    file.seek(0)
    return file
