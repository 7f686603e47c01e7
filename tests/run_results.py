"""Makes results.json of runs that never took place. No other file of the tests says what it holds."""

import json

from ucl_jax.results.schema import VERSION, Record, RunResult

MATRIX = [[90.0, None], [80.0, 97.0]]
# The values of a record of the probe geometry.
GEOMETRY = {
    "l2_from_random": 2.0,
    "l2_from_previous": None,
    "effective_rank": 1.5,
    "dimensions": 2,
    "deviation_mean": 0.15,
    "deviation_least": 0.1,
    "deviation": [0.1, 0.2],
}


def probe(matrix=MATRIX, chance=50.0, random_init=(60.0, 70.0, 65.0), **more):
    """Returns a probe as results.json holds it."""
    matrix = [list(row) for row in matrix]
    initial = None if random_init is None else list(random_init)[: len(matrix[0])]
    return {"matrix": matrix, "chance": chance, "random_init": initial, "settings": {}, **more}


def evaluated(images, seen, samples=2, batch_size=4):
    """Returns `evaluations` of a stream: a row after each number of images, with `samples` gradients an image."""
    return [
        {"step": count // batch_size, "images_seen": count, "gradient_samples": samples * count, "tasks_seen": tasks}
        for count, tasks in zip(images, seen)
    ]


def changed(tree, path, value):
    """Returns a copy of nested dicts with another value at "section.key"."""
    key, _, rest = path.partition(".")
    return tree | {key: changed(tree.get(key, {}), rest, value) if rest else value}


def as_json(
    recipe="lump",
    matrix=MATRIX,
    seed=0,
    objective="simsiam",
    benchmark="digits",
    joint=False,
    config=None,
    settings=(),
    overrides=(),
    probes=None,
    **more,
):
    """Returns the results.json of a finished run.

    Args:
      recipe, seed, objective, benchmark, joint: entries of the config.
      matrix: the accuracy matrix of both probes, unless `probes` gives the probes.
      config: the whole config, in place of those entries.
      settings: pairs of "section.key" and value to set in the config.
      overrides: pairs to set in the config and to list as overrides.
      **more: other fields of the result.
    """
    tree = config or {
        "recipe": recipe,
        "seed": seed,
        "model": {"name": "progressive" if recipe == "pnn" else "resnet18"},
        "objective": {"name": objective},
        "eval": {"forgetting": "max", "tasks": "all"},
        "benchmark": {"name": benchmark, "joint": joint, "examples_per_task": 0},
    }
    for key, value in (*dict(settings).items(), *dict(overrides).items()):
        tree = changed(tree, key, value)
    found = probes or {"knn_task": probe(matrix), "knn_all": probe(matrix, chance=25.0)}
    result = {"version": VERSION, "finished": True, "config": tree, "probes": found, "overrides": dict(overrides)}
    return result | {"argument": f"{benchmark},{objective}"} | more


def result(*arguments, analysis=(), **keywords):
    """Returns the same result as a RunResult, with records of analysis."""
    return RunResult.from_json(as_json(*arguments, **keywords)).with_analysis([as_record(each) for each in analysis])


def save(path, *arguments, **keywords):
    """Writes the same result to a file, and returns its path."""
    path.write_text(json.dumps(result(*arguments, **keywords).to_json()))
    return path


def as_record(content):
    """Makes a record of analysis from its JSON without checking its values."""
    return Record(**content)
