"""The reads of a rank's batches in an epoch, block by block as a reader takes them.

Samples that lie together in a row group or a chunk are read with the first batch that needs any of
them; a batch whose samples were all read with others before it has no reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset, Split
from .formats.extents import Extents
from .layouts import Layouts
from .reader import READ, Block, Reads
from .sharding import Order, Shard

# A block is planned between two steps, so it must be small; and it must last for a while.
READS_AT_ONCE = 512
_NO_READS = np.zeros(0, dtype=READ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a rank reads in an epoch: `steps` batches of the samples of its shard.

    `sample_order` is that of the shard's samples, None for as they lie. `first_file` is the number
    in the dataset of the split's first file. A block but the last has `block_batches` or more.
    """

    dataset: Dataset
    split: Split
    first_file: int
    layouts: Layouts
    shard: Shard
    sample_order: Order | None
    batch: int
    steps: int
    block_batches: int = 1

    def blocks(self) -> Iterator[Block]:
        """All batches, as blocks of some reads each."""
        chunks = self._in_order() if self.sample_order is None else self._shuffled()
        rest, given = _NO_READS, 0
        for reads, samples in chunks:
            reads = np.concatenate((rest, reads))
            complete = min(samples // self.batch, self.steps)
            if complete >= min(given + self.block_batches, self.steps):
                ready = int(np.searchsorted(reads["batch"], complete))
                yield self._block(reads[:ready], given, complete)
                rest, given = reads[ready:], complete
            else:
                rest = reads
            if given == self.steps:
                return

    def _in_order(self) -> Iterator[tuple[Reads, int]]:
        """Reads of some files after others, with the samples up to their end.

        Files are numbers in the shard, batches count from 0.
        """
        shard, done = self.shard, 0
        count = len(shard.files)
        at_once = self._files_at_once()
        for begin in range(0, count, at_once):
            chosen = range(begin, min(begin + at_once, count))
            files, own = self._of_files(chosen)
            ends = done + np.cumsum(own.samples, dtype=np.int64)
            # Reads that complete no sample come before the one that does, so `ends` is right there.
            batches = (ends - own.samples) // self.batch
            yield _reads(files, own, batches), int(ends[-1])
            done = int(ends[-1])

    def _shuffled(self) -> Iterator[tuple[Reads, int]]:
        """The same of samples one by one, each with all the reads that it takes."""
        order = self.sample_order
        assert order is not None
        starts = np.zeros(len(self.shard.files) + 1, dtype=np.int64)
        np.cumsum(self.shard.samples, out=starts[1:])
        batches_at_once = max(1, READS_AT_ONCE // self.batch)
        for begin in range(0, self.steps, batches_at_once):
            end = min(begin + batches_at_once, self.steps)
            samples = order[begin * self.batch : end * self.batch]
            files = np.searchsorted(starts, samples, side="right") - 1
            within = samples - starts[files] + self.shard.first_samples[files]
            yield self._of_samples(files, within, begin), end * self.batch

    def _of_samples(
        self, files: NDArray[np.int64], within: NDArray[np.int64], first_batch: int
    ) -> Reads:
        numbers = self.first_file + self.shard.files[files]
        if self.layouts.whole:
            lengths = self.layouts.sizes_bytes[numbers]
            zeros = np.zeros(len(files), dtype=np.int64)
            own = Extents(samples=_ones(len(files)), offsets=zeros, lengths_bytes=lengths)
            return _reads(files, own, first_batch + np.arange(len(files)) // self.batch)
        parts = [
            self.layouts.file(number).part(sample, 1)
            for number, sample in zip(numbers.tolist(), within.tolist(), strict=True)
        ]
        counts = [len(part) for part in parts]
        batches = first_batch + np.repeat(np.arange(len(files)) // self.batch, counts)
        return _reads(np.repeat(files, counts), _joined(parts), batches)

    def _of_files(self, chosen: range) -> tuple[NDArray[np.int64], Extents]:
        """The reads of whole files of the shard, and of the parts of those that ranks share."""
        shard = self.shard
        places = np.arange(chosen.start, chosen.stop)
        numbers = self.first_file + shard.files[chosen.start : chosen.stop]
        if self.layouts.whole:
            zeros = np.zeros(len(places), dtype=np.int64)
            lengths = self.layouts.sizes_bytes[numbers]
            samples = shard.samples[chosen.start : chosen.stop]
            return places, Extents(samples=samples, offsets=zeros, lengths_bytes=lengths)
        parts = [
            self._part(int(number), int(first), int(count))
            for number, first, count in zip(
                numbers,
                shard.first_samples[chosen.start : chosen.stop],
                shard.samples[chosen.start : chosen.stop],
                strict=True,
            )
        ]
        return np.repeat(places, [len(part) for part in parts]), _joined(parts)

    def _part(self, number: int, first: int, count: int) -> Extents:
        whole = self.layouts.file(number)
        return whole if count == self.dataset.samples_per_file else whole.part(first, count)

    def _files_at_once(self) -> int:
        if self.layouts.whole or not len(self.shard.files):
            return READS_AT_ONCE
        reads = len(self.layouts.file(self.first_file + int(self.shard.files[0])))
        return max(1, READS_AT_ONCE // max(1, reads))

    def _block(self, reads: Reads, first_batch: int, end_batch: int) -> Block:
        """A block of batches, whose reads have files of the shard and batches of the epoch."""
        places, files = np.unique(reads["file"], return_inverse=True)
        reads = reads.copy()
        reads["file"] = files
        reads["batch"] -= first_batch
        indices = self.shard.files[places]
        paths = [
            self.split.path(index, self.dataset.prefix, self.dataset.format)
            for index in indices.tolist()
        ]
        return Block(
            paths=paths,
            numbers=(self.first_file + indices).astype(np.uint32),
            reads=reads,
            batches=end_batch - first_batch,
        )


def bytes_of_batches(block: Block) -> list[int]:
    """Bytes that the reads of each batch ask for."""
    sums = np.bincount(block.reads["batch"], weights=block.reads["length"], minlength=block.batches)
    return [int(each) for each in sums]


def _reads(files: NDArray[np.int64], own: Extents, batches: NDArray[np.int64]) -> Reads:
    reads = np.empty(len(files), dtype=READ)
    reads["file"] = files
    reads["offset"] = own.offsets
    reads["length"] = own.lengths_bytes
    reads["batch"] = batches
    return reads


def _joined(parts: Sequence[Extents]) -> Extents:
    return Extents(
        samples=np.concatenate([part.samples for part in parts]),
        offsets=np.concatenate([part.offsets for part in parts]),
        lengths_bytes=np.concatenate([part.lengths_bytes for part in parts]),
    )


def _ones(count: int) -> NDArray[np.int32]:
    return np.ones(count, dtype=np.int32)
