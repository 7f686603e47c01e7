"""Tests the public API of `ucl_jax`: its examples, and that it gives what the commands give."""

import doctest
import importlib
import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import ucl_jax
from tests import probed, tiny
from ucl_jax import recipes
from ucl_jax.data import folder, memory
from ucl_jax.errors import UsageError
from ucl_jax.training.build import resolve
from ucl_jax.training.session import open_tasks

RUN = "runs/lump-digits-simsiam-seed0"  # the folder that examples name
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 9, 12, 3), np.uint8)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Provides a folder with the run that examples load."""
    folder = tmp_path_factory.mktemp("home")
    probed.trained(folder / RUN, "lump", model__width=12)
    return folder


@pytest.mark.parametrize("place", sorted({*ucl_jax._PLACES.values(), "buffers.fifo", "objectives.losses", "augment"}))
def test_examples(place, home, monkeypatch):
    monkeypatch.chdir(home)
    module = importlib.import_module(f"ucl_jax.{place}")
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert not failed
    assert tried or place in ("errors", "training.loop")


def test_every_name_is_there():
    assert {*ucl_jax.__all__} == {*ucl_jax._PLACES, "__version__"}
    for name in ucl_jax.__all__:
        assert getattr(ucl_jax, name) is not None
        assert name in dir(ucl_jax)
    assert not hasattr(ucl_jax, "nothing")


def test_a_config_is_that_of_the_command_line():
    given = {"train.epochs": 3, "augment.mean": [0.1, 0.2, 0.3], "log.wandb": True, "data_dir": "a b", "seed": 7}
    flags = ["--config=er:digits,byol", "--config.train.epochs=3", "--config.augment.mean=(0.1,0.2,0.3)"]
    flags += ["--config.log.wandb=True", "--config.data_dir=a b", "--config.seed=7"]
    made = ucl_jax.make_config("er:digits,byol", given)
    assert made.to_dict() == recipes.read_config(flags).to_dict()
    assert (made.train.epochs, made.augment.mean, made.data_dir) == (3, (0.1, 0.2, 0.3), "a b")
    with pytest.raises(UsageError, match=r"train\.batch_size"):
        ucl_jax.make_config("er:digits", {"train.batch_size": 0.5})


def test_a_session_finds_what_a_run_finds(home):
    """Checks that events without files bring the rows of results.json, and features of the last network."""
    config = tiny.config("lump", model__width=12, train__epochs=1)
    kept = probed.results(home / RUN)["probes"]
    with ucl_jax.open_session(config) as session:
        ends = []
        for event in session.train():
            if isinstance(event, ucl_jax.LegDone):
                ends.append(event.rows)
                features = session.features(event.state.network, IMAGES)
        untrained, measured = session.untrained()
    for name, probe in kept.items():
        assert [row[name].accuracy for row in ends] == probe["matrix"]
        assert untrained[name].accuracy == probe["random_init"]
    assert measured is None
    np.testing.assert_allclose(features, ucl_jax.load(home / RUN).transform(IMAGES), rtol=1e-5, atol=1e-6)


def knn_accuracy(bank, bank_label, query, query_label, k, temperature):
    """Classifies by weighted votes of the k nearest by cosine; computed with loops and NumPy alone."""
    bank, query = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, query))
    hits = 0
    for one, label in zip(query, query_label):
        cosine = bank @ one
        nearest = np.argsort(-cosine, kind="stable")[:k]
        votes = np.bincount(bank_label[nearest], np.exp(cosine[nearest] / temperature))
        hits += int(np.argmax(votes) == label)
    return 100 * hits / len(query)


def test_features_are_those_that_the_run_was_evaluated_by(home):
    """Checks them by the last row of the accuracy matrix, which is computed anew from images, and by the probes'."""
    encoder = ucl_jax.load(home / RUN)
    own = encoder.opened.features(2, own_phase=False)
    for task, accuracy in enumerate(probed.results(home / RUN)["probes"]["knn_task"]["matrix"][-1]):
        data = encoder.opened.stream.task(task)
        bank, query = (encoder.transform(np.asarray(x)) for x in (data.train_image, data.test_image))
        assert bank.dtype == np.float32
        assert bank.shape == (80, 96)
        np.testing.assert_allclose(query, own[task].query, rtol=1e-5, atol=1e-6)
        assert knn_accuracy(bank, data.train_label, query, data.test_label, 5, 0.1) == accuracy


def test_features_have_names(home):
    encoder = ucl_jax.Encoder(home / RUN).set_output(transform="pandas")
    assert list(encoder.transform(IMAGES).columns) == [f"encoder{place}" for place in range(96)]


