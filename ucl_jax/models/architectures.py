"""Architectures: how the network of each phase of a run is put together.

A function of this module returns one `Architecture` for each phase of a run: only one, or one for each task if the
network grows.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from flax import linen as nn

from ucl_jax.models.heads import Network
from ucl_jax.models.layers import BatchNorm, GroupNormMish
from ucl_jax.models.progressive import Column, Progressive, only_column
from ucl_jax.models.resnet import CIFAR, ResNet18, Stem
from ucl_jax.types import Params


class Architecture(NamedTuple):
    """How the network of one phase of a run is put together.

    Attributes:
      build: makes the network, a module that is called as network(images, train) -> Embedding. Its argument is a
        function that returns new heads as keyword arguments of `Network`; it is called once for each backbone.
      active: takes a tree like the network's parameters, and returns it with zeros where this phase trains nothing.
      in_use: takes a tree like the network's parameters, and returns the branch of the network that is in use, whose
        own branches are the backbone and the heads.
    """

    build: Callable[[Callable[[], dict[str, Any]]], nn.Module]
    active: Callable[[Params], Params] = lambda tree: tree
    in_use: Callable[[Params], Params] = lambda tree: tree

    def backbone(self, tree: Params) -> Params:
        """Returns the branch of the backbone that is in use."""
        return self.in_use(tree)["backbone"]


def resnet18(
    tasks: int,
    width: int,
    dtype: Any,
    axis_name: str | None,
    platform: str,
    stem: Stem = CIFAR,
    norm: type[nn.Module] = BatchNorm,
) -> tuple[Architecture, ...]:
    """Returns the architecture of a run with one phase: one ResNet-18 for all tasks (He et al. 2016).

    Args:
      tasks: the number of training tasks; it makes no difference here.
      width: channels of the first stage.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the mapped axis of the devices, over which batch norm works, or None.
      platform: where the network will run, as in `jax.Device.platform`; see `convolution.convolve`.
      stem: how a backbone begins.
      norm: `BatchNorm`, or a module that is made and called in the same way.
    """

    def build(heads):
        return Network(backbone=ResNet18(width, dtype, axis_name, platform, stem, norm), **heads())

    return (Architecture(build),)


def progressive(
    tasks: int,
    width: int,
    dtype: Any,
    axis_name: str | None,
    platform: str,
    stem: Stem = CIFAR,
    column: Callable[..., nn.Module] = Column,
) -> tuple[Architecture, ...]:
    """Returns the architectures of a progressive network (PNN, Rusu et al. 2016), one phase for each task.

    Each phase trains a column of its own beside the earlier ones, which are frozen. This follows the paper of PNN: the
    official code of UCL never adds or freezes a column.

    Args:
      tasks: the number of training tasks, which is the number of phases and of columns.
      width: channels of a column's first stage.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the mapped axis of the devices, over which batch norm works, or None.
      platform: where the network will run, as in `jax.Device.platform`; see `convolution.convolve`.
      stem: how a backbone begins.
      column: makes a column from (width, dtype, axis_name, platform, stem); it is called as a `Column` is.
    """

    def phase(task):
        def build(heads):
            made = (width, dtype, axis_name, platform, stem)
            networks = tuple(Network(column(*made), **heads()) for _ in range(tasks))
            return Progressive(networks, task)

        return Architecture(build, partial(only_column, task), lambda tree: tree[f"networks_{task}"])

    return tuple(map(phase, range(tasks)))


# The values of `config.model.name`.
ARCHITECTURES: dict[str, Callable[..., tuple[Architecture, ...]]] = {
    "resnet18": resnet18,
    "resnet18_group_norm": partial(resnet18, norm=GroupNormMish),  # that of Osiris' code
    "progressive": progressive,
}
