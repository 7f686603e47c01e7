"""Tests probes of saved networks against the run's own records, scikit-learn and NumPy, and in killed processes."""

import copy
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from tests import tiny
from ucl_jax.data.tasks import open_stream
from ucl_jax.errors import UsageError
from ucl_jax.objectives import STAGES
from ucl_jax.probes import PROBES
from ucl_jax.probes import __main__ as probe
from ucl_jax.probes.loss_landscape import filter_normalised, random_classifier
from ucl_jax.probes.trained_run import TrainedRun
from ucl_jax.results.schema import Record
from ucl_jax.settings import PROBE_DEFAULTS
from ucl_jax.training import run
from ucl_jax.training.provenance import Origin
from ucl_jax.training.run_folder import claim, write_json
from ucl_jax.types import Variables

ROOT = pathlib.Path(__file__).parents[2]


def trained(folder, recipe, arg="digits", **more):
    run.run(tiny.config(recipe, arg, log__tensorboard=False, train__epochs=1, **more), folder, Origin("a test"))
    return folder


@pytest.fixture(scope="module")
def lump(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("lump") / "run", "lump", seed=3, benchmark__subset_seed=-1)


@pytest.fixture(scope="module")
def pnn(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("pnn") / "run", "pnn", "digits,barlow_twins")


@pytest.fixture
def workdir(lump, tmp_path):
    """Copies the run into a folder that a test may write to."""
    return shutil.copytree(lump, tmp_path / "run")


@pytest.fixture(scope="module")
def subject(lump):
    with TrainedRun(lump) as opened:
        yield opened


def results(workdir):
    return json.loads((workdir / "results.json").read_text())


def measure(subject, name, after=2, **settings):
    """Returns the values of one record.

    A setting that is not given has its default; of a list, the first case is taken.
    """
    one = PROBES[name]
    defaults = PROBE_DEFAULTS[name]
    given = {key: (value,) if isinstance(defaults[key], tuple) else value for key, value in settings.items()}
    (case, *_) = one.cases(subject, defaults | given)
    return one.measure(subject, None if one.whole_run else after, case)


def test_the_network_after_every_task_is_kept(subject, lump):
    assert subject.afters == [0, 1, 2]
    last, first = subject.network(2).params, subject.network(1).params
    assert not any(map(np.array_equal, jax.tree.leaves(last["backbone"]), jax.tree.leaves(first["backbone"])))
    fresh = subject.experiment.init()
    jax.tree.map(np.testing.assert_array_equal, subject.network(0).params, fresh.network.params)
    assert {path.name for path in (lump / "networks").iterdir()} == {"1", "2"}


def test_images_are_those_of_the_runs_seed_where_it_says_so(subject):
    """With `subset_seed` -1, a probe sees the images that the run's seed chooses.

    That the run itself had them follows from `test_knn_is_the_runs_own_probe`.
    """
    benchmark = copy.deepcopy(subject.config.benchmark)
    benchmark.subset_seed = 3
    with open_stream(benchmark, subject.data_dir) as stream:
        for task in (0, 1):
            jax.tree.map(np.testing.assert_array_equal, subject.stream.task(task), stream.task(task))


@pytest.mark.parametrize("recipe", ["lump", "pnn"])
def test_knn_is_the_runs_own_probe(recipe, request):
    folder = request.getfixturevalue(recipe)
    own = results(folder)["probes"]
    with TrainedRun(folder) as subject:
        for after in (1, 2):
            first, *_ = measure(subject, "knn", after)["rows"]
            assert first["k"] == 5
            assert first["task"][:after] == own["knn_task"]["matrix"][after - 1][:after]
            assert first["all"] == own["knn_all"]["matrix"][after - 1]
        untrained = measure(subject, "knn", 0, k="run")["rows"]
    assert untrained[0]["task"] == own["knn_task"]["random_init"]
    assert untrained[0]["all"] == own["knn_all"]["random_init"]


