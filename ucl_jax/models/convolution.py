"""Convolutions without bias, by the fastest way that each platform has.

On an accelerator they are its own kernels, and JAX's gradients. On CPU large layers go other ways to the same value:

- 3x3 kernels of stride 1 by Winograd's minimal filtering F(2x2, 3x3), with 2.25 times fewer multiplications (Lavin and
  Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016);
- gradients of the others as matrix products of patches, for XLA transposes both operands of the gradient of a kernel,
  and computes them anew while it does;
- maps of up to 2 x 2, large or not, as one matrix product, where XLA takes ten times longer.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from ucl_jax.types import Array

# What is made at once of a batch, so that two cores keep it in their caches beside the other operands. A layer that has
# fewer patches in all is not large: XLA is faster there.
PATCH_BYTES = 2**21
TILES = 512  # of 2x2 places
LEAST_CHANNELS = 8  # in and out, of products that are worth the transforms around them


def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """k x k convolution, k odd, padded by k // 2 zeros on every side (Flax's SAME pads strided ones differently).

    On CPU large layers can be differentiated in reverse mode only.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, F], of the same dtype.
      stride: of both axes.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), F].
    """
    if jax.default_backend() != "cpu":
        return _convolution(x, kernel, stride)
    if max(x.shape[1:3]) <= 2 and kernel.shape[0] > 1:
        return _of_few_places(x, kernel, stride)
    if len(x) <= examples_at_once(x, kernel, stride):
        return _convolution(x, kernel, stride)
    return winograd(x, kernel) if _has_tiles(x, kernel, stride) else _with_products(x, kernel, stride)


def examples_at_once(x: Array, kernel: Array, stride: int) -> int:
    """How many examples' patches PATCH_BYTES hold."""
    places = -(-x.shape[1] // stride) * -(-x.shape[2] // stride)
    return PATCH_BYTES // (places * kernel[..., 0].size * x.dtype.itemsize)


def _convolution(x, kernel, stride):
    padding = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _parts(x: Array, most: int) -> Array:
    """[B, ...] -> [rounds, count, ...]: count is the largest divisor of B up to `most`, or `most` and zeros at the end.

    A small divisor does not do: the other operand of a product would be read too often.
    """
    count = next(n for n in range(max(1, most), 0, -1) if len(x) % n == 0)
    if 2 * count < most:
        count = min(most, len(x))
        x = jnp.pad(x, ((0, -len(x) % count), *[(0, 0)] * (x.ndim - 1)))
    return x.reshape(-1, count, *x.shape[1:])


def _of_few_places(x, kernel, stride):
    """Of maps of up to 2 x 2: one product with a matrix [H * W * C, places * F] of what the kernel meets from each."""
    (height, width), middle = x.shape[1:3], kernel.shape[0] // 2
    rows, columns = (
        [slice(middle - at, middle - at + size) for at in range(0, size, stride)] for size in (height, width)
    )
    matrix = jnp.stack([kernel[row, column] for row in rows for column in columns], axis=3)  # [H, W, C, places, F]
    product = x.reshape(len(x), -1) @ matrix.reshape(x[0].size, -1)
    return product.reshape(len(x), len(rows), len(columns), -1)


# Winograd: along an axis, the places y[0], y[1] of a tile of the result come from the input's x[0] .. x[3] and the
# kernel's k[0] .. k[2] by four multiplications. A transform takes and returns the arrays along an axis.


def _has_tiles(x: Array, kernel: Array, stride: int) -> bool:
    """Whether `winograd` can do it, and is worth it. bfloat16 would lose too much in the transforms."""
    whole = x.shape[1] % 2 == x.shape[2] % 2 == 0
    wide = min(kernel.shape[2:]) >= LEAST_CHANNELS
    return kernel.shape[0] == 3 and stride == 1 and whole and wide and x.dtype == jnp.float32


def _of_input(x: Sequence[Array]) -> list[Array]:
    return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]


def _of_kernel(k: Sequence[Array]) -> list[Array]:
    return [k[0], (k[0] + k[1] + k[2]) / 2, (k[0] - k[1] + k[2]) / 2, k[2]]


