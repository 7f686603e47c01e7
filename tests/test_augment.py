"""Tests every op against an independent reference (Pillow, SciPy, plain Python), and every draw against its law.

Float images agree up to rounding, uint8 images to the grey level.
"""

import colorsys
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from jax import jit
from PIL import Image, ImageEnhance, ImageOps

from configs import lump
from ucl_jax import augment, settings
from ucl_jax.training.build import make_augmentation

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2615)
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
UNLIKELY = 1e-4  # seeds are fixed, so a test that passes once passes always; a wrong law gives p-values far below


def uint8_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def float_image(height, width, seed=0):
    return uint8_image(height, width, seed).astype(np.float32) / np.float32(255)


def keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def draw(sample, n, seed=0):
    """Returns `n` draws of a function of a key, as NumPy arrays."""
    return jax.tree.map(np.asarray, jit(jax.vmap(sample))(keys(n, seed)))


def frequency_is(hits, p):
    """Tells whether the number of hits is within 4 standard errors of what probability p gives."""
    return abs(hits.mean() - p) < 4 * math.sqrt(p * (1 - p) / hits.size)


# Crops.

CROPS = {  # image height and width, (top, left, height, width), size
    "up": ((32, 32), (3, 9, 14, 20), 32),
    "down": ((40, 56), (0, 4, 40, 51), 16),
    "down_and_up": ((48, 24), (1, 5, 47, 9), 20),
    "one_pixel": ((8, 8), (5, 2, 1, 1), 6),
    "identity": ((16, 16), (0, 0, 16, 16), 16),
}
resized_crop = jit(augment.resized_crop, static_argnums=(5, 6))


@pytest.mark.parametrize("method", FILTERS)
@pytest.mark.parametrize(("shape", "crop", "size"), CROPS.values(), ids=CROPS)
def test_resized_crop_equals_pillow_on_float_images(shape, crop, size, method):
    # Pillow 'F' images are not rounded, but not clipped either: values in [0.3, 0.7] leave room for bicubic overshoot.
    image = 0.3 + 0.4 * float_image(*shape)
    top, left, height, width = crop
    box = (left, top, left + width, top + height)
    planes = [Image.fromarray(image[..., i]).crop(box).resize((size, size), FILTERS[method]) for i in range(3)]
    got = resized_crop(image, *map(jnp.int32, crop), size, method)
    np.testing.assert_allclose(got, np.stack(planes, axis=-1), rtol=0, atol=2e-6)


@pytest.mark.parametrize("method", FILTERS)
@pytest.mark.parametrize(("shape", "crop", "size"), CROPS.values(), ids=CROPS)
def test_resized_crop_equals_pillow_on_uint8_images(shape, crop, size, method):
    # In black and white noise the bicubic filter overshoots everywhere. Pillow rounds to 8 bits after each pass: the
    # first error (0.5) passes through weights whose absolute values sum to at most 1.3, the second adds 0.5. The passes
    # are two calls here, columns first, because Pillow 13 takes the rows of a high, narrow crop first (pull request
    # 9549); no version before did.
    image = np.where(uint8_image(*shape) > 127, 255, 0).astype(np.uint8)
    want = pillow_crop(image, *crop, size, method)
    got = resized_crop(jax.vmap(augment.to_float)(image[None])[0], *map(jnp.int32, crop), size, method)
    np.testing.assert_allclose(255 * got, want, rtol=0, atol=1.2)
    assert got.min() >= 0
    assert got.max() <= 1
    np.testing.assert_array_equal(resized_crop(image, *map(jnp.int32, crop), size, method), want)


def pillow_crop(image, top, left, height, width, size, method):
    """Returns a resized crop as Pillow 8.3.2 makes it, which always resizes columns first."""
    cut = Image.fromarray(image).crop((left, top, left + width, top + height))
    return np.asarray(cut.resize((size, height), FILTERS[method]).resize((size, size), FILTERS[method]))