def test_knn_of_the_release_takes_the_tasks_seen(subject):
    assert [row["k"] for row in measure(subject, "knn", 1)["rows"]] == [5, 1]
    assert [row["k"] for row in measure(subject, "knn", 2)["rows"]] == [5, 2]
    (row,) = measure(subject, "knn", 2, k="100")["rows"]
    assert row["k"] == 100
    assert row["k_used"] == {"task": [80, 80], "all": [100, 100]}  # a task has 80 training images


def test_transfer_is_of_the_runs_own_matrix(pnn):
    with TrainedRun(pnn) as subject:
        values = measure(subject, "transfer")
        ahead = measure(subject, "knn", 1)["rows"][0]["task"][1]
    (a00, _), (a10, a11) = results(pnn)["probes"]["knn_task"]["matrix"]
    assert values["matrix"] == [[a00, ahead], [a10, a11]]
    assert values["backward"] == pytest.approx(a10 - a00)
    assert values["forward"] == pytest.approx(ahead - results(pnn)["probes"]["knn_task"]["random_init"][1])
    assert values["learning_accuracy"] == pytest.approx((a00 + a11) / 2)


def test_linear_is_scikit_learns_ridge(subject):
    values = measure(subject, "linear", solver="ridge", fraction=1.0)
    tasks = subject.features(2, own_phase=False)
    for task, found, penalty in zip(tasks, values["task"], values["penalty_task"]):
        scaler = StandardScaler().fit(task.bank.astype(np.float64))
        labels = np.unique(task.bank_label)
        target = (task.bank_label[:, None] == labels).astype(np.float64)
        model = Ridge(penalty, solver="cholesky").fit(scaler.transform(task.bank), target)
        predicted = labels[model.predict(scaler.transform(task.query)).argmax(1)]
        assert found == pytest.approx(100 * np.mean(predicted == task.query_label), abs=2.6)  # a tie in one of 40
    assert None not in values["all"]
    assert measure(subject, "linear", 1, solver="ridge", fraction=1.0)["all"][1] is None


def test_linear_has_a_case_for_each_solver_and_fraction(subject):
    cases = PROBES["linear"].cases(subject, PROBE_DEFAULTS["linear"])
    assert [(case["solver"], case["fraction"]) for case in cases] == [
        (solver, fraction) for solver in ("ridge", "sgd") for fraction in (0.01, 0.1, 1.0)
    ]
    assert "epochs" not in cases[0]
    assert "penalties" not in cases[-1]


def test_cka_is_that_of_the_definition(subject):
    values = measure(subject, "cka", images=40, batch_size=20, seed=3)
    assert values["networks"] == values["other_networks"] == [0, 1, 2]
    assert list(values["cka"]) == list(STAGES)
    images, _, _ = subject.test_images(40)
    batches = images[np.random.default_rng(3).permutation(40)].reshape(2, 20, 8, 8, 3)

    def hsic(k, m):
        """Computes equation 5 of Song et al. 2012, as it stands there."""
        n = len(k)
        k, m, one = k - np.diag(np.diag(k)), m - np.diag(np.diag(m)), np.ones(n)
        middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
        return (np.trace(k @ m) + middle) / (n * (n - 3))

    def kernel(after, batch, stage):
        maps = subject.objective(after).maps(subject.network(after), batch)[stage]
        flat = np.asarray(maps, np.float64).reshape(len(batch), -1)
        return flat @ flat.T

    for stage in ("stem", "stage3"):
        kernels = {after: [kernel(after, batch, stage) for batch in batches] for after in (0, 2)}
        between, left, right = (sum(map(hsic, kernels[a], kernels[b])) for a, b in ((0, 2), (0, 0), (2, 2)))
        assert values["cka"][stage][0][2] == pytest.approx(between / np.sqrt(left * right), abs=1e-4)
        np.testing.assert_allclose(np.diag(values["cka"][stage]), 1, atol=1e-6)
        np.testing.assert_allclose(values["cka"][stage], np.transpose(values["cka"][stage]), atol=1e-6)


def test_cka_tells_the_distance_of_parameters(subject):
    found = measure(subject, "cka", images=20, batch_size=20)["l2"]
    flat = [
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(subject.network(after).params["backbone"])])
        for after in (0, 1, 2)
    ]
    np.testing.assert_allclose(found, [[np.linalg.norm(a - b) for b in flat] for a in flat], atol=1e-3)


