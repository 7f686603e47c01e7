"""Tests benchmarks, own builders, preparing and reading, on files that TFDS really writes."""

import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from tests import data_helpers
from tests.data_helpers import FIRST, REAL_DATA_DIR, SHAPES, encode, shape_image, tiny_files, write_shapes, write_tiny
from ucl_jax.data import prepare, sources, tfds_source, tiny_imagenet
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.data.tiny_imagenet_classes import CLASSES
from ucl_jax.errors import UsageError


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(url, **_):
        raise OSError(f"test reached for {url}")

    monkeypatch.setattr(sources.requests, "get", refuse)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Prepares a data folder with digits, the made-up shapes and, through manual_dir, a miniature Tiny-ImageNet."""
    folder, manual = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("manual")
    tfds_source.load_builder("digits", str(folder))
    write_shapes(folder)
    write_tiny(manual / "tiny-imagenet-200.zip")
    prepare.prepare("tiny_imagenet", str(folder), str(manual))
    return str(folder)


def open_benchmark(name, split, data_dir, **overrides):
    entry = (SHAPES if name == "shapes" else BENCHMARKS[name])._replace(**overrides)
    builder = tfds_source.load_builder(name, data_dir)
    return tfds_source.open_split(builder, split, entry.image_key, entry.label_key, entry.image_size, entry.fit)


def all_images(split):
    return split.images(np.arange(split.records.size))


# The table


def test_benchmarks_are_cheap_to_import():
    code = (
        "import sys, ucl_jax.data.benchmarks; print(*{'numpy', 'jax', 'tensorflow_datasets', 'PIL'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == []


def test_statistics_are_those_of_the_official_code():
    """Checks means and deviations against the official code (shared/reference/paper.md: OOD preparation, item 14)."""
    assert BENCHMARKS["svhn_cropped"].mean == BENCHMARKS["cifar100"].mean == (0.4914, 0.4822, 0.4465)
    assert BENCHMARKS["tiny_imagenet"].std == BENCHMARKS["cifar10"].std == (0.2470, 0.2435, 0.2615)
    assert BENCHMARKS["tiny_imagenet"].replay_mean == (0.4802, 0.4480, 0.3975)
    assert BENCHMARKS["tiny_imagenet"].replay_std == (0.2770, 0.2691, 0.2821)
    assert (BENCHMARKS["mnist"].mean, BENCHMARKS["mnist"].replay_std) == ((0.1,) * 3, (0.2752,) * 3)
    assert (BENCHMARKS["fashion_mnist"].replay_mean, BENCHMARKS["fashion_mnist"].std) == ((0.219,) * 3, (0.3318,) * 3)


@pytest.mark.parametrize(
    "name", sorted(set(BENCHMARKS) - {"digits", "tiny_imagenet", "imagenet100", "imagenet100_data5", "folder"})
)
def test_official_entries_agree_with_tfds(name):
    """Checks that names, keys and sizes agree with TFDS's own declaration, which needs no files."""
    entry = BENCHMARKS[name]
    features = tfds.builder_cls(entry.tfds_name)(data_dir="/nonexistent").info.features
    assert features[entry.label_key].num_classes >= entry.num_classes
    side = features[entry.image_key].shape[0]
    assert entry.image_size == {"none": side, "pad": side + 4, "resize": side / 2}[entry.fit]


# Own builders


def test_digits_are_all_there_and_split_by_every_fifth_of_a_class(data_dir):
    digits = load_digits()
    seen, train, test = [0] * 10, [], []
    for image, label in zip(digits.images, digits.target):
        seen[label] += 1
        (test if seen[label] % 5 == 0 else train).append((np.rint(image / 16 * 255), label))
    for split, expected in (("train", train), ("test", test)):
        opened = open_benchmark("digits", split, data_dir, fit="none", image_size=8)
        np.testing.assert_array_equal(opened.labels, [label for _, label in expected])
        np.testing.assert_array_equal(all_images(opened), np.repeat([i for i, _ in expected], 3).reshape(-1, 8, 8, 3))
    assert (len(train), len(test)) == (1442, 355)


