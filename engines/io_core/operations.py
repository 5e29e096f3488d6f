"""Operations as planners make them and executors take them: blocks of rows with named columns.

An executor is given one stream of blocks for each shard. It works a shard's rows off one after the
other in their order, and shards beside each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

LOAD = 0
STORE = 1

# Packed and little-endian: these are also the canonical bytes of a plan.
OPERATION = np.dtype(
    [
        ("offset", "<u8"),  # bytes from the start of the file, a multiple of 4 KiB
        ("chunk", "<u8"),  # what the stamp names
        ("length", "<u4"),  # bytes, a multiple of 4 KiB
        ("version", "<u4"),  # of the chunk: to be found (load) or to be written (store)
        ("file", "<u4"),  # index of an open file
        ("user", "<u4"),  # who asks
        ("request", "<u4"),  # the user's request that this belongs to, from 0
        ("kind", "u1"),  # LOAD or STORE
        ("purpose", "u1"),  # the benchmark's own class, below PURPOSES
        ("closes", "u1"),  # 1 on the last operation of a request
        ("reserved", "u1"),
    ]
)
PURPOSES = 16

Operations = NDArray[np.void]
Stream = Iterator[Operations]
