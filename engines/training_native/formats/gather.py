"""Pieces of a good size for writing, out of parts that may be a few bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..content import PIECE_BYTES

# Parts of at least this size are passed on as they are; to copy smaller ones costs less than to
# write them one by one.
_LARGE_BYTES = PIECE_BYTES // 4


def gathered(parts: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    """The same bytes in pieces of up to PIECE_BYTES, each valid until the next is taken."""
    buffer = bytearray(PIECE_BYTES)
    whole = memoryview(buffer)
    held = 0
    for part in parts:
        size = len(part)
        if held and (size >= _LARGE_BYTES or held + size > PIECE_BYTES):
            yield whole[:held]
            held = 0
        if size >= _LARGE_BYTES:
            yield from cut(memoryview(part))
        else:
            whole[held : held + size] = part
            held += size
    if held:
        yield whole[:held]


def cut(data: memoryview) -> Iterator[memoryview]:
    """Data in pieces of up to PIECE_BYTES."""
    for begin in range(0, len(data), PIECE_BYTES):
        yield data[begin : begin + PIECE_BYTES]
