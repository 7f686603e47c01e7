"""Tests the cost of a step by its program, not by a clock: FLOPs, collectives, copies, compilations, transfers."""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import compiled
from configs import lump
from tests import tiny
from ucl_jax.data.tasks import open_stream
from ucl_jax.errors import UsageError
from ucl_jax.models import convolution
from ucl_jax.training import parallel
from ucl_jax.training.build import make_experiment, make_stream_settings
from ucl_jax.training.loop import LegDone, StepsDone
from ucl_jax.types import Selection

DEVICES, NORMS = 4, 23  # batch norms of ResNet-18 (20), of SimSiam's projector (2) and predictor (1)


@functools.cache
def program(recipe, **more):
    """Compiles the step of a shrunk recipe on four devices."""
    return compiled.lower(tiny.config(recipe, **more), DEVICES).compile()


def state():
    return jax.eval_shape(make_experiment(tiny.config("finetune"), parallel.AXIS, "cpu").init)


def parameters():
    return sum(leaf.size for leaf in jax.tree.leaves(state().network.params))


def of(found, **wanted):
    return [one for one in found if all(getattr(one, key) == value for key, value in wanted.items())]


# Collectives.


@pytest.mark.parametrize(("recipe", "metrics"), [("finetune", 2), ("lump", 3)])
def test_a_step_reduces_its_gradients_once_and_gathers_what_its_method_keeps(recipe, metrics):
    found = compiled.collectives(program(recipe).as_text())
    assert {one.devices for one in found} == {DEVICES}
    # Reduced are all gradients, the loss and its metrics (feature_std; lambda), and of each batch norm two sums a
    # channel of both views in the forward pass, one after the other, and two in the backward pass. XLA joins some of
    # these, but adds none.
    reduced = of(found, op="all-reduce")
    channels = sum(leaf.size for leaf in jax.tree.leaves(state().model_state)) // 2  # each has a mean and a variance
    assert sum(one.bytes for one in reduced) == 4 * (parameters() + metrics + 2 * 2 * 2 * channels)
    assert sum(one.bytes for one in of(found, where="forward")) >= 4 * 2 * 2 * channels
    assert len(reduced) <= 3 * NORMS + 1
    # LUMP gathers what it stores of 16 images [8, 8, 3]: image, label, first, and the frozen view.
    gathered = of(found, op="all-gather", where="step")
    assert sorted(one.bytes for one in gathered) == ([16, 16 * 4, 16 * 192, 16 * 192 * 4] if recipe == "lump" else [])
    assert len(found) == len(reduced) + len(gathered)


# Made up after what XLA writes for CPU and GPU: collectives that are combined, asynchronous, or in several groups.
HLO = """
  %all-reduce.1 = (f32[3,3,4,4]{3,2,1,0}, f32[4]{0}, /*index=2*/bf16[]) all-reduce(%a, %b, %c), channel_id=1, replica_groups={{0,1,2,3}}, metadata={op_name="jit(f)/psum"}
  %ag.start = (f32[2,1,8]{2,0,1}, f32[2,4,8]{2,0,1}) all-gather-start(%x), replica_groups=[1,4]<=[4], dimensions={1}, metadata={op_name="jit(f)/jvp(vmap(Network))/all_gather"}
  %add = f32[4]{0} add(%all-reduce.1, %b)
  %ag.done = f32[2,4,8]{2,0,1} all-gather-done(%ag.start), metadata={op_name="another"}
  ROOT %rs = f32[2,1,8]{2,0,1} reduce-scatter(%y), replica_groups=[2,2]<=[4], dimensions={1}, metadata={op_name="jit(f)/transpose(jvp(Network))/x"}
  %cp = u8[10]{0} collective-permute(%z), source_target_pairs={{0,1},{1,0}}
  %mesh = s32[6]{0} all-reduce(%d), channel_id=2, replica_groups=mesh['devices'=256] {'devices'}, use_global_device_ids=true
  %part.1 = f32[9]{0} all-gather(%f), channel_id=2, replica_groups=[1,3]<=[3], dimensions={0}, frontend_attributes={chain_id="0"}
  %part.2 = f32[9]{0} all-gather(%g), channel_id=2, replica_groups=[1,3]<=[3], dimensions={0}, frontend_attributes={chain_id="0"}
  %rows = f32[3]{0} all-reduce(%e), channel_id=3, replica_groups=mesh['x'=4,'y'=2] {'y'}, use_global_device_ids=true
"""  # noqa: E501


