"""Builds CIFAR-10 and CIFAR-100 as TFDS does, but without TensorFlow."""

import tarfile
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.image_classification import cifar

from ucl_jax.data import sources

SIDE = 32


class Cifar10(cifar.Cifar10, skip_registration=True):  # type: ignore[call-arg]
    """60,000 images of 32x32 pixels in 10 classes, with the keys, ids and order of the official builder.

    The source is the binary version. Of each image it has a byte for each label, and then the pixels [3, 32, 32].
    """

    url_infos = cifar.Cifar10.url_infos
    MANUAL_DOWNLOAD_INSTRUCTIONS = sources.INSTRUCTIONS

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        (path,) = sources.find(dl_manager.manual_dir, self.url_infos).values()
        with tarfile.open(path) as archive:
            members = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
            files = {name: file.read() for name, file in members.items() if file}
        declared = self._cifar_info
        for key, name in zip(declared.label_keys, declared.label_files):
            self.info.features[key].names = files[declared.prefix + name].decode().split()
        return {
            split: self._generate_examples(f"{split}_", b"".join(files[declared.prefix + name] for name in names))
            for split, names in (("train", declared.train_files), ("test", declared.test_files))
        }

    def _generate_examples(self, split_prefix: str, content: bytes) -> Iterator[tuple[int, dict]]:
        keys = self._cifar_info.label_keys
        for index, record in enumerate(np.frombuffer(content, np.uint8).reshape(-1, len(keys) + 3 * SIDE**2)):
            labels, pixels = np.split(record, [len(keys)])
            image = Image.fromarray(pixels.reshape(3, SIDE, SIDE).transpose(1, 2, 0))
            yield index, {"id": f"{split_prefix}{index:05d}", "image": image, **dict(zip(keys, labels.tolist()))}


class Cifar100(Cifar10, cifar.Cifar100, skip_registration=True):  # type: ignore[call-arg]
    """60,000 images of 32x32 pixels in 100 classes, which form 20 coarse ones. All else is as in `Cifar10`."""

    url_infos = cifar.Cifar100.url_infos
