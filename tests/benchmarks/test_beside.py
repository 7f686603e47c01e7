"""Tests benchmarks.beside, and the runs in plain PyTorch that it sets beside ours. Tests that train need PyTorch."""

import json

import jax
import numpy as np
import optax
import pytest
from scipy import stats

from benchmarks import beside, measure, performance, tables
from tests import pretended, run_results, tiny
from tests.small import CLOCK
from ucl_jax.training import build
from ucl_jax.types import Variables, Views

# These settings leave nothing to chance: a view is the whole image.
CERTAIN = {"augment__crop_scale": (1.0, 1.0), "augment__jitter_p": 0.0, "augment__gray_p": 0.0}
BATCH = 8


def config(recipe, **more):
    sized = {"train__batch_size": BATCH, "model__width": 8} | ({"method__buffer_size": 12} if recipe == "lump" else {})
    return tiny.config(recipe, "digits,simsiam", **sized, **more)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch, with which the benchmark compares, is not installed")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)


def parameters(torch, recipe, images, steps):
    """Returns all parameters after some steps; everything random in batches and weights is the same in each call."""
    from benchmarks import torch_lump

    torch.manual_seed(0)
    program = torch_lump.Plain(config(recipe, **CERTAIN), images, workers=0)
    for _ in range(steps):
        program.step()
    assert program.seen == (BATCH * steps if recipe == "lump" else 0)
    return torch.nn.utils.parameters_to_vector(program.network.parameters()).detach().numpy()


def test_finetune_is_lump_without_its_memory(torch, images, monkeypatch):
    finetune = parameters(torch, "finetune", images, 4)
    monkeypatch.setattr(np.random, "beta", lambda *_: 1.0)  # the past has no weight
    np.testing.assert_array_equal(finetune, parameters(torch, "lump", images, 4))
    monkeypatch.setattr(np.random, "beta", lambda *_: 0.5)
    assert np.abs(finetune - parameters(torch, "lump", images, 4)).max() > 1e-3


def test_a_new_task_changes_the_images_alone(torch, images):
    from benchmarks import torch_lump

    program = torch_lump.Plain(config("lump", **CERTAIN), images, workers=0)
    program.begin_task(images)
    seen = []
    for _ in range(4):
        program.step()
        seen.append(program.seen)
    assert seen == [8, 16, 20, 28]  # the last batch of an epoch is smaller
    before = [x.clone() for x in (program.raw, program.frozen, *program.network.state_dict().values())]
    momentum = [state["momentum_buffer"].clone() for state in program.optimizer.state.values()]
    program.begin_task(255 - images[:BATCH])
    now = program.raw, program.frozen, *program.network.state_dict().values()
    assert all(map(torch.equal, before, now))
    assert all(map(torch.equal, momentum, [state["momentum_buffer"] for state in program.optimizer.state.values()]))
    batch = next(program.batches)[2].numpy()
    assert sorted(x.tobytes() for x in batch) == sorted(x.tobytes() for x in 255 - images[:BATCH])
    program.step()
    kept = {x.tobytes() for x in program.raw.numpy()}
    assert program.seen == 36
    assert kept & {x.tobytes() for x in images}


def test_metrics_are_ours(torch):
    """Checks loss, gradient norm and feature deviation of a step from our weights and views against our own."""
    from benchmarks import torch_lump

    tree = config("lump")
    objective = build.make_experiment(tree, None, "cpu").phases[0].objective
    network = objective.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.uint8))
    views = np.random.default_rng(1).normal(size=(2, BATCH, 8, 8, 3)).astype(np.float32)

    def our_loss(params):
        return objective.loss(Variables(params, network.state), Views(tuple(views), None), CLOCK)

    (loss, aux), grads = jax.jit(jax.value_and_grad(our_loss, has_aux=True))(network.params)
    program = torch_lump.Plain(tree, np.zeros((1, 8, 8, 3), np.uint8), workers=0)
    program.network.load_state_dict(torch_lump.from_ours(network.params, network.state["batch_stats"]), strict=False)
    shown = [torch.from_numpy(view.transpose(0, 3, 1, 2).copy()) for view in views]
    program.batches = iter([(*shown, torch.zeros(BATCH, 8, 8, 3, dtype=torch.uint8))])
    found = torch_lump.measured_step(program)
    ours = {"loss": loss, "grad_norm": optax.tree.norm(grads), **aux.metrics}
    assert found == pytest.approx({name: value.item() for name, value in ours.items()}, rel=1e-4)
    assert not program.network.backbone._forward_hooks


SMALL = [f"--override={key}={value}" for key, value in tiny.SHRUNK.items() if not key.startswith("checkpoint")]


def pretend_ours(root, recipe, seed, task=((90.0, 60.0), (80.0, 97.0)), **more):
    """Writes a finished run of ours that was never trained, with curves."""
    pairs = [word.removeprefix("--override=") for word in SMALL]
    tree = pretended.config_of(recipe, "digits,simsiam", f"seed={seed}", *pairs)
    folder = root / "digits" / f"{recipe}-simsiam-seed{seed}"
    folder.mkdir(parents=True)
    probes = {"knn_task": run_results.probe(task), "knn_all": run_results.probe(chance=25.0)}
    versions = {"python": "3", "jax": "1"}
    run_results.save(folder / "results.json", config=tree, probes=probes, versions=versions, **{"seconds": 9.0} | more)
    entries = [
        {"step": step, "task": int(step > 10), "loss": -step / 20, "grad_norm": 1.0 + step, "feature_std": 0.5}
        for step in range(1, 21)
    ]
    entries[10:10] = [{"step": 10, "task": 0}]
    entries.append({"step": 20, "task": 1})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))


