"""Builds what tests of methods share: a network that is quick to compile, its views, batches, keys and steps."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from configs import objectives as recipes
from ucl_jax import objectives
from ucl_jax.methods import METHODS, Scenario, Step
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import MLP, Network
from ucl_jax.models.resnet import BasicBlock
from ucl_jax.training.step import init_state, make_train_step
from ucl_jax.types import Batch, Clock, Keys, Span, TrainedParams, Variables

SIZE, EXAMPLES, TASKS = 8, 6, 3
SCENARIO = Scenario(tasks=TASKS, batch_size=EXAMPLES, replayed=EXAMPLES, head=MLP)
CLOCK = Clock(*(jnp.asarray(number, jnp.int32) for number in (7, 1, 2, 5, 1)))  # the third step of task 1
SPAN = Span(*(jnp.asarray(number, jnp.int32) for number in (0, 0, 100, 10)))


class Backbone(nn.Module):
    """A block of ResNet-18 and the spatial mean. It has every kind of layer, and is quick to compile."""

    @nn.compact
    def __call__(self, x, train):
        return jnp.mean(BasicBlock(4, 2, name="block")(x, train), axis=(1, 2))


ARCHITECTURE = Architecture(lambda heads: Network(Backbone(), **heads()))
AUGMENTATION = objectives.Augmentation(
    present=lambda key, image, view: (
        image.astype(jnp.float32) / 255.0 * jax.random.uniform(key, minval=0.5, maxval=2.0)
    ),
    weak=lambda key, image, view: image.astype(jnp.float32) / 255.0 - jax.random.uniform(key),
    plain=lambda image: image.astype(jnp.float32) / 255.0 - 0.5,
)
CHANGED = {
    "hidden_dim": 12,
    "output_dim": 6,
    "predictor_dim": 5,
    "off_diagonal": 0.1,
    "momentum": 0.9,
    "first_update": "at_once",
    "classes": 1000,  # every label of `make_batch` has its class
    "temperature": 0.05,
    "queue_size": 400,  # more than 60 steps fill, and no multiple of a batch
    "prototypes": 9,
    "queue_epoch": 2,
    "frozen_epochs": 1,
}
# Objective -> its settings: those of the embedded digits, but for CHANGED.
SETTINGS = {
    name: {key: CHANGED.get(key, value) for key, value in of_benchmark("digits").items()}
    for name, of_benchmark in recipes.OBJECTIVES.items()
}


@functools.cache
def objective(name, architecture=ARCHITECTURE):
    """Builds an objective for use inside a method, which is compiled as a whole."""
    return objectives.OBJECTIVES[name](architecture, AUGMENTATION, **SETTINGS[name])


@functools.cache
def alone(name, architecture=ARCHITECTURE):
    """Builds an objective for tests to call directly: functions are compiled, views are present, the clock is CLOCK."""
    made = objective(name, architecture)
    views, loss = jax.jit(made.views, static_argnums=2), jax.jit(made.loss)
    return made._replace(
        init=jax.jit(made.init),
        views=lambda keys, batch, how="present": views(keys, batch, how),
        loss=lambda network, views, clock=CLOCK: loss(network, views, clock),
        embed=jax.jit(made.embed, static_argnums=2),
    )


class Start(NamedTuple):
    """Parameters and state that a test starts from. `*start` are the first two arguments of `Method.loss`."""

    params: TrainedParams
    state: dict

    @property
    def network(self):
        return Variables(self.params.network, self.state)


@functools.cache
def started(name, architecture=ARCHITECTURE):
    """Returns a start with random scales and biases: those of a fresh network, 1 and 0, would hide mistakes."""
    rng = np.random.default_rng(0)
    variables = alone(name, architecture).init(jax.random.key(0), make_batch().image)
    variables = jax.tree.map(lambda x: x + rng.uniform(0, 0.2, x.shape).astype(np.float32), variables)
    return Start(TrainedParams(variables.params, ()), variables.state)


@functools.cache
def value_and_grad(name, architecture=ARCHITECTURE):
    """Returns a function (network, views) -> ((loss of the objective alone, Aux), gradient)."""
    made = objective(name, architecture)

    def loss(params, state, views):
        return made.loss(Variables(params, state), views, CLOCK)

    compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return lambda network, views: compiled(*network, views)


def compiled(method):
    """Returns the method with its functions compiled; the clock of its loss is CLOCK."""
    loss = jax.jit(method.loss)
    return method._replace(
        init=jax.jit(method.init),
        loss=lambda params, state, memory, batch, recalled, keys, clock=CLOCK: loss(
            params, state, memory, batch, recalled, keys, clock
        ),
        recall=jax.jit(method.recall, static_argnums=2),
        observe=jax.jit(method.observe),
    )


def make_raw(name, learned="simsiam", **settings):
    """Builds a method that is not compiled, for use inside a train step."""
    return METHODS[name](objective(learned), SCENARIO, **settings)


def make_method(name, learned="simsiam", **settings):
    """Builds a method whose functions are compiled."""
    return compiled(make_raw(name, learned, **settings))


def memory_of(method, batch, start):
    """Returns the memory of a method before the first step."""
    return method.init(jax.random.key(0), batch, start.network)[1]


def ended(method, memory, network=None):
    """Returns the memory of a method after the end of a task."""
    return method.end_task((), memory, network)[1]


def end_of_task(method, state):
    """Returns the training state after the end of a task."""
    own, memory = method.end_task(state.params.method, state.memory, state.network)
    return state.replace(params=state.params._replace(method=own), memory=memory)


def seen(batch, outputs=(), grads=(), before=(), after=(), last=True):
    """Builds the `Step` that `Method.observe` receives."""
    return Step(batch, recalled=(), last=last, outputs=outputs, grads=grads, before=before, after=after)


def make_batch(seed=0, first=True):
    """Returns random images whose labels are 100 * seed + place, so that an example can be told from its label."""
    image = np.random.default_rng(seed).integers(0, 256, (EXAMPLES, SIZE, SIZE, 3), dtype=np.uint8)
    label = jnp.arange(EXAMPLES, dtype=jnp.int32) + 100 * seed
    return Batch(jnp.asarray(image), label, jnp.broadcast_to(jnp.asarray(first), (EXAMPLES,)))


def make_keys(seed=0):
    batch, *example = jax.random.split(jax.random.key(seed), 4)
    return Keys(batch, *(jax.random.split(key, EXAMPLES) for key in example))


RUN_KEY = jax.random.key(42)


@jax.jit
def step_keys(step):
    """Returns the keys that `train_step` derives from RUN_KEY for a step: for recall, for observe, for the loss."""
    recall, observe, batch, *example = jax.random.split(jax.random.fold_in(RUN_KEY, step), 6)
    places = jnp.arange(EXAMPLES)
    return recall, observe, Keys(batch, *(jax.vmap(jax.random.fold_in, (None, 0))(key, places) for key in example))


def start_state(method, optimizer, start):
    return init_state(start.network, method, optimizer, make_batch(), jax.random.key(0))


def make_step(method, optimizer, learned="simsiam", architecture=ARCHITECTURE):
    """Compiles the train step (state, batch) -> (state, metrics).

    The task is the first one unless `span` says otherwise.
    """
    step = jax.jit(make_train_step(objective(learned, architecture), method, optimizer))
    return lambda state, batch, span=SPAN: step(state, batch, RUN_KEY, span)


def to_numpy(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def assert_trees_close(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def assert_trees_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)
