"""CRC-32 of what is written, and arithmetic with it that zlib does not offer."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31  # the polynomial 1: the lowest power is the highest bit
_MASK = 0xFFFFFFFF


class Tally:
    """Size and CRC-32 of the pieces of a file so far, as its entry in a manifest has them."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self.crc32 = 0

    def counted(self, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        """The same pieces; each is counted before the next is asked for."""
        for piece in pieces:
            self.size_bytes += piece.nbytes
            self.crc32 = zlib.crc32(piece, self.crc32)
            yield piece


def crc32_of_rest(whole: int, first: int, rest_bytes: int) -> int:
    """CRC-32 of the end of some data, from that of all and that of what is before the end."""
    return whole ^ _times(first, _power(8 * rest_bytes))


def closing_bytes(crc32: int, wanted: int) -> bytes:
    """The 4 bytes that make the CRC-32 of data the wanted one, when they are appended to it."""
    register = wanted ^ _MASK
    # Backwards through the 32 bits: what the register was if those had all been zeros.
    for _ in range(32):
        register = (register ^ _POLYNOMIAL) << 1 | 1 if register & _ONE else register << 1
    return ((register ^ crc32 ^ _MASK) & _MASK).to_bytes(4, "little")


def _times(a: int, b: int) -> int:
    """Product of two polynomials over GF(2), modulo that of the CRC."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


def _power(exponent: int) -> int:
    """x to a power."""
    result, square = _ONE, _ONE >> 1
    while exponent:
        if exponent & 1:
            result = _times(result, square)
        square = _times(square, square)
        exponent >>= 1
    return result
