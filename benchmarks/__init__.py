"""Measures speed, memory and fidelity. The measurements are not a part of the package."""
