"""Tests benchmarks.step: what it makes of measurements, its arguments, and that its peers do the same work in PyTorch.

It does not test the times. Tests that need PyTorch are skipped where it is not installed.
"""

import contextlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import measure, step
from tests.small import CLOCK
from ucl_jax import augment
from ucl_jax.methods import mixup
from ucl_jax.training import build
from ucl_jax.types import Variables, Views

MEASURED = {
    "facts": {
        "ours": {
            "first": 20.0,
            "parameters": 7,
            "mode": "float32",
            "parts": ["buffer"],
            "platform": "cpu",
            "where": {"jax": "1"},
        },
        "torch_plain": {"first": 1.0, "parameters": 7, "mode": "eager", "parts": ["buffer"], "torch": "2"},
    },
    "failed": {"torch_best": "ImportError: no"},
    "step": {"ours": [1.0, 2.0, 4.0], "torch_plain": [3.0, 2.0, 20.0]},
    "parts": {"buffer": {"ours": [0.5], "torch_plain": [0.25]}},
    "cost": {"flops": 300.0, "analytic_flops": 200.0, "bytes": 40.0},
}
RATES = {"xla": {"float32": 200.0, "copy": 100.0}, "torch": {"float32": 300.0, "copy": 80.0}}


def test_a_ratio_is_that_of_one_round():
    assert step.ratios(MEASURED["step"]) == {"torch_plain": {"median": 3.0, "least": 1.0, "most": 5.0}}
    # The ratio of the medians would be 1.5.


def test_the_larger_bound_holds():
    found = step.limit({"flops": 300.0, "bytes": 40.0}, RATES, "float32", 4.0, cpu=True)
    assert (found["bound"], found["bound_seconds"], found["bound_share"]) == ("products", 1.0, 0.25)
    assert (found["of_matrix_rate"], found["of_copy_rate"]) == pytest.approx((0.25, 0.1))
    assert (found["flops_per_second"], found["bytes_per_second"]) == (75.0, 10.0)
    found = step.limit({"flops": 1.0, "analytic_flops": 300.0, "bytes": 400.0}, RATES, "float32", 5.0, cpu=False)
    assert (found["bound"], found["bound_share"]) == ("memory", pytest.approx(0.8))


def test_the_result_of_records():
    result = step.summarise({"demo": MEASURED}, RATES, "float32", {"demo": 64})
    assert result["ratio"] == {"demo": {"torch_plain": 3.0}}
    assert result["steps"]["demo"]["ours"] == {"median": 2.0, "least": 1.0, "most": 4.0}
    assert result["images_per_second"]["demo"]["torch_plain"] == pytest.approx(
        {"median": 64 / 3, "least": 3.2, "most": 32.0}
    )
    assert result["parts_ratio"]["demo"]["buffer"]["torch_plain"]["median"] == 0.5
    assert result["first_seconds"]["demo"] == {"ours": 20.0, "torch_plain": 1.0}
    assert result["limits"]["demo"]["bound_share"] == 0.5
    assert result["failed"] == {"demo": {"torch_best": "ImportError: no"}}
    lines = step.table(result | {"where": {"jax": "1"}}).splitlines()
    (row,) = [line.split() for line in lines if line.split()[1:3] == ["step", "torch_plain"]]
    assert row == ["demo", "step", "torch_plain", "3", "(2..20)", "21.33", "(3.2..32)", "3", "(1..5)"]
    assert "demo: torch_best cannot run: ImportError: no" in lines


PARTS = {"ours": list(step.PARTS), "torch_plain": ["buffer"], "torch_best": ["buffer", "input"]}