def test_tiny_imagenet_labels_follow_wnids_txt_and_pixels_are_those_of_the_files(data_dir):
    files = tiny_files()
    order = files["wnids.txt"].decode().split()
    assert order[:5] == ["n02124075", "n04067472", "n04540053", "n04099969", "n07749582"]  # as in paper.md; not sorted
    assert tfds_source.load_builder("tiny_imagenet", data_dir).info.features["label"].names == order

    def pixels(name):
        return np.asarray(Image.open(io.BytesIO(files[name])).convert("RGB")).tobytes()

    def wnid_of_train(name):
        return name.split("/")[1]

    validation = dict(line.split("\t")[:2] for line in files["val/val_annotations.txt"].decode().splitlines())
    images = {split: [n for n in files if n.startswith(split) and n.endswith(".JPEG")] for split in ("train", "val")}
    expected = {
        "train": {pixels(name): order.index(wnid_of_train(name)) for name in images["train"]},
        "validation": {pixels(name): order.index(validation[name.split("/")[-1]]) for name in images["val"]},
    }
    assert [len(wanted) for wanted in expected.values()] == [209, 203]
    for split, wanted in expected.items():
        opened = open_benchmark("tiny_imagenet", split, data_dir)
        found = all_images(opened)
        assert found.shape[1:] == (64, 64, 3)
        assert {image.tobytes(): label for image, label in zip(found, opened.labels)} == wanted
        assert opened.records.size == len(wanted)


