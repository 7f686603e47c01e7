"""Builds SVHN as TFDS does, but without TensorFlow."""

import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.datasets.svhn_cropped import svhn_cropped_dataset_builder as official

from ucl_jax.data import sources


class SvhnCropped(official.Builder, skip_registration=True):  # type: ignore[call-arg]
    """630,420 images of 32x32 pixels in 10 classes, with the keys, ids and order of the official builder.

    Most of them are in the split `extra`. The source is MATLAB files: pixels [32, 32, 3, N], and labels [N, 1] in which
    10 stands for the digit 0.
    """

    url_infos = official.Builder.url_infos
    MANUAL_DOWNLOAD_INSTRUCTIONS = sources.INSTRUCTIONS

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        paths = sources.find(dl_manager.manual_dir, self.url_infos)
        return {
            split: self._generate_examples(f"{split}_", paths[f"{split}_32x32.mat"])
            for split in ("train", "test", "extra")
        }

    def _generate_examples(self, split_prefix: str, filepath: pathlib.Path) -> Iterator[tuple[int, dict]]:
        import scipy.io  # takes a quarter of a second, which no run shall wait for

        content = scipy.io.loadmat(filepath)
        for index, (image, (label,)) in enumerate(zip(np.moveaxis(content["X"], -1, 0), content["y"], strict=True)):
            yield (
                index,
                {"id": f"{split_prefix}{index:06d}", "image": Image.fromarray(image), "label": int(label) % 10},
            )
