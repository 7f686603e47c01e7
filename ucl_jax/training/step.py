"""One training step: the one place that takes gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ucl_jax import collectives
from ucl_jax.methods.base import Method, Step
from ucl_jax.types import Array, Batch, Keys, PyTree, TrainState


def init_state(
    params: PyTree, model_state: PyTree, method: Method, optimizer: optax.GradientTransformation, batch: Batch
) -> TrainState:
    """The state before the first step. `batch` gives shapes and dtypes; one example is enough."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        opt_state=optimizer.init(params),
        memory=method.init(batch, params, model_state),
    )


def make_train_step(
    method: Method,
    optimizer: optax.GradientTransformation,
    axis_name: str | None = None,
    active: Callable[[PyTree], PyTree] = lambda tree: tree,
) -> Callable[[TrainState, Batch, Array], tuple[TrainState, dict[str, Array]]]:
    """The step as a pure function (state, batch, key) -> (state, metrics).

    `active` (`Objective.active`) puts zeros where nothing is trained: those parameters stay as they are to the bit.
    The key is the run's: everything random is a function of it, `state.step` and places in the global batch. Under
    `axis_name` the batch is the device's share, in order, and state and metrics are the same on every device.
    """

    def train_step(state, batch, key):
        count = batch.label.shape[0]
        place = collectives.places(count, axis_name)
        recall_key, observe_key, batch_key, *example_keys = jax.random.split(jax.random.fold_in(key, state.step), 6)
        keys = Keys(batch_key, *(_fold_in_each(k, place) for k in example_keys))
        past = method.recall(state.memory, recall_key, count * collectives.size(axis_name))
        past = jax.tree.map(lambda x: x[place], past)

        (loss, aux), grads = jax.value_and_grad(method.loss, has_aux=True)(
            state.params, state.model_state, state.memory, batch, past, keys
        )
        grads, reference = active(grads), ()
        if method.reference is not None:
            reference = jax.grad(method.reference)(state.params, state.model_state, state.memory, past, keys)
            reference = active(reference)
        loss, metrics, grads, reference = collectives.mean((loss, aux.metrics, grads, reference), axis_name)
        projected = method.project(state.memory, grads, reference)
        updates, opt_state = optimizer.update(projected, state.opt_state, active(state.params))
        params = optax.apply_updates(state.params, active(updates))

        everything = Step(*collectives.gather((batch, aux.extras), axis_name), grads, state.params, params)
        memory = method.observe(state.memory, everything, observe_key)
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(projected),
            "param_norm": optax.tree.norm(params),  # after the update: finite when the new state is
            **metrics,
        }
        return TrainState(state.step + 1, params, aux.model_state, opt_state, memory), metrics

    return train_step


def _fold_in_each(key: Array, places: Array) -> Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, places)
