"""Operations as planners make them and executors take them: blocks of rows with named columns.

An executor is given one stream of blocks for each of its shards. Rows that share user and request
are one request and follow one another in the stream. In a request, rows of one step may be in
flight together; a step starts when the one before it is complete, a user's request when the one
before it is. Requests of different users run beside each other.

A gated row also waits for other users' rows: a load until its slot holds its version, which is the
number of gated stores of that slot so far; a store until the `order` gated rows of its slot that
come earlier in the plan are complete.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

LOAD = 0
STORE = 1

# Packed and little-endian: these are also the canonical bytes of a plan, and `struct row` in C.
OPERATION = np.dtype(
    [
        ("offset", "<u8"),  # bytes from the start of the file, a multiple of 4 KiB
        ("chunk", "<u8"),  # what the stamp names
        ("arrival", "<u8"),  # of the request, ns after the start; 0 in a closed loop
        ("length", "<u4"),  # bytes, a multiple of 4 KiB
        ("version", "<u4"),  # of the chunk: to be found (load) or to be written (store)
        ("file", "<u4"),  # index of an open file, or of a directory of chunk files
        ("user", "<u4"),  # who asks
        ("request", "<u4"),  # the user's request that this belongs to, from 0
        ("slot", "<u4"),  # of a gated row, counted over the whole rank
        ("order", "<u4"),  # of a gated row: how many of its slot come earlier in the plan
        ("tokens", "<u4"),  # on the row that closes a request: how many it generates; else 0
        ("step", "<u2"),  # within the request
        ("spare", "<u2"),
        ("kind", "u1"),  # LOAD or STORE
        ("purpose", "u1"),  # the benchmark's own class, below PURPOSES
        ("closes", "u1"),  # 1 on the last operation of a request
        ("gate", "u1"),  # 1 on a row that is gated
    ]
)
PURPOSES = 16

Operations = NDArray[np.void]
Stream = Iterator[Operations]
