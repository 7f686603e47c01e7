"""SwAV: predict from one view to which prototypes the other was assigned (Caron et al. 2020)."""

from typing import Any

import jax
import jax.numpy as jnp

from ucl_jax import collectives
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import MLP
from ucl_jax.models.layers import dense_init, unit
from ucl_jax.objectives import losses
from ucl_jax.objectives.base import (
    Augmentation,
    Distillation,
    Objective,
    forward_views,
    make_embed,
    make_init,
    objective_of,
    two_view_aux,
)
from ucl_jax.objectives.queue import pushed
from ucl_jax.types import Array, Params, Variables


def swav(
    architecture: Architecture,
    augmentation: Augmentation,
    *,
    hidden_dim: int,
    output_dim: int,
    prototypes: int,
    temperature: float,
    epsilon: float,
    iterations: int,
    queue_size: int,
    queue_epoch: int,
    frozen_epochs: int,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
) -> Objective:
    """Makes SwAV with two views. The prototypes are parameters: directions and lengths (weight normalisation).

    The state of the network holds a queue of projections, float32 [queue_size, 2, output_dim], which is empty at the
    beginning of every task. Its projections are assigned together with the batch, so that a batch may be smaller than
    the number of prototypes.

    Args:
      architecture: puts the network together.
      augmentation: its `present` gives the two views.
      hidden_dim: width of the hidden layer of the projector; 2048 in CaSSLe's code.
      output_dim: width of the projections; 128 in CaSSLe's code.
      prototypes: how many; 3000 in CaSSLe's code.
      temperature: of the predictions, above 0; 0.1 in CaSSLe's code.
      epsilon: see `losses.sinkhorn`; 0.05 in CaSSLe's code.
      iterations: see `losses.sinkhorn`; 3 in CaSSLe's code.
      queue_size: the images whose projections are kept, one for each view; 3840 in CaSSLe's code.
      queue_epoch: the first epoch of a task, from 0, in which the queue is used once it is full; 50 in CaSSLe's code.
      frozen_epochs: the first epochs of a task, in which prototypes are not trained; 2 in CaSSLe's code.
      dtype: of the computation.
      axis_name: batch statistics and assignments are over the global batch of this axis; None for one device.
    """

    def heads():
        return {"projector": MLP(hidden_dim, output_dim, dtype, axis_name)}

    network = architecture.build(heads)
    embed, init_network = make_embed(network), make_init(network, augmentation)
    empty = lambda: jnp.zeros((queue_size, 2, output_dim))  # noqa: E731

    def init_prototypes(key):
        direction = dense_init(key, (prototypes, output_dim), fan_in=output_dim)
        return {"direction": direction, "length": jnp.linalg.norm(direction, axis=1, keepdims=True)}

    def init(key, images):
        params, state = init_network(key, images)
        own = init_prototypes(jax.random.fold_in(key, 1))
        return Variables(params | {"prototypes": own}, state | {"queue": empty()})

    def loss(variables, views, clock):
        outputs, state = forward_views(embed, variables, views)
        own, queue, z = variables.params["prototypes"], state["queue"], unit(outputs.projection)
        used = (clock.epoch >= queue_epoch) & jnp.any(queue[-1] != 0)
        value = swav_loss(own, z, queue, used, temperature, epsilon, iterations, axis_name)
        return value, two_view_aux(outputs, state | {"queue": pushed(queue, jnp.swapaxes(z, 0, 1), axis_name)})

    def active(tree, clock):
        trained = clock.epoch >= frozen_epochs
        own = jax.tree.map(lambda x: jnp.where(trained, x, jnp.zeros_like(x)), tree["prototypes"])
        return architecture.active(tree) | {"prototypes": own}

    def distil(own, predicted, frozen, target):
        def of_view(a, f):
            share = jax.nn.softmax(scores(frozen.params["prototypes"], f) / temperature)
            return losses.cross_entropy(scores(own, a) / temperature, share)

        return jnp.mean(jax.vmap(of_view)(predicted, target))

    return objective_of(network, architecture, augmentation, loss)._replace(
        init=init,
        active=active,
        distillation=Distillation(init_prototypes, distil),
        begin_task=lambda variables, clock: variables.state | {"queue": empty()},
    )


def scores(prototypes: Params, z: Array) -> Array:
    """Computes the products of unit vectors along z [B, D] with K prototypes: [B, K], up to a prototype's length."""
    return losses.matmul(unit(z), (prototypes["length"] * unit(prototypes["direction"])).T)


def swav_loss(
    prototypes: Params,
    z: Array,
    queue: Array,
    used: Array,
    temperature: float,
    epsilon: float,
    iterations: int,
    axis_name: str | None = None,
) -> Array:
    """Computes the swapped prediction of both views: cross-entropy with the assignments of the other one.

    Args:
      prototypes: "direction" [K, D] and "length" [K, 1].
      z: [2, B, D].
      queue: [Q, 2, D], which are assigned together with z, by the present prototypes.
      used: bool [], whether the queue counts.
      temperature: of the predictions.
      epsilon: see `losses.sinkhorn`.
      iterations: see `losses.sinkhorn`.
      axis_name: see `losses.sinkhorn`; the queue is the same on all its devices.

    Returns:
      Scalar, at least 0.
    """
    # Every device has the whole queue, so that each counts a part of it.
    share = jnp.where(used, 1.0 / collectives.size(axis_name), 0.0).astype(z.dtype)
    weight = jnp.concatenate([jnp.ones(z.shape[1], z.dtype), jnp.full(len(queue), share)])

    def assign(own, queued):
        together = jnp.concatenate([own, scores(prototypes, queued)])
        shares = losses.sinkhorn(together, weight, epsilon=epsilon, iterations=iterations, axis_name=axis_name)
        return shares[: len(own)]

    first, second = scores(prototypes, z[0]), scores(prototypes, z[1])
    one = losses.cross_entropy(second / temperature, assign(first, queue[:, 0]))
    other = losses.cross_entropy(first / temperature, assign(second, queue[:, 1]))
    return (one + other) / 2.0
