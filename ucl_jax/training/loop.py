"""Goes over the tasks, epochs and steps of a run. It does no I/O: it yields events; the caller logs and saves."""

import functools
import operator
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from ucl_jax.data.tasks import TaskStream, batch_indices, labelled_indices
from ucl_jax.errors import argument_choice, check_argument
from ucl_jax.evaluation import evaluators
from ucl_jax.settings import INT32_MAX
from ucl_jax.training import online_linear, unlabelled
from ucl_jax.training.build import Experiment, Phase
from ucl_jax.training.online_linear import OnlineLinear
from ucl_jax.training.parallel import Parallel, local
from ucl_jax.types import Array, Clock, Probed, Selection, Span, TrainedParams, TrainState, Variables

MatrixRows = dict[str, evaluators.MatrixRow]


class Schedule(NamedTuple):
    """Holds when each of T tasks is trained, and in batches of what size.

    starts: [T + 1] steps of the run. Task t has the steps from `starts[t]` up to, but without, `starts[t + 1]`.
    steps_per_epoch: [T], the steps of one epoch of each task.
    batch_sizes: [T], the images in a batch of each task.
    steps_per_call: the steps that the devices make in one call.
    """

    starts: tuple[int, ...]
    steps_per_epoch: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    steps_per_call: int = 1

    @property
    def total(self) -> int:
        """Returns the number of steps of the whole run."""
        return self.starts[-1]

    def place(self, step: int, task: int) -> tuple[int, int]:
        """Returns the epoch of a task, and the step of that epoch, both from 0, that come after `step` steps."""
        return divmod(step - self.starts[task], self.steps_per_epoch[task])

    def epoch(self, step: int, task: int) -> int:
        """Returns the epoch of a task, from 0, in which the last of `step` steps of the run was made."""
        return self.place(step - 1, task)[0]


class StepsDone(NamedTuple):
    """The event after every call of the devices, which makes one step or several.

    step: the steps done in the whole run.
    task: the number of the task, from 0.
    state: after the last of the steps. It is valid until the loop goes on, because the next step reuses its memory.
    metrics: of each of K steps, the last of which is `step`: arrays [K] on the devices, which may still be being
      computed.
    """

    step: int
    task: int
    state: TrainState
    metrics: dict[str, Array]

    @property
    def steps(self) -> range:
        """Returns the numbers of the K steps, as counted after each."""
        return range(self.step - len(self.metrics["loss"]) + 1, self.step + 1)


class Evaluating(NamedTuple):
    """The event before features of a task are computed, at the end of a task. The state is the same in all of these.

    step: the steps done in the whole run.
    task: the number of the task that will be evaluated, from 0.
    state: after `step` steps.
    """

    step: int
    task: int
    state: TrainState


class TaskDone(NamedTuple):
    """The event after a task was learned, evaluated and closed by `end_task`.

    step: the steps done in the whole run.
    task: the number of the task, from 0.
    state: the one that the next task starts from.
    rows: a probe's name -> its row of the accuracy matrix; none where the images have no labels.
    measured: what was measured without labels; None where the images have labels.
    """

    step: int
    task: int
    state: TrainState
    rows: MatrixRows
    measured: unlabelled.Measured | None = None


Event = StepsDone | Evaluating | TaskDone


