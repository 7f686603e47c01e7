"""Convolutions without bias, computed in the fastest way on each platform.

On an accelerator this is XLA's convolution, with JAX's gradients. On a GPU a 1x1 kernel is given only the places that
it meets. On a CPU the same values are computed in other ways:

- A large layer with a 3x3 kernel and stride 1 uses Winograd's minimal filtering F(2x2, 3x3), with 2.25 times fewer
  multiplications (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016).
- The gradients of other large layers are matrix products of patches. XLA's own gradient of a kernel is slow, because it
  transposes both operands and computes them again while it does so.
- A layer whose maps are at most 2 x 2, large or not, is one matrix product, which is ten times faster than XLA.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from ucl_jax.types import Array

GPUS = ("gpu", "cuda", "rocm")  # names of platforms

# A batch is computed in parts, so that the patches or tiles of a part stay in the caches of two cores beside the other
# operands. A layer is large if the patches of the batch take more than PATCH_BYTES; XLA is faster for others.
PATCH_BYTES = 2**21
TILES = 512  # the number of 2x2 tiles of the result in a part
LEAST_CHANNELS = 8  # with fewer channels in or out, Winograd's transforms cost more than its products save


def convolve(x: Array, kernel: Array, stride: int, platform: str) -> Array:
    """Convolves with a k x k kernel, padding by k // 2 zeros on every side.

    Flax's padding "SAME" differs from this where the stride is not 1. On a CPU, large layers can be differentiated in
    reverse mode only.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, F], k odd, of the same dtype.
      stride: the stride along both axes.
      platform: where it will run, as in `jax.Device.platform`: "cpu", or that of an accelerator.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), F].
    """
    if platform in GPUS:
        if kernel.shape[0] == 1:  # cuDNN would read all places, and write their gradient, which is mostly 0
            x, stride = x[:, ::stride, ::stride], 1
        return _convolution(x, _in_order(kernel), stride)
    if platform != "cpu":
        return _convolution(x, kernel, stride)
    if max(x.shape[1:3]) <= 2 and kernel.shape[0] > 1:
        return _small_map_convolution(x, kernel, stride)
    if len(x) <= examples_at_once(x, kernel, stride):
        return _convolution(x, kernel, stride)
    return winograd(x, kernel) if _has_tiles(x, kernel, stride) else _patch_convolution(x, kernel, stride)


def examples_at_once(x: Array, kernel: Array, stride: int) -> int:
    """Returns the number of examples whose patches fit into PATCH_BYTES; arguments as for `convolve`."""
    places = -(-x.shape[1] // stride) * -(-x.shape[2] // stride)
    return PATCH_BYTES // (places * kernel[..., 0].size * x.dtype.itemsize)


def _convolution(x, kernel, stride):
    """Convolves by XLA; arguments as for `convolve`."""
    padding = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def _in_order(kernel):
    """Returns the kernel, whose gradient will be laid out in memory as it is itself.

    cuDNN lays out the gradient in another order. XLA would bring the parameter and its momentum into that order before
    the update, and back after it.
    """
    return kernel


_in_order.defvjp(
    lambda kernel: (kernel, None),
    lambda _, gradient: (jax.lax.optimization_barrier(gradient.ravel()).reshape(gradient.shape),),
)


def _parts(x: Array, most: int) -> Array:
    """Cuts a batch [B, ...] into parts of at most `most` examples: [parts, count, ...].

    `count` is the largest divisor of B up to `most`. If that is less than half of `most`, the other operand of a
    product would be read too often. Then `count` is `most` (at most B), and the last part is filled up with zeros.
    """
    count = next(n for n in range(max(1, most), 0, -1) if len(x) % n == 0)
    if 2 * count < most:
        count = min(most, len(x))
        x = jnp.pad(x, ((0, -len(x) % count), *[(0, 0)] * (x.ndim - 1)))
    return x.reshape(-1, count, *x.shape[1:])


def _small_map_convolution(x, kernel, stride):
    """Convolves maps of at most 2 x 2 by one matrix product.

    The matrix [H * W * C, places * F] holds, for each place of the result, the part of the kernel that meets each place
    of the map.
    """
    (height, width), middle = x.shape[1:3], kernel.shape[0] // 2
    rows, columns = (
        [slice(middle - at, middle - at + size) for at in range(0, size, stride)] for size in (height, width)
    )
    matrix = jnp.stack([kernel[row, column] for row in rows for column in columns], axis=3)  # [H, W, C, places, F]
    product = x.reshape(len(x), -1) @ matrix.reshape(x[0].size, -1)
    return product.reshape(len(x), len(rows), len(columns), -1)


# Winograd's algorithm. Along one axis, the places y[0] and y[1] of a tile of the result are computed from the places
# x[0] .. x[3] of the input and k[0] .. k[2] of the kernel by four multiplications. Input and kernel are transformed
# before them, the products after them. A transform takes a list with one array for each place along the axis, and
# returns such a list. A grid is a list of such lists: one array for each place of a tile, by row and column.


def _has_tiles(x: Array, kernel: Array, stride: int) -> bool:
    """Tells whether `winograd` applies and is faster. The transforms would lose too many digits of bfloat16."""
    whole = x.shape[1] % 2 == x.shape[2] % 2 == 0
    wide = min(kernel.shape[2:]) >= LEAST_CHANNELS
    return kernel.shape[0] == 3 and stride == 1 and whole and wide and x.dtype == jnp.float32


def _transform_input(x: Sequence[Array]) -> list[Array]:
    """Transforms 4 places of the input to the 4 left factors."""
    return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]


def _transform_kernel(k: Sequence[Array]) -> list[Array]:
    """Transforms 3 places of the kernel to the 4 right factors."""
    return [k[0], (k[0] + k[1] + k[2]) / 2, (k[0] - k[1] + k[2]) / 2, k[2]]


def _transform_products(m: Sequence[Array]) -> list[Array]:
    """Transforms the 4 products to 2 places of the result."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _transpose_products(y: Sequence[Array]) -> list[Array]:
    """Applies the transpose of `_transform_products`, for gradients: 2 places to 4."""
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _transpose_kernel(u: Sequence[Array]) -> list[Array]:
    """Applies the transpose of `_transform_kernel`, for gradients: 4 places to 3."""
    return [u[0] + (u[1] + u[2]) / 2, (u[1] - u[2]) / 2, (u[1] + u[2]) / 2 + u[3]]


