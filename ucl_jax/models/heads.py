"""The projector, the predictor, and the network that joins heads to a backbone."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from ucl_jax.models.layers import BatchNorm, Dense, unit
from ucl_jax.types import Array


class MLP(nn.Module):
    """Affine layers with ReLU between them: projectors, predictors, and heads of distillation.

    Attributes:
      hidden_dim: width of every layer but the last.
      output_dim: width of the last layer; None takes the dimension of the input.
      layers: the number of affine layers, at least 1.
      norm: where batch norm is: "none", after the "hidden" layers, or after "all".
      unit_output: whether outputs are scaled to length 1.
    """

    hidden_dim: int = 512
    output_dim: int | None = None
    dtype: Any = jnp.float32
    axis_name: str | None = None
    layers: int = 2
    norm: str = "hidden"
    unit_output: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps [B, D] to [B, output_dim]."""
        output_dim = self.output_dim or x.shape[-1]
        for layer in range(1, self.layers):
            name = "hidden" if layer == 1 else f"hidden{layer}"
            x = Dense(self.hidden_dim, self.dtype, name=name)(x)
            if self.norm == "none":
                x = nn.relu(x)
            else:
                x = BatchNorm(self.axis_name, self.dtype, name=f"{name}_norm")(x, train, relu=True)
        x = Dense(output_dim, self.dtype, name="output")(x)
        if self.norm == "all":
            x = BatchNorm(self.axis_name, self.dtype, name="output_norm")(x, train)
        return unit(x).astype(self.dtype) if self.unit_output else x


class Embedding(NamedTuple):
    """The outputs of a network for a batch of images; an output is () if the network has no such head.

    Attributes:
      features: [B, F], the output of the backbone.
      projection: [B, D], the output of the projector.
      prediction: [B, D], the output of the predictor.
      logits: float32 [B, classes], the output of the linear head.
      target: [B, D], the output of the projector of the target network, which objectives that have one add.
    """

    features: Array
    projection: Any
    prediction: Any
    logits: Any
    target: Any = ()

    @property
    def output(self) -> Array:
        """Returns the output of the whole network: logits if it has a linear head, else the projection."""
        return self.projection if isinstance(self.logits, tuple) else self.logits

    @property
    def query(self) -> Array:
        """Returns what an objective compares with the key of another view: the prediction if any, or the projection."""
        return self.projection if isinstance(self.prediction, tuple) else self.prediction

    @property
    def key(self) -> Array:
        """Returns what queries of other views are compared with: the target's projection if any, or its own."""
        return self.projection if isinstance(self.target, tuple) else self.target


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
