"""Makes data sets and settings that the data tests share. TFDS really writes every data set here to disk."""

import functools
import hashlib
import io
import os
import pathlib
import zipfile

import ml_collections
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import registered

from ucl_jax.data.benchmarks import BENCHMARKS, Benchmark
from ucl_jax.data.tiny_imagenet_classes import CLASSES

REAL_DATA_DIR = os.environ.get("UCL_JAX_DATA_DIR", os.path.expanduser("~/tensorflow_datasets"))
FIRST = list(CLASSES)[:3]  # of the official order, which is not sorted; the miniature has the most images of these


def stream_config(benchmark: str | Benchmark, **overrides) -> ml_collections.ConfigDict:
    name = benchmark if isinstance(benchmark, str) else benchmark.tfds_name
    entry = BENCHMARKS[benchmark] if isinstance(benchmark, str) else benchmark
    defaults = {
        "name": name,
        "prepare": True,
        "path": "",
        "folders": "classes",
        "file_order": "name",
        "validation_path": "",
        "examples_per_task": 0,
        "test_examples_per_task": 0,
        "validation_fraction": 0.0,
        "subset_seed": 0,
        "class_order_seed": -1,
        "joint": False,
        "domain_key": "",
        "imbalance": 1.0,
        "imbalance_shape": "long_tail",
        "repeat": 1,
        "blur": 0.0,
        "blur_shape": "linear",
        "correlation": 1,
    }
    config = ml_collections.ConfigDict({**defaults, **entry._asdict()})
    config.update(overrides)
    return config


def encode(image: np.ndarray, file_format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format)
    return file.getvalue()


def shape_image(index: int) -> np.ndarray:
    """Returns an image of one colour, uint8 [8, 12, 3]; its red channel is the index."""
    return np.full((8, 12, 3), (index, 7, 200), np.uint8)


def write_shapes(data_dir: pathlib.Path) -> None:
    """Writes 'shapes', a made-up data set with keys and splits of its own, three files a split, and two label keys.

    Example i of 'learn' (60) and 'check' (30) has red = i, `kind` = i % 3 and `size` = i % 2.
    """
    with registered.skip_registration():

        class Shapes(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("2.0.0")
            pkg_dir_path = data_dir

            def _info(self):
                features = {
                    "picture": tfds.features.Image(shape=(None, None, 3)),
                    "kind": tfds.features.ClassLabel(num_classes=3),
                    "size": tfds.features.ClassLabel(num_classes=2),
                }
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, dl_manager):
                return {"learn": self._generate_examples(60), "check": self._generate_examples(30)}

            def _generate_examples(self, count):
                for i in range(count):
                    picture = io.BytesIO(encode(shape_image(i), "png"))
                    yield i, {"picture": picture, "kind": i % 3, "size": i % 2}

    builder = Shapes(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3, try_download_gcs=False))


SHAPES = Benchmark(
    "shapes",
    num_tasks=3,
    classes_per_task=1,
    image_size=12,
    images_per_task=20,
    fit="pad",
    train_split="learn",
    test_split="check",
    image_key="picture",
    label_key="kind",
)


@functools.cache
def tiny_files() -> dict[str, bytes]:
    """Returns the files of a miniature tiny-imagenet-200 in the official layout.

    Each of the three FIRST classes has 4 training images and 2 validation images, every other class has one of each.
    One image is grey.
    """
    rng = np.random.default_rng(0)
    files = {"wnids.txt": "\n".join(CLASSES).encode(), "words.txt": b"n01443537\tgoldfish\n"}
    annotations = []
    for wnid in CLASSES:
        for i in range(4 if wnid in FIRST else 1):
            shape = (64, 64) if (wnid, i) == (FIRST[0], 0) else (64, 64, 3)
            image = rng.integers(0, 256, shape, np.uint8)
            files[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = encode(image, "jpeg")
        files[f"train/{wnid}/{wnid}_boxes.txt"] = f"{wnid}_0.JPEG\t0\t0\t63\t63\n".encode()
    for i, wnid in enumerate([*FIRST, *CLASSES]):
        files[f"val/images/val_{i}.JPEG"] = encode(rng.integers(0, 256, (64, 64, 3), np.uint8), "jpeg")
        annotations.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62")
    files["val/val_annotations.txt"] = ("\n".join(annotations) + "\n").encode()
    files["test/images/test_0.JPEG"] = encode(rng.integers(0, 256, (64, 64, 3), np.uint8), "jpeg")
    return files


def write_tiny(path: pathlib.Path, changes: dict[str, bytes | None] | None = None) -> pathlib.Path:
    """Writes the miniature as tiny-imagenet-200.zip to `path`, with members changed, added, or left out where None."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**tiny_files(), **(changes or {})}.items():
            if content is not None:
                archive.writestr(f"tiny-imagenet-200/{name}", content)
    return path


def url_infos(files: dict[str, bytes], server: str) -> dict[str, tfds.download.checksums.UrlInfo]:
    """Returns what a builder declares about its files, for files that `server` has."""
    return {
        f"{server}/{name}": tfds.download.checksums.UrlInfo(
            size=len(content), checksum=hashlib.sha256(content).hexdigest(), filename=name
        )
        for name, content in files.items()
    }
