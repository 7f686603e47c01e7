"""Tests files that are well-formed JSON but wrong: every command that reads one ends with one line and exit code 2."""

import json
import pathlib
import re
import typing

import pytest

from tests import run_results, tiny
from ucl_jax import cli
from ucl_jax.evaluation import accuracy_matrix, evaluators
from ucl_jax.objectives import STAGES
from ucl_jax.probes import PROBES
from ucl_jax.probes import __main__ as probe
from ucl_jax.reproduce import __main__ as reproduce
from ucl_jax.results import __main__ as report
from ucl_jax.results import compare, fields, records, schema
from ucl_jax.results.load import read_metrics, read_results
from ucl_jax.training import run
from ucl_jax.training.metric_writers import MetricsFile
from ucl_jax.training.provenance import Origin

MISSING = object()
COMMAND = "python launch.py --config=configs/finetune.py:digits,simsiam --config.seed=0"
OVERRIDES = tiny.overrides(log__tensorboard=False)
LANDSCAPE = {
    "probe": "loss_landscape",
    "after": 2,
    "settings": {"loss": "classifier", "task": 0, "points": 11, "span": 1.0, "images": 256, "seed": 0},
    "values": {"steps": [-1.0, 0.0, 1.0], "loss": [[3, 2, 3], [2, 1, None], [3, 2, 6]], "images": 80},
}
CKA_SETTINGS = {"other": "", "images": 1024, "batch_size": 256, "seed": 0}
SIMILAR = {stage: [[1.0, 0.5], [0.5, None]] for stage in ("stem", "stage1", "stage2", "stage3", "stage4")}
ITEM = {"task": 0, "label": 1, "image": [[[0, 0, 0]] * 2] * 2, "channels": [3], "maps": [[[0.5, None]]]}
ROW = {"k": 5, "temperature": 0.1, "task": [90.0, 80.0], "all": [70.0, None]}
ANALYSIS = [
    LANDSCAPE,
    {
        "probe": "cka",
        "after": None,
        "settings": CKA_SETTINGS,
        "values": {
            "images": 40,
            "networks": [0, 2],
            "other_networks": [0, 2],
            "cka": SIMILAR,
            "l2": [[0.0, 1.5], [1.5, 0.0]],
        },
    },
    {"probe": "knn", "after": 2, "settings": {"k": ["run"], "temperature": [0.1]}, "values": {"rows": [ROW]}},
    {
        "probe": "linear",
        "after": 2,
        "settings": {"solver": "ridge", "fraction": 1.0, "penalties": [0.1, 1.0], "seed": 0},
        "values": {"task": [90.0, 80.0], "all": [70.0, None], "penalty_task": [0.1, 1.0], "penalty_all": 1.0},
    },
    {
        "probe": "ood",
        "after": 2,
        "settings": {"dataset": "mnist", "seed": 0},
        "values": {
            "knn": 80.0,
            "linear": 70.0,
            "chance": 10.0,
            "train_images": 70,
            "test_images": 30,
            "k": 5,
            "penalty": 1.0,
        },
    },
    {
        "probe": "transfer",
        "after": None,
        "settings": {},
        "values": {
            "matrix": [[90.0, 70.0], [80.0, 97.0]],
            "random_init": [60.0, 71.0],
            "forward": 1.5,
            "backward": -2.5,
            "learning_accuracy": 93.5,
        },
    },
    {"probe": "geometry", "after": 2, "settings": {"images": 1024, "seed": 0}, "values": run_results.GEOMETRY},
    {"probe": "feature_maps", "after": 2, "settings": {"stage": "stage2"}, "values": {"tasks": [0], "items": [ITEM]}},
    {
        "probe": "embedding",
        "after": 2,
        "settings": {"method": "pca"},
        "values": {"points": [[0.0, 1.0], [1.0, 0.0]], "task": [0, 1], "label": [0, 2]},
    },
    {"probe": "of_tomorrow", "after": 2, "settings": {"new": [1]}, "values": {"score": 3.25, "more": {"a": [1, "b"]}}},
    LANDSCAPE | {"after": 1},
]


