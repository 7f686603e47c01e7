"""The online linear probe of CaSSLe's code: a linear layer that learns all classes while the network is trained.

Every step shows it as many labelled images as a batch has, drawn from all tasks. It has an optimiser state of its own,
is never reset, and no gradient of it reaches the network.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ucl_jax import augment, collectives
from ucl_jax.models.layers import dense_init
from ucl_jax.objectives import Augmentation, Objective
from ucl_jax.objectives.losses import cross_entropy
from ucl_jax.training.step import TrainStep, fold_in_each
from ucl_jax.types import Array, ModelState, OptState, Params, Variables, clock_at

KEY = 6  # the train step has the keys 0 to 5 of a step


class OnlineLinear(NamedTuple):
    """Holds the online linear probe, a part of the train state.

    Attributes:
      params: {"kernel": float32 [F, C], "bias": float32 [C]}, of features to classes.
      opt_state: of its optimiser.
    """

    params: Params
    opt_state: OptState


def init(key: Array, features: int, classes: int, optimizer: optax.GradientTransformationExtraArgs) -> OnlineLinear:
    """Makes the probe before the first step, initialised as `torch.nn.Linear` is.

    Args:
      key: random key.
      features: the number F of features.
      classes: the number C of classes.
      optimizer: gives its state.
    """
    kernel_key, bias_key = jax.random.split(key)
    kernel = dense_init(kernel_key, (features, classes))
    params = {"kernel": kernel, "bias": dense_init(bias_key, (classes,), fan_in=features)}
    return OnlineLinear(params, optimizer.init(params))


def logits(params: Params, features: Array) -> Array:
    """Computes the logits [B, C] of features [B, F]."""
    return features @ params["kernel"] + params["bias"][None]


def with_online_linear(
    train_step: TrainStep,
    objective: Objective,
    augmentation: Augmentation,
    classes: np.ndarray,
    optimizer: optax.GradientTransformationExtraArgs,
    *,
    in_training_mode: bool,
    axis_name: str | None,
) -> TrainStep:
    """Makes a train step train an online linear probe, too.

    The probe is shown features of the network with the parameters from before the update, as in CaSSLe's code. It
    learns their classes by cross-entropy.

    Args:
      train_step: what `make_train_step` makes.
      objective: embeds images.
      augmentation: its `present` shows the labelled images, as second views.
      classes: int [C], the labels of all tasks, in the order of the probe's outputs.
      optimizer: of the probe; its `update` takes the clock.
      in_training_mode: whether labelled images are shown to the network in training mode, and so change the running
        statistics of the backbone, as in CaSSLe's code. If not, they change nothing but the probe, and all else is
        equal to the bit to what `train_step` makes.
      axis_name: the axis of devices over which the step is mapped; None for one device.

    Returns:
      A train step that takes a `Probed` of two batches; `TrainState.online` is an `OnlineLinear`.
    """

    def probe_step(state, network, labelled, key, span):
        """Returns the probe and the network's state after a step, and the loss; `state` is that before the step."""
        place = collectives.places(labelled.label.shape[0], axis_name)
        keys = fold_in_each(jax.random.fold_in(jax.random.fold_in(key, state.step), KEY), place)
        shown = augment.apply(augmentation.present, keys, labelled.image, 1)
        outputs, updated = objective.embed(network, shown, in_training_mode)
        features, target = outputs.features.astype(jnp.float32), labelled.label[:, None] == classes[None]
        params, opt_state = state.online

        def loss(params):
            return cross_entropy(logits(params, features), target.astype(jnp.float32))

        value, grads = collectives.mean(jax.value_and_grad(loss)(params), axis_name)
        updates, opt_state = optimizer.update(grads, opt_state, params, clock=clock_at(state.step, span))
        online = OnlineLinear(optax.apply_updates(params, updates), opt_state)
        return online, _only_backbone(updated, network.state), value

    def train_step_and_probe(state, batch, key, span):
        # The barriers keep the compiler from joining parts of both, which would round differently.
        state, batch = jax.lax.optimization_barrier((state, batch))
        after, metrics = jax.lax.optimization_barrier(train_step(state, batch.present, key, span))
        network = Variables(state.params.network, after.model_state)
        online, model_state, loss = probe_step(state, network, batch.labelled, key, span)
        return after.replace(online=online, model_state=model_state), metrics | {"online_linear/loss": loss}

    return train_step_and_probe


def _only_backbone(after: ModelState, before: ModelState) -> ModelState:
    """Returns the state with the running statistics of the backbone from `after`, and all else from `before`."""

    def choose(path, new, old):
        return new if any(getattr(key, "key", None) == "backbone" for key in path) else old

    statistics = jax.tree_util.tree_map_with_path(choose, after["batch_stats"], before["batch_stats"])
    return before | {"batch_stats": statistics}
