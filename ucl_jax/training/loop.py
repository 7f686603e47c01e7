"""Goes over the periods, epochs and steps of a run. It does no I/O: it yields events; the caller logs and saves."""

import functools
import operator
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from ucl_jax.data.tasks import TaskStream, batch_indices, consecutive_indices, labelled_indices
from ucl_jax.evaluation import evaluators
from ucl_jax.training import online_linear, unlabelled
from ucl_jax.training.build import Experiment, Phase
from ucl_jax.training.online_linear import OnlineLinear
from ucl_jax.training.parallel import Parallel, local
from ucl_jax.training.schedule import Leg, Schedule
from ucl_jax.types import Array, Clock, Examples, Probed, Selection, Span, TrainedParams, TrainState, Variables

MatrixRows = dict[str, evaluators.MatrixRow]


class StepsDone(NamedTuple):
    """The event after every call of the devices, which makes one step or several.

    Attributes:
      step: the steps done in the whole run.
      leg: the number of the leg, from 0.
      period: the number of its period, from 0.
      state: after the last of the steps. It is valid until the loop goes on, because the next step reuses its memory.
      metrics: of each of K steps, the last of which is `step`: arrays [K] on the devices, which may still be being
        computed.
    """

    step: int
    leg: int
    period: int
    state: TrainState
    metrics: dict[str, Array]

    @property
    def steps(self) -> range:
        """Returns the numbers of the K steps, as counted after each."""
        return range(self.step - len(self.metrics["loss"]) + 1, self.step + 1)


class Evaluating(NamedTuple):
    """The event before features of a task are computed, at the end of a leg. The state is the same in all of these.

    Attributes:
      step: the steps done in the whole run.
      task: the number of the task that will be evaluated, from 0.
      state: after `step` steps.
    """

    step: int
    task: int
    state: TrainState


class LegDone(NamedTuple):
    """The event after a leg was trained, evaluated if it is, and closed by `end_task` where its period ends.

    Attributes:
      step: the steps done in the whole run.
      leg: the number of the leg, from 0.
      state: the one that the next leg starts from.
      rows: a probe's name -> its row of the accuracy matrix, none where the images have no labels; None where the leg
        is not evaluated.
      measured: what was measured without labels; None where the images have labels, or the leg is not evaluated.
    """

    step: int
    leg: int
    state: TrainState
    rows: MatrixRows | None
    measured: unlabelled.Measured | None = None


Event = StepsDone | Evaluating | LegDone


