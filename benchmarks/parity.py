"""Compares LUMP with SimSiam here and in PyTorch: do runs of the two differ by more than chance?

    python -m benchmarks.parity          # all seeds, then the table; writes benchmarks/results/parity.json

For each seed all PROGRAMS train step by step on a small Split CIFAR-10 (CONFIG), from the same weights and on the same
batches. Each program draws buffer and mixup weight for itself, and makes its own views of replayed images.

ours: this project's training step, with views made by Pillow as in the official code.
torch: the plain loop of benchmarks.torch_lump, which gets the very same views of present images.
again: `torch` with other draws. It shows how far chance alone parts two runs.
short: `torch` with the same mixup weights and, as in the official code, a smaller last batch of each epoch.
float: `ours` with the same draws of buffer and weight and its own views, which are not rounded to eight bits.
"""

import pathlib
import random
import sys
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from unittest import mock

import jax
import numpy as np

from benchmarks import measure
from configs import lump
from ucl_jax import cli
from ucl_jax.data.tasks import TaskStream, batch_indices, open_stream
from ucl_jax.errors import UsageError
from ucl_jax.evaluation import evaluators
from ucl_jax.objectives import Augmentation
from ucl_jax.results.tables import Table, make_frame, render
from ucl_jax.training import build
from ucl_jax.training.loop import end_task
from ucl_jax.types import Array, Batch, Span

CONFIG = {
    "benchmark.num_tasks": 2,
    "benchmark.image_size": 8,
    "benchmark.fit": "resize",
    "benchmark.examples_per_task": 1000,
    "benchmark.test_examples_per_task": 500,
    "model.width": 8,
    "objective.hidden_dim": 64,
    "objective.output_dim": 64,
    "objective.predictor_dim": 16,
    "method.buffer_size": 64,
    "train.batch_size": 64,
    "train.learning_rate": 0.12,  # the step multiplies by batch / 256: 0.03
    "train.epochs": 8,
    "eval.batch_size": 500,
    "eval.knn_k": 20,
}
PROGRAMS = ("ours", "torch", "again", "short", "float")
PAIRS = (("ours", "torch"), ("again", "torch"), ("short", "torch"), ("float", "ours"))
LEVEL = -0.3  # a loss, which is 0 at the start and -1 at best
OUTCOMES = {
    "fall": f"epochs until the mean loss of an epoch's steps is below {LEVEL} (the length of the task if never)",
    "first": "mean loss over the first task",
    "second": "mean loss over the second task",
    "task": "kNN within the task at the end, per cent",
    "all": "kNN over all classes at the end, per cent",
}
RESULT = measure.RESULTS / "parity.json"


class Pillow:
    """Views that Pillow makes within our training step, each a function of its key and image.

    Attributes:
      augmentation: what the training step is built with.
      shown: the last pair of views of present images.
      replayed: the last views of images of the buffer.
    """

    def __init__(self, config):
        from PIL import Image

        from benchmarks import torch_lump

        a = SimpleNamespace(**config.augment)

        def callback(show, mean, std, keep_as):
            normal = torch_lump.Program.statistics(None, mean, std)

            def view(key, image):
                random.seed(key.tobytes())
                return show(Image.fromarray(image), a, normal).numpy().transpose(1, 2, 0)

            def views(keys, images):  # [..., 2] and [..., H, W, 3]
                keys, images = np.asarray(keys), np.asarray(images)
                state = random.getstate()  # the buffers of PyTorch draw from the same generator
                each = map(view, keys.reshape(-1, 2), images.reshape(-1, *images.shape[-3:]))
                made = np.stack(list(each)).reshape(images.shape)
                random.setstate(state)
                setattr(self, keep_as, made)
                return made

            def one(key, image, view):
                shape = jax.ShapeDtypeStruct(image.shape, np.float32)
                return jax.pure_callback(views, shape, jax.random.key_data(key), image, vmap_method="broadcast_all")

            return one

        self.augmentation = Augmentation(
            present=callback(torch_lump.strong_view, a.mean, a.std, "shown"),
            weak=callback(torch_lump.weak_view, a.replay_mean, a.replay_std, "replayed"),
            plain=build.make_augmentation(config).plain,
        )


