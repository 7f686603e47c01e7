"""Evaluation: features -> numbers. Pure functions."""
