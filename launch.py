"""Trains and evaluates a recipe, or prints its config; it is the command `ucl train`.

python launch.py --config=configs/er.py[:benchmark[,objective[,protocol[,stream]]]] [--workdir=DIR]
"""

import shlex
import sys

from ucl_jax.training.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], shlex.join(["python", sys.argv[0]])))
