"""Builds MNIST and Fashion-MNIST as TFDS does, but without TensorFlow."""

import gzip
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.image_classification import mnist

from ucl_jax.data import sources

SIDE = 28
# Bytes before the data: what they are, and the size of each dimension.
IMAGES_HEADER, LABELS_HEADER = 16, 8


class Mnist(mnist.MNIST, skip_registration=True):  # type: ignore[call-arg]
    """70,000 grey images of 28x28 pixels in 10 classes, with the keys and the order of the official builder."""

    url_infos = mnist.MNIST.url_infos
    MANUAL_DOWNLOAD_INSTRUCTIONS = sources.INSTRUCTIONS

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        paths = sources.find(dl_manager.manual_dir, self.url_infos)
        return {
            split: self._generate_examples(
                _read(paths[f"{name}-images-idx3-ubyte.gz"], IMAGES_HEADER).reshape(-1, SIDE, SIDE),
                _read(paths[f"{name}-labels-idx1-ubyte.gz"], LABELS_HEADER),
            )
            for split, name in (("train", "train"), ("test", "t10k"))
        }

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict]]:
        for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            yield index, {"image": Image.fromarray(image), "label": label}


class FashionMnist(Mnist, mnist.FashionMNIST, skip_registration=True):  # type: ignore[call-arg]
    """70,000 grey images of 28x28 pixels in 10 classes of clothes. All else is as in `Mnist`."""

    url_infos = mnist.FashionMNIST.url_infos


def _read(path: pathlib.Path, header: int) -> np.ndarray:
    """Returns the bytes behind the header of a compressed IDX file, uint8."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)
