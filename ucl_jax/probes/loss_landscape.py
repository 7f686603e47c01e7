"""Measures the loss around a network, on a plane of two random, filter-normalised directions (Li et al. 2018).

It is the paper's fig. 5.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ucl_jax.errors import require
from ucl_jax.models.layers import dense_init
from ucl_jax.objectives import losses
from ucl_jax.probes.base import Probe, Settings, each, finite
from ucl_jax.probes.trained_run import TrainedRun
from ucl_jax.types import Array, Batch, Clock, Params, Variables


def filter_normalised(key: Array, params: Params) -> Params:
    """Draws a direction in which every filter is as long as that filter in `params` (Li et al. 2018, section 4).

    A filter is all that makes one output: a slice of the last axis. The direction is zero for biases, and for scales
    and shifts of batch norm.
    """
    leaves, structure = jax.tree.flatten(params)

    def normalised(key, leaf):
        if leaf.ndim < 2:
            return jnp.zeros_like(leaf)
        axes = tuple(range(leaf.ndim - 1))
        random = jax.random.normal(key, leaf.shape, leaf.dtype)
        length = jnp.sqrt(jnp.sum(jnp.square(leaf), axes, keepdims=True))
        return random * length / jnp.sqrt(jnp.sum(jnp.square(random), axes, keepdims=True))

    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [normalised(k, leaf) for k, leaf in zip(keys, leaves)])


def random_classifier(key: Array, features: int, classes: int) -> tuple[Array, Array]:
    """Draws the weight [features, classes] and the bias [classes] of a linear classifier as `torch.nn.Linear` does.

    Both are uniform between -1 / sqrt(features) and 1 / sqrt(features).
    """
    weight_key, bias_key = jax.random.split(key)
    return dense_init(weight_key, (features, classes)), dense_init(bias_key, (classes,), fan_in=features)


def _classifier_loss(objective, state, batch, classes, key):
    """Makes the paper's loss: the cross-entropy of a random linear classifier of the task's classes, on features."""
    place = jnp.argmax(batch.label[:, None] == jnp.asarray(classes)[None, :], axis=1)
    target = jax.nn.one_hot(place, len(classes))

    def loss(params):
        features = objective.features(Variables(params, state), batch.image).features
        weight, bias = random_classifier(key, features.shape[1], len(classes))
        return losses.cross_entropy(features @ weight + bias[None, :], target)

    return loss


def _objective_loss(objective, state, batch, classes, key):
    """Makes the loss of the objective as in training, with the same views everywhere on the plane."""
    views = objective.views(jax.random.split(key, len(batch.label)), batch, "present")
    zero, one = jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32)
    clock = Clock(step=zero, task=zero, task_step=zero, task_steps=one, epoch_steps=one)  # where a run starts
    return lambda params: objective.loss(Variables(params, state), views, clock)[0]


LOSSES = {"classifier": _classifier_loss, "objective": _objective_loss}


def _measure(run: TrainedRun, after: int, settings: Settings) -> dict:
    make = LOSSES[settings["loss"]]
    task, points = settings["task"], settings["points"]
    last = run.stream.num_tasks - 1
    require(task <= last, f"loss_landscape.task is {task}; tasks are counted from 0, and the last is {last}")
    require(
        settings["loss"] == "objective" or run.stream.labelled,
        "loss_landscape.loss is classifier, which needs labels, and the images of this run have none; give objective",
    )
    require(points % 2 == 1, f"loss_landscape.points is {points}; it must be odd")
    data = run.stream.task(task)
    index = np.random.default_rng(settings["seed"]).permutation(len(data.train_label))[: settings["images"]]
    arrays = data.train_image[index], data.train_label[index], np.ones(len(index), bool)
    batch = Batch(*map(jnp.asarray, arrays))
    network = run.network(after)
    one, two, key = jax.random.split(jax.random.key(settings["seed"]), 3)
    directions = filter_normalised(one, network.params), filter_normalised(two, network.params)
    loss = make(run.objective(after), network.state, batch, run.stream.classes[task], key)

    @jax.jit
    def at(x, y):
        return loss(jax.tree.map(lambda p, a, b: p + x * a + y * b, network.params, *directions))

    steps = np.linspace(-settings["span"], settings["span"], points, dtype=np.float32)
    values = [[finite(at(x, y)) for y in steps] for x in steps]  # rows: first direction; columns: second
    return {"steps": steps.round(6).tolist(), "loss": values, "images": len(index)}


loss_landscape = Probe(measure=_measure, cases=each("loss", "task"))