def make_schedule(
    sizes: Sequence[int], epochs: int, batch_size: int, last_batch: str = "fill", steps_per_call: int = 1
) -> Schedule:
    """Plans when each task is trained.

    A task that is smaller than a batch is one batch of its own size, so that no image is in a batch twice.

    Args:
      sizes: the number of training images of each task.
      epochs: passes over each task.
      batch_size: images in a batch, over all devices.
      last_batch: what becomes of a last batch that is not full. "fill": an epoch of a task has ceil(size / batch_size)
        steps, and the last batch is filled up. "drop": it has floor(size / batch_size) steps, but at least one.
      steps_per_call: the steps that the devices make in one call, at least 1.

    Raises:
      ValueError: there are more steps than a run can count.
    """
    counts = {"fill": lambda size: -(-size // batch_size), "drop": lambda size: max(size // batch_size, 1)}
    steps_per_epoch = tuple(map(argument_choice("last_batch", last_batch, counts), sizes))
    starts = (0, *np.cumsum([epochs * steps for steps in steps_per_epoch]).tolist())
    check_argument(
        starts[-1] <= INT32_MAX,
        f"epochs is {epochs}: a run of {starts[-1]} steps cannot be counted; give at most {INT32_MAX} steps",
    )
    return Schedule(starts, steps_per_epoch, tuple(min(size, batch_size) for size in sizes), steps_per_call)


def train(
    experiment: Experiment,
    compiled: Sequence[Parallel],
    stream: TaskStream,
    schedule: Schedule,
    evaluation: evaluators.Evaluation,
    state: TrainState,
    step: int,
    tasks_learned: int,
) -> Iterator[Event]:
    """Trains and evaluates one task after the other, from the start of a run or from any later point.

    Everything random is a function of the seed and the step. So a run that goes on from a saved state gives the same
    results as one that was never interrupted.

    Args:
      experiment: the pure functions of the run.
      compiled: the compiled functions of each phase of `experiment`.
      stream: the tasks.
      schedule: when each task of the stream is trained.
      evaluation: how the network is evaluated after each task.
      state: the state after `step` steps.
      step: the steps done in the whole run.
      tasks_learned: the number of tasks learned, evaluated and closed.

    Yields:
      StepsDone after every call of the devices, Evaluating before the features of each task, TaskDone after every task.
    """
    tasks = len(stream.train_sizes)
    features: list[dict[int, evaluators.TaskFeatures] | None] = [None] * stream.num_tasks
    evaluated_at = None
    replicate = compiled[0].replicate
    key = replicate(experiment.key)  # placed once, so that no step waits for it
    sizes = stream.train_sizes
    everything = compiled[0].hold(stream.all_training(), sum(sizes)) if experiment.online else None
    for task in range(tasks_learned, tasks):
        phase = experiment.phase_index(task)
        start, steps = schedule.starts[task], schedule.starts[task + 1] - schedule.starts[task]
        epoch_steps = schedule.steps_per_epoch[task]
        span = replicate(Span(*_int32(task, start, steps, epoch_steps)))
        if step == start:
            # Numbers of the host: nothing is compiled where nothing is to be done.
            clock = Clock(*_int32(step, task, 0, steps, epoch_steps))
            state = replicate(begin_task(experiment.phases[phase], local(state), clock))
        examples = everything or compiled[phase].hold(stream.training(task), max(sizes))
        if task + 1 < tasks:
            stream.prefetch(task + 1)
        rows = compiled[phase].rows(schedule.batch_sizes[task])
        present = _selections(experiment.seed, task, schedule, step, sizes[task])
        probed = _probed(present, experiment.seed, task, schedule, step, sizes)
        for selection in probed if experiment.online else present:
            ours = jax.tree.map(operator.itemgetter(rows), selection)
            state, metrics = compiled[phase].train_steps(state, examples, ours, key, span)
            step += len(metrics["loss"])
            yield StepsDone(step, task, state, metrics)

        if step != evaluated_at or len(experiment.phases) > 1:  # the same network has the same features
            features, evaluated_at = [None] * stream.num_tasks, step
        seen = stream.num_tasks if len(stream.train_sizes) == 1 else task + 1
        online = jax.device_get(local(state.online))
        for i in range(evaluators.EVALUATED[evaluation.tasks](seen, stream.num_tasks) if stream.labelled else 0):
            yield Evaluating(step, i, state)
            if features[i] is None:
                features[i] = task_features(
                    experiment, compiled, stream, state.network, i, task + 1, evaluation.batch_size, online
                )
        scored: MatrixRows = {}
        measured = None
        if stream.labelled:
            scored = probe(evaluation.knn, experiment, features, task + 1, seen, stream.classes, experiment.online)
        else:
            yield Evaluating(step, task, state)
            objective, network = experiment.phases[phase].objective, local(state.network)
            measured = unlabelled.measure(objective, network, stream, evaluation.batch_size)
        state = replicate(end_task(experiment.phases[phase], local(state)))
        yield TaskDone(step, task, state, scored, measured)


def begin_task(phase: Phase, state: TrainState, clock: Clock) -> TrainState:
    """Returns the state from which the first step of a task starts: objective and method are told of the new task."""
    network = Variables(state.params.network, phase.objective.begin_task(state.network, clock))
    own, memory = phase.method.begin_task(state.params.method, state.memory, network, clock)
    return state.replace(params=TrainedParams(network.params, own), model_state=network.state, memory=memory)


def end_task(phase: Phase, state: TrainState) -> TrainState:
    """Returns the state after a task was learned and evaluated: the method is told of its end."""
    own, memory = phase.method.end_task(state.params.method, state.memory, state.network)
    return state.replace(params=TrainedParams(state.params.network, own), memory=memory)


def _int32(*numbers: int) -> list[Any]:
    return [np.int32(number) for number in numbers]


def _selections(seed: int, task: int, schedule: Schedule, step: int, size: int) -> Iterator[Selection]:
    """Yields the batches of a task of `size` examples that are left after `step` steps, as many at once as in a call.

    Where fewer are left than a call makes, they are yielded one by one, so that no third program is compiled.
    """
    end, per_epoch, batch_size = schedule.starts[task + 1], schedule.steps_per_epoch[task], schedule.batch_sizes[task]

    @functools.lru_cache(2)  # a call may end in the next epoch
    def order(epoch):
        return batch_indices(seed, task, epoch, size, batch_size, per_epoch)

    def column(step):
        epoch, place = schedule.place(step, task)
        return [of_epoch[place] for of_epoch in order(epoch)]

    while step < end:
        count = schedule.steps_per_call if step + schedule.steps_per_call <= end else 1
        index, first = zip(*map(column, range(step, step + count)))
        yield Selection(np.stack(index, axis=1).astype(np.int32), np.stack(first, axis=1))
        step += count


def _probed(
    selections: Iterator[Selection], seed: int, task: int, schedule: Schedule, step: int, sizes: Sequence[int]
) -> Iterator[Probed]:
    """Yields what `_selections` yields, with the batches of the online linear probe beside it.

    Both are selected from the examples of all tasks together; `sizes` has the number of those of each task.
    """
    per_epoch, batch_size = schedule.steps_per_epoch[task], schedule.batch_sizes[task]
    first, total = np.int32(sum(sizes[:task])), sum(sizes)

    @functools.lru_cache(2)
    def order(epoch):
        return labelled_indices(seed, task, epoch, total, batch_size, per_epoch)

    for present in selections:
        places = [schedule.place(step + k, task) for k in range(present.index.shape[1])]
        index = np.stack([order(epoch)[place] for epoch, place in places], axis=1).astype(np.int32)
        yield Probed(present._replace(index=first + present.index), Selection(index, np.zeros(index.shape, bool)))
        step += len(places)


def task_features(
    experiment: Experiment,
    compiled: Sequence[Parallel],
    stream: TaskStream,
    network: Variables,
    task: int,
    after: int,
    batch_size: int,
    online: OnlineLinear | tuple[()] = (),
) -> dict[int, evaluators.TaskFeatures]:
    """Computes features of the training images (the bank) and the test images (the queries) of a task.

    They are computed by the phase in which the task was learned, and by the present phase: the one in which the last
    of `after` tasks was learned. The two differ only where the architecture grows.

    Args:
      experiment: the pure functions of the run.
      compiled: the compiled functions of each phase of `experiment`.
      stream: the tasks.
      network: the network after `after` tasks.
      task: the number of the task, from 0.
      after: the number of tasks learned; 0 for the untrained network.
      batch_size: images that are shown to the network at once, over all devices.
      online: the online linear probe, on the host; () for none.

    Returns:
      The index of a phase -> its features.
    """
    data = stream.task(task)

    def features(phase):
        def extract(images):
            show = partial(compiled[phase].features, network)
            return evaluators.extract(show, images, batch_size)

        bank, query = extract(data.train_image), extract(data.test_image)
        online_logits = np.asarray(online_linear.logits(online.params, query.features)) if online else ()
        return evaluators.TaskFeatures(
            bank.features, data.train_label, query.features, data.test_label, query.logits, online_logits
        )

    last = after - 1
    return {phase: features(phase) for phase in {experiment.phase_index(min(task, last)), experiment.phase_index(last)}}


def probe(
    settings: evaluators.KnnSettings,
    experiment: Experiment,
    features: Sequence[dict[int, evaluators.TaskFeatures] | None],
    after: int,
    seen: int,
    classes: Sequence[Sequence[int]],
    online: bool = False,
) -> MatrixRows:
    """Computes the row of each probe of the run.

    Args:
      settings: of the kNN probes.
      experiment: the pure functions of the run.
      features: for each task what `task_features` gave; None for a task that is not evaluated.
      after: the number of tasks learned; 0 for the untrained network.
      seen: the number of tasks that count as known, at least 1.
      classes: the labels of each task.
      online: whether the features have logits of an online linear probe.

    Returns:
      A probe's name -> its row of the accuracy matrix.
    """
    rows = {}
    for name, one in evaluators.evaluators_of(experiment.labelled, online).items():
        phases = [
            experiment.phase_index(min(i, after - 1) if one.own_phase else after - 1) for i in range(len(features))
        ]
        shown = [None if of_task is None else of_task[phase] for of_task, phase in zip(features, phases)]
        rows[name] = one.row(shown, seen, settings, classes)
    return rows
