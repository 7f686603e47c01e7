"""Layers with PyTorch's initialisation and running statistics, so that results compare with the official code's."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from ucl_jax import collectives
from ucl_jax.models.convolution import GPUS, convolve
from ucl_jax.types import Array


def _draw(distribution, key: Array, shape: tuple[int, ...], dtype) -> Array:
    """Returns `distribution(key, shape)`, but draws it flat, which XLA compiles in a fraction of the time.

    The numbers are the same.
    """
    return distribution(key, (math.prod(shape),), dtype).reshape(shape)


def conv_init(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Draws a kernel from a normal of variance 2 / fan_out, as torchvision does for a ResNet (`kaiming_normal_`)."""
    fan_out = math.prod(shape) // shape[-2]
    return (2 / fan_out) ** 0.5 * _draw(jax.random.normal, key, shape, dtype)


def dense_init(key: Array, shape: tuple[int, ...], dtype=jnp.float32, fan_in: int | None = None) -> Array:
    """Draws uniformly within +-1 / sqrt(fan_in), as `torch.nn.Linear` initialises weight and bias.

    `fan_in` is the first axis of `shape` unless it is given.
    """
    bound = (fan_in or shape[0]) ** -0.5
    return bound * (2 * _draw(jax.random.uniform, key, shape, dtype) - 1)


