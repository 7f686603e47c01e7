"""Results of runs: what they are, and reading them. Nothing here needs JAX."""
