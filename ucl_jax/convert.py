"""Runs `python -m ucl_jax.convert`, which lists a file of PyTorch weights; see `ucl_jax.interop.torch_weights`."""

import sys

from ucl_jax.interop.torch_weights import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
