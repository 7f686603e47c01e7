"""Layers with PyTorch's initialisation and running statistics, so that official numbers carry over."""

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
    """`distribution(key, shape)`, drawn flat: the same numbers, and XLA compiles it in a fraction of the time."""
    return distribution(key, (math.prod(shape),), dtype).reshape(shape)


def conv_init(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Normal of variance 2 / fan_out: `kaiming_normal_(mode="fan_out")`, as torchvision initialises a ResNet."""
    fan_out = math.prod(shape) // shape[-2]
    return (2 / fan_out) ** 0.5 * _draw(jax.random.normal, key, shape, dtype)


def dense_init(key: Array, shape: tuple[int, ...], dtype=jnp.float32, fan_in: int | None = None) -> Array:
    """Uniform in +-1 / sqrt(fan_in), as `torch.nn.Linear` initialises weight and bias."""
    bound = (fan_in or shape[0]) ** -0.5
    return bound * (2 * _draw(jax.random.uniform, key, shape, dtype) - 1)


class Conv(nn.Module):
    """k x k convolution without bias, padded by k // 2 on every side (Flax's SAME pads strided ones differently)."""

    features: int
    kernel: int = 3
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features]."""
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
    """Affine layer, `torch.nn.Linear`."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., D] -> [..., features]."""
        bias_init = partial(dense_init, fan_in=x.shape[-1])
        return nn.Dense(self.features, dtype=self.dtype, kernel_init=dense_init, bias_init=bias_init, name="dense")(x)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, over the global batch of `axis_name`.

    Differs from Flax's in one point, to be PyTorch's: the running variance takes the unbiased variance of the batch.
    `momentum` is in Flax's convention: 0.9 is PyTorch's 0.1. Statistics and parameters are float32 whatever `dtype`.
    """

    axis_name: str | None = None
    dtype: Any = jnp.float32
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """[..., C] -> [..., C] in `dtype`; `train` uses and updates the statistics of the batch."""
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        axis_name = None if self.is_initializing() else self.axis_name

        if train:
            wide = x.astype(jnp.float32)
            axes = tuple(range(x.ndim - 1))
            # Devices' moments are combined as Chan et al. 1983 do: squares of what is far from 0 would cancel.
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
