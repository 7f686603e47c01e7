"""Tests runs of several real processes on this machine: the same numbers, one end for all, and who failed."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import pytest

from tests import quick, tiny
from ucl_jax.training.build import make_experiment
from ucl_jax.training.checkpoint import Networks, numbers

# The network is small in these processes (see launch), and here, where their files are read.
pytestmark = pytest.mark.usefixtures("small_networks")
ROOT = pathlib.Path(__file__).parents[2]
SIMSIAM = {"train__learning_rate": 0.01, "log__tensorboard": False}  # see tests/training/test_parallel.py
LONG = SIMSIAM | {"train__epochs": 100, "checkpoint__every_steps": 10}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Returns environment variables for processes on the CPU, which compile quickly."""
    data_dir = str(tmp_path_factory.mktemp("tfds"))
    return os.environ | {"XLA_FLAGS": quick.XLA_FLAGS, "TFDS_DATA_DIR": data_dir}


def start(environment, processes: int, devices: int, command: list[str], flags=None, **own) -> list[subprocess.Popen]:
    """Starts processes that belong together, with some devices each.

    `own` gives process N more variables, as pN. `flags` gives it more flags: its number -> a list.
    """
    with socket.socket() as found:
        found.bind(("localhost", 0))
        address = f"localhost:{found.getsockname()[1]}"
    started = []
    for number in range(processes):
        together = ["--distributed", f"--coordinator_address={address}", f"--num_processes={processes}"]
        more = [*together, f"--process_id={number}"] if processes > 1 else []
        started.append(
            subprocess.Popen(
                [sys.executable, *command, *more, *(flags or {}).get(number, [])],
                cwd=ROOT,
                env=environment | {"JAX_NUM_CPU_DEVICES": str(devices)} | own.get(f"p{number}", {}),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def wait(started: list[subprocess.Popen], seconds: float = 400) -> list[tuple[int, str]]:
    """Waits for processes, and returns the exit code of each and what it printed on standard error."""
    try:
        errors = [process.communicate(timeout=seconds)[1] for process in started]
        return [(process.returncode, told) for process, told in zip(started, errors)]
    finally:
        for process in started:
            process.kill()


def launch(recipe: str, workdir: pathlib.Path, *flags: str, **more) -> list[str]:
    program = ["-m", "tests.small_networks"]
    return [*program, f"--config=configs/{recipe}", f"--workdir={workdir}", *tiny.flags(**more), *flags]


def entries(workdir: pathlib.Path) -> list[dict]:
    """Returns the entries of the train steps in the metrics of a run, as far as they are there."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry for line in lines if line.endswith("}") if "loss" in (entry := json.loads(line))]


def until(step: int, workdir: pathlib.Path, started: list[subprocess.Popen]) -> None:
    """Waits until the metrics of a run show a step."""
    deadline = time.monotonic() + 240
    while not any(entry["step"] >= step for entry in entries(workdir)):
        assert all(process.poll() is None for process in started), wait(started, 1)
        assert time.monotonic() < deadline, wait(started, 1)
        time.sleep(0.1)


def lines(errors: str, word: str) -> list[str]:
    return [line for line in errors.splitlines() if line.startswith(word)]


def network(recipe: str, workdir: pathlib.Path, **more) -> np.ndarray:
    """Returns the parameters at the end of a run, as one vector."""
    like = jax.eval_shape(make_experiment(tiny.config(*recipe, **more), None, "cpu").init).network
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), like)
    return as_vector(Networks(workdir / "networks").load(2, like).params)


def as_vector(params) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


@pytest.mark.parametrize(
    ("recipe", "ways"),
    [
        ("lump", [(1, 4, "shard_map"), (2, 2, "auto"), (4, 1, "auto")]),
        ("cassle", [(2, 2, "auto"), (4, 1, "auto")]),
        ("pnn", [(2, 2, "auto"), (4, 1, "auto")]),
    ],
)
def test_processes_change_no_number_beyond_rounding(environment, tmp_path, recipe, ways):
    """Compares runs over the border of two tasks with that of one process, where pmap maps over its four devices."""
    losses, params, matrices = [], [], []
    config = tiny.config(recipe, "digits,simsiam", **SIMSIAM)
    first = as_vector(make_experiment(config, None, "cpu").init().network.params)
    for number, (processes, devices, mapping) in enumerate([(1, 4, "pmap"), *ways]):
        workdir = tmp_path / str(number)
        command = launch(f"{recipe}.py:digits,simsiam", workdir, f"--mapping={mapping}", **SIMSIAM)
        outcomes = wait(start(environment, processes, devices, command))
        assert [code for code, _ in outcomes] == [0] * processes, outcomes
        losses.append([entry["loss"] for entry in entries(workdir)])
        params.append(network((recipe, "digits,simsiam"), workdir, **SIMSIAM))
        results = json.loads((workdir / "results.json").read_text())
        assert results["finished"]
        assert results["device"].startswith("4 x ")
        assert len(losses[-1]) == 20
        matrices.append([results["probes"][probe]["matrix"][-1] for probe in ("knn_task", "knn_all")])
    way = np.linalg.norm(params[0] - first)
    for other_losses, other_params, matrix in zip(losses[1:], params[1:], matrices[1:]):
        np.testing.assert_allclose(other_losses[:5], losses[0][:5], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(other_losses, losses[0], rtol=1e-3, atol=1e-3)
        assert np.linalg.norm(other_params - params[0]) < 0.01 * way
        np.testing.assert_allclose(matrix, matrices[0], atol=5)  # a vote may be close


def test_a_signal_to_one_stops_all_at_one_step_and_another_number_of_processes_goes_on(environment, tmp_path):
    workdir = tmp_path / "run"
    command = launch("lump.py:digits,simsiam", workdir, **LONG | {"checkpoint__every_steps": 1000})
    started = start(environment, 2, 2, command)
    until(12, workdir, started)
    started[1].send_signal(signal.SIGTERM)
    outcomes = wait(started)
    (step,) = numbers(workdir / "checkpoints")
    assert step >= 12
    for code, errors in outcomes:
        assert code == 143
        assert len(lines(errors, f"stopped by SIGTERM at step {step};")) == 1
    (alone,) = start(environment, 1, 4, command)
    until(step + 5, workdir, [alone])
    alone.send_signal(signal.SIGINT)
    ((code, errors),) = wait([alone])
    assert code == 130
    assert f"at step {step} of 1000" in errors
    steps = [entry["step"] for entry in entries(workdir)]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_all_with_one_line_and_the_command_goes_on(environment, tmp_path, lost):
    workdir = tmp_path / "run"
    command = launch("lump.py:digits,simsiam", workdir, **LONG)
    started = start(environment, 2, 1, command)
    until(15, workdir, started)
    killed = time.monotonic()
    started[lost].kill()
    code, errors = wait(started)[1 - lost]
    assert time.monotonic() - killed < 60
    assert code == 1
    assert (
        len(lines(errors, "error: ")) == len(lines(errors, ("error: JAX ended", "error: process 1 of 2 ")[lost])) == 1
    )
    assert "Traceback" not in errors
    saved, last = numbers(workdir / "checkpoints")[-1], entries(workdir)[-1]["step"]
    assert saved >= 10
    started = start(environment, 2, 1, command)
    until(last + 5, workdir, started)
    started[0].send_signal(signal.SIGTERM)
    (code, errors), (other, _) = wait(started)
    assert code == other == 143
    assert f"at step {saved} of 1000" in errors


def test_what_only_one_process_lacks_ends_all_with_its_reason(environment, tmp_path):
    command = launch("lump.py:cifar10,simsiam", tmp_path / "run", benchmark__image_size=32)
    folders = [str(tmp_path / name) for name in ("first", "second")]
    own = {f"p{number}": {"TFDS_DATA_DIR": folder} for number, folder in enumerate(folders)}
    outcomes = wait(start(environment, 2, 1, command, **own))
    assert [code for code, _ in outcomes] == [2, 2]
    reasons = [line for _, errors in outcomes for line in lines(errors, "error: ")]
    told = [line for line in reasons if line.startswith("error: process ")]
    assert len(reasons) == 2
    assert len(told) <= 1  # both may find it at the same time
    assert all(any(folder in line for folder in folders) for line in reasons)


def test_values_of_process_0_reach_the_other_bit_by_bit(environment, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys
            import numpy as np
            from ucl_jax.training import processes
            address, number = sys.argv[2].partition("=")[2], int(sys.argv[4].partition("=")[2])
            processes.start(address, 2, number)
            with processes.together():
                tree = {
                    "zero": np.float32([-0.0, 0.0, np.nan]),
                    "truth": np.array([[True], [False]]),
                    "count": np.int32(-7),
                    "image": np.arange(250, 256).astype(np.uint8),
                    "none": np.zeros((0, 3), np.float32),
                }
                given = tree if number == 0 else {name: np.ones_like(value) for name, value in tree.items()}
                shared = processes.share_arrays(given)
                for name, value in tree.items():
                    assert shared[name].dtype == value.dtype and shared[name].shape == value.shape, name
                    assert shared[name].tobytes() == value.tobytes(), name
                assert processes.share({"rows": [0.1, None]} if number == 0 else "") == {"rows": [0.1, None]}
                assert processes.is_main() == (number == 0) and processes.count() == 2
            """
        )
    )
    outcomes = wait(start(environment | {"PYTHONPATH": str(ROOT)}, 2, 1, [str(program)]))
    assert [code for code, _ in outcomes] == [0, 0], outcomes


