"""The networks, in Flax Linen, and the architectures that put them together."""
