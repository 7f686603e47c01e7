"""Architectures: networks for all tasks, or one for each phase of a run."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from flax import linen as nn

from ucl_jax.models.heads import Network
from ucl_jax.models.progressive import Column, Progressive, only_column
from ucl_jax.models.resnet import ResNet18
from ucl_jax.types import PyTree


class Architecture(NamedTuple):
    """How the network of one phase of a run is put together.

    build: () -> heads of `Network`, called as often as heads are needed -> network(images, train) -> Embedding.
    active: a tree like the parameters -> the same, with zeros where this phase trains nothing.
    backbone: a tree like the parameters -> the branch of the backbone in use.
    """

    build: Callable[[Callable[[], dict[str, Any]]], nn.Module]
    active: Callable[[PyTree], PyTree] = lambda tree: tree
    backbone: Callable[[PyTree], PyTree] = lambda tree: tree["backbone"]


def resnet18(tasks: int, width: int, dtype: Any, axis_name: str | None) -> tuple[Architecture, ...]:
    """One ResNet-18 for all tasks."""
    return (Architecture(lambda heads: Network(backbone=ResNet18(width, dtype, axis_name), **heads())),)


def progressive(
    tasks: int, width: int, dtype: Any, axis_name: str | None, column: Callable[..., nn.Module] = Column
) -> tuple[Architecture, ...]:
    """PNN (Rusu et al. 2016): a phase a task, each trains a column of its own beside the earlier ones, frozen.

    The official code never adds a column nor freezes one; this is built from the paper. `column` is made from width,
    dtype and axis_name, and called as a Column is.
    """

    def phase(task):
        def build(heads):
            networks = tuple(Network(column(width, dtype, axis_name), **heads()) for _ in range(tasks))
            return Progressive(networks, task)

        return Architecture(build, partial(only_column, task), lambda tree: tree[f"networks_{task}"]["backbone"])

    return tuple(map(phase, range(tasks)))


ARCHITECTURES = {"resnet18": resnet18, "progressive": progressive}
