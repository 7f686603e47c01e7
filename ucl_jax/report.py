"""Runs `python -m ucl_jax.report`, which makes tables, plots and a page of runs; see `ucl_jax.results.__main__`."""

import sys

from ucl_jax.results.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
