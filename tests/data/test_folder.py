"""Tests folders of images: what is read, what is left out, how they are cut into tasks; and the cache of images."""

import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.data_helpers import encode, stream_config
from ucl_jax.data import decoded, folder
from ucl_jax.data.tasks import open_stream
from ucl_jax.errors import UsageError

SIDE = 8


def write(path, level=100, size=(20, 12)):
    """Writes an image of one grey level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level,) * 3).save(path)


def open_mine(path, cache="", **overrides):
    config = stream_config("folder", path=str(path), image_size=SIDE, **{"folders": "tasks", **overrides})
    config.num_tasks, config.classes_per_task = folder.count_tasks(
        str(path), config.folders, config.num_tasks, config.classes_per_task, config.order != "class"
    )
    return open_stream(config, image_cache=str(cache))


def levels(images):
    return sorted(np.asarray(images)[:, 0, 0, 0].tolist())


@pytest.fixture
def mine(tmp_path):
    """Provides a folder of two sub-folders of ten images each, with damaged files."""
    path = tmp_path / "mine"
    for name, start in (("b2", 0), ("b10", 100)):
        for i in range(10):
            write(path / name / "deep" / f"{i}.png", start + i)
    (path / "b2" / "empty.png").touch()
    (path / "b2" / "notes.txt").write_text("hello")
    whole = encode(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8), "jpeg")
    (path / "b10" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (path / "b10" / ".hidden").touch()
    return path


@pytest.mark.parametrize("folders", ["tasks", "classes"])
@pytest.mark.parametrize("order", ["data", "file"])
def test_parts_of_all_sub_folders_are_tasks(tmp_path, folders, order):
    """Checks that five tasks share all 80 images, held-out ones too; by "file" each image comes as it is stored."""
    for name, start in (("b2", 0), ("b10", 100)):
        for i in range(40):
            write(tmp_path / "mine" / name / f"{i}.png", start + i)
    with open_mine(tmp_path / "mine", folders=folders, order=order, validation_fraction=0.4) as stream:
        assert stream.num_tasks == 5
        assert set(stream.classes) == {(0, 1)}
        tasks = [stream.task(task) for task in range(5)]
        trained = [level for data in tasks for level in np.asarray(data.train_image)[:, 0, 0, 0].tolist()]
        tested = [level for data in tasks for level in levels(data.test_image)]
        assert sorted(trained + tested) == [*range(40), *range(100, 140)]
        assert len(trained) == sum(stream.train_sizes) == 48
    if order == "file":  # b10 comes after b2
        assert trained == sorted(trained)


@pytest.mark.parametrize("folders", ["tasks", "classes"])
def test_every_random_part_of_a_small_folder_is_tested(tmp_path, folders):
    """Checks that of 50 images each of five parts holds out its tenth, 1, whether a class or the whole is cut."""
    for i in range(50):
        write(tmp_path / "mine" / f"b{i % 5}" / f"{i}.png", i)
    for seed in range(5):
        made = {"folders": folders, "order": "data", "validation_fraction": 0.1, "subset_seed": seed}
        with open_mine(tmp_path / "mine", **made) as stream:
            assert stream.test_sizes == (1,) * 5
            held = sorted(level for task in range(5) for level in levels(stream.task(task).test_image))
        if folders == "classes":  # each of which holds out its tenth, too
            assert [level % 5 for level in sorted(held, key=lambda level: level % 5)] == [0, 1, 2, 3, 4]


def test_a_small_sub_folder_holds_out_an_image_and_one_image_alone_is_refused(tmp_path):
    for name, count in (("many", 12), ("few", 3)):
        for i in range(count):
            write(tmp_path / "mine" / name / f"{i}.png", i)
    with open_mine(tmp_path / "mine", validation_fraction=0.1) as stream:
        assert (stream.train_sizes, stream.test_sizes) == ((2, 11), (1, 1))
    write(tmp_path / "mine" / "alone" / "1.png")
    with pytest.raises(ValueError, match=r"^validation_fraction is 0.1, but of task 1 of folder \(alone\) no image"):
        open_mine(tmp_path / "mine", validation_fraction=0.1)


@pytest.mark.parametrize(
    ("groups", "num_tasks", "made"),
    [(3, 0, (1, 3)), (4, 0, (2, 2)), (9, 0, (3, 3)), (10, 0, (5, 2)), (2, 0, (1, 2)), (10, 2, (2, 5)), (7, 3, (3, 2))],
)
def test_tasks_of_classes_take_all_sub_folders_where_they_can(groups, num_tasks, made):
    assert folder.cut(groups, "classes", num_tasks, 0, False, "") == made


@pytest.mark.parametrize("name", [b"caf\xe9", b"\x1b[31m\n"])
def test_names_of_files_that_cannot_be_printed_are_escaped(tmp_path, name):
    for folder_name in (os.fsdecode(name), "other"):
        for i in range(10):
            write(tmp_path / "mine" / folder_name / f"{i}.png", i)
    (tmp_path / "mine" / os.fsdecode(name) / os.fsdecode(name)).touch()
    with open_mine(tmp_path / "mine", tmp_path / "cache", validation_fraction=0.2) as stream:
        told = repr(name)[2:-1]
        assert set(stream.class_names) == {told, "other"}
        assert stream.left_out == (f"{told}/{told}: empty",)
        assert stream.test_sizes == (2, 2)


def test_sub_folders_are_domains_that_hold_folders_of_classes(tmp_path):
    """Checks two domains, of which one lacks a class, with a damaged file and one beside the classes."""
    levels_of = {("photo2", "cat"): 0, ("photo2", "dog"): 20, ("photo10", "cat"): 40}
    for (domain, name), start in levels_of.items():
        for i in range(10):
            write(tmp_path / "mine" / domain / name / f"{i}.png", start + i)
    (tmp_path / "mine" / "photo2" / "cat" / "empty.png").touch()
    write(tmp_path / "mine" / "photo10" / "beside.png")
    made = {"folders": "domains", "order": "domain", "validation_fraction": 0.2}
    with open_mine(tmp_path / "mine", **made) as stream:
        assert (stream.classes, stream.class_names) == (((0, 1), (0, 1)), ("cat", "dog"))
        assert stream.left_out == ("photo2/cat/empty.png: empty", "photo10/beside.png: in no folder of a class")
        assert (stream.train_sizes, stream.test_sizes) == ((16, 8), (4, 2))
        for task, expected in enumerate(([*range(10), *range(20, 30)], range(40, 50))):
            data = stream.task(task)
            images = [*levels(data.train_image), *levels(data.test_image)]
            assert sorted(images) == [*expected]
            for level, label in zip(np.asarray(data.train_image)[:, 0, 0, 0], data.train_label, strict=True):
                assert label == (20 <= level < 30)
    for wrong in ("mine/photo10", "mine/photo2"):
        with pytest.raises(ValueError, match=r"^folders is 'domains', but "):
            open_mine(tmp_path / wrong, **made)


def test_a_folder_without_sub_folders_has_random_parts(tmp_path):
    for i in range(40):
        write(tmp_path / "flat" / f"{i}.png", i)
    with open_mine(tmp_path / "flat", order="data", validation_fraction=0.4) as stream:
        assert (stream.num_tasks, sum(stream.train_sizes), sum(stream.test_sizes)) == (5, 24, 16)
        assert stream.class_names == ("all images",)
        assert any(np.ptp(np.asarray(stream.task(task).train_image)[:, 0, 0, 0]) > 5 for task in range(5))


@pytest.mark.parametrize("cached", [False, True])
def test_sub_folders_are_tasks_and_damaged_files_are_left_out(mine, tmp_path, cached):
    with open_mine(mine, tmp_path / "cache" if cached else "", validation_fraction=0.2) as stream:
        assert not stream.labelled
        assert sorted(line.split(":")[0] for line in stream.left_out) == ["b10/cut.jpg", "b2/empty.png", "b2/notes.txt"]
        assert (stream.train_sizes, stream.test_sizes) == ((8, 8), (2, 2))
        for task, start in enumerate((0, 100)):
            data = stream.task(task)
            together = sorted(levels(data.train_image) + levels(data.test_image))
            assert together == list(range(start, start + 10))


@pytest.mark.parametrize("order", ["name", "time"])
def test_a_folder_without_sub_folders_is_cut_in_order(tmp_path, order):
    for i in range(12):
        write(tmp_path / f"image{i}.png", i)
        os.utime(tmp_path / f"image{i}.png", (1000 - i, 1000 - i))
    with open_mine(tmp_path, num_tasks=3, file_order=order, validation_fraction=0.25) as stream:
        parts = [levels(stream.task(t).train_image) + levels(stream.task(t).test_image) for t in range(3)]
    wanted = [list(range(4 * t, 4 * t + 4)) for t in range(3)]
    assert list(map(sorted, parts)) == (wanted if order == "name" else wanted[::-1])


def test_a_link_that_leads_back_is_no_sub_folder(tmp_path):
    for i in range(12):
        write(tmp_path / "flat" / f"{i}.png", i)
    (tmp_path / "flat" / "self").symlink_to(tmp_path / "flat")
    (tmp_path / "flat" / "up").symlink_to(tmp_path)
    assert folder.sub_folders(str(tmp_path / "flat")) == []
    assert folder.sub_folders(str(tmp_path)) == ["flat"]
    with open_mine(tmp_path / "flat", num_tasks=2, validation_fraction=0.25) as stream:
        assert (stream.num_tasks, stream.left_out) == (2, ())


@pytest.mark.parametrize("loose", [20, 21])
def test_more_images_beside_the_sub_folders_than_in_them_are_refused(mine, loose):
    for i in range(loose - 4):  # `mine` has 20 images, and 3 files that are none
        write(mine / f"{i}.png", i)
    for i in range(7):
        write(mine / f"{i}.JPG", i)
        (mine / f"{i}.txt").touch()
    if loose == 20:
        with open_mine(mine, validation_fraction=0.2) as stream:
            assert sum("beside the sub-folders" in line for line in stream.left_out) == 23 + 7
    else:
        with pytest.raises(ValueError, match="24 images lie beside the sub-folders"):
            open_mine(mine, validation_fraction=0.2)


def test_classes_have_labels(mine):
    with open_mine(mine, folders="classes", validation_fraction=0.2) as stream:
        assert stream.classes == ((0, 1),)
        assert stream.class_names == ("b2", "b10")
        assert stream.labelled
        data = stream.task(0)
        np.testing.assert_array_equal(data.train_label, np.asarray(data.train_image)[:, 0, 0, 0] // 100)


def test_every_mode_is_read(tmp_path):
    values = np.random.default_rng(0).integers(0, 2**16, (9, 9)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(folder.read(str(tmp_path / "deep.png"), 9, "none")[..., 0], values >> 8)
    Image.new("RGBA", (9, 9), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    assert (folder.read(str(tmp_path / "clear.png"), 9, "none") == 255).all()
    for mode in ("1", "L", "LA", "P", "CMYK", "F", "I"):
        Image.new(mode, (9, 9)).save(tmp_path / "any.tif")
        assert folder.read(str(tmp_path / "any.tif"), SIDE, "crop").shape == (SIDE, SIDE, 3)
    scene = np.random.default_rng(1).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(scene).save(tmp_path / "photo.webp", lossless=True)
    np.testing.assert_array_equal(folder.read(str(tmp_path / "photo.webp"), 9, "none"), scene)
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(folder.read(str(tmp_path / "moving.gif"), 9, "none")[0, 0], [255, 0, 0])


def test_orientation_and_crop(tmp_path):
    pixels = np.zeros((4, 12, 3), np.uint8)
    pixels[:, 4:8] = 200  # the square in the middle
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(folder.read(str(tmp_path / "wide.png"), 4, "crop"), np.full((4, 4, 3), 200))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    half = np.zeros((4, 4, 3), np.uint8)
    half[:2] = 90
    Image.fromarray(half).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(folder.read(str(tmp_path / "turned.png"), 4, "crop"), half[::-1])


def test_what_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "notes.txt").write_text("hello")
    for path in ("missing", "none", "bad"):
        with pytest.raises(ValueError, match=r"^path is "):
            open_mine(tmp_path / path)
    with pytest.raises(ValueError, match=r"^folders is 'classes'"):
        folder.count_tasks(str(tmp_path / "none"), "classes", 0, 0, False)


# The cache


class Levels:
    """A source of images of one grey level each; counts how many were decoded."""

    name, shape, identity = "'levels'", (600, 4, 4, 3), "levels"

    def __init__(self):
        self.decoded = 0

    def decode(self, indices):
        self.decoded += len(indices)
        images = np.broadcast_to((indices % 256).astype(np.uint8)[:, None, None, None], (len(indices), 4, 4, 3))
        return images.copy(), {7: "bad"} if 7 in indices else {}


def check(found):
    np.testing.assert_array_equal(found.array[:, 2, 2, 1], np.arange(600) % 256)
    assert found.problems == {7: "bad"}


def test_the_cache_is_written_once_and_is_the_same_as_memory(tmp_path):
    source = Levels()
    check(decoded.decode_all(source, ""))
    threads = [threading.Thread(target=decoded.decode_all, args=(source, str(tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = decoded.decode_all(source, str(tmp_path))
    check(found)
    assert isinstance(found.array, np.memmap)
    assert source.decoded == 2 * 600


# Decodes images slowly into the cache, and writes down the index of each that is decoded. Prints the sum of all pixels.
PROCESS = """
import sys, time
import numpy as np
from ucl_jax.data import decoded

