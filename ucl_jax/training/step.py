"""One training step: the one place that takes gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ucl_jax import collectives
from ucl_jax.methods.base import Method, Step
from ucl_jax.objectives.base import Objective
from ucl_jax.types import Array, Batch, Keys, Parameters, Span, TrainState, Variables, clock_at

TrainStep = Callable[[TrainState, Batch, Array, Span], tuple[TrainState, dict[str, Array]]]


def init_state(
    variables: Variables, method: Method, optimizer: optax.GradientTransformation, batch: Batch, key: Array
) -> TrainState:
    """Makes the state before the first step. `batch` gives shapes and dtypes; one example is enough."""
    own, memory = method.init(key, batch, variables)
    params = Parameters(variables.params, own)
    return TrainState(jnp.zeros((), jnp.int32), params, variables.state, optimizer.init(params), memory)


def make_train_step(
    objective: Objective, method: Method, optimizer: optax.GradientTransformation, axis_name: str | None = None
) -> TrainStep:
    """Makes the step, a pure function (state, batch, key, span) -> (state, metrics).

    Where `Objective.active` and `Method.active` put zeros nothing is trained: those parameters stay as they are to the
    bit. The key is the run's: everything random is a function of it, `state.step` and places in the global batch.
    Under `axis_name` the batch is the device's share, in order, and state and metrics are the same on every device.
    """

    def train_step(state, batch, key, span):
        clock = clock_at(state.step, span)
        count = batch.label.shape[0]
        place = collectives.places(count, axis_name)
        recall_key, observe_key, batch_key, *example_keys = jax.random.split(jax.random.fold_in(key, state.step), 6)
        keys = Keys(batch_key, *(_fold_in_each(k, place) for k in example_keys))
        recalled = method.recall(state.memory, recall_key, count * collectives.size(axis_name))
        mine = jax.tree.map(lambda x: x[place], recalled)

        def active(tree):
            return Parameters(objective.active(tree.network), method.active(tree.method, clock))

        (loss, aux), grads = jax.value_and_grad(method.loss, has_aux=True)(
            state.params, state.model_state, state.memory, batch, mine, keys, clock
        )
        grads, reference = active(grads), ()
        if method.reference is not None:
            reference = jax.grad(method.reference)(state.params, state.model_state, state.memory, mine, keys, clock)
            reference = active(reference)
        loss, metrics, grads, reference = collectives.mean((loss, aux.metrics, grads, reference), axis_name)
        projected = method.project(state.memory, grads, reference)
        updates, opt_state = optimizer.update(projected, state.opt_state, active(state.params))
        params = optax.apply_updates(state.params, active(updates))
        model_state = objective.after_update(Variables(params.network, aux.state), clock)

        everyone = collectives.gather((batch, aux.outputs), axis_name)
        done = Step(everyone[0], recalled, everyone[1], grads, before=state.params, after=params)
        memory = method.observe(state.memory, done, observe_key)
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(projected),
            "param_norm": optax.tree.norm(params),  # after the update: finite when the new state is
            **metrics,
        }
        return TrainState(state.step + 1, params, model_state, opt_state, memory), metrics

    return train_step


def _fold_in_each(key: Array, places: Array) -> Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, places)