def test_cka_with_another_run(subject, pnn, lump):
    itself = measure(subject, "cka", images=40, batch_size=20, other=str(lump))
    assert itself["cka"] == measure(subject, "cka", images=40, batch_size=20)["cka"]
    grown = measure(subject, "cka", images=40, batch_size=20, other=str(pnn))
    assert np.shape(grown["cka"]["stage4"]) == (3, 3)
    assert np.max(grown["cka"]["stage4"]) < 0.999
    assert grown["l2"] == [[None] * 3] * 3


def test_maps_lead_to_the_features(subject, pnn):
    images, _, _ = subject.test_images(6)
    with TrainedRun(pnn) as grown:
        for one in (subject, grown):
            maps = one.objective(2).maps(one.network(2), images)
            assert [value.shape for value in maps.values()] == [
                (6, 8, 8, 4),
                (6, 8, 8, 4),
                (6, 4, 4, 8),
                (6, 2, 2, 16),
                (6, 1, 1, 32),
            ]
            features = one.objective(2).features(one.network(2), images).features
            np.testing.assert_allclose(np.asarray(maps["stage4"]).mean((1, 2)), features, atol=1e-6)


def test_geometry_is_that_of_numpy(subject):
    values = measure(subject, "geometry")

    def flat(after):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(subject.network(after).params["backbone"])])

    assert values["l2_from_random"] == pytest.approx(np.linalg.norm(flat(2) - flat(0)), rel=1e-5)
    assert values["l2_from_previous"] == pytest.approx(np.linalg.norm(flat(2) - flat(1)), rel=1e-5)
    assert values["dimensions"] == len(values["deviation"]) == 32
    assert 1 < values["effective_rank"] <= 32
    assert values["deviation_mean"] == pytest.approx(np.mean(values["deviation"]), abs=1e-5)
    assert values["deviation_least"] == pytest.approx(min(values["deviation"]), abs=1e-5)
    untrained = measure(subject, "geometry", 0)
    assert (untrained["l2_from_random"], untrained["l2_from_previous"]) == (0, None)


def test_feature_maps_are_those_of_the_stage(subject):
    values = measure(subject, "feature_maps", images=2, channels=3)
    assert [item["task"] for item in values["items"]] == [0, 0, 1, 1]
    item = values["items"][-1]
    maps = subject.objective(2).maps(subject.network(2), np.array([item["image"]], np.uint8))["stage2"][0]
    np.testing.assert_allclose(item["maps"], np.moveaxis(np.asarray(maps)[..., item["channels"]], -1, 0), atol=1e-4)
    assert set(item["channels"]) == set(np.argsort(np.asarray(maps).std((0, 1)))[-3:])


def test_the_random_classifier_is_drawn_as_pytorchs_linear_layer():
    """Weight and bias are uniform in +-1 / sqrt(in) and reach both ends; the variance is 1 / (3 in)."""
    weight, bias = map(np.asarray, random_classifier(jax.random.key(1), 64, 2_000))
    assert (weight.shape, bias.shape) == ((64, 2_000), (2_000,))
    for drawn in (weight, bias):
        assert scipy.stats.kstest(drawn.ravel(), "uniform", (-1 / 8, 2 / 8)).pvalue > 1e-4
        assert 0.99 / 8 < np.abs(drawn).max() <= 1 / 8
    assert weight.var() == pytest.approx(1 / (3 * 64), rel=0.02)
    assert np.abs(np.corrcoef(weight[0], bias)[0, 1]) < 0.1