def _along_both_axes(transform: Callable, grid: Sequence[Sequence[Array]]) -> Sequence[Sequence[Array]]:
    """Applies a transform to a grid along both axes."""
    for _ in range(2):
        grid = list(zip(*map(transform, grid)))
    return grid


def _map_grids(function: Callable, *grids: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """Applies a function to the members of grids that are at the same place; returns the grid of the results."""
    return [list(map(function, *rows)) for rows in zip(*grids)]


def _input_tiles(x: Array) -> Sequence[Sequence[Array]]:
    """Cuts [B, H, W, C] into overlapping 4x4 tiles and transforms them: a grid of 4 x 4 arrays [tiles, C]."""
    height, width, channels = x.shape[1:]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = [[x[:, r : r + height : 2, c : c + width : 2] for c in range(4)] for r in range(4)]
    return _map_grids(lambda x: x.reshape(-1, channels), _along_both_axes(_transform_input, places))


def _parts_by_tiles(x: Array) -> Array:
    """Cuts a batch [B, H, W, C] into parts of at most TILES tiles: [parts, count, H, W, C]."""
    return _parts(x, TILES // (x.shape[1] // 2 * (x.shape[2] // 2)))


@jax.custom_vjp
def winograd(x: Array, kernel: Array) -> Array:
    """Convolves with a 3 x 3 kernel and stride 1, padding by 1, by Winograd's algorithm.

    Args:
      x: float32 [B, H, W, C], H and W even.
      kernel: float32 [3, 3, C, F].

    Returns:
      float32 [B, H, W, F].
    """
    return _winograd(x, kernel)


@jax.custom_batching.custom_vmap
def _winograd(x, kernel):
    """Computes `winograd`, without its gradients."""
    batch, height, width, _ = x.shape
    matrices = _along_both_axes(_transform_kernel, kernel)

    def part(x):
        products = _map_grids(jnp.matmul, _input_tiles(x), matrices)
        products = _map_grids(lambda x: x.reshape(-1, height // 2, width // 2, x.shape[-1]), products)
        grid = _along_both_axes(_transform_products, products)
        return jnp.stack([jnp.stack(row, axis=3) for row in grid], axis=2)  # [B, H / 2, 2, W / 2, 2, F]

    return jax.lax.map(part, _parts_by_tiles(x)).reshape(-1, height, width, kernel.shape[-1])[:batch]


@_winograd.def_vmap
def _winograd_of_views(_, mapped, x, kernel):
    """Maps `_winograd` over views: one batch of all of them if they share a kernel, else XLA's convolution."""
    if mapped[1]:
        return jax.vmap(partial(_convolution, stride=1), [0 if one else None for one in mapped])(x, kernel), True
    return _winograd(x.reshape(-1, *x.shape[2:]), kernel).reshape(*x.shape[:-1], -1), True


@jax.custom_batching.sequential_vmap
def _winograd_kernel_gradient(x, gradient):
    """Returns the gradient of the kernel [3, 3, C, F], for the gradient [B, H, W, F] of the result."""
    channels, features = x.shape[-1], gradient.shape[-1]

    def add(total, part):
        x, gradient = part
        spread = _along_both_axes(_transpose_products, [[gradient[:, r::2, c::2] for c in range(2)] for r in range(2)])
        product = _map_grids(lambda x, y: x.T @ y.reshape(-1, features), _input_tiles(x), spread)
        return _map_grids(jnp.add, total, product), None

    zeros = [[jnp.zeros((channels, features))] * 4] * 4
    total, _ = jax.lax.scan(add, zeros, (_parts_by_tiles(x), _parts_by_tiles(gradient)))
    return jnp.stack([jnp.stack(row) for row in _along_both_axes(_transpose_kernel, total)])


def _winograd_backward(saved, gradient):
    """Returns the gradients of input and kernel; that of the input is a convolution with the kernel turned round."""
    x, kernel = saved
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    return _winograd(gradient, turned), _winograd_kernel_gradient(x, gradient)


winograd.defvjp(lambda x, kernel: (_winograd(x, kernel), (x, kernel)), _winograd_backward)


# Convolutions of XLA whose gradients are matrix products of patches.


def _forward(x, kernel, stride):
    """Returns the result, and what `_backward` needs."""
    return _convolution(x, kernel, stride), (x, kernel)


def _backward(stride, saved, gradient):
    """Returns the gradients of input and kernel."""
    x, kernel = saved
    return (pointwise_gradients if kernel.shape[0] == 1 else patch_gradients)(x, kernel, gradient, stride)


_patch_convolution = jax.custom_vjp(_convolution, nondiff_argnums=(2,))
_patch_convolution.defvjp(_forward, _backward)


def pointwise_gradients(x: Array, kernel: Array, gradient: Array, stride: int) -> tuple[Array, Array]:
    """Returns the gradients of input and kernel of a 1x1 convolution, by one matrix product each.

    Args:
      x: the input, [B, H, W, C].
      kernel: [1, 1, C, F].
      gradient: the gradient of the result, [B, ceil(H / stride), ceil(W / stride), F].
      stride: the stride along both axes.

    Returns:
      The gradients of `x` and of `kernel`, in their shapes and dtypes. That of the kernel is summed in float32.
    """
    of_kernel = _sum_of_products(x[:, ::stride, ::stride], gradient)
    spread = jax.lax.dot_general(gradient, kernel[0, 0], (((3,), (1,)), ((), ())))
    gaps = [(0, n - (1 + (m - 1) * stride), stride - 1) for n, m in zip(x.shape[1:3], gradient.shape[1:3])]
    of_x = jax.lax.pad(spread, jnp.zeros((), spread.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])
    return of_x, of_kernel.reshape(kernel.shape).astype(kernel.dtype)


def patch_gradients(x: Array, kernel: Array, gradient: Array, stride: int) -> tuple[Array, Array]:
    """Returns the gradients of input and kernel of a k x k convolution; arguments as for `pointwise_gradients`.

    The gradient of the kernel is summed over parts of the batch, whose patches fit into PATCH_BYTES.
    """
    _, pull = jax.vjp(lambda x: _convolution(x, kernel, stride), x)
    _, height, width, _ = gradient.shape
    size, _, channels, features = kernel.shape
    most = examples_at_once(x, kernel, stride)

    def add(total, part):
        x, gradient = part
        return total + _sum_of_products(_patches(x, size, stride, height, width), gradient), None

    @jax.custom_batching.sequential_vmap
    def of_kernel(x, gradient):
        zeros = jnp.zeros((size * size * channels, features), jnp.float32)
        return jax.lax.scan(add, zeros, (_parts(x, most), _parts(gradient, most)))[0]

    return *pull(gradient), of_kernel(x, gradient).reshape(kernel.shape).astype(kernel.dtype)


def _patches(x: Array, size: int, stride: int, height: int, width: int) -> Array:
    """Returns what the kernel meets at each place of the result.

    Args:
      x: [B, H, W, C].
      size: k of the k x k kernel.
      stride: the stride along both axes.
      height: rows of the result.
      width: columns of the result.

    Returns:
      [B, height, width, k * k * C].
    """
    padding = size // 2
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = (height - 1) * stride + 1, (width - 1) * stride + 1
    return jnp.concatenate(
        [x[:, r : r + rows : stride, c : c + columns : stride] for r in range(size) for c in range(size)], axis=-1
    )


def _sum_of_products(patches: Array, gradient: Array) -> Array:
    """Multiplies [B, H, W, P] and [B, H, W, F], and sums over examples and places: float32 [P, F]."""
    places = (0, 1, 2)
    return jax.lax.dot_general(patches, gradient, ((places, places), ((), ())), preferred_element_type=jnp.float32)
