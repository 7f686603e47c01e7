"""Buffers: which past examples are kept."""
