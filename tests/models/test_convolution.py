"""Tests that results and gradients are those of a sum written out, and that accelerators compute XLA's convolutions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ucl_jax.models import convolution

on_cpu = partial(convolution.convolve, platform="cpu")

SHAPES = [  # batch, height, width, channels, features, kernel, stride
    (6, 8, 8, 3, 5, 3, 1),
    (6, 8, 8, 4, 6, 3, 2),
    (5, 7, 6, 4, 3, 3, 2),
    (4, 2, 2, 3, 4, 3, 1),
    (3, 1, 1, 5, 2, 3, 1),
    (4, 6, 6, 3, 5, 5, 1),
    (6, 8, 8, 4, 6, 1, 2),
    (5, 7, 7, 4, 6, 1, 2),
    (5, 6, 6, 4, 6, 1, 1),
    (4, 2, 2, 3, 4, 3, 2),
    (3, 2, 1, 4, 3, 5, 1),
    (6, 8, 8, 9, 8, 3, 1),  # computed by Winograd where it is large
    (5, 4, 6, 8, 10, 3, 1),
    (7, 4, 4, 8, 8, 3, 1),
]


def operands(batch, height, width, channels, features, size, stride):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, height, width, channels)).astype(np.float32)
    kernel = rng.normal(size=(size, size, channels, features)).astype(np.float32)
    gradient = rng.normal(size=(batch, -(-height // stride), -(-width // stride), features)).astype(np.float32)
    return x, kernel, gradient


def by_definition(x, kernel, gradient, stride):
    """Returns the result and the gradients, by loops over the places of the output."""
    size, (_, height, width, _) = len(kernel), gradient.shape
    padding = size // 2
    padded = np.pad(x.astype(np.float64), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    result, of_x, of_kernel = np.zeros(gradient.shape), np.zeros_like(padded), np.zeros(kernel.shape)
    for i in range(height):
        for j in range(width):
            here = np.s_[:, i * stride : i * stride + size, j * stride : j * stride + size]
            result[:, i, j] = np.einsum("bijc,ijcf->bf", padded[here], kernel)
            of_x[here] += np.einsum("bf,ijcf->bijc", gradient[:, i, j], kernel)
            of_kernel += np.einsum("bijc,bf->ijcf", padded[here], gradient[:, i, j])
    inside = np.s_[:, padding : padding + x.shape[1], padding : padding + x.shape[2]]
    return result, of_x[inside], of_kernel


def check_by_definition(convolve, shape):
    x, kernel, gradient = operands(*shape)
    result, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, shape[-1]), x, kernel)
    for found, wanted in zip((result, *pull(gradient)), by_definition(x, kernel, gradient, shape[-1]), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("patch_bytes", [1, 3000, 2**22])
@pytest.mark.parametrize("shape", SHAPES)
def test_result_and_gradients_are_those_of_the_definition(monkeypatch, shape, patch_bytes):
    monkeypatch.setattr(convolution, "PATCH_BYTES", patch_bytes)  # one example at a time, some, or all of them by XLA
    monkeypatch.setattr(convolution, "TILES", 20)
    check_by_definition(on_cpu, shape)


@pytest.mark.parametrize("shape", [(6, 8, 8, 4, 6, 3, 2), (6, 8, 8, 4, 6, 1, 2), (5, 7, 7, 4, 6, 1, 2)])
def test_so_are_those_of_accelerators(shape):
    check_by_definition(partial(convolution.convolve, platform="gpu"), shape)


@pytest.mark.parametrize(("tiles", "channels"), [(1, 64), (40, 64), (512, 64), (512, 512)])
def test_winograd_is_about_as_exact_as_the_sum_itself(monkeypatch, tiles, channels):
    """Checks that in float32, Winograd errs at most four times as much as XLA's own sum, on inputs that a ReLU leaves.

    TILES decides how many of the 12 examples are computed at a time.
    """
    monkeypatch.setattr(convolution, "TILES", tiles)
    x, kernel, gradient = operands(12, 4, 4, channels, 48, 3, 1)
    x = np.maximum(x, 0)

    def errors(convolve):
        result, pull = jax.vjp(convolve, x, kernel)
        return [np.sqrt(np.mean((found - true) ** 2)) for found, true in zip((result, *pull(gradient)), wanted)]

    wanted = by_definition(x, kernel, gradient, 1)
    own = errors(lambda x, kernel: convolution._convolution(x, kernel, 1))
    for name, error, usual in zip(("result", "of x", "of kernel"), errors(convolution.winograd), own):
        assert error < 4 * usual, (name, error, usual)


def test_gradients_of_single_examples_with_two_views_and_of_two_devices(monkeypatch):
    """Checks that nested vmap, as GSS uses it, and pmap give the gradients of JAX's own convolution."""
    monkeypatch.setattr(convolution, "TILES", 8)
    monkeypatch.setattr(convolution, "PATCH_BYTES", 1000)
    x, kernel, gradient = operands(4, 8, 8, 8, 8, 3, 1)
    views = np.stack([x, -x], axis=1)[:, :, None]  # axes: examples, views, 1

    def gradients(convolve, mapped, views):
        def loss(kernel, views, gradient):
            return jnp.sum(jax.vmap(lambda x: convolve(x, kernel, 1))(views) * gradient)

        return mapped(jax.grad(loss), in_axes=(None, 0, 0))(kernel, views, gradient[:, None, None])

    for mapped in (jax.vmap, jax.pmap):
        found, wanted = (gradients(one, mapped, views) for one in (on_cpu, convolution._convolution))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("shape", "patch_bytes"), [(1, 3000), (-2, 3000), (3, 3000), (-1, 3000), (-2, 2**22)])
