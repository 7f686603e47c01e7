"""All rows of Table 1, and ER and DER++ beside them, on a small data set: digits in three seeds by default.

    python -m benchmarks.table1                                         # embedded digits, two CPU cores: see README
    python -m benchmarks.table1 --benchmark=cifar10 --jobs=1            # the paper's, for an accelerator
    bash benchmarks/cifar10_small.sh                                    # shrunk for two CPU cores

Results go to benchmarks/results/NAME; `python -m benchmarks.tables` puts them into README.md.
"""

import sys

from benchmarks import runner

UNLABELLED = ("finetune", "si", "der", "lump", "multitask", "pnn")
# The rows of the paper, and those that it does not have.
ROWS = {
    "supervised": ("finetune", "si", "agem", "gss", "der", "multitask", "pnn"),
    "simsiam": UNLABELLED,
    "barlow_twins": UNLABELLED,
}
MORE = {
    "supervised": ("er", "lump", "derpp"),
    "simsiam": ("er", "derpp", "agem", "gss"),
    "barlow_twins": ("er", "derpp", "agem"),
}


def main() -> int:
    """Runs what is missing."""
    parser = runner.make_parser(__doc__.splitlines()[0])
    parser.add_argument("--benchmark", default="digits")
    parser.add_argument("--name", help="of the study; default table1-BENCHMARK")
    parser.add_argument("--objectives", default=",".join(ROWS))
    given = parser.parse_args()
    if unknown := set(given.objectives.split(",")) - set(ROWS):
        parser.error(f"unknown objective {', '.join(map(repr, sorted(unknown)))}; known: {', '.join(ROWS)}")
    cells = [
        runner.Cell(f"{recipe}-{objective}-seed{seed}", recipe, f"{given.benchmark},{objective}", seed)
        for rows in (ROWS, MORE)
        for seed in range(given.seeds)
        for objective in given.objectives.split(",")
        for recipe in rows[objective]
    ]
    return runner.run_all(given.name or f"table1-{given.benchmark}", cells, given)


if __name__ == "__main__":
    sys.exit(main())
