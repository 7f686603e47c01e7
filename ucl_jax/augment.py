"""Makes random views of images on the device.

Every op takes one image [H, W, 3] and returns one of the same dtype. `apply` and `two_views` map a composed transform
over a batch. Shapes are static. All that is random is a function of one typed key, so that the same example with the
same key gives the same view on any device and in any batch.

The reference is torchvision on PIL images, in the versions that the UCL code names (torchvision 0.10.1, Pillow 8.3.2).
The dtype of an image decides how closely an op follows it. Float32 images, in [0, 1], are never rounded. Uint8 images
are rounded to whole grey levels after each op, and get exactly the levels that Pillow gives. `ROUNDING` chooses between
the two.

Arguments that are Python numbers (probabilities, strengths, sizes) are static. An op with probability 0 is not compiled
at all.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ucl_jax.errors import argument_choice
from ucl_jax.types import Array

Scalar = Any  # a number, traced or not
# key [], uint8 [H, W, 3], number of the view (int32 []) -> float32 [size, size, 3]
Transform = Callable[[Array, Array, Scalar], Array]
PerView = float | tuple[float, float]  # a probability of both views, or of the first and the second

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # the ops of a colour jitter, as torchvision numbers them


def to_levels(image: Array) -> Array:
    """Returns a uint8 image [H, W, 3] unchanged, after a check of its dtype and shape.

    Raises:
      ValueError: if `image` is not uint8 [H, W, 3].
    """
    if image.dtype != jnp.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"need a uint8 image [H, W, 3], got {image.dtype} {list(image.shape)}")
    return image


def to_float(image: Array) -> Array:
    """Converts a uint8 image [H, W, 3] to float32 in [0, 1] (torchvision's `to_tensor`, but channels last).

    Raises:
      ValueError: if `image` is not uint8 [H, W, 3].
    """
    return to_levels(image).astype(jnp.float32) / 255.0


# The first op of a view, by the value of the setting: its result is rounded by no later op, or by each as Pillow does.
ROUNDING: dict[str, Callable[[Array], Array]] = {"none": to_float, "pillow": to_levels}


def _begin(image: Array, rounding: str) -> Array:
    """Converts a uint8 image to the dtype in which a view is computed; raises ValueError for an unknown `rounding`."""
    return argument_choice("rounding", rounding, ROUNDING)(image)


def _has_levels(image: Array) -> bool:
    """Tells whether an image is uint8, so that ops give whole grey levels."""
    return image.dtype == jnp.uint8


def normalize(image: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
    """Returns (image - mean) / std for an image in [0, 1], with a mean and a std a channel: float32 [H, W, 3]."""
    image = to_float(image) if _has_levels(image) else image
    centre, spread = (jnp.asarray(x, jnp.float32).reshape(1, 1, 3) for x in (mean, std))
    return (image - centre) / spread


# Crops and flips.


def crop_params(
    key: Array,
    height: int,
    width: int,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[Array, Array, Array, Array]:
    """Draws a crop of an image of `height` x `width` as torchvision's `RandomResizedCrop.get_params` does.

    Each of ten attempts draws an area, uniform in `scale`, and a ratio of width to height, log-uniform in `ratio`. The
    first attempt that fits into the image is placed uniformly. If none fits, the largest central crop whose ratio is
    within `ratio` is taken.

    Args:
      key: key [].
      height: rows of the image, H.
      width: columns of the image, W.
      scale: least and largest area of the crop, as a fraction of the image's area.
      ratio: least and largest width / height of the crop.

    Returns:
      top, left, height and width of the crop, int32 [] each, with 0 <= top <= H - height and 0 <= left <= W - width.

    Raises:
      ValueError: unless 0 < scale[0] <= scale[1] and 0 < ratio[0] <= ratio[1].
    """
    if not (0 < scale[0] <= scale[1] and 0 < ratio[0] <= ratio[1]):
        raise ValueError(f"scale and ratio must be positive, increasing ranges, got {scale} and {ratio}")
    draws = jax.random.uniform(key, (22,))  # one flat draw compiles much faster than several
    part, shape, place = draws[:10], draws[10:20], draws[20:]
    area = height * width * (scale[0] + (scale[1] - scale[0]) * part)
    aspect = ratio[0] * (ratio[1] / ratio[0]) ** shape
    attempts_h = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    attempts_w = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    fits = (attempts_h > 0) & (attempts_h <= height) & (attempts_w > 0) & (attempts_w <= width)

    found, first = fits.any(), jnp.argmax(fits)
    crop_h = jnp.where(found, attempts_h[first], min(height, round(width / ratio[0])))
    crop_w = jnp.where(found, attempts_w[first], min(width, round(height * ratio[1])))
    spare = jnp.stack([height - crop_h, width - crop_w])
    placed = jnp.floor(place * (spare + 1).astype(jnp.float32)).astype(jnp.int32)
    top, left = jnp.where(found, placed, spare // 2)
    return top, left, crop_h, crop_w


def _triangle(x: Array, xp: Any) -> Array:
    """Evaluates the triangle kernel, which is Pillow's bilinear filter."""
    return xp.maximum(0.0, 1.0 - xp.abs(x))


def _keys_cubic(x: Array, xp: Any, a: float = -0.5) -> Array:
    """Evaluates the cubic kernel of Keys (1981), which is Pillow's bicubic filter."""
    x = xp.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return xp.where(x < 1.0, near, xp.where(x < 2.0, far, 0.0))


_KERNELS = {"bilinear": _triangle, "bicubic": _keys_cubic}


def _resample_weights(kernel: Callable, extent: int, start: Scalar, length: Scalar, size: int, xp: Any = jnp) -> Array:
    """Returns the weights of input pixels in output pixels: [size, extent], zero outside the crop, rows sum to 1.

    Args:
      kernel: a function in `_KERNELS`.
      extent: the number of input pixels.
      start: the first pixel of the crop, a float.
      length: the number of pixels of the crop, a float whose precision is that of the weights.
      size: the number of output pixels.
      xp: jax.numpy, or numpy, which has float64.
    """
    scale = length / size
    pixel = xp.arange(extent, dtype=length.dtype) + 0.5 - start  # centres of input pixels, from the edge of the crop
    centre = (xp.arange(size, dtype=length.dtype) + 0.5) * scale  # centres of output pixels
    weights = kernel((pixel[None, :] - centre[:, None]) / xp.maximum(scale, 1.0), xp)
    weights = xp.where(((pixel > 0.0) & (pixel < length))[None, :], weights, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


_FRACTION = 22  # binary digits after the point that Pillow keeps of a weight


@functools.cache
def _fixed_point_weights(method: str, extent: int, size: int) -> np.ndarray:
    """Returns a table of the weights of `_resample_weights`, rounded as Pillow rounds them.

    It is a table because weights need more digits than float32 has, and a device may not have float64.

    Returns:
      int32 [extent, size, extent], in units of 2**-22: at n - 1 the weights of the crop of the first n pixels.
    """
    lengths = np.arange(1, extent + 1, dtype=np.float64)
    exact = [_resample_weights(_KERNELS[method], extent, np.float64(0), length, size, np) for length in lengths]
    scaled = np.stack(exact) * 2**_FRACTION
    return np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int32)


def _separable(image: Array, rows: Array, columns: Array) -> Array:
    """Filters an image along its columns, then along its rows, and clips to [0, 1] after each, as Pillow does.

    For a uint8 image the weights are fixed-point, and each of the two passes rounds to the nearest grey level.

    Args:
      image: [H, W, 3].
      rows: the weights of input rows in output rows, [out, H].
      columns: the weights of input columns in output columns, [out, W].

    Returns:
      [out, out, 3].
    """

    def mix(subscripts: str, weights: Array, image: Array) -> Array:
        if _has_levels(image):
            total = jnp.einsum(subscripts, weights, image.astype(jnp.int32)) + 2 ** (_FRACTION - 1)
            return jnp.clip(total >> _FRACTION, 0, 255).astype(jnp.uint8)
        exact = jax.lax.Precision.HIGHEST  # TF32 and bfloat16 are as coarse as eight bits
        return jnp.clip(jnp.einsum(subscripts, weights, image, precision=exact), 0.0, 1.0)

    return mix("oh,hwc->owc", rows, mix("ow,hwc->hoc", columns, image))


def resized_crop(
    image: Array, top: Scalar, left: Scalar, height: Scalar, width: Scalar, size: int, method: str = "bilinear"
) -> Array:
    """Crops `image` and resizes the crop to [size, size, 3], as Pillow's `crop` followed by `resize` does.

    It follows Pillow's `Resample.c`: a triangle ('bilinear') or the cubic of Keys with a = -0.5 ('bicubic'), which is
    widened where the image shrinks (antialiasing). Each of the two passes is clipped to [0, 1]. Pixels outside the crop
    do not count. For uint8 images the compiled function holds a table of H * H * size weights, and one for W: 128 KiB
    each at 32 pixels.

    Args:
      image: [H, W, 3].
      top: first row of the crop, an integer.
      left: first column of the crop, an integer.
      height: rows of the crop, at least 1; the crop must lie inside the image.
      width: columns of the crop, likewise.
      size: side of the result in pixels, static.
      method: 'bilinear' or 'bicubic'.

    Raises:
      ValueError: if `method` is neither.
    """
    kernel = argument_choice("method", method, _KERNELS)

    def weights(extent: int, start: Scalar, length: Scalar) -> Array:
        if _has_levels(image):
            return jnp.roll(jnp.asarray(_fixed_point_weights(method, extent, size))[length - 1], start, axis=1)
        start, length = jnp.asarray(start, jnp.float32), jnp.asarray(length, jnp.float32)
        return _resample_weights(kernel, extent, start, length, size)

    return _separable(image, weights(image.shape[0], top, height), weights(image.shape[1], left, width))


def random_crop(key: Array, image: Array, padding: int) -> Array:
    """Pads an image [H, W, 3] with `padding` zeros on each side, and cuts out a random [H, W, 3] (`RandomCrop`)."""
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def _each_view(value: Any) -> tuple[Any, Any]:
    """Returns the values of the first and the second view, from two or from one for both."""
    return value if isinstance(value, tuple) else (value, value)


def _sometimes(key: Array, p: PerView, op: Callable[[Array], Array], image: Array, view: Scalar = 0) -> Array:
    """Returns op(image) with probability `p`, else `image` (torchvision's `RandomApply`).

    Raises:
      ValueError: if `p` is not in [0, 1].
    """
    first, second = map(float, _each_view(p))
    if not (0 <= first <= 1 and 0 <= second <= 1):
        raise ValueError(f"a probability must be in [0, 1], got {p}")
    if first == second == 0:
        return image
    probability = first if first == second else jnp.where(view == 0, first, second)
    return jnp.where(jax.random.bernoulli(key, probability), op(image), image)


def horizontal_flip(key: Array, image: Array, p: float) -> Array:
    """Mirrors `image` [H, W, 3] left to right with probability `p` (torchvision's `RandomHorizontalFlip`)."""
    return _sometimes(key, p, lambda x: x[:, ::-1], image)


# Colour.


def _luma(image: Array) -> Array:
    """Returns the brightness of an RGB image by ITU-R 601-2, as Pillow's `convert('L')`: [H, W, 1]."""
    if _has_levels(image):
        red, green, blue = jnp.split(image.astype(jnp.int32), 3, axis=-1)
        return ((19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16).astype(jnp.uint8)
    return 0.299 * image[..., 0:1] + 0.587 * image[..., 1:2] + 0.114 * image[..., 2:3]


def _mean(grey: Array) -> Array:
    """Returns the mean [] of a grey image; for uint8 images it is the nearest whole level.

    A uint8 image may have at most 2**22 pixels, so that their sum fits into int32.
    """
    if _has_levels(grey):
        return ((2 * grey.sum(dtype=jnp.int32) + grey.size) // (2 * grey.size)).astype(grey.dtype)
    return grey.mean()


def _blend(image: Array, other: Array | float, factor: Scalar) -> Array:
    """Returns factor * image + (1 - factor) * other, clipped to [0, 1]; grey levels are rounded down.

    A factor above 1 goes beyond `image`, away from `other`.
    """
    if _has_levels(image):
        other = jnp.asarray(other, jnp.float32)
        # The step is clipped, and not the sum. Otherwise a compiler may fuse the product and the sum, which rounds only
        # once and gives other levels.
        step = jnp.clip(factor * (image.astype(jnp.float32) - other), -other, 255.0 - other)
        return (other + step).astype(jnp.uint8)
    return jnp.clip(factor * image + (1.0 - factor) * other, 0.0, 1.0)


def grayscale(image: Array) -> Array:
    """Converts an image [H, W, 3] to grey, with three equal channels (torchvision's `Grayscale(3)`)."""
    return jnp.broadcast_to(_luma(image), image.shape)


def adjust_hue(image: Array, shift: Scalar) -> Array:
    """Turns the hue of `image` [H, W, 3] by `shift` turns, in [-0.5, 0.5] (torchvision's `adjust_hue`, through HSV).

    A channel is computed from HSV by the closed form v - c * clip(min(k, 4 - k), 0, 1), where v is the value, c the
    chroma, k = (n + 6 * hue) mod 6, and n = 5, 3, 1 for red, green and blue. So no branch on the sextant is needed.
    """
    if _has_levels(image):
        return _turn_level_hue(image, jnp.trunc(255.0 * jnp.asarray(shift, jnp.float32)))
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    safe = jnp.where(chroma == 0.0, 1.0, chroma)
    sextant = jnp.where(green >= blue, (blue - red) / safe + 2.0, (red - green) / safe + 4.0)
    sextant = jnp.where((red >= green) & (red >= blue), (green - blue) / safe, sextant)

    def channel(n: float) -> Array:
        turns = (sextant + n) / 6.0 + shift
        k = 6.0 * (turns - jnp.floor(turns))
        return value - chroma * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)


# Where the exact hue is one of these whole levels, Pillow's single precision falls just below it, and Pillow rounds
# down to the level before. The levels are given as ranges: first, last, step.
_HUES_CUT = ((1, 31, 1), (88, 104, 4), (129, 149, 2), (153, 209, 4), (176, 184, 8))


def _turn_level_hue(image: Array, levels: Array) -> Array:
    """Turns the hue of a uint8 image by `levels`, whole levels of which 256 are a full turn, as Pillow does.

    It goes through HSV with eight bits each. The result is that of Pillow (`Convert.c`, which mixes precisions) for
    every colour. All quantities are whole numbers below 2**24 in float32, where they are exact and quick to divide. A
    half is added to numerators, so that a quotient is never close to a whole number and is rounded down alike on any
    device.
    """
    red, green, blue = jnp.split(image.astype(jnp.float32), 3, axis=-1)
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    circle = 6.0 * jnp.maximum(chroma, 1.0)
    place = jnp.where(green >= blue, 2.0 * chroma + blue - red, 4.0 * chroma + red - green)  # on the circle
    place = jnp.where((red >= green) & (red >= blue), green - blue + jnp.where(green < blue, circle, 0.0), place)

    hue = jnp.floor((255.0 * place + 0.5) / circle)
    whole, level = hue * circle == 255.0 * place, hue.astype(jnp.int32)
    cut = [(first <= level) & (level <= last) & ((level - first) % step == 0) for first, last, step in _HUES_CUT]
    hue = jnp.where(whole & functools.reduce(jnp.logical_or, cut), hue - 1.0, hue) + levels
    hue = hue - 256.0 * jnp.floor(hue / 256.0)
    saturation = jnp.floor((255.0 * chroma + 0.5) / jnp.maximum(value, 1.0))

    k = 255.0 * jnp.array([[[5.0, 3.0, 1.0]]]) + 6.0 * hue  # [H, W, 3]
    k = jnp.where(k < 6.0 * 255.0, k, k - 6.0 * 255.0)
    total = value * (255.0**2 - saturation * jnp.clip(jnp.minimum(k, 4.0 * 255.0 - k), 0.0, 255.0))
    near = jnp.round(total / 255.0**2)  # the nearest level, or the second nearest where both are almost as near
    rest = total - 255.0**2 * near
    near = jnp.where(rest > 255.0**2 / 2, near + 1.0, jnp.where(rest < -(255.0**2) / 2, near - 1.0, near))
    return near.astype(jnp.uint8)


def jitter_params(key: Array, brightness: float, contrast: float, saturation: float, hue: float) -> tuple[Array, Array]:
    """Draws the factors and the order of a colour jitter, as torchvision's `ColorJitter.get_params` does.

    Args:
      key: key [].
      brightness: strength of the change, at least 0.
      contrast: likewise.
      saturation: likewise.
      hue: strength of the change in turns, in [0, 0.5].

    Returns:
      factors: float32 [4]: those of brightness, contrast and saturation, uniform in [max(0, 1 - x), 1 + x] for a
        strength x; and the turn of the hue, uniform in [-hue, hue].
      order: int32 [4], a permutation of (BRIGHTNESS, CONTRAST, SATURATION, HUE), all 24 equally likely.

    Raises:
      ValueError: if a strength is negative, or `hue` above 0.5.
    """
    strengths = (brightness, contrast, saturation)
    if min(strengths) < 0 or not 0 <= hue <= 0.5:
        raise ValueError(f"strengths must not be negative, and hue at most 0.5, got {(*strengths, hue)}")
    factors, ranks = jnp.split(jax.random.uniform(key, (8,)), 2)
    low = jnp.asarray([max(0.0, 1.0 - x) for x in strengths] + [-hue], jnp.float32)
    high = jnp.asarray([1.0 + x for x in strengths] + [hue], jnp.float32)
    return low + (high - low) * factors, jnp.argsort(ranks)


def apply_jitter(image: Array, factors: Array, order: Array) -> Array:
    """Applies the four adjustments to an image [H, W, 3], with factors and order as `jitter_params` returns them.

    Under `vmap`, a `lax.switch` would compute all four ops at each of the four places of the order, sixteen in all. But
    three of the ops are a blend, each with another image, and a blend with factor 1 changes nothing. So a float image
    gets three blends, the hue, and three more blends, where those on the wrong side of the hue have factor 1. A uint8
    image gets a hue and a blend at each of the four places.
    """

    def blend(image: Array, op: Array, active: Array) -> Array:
        grey, black = _luma(image), 0 if _has_levels(image) else 0.0
        other = jnp.where(op == SATURATION, grey, jnp.where(op == CONTRAST, _mean(grey), black))
        return _blend(image, other, jnp.where(active, factors[op], 1.0))

    if _has_levels(image):  # in a loop: XLA on CPUs would compute unrolled ops several times

        def adjust(image: Array, op: Array) -> tuple[Array, None]:
            turns = (op == HUE) & (factors[HUE] != 0.0)  # torchvision skips a hue of strength 0
            return jnp.where(turns, adjust_hue(image, factors[HUE]), blend(image, op, op != HUE)), None

        return jax.lax.scan(adjust, image, order)[0]

    hue_place = jnp.argmax(order == HUE)
    for place in (0, 1, 2):
        image = blend(image, order[place], place < hue_place)
    image = adjust_hue(image, factors[HUE])
    for place in (1, 2, 3):
        image = blend(image, order[place], place > hue_place)
    return image


def color_jitter(key: Array, image: Array, brightness: float, contrast: float, saturation: float, hue: float) -> Array:
    """Jitters the colours of an image [H, W, 3] (torchvision's `ColorJitter`).

    Strengths and errors are those of `jitter_params`.
    """
    return apply_jitter(image, *jitter_params(key, brightness, contrast, saturation, hue))


def solarize(image: Array) -> Array:
    """Inverts the values of an image [H, W, 3] that are level 128 of 255 or above (Pillow's `ImageOps.solarize`)."""
    if _has_levels(image):
        return jnp.where(image < 128, image, 255 - image)
    return jnp.where(image < 128.0 / 255.0, image, 1.0 - image)


def gaussian_blur(image: Array, sigma: Scalar, kernel_size: int) -> Array:
    """Blurs an image [H, W, 3] by a Gaussian of `sigma` > 0 pixels, cut to `kernel_size` taps, with reflected edges.

    The result is that of torchvision's `gaussian_blur`, but it is computed by two matrix products. Every image of a
    batch has a kernel of its own, so that a convolution would need a group for each image. A uint8 image is blurred in
    float32 and rounded down afterwards, as in torchvision up to 0.12 (later versions round to the nearest level). Where
    the blur is a whole level up to the last digit of a float, as in flat areas, the two may round differently.

    Raises:
      ValueError: unless `kernel_size` is odd, positive and below twice the image's shorter side.
    """
    if _has_levels(image):
        return (255.0 * gaussian_blur(to_float(image), sigma, kernel_size)).astype(jnp.uint8)
    half = kernel_size // 2
    if kernel_size < 1 or kernel_size % 2 == 0 or half >= min(image.shape[:2]):
        raise ValueError(f"kernel_size must be odd and fit {list(image.shape)} with edges reflected, got {kernel_size}")

    def weights(extent: int) -> Array:
        place = jnp.arange(extent, dtype=jnp.float32)
        output, pixel, last = place[:, None], place[None, :], extent - 1

        def tap(offset: Array) -> Array:
            return jnp.where(jnp.abs(offset) <= half, jnp.exp(-0.5 * jnp.square(offset / sigma)), 0.0)

        # A pixel also counts at the places of its mirror images beyond the two edges. The first and the last pixel are
        # the mirrors, so each of them has only one image.
        before = jnp.where(pixel > 0.0, tap(-pixel - output), 0.0)
        after = jnp.where(pixel < last, tap(2.0 * last - pixel - output), 0.0)
        total = tap(pixel - output) + before + after
        return total / total.sum(axis=1, keepdims=True)

    return _separable(image, weights(image.shape[0]), weights(image.shape[1]))


# Views. Each function returns a transform, which is a closure over its settings.


def _crop(key: Array, image: Array, size: int, scale: tuple[float, float], method: str, padding: int | None) -> Array:
    """Crops an image: a random crop of the padded image if `padding` is a number, else a random resized crop."""
    if padding is not None:
        return random_crop(key, image, padding)
    height, width = image.shape[:2]
    return resized_crop(image, *crop_params(key, height, width, scale), size, method)


def make_present_view(
    size: int,
    *,
    scale: tuple[float, float] = (0.2, 1.0),
    padding: int | None = None,
    flip: float = 0.5,
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1),
    jitter_p: float = 0.8,
    gray_p: float = 0.2,
    blur_p: float | tuple[float | None, ...] | None = None,
    solarize_p: PerView = 0.0,
    interpolation: str = "bilinear",
    rounding: str = "none",
    mean: Sequence[float],
    std: Sequence[float],
) -> Transform:
    """Makes the strong view, in which present images are shown.

    Its ops are a crop, flip, colour jitter, grey, blur, solarisation (Grill et al. 2020) and normalisation. Without
    solarisation it is the view of SimSiam (Chen & He 2021, arXiv 2011.10566); defaults are those of the UCL code.
    CaSSLe's code flips after the solarisation. That gives the same views, because all ops in between treat the two
    sides of an image alike.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> view = make_present_view(32, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
      >>> images = jnp.full((16, 32, 32, 3), 200, jnp.uint8)
      >>> first, second = two_views(view, jax.random.split(jax.random.key(0), 16), images)
      >>> first.shape, bool((first == second).all())
      ((16, 32, 32, 3), False)

    Args:
      size: side of the view in pixels.
      scale: least and largest area of the crop, as a fraction of the image's area.
      padding: None for resized crops. A number makes crops as large as the image, out of the image padded with so many
        zeros on each side (the UCL code's view for supervised learning).
      flip: probability of a mirror image.
      jitter: strengths of brightness, contrast, saturation and hue.
      jitter_p: probability of the jitter.
      gray_p: probability of a grey image.
      blur_p: probability of a blur of size // 20 * 2 + 1 taps, with sigma uniform in [0.1, 2]. None is 0.5 for views
        above 32 pixels, else 0. As for `solarize_p`, a pair has a probability for each view.
      solarize_p: probability of the solarisation; or a pair, that of the first view and that of the second.
      interpolation: of a resized crop, 'bilinear' or 'bicubic'.
      rounding: a name in `ROUNDING`.
      mean: mean of each channel, for `normalize`.
      std: likewise.

    Returns:
      A function of a key [], a uint8 image [H, W, 3] and the number of the view, 0 or 1, that returns float32 [size,
      size, 3]. It raises what its ops raise.
    """
    by_size = 0.5 if size > 32 else 0.0
    first_blur, second_blur = (by_size if p is None else p for p in _each_view(blur_p))

    def transform(key: Array, image: Array, view: Scalar = 0) -> Array:
        crop_key, flip_key, jitter_coin, jitter_key, gray_coin, blur_coin, blur_key, solarize_coin = jax.random.split(
            key, 8
        )

        def jittered(image: Array) -> Array:
            return color_jitter(jitter_key, image, *jitter)

        def blurred(image: Array) -> Array:
            return gaussian_blur(image, jax.random.uniform(blur_key, minval=0.1, maxval=2.0), size // 20 * 2 + 1)

        image = _crop(crop_key, _begin(image, rounding), size, scale, interpolation, padding)
        image = horizontal_flip(flip_key, image, flip)
        image = _sometimes(jitter_coin, jitter_p, jittered, image)
        image = _sometimes(gray_coin, gray_p, grayscale, image)
        image = _sometimes(blur_coin, (first_blur, second_blur), blurred, image, view)
        image = _sometimes(solarize_coin, solarize_p, solarize, image, view)
        return normalize(image, mean, std)

    return transform


def make_weak_view(
    size: int,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    padding: int | None = None,
    flip: float = 0.5,
    rounding: str = "none",
    mean: Sequence[float],
    std: Sequence[float],
) -> Transform:
    """Makes the weak view, in which the UCL code shows replayed images: bicubic crop, flip and normalisation.

    Arguments, result and errors are those of `make_present_view`. Both views are alike.
    """

    def transform(key: Array, image: Array, view: Scalar = 0) -> Array:
        crop_key, flip_key = jax.random.split(key)
        image = _crop(crop_key, _begin(image, rounding), size, scale, "bicubic", padding)
        return normalize(horizontal_flip(flip_key, image, flip), mean, std)

    return transform


def make_plain_view(mean: Sequence[float], std: Sequence[float]) -> Callable[[Array], Array]:
    """Makes the plain view, in which images are evaluated: a function that normalises a uint8 image [H, W, 3]."""
    return lambda image: normalize(to_float(image), mean, std)


# Batches.


def apply(transform: Transform, keys: Array, images: Array, view: Scalar = 0) -> Array:
    """Makes a view of every image: from keys [B] and uint8 [B, H, W, 3], float32 [B, size, size, 3].

    `view` is the number of the view; a view that stands alone is the first one, 0.
    """
    return jax.vmap(transform, in_axes=(0, 0, None))(keys, images, view)


def two_views(transform: Transform, keys: Array, images: Array) -> tuple[Array, Array]:
    """Makes two independent views of every image; shapes are those of `apply`.

    View i of image b uses key i of `split(keys[b])`.
    """
    pairs = jax.vmap(jax.random.split)(keys)
    first, second = jax.vmap(apply, in_axes=(None, 1, None, 0))(transform, pairs, images, jnp.arange(2))
    return first, second