KNN = {"k": 5, "k_rule": "fixed", "temperature": 0.1, "k_used": [[5, None], [5, 5]], "clipped": False}
PROBE = run_results.probe(settings=KNN, **accuracy_matrix.summarise(run_results.MATRIX))
STEP = {"step": 1, "task": 0, "epoch": 0, "loss": -0.5, "grad_norm": 1.0}
LINES = [
    STEP,
    {"step": 1, "task": 0, "knn_task/average_accuracy": 90.0},
    STEP | {"step": 2, "task": 1, "grad_norm": None},
    {"step": 2, "task": 1, "knn_task/average_accuracy": 88.5, "knn_task/forgetting": 10.0},
]


def config():
    return tiny.config("finetune", log__tensorboard=False)


@pytest.fixture
def folder(tmp_path):
    """Makes the folder of a finished run, where `reproduce` looks for it."""
    folder = tmp_path / "root/digits/finetune-simsiam-seed0"
    (folder / "networks/2").mkdir(parents=True)
    (folder / "plots").mkdir()
    run_results.save(
        folder / "results.json",
        config=json.loads(config().to_json()),
        overrides=OVERRIDES,
        command=COMMAND,
        commit="0123abcd",
        versions={"python": "3.11.7", "jax": "0.10.2"},
        device="1 x cpu",
        seconds=7.5,
        images_per_second=635.4,
        classes=[[0, 1], [2, 3]],
        probes={"knn_task": PROBE, "knn_all": PROBE},
        analysis=ANALYSIS,
    )
    (folder / "config.json").write_text(config().to_json())
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return folder


def study(folder, name):
    arguments = ["--objectives=simsiam", "--recipes=finetune", "--seeds=1", "--jobs=1"]
    arguments += [f"--override={key}={value}" for key, value in OVERRIDES.items()]
    return cli.returns_exit_code(reproduce.main)([name, *arguments, f"--root={folder.parent.parent}"])


def launch(folder):
    """Does what launch.py does, in this process; launch.py itself needs its own process, for its flags."""
    return cli.returns_exit_code(lambda: run.run(config(), folder, Origin(COMMAND)) and 0)()


COMMANDS = {
    "report": lambda folder: report.main([str(folder)]),
    "page": lambda folder: report.main([str(folder), f"--out={folder.parent}/page/"]),
    "probe": lambda folder: probe.main([f"--workdir={folder}", "--probes=geometry", "--after=2"]),
    "table1": lambda folder: study(folder, "table1"),
    "landscape": lambda folder: study(folder, "landscape"),
    "launch": launch,
}
READERS = {
    "results.json": list(COMMANDS),
    "config.json": ["probe", "launch"],
    "metrics.jsonl": ["page", "launch"],
}


def changed(tree, path, value):
    """Returns a tree of JSON with another value at a path such as "probes.knn_task.matrix.0"."""
    key, _, rest = path.partition(".")
    key = int(key) if isinstance(tree, list) else key
    copy = list(tree) if isinstance(tree, list) else dict(tree)
    if rest:
        copy[key] = changed(copy[key], rest, value)
    elif value is MISSING:
        del copy[key]
    else:
        copy[key] = value
    return copy


def ragged(cell=None):
    return [[90.0, cell], [80.0]]