@pytest.mark.parametrize("loss", ["classifier", "objective"])
def test_the_middle_of_the_landscape_is_the_network(subject, loss):
    small = measure(subject, "loss_landscape", loss=loss, points=3, images=16)
    still = measure(subject, "loss_landscape", loss=loss, points=3, images=16, span=1e-7)
    assert small["steps"] == [-1, 0, 1]
    np.testing.assert_allclose(still["loss"], small["loss"][1][1], rtol=1e-4, atol=1e-5)  # a mean cosine is near 0
    assert small["loss"][0][2] != small["loss"][2][0]
    if loss == "classifier":
        batch = subject.stream.task(0)
        index = np.random.default_rng(0).permutation(len(batch.train_label))[:16]
        first, _, key = jax.random.split(jax.random.key(0), 3)
        params, state = subject.network(2)
        moved = jax.tree.map(lambda p, d: p - d, params, filter_normalised(first, params))
        for network, expected in ((params, small["loss"][1][1]), (moved, small["loss"][0][1])):
            features = subject.objective(2).features(Variables(network, state), batch.train_image[index]).features
            weight, bias = random_classifier(key, 32, 2)
            logits = np.asarray(features @ weight + bias[None], np.float64)
            likelihood = logits[np.arange(16), batch.train_label[index]] - scipy.special.logsumexp(logits, axis=1)
            assert expected == pytest.approx(-likelihood.mean(), rel=1e-4)


def test_directions_have_the_length_of_each_filter():
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(3, 3, 4, 5)).astype(np.float32), "scale": np.ones(5, np.float32)}
    direction = filter_normalised(jax.random.key(1), params)
    np.testing.assert_allclose(
        np.linalg.norm(direction["kernel"].reshape(-1, 5), axis=0),
        np.linalg.norm(params["kernel"].reshape(-1, 5), axis=0),
        rtol=1e-5,
    )
    cosine = np.sum(direction["kernel"] * params["kernel"]) / np.linalg.norm(params["kernel"]) ** 2
    assert abs(cosine) < 0.3
    assert not np.any(direction["scale"])


def test_embedding_is_scikit_learns_pca(subject):
    values = measure(subject, "embedding", method="pca", images=60)
    images, label, task = subject.test_images(60)
    assert (values["label"], values["task"]) == (label.tolist(), task.tolist())
    features = np.asarray(subject.objective(2).features(subject.network(2), images).features, np.float64)
    expected = PCA(2).fit_transform(features / np.linalg.norm(features, axis=1, keepdims=True))
    np.testing.assert_allclose(np.abs(values["points"]), np.abs(expected), atol=1e-3)
    assert np.shape(measure(subject, "embedding", images=20)["points"]) == (20, 2)


def test_ood_is_weighted_knn_and_ridge_over_all_classes(subject):
    values = measure(subject, "ood", dataset="digits", train_images=200, test_images=100, k="7")
    assert (values["train_images"], values["test_images"], values["chance"]) == (200, 100, 10)
    with subject.other_data("digits", 200, 100) as stream:
        data = stream.task(0)
    bank, query = (
        np.asarray(subject.objective(2).features(subject.network(2), images).features, np.float64)
        for images in (data.train_image, data.test_image)
    )
    bank, query = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, query))
    correct = 0
    for one, label in zip(query @ bank.T, data.test_label):
        nearest = np.argsort(-one)[:7]
        scores = np.bincount(data.train_label[nearest], np.exp(one[nearest] / 0.1), 10)
        correct += scores.argmax() == label
    assert values["knn"] == pytest.approx(correct, abs=1)
    assert 20 < values["knn"] <= 100
    assert 20 < values["linear"] <= 100


def test_other_data_are_normalised_in_their_own_way(subject):
    image = np.full((1, 8, 8, 3), 128, np.uint8)
    one, other = (
        subject.feature_extractor(2, subject.normalised_for(name))(image).features for name in ("digits", "mnist")
    )
    np.testing.assert_allclose(one, subject.feature_extractor(2)(image).features, rtol=1e-6)
    assert np.max(np.abs(one - other)) > 1e-3


def test_finetuning_learns_another_data_set_and_leaves_the_run_alone(subject, lump):
    before = jax.tree.map(np.array, subject.network(2))
    few = {"dataset": "digits", "train_images": 400, "test_images": 100, "batch_size": 32}
    values = measure(subject, "finetune", **few, epochs=8)
    assert len(values["by_epoch"]) == 8
    assert values["accuracy"] == values["by_epoch"][-1] > 70
    assert measure(subject, "finetune", **few, epochs=1, learning_rate=1e-9)["accuracy"] < 50
    jax.tree.map(np.testing.assert_array_equal, subject.network(2), before)
    assert subject.networks.afters() == [1, 2]


