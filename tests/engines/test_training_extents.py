"""Reads of samples: those of some samples alone, and ranges made one across small gaps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.training_native.formats.extents import coalesced, equal_parts, extents_of

# Samples of each row group, and the reads that it takes.
groups = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), min_size=1, max_size=6)


@given(groups, st.data())
def test_a_part_has_the_reads_that_bring_its_samples(groups, data):
    samples = [n for rows, reads in groups for n in [0] * (reads - 1) + [rows]]
    whole = extents_of(samples, 100 * np.arange(len(samples)), np.full(len(samples), 10))
    total = sum(rows for rows, _ in groups)
    first = data.draw(st.integers(0, total - 1))
    count = data.draw(st.integers(1, total - first))
    part = whole.part(first, count)
    # The same, sample by sample and group by group.
    wanted, at, read = [], 0, 0
    for rows, reads in groups:
        those = len(set(range(at, at + rows)) & set(range(first, first + count)))
        if those:
            wanted += [(read + n, 0) for n in range(reads - 1)] + [(read + reads - 1, those)]
        at, read = at + rows, read + reads
    assert part.offsets.tolist() == [100 * number for number, _ in wanted]
    assert part.samples.tolist() == [those for _, those in wanted]
    assert len(part.lengths_bytes) == len(wanted)


@pytest.mark.parametrize(("first", "count"), [(0, 0), (-1, 2), (3, 3), (5, 1)])
def test_there_are_no_other_samples(first, count):
    with pytest.raises(ValueError, match="there are no samples"):
        equal_parts(0, 10, 5).part(first, count)


ranges = st.lists(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 60)), min_size=3, max_size=3),
    min_size=1,
    max_size=4,
)


@given(ranges, st.integers(0, 100))
def test_joined_ranges_cover_what_was_asked_and_little_else(groups, gap):
    starts = np.array([[start + 1000 * n for start, _ in group] for n, group in enumerate(groups)])
    ends = starts + [[length for _, length in group] for group in groups]
    found = coalesced(np.full(len(groups), 7, np.int32), starts, ends, gap)
    reads = list(zip(found.offsets.tolist(), found.lengths_bytes.tolist(), strict=True))
    covered = {byte for offset, length in reads for byte in range(offset, offset + length)}
    asked = {
        byte
        for start, end in zip(starts.ravel(), ends.ravel(), strict=True)
        for byte in range(start, end)
    }
    assert asked <= covered
    # No read begins or ends with a byte that nobody wants, and none could be joined to the next.
    assert all(offset in asked and offset + length - 1 in asked for offset, length in reads)
    for (offset, length), (following, _) in pairwise(reads):
        assert following - offset - length > gap or following // 1000 > offset // 1000
    assert found.samples.sum() == 7 * len(groups)
    if gap == 0:
        assert covered == asked
