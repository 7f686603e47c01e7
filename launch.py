"""Runs a recipe.

python launch.py --config=configs/lump.py[:benchmark[,objective]] [--workdir=DIR] [--config.KEY=VALUE]

With --print_config it only prints every key with its value, with --diff=RECIPE those in which another recipe differs.
"""

import pathlib
import shlex
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from ucl_jax import cli
from ucl_jax.errors import UsageError, require

CONFIG = config_flags.DEFINE_config_file("config", None, "A recipe, configs/NAME.py[:benchmark[,objective]].")
WORKDIR = flags.DEFINE_string("workdir", None, "Run folder; default runs/<recipe>-<benchmark>-<objective>-seed<n>.")
PRINT_CONFIG = flags.DEFINE_boolean("print_config", False, "Print every key of --config with its value; run nothing.")
DIFF = flags.DEFINE_string(
    "diff",
    None,
    "With --print_config: a recipe as for --config; print only the keys in which it differs, without overrides.",
)


def main(argv: list[str]) -> None:
    """Runs the recipe of --config, going on where an earlier run in the folder was left, or prints its config tree."""
    if len(argv) > 1 or CONFIG.value is None:
        raise UsageError(f"give a recipe and nothing else unnamed: {__doc__.splitlines()[2]}")
    require(DIFF.value is None or PRINT_CONFIG.value, "--diff does nothing alone; give --print_config beside it")
    if PRINT_CONFIG.value:
        other = None if DIFF.value is None else cli.read_config([f"--config={DIFF.value}"])
        lines = cli.config_lines(CONFIG.value) if other is None else cli.difference_lines(CONFIG.value, other)
        print("\n".join(lines))
        return
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