def test_processes_of_different_runs_are_refused(environment, tmp_path):
    command = launch("lump.py:digits,simsiam", tmp_path / "run")
    outcomes = wait(start(environment, 2, 1, command, flags={1: ["--config.train.epochs=3"]}))
    assert [code for code, _ in outcomes] == [2, 2]
    assert all(len(lines(errors, "error: ")) == 1 for _, errors in outcomes)
    assert all("train.epochs" in errors for _, errors in outcomes)


def test_nothing_looks_for_others_unless_asked(environment, tmp_path):
    """Runs one process in what Slurm would give one of two, without the flag: it must not wait for the other."""
    cluster = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    cluster |= {"SLURM_STEP_NODELIST": "localhost", "JAX_COORDINATOR_ADDRESS": "localhost:1"}
    command = launch("finetune.py:digits,simsiam", tmp_path / "run", **SIMSIAM)
    ((code, errors),) = wait(start(environment | cluster, 1, 1, command))
    assert code == 0, errors
    assert json.loads((tmp_path / "run" / "results.json").read_text())["finished"]


def test_one_process_may_be_all_there_is(environment, tmp_path):
    with socket.socket() as found:
        found.bind(("localhost", 0))
        address = f"--coordinator_address=localhost:{found.getsockname()[1]}"
    alone = ["--distributed", address, "--num_processes=1", "--process_id=0"]
    command = launch("finetune.py:digits,simsiam", tmp_path / "run", *alone, **SIMSIAM)
    ((code, errors),) = wait(start(environment, 1, 1, command))
    assert code == 0, errors
    assert not lines(errors, "error")


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--num_processes=2"], "--num_processes"),
        (["--distributed"], "--distributed"),
        (["--mapping=vmap"], "--mapping"),
        (["--distributed", "--coordinator_address=localhost:1", "--num_processes=2", "--process_id=2"], "--process_id"),
        (
            ["--distributed", "--coordinator_address=here", "--num_processes=1", "--process_id=0"],
            "--coordinator_address",
        ),
    ],
)
def test_bad_flags_are_refused_in_one_line(environment, tmp_path, flags, key):
    command = [sys.executable, *launch("lump.py:digits", tmp_path / "run", *flags)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert key in line
    assert not (tmp_path / "run").exists()
