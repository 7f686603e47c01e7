"""Data: a table of benchmarks, reading of TFDS data sets, tasks as index sets over their splits."""
