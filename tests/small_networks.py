"""Puts a network of two convolutions in the place of a ResNet-18, for tests of everything but the network.

Its step compiles in a fraction of the time. Tests take it by the fixture `small_networks`. Real processes take it by

    python -m tests.small_networks --config=configs/lump.py --workdir=DIR      # else as launch.py
"""

import sys
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from ucl_jax.models import architectures
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import Network
from ucl_jax.models.layers import BatchNorm, Conv
from ucl_jax.models.progressive import Lateral
from ucl_jax.models.resnet import CIFAR, Stem, spatial_mean


class Column(nn.Module):
    """Two convolutions with batch norm; the second also reads the first maps of earlier columns."""

    width: int = 4
    dtype: Any = jnp.float32
    axis_name: str | None = None
    platform: str = "cpu"
    stem: Stem = CIFAR

    @nn.compact
    def __call__(self, x, earlier, train):
        first = nn.relu(BatchNorm(self.axis_name, name="first_norm")(Conv(4, name="first")(x), train))
        second = BatchNorm(self.axis_name, name="second_norm")(Conv(8, stride=2, name="second")(first), train)
        if earlier:
            second = second + Lateral(8, name="lateral")([maps[0] for maps in earlier])
        return [first, nn.relu(second)]


class Backbone(nn.Module):
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train):
        return spatial_mean(Column(axis_name=self.axis_name, name="column")(x, (), train)[-1])


def plain(tasks, width, dtype, axis_name, platform, stem):
    return (Architecture(lambda heads: Network(Backbone(axis_name), **heads())),)


ARCHITECTURES = {"resnet18": plain, "progressive": partial(architectures.progressive, column=Column)}

if __name__ == "__main__":
    from ucl_jax.training.__main__ import main

    architectures.ARCHITECTURES.update(ARCHITECTURES)
    sys.exit(main(sys.argv[1:], "python -m tests.small_networks"))
