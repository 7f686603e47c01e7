"""Evaluates networks: pure functions that turn features into numbers."""