def test_images_of_other_sizes_are_resized(home):
    encoder = ucl_jax.Encoder(home / RUN)
    small = np.stack([np.asarray(Image.fromarray(x).resize((8, 8), Image.Resampling.BILINEAR)) for x in IMAGES])
    expected = encoder.transform(small)
    np.testing.assert_allclose(encoder.transform(IMAGES), expected, rtol=1e-5, atol=1e-6)
    mixed = [IMAGES[0], small[1], *IMAGES[2:]]
    np.testing.assert_allclose(encoder.transform(mixed), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoder.transform(small[:1]), expected[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fit", ["none", "pad", "resize", "crop"])
def test_an_image_of_the_right_size_stays_as_it_is(fit):
    square = IMAGES[:, :9, :9]
    np.testing.assert_array_equal(memory.fitted(square, 9, fit), square)
    np.testing.assert_array_equal(memory.fitted(list(square), 9, fit), square)


def test_images_in_any_form_are_those_that_training_reads(tmp_path):
    """Compares files, PIL images and arrays with what is read from a folder, where they are not plain RGB."""
    rng = np.random.default_rng(0)
    modes = {"RGBA": (4,), "L": (), "RGB": (3,)}
    images = {mode: Image.fromarray(rng.integers(0, 256, (20, 16, *more), np.uint8)) for mode, more in modes.items()}
    paths = [tmp_path / f"{mode}.png" for mode in images]
    for path, image in zip(paths, images.values()):
        image.save(path)
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: turned by 90 degrees
    images["RGB"].save(tmp_path / "camera.jpg", exif=turned)
    paths.append(tmp_path / "camera.jpg")
    wanted = np.stack([folder.read(str(path), 8, "resize") for path in paths])
    white = Image.new("RGBA", (16, 20), "white")
    white.alpha_composite(images["RGBA"])
    by_hand = np.asarray(white.convert("RGB").resize((8, 8), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(wanted[0], by_hand)
    np.testing.assert_array_equal(memory.fitted(paths, 8, "resize"), wanted)
    np.testing.assert_array_equal(memory.fitted(list(map(str, paths)), 8, "resize"), wanted)
    opened = [Image.open(path) for path in paths]
    np.testing.assert_array_equal(memory.fitted(opened, 8, "resize")[:3], wanted[:3])
    np.testing.assert_allclose(memory.fitted(opened, 8, "resize")[3].astype(int), wanted[3], atol=24)  # not as a draft
    as_arrays = [np.asarray(image) for image in images.values()]
    np.testing.assert_array_equal(memory.fitted(as_arrays, 8, "resize"), wanted[:3])
    assert ucl_jax.Arrays(paths[:3]).path == ucl_jax.Arrays(as_arrays).path != ucl_jax.Arrays(paths[1:3]).path
    (tmp_path / "RGB.png").write_bytes(paths[0].read_bytes()[:60])
    for path, why in ((tmp_path / "RGB.png", "truncated"), (tmp_path / "none.png", "no such file")):
        with pytest.raises(ValueError, match=f"{path}' *, which cannot be read .*{why}"):
            memory.fitted([path], 8, "resize")


def test_an_encoder_is_a_transformer_of_scikit_learn(home):
    encoder, labels = ucl_jax.Encoder(home / RUN, after=1), RNG.integers(0, 2, len(IMAGES))
    features = encoder.fit_transform(IMAGES)
    pipeline = make_pipeline(clone(encoder), LogisticRegression(max_iter=500)).fit(IMAGES, labels)
    alone = LogisticRegression(max_iter=500).fit(features, labels)
    np.testing.assert_array_equal(pipeline.predict(IMAGES), alone.predict(features))
    again = pickle.loads(pickle.dumps(encoder))
    assert again.get_params() == encoder.get_params() == {"run": home / RUN, "after": 1}
    np.testing.assert_array_equal(again.transform(IMAGES), features)
    last = encoder.set_params(after="last").transform(IMAGES)
    assert np.max(np.abs(last - features)) > 1e-3
    np.testing.assert_array_equal(last, ucl_jax.load(home / RUN, after=2).transform(IMAGES))


@pytest.mark.parametrize(
    "wrong", [IMAGES / 255.0, IMAGES[0], IMAGES[..., :1], IMAGES[:0], [IMAGES], "a.png", [], [None], 5]
)
def test_wrong_images_are_told(wrong, home):
    with pytest.raises(ValueError, match="images"):
        ucl_jax.Encoder(home / RUN).transform(wrong)
    with pytest.raises(ValueError, match="images"):
        ucl_jax.Arrays(wrong)


def test_wrong_networks_and_folders_are_told(home, tmp_path):
    for after in (3, -1, "first"):
        with pytest.raises(ValueError, match="after"):
            ucl_jax.load(home / RUN, after)
    with pytest.raises(UsageError, match=r"config\.json"):
        ucl_jax.load(tmp_path)


def arrays_config(**more):
    return ucl_jax.make_config("lump:folder", {"benchmark.image_size": 8, "image_cache": "", **more})


@pytest.mark.parametrize("kind", ["labels", "tasks"])
def test_arrays_are_what_the_same_images_in_a_folder_are(kind, tmp_path):
    groups = np.array(["ant", "bee", "cat", "dog"])[np.arange(len(IMAGES)) % 4]
    for number, (image, group) in enumerate(zip(IMAGES, groups)):
        (tmp_path / group).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / group / f"{number}.png")
    folders = {"labels": "classes", "tasks": "tasks"}[kind]
    from_files = resolve(arrays_config(**{"benchmark.path": str(tmp_path), "benchmark.folders": folders}))
    data = ucl_jax.Arrays(IMAGES, **{kind: groups})
    from_memory = resolve(arrays_config(), data)
    assert from_memory.benchmark.to_dict() | {"path": str(tmp_path)} == from_files.benchmark.to_dict()
    with open_tasks(from_files) as files, open_tasks(from_memory, data=data) as arrays:
        assert arrays.class_names == files.class_names == ("ant", "bee", "cat", "dog")
        assert (arrays.num_tasks, arrays.classes, arrays.labelled) == (files.num_tasks, files.classes, files.labelled)
        assert arrays.train_sizes == files.train_sizes
        for task in range(files.num_tasks):
            for part, other in zip(files.task(task), arrays.task(task)):
                assert sorted(map(bytes, np.asarray(part))) == sorted(map(bytes, np.asarray(other)))


def test_arrays_without_groups_are_cut_in_their_order():
    data = ucl_jax.Arrays(IMAGES[:, :8, :8])
    with open_tasks(config := resolve(arrays_config(), data), data=data) as stream:
        assert stream.num_tasks == 5
        task = stream.task(3)
        found = np.concatenate([task.train_image, task.test_image])
        assert sorted(map(bytes, found)) == sorted(map(bytes, IMAGES[18:24, :8, :8]))
    for other in (None, ucl_jax.Arrays(IMAGES[::-1])):
        with pytest.raises(UsageError, match=r"config\.benchmark\.path is 'memory:"):
            open_tasks(config, data=other)


def test_arrays_that_make_no_tasks_are_told(tmp_path):
    with pytest.raises(ValueError, match="both"):
        ucl_jax.Arrays(IMAGES, labels=range(30), tasks=range(30))
    with pytest.raises(ValueError, match=r"labels has shape \(29,\)"):
        ucl_jax.Arrays(IMAGES, labels=range(29))
    data = ucl_jax.Arrays(IMAGES, labels=[1] * 30)
    for config, expected in (
        (arrays_config(), "config.benchmark.labels are all the same"),
        (ucl_jax.make_config("lump:digits"), "config.benchmark is 'digits'"),
        (arrays_config(**{"benchmark.path": str(tmp_path)}), "config.benchmark.path"),
    ):
        with pytest.raises(UsageError, match=expected):
            resolve(config, data)


def test_a_run_knows_its_images_again(tmp_path):
    small = tiny.overrides(benchmark__image_size=8, train__epochs=1, log__tensorboard=False, init_from="")
    small |= {"benchmark.num_tasks": 0, "benchmark.examples_per_task": 0, "benchmark.test_examples_per_task": 0}
    config = ucl_jax.make_config("finetune:folder", small | {"benchmark.validation_fraction": 0.2})
    images = RNG.integers(0, 256, (200, 8, 8, 3), np.uint8)
    labels = np.repeat(["a", "b", "c", "d"], 50)
    results = ucl_jax.run(config, tmp_path / "run", data=ucl_jax.Arrays(images, labels))
    assert (results.argument, results.overrides["model.width"]) == ("folder,simsiam,ucl,tasks", 4)
    assert ucl_jax.load(tmp_path / "run").transform(images).shape == (200, 32)
    again = ucl_jax.run(config, tmp_path / "run", data=ucl_jax.Arrays(images.copy(), labels))
    assert again == results
    for other in (ucl_jax.Arrays(255 - images, labels), ucl_jax.Arrays(images, np.roll(labels, 1))):
        with pytest.raises(UsageError, match=r"another config: benchmark\.path"):
            ucl_jax.run(config, tmp_path / "run", data=other)