def test_a_mapped_convolution_has_the_gradients_of_each_example(monkeypatch, shape, patch_bytes):
    """Checks that each kind of vmap gives the gradients of each example.

    The kinds are two views with a shared kernel, gradients of single examples (GSS), and a kernel for each of two
    networks.
    """
    monkeypatch.setattr(convolution, "PATCH_BYTES", patch_bytes)
    monkeypatch.setattr(convolution, "TILES", 40)
    x, kernel, gradient = operands(*SHAPES[shape])
    stride, count = SHAPES[shape][-1], len(x) // 2
    x, gradient = (a[: 2 * count].reshape(2, count, *a.shape[1:]) for a in (x, gradient))
    kernels = np.stack([kernel, 2 * kernel])

    def pulled(axes):
        def mapped(x, kernel):
            return jax.vmap(lambda x, kernel: on_cpu(x, kernel, stride), axes)(x, kernel)

        return mapped

    def check(found, view, kernel):
        wanted = by_definition(x[view], kernel, gradient[view], stride)
        for one, true in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, true, rtol=1e-4, atol=1e-4)
        return wanted[2]

    result, pull = jax.vjp(pulled((0, None)), x, kernel)
    of_x, shared = pull(gradient)
    result2, pull = jax.vjp(pulled((0, 0)), x, kernels)
    of_x2, of_kernels = pull(gradient)

    def loss(kernel, x, gradient):
        return jnp.sum(on_cpu(x, kernel, stride) * gradient)

    each = jax.vmap(jax.grad(loss), (None, 0, 0))(kernel, x, gradient)
    total = 0
    for view in (0, 1):
        total += check((result[view], of_x[view], each[view]), view, kernel)
        check((result2[view], of_x2[view], of_kernels[view]), view, kernels[view])
    np.testing.assert_allclose(shared, total, rtol=1e-4, atol=1e-4)


def test_gradients_of_bfloat16_are_summed_in_float32(monkeypatch):
    """Checks that a sum of 4,096 ones is exact; in bfloat16 it would stay at 256, where adding 1 changes nothing."""
    monkeypatch.setattr(convolution, "PATCH_BYTES", 1)
    x, kernel = jnp.ones((4096, 1, 1, 1), jnp.bfloat16), jnp.ones((3, 3, 1, 1), jnp.bfloat16)
    of_kernel = convolution.patch_gradients(x, kernel, x, 1)[1]
    assert of_kernel.dtype == jnp.bfloat16
    assert of_kernel[1, 1, 0, 0] == 4096


def lowered(convolve, shape):
    """Returns the text of the program that computes result and gradients of two views."""
    x, kernel, gradient = operands(*shape)

    def gradients(x, kernel, gradient):
        mapped = jax.vmap(lambda x, kernel: convolve(x, kernel, shape[-1]), (0, None))
        return jax.vjp(mapped, x, kernel)[1](gradient)

    return jax.jit(gradients).lower(np.stack([x, x]), kernel, np.stack([gradient, gradient])).as_text()


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
@pytest.mark.parametrize("shape", [*SHAPES, (8, 32, 32, 8, 8, 3, 1)])
def test_accelerators_have_the_convolutions_that_jax_makes(platform, shape):
    own = lowered(convolution._convolution, shape)
    found = lowered(partial(convolution.convolve, platform=platform), shape)
    assert found.count("stablehlo.convolution") == own.count("stablehlo.convolution")
    assert "stablehlo.while" not in found
    assert "stablehlo.dot" not in found
    assert "feature_group_count = 2" not in found  # both views are one convolution


@pytest.mark.parametrize("shape", [(8, 32, 32, 8, 8, 3, 1), (8, 32, 32, 8, 8, 3, 2)])
def test_products_are_for_large_layers(monkeypatch, shape):
    own = lowered(convolution._convolution, shape)
    monkeypatch.setattr(convolution, "PATCH_BYTES", 2**18)
    large = lowered(on_cpu, shape)
    assert large.count("stablehlo.while") >= 1
    assert large.count("stablehlo.convolution") == (0 if shape[-1] == 1 else own.count("stablehlo.convolution") - 1)
    monkeypatch.setattr(convolution, "PATCH_BYTES", 2**23)
    assert lowered(on_cpu, shape) == own
