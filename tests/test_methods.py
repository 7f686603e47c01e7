"""Methods on a small real network: LUMP against steps put together by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from ucl_jax import mixup, objectives
from ucl_jax.errors import UsageError
from ucl_jax.methods import METHODS, Step
from ucl_jax.models.resnet import BasicBlock
from ucl_jax.types import Batch, Keys

SIZE, EXAMPLES, BUFFER = 8, 6, 10
# What produced Table 1 of the paper, but for the size of the buffer; alpha 1 is uniform, so that weights mix visibly.
DEFAULTS = {
    "buffer_size": BUFFER, "alpha": 1.0, "replay_pair": "frozen", "mix_with": "buffer", "mix_per": "batch",
    "count": "presentations",
}  # fmt: skip
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # half the time


class Backbone(nn.Module):
    """A block of ResNet-18 and the spatial mean: every kind of layer, quick to compile."""

    @nn.compact
    def __call__(self, x, train):
        return jnp.mean(BasicBlock(4, 2, name="block")(x, train), axis=(1, 2))


AUGMENTATION = objectives.Augmentation(
    view=lambda key, image: image.astype(jnp.float32) / 255.0 * jax.random.uniform(key, minval=0.5, maxval=2.0),
    replay_view=lambda key, image: image.astype(jnp.float32) / 255.0 - jax.random.uniform(key),
    eval_view=lambda image: image.astype(jnp.float32) / 255.0 - 0.5,
)
OBJECTIVE = objectives.simsiam(Backbone(), AUGMENTATION, hidden_dim=12, output_dim=6, predictor_dim=5)
FINETUNE = METHODS["finetune"](OBJECTIVE)
objective_loss, make_views_of = quick_jit(OBJECTIVE.loss), quick_jit(OBJECTIVE.views)
finetune_loss = quick_jit(FINETUNE.loss)


@functools.cache
def lump(**changes):
    """LUMP with its functions compiled, once for each setting."""
    method = METHODS["lump"](OBJECTIVE, **(DEFAULTS | changes))
    return method._replace(
        init=quick_jit(method.init),
        loss=quick_jit(method.loss),
        recall=quick_jit(method.recall, static_argnums=2),
        observe=quick_jit(method.observe),
    )


def make_batch(seed=0, first=True):
    """Labels are 100 * seed + place, so that an example can be told from its label."""
    image = np.random.default_rng(seed).integers(0, 256, (EXAMPLES, SIZE, SIZE, 3), dtype=np.uint8)
    label = jnp.arange(EXAMPLES, dtype=jnp.int32) + 100 * seed
    return Batch(jnp.asarray(image), label, jnp.broadcast_to(jnp.asarray(first), (EXAMPLES,)))


def make_keys(seed=0):
    batch, *example = jax.random.split(jax.random.key(seed), 4)
    return Keys(batch, *(jax.random.split(key, EXAMPLES) for key in example))


@pytest.fixture(scope="module")
def start():
    return quick_jit(OBJECTIVE.init)(jax.random.key(0), make_batch().image)


def make_views(batch, seed):
    return make_views_of(jax.random.split(jax.random.key(1000 + seed), EXAMPLES), batch)


def observe(method, memory, *seeds, first=True):
    """The memory after batches of these seeds, with views that `make_views` can make again."""
    for seed in seeds:
        batch = make_batch(seed, first)
        memory = method.observe(memory, Step(batch, make_views(batch, seed), (), ()), jax.random.key(seed))
    return memory


def signature(tree):
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


# Finetune.


def test_a_method_is_found_by_the_name_of_its_file():
    assert {"finetune", "lump"} <= set(METHODS)
    for name, make in METHODS.items():
        assert (make.__module__, make.__name__) == (f"ucl_jax.methods.{name}", name)


def test_finetune_is_the_objective_on_views_of_the_present_and_keeps_nothing(start):
    batch, keys = make_batch(), make_keys()
    memory = FINETUNE.init(batch, start[0])
    assert memory == FINETUNE.recall(memory, jax.random.key(0), EXAMPLES) == ()
    value, aux = finetune_loss(*start, memory, batch, (), keys)
    expected, expected_aux = objective_loss(*start, make_views_of(keys.example, batch))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert set(aux.metrics) == {"feature_std"}
    np.testing.assert_allclose(aux.metrics["feature_std"], expected_aux.metrics["feature_std"], rtol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), aux.model_state, expected_aux.model_state)
    assert FINETUNE.observe(memory, Step(batch, aux.extras, (), ()), jax.random.key(0)) == ()
    assert FINETUNE.end_task(memory, start[0]) == ()
    grads = {"a": jnp.asarray([1.0, -2.0])}
    np.testing.assert_array_equal(FINETUNE.project(memory, grads)["a"], [1.0, -2.0])
    assert FINETUNE.stored is None


# LUMP: the loss.


def test_lump_starts_with_an_empty_buffer_of_zeros(start):
    memory = lump().init(make_batch(), start[0])
    assert memory.task == 0
    assert memory.buffer.seen == 0
    items = memory.buffer.items
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype.name), (items.batch, items.frozen, items.task))
    image, label, first = ((BUFFER, SIZE, SIZE, 3), "uint8"), ((BUFFER,), "int32"), ((BUFFER,), "bool")
    frozen = ((BUFFER, SIZE, SIZE, 3), "float32")
    assert shapes == (Batch(image, label, first), frozen, ((BUFFER,), "int32"))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(items))


@pytest.mark.parametrize("replay_pair", ["frozen", "fresh"])
@pytest.mark.parametrize("mix_per", ["batch", "example"])
def test_lump_with_an_empty_buffer_is_finetune_exactly(start, replay_pair, mix_per):
    method, batch, keys = lump(replay_pair=replay_pair, mix_per=mix_per), make_batch(), make_keys()
    memory = method.init(batch, start[0])
    past = method.recall(memory, jax.random.key(0), EXAMPLES)
    value, aux = method.loss(*start, memory, batch, past, keys)
    expected, expected_aux = finetune_loss(*start, (), batch, (), keys)
    assert value == expected
    jax.tree.map(np.testing.assert_array_equal, aux.model_state, expected_aux.model_state)
    assert aux.metrics["lambda"] == 1.0


def by_hand(past, keys, batch, replay_pair, mix_per, alpha):
    """The views of LUMP's step, mixed one example at a time in NumPy, and the mean weight."""
    present = make_views_of(keys.example, batch)
    if replay_pair == "frozen":
        recalled = OBJECTIVE.replay_views(keys.past, past.batch, past.frozen)
    else:
        recalled = make_views_of(keys.past, past.batch)
    if mix_per == "batch":
        weight = np.full(EXAMPLES, mixup.sample_lambda(keys.batch, alpha), np.float64)
    else:
        weight = np.array([mixup.sample_lambda(key, alpha) for key in keys.method], np.float64)
        assert len(set(weight)) == EXAMPLES
    assert np.all((weight > 0.01) & (weight < 0.99))  # these keys do mix
    mixed = [
        np.stack([w * np.asarray(x) + (1 - w) * np.asarray(y) for w, x, y in zip(weight, one, other)])
        for one, other in zip(present, recalled)
    ]
    return tuple(jnp.asarray(view, jnp.float32) for view in mixed), weight.mean()


