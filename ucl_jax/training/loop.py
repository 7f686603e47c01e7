"""The loop over tasks, epochs and steps. It yields what happened and does no I/O: the caller logs and saves."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from ucl_jax.data.tasks import TaskStream, batch_indices
from ucl_jax.errors import require
from ucl_jax.evaluation import evaluators
from ucl_jax.settings import INT32
from ucl_jax.training.build import Experiment, Phase
from ucl_jax.training.parallel import Parallel
from ucl_jax.types import Array, Batch, Parameters, Span, TrainState, Variables, clock_at

MatrixRows = dict[str, evaluators.MatrixRow]


class Schedule(NamedTuple):
    """When each task is trained, and in what batches.

    starts: task t has the steps from `starts[t]` on, up to `starts[t + 1]`.
    steps_per_epoch: of each task.
    batch_sizes: the images of a batch of each task.
    """

    starts: tuple[int, ...]
    steps_per_epoch: tuple[int, ...]
    batch_sizes: tuple[int, ...]

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.starts[-1]


class StepDone(NamedTuple):
    """After every step. `state` lives until the next step takes it; `metrics` are arrays that may still be computed."""

    step: int
    task: int
    epoch: int
    state: TrainState
    metrics: dict[str, Array]


class Evaluating(NamedTuple):
    """Before each task's features are taken: the state is unchanged meanwhile."""

    step: int
    task: int
    state: TrainState


class TaskDone(NamedTuple):
    """A task was learned, evaluated and closed: the next one starts from `state`."""

    step: int
    task: int
    state: TrainState
    rows: MatrixRows


