"""The train step, and the state before the first one. Gradients of training are taken here and nowhere else."""

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
    """Makes the state before the first step.

    Args:
      variables: the network.
      method: gives its own parameters and its memory.
      optimizer: gives its state.
      batch: only its shapes and dtypes are used; one example is enough.
      key: random key, for the parameters of the method.
    """
    own, memory = method.init(key, batch, variables)
    params = Parameters(variables.params, own)
    return TrainState(jnp.zeros((), jnp.int32), params, variables.state, optimizer.init(params), memory)


def make_train_step(
    objective: Objective, method: Method, optimizer: optax.GradientTransformation, axis_name: str | None = None
) -> TrainStep:
    """Makes the train step, a pure function (state, batch, key, span) -> (state, metrics).

    The key is that of the run. Everything random depends on it, on `state.step` and on places in the global batch.
    Parameters where `Objective.active` or `Method.active` give zeros are not changed at all.

    Args:
      objective: what is learned from one batch.
      method: how the past is kept.
      optimizer: makes updates from gradients.
      axis_name: the axis of devices over which the step is mapped; None for one device. Each device gets its share of
        the global batch, in order. State and metrics are the same on every device.
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
            "param_norm": optax.tree.norm(params),  # after the update, so that it tells whether the new state is finite
            **metrics,
        }
        return TrainState(state.step + 1, params, model_state, opt_state, memory), metrics

    return train_step


def _fold_in_each(key: Array, places: Array) -> Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, places)