# (path of an entry in results.json, the wrong value)
RESULTS = [
    ("version", MISSING),
    ("version", None),
    ("version", 0),
    ("version", 2),
    ("version", 1.0),
    ("version", True),
    ("version", "1"),
    ("version", [1]),
    ("finished", "yes"),
    ("finished", MISSING),
    ("config", []),
    ("config", MISSING),
    ("config.recipe", 7),
    ("config.recipe", MISSING),
    ("config.recipe", "a\0b"),
    ("config.seed", "0"),
    ("config.seed", 0.5),
    ("config.seed", 10**400),
    ("config.benchmark", None),
    ("config.benchmark", "digits"),
    ("config.benchmark.name", MISSING),
    ("config.benchmark.joint", "no"),
    ("config.benchmark.examples_per_task", []),
    ("config.objective", MISSING),
    ("config.objective.name", ["simsiam"]),
    ("config.model", 3),
    ("config.eval", MISSING),
    ("config.eval.forgetting", 1),
    ("argument", MISSING),
    ("argument", 5),
    ("overrides", MISSING),
    ("overrides", None),
    ("overrides", ["train.epochs"]),
    ("overrides", "train.epochs=2"),
    ("command", 5),
    ("commit", []),
    ("versions", ["0.10.2"]),
    ("versions.jax", 0.1),
    ("device", {}),
    ("seconds", "fast"),
    ("seconds", -1.0),
    ("seconds", 1e308),
    ("images_per_second", "635"),
    ("classes", [[0, 1]]),
    ("classes", {"0": [0, 1]}),
    ("stream", [[1, 0]]),
    ("stream", {"images": 2}),
    ("stream", {"images": 0, "tasks": [[1, 1]]}),
    ("stream", {"images": 2, "tasks": []}),
    ("stream", {"images": 2, "tasks": [[1, 1, 0]]}),
    ("stream", {"images": 2, "tasks": [[1, 1]], "buffer": [[1]]}),
    ("stream", {"images": 2, "tasks": [[1, -1]]}),
    ("stream", {"images": 2, "tasks": [[1, 1]], "classes": [[2]]}),
    ("probes", []),
    ("probes", {}),
    ("probes.knn_task", MISSING),
    ("probes.knn_task", None),
    ("probes.brand_new", {"matrix": [[1.0, None], [1.0, 1.0]]}),
    ("probes.knn_task.matrix", MISSING),
    ("probes.knn_task.matrix", []),
    ("probes.knn_task.matrix", [[]]),
    ("probes.knn_task.matrix", [90.0, 80.0]),
    ("probes.knn_task.matrix", ragged()),
    ("probes.knn_task.matrix", "90"),
    ("probes.knn_task.matrix", [[90.0, None], [80.0, 97.0], [80.0, 97.0]]),
    ("probes.knn_task.matrix", [[90.0, None]]),
    ("probes.knn_task.matrix.0.0", None),
    ("probes.knn_task.matrix.1.1", "97"),
    ("probes.knn_task.matrix.1.1", True),
    ("probes.knn_task.matrix.1.1", 100.5),
    ("probes.knn_task.matrix.1.1", -1.0),
    ("probes.knn_task.matrix.1.1", 1e300),
    ("probes.knn_task.matrix.1.1", float("nan")),
    ("probes.knn_task.matrix.1.1", float("inf")),
    ("probes.knn_task.matrix.1", [None, None]),
    ("probes.knn_task.chance", MISSING),
    ("probes.knn_task.chance", "50"),
    ("probes.knn_task.random_init", [60.0]),
    ("probes.knn_task.random_init", []),
    ("probes.knn_task.random_init", [None, 60.0]),
    ("probes.knn_task.random_init", 60.0),
    ("probes.knn_task.average_accuracy", "88.5"),
    ("probes.knn_task.forgetting", 3.0),
    ("probes.knn_task.settings", []),
    ("probes.knn_task.settings.k", "20"),
    ("probes.knn_task.settings.k_used", [[5, None]]),
    ("probes.knn_task.settings.k_used", [[5], [5]]),
    ("probes.knn_task.settings.clipped", 0),
    ("analysis", {}),
    ("analysis", None),
    ("analysis.0", "knn"),
    ("analysis.0.probe", 1),
    ("analysis.0.probe", MISSING),
    ("analysis.0.after", "last"),
    ("analysis.0.after", -1),
    ("analysis.0.after", MISSING),
    ("analysis.0.settings", MISSING),
    ("analysis.0.settings", []),
    ("analysis.0.settings.task", "first"),
    ("analysis.0.values", MISSING),
    ("analysis.0.values", [1.0]),
    ("analysis.0.values.loss", [[3, 2], [2, 1]]),
    ("analysis.0.values.loss.1", [1.0]),
    ("analysis.0.values.loss.1.1", "low"),
    ("analysis.0.values.steps", []),
    ("analysis.1.settings.other", 3),
    ("analysis.1.values.networks", []),
    ("analysis.1.values.networks", [0, 1, 2]),
    ("analysis.1.values.other_networks", MISSING),
    ("analysis.1.values.cka", [1.0]),
    ("analysis.1.values.cka.stem", MISSING),
    ("analysis.1.values.cka.stem", [[1.0]]),
    ("analysis.1.values.cka.stage9", SIMILAR["stem"]),
    ("analysis.1.settings.other", MISSING),
    ("analysis.1.values.l2", MISSING),
    ("analysis.1.values.l2", []),
    ("analysis.1.values.l2.1.1", "near"),
    ("analysis.2.values.rows", MISSING),
    ("analysis.2.values.rows.0.k", MISSING),
    ("analysis.2.values.rows.0.task", []),
    ("analysis.2.values.rows.0.task", [None, None]),
    ("analysis.2.values.rows.0.all", ["70"]),
    ("analysis.3.values.task", 90.0),
    ("analysis.3.values.penalty_all", "1"),
    ("analysis.4.values.knn", "80"),
    ("analysis.4.values.linear", MISSING),
    ("analysis.5.values.forward", "1.5"),
    ("analysis.5.values.random_init", MISSING),
    ("analysis.6.values.deviation", MISSING),
    ("analysis.6.values.l2_from_random", "2"),
    ("analysis.7.values.items.0.channels", MISSING),
    ("analysis.7.values.items", {}),
    ("analysis.7.values.items.0.image", [[0]]),
    ("analysis.7.values.items.0.maps", [[[0.5, 0.5], [0.5]]]),
    ("analysis.7.settings.stage", 2),
    ("analysis.8.values.points", [[0.0, 1.0]]),
    ("analysis.8.values.points", [[0.0], [1.0]]),
    ("analysis.8.values.task", [0]),
    ("analysis.9.values", 3),
]
CONFIG = [
    ("seed", MISSING),
    ("seed", "0"),
    ("seed", 2**31),
    ("data_dir", 3),
    ("compilation_cache", MISSING),
    ("benchmark", MISSING),
    ("benchmark", ["digits"]),
    ("benchmark.num_tasks", "2"),
    ("benchmark.num_tasks", 0),
    ("benchmark.tfds_name", None),
    ("benchmark.image_size", 8.5),
    ("augment", MISSING),
    ("augment.mean", 0.5),
    ("augment.jitter", [0.4, 0.4, 0.4]),
    ("augment.crop_scale", ["a", "b"]),
    ("model", None),
    ("model.width", [4]),
    ("objective.name", MISSING),
    ("objective.hidden_dim", "32"),
    ("method", []),
    ("method.name", {}),
    ("train", MISSING),
    ("train.batch_size", "16"),
    ("train.momentum", None),
    ("train.learning_rate", "fast"),
    ("eval.batch_size", 0),
    ("eval.batch_size", "64"),
    ("eval.knn_k", MISSING),
    ("eval.knn_temperature", {}),
]
METRICS = [
    [],
    "step",
    7,
    None,
    {"task": 0, "loss": -0.5},
    {"step": 1, "loss": -0.5},
    {"step": 1},
    STEP | {"step": "1"},
    STEP | {"step": -1},
    STEP | {"step": 10**30},
    STEP | {"task": None},
    STEP | {"loss": "low"},
    STEP | {"loss": None},
    STEP | {"loss": [0.5]},
    STEP | {"loss": float("nan")},
    STEP | {"loss": 1e300},
    STEP | {"grad_norm": "1"},
    {"step": 5, "task": 0, "knn_task/average_accuracy": "90"},
]


