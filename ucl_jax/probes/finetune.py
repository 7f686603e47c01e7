"""Measures the accuracy of a network that is trained further, as a whole, with the labels of another data set."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from ucl_jax.data.tasks import batch_indices
from ucl_jax.evaluation import evaluators
from ucl_jax.objectives import losses
from ucl_jax.probes.base import Probe, Settings, accuracy
from ucl_jax.probes.ood import datasets
from ucl_jax.probes.trained_run import TrainedRun
from ucl_jax.types import Batch, Variables


def _measure(run: TrainedRun, after: int, settings: Settings) -> dict:
    name, epochs, batch_size = settings["dataset"], settings["epochs"], settings["batch_size"]
    with run.other_data(name, settings["train_images"], settings["test_images"]) as stream:
        data = stream.task(0)
        num_classes = len(stream.classes[0])
    experiment = run.normalised_for(name)
    objective = experiment.phases[experiment.phase_index(after - 1)].objective
    network = run.network(after)
    optimizer = optax.sgd(settings["learning_rate"], settings["momentum"])

    def logits(trained, state, images, train):
        batch = Batch(images, jnp.zeros(len(images), jnp.int32), jnp.zeros(len(images), bool))
        view = objective.views(None, batch, "plain").image[0]
        out, state = objective.embed(Variables(trained["network"], state), view, train)
        return out.features.astype(jnp.float32) @ trained["weight"] + trained["bias"][None], state

    @jax.jit
    def step(trained, state, opt_state, images, labels):
        def loss(trained):
            out, updated = logits(trained, state, images, True)
            return losses.cross_entropy(out, jax.nn.one_hot(labels, num_classes)), updated

        grads, state = jax.grad(loss, has_aux=True)(trained)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(trained, updates), state, opt_state

    @jax.jit
    def predict(trained, state, images):
        return jnp.argmax(logits(trained, state, images, False)[0], axis=1)

    def test(trained, state):
        show = partial(predict, trained, state)
        return accuracy(evaluators.extract(show, data.test_image, run.evaluation.batch_size), data.test_label)

    width = jax.eval_shape(objective.features, network, data.test_image[:1]).features.shape[1]
    state = network.state
    trained = {"network": network.params, "weight": jnp.zeros((width, num_classes)), "bias": jnp.zeros(num_classes)}
    opt_state = optimizer.init(trained)
    by_epoch = []
    for epoch in range(epochs):
        indices, _ = batch_indices(settings["seed"], 0, epoch, len(data.train_label), batch_size)
        for index in indices:
            trained, state, opt_state = step(
                trained, state, opt_state, data.train_image[index], data.train_label[index]
            )
        by_epoch.append(test(trained, state))
    return {"accuracy": by_epoch[-1], "by_epoch": by_epoch, "chance": 100.0 / num_classes}


finetune = Probe(measure=_measure, cases=datasets)
