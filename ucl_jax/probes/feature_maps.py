"""Saves the feature maps that one stage of a network makes of single test images (the paper's fig. 4)."""

import jax
import numpy as np

from ucl_jax.errors import require, user_choice
from ucl_jax.probes.base import Probe, Settings, finite
from ucl_jax.probes.trained_run import TrainedRun


def _measure(run: TrainedRun, after: int, settings: Settings) -> dict:
    count = run.stream.num_tasks
    tasks = settings["tasks"] or (0, round(0.65 * (count - 1)))  # of 20 tasks the paper shows T0 and T13
    require(
        all(0 <= task < count for task in tasks),
        f"feature_maps.tasks is {tasks}; tasks are counted from 0, and the last is {count - 1}",
    )
    maps = jax.jit(run.objective(after).maps)
    items = []
    for task in tasks:
        images, labels, _ = run.test_images(settings["images"], [task])
        stages = maps(run.network(after), images)
        shown = np.asarray(user_choice("feature_maps.stage", settings["stage"], stages), np.float32)
        for image, label, of_image in zip(images, labels, shown):
            busiest = np.argsort(-of_image.std((0, 1)), kind="stable")[: settings["channels"]]
            channels = np.sort(busiest)
            items.append(
                {
                    "task": task,
                    "label": int(label),
                    "image": image.tolist(),
                    "channels": channels.tolist(),
                    "maps": [[[finite(x) for x in row] for row in of_image[..., channel]] for channel in channels],
                }
            )
    return {"tasks": list(tasks), "items": items}


feature_maps = Probe(measure=_measure)
