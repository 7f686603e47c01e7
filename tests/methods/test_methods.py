"""Tests the train step, finetune, LUMP and a progressive network, against steps put together by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from tests import small
from tests.small import EXAMPLES, SIZE, make_batch, make_keys
from ucl_jax.methods import METHODS, Method, mixup
from ucl_jax.models.architectures import Architecture
from ucl_jax.models.heads import Network
from ucl_jax.models.layers import BatchNorm, Conv
from ucl_jax.models.progressive import Lateral, Progressive, only_column
from ucl_jax.training.step import init_state, make_train_step
from ucl_jax.types import Aux, Batch, Span, TrainedParams, Variables, Views

BUFFER = 10
# The settings of Table 1 of the paper, but with a small buffer, and alpha 1, where weights are uniform and mix visibly.
DEFAULTS = {
    "buffer_size": BUFFER, "policy": "reservoir", "alpha": 1.0, "replay_pair": "frozen", "replay_from": "buffer",
    "mix_per": "batch", "mix_labels": "lambda", "count": "presentations",
}  # fmt: skip
OBJECTIVE = small.alone("simsiam")
FINETUNE = METHODS["finetune"](small.objective("simsiam"), small.SCENARIO)
finetune_loss = jax.jit(FINETUNE.loss)


@functools.cache
def lump(learned="simsiam", **changes):
    """Builds LUMP with its functions compiled, once for each setting."""
    return small.make_method("lump", learned, **(DEFAULTS | changes))


@pytest.fixture(scope="module")
def start():
    return small.started("simsiam")


def make_views(batch, seed):
    return OBJECTIVE.views(jax.random.split(jax.random.key(1000 + seed), EXAMPLES), batch)


def second_views(batch, seed):
    """Returns what LUMP keeps beside the images of a batch."""
    return Views(make_views(batch, seed).image[1:], None)


def observe(method, memory, *seeds, first=True):
    """Returns the memory after batches of these seeds, with second views that `make_views` can make again."""
    for seed in seeds:
        batch = make_batch(seed, first)
        memory = method.observe(memory, small.seen(batch, second_views(batch, seed)), jax.random.key(seed))
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
    own, memory = FINETUNE.init(jax.random.key(0), batch, start.network)
    assert own == memory == FINETUNE.recall(memory, jax.random.key(0), EXAMPLES) == ()
    value, aux = finetune_loss(*start, memory, batch, (), keys, small.CLOCK)
    expected, expected_aux = OBJECTIVE.loss(start.network, OBJECTIVE.views(keys.example, batch))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert set(aux.metrics) == {"feature_std"}
    np.testing.assert_allclose(aux.metrics["feature_std"], expected_aux.metrics["feature_std"], rtol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), aux.state, expected_aux.state)
    assert FINETUNE.observe(memory, small.seen(batch, aux.outputs), jax.random.key(0)) == ()
    assert FINETUNE.end_task((), memory, start.network) == ((), ())
    grads = {"a": jnp.asarray([1.0, -2.0])}
    np.testing.assert_array_equal(FINETUNE.project(memory, grads, ())["a"], [1.0, -2.0])
    assert FINETUNE.stored is None


# LUMP: the loss.


def test_lump_starts_with_an_empty_buffer_of_zeros(start):
    memory = small.memory_of(lump(), make_batch(), start)
    assert memory.task == 0
    assert memory.buffer.offered == 0
    items = memory.buffer.items
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype.name), (items.batch, items.kept, items.task))
    image, label, first = ((BUFFER, SIZE, SIZE, 3), "uint8"), ((BUFFER,), "int32"), ((BUFFER,), "bool")
    frozen = ((BUFFER, SIZE, SIZE, 3), "float32")
    assert shapes == (Batch(image, label, first), Views((frozen,), None), ((BUFFER,), "int32"))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(items))


@pytest.mark.parametrize("replay_pair", ["frozen", "fresh"])
@pytest.mark.parametrize("mix_per", ["batch", "example"])
def test_lump_with_an_empty_buffer_is_finetune(start, replay_pair, mix_per):
    method, batch, keys = lump(replay_pair=replay_pair, mix_per=mix_per), make_batch(), make_keys()
    memory = small.memory_of(method, batch, start)
    past = method.recall(memory, jax.random.key(0), EXAMPLES)
    value, aux = method.loss(*start, memory, batch, past, keys)
    expected, expected_aux = finetune_loss(*start, (), batch, (), keys, small.CLOCK)
    # Two programs, which XLA may fuse in other ways.
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    small.assert_trees_close(aux.state, expected_aux.state, rtol=1e-6)
    assert aux.metrics["lambda"] == 1.0


def by_hand(past, keys, batch, replay_pair, mix_per, alpha):
    """Returns the views of LUMP's step, mixed one example at a time in NumPy, and the mean weight."""
    present = OBJECTIVE.views(keys.example, batch)
    if replay_pair == "frozen":
        recalled = OBJECTIVE.views(keys.past, past.items.batch, "replayed").image + past.items.kept.image
    else:
        recalled = OBJECTIVE.views(keys.past, past.items.batch).image
    if mix_per == "batch":
        weight = np.full(EXAMPLES, mixup.sample_lambda(keys.batch, alpha), np.float64)
    else:
        weight = np.array([mixup.sample_lambda(key, alpha) for key in keys.method], np.float64)
        assert len(set(weight)) == EXAMPLES
    assert np.all((weight > 0.01) & (weight < 0.99))  # these keys do mix
    mixed = [
        np.stack([w * np.asarray(x) + (1 - w) * np.asarray(y) for w, x, y in zip(weight, one, other)])
        for one, other in zip(present.image, recalled)
    ]
    return Views(tuple(jnp.asarray(view, jnp.float32) for view in mixed), None), weight.mean()


