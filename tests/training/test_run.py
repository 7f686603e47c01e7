"""Tests whole runs in real processes: metrics, exact resume after SIGKILL, signals, errors a person can act on."""

import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np
import pytest
from PIL import Image
from tensorboard.compat.proto import event_pb2

from tests import quick, tiny, torture
from ucl_jax.interop import torch_weights
from ucl_jax.training import parallel
from ucl_jax.training.build import make_experiment
from ucl_jax.training.checkpoint import Checkpoints, numbers
from ucl_jax.types import Variables

ROOT = pathlib.Path(__file__).parents[2]
TIMINGS = ("seconds", "images_per_second")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Returns environment variables that give a run one device and a data folder of its own."""
    folder = tmp_path_factory.mktemp("runs")
    return os.environ | {
        "XLA_FLAGS": quick.XLA_FLAGS,
        "TFDS_DATA_DIR": str(folder / "tfds"),
    }


def command(recipe: str, workdir: pathlib.Path, program: Sequence[str] = ("launch.py",), **more) -> list[str]:
    return [sys.executable, *program, f"--config=configs/{recipe}", f"--workdir={workdir}", *tiny.flags(**more)]


def launch(environment, recipe, workdir, **more) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(recipe, workdir, **more), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def launch_until(environment, step, recipe, workdir, **more) -> subprocess.Popen:
    """Starts a run and returns when its metrics show `step`."""
    process = subprocess.Popen(
        command(recipe, workdir, **more),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while True:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        if (entries := read_metrics(workdir)) and entries[-1]["step"] >= step:
            return process
        time.sleep(0.005)


def read_metrics(workdir: pathlib.Path) -> list[dict]:
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def comparable(workdir: pathlib.Path) -> dict:
    """Returns results.json without timings, and without the command, which names the folder."""
    results = json.loads((workdir / "results.json").read_text())
    return {k: v for k, v in results.items() if k not in (*TIMINGS, "command")}


def final_state(workdir: pathlib.Path, recipe: str = "lump", **more):
    """Restores the last checkpoint of a run."""
    like = make_experiment(tiny.config(recipe, **(more or LONG)), parallel.AXIS, "cpu").init()
    with Checkpoints(workdir / "checkpoints", keep=2) as checkpoints:
        return jax.device_get(checkpoints.restore(like)[0])


# 60 steps a task, and an online linear probe, which is in the checkpoints, too.
LONG = {
    "train__epochs": 12,
    "benchmark__num_tasks": 2,
    "eval__online_linear": "in_training_mode",
    "eval__online_linear_rate": 1.0,
}


@pytest.fixture(scope="module")
def undisturbed(environment, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    done = launch(environment, "lump.py:digits", workdir, **LONG)
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_records_of_a_run(undisturbed):
    workdir, done = undisturbed
    results = json.loads((workdir / "results.json").read_text())
    assert results["finished"] is True
    assert results["config"]["method"]["name"] == "lump"
    assert results["command"].startswith("python launch.py --config=configs/lump.py:digits")
    assert (results["version"], results["argument"]) == (1, "digits")
    assert results["overrides"].items() <= tiny.overrides(**LONG).items()
    assert {"train.epochs": 12, "benchmark.num_tasks": 2}.items() <= results["overrides"].items()
    assert set(results["versions"]) >= {"python", "jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets"}
    assert results["device"].startswith("1 x cpu")
    assert results["seconds"] > 0
    assert results["images_per_second"] > 0
    for name in ("knn_task", "knn_all"):
        probe = results["probes"][name]
        (a00, a01), (a10, a11) = probe["matrix"]
        assert (a01 is None) == (
            name == "knn_all"
        )  # knn_task judges every task after each task, knn_all only tasks that were seen
        assert probe["rows"] == ("seen" if name == "knn_all" else "all")
        best = [max(a00, a10), max(a01 or a11, a11)]
        assert probe["average_accuracy"] == pytest.approx((a10 + a11) / 2)
        assert probe["forgetting"] == pytest.approx(
            {"max": best[0] - a10, "first": a00 - a10, "with_last": (best[0] - a10 + best[1] - a11) / 2}
        )
        assert probe["settings"]["k_used"] == [[5, 5 if name == "knn_task" else None], [5, 5]]
        assert probe["settings"]["clipped"] is False
        assert len(probe["random_init"]) == 2
        assert f"{probe['average_accuracy']:.2f}" in done.stdout
    assert results["probes"]["knn_task"]["chance"] == 50.0
    assert results["probes"]["knn_all"]["chance"] == 25.0
    online = results["probes"]["online_linear"]
    assert (online["chance"], online["rows"], online["random_init"], online["settings"]) == (25.0, "all", None, {})
    assert online["average_accuracy"] > 40

    stream = results["stream"]
    tasks = np.array(stream["tasks"])
    assert (stream["images"], tasks.shape) == (tasks.sum(), (100, 2))
    assert ((tasks > 0).sum(axis=1) == 1).mean() > 0.98  # but one window has a boundary in it
    classes = np.array(stream["classes"])  # each task has two of the four
    assert np.array_equal(classes.reshape(100, 2, 2).sum(axis=2), stream["tasks"])
    held = np.array(stream["buffer"])
    assert held[0, 1] == 0 < held[1].min()
    assert held.sum(axis=1).tolist() == [results["config"]["method"]["buffer_size"]] * 2

    entries = read_metrics(workdir)
    steps, tasks = [e for e in entries if "loss" in e], [e for e in entries if "loss" not in e]
    assert [r["step"] for r in steps] == list(range(1, 121))
    assert [r["task"] for r in steps] == [0] * 60 + [1] * 60
    assert [r["epoch"] for r in steps] == [step // 5 % 12 for step in range(120)]
    assert [(r["task"], r["step"]) for r in tasks] == [(0, 60), (1, 120)]
    for name in ("knn_task", "knn_all", "online_linear"):
        assert tasks[1][f"{name}/average_accuracy"] == results["probes"][name]["average_accuracy"]
        assert tasks[1][f"{name}/forgetting"] == results["probes"][name]["forgetting"]["max"]

    plots = {path.name for path in (workdir / "plots").iterdir()}
    assert plots == {
        "accuracy_matrix.png",
        "average_accuracy.png",
        "loss.png",
        "stream.png",
        "buffer_evaluation1.png",
        "buffer_evaluation2.png",
    }
    assert "task 1/2 epoch" in done.stderr  # progress is printed as plain lines, because there is no terminal


def test_tensorboard_holds_what_metrics_hold_and_pictures(undisturbed):
    workdir, _ = undisturbed
    losses, pictures = {}, {}
    for path in (workdir / "tensorboard").iterdir():
        data = path.read_bytes()
        while data:  # the TFRecord format: length, its checksum, record, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            for value in event.summary.value:
                if value.tag == "loss":
                    losses[event.step] = value.simple_value
                if value.HasField("image"):
                    pictures[value.tag, event.step] = value.image
            data = data[16 + length :]
    assert losses == pytest.approx({r["step"]: r["loss"] for r in read_metrics(workdir) if "loss" in r}, rel=1e-6)
    names = {
        ("buffer", 60): "buffer_evaluation1.png",
        ("buffer", 120): "buffer_evaluation2.png",
        ("accuracy_matrix", 120): "accuracy_matrix.png",
    }
    assert pictures.keys() == {*names, ("accuracy_matrix", 60)}
    for place, name in names.items():
        found = pictures[place]
        assert found.encoded_image_string == (workdir / "plots" / name).read_bytes()
        with Image.open(workdir / "plots" / name) as drawn:
            assert (found.width, found.height) == drawn.size
    assert pictures["accuracy_matrix", 60].height < pictures["accuracy_matrix", 120].height  # a row less


def wandb_records(path: pathlib.Path):
    """Yields the records of a file of Weights & Biases: LevelDB's log format after a header of 7 bytes.

    A record is cut into chunks, which do not cross blocks of 32768 bytes; each has its checksum, length and type.
    """
    from wandb.proto import wandb_internal_pb2

    data, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (room := 32768 - place % 32768) < 7:
            place += room
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last chunk
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def test_weights_and_biases_holds_what_metrics_hold_and_pictures(environment, tmp_path):
    workdir = tmp_path / "run"
    offline = environment | {"WANDB_MODE": "offline"}
    done = launch(offline, "lump.py:digits", workdir, log__wandb=True, log__tensorboard=False)
    assert done.returncode == 0, done.stderr
    (folder,) = (workdir / "wandb").glob("offline-run-*")
    (file,) = folder.glob("run-*.wandb")
    assert file.stem == f"run-{(workdir / 'wandb_id').read_text()}"
    rows = {}
    for record in wandb_records(file):
        if record.HasField("history"):
            items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            rows.setdefault(record.history.step.num, {}).update({k: json.loads(v) for k, v in items.items()})
    entries = read_metrics(workdir)
    for entry in entries:
        assert entry.items() <= rows[entry["step"]].items()
    assert rows.keys() == {entry["step"] for entry in entries}
    ends = [entry["step"] for entry in entries if "loss" not in entry]
    pictures = {
        (name, step): (folder / "files" / row[f"{name}.path"]).read_bytes()
        for step, row in rows.items()
        for name in ("buffer", "accuracy_matrix")
        if f"{name}.path" in row
    }
    assert pictures.keys() == {(name, step) for name in ("buffer", "accuracy_matrix") for step in ends}
    plots = workdir / "plots"
    assert pictures["buffer", ends[0]] == (plots / "buffer_evaluation1.png").read_bytes()
    assert pictures["accuracy_matrix", ends[1]] == (plots / "accuracy_matrix.png").read_bytes()


def test_killed_and_resumed_is_the_undisturbed_run_to_the_bit(environment, undisturbed, tmp_path):
    workdir, _ = undisturbed
    resumed_dir = tmp_path / "run"
    by_time = LONG | {"checkpoint__every_steps": 1000, "checkpoint__every_minutes": 0.001}
    process = launch_until(environment, 80, "lump.py:digits", resumed_dir, **by_time)  # in the middle of task 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not json.loads((resumed_dir / "results.json").read_text())["finished"]
    steps = [int(p.name) for p in (resumed_dir / "checkpoints").iterdir() if p.name.isdigit()]
    assert 60 < max(steps) < 120

    done = launch(environment, "lump.py:digits", resumed_dir, **LONG)
    assert done.returncode == 0, done.stderr
    assert f"resuming {resumed_dir} at step {max(steps)} of 120" in done.stderr
    assert comparable(resumed_dir) == comparable(workdir)
    ours, theirs = final_state(resumed_dir), final_state(workdir)
    assert int(ours.step) == 120
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    drop = ("images_per_second",)
    assert [{k: v for k, v in r.items() if k not in drop} for r in read_metrics(resumed_dir)] == [
        {k: v for k, v in r.items() if k not in drop} for r in read_metrics(workdir)
    ]


STREAMS = {
    # 480 images in 60 batches, 3 steps on each; evaluated after 13, 25, 38, 50 and 60 batches.
    "er": (
        60,
        {
            "stream__boundaries": "hidden", "stream__passes": "one", "stream__evaluate_every": 100,
            "stream__updates_per_batch": 3, "stream__replay_per_batch": 12, "train__epochs": 1,
            "train__batch_size": 8, "benchmark__examples_per_task": 240,
        },
    ),
    # Parts of 64, 64 and 32 images, 6 epochs of each.
    "si": (30, {"stream__boundaries": "hidden", "stream__snapshot_every": 64, "train__epochs": 6}),
}  # fmt: skip


@pytest.mark.usefixtures("small_networks")
@pytest.mark.parametrize("recipe", STREAMS)
def test_a_stream_that_was_killed_ends_with_the_same_bits(environment, tmp_path, recipe):
    at, more = STREAMS[recipe]
    run = {"program": ("-m", "tests.small_networks")} | more
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = launch(environment, f"{recipe}.py:digits", whole, **run)
    assert done.returncode == 0, done.stderr
    process = launch_until(environment, at, f"{recipe}.py:digits", killed, **run)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = launch(environment, f"{recipe}.py:digits", killed, **run)
    assert done.returncode == 0, done.stderr
    assert f"resuming {killed} at step " in done.stderr
    assert comparable(killed) == comparable(whole)
    ours, theirs = (final_state(folder, recipe, **more) for folder in (killed, whole))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    found = [[{**e, "images_per_second": 0} for e in read_metrics(folder)] for folder in (killed, whole)]
    assert found[0] == found[1]
    rows = comparable(whole)["evaluations"]
    if recipe == "er":
        assert [row["images_seen"] for row in rows] == [104, 200, 304, 400, 480]
        assert [row["gradient_samples"] for row in rows] == [3 * 13 * 20, 3 * 25 * 20, 3 * 38 * 20, 3 * 50 * 20, 3600]
        assert [row["tasks_seen"] for row in rows] == [1, 1, 2, 2, 2]
        found = comparable(whole)["probes"]["knn_all"]
        assert [len(row) for row in found["class_matrix"]] == [4] * 5
        assert [row[2:] for row in found["class_matrix"][:2]] == [[None, None]] * 2  # the second task came later
        assert found["class_matrix"][-1] == found["class_accuracy"]
    else:
        assert [row["step"] for row in rows] == [24, 48, 60]
        assert [row["tasks_seen"] for row in rows] == [1, 2, 2]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_save_first(environment, tmp_path, signum, code):
    workdir = tmp_path / "run"
    more = LONG | {"checkpoint__every_steps": 1000}  # so that only the signal makes it save
    process = launch_until(environment, 20, "lump.py:digits", workdir, **more)
    process.send_signal(signum)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == code
    (step,) = (int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    assert step >= 20
    assert f"stopped by {signum.name} at step {step};" in stderr
    assert "Traceback" not in stderr
    if signum == signal.SIGHUP:
        done = launch(environment, "lump.py:digits", workdir, **more)
        assert f"at step {step} of 120" in done.stderr


@pytest.fixture(scope="module")
def expected(undisturbed):
    """Returns all that the undisturbed run leaves."""
    return torture.outcome(undisturbed[0], torture.like("lump", **LONG))


def all_held(*counts):
    for count in counts:
        assert count.tried == count.held > 0, count


def test_flipped_bits_are_found(undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / "run")
    all_held(*torture.flips(tmp_path / "run", "lump", 4, np.random.default_rng(0), **LONG))


def test_output_that_nobody_reads_stops_nothing(expected, tmp_path):
    all_held(torture.unread_output("lump", tmp_path, expected, {">/dev/full 2>&-": "full"}, **LONG))


def test_full_disks(expected, tmp_path):
    try:
        all_held(torture.no_room("lump", tmp_path, **LONG))
        all_held(torture.full_disk("lump", tmp_path, expected, [(70, 200_000)], **LONG))
    except PermissionError as error:
        pytest.skip(str(error))


def test_finished_run_is_not_run_again(environment, undisturbed):
    workdir, _ = undisturbed
    before = (workdir / "results.json").read_bytes()
    done = launch(environment, "lump.py:digits", workdir, **LONG)
    assert done.returncode == 0
    assert "finished; nothing to do" in done.stdout
    assert (workdir / "results.json").read_bytes() == before


def test_official_weights_are_only_evaluated_with_no_epochs(environment, tmp_path):
    """Checks that with `train.epochs=0` the network of `init_from` makes every row of the matrix, unchanged.

    A first start that is killed during its first save does not disturb this.
    """
    torch = pytest.importorskip("torch")
    settings = {"train__epochs": 0, "objective__predictor_dim": 8, "eval__tasks": "all"}
    config = tiny.config("finetune", **settings)
    fresh = jax.device_get(make_experiment(config, None, "cpu").init())
    params = jax.tree.map(lambda x: x + np.float32(0.1), fresh.params.network)
    official = torch_weights.to_official(Variables(params, fresh.model_state))
    state_dict = {f"module.{name}": torch.from_numpy(array.copy()) for name, array in official.items()}
    torch.save({"epoch": 200, "state_dict": state_dict}, tmp_path / "official.pth")

    settings["init_from"] = tmp_path / "official.pth"
    killed = subprocess.Popen(command("finetune.py:digits", tmp_path / "run", **settings), cwd=ROOT, env=environment)
    while not any((tmp_path / "run" / "checkpoints").glob(".*.new*")):  # until its first save has begun
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    assert not numbers(tmp_path / "run" / "checkpoints")

    done = launch(environment, "finetune.py:digits", tmp_path / "run", **settings)
    assert done.returncode == 0, done.stderr
    probe = json.loads((tmp_path / "run" / "results.json").read_text())["probes"]["knn_task"]
    assert probe["matrix"][0] == probe["matrix"][1] != probe["random_init"]
    assert probe["forgetting"]["max"] == 0
    stored = final_state(tmp_path / "run", "finetune", **settings | {"init_from": ""})
    jax.tree.map(np.testing.assert_array_equal, stored.params.network, params)
    # A third start finds the run finished.
    assert launch(environment, "finetune.py:digits", tmp_path / "run", **settings).returncode == 0


def refused(done: subprocess.CompletedProcess) -> str:
    """Returns the only line that a run printed on stderr, refused before it began."""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return stopped(done)


def stopped(done: subprocess.CompletedProcess) -> str:
    """Returns the last line of a run that ended with an error that a person can act on."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_folder_of_another_run_is_refused(environment, undisturbed):
    workdir, _ = undisturbed
    before = (workdir / "results.json").read_bytes()
    line = refused(launch(environment, "lump.py:digits", workdir, **LONG | {"seed": 7, "method__alpha": 0.4}))
    assert "method.alpha (0.1 there, 0.4 here), seed (0 there, 7 here)" in line
    assert (workdir / "results.json").read_bytes() == before


