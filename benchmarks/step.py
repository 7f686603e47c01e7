"""Images/s of the whole LUMP training step, and the share of its parts.

    python -m benchmarks.step                    # the paper's size: width 64, batch 256, 32x32
    python -m benchmarks.step --width=16 --batch=64 --image=8 --repeats=20

Random images: the values do not matter for the time. The first step (compilation) is told apart, then the whole step
and its parts alternate; medians.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from configs import lump
from ucl_jax import parallel
from ucl_jax.experiment import make_experiment
from ucl_jax.run import device_name
from ucl_jax.types import Batch


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--image", type=int, default=32)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--objective", default="simsiam")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    config = lump.get_config(f"cifar10,{arguments.objective}")
    config.model.update(width=arguments.width, dtype=arguments.dtype)
    config.train.batch_size = arguments.batch
    config.benchmark.image_size = arguments.image
    devices = parallel.choose_devices(0, arguments.batch)
    experiment = make_experiment(config, parallel.AXIS)
    compiled = parallel.compile_stages(experiment.stages, devices)[0]
    state = jax.device_put(experiment.init(), compiled.sharding)
    shape = (arguments.batch, arguments.image, arguments.image, 3)
    rng = np.random.default_rng(0)
    batch = Batch(
        rng.integers(0, 256, shape, np.uint8), np.zeros(arguments.batch, np.int32), np.ones(arguments.batch, bool)
    )
    keys = jax.random.split(jax.random.key(0), arguments.batch)

    objective = experiment.stages[0].objective
    views = jax.jit(objective.views)
    replay_views = jax.jit(objective.replay_views)
    loss = make_experiment(config, None).stages[0].objective.loss  # the same without an axis
    gradient = jax.jit(jax.grad(loss, has_aux=True))
    shown = jax.block_until_ready(views(keys, batch))
    params, model_state = jax.tree.map(jax.numpy.copy, (state.params, state.model_state))

    def step():
        nonlocal state
        state, metrics = compiled.train_step(state, batch, experiment.key)
        return metrics

    parts = {
        "whole step": step,
        "two views": lambda: views(keys, batch),
        "replay views": lambda: replay_views(keys, batch, shown[1]),
        "forward + backward": lambda: gradient(params, model_state, shown),
    }
    began = time.perf_counter()
    jax.block_until_ready(step())
    print(f"device: {device_name(devices)}, jax {jax.__version__}; first step: {time.perf_counter() - began:.1f} s")
    for part in parts.values():
        jax.block_until_ready(part())
    times = {name: [] for name in parts}
    for _ in range(arguments.repeats):
        for name, part in parts.items():
            began = time.perf_counter()
            jax.block_until_ready(part())
            times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        spread = f"{min(times[name]):.3f}..{max(times[name]):.3f}"
        print(f"{name:20} {seconds:8.3f} s  ({spread})  {100 * seconds / medians['whole step']:5.1f} %")
    print(f"{arguments.batch / medians['whole step']:.1f} images/s")
    augmentation = medians["two views"] + medians["replay views"]
    print(f"augmentation: {100 * augmentation / medians['whole step']:.1f} % of the step")


if __name__ == "__main__":
    main()
