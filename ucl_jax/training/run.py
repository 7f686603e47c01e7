"""Carries out one run in one folder: restores, trains, records, saves. `training/loop.py` itself does no I/O."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib.util
import json
import math
import pathlib
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import numpy as np
from ml_collections import ConfigDict

from ucl_jax import recipes, settings
from ucl_jax.cli import StopRequest, warn
from ucl_jax.data import streams
from ucl_jax.data.memory import Arrays
from ucl_jax.errors import Stopped, UsageError, require
from ucl_jax.evaluation import accuracy_matrix, evaluators, representation
from ucl_jax.files import disk_errors, write_array, write_atomically
from ucl_jax.results import compare, run_figures
from ucl_jax.results.load import read_results
from ucl_jax.training import parallel, processes, unlabelled
from ucl_jax.training.build import resolve
from ucl_jax.training.checkpoint import Checkpoints, Networks, numbers
from ucl_jax.training.loop import Evaluating, Event, LegDone, MatrixRows, StepsDone
from ucl_jax.training.metric_writers import (
    Board,
    Console,
    MetricsFile,
    MetricWriter,
    TensorBoard,
    WeightsAndBiases,
)
from ucl_jax.training.provenance import Origin, commit, device_name, versions
from ucl_jax.training.run_folder import claim, finished_results, require_room, write_json
from ucl_jax.training.session import Session, open_resolved
from ucl_jax.types import TrainState

if TYPE_CHECKING:
    from ucl_jax.results.schema import Evaluated, RunResult

# How many calls the host starts before it reads the metrics of the first, so that the device always has work.
LAG = 2
WINDOWS = 100  # in which the images of each task are counted, for the picture of the stream
CHECKED = ("loss", "grad_norm", "param_norm")  # metrics that must be finite
SHOWN = 5  # files left out, tasks, and classes of a task that are named on the console
CHECKED_PROBE = "online_linear/loss"  # likewise, in a run that has it


class Progress(NamedTuple):
    """Holds what a run has found so far. Every checkpoint has it as JSON, beside the state.

    Attributes:
      rows: a probe's name -> the rows of its accuracy matrix, `evaluators.MatrixRow` as dicts.
      buffer: how many images of each task the buffer held at each evaluation; [] where that is not known.
      legs_done: the number of legs trained, evaluated and closed.
      measured: where images have no labels, what was measured at each evaluation, as `_without_labels` gives it.
      seconds: wall time of the run, over all processes that worked on it.
      train_seconds: time of the train steps that were timed: all but the first after a start, a save or an evaluation.
      train_images: images of the train steps that were timed.
    """

    rows: dict[str, list[dict[str, Any]]]
    buffer: list[list[int]]
    legs_done: int = 0
    seconds: float = 0.0
    train_seconds: float = 0.0
    train_images: int = 0
    measured: Sequence[dict[str, Any]] = ()

    @property
    def evaluations(self) -> int:
        """Returns how often the network was evaluated."""
        return len(next(iter(self.rows.values()), self.measured))

    def matrix(self, probe: str) -> list[list[float | None]]:
        """Returns the accuracy matrix of a probe so far, in per cent; None where a task was not evaluated."""
        return [row["accuracy"] for row in self.rows[probe]]

    def with_rows(self, rows: MatrixRows) -> Progress:
        """Returns the progress with one more row for each probe."""
        return self._replace(rows={name: [*self.rows[name], row._asdict()] for name, row in rows.items()})


def run(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    origin: Origin | None = None,
    mapping: str = "auto",
    data: Arrays | None = None,
) -> RunResult | None:
    """Carries out the run of `config` in `workdir`, or goes on with it from its latest checkpoint.

    Several processes (`training/processes.py`) call it at the same time. Only process 0 needs `workdir`.

    Examples:
      >>> import numpy as np
      >>> import ucl_jax
      >>> images = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 3), np.uint8)
      >>> small = {"model.width": 4, "train.batch_size": 16, "train.epochs": 1, "benchmark.image_size": 8}
      >>> config = ucl_jax.make_config("lump:folder", small | {"eval.batch_size": 64, "eval.knn_k": 5})
      >>> data = ucl_jax.Arrays(images, labels=np.arange(80) % 4)  # two tasks of two classes
      >>> results = ucl_jax.run(config, "runs/random", data=data)
      >>> results.finished, np.shape(results.probes["knn_task"].matrix)
      (True, (2, 2))

    Args:
      config: a config tree, such as that of `ucl_jax.make_config` (`configs/base.py`).
      workdir: the run folder; it is made if it is not there.
      origin: how the config was given; None where a program gave it.
      mapping: what maps over devices, see `parallel.choose_mapping`.
      data: images in memory, to be trained on instead of a data set; the benchmark is `folder` then. Probes that need
        images of the run cannot be asked for afterwards, because the images are not kept.

    Returns:
      What is in `results.json`; None in every process but process 0.

    Raises:
      UsageError: a setting is bad, data are missing, the folder holds another run, the loss is not finite, or the disk
        has no room.
      Stopped: a signal came; the state was saved first.
    """
    settings.check(config)
    origin = _from_program(config) if origin is None else origin
    config, workdir = resolve(config, data), pathlib.Path(workdir)
    require(str(workdir).isprintable(), f"--workdir={str(workdir)!r} has characters that cannot be printed")
    with disk_errors(workdir):
        return _carry_out(config, workdir, origin, mapping, data)


def _from_program(config: ConfigDict) -> Origin:
    """Returns how a config came to be that a program made: as if its recipe and overrides had been typed."""
    if config.recipe not in recipes.names():  # a file of somebody's own
        return Origin("ucl_jax.run")
    argument, overrides = recipes.origin(["", f"--config={recipes.words_of(config)}"], config)
    return Origin("ucl_jax.run", argument, overrides)


def _carry_out(
    config: ConfigDict, workdir: pathlib.Path, origin: Origin, mapping: str, data: Arrays | None
) -> RunResult | None:
    """Opens the session of a run, trains to the end, and returns the results."""
    main = processes.is_main()
    finished = finished_results(config, workdir) if main else None
    if processes.share(finished is not None):
        if main:
            print(f"the run in {workdir} is finished; nothing to do but to draw its plots again", flush=True)
            run_figures.plot_run(workdir)
        return finished
    if processes.count() > 1:
        _require_one_command(config, mapping)
    require(
        not config.log.wandb or importlib.util.find_spec("wandb") is not None,
        "config.log.wandb needs Weights & Biases: pip install 'ucl_jax[wandb]'",
    )
    begins = main and not numbers(workdir / "checkpoints")
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(open_resolved(config, data, mapping, begins))
        recorder = None
        if main:
            require_room(workdir, session.experiment.init, session.schedule, session.settings.checkpoint)
            stack.enter_context(claim(workdir))
            saved_config = json.loads(config.to_json())
            write_json(workdir / "config.json", saved_config)
            checkpoints = stack.enter_context(Checkpoints(workdir / "checkpoints", session.settings.checkpoint.keep))
            recorder = _Recorder(session, saved_config, workdir, origin, checkpoints)
        stop = stack.enter_context(processes.stop_request())
        return _train(session, stop, recorder)


def _require_one_command(config: ConfigDict, mapping: str) -> None:
    """Checks that all processes carry out the same run: mixed ones would train on, and give wrong numbers.

    Raises:
      UsageError: process 0 has another config, code or `mapping`; names what differs.
    """
    here = {"config": json.loads(config.to_json()), "code": str(commit()), "mapping": mapping}
    there = processes.share(here)
    differing = compare.changed_settings(settings.flatten(there["config"]), settings.flatten(here["config"]))
    differing += [name for name in ("code", "mapping") if there[name] != here[name]]
    require(
        not differing,
        f"process 0 carries out another run: {', '.join(differing)}; give every process the same command and code",
    )


def _train(session: Session, stop: StopRequest, recorder: _Recorder | None) -> RunResult | None:
    """Restores the latest checkpoint and trains to the end. A recorder, which process 0 alone has, keeps what comes.

    Returns:
      The results, which are written; None without a recorder.

    Raises:
      Stopped: `stop` asked for it; the state was saved first.
    """

    def stop_if_asked(event: Event | None, step: int) -> None:
        if (signum := stop.poll()) is not None:
            if recorder is not None:
                recorder.save_last(event)
            name = signal.Signals(signum).name
            raise Stopped(f"stopped by {name} at step {step}; the state is saved, and the same command goes on", signum)

    init = session.experiment.init
    if recorder is None:
        state, reached = jax.eval_shape(init), None
    else:
        state, reached = recorder.restore(init(session.start))
    step, legs_done = processes.share(reached)
    state = session.compiled[0].replicate(processes.share_arrays(state))
    with recorder or contextlib.nullcontext():
        stop_if_asked(None, step)  # a signal that has come already does not wait until the step is compiled
        for event in session.train(state, step, legs_done):
            if recorder is not None:
                recorder.record(event)
            stop_if_asked(event, event.step)
        untrained, measured = None, None
        if session.settings.random_init:
            untrained, measured = session.untrained(lambda: stop_if_asked(None, session.schedule.total))
    return None if recorder is None else recorder.finish(untrained, measured)


@dataclasses.dataclass
class _Recorder:
    """Keeps and shows what a run finds: progress, metrics, checkpoints, plots and results.

    Nothing else writes these to the run folder.

    It is a context manager, in which metrics can be written. `config` is the config tree as JSON has it. It goes into
    what is saved; no setting is read from it.
    """

    session: Session
    config: dict[str, Any]
    workdir: pathlib.Path
    origin: Origin
    checkpoints: Checkpoints
    step: int = 0  # from which the run begins or goes on
    seconds_before: float = 0.0  # wall time of the processes before this one
    console: Console = dataclasses.field(init=False)
    writers: list[MetricWriter] = dataclasses.field(init=False)
    boards: list[Board] = dataclasses.field(init=False)

    def __post_init__(self):
        self.settings, self.experiment = self.session.settings, self.session.experiment
        self.stream, self.schedule = self.session.stream, self.session.schedule
        self.probes = (
            evaluators.evaluators_of(self.experiment.labelled, self.experiment.online) if self.stream.labelled else {}
        )
        self.progress = Progress({name: [] for name in self.probes}, [])
        self.networks = Networks(self.workdir / "networks")
        self.began = time.monotonic()
        self.pending: collections.deque[StepsDone] = collections.deque()
        self.recorded_at: float | None = None
        self.saved: tuple[int, int] | None = None  # step, legs done
        self.saved_at = self.began

    def restore(self, fresh: TrainState) -> tuple[TrainState, tuple[int, int]]:
        """Returns the state of the latest checkpoint, its step, and the number of legs done by then.

        Args:
          fresh: the state before the first step, which is returned where there is no checkpoint.
        """
        if (restored := self.checkpoints.restore(fresh, warn)) is not None:
            fresh, progress = restored
            self.progress = Progress(**progress)
        self.step, self.seconds_before = int(fresh.step), self.progress.seconds
        return fresh, (self.step, self.progress.legs_done)

    def __enter__(self) -> _Recorder:
        log, step = self.settings.log, self.step
        self.console = Console(self.schedule.total, step, len(self.schedule.periods), self.settings.epochs)
        metrics, self.boards = MetricsFile(self.workdir / "metrics.jsonl", step, self.progress.evaluations), []
        if log.tensorboard:
            self.boards.append(TensorBoard(self.workdir / "tensorboard", step))
        if log.wandb:
            self.boards.append(WeightsAndBiases(self.workdir, self.config))
        self.writers = [metrics, *self.boards]
        step_bytes = self.experiment.phases[0].method.step_bytes
        if step_bytes is not None:
            needed = step_bytes(jax.eval_shape(self.experiment.init).params.network)
            if needed >= 1e8:
                self.console.say(f"the method needs up to {needed / 1e9:.1f} GB of memory on each device")
        if left_out := self.stream.left_out:
            write_atomically(self.workdir / "left_out.txt", "".join(f"{line}\n" for line in left_out))
            for line in left_out[:SHOWN]:
                self.console.say(f"left out: {line}")
            self.console.say(f"files left out: {len(left_out)}, see {self.workdir / 'left_out.txt'}")
        else:
            (self.workdir / "left_out.txt").unlink(missing_ok=True)
        if step:
            self.console.say(f"resuming {self.workdir} at step {step} of {self.schedule.total}")
        else:
            self._say_tasks()
        self.console.say("compiling the training step")
        return self

    def __exit__(self, *exception) -> None:
        with contextlib.ExitStack() as stack:  # one that fails to close does not keep the others open
            for writer in (self.console, *self.writers):
                stack.callback(writer.close)

    def _say_tasks(self) -> None:
        """Says of which classes or sub-folders the first tasks are, and how many images they have."""
        stream = self.stream
        names = stream.class_names

        def some(labels: Sequence[int]) -> str:
            words = [names[label] if names else str(label) for label in labels[:SHOWN]]
            return ", ".join(words) + (", ..." if len(labels) > SHOWN else "")

        for task, labels in enumerate(stream.classes[:SHOWN]):
            apart = len(stream.train_sizes) >= stream.num_tasks  # not trained jointly
            trained = f"{stream.train_sizes[task]} training images, " if apart else ""
            self.console.say(f"task {task + 1} ({some(labels)}): {trained}{stream.test_sizes[task]} held out")
        if (more := stream.num_tasks - SHOWN) > 0:
            self.console.say(f"and {more} more tasks")
        if unused := sorted(set(range(len(names))) - set(stream.present)):
            self.console.say(f"in no task: {some(unused)}")
        if stream.num_tasks == 1:
            self.console.say("there is one task, so that nothing can be forgotten")

    def _class_names(self) -> list[str] | None:
        """Returns the names of the classes of the run, in the order of their labels; None where they have none."""
        names = self.stream.class_names
        return [names[label] for label in self.stream.present] if names else None

    def finish(self, untrained: MatrixRows | None, measured: unlabelled.Measured | None) -> RunResult:
        """Writes the results and draws the plots, once the run is at its end.

        Args:
          untrained: the rows of the network before training, or None if they were not asked for.
          measured: likewise what was measured of it without labels.

        Returns:
          The results.
        """
        results = self._write(self._results(untrained, measured, finished=True))
        run_figures.plot_run(self.workdir)
        return results

    def record(self, event: Event) -> None:
        """Records and saves what an event brings."""
        match event:
            case StepsDone():
                self.pending.append(event)
                # Timing starts after the first call that follows a start, a save or an evaluation, to leave these out.
                if len(self.pending) > LAG or self.recorded_at is None:
                    self._record_steps(self.pending.popleft())
                # The end of a leg is saved by LegDone, after the evaluation.
                due = any(step % self.settings.checkpoint.every_steps == 0 for step in event.steps) or self._overdue()
                if due and event.step != self.schedule.legs[event.leg].end:
                    self._save(event)
            case Evaluating():
                if self._overdue():
                    self._save(event)
            case LegDone():
                self._record_pending()
                self.progress = self.progress._replace(legs_done=event.leg + 1)
                if event.rows is not None:
                    self.progress = self.progress.with_rows(event.rows)
                    if event.measured is not None:
                        self.progress = self._with_measured(event.measured)
                    self._record_evaluation(event)
                    if self.settings.checkpoint.networks:
                        self.networks.save(self.progress.evaluations, parallel.local(event.state.network))
                self._save(event)
                if event.rows is not None:
                    results = self._write(self._results(None, None, finished=False))
                    # The matrices grow by a row with each evaluation, so only the last of a period is drawn.
                    if self.boards and event.step == self.schedule.periods[self.schedule.legs[event.leg].period].end:
                        path = run_figures.plot_measured(self.workdir / "plots", results)
                        self._show(path.stem, path, event.step)

    def save_last(self, event: Event | None) -> None:
        """Saves the state of an event, the last of this process, and waits until it is on the disk.

        Args:
          event: None if there is nothing that has not been saved.
        """
        if event is not None:
            self._save(event)
        self.checkpoints.wait()

    def _record_steps(self, done: StepsDone) -> None:
        """Reads the metrics of the oldest pending steps, checks that they are finite, and records them.

        Raises:
          UsageError: the loss, the gradient norm or the parameter norm is not finite; diverged.json tells where.
        """
        metrics = jax.device_get(done.metrics)
        for place, step in enumerate(done.steps):
            checked = {name: float(metrics[name][place]) for name in (*CHECKED, CHECKED_PROBE) if name in metrics}
            self._check_finite(checked, done.period, step)
        now, period = time.monotonic(), self.schedule.periods[done.period]
        if self.recorded_at is not None:
            spent = self.progress.train_seconds + now - self.recorded_at
            images = self.progress.train_images + len(done.steps) * period.batch_size
            self.progress = self.progress._replace(train_seconds=spent, train_images=images)
        self.recorded_at = now
        for place, step in enumerate(done.steps):
            if step % self.settings.log.every_steps == 0 or step == self.schedule.total:
                entry = {
                    "step": step,
                    "task": done.period,
                    "epoch": period.epoch(step),
                    **{name: float(values[place]) for name, values in metrics.items()},
                    "images_per_second": self._images_per_second(),
                }
                for writer in (self.console, *self.writers):
                    writer.write(entry)

    def _check_finite(self, values: dict[str, float], task: int, step: int) -> None:
        """Raises UsageError if a metric of a step is not finite, after the last checkpoint is on the disk."""
        wrong = {name: f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)}
        if not wrong:
            return
        self.checkpoints.wait()
        kept = self.checkpoints.latest_step
        write_json(self.workdir / "diverged.json", {"task": task, "step": step})  # for programs
        keys = "config.train.learning_rate, or the weights in config.method"
        raise UsageError(
            f"training diverged in task {task + 1}, step {step} ({', '.join(wrong.values())}): "
            f"lower {'config.eval.online_linear_rate' if [*wrong] == [CHECKED_PROBE] else keys}, in another --workdir; "
            + ("nothing was saved before" if kept is None else f"the checkpoint of step {kept} is kept")
        )

    def _record_pending(self) -> None:
        """Records every pending step, and stops the timing until a step has passed again."""
        while self.pending:
            self._record_steps(self.pending.popleft())
        self.recorded_at = None

    def _overdue(self) -> bool:
        """Tells whether so many minutes as the settings say have passed since the last save; never for 0 minutes."""
        return 0 < self.settings.checkpoint.every_minutes * 60 <= time.monotonic() - self.saved_at

    def _save(self, event: Event) -> None:
        """Saves a checkpoint, after the metrics of every step before it were found finite."""
        self._record_pending()
        self.saved_at = time.monotonic()
        if self.saved != (event.step, self.progress.legs_done):
            self.saved = event.step, self.progress.legs_done
            self.progress = self.progress._replace(seconds=self._seconds())
            self.checkpoints.save(event.step, parallel.local(event.state), self.progress._asdict())

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    def _images_per_second(self) -> float:
        images, seconds = self.progress.train_images, self.progress.train_seconds
        return images / seconds if images else 0.0

    def _record_evaluation(self, event: LegDone) -> None:
        """Writes the entry of an evaluation, prints its accuracies, and draws the stored images of the buffer."""
        evaluated, period = self._evaluated(), self.schedule.legs[event.leg].period
        entry: dict[str, Any] = {
            "step": event.step,
            "task": period,
            "images_seen": evaluated[-1].images_seen,
            "gradient_samples": evaluated[-1].gradient_samples,
        }
        seen = [row.tasks_seen for row in evaluated]
        for name in self.progress.rows:
            matrix = self.progress.matrix(name)
            entry[f"{name}/average_accuracy"] = accuracy_matrix.average_accuracy(matrix, seen)
            if (forgotten := accuracy_matrix.forgetting(matrix, self.settings.forgetting, seen)) is not None:
                entry[f"{name}/forgetting"] = forgotten
        # Within tasks of one class there is nothing to choose.
        choosing = [name for name, probe in self.probes.items() if probe.chance(self.stream.classes) < 100]
        means = ", ".join(f"{name} {entry[f'{name}/average_accuracy']:.2f} %" for name in choosing or self.probes)
        for measured in self.progress.measured[-1:]:
            entry |= {f"representation/{name}": measured[name] for name in compare.MEASURES}
            means = ", ".join(f"{name.replace('_', ' ')} {measured[name]:.3g}" for name in compare.MEASURES)
        for writer in self.writers:
            writer.write(entry)
        ended = event.step == self.schedule.periods[period].end
        periods = len(self.schedule.periods)
        learned = f"task {period + 1}/{periods} learned" if periods > 1 else "all learned"
        self.console.say(f"{learned if ended else str(entry['images_seen']) + ' images seen'}: {means}")
        stored = self.experiment.phases[0].method.stored
        if stored is not None:
            batch, filled = jax.device_get(stored(parallel.local(event.state.memory)))
            path = self.workdir / "plots" / f"buffer_evaluation{len(evaluated)}.png"
            labels, classes = batch.label[filled], self.stream.classes
            run_figures.plot_buffer(path, batch.image[filled], labels, classes)
            self._show("buffer", path, event.step)
            if held := run_figures.count_tasks(labels, classes):
                self.progress = self.progress._replace(buffer=[*self.progress.buffer, held])

    def _show(self, name: str, path: pathlib.Path, step: int) -> None:
        """Shows a picture under a name on all boards."""
        for board in self.boards:
            board.show(name, path, step)

    def _evaluated(self) -> list[Evaluated]:
        """Returns when the network was evaluated, for each row so far."""
        from ucl_jax.results.schema import Evaluated  # slow to import: not for --help

        samples, past = self.experiment.phases[0].method.samples, self.settings.replay_per_batch
        return [
            Evaluated(
                step=leg.end,
                images_seen=self.schedule.images_seen(leg),
                gradient_samples=self.schedule.gradient_samples(leg, lambda images: samples(images, past or images)),
                tasks_seen=self.stream.tasks_seen(self.schedule.reached(leg)),
            )
            for leg in self.schedule.rows[: self.progress.evaluations]
        ]

    def _write(self, results: RunResult) -> RunResult:
        """Writes results.json, keeping the records of probes that are there already, and returns what it wrote."""
        path = self.workdir / "results.json"
        if path.exists():
            results = results.with_analysis(read_results(path).analysis)
        write_json(path, results.to_json())
        return results

    def _with_measured(self, measured: unlabelled.Measured) -> Progress:
        """Returns the progress with what was measured once more, and keeps the features for later evaluations."""
        folder = self.workdir / "features"
        folder.mkdir(exist_ok=True)
        earlier = [folder / f"evaluation{count + 1}.npy" for count in range(len(self.progress.measured))]
        found = [representation.cka(np.load(path), measured.features) if path.exists() else None for path in earlier]
        write_array(folder / f"evaluation{len(earlier) + 1}.npy", measured.features)
        row = _without_labels(measured) | {"cka": [x if x is not None and math.isfinite(x) else None for x in found]}
        return self.progress._replace(measured=[*self.progress.measured, row])

    def _results(
        self, random_init: MatrixRows | None, measured: unlabelled.Measured | None, finished: bool
    ) -> RunResult:
        """Returns what was found so far, in the form of results.json, without the records of later probes."""
        from ucl_jax.results.schema import (
            ProbeName,
            ProbeResult,
            ProbeResultSettings,
            Representation,
            RepresentationResult,
            RunResult,
            StreamRecord,
        )  # slow to import: not for --help

        knn, evaluated = self.settings.evaluation.knn._asdict(), self._evaluated()
        seen = [row.tasks_seen for row in evaluated]
        probes: dict[ProbeName, ProbeResult] = {}
        for name, rows in self.progress.rows.items():
            used, clipped = [row["k"] for row in rows], any(row["clipped"] for row in rows)
            matrix = self.progress.matrix(name)
            asked: dict[str, Any] = {**knn, "k_used": used, "clipped": clipped} if self.probes[name].by == "knn" else {}
            # The untrained network is evaluated on all tasks, so that its row has no gaps. It has no online probe.
            before = cast(list[float], random_init[name].accuracy) if random_init and name in random_init else None
            probes[cast(ProbeName, name)] = ProbeResult(
                settings=ProbeResultSettings(**asked),
                matrix=matrix,
                **accuracy_matrix.summarise(matrix, seen),
                class_accuracy=rows[-1]["class_accuracy"],
                class_matrix=None if rows[-1]["class_accuracy"] is None else [row["class_accuracy"] for row in rows],
                chance=self.probes[name].chance(self.stream.classes),
                random_init=before,
            )
        sequence, by_class = self.stream.sequence, None
        if self.stream.labelled:
            present = self.stream.present
            kinds = np.searchsorted(present, self.stream.labels)
            by_class = streams.counts_over_time(kinds, len(present), WINDOWS).tolist()
        record = StreamRecord(
            images=len(sequence.task),
            tasks=streams.counts_over_time(sequence.task, self.stream.num_tasks, WINDOWS).tolist(),
            buffer=self.progress.buffer,
            classes=by_class,
        )
        return RunResult(
            finished=finished,
            config=self.config,
            argument=self.origin.argument,
            overrides=dict(self.origin.overrides),
            command=self.origin.command,
            commit=str(at) if (at := commit()) else None,
            versions=versions(),
            device=device_name(self.session.devices),
            seconds=self._seconds(),
            images_per_second=self._images_per_second(),
            classes=[list(labels) for labels in self.stream.classes],
            class_names=self._class_names(),
            evaluations=evaluated,
            stream=record,
            probes=probes,
            representation=None
            if self.stream.labelled
            else RepresentationResult(
                rows=[Representation(**row) for row in self.progress.measured],
                random_init=Representation(**_without_labels(measured)) if measured else None,
            ),
        )


def _without_labels(measured: unlabelled.Measured) -> dict[str, Any]:
    """Returns the numbers that were measured, as JSON."""
    return {name: getattr(measured, name) for name in compare.MEASURES}
