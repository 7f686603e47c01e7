"""Runs `python -m ucl_jax.probe`, which probes saved networks; see `ucl_jax.probes.__main__`."""

import sys

from ucl_jax.probes.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
