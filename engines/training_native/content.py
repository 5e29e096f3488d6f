"""What files hold: incompressible bytes, the same for the same seed and file, at memory speed.

They are blocks of 4 KiB of a random pool, each combined with a random word of its own. So no two
blocks of a dataset are equal, at whatever offset a storage system looks for copies.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .draws import CONTENT, POOL, Words, random_words

BLOCK_BYTES = 4096
# Small enough for the processor's caches, large enough for a write.
PIECE_BYTES = 4 * 2**20
_BLOCK_WORDS = BLOCK_BYTES // 8
_POOL_BLOCKS = 1024


class Content:
    """The bytes of all files of a dataset. One thread at a time."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._pool = random_words(seed=seed, stream=POOL, count=_POOL_BLOCKS * _BLOCK_WORDS)
        self._pool = self._pool.reshape(_POOL_BLOCKS, _BLOCK_WORDS)
        self._piece = np.empty((PIECE_BYTES // BLOCK_BYTES, _BLOCK_WORDS), dtype=np.uint64)
        self._bytes = self._piece.reshape(-1).view(np.uint8).data

    def pieces(self, file: int, length_bytes: int, first_block: int = 0) -> Iterator[memoryview]:
        """So many bytes of a file from a block on; each piece is valid until the next is taken."""
        block = first_block
        while length_bytes > 0:
            take = min(length_bytes, PIECE_BYTES)
            blocks = -(-take // BLOCK_BYTES)
            self._fill(file, block, self._piece[:blocks])
            yield self._bytes[:take]
            block += blocks
            length_bytes -= take

    def fill(self, file: int, first_block: int, out: NDArray[np.uint8]) -> None:
        """Fills whole blocks of a file; `out` is aligned to 8 bytes."""
        self._fill(file, first_block, out.view(np.uint64).reshape(-1, _BLOCK_WORDS))

    def word(self, file: int) -> int:
        """A random 32-bit number of a file, which no block of it holds."""
        # The last words that the file's sequence could have: no file is that long.
        words = random_words(seed=self._seed, stream=CONTENT, number=file, first=2**62, count=1)
        return int(words[0]) & 0xFFFFFFFF

    def _fill(self, file: int, first_block: int, out: Words) -> None:
        """Combines blocks of the pool with the words of a file's blocks from the first on."""
        skipped = first_block % 4
        words = random_words(
            seed=self._seed,
            stream=CONTENT,
            number=file,
            first=first_block - skipped,
            count=skipped + len(out),
        )[skipped:]
        done = 0
        while done < len(out):
            # Files begin at different blocks of the pool.
            start = (file * 2654435761 + first_block + done) % _POOL_BLOCKS
            blocks = min(len(out) - done, _POOL_BLOCKS - start)
            part = slice(done, done + blocks)
            np.bitwise_xor(
                self._pool[start : start + blocks], words[part, np.newaxis], out=out[part]
            )
            done += blocks
