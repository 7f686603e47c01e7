"""Measures what a step of every recipe costs beside finetune's: its time, and the memory of what is kept.

    python -m benchmarks.cost [--width=16 --batch=64 --image=32 --repeats=5 --objectives=simclr,simsiam]

Each recipe has the first of the objectives that allows it, and is compared with finetune of the same objective. Images
are random, and there is one device. The recipes take turns; a result is the median of the ratios of all rounds. The
buffer is filled and the second task begun before the measurement; PNN is measured in the last of its five columns.
Memory is counted from shapes: that of the recipe's training state on `cifar10`, in full size, less that of finetune's.
Writes benchmarks/results/cost.json; `python -m benchmarks.tables` puts it into docs/recipes.md.
"""

import argparse
import importlib
import json
import math
import statistics
import sys
import time

import jax
import numpy as np

from benchmarks import measure
from benchmarks.tables import all_recipes
from ucl_jax.cli import Parser, returns_exit_code
from ucl_jax.reproduce.studies import IMPOSSIBLE
from ucl_jax.training import parallel
from ucl_jax.training.build import make_experiment
from ucl_jax.training.loop import end_task
from ucl_jax.types import Examples, Selection, Span

RECIPES = [name for name, recipe in all_recipes().items() if not recipe.joint]  # that step is finetune's
RESULT = measure.RESULTS / "cost.json"


def recipe_config(recipe: str, objective: str):
    """Returns the config of a recipe on Split CIFAR-10."""
    return importlib.import_module(f"configs.{recipe}").get_config(f"cifar10,{objective}")


def state_bytes(recipe: str, objective: str) -> int:
    """Returns the bytes of the training state of a recipe in its full size, as they are on each device."""
    state = jax.eval_shape(make_experiment(recipe_config(recipe, objective), None, "cpu").init)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def make_step(recipe: str, objective: str, given: argparse.Namespace):
    """Returns a function without arguments that takes one training step and waits for it."""
    config = recipe_config(recipe, objective)
    config.model.width = given.width
    config.train.batch_size = given.batch
    config.benchmark.image_size = given.image
    devices = parallel.choose_devices(1, given.batch)
    experiment = make_experiment(config, parallel.AXIS, devices[0].platform)
    compiled = parallel.compile_phases(experiment.phases[-1:], devices)[0]
    state = jax.device_put(experiment.init(), compiled.sharding)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (given.batch, given.image, given.image, 3), np.uint8)
    examples = compiled.hold(Examples(image, np.zeros(given.batch, np.int32)), given.batch)
    selection = Selection(np.arange(given.batch, dtype=np.int32)[:, None], np.ones((given.batch, 1), bool))
    span = Span(*map(np.int32, (0, 0, 1000, 10)))

    def step():
        nonlocal state
        state, metrics = compiled.train_steps(state, examples, selection, experiment.key, span)
        jax.block_until_ready(metrics)

    for _ in range(-(-256 // given.batch)):
        step()
    state, span = end_task(experiment.phases[-1], state), Span(*map(np.int32, (1, 0, 1000, 10)))
    step()
    return step


@returns_exit_code
def main(argv: list[str]) -> None:
    """Measures, writes the file, and prints it."""
    parser = Parser(prog="python -m benchmarks.cost", description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--image", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--objectives", type=lambda names: names.split(","), default=["simclr", "simsiam"])
    given = parser.parse_args(argv)
    objectives = {
        recipe: possible[0]
        for recipe in RECIPES
        if (possible := [one for one in given.objectives if recipe not in IMPOSSIBLE.get(one, ())])
    }
    pairs = dict.fromkeys([*objectives.items(), *(("finetune", objective) for objective in objectives.values())])
    steps = {pair: make_step(*pair, given) for pair in pairs}
    seconds: dict[tuple[str, str], list[float]] = {pair: [] for pair in pairs}
    for _ in range(given.repeats):
        for pair, step in steps.items():
            began = time.perf_counter()
            step()
            seconds[pair].append(time.perf_counter() - began)
    recipes = {}
    for recipe, objective in objectives.items():
        ratios = [one / base for one, base in zip(seconds[recipe, objective], seconds["finetune", objective])]
        more = state_bytes(recipe, objective) - state_bytes("finetune", objective)
        recipes[recipe] = {"objective": objective, "ratio": measure.spread(ratios), "stored_bytes": more}
    finetune = {o: statistics.median(times) for (recipe, o), times in seconds.items() if recipe == "finetune"}
    result = {"settings": vars(given), **measure.where(), "finetune_seconds": finetune, "recipes": recipes}
    measure.save(RESULT, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