def call(workdir, *arguments, **more):
    words = [sys.executable, "-m", "ucl_jax.probe", f"--workdir={workdir}", *arguments]
    environment = os.environ | {"XLA_FLAGS": ""}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_and_started_again_leaves_the_same_files(workdir, tmp_path):
    undisturbed = shutil.copytree(workdir, tmp_path / "undisturbed")
    words = ["--probes=knn,geometry,embedding", "--after=all", "--set=embedding.method=pca"]
    done = call(undisturbed, *words)
    assert done.communicate(timeout=200)[1] == ""
    assert done.returncode == 0
    killed = call(workdir, *words)
    deadline = time.monotonic() + 200
    while "analysis" not in results(workdir):
        assert time.monotonic() < deadline
        assert killed.poll() is None, killed.stderr.read()
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(results(workdir)["analysis"]) < 9
    again = call(workdir, *words)
    assert again.communicate(timeout=200)[1] == ""
    assert results(workdir) == results(undisturbed)
    assert len(results(workdir)["analysis"]) == 9
    files = [
        {path.relative_to(folder): path.read_bytes() for path in (folder / "analysis").iterdir()}
        for folder in (workdir, undisturbed)
    ]
    assert {path.suffix for path in (workdir / "analysis").iterdir()} == {".png", ".svg", ".json", ".csv"}
    assert files[0] == {
        path.relative_to(workdir) if path.is_absolute() else path: data for path, data in files[0].items()
    }
    assert {path.name: data for path, data in files[0].items()} == {path.name: data for path, data in files[1].items()}


def test_what_is_there_is_not_made_again(workdir, monkeypatch):
    made = []
    counted = PROBES["geometry"]._replace(
        measure=lambda subject, after, settings: made.append(after) or {"l2_from_random": 1.0}
    )
    monkeypatch.setitem(PROBES, "geometry", counted)
    probe.probe(workdir, ["geometry"], "2,1", ())
    probe.probe(workdir, ["geometry"], "all", ())
    assert made == [1, 2, 0]
    assert [record["after"] for record in results(workdir)["analysis"]] == [0, 1, 2]


def test_a_run_that_goes_on_keeps_its_analysis(tmp_path):
    folder = trained(tmp_path / "run", "finetune")
    probe.add(folder, Record(probe="geometry", after=1, settings={}, values={"dimensions": 32}))
    content = results(folder) | {"finished": False}
    write_json(folder / "results.json", content)
    trained(folder, "finetune")
    assert results(folder)["finished"]
    assert results(folder)["analysis"] == content["analysis"]


