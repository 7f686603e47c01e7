"""Results and gradients are those of a sum written out; accelerators keep what they have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ucl_jax import convolution

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
]


def operands(batch, height, width, channels, features, size, stride):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, height, width, channels)).astype(np.float32)
    kernel = rng.normal(size=(size, size, channels, features)).astype(np.float32)
    gradient = rng.normal(size=(batch, -(-height // stride), -(-width // stride), features)).astype(np.float32)
    return x, kernel, gradient


def by_definition(x, kernel, gradient, stride):
    """Result and gradients by loops over the places of the output."""
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


@pytest.mark.parametrize("patch_bytes", [1, 3000, 2**22])
@pytest.mark.parametrize("shape", SHAPES)
def test_result_and_gradients_are_those_of_the_definition(monkeypatch, shape, patch_bytes):
    monkeypatch.setattr(convolution, "PATCH_BYTES", patch_bytes)  # an example a time, some, all of them by XLA
    x, kernel, gradient = operands(*shape)
    result, pull = jax.vjp(lambda x, kernel: convolution.convolve(x, kernel, shape[-1]), x, kernel)
    for found, wanted in zip((result, *pull(gradient)), by_definition(x, kernel, gradient, shape[-1]), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_mapped_convolution_has_the_gradients_of_each_example(monkeypatch):
    """Two views of shared kernels, and gradients of single examples (GSS), are made with vmap."""
    monkeypatch.setattr(convolution, "PATCH_BYTES", 3000)
    x, kernel, gradient = operands(*SHAPES[1])

    def loss(kernel, x, gradient):
        return jnp.sum(convolution.convolve(x, kernel, 2) * gradient)

    views = x.reshape(2, 3, *x.shape[1:]), gradient.reshape(2, 3, *gradient.shape[1:])
    found = jax.vmap(jax.grad(loss), (None, 0, 0))(kernel, *views)
    for view in (0, 1):
        wanted = by_definition(views[0][view], kernel, views[1][view], 2)[2]
        np.testing.assert_allclose(found[view], wanted, rtol=1e-4, atol=1e-4)
    shared = jax.grad(lambda kernel: jnp.sum(jax.vmap(loss, (None, 0, 0))(kernel, *views)))(kernel)
    np.testing.assert_allclose(shared, found.sum(0), rtol=1e-4, atol=1e-4)


def test_gradients_of_bfloat16_are_summed_in_float32(monkeypatch):
    """4,096 ones: a sum in bfloat16 stays at 256, where adding 1 changes nothing."""
    monkeypatch.setattr(convolution, "PATCH_BYTES", 1)
    x, kernel = jnp.ones((4096, 1, 1, 1), jnp.bfloat16), jnp.ones((3, 3, 1, 1), jnp.bfloat16)
    of_kernel = convolution.patch_gradients(x, kernel, x, 1)[1]
    assert of_kernel.dtype == jnp.bfloat16
    assert of_kernel[1, 1, 0, 0] == 4096


@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
def test_products_are_for_large_layers_on_cpu_only(monkeypatch, backend):
    """Anything else is the program that JAX makes, with two views in one convolution."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    x, kernel, gradient = operands(8, 32, 32, 8, 8, 3, 1)
    views = np.stack([x, x]), kernel, np.stack([gradient, gradient])

    def text(convolve):
        def gradients(x, kernel, gradient):
            mapped = jax.vmap(lambda x, kernel: convolve(x, kernel, 1), (0, None))
            return jax.vjp(mapped, x, kernel)[1](gradient)

        return jax.jit(gradients).lower(*views).as_text()

    own, large = text(convolution._convolution), text(convolution.convolve)
    assert "feature_group_count = 2" not in own
    assert (large == own) == (backend != "cpu")
    assert ("stablehlo.while" in large) == (backend == "cpu")
    monkeypatch.setattr(convolution, "PATCH_BYTES", 2**23)
    assert text(convolution.convolve) == own
