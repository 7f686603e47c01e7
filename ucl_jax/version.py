"""Holds the version of the package, which modules can read without the public API of `ucl_jax/__init__.py`."""

__version__ = "0.2.0"