def test_loss_that_is_not_finite_stops_the_run(environment, tmp_path):
    workdir = tmp_path / "run"
    line = stopped(launch(environment, "finetune.py:digits", workdir, train__learning_rate=1e3, train__weight_decay=1))
    where = json.loads((workdir / "diverged.json").read_text())
    assert where["task"] == 0
    assert f"diverged in task 1, step {where['step']} " in line
    steps = [int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()]
    kept = f"the checkpoint of step {max(steps)} is kept" if steps else "nothing was saved before"
    assert kept in line


@pytest.mark.parametrize(
    ("recipe", "more", "message"),
    [
        ("lump.py:cifar9", {}, "unknown benchmark 'cifar9', did you mean 'cifar10'? known: cifar10, cifar100"),
        ("lump.py:digits,simsam", {}, "unknown objective 'simsam', did you mean 'simsiam'?"),
        ("lump.py:digits,simsiam,x", {}, "unknown protocol 'x'; known: ucl, cassle"),
        ("lump.py:digits,simsiam,ucl,task", {}, "unknown stream 'task', did you mean 'tasks'?"),
        ("lump.py:digits,simsiam,ucl,osiris", {}, "stream osiris needs the superclasses of CIFAR-100"),
        (
            "lump.py:digits",
            {"stream__order": "domain", "benchmark__classes_per_task": 10},
            "config.stream.order is 'domain', but config.benchmark.domain_key is empty",
        ),
        (
            "lump.py:digits",
            {"stream__blur": 0.5, "benchmark__joint": True},
            "config.stream.blur and config.stream.repeat need tasks that come one after the other",
        ),
        (
            "lump.py:digits",
            {"stream__correlation": 2},
            "config.stream.correlation is 2, but images of an epoch come in random order",
        ),
        (
            "lump.py:folder",
            {"stream__order": "domain"},
            "config.benchmark.folders is 'tasks' and config.stream.order 'domain'",
        ),
        ("lump.py:digits", {"stream__blur": 1.5}, "config.stream.blur is 1.5; it must be a number from 0 to 1"),
        ("lump.py:digits", {"stream__imbalance": 0.5}, "config.stream.imbalance is 0.5; it must be"),
        ("nothing.py", {}, "there is no recipe 'configs/nothing.py'"),
        ("lump.py:digits", {"method__name": "lumb"}, "unknown config.method.name 'lumb', did you mean 'lump'?"),
        (
            "lump.py:digits",
            {"train__epoch": 2},
            "unknown key '--config.train.epoch', did you mean --config.train.epochs?",
        ),
        ("lump.py:digits", {"train__epochs": "many"}, "config.train.epochs is 'many'; it must be a whole number"),
        ("lump.py:digits", {"method__buffer_size": 0}, "config.method.buffer_size is 0; it must be"),
        ("lump.py:digits", {"train__batch_size": 1}, "config.train.batch_size is 1; it must be a whole number from 2"),
        ("lump.py:digits", {"model__dtype": "float8"}, "unknown config.model.dtype 'float8', did you mean 'float32'?"),
        ("lump.py:digits", {"augment__crop_scale": 3}, "config.augment.crop_scale is (3,); it must be 2 values"),
        ("lump.py:digits", {"method__name": "finetune"}, "config.method holds the settings of another method than"),
        ("lump.py:digits", {"objective__name": "barlow_twins"}, "config.objective holds the settings of another"),
        ("lump.py:digits", {"benchmark__name": "cifar100"}, "config.benchmark.name is 'cifar100', but"),
        ("lump.py:digits", {"init_from": "none.pth"}, "cannot read none.pth (No such file or directory)"),
        ("gss.py:digits,barlow_twins", {}, "GSS compares gradients of single examples"),
        ("lump.py:digits", {"train__devices": 3}, "config.train.devices is 3, but this machine has 1"),
        ("lump.py:cifar10", {"benchmark__prepare": False}, "run python -m ucl_jax.data.prepare cifar10 --data_dir="),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_2_and_leaves_no_file(environment, tmp_path, recipe, more, message):
    assert message in refused(launch(environment, recipe, tmp_path / "run", **more))
    assert not (tmp_path / "run").exists()


def test_a_missing_data_set_without_a_network_ends_the_run_before_it_begins(environment, tmp_path):
    done = launch(environment | {"HTTPS_PROXY": "http://localhost:1"}, "lump.py:cifar10", tmp_path / "run")
    begins, ends = done.stderr.strip().splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert begins == f"preparing {environment['TFDS_DATA_DIR']}/cifar10/3.0.2"
    source = "OSError: https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz "
    assert ends.startswith(f"error: cannot prepare 'cifar10' in {environment['TFDS_DATA_DIR']}: {source}")
    assert not (tmp_path / "run").exists()


def test_batch_that_does_not_divide_by_the_devices(environment, tmp_path):
    four = environment | {"XLA_FLAGS": f"{quick.XLA_FLAGS} --xla_force_host_platform_device_count=4"}
    line = refused(launch(four, "lump.py:digits", tmp_path / "run", train__batch_size=18))
    assert "config.train.batch_size is 18, which does not divide by the 4 devices" in line


def test_two_processes_do_not_share_a_folder(environment, tmp_path):
    workdir = tmp_path / "run"
    first = launch_until(environment, 5, "lump.py:digits", workdir, **LONG)
    try:
        assert "another process is at work in" in refused(launch(environment, "lump.py:digits", workdir, **LONG))
    finally:
        first.kill()
        first.communicate()
