"""Runs `python -m ucl_jax.train`, which trains a recipe as `launch.py` does; see `ucl_jax.training.__main__`."""

import sys

from ucl_jax.training.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
