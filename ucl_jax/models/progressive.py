"""Progressive networks (Rusu et al. 2016): a network a task, which reads the maps of the earlier, frozen ones."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ucl_jax.models.heads import Embedding, Network
from ucl_jax.models.layers import Conv
from ucl_jax.models.resnet import ResNet18, keep_map, spatial_mean
from ucl_jax.types import Array, PyTree


class Lateral(nn.Module):
    """The adapter of Rusu et al. 2016, eq. 2, for maps: U relu(V [a_1 h_1, .., a_k h_k]).

    The scales a start at small random values, V reduces k maps to the channels of one, U is a 3x3 convolution.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Sequence[Array]) -> Array:
        """k maps [B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), features]."""
        scale = self.param("scale", nn.initializers.uniform(0.1), (len(maps),), jnp.float32).astype(self.dtype)
        x = jnp.concatenate([scale[k] * x for k, x in enumerate(maps)], axis=-1)
        x = nn.relu(Conv(maps[0].shape[-1], kernel=1, dtype=self.dtype, name="reduce")(x))
        return Conv(self.features, stride=2, dtype=self.dtype, name="project")(x)


class Column(nn.Module):
    """A ResNet-18 whose stages 2, 3 and 4 also read what earlier columns had before them.

    Laterals are added to a stage's output, and the sum is rectified; Rusu et al., whose layers are single ones, add
    before the only ReLU. Heads have no laterals.
    """

    width: int = 64
    dtype: Any = jnp.float32
    axis_name: str | None = None

    def setup(self):
        """The network, and its connections from the columns before."""
        self.resnet = ResNet18(self.width, self.dtype, self.axis_name)
        self.laterals = [Lateral(self.width * 2**stage, self.dtype) for stage in (1, 2, 3)]

    def __call__(self, x: Array, earlier: Sequence[Sequence[Array]], train: bool) -> list[Array]:
        """[B, H, W, 3] and the maps of the columns before, the first first -> the maps after each stage."""
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
    """One Network a task, each with a Column for a backbone and heads of its own; `column` is the one in use.

    The columns before it run with their running statistics, so that nothing of them changes.
    """

    networks: tuple[Network, ...]
    column: int

    def __call__(self, images: Array, train: bool) -> Embedding:
        """[B, H, W, 3] normalised images -> Embedding, by the column in use."""
        last = len(self.networks) - 1 if self.is_initializing() else self.column
        earlier: list[Sequence[Array]] = []
        for number, network in enumerate(self.networks[: last + 1]):
            used = number == last
            maps = network.backbone(images, earlier, train and used)
            if used or self.is_initializing():
                embedding = network.embed(spatial_mean(maps[-1]), train)
            earlier.append(maps)
        return embedding


def only_column(column: int, tree: PyTree) -> PyTree:
    """A tree like the parameters of a Progressive, with zeros in all columns but one."""
    name = f"networks_{column}"
    return {key: branch if key == name else jax.tree.map(jnp.zeros_like, branch) for key, branch in tree.items()}
