"""Runs a recipe.

python launch.py --config=configs/lump.py[:benchmark[,objective]] [--workdir=DIR] [--config.KEY=VALUE]
"""

import pathlib
import shlex
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from ucl_jax import cli
from ucl_jax.errors import UsageError

CONFIG = config_flags.DEFINE_config_file("config", None, "A recipe, configs/NAME.py[:benchmark[,objective]].")
WORKDIR = flags.DEFINE_string("workdir", None, "Run folder; default runs/<recipe>-<benchmark>-<objective>-seed<n>.")


def main(argv: list[str]) -> None:
    """Trains, evaluates and records the run of --config; goes on where an earlier one in the folder was left."""
    if len(argv) > 1 or CONFIG.value is None:
        raise UsageError(f"give a recipe and nothing else unnamed: {__doc__.splitlines()[2]}")
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_logger().setLevel("CRITICAL")  # Orbax tells every step of a save, and errors that it raises too
    from ucl_jax.results import compare, tables  # heavy: not for --help
    from ucl_jax.training import run

    workdir = pathlib.Path(WORKDIR.value) if WORKDIR.value else run.default_workdir(CONFIG.value)
    argument, overrides = cli.origin(sys.argv, CONFIG.value)
    results = run.run(CONFIG.value, workdir, run.Origin(shlex.join(["python", *sys.argv]), argument, overrides))
    print(tables.render(tables.every_run([results], compare.forgetting_of([results]))))
    print(f"results: {workdir}/results.json, plots: {workdir}/plots")


if __name__ == "__main__":
    app.run(cli.exit_codes(main), flags_parser=cli.parse_flags)
