"""The table of benchmarks, the reading of TFDS data sets, and their division into tasks."""
