"""Measures the accuracy of a linear classifier that was trained on frozen features of augmented images.

This is the offline linear evaluation of self-supervised learning: every epoch crops and flips each image anew. The
probe `linear` computes features of plain images once instead, which is much cheaper.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ucl_jax.data.tasks import batch_indices
from ucl_jax.objectives import losses
from ucl_jax.probes.base import Probe, Settings, accuracy
from ucl_jax.probes.trained_run import TrainedRun
from ucl_jax.types import Batch


def _measure(run: TrainedRun, after: int, settings: Settings) -> dict:
    seen, objective, network = run.seen(after), run.objective(after), run.network(after)
    tasks = [run.stream.task(task) for task in range(seen)]
    image, label = (np.concatenate(parts) for parts in zip(*((task.train_image, task.train_label) for task in tasks)))
    classes, position = np.unique(label, return_inverse=True)
    per_epoch = -(-len(label) // settings["batch_size"])
    borders = np.array([round(at * settings["epochs"]) * per_epoch for at in settings["milestones"]], np.int32)

    def rate(step):
        passed = jnp.sum(step >= borders, dtype=jnp.float32)
        return settings["learning_rate"] * jnp.float32(settings["decay"]) ** passed

    optimizer = optax.chain(optax.add_decayed_weights(settings["weight_decay"]), optax.sgd(rate, settings["momentum"]))

    @jax.jit
    def step(classifier, opt_state, image, position, key):
        keys = jax.random.split(key, len(position))
        batch = Batch(image, position, jnp.zeros(len(position), bool))
        features = objective.embed(network, objective.views(keys, batch, "replayed").image[0], False)[0].features

        def loss(classifier):
            return losses.cross_entropy(_logits(classifier, features), jax.nn.one_hot(position, len(classes)))

        updates, opt_state = optimizer.update(jax.grad(loss)(classifier), opt_state, classifier)
        return optax.apply_updates(classifier, updates), opt_state

    width = jax.eval_shape(objective.features, network, image[:1]).features.shape[1]
    classifier = {"weight": jnp.zeros((width, len(classes))), "bias": jnp.zeros(len(classes))}
    opt_state, key = optimizer.init(classifier), jax.random.key(settings["seed"])
    for epoch in range(settings["epochs"]):
        indices, _ = batch_indices(settings["seed"], 0, epoch, len(label), settings["batch_size"])
        for place, index in enumerate(indices):
            step_key = jax.random.fold_in(key, epoch * per_epoch + place)
            classifier, opt_state = step(classifier, opt_state, image[index], position[index], step_key)

    together, within = [], []
    for task in tasks:
        features = run.feature_extractor(after)(task.test_image).features
        logits = np.asarray(_logits(classifier, features))
        own = np.isin(classes, task.train_label)
        together.append(accuracy(classes[np.argmax(logits, axis=1)], task.test_label))
        within.append(accuracy(classes[np.argmax(np.where(own, logits, -np.inf), axis=1)], task.test_label))
    unseen = [None] * (run.stream.num_tasks - seen)
    return {"task": within + unseen, "all": together + unseen}


def _logits(classifier, features):
    return losses.matmul(features, classifier["weight"]).astype(jnp.float32) + classifier["bias"][None]


linear_augmented = Probe(measure=_measure, needs_labels=True)