@pytest.mark.parametrize("method", FILTERS)
@pytest.mark.parametrize(("side", "size"), [(32, 32), (28, 20)])
def test_resized_crops_of_every_size_equal_pillow_on_uint8_images(side, size, method):
    # For a size of 20, no power of two, weights are no short binary fractions, and only Pillow's own 22 digits agree.
    crops = [(h, w) for h in range(1, side + 1, 3) for w in (1, 2, side // 3, side - 3, side)]
    rng = np.random.default_rng(0)
    boxes = np.array([(rng.integers(side - h + 1), rng.integers(side - w + 1), h, w) for h, w in crops], np.int32)
    images = np.stack([uint8_image(side, side, seed) for seed in range(len(crops))])
    images[::2] = np.where(images[::2] > 127, 255, 0)
    crop = jit(jax.vmap(lambda image, box: augment.resized_crop(image, *box, size, method)))
    want = [pillow_crop(image, *box, size, method) for image, box in zip(images, boxes)]
    np.testing.assert_array_equal(crop(images, boxes), want)


def torchvision_get_params(rng, height, width, scale, ratio):
    """Repeats torchvision's RandomResizedCrop.get_params (transforms/transforms.py), with NumPy's generator."""
    area = height * width
    log_ratio = np.log(ratio)
    for _ in range(10):
        target_area = area * rng.uniform(scale[0], scale[1])
        aspect_ratio = math.exp(rng.uniform(log_ratio[0], log_ratio[1]))
        w = round(math.sqrt(target_area * aspect_ratio))
        h = round(math.sqrt(target_area / aspect_ratio))
        if 0 < w <= width and 0 < h <= height:
            return rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w
    in_ratio = width / height
    if in_ratio < min(ratio):
        w, h = width, round(width / min(ratio))
    elif in_ratio > max(ratio):
        w, h = round(height * max(ratio)), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


def reference_crops(n, *args):
    rng = np.random.default_rng(1)
    return np.array([torchvision_get_params(rng, *args) for _ in range(n)]).T


CROP_LAWS = {  # an attempt of the third law fits in one case of ten, so that the number of attempts matters
    "simsiam": (32, 32, (0.2, 1.0), (3 / 4, 4 / 3)),
    "replay_wide": (24, 40, (0.08, 1.0), (3 / 4, 4 / 3)),
    "often_fallback": (32, 32, (0.4, 0.6), (2.0, 4.0)),
}


@pytest.mark.parametrize("law", CROP_LAWS.values(), ids=CROP_LAWS)
def test_crop_params_follow_torchvision(law):
    n = 20_000
    got = np.stack(draw(lambda key: augment.crop_params(key, *law), n))
    want = reference_crops(n, *law)
    statistics = {
        "area": lambda top, left, h, w: h * w,
        "ratio": lambda top, left, h, w: w / h,
        "height": lambda top, left, h, w: h,
        "width": lambda top, left, h, w: w,
        "top": lambda top, left, h, w: top,
        "left": lambda top, left, h, w: left,
        "offsets": lambda top, left, h, w: top - left,
        "bottom": lambda top, left, h, w: law[0] - top - h,
        "right": lambda top, left, h, w: law[1] - left - w,
    }
    for name, statistic in statistics.items():
        assert scipy.stats.ks_2samp(statistic(*got), statistic(*want)).pvalue > UNLIKELY, name


def test_crop_params_offsets_are_uniform_and_reach_both_ends():
    top, left, height, width = draw(lambda key: augment.crop_params(key, 32, 32), 20_000)
    rng = np.random.default_rng(0)
    for offset, length in ((top, height), (left, width)):
        assert offset.min() == 0
        assert (offset + length).max() == 32
        # An integer uniform in 0..m plus a uniform fraction is uniform in [0, m + 1].
        place = (offset + rng.uniform(size=offset.size)) / (32 - length + 1)
        assert scipy.stats.kstest(place, "uniform").pvalue > UNLIKELY
    assert min(x.dtype == np.int32 for x in (top, left, height, width))


def test_crop_params_default_ranges():
    _, _, height, width = draw(lambda key: augment.crop_params(key, 256, 256), 20_000)
    area, ratio = height * width / 256**2, width / height
    assert 0.195 < area.min() < 0.21  # rounding of the sides moves the area by up to 0.5 / 99 + 0.5 / 131
    assert 0.98 < area.max() <= 1
    assert 0.745 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.345


FALLBACKS = {  # no attempt fits; the expected crop was worked out by hand from torchvision's fallback
    "too_wide": (8, 32, (1.0, 1.0), (3 / 4, 4 / 3), (0, 10, 8, 11)),  # 8 * 4/3 = 10.67 -> 11 wide, (32 - 11) // 2
    "too_high": (33, 8, (1.0, 1.0), (3 / 4, 4 / 3), (11, 0, 11, 8)),  # 8 / (3/4) = 10.67 -> 11 high, (33 - 11) // 2
    "whole": (30, 32, (2.0, 2.0), (3 / 4, 4 / 3), (0, 0, 30, 32)),
}


@pytest.mark.parametrize(("height", "width", "scale", "ratio", "want"), FALLBACKS.values(), ids=FALLBACKS)
def test_crop_params_fallback(height, width, scale, ratio, want):
    got = np.stack(draw(lambda key: augment.crop_params(key, height, width, scale, ratio), 50))
    np.testing.assert_array_equal(got, np.tile(np.array(want)[:, None], 50))


def test_random_crop_cuts_any_window_of_the_padded_image():
    image, pad, n = float_image(5, 7), 2, 5_000
    got = draw(lambda key: augment.random_crop(key, image, pad), n)
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    windows = [padded[top : top + 5, left : left + 7] for top in range(5) for left in range(5)]
    found = np.array([[np.array_equal(x, window) for window in windows] for x in got])
    assert (found.sum(axis=1) == 1).all()
    assert scipy.stats.chisquare(found.sum(axis=0)).pvalue > UNLIKELY


def test_random_crop_without_padding_is_the_image():
    image = float_image(5, 7)
    np.testing.assert_array_equal(augment.random_crop(jax.random.key(0), image, 0), image)


def test_horizontal_flip():
    image = float_image(4, 6)
    for p in (0.0, 0.3, 1.0):
        got = draw(functools.partial(augment.horizontal_flip, image=image, p=p), 4_000)
        flipped = (got == image[:, ::-1]).all(axis=(1, 2, 3))
        assert (flipped | (got == image).all(axis=(1, 2, 3))).all()
        assert frequency_is(flipped, p) if 0 < p < 1 else (flipped == bool(p)).all()


# Colour.


def adjuster(op):
    """Returns a function (image, factor) that applies one of the four adjustments of `apply_jitter` alone."""
    neutral = jnp.array([1.0, 1.0, 1.0, 0.0])
    return lambda image, factor: augment.apply_jitter(image, neutral.at[op].set(factor), jnp.arange(4))


BRIGHTNESS, CONTRAST, SATURATION, HUE = map(adjuster, range(4))
ENHANCE = {
    "brightness": (BRIGHTNESS, ImageEnhance.Brightness),
    "contrast": (CONTRAST, ImageEnhance.Contrast),
    "saturation": (SATURATION, ImageEnhance.Color),
}


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4, 2.5])
@pytest.mark.parametrize(("op", "enhance"), ENHANCE.values(), ids=ENHANCE)
def test_adjustments_equal_pillow_image_enhance(op, enhance, factor):
    # torchvision's functional_pil.py calls ImageEnhance. Pillow rounds the grey image or its mean (an error of 0.5,
    # which counts |1 - factor| times) and cuts the result down to an integer (an error of 1).
    image = uint8_image(24, 16) // np.array([1, 2, 3], np.uint8)  # red on average: the three grey weights matter
    want = np.asarray(enhance(Image.fromarray(image)).enhance(factor), np.float64)
    got = 255 * np.asarray(op(image.astype(np.float32) / np.float32(255), factor), np.float64)
    assert np.abs(got - want).max() < 1.001 + 0.5 * abs(1 - factor)
    np.testing.assert_array_equal(op(image, factor), want)