def at_least_float32(x: Array) -> Array:
    """Returns x as it is if it is float64, else in float32."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def unit(x: Array, epsilon: float = 1e-12) -> Array:
    """Returns the rows of x [..., D] at length 1, in at least float32. A row shorter than epsilon is divided by it."""
    x = at_least_float32(x)
    squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, epsilon**2))


class Conv(nn.Module):
    """A k x k convolution without bias, padded by k // 2 on every side as PyTorch pads it.

    Flax's padding "SAME" differs from this where the stride is not 1. `platform` is where the convolution will run; see
    `convolution.convolve`.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    dtype: Any = jnp.float32
    platform: str = "cpu"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Convolves [B, H, W, C]: [B, ceil(H / stride), ceil(W / stride), features]."""
        return nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            (self.stride, self.stride),
            padding=self.kernel // 2,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=conv_init,
            conv_general_dilated=lambda x, kernel, strides, *_, **__: convolve(x, kernel, strides[0], self.platform),
            name="conv",
        )(x)


class Dense(nn.Module):
    """An affine layer, initialised as `torch.nn.Linear` is."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., D] to [..., features]."""
        bias_init = partial(dense_init, fan_in=x.shape[-1])
        return nn.Dense(self.features, dtype=self.dtype, kernel_init=dense_init, bias_init=bias_init, name="dense")(x)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, and over the devices of `axis_name`.

    It differs from Flax's in two points. As in PyTorch, the running variance is updated with the unbiased variance of
    the batch. Its gradient is in closed form, for reverse mode only, and includes that of a residual and of a ReLU,
    because an accelerator spends the time of a norm on reading and writing maps.

    `momentum` is in the convention of Flax, where 0.9 is PyTorch's 0.1. Statistics and parameters are float32 whatever
    `dtype` is. `platform` is that of the devices, as in `jax.Device.platform`; the values do not depend on it. On any
    platform "cpu" serves for vectors, such as those of heads.
    """

    axis_name: str | None = None
    dtype: Any = jnp.float32
    platform: str = "cpu"
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, train: bool, residual: Array | None = None, relu: bool = False) -> Array:
        """Normalises [..., C]; the result has `dtype`.

        If `train`, it uses the statistics of the batch and updates the running ones with them; else it uses the running
        ones.

        Args:
          x: [..., C].
          train: whether the batch is normalised by its own statistics.
          residual: of the shape of `x` and of `dtype`, added to the normalised values.
          relu: whether a ReLU is applied to the sum.
        """
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        axis_name = None if self.is_initializing() else self.axis_name

        if not train:
            how = Normalisation(None, self.platform, self.epsilon, relu, self.dtype)
            return _apply_moments(x, residual, scale, bias, (running_mean.value, running_var.value), how)
        how = Normalisation(axis_name, self.platform, self.epsilon, relu, self.dtype)
        y, moments = normalise_batch(x, residual, scale, bias, how)
        if not self.is_initializing():
            count = x.size // x.shape[-1] * collectives.size(axis_name)
            mean, var = (x.astype(running_mean.value.dtype) for x in jax.lax.stop_gradient(moments))
            running_mean.value = _move(running_mean.value, mean, self.momentum)
            running_var.value = _move(running_var.value, var * (count / (count - 1)), self.momentum)
        return y


class GroupNormMish(nn.Module):
    """Group normalisation of each image (Wu & He 2018), and Mish (Misra 2019) where `BatchNorm` has a ReLU.

    The code of Osiris has these in its ResNet-18. There are min(32, C / 4) groups of channels. A norm that adds a
    residual starts with scale 0, so that a block starts as its shortcut. Images do not depend on the others in the
    batch, so that `train`, `axis_name` and `platform` make no difference. They are here to be called as `BatchNorm` is.
    """

    axis_name: str | None = None
    dtype: Any = jnp.float32
    platform: str = "cpu"

    @nn.compact
    def __call__(self, x: Array, train: bool, residual: Array | None = None, relu: bool = False) -> Array:
        """Normalises [B, H, W, C], where C is a multiple of 4, or of 32 from 128 on; the result has `dtype`.

        Args:
          x: [B, H, W, C].
          train: makes no difference.
          residual: of the shape of `x` and of `dtype`, added to the normalised values.
          relu: whether Mish is applied to the sum.
        """
        y = nn.GroupNorm(
            num_groups=min(32, x.shape[-1] // 4),
            epsilon=1e-5,
            dtype=jnp.float32,
            scale_init=nn.initializers.ones if residual is None else nn.initializers.zeros,
            name="group",
        )(x)
        if residual is not None:
            y += at_least_float32(residual)
        return (jax.nn.mish(y) if relu else y).astype(self.dtype)


@jax.custom_batching.custom_vmap
def _move(running, of_batch, momentum):
    """Moves running statistics towards those of a batch, and keeps their dtype."""
    return momentum * running + (1 - momentum) * of_batch.astype(running.dtype)


@_move.def_vmap
def _move_by_views(views, mapped, running, of_batch, momentum):
    """Maps `_move` over views that share their running statistics: each view moves these in turn."""
    if mapped[0]:
        return jax.vmap(_move.fun, [0 if one else None for one in mapped])(running, of_batch, momentum), True
    for view in range(views):
        running = _move.fun(running, of_batch[view], momentum)
    return running, False


class Normalisation(NamedTuple):
    """Says how `normalise_batch` normalises.

    Attributes:
      axis_name: the axis of the devices over which the moments are taken, or None.
      platform: of the devices, see `BatchNorm`.
      epsilon: is added to the variance.
      relu: whether a ReLU is applied.
      dtype: of the result.
    """

    axis_name: str | None
    platform: str
    epsilon: float
    relu: bool
    dtype: Any


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def normalise_batch(
    x: Array, residual: Array | None, scale: Array, bias: Array, how: Normalisation
) -> tuple[Array, tuple[Array, Array]]:
    """Normalises a batch by its own statistics, with the gradient in closed form (Ioffe & Szegedy 2015).

    The forward pass reads `x` twice, for the moments and for the result. The backward pass reads `x` and the gradient
    twice, for two sums and for the gradient of `x`. JAX's own gradient would read and write more maps, some of them in
    float32.

    Args:
      x: [..., C].
      residual: of the shape of `x` and of the dtype of the result, added to the normalised values, or None.
      scale: float32 [C].
      bias: float32 [C].
      how: see `Normalisation`.

    Returns:
      The result, of the shape of `x`, and the mean and the biased variance, float32 [C] each, over all devices. The
      moments have no gradient.
    """
    return _normalise_batch(x, residual, scale, bias, how)[0]


def _normalise_batch(x, residual, scale, bias, how):
    """Returns the result of `normalise_batch`, and what its gradient needs: its result only if there is a residual."""
    gpu = how.platform in GPUS
    own_mean, own_var = (_moments_on_gpu if gpu else _moments)(x)
    mean = collectives.mean(own_mean, how.axis_name)
    # The variance over all devices is the mean of theirs, plus the variance of their means.
    var = collectives.mean(own_var + jnp.square(own_mean - mean), how.axis_name)
    y = _apply_moments(x, residual, scale, bias, (mean, var), how)
    if gpu and how.relu:  # a block adds this result to one of its own, and XLA would compute it anew for that
        y = jax.lax.optimization_barrier(y)
    return (y, (mean, var)), (x, None if residual is None else y, scale, bias, mean, var)


def _normalise_batch_backward(how, saved, gradients):
    """Returns the gradients of x, residual, scale and bias; those of scale and bias are of this device's examples."""
    return (_gradients_on_gpu if how.platform in GPUS else _gradients)(how, saved, gradients[0])


normalise_batch.defvjp(_normalise_batch, _normalise_batch_backward)


SOME_EXAMPLES = 8  # whose mean is near enough to that of the batch


def _moments(x):
    """Returns the mean and the biased variance of [B, ..., C] over all axes but the last: float32 [C] each.

    Both come from one pass over the map. The mean of squares minus the square of the mean would lose its digits where
    values are far from 0: they are taken relative to the mean of some examples.
    """
    axes = tuple(range(x.ndim - 1))
    near = jnp.mean(at_least_float32(x[:SOME_EXAMPLES]), axes)
    centred = at_least_float32(x) - _along_last(near, x)
    first, second = jnp.mean(centred, axes), jnp.mean(jnp.square(centred), axes)
    return near + first, second - jnp.square(first)


