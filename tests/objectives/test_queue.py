"""Tests the queue of embeddings on one device and over four."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ucl_jax.objectives.queue import pushed

DEVICES = 4


@pytest.mark.parametrize("size", [3, 8, 11])
def test_new_items_are_in_front_and_the_oldest_are_gone(size):
    queue, items = -1.0 - np.arange(2 * size).reshape(size, 2), np.arange(16.0).reshape(8, 2)
    expected = np.concatenate([items, queue])[:size]  # a batch larger than the queue leaves its first items
    np.testing.assert_array_equal(pushed(jnp.asarray(queue), jnp.asarray(items), None), expected)

    mapped = jax.pmap(lambda queue, items: pushed(queue, items, "devices"), "devices", in_axes=(None, 0))
    for found in mapped(queue, items.reshape(DEVICES, 2, 2)):
        np.testing.assert_array_equal(found, expected)


def test_no_gradient_reaches_what_entered():
    gradient = jax.grad(lambda items: jnp.sum(pushed(jnp.zeros((3, 2)), items, None)))(jnp.ones((2, 2)))
    assert not np.any(gradient)
