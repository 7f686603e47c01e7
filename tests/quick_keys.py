"""Holds a generator of random numbers that is quick to trace and to compile, for tests that need no good ones.

A key is one number of 32 bits. New keys and random bits are hashes of the key and a count.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl

BITS = {8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}


def mix(x):
    """Hashes uint32 [...], each alone, by the function lowbias32 of Chris Wellons."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def seed(number):
    return mix(jnp.asarray(number).astype(jnp.uint32))[None]


def fold_in(key, data):
    return mix(key + mix(data.astype(jnp.uint32) + np.uint32(0x9E3779B9)))


def split(key, shape):
    return counted(key, shape, 0x3C6EF372)[..., None]


def random_bits(key, width, shape):
    return counted(key, shape, 0xDAA66D2B).astype(BITS[width])


def counted(key, shape, salt):
    """Hashes a key with the place of each number in an array; `salt` keeps uses of the same key apart."""
    place = jax.lax.iota(jnp.uint32, math.prod(shape))
    return mix(key + mix(place + np.uint32(salt))).reshape(shape)


QUICK = define_prng_impl(
    key_shape=(1,), seed=seed, split=split, random_bits=random_bits, fold_in=fold_in, name="quick", tag="quick"
)
key = functools.partial(jax.random.key, impl=QUICK)