def test_collectives_of_a_text():
    assert compiled.collectives(HLO) == [
        ("all-reduce", ("f32[3,3,4,4]", "f32[4]", "bf16[]"), (144 + 4) * 4 + 2, 4, "step"),
        ("all-gather", ("f32[2,4,8]",), 256, 4, "forward"),
        ("reduce-scatter", ("f32[2,1,8]",), 2 * 64, 2, "backward"),
        ("collective-permute", ("u8[10]",), 10, 2, "step"),
        ("all-reduce", ("s32[6]",), 24, 256, "step"),
        ("all-gather", ("f32[9]",), 36, 3, "step"),
        ("all-reduce", ("f32[3]",), 12, 2, "step"),
    ]
    sent = [594 * 1.5, 256 * 0.75, 64.0, 10.0, 24 * 2 * 255 / 256, 24.0, 12.0]
    assert [one.sent for one in compiled.collectives(HLO)] == sent


# FLOPs.


def test_analytic_flops_by_hand():
    """Checks that FLOPs of Barlow Twins with width 1, images 4 x 4 and one example equal those counted by hand.

    The sides are 4, 4, 2, 1, 1 in stem and stages; the heads have 8-3-2 units.
    """
    config = tiny.config("finetune", "digits,barlow_twins", model__width=1, benchmark__image_size=4)
    config.train.batch_size = 1
    config.objective.update(hidden_dim=3, output_dim=2)
    later = (4 * 9 * 2 + 4 * 2) + 3 * 4 * 9 * 4, (9 * 8 + 8) + 3 * 9 * 16, (9 * 32 + 32) + 3 * 9 * 64
    forward = 16 * 9 * 3, 4 * 16 * 9, *later
    backbone = 2 * 2 * forward[0] + 3 * 2 * sum(forward[1:])
    heads, correlation, resizing = 3 * 2 * (8 * 3 + 3 * 2), 3 * 2 * 2 * 2, 2 * 2 * 2 * 4**3 * 3
    assert compiled.analytic_flops(config) == 2 * (backbone + heads) + correlation + resizing
    # Without padding a 3 x 3 kernel has 10 x 10 taps on 4 x 4 places, 5 x 5 with stride 2, 4 x 4 on 2 x 2 places, 2 x 2
    # on the one place of stride 2, and 1 elsewhere.
    forward = 100 * 3, 4 * 100, (25 * 2 + 4 * 2) + 3 * 16 * 4, (4 * 8 + 8) + 3 * 16, (32 + 32) + 3 * 64
    backbone = 2 * 2 * forward[0] + 3 * 2 * sum(forward[1:])
    assert compiled.analytic_flops(config, padding=False) == 2 * (backbone + heads) + correlation + resizing


def test_a_step_computes_no_more_than_it_must(monkeypatch):
    """Checks that a step of LUMP's recipe of Split Tiny-ImageNet has few more FLOPs than its products.

    At its full size (width 64, batch 256, 64 x 64) element-wise work is 1 %.
    """
    config = lump.get_config("tiny_imagenet")
    on_cpu = compiled.cost(compiled.lower(config).compile())["flops"]
    monkeypatch.setattr(convolution, "PATCH_BYTES", 2**40)
    step = compiled.lower(config).compile()  # by convolutions alone; XLA leaves out their taps on the padding
    flops = compiled.cost(step)["flops"]
    assert 0.95 < flops / compiled.analytic_flops(config, padding=False) < 1.1
    # On a CPU large 3x3 kernels of stride 1 take 2.25 times fewer FLOPs, and their taps on the padding count.
    fewer = sum(
        (1 - 1 / 2.25) * 3 * 2 * size**2 * 9 * channels * features
        for channels, features, kernel, size, stride in compiled._convolutions(64, 64)
        if kernel == 3 and stride == 1 and channels > 3
    )
    assert 0.95 < on_cpu / (compiled.analytic_flops(config) - 2 * 256 * fewer) < 1.1
    assert compiled.collectives(step.as_text()) == []  # on one device