def line(value):
    """Returns lines of metrics.jsonl, of which the second has the wrong value."""
    return "\n".join([json.dumps(STEP), json.dumps(value), json.dumps(STEP), ""])


def damaged(folder, name, path, value):
    """Writes the wrong value into a file of the run."""
    file = folder / name
    text = line(value) if name == "metrics.jsonl" else json.dumps(changed(json.loads(file.read_text()), path, value))
    file.write_text(text)


VARIANTS = [
    *(("results.json", path, value) for path, value in RESULTS),
    *(("config.json", path, value) for path, value in CONFIG),
    *(("metrics.jsonl", "", value) for value in METRICS),
]


def named(value):
    return "missing" if value is MISSING else str(value)[:30]


@pytest.fixture(autouse=True)
def no_process(monkeypatch):
    """Replaces the probe's command, because a study that misses a record would start a process to make it."""
    monkeypatch.setattr(reproduce, "PROBE", ("false",))


def refused(folder, name, capsys):
    """Asserts that every command that reads the file refuses it in a line; returns the line of the last command."""
    for command in READERS[name]:
        assert COMMANDS[command](folder) == 2, command
        told = capsys.readouterr()
        assert told.err.count("\n") == 1, command
        assert str(folder / name) in told.err, command
        assert len(told.err) < 1000
    return told.err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_run_that_is_damaged_here_is_read_by_every_command(folder, command):
    assert COMMANDS[command](folder) == 0


