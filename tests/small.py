"""What tests of methods share: a network that is quick to compile, views of its images, batches, keys and steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ucl_jax import objectives
from ucl_jax.methods import METHODS, Scenario
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import Network
from ucl_jax.models.resnet import BasicBlock
from ucl_jax.training.step import init_state, make_train_step
from ucl_jax.types import Batch, Keys

SIZE, EXAMPLES, TASKS = 8, 6, 3
SCENARIO = Scenario(TASKS, EXAMPLES)
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # half the time


class Backbone(nn.Module):
    """A block of ResNet-18 and the spatial mean: every kind of layer, quick to compile."""

    @nn.compact
    def __call__(self, x, train):
        return jnp.mean(BasicBlock(4, 2, name="block")(x, train), axis=(1, 2))


ARCHITECTURE = Architecture(lambda heads: Network(Backbone(), **heads()))
AUGMENTATION = objectives.Augmentation(
    view=lambda key, image: image.astype(jnp.float32) / 255.0 * jax.random.uniform(key, minval=0.5, maxval=2.0),
    replay_view=lambda key, image: image.astype(jnp.float32) / 255.0 - jax.random.uniform(key),
    eval_view=lambda image: image.astype(jnp.float32) / 255.0 - 0.5,
)
PROJECTOR = {"hidden_dim": 12, "output_dim": 6}
SETTINGS = {
    "simsiam": PROJECTOR | {"predictor_dim": 5},
    "barlow_twins": PROJECTOR | {"off_diagonal": 0.1},
    "supervised": PROJECTOR | {"projector": False, "classes": 1000},  # every label of `make_batch` has its class
}


@functools.cache
def objective(name, architecture=ARCHITECTURE):
    """For methods, which are compiled as a whole."""
    return objectives.OBJECTIVES[name](architecture, AUGMENTATION, **SETTINGS[name])


@functools.cache
def alone(name, architecture=ARCHITECTURE):
    """The same for tests to call: compiled function by function."""
    made = objective(name, architecture)
    return made._replace(
        init=quick_jit(made.init),
        views=quick_jit(made.views),
        weak_view=quick_jit(made.weak_view),
        replay_views=quick_jit(made.replay_views),
        loss=quick_jit(made.loss),
        embed=quick_jit(made.embed, static_argnums=3),
    )


@functools.cache
def started(name, architecture=ARCHITECTURE):
    """Parameters and statistics away from their start, where scales are 1 and biases 0."""
    rng = np.random.default_rng(0)
    variables = alone(name, architecture).init(jax.random.key(0), make_batch().image)
    return jax.tree.map(lambda x: x + rng.uniform(0, 0.2, x.shape).astype(np.float32), variables)


@functools.cache
def value_and_grad(name, architecture=ARCHITECTURE):
    """params, model_state, views -> (loss of the objective alone, Aux), gradient."""
    return quick_jit(jax.value_and_grad(objective(name, architecture).loss, has_aux=True))


def compiled(method):
    """A method with its functions compiled."""
    return method._replace(
        init=quick_jit(method.init),
        loss=quick_jit(method.loss),
        recall=quick_jit(method.recall, static_argnums=2),
        observe=quick_jit(method.observe),
    )


def make_raw(name, learned="simsiam", **settings):
    """A method, to be compiled as a part of the train step."""
    return METHODS[name](objective(learned), SCENARIO, **settings)


def make_method(name, learned="simsiam", **settings):
    """A method with its functions compiled."""
    return compiled(make_raw(name, learned, **settings))


def make_batch(seed=0, first=True):
    """Labels are 100 * seed + place, so that an example can be told from its label."""
    image = np.random.default_rng(seed).integers(0, 256, (EXAMPLES, SIZE, SIZE, 3), dtype=np.uint8)
    label = jnp.arange(EXAMPLES, dtype=jnp.int32) + 100 * seed
    return Batch(jnp.asarray(image), label, jnp.broadcast_to(jnp.asarray(first), (EXAMPLES,)))


def make_keys(seed=0):
    batch, *example = jax.random.split(jax.random.key(seed), 4)
    return Keys(batch, *(jax.random.split(key, EXAMPLES) for key in example))


RUN_KEY = jax.random.key(42)


@jax.jit
def step_keys(step):
    """The keys of a step as `train_step` makes them from RUN_KEY: for recall, for observe, for the loss."""
    recall, observe, batch, *example = jax.random.split(jax.random.fold_in(RUN_KEY, step), 6)
    places = jnp.arange(EXAMPLES)
    return recall, observe, Keys(batch, *(jax.vmap(jax.random.fold_in, (None, 0))(key, places) for key in example))


def start_state(method, optimizer, variables):
    return init_state(*variables, method, optimizer, make_batch())


def make_step(method, optimizer, **settings):
    """The train step, compiled: state, batch -> state, metrics."""
    step = quick_jit(make_train_step(method, optimizer, **settings))
    return lambda state, batch: step(state, batch, RUN_KEY)


def to_numpy(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def assert_trees_close(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def assert_trees_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)
