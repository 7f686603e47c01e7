"""Builds a TFDS data set of scikit-learn's handwritten digits: real images, without a download or TensorFlow."""

from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

TEST_EVERY = 5  # one example in so many, of each class, is a test example


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 grey images of 8x8 pixels in 10 classes, in scikit-learn's order.

    The source is the test part of UCI's "Optical Recognition of Handwritten Digits", as `load_digits` bundles it.
    Its values from 0 to 16 are stored as 0 to 255. Every fifth example of each class is a test example, which gives
    1,442 training and 355 test images.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        labels = digits.target
        nth = np.zeros(len(labels), int)  # the position of each example within its class
        for label in np.unique(labels):
            nth[labels == label] = np.arange((labels == label).sum())
        is_test = nth % TEST_EVERY == TEST_EVERY - 1
        return {
            "train": self._generate_examples(images[~is_test], labels[~is_test]),
            "test": self._generate_examples(images[is_test], labels[is_test]),
        }

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict]]:
        for index, (image, label) in enumerate(zip(images, labels)):
            # TFDS encodes an image of Pillow by itself, and an array with TensorFlow.
            yield index, {"image": Image.fromarray(image), "label": int(label)}