SPAN = Span(*map(np.int32, (0, 0, 1000, 10)))  # LUMP with SimSiam reads no clock


class Ours:
    """This project's training step, compiled once for all seeds."""

    def __init__(self, config, augmentation: Augmentation):
        with mock.patch.object(build, "make_augmentation", return_value=augmentation):
            self.made = build.make_experiment(config, None, jax.default_backend())
        (phase,) = self.made.phases
        self.objective, self.method = phase.objective, phase.method
        self.phase, self.train_step = phase, jax.jit(phase.train_step, donate_argnums=0)
        self.show = jax.jit(lambda network, images: phase.objective.features(network, images).features)
        self.batch_size = config.eval.batch_size

    def start(self, network, key: Array) -> None:
        """Starts a run from a network; everything random in it is a function of the key."""
        self.key, self.state = key, self.made.init(network)

    def step(self, batch: Batch) -> float:
        """Takes a training step and returns its loss; `metrics` has the other metrics."""
        self.state, self.metrics = self.train_step(self.state, batch, self.key, SPAN)
        return self.metrics["loss"].item()

    def end_task(self) -> None:
        """Ends a task, which the method may use to change its memory."""
        self.state = end_task(self.phase, self.state)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Returns the features [N, F] of images."""
        return evaluators.extract(partial(self.show, self.state.network), images, self.batch_size)


def torch_program(config, network):
    """Returns the plain loop of benchmarks.torch_lump, started from our network and fed with given batches."""
    import torch

    from benchmarks import torch_lump

    class Given(torch_lump.Plain):
        def step(self, first, second, raw):
            views = [torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for x in (first, second)]
            self.batches = iter([(*views, torch.from_numpy(raw))])
            return super().step().item()

    program = Given(config, np.zeros((1, 8, 8, 3), np.uint8), workers=0)
    program.network.load_state_dict(torch_lump.from_ours(network.params, network.state["batch_stats"]), strict=False)
    return program


def accuracies(features, stream: TaskStream, config) -> dict[str, float]:
    """Returns the accuracy of kNN within the task and over all classes, in per cent, each a mean over the tasks."""
    data = [stream.task(task) for task in range(stream.num_tasks)]
    tasks = [
        evaluators.TaskFeatures(features(one.train_image), one.train_label, features(one.test_image), one.test_label)
        for one in data
    ]
    settings = evaluators.KnnSettings(config.eval.knn_k, "fixed", config.eval.knn_temperature)
    probes = {"task": evaluators.knn_task, "all": evaluators.knn_all}
    return {
        name: float(np.mean(probe(tasks, len(tasks), settings, stream.classes).accuracy))
        for name, probe in probes.items()
    }


def fall(losses: np.ndarray, steps: int) -> float:
    """Returns the epochs until the mean loss of an epoch is below LEVEL; all epochs if it never is.

    Args:
      losses: the loss of each step of a task.
      steps: the number of steps of an epoch.
    """
    means = np.convolve(losses, np.ones(steps) / steps, "valid")
    below = np.flatnonzero(means < LEVEL)
    return float((below[0] + steps) / steps if len(below) else len(losses) / steps)


def runs(config, seeds: range) -> Iterator[dict[str, dict[str, float]]]:
    """Trains all programs with each seed, and yields their outcomes: program -> outcome -> value."""
    size, count, epochs = config.train.batch_size, config.benchmark.examples_per_task, config.train.epochs
    pillow = Pillow(config)
    ours = {"ours": Ours(config, pillow.augmentation), "float": Ours(config, build.make_augmentation(config))}
    init = jax.jit(ours["float"].objective.init)
    with open_stream(build.make_stream_settings(config), config.data_dir or None) as stream:
        for seed in seeds:
            random.seed(seed)
            start_key, key = jax.random.split(jax.random.key(seed))
            network = jax.device_get(init(start_key, stream.task(0).train_image[:1]))
            for program in ours.values():
                program.start(network, key)
            theirs = {name: torch_program(config, network) for name in PROGRAMS if name not in ours}
            losses = {name: [] for name in PROGRAMS}
            for task in range(stream.num_tasks):
                data = stream.task(task)
                image, label = data.train_image, data.train_label
                for epoch in range(epochs):
                    for place, (index, first) in enumerate(zip(*batch_indices(seed, task, epoch, count, size))):
                        batch = Batch(image[index], label[index], first)
                        for name, program in ours.items():
                            losses[name].append(program.step(batch))
                            if name == "ours":
                                views = pillow.shown
                        new = min(size, count - place * size)  # the rest of a batch is from the next permutation
                        for name, program in theirs.items():
                            taken = new if name == "short" else size
                            step = len(losses[name])
                            np.random.seed([seed, step, name == "again"])  # noqa: NPY002  # of the mixup weight
                            losses[name].append(program.step(*(x[:taken] for x in (*views, batch.image))))
                for program in ours.values():
                    program.end_task()
            found = {}
            for name, program in (ours | theirs).items():
                first, second = np.split(np.array(losses[name]), stream.num_tasks)
                means = {"first": first.mean().item(), "second": second.mean().item()}
                found[name] = {"fall": fall(first, -(-count // size)), **means}
                found[name] |= accuracies(program.features, stream, config)
            yield found


def compare(outcomes: list[dict], first: str, second: str, outcome: str) -> dict[str, float]:
    """Compares an outcome of two programs, paired by seed.

    Returns:
      The mean of `first - second`, half of its 95 % interval by Student's t, and p of a permutation test of signs.
    """
    from scipy import stats

    differences = np.array([of_seed[first][outcome] - of_seed[second][outcome] for of_seed in outcomes])
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    test = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=99_999, rng=0)
    return {"mean": differences.mean().item(), "half": half.item(), "p": test.pvalue.item()}


def table(result: dict) -> str:
    """Returns a Markdown table: the means of each program, then the differences of pairs."""
    rows = []
    for name in PROGRAMS:
        values = [[of_seed[name][outcome] for of_seed in result["seeds"]] for outcome in OUTCOMES]
        rows.append([f"`{name}`", *(f"{np.mean(x):.3f}±{np.std(x, ddof=1):.3f}" for x in values)])
    for pair, found in result["differences"].items():
        rows.append([pair, *("{mean:+.3f}±{half:.3f}, p={p:.2f}".format(**found[outcome]) for outcome in OUTCOMES)])
    return render(Table("", make_frame(["", *OUTCOMES], rows)), "markdown")


@cli.returns_exit_code
def main(argv: list[str]) -> int:
    """Trains all seeds, writes the file, and prints the table; does nothing where CIFAR-10 is not prepared."""
    parser = cli.Parser(prog="python -m benchmarks.parity", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="0 .. SEEDS-1, at least 2")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT, metavar="FILE", help="of the result")
    given = parser.parse_args(argv)
    config = lump.get_config("cifar10,simsiam")
    config.update_from_flattened_dict(CONFIG)
    measure.check_out(given.out, RESULT, given.seeds != parser.get_default("seeds"))
    try:
        open_stream(build.make_stream_settings(config), config.data_dir or None).close()
    except UsageError as error:
        measure.tell(f"skipped: {error}")
        return 0
    seeds = []
    for found in runs(config, range(given.seeds)):
        seeds.append(found)
        measure.tell(f"seed {len(seeds) - 1}: {found}")
    differences = {
        f"{first} - {second}": {outcome: compare(seeds, first, second, outcome) for outcome in OUTCOMES}
        for first, second in PAIRS
    }
    result = {**measure.where("torch", "pillow"), "config": CONFIG, "outcomes": OUTCOMES}
    result |= {"differences": differences, "seeds": seeds}
    measure.save(given.out, result)
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
