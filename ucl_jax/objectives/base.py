"""What an objective is, a tuple of pure functions over one network, and what several objectives share."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

from ucl_jax import augment
from ucl_jax.errors import argument_choice
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import Embedding
from ucl_jax.models.resnet import MAPS
from ucl_jax.objectives import losses
from ucl_jax.types import Array, Aux, Batch, Clock, How, ModelState, Params, Variables, Views

STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")


class Augmentation(NamedTuple):
    """Holds the ways in which one image uint8 [H, W, C] is shown, each as float [H, W, C].

    Attributes:
      present: key, image, number of the view -> the image augmented as in training.
      weak: key, image, number of the view -> the image augmented weakly, as replayed images are.
      plain: image -> the image as it is evaluated, without augmentation.
    """

    present: augment.Transform
    weak: augment.Transform
    plain: Callable[[Array], Array]


class Readout(NamedTuple):
    """Holds what probes see of B images.

    Attributes:
      features: float32 [B, F], of the backbone.
      logits: float32 [B, C], of the linear head; () for an objective without labels.
    """

    features: Array
    logits: Array | tuple[()]


def unchanged(network: Variables, clock: Clock) -> ModelState:
    """Returns the state as it is. This is `after_update` and `begin_task` of most objectives."""
    return network.state


class Distillation(NamedTuple):
    """The criterion of an objective for predictions of what a frozen network gives (CaSSLe, Fini et al. 2022).

    Attributes:
      init: key -> parameters of the criterion itself, which are trained, or ().
      loss: these parameters, predicted [V, B, D], the frozen network, its outputs [V, B, D] -> scalar, for V views. The
        mean of the scalar over devices is the loss of the global batch.
    """

    init: Callable[[Array], Params]
    loss: Callable[[Params, Array, Variables, Array], Array]


def without_parameters(loss: Callable[[Array, Array], Array]) -> Distillation:
    """Makes the criterion of a loss: predicted [V, B, D], outputs of the frozen network [V, B, D] -> scalar."""
    return Distillation(init=lambda key: (), loss=lambda own, predicted, frozen, target: loss(predicted, target))


def contrastive(temperature: float, axis_name: str | None) -> Distillation:
    """Makes CaSSLe's contrastive criterion: predictions and targets of all views must find each other.

    The other view of the same image is a negative, too.

    Args:
      temperature: cosines are divided by it.
      axis_name: candidates are those of the global batch of this axis; None for one device.
    """
    return without_parameters(partial(losses.symmetric_info_nce, temperature=temperature, axis_name=axis_name))


def mean_over_views(loss: Callable[[Array, Array], Array]) -> Distillation:
    """Makes the criterion that is the mean over views of a loss: predicted [B, D], target [B, D] -> scalar."""
    return without_parameters(lambda predicted, target: jnp.mean(jax.vmap(loss)(predicted, target)))


class Predicted(NamedTuple):
    """Holds what a trained head predicts of the outputs of a frozen network, and these, for `PseudoNegatives`.

    Attributes:
      predicted: [2, B, D] for both views.
      target: [2, B, D], what the frozen network gives.
      queue: such outputs of earlier batches [K, 2, D], at length 1; () for an objective that keeps none.
    """

    predicted: Array
    target: Array
    queue: Array | tuple[()]


class PseudoNegatives(NamedTuple):
    """How an objective learns with the outputs of a frozen network as further negatives (PNR, Cha et al. 2024).

    Attributes:
      init: key -> the queue of the frozen network's outputs before it has given any: random, or () for none.
      loss: the objective's loss, its outputs of both views, the network's state before them, `Predicted`, the weight of
        predictions, the weight of pseudo-negatives -> the whole loss, a scalar. Its mean over devices is the loss of
        the global batch.
    """

    init: Callable[[Array], Array | tuple[()]]
    loss: Callable[[Array, Embedding, ModelState, Predicted, float, float], Array]


def added_pseudo_negatives(
    near: Callable[[Array, Array], Array], far: Callable[[Array, Array], Array]
) -> PseudoNegatives:
    """Makes the pseudo-negatives of an objective that has no negatives: a term is added to its loss.

    A prediction is drawn to the frozen network's output for its view, and repelled from that for the other view.

    Args:
      near: the loss by which it is drawn: predicted [B, D], target [B, D] -> scalar.
      far: the loss by which it is repelled, which is subtracted.
    """

    def loss(value, outputs, state, past, weight, negative_weight):
        drawn = jnp.mean(jax.vmap(near)(past.predicted, past.target))
        repelled = jnp.mean(jax.vmap(far)(past.predicted, past.target[::-1]))
        return value + weight * drawn - negative_weight * repelled

    return PseudoNegatives(init=lambda key: (), loss=loss)


class Comparison(NamedTuple):
    """The loss of an objective that compares embeddings with each other and with nothing else.

    Attributes:
      forward: network, views -> outputs of both views, leaves [2, B, ...], state; in training mode.
      both: these outputs, or some of their rows -> the objective's loss, a scalar.
      one: queries [N, D], keys [N, D] (see `Embedding`) -> scalar. For the query of one view and the key of the other
        its mean over both directions is what `both` gives.
    """

    forward: Callable[[Variables, Views], tuple[Embedding, ModelState]]
    both: Callable[[Embedding], Array]
    one: Callable[[Array, Array], Array]


class Contrast(NamedTuple):
    """How an objective whose negatives are other images contrasts two sets of images (Osiris, Zhang et al. 2024).

    Attributes:
      project: parameters of a projector, features [N, F] -> embeddings [N, D].
      projector: the network's parameters -> those of its own projector.
      across: embeddings [2, B, D] of both views, those of another set [2, N, D] -> scalar. Views must find each other
        among images of the other set.
      distil: embeddings [2, B, D], past embeddings of the same views [2, B, D] -> scalar. They must find each other.
    """

    project: Callable[[Params, Array], Array]
    projector: Callable[[Params], Params]
    across: Callable[[Array, Array], Array]
    distil: Callable[[Array, Array], Array]


class Objective(NamedTuple):
    """What is learned from one batch: a tuple of pure functions over one network.

    Attributes:
      init: key, images uint8 [B, H, W, C] -> a fresh network.
      views: keys [B], batch, how -> views. `how` is one of four words. "present": as training shows its images. "weak":
        the same number of views, augmented as replayed images are. "replayed": one weak view, for a method that stores
        the other views or needs none. "plain": the same number of views as "present", not augmented; keys may be None.
      loss: network, views, clock -> scalar, Aux with the outputs of all views. The mean of the scalar over devices is
        the loss of the global batch.
      embed: network, view float [B, H, W, C], train (bool) -> Embedding, state. In training, statistics are those of
        the batch over all devices, and the running statistics in the state are updated.
      features: network, images uint8 [B, H, W, C] -> Readout.
      maps: network, images uint8 [B, H, W, C] -> a dict: name of a stage, "stem" to "stage4" -> [B, H', W', C'].
      backbone: a tree like params -> its branch of the backbone that this phase trains.
      active: a tree like params, clock -> the same with zeros where nothing is trained now.
      eval_loss: network, views -> scalar, the loss with running statistics, as a mean over examples that do not depend
        on each other. None for an objective that has no such loss.
      distillation: how predictions of a frozen network's projections are judged. None for an objective without
        projections.
      pseudo_negatives: see `PseudoNegatives`; None for an objective that has none.
      comparison: see `Comparison`; None for an objective that compares with a queue, prototypes or labels.
      contrast: see `Contrast`; None for an objective without negatives in the batch.
      after_update: network with new parameters, clock -> its new state, such as one with a moving average.
      begin_task: network, clock -> its state before the first step of a task.
      classes: the number of outputs of the linear head; None for an objective without labels.
    """

    init: Callable[[Array, Array], Variables]
    views: Callable[[Array | None, Batch, How], Views]
    loss: Callable[[Variables, Views, Clock], tuple[Array, Aux]]
    embed: Callable[[Variables, Array, bool], tuple[Embedding, ModelState]]
    features: Callable[[Variables, Array], Readout]
    maps: Callable[[Variables, Array], dict[str, Array]]
    backbone: Callable[[Params], Params]
    active: Callable[[Params, Clock], Params]
    eval_loss: Callable[[Variables, Views], Array] | None = None
    distillation: Distillation | None = None
    pseudo_negatives: PseudoNegatives | None = None
    comparison: Comparison | None = None
    contrast: Contrast | None = None
    after_update: Callable[[Variables, Clock], ModelState] = unchanged
    begin_task: Callable[[Variables, Clock], ModelState] = unchanged
    classes: int | None = None


def objective_of(
    network: nn.Module,
    architecture: Architecture,
    augmentation: Augmentation,
    loss: Callable[[Variables, Views, Clock], tuple[Array, Aux]],
) -> Objective:
    """Makes an objective of a network with running statistics, two views and a loss.

    What an objective has beside these, or does in another way, it puts in place with `_replace`.

    Args:
      network: applies backbone and heads.
      architecture: puts the network together.
      augmentation: shows the images.
      loss: see `Objective`.
    """
    embed = make_embed(network)
    return Objective(
        init=make_init(network, augmentation),
        views=make_two_views(augmentation),
        loss=loss,
        embed=embed,
        features=make_features(embed, augmentation),
        maps=make_maps(network, architecture, augmentation),
        backbone=architecture.backbone,
        active=lambda tree, clock: architecture.active(tree),
    )


def two_view_objective(
    architecture: Architecture,
    heads: Callable[[], dict[str, nn.Module]],
    augmentation: Augmentation,
    criterion: Callable[[Embedding], Array],
    distillation: Distillation,
    per_example: bool,
    *,
    compare: Callable[[Array, Array], Array],
    pseudo_negatives: PseudoNegatives,
    contrast: Contrast | None = None,
) -> Objective:
    """Makes an objective that compares two augmented views by their embeddings alone.

    Args:
      architecture: puts the network together.
      heads: makes the heads of the network, by name.
      augmentation: its `present` gives the two views.
      criterion: an Embedding of both views, leaves [2, B, ...] -> the loss, a scalar.
      distillation: see `Objective`.
      per_example: whether the criterion is a mean over examples that do not depend on each other; if it is not, there
        is no `Objective.eval_loss`.
      compare: `Comparison.one`.
      pseudo_negatives: see `Objective`.
      contrast: see `Objective`.
    """
    network = architecture.build(heads)
    embed = make_embed(network)
    forward = partial(forward_views, embed)

    def loss(variables, views, clock):
        outputs, state = forward(variables, views)
        return criterion(outputs), two_view_aux(outputs, state)

    def eval_loss(variables, views):
        return criterion(evaluate_views(embed, variables, views))

    return objective_of(network, architecture, augmentation, loss)._replace(
        eval_loss=eval_loss if per_example else None,
        distillation=distillation,
        pseudo_negatives=pseudo_negatives,
        comparison=Comparison(forward, criterion, compare),
        contrast=contrast,
    )


def two_view_aux(outputs: Embedding, state: ModelState) -> Aux:
    """Returns the `Aux` of an objective with two views, from its outputs, leaves [2, B, ...], and its state."""
    return Aux(state=state, metrics={"feature_std": feature_std(outputs.features[0])}, outputs=outputs)


def make_two_views(augmentation: Augmentation) -> Callable[[Array | None, Batch, How], Views]:
    """Makes `Objective.views` of an objective with two views and no labels."""

    def views(keys, batch, how):
        ways = {
            "present": lambda: augment.two_views(augmentation.present, keys, batch.image),
            "weak": lambda: augment.two_views(augmentation.weak, keys, batch.image),
            "replayed": lambda: (augment.apply(augmentation.weak, keys, batch.image),),
            "plain": lambda: (show(augmentation, batch.image),) * 2,
        }
        return Views(argument_choice("how", how, ways)(), None)

    return views


def show(augmentation: Augmentation, images: Array) -> Array:
    """Returns images uint8 [B, H, W, C] as they are evaluated: float [B, H, W, C], not augmented."""
    return jax.vmap(augmentation.plain)(images)


def make_init(network: nn.Module, augmentation: Augmentation) -> Callable[[Array, Array], Variables]:
    """Makes `Objective.init` of a network, whose running statistics are {} where none of its layers has them."""

    def init(key, images):
        variables = network.init(key, show(augmentation, images), train=True)
        return Variables(variables["params"], {"batch_stats": variables.get("batch_stats", {})})

    return init


def make_embed(network: nn.Module) -> Callable[[Variables, Array, bool], tuple[Embedding, ModelState]]:
    """Makes `Objective.embed` of a network, for the state that `make_init` makes."""

    def embed(variables, view, train):
        tree = {"params": variables.params, "batch_stats": variables.state["batch_stats"]}
        if not train:
            return network.apply(tree, view, train=False), variables.state
        outputs, updated = network.apply(tree, view, train=True, mutable=["batch_stats"])
        return outputs, variables.state | {"batch_stats": updated.get("batch_stats", {})}

    return embed


def make_maps(
    network: nn.Module, architecture: Architecture, augmentation: Augmentation
) -> Callable[[Variables, Array], dict[str, Array]]:
    """Makes `Objective.maps`. Stages are found by name, wherever a growing architecture has put them in its column."""

    def maps(variables, images):
        tree = {"params": variables.params, "batch_stats": variables.state["batch_stats"]}
        _, captured = network.apply(tree, show(augmentation, images), train=False, mutable=[MAPS])
        found = {
            path[-1].removesuffix("_map"): value
            for path, (value,) in flatten_dict(architecture.backbone(captured[MAPS])).items()
        }
        return {name: found[name] for name in STAGES}

    return maps


def make_features(embed: Callable, augmentation: Augmentation) -> Callable[[Variables, Array], Readout]:
    """Makes `Objective.features` from `Objective.embed`."""

    def features(variables, images):
        outputs, _ = embed(variables, show(augmentation, images), False)
        return Readout(outputs.features, outputs.logits)

    return features


def forward_views(
    embed: Callable[[Variables, Array, bool], tuple[Any, ModelState]], variables: Variables, views: Views
) -> tuple[Any, ModelState]:
    """Applies a network to several views in one pass, in training mode. Each view has its own batch statistics.

    Args:
      embed: see `Objective`.
      variables: the network.
      views: V views of the same size.

    Returns:
      Outputs with leaves [V, B, ...], and the state as it would be after V passes, one view after the other.
    """
    return jax.vmap(lambda view: embed(variables, view, True), out_axes=(0, None))(jnp.stack(views.image))


def evaluate_views(
    embed: Callable[[Variables, Array, bool], tuple[Any, ModelState]], variables: Variables, views: Views
) -> Any:
    """Applies a network to several views in evaluation mode; see `forward_views`. Outputs have leaves [V, B, ...]."""
    return jax.vmap(lambda view: embed(variables, view, False)[0])(jnp.stack(views.image))


def feature_std(features: Array) -> Array:
    """Computes the standard deviation over a batch of unit-length features, averaged, times sqrt(D).

    The batch is that of one device; the recorded metric is the mean over devices. It is about 1 when features are
    spread evenly, and 0 when they have collapsed (Chen & He 2021, section 4.1).

    Args:
      features: [B, D].

    Returns:
      float32 scalar.
    """
    features = jax.lax.stop_gradient(features.astype(jnp.float32))
    norm = jnp.linalg.norm(features, axis=-1, keepdims=True)
    return jnp.mean(jnp.std(features / jnp.maximum(norm, 1e-12), axis=0)) * features.shape[-1] ** 0.5
