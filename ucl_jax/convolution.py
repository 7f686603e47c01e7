"""Convolutions without bias, with gradients by the fastest way that each platform has.

On an accelerator they are its own kernels. On CPU XLA takes most of a training step for gradients of kernels, for it
transposes both operands and computes them anew while it does; there they are matrix products of patches: the same sums
in another order.
"""

from functools import partial

import jax
import jax.numpy as jnp

from ucl_jax.types import Array

# Patches of so many bytes are made at once: what two cores keep in their caches beside the other operands. A layer
# with fewer patches in all is left to XLA, which is faster there.
PATCH_BYTES = 2**21


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """k x k convolution, k odd, padded by k // 2 zeros on every side (Flax's SAME pads strided ones differently).

    It has a reverse-mode derivative only.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, F], of the same dtype.
      stride: of both axes.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), F].
    """
    return _convolution(x, kernel, stride)


def _forward(x, kernel, stride):
    return _convolution(x, kernel, stride), (x, kernel)


def _backward(stride, saved, gradient):
    x, kernel = saved
    fast = pointwise_gradients if kernel.shape[0] == 1 else patch_gradients
    return jax.lax.platform_dependent(
        x, kernel, gradient, cpu=partial(fast, stride=stride), default=partial(own_gradients, stride=stride)
    )


convolve.defvjp(_forward, _backward)


def _convolution(x, kernel, stride):
    padding = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


# Gradients of x [B, H, W, C] and kernel [k, k, C, F] from that of the result, in their dtypes.


def own_gradients(x: Array, kernel: Array, gradient: Array, stride: int) -> tuple[Array, Array]:
    """What JAX makes of the convolution itself."""
    return jax.vjp(lambda x, kernel: _convolution(x, kernel, stride), x, kernel)[1](gradient)


def pointwise_gradients(x: Array, kernel: Array, gradient: Array, stride: int) -> tuple[Array, Array]:
    """Of a 1x1 kernel: one matrix product each."""
    of_kernel = _product(x[:, ::stride, ::stride], gradient)
    spread = jax.lax.dot_general(gradient, kernel[0, 0], (((3,), (1,)), ((), ())))
    gaps = [(0, n - (1 + (m - 1) * stride), stride - 1) for n, m in zip(x.shape[1:3], gradient.shape[1:3])]
    of_x = jax.lax.pad(spread, jnp.zeros((), spread.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])
    return of_x, of_kernel.reshape(kernel.shape).astype(kernel.dtype)


def patch_gradients(x: Array, kernel: Array, gradient: Array, stride: int) -> tuple[Array, Array]:
    """The kernel's is a sum of matrix products, each of the patches of as many examples as PATCH_BYTES hold.

    The input's is, for stride 1, the convolution with the kernel turned round.
    """
    own = partial(own_gradients, x, kernel, gradient, stride)
    of_x = _convolution(gradient, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), 1) if stride == 1 else own()[0]
    batch, height, width, _ = gradient.shape
    fitting = PATCH_BYTES // (height * width * kernel[..., 0].size * x.dtype.itemsize)
    if batch <= fitting:
        return of_x, own()[1]
    count = next(n for n in range(max(1, fitting), 0, -1) if batch % n == 0)

    def add(place, total):
        part = partial(jax.lax.dynamic_slice_in_dim, start_index=place * count, slice_size=count)
        patches = _patches(part(x), kernel.shape[0], stride, height, width)
        return total + _product(patches, part(gradient))

    zeros = jnp.zeros((kernel[..., 0].size, kernel.shape[-1]), jnp.float32)
    of_kernel = jax.lax.fori_loop(0, batch // count, add, zeros)
    return of_x, of_kernel.reshape(kernel.shape).astype(kernel.dtype)


def _patches(x: Array, size: int, stride: int, height: int, width: int) -> Array:
    """[B, H, W, C] -> [B, height, width, size * size * C]: what the kernel meets at each place of the output."""
    padding = size // 2
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = (height - 1) * stride + 1, (width - 1) * stride + 1
    return jnp.concatenate(
        [x[:, r : r + rows : stride, c : c + columns : stride] for r in range(size) for c in range(size)], axis=-1
    )


def _product(patches: Array, gradient: Array) -> Array:
    """[B, H, W, P], [B, H, W, F] -> float32 [P, F], summed over all places."""
    places = (0, 1, 2)
    return jax.lax.dot_general(patches, gradient, ((places, places), ((), ())), preferred_element_type=jnp.float32)
