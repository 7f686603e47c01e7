"""Holds the flags by which XLA compiles quickly: for the tests, and for the processes that they start."""

import importlib.metadata

# LLVM optimises little. XLA itself optimises as ever, so that programs have the structure that they have in a run.
XLA_FLAGS = "--xla_backend_optimization_level=0"
# LLVM gets a program in one piece. Pieces would be compiled side by side, but take a tenth more time in all, and tests
# run side by side themselves.
XLA_FLAGS += " --xla_cpu_parallel_codegen_split_count=1"
# The emitters of fused kernels take half the time of a compilation. Later versions of jaxlib cannot do without them,
# and end the process at a flag that they do not know.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false"