def test_what_was_made_of_fewer_networks_is_made_anew(workdir, capsys):
    """A run that was probed before it finished, and went on, is probed anew."""
    shutil.move(workdir / "networks" / "2", workdir / "later")
    words = [f"--workdir={workdir}", "--probes=cka", "--set=cka.images=20", "--set=cka.batch_size=20"]
    assert probe.main(words) == 0
    assert np.shape(results(workdir)["analysis"][0]["values"]["cka"]["stem"]) == (2, 2)
    assert probe.main([f"--workdir={workdir}", "--probes=transfer"]) == 2
    assert "transfer needs the network after each of 2 tasks, kept are 1" in capsys.readouterr().err
    shutil.move(workdir / "later", workdir / "networks" / "2")
    assert probe.main(words) == 0
    (record,) = results(workdir)["analysis"]
    assert np.shape(record["values"]["cka"]["stem"]) == (3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--probes=knm"], "unknown probe 'knm', did you mean 'knn'?"),
        (["--probes=knn", "--set=knn.kk=3"], "unknown setting of knn 'kk', did you mean 'k'?"),
        (["--probes=knn", "--set=knn.k"], "--set=knn.k is not PROBE.KEY=VALUE"),
        (["--probes=knn", "--set=ood.seed=1"], "--set=ood.seed=1: 'ood' is not among --probes=knn"),
        (["--probes=knn", "--set=knn.k=0"], "knn.k is '0'; it must be a number above 0"),
        (["--probes=knn", "--set=knn.k="], "knn.k is (); it must be a list"),
        (["--probes=knn", f"--set=knn.k={10**30}"], "knn.k is '1000000000000000000000000000000'; it must be"),
        (["--probes=knn", "--set=knn.k=²"], "knn.k is '²'; it must be"),
        (["--probes=knn", "--set=knn.temperature=x"], "knn.temperature is 'x'; it must be a number from 0.001 to"),
        (["--probes=knn", "--set=knn.temperature=0.1,inf"], "knn.temperature is inf; it must be a number"),
        (["--probes=ood", "--set=ood.temperature=0"], "ood.temperature is 0.0; it must be a number"),
        (["--probes=linear", "--set=linear.seed=-1"], "linear.seed is -1; it must be a whole number from 0 to"),
        (["--probes=linear", f"--set=linear.seed={2**63}"], f"linear.seed is {2**63}; it must be a whole number"),
        (["--probes=linear", "--set=linear.penalties=1,-1"], "linear.penalties is -1.0; it must be a number"),
        (["--probes=linear", "--set=linear.fraction=1.5"], "linear.fraction is 1.5; it must be a number"),
        (["--probes=linear", "--set=linear.momentum=nan"], "linear.momentum is nan; it must be a number"),
        (["--probes=loss_landscape", "--set=loss_landscape.points=5,7"], "points is '5,7'; it must be a whole number"),
        (["--probes=loss_landscape", f"--set=loss_landscape.images={'9' * 5000}"], "it must be a whole number"),
        (["--probes=loss_landscape", "--set=loss_landscape.task=2"], "loss_landscape.task is 2; "),
        (["--probes=cka", "--set=cka.other=none"], "cka.other=none is no run folder"),
        (["--probes=knn", "--after=3"], "there is no network after 3 tasks; known: 0, 1, 2"),
        (["--probes=knn", "--after=first"], "--after=first is neither last, all, nor numbers with commas"),
        (["--probes=knn", "--after=²"], "--after=² is neither last, all, nor numbers with commas"),
        (
            ["--probes=cka", "--set=cka.batch_size=x"],
            "cka.batch_size is 'x'; it must be a whole number",
        ),
        (["--probes=linear", "--set=linear.solver=lasso"], "unknown linear.solver 'lasso'"),
        (["--probes=embedding", "--set=embedding.method=umap"], "unknown embedding.method 'umap'"),
        (["--probes=loss_landscape", "--set=loss_landscape.points=4"], "loss_landscape.points is 4; it must be odd"),
        (["--probes=ood", "--set=ood.dataset=imagenet"], "unknown ood.dataset 'imagenet'"),
        (["--probes=feature_maps", "--set=feature_maps.stage=stage9"], "unknown feature_maps.stage 'stage9'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_lost(arguments, message, workdir, capsys):
    before = results(workdir)
    assert probe.main([f"--workdir={workdir}", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert results(workdir) == before


def test_runs_that_cannot_be_probed(workdir, tmp_path, capsys):
    assert probe.main([f"--workdir={tmp_path / 'none'}", "--probes=knn"]) == 2
    assert "no run folder" in capsys.readouterr().err
    with claim(workdir):
        assert probe.main([f"--workdir={workdir}", "--probes=knn"]) == 2
    assert "another process is at work in" in capsys.readouterr().err
    shutil.rmtree(workdir / "networks" / "2" / "state")
    assert probe.main([f"--workdir={workdir}", "--probes=geometry"]) == 2
    assert "is not as it was saved" in capsys.readouterr().err
    shutil.rmtree(workdir / "networks")
    assert probe.main([f"--workdir={workdir}", "--probes=knn"]) == 2
    assert "holds no network" in capsys.readouterr().err


def test_a_run_may_keep_no_networks(tmp_path):
    folder = trained(tmp_path / "run", "finetune", checkpoint__networks=False)
    assert not (folder / "networks").exists()
    with pytest.raises(UsageError, match="holds no network"):
        TrainedRun(folder)