def make_schedule(sizes: Sequence[int], epochs: int, batch_size: int) -> Schedule:
    """Plans tasks with `sizes` training images each: ceil(size / batch_size) steps an epoch.

    A task that is smaller than a batch is one batch of its own size, so that no image is in a batch twice.

    Raises:
      UsageError: there are more steps than a run can count.
    """
    steps_per_epoch = tuple(-(-size // batch_size) for size in sizes)
    starts = (0, *np.cumsum([epochs * steps for steps in steps_per_epoch]).tolist())
    require(
        starts[-1] <= INT32,
        f"config.train.epochs is {epochs}: a run of {starts[-1]} steps cannot be counted; give at most {INT32} steps",
    )
    return Schedule(starts, steps_per_epoch, tuple(min(size, batch_size) for size in sizes))


def train(
    experiment: Experiment,
    compiled: Sequence[Parallel],
    stream: TaskStream,
    schedule: Schedule,
    evaluation: evaluators.Evaluation,
    state: TrainState,
    step: int,
    tasks_done: int,
) -> Iterator[StepDone | Evaluating | TaskDone]:
    """Trains and evaluates task after task from any place of the run on.

    Everything random is a function of the seed and the step, so that a run that starts here from a saved state is the
    run that was never interrupted.

    Args:
      experiment: the pure functions.
      compiled: its phases, compiled.
      stream: the tasks.
      schedule: the steps of each task of the stream.
      evaluation: how the network is evaluated after each task.
      state: after `step` steps.
      step: steps done.
      tasks_done: tasks learned, evaluated and closed.

    Yields:
      StepDone after every step, Evaluating before the features of each task, TaskDone after every task.
    """
    tasks = len(stream.train_sizes)
    features: list = [None] * stream.num_tasks
    evaluated_at = None
    key = jax.device_put(experiment.key, compiled[0].sharding)  # once: no step waits for it
    for task in range(tasks_done, tasks):
        phase = experiment.phase(task)
        start, steps = schedule.starts[task], schedule.starts[task + 1] - schedule.starts[task]
        span = Span(*jax.device_put(tuple(map(np.int32, (task, start, steps))), compiled[0].sharding))
        if step == start:
            state = begin_task(experiment.phases[phase], state, span)
        image, label = stream.training(task)
        if task + 1 < tasks:
            stream.prefetch(task + 1)
        for epoch, first, index in _batches(experiment.seed, task, schedule, step, len(label)):
            state, metrics = compiled[phase].train_step(state, Batch(image[index], label[index], first), key, span)
            step += 1
            yield StepDone(step, task, epoch, state, metrics)

        if step != evaluated_at or len(experiment.phases) > 1:  # the same network has the same features
            features, evaluated_at = [None] * stream.num_tasks, step
        seen = stream.num_tasks if len(stream.train_sizes) == 1 else task + 1
        for i in range(evaluators.EVALUATED[evaluation.tasks](seen, stream.num_tasks)):
            yield Evaluating(step, i, state)
            if features[i] is None:
                features[i] = task_features(
                    experiment, compiled, stream, state.network, i, task + 1, evaluation.batch_size
                )
        rows = probe(evaluation.knn, experiment, features, task + 1, seen, stream.classes)
        state = end_task(experiment.phases[phase], state)
        yield TaskDone(step, task, state, rows)


def begin_task(phase: Phase, state: TrainState, span: Span) -> TrainState:
    """Returns the state that the first step of a task starts from."""
    clock = clock_at(state.step, span)
    network = Variables(state.params.network, phase.objective.begin_task(state.network, clock))
    own, memory = phase.method.begin_task(state.params.method, state.memory, network, clock)
    return state.replace(params=Parameters(network.params, own), model_state=network.state, memory=memory)


def end_task(phase: Phase, state: TrainState) -> TrainState:
    """Returns the state once a task was learned and evaluated."""
    own, memory = phase.method.end_task(state.params.method, state.memory, state.network)
    return state.replace(params=Parameters(state.params.network, own), memory=memory)


def _batches(seed, task, schedule, step, size):
    """What is left of a task after `step` steps: (epoch, first, indices) of each batch."""
    done = step - schedule.starts[task]
    per_epoch = schedule.steps_per_epoch[task]
    epochs = (schedule.starts[task + 1] - schedule.starts[task]) // per_epoch
    for epoch in range(done // per_epoch, epochs):
        indices, first = batch_indices(seed, task, epoch, size, schedule.batch_sizes[task])
        for place in range(max(done - epoch * per_epoch, 0), per_epoch):
            yield epoch, first[place], indices[place]


def task_features(
    experiment: Experiment,
    compiled: Sequence[Parallel],
    stream: TaskStream,
    network: Variables,
    task: int,
    after: int,
    batch_size: int,
) -> dict[int, evaluators.TaskFeatures]:
    """Frozen features of a task's training images (the bank) and test images (the queries), by number of phase.

    The phases are the one in which the task was learned and the present one, the last of `after` tasks: the same but
    for an architecture that grows.
    """
    data = stream.task(task)

    def features(phase):
        def extract(images):
            show = partial(compiled[phase].features, network)
            return evaluators.extract(show, images, batch_size)

        bank, query = extract(data.train_image), extract(data.test_image)
        return evaluators.TaskFeatures(bank.features, data.train_label, query.features, data.test_label, query.logits)

    last = after - 1
    return {phase: features(phase) for phase in {experiment.phase(min(task, last)), experiment.phase(last)}}


def probe(
    settings: evaluators.KnnSettings,
    experiment: Experiment,
    features: Sequence[dict[int, evaluators.TaskFeatures] | None],
    after: int,
    seen: int,
    classes: Sequence[Sequence[int]],
) -> MatrixRows:
    """Every probe's row from the features of the tasks that are evaluated."""
    rows = {}
    for name, one in evaluators.evaluators_of(experiment.labelled).items():
        phases = [experiment.phase(min(i, after - 1) if one.own_phase else after - 1) for i in range(len(features))]
        shown = [None if of_task is None else of_task[phase] for of_task, phase in zip(features, phases)]
        rows[name] = one.row(shown, seen, settings, classes)
    return rows
