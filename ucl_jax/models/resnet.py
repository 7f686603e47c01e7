"""ResNet-18 (He et al. 2016), by default for small images as in the official code: a 3x3 stem, and no max-pool."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from ucl_jax.models.layers import BatchNorm, Conv
from ucl_jax.types import Array

# The Flax collection in which backbones store their maps: after the stem (with its ReLU) and after each stage.
MAPS = "maps"


def keep_map(module: nn.Module, name: str, x: Array) -> None:
    """Stores a map as `NAME_map` in the collection MAPS if the caller of `apply` has made that mutable."""
    if not module.is_initializing():
        module.sow(MAPS, f"{name}_map", x)


class Stem(NamedTuple):
    """Holds how a ResNet begins: by a convolution, batch norm, ReLU, and perhaps a max-pool.

    Attributes:
      kernel: side of the convolution's kernel, odd.
      stride: of the convolution.
      padding: zeros on every side of the images, at least kernel // 2.
      pool: whether a 3x3 max-pool of stride 2 follows.
    """

    kernel: int = 3
    stride: int = 1
    padding: int = 1
    pool: bool = False


CIFAR, IMAGENET = Stem(), Stem(kernel=7, stride=2, padding=3, pool=True)


class BasicBlock(nn.Module):
    """A block of two 3x3 convolutions and a shortcut; the shortcut is a 1x1 convolution where the shape changes."""

    features: int
    stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None
    platform: str = "cpu"
    norm: type[nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), features]."""

        def conv_norm(y, name, kernel=3, stride=1, **options):
            y = Conv(self.features, kernel, stride, self.dtype, self.platform, name=name)(y)
            return self.norm(self.axis_name, self.dtype, self.platform, name=f"{name}_norm")(y, train, **options)

        y = conv_norm(x, "first", stride=self.stride, relu=True)
        if x.shape != y.shape:
            x = conv_norm(x, "shortcut", kernel=1, stride=self.stride)
        return conv_norm(y, "second", relu=True, residual=x)


class ResNet18(nn.Module):
    """A ResNet-18: a stem, four stages of two blocks each, then the spatial mean.

    The stages have `width` times 1, 2, 4 and 8 channels. The paper's network has `width=64`: 512 features and 11.2
    million parameters. `norm` is `BatchNorm`, or a module with the same fields and the same call.
    """

    width: int = 64
    dtype: Any = jnp.float32
    axis_name: str | None = None
    platform: str = "cpu"
    beginning: Stem = CIFAR
    norm: type[nn.Module] = BatchNorm

    def setup(self):
        """Makes the stem and the blocks, under the names that their parameters have."""
        begin = self.beginning
        self.stem = Conv(self.width, begin.kernel, begin.stride, self.dtype, self.platform)
        self.stem_norm = self.norm(self.axis_name, self.dtype, self.platform)
        for stage in range(4):
            for block in range(2):
                stride = 2 if stage > 0 and block == 0 else 1
                made = BasicBlock(self.width * 2**stage, stride, self.dtype, self.axis_name, self.platform, self.norm)
                setattr(self, f"stage{stage + 1}_block{block + 1}", made)

    def begin(self, x: Array, train: bool) -> Array:
        """Applies the stem to images [B, H, W, 3]: [B, H', W', width], which by default has the size of the images."""
        more = self.beginning.padding - self.beginning.kernel // 2  # beyond what the convolution pads by itself
        x = jnp.pad(x, ((0, 0), (more, more), (more, more), (0, 0))) if more else x
        x = self.stem_norm(self.stem(x), train, relu=True)
        if self.beginning.pool:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        keep_map(self, "stem", x)
        return x

    def stage(self, number: int, x: Array, train: bool) -> Array:
        """Applies stage 1, 2, 3 or 4 to a map [B, H, W, C] and returns its map; all but the first halve H and W."""
        for block in (1, 2):
            x = getattr(self, f"stage{number}_block{block}")(x, train)
        return x

    def __call__(self, x: Array, train: bool) -> Array:
        """Returns the features of images [B, H, W, 3]: float32 [B, 8 * width]."""
        x = self.begin(x, train)
        for number in (1, 2, 3, 4):
            x = self.stage(number, x, train)
            keep_map(self, f"stage{number}", x)
        return spatial_mean(x)


def spatial_mean(x: Array) -> Array:
    """Averages a map [B, H, W, C] over its places: float32 [B, C]."""
    return jnp.mean(x.astype(jnp.float32), axis=(1, 2))