class Slow:
    name, shape, identity = "'slow'", (2000, 4, 4, 3), "slow"

    def decode(self, indices):
        with open(sys.argv[2], "a") as file:
            print(*indices, file=file)
        time.sleep(0.1)
        return np.full((len(indices), 4, 4, 3), 9, np.uint8), {}

print(decoded.decode_all(Slow(), sys.argv[1]).array.sum())
"""


def test_of_processes_that_start_together_one_decodes_and_one_that_is_killed_leaves_nothing_half(tmp_path):
    asked = tmp_path / "asked"
    words = [sys.executable, "-c", PROCESS, str(tmp_path / "cache"), str(asked)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as killed:
        while not asked.exists():
            assert killed.poll() is None
            time.sleep(0.01)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    assert not list(tmp_path.glob("cache/*/images.npy"))
    asked.unlink()
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [answer[0] for answer in answers] == [f"{2000 * 48 * 9}\n"] * 3
    assert sum("decoding 2000 images" in answer[1] for answer in answers) == 1
    assert sorted(map(int, asked.read_text().split())) == list(range(2000))


@pytest.mark.parametrize("damage", ["short", "long", "header", "problems", "killed"])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    decoded.decode_all(Levels(), str(tmp_path))
    (path,) = tmp_path.glob("*/images.npy")
    whole = path.read_bytes()
    if damage == "killed":
        path.rename(path.with_name(".images.npy.tmp"))
    elif damage == "problems":
        (path.parent / "problems.json").write_text("{")
    else:
        path.write_bytes({"short": whole[:-5], "long": whole + b"x", "header": b"x" * len(whole)}[damage])
    source = Levels()
    check(decoded.decode_all(source, str(tmp_path)))
    assert source.decoded == 600
    assert path.read_bytes() == whole


def test_a_cache_without_room_or_right_is_refused_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(decoded.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(UsageError, match=r"config\.image_cache"):
        decoded.decode_all(Levels(), str(tmp_path))
    assert not list(tmp_path.glob("*/*images.npy*"))
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"config\.image_cache"):
        decoded.decode_all(Levels(), str(tmp_path / "file"))


def test_a_changed_file_has_another_place_in_the_cache(mine, tmp_path):
    open_mine(mine, tmp_path / "cache", validation_fraction=0.2).close()
    write(mine / "b2" / "deep" / "0.png", 33)
    with open_mine(mine, tmp_path / "cache", validation_fraction=0.2) as stream:
        assert 33 in levels(stream.task(0).train_image) + levels(stream.task(0).test_image)


def test_views_join_without_a_copy(mine, tmp_path):
    with open_mine(mine, tmp_path / "cache", validation_fraction=0.2) as stream:
        everything = stream.training(slice(0, stream.starts[-1])).image
        assert everything.array is stream.task(1).train_image.array
        parts = [np.asarray(stream.task(task).train_image) for task in range(2)]
        np.testing.assert_array_equal(everything, np.concatenate(parts))