def _gradients(how, saved, gradient):
    """Returns the gradients of `normalise_batch` on a CPU or a TPU."""
    x, y, scale, bias, mean, var = saved
    axes = tuple(range(x.ndim - 1))
    mean, inverse, scale, bias = (_along_last(v, x) for v in (mean, jax.lax.rsqrt(var + how.epsilon), scale, bias))
    normal = (at_least_float32(x) - mean) * inverse
    # Without a residual, the sign before the ReLU is computed anew from `x`, which is read anyway. It is rounded a
    # little differently here, which matters only next to 0.
    if how.relu:
        gradient = jnp.where(normal * scale + bias > 0 if y is None else y > 0, gradient, 0)
    wide = at_least_float32(gradient)
    # The barrier keeps XLA from merging the sum over several views into these sums, and reading the maps once more.
    of_bias, of_scale = jax.lax.optimization_barrier((jnp.sum(wide, axes), jnp.sum(wide * normal, axes)))
    count = float(x.size // x.shape[-1])  # it may be more than an int32 holds
    first, second = collectives.mean((of_bias / count, of_scale / count), how.axis_name)
    of_x = (wide - _along_last(first, x) - normal * _along_last(second, x)) * (inverse * scale)
    return of_x.astype(x.dtype), None if y is None else gradient.astype(y.dtype), of_scale, of_bias


# On a GPU, which spends its time on reading and writing maps, the passes over them are kept apart, and moments and sums
# are taken in two steps: over the examples, which is one pass over the maps, then over the places. XLA alone would take
# other steps, with more operations and some maps in float32. A CPU is slower with it, and a TPU lays out maps anew.


def _moments_on_gpu(x):
    """Returns what `_moments` does: of the examples at each place, then of the places."""
    mean, var = _join_moments(x, 0)
    return _join_moments(mean.reshape(-1, x.shape[-1]), var.reshape(-1, x.shape[-1]))


def _join_moments(means, variances):
    """Returns the mean and the variance along the first axis, from those of parts of the same size (Chan et al. 1983).

    Values are parts whose variance is 0. They are taken relative to the first of them, see `_moments`.
    """
    near = at_least_float32(means[:1])
    centred = at_least_float32(means) - near
    first, second = jnp.mean(centred, 0), jnp.mean(variances + jnp.square(centred), 0)
    return near[0] + first, second - jnp.square(first)


def _gradients_on_gpu(how, saved, gradient):
    """Returns what `_gradients` does, in two passes over the maps."""
    x, y, scale, bias, mean, var = saved
    x = jax.lax.optimization_barrier(x)
    if how.relu and y is not None:
        gradient = jnp.where(y > 0, gradient, 0)
    inverse = jax.lax.rsqrt(var + how.epsilon)
    mean, factor, bias = (_along_last(v, x) for v in (mean, inverse * scale, bias))

    def centre_and_mask(x, gradient):
        """Returns `x` minus the mean, and the gradient before the ReLU, each anew in either pass."""
        centred, wide = at_least_float32(x) - mean, at_least_float32(gradient)
        return centred, jnp.where(centred * factor > -bias, wide, 0) if how.relu and y is None else wide

    centred, wide = centre_and_mask(x, gradient)
    by_place = jnp.stack([jnp.sum(wide, 0), jnp.sum(wide * centred, 0)])
    sums = jnp.sum(by_place, tuple(range(1, x.ndim - 1)))
    sums, x, gradient = jax.lax.optimization_barrier((sums, x, gradient))
    count = float(x.size // x.shape[-1])  # it may be more than an int32 holds
    first, second = collectives.mean(sums, how.axis_name) / count
    centred, wide = centre_and_mask(x, gradient)
    of_x = (wide - _along_last(first, x) - centred * _along_last(second * jnp.square(inverse), x)) * factor
    return of_x.astype(x.dtype), None if y is None else gradient.astype(y.dtype), sums[1] * inverse, sums[0]


def _apply_moments(x, residual, scale, bias, moments, how):
    """Normalises by given moments, scales, adds bias and residual, and applies the ReLU."""
    mean, var = moments
    mean, factor, bias = (_along_last(v, x) for v in (mean, jax.lax.rsqrt(var + how.epsilon) * scale, bias))
    y = (at_least_float32(x) - mean) * factor + bias
    if residual is not None:
        y += at_least_float32(residual)
    return (jax.nn.relu(y) if how.relu else y).astype(how.dtype)


def _along_last(values, x):
    """Returns values [C] as an array [1, .., 1, C] of as many axes as `x`."""
    return jnp.expand_dims(values, tuple(range(x.ndim - 1)))
