"""Makes the optimiser of a run: SGD or LARS, with a learning rate that is a function of the clock.

Every transformation here that depends on time takes the `Clock` as `clock`, an extra argument of optax's `update`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ucl_jax.types import Array, Clock

Rate = Callable[[Clock], Array | float]  # the learning rate of a step


def sgd(rate: Rate, momentum: float, weight_decay: float) -> optax.GradientTransformationExtraArgs:
    """Makes SGD as PyTorch has it: weight decay is added to gradients, and the rate multiplies the momentum."""
    return optax.chain(optax.add_decayed_weights(weight_decay), _descent(rate, momentum))


def lars(
    rate: Rate, momentum: float, weight_decay: float, *, eta: float, clip: bool, exclude_1d: bool
) -> optax.GradientTransformationExtraArgs:
    """Makes LARS (You et al. 2017) as CaSSLe's code has it (`cassle/utils/lars.py`): gradients are adapted, then SGD.

    A tensor p with gradient d becomes adapted, d := t (d + weight_decay p), with t = eta |p| / (|d| + weight_decay |p|
    + 1e-8). If rates are clipped, t = min(t / rate, 1). Then comes momentum, then the rate. A tensor is not adapted,
    and has no weight decay, if it is excluded or if |p| or |d| is 0.

    `optax.lars` differs: its ratio has the norm of the sum d + weight_decay p, it clips nothing, and its momentum comes
    after the rate, which matters where the rate changes.

    Args:
      rate: the learning rate.
      momentum: in [0, 1).
      weight_decay: at least 0.
      eta: the trust coefficient, above 0.
      clip: whether the learning rate is only the upper bound of a tensor's own rate.
      exclude_1d: whether tensors of one dimension (biases, scale and shift of norms) are excluded.
    """

    def update(updates, state, params, *, clock, **_):
        def adapt(gradient, param):
            if exclude_1d and param.ndim == 1:
                return gradient
            size, slope = optax.tree.norm(param), optax.tree.norm(gradient)
            trust = eta * size / (slope + weight_decay * size + 1e-8)
            trust = jnp.minimum(trust / rate(clock), 1.0) if clip else trust
            return jnp.where((size > 0.0) & (slope > 0.0), trust * (gradient + weight_decay * param), gradient)

        return jax.tree.map(adapt, updates, params), state

    adapted = optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
    return optax.chain(adapted, _descent(rate, momentum))


def _descent(rate: Rate, momentum: float) -> optax.GradientTransformationExtraArgs:
    """Makes momentum followed by a step against it, of the length that `rate` gives."""

    def update(updates, state, params=None, *, clock, **_):
        step = -rate(clock)
        return jax.tree.map(lambda u: step * u, updates), state

    return optax.chain(optax.trace(momentum), optax.GradientTransformationExtraArgs(optax.init_empty_state, update))


def restarted(optimizer: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """Makes an optimiser that starts each task with a fresh state, as in CaSSLe's code."""

    def update(updates, state, params, *, clock, **extra):
        begins = clock.task_step == 0
        state = jax.tree.map(lambda new, old: jnp.where(begins, new, old), optimizer.init(params), state)
        return optimizer.update(updates, state, params, clock=clock, **extra)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def constant(rate: float) -> Rate:
    """Makes the learning rate that is `rate` at every step."""
    return lambda clock: rate


def warmup_cosine(rate: float, warmup_epochs: int, start: float, minimum: float) -> Rate:
    """Makes the learning rate of CaSSLe's code, which is set once an epoch and starts anew in each task.

    Over the first W = `warmup_epochs` epochs it goes on a line from `start`, in epoch 0, to `rate`, in epoch W - 1.
    From epoch W on it follows half a cosine, from `rate` to `minimum`, which it would reach in the epoch after the
    last.

    Args:
      rate: the highest learning rate, above 0.
      warmup_epochs: at least 0; 0 has no warm-up. With 1, epoch 0 has the rate `start`.
      start: the learning rate of epoch 0.
      minimum: at least 0.
    """

    def at(clock: Clock) -> Array:
        epoch, epochs = ((n // clock.epoch_steps).astype(float) for n in (clock.task_step, clock.task_steps))
        rising = start + epoch * ((rate - start) / max(warmup_epochs - 1, 1))
        share = (epoch - warmup_epochs) / jnp.maximum(epochs - warmup_epochs, 1)
        falling = minimum + (rate - minimum) * (1.0 + jnp.cos(jnp.pi * share)) / 2.0
        return jnp.where(epoch < warmup_epochs, rising, falling)

    return at
