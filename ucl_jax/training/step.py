"""Makes the train step, and the state before the first one.

Here alone gradients are taken that change the parameters of the network and of the method.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ucl_jax import collectives
from ucl_jax.methods.base import Method, Step
from ucl_jax.objectives.base import Objective
from ucl_jax.types import (
    Array,
    Batch,
    Examples,
    Keys,
    Probed,
    PyTree,
    Selection,
    Span,
    TrainedParams,
    TrainState,
    Variables,
    clock_at,
)

Metrics = dict[str, Array]
TrainStep = Callable[[TrainState, Batch | Probed, Array, Span], tuple[TrainState, Metrics]]
TrainSteps = Callable[[TrainState, Examples, Selection | Probed, Array, Span], tuple[TrainState, Metrics]]


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
    params = TrainedParams(variables.params, own)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=variables.state,
        opt_state=optimizer.init(params),
        memory=memory,
    )


def make_train_step(
    objective: Objective,
    method: Method,
    optimizer: optax.GradientTransformation,
    axis_name: str | None = None,
    *,
    updates_per_batch: int = 1,
    replay_per_batch: int = 0,
) -> TrainStep:
    """Makes the train step, a pure function (state, batch, key, span) -> (state, metrics).

    The key is that of the run. Everything random depends on it, on `state.step` and on places in the global batch.
    Parameters where `Objective.active` or `Method.active` give zeros are not changed at all.

    Args:
      objective: what is learned from one batch.
      method: how the past is kept.
      optimizer: makes updates from gradients. It is given the clock if it takes extra arguments.
      axis_name: the axis of devices over which the step is mapped; None for one device. Each device gets its share of
        the global batch, in order. State and metrics are the same on every device.
      updates_per_batch: the steps that are made on each batch, one after the other.
      replay_per_batch: the number of stored examples that a step recalls, a multiple of the number of devices; 0 is as
        many as the global batch has.
    """

    optimizer = optax.with_extra_args_support(optimizer)

    def train_step(state, batch, key, span):
        clock = clock_at(state.step, span)
        count, devices = batch.label.shape[0], collectives.size(axis_name)
        recalls = replay_per_batch // devices or count
        place, past_place = (collectives.places(n, axis_name) for n in (count, recalls))
        recall_key, observe_key, batch_key, present_key, past_key, method_key = jax.random.split(
            jax.random.fold_in(key, state.step), 6
        )
        keys = Keys(
            batch=batch_key,
            example=fold_in_each(present_key, place),
            past=fold_in_each(past_key, past_place),
            method=fold_in_each(method_key, past_place),
        )
        recalled = method.recall(state.memory, recall_key, recalls * devices)
        own_recalled = jax.tree.map(lambda x: x[past_place], recalled)

        def active(tree):
            return TrainedParams(objective.active(tree.network, clock), method.active(tree.method, clock))

        (loss, aux), grads = jax.value_and_grad(method.loss, has_aux=True)(
            state.params, state.model_state, state.memory, batch, own_recalled, keys, clock
        )
        grads, reference = active(grads), ()
        if method.reference is not None:
            reference = jax.grad(method.reference)(
                state.params, state.model_state, state.memory, own_recalled, keys, clock
            )
            reference = active(reference)
        loss, metrics, grads, reference = collectives.mean((loss, aux.metrics, grads, reference), axis_name)
        projected = method.project(state.memory, grads, reference)
        # Weight decay must not change what is not trained: it adds zeros where parameters are zeros. LARS, too, leaves
        # alone what has norm 0.
        updates, opt_state = optimizer.update(projected, state.opt_state, active(state.params), clock=clock)
        params = optax.apply_updates(state.params, active(updates))
        model_state = objective.after_update(Variables(params.network, aux.state), clock)

        global_batch, global_outputs = collectives.gather((batch, aux.outputs), axis_name)
        step = Step(
            batch=global_batch,
            recalled=recalled,
            last=(clock.task_step + 1) % updates_per_batch == 0,
            outputs=global_outputs,
            grads=grads,
            before=state.params,
            after=params,
        )
        memory = method.observe(state.memory, step, observe_key)
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(projected),
            "param_norm": optax.tree.norm(params),  # after the update, so that it tells whether the new state is finite
            **metrics,
        }
        after = state.replace(
            step=state.step + 1, params=params, model_state=model_state, opt_state=opt_state, memory=memory
        )
        return after, metrics

    return train_step


def select(examples: Examples, selection: PyTree) -> PyTree:
    """Returns a tree like `selection`, whose leaves are Selections, with the Batch that each of them selects.

    Images are uint8 [N, S, S, 3], or flat [N, S * S * 3].
    """

    def take(one: Selection) -> Batch:
        image = examples.image[one.index]
        if examples.image.ndim == 2:
            side = math.isqrt(image.shape[-1] // 3)
            image = image.reshape(*image.shape[:-1], side, side, 3)
        return Batch(image, examples.label[one.index], one.first)

    return jax.tree.map(take, selection, is_leaf=lambda x: isinstance(x, Selection))


def selecting(train_steps: TrainStep) -> TrainSteps:
    """Makes steps take their batches from examples that are on the device.

    Args:
      train_steps: what `consecutive` makes.

    Returns:
      state, examples with flat images [N, S * S * 3], selection [B, K], key, span -> the state after K steps, and their
      metrics, leaves [K].
    """

    def selected_steps(state, examples, selection, key, span):
        return train_steps(state, select(examples, selection), key, span)

    return selected_steps


def consecutive(train_step: TrainStep, unroll: bool) -> TrainStep:
    """Makes several steps of one.

    Args:
      train_step: what `make_train_step` makes.
      unroll: whether the program has a copy of every step, and not a loop. Compiling takes longer. On CPU,
        convolutions in loops are 40 times slower, and are rounded differently.

    Returns:
      state, batch with leaves [B, K, ...], those of K batches, key, span -> the state after K steps, and their metrics,
      leaves [K].
    """

    def train_steps(state, batch, key, span):
        def one(state, batch):
            # The barriers keep the compiler from joining parts of several steps, which would round differently.
            state, batch = jax.lax.optimization_barrier((state, batch))
            return jax.lax.optimization_barrier(train_step(state, batch, key, span))

        if jax.tree.leaves(batch)[0].shape[1] == 1:
            state, metrics = train_step(state, jax.tree.map(lambda x: x[:, 0], batch), key, span)
            return state, jax.tree.map(lambda x: x[None], metrics)
        return jax.lax.scan(one, state, jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), batch), unroll=unroll)

    return train_steps


def fold_in_each(key: Array, places: Array) -> Array:
    """Returns a key for each of `places` (int32 [B]): key [B]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, places)
