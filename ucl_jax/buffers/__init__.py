"""Buffers: which past examples are kept. To add a policy, see docs/architecture.md.

Each function of BUFFERS takes the number of slots and the number of tasks, and returns a `Buffer`.
"""

from ucl_jax.buffers.base import Buffer, BufferState, Offer, Recalled
from ucl_jax.buffers.fifo import fifo
from ucl_jax.buffers.greedy import greedy
from ucl_jax.buffers.min_red import min_red
from ucl_jax.buffers.reservoir import equal_share, reservoir
from ucl_jax.buffers.with_replacement import with_replacement

BUFFERS = {
    "reservoir": reservoir,
    "equal_share": equal_share,
    "with_replacement": with_replacement,
    "fifo": fifo,
    "greedy": greedy,
    "min_red": min_red,
}

__all__ = ["BUFFERS", "Buffer", "BufferState", "Offer", "Recalled"]
