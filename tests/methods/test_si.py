"""Tests SI over three tasks on a small real network, against importances accumulated in NumPy step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import small
from tests.small import make_batch
from ucl_jax.methods import METHODS
from ucl_jax.types import TrainedParams, Variables

TASKS, STEPS, LEARNING_RATE, MOMENTUM = 3, 2, 0.1, 0.9
# These are not the paper's values: with these the penalty, the clipping and the damping all show in a few steps.
DEFAULTS = {"c": 100.0, "xi": 1e-4, "form": "release", "rate": 0.3, "clip": 0.01, "protect": "backbone"}
FORMS = ["release", "path_integral", "submission", "overwrite"]
close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-7)


def si(**changes):
    return METHODS["si"](small.objective("simsiam"), small.SCENARIO, **(DEFAULTS | changes))


@functools.cache
def run(**changes):
    """Trains three tasks; returns (state, batch, metrics, next state) of each step, and the state after each task."""
    method, optimizer = si(**changes), optax.sgd(LEARNING_RATE, MOMENTUM)
    step, steps, ends = small.make_step(method, optimizer), [], []
    state = small.start_state(method, optimizer, small.started("simsiam"))
    end_task = jax.jit(lambda state: small.end_of_task(method, state))
    for task in range(TASKS):
        for number in range(STEPS):
            batch = make_batch(STEPS * task + number)
            after, metrics = step(state, batch)
            steps.append((state, batch, metrics, after))
            state = after
        state = end_task(state)
        ends.append(state)
    return steps, ends


def flat(tree):
    """Returns the leaves by their paths, in float64."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf, np.float64) for path, leaf in leaves}


def largest(tree):
    return max(np.abs(leaf).max() for leaf in tree.values())


def compare(found, expected):
    """Compares to 1e-4 of the largest number, because importances are far below 1."""
    found, atol = flat(found), 1e-4 * largest(expected)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=atol, err_msg=name)


@pytest.mark.parametrize("changes", [
    {}, {"form": "path_integral"}, {"form": "submission"}, {"form": "overwrite"}, {"protect": "all"},
    {"clip": 0.0, "rate": 0.003},
], ids=["release", "path_integral", "submission", "overwrite", "all", "no_clip"])  # fmt: skip
def test_three_tasks_equal_importances_accumulated_by_hand(changes):
    setting = DEFAULTS | changes
    steps, ends = run(**changes)
    objective, value_and_grad = small.alone("simsiam"), small.value_and_grad("simsiam")
    sign = -1 if setting["form"] == "submission" else 1
    anchor = flat(steps[0][0].params.network)
    omega = {name: np.zeros_like(leaf) for name, leaf in anchor.items()}
    path, momentum = dict(omega), dict(omega)
    clipped_somewhere = pulled = negative = False

    for number, (state, batch, metrics, after) in enumerate(steps):
        task, last = number // STEPS, number % STEPS == STEPS - 1
        _, _, keys = small.step_keys(state.step)
        (value, _), grads = value_and_grad(state.network, objective.views(keys.example, batch))
        before, now, grads = flat(state.params.network), flat(after.params.network), flat(grads)

        penalty = sign * setting["c"] * sum(np.sum(omega[n] * (before[n] - anchor[n]) ** 2) for n in omega)
        close(metrics["penalty"], penalty)
        close(metrics["loss"], value + penalty)
        assert (metrics["penalty"] == 0.0) == (task == 0 or number % STEPS == 0)  # the anchor is where a task starts

        # The gradient that the optimiser takes, and the step that follows from it.
        pull = {n: sign * 2 * setting["c"] * omega[n] * (before[n] - anchor[n]) for n in omega}
        total = {n: grads[n] + pull[n] for n in omega}
        pulled |= any(np.abs(pull[n]).max() > 0.2 * np.abs(grads[n]).max() > 1e-3 for n in omega)
        if setting["clip"]:
            clipped_somewhere |= any(np.any(np.abs(leaf) > setting["clip"]) for leaf in total.values())
            assert any(np.any(np.abs(leaf) < setting["clip"] / 2) for leaf in total.values())
            total = {n: np.minimum(np.maximum(leaf, -setting["clip"]), setting["clip"]) for n, leaf in total.items()}
        momentum = {n: MOMENTUM * momentum[n] + total[n] for n in omega}
        compare(after.params.network, {n: before[n] - LEARNING_RATE * momentum[n] for n in omega})

        for n in omega:
            if setting["protect"] == "backbone" and ("projector" in n or "predictor" in n):
                continue
            if setting["form"] == "path_integral":
                path[n] = path[n] - grads[n] * (now[n] - before[n])
            else:
                path[n] = path[n] + setting["rate"] * total[n] ** 2
        compare(after.memory.path, path)
        compare(after.memory.omega, omega)  # it changes only when the task ends
        compare(after.memory.anchor, anchor)

        if last:
            for n in omega:
                negative |= bool(np.any(path[n] < -0.01 * largest(path)))
                new = np.where(path[n] > 0, path[n], 0) / ((now[n] - anchor[n]) ** 2 + setting["xi"])
                omega[n] = new if setting["form"] in ("submission", "overwrite") else omega[n] + new
                path[n] = np.zeros_like(path[n])
            anchor = now
            memory = ends[task].memory
            compare(memory.omega, omega)
            compare(memory.path, path)
            small.assert_trees_equal(memory.anchor, after.params.network)
            protected = {n for n in omega if np.any(omega[n])}
            heads = {n for n in omega if "projector" in n or "predictor" in n}
            if setting["protect"] == "all":
                assert protected & heads
            else:
                assert protected == omega.keys() - heads

    # Each of the things that this test compares has occurred.
    assert pulled
    assert clipped_somewhere == bool(setting["clip"])
    assert negative == (setting["form"] == "path_integral")