@pytest.mark.parametrize("replay_pair", ["frozen", "fresh"])
@pytest.mark.parametrize("mix_per", ["batch", "example"])
def test_lump_with_a_filled_buffer_equals_a_step_by_hand(start, replay_pair, mix_per):
    method, batch, keys = lump(replay_pair=replay_pair, mix_per=mix_per), make_batch(9), make_keys(5)
    memory = observe(method, method.init(batch, start[0]), 1, 2)
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    value, aux = method.loss(*start, memory, batch, past, keys)

    views, weight = by_hand(past, keys, batch, replay_pair, mix_per, DEFAULTS["alpha"])
    expected, expected_aux = objective_loss(*start, views)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(aux.metrics["lambda"], weight, rtol=1e-6)
    np.testing.assert_allclose(aux.metrics["feature_std"], expected_aux.metrics["feature_std"], rtol=1e-4)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, aux.model_state, expected_aux.model_state)
    # What `observe` gets are the views of the present alone, not the mixed ones.
    jax.tree.map(close, aux.extras, make_views_of(keys.example, batch))


def test_alpha_is_betas_parameter(start):
    batch, keys, method = make_batch(9), make_keys(5), lump(alpha=0.1, mix_per="example")
    memory = observe(method, method.init(batch, start[0]), 1)
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    _, aux = method.loss(*start, memory, batch, past, keys)
    weights, others = ([float(mixup.sample_lambda(key, alpha)) for key in keys.method] for alpha in (0.1, 1.0))
    assert abs(np.mean(weights) - np.mean(others)) > 0.01
    np.testing.assert_allclose(aux.metrics["lambda"], np.mean(weights), rtol=1e-5)


