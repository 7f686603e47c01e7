"""Tiny-ImageNet as a TFDS data set, prepared without TensorFlow."""

import contextlib
import io
import pathlib
import zipfile
from collections.abc import Callable, Iterator

import tensorflow_datasets as tfds
from PIL import Image

from ucl_jax.errors import UsageError

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
ROOT = "tiny-imagenet-200"

Read = Callable[[str], bytes]
Files = tuple[list[str], Read]  # names below ROOT with '/' between parts, and how to read one


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """100,000 training and 10,000 validation images of 64x64 pixels in 200 classes of ImageNet.

    The archive's test images have no labels and are left out. Class k is the k-th wnid (e.g. n01443537) in
    sorted order, as for torchvision's ImageFolder; wnids.txt has another order. So "the first 100 classes" are
    the first 100 sorted wnids. JPEG files are stored byte by byte. The few that are not RGB (grey) are stored as
    RGB PNG of the same pixels, so that every reader of TFDS gets [64, 64, 3].
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Optional: {ROOT}.zip or the extracted folder {ROOT}/ in manual_dir is used, unverified, instead of {URL}."
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
        features = {"image": tfds.features.Image(shape=(64, 64, 3)), "label": tfds.features.ClassLabel()}
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="http://cs231n.stanford.edu/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        names, read = _files(_archive(dl_manager))
        self.info.features["label"].names = sorted(read("wnids.txt").decode().split())
        annotations = read("val/val_annotations.txt").decode().splitlines()
        wnid_of = {f"val/images/{file}": wnid for file, wnid, *_box in map(str.split, annotations)}
        wnid_of |= {name: name.split("/")[1] for name in names if name.startswith("train/") and name.endswith(".JPEG")}
        return {
            "train": self._generate_examples(wnid_of, "train/", read),
            "validation": self._generate_examples(wnid_of, "val/", read),
        }

    def _generate_examples(self, wnid_of: dict[str, str], prefix: str, read: Read) -> Iterator[tuple[str, dict]]:
        for name, wnid in wnid_of.items():
            if name.startswith(prefix):
                yield name, {"image": _rgb_file(read(name)), "label": wnid}


def _archive(dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
    """The archive or the extracted folder: what lies in manual_dir, else the verified download."""
    with contextlib.suppress(AssertionError):  # TFDS: there is no manual_dir, or it is empty
        for name in (f"{ROOT}.zip", ROOT):
            if (path := pathlib.Path(dl_manager.manual_dir) / name).exists():
                return path
    return pathlib.Path(dl_manager.download(URL))


def _files(path: pathlib.Path) -> Files:
    """The files of an archive or a folder, under one view."""
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        read: Read = lambda name: (path / name).read_bytes()  # noqa: E731
    elif zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        names = [name.removeprefix(f"{ROOT}/") for name in archive.namelist()]
        read = lambda name: archive.read(f"{ROOT}/{name}")  # noqa: E731
    else:
        raise UsageError(f"{path} is no zip archive: fetch {URL} anew")
    missing = {"wnids.txt", "val/val_annotations.txt"} - set(names)
    if missing:
        raise UsageError(f"{path} is no Tiny-ImageNet: it lacks {ROOT}/{min(missing)}; fetch {URL} anew")
    return names, read


def _rgb_file(jpeg: bytes) -> io.BytesIO:
    """The file itself where it is RGB, else the same pixels as RGB PNG."""
    file = io.BytesIO(jpeg)
    with Image.open(file) as image:
        if image.mode != "RGB":
            file = io.BytesIO()
            image.convert("RGB").save(file, "png")
    file.seek(0)
    return file
