"""Trains and evaluates a recipe, or prints its config.

    ucl train --config=lump:digits
    python launch.py --config=configs/er.py[:benchmark[,objective[,protocol[,stream]]]] [--workdir=DIR]

With --distributed it works with the other processes that were given the same command, on this machine or on others.

With --print_config it only prints every key of the config with its value. With --print_config and --diff=RECIPE it
prints the keys in which the two recipes differ.
"""

import gc
import pathlib
import shlex
import sys
from collections.abc import Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from ucl_jax import cli, recipes
from ucl_jax.errors import UsageError, require
from ucl_jax.training import supervise

HELP = {"-h", "-?", "-help", "--help", "-helpshort", "--helpshort", "-helpfull", "--helpfull"}
CALLS = {
    "--config=lump:digits --config.train.epochs=5": "LUMP on the embedded digits, shortened",
    "--config=lump:cifar100,barlow_twins --config.seed=1 --workdir=runs/a": "another benchmark and objective",
    "--config=lump:digits --print_config": "every key with its value; nothing is run",
    "--config=lump:digits --print_config --diff=der:digits": "the keys in which two recipes differ",
}
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A recipe by its name or by the path of its file: NAME[:benchmark[,objective[,protocol[,stream]]]]."
)
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "The folder of the run; default runs/<recipe>-<benchmark>-<objective>[-<protocol>][-<stream>]-seed<n>.",
)
PRINT_CONFIG = flags.DEFINE_boolean("print_config", False, "Print every key of --config with its value; run nothing.")
DIFF = flags.DEFINE_string(
    "diff",
    None,
    "With --print_config: a recipe, without overrides; print only the keys in which --config differs from it.",
)
MAPPING = flags.DEFINE_enum(
    "mapping",
    "auto",
    ["auto", "pmap", "shard_map"],
    "What maps over devices; auto takes pmap in one process, shard_map in several. Numbers differ by rounding only.",
)
DISTRIBUTED = flags.DEFINE_boolean("distributed", False, "Work with other processes; see docs/clusters.md.")
COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "With --distributed: HOST:PORT of process 0; default: as the cluster says."
)
NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "With --distributed: the number of processes; default: as the cluster says."
)
PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "With --distributed: the number of this process, from 0; default: as the cluster says."
)


def _help(prog: str) -> str:
    """Returns the text of --help: what there is to choose from, and the flags."""
    defining = str(flags.FLAGS.find_module_defining_flag(WORKDIR.name))
    lists = recipes.offered()
    lists["flags"] = {f"--{flag.name}": flag.help for flag in flags.FLAGS.flags_by_module_dict()[defining]} | {
        "--config.KEY": "Any key of the recipe; --print_config shows them."
    }
    recipe = "RECIPE[:BENCHMARK[,OBJECTIVE[,PROTOCOL[,STREAM]]]]"
    usage = f"usage: {prog} --config={recipe} [--config.KEY=VALUE] [--workdir=DIR]"
    return "\n\n".join([usage, __doc__.splitlines()[0], cli.examples(prog, CALLS), cli.listed(lists)])


@cli.returns_exit_code
def main(argv: Sequence[str], prog: str = "python -m ucl_jax.train") -> None:
    """Carries out the command; `prog` is what was typed before the arguments `argv`."""
    if HELP & set(argv):
        print(_help(prog))
        return
    given = [prog, *argv]
    app.run(cli.returns_exit_code(lambda unnamed: _train(given, unnamed)), argv=given, flags_parser=recipes.parse_flags)


def _train(given: Sequence[str], unnamed: Sequence[str]) -> None:
    """Runs the recipe of --config, or prints its config.

    If the folder holds an earlier run of the same config, the run goes on where that one stopped.

    Args:
      given: the name of the program and its arguments.
      unnamed: those of `given` that are no flags.
    """
    if len(unnamed) > 1 or CONFIG.value is None:
        raise UsageError(f"give a recipe and nothing else unnamed: {given[0]} --config=lump:digits")
    require(DIFF.value is None or PRINT_CONFIG.value, "--diff does nothing alone; give --print_config beside it")
    if PRINT_CONFIG.value:
        other = None if DIFF.value is None else recipes.read_config([f"--config={DIFF.value}"])
        lines = recipes.config_lines(CONFIG.value) if other is None else recipes.difference_lines(CONFIG.value, other)
        print("\n".join(lines))
        return
    for flag in (COORDINATOR, NUM_PROCESSES, PROCESS_ID):
        require(DISTRIBUTED.value or flag.value is None, f"--{flag.name} does nothing alone; give --distributed too")
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_logger().setLevel("CRITICAL")  # Orbax logs each step of a save, and errors that it also raises
    if DISTRIBUTED.value:
        supervise.continue_in_child()
    from ucl_jax.results import compare, tables  # imported late, because --help and --print_config must be quick
    from ucl_jax.training import processes, run
    from ucl_jax.training.provenance import Origin
    from ucl_jax.training.run_folder import default_workdir

    gc.freeze()  # nothing imported becomes garbage, and looking for some there took a tenth of a short run
    require(WORKDIR.value != "", "--workdir is empty; give a folder, or leave the flag out for the default one")
    config = CONFIG.value
    words = config.recipe, config.benchmark.name, config.objective.name, config.protocol, config.stream.name
    default = default_workdir(*words, config.seed)
    workdir = pathlib.Path(WORKDIR.value or default)
    argument, overrides = recipes.origin(given, config)
    if DISTRIBUTED.value:
        processes.start(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    with processes.together():
        origin = Origin(f"{given[0]} {shlex.join(given[1:])}", argument, overrides)
        results = run.run(config, workdir, origin, MAPPING.value)
    if results is None:  # process 0 has them
        return
    for table in tables.of_runs([results], compare.forgetting_definition([results])):
        print(tables.render(table))
    print(f"results: {workdir}/results.json, plots: {workdir}/plots")
    left_out = workdir / "left_out.txt"
    if left_out.exists():
        print(f"files left out: {len(left_out.read_text().splitlines())}, see {left_out}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
