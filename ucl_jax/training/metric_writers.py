"""Writes the metrics of a run: to metrics.jsonl (which all else reads), TensorBoard, Weights & Biases, the console.

TensorBoard and Weights & Biases also show pictures of the run folder.
"""

import itertools
import json
import math
import pathlib
import platform
import secrets
import sys
import time
from typing import Any, Protocol, TextIO

import tqdm
from PIL import Image

from ucl_jax.files import write_atomically
from ucl_jax.results.load import read_metrics


class MetricWriter(Protocol):
    """What the metrics of a run are written to, in entries as a line of metrics.jsonl has.

    The entry of a step has a loss; that of an evaluation has none. Both have a step and a task, which is the number of
    the period.
    """

    def write(self, entry: dict[str, Any]) -> None:
        """Writes the entry of a step or of an evaluation."""

    def close(self) -> None:
        """Finishes writing; no entry is written after this."""


class Board(MetricWriter, Protocol):
    """A writer that people look at in a browser, so that it shows pictures too."""

    def show(self, name: str, path: pathlib.Path, step: int) -> None:
        """Shows a picture, a PNG file, under a name as what the run looked like at a step."""


class MetricsFile:
    """Writes a file with one JSON object per line, each flushed at once.

    A run that resumes after `step` steps and so many `evaluations` first drops the entries of later ones.
    """

    def __init__(self, path: pathlib.Path, step: int, evaluations: int):
        entries = read_metrics(path) if path.exists() else []
        made = itertools.count()
        kept = [e for e in entries if (e["step"] <= step if "loss" in e else next(made) < evaluations)]
        write_atomically(path, "".join(json.dumps(entry) + "\n" for entry in kept))
        self._file = path.open("a")

    def write(self, entry: dict[str, Any]) -> None:
        """Appends an entry. A number that is not finite becomes null, because JSON cannot hold it."""
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
        self._file.write(json.dumps(plain) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoard:
    """Writes TensorBoard event files, without TensorFlow. A run that resumes hides what was written after `step`.

    It does not use the package's EventFileWriter, whose thread ends unseen when a disk is full.
    """

    def __init__(self, folder: pathlib.Path, step: int):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{platform.node()}"
        self._file = RecordWriter((folder / name).open("wb"))
        self._add(file_version="brain.Event:2")
        self._add(step=step + 1, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

    def _add(self, **event) -> None:
        self._file.write(self._event(wall_time=time.time(), **event).SerializeToString())

    def _add_value(self, step: int, **value) -> None:
        self._add(step=step, summary=self._summary(value=[self._summary.Value(**value)]))

    def write(self, entry: dict[str, Any]) -> None:
        """Writes every number of an entry as a scalar."""
        for name, value in entry.items():
            if isinstance(value, float):
                self._add_value(entry["step"], tag=name, simple_value=value)
        if "loss" not in entry:  # an evaluation
            self._file.flush()

    def show(self, name: str, path: pathlib.Path, step: int) -> None:
        """Writes the bytes of a picture."""
        with Image.open(path) as picture:
            width, height = picture.size
        image = self._summary.Image(width=width, height=height, encoded_image_string=path.read_bytes())
        self._add_value(step, tag=name, image=image)
        self._file.flush()

    def close(self) -> None:
        """Writes what is still in memory and closes the file."""
        self._file.close()


class WeightsAndBiases:
    """Writes to Weights & Biases, and resumes there by an id in the run folder. It needs the extra `wandb`."""

    def __init__(self, folder: pathlib.Path, config: dict[str, Any]):
        import wandb

        self._picture = wandb.Image
        identity = folder / "wandb_id"
        if not identity.exists():
            identity.write_text(secrets.token_hex(4))
        self._run = wandb.init(
            project="ucl_jax", name=folder.name, dir=folder, config=config, id=identity.read_text(), resume="allow"
        )

    def write(self, entry: dict[str, Any]) -> None:
        """Logs the numbers of an entry."""
        self._run.log({k: v for k, v in entry.items() if isinstance(v, int | float)}, step=entry["step"])

    def show(self, name: str, path: pathlib.Path, step: int) -> None:
        """Logs a copy of a picture."""
        self._run.log({name: self._picture(str(path))}, step=step)

    def close(self) -> None:
        """Ends the run of Weights & Biases."""
        self._run.finish()


class Console:
    """Shows the progress of a run: as a bar on a terminal, and elsewhere as a line now and then."""

    def __init__(
        self, total: int, step: int, tasks: int, epochs: int, seconds: float = 10.0, stream: TextIO | None = None
    ):
        """Makes the bar, if there is to be one.

        Args:
          total: the steps of the whole run.
          step: the steps done by the processes before this one.
          tasks: the number of periods.
          epochs: passes over each period.
          seconds: the time from one line to the next, where there is no bar.
          stream: where it is shown; None for standard error.
        """
        stream = stream or sys.stderr
        self._tasks, self._epochs, self._seconds, self._stream = tasks, epochs, seconds, stream
        self._total, self._last = total, -float("inf")
        self._start: tuple[float, int] | None = None  # time and step of the first entry, after compilation
        self._bar = None
        if stream.isatty():
            self._bar = tqdm.tqdm(total=total, initial=step, file=stream, unit="step", dynamic_ncols=True)

    def write(self, entry: dict[str, Any]) -> None:
        """Shows the task, the epoch, the loss, images per second and the time left from the entry of a step."""
        text = (
            f"task {entry['task'] + 1}/{self._tasks} epoch {entry['epoch'] + 1}/{self._epochs} "
            f"loss {entry['loss']:.4f} {entry['images_per_second']:.0f} images/s"
        )
        if self._bar is not None:
            self._bar.set_description_str(text, refresh=False)
            self._bar.update(entry["step"] - self._bar.n)
        elif (now := time.monotonic()) - self._last >= self._seconds:
            self._last = now
            began, first = self._start = self._start or (now, entry["step"])
            rest = (now - began) / max(entry["step"] - first, 1) * (self._total - entry["step"])
            self.say(f"step {entry['step']}/{self._total} {text}" + (f" {_clock(rest)} left" if now > began else ""))

    def say(self, text: str) -> None:
        """Prints a line; where there is a bar, the line is above it."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Stops the bar and leaves it visible."""
        if self._bar is not None:
            self._bar.close()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
