"""Tests losses, queues and targets against the numbers of the released codes (tests/golden.json)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden, small
from tests.golden import PRECISIONS, TOLERANCE, check, check_summary
from ucl_jax.objectives import OBJECTIVES, losses
from ucl_jax.objectives.moco import moco_loss
from ucl_jax.objectives.queue import pushed
from ucl_jax.objectives.swav import swav_loss
from ucl_jax.objectives.target import momentum_at
from ucl_jax.types import Clock, Variables


def both(x, first="z"):
    """Returns two views stacked: [2, B, D]."""
    return jnp.stack([x[f"{first}1"], x[f"{first}2"]])


def moco(x, settings):
    queue = jnp.transpose(x["queue"], (2, 0, 1))  # [2, D, K] there
    return moco_loss(both(x), both(x, "momentum"), queue, settings["temperature"])


def swav(x, settings):
    prototypes = {"direction": x["prototype_direction"], "length": x["prototype_length"]}
    return swav_loss(
        prototypes,
        both(x),
        jnp.swapaxes(x["queue"], 0, 1),  # [2, K, D] there
        jnp.asarray(settings["queue_used"]),
        settings["temperature"],
        settings["epsilon"],
        settings["iterations"],
    )


LOSSES = {
    "nt_xent": lambda x, s: losses.nt_xent(x["z1"], x["z2"], s["temperature"]),
    "byol": lambda x, s: losses.byol(x["p1"], x["target2"]) + losses.byol(x["p2"], x["target1"]),
    "vicreg": lambda x, s: losses.vicreg(x["z1"], x["z2"], **s),
    "barlow_twins_cassle": lambda x, s: losses.barlow_twins(
        x["z1"], x["z2"], s["off_diagonal"], s["scale"], biased=True
    ),
    "moco_symmetric_step": moco,
    "swav_step": swav,
    "swav_step_with_queue": swav,
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_equal_the_official_ones(name, precision):
    with golden.precise(precision):
        inputs, settings, expected = golden.read(name, precision)
        check(lambda x: LOSSES[name](x, settings), inputs, expected, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_assignments_equal_the_official_ones(precision):
    with golden.precise(precision):
        inputs, settings, expected = golden.read("sinkhorn", precision)
        scores = inputs["scores"]
        found = losses.sinkhorn(scores, jnp.ones(len(scores), scores.dtype), **settings)
        np.testing.assert_allclose(found, expected["assignments"], **TOLERANCE[precision])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_queues_equal_the_official_ones(precision):
    """Checks the queues of MoCo and SwAV. MoCo has a ring there: the newest keys are in the place of the oldest."""
    with golden.precise(precision):
        inputs, settings, expected = golden.read("moco_symmetric_step", precision)
        keys = jax.vmap(jax.vmap(lambda k: k / jnp.linalg.norm(k)))(both(inputs, "momentum"))
        count = keys.shape[1]
        assert settings["pointer"] == settings["queue_size"] - count  # the oldest are the last here, too
        after = pushed(jnp.transpose(inputs["queue"], (2, 0, 1)), jnp.swapaxes(keys, 0, 1), None)
        ring = jnp.roll(after, -count, axis=0)
        check_summary(jnp.transpose(ring, (1, 2, 0)), expected["queue_after"], precision)

        inputs, _, expected = golden.read("swav_step", precision)
        z = jax.vmap(jax.vmap(lambda k: k / jnp.linalg.norm(k)))(both(inputs))
        after = pushed(jnp.swapaxes(inputs["queue"], 0, 1), jnp.swapaxes(z, 0, 1), None)
        check_summary(jnp.swapaxes(after, 0, 1), expected["queue_after"], precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["tau_byol", "tau_moco"])
def test_the_momentum_equals_the_official_one(name, precision):
    with golden.precise(precision):
        _, settings, expected = golden.read(name, precision)
        steps, at = jnp.int32(settings["steps"]), jnp.asarray(settings["at"], jnp.int32)
        found = jax.vmap(lambda step: momentum_at(step, steps, settings["base"], settings["final"]))(at)
        assert found.dtype == precision
        np.testing.assert_allclose(found, expected["tau"], rtol={"float32": 2e-7, "float64": 1e-12}[precision])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_first_targets_equal_the_official_ones(precision):
    """Checks that batch 0 leaves the target, which then moves by tau(0), tau(1), tau(2)."""
    with golden.precise(precision):
        inputs, settings, expected = golden.read("ema_first_batches", precision)
        changes = {"momentum": settings["base"], "final_momentum": settings["final"], "first_update": "late"}
        made = OBJECTIVES["byol"](small.ARCHITECTURE, small.AUGMENTATION, **(small.SETTINGS["byol"] | changes))
        target = Variables({"projector": inputs["target"]}, {})
        for step in range(4):
            online = {"projector": inputs[f"online_{step}"], "predictor": jnp.ones(2)}
            clock = Clock(*(jnp.int32(number) for number in (step, 0, step, settings["steps"], 1)))
            state = made.after_update(Variables(online, {"target": target}), clock)
            if step == 0:
                small.assert_trees_equal(state["target"], target)
            target = state["target"]
        np.testing.assert_allclose(target.params["projector"], expected["target"], **TOLERANCE[precision])
