"""Projector and predictor, and the network that joins them to a backbone."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from ucl_jax.models.layers import BatchNorm, Dense
from ucl_jax.types import Array


class Projector(nn.Module):
    """Two affine layers with batch norm after each; no ReLU on the output (Chen & He 2021, UCL's two-layer form)."""

    hidden_dim: int = 2048
    output_dim: int = 2048
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """[B, D] -> [B, output_dim]."""
        x = Dense(self.hidden_dim, self.dtype, name="hidden")(x)
        x = nn.relu(BatchNorm(self.axis_name, self.dtype, name="hidden_norm")(x, train))
        x = Dense(self.output_dim, self.dtype, name="output")(x)
        return BatchNorm(self.axis_name, self.dtype, name="output_norm")(x, train)


class MLP(nn.Module):
    """Two affine layers with batch norm and ReLU between them: SimSiam's predictor, heads of distillation.

    Without `output_dim` the output has the input's dimension.
    """

    hidden_dim: int = 512
    output_dim: int | None = None
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """[B, D] -> [B, output_dim]."""
        y = Dense(self.hidden_dim, self.dtype, name="hidden")(x)
        y = nn.relu(BatchNorm(self.axis_name, self.dtype, name="hidden_norm")(y, train))
        return Dense(self.output_dim or x.shape[-1], self.dtype, name="output")(y)


class Embedding(NamedTuple):
    """What a network makes of images; () where it has no such head.

    features: [B, F] of the backbone.
    projection: [B, D] of the projector.
    prediction: [B, D] of the predictor.
    logits: float32 [B, classes] of the linear head.
    """

    features: Array
    projection: Any
    prediction: Any
    logits: Any

    @property
    def output(self) -> Array:
        """The logits of a supervised network, the projection of another."""
        return self.projection if isinstance(self.logits, tuple) else self.logits


class Network(nn.Module):
    """A backbone, and what of projector, predictor (SimSiam) and linear head (supervised) its objective has."""

    backbone: nn.Module
    projector: nn.Module | None = None
    predictor: nn.Module | None = None
    head: nn.Module | None = None

    def __call__(self, images: Array, train: bool) -> Embedding:
        """[B, H, W, 3] normalised images -> Embedding."""
        return self.embed(self.backbone(images, train), train)

    def embed(self, features: Array, train: bool) -> Embedding:
        """[B, F] features -> Embedding."""
        projection = self.projector(features, train) if self.projector else ()
        prediction = self.predictor(projection, train) if self.predictor else ()
        logits = self.head(projection if self.projector else features).astype(jnp.float32) if self.head else ()
        return Embedding(features, projection, prediction, logits)