@pytest.mark.parametrize(("op", "enhance"), ENHANCE.values(), ids=ENHANCE)
def test_adjustments_of_uint8_images_equal_pillow_for_every_factor(op, enhance):
    # Factors such as 0.7 make products that end within a float's last digit of a whole level. If a compiler fused such
    # a product with the sum, as it would like to, it would be cut to another level.
    factors = np.concatenate([np.arange(41) / 20, np.random.default_rng(0).uniform(0.6, 1.4, 300)]).astype(np.float32)
    images = np.stack([uint8_image(32, 32, seed) for seed in range(len(factors))])
    want = [np.asarray(enhance(Image.fromarray(image)).enhance(float(x))) for image, x in zip(images, factors)]
    np.testing.assert_array_equal(jax.jit(jax.vmap(op))(images, factors), want)


def test_adjustments_by_hand():
    # The greys are 0.299 and 0.587 * 0.5 + 0.114 = 0.4075, their mean is 0.35325; the blends are made by pencil.
    image = jnp.asarray([[[1.0, 0.0, 0.0], [0.0, 0.5, 1.0]]])
    brightness = [[[0.5, 0.0, 0.0], [0.0, 0.25, 0.5]]]
    contrast = [[[0.676625, 0.176625, 0.176625], [0.176625, 0.426625, 0.676625]]]
    saturation = [[[1.0, 0.0, 0.0], [0.0, 0.54625, 1.0]]]
    np.testing.assert_allclose(BRIGHTNESS(image, 0.5), brightness, atol=1e-6)
    np.testing.assert_allclose(CONTRAST(image, 0.5), contrast, atol=1e-6)
    np.testing.assert_allclose(SATURATION(image, 1.5), saturation, atol=1e-6)


def corners_and_noise():
    """Returns colours with ties, greys, black and white, next to noise: float32 [5, 27, 3]."""
    corners = np.array(list(itertools.product((0.0, 0.5, 1.0), repeat=3)), np.float32)
    return np.concatenate([corners[None], float_image(4, 27)])


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.03, 0.25, 0.5])
def test_adjust_hue_equals_colorsys(shift):
    image = corners_and_noise()
    want = np.empty(image.shape)
    for i in np.ndindex(image.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[i].astype(np.float64))
        want[i] = colorsys.hsv_to_rgb((hue + shift) % 1.0, saturation, value)
    np.testing.assert_allclose(augment.adjust_hue(image, shift), want, rtol=0, atol=2e-6)


def pillow_hue(image, shift):
    """Turns the hue as torchvision's functional_pil.adjust_hue does, in steps of uint8, so that -1 is 255."""
    hue, saturation, value = Image.fromarray(image).convert("HSV").split()
    turned = (np.asarray(hue, np.int64) + int(255 * shift)) % 256
    hsv = Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value))
    return np.asarray(hsv.convert("RGB"))


@pytest.mark.parametrize("shift", [-0.4, -0.1, 0.1, 0.5])
def test_adjust_hue_equals_torchvision_on_pil(shift):
    # torchvision's functional_pil.adjust_hue adds int(255 * shift) to a hue of 8 bits, with wrap-around at 256. One
    # step of hue moves a channel by up to 6, and both hue and shift are cut to a step: 15 at worst, 2 on average.
    image = uint8_image(24, 24)
    got = np.asarray(augment.adjust_hue(image.astype(np.float32) / np.float32(255), shift))
    error = np.abs(255 * got - pillow_hue(image, shift))
    assert error.max() < 15
    assert error.mean() < 2


def test_adjust_hue_of_uint8_images_equals_torchvision_on_pil():
    # Every hue of every chroma (one channel is 0), and random saturations and values.
    low, high = np.mgrid[:256, :256].astype(np.uint8)
    planes = [np.roll(np.stack([0 * low, low, high], axis=-1), turn, axis=-1) for turn in range(3)]
    images = np.stack([*planes, *(uint8_image(256, 256, seed) for seed in range(3))])
    shifts = np.array([0.0, 0.1, -0.5, 0.5, -0.003, -0.0437], np.float32)
    want = [pillow_hue(image, float(shift)) for image, shift in zip(images, shifts)]
    np.testing.assert_array_equal(jit(jax.vmap(augment.adjust_hue))(images, shifts), want)


def test_grayscale_equals_pillow():
    image = uint8_image(16, 16)
    got = np.asarray(augment.grayscale(image.astype(np.float32) / np.float32(255)))
    assert got.shape == (16, 16, 3)
    for i in range(3):
        # Mode 'F' is not rounded, mode 'L' is.
        np.testing.assert_allclose(255 * got[..., i], np.asarray(Image.fromarray(image).convert("F")), rtol=1e-5)
        assert np.abs(255 * got[..., i] - np.asarray(Image.fromarray(image).convert("L"))).max() < 0.51
    image = uint8_image(256, 256)
    want = np.asarray(Image.fromarray(image).convert("L").convert("RGB"))
    np.testing.assert_array_equal(augment.grayscale(jnp.asarray(image)), want)


apply_jitter = jit(jax.vmap(augment.apply_jitter, in_axes=(None, 0, 0)))
ORDERS = np.array(list(itertools.permutations(range(4))), np.int32)


def test_apply_jitter_equals_the_four_ops_in_every_order():
    # The ops are tested above; here only their order is. The factors are strong, so that clipping makes the result
    # depend on the order even of brightness and saturation.
    image = corners_and_noise()
    factors = np.array([1.7, 0.6, 2.2, 0.2], np.float32)
    ops = [jit(op) for op in (BRIGHTNESS, CONTRAST, SATURATION, HUE)]
    want = [functools.reduce(lambda x, op: ops[op](x, factors[op]), order, image) for order in ORDERS]
    distances = [np.abs(a - b).max() for a, b in itertools.combinations(want, 2)]
    assert min(distances) > 1e-3, "the factors must tell the orders apart"
    got = apply_jitter(image, np.tile(factors, (24, 1)), ORDERS)
    np.testing.assert_allclose(got, np.stack(want), rtol=0, atol=5e-6)


def pillow_jitter(image, factors, order):
    """Applies torchvision's ColorJitter to a Pillow image; a hue of strength 0 is left out."""
    for op in order:
        if op == augment.HUE:
            image = pillow_hue(image, float(factors[op])) if factors[op] else image
        else:
            enhance = list(ENHANCE.values())[op][1]
            image = np.asarray(enhance(Image.fromarray(image)).enhance(float(factors[op])))
    return image