def test_the_tasks_of_tiny_imagenet_are_documented_in_their_order():
    """Checks that the page names the first task, which is not the sorted one's (shared/reference/paper.md)."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "tiny_imagenet.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:2] == "| "]
    tasks = [row[1:] for row in rows if row[0].isdigit()]
    assert tasks[0] == [
        "n02124075 Egyptian cat",
        "n04067472 reel",
        "n04540053 volleyball",
        "n04099969 rocking chair",
        "n07749582 lemon",
    ]
    assert {len(task) for task in tasks} == {5}
    used = [name.split()[0] for task in tasks for name in task]
    assert used == list(CLASSES)[:100]
    assert len(set(used) & set(sorted(CLASSES)[:100])) == 48
    assert [sum(wnid < "n026" for wnid in wnids) for wnids in (used, sorted(CLASSES)[:100])] == [30, 59]  # animals


def test_tiny_imagenet_keeps_jpeg_bytes_and_any_tfds_reader_gets_three_channels(data_dir):
    builder = tfds_source.load_builder("tiny_imagenet", data_dir)
    skip = {"image": tfds.decode.SkipDecoding()}
    stored = {example["image"] for example in builder.as_data_source("train", decoders=skip)}
    jpegs = {content for name, content in tiny_files().items() if name.startswith("train/") and name.endswith("JPEG")}
    assert len(stored & jpegs) == len(jpegs) - 1 == 208  # all but the grey one
    assert {example["image"].shape for example in builder.as_data_source("train")} == {(64, 64, 3)}


def test_tiny_imagenet_from_an_extracted_folder(tmp_path, data_dir):
    for name, content in tiny_files().items():
        file = tmp_path / "manual" / "tiny-imagenet-200" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    prepare.prepare("tiny_imagenet", str(tmp_path), str(tmp_path / "manual"))
    folder, archive = (open_benchmark("tiny_imagenet", "train", d) for d in (str(tmp_path), data_dir))
    np.testing.assert_array_equal(folder.labels, archive.labels)
    np.testing.assert_array_equal(all_images(folder), all_images(archive))


def test_declared_checksum_is_the_published_one():
    """Checks the SHA-256 of nine public repositories, and the size of one of them (PPRTP), 248,100,043."""
    (info,) = tiny_imagenet.TinyImagenet.url_infos.values()
    assert info.size == 248_100_043
    assert info.checksum == "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"


IMAGE = f"train/{FIRST[1]}/images/{FIRST[1]}_0.JPEG"
LINES = tiny_files()["val/val_annotations.txt"].decode().splitlines()


def annotations(*lines):
    """Returns the annotations with other lines in place of the first ones."""
    return {"val/val_annotations.txt": "\n".join([*lines, *LINES[len(lines) :]]).encode()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val/val_annotations.txt": None}, "it lacks tiny-imagenet-200/val/val_annotations.txt"),
        (
            {"wnids.txt": "\n".join(sorted(CLASSES)).encode()},
            "wnids.txt, line 1 is 'n01443537', officially 'n02124075'",
        ),
        ({"wnids.txt": "\n".join(list(CLASSES)[:100]).encode()}, "wnids.txt, line 101 is '', officially 'n01945685'"),
        ({"wnids.txt": "\n".join([*CLASSES, FIRST[0]]).encode()}, "wnids.txt, line 201 is 'n02124075', officially ''"),
        ({"wnids.txt": b"\xff\xfe"}, "wnids.txt is not text"),
        (
            {"train/../../etc/images/a.JPEG": b""},
            "'tiny-imagenet-200/train/../../etc/images/a.JPEG', a path that leads",
        ),
        (
            {"train/n00000001/images/a.JPEG": b""},
            "'train/n00000001/images/a.JPEG' is not in train/WNID/images of a WNID",
        ),
        ({"train/a.JPEG": b""}, "'train/a.JPEG' is not in train/WNID/images"),
        ({f"train/{list(CLASSES)[9]}/images/{list(CLASSES)[9]}_0.JPEG": None}, "train has no image of n03970156"),
        ({IMAGE: tiny_files()[IMAGE][:3000]}, f"'{IMAGE}' is not a valid image (image file is truncated"),
        ({IMAGE: b"text"}, f"'{IMAGE}' is not a JPEG image"),
        (
            {IMAGE: encode(np.zeros((8, 12, 3), np.uint8), "jpeg")},
            f"'{IMAGE}' is not a valid image (it has 12x8 pixels",
        ),
        (annotations("../../etc/passwd\tn02124075"), "line 1 names '../../etc/passwd', which is not there"),
        (annotations("/etc/passwd\tn02124075"), "line 1 names '/etc/passwd', which is not there"),
        (
            annotations(LINES[0], "val_1.JPEG\tn00000001\t0"),
            "line 2 has the class 'n00000001', which is not in wnids.txt",
        ),
        (annotations("val_0.JPEG"), "line 1 has the class '', which is not in wnids.txt"),
        (annotations(LINES[0], ""), "line 2 names '', which is not there"),
        (annotations(LINES[0], LINES[0]), "line 2 names 'val_0.JPEG', which is named twice"),
        ({"val/images/val_999.JPEG": b""}, "val/val_annotations.txt does not name 'val/images/val_999.JPEG'"),
    ],
)
def test_wrong_archive_is_refused_in_one_line_that_names_the_place(tmp_path, capsys, changes, message):
    archive = write_tiny(tmp_path / "tiny-imagenet-200.zip", changes)
    command = ["tiny_imagenet", "--data_dir", str(tmp_path / "data"), "--manual_dir", str(tmp_path)]
    assert prepare.main(command) == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {archive} is not a valid Tiny-ImageNet: ")
    assert message in error
    assert [path.name for path in (tmp_path / "data" / "tiny_imagenet").iterdir()] == [".lock"]


def test_damaged_archives_are_refused(tmp_path):
    archive = tmp_path / "tiny-imagenet-200.zip"
    archive.write_bytes(b"no zip")
    with pytest.raises(
        UsageError, match=r"tiny-imagenet-200\.zip is not a valid Tiny-ImageNet: it is not a zip archive"
    ):
        prepare.prepare("tiny_imagenet", str(tmp_path / "data"), str(tmp_path))
    content = bytearray(write_tiny(archive).read_bytes())
    place = content.index(tiny_files()[IMAGE])
    content[place + 700] ^= 1
    archive.write_bytes(content)
    with pytest.raises(UsageError, match=f"'{IMAGE}' cannot be read .Bad CRC-32"):
        prepare.prepare("tiny_imagenet", str(tmp_path / "data"), str(tmp_path))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(write_tiny(archive), "a") as file:
        file.writestr(f"tiny-imagenet-200/{IMAGE}", b"another")
    with pytest.raises(UsageError, match=f"it holds '{IMAGE}' twice"):
        prepare.prepare("tiny_imagenet", str(tmp_path / "data"), str(tmp_path))


@pytest.fixture
def outdated(tmp_path, monkeypatch):
    """Makes a folder that holds only version 1.0.0 of Tiny-ImageNet, as the earlier builder left it."""
    write_tiny(tmp_path / "tiny-imagenet-200.zip")
    monkeypatch.setattr(tiny_imagenet.TinyImagenet, "VERSION", tfds.core.Version("1.0.0"))
    with monkeypatch.context() as earlier:
        earlier.setattr(prepare, "LOWEST", {})
        prepare.prepare("tiny_imagenet", str(tmp_path / "data"), str(tmp_path))
    monkeypatch.undo()
    assert (tmp_path / "data" / "tiny_imagenet" / "1.0.0" / "features.json").exists()
    return tmp_path / "data"


def test_a_copy_of_the_old_version_is_refused_and_a_new_one_prepared_beside_it(outdated):
    why = r"'tiny_imagenet:1\.0\.0' is too old: its labels followed the sorted wnids, .*prepare it again: python -m "
    for read in (tfds_source.load_builder, prepare.find_prepared):
        with pytest.raises(UsageError, match=why):
            read("tiny_imagenet", str(outdated))
    for asked in ("tiny_imagenet:1.0.0", "tiny_imagenet:1.*.*"):
        for read in (tfds_source.load_builder, prepare.find_prepared, prepare.prepare):
            with pytest.raises(UsageError, match=r"is too old: .*, and ask for tiny_imagenet without a version"):
                read(asked, str(outdated))
    with pytest.raises(UsageError, match=why):
        prepare.prepare("tiny_imagenet:1.0.0", str(outdated / "empty"))
    assert str(prepare.prepare("tiny_imagenet", str(outdated), str(outdated.parent)).version) == "2.0.0"
    assert str(tfds_source.load_builder("tiny_imagenet", str(outdated)).version) == "2.0.0"
    with pytest.raises(UsageError, match=why):
        tfds_source.load_builder("tiny_imagenet:1.0.0", str(outdated))


# Reading


def test_any_tfds_data_set_by_keys_alone(data_dir):
    split = open_benchmark("shapes", "check", data_dir)
    assert (split.records.size, split.class_names) == (30, ("0", "1", "2"))
    images = all_images(split)
    red = images[:, 6, 6, 0]
    assert sorted(red) == list(range(30))
    np.testing.assert_array_equal(split.labels, red % 3)
    padded = np.zeros((12, 12, 3), np.uint8)
    padded[2:10] = shape_image(red[4])
    np.testing.assert_array_equal(images[4], padded)
    np.testing.assert_array_equal(split.images(np.array([7, 3, 7])), images[[7, 3, 7]])
    np.testing.assert_array_equal(open_benchmark("shapes", "check", data_dir, label_key="size").labels, red % 2)
    assert open_benchmark("shapes", "learn[50%:]", data_dir).records.size == 30


def in_memory(image, size, fit):
    example = tfds_source.tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(data_helpers.encode(image, "png"))
    records = tfds_source.Records(1, lambda indices: [example.SerializeToString()] * len(indices))
    return tfds_source.Split("'made' split 'up'", records, np.zeros(1, np.int32), 1, "image", size, fit).images([0])[0]


def test_resize_averages_what_it_shrinks():
    """Checks that shrinking averages: one column in four is bright, and a filter without antialiasing would give 0."""
    stripes = np.zeros((48, 48), np.uint8)
    stripes[:, ::4] = 255
    small = in_memory(stripes, 12, "resize")
    assert abs(small.astype(float).mean() - 255 / 4) < 2
    assert small.min() > 40


def test_resize_enlarges_bilinearly():
    """Checks that enlarging is bilinear: 4 output pixels are centred at 0.25, 0.75, 1.25, 1.75 of 2 input pixels."""
    row = in_memory(np.array([[0, 200], [0, 200]], np.uint8), 4, "resize")[0, :, 0]
    np.testing.assert_array_equal(row, [0, 50, 150, 200])


def test_pad_centres():
    image = np.full((28, 28), 9, np.uint8)
    padded = in_memory(image, 32, "pad")
    expected = np.zeros((32, 32, 3), np.uint8)
    expected[2:30, 2:30] = 9
    np.testing.assert_array_equal(padded, expected)


@pytest.mark.parametrize(
    ("fit", "size", "message"),
    [
        ("none", 32, r"'made' split 'up'.*12x8 pixels, image_size is 32: set fit to"),
        ("pad", 8, r"12x8 pixels cannot be padded to 8: set fit to 'resize'"),
    ],
)
def test_images_that_do_not_fit(fit, size, message):
    with pytest.raises(UsageError, match=message):
        in_memory(shape_image(0), size, fit)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"split": "test"}, "'shapes' has no split 'test'; known: check, learn"),
        ({"image_key": "image"}, "'shapes' has no image_key 'image'; known: picture"),
        ({"label_key": "picture"}, "'shapes' has no label_key 'picture'; known: kind, size"),
    ],
)
def test_unknown_choices_list_the_known(data_dir, overrides, message):
    arguments = {"split": "learn", "image_key": "picture", "label_key": "kind", "image_size": 12, "fit": "pad"}
    with pytest.raises(UsageError) as error:
        tfds_source.open_split(tfds_source.load_builder("shapes", data_dir), **{**arguments, **overrides})
    assert str(error.value) == message


def test_unknown_fit_is_an_error_of_the_caller(data_dir):
    with pytest.raises(ValueError, match=r"^fit is 'stretch'; .* none, pad, resize, crop$"):
        tfds_source.open_split(tfds_source.load_builder("shapes", data_dir), "learn", "picture", "kind", 12, "stretch")


def test_data_sets_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"unknown TFDS data set 'cifar1O': did you mean cifar10 "):
        tfds_source.load_builder("cifar1O", str(tmp_path))
    with pytest.raises(UsageError) as error:
        tfds_source.load_builder("kmnist", str(tmp_path))
    assert str(error.value) == (
        f"'kmnist' is not prepared in {tmp_path}: run pip install 'ucl_jax[prepare]' (TensorFlow, needed this "
        f"once) and then python -m ucl_jax.data.prepare kmnist --data_dir={tmp_path}"
    )
    for name in prepare.OWN:
        with pytest.raises(UsageError, match=rf"run python -m ucl_jax.data.prepare {name} --data_dir=") as error:
            tfds_source.load_builder(name, str(tmp_path), prepare_missing=False)
        assert "TensorFlow" not in str(error.value)
        if name != "digits":
            with pytest.raises(UsageError, match=r"test reached for http.*/.*; check the folder and the network"):
                tfds_source.load_builder(name, str(tmp_path))
            assert [path.name for path in (tmp_path / name).iterdir()] == [".lock"]


def test_folders_that_are_not_there_or_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("none", "file", "a" * 300):
        with pytest.raises(UsageError, match=rf"^data_dir is .*/{name}, which is not a folder"):
            tfds_source.load_builder("digits", str(tmp_path / name))
        assert (tmp_path / "none").exists() is False
    (tmp_path / "digits").write_text("")
    with pytest.raises(UsageError, match=r"cannot read 'digits' in .* \(NotADirectoryError"):
        tfds_source.load_builder("digits", str(tmp_path))


def test_a_second_process_waits_and_takes_the_result(tmp_path, data_dir, capsys):
    with ThreadPoolExecutor() as pool:
        with prepare.exclusive(tmp_path / "digits"):
            second = pool.submit(prepare.prepare, "digits", str(tmp_path))
            while "waiting for it" not in capsys.readouterr().err:
                time.sleep(0.01)
            assert not second.done()
            shutil.copytree(f"{data_dir}/digits/1.0.0", tmp_path / "digits" / "1.0.0")
            before = (tmp_path / "digits" / "1.0.0" / "features.json").stat().st_mtime_ns
        assert second.result().info.splits["test"].num_examples == 355
    assert (tmp_path / "digits" / "1.0.0" / "features.json").stat().st_mtime_ns == before


SLOW = """
import sys, time
from ucl_jax.data import digits, prepare
def slow(self, images, labels):
    yield 0, next(fast(self, images, labels))[1]
    print("at work", file=sys.__stdout__, flush=True)
    time.sleep(600)
