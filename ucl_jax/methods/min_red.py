"""MinRed: train on a buffer of images that are least redundant (Purushwalkam et al., ECCV 2022)."""

import jax
import jax.numpy as jnp

from ucl_jax.errors import argument_choice
from ucl_jax.methods.base import Method, Scenario, check_projections
from ucl_jax.methods.rehearsal import past_or_present, rehearsal, stand_in
from ucl_jax.models.layers import at_least_float32, unit
from ucl_jax.objectives import Objective
from ucl_jax.types import Params, Variables


def min_red(objective: Objective, scenario: Scenario, *, buffer_size: int, count: str, features: str) -> Method:
    """Makes MinRed, which learns the objective on a batch drawn from the buffer, in place of the present batch.

    The present batch enters the buffer after the step, and others leave by the policy `buffers.min_red`. With K updates
    on a batch it enters after the last of them, so that K batches are drawn from one entry to the next. Beside each
    stored image is its feature: a moving average of what the projector gives for it when it is trained on. Only the
    first step, when nothing is stored, learns from the present batch.

    It stores the buffer with a feature for each image. Compared with finetune, a step costs the cosines between all
    stored images, and as many passes over these cosines as the batch has images.

    Args:
      objective: what is learned; it must have projections.
      scenario: its number of tasks is for the buffer.
      buffer_size: slots, at least 1. Below twice the batch size the oldest always leave.
      count: see `rehearsal`.
      features: "visit", the released code: an image has a feature once it was trained on, which is the sum over views,
        scaled to length 1 after each visit. "arrival", the code of CLA: at first the projection of the image as it is,
        by batch statistics, which costs a forward pass more; later the mean over views is averaged in, without scaling.

    Raises:
      ValueError: the objective has no projections, or an argument has an unknown value.
    """
    check_projections(objective, "MinRed")
    at_once = argument_choice("features", features, {"visit": False, "arrival": True})

    def projection(embedding):
        return at_least_float32(embedding.projection)

    def of_present(network, batch, train):
        """Returns what is kept beside the images of a batch when they are stored, [B, D]."""
        view = objective.views(None, batch, "plain").image[0]
        new = jax.lax.stop_gradient(projection(objective.embed(network, view, train)[0]))
        return new if at_once else jnp.zeros_like(new)

    def refresh(kept, new):
        average = 0.5 * kept + 0.5 * new
        return average if at_once else jnp.where(jnp.any(kept != 0, axis=1, keepdims=True), unit(average), new)

    store = rehearsal(
        buffer_size,
        policy="min_red",
        tasks=scenario.tasks,
        count=count,
        keep=lambda batch, network: of_present(network, batch, False),
        refresh=refresh,
    )

    def loss(params, state, memory, batch, recalled, keys, clock):
        network = Variables(params.network, state)
        present = objective.views(keys.example, batch, "present")
        past = objective.views(keys.past, recalled.items.batch, "present")
        instead = stand_in(present, len(recalled.slot))
        value, aux = objective.loss(network, past_or_present(past, instead, store.has_past(memory)), clock)
        mean = jax.lax.stop_gradient(jnp.mean(projection(aux.outputs), axis=0))
        return value, aux._replace(outputs=(of_present(network, batch, True), mean if at_once else unit(mean)))

    def step_bytes(params: Params) -> int:
        return 8 * buffer_size**2  # two arrays of cosines

    return Method(
        init=store.init,
        loss=loss,
        recall=store.recall,
        observe=store.observe,
        end_task=store.end_task,
        stored=store.stored,
        samples=lambda present, past: past,
        step_bytes=step_bytes,
    )