@pytest.mark.parametrize("hue", [0.08, 0.0])
def test_apply_jitter_of_a_uint8_image_equals_pillow_in_every_order(hue):
    image, factors = uint8_image(16, 16), np.array([1.37, 0.61, 0.7, hue], np.float32)
    want = np.stack([pillow_jitter(image, factors, order) for order in ORDERS])
    assert len(np.unique(want.reshape(24, -1), axis=0)) >= (24 if hue else 6), "the factors must tell the orders apart"
    np.testing.assert_array_equal(apply_jitter(image, np.tile(factors, (24, 1)), ORDERS), want)


def test_jitter_params_factors_are_uniform_and_independent():
    strengths = (0.4, 1.5, 0.2, 0.1)
    factors, _ = draw(lambda key: augment.jitter_params(key, *strengths), 20_000)
    ranges = [(0.6, 1.4), (0.0, 2.5), (0.8, 1.2), (-0.1, 0.1)]  # a factor is never negative
    for i, (low, high) in enumerate(ranges):
        assert scipy.stats.kstest(factors[:, i], "uniform", (low, high - low)).pvalue > UNLIKELY, i
    correlation = np.corrcoef(factors.T) - np.eye(4)
    assert np.abs(correlation).max() < 4 / math.sqrt(20_000)


def test_jitter_params_orders_are_equally_likely_and_independent_of_the_factors():
    factors, orders = draw(lambda key: augment.jitter_params(key, 0.4, 0.4, 0.4, 0.1), 24_000)
    which = (orders[:, None] == ORDERS).all(axis=2)
    assert (which.sum(axis=1) == 1).all()
    assert scipy.stats.chisquare(which.sum(axis=0)).pvalue > UNLIKELY
    high = (factors > np.median(factors, axis=0)).astype(np.int64) @ np.array([1, 2, 4, 8])
    table = np.zeros((24, 16))
    np.add.at(table, (which.argmax(axis=1), high), 1)
    assert scipy.stats.chi2_contingency(table).pvalue > UNLIKELY


def test_color_jitter_draws_for_its_own_image():
    # Saturation and hue do not change a grey image, nor contrast an image of one colour. Only brightness is left.
    flat = np.full((4, 4, 3), 0.5, np.float32)
    got = draw(lambda key: augment.color_jitter(key, flat, 0.4, 0.0, 0.4, 0.1), 4_000)[:, 0, 0, 0]
    assert scipy.stats.kstest(got / 0.5, "uniform", (0.6, 0.8)).pvalue > UNLIKELY
    # With hue alone, a red image turns by up to 0.1: the green or the blue channel rises to 6 * 0.1.
    red = np.zeros((2, 2, 3), np.float32) + np.array([1, 0, 0], np.float32)
    got = draw(lambda key: augment.color_jitter(key, red, 0.0, 0.0, 0.0, 0.1), 4_000)[:, 0, 0]
    np.testing.assert_allclose(got[:, 0], 1.0, atol=1e-6)
    assert scipy.stats.kstest(got[:, 1] - got[:, 2], "uniform", (-0.6, 1.2)).pvalue > UNLIKELY


# Blur and scale.