fast, digits.Digits._generate_examples = digits.Digits._generate_examples, slow
prepare.main(["digits", "--data_dir", sys.argv[1]])
"""


def test_what_a_killed_preparation_leaves_is_removed_by_the_next(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with process:
        while process.stdout.readline().strip() != b"at work":
            assert process.poll() is None
        process.kill()
    left = [path.name for path in (tmp_path / "digits").iterdir() if path.name != ".lock"]
    assert len(left) == 1
    assert left[0].startswith("incomplete.")
    (tmp_path / "digits" / "incomplete.ABCDEF_9.9.9").mkdir()  # another version's, perhaps another program's
    assert prepare.prepare("digits", str(tmp_path)).info.splits["train"].num_examples == 1442
    assert {path.name for path in (tmp_path / "digits").iterdir()} == {".lock", "1.0.0", "incomplete.ABCDEF_9.9.9"}


@pytest.mark.parametrize("file", ["features.json", "dataset_info.json", "digits-train.array_record-00000-of-00001"])
@pytest.mark.parametrize("share", [None, 0, 0.5])
def test_damaged_copies_are_refused_in_one_line(tmp_path, data_dir, file, share):
    shutil.copytree(f"{data_dir}/digits", tmp_path / "digits")
    path = tmp_path / "digits" / "1.0.0" / file
    content = path.read_bytes()
    path.unlink()
    if share is not None:
        path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UsageError, match=r"(digits.* is damaged|cannot read 'digits')[ ,].*remove it") as caught:
        open_benchmark("digits", "train", str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_record_that_changed_on_disk_is_refused_in_one_line(tmp_path, data_dir):
    shutil.copytree(f"{data_dir}/digits", tmp_path / "digits")
    split = open_benchmark("digits", "train", str(tmp_path))
    file = tmp_path / "digits" / "1.0.0" / "digits-train.array_record-00000-of-00001"
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(UsageError, match=r"digits/1\.0\.0 is damaged .*: remove it, and prepare it again"):
        all_images(split)


def test_tfrecord_without_tensorflow_names_both_ways_out(tmp_path, monkeypatch):
    folder = tfds_source.load_builder("digits", str(tmp_path)).data_path
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    for file in folder.glob("*array_record*"):
        file.rename(folder / file.name.replace("array_record", "tfrecord"))
    monkeypatch.setattr(prepare, "has_tensorflow", lambda: False)
    with pytest.raises(UsageError) as error:
        open_benchmark("digits", "train", str(tmp_path))
    assert str(error.value) == (
        f"'digits' in {folder} is stored as tfrecord, not array_record: install TensorFlow to read it as it is: "
        "pip install 'ucl_jax[prepare]'; or prepare it again elsewhere: "
        "python -m ucl_jax.data.prepare digits --data_dir=OTHER_DIR"
    )


def test_tfrecord_through_tensorflow_gives_the_same(tmp_path, data_dir):
    pytest.importorskip("tensorflow", reason="reading TFRecord needs TensorFlow, which is not installed")
    builder = tfds.builder("digits", data_dir=str(tmp_path), file_format="tfrecord")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3, try_download_gcs=False))
    for split in ("train", "test[10%:55%]"):
        tfrecord, array_record = (open_benchmark("digits", split, d) for d in (str(tmp_path), data_dir))
        np.testing.assert_array_equal(tfrecord.labels, array_record.labels)
        np.testing.assert_array_equal(all_images(tfrecord), all_images(array_record))


def test_real_cifar10():
    """Checks the SHA-256 of official test images and labels against shared/data/README.md and labels.npz."""
    if prepare.find_prepared("cifar10", REAL_DATA_DIR) is None:
        pytest.skip(f"cifar10 is not prepared in {REAL_DATA_DIR} (set UCL_JAX_DATA_DIR)")
    split = open_benchmark("cifar10", "test", REAL_DATA_DIR)
    every = np.arange(split.records.size)
    ids = [example["id"].bytes_list.value[0] for example in tfds_source._examples(split.records, every)]
    official = np.argsort(ids)
    pixels, labels = split.images(official).tobytes(), split.labels[official].astype(np.uint8).tobytes()
    assert hashlib.sha256(pixels).hexdigest() == "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04"
    assert hashlib.sha256(labels).hexdigest() == "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5"


# The command


def test_command_prepares_and_says_where(tmp_path, capsys):
    assert prepare.main(["digits", "--data_dir", str(tmp_path)]) == 0
    assert (
        f"digits: {{'train': 1442, 'test': 355}} as array_record in {tmp_path}/digits/1.0.0" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digitz", "error: unknown TFDS data set 'digitz': did you mean digits"),
        ("kmnist", "error: preparing 'kmnist' needs TensorFlow this once: run pip install 'ucl_jax[prepare]'"),
        ("digits:9.9.9", "error: cannot prepare 'digits:9.9.9' in "),
    ],
)
def test_bad_input_of_the_command_ends_with_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch, name, message):
    monkeypatch.setattr(prepare, "has_tensorflow", lambda: False)
    assert prepare.main([name, "--data_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(message)
    assert "\n" not in error
