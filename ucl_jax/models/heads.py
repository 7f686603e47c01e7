"""The projector, the predictor, and the network that joins heads to a backbone."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from ucl_jax.models.layers import BatchNorm, Dense
from ucl_jax.types import Array


class Projector(nn.Module):
    """A projector: two affine layers with batch norm after each, and no ReLU on the output.

    It is that of SimSiam (Chen & He 2021) with two layers instead of three, as in the official code of UCL.
    """

    hidden_dim: int = 2048
    output_dim: int = 2048
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Projects features [B, D]: [B, output_dim]."""
        x = Dense(self.hidden_dim, self.dtype, name="hidden")(x)
        x = BatchNorm(self.axis_name, self.dtype, name="hidden_norm")(x, train, relu=True)
        x = Dense(self.output_dim, self.dtype, name="output")(x)
        return BatchNorm(self.axis_name, self.dtype, name="output_norm")(x, train)


class MLP(nn.Module):
    """Two affine layers with batch norm and ReLU between them, for predictors and for heads of distillation.

    If `output_dim` is None, the output has the dimension of the input.
    """

    hidden_dim: int = 512
    output_dim: int | None = None
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps [B, D] to [B, output_dim]."""
        y = Dense(self.hidden_dim, self.dtype, name="hidden")(x)
        y = BatchNorm(self.axis_name, self.dtype, name="hidden_norm")(y, train, relu=True)
        return Dense(self.output_dim or x.shape[-1], self.dtype, name="output")(y)


class Embedding(NamedTuple):
    """The outputs of a network for a batch of images; an output is () if the network has no such head.

    features: [B, F], the output of the backbone.
    projection: [B, D], the output of the projector.
    prediction: [B, D], the output of the predictor.
    logits: float32 [B, classes], the output of the linear head.
    """

    features: Array
    projection: Any
    prediction: Any
    logits: Any

    @property
    def output(self) -> Array:
        """Returns the output of the whole network: logits if it has a linear head, else the projection."""
        return self.projection if isinstance(self.logits, tuple) else self.logits


class Network(nn.Module):
    """A backbone with the heads that its objective needs: a projector, a predictor, a linear head for labels."""

    backbone: nn.Module
    projector: nn.Module | None = None
    predictor: nn.Module | None = None
    head: nn.Module | None = None

    def __call__(self, images: Array, train: bool) -> Embedding:
        """Embeds normalised images [B, H, W, 3]; `train` tells whether batch norm uses and updates batch statistics."""
        return self.embed(self.backbone(images, train), train)

    def embed(self, features: Array, train: bool) -> Embedding:
        """Applies the heads to features [B, F]."""
        projection = self.projector(features, train) if self.projector else ()
        prediction = self.predictor(projection, train) if self.predictor else ()
        logits = self.head(projection if self.projector else features).astype(jnp.float32) if self.head else ()
        return Embedding(features, projection, prediction, logits)