class FakeStart:
    """Stands in for `measure.start`, with programs that take fixed seconds a call."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []
        self.seconds = {"ours": 2.0, "torch_plain": 0.5, "torch_best": 0.1}

    @contextlib.contextmanager
    def __call__(self, module, arguments):
        (name,) = [one.partition("=")[2] for one in arguments if one.startswith("--program=")]

        def ask(question):
            self.asked.append((name, question))
            if question["what"] == "cost":
                return {"flops": 1e9, "analytic_flops": 2e9, "bytes": 1e8}
            if question["what"] == "rates":
                return {"float32": 1e9, "bfloat16": 1e9, "copy": 1e9}
            return self.answers.get((name, question["what"]), {"seconds": self.seconds[name]})

        facts = {"parameters": 7, "mode": "m", "untimed": {"step": 8}, "parts": PARTS[name], "first": 1.0}
        ours = {"platform": "cpu", "where": {"device": "d"}, "untimed": {}} if name == "ours" else {"torch": "2"}
        yield facts | ours | self.answers.get(name, {}), ask


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    def run(*arguments, answers=None, **first):
        fake = FakeStart((answers or {}) | first)
        monkeypatch.setattr(measure, "start", fake)
        code = step.main([*arguments, f"--out={tmp_path / 'step.json'}"])
        told = capsys.readouterr()
        fake.err = told.err
        return code, told.out, fake

    return run


def test_json_is_one_object_and_the_file(run, tmp_path):
    code, out, fake = run("--json", "--rounds=2")
    result = json.loads(out)
    assert code == 0
    assert result == json.loads((tmp_path / "step.json").read_text())
    assert result["ratio"] == {size: {"torch_plain": 0.25, "torch_best": 0.05} for size in ("paper", "demo")}
    assert set(result["parts"]["demo"]) == set(step.PARTS)
    assert set(result["parts"]["demo"]["buffer"]) == {"ours", "torch_plain", "torch_best"}
    # Eight untimed steps empty the workers' queue before six fast steps are timed; before a slow step one is enough.
    turns = [(name, q["untimed"], q["count"]) for name, q in fake.asked if q["what"] == "step"]
    assert turns[:5] == [
        ("ours", 1, 1),
        ("torch_plain", 1, 1),
        ("torch_plain", 8, 6),
        ("torch_best", 1, 1),
        ("torch_best", 8, 30),
    ]
    assert turns[5:8] == [("ours", 1, 2), ("torch_plain", 8, 6), ("torch_best", 8, 30)]


def test_a_peer_that_cannot_run_is_left_out(run):
    code, out, _ = run("--sizes=demo", "--no-parts", torch_best={"error": "ImportError: no"})
    assert code == 0
    assert "demo: torch_best cannot run: ImportError: no" in out
    code, out, _ = run("--sizes=demo", "--json", torch_best={"error": "ImportError: no"})
    assert json.loads(out)["ratio"] == {"demo": {"torch_plain": 0.25}}
    assert json.loads(out)["failed"] == {"demo": {"torch_best": "ImportError: no"}}


def test_a_part_that_fails_is_left_out(run):
    answers = {("torch_best", "buffer"): {"error": "RuntimeError: full"}}
    result = json.loads(run("--sizes=demo", "--json", answers=answers)[1])
    assert set(result["parts"]["demo"]["buffer"]) == {"ours", "torch_plain"}
    assert set(result["ratio"]["demo"]) == {"torch_plain", "torch_best"}
    assert result["failed"] == {"demo": {"torch_best, buffer": "RuntimeError: full"}}


def test_networks_of_another_size_are_not_compared(run):
    with pytest.raises(SystemExit, match="torch_plain has 8 parameters, ours 7"):
        run("--sizes=demo", torch_plain={"parameters": 8})


def test_what_our_program_says_of_settings_is_bad_input(run):
    code, _, fake = run("--sizes=demo", ours={"usage": "config.model.width is 0"})
    assert code == 2
    assert fake.err == "error: config.model.width is 0\n"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--sizes=papre", "unknown size 'papre', did you mean 'paper'?"),
        ("--sizes=", "--sizes is empty"),
        ("--peers=torch", "unknown peer 'torch', did you mean 'torch_"),
        ("--rounds=0", "--rounds is 0; it must be at least 1"),
        ("--out=nowhere/step.json", "--out: there is no folder nowhere"),
        ("--rounds=two", "argument --rounds: invalid int value: 'two'; see python -m benchmarks.step --help"),
        ("--dtype=float16", "unknown --dtype 'float16'"),
        ("--torch-mode=fast", "argument --torch-mode: invalid choice: 'fast'"),
        ("--override=model.width", "--override=model.width is not KEY=VALUE"),
        ("--override=model.wdth=4", "unknown key '--config.model.wdth', did you mean --config.model.width?"),
        ("--override=model.width=wide", "config.model.width is 'wide'; it must be a whole number"),
        (
            "--override=method.replay_pair=fresh",
            "the peers do not read method.replay_pair; give --peers= to measure ours alone",
        ),
        ("--sedes=2", "unrecognized arguments: --sedes=2; see python -m benchmarks.step --help"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_2(argument, message, capsys):
    assert step.main([argument]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


# The peers. They have no workers, because a fork of a process that has JAX may hang.

SMALL = ["model.width=4", "train.batch_size=8", "method.buffer_size=12", "objective.hidden_dim=12"]
SMALL += ["objective.output_dim=10", "objective.predictor_dim=6", "eval.batch_size=8"]
# These settings leave nothing to chance: a crop is the whole image.
SMALL += ["augment.crop_scale=(1.0, 1.0)", "augment.jitter_p=0.0", "augment.gray_p=0.0"]


@pytest.fixture(scope="module")
def torch_lump():
    pytest.importorskip("torch", reason="PyTorch, with which the benchmark compares, is not installed")
    from benchmarks import torch_lump

    return torch_lump


@pytest.fixture(scope="module")
def small():
    return step.get_config("demo", SMALL)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)


@pytest.mark.parametrize("size", step.ARGUMENT)
def test_the_peers_have_our_parameters(size, torch_lump):
    config = step.get_config(size, [])
    params = jax.eval_shape(build.make_experiment(config, None, "cpu").init).network.params
    network = torch_lump.SimSiam(config)
    assert sum(p.numel() for p in network.parameters()) == sum(x.size for x in jax.tree.leaves(params))


def test_the_peers_have_our_loss_and_gradients(torch_lump, small):
    import torch

    objective = build.make_experiment(small, None, "cpu").phases[0].objective
    rng = np.random.default_rng(1)
    views = [rng.normal(size=(8, 8, 8, 3)).astype(np.float32) for _ in range(4)]
    weight = 0.7
    ours = objective.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8))
    mixed = Views(mixup.mixup(tuple(views[:2]), tuple(views[2:]), jnp.float32(weight)), None)

    def our_loss(params):
        return objective.loss(Variables(params, ours.state), mixed, CLOCK)

    (loss, aux), grads = jax.jit(jax.value_and_grad(our_loss, has_aux=True))(ours.params)

    network = torch_lump.SimSiam(small)
    missing, unexpected = network.load_state_dict(
        torch_lump.from_ours(ours.params, ours.state["batch_stats"]), strict=False
    )
    assert all(name.endswith("num_batches_tracked") for name in missing)
    assert not unexpected
    first, second, *past = (torch.tensor(view.transpose(0, 3, 1, 2)) for view in views)
    theirs = torch_lump.simsiam_loss(network, *(torch_lump.mix(x, y, weight) for x, y in zip((first, second), past)))
    theirs.backward()
    np.testing.assert_allclose(loss, theirs.item(), atol=5e-6)
    expected = torch_lump.from_ours(grads)
    rounding = 1e-4 * max(grad.abs().max().item() for grad in expected.values())  # biases before norms have no more
    for name, parameter in network.named_parameters():
        np.testing.assert_allclose(parameter.grad, expected[name], rtol=5e-3, atol=rounding, err_msg=name)
    statistics = network.state_dict()
    for name, value in torch_lump.from_ours(aux.state["batch_stats"]).items():
        np.testing.assert_allclose(statistics[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_batched_jitter_is_ours(torch_lump, images):
    import torch

    strength = (0.4, 0.4, 0.4, 0.1)
    keys = jax.random.split(jax.random.key(3), len(images))
    factors, order = jax.vmap(lambda key: augment.jitter_params(key, *strength))(keys)
    floats = images.astype(np.float32) / 255
    ours = jax.vmap(augment.apply_jitter)(floats, factors, order)
    theirs = torch_lump.apply_jitter(
        torch.tensor(floats.transpose(0, 3, 1, 2)), torch.tensor(np.asarray(factors)), torch.tensor(np.asarray(order))
    )
    np.testing.assert_allclose(theirs.permute(0, 2, 3, 1), ours, atol=1e-5)


def test_batched_crops(torch_lump):
    """Checks that bilinear crops of a ramp are ramps: the whole image gives itself, a quarter has 3 to 5 columns."""
    import torch

    torch.manual_seed(0)
    ramp = torch.arange(8.0).expand(1, 3, 8, 8) / 8
    whole = torch_lump.random_crops(ramp, (1.0, 1.0), 0.0, "bilinear")
    np.testing.assert_allclose(whole, ramp, atol=1e-6)
    np.testing.assert_allclose(torch_lump.random_crops(ramp, (1.0, 1.0), 1.0, "bilinear"), ramp.flip(3), atol=1e-6)
    parts = torch_lump.random_crops(ramp.expand(64, 3, 8, 8), (0.25, 0.25), 0.0, "bilinear")
    columns = (parts[..., 6] - parts[..., 1])[:, 0, 0] / 5 * 64
    assert {round(x, 3) for x in columns.tolist()} == {3.0, 4.0, 5.0}
    assert len(parts[:, 0, 0, 4].unique()) > 4  # crops are in different places


def test_views_of_plain_pytorch(torch_lump, small, images):
    """Checks that without chance a view is the image, and its hue changes as ours, up to steps of eight bits."""
    from PIL import Image

    a = small.augment
    normal = torch_lump.Program.statistics(None, a.mean, a.std)
    image = Image.fromarray(images[0])
    expected = np.asarray(augment.make_plain_view(a.mean, a.std)(jnp.asarray(images[0]))).transpose(2, 0, 1)
    np.testing.assert_allclose(torch_lump.strong_view(image, a, normal), expected, atol=1e-5)
    same = torch_lump.jitter(image, (0.0, 0.0, 0.0, 0.0))
    np.testing.assert_allclose(np.asarray(same, int), images[0], atol=6)  # it went to HSV and back in eight bits
    hue = np.asarray(torch_lump.shift_hue(image, 0.1), np.float32) / 255
    ours = np.asarray(augment.adjust_hue(jnp.asarray(images[0] / np.float32(255)), 0.1))
    np.testing.assert_allclose(hue, ours, atol=0.05)


@pytest.mark.parametrize("program", step.PEERS)
def test_a_peer_trains_and_keeps_what_it_showed(program, torch_lump, small, images):
    made = (
        torch_lump.Plain(small, images, workers=0)
        if program == "torch_plain"
        else torch_lump.Best(small, images, "eager")
    )
    before = [p.detach().clone() for p in made.network.parameters()]
    for count in range(1, 4):
        made.step()
        assert made.seen == 8 * count
    assert all((p != old).any() for p, old in zip(made.network.parameters(), before))
    stored = made.raw.numpy()
    known = {image.tobytes() for image in images}
    assert all(image.tobytes() in known for image in stored)
    shown = jax.vmap(augment.make_plain_view(small.augment.mean, small.augment.std))(stored)
    np.testing.assert_allclose(made.frozen.permute(0, 2, 3, 1), shown, atol=1e-5)
    for part in made.parts.values():
        part()
    assert made.evaluate().shape == (8, 32)
    assert made.network.training


def test_the_vectorised_reservoir_is_the_loop(torch_lump):
    """Checks that the vectorised reservoir keeps the same images as a loop over the same draws."""

    class Draws:
        def __init__(self, seed):
            self.rng = np.random.default_rng(seed)

        def integers(self, low, high):
            self.drawn = self.rng.integers(low, high)
            return self.drawn

    kept = 0
    for seen in (0, 3, 4, 9, 40):
        for seed in range(20):
            rng = Draws(seed)
            rows, slots = torch_lump.reservoir_slots(rng, seen, 6, 8)
            expected = {}
            for row in range(8):
                slot = seen + row if seen + row < 6 else rng.drawn[row]
                if slot < 6:
                    expected[slot] = row
            assert dict(zip(slots.tolist(), rows.tolist())) == expected
            kept += len(rows)
    assert kept > 100