def test_bfloat16_has_no_product_in_float32_but_those_of_the_augmentation():
    config = tiny.config("lump", model__dtype="bfloat16")
    found = compiled.products(compiled.lower(config).as_text())
    wide = [one for one in found if "f32" in one.dtypes]
    assert {one.op for one in wide} == {"dot_general"}
    assert sum(one.flops for one in wide) == compiled.augmentation_flops(config)
    narrow = sum(one.flops for one in found if one.dtypes == ("bf16", "bf16"))
    assert narrow > 0.95 * (compiled.analytic_flops(config, padding=False) - compiled.augmentation_flops(config))
    assert len(found) == len(wide) + len(of(found, dtypes=("bf16", "bf16")))


def test_products_of_a_text():
    @jax.jit
    def f(image, kernel, rows):
        out = jax.lax.conv_general_dilated(image, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        wide = jax.lax.conv_transpose(out, kernel, (2, 2), "SAME", transpose_kernel=True)  # with zeros between
        return wide, jnp.einsum("bij,bkj->bik", rows, rows)

    shapes = [((2, 8, 8, 3), jnp.bfloat16), ((3, 3, 3, 5), jnp.bfloat16), ((4, 6, 7), jnp.float32)]
    lowered = f.lower(*(jax.ShapeDtypeStruct(*shape) for shape in shapes))
    found = sorted(compiled.products(lowered.as_text(debug_info=True)))
    names = ["conv_general_dilated", "conv_general_dilated", "bij,bkj->bik/dot_general"]
    assert [one.name for one in found] == [f"jit(f)/{name}" for name in names]
    expected = [
        ("convolution", ("bf16", "bf16"), ((2, 4, 4, 5), (3, 3, 5, 3)), (2, 8, 8, 3), 2 * (2 * 8 * 8 * 3) * 45 // 4),
        ("convolution", ("bf16", "bf16"), ((2, 8, 8, 3), (3, 3, 3, 5)), (2, 4, 4, 5), 2 * (2 * 4 * 4 * 5) * 27),
        ("dot_general", ("f32", "f32"), ((4, 6, 7), (4, 6, 7)), (4, 6, 6), 2 * (4 * 6 * 6) * 7),
    ]
    assert [one[:5] for one in found] == expected
    assert sorted(compiled.products(lowered.as_text())) == [(*one, "") for one in expected]


def test_flops_of_loops_count_every_round():
    def f(x, y):
        return jax.lax.fori_loop(0, 7, lambda i, total: total + jnp.tanh(x[i]) @ y, jnp.zeros((5, 3)))

    compiled_loop = jax.jit(f).lower(np.ones((7, 5, 400), np.float32), np.ones((400, 3), np.float32)).compile()
    assert compiled.repeated_flops(compiled_loop.as_text()) == 6 * 2 * 5 * 400 * 3
    assert 7 * 2 * 5 * 400 * 3 < compiled.cost(compiled_loop)["flops"] < 1.1 * 7 * 2 * 5 * 400 * 3
    twice = jax.jit(lambda x, y: jax.lax.map(lambda y: f(x, y), y))
    compiled_loop = twice.lower(np.ones((7, 5, 400), np.float32), np.ones((4, 400, 3), np.float32)).compile()
    assert compiled.repeated_flops(compiled_loop.as_text()) == (4 * 7 - 1) * 2 * 5 * 400 * 3


def test_loops_of_a_text_that_are_not_understood_are_told():
    def f(x, y):
        return jax.lax.while_loop(lambda y: jnp.sum(y) < 9, lambda y: x @ y, y)

    unknown = jax.jit(f).lower(np.ones((200, 200), np.float32), np.ones((200, 200), np.float32)).compile().as_text()
    with pytest.raises(ValueError, match="products of a loop"):
        compiled.repeated_flops(unknown)
    known = re.sub(r"(body=[%\w.-]+)", r'\1, backend_config={"known_trip_count":{"n":"5"}}', unknown)
    assert compiled.repeated_flops(known) == 4 * 2 * 200**3
    for other in (" dot(f32[200,200] ", " convolution("):
        with pytest.raises(ValueError, match="products of a loop"):
            compiled.repeated_flops(known.replace(" dot(", other))


# The buffer.


def test_a_large_buffer_costs_only_its_sorting():
    """Checks that 16 times the slots cost only random numbers, comparisons and copies of the buffer.

    XLA for CPU copies twice what a step reads and then writes (openxla/xla issue 20440).
    """
    small, large = (compiled.cost(program("lump", **more)) for more in ({}, {"method__buffer_size": 4096}))
    added = 4096 - 256
    assert large["flops"] - small["flops"] < 100 * added  # a random number and a comparison or two a slot
    slot = 192 + 192 * 4 + 4 + 4 + 1  # image, frozen view, label, task, first
    # There are two copies and a write that XLA counts as one, each read and written, and the random numbers.
    assert large["bytes"] - small["bytes"] < 8 * slot * added


def test_the_state_is_updated_in_place():
    state = jax.eval_shape(make_experiment(tiny.config("lump"), parallel.AXIS, "cpu").init)
    header = program("lump").as_text().split("\n", 1)[0]
    # An input that is donated, and not copied, shares its memory with an output.
    assert len(re.findall(r"(?:may|must)-alias", header)) == len(jax.tree.leaves(state))


# The loop.


def test_the_loop_compiles_once_and_moves_nothing_but_the_batch(tmp_path, monkeypatch):
    """Checks that two tasks with evaluations, on two devices, compile nothing new and read nothing on the host.

    The host can read arrays only through `_value`.
    """
    config = tiny.config("lump", train__epochs=1)
    experiment = make_experiment(config, parallel.AXIS, "cpu")
    steps = parallel.compile_phases(experiment.phases, parallel.choose_devices(2, 16))
    state = jax.device_put(experiment.init(), steps[0].sharding)
    reads, programs = [], collections.Counter()
    array = type(state.step)
    value = array._value
    monkeypatch.setattr(array, "_value", property(lambda self: reads.append(self.shape) or value.fget(self)))

    def listen(event, duration, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            programs[details["fun_name"]] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    with open_stream(make_stream_settings(config), str(tmp_path)) as stream:
        events = tiny.train(config, experiment, steps, stream, state)
        for task in range(2):
            for step in range(5 * task, 5 * task + 5):  # 80 images in batches of 16
                reads.clear()
                with jax.transfer_guard("disallow"):
                    event = next(events)
                assert reads == []
                assert (type(event), event.step) == (StepsDone, step + 1)
            while not isinstance(next(events), LegDone):
                pass
            assert len(reads) > 0  # evaluation reads features, so reading would be noticed
        examples = stream.training(slice(0, 80))
    assert programs["jit(selected_steps)"] == programs["jit(gathered_features)"] == 1
    assert programs.total() <= 4  # the others are the probe and the end of a task
    state, key = event.state, experiment.key
    examples, selection = steps[0].hold(examples, 80), Selection(np.zeros((16, 1), np.int32), np.ones((16, 1), bool))
    with pytest.raises(Exception, match="Disallowed device-to-device transfer"), jax.transfer_guard("disallow"):
        steps[0].train_steps(state, examples, selection, key, compiled.any_task())  # the key is on one device only


# The command.


def test_bad_input_of_the_command_ends_with_one_line_and_exit_code_2(capsys):
    for arguments, message in (
        (["--cells=lumb/simsiam"], "error: there is no recipe 'lumb' in --cells"),
        (["--devices=0"], "error: --devices is 0"),
        (["--batches=3"], "error: unrecognized arguments: --batches=3; see python -m benchmarks.compiled --help"),
    ):
        assert compiled.main(arguments) == 2
        assert capsys.readouterr().err.startswith(message)
    with pytest.raises(UsageError, match="method"):
        compiled.analytic_flops(tiny.config("gss"))
