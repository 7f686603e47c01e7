"""Buffers: which past examples are kept. To add a policy, write its file, name it here and in `ucl_jax.settings`.

A maker takes the number of slots and the number of tasks; it gives a `Buffer`.
"""

from ucl_jax.buffers.base import Buffer, Offer, Recalled, Stored
from ucl_jax.buffers.fifo import fifo
from ucl_jax.buffers.greedy import greedy
from ucl_jax.buffers.reservoir import equal_share, reservoir

BUFFERS = {"reservoir": reservoir, "equal_share": equal_share, "fifo": fifo, "greedy": greedy}

__all__ = ["BUFFERS", "Buffer", "Offer", "Recalled", "Stored"]