def train(
    experiment: Experiment,
    compiled: Sequence[Parallel],
    stream: TaskStream,
    schedule: Schedule,
    evaluation: evaluators.Evaluation,
    state: TrainState,
    step: int,
    legs_done: int,
) -> Iterator[Event]:
    """Trains and evaluates one leg after the other, from the start of a run or from any later point.

    Everything random is a function of the seed and the step. So a run that goes on from a saved state gives the same
    results as one that was never interrupted.

    Args:
      experiment: the pure functions of the run.
      compiled: the compiled functions of each phase of `experiment`.
      stream: the tasks.
      schedule: the plan of the run.
      evaluation: how the network is evaluated.
      state: the state after `step` steps.
      step: the steps done in the whole run.
      legs_done: the number of legs trained, evaluated and closed.

    Yields:
      StepsDone after every call of the devices, Evaluating before the features of each task, LegDone after every leg.
    """
    features: list[dict[int, evaluators.TaskFeatures] | None] = [None] * stream.num_tasks
    evaluated_at = None
    replicate = compiled[0].replicate
    key = replicate(experiment.key)  # placed once, so that no step waits for it
    # What the devices hold: a period, or all of them for the labelled images of the online linear probe.
    parts = [period.part for period in schedule.periods]
    parts = [slice(0, parts[-1].stop)] * len(parts) if experiment.online else parts
    size = max(len(np.unique(stream.sequence.index[part])) for part in parts)
    examples: Examples
    held: slice | None = None
    for number in range(legs_done, len(schedule.legs)):
        leg = schedule.legs[number]
        period, phase = schedule.periods[leg.period], experiment.phase_index(leg.period)
        times = _int32(period.steps, period.epoch_steps)
        span = replicate(Span(*_int32(leg.period, period.start), *times))
        if step == period.start:
            # Numbers of the host: nothing is compiled where nothing is to be done.
            clock = Clock(*_int32(step, leg.period, 0), *times)
            state = replicate(begin_task(experiment.phases[phase], local(state), clock))
        if held != (part := parts[leg.period]):
            examples, held = compiled[phase].hold(stream.training(part), size), part
            for later in schedule.periods[leg.period + 1 : leg.period + 2]:
                stream.prefetch_part(later.part)
        rows = compiled[phase].rows(period.batch_size)
        present = _selections(experiment.seed, leg, schedule, step, stream.places(period.part, part))
        probed = _probed(present, experiment.seed, leg, schedule, step, size)
        for selection in probed if experiment.online else present:
            ours = jax.tree.map(operator.itemgetter(rows), selection)
            state, metrics = compiled[phase].train_steps(state, examples, ours, key, span)
            step += len(metrics["loss"])
            yield StepsDone(step, number, leg.period, state, metrics)

        accuracies, measured = None, None
        if leg.evaluated:
            if step != evaluated_at or len(experiment.phases) > 1:  # the same network has the same features
                features, evaluated_at = [None] * stream.num_tasks, step
            seen = stream.tasks_seen(schedule.reached(leg))
            after, online = leg.period + 1, jax.device_get(local(state.online))
            for i in range(evaluators.EVALUATED[evaluation.tasks](seen, stream.num_tasks) if stream.labelled else 0):
                yield Evaluating(step, i, state)
                if features[i] is None:
                    features[i] = task_features(
                        experiment, compiled, stream, state.network, i, after, evaluation.batch_size, online
                    )
            if stream.labelled:
                accuracies = probe(evaluation.knn, experiment, features, after, seen, stream.classes, experiment.online)
            else:
                yield Evaluating(step, leg.period, state)
                objective, network = experiment.phases[phase].objective, local(state.network)
                accuracies, measured = {}, unlabelled.measure(objective, network, stream, evaluation.batch_size)
        if step == period.end:
            state = replicate(end_task(experiment.phases[phase], local(state)))
        yield LegDone(step, number, state, accuracies, measured)


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


def _selections(seed: int, leg: Leg, schedule: Schedule, step: int, places: np.ndarray) -> Iterator[Selection]:
    """Yields the batches of a leg that are left after `step` steps, as many at once as in a call.

    Where fewer are left than a call makes, they are yielded one by one, so that no third program is compiled. `places`
    (int [n]) says which of the examples that the devices hold are those of the period, in the order of the sequence.
    """
    period = schedule.periods[leg.period]
    batches = period.epoch_steps // schedule.updates_per_batch
    pool = places if schedule.in_order else np.sort(places)  # a random order is one of examples as they are stored
    new = np.zeros(len(pool), bool)
    new[np.unique(pool, return_index=True)[1]] = True  # of an example that comes several times, one is the first

    @functools.lru_cache(2)  # a call may end in the next epoch
    def order(epoch):
        if schedule.in_order:
            index, first = consecutive_indices(period.size, period.batch_size, batches)
        else:
            index, first = batch_indices(seed, leg.period, epoch, period.size, period.batch_size, batches)
        return pool[index], first & new[index]

    def column(step):
        epoch, place = schedule.place(step, leg.period)
        return [of_epoch[place] for of_epoch in order(epoch)]

    while step < leg.end:
        count = schedule.steps_per_call if step + schedule.steps_per_call <= leg.end else 1
        index, first = zip(*map(column, range(step, step + count)))
        yield Selection(np.stack(index, axis=1).astype(np.int32), np.stack(first, axis=1))
        step += count


def _probed(
    selections: Iterator[Selection], seed: int, leg: Leg, schedule: Schedule, step: int, total: int
) -> Iterator[Probed]:
    """Yields what `_selections` yields, with the batches of the online linear probe beside it.

    These are selected from all examples that the devices hold, of which there are `total`.
    """
    period = schedule.periods[leg.period]

    @functools.lru_cache(2)
    def order(epoch):
        return labelled_indices(seed, leg.period, epoch, total, period.batch_size, period.epoch_steps)

    for present in selections:
        places = [divmod(step + k - period.start, period.epoch_steps) for k in range(present.index.shape[1])]
        index = np.stack([order(epoch)[place] for epoch, place in places], axis=1).astype(np.int32)
        yield Probed(present, Selection(index, np.zeros(index.shape, bool)))
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
