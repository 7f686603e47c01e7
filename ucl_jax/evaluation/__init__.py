"""Evaluation: pure functions that turn features into numbers."""
