"""ResNet-18 for small images (He et al. 2016), as in the official code: 3x3 stride-1 stem, no max-pool."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from ucl_jax.models.layers import BatchNorm, Conv
from ucl_jax.types import Array

# The collection in which backbones leave what they have after the stem (with its ReLU) and each stage.
MAPS = "maps"


def keep_map(module: nn.Module, name: str, x: Array) -> None:
    """Leaves a map as `NAME_map` in MAPS for a caller that makes it mutable; nothing otherwise."""
    if not module.is_initializing():
        module.sow(MAPS, f"{name}_map", x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, projected where the shape changes."""

    features: int
    stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features]."""

        def conv_norm(y, name, kernel=3, stride=1):
            y = Conv(self.features, kernel, stride, self.dtype, name=name)(y)
            return BatchNorm(self.axis_name, self.dtype, name=f"{name}_norm")(y, train)

        y = nn.relu(conv_norm(x, "first", stride=self.stride))
        y = conv_norm(y, "second")
        if x.shape != y.shape:
            x = conv_norm(x, "shortcut", kernel=1, stride=self.stride)
        return nn.relu(x + y)


class ResNet18(nn.Module):
    """Four stages of two blocks with `width`, 2, 4 and 8 `width` channels, then the spatial mean.

    `width=64` is the paper's: 512 features and 11.2 million parameters.
    """

    width: int = 64
    dtype: Any = jnp.float32
    axis_name: str | None = None

    def setup(self):
        """Stem and blocks, by the names that parameters have."""
        self.stem = Conv(self.width, dtype=self.dtype)
        self.stem_norm = BatchNorm(self.axis_name, self.dtype)
        for stage in range(4):
            for block in range(2):
                stride = 2 if stage > 0 and block == 0 else 1
                made = BasicBlock(self.width * 2**stage, stride, self.dtype, self.axis_name)
                setattr(self, f"stage{stage + 1}_block{block + 1}", made)

    def begin(self, x: Array, train: bool) -> Array:
        """[B, H, W, 3] -> [B, H, W, width], the stem: convolution, normalisation and ReLU."""
        x = nn.relu(self.stem_norm(self.stem(x), train))
        keep_map(self, "stem", x)
        return x

    def stage(self, number: int, x: Array, train: bool) -> Array:
        """[B, H, W, C] -> the map of stage 1, 2, 3 or 4; all but the first halve H and W."""
        for block in (1, 2):
            x = getattr(self, f"stage{number}_block{block}")(x, train)
        return x

    def __call__(self, x: Array, train: bool) -> Array:
        """[B, H, W, 3] -> float32 [B, 8 * width]."""
        x = self.begin(x, train)
        for number in (1, 2, 3, 4):
            x = self.stage(number, x, train)
            keep_map(self, f"stage{number}", x)
        return spatial_mean(x)


def spatial_mean(x: Array) -> Array:
    """[B, H, W, C] -> float32 [B, C]."""
    return jnp.mean(x.astype(jnp.float32), axis=(1, 2))
