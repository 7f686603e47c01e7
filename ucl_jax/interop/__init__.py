"""Formats of other people: weights of PyTorch."""