@pytest.mark.parametrize("replay_pair", ["frozen", "fresh"])
@pytest.mark.parametrize("mix_per", ["batch", "example"])
def test_lump_with_a_filled_buffer_equals_a_step_by_hand(start, replay_pair, mix_per):
    method, batch, keys = lump(replay_pair=replay_pair, mix_per=mix_per), make_batch(9), make_keys(5)
    memory = observe(method, small.memory_of(method, batch, start), 1, 2)
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    value, aux = method.loss(*start, memory, batch, past, keys)

    views, weight = by_hand(past, keys, batch, replay_pair, mix_per, DEFAULTS["alpha"])
    expected, expected_aux = OBJECTIVE.loss(start.network, views)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(aux.metrics["lambda"], weight, rtol=1e-6)
    np.testing.assert_allclose(aux.metrics["feature_std"], expected_aux.metrics["feature_std"], rtol=1e-4)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, aux.state, expected_aux.state)
    # `observe` gets the second view of the present, not the mixed one.
    close(aux.outputs.image[0], OBJECTIVE.views(keys.example, batch).image[1])


def test_alpha_is_betas_parameter(start):
    batch, keys, method = make_batch(9), make_keys(5), lump(alpha=0.1, mix_per="example")
    memory = observe(method, small.memory_of(method, batch, start), 1)
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    _, aux = method.loss(*start, memory, batch, past, keys)
    weights, others = ([float(mixup.sample_lambda(key, alpha)) for key in keys.method] for alpha in (0.1, 1.0))
    assert abs(np.mean(weights) - np.mean(others)) > 0.01
    np.testing.assert_allclose(aux.metrics["lambda"], np.mean(weights), rtol=1e-5)


# LUMP: the memory.


