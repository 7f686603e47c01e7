"""Trains runs for tests of probes, and measures single records of them."""

import json

from tests import tiny
from ucl_jax.probes import PROBES
from ucl_jax.settings import PROBE_DEFAULTS
from ucl_jax.training import run
from ucl_jax.training.provenance import Origin


def trained(folder, recipe, arg="digits", **more):
    run.run(tiny.config(recipe, arg, log__tensorboard=False, train__epochs=1, **more), folder, Origin("a test"))
    return folder


def results(workdir):
    return json.loads((workdir / "results.json").read_text())


def measure(subject, name, after=2, **settings):
    """Returns the values of one record.

    A setting that is not given has its default; of a list, the first case is taken.
    """
    one = PROBES[name]
    defaults = PROBE_DEFAULTS[name]
    given = {key: (value,) if isinstance(defaults[key], tuple) else value for key, value in settings.items()}
    (case, *_) = one.cases(subject, defaults | given)
    return one.measure(subject, None if one.whole_run else after, case)
