"""Progressive networks (Rusu et al. 2016): one column for each task, which also reads the maps of earlier columns."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ucl_jax.models.heads import Embedding, Network
from ucl_jax.models.layers import Conv
from ucl_jax.models.resnet import CIFAR, ResNet18, Stem, keep_map, spatial_mean
from ucl_jax.types import Array, Params


class Lateral(nn.Module):
    """The adapter of Rusu et al. 2016, equation 2, for maps: U relu(V [a_1 h_1, .., a_k h_k]).

    h_1 .. h_k are the maps of k earlier columns. The scales a_i start at small random values, V is a 1x1 convolution to
    the channels of one map, and U is a 3x3 convolution with stride 2.
    """

    features: int
    dtype: Any = jnp.float32
    platform: str = "cpu"

    @nn.compact
    def __call__(self, maps: Sequence[Array]) -> Array:
        """Combines k maps [B, H, W, C]: [B, ceil(H / 2), ceil(W / 2), features]."""
        scale = self.param("scale", nn.initializers.uniform(0.1), (len(maps),), jnp.float32).astype(self.dtype)
        x = jnp.concatenate([scale[k] * x for k, x in enumerate(maps)], axis=-1)
        conv = partial(Conv, dtype=self.dtype, platform=self.platform)
        x = nn.relu(conv(maps[0].shape[-1], kernel=1, name="reduce")(x))
        return conv(self.features, stride=2, name="project")(x)


class Column(nn.Module):
    """A ResNet-18 whose stages 2, 3 and 4 also read the maps that earlier columns have before these stages.

    A `Lateral` is added to the output of a stage, and a ReLU is applied to the sum. The columns of Rusu et al. have
    single layers, to which the laterals are added before the layer's only ReLU. Heads have no laterals.
    """

    width: int = 64
    dtype: Any = jnp.float32
    axis_name: str | None = None
    platform: str = "cpu"
    stem: Stem = CIFAR

    def setup(self):
        """Makes the ResNet, and the laterals from earlier columns."""
        self.resnet = ResNet18(self.width, self.dtype, self.axis_name, self.platform, self.stem)
        self.laterals = [Lateral(self.width * 2**stage, self.dtype, self.platform) for stage in (1, 2, 3)]

    def __call__(self, x: Array, earlier: Sequence[Sequence[Array]], train: bool) -> list[Array]:
        """Returns the maps after each of the four stages, for images [B, H, W, 3].

        `earlier` holds such lists of the earlier columns, the oldest first.
        """
        maps = [self.resnet.stage(1, self.resnet.begin(x, train), train)]
        for number, lateral in zip((2, 3, 4), self.laterals):
            x = self.resnet.stage(number, maps[-1], train)
            if earlier:
                x = nn.relu(x + lateral([column[number - 2] for column in earlier]))
            maps.append(x)
        for number, x in enumerate(maps, start=1):
            keep_map(self, f"stage{number}", x)
        return maps


class Progressive(nn.Module):
    """A progressive network: for each task a `Network` with a `Column` as its backbone and heads of its own.

    Attributes:
      networks: one for each task, in the order of the tasks.
      column: the number of the column in use. Earlier columns run with their running statistics, which do not change.
    """

    networks: tuple[Network, ...]
    column: int

    def __call__(self, images: Array, train: bool) -> Embedding:
        """Embeds normalised images [B, H, W, 3] by the column in use; `train` is as for `Network`."""
        last = len(self.networks) - 1 if self.is_initializing() else self.column
        earlier: list[Sequence[Array]] = []
        for number, network in enumerate(self.networks[: last + 1]):
            used = number == last
            maps = network.backbone(images, earlier, train and used)
            if used or self.is_initializing():
                embedding = network.embed(spatial_mean(maps[-1]), train)
            earlier.append(maps)
        return embedding


def only_column(column: int, tree: Params) -> Params:
    """Returns a tree like the parameters of a `Progressive`, with zeros in all columns except one."""
    name = f"networks_{column}"
    return {key: branch if key == name else jax.tree.map(jnp.zeros_like, branch) for key, branch in tree.items()}
