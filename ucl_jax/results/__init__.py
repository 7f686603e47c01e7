"""Reads and compares the results of runs, and makes tables, figures and a page of them. Nothing here needs JAX."""