def _to_result(m: Sequence[Array]) -> list[Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _from_result(y: Sequence[Array]) -> list[Array]:
    """The transpose of `_to_result`."""
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _to_kernel(u: Sequence[Array]) -> list[Array]:
    """The transpose of `_of_kernel`."""
    return [u[0] + (u[1] + u[2]) / 2, (u[1] - u[2]) / 2, (u[1] + u[2]) / 2 + u[3]]


def _twice(transform: Callable, grid: Sequence[Sequence[Array]]) -> Sequence[Sequence[Array]]:
    """Along rows, then along columns."""
    for _ in range(2):
        grid = list(zip(*map(transform, grid)))
    return grid


def _each(function: Callable, *grids: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """A grid of what the function gives for the members of grids at the same place."""
    return [list(map(function, *rows)) for rows in zip(*grids)]


def _input_tiles(x: Array) -> Sequence[Sequence[Array]]:
    """[B, H, W, C] -> 4 x 4 of [tiles, C]: the places of overlapping 4x4 tiles, transformed."""
    height, width, channels = x.shape[1:]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = [[x[:, r : r + height : 2, c : c + width : 2] for c in range(4)] for r in range(4)]
    return _each(lambda x: x.reshape(-1, channels), _twice(_of_input, places))


def _tiled(x: Array) -> Array:
    """[B, H, W, C] -> [rounds, count, H, W, C] of TILES at once."""
    return _parts(x, TILES // (x.shape[1] // 2 * (x.shape[2] // 2)))


@jax.custom_vjp
def winograd(x: Array, kernel: Array) -> Array:
    """3 x 3 convolution of stride 1, padded by 1, in float32; H and W even.

    Args:
      x: [B, H, W, C].
      kernel: [3, 3, C, F].

    Returns:
      [B, H, W, F].
    """
    return _winograd(x, kernel)


@jax.custom_batching.custom_vmap
def _winograd(x, kernel):
    batch, height, width, _ = x.shape
    matrices = _twice(_of_kernel, kernel)

    def part(x):
        products = _each(jnp.matmul, _input_tiles(x), matrices)
        grid = _twice(_to_result, _each(lambda x: x.reshape(-1, height // 2, width // 2, x.shape[-1]), products))
        return jnp.stack([jnp.stack(row, axis=3) for row in grid], axis=2)  # [B, H / 2, 2, W / 2, 2, F]

    return jax.lax.map(part, _tiled(x)).reshape(-1, height, width, kernel.shape[-1])[:batch]


@_winograd.def_vmap
def _winograd_of_views(_, mapped, x, kernel):
    if mapped[1]:
        return jax.vmap(partial(_convolution, stride=1), [0 if one else None for one in mapped])(x, kernel), True
    return _winograd(x.reshape(-1, *x.shape[2:]), kernel).reshape(*x.shape[:-1], -1), True


@jax.custom_batching.sequential_vmap
def _winograd_kernel_gradient(x, gradient):
    channels, features = x.shape[-1], gradient.shape[-1]

    def add(total, part):
        x, gradient = part
        spread = _twice(_from_result, [[gradient[:, r::2, c::2] for c in range(2)] for r in range(2)])
        product = _each(lambda x, y: x.T @ y.reshape(-1, features), _input_tiles(x), spread)
        return _each(jnp.add, total, product), None

    zeros = [[jnp.zeros((channels, features))] * 4] * 4
    total, _ = jax.lax.scan(add, zeros, (_tiled(x), _tiled(gradient)))
    return jnp.stack([jnp.stack(row) for row in _twice(_to_kernel, total)])


def _winograd_backward(saved, gradient):
    x, kernel = saved
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    return _winograd(gradient, turned), _winograd_kernel_gradient(x, gradient)


winograd.defvjp(lambda x, kernel: (_winograd(x, kernel), (x, kernel)), _winograd_backward)


# Products of patches.


def _forward(x, kernel, stride):
    return _convolution(x, kernel, stride), (x, kernel)


def _backward(stride, saved, gradient):
    x, kernel = saved
    return (pointwise_gradients if kernel.shape[0] == 1 else patch_gradients)(x, kernel, gradient, stride)


_with_products = jax.custom_vjp(_convolution, nondiff_argnums=(2,))
_with_products.defvjp(_forward, _backward)


def pointwise_gradients(x: Array, kernel: Array, gradient: Array, stride: int) -> tuple[Array, Array]:
    """Gradients of the operands of a 1x1 convolution, one matrix product each.

    Args:
      x: [B, H, W, C].
      kernel: [1, 1, C, F].
      gradient: of the result, [B, ceil(H / stride), ceil(W / stride), F].
      stride: of both axes.

    Returns:
      That of x and that of the kernel, in their shapes and dtypes; sums are in float32.
    """
    of_kernel = _product(x[:, ::stride, ::stride], gradient)
    spread = jax.lax.dot_general(gradient, kernel[0, 0], (((3,), (1,)), ((), ())))
    gaps = [(0, n - (1 + (m - 1) * stride), stride - 1) for n, m in zip(x.shape[1:3], gradient.shape[1:3])]
    of_x = jax.lax.pad(spread, jnp.zeros((), spread.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])
    return of_x, of_kernel.reshape(kernel.shape).astype(kernel.dtype)


def patch_gradients(x: Array, kernel: Array, gradient: Array, stride: int) -> tuple[Array, Array]:
    """Gradients of the operands of a convolution, as `pointwise_gradients` but for a kernel [k, k, C, F].

    The kernel's is a sum of products, each of the patches of as many examples as PATCH_BYTES hold.
    """
    _, pull = jax.vjp(lambda x: _convolution(x, kernel, stride), x)
    _, height, width, _ = gradient.shape
    size, _, channels, features = kernel.shape
    most = examples_at_once(x, kernel, stride)

    def add(total, part):
        x, gradient = part
        return total + _product(_patches(x, size, stride, height, width), gradient), None

    @jax.custom_batching.sequential_vmap
    def of_kernel(x, gradient):
        zeros = jnp.zeros((size * size * channels, features), jnp.float32)
        return jax.lax.scan(add, zeros, (_parts(x, most), _parts(gradient, most)))[0]

    return *pull(gradient), of_kernel(x, gradient).reshape(kernel.shape).astype(kernel.dtype)


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
