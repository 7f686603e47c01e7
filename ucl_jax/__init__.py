"""Unsupervised continual learning in JAX: benchmarks, objectives, methods and probes, to be combined freely."""

__version__ = "0.2.0"