def test_observe_stores_examples_their_second_view_and_their_task(start):
    method = lump(buffer_size=2 * EXAMPLES)
    memory = small.ended(method, observe(method, small.memory_of(method, make_batch(), start), 1))
    memory = observe(method, memory, 2)
    items = memory.buffer.items
    for task, seed in enumerate((1, 2)):  # a buffer with room for both keeps them in order
        place, batch = slice(task * EXAMPLES, (task + 1) * EXAMPLES), make_batch(seed)
        jax.tree.map(lambda stored, x, p=place: np.testing.assert_array_equal(stored[p], x), items.batch, batch)
        np.testing.assert_array_equal(items.kept.image[0][place], make_views(batch, seed).image[1])
        np.testing.assert_array_equal(items.task[place], np.full(EXAMPLES, task))
    assert memory.task == 1
    assert memory.buffer.offered == 2 * EXAMPLES
    stored, filled = method.stored(memory)
    jax.tree.map(np.testing.assert_array_equal, stored, items.batch)
    np.testing.assert_array_equal(filled, np.ones(2 * EXAMPLES, bool))
    _, filled = lump().stored(observe(lump(), small.memory_of(lump(), make_batch(), start), 1))
    np.testing.assert_array_equal(filled, np.arange(BUFFER) < EXAMPLES)


def test_recall_gives_each_stored_example_with_its_own_frozen_view(start):
    method = lump()
    memory = observe(method, small.memory_of(method, make_batch(), start), 1)
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    labels = np.asarray(past.items.batch.label)
    assert sorted(labels) == list(range(100, 100 + EXAMPLES))  # a full batch uses all that is stored once
    batch = make_batch(1)
    np.testing.assert_array_equal(past.items.batch.image, batch.image[labels - 100])
    np.testing.assert_array_equal(past.items.kept.image[0], make_views(batch, 1).image[1][labels - 100])


