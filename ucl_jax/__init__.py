"""Unsupervised continual learning in JAX: benchmarks x objectives x methods x probes."""

__version__ = "0.1.0"
