"""Layers with PyTorch's initialisation and running statistics, so that results compare with the official code's."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ucl_jax import collectives
from ucl_jax.models.convolution import convolve
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


class Conv(nn.Module):
    """A k x k convolution without bias, padded by k // 2 on every side as PyTorch pads it.

    Flax's padding "SAME" differs from this where the stride is not 1.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    dtype: Any = jnp.float32

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
            conv_general_dilated=lambda x, kernel, strides, *_, **__: convolve(x, kernel, strides[0]),
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

    It differs from Flax's in one point, in which it follows PyTorch: the running variance is updated with the unbiased
    variance of the batch. `momentum` is in the convention of Flax, where 0.9 is PyTorch's 0.1. Statistics and
    parameters are float32 whatever `dtype` is.
    """

    axis_name: str | None = None
    dtype: Any = jnp.float32
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Normalises [..., C], in `dtype`.

        If `train`, it uses the statistics of the batch and updates the running ones with them; else it uses the running
        ones.
        """
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        axis_name = None if self.is_initializing() else self.axis_name

        if train:
            wide = x.astype(jnp.float32)
            axes = tuple(range(x.ndim - 1))
            # The moments of the devices are combined as by Chan et al. 1983. The mean of squares minus the square of
            # the mean would lose its digits where values are far from 0.
            means, variances = collectives.stack((jnp.mean(wide, axes), jnp.var(wide, axes)), axis_name)
            mean = jnp.mean(means, axis=0)
            var = jnp.mean(variances + jnp.square(means - mean[None]), axis=0)
            if not self.is_initializing():
                count = x.size // x.shape[-1] * collectives.size(axis_name)
                running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
                unbiased = var * (count / (count - 1))
                running_var.value = self.momentum * running_var.value + (1 - self.momentum) * unbiased
        else:
            mean, var = running_mean.value, running_var.value

        inverse = jax.lax.rsqrt(var + self.epsilon) * scale
        mean, inverse, bias = (jnp.expand_dims(v, tuple(range(x.ndim - 1))) for v in (mean, inverse, bias))
        return ((x.astype(jnp.float32) - mean) * inverse + bias).astype(self.dtype)