def test_past_tasks_mixes_with_earlier_tasks_only(start):
    method, batch, keys = lump(replay_from="past_tasks", buffer_size=4 * EXAMPLES), make_batch(9), make_keys(5)
    memory = observe(method, small.memory_of(method, batch, start), 1, 2)

    # Task 0 has no earlier task: the step is finetune's, and nothing is recalled, although the buffer has items.
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(past.items))
    value, aux = method.loss(*start, memory, batch, past, keys)
    assert aux.metrics["lambda"] == 1.0
    np.testing.assert_allclose(value, finetune_loss(*start, (), batch, (), keys, small.CLOCK)[0], rtol=1e-6)

    # Task 1 recalls examples of batches 1 and 2, never of batch 3, which belongs to task 1 itself.
    memory = observe(method, small.ended(method, memory), 3)
    for seed in range(20):
        labels = np.asarray(method.recall(memory, jax.random.key(seed), EXAMPLES).items.batch.label)
        assert len(set(labels)) == EXAMPLES
        assert set(labels // 100) <= {1, 2}
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    value, aux = method.loss(*start, memory, batch, past, keys)
    views, weight = by_hand(past, keys, batch, "frozen", "batch", DEFAULTS["alpha"])
    np.testing.assert_allclose(value, OBJECTIVE.loss(start.network, views)[0], rtol=1e-4)
    np.testing.assert_allclose(aux.metrics["lambda"], weight, rtol=1e-6)

    # In task 2, batch 3 belongs to the past.
    memory = small.ended(method, memory)
    labels = np.asarray(method.recall(memory, jax.random.key(3), 3 * EXAMPLES).items.batch.label)
    assert sorted(labels) == sorted(100 * seed + place for seed in (1, 2, 3) for place in range(EXAMPLES))


def test_with_the_buffer_the_present_task_is_mixed_with_too(start):
    method = lump(buffer_size=4 * EXAMPLES)
    memory = observe(method, small.memory_of(method, make_batch(), start), 1)
    memory = observe(method, small.ended(method, memory), 2)
    labels = np.asarray(method.recall(memory, jax.random.key(3), 2 * EXAMPLES).items.batch.label)
    assert sorted(labels) == sorted(100 * seed + place for seed in (1, 2) for place in range(EXAMPLES))


@pytest.mark.parametrize(("count", "seen", "labels"), [
    ("presentations", 3 * EXAMPLES, {100, 101, 102, 103, 104, 105}),
    ("examples", 4, {100, 101, 103, 105}),
])  # fmt: skip
def test_count_decides_whether_an_example_is_offered_once_or_each_time(start, count, seen, labels):
    method = lump(count=count, buffer_size=4 * EXAMPLES)
    first = jnp.asarray([True, True, False, True, False, True])
    memory = observe(method, small.memory_of(method, make_batch(), start), 1, first=first)
    memory = observe(method, memory, 1, 1, first=False)  # two more epochs
    assert memory.buffer.offered == seen
    stored, filled = method.stored(memory)
    assert set(np.asarray(stored.label)[np.asarray(filled)]) == labels
    assert filled.sum() == seen


def test_memory_keeps_its_structure_shapes_and_dtypes(start):
    """Checks that the memory keeps its structure, shapes and dtypes, so that a compiled step is not compiled again."""
    for settings in ({}, {"count": "examples", "replay_from": "past_tasks", "buffer_size": 3}):
        method = lump(**settings)
        before = small.memory_of(method, make_batch(), start)
        one = small.memory_of(method, jax.tree.map(lambda x: x[:1], make_batch()), start)  # as `init_state` does
        assert signature(one) == signature(before)
        after = observe(method, before, 1)
        assert signature(after) == signature(before)
        ended = small.ended(method, after)
        assert signature(ended) == signature(before)
        assert ended.task == 1
        jax.tree.map(np.testing.assert_array_equal, ended.buffer, after.buffer)


def test_what_lump_recalls_keeps_its_shapes_whether_or_not_something_is_stored(start):
    method = lump()
    memory = small.memory_of(method, make_batch(), start)
    empty = method.recall(memory, jax.random.key(0), 7)
    assert signature(empty) == signature(method.recall(observe(method, memory, 1, 2), jax.random.key(0), 7))
    assert {leaf.shape[0] for leaf in jax.tree.leaves(empty)} == {7}


# LUMP: labels.


@pytest.mark.parametrize(("mix_labels", "mix_per"), [("lambda", "batch"), ("release", "batch"), ("release", "example")])
def test_mixed_labels_equal_two_cross_entropies_by_hand(mix_labels, mix_per):
    """Checks that the loss with mixed labels is a sum of two cross-entropies.

    With lambda it is w CE(y) + (1 - w) CE(y past); with release, as in the official code, CE(y) + (1 - w) CE(y past).
    """
    objective, start = small.alone("supervised"), small.started("supervised")
    method, batch, keys = lump("supervised", mix_labels=mix_labels, mix_per=mix_per), make_batch(3), make_keys(5)
    memory = small.memory_of(method, batch, start)
    value, aux = method.loss(*start, memory, batch, method.recall(memory, jax.random.key(3), EXAMPLES), keys)
    alone, _ = objective.loss(start.network, objective.views(keys.example, batch))
    np.testing.assert_allclose(value, alone, rtol=1e-5)  # with an empty buffer the present has weight 1
    one_hot = np.eye(1000)[np.asarray(batch.label)]
    assert aux.outputs.image == ()
    np.testing.assert_array_equal(aux.outputs.label, one_hot)

    kept = Views((), jnp.asarray(np.eye(1000)[100:106], jnp.float32))
    memory = method.observe(memory, small.seen(make_batch(1), kept), jax.random.key(1))
    past = method.recall(memory, jax.random.key(3), EXAMPLES)
    value, _ = method.loss(*start, memory, batch, past, keys)
    if mix_per == "batch":
        weight = np.full(EXAMPLES, mixup.sample_lambda(keys.batch, DEFAULTS["alpha"]), np.float64)
    else:
        weight = np.array([mixup.sample_lambda(key, DEFAULTS["alpha"]) for key in keys.method], np.float64)
    assert np.all((weight > 0.01) & (weight < 0.99))
    now = np.asarray(objective.views(keys.example, batch).image[0])
    then = np.asarray(objective.views(keys.past, past.items.batch, "weak").image[0])
    mixed = jnp.asarray([w * x + (1 - w) * y for w, x, y in zip(weight, now, then)], jnp.float32)
    logits = np.asarray(objective.embed(start.network, mixed, True)[0].logits, np.float64)
    log_p = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    terms = []
    for row, w, label, other in zip(log_p, weight, np.asarray(batch.label), np.asarray(past.items.batch.label)):
        assert label // 100 == 3
        assert other // 100 == 1
        terms.append(-(w if mix_labels == "lambda" else 1.0) * row[label] - (1 - w) * row[other])
    np.testing.assert_allclose(value, np.mean(terms), rtol=1e-4)


@pytest.mark.parametrize("learned", ["simsiam", "barlow_twins"])
def test_labels_as_released_need_labels(learned):
    with pytest.raises(ValueError, match=r"mix_labels=release needs labels"):
        lump(learned, mix_labels="release")


# The train step, with numbers worked by hand.


OWN = {"a": 1.0, "b": 0.25}  # the toy's own parameters; b learns only from the second task on


def toy():
    """Builds a method whose gradients are known, and whose memory is the Step that it was told.

    The gradient is the mean label for each entry of `a`, 3 for `b`, and 5 for its own parameters. The reference's
    gradient is (p, -p) for `a`, where p is the mean of what is recalled, and 7 for `b`.
    """

    def loss(params, state, memory, batch, recalled, keys, clock):
        label = batch.label.astype(jnp.float32)
        network, own = params
        value = jnp.mean(label) * jnp.sum(network["a"]) + 3.0 * network["b"] + 5.0 * (own["a"] + own["b"])
        return value, Aux(state | {"clock": jnp.stack(clock)}, {}, 2 * batch.label)

    def reference(params, state, memory, recalled, keys, clock):
        network, own = params
        return jnp.mean(recalled) * (network["a"][0] - network["a"][1]) + 7.0 * network["b"] + 0.0 * own["a"]

    return Method(
        init=lambda key, batch, network: (jax.tree.map(jnp.asarray, OWN), ()),
        loss=loss,
        reference=reference,
        recall=lambda memory, key, n: jnp.arange(n, dtype=jnp.float32) + 1.0,
        project=lambda memory, grads, reference: jax.tree.map(lambda g, r: g - 2.0 * r, grads, reference),
        observe=lambda memory, step, key: step,
        active=lambda own, clock: {"a": own["a"], "b": jnp.where(clock.task > 0, own["b"], 0.0)},
    )


def toy_objective():
    """Builds an objective that trains only `a`; its state records the new parameters and the step after each update."""

    def after_update(network, clock):
        return network.state | {"after": jnp.append(network.params["a"], clock.task_step.astype(jnp.float32))}

    return small.objective("simsiam")._replace(
        active=lambda tree, clock: {"a": tree["a"], "b": jnp.zeros_like(tree["b"])}, after_update=after_update
    )


@pytest.mark.parametrize("task", [0, 1])
@pytest.mark.parametrize("devices", [1, 2])
def test_train_step_equals_numbers_worked_by_hand(devices, task):
    """Checks that a step of the toy gives the numbers worked by hand, on one device and on two.

    Labels 100..105 give the gradient 102.5, the past 1..6 gives the reference 3.5. Their projection is 102.5 -+ 7;
    weight decay is 0.5, the rate 0.1.
    """
    params = {"a": jnp.asarray([1.0, -2.0]), "b": jnp.asarray(0.3)}
    state = {"clock": jnp.zeros(5, jnp.int32), "after": jnp.zeros(3)}
    optimizer = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1, momentum=0.9))
    before = init_state(Variables(params, state), toy(), optimizer, make_batch(1), jax.random.key(0))
    before, batch, key = before.replace(step=jnp.asarray(23)), make_batch(1), small.RUN_KEY
    span = Span(*(jnp.asarray(number, jnp.int32) for number in (task, 20, 9, 4)))
    if devices == 1:
        after, metrics = jax.jit(make_train_step(toy_objective(), toy(), optimizer))(before, batch, key, span)
    else:
        step = make_train_step(toy_objective(), toy(), optimizer, "devices")
        mapped = jax.pmap(step, "devices", in_axes=(None, 0, None, None), devices=jax.local_devices()[:devices])
        shares = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)
        each = mapped(before, shares, key, span)
        after, other = (jax.tree.map(lambda x, d=d: np.asarray(x[d]), each) for d in range(devices))
        small.assert_trees_equal(after, other)
        after, metrics = after

    told = after.memory  # the Step that `observe` was given
    close = functools.partial(small.assert_trees_close, rtol=1e-6)
    late = 5.0 * task  # the gradient of the own parameter that learns from the second task on
    own = {"a": np.array(5.0), "b": np.array(late)}
    # These gradients are not projected, and are 0 where a parameter is inactive.
    close(told.grads, TrainedParams({"a": np.array([102.5, 102.5]), "b": np.array(0.0)}, own))
    small.assert_trees_equal(told.before, TrainedParams(params, jax.tree.map(jnp.asarray, OWN)))
    small.assert_trees_equal(told.after, after.params)
    small.assert_trees_equal(told.batch, batch)
    np.testing.assert_array_equal(told.recalled, np.arange(EXAMPLES) + 1.0)
    np.testing.assert_array_equal(told.outputs, 2 * batch.label)
    projected = np.array([102.5 - 2 * 3.5, 102.5 + 2 * 3.5])
    expected = np.array([1.0, -2.0]) - 0.1 * (projected + 0.5 * np.array([1.0, -2.0]))
    close(after.params.network, {"a": expected, "b": np.array(0.3)})
    assert after.params.network["b"] == params["b"]  # not trained: the same to the bit, although its gradient is not 0
    own_after = {"a": 1.0 - 0.1 * (5.0 + 0.5), "b": 0.25 - 0.1 * (late + 0.125) if task else 0.25}
    close(after.params.method, jax.tree.map(np.float64, own_after))
    trace = optax.tree.get(after.opt_state, "trace")
    close(trace.network, {"a": projected + [0.5, -1.0], "b": np.array(0.0)})
    close(trace.method, {"a": np.array(5.5), "b": np.array(late + 0.125 if task else 0.0)})
    norm = np.sqrt(np.sum(np.square(projected)) + 25.0 + late**2)
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], 102.5 * -1.0 + 3.0 * 0.3 + 5.0 * 1.25, rtol=1e-6)
    np.testing.assert_array_equal(after.model_state["clock"], [23, task, 3, 9, 4])
    np.testing.assert_allclose(after.model_state["after"], [*expected, 3.0], rtol=1e-6)
    assert after.step == 24


