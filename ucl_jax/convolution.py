"""Convolutions without bias, by the fastest way that each platform has.

On an accelerator they are its own kernels, and JAX's gradients. On CPU XLA takes most of a training step for gradients
of kernels, for it transposes both operands and computes them anew while it does; there they are matrix products of
patches: the same sums in another order.
"""

from functools import partial

import jax
import jax.numpy as jnp

from ucl_jax.types import Array

# Patches of so many bytes are made at once: what two cores keep in their caches beside the other operands. A layer
# with fewer patches in all is left to XLA, which is faster there.
PATCH_BYTES = 2**21


def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """k x k convolution, k odd, padded by k // 2 zeros on every side (Flax's SAME pads strided ones differently).

    On CPU it has a reverse-mode derivative only.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, F], of the same dtype.
      stride: of both axes.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), F].
    """
    products = jax.default_backend() == "cpu" and len(x) > examples_at_once(x, kernel, stride)
    return (_with_products if products else _convolution)(x, kernel, stride)


def examples_at_once(x: Array, kernel: Array, stride: int) -> int:
    """How many examples' patches PATCH_BYTES hold."""
    places = -(-x.shape[1] // stride) * -(-x.shape[2] // stride)
    return PATCH_BYTES // (places * kernel[..., 0].size * x.dtype.itemsize)


def _convolution(x, kernel, stride):
    padding = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _forward(x, kernel, stride):
    return _convolution(x, kernel, stride), (x, kernel)


def _backward(stride, saved, gradient):
    x, kernel = saved
    return (pointwise_gradients if kernel.shape[0] == 1 else patch_gradients)(x, kernel, gradient, stride)


_with_products = jax.custom_vjp(_convolution, nondiff_argnums=(2,))
_with_products.defvjp(_forward, _backward)


# Gradients of x [B, H, W, C] and kernel [k, k, C, F] from that of the result, in their dtypes.


def pointwise_gradients(x: Array, kernel: Array, gradient: Array, stride: int) -> tuple[Array, Array]:
    """Of a 1x1 kernel: one matrix product each."""
    of_kernel = _product(x[:, ::stride, ::stride], gradient)
    spread = jax.lax.dot_general(gradient, kernel[0, 0], (((3,), (1,)), ((), ())))
    gaps = [(0, n - (1 + (m - 1) * stride), stride - 1) for n, m in zip(x.shape[1:3], gradient.shape[1:3])]
    of_x = jax.lax.pad(spread, jnp.zeros((), spread.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])
    return of_x, of_kernel.reshape(kernel.shape).astype(kernel.dtype)


def patch_gradients(x: Array, kernel: Array, gradient: Array, stride: int) -> tuple[Array, Array]:
    """The kernel's is a sum of products, each of the patches of as many examples as divide B and PATCH_BYTES hold."""
    _, pull = jax.vjp(lambda x: _convolution(x, kernel, stride), x)
    batch, height, width, _ = gradient.shape
    most = max(1, examples_at_once(x, kernel, stride))
    count = next(n for n in range(most, 0, -1) if batch % n == 0)

    def add(place, total):
        part = partial(jax.lax.dynamic_slice_in_dim, start_index=place * count, slice_size=count)
        patches = _patches(part(x), kernel.shape[0], stride, height, width)
        return total + _product(patches, part(gradient))

    zeros = jnp.zeros((kernel[..., 0].size, kernel.shape[-1]), jnp.float32)
    of_kernel = jax.lax.fori_loop(0, batch // count, add, zeros)
    return *pull(gradient), of_kernel.reshape(kernel.shape).astype(kernel.dtype)


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
