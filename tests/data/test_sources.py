"""Tests the project's own builders from the download on: a server of this machine serves made-up archives."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import time
import types

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from tensorflow_datasets.core import hashing

from tests.data_helpers import stream_config, url_infos, write_tiny
from ucl_jax.data import prepare, tfds_source
from ucl_jax.data.tasks import open_stream
from ucl_jax.errors import UsageError

OFFICIAL = ("cifar10", "cifar100", "mnist", "fashion_mnist", "svhn_cropped")
DOWNLOADED = (*OFFICIAL, "tiny_imagenet")


def archives(name: str, folder: pathlib.Path, size: int = 3) -> dict[str, bytes]:
    """Makes small archives of random images in the layout of the official ones: file name -> content.

    Each file of images in them has `size` images.
    """
    rng = np.random.default_rng(len(name))

    def random(*shape: int) -> bytes:
        return rng.integers(0, 256, shape, np.uint8).tobytes()

    def tar(prefix: str, members: dict[str, bytes]) -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for member, content in members.items():
                info = tarfile.TarInfo(f"{prefix}/{member}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return file.getvalue()

    if name == "cifar10":
        batches = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
        images = {file: b"".join(bytes([rng.integers(10)]) + random(3072) for _ in range(size)) for file in batches}
        names = {"batches.meta.txt": "".join(f"class{k}\n" for k in range(10)).encode() + b"\n"}
        return {"cifar-10-binary.tar.gz": tar("cifar-10-batches-bin", images | names)}
    if name == "cifar100":
        images = {
            f"{split}.bin": b"".join(bytes([rng.integers(20), rng.integers(100)]) + random(3072) for _ in range(size))
            for split in ("train", "test")
        }
        names = {
            f"{kind}_label_names.txt": "".join(f"{kind}_{k}\n" for k in range(count)).encode()
            for kind, count in (("coarse", 20), ("fine", 100))
        }
        return {"cifar-100-binary.tar.gz": tar("cifar-100-binary", images | names)}
    if name.endswith("mnist"):
        return {
            f"{split}-{kind}-ubyte.gz": gzip.compress(content)
            for split in ("train", "t10k")
            for kind, content in (
                ("images-idx3", np.array([2051, size, 28, 28], ">i4").tobytes() + random(size, 28, 28)),
                (
                    "labels-idx1",
                    np.array([2049, size], ">i4").tobytes() + rng.integers(0, 10, size, np.uint8).tobytes(),
                ),
            )
        }
    if name == "svhn_cropped":
        files = {}
        for split in ("train", "test", "extra"):
            file = io.BytesIO()
            images = rng.integers(0, 256, (32, 32, 3, size), np.uint8)
            labels = np.array([[10], *rng.integers(1, 11, (size - 1, 1))], np.uint8)
            scipy.io.savemat(file, {"X": images, "y": labels}, do_compression=True)
            files[f"{split}_32x32.mat"] = file.getvalue()
        return files
    return {"tiny-imagenet-200.zip": write_tiny(folder / "made.zip").read_bytes()}


@pytest.fixture
def publish(server, tmp_path, monkeypatch):
    """Provides publish(name, size): the server has made-up archives of a data set, and its builder declares them."""

    def publish(name: str, size: int = 3) -> dict[str, bytes]:
        files = archives(name, tmp_path, size)
        server.files = dict(files)
        monkeypatch.setattr(prepare.OWN[name], "url_infos", url_infos(files, server.url))
        return files

    return publish


def left(data_dir: pathlib.Path) -> set[str]:
    """Returns all files in a data folder, but for the locks."""
    return {str(path.relative_to(data_dir)) for path in data_dir.rglob("*") if path.is_file() and path.name != ".lock"}


def refused(capsys, *words: object) -> str:
    """Calls the command, which must fail, and returns its message: the only line beside that of the beginning."""
    assert prepare.main([str(word) for word in words]) == 2
    begins, ends = capsys.readouterr().err.splitlines()
    assert begins.startswith("preparing ")
    assert ends.startswith("error: ")
    return ends


@pytest.mark.parametrize("name", OFFICIAL)
def test_examples_are_those_of_the_official_builder(name, tmp_path, monkeypatch):
    """Compares keys, ids, labels and pixels with what the code of TFDS generates from the same archives."""
    files = archives(name, tmp_path)
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    monkeypatch.setattr(prepare.OWN[name], "url_infos", url_infos(files, "http://localhost"))
    own, official = prepare.OWN[name](data_dir=tmp_path), tfds.builder_cls(name)(data_dir=tmp_path)
    gfile = types.SimpleNamespace(GFile=open)
    tensorflow = types.SimpleNamespace(io=types.SimpleNamespace(gfile=gfile))
    monkeypatch.setattr(sys.modules[type(official).__module__], "tf", tensorflow)

    def unpacked(urls):
        if isinstance(urls, dict):
            return {key: unpacked(url) for key, url in urls.items()}
        path = tmp_path / urls.rpartition("/")[2]
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                archive.extractall(tmp_path, filter="data")
            return tmp_path
        if path.suffix == ".gz":
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            return path.with_suffix("")
        return path

    module = sys.modules[type(official).__module__]
    for constant in ("_TRAIN_EXAMPLES", "_TEST_EXAMPLES"):
        monkeypatch.setattr(module, constant, 3, raising=False)
    theirs = official._split_generators(types.SimpleNamespace(download=unpacked, download_and_extract=unpacked))
    if isinstance(theirs, list):
        theirs = {str(one.name): official._generate_examples(**one.gen_kwargs) for one in theirs}
    ours = own._split_generators(types.SimpleNamespace(manual_dir=tmp_path))
    assert list(ours) == list(map(str, theirs))
    for split, expected in theirs.items():
        count = 0
        for (key, mine), (official_key, example) in zip(ours[str(split)], expected, strict=True):
            assert (key, mine.keys()) == (official_key, example.keys())
            np.testing.assert_array_equal(np.asarray(mine["image"]).reshape(example["image"].shape), example["image"])
            assert {k: v for k, v in mine.items() if k != "image"} == {k: v for k, v in example.items() if k != "image"}
            count += 1
        assert count == (15 if (name, split) == ("cifar10", "train") else 3)
    for key, feature in own.info.features.items():
        assert repr(feature) == repr(official.info.features[key])
        assert getattr(feature, "names", None) == getattr(official.info.features[key], "names", None)
    assert (own.name, own.version) == (official.name, official.version)
    assert own.info.supervised_keys == official.info.supervised_keys
    assert own.info.disable_shuffling is official.info.disable_shuffling is False


@pytest.mark.parametrize("name", OFFICIAL)
def test_sources_are_those_of_the_official_builder(name):
    assert prepare.OWN[name].url_infos == tfds.builder_cls(name).url_infos
    assert len(prepare.OWN[name].url_infos) in (1, 3, 4)


@pytest.mark.parametrize("name", DOWNLOADED)
def test_what_is_missing_is_downloaded_once_and_a_stream_opens(name, publish, server, tmp_path, capsys):
    files = publish(name)
    (tmp_path / "data").mkdir()
    first = {
        "num_tasks": 1,
        "classes_per_task": prepare.OWN[name](data_dir=tmp_path).info.features["label"].num_classes,
    }
    config = stream_config(name, **first)
    with pytest.raises(UsageError, match=rf"'{name}' is not prepared in .*: run python -m ucl_jax.data.prepare {name}"):
        open_stream(stream_config(name, **first, prepare=False), str(tmp_path / "data"))
    assert not list((tmp_path / "data").iterdir())
    for _ in range(2):
        with open_stream(config, str(tmp_path / "data")) as stream:
            assert stream.train_sizes == ({"cifar10": 15, "tiny_imagenet": 209}.get(name, 3),)
            assert len(stream.task(0).test_image) == (203 if name == "tiny_imagenet" else 3)
    assert sorted(server.asked) == sorted(files)
    begins, ends = capsys.readouterr().err.splitlines()  # no progress bar, for this is no terminal
    assert begins == f"preparing {tmp_path}/data/{name}/{prepare.OWN[name].VERSION}"
    assert ends.startswith(f"prepared {tmp_path}/data/{name}/{prepare.OWN[name].VERSION} in ")
    assert {path for path in left(tmp_path / "data") if path.startswith("downloads")} == {
        f"downloads/{name}/{file}" for file in files
    }


def test_images_are_stored_in_the_order_of_the_hashes_of_their_keys(publish, tmp_path):
    files = publish("mnist", 50)
    prepare.prepare("mnist", str(tmp_path / "data"))
    images = np.frombuffer(gzip.decompress(files["train-images-idx3-ubyte.gz"])[16:], np.uint8).reshape(50, 28, 28)
    hasher = hashing.Hasher("train")
    order = sorted(range(50), key=hasher.hash_key)
    split = tfds_source.open_split(
        tfds_source.load_builder("mnist", str(tmp_path / "data")), "train", "image", "label", 28, "none"
    )
    np.testing.assert_array_equal(split.images(np.arange(50))[..., 0], images[order])


@pytest.mark.parametrize("name", DOWNLOADED)
def test_files_of_manual_dir_need_no_network(name, publish, server, tmp_path, capsys):
    files, manual = publish(name), tmp_path / "manual"
    words = [name, "--data_dir", tmp_path / "data", "--manual_dir", manual]
    manual.mkdir()
    for file, content in files.items():
        (manual / file).write_bytes(content)
    last = manual / list(files)[-1]
    last.rename(manual / "away")
    assert f"{last.name}" in refused(capsys, *words)
    last.write_bytes(b"another")
    assert str(last) in refused(capsys, *words)
    assert not left(tmp_path / "data")
    (manual / "away").rename(last)
    assert prepare.main([str(word) for word in words]) == 0
    assert not server.asked


def test_a_download_that_breaks_off_leaves_nothing_and_the_next_one_succeeds(publish, server, tmp_path, capsys):
    publish("mnist")
    server.share = 0.5
    assert "cannot prepare 'mnist'" in refused(capsys, "mnist", "--data_dir", tmp_path / "data")
    assert not left(tmp_path / "data")
    server.share = 1
    assert prepare.main(["mnist", "--data_dir", str(tmp_path / "data")]) == 0


def test_a_file_with_another_checksum_is_refused_and_not_kept(publish, server, tmp_path, capsys):
    files = publish("cifar10")
    content = files["cifar-10-binary.tar.gz"]
    changed = content[:-1] + bytes([content[-1] ^ 1])
    server.files["cifar-10-binary.tar.gz"] = changed
    error = refused(capsys, "cifar10", "--data_dir", tmp_path / "data")
    assert hashlib.sha256(changed).hexdigest() in error
    assert hashlib.sha256(content).hexdigest() in error
    assert "--manual_dir=" in error
    assert not left(tmp_path / "data")
    server.files["cifar-10-binary.tar.gz"] = content
    assert prepare.main(["cifar10", "--data_dir", str(tmp_path / "data")]) == 0


def test_a_file_that_the_server_lacks_or_that_changed_on_the_disk(publish, server, tmp_path, capsys):
    files = publish("mnist")
    labels = server.files.pop("t10k-labels-idx1-ubyte.gz")
    assert "t10k-labels-idx1-ubyte.gz" in refused(capsys, "mnist", "--data_dir", tmp_path / "data")
    assert len(left(tmp_path / "data")) == 3  # whole ones are kept
    (tmp_path / "data" / "downloads" / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"changed")
    server.files["t10k-labels-idx1-ubyte.gz"], server.asked = labels, []
    assert prepare.main(["mnist", "--data_dir", str(tmp_path / "data")]) == 0
    assert sorted(server.asked) == ["t10k-labels-idx1-ubyte.gz", "train-images-idx3-ubyte.gz"]
    assert sorted(files) == sorted(path.name for path in (tmp_path / "data" / "downloads" / "mnist").iterdir())


# Real processes

# Calls the command for a data set whose archives are made up.
COMMAND = """
import json, sys
import tensorflow_datasets as tfds
from ucl_jax.data import prepare
name, data_dir, declared = sys.argv[1:]
infos = {url: tfds.download.checksums.UrlInfo(**info) for url, info in json.loads(declared).items()}
prepare.OWN[name].url_infos = infos
sys.exit(prepare.main([name, "--data_dir", data_dir]))
"""


def start(name: str, data_dir: pathlib.Path) -> subprocess.Popen:
    """Starts the command in a process of its own, for a data set that was published."""
    declared = {url: info.asdict() | {"size": int(info.size)} for url, info in prepare.OWN[name].url_infos.items()}
    words = [sys.executable, "-c", COMMAND, name, str(data_dir), json.dumps(declared)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_was_killed_in_its_download_succeeds_the_next_time(publish, server, tmp_path):
    files = publish("cifar10", 300)  # 5 MB: a file is written by blocks of 1 MB
    server.share, server.silent = 0.5, True
    with start("cifar10", tmp_path) as process:
        part = tmp_path / "downloads" / "cifar10" / "cifar-10-binary.tar.gz.part"
        while not (part.exists() and part.stat().st_size):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert left(tmp_path) == {f"downloads/cifar10/{part.name}"}
    server.share, server.silent = 1, False
    with start("cifar10", tmp_path) as process:
        _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert not part.exists()
    assert set(files) == {path.name for path in part.parent.iterdir()}
    assert prepare.find_prepared("cifar10", str(tmp_path)).info.splits["train"].num_examples == 1500


def test_an_interrupt_ends_a_download_at_once(publish, server, tmp_path):
    publish("mnist")
    server.share, server.silent = 0.5, True
    with start("mnist", tmp_path) as process:
        while not server.asked:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert not left(tmp_path)


def test_of_processes_that_start_together_one_prepares(publish, server, tmp_path):
    files = publish("mnist")
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(start("mnist", tmp_path)) for _ in range(3)]
        errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert sorted(server.asked) == sorted(files)
    assert sum("prepared " in error for error in errors) == 1


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system in memory; provides grow(bytes), which sets its size, and its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> subprocess.CompletedProcess:
        return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)

    done = mount("size=100k")
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.strip()}")
    yield types.SimpleNamespace(folder=folder, grow=lambda size: mount(f"remount,size={size}").check_returncode())
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_in_one_line_and_more_room_helps(publish, small_disk, capsys):
    files = publish("mnist", 500)
    size = sum(map(len, files.values()))
    room = size + 150_000  # for the archives, but not for the records as well
    for place in (100_000, room):
        small_disk.grow(place)
        error = refused(capsys, "mnist", "--data_dir", small_disk.folder)
        assert "No space left on device" in error
        assert not [path for path in left(small_disk.folder) if not path.startswith("downloads/")]
    small_disk.grow(10 * size)
    assert prepare.main(["mnist", "--data_dir", str(small_disk.folder)]) == 0
    assert os.statvfs(small_disk.folder).f_bavail