# LUMP: the memory.


def test_observe_stores_examples_their_second_view_and_their_task(start):
    method = lump(buffer_size=2 * EXAMPLES)
    memory = method.end_task(observe(method, method.init(make_batch(), start[0]), 1), start[0])
    memory = observe(method, memory, 2)
    items = memory.buffer.items
    for task, seed in enumerate((1, 2)):  # a buffer with room for both keeps them in order
        place, batch = slice(task * EXAMPLES, (task + 1) * EXAMPLES), make_batch(seed)
        jax.tree.map(lambda stored, x, p=place: np.testing.assert_array_equal(stored[p], x), items.batch, batch)
        np.testing.assert_array_equal(items.frozen[place], make_views(batch, seed)[1])
        np.testing.assert_array_equal(items.task[place], np.full(EXAMPLES, task))
    assert memory.task == 1
    assert memory.buffer.seen == 2 * EXAMPLES
    stored, filled = method.stored(memory)
    jax.tree.map(np.testing.assert_array_equal, stored, items.batch)
    np.testing.assert_array_equal(filled, np.ones(2 * EXAMPLES, bool))
    _, filled = lump().stored(observe(lump(), lump().init(make_batch(), start[0]), 1))
    np.testing.assert_array_equal(filled, np.arange(BUFFER) < EXAMPLES)


def test_recall_gives_each_stored_example_with_its_own_frozen_view(start):
    method = lump()
    memory = observe(method, method.init(make_batch(), start[0]), 1)
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    labels = np.asarray(past.batch.label)
    assert sorted(labels) == list(range(100, 100 + EXAMPLES))  # a full batch uses all that is stored once
    batch = make_batch(1)
    np.testing.assert_array_equal(past.batch.image, batch.image[labels - 100])
    np.testing.assert_array_equal(past.frozen, make_views(batch, 1)[1][labels - 100])