# A progressive network.


class Column(nn.Module):
    """Two maps; the second one also reads the first maps of earlier columns."""

    @nn.compact
    def __call__(self, x, earlier, train):
        first = nn.relu(BatchNorm(name="first_norm")(Conv(3, stride=2, name="first")(x), train))
        second = BatchNorm(name="second_norm")(Conv(4, stride=2, name="second")(first), train)
        if earlier:
            second += Lateral(4, name="lateral")([maps[0] for maps in earlier])
        return [first, nn.relu(second)]


@functools.cache
def phase(column, columns=3):
    return Architecture(
        lambda heads: Progressive(tuple(Network(Column(), **heads()) for _ in range(columns)), column),
        functools.partial(only_column, column),
    )


def test_a_column_learns_alone_beside_the_frozen_ones():
    """Checks that frozen columns stay to the bit, in spite of momentum and weight decay, which need no gradient."""
    rate, decay, momentum = 0.1, 0.2, 0.9
    optimizer = optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate, momentum=momentum))
    state = small.start_state(FINETUNE, optimizer, small.started("simsiam", phase(0)))
    columns = {f"networks_{number}" for number in range(3)}
    assert state.network.params.keys() == state.model_state["batch_stats"].keys() == columns
    assert "lateral" not in state.network.params["networks_0"]["backbone"]
    scales = [state.network.params[f"networks_{number}"]["backbone"]["lateral"]["scale"] for number in (1, 2)]
    assert [x.shape for x in scales] == [(1,), (2,)]
    for column in (0, 1):
        name, objective = f"networks_{column}", small.objective("simsiam", phase(column))
        method = METHODS["finetune"](objective, small.SCENARIO)
        step = small.make_step(method, optimizer, architecture=phase(column))
        before = state
        trace = optax.tree.get(before.opt_state, "trace").network[name]
        small.assert_trees_equal(trace, jax.tree.map(jnp.zeros_like, trace))  # the momentum starts at 0
        for number in range(3):
            if column:
                _, _, keys = small.step_keys(state.step)
                views = small.alone("simsiam").views(keys.example, make_batch(number))
                (_, aux), grads = small.value_and_grad("simsiam", phase(1))(state.network, views)
                # The gradient of the frozen column is not 0, so it is the step that freezes it.
                assert max(np.abs(x).max() for x in jax.tree.leaves(grads["networks_0"]["backbone"])) > 1e-4
                pulls = jax.tree.map(lambda g, p: g + decay * p, grads[name], state.network.params[name])
                trace = jax.tree.map(lambda t, g: momentum * t + g, trace, pulls)
                expected = jax.tree.map(lambda p, t: p - rate * t, state.network.params[name], trace)
            state, _ = step(state, make_batch(number))
            if column:
                small.assert_trees_close(state.network.params[name], expected, rtol=1e-4, atol=1e-5)
                small.assert_trees_close(
                    state.model_state["batch_stats"][name], aux.state["batch_stats"][name], rtol=1e-4, atol=1e-5
                )
        for other in columns - {name}:
            small.assert_trees_equal(state.network.params[other], before.network.params[other])
            small.assert_trees_equal(state.model_state["batch_stats"][other], before.model_state["batch_stats"][other])
        pairs = (s.network.params for s in (state, before)), (s.model_state["batch_stats"] for s in (state, before))
        for tree, old in pairs:
            moved = jax.tree.map(lambda x, y: bool(np.any(np.asarray(x) != np.asarray(y))), tree[name], old[name])
            assert all(jax.tree.leaves(moved)), moved
        if column:  # the outputs of the first task's column have not changed
            embed, view = small.alone("simsiam", phase(0)).embed, jnp.asarray(make_batch(7).image, jnp.float32)
            outputs = (embed(x.network, view, False)[0] for x in (before, state))
            small.assert_trees_equal(*outputs)


# Settings.


@pytest.mark.parametrize(("name", "value", "message"), [
    ("replay_pair", "freshh", "replay_pair is 'freshh'.*frozen, fresh"),
    ("replay_from", "past", "replay_from is 'past'.*buffer, past_tasks"),
    ("mix_labels", "released", "mix_labels is 'released'.*lambda, release"),
    ("mix_per", "pixel", "mix_per is 'pixel'.*batch, example"),
    ("count", "", "count is ''.*presentations, examples"),
    ("policy", "ring", "policy is 'ring'.*reservoir, equal_share, with_replacement, fifo"),
])  # fmt: skip
def test_a_word_that_is_not_known_is_an_error_that_names_the_argument(name, value, message):
    with pytest.raises(ValueError, match=message):
        lump(**{name: value})