@pytest.mark.parametrize(
    ("name", "path", "value"), VARIANTS, ids=[f"{name}-{path}-{named(value)}" for name, path, value in VARIANTS]
)
def test_a_wrong_value_is_refused_in_one_line_by_every_command(folder, name, path, value, capsys):
    damaged(folder, name, path, value)
    before = {file: (folder / file).read_bytes() for file in READERS}
    refused(folder, name, capsys)
    assert {file: (folder / file).read_bytes() for file in READERS} == before


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("objective.name", "simsam"),
        ("objective.hidden_dim", MISSING),
        ("method.alpha", 0.1),
        ("train.momentum", 1.0),
        ("augment.crop", "round"),
        ("augment.crop_scale", [9.0, 0.5]),
        ("model.dtype", "float8"),
    ],
)
def test_a_config_that_no_recipe_gives_is_refused_in_one_line(folder, path, value, capsys):
    damaged(folder, "config.json", path, value)
    assert COMMANDS["probe"](folder) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(folder / "config.json") in error
    assert COMMANDS["launch"](folder) == 2
    assert re.search(rf"config\.{re.escape(path)}\b", capsys.readouterr().err)


RAW = {
    "empty": b"\n",
    "cut off": b'{"step": 1, "task"\n',
    "no object": b"[1, 2]\n",
    "two objects": b"{} {}\n",
    "NaN": b'{"step": 1, "task": 0, "loss": NaN}\n',
    "out of range": b'{"step": 1, "task": 0, "loss": 1e999}\n',
    "deep": b'{"step": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n",
    "long number": b'{"step": ' + b"1" * 50_000 + b"}\n",
    "not UTF-8": b'{"step": "\xff"}\n',
    "UTF-16": '{"step": 1}\n'.encode("utf-16"),
    "half a character": b'{"step": "\\ud800"}\n',
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", RAW.values(), ids=RAW)
def test_a_file_that_is_no_json_is_refused_in_one_line(folder, name, content, capsys):
    (folder / name).write_bytes(content)
    refused(folder, name, capsys)


@pytest.mark.parametrize("name", READERS)
def test_a_line_of_200_megabytes_is_refused_in_one_line(folder, name, capsys):
    with (folder / name).open("wb") as file:
        file.write(b'{"step": 1, "task": 0, "text": "')
        file.seek(200 * 2**20)
        file.write(b'"}\n')
    refused(folder, name, capsys)


@pytest.mark.parametrize("name", READERS)
def test_a_folder_in_the_place_of_a_file_is_refused_in_one_line(folder, name, capsys):
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, name, capsys)


@pytest.mark.parametrize(("version", "said"), [(MISSING, "no version"), (2, "version 2"), (0, "version 0")])
def test_a_file_of_another_version_is_told_so_before_anything_else(folder, version, said, capsys):
    damaged(folder, "results.json", "version", version)
    damaged(folder, "results.json", "probes", "of another form")
    error = refused(folder, "results.json", capsys)
    assert said in error
    assert "reads version 1" in error
    assert "$" not in error


def test_the_message_names_the_place_in_results(folder, capsys):
    damaged(folder, "results.json", "probes.knn_task.matrix.1.1", "97")
    assert "$.probes.knn_task.matrix[1][1]: " in refused(folder, "results.json", capsys)


def test_the_message_names_the_place_in_a_record_of_analysis(folder, capsys):
    damaged(folder, "results.json", "analysis.1.values.cka.stage4.0.1", "alike")
    assert "$.analysis[1].values.cka.stage4[0][1]: " in refused(folder, "results.json", capsys)


def test_the_message_names_the_line_of_metrics(folder, capsys):
    damaged(folder, "metrics.jsonl", "", STEP | {"loss": "low"})
    assert "metrics.jsonl, line 2 is damaged ($.loss: " in refused(folder, "metrics.jsonl", capsys)


