"""Compares data sets prepared by the project's own builders with official copies, where such are on this machine.

The archives are rebuilt from the official copies, and downloaded from a server of this machine. A rebuilt archive of
CIFAR is not the official one to the byte, for nothing tells the times and owners in a tar. So its own checksum is
declared.
"""

import gzip
import hashlib
import io
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import hashing

from tests.data_helpers import REAL_DATA_DIR, url_infos
from ucl_jax.data import prepare

PIXELS = {  # SHA-256 of the images in their official order, from shared/data/README.md
    ("cifar10", "train"): "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    ("cifar10", "test"): "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    ("cifar100", "train"): "4e457917601a66aed021f5fa37957b56c6319557c0a8ed5484de3c390af45430",
    ("cifar100", "test"): "4cb8e5d9309da489bf6b19cc10cd96c3ae6f8daf225380b605aaee4c0d6aee19",
    ("mnist", "train"): "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    ("mnist", "test"): "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
}


def as_stored(copy: prepare.Builder) -> dict[str, dict[str, np.ndarray]]:
    """Returns each split as arrays of its features, in the order in which its examples are stored."""
    splits = {}
    for split in ("train", "test"):
        examples = list(copy.as_data_source(split))
        splits[split] = {key: np.array([example[key] for example in examples]) for key in examples[0]}
    return splits


def in_official_order(copy: prepare.Builder, stored: dict) -> dict[str, dict[str, np.ndarray]]:
    """Returns the splits with their examples in the order of their keys, which are 0, 1, 2 and so on."""
    ordered = {}
    for split, features in stored.items():
        hasher = hashing.Hasher(split)
        places = np.argsort(sorted(range(len(features["image"])), key=hasher.hash_key))
        ordered[split] = {key: values[places] for key, values in features.items()}
        assert hashlib.sha256(ordered[split]["image"].tobytes()).hexdigest() == PIXELS[copy.name, split]
    return ordered


def cifar(copy: prepare.Builder, splits: dict) -> dict[str, bytes]:
    """Returns the archive of CIFAR-10 or CIFAR-100."""
    ten = copy.name == "cifar10"
    labels = ("label",) if ten else ("coarse_label", "label")

    def records(split: str) -> list[bytes]:
        features = splits[split]
        images = features["image"].transpose(0, 3, 1, 2).reshape(len(features["image"]), -1)
        columns = [features[key].astype(np.uint8)[:, None] for key in labels]
        return [row.tobytes() for row in np.concatenate([*columns, images], axis=1)]

    fine, coarse = ("\n".join(copy.info.features[key].names) + "\n" for key in (labels[-1], labels[0]))
    if ten:
        train = records("train")
        members = {f"data_batch_{k + 1}.bin": b"".join(train[k * 10_000 : (k + 1) * 10_000]) for k in range(5)}
        members |= {"test_batch.bin": b"".join(records("test")), "batches.meta.txt": fine.encode()}
    else:
        members = {f"{split}.bin": b"".join(records(split)) for split in ("train", "test")}
        members |= {"fine_label_names.txt": fine.encode(), "coarse_label_names.txt": coarse.encode()}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-{'10-batches-bin' if ten else '100-binary'}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return {f"cifar-{10 if ten else 100}-binary.tar.gz": file.getvalue()}


def mnist(copy: prepare.Builder, splits: dict) -> dict[str, bytes]:
    """Returns the four files of MNIST."""
    files = {}
    for split, name in (("train", "train"), ("test", "t10k")):
        images, labels = (splits[split][key].astype(np.uint8) for key in ("image", "label"))
        files[f"{name}-images-idx3-ubyte.gz"] = gzip.compress(bytes(16) + images.tobytes(), 1)
        files[f"{name}-labels-idx1-ubyte.gz"] = gzip.compress(bytes(8) + labels.tobytes(), 1)
    return files


@pytest.mark.parametrize(("name", "archives"), [("mnist", mnist), ("cifar10", cifar), ("cifar100", cifar)])
def test_an_own_copy_reads_as_the_official_one(name, archives, server, tmp_path, monkeypatch):
    """Checks that all examples of a download are equal, in the order in which they are stored."""
    if prepare.find_prepared(name, REAL_DATA_DIR) is None:
        pytest.skip(f"{name} is not prepared in {REAL_DATA_DIR} (set UCL_JAX_DATA_DIR)")
    official = tfds.builder(name, data_dir=REAL_DATA_DIR)
    stored = as_stored(official)
    server.files = archives(official, in_official_order(official, stored))
    monkeypatch.setattr(prepare.OWN[name], "url_infos", url_infos(server.files, server.url))
    own = prepare.prepare(name, str(tmp_path / "data"))
    assert sorted(server.asked) == sorted(server.files)
    assert (own.version, own.info.features["label"].names) == (official.version, official.info.features["label"].names)
    for split, features in as_stored(own).items():
        assert features.keys() == stored[split].keys()
        for key, values in features.items():
            np.testing.assert_array_equal(values, stored[split][key])