def test_runs_are_trained_once_and_set_beside_ours(torch, tmp_path, capsys):
    """Checks a whole comparison; its run in PyTorch has a process of its own."""
    pretend_ours(tmp_path / "ours", "lump", 0)
    out = tmp_path / "out.json"
    arguments = ["--benchmark=digits", "--recipes=lump", "--seeds=1", "--jobs=1", *SMALL, f"--out={out}"]
    arguments += [f"--ours={tmp_path / 'ours'}", f"--root={tmp_path / 'torch'}"]
    assert beside.main(arguments) == 0, capsys.readouterr()
    ours, theirs = json.loads(out.read_text())["runs"]
    assert (ours["program"], theirs["program"], theirs["seed"]) == ("ours", "torch", 0)
    task, whole = theirs["matrices"]["knn_task"], theirs["matrices"]["knn_all"]
    assert np.array(task, float).shape == (2, 2)
    assert [[value is None for value in row] for row in whole] == [[False, True], [False, False]]
    assert all(len(row) == 2 for row in theirs["untrained"].values())
    assert theirs["task_ends"] == ours["task_ends"] == [10, 20]  # 80 images in batches of 16, two epochs
    assert theirs["curves"]["step"] == list(range(1, 21))
    assert all(len(theirs["curves"][name]) == 20 for name in beside.CURVES)
    facts = theirs["facts"]
    assert (facts["program"]["threads"], len(facts["program"]["cores"])) == (1, 1)
    parts = facts["train_seconds"] + facts["evaluation_seconds"]
    assert 0 < parts <= theirs["seconds"] <= facts["command_seconds"]
    assert out.with_suffix(".png").stat().st_size > 10_000

    results = tmp_path / "torch" / "digits" / "lump-simsiam-seed0" / "results.json"
    written = results.stat().st_mtime_ns
    out.unlink()
    assert beside.main(arguments) == 0
    assert results.stat().st_mtime_ns == written
    assert json.loads(out.read_text())["runs"][1] == theirs
    assert "1 finished, 0 to run" in capsys.readouterr().out


def pretended_run(program, recipe, seed, accuracy, seconds):
    matrix = [[90.0, 50.0], [accuracy, accuracy]]
    return {
        "program": program,
        "recipe": recipe,
        "seed": seed,
        "forgetting": "max",
        "seconds": seconds,
        "device": "a machine",
        "commit": "0123456789abcdef",
        "versions": {"jax": "1"} | ({"torch": "2"} if program == "torch" else {}),
        "facts": {"train_seconds": seconds - 10, "evaluation_seconds": 8.0} if program == "torch" else {},
        "matrices": {"knn_task": matrix, "knn_all": matrix},
    }


def test_the_table_has_differences_of_independent_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    assert tables.TABLES["beside"]() == performance.MISSING
    ours, theirs = [80.0, 82.0, 87.0], [79.0, 80.0]
    runs = [pretended_run("ours", "lump", seed, a, 100.0 + seed) for seed, a in enumerate(ours)]
    runs += [pretended_run("torch", "lump", seed, a, 200.0 + seed) for seed, a in enumerate(theirs)]
    result = {"command": "python -m benchmarks.beside", "benchmark": "cifar10_16px", "recipes": ["lump"], "runs": runs}
    (tmp_path / "beside-cifar10_16px.json").write_text(json.dumps(result))
    lines = tables.TABLES["beside"]().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:5]]
    assert rows[0][:5] == ["lump", "ucl_jax", "3", "83.00±3.61", "7.00±3.61"]
    assert rows[1][:5] == ["lump", "PyTorch", "2", "79.50±0.71", "10.50±0.71"]
    # Welch's interval by its formula: variances 13 and 0.5, degrees of freedom by Satterthwaite.
    parts = 13 / 3, 0.5 / 2
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 1)
    half = stats.t.ppf(0.975, freedom) * sum(parts) ** 0.5
    assert rows[2][:4] == ["lump", "ucl_jax - PyTorch", "", f"+3.50 ({3.5 - half:+.2f} to {3.5 + half:+.2f})"]
    assert rows[2][-1].startswith("-99.50 (")
    assert rows[1][-1] == "200.50±0.71"


def test_curves_are_means_within_a_task(monkeypatch):
    monkeypatch.setattr(beside, "POINTS", 4)
    entries = [
        {"step": 10 * n, "task": int(n > 5), "loss": float(n), "grad_norm": 1.0, "feature_std": 0.123456789}
        for n in range(1, 10)
    ]
    entries.insert(5, {"step": 50, "task": 0})
    found = beside.thinned(entries)
    assert found["step"] == [20.0, 45.0, 65.0, 85.0]  # of 1, 2, 3 and 4, 5; then 6, 7 and 8, 9
    assert found["loss"] == [2.0, 4.5, 6.5, 8.5]
    assert found["feature_std"] == [0.12346] * 4


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--benchmark=cifar", "unknown benchmark 'cifar'"),
        ("--recipes=er", "unknown recipe 'er'"),
        ("--seeds=0", "--seeds is 0; it must be at least 1"),
        ("--override=model.width", "--override=model.width is not KEY=VALUE"),
        ("--override=method.replay_pair=fresh", "--override=method.replay_pair=fresh: PyTorch's loop does not read"),
        ("--seeds=1", "this is a part of what beside-cifar10_16px.json holds"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_2(argument, message, capsys):
    assert beside.main([argument]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_a_run_of_another_recipe_is_refused(torch, tmp_path, capsys):
    from benchmarks import torch_run

    flags = [f"--config={pretended.ROOT}/configs/er.py:digits,simsiam", f"--workdir={tmp_path}"]
    assert torch_run.main(flags) == 2
    assert capsys.readouterr().err.startswith("error: the PyTorch loop has only finetune and lump")