LATER = [
    ("stream", {"images": 2, "tasks": [[1, 1]], "buffer": [], "domains": [[1, 1]]}),
    ("news", {"a": [1, None]}),
    ("probes.knn_task.rows", "all"),
    ("probes.knn_task.settings.bank", "device"),
    ("config.benchmark.colour", [1, 2]),
    ("analysis.1.values.rotation", "none"),
    ("analysis.9.values", {"deep": [[{"a": "b"}]]}),
    ("analysis", MISSING),
    ("versions", MISSING),
    ("probes.knn_task.random_init", None),
    ("probes.knn_task.settings", MISSING),
]


@pytest.mark.parametrize(("path", "value"), LATER, ids=[f"{path}-{named(value)}" for path, value in LATER])
def test_what_earlier_and_later_versions_write_is_read(folder, path, value):
    damaged(folder, "results.json", path, value)
    content = json.loads((folder / "results.json").read_text())
    result = read_results(folder / "results.json")
    back = result.to_json()
    assert schema.RunResult.from_json(back) == result
    # Nothing is lost, and a missing entry may have its default.
    *sections, last = path.split(".")
    if value is not MISSING:
        for key in sections:
            back = back[int(key) if isinstance(back, list) else key]
        assert back[last] == value
    else:
        assert changed(content, path, None).keys() >= back.keys()
    assert COMMANDS["report"](folder) == 0


def test_a_probe_keeps_the_keys_that_it_does_not_know(folder):
    for path, value in LATER:
        if value is not MISSING:
            damaged(folder, "results.json", path, value)
    before = json.loads((folder / "results.json").read_text())
    one = schema.Record(probe="geometry", after=1, settings={}, values=run_results.GEOMETRY | {"l2_from_random": 2.5})
    probe.add(folder, one)
    after = json.loads((folder / "results.json").read_text())
    assert after.keys() == before.keys()
    assert {key: value for key, value in after.items() if key != "analysis"} == {
        key: value for key, value in before.items() if key != "analysis"
    }
    known = [vars(one), *before["analysis"]]
    assert sorted(map(json.dumps, after["analysis"])) == sorted(map(json.dumps, known))


def test_a_file_with_all_entries_of_other_versions_is_shown(folder):
    for path, value in LATER:
        if path != "analysis" and not path.startswith("config."):
            damaged(folder, "results.json", path, value)
    for command in ("page", "table1", "landscape"):
        assert COMMANDS[command](folder) == 0, command


def test_a_run_with_a_setting_that_is_not_known_is_shown_but_is_no_run_of_a_study(folder, capsys):
    damaged(folder, "results.json", "config.benchmark.colour", [1, 2])
    assert COMMANDS["page"](folder) == 0
    assert COMMANDS["table1"](folder) == 2
    assert "benchmark.colour" in capsys.readouterr().err


COMMITTED = sorted((pathlib.Path(__file__).parents[2] / "benchmarks/results").glob("*/*.json"))


def test_every_committed_result_is_of_the_type():
    for path in COMMITTED:
        result = read_results(path)
        assert result.to_json() == json.loads(path.read_text()), path
        assert schema.RunResult.from_json(result.to_json()) == result, path
    assert len(COMMITTED) > 100


def test_every_committed_result_says_in_what_it_differs_from_its_recipe():
    for path in COMMITTED:
        result = read_results(path)
        stream = [] if result.stream_name == "tasks" else ["ucl", result.stream_name]
        assert result.argument.split(",") == [result.benchmark, result.objective, *stream]
        assert all(result.settings[key] == value for key, value in result.overrides.items()), path
        assert result.overrides.get("seed", 0) == result.seed


def test_a_number_that_is_not_finite_is_written_as_null(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl", 0, 0)
    file.write(STEP | {"spread": float("nan"), "most": float("inf"), "least": -float("inf")})
    file.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [STEP | dict.fromkeys(("spread", "most", "least"))]


def test_types_name_what_there_is():
    assert list(typing.get_args(schema.ProbeName)) == list(evaluators.EVALUATORS) == list(compare.PROBE_TITLES)
    assert typing.get_args(fields.StageName) == tuple(STAGES)
    assert set(records.RECORD_TYPES) == set(PROBES), "RECORD_TYPES of results/records.py needs a line for each probe"
    hints = typing.get_type_hints(schema.EvaluationKeys)
    assert typing.get_args(hints["forgetting"]) == tuple(accuracy_matrix.FORGETTING)
