"""Which samples each rank reads in each epoch, and in which order: a function of its arguments.

All files are put in an order that an epoch's random numbers decide, and their samples are dealt in
that order: an equal part to each rank, whole batches only. What is left over is dropped. So files
migrate between ranks with every epoch, and no rank has a step more than another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .draws import FILES, SAMPLES, permutation

Order = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """What a rank reads in an epoch: samples of some files, file by file. Shape (files,).

    Of a file that two ranks share each has its own samples, which follow one another.
    """

    files: Order
    first_samples: Order
    samples: Order

    @property
    def total_samples(self) -> int:
        """Samples of all files."""
        return int(self.samples.sum(dtype=np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """How the samples of a split are dealt to ranks.

    `batch` is that of one rank. Without `reseed` every epoch has the order of the first.
    `unit_samples` are read together, as those of a row group: no two ranks share them. It divides
    `samples_per_file`. With 1 there are as many steps as DLIO's formula says, else maybe fewer.
    """

    files: int
    samples_per_file: int
    ranks: int
    batch: int
    seed: int
    shuffle_files: bool
    shuffle_samples: bool
    reseed: bool = True
    unit_samples: int = 1

    @property
    def steps(self) -> int:
        """Steps of an epoch, the same for every rank."""
        units = self.files * self.samples_per_file // self.unit_samples
        return units // self.ranks * self.unit_samples // self.batch

    @property
    def samples_per_rank(self) -> int:
        """Samples that each rank reads in an epoch."""
        return self.steps * self.batch

    @property
    def dropped_samples(self) -> int:
        """Samples that no rank reads in an epoch; which these are differs between epochs."""
        return self.files * self.samples_per_file - self.ranks * self.samples_per_rank

    def order(self, epoch: int) -> Order:
        """All files in the order of an epoch, the same on every rank."""
        if not self.shuffle_files:
            return np.arange(self.files, dtype=np.int32)
        return permutation(seed=self._seed(epoch), stream=FILES, count=self.files)

    def shard(self, rank: int, order: Order) -> Shard:
        """What a rank reads of files in this order."""
        units = -(-self.samples_per_rank // self.unit_samples)
        begin = rank * units * self.unit_samples
        end = begin + self.samples_per_rank
        first_file = begin // self.samples_per_file
        end_file = -(-end // self.samples_per_file)
        files = order[first_file:end_file]
        first_samples = np.zeros(len(files), dtype=np.int32)
        samples = np.full(len(files), self.samples_per_file, dtype=np.int32)
        if len(files):
            first_samples[0] = begin - first_file * self.samples_per_file
            samples[-1] -= end_file * self.samples_per_file - end
            samples[0] -= first_samples[0]
        return Shard(files=files, first_samples=first_samples, samples=samples)

    def sample_order(self, rank: int, epoch: int) -> Order | None:
        """The order in which a rank takes the samples of its shard, None for as they come.

        Shape (samples_per_rank,), below 2**31: samples are counted through the shard's files.
        """
        # With one sample a file the files are shuffled already.
        if not self.shuffle_samples or (self.samples_per_file == 1 and self.shuffle_files):
            return None
        return permutation(
            seed=self._seed(epoch), stream=SAMPLES, number=rank, count=self.samples_per_rank
        )

    def _seed(self, epoch: int) -> int:
        return self.seed + epoch if self.reseed else self.seed