def test_forms_and_clipping_make_a_difference():
    """Checks that forms and clipping give different importances: the test above would notice one for another."""
    omegas = [flat(run(form=form)[1][-1].memory.omega) for form in FORMS]
    omegas.append(flat(run(clip=0.0, rate=0.003)[1][-1].memory.omega))
    for place, one in enumerate(omegas):
        for other in omegas[:place]:
            assert largest({n: one[n] - other[n] for n in one}) > 0.05 * largest(one)


@pytest.mark.parametrize("protect", ["backbone", "all"])
def test_what_is_protected_wherever_it_is_in_the_tree(protect):
    """Checks that heads are recognised anywhere in the tree, also in a column of a progressive network.

    The linear head of a supervised objective is protected with its backbone.
    """
    column = {name: {"output": {"kernel": jnp.ones(2)}} for name in ("backbone", "projector", "predictor", "head")}
    params = {"networks_0": column, "head": {"kernel": jnp.ones(3)}, "projector": {"bias": jnp.ones(1)}}
    method = si(protect=protect, clip=0.5, rate=0.8)
    _, memory = method.init(None, (), Variables(params, {}))
    small.assert_trees_equal(memory.omega, jax.tree.map(jnp.zeros_like, params))
    grads = jax.tree.map(lambda x: -2.0 * x, params)
    told = small.seen((), (), *(TrainedParams(tree, ()) for tree in (grads, params, params)))
    memory = method.observe(memory, told, jax.random.key(0))
    for name, leaf in flat(memory.path).items():
        head = "projector" in name or "predictor" in name
        np.testing.assert_allclose(leaf, 0.0 if head and protect == "backbone" else 0.8 * 0.5**2, rtol=1e-6)


def test_clip_is_by_value_and_0_does_not_clip():
    grads = {"a": jnp.asarray([3.0, -0.25, -7.0]), "b": jnp.asarray([[0.5]])}
    clipped = si(clip=0.5).project((), TrainedParams(grads, ()), ()).network
    small.assert_trees_equal(clipped, {"a": jnp.asarray([0.5, -0.25, -0.5]), "b": jnp.asarray([[0.5]])})
    small.assert_trees_equal(si(clip=0.0).project((), TrainedParams(grads, ()), ()).network, grads)


@pytest.mark.parametrize(("name", "value", "message"), [
    ("form", "releas", "form is 'releas'.*release, path_integral"),
    ("protect", "head", "protect is 'head'.*backbone, all"),
])  # fmt: skip
def test_a_setting_out_of_range_is_an_error_that_names_it(name, value, message):
    with pytest.raises(ValueError, match=message):
        si(**{name: value})