gaussian_blur = jit(augment.gaussian_blur, static_argnums=2)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
@pytest.mark.parametrize(("kernel_size", "shape"), [(1, (4, 5)), (3, (4, 5)), (7, (12, 9)), (9, (5, 20))])
def test_gaussian_blur_equals_scipy(kernel_size, shape, sigma):
    # torchvision's kernel is exp(-x^2 / 2 sigma^2) at integers, normalised. Its 'reflect' is SciPy's 'mirror'.
    image = float_image(*shape)
    taps = np.array([math.exp(-0.5 * (x / sigma) ** 2) for x in range(-(kernel_size // 2), kernel_size // 2 + 1)])
    want = image.astype(np.float64)
    for axis in (0, 1):
        want = scipy.ndimage.correlate1d(want, taps / taps.sum(), axis=axis, mode="mirror")
    np.testing.assert_allclose(gaussian_blur(image, sigma, kernel_size), want, rtol=0, atol=1e-6)


def test_gaussian_blur_of_a_uint8_image_is_cut_to_levels():
    # torchvision 0.10.1 does to_tensor, blur in floats, mul(255).byte(). A value that is nearly whole may be cut to
    # either level, so these are left out.
    image = uint8_image(12, 16)
    taps = np.exp(-0.5 * (np.arange(-3, 4) / 1.3) ** 2)
    want = image.astype(np.float64)
    for axis in (0, 1):
        want = scipy.ndimage.correlate1d(want, taps / taps.sum(), axis=axis, mode="mirror")
    clear = np.abs(want - np.round(want)) > 1e-4
    assert clear.mean() > 0.99
    got = gaussian_blur(image, 1.3, 7)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got[clear], np.floor(want)[clear])


def test_normalize_and_to_float():
    image = np.array([[[0, 51, 255]]], np.uint8)
    got = augment.to_float(jnp.asarray(image))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, [[[0.0, 0.2, 1.0]]], rtol=1e-6)
    got = augment.normalize(got, (0.5, 0.1, 0.25), (0.5, 0.2, 0.25))
    np.testing.assert_allclose(got, [[[-1.0, 0.5, 3.0]]], rtol=1e-6)
    np.testing.assert_array_equal(augment.normalize(jnp.asarray(image), (0.5, 0.1, 0.25), (0.5, 0.2, 0.25)), got)


BAD_USE = {
    "method": lambda: augment.resized_crop(jnp.zeros((4, 4, 3)), 0, 0, 4, 4, 4, "nearest"),
    "even_kernel": lambda: augment.gaussian_blur(jnp.zeros((9, 9, 3)), 1.0, 4),
    "wide_kernel": lambda: augment.gaussian_blur(jnp.zeros((9, 3, 3)), 1.0, 7),
    "float_image": lambda: augment.to_float(jnp.zeros((4, 4, 3))),
    "one_channel": lambda: augment.to_float(jnp.zeros((4, 4, 1), jnp.uint8)),
    "batch": lambda: augment.to_float(jnp.zeros((2, 4, 4, 3), jnp.uint8)),
    "scale": lambda: augment.crop_params(jax.random.key(0), 8, 8, scale=(1.0, 0.2)),
    "ratio": lambda: augment.crop_params(jax.random.key(0), 8, 8, ratio=(0.0, 1.0)),
    "probability": lambda: augment.horizontal_flip(jax.random.key(0), jnp.zeros((4, 4, 3)), 1.5),
    "strength": lambda: augment.jitter_params(jax.random.key(0), 0.4, -0.1, 0.4, 0.1),
    "hue": lambda: augment.jitter_params(jax.random.key(0), 0.4, 0.4, 0.4, 0.6),
    "rounding": lambda: augment.make_weak_view(4, rounding="up", **PLAIN)(jax.random.key(0), jnp.zeros((4, 4, 3))),
    "float_levels": lambda: augment.make_weak_view(4, rounding="pillow", **PLAIN)(
        jax.random.key(0), jnp.zeros((4, 4, 3))
    ),
}


@pytest.mark.parametrize("call", BAD_USE.values(), ids=BAD_USE)
def test_bad_use_is_refused(call):
    with pytest.raises(ValueError, match=r"must|need"):
        call()


# Whole transforms.


def views(transform, image, n, seed=0):
    """Returns `n` views of one image, with as many keys."""
    images = jnp.broadcast_to(image, (n, *image.shape))
    return np.asarray(jit(functools.partial(augment.apply, transform))(keys(n, seed), images))


def ramp(side):
    """Returns uint8 [side, side, 3]. Red grows down, green to the right: a resized crop shows where it was cut."""
    y, x = np.mgrid[:side, :side]
    return np.stack([y, x, 0 * x], axis=-1).astype(np.uint8)


SCALES = {
    "simsiam": (augment.make_present_view, {"jitter_p": 0.0, "gray_p": 0.0, "blur_p": 0.0}, {}, (0.2, 1.0)),
    "simsiam_half": (augment.make_present_view, {"jitter_p": 0.0, "gray_p": 0.0}, {"scale": (0.5, 0.6)}, (0.5, 0.6)),
    "replay": (augment.make_weak_view, {}, {}, (0.08, 1.0)),
    "replay_half": (augment.make_weak_view, {}, {"scale": (0.5, 0.6)}, (0.5, 0.6)),
}


@pytest.mark.parametrize(("view", "off", "given", "scale"), SCALES.values(), ids=SCALES)
def test_views_crop_by_the_law_of_crop_params_and_flip(view, off, given, scale):
    # The slope of a ramp inside a view is the crop's length over the view's size; its sign tells a flip.
    side, size, n = 60, 24, 1_500
    got = 255 * views(view(size, **off, **given, **PLAIN), ramp(side), n)
    height = (got[:, 15, 12, 0] - got[:, 9, 12, 0]) / 6 * size
    width = (got[:, 12, 15, 1] - got[:, 12, 9, 1]) / 6 * size
    _, _, want_h, want_w = reference_crops(n, side, side, scale, (3 / 4, 4 / 3))
    for a, b in ((np.round(height), want_h), (np.round(np.abs(width)), want_w)):
        assert scipy.stats.ks_2samp(a, b).pvalue > UNLIKELY
    assert frequency_is(width < 0, 0.5)


@pytest.mark.parametrize(
    ("view", "method", "settings"),
    [
        (augment.make_present_view, "bilinear", {}),
        (augment.make_present_view, "bicubic", {"interpolation": "bicubic"}),
        (augment.make_weak_view, "bicubic", {}),
    ],
    ids=["simsiam", "cassle", "replay"],
)
def test_views_resample_as_pillow(view, method, settings):
    # A crop of area (nearly) 1 is the whole image. Pillow rounds by 0.6 levels, twice where the filter overshoots.
    image, off = (
        uint8_image(12, 12),
        {} if view is augment.make_weak_view else {"jitter_p": 0.0, "gray_p": 0.0, "blur_p": 0.0},
    )
    got = views(view(20, scale=(1.0, 1.0), flip=0.0, **settings, **off, **PLAIN), image, 1)[0]
    want = np.asarray(Image.fromarray(image).resize((20, 20), FILTERS[method]))
    np.testing.assert_allclose(255 * got, want, rtol=0, atol=1.2)


PADDED = {  # settings that turn off all but the crop
    "simsiam": (augment.make_present_view, {"jitter_p": 0.0, "gray_p": 0.0}),
    "replay": (augment.make_weak_view, {}),
}


@pytest.mark.parametrize(("view", "off"), PADDED.values(), ids=PADDED)
def test_padded_views_are_windows_of_the_image_with_zeros_around_it(view, off):
    # The zeros are black before the normalisation, as torchvision's RandomCrop does before ToTensor, in 81 windows.
    image, n = uint8_image(8, 8), 6_000
    got = views(view(8, padding=4, flip=0.0, **off, mean=MEAN, std=STD), image, n)
    padded = (np.pad(image, ((4, 4), (4, 4), (0, 0))) / 255 - np.array(MEAN)) / np.array(STD)
    windows = np.stack([padded[top : top + 8, left : left + 8] for top in range(9) for left in range(9)])
    distance = np.abs(got.reshape(n, 1, -1)[:, :, ::7] - windows.reshape(1, 81, -1)[:, :, ::7]).max(axis=2)
    place = distance.argmin(axis=1)
    np.testing.assert_allclose(got, windows[place], rtol=0, atol=3e-6)
    assert ((distance < 1e-3).sum(axis=1) == 1).all()
    counts = np.bincount(place, minlength=81)
    assert counts.min() > 0
    assert scipy.stats.chisquare(counts).pvalue > UNLIKELY


@pytest.mark.parametrize(("view", "off"), PADDED.values(), ids=PADDED)
def test_padded_views_flip_by_a_coin_that_does_not_know_the_place(view, off):
    # The sign of a ramp's slope tells a flip, and its values where it was cut.
    n, image = 6_000, 1 + ramp(8)
    got = np.round(255 * views(view(8, padding=2, **off, **PLAIN), image, n)).astype(int)
    flipped = got[:, 4, 3, 1] > got[:, 4, 4, 1]
    assert frequency_is(flipped, 0.5)
    upright = np.where(flipped[:, None, None, None], got[:, :, ::-1], got)
    top, left = upright[:, 4, 4, 0] - 3, upright[:, 4, 4, 1] - 3  # the place in the padded image, 0 to 4
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    for i in range(0, n, 500):
        np.testing.assert_array_equal(upright[i], padded[top[i] : top[i] + 8, left[i] : left[i] + 8])
    table = np.zeros((2, 25))
    np.add.at(table, (flipped.astype(int), top * 5 + left), 1)
    assert scipy.stats.chi2_contingency(table).pvalue > UNLIKELY


def test_padded_views_of_size_0_padding_are_the_image_and_scale_does_not_count():
    image = uint8_image(8, 8)
    for view, off in PADDED.values():
        got = views(view(8, padding=0, scale=(0.1, 0.2), flip=0.0, **off, **PLAIN), image, 3)
        np.testing.assert_allclose(got, np.broadcast_to(image / 255, got.shape), rtol=0, atol=1e-6)


def test_padded_present_view_jitters_after_the_crop():
    # Brightness changes the image but not the zeros. Contrast blends with the mean grey of the view, zeros included.
    image = np.full((8, 8, 3), 120, np.uint8)
    settings = {"padding": 4, "flip": 0.0, "gray_p": 0.0, "jitter_p": 1.0}
    got = views(augment.make_present_view(8, jitter=(0.4, 0.0, 0.0, 0.0), **settings, **PLAIN), image, 300)
    levels = [np.unique(np.round(view, 5)) for view in got]
    assert all(len(level) <= 2 and (len(level) == 1 or level[0] == 0) for level in levels)
    assert {len(level) for level in levels} == {1, 2}
    assert np.ptp([level[-1] for level in levels]) > 0.3
    lifted = views(augment.make_present_view(8, jitter=(0.0, 0.4, 0.0, 0.0), **settings, **PLAIN), image, 300)
    assert np.mean(lifted.min(axis=(1, 2, 3)) > 0.01) > 0.3  # less contrast lifts zeros towards the mean


def test_present_view_makes_its_choices_with_the_given_probabilities_and_independently():
    # A darker left half tells a flip, the mean grey tells a brightness jitter, equal channels tell grey.
    image = np.full((8, 8, 3), (100, 60, 80), np.uint8)
    image[:, :4] //= 2
    chances = {"flip": 0.6, "jitter_p": 0.7, "gray_p": 0.4}
    got = views(
        augment.make_present_view(8, scale=(1.0, 1.0), jitter=(0.4, 0.0, 0.0, 0.0), **chances, **PLAIN), image, 8_000
    )
    grey = got @ np.array([0.299, 0.587, 0.114])
    plain = (image / 255 @ np.array([0.299, 0.587, 0.114])).mean()
    seen = {
        "flip": grey[:, :, :4].mean(axis=(1, 2)) > grey[:, :, 4:].mean(axis=(1, 2)),
        "jitter_p": np.abs(grey.mean(axis=(1, 2)) - plain) > 1e-5,
        "gray_p": np.ptp(got, axis=3).max(axis=(1, 2)) < 1e-6,
    }
    for name, p in chances.items():
        assert frequency_is(seen[name], p), name
    cells = np.bincount(seen["flip"] + 2 * seen["jitter_p"] + 4 * seen["gray_p"], minlength=8)
    want = [math.prod(p if i >> bit & 1 else 1 - p for bit, p in enumerate(chances.values())) for i in range(8)]
    assert scipy.stats.chisquare(cells, 8_000 * np.array(want)).pvalue > UNLIKELY


def reference_jitter(rng, colour):
    """Applies torchvision's ColorJitter(0.4, 0.4, 0.4, 0.1) to an image of one colour, in plain Python."""

    def blend(colour, other, factor):
        return np.clip(factor * colour + (1 - factor) * other, 0, 1)

    for op in rng.permutation(4):
        factor = rng.uniform(0.6, 1.4)
        if op == 0:
            colour = blend(colour, 0, factor)
        elif op in (1, 2):
            colour = blend(colour, colour @ np.array([0.299, 0.587, 0.114]), factor)
        else:
            hue, saturation, value = colorsys.rgb_to_hsv(*colour)
            colour = np.array(colorsys.hsv_to_rgb((hue + rng.uniform(-0.1, 0.1)) % 1, saturation, value))
    return colour


def test_present_view_defaults():
    # An image of one colour hides crop and flip. (1 - 0.8) * (1 - 0.2) of all views are untouched, and 0.2 are grey.
    image = np.full((8, 8, 3), (220, 150, 100), np.uint8)
    got = views(augment.make_present_view(8, **PLAIN), image, 8_000)[:, 0, 0]
    grey = np.ptp(got, axis=1) < 1e-6
    untouched = np.abs(got - image[0, 0] / 255).max(axis=1) < 1e-5
    assert frequency_is(grey, 0.2)
    assert frequency_is(untouched, 0.16)
    touched = got[~grey & ~untouched].astype(np.float64)
    rng = np.random.default_rng(0)
    want = np.array([reference_jitter(rng, image[0, 0] / 255) for _ in range(8_000)])
    for name, statistic in {
        "red": lambda x: x[:, 0],
        "green": lambda x: x[:, 1],
        "blue": lambda x: x[:, 2],
        "chroma": lambda x: np.ptp(x, axis=1),
        "saturation": lambda x: np.ptp(x, axis=1) / x.max(axis=1),
        "hue": lambda x: np.array([(colorsys.rgb_to_hsv(*y)[0] + 0.5) % 1 for y in x]),
    }.items():
        assert scipy.stats.ks_2samp(statistic(touched), statistic(want)).pvalue > UNLIKELY, name


def test_present_view_jitters_before_grey_and_blurs_last():
    # If the hue is turned before the image becomes grey, the grey level of a red image changes.
    red = np.full((8, 8, 3), (200, 0, 0), np.uint8)
    turn = {"scale": (1.0, 1.0), "jitter": (0.0, 0.0, 0.0, 0.5), "jitter_p": 1.0, "gray_p": 1.0}
    assert np.ptp(views(augment.make_present_view(8, **turn, **PLAIN), red, 50)) > 0.2
    # Brightness clips the white squares before the blur. After it, a bright view could have a mean above (1 + 0) / 2.
    board = np.repeat((np.indices((40, 40)).sum(axis=0) % 2 * 230)[..., None], 3, axis=-1).astype(np.uint8)
    bright = {"scale": (1.0, 1.0), "jitter": (1.0, 0.0, 0.0, 0.0), "jitter_p": 1.0, "gray_p": 0.0, "blur_p": 1.0}
    mean = views(augment.make_present_view(40, **bright, **PLAIN), board, 100).mean(axis=(1, 2, 3))
    assert 0.49 < mean.max() < 0.51


VIEWS = {  # the view, its filter, and the settings of its crop
    "simsiam": (augment.make_present_view, "bilinear", {}),
    "simsiam_padded": (augment.make_present_view, "bilinear", {"padding": 4}),
    "replay": (augment.make_weak_view, "bicubic", {}),
    "replay_padded": (augment.make_weak_view, "bicubic", {"padding": 4}),
}


@pytest.mark.parametrize(("view", "method", "crop"), VIEWS.values(), ids=VIEWS)
def test_views_with_pillows_rounding_are_pillows_to_the_grey_level(view, method, crop):
    # The random draws are this package's, from the keys of the view; all that is done with them is Pillow's.
    n, strong, scale = (
        64,
        view is augment.make_present_view,
        (0.2, 1.0) if view is augment.make_present_view else (0.08, 1.0),
    )
    images = np.stack([uint8_image(32, 32, seed) // (1 + seed % 3) for seed in range(n)]).astype(np.uint8)
    transform = view(32, rounding="pillow", **crop, **PLAIN)
    got = 255 * np.asarray(jit(functools.partial(augment.apply, transform))(keys(n), images))

    def draws(key):
        crop_key, flip, *others = jax.random.split(key, 7 if strong else 2)
        window, box = jax.random.randint(crop_key, (2,), 0, 9), jnp.stack(augment.crop_params(crop_key, 32, 32, scale))
        if not strong:
            return window, box, jax.random.bernoulli(flip, 0.5)
        coins = [jax.random.bernoulli(k, p) for k, p in ((flip, 0.5), (others[0], 0.8), (others[2], 0.2))]
        return window, box, *coins, *augment.jitter_params(others[1], 0.4, 0.4, 0.4, 0.1)

    for image, shown, window, box, flip, *more in zip(images, got, *draw(draws, n)):
        padded, (top, left) = np.pad(image, ((4, 4), (4, 4), (0, 0))), window
        want = padded[top:, left:][:32, :32] if crop else pillow_crop(image, *box.tolist(), 32, method)
        want = want[:, ::-1] if flip else want
        if strong:
            jitter, gray, factors, order = more
            want = pillow_jitter(want, factors, order) if jitter else want
            want = np.asarray(Image.fromarray(want).convert("L").convert("RGB")) if gray else want
        np.testing.assert_allclose(shown, want, rtol=0, atol=1e-4)


def test_views_are_rounded_as_the_config_says_and_without_leave_no_trace_of_it():
    config = lump.get_config("digits")
    image, key = jnp.zeros((8, 8, 3), jnp.uint8), jax.random.key(0)
    for rounding, rounds in (("none", False), ("pillow", True)):
        config.augment.rounding = rounding
        views = make_augmentation(config)
        for view in (views.present, views.weak):
            after = str(jax.make_jaxpr(view)(key, image)).replace("u8[8,8,3]", "", 1)  # the image itself
            assert ("u8[" in after) == rounds
    assert settings.CONFIG["augment.rounding"].choices == tuple(augment.ROUNDING)


def blur_views(size, n, **settings):
    """Returns views of a white line on black, one row of each: the peak tells how much the line was blurred."""
    image = np.zeros((size, size, 3), np.uint8)
    image[:, size // 2] = 255
    off = {"scale": (1.0, 1.0), "flip": 0.0, "jitter_p": 0.0, "gray_p": 0.0}
    return views(augment.make_present_view(size, **off, **settings, **PLAIN), image, n)[:, size // 2, :, 0]


def test_present_view_blurs_only_large_images_unless_told():
    # A sigma of 0.2 takes 4e-6 from the peak of the line, one of 0.25 takes 3e-4: 1e-4 means a sigma above s.
    s = math.sqrt(0.5 / math.log(2e4))
    visible = (2.0 - s) / (2.0 - 0.1)
    image = jnp.zeros((32, 32, 3), jnp.uint8)
    default, never = (augment.make_present_view(32, **settings, **PLAIN) for settings in ({}, {"blur_p": 0.0}))
    default, never = (str(jax.make_jaxpr(view)(jax.random.key(0), image)) for view in (default, never))
    assert default == never
    assert frequency_is(blur_views(33, 1_000).max(axis=1) < 1 - 1e-4, 0.5 * visible)
    assert frequency_is(blur_views(32, 1_000, blur_p=0.3).max(axis=1) < 1 - 1e-4, 0.3 * visible)


def test_present_view_draws_sigma_and_sizes_its_kernel():
    # The kernel has 64 // 20 * 2 + 1 = 7 taps, so the line spreads to 3 pixels on each side. Sigma follows from the
    # ratio of two neighbours.
    lines = blur_views(64, 1_500, blur_p=1.0)
    assert (lines[:, 32 + 3] > 1e-6).mean() > 0.5
    assert (lines[:, 32 + 4] == 0).all()
    sigma = np.sqrt(0.5 / np.log(lines[:, 32] / np.maximum(lines[:, 33], 1e-30)))
    visible = sigma > 0.3
    assert frequency_is(visible, 1.7 / 1.9)
    assert scipy.stats.kstest(sigma[visible], "uniform", (0.3, 1.7)).pvalue > UNLIKELY


def test_solarize_is_that_of_pillow():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    want = np.asarray(ImageOps.solarize(Image.fromarray(image)))
    np.testing.assert_array_equal(augment.solarize(jnp.asarray(image)), want)
    got = augment.solarize(augment.to_float(jnp.asarray(image)))
    np.testing.assert_allclose(255 * got, want, rtol=0, atol=1e-4)


def test_each_view_has_its_own_probability_of_blur_and_solarisation():
    # The square of level 200 is solarised to 55. A blur takes from its corner, where it does not change the square.
    image, n = np.zeros((40, 40, 3), np.uint8), 600
    image[10:30, 10:30] = 200
    off = {"scale": (1.0, 1.0), "flip": 0.0, "jitter_p": 0.0, "gray_p": 0.0}
    transform = augment.make_present_view(40, **off, blur_p=(0.0, 1.0), solarize_p=(0.3, 0.8), **PLAIN)
    images = jnp.broadcast_to(jnp.asarray(image), (n, *image.shape))
    pair = jit(functools.partial(augment.two_views, transform))(keys(n), images)
    for view, solarized, blurred in zip(pair, (0.3, 0.8), (False, True)):
        middle, edge = np.round(255 * np.asarray(view)[:, 20, (20, 10), 0]).astype(int).T
        assert set(middle) == {55, 200}
        assert frequency_is(middle == 55, solarized)
        assert (edge != middle).any() == blurred
    alone = views(transform, image, n)  # a lone view is the first
    np.testing.assert_array_equal(np.unique(np.round(255 * alone[:, 20, 20, 0])), [55, 200])
    assert frequency_is(np.round(255 * alone[:, 20, 20, 0]) == 55, 0.3)


def test_flipping_last_as_in_the_code_of_cassle_gives_the_same_view():
    image, key = uint8_image(40, 40), jax.random.key(3)
    make = functools.partial(augment.make_present_view, 40, jitter_p=1.0, blur_p=1.0, solarize_p=1.0, **PLAIN)
    first, without = jit(make(flip=1.0))(key, image), jit(make(flip=0.0))(key, image)
    np.testing.assert_allclose(first[::, ::-1], without, rtol=0, atol=1e-5)


def test_views_are_normalised_last():
    image = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    want = (image / 255 - np.array(MEAN)) / np.array(STD)
    off = {"jitter_p": 0.0, "gray_p": 0.0}
    for transform in (
        augment.make_present_view(8, **off, mean=MEAN, std=STD),
        augment.make_weak_view(8, mean=MEAN, std=STD),
    ):
        np.testing.assert_allclose(views(transform, image, 1)[0], want, rtol=0, atol=3e-6)
    np.testing.assert_allclose(augment.make_plain_view(MEAN, STD)(jnp.asarray(image)), want, rtol=0, atol=3e-6)
    grey = views(augment.make_present_view(8, jitter_p=0.0, gray_p=1.0, mean=MEAN, std=STD), image, 1)[0]
    level = (image / 255) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey, (level[..., None] - np.array(MEAN)) / np.array(STD), rtol=0, atol=3e-6)


def test_ops_with_probability_zero_are_not_compiled():
    image = jnp.zeros((40, 40, 3), jnp.uint8)

    def equations(**settings):
        view = augment.make_present_view(40, **settings, **PLAIN)
        return str(jax.make_jaxpr(view)(jax.random.key(0), image))

    nothing = dict.fromkeys(("flip", "jitter_p", "gray_p", "blur_p", "solarize_p"), 0.0)
    assert "bernoulli" not in equations(**nothing)
    for name in nothing:
        assert "bernoulli" in equations(**{**nothing, name: 0.5}), name


# Batches.


@functools.cache
def batch_views():
    transform = augment.make_present_view(16, mean=MEAN, std=STD)
    return jit(functools.partial(augment.two_views, transform)), transform


def batch(n):
    return keys(n, seed=3), jnp.stack([jnp.asarray(uint8_image(20, 20, seed)) for seed in range(n)])


def test_two_views_are_views_under_two_keys_of_the_example():
    make, transform = batch_views()
    example_keys, images = batch(8)
    got = make(example_keys, images)
    one = jit(transform)
    for i, (key, image) in enumerate(zip(example_keys, images)):
        for view, view_key in zip(got, jax.random.split(key)):
            assert view.shape == (8, 16, 16, 3)
            assert view.dtype == jnp.float32
            np.testing.assert_allclose(view[i], one(view_key, image), rtol=0, atol=2e-5)


def test_an_example_does_not_depend_on_its_neighbours_or_its_place():
    make, _ = batch_views()
    example_keys, images = batch(8)
    whole, again = make(example_keys, images), make(example_keys, images)
    order = jnp.asarray([7, 2, 5, 0, 1, 6, 3, 4])
    shuffled = make(example_keys[order], images[order])
    other = make(example_keys, images.at[1:].set(0))
    for i in range(2):
        np.testing.assert_array_equal(whole[i], again[i])
        np.testing.assert_allclose(shuffled[i], whole[i][order], rtol=0, atol=2e-5)
        np.testing.assert_allclose(other[i][0], whole[i][0], rtol=0, atol=2e-5)


def test_two_views_are_independent():
    # Of the flips of both views of 4000 examples, all four pairs are equally likely.
    transform = augment.make_weak_view(8, **PLAIN)
    images = jnp.broadcast_to(ramp(8), (4_000, 8, 8, 3))
    first, second = jit(functools.partial(augment.two_views, transform))(keys(4_000), images)
    flips = [np.asarray(x[:, 4, 2, 1] > x[:, 4, 5, 1]) for x in (first, second)]
    assert scipy.stats.chisquare(np.bincount(flips[0] + 2 * flips[1], minlength=4)).pvalue > UNLIKELY
    tops = [np.asarray(x[:, 0, 0, 0]) for x in (first, second)]
    assert abs(np.corrcoef(*tops)[0, 1]) < 4 / math.sqrt(4_000)


def test_pmap_gives_what_one_device_gives():
    make = functools.partial(augment.two_views, augment.make_weak_view(16, mean=MEAN, std=STD))
    example_keys, images = batch(8)
    got = jax.pmap(make)(example_keys.reshape(4, 2), images.reshape(4, 2, 20, 20, 3))
    for a, b in zip(got, jit(make)(example_keys, images)):
        np.testing.assert_allclose(a.reshape(b.shape), b, rtol=0, atol=2e-5)
