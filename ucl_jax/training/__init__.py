"""Training: the step, the loop, devices, checkpoints and the run of one folder."""
