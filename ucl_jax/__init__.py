"""Unsupervised continual learning in JAX: benchmarks, objectives, methods and probes, to be combined freely.

What is named here is the public API. It is imported when it is first used, so that `import ucl_jax` takes no time.

- `make_config`: a recipe and overrides -> a checked config.
- `run`: trains a config in a folder, as `ucl train` does.
- `open_session`: trains it without files, event by event: `StepsDone`, `Evaluating`, `LegDone`.
- `Arrays`: images in memory, to be trained on instead of a data set.
- `load_results`: the results of a run folder.
- `Encoder`, `load`: the network of a trained run, images -> features, in the style of scikit-learn.
- `UsageError`: what all of these raise about a config, a folder or a file.
- `Stopped`: what `run` raises when a signal stops it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ucl_jax.version import __version__

if TYPE_CHECKING:
    from ucl_jax.data.memory import Arrays
    from ucl_jax.encoder import Encoder, load
    from ucl_jax.errors import Stopped, UsageError
    from ucl_jax.recipes import make_config
    from ucl_jax.results.load import load_results
    from ucl_jax.training.loop import Evaluating, LegDone, StepsDone
    from ucl_jax.training.run import run
    from ucl_jax.training.session import Session, open_session

# Name -> the module that has it.
_PLACES = {
    "Arrays": "data.memory",
    "Encoder": "encoder",
    "Evaluating": "training.loop",
    "LegDone": "training.loop",
    "Session": "training.session",
    "StepsDone": "training.loop",
    "Stopped": "errors",
    "UsageError": "errors",
    "load": "encoder",
    "load_results": "results.load",
    "make_config": "recipes",
    "open_session": "training.session",
    "run": "training.run",
}

__all__ = [
    "Arrays",
    "Encoder",
    "Evaluating",
    "LegDone",
    "Session",
    "StepsDone",
    "Stopped",
    "UsageError",
    "__version__",
    "load",
    "load_results",
    "make_config",
    "open_session",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'ucl_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ucl_jax.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