def test_past_tasks_mixes_with_earlier_tasks_only(start):
    method, batch, keys = lump(mix_with="past_tasks", buffer_size=4 * EXAMPLES), make_batch(9), make_keys(5)
    memory = observe(method, method.init(batch, start[0]), 1, 2)

    # Task 0: there is no earlier one, so the step is finetune's and nothing is recalled, though the buffer has items.
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(past))
    value, aux = method.loss(*start, memory, batch, past, keys)
    assert aux.metrics["lambda"] == 1.0
    np.testing.assert_array_equal(value, finetune_loss(*start, (), batch, (), keys)[0])

    # Task 1: examples of batches 1 and 2, never of batch 3, which belongs to task 1 itself.
    memory = observe(method, method.end_task(memory, start[0]), 3)
    for seed in range(20):
        labels = np.asarray(method.recall(memory, jax.random.key(seed), EXAMPLES).batch.label)
        assert len(set(labels)) == EXAMPLES
        assert set(labels // 100) <= {1, 2}
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    value, aux = method.loss(*start, memory, batch, past, keys)
    views, weight = by_hand(past, keys, batch, "frozen", "batch", DEFAULTS["alpha"])
    np.testing.assert_allclose(value, objective_loss(*start, views)[0], rtol=1e-4)
    np.testing.assert_allclose(aux.metrics["lambda"], weight, rtol=1e-6)

    # Task 2: batch 3 belongs to the past now.
    memory = method.end_task(memory, start[0])
    labels = np.asarray(method.recall(memory, jax.random.key(3), 3 * EXAMPLES).batch.label)
    assert sorted(labels) == sorted(100 * seed + place for seed in (1, 2, 3) for place in range(EXAMPLES))


def test_with_the_buffer_the_present_task_is_mixed_with_too(start):
    method = lump(buffer_size=4 * EXAMPLES)
    memory = observe(method, method.init(make_batch(), start[0]), 1)
    memory = observe(method, method.end_task(memory, start[0]), 2)
    labels = np.asarray(method.recall(memory, jax.random.key(3), 2 * EXAMPLES).batch.label)
    assert sorted(labels) == sorted(100 * seed + place for seed in (1, 2) for place in range(EXAMPLES))


@pytest.mark.parametrize(("count", "seen", "labels"), [
    ("presentations", 3 * EXAMPLES, {100, 101, 102, 103, 104, 105}),
    ("examples", 4, {100, 101, 103, 105}),
])  # fmt: skip
def test_count_decides_whether_an_example_is_offered_once_or_each_time(start, count, seen, labels):
    method = lump(count=count, buffer_size=4 * EXAMPLES)
    first = jnp.asarray([True, True, False, True, False, True])
    memory = observe(method, method.init(make_batch(), start[0]), 1, first=first)
    memory = observe(method, memory, 1, 1, first=False)  # two more epochs
    assert memory.buffer.seen == seen
    stored, filled = method.stored(memory)
    assert set(np.asarray(stored.label)[np.asarray(filled)]) == labels
    assert filled.sum() == seen


def test_memory_keeps_its_structure_shapes_and_dtypes(start):
    """Else a compiled step would be compiled again, or fail, after the first."""
    for settings in ({}, {"count": "examples", "mix_with": "past_tasks", "buffer_size": 3}):
        method = lump(**settings)
        before = method.init(make_batch(), start[0])
        one = method.init(jax.tree.map(lambda x: x[:1], make_batch()), start[0])  # as train_step.init_state does
        assert signature(one) == signature(before)
        after = observe(method, before, 1)
        assert signature(after) == signature(before)
        ended = method.end_task(after, start[0])
        assert signature(ended) == signature(before)
        assert ended.task == 1
        jax.tree.map(np.testing.assert_array_equal, ended.buffer, after.buffer)


def test_what_lump_recalls_keeps_its_shapes_whether_or_not_something_is_stored(start):
    method = lump()
    memory = method.init(make_batch(), start[0])
    empty = method.recall(memory, jax.random.key(0), 7)
    assert signature(empty) == signature(method.recall(observe(method, memory, 1, 2), jax.random.key(0), 7))
    assert {leaf.shape[0] for leaf in jax.tree.leaves(empty)} == {7}


# Settings.


@pytest.mark.parametrize(("name", "value", "message"), [
    ("buffer_size", 0, r"config\.method\.buffer_size is 0; it must be at least 1"),
    ("buffer_size", -3, r"config\.method\.buffer_size is -3"),
    ("alpha", 0.0, r"config\.method\.alpha is 0\.0; it must be above 0"),
    ("alpha", -0.1, r"config\.method\.alpha is -0\.1"),
    ("alpha", float("nan"), r"config\.method\.alpha is nan"),
    ("replay_pair", "freshh", r"config\.method\.replay_pair 'freshh', did you mean 'fresh'\? known: frozen, fresh"),
    ("mix_with", "past", r"config\.method\.mix_with 'past'.* known: buffer, past_tasks"),
    ("mix_per", "pixel", r"config\.method\.mix_per 'pixel'.* known: batch, example"),
    ("count", "", r"config\.method\.count ''.* known: presentations, examples"),
])  # fmt: skip
def test_a_setting_out_of_range_is_an_error_that_names_the_key(name, value, message):
    with pytest.raises(UsageError, match=message):
        lump(**{name: value})
