"""The reads of a rank's batches: every sample once, in the batch that needs it, whatever the file
layout, the batch and the number of ranks are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_models import dataset

from mlps.engines.training_native.batches import Course, bytes_of_batches
from mlps.engines.training_native.formats.extents import extents_of
from mlps.engines.training_native.layouts import Layouts
from mlps.engines.training_native.sharding import Deal


def layouts_of(files, groups, reads_per_group):
    """All files alike: groups of so many samples, each of some reads, 10 bytes a read and apart."""
    samples = []
    for count in groups:
        samples += [0] * (reads_per_group - 1) + [count]
    reads = len(samples)
    return Layouts(
        samples_per_file=sum(groups),
        sizes_bytes=np.full(files, 20 * reads, dtype=np.int64),
        samples=np.array(samples, dtype=np.int32),
        offsets=20 * np.arange(reads, dtype=np.int64),
        lengths_bytes=np.full(reads, 10, dtype=np.int64),
        starts=np.array([0, reads], dtype=np.int64),
        of_files=np.zeros(files, dtype=np.int32),
    )


def course(deal, rank, layouts, *, shuffled=False, steps=None):
    shard = deal.shard(rank, deal.order(1))
    data = dataset("parquet", files=deal.files, samples_per_file=deal.samples_per_file)
    return Course(
        dataset=data,
        split=data.train,
        first_file=0,
        layouts=layouts,
        shard=shard,
        sample_order=deal.sample_order(rank, 1) if shuffled else None,
        batch=deal.batch,
        steps=deal.steps if steps is None else steps,
    )


def taken(found):
    """File number, offset and batch of every read, in order."""
    rows, first = [], 0
    for block in found.blocks():
        assert block.paths == [
            found.split.path(number, "img", "parquet") for number in block.numbers.tolist()
        ]
        rows += [
            (int(block.numbers[read["file"]]), int(read["offset"]), first + int(read["batch"]))
            for read in block.reads
        ]
        first += block.batches
    assert first == found.steps
    return rows


def deals(**more):
    return Deal(seed=1, shuffle_files=True, **{"shuffle_samples": False, **more})


@settings(max_examples=60, deadline=None)
@given(
    files=st.integers(1, 40),
    groups=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    reads_per_group=st.integers(1, 3),
    ranks=st.integers(1, 4),
    batch=st.integers(1, 12),
)
def test_a_batch_reads_the_groups_that_it_is_the_first_to_need(
    files, groups, reads_per_group, ranks, batch
):
    spf = sum(groups)
    deal = deals(files=files, samples_per_file=spf, ranks=ranks, batch=batch)
    if deal.steps == 0:
        return
    layouts = layouts_of(files, groups, reads_per_group)
    order = deal.order(1)
    bounds = np.cumsum([0, *groups])
    for rank in range(ranks):
        found = course(deal, rank, layouts)
        # Sample by sample, as it is defined.
        expected, seen = [], set()
        for place in range(deal.samples_per_rank):
            sample = rank * deal.samples_per_rank + place
            file, within = int(order[sample // spf]), sample % spf
            group = int(np.searchsorted(bounds, within, side="right")) - 1
            if (file, group) in seen:
                continue
            seen.add((file, group))
            first = group * reads_per_group
            expected += [
                (file, 20 * read, place // batch) for read in range(first, first + reads_per_group)
            ]
        assert taken(found) == expected


@settings(max_examples=40, deadline=None)
@given(
    files=st.integers(1, 30),
    spf=st.integers(2, 6),
    ranks=st.integers(1, 3),
    batch=st.integers(1, 7),
    whole=st.booleans(),
)
def test_shuffled_samples_are_read_one_by_one_each_once(files, spf, ranks, batch, whole):
    deal = deals(files=files, samples_per_file=spf, ranks=ranks, batch=batch, shuffle_samples=True)
    if deal.steps == 0:
        return
    layouts = layouts_of(files, [1] * spf, 1)
    if whole:  # each sample takes the whole file
        layouts = Layouts(samples_per_file=spf, sizes_bytes=layouts.sizes_bytes)
    rows = []
    for rank in range(ranks):
        own = taken(course(deal, rank, layouts, shuffled=True))
        assert [batch for _, _, batch in own] == np.repeat(range(deal.steps), batch).tolist()
        rows += own
    assert len(rows) == ranks * deal.samples_per_rank
    if not whole:
        assert len({(file, offset) for file, offset, _ in rows}) == len(rows)


def test_an_epoch_can_end_before_the_dataset():
    deal = deals(files=10, samples_per_file=1, ranks=1, batch=2)
    layouts = Layouts(samples_per_file=1, sizes_bytes=np.arange(10, dtype=np.int64) + 1)
    rows = taken(course(deal, 0, layouts, steps=3))
    assert len(rows) == 6
    assert max(batch for _, _, batch in rows) == 2


def test_files_of_one_read_are_read_to_their_size():
    deal = deals(files=6, samples_per_file=1, ranks=1, batch=3)
    sizes = np.array([5, 6, 7, 8, 9, 10], dtype=np.int64)
    found = course(deal, 0, Layouts(samples_per_file=1, sizes_bytes=sizes))
    (block,) = found.blocks()
    assert sorted(block.reads["length"].tolist()) == sizes.tolist()
    assert sum(bytes_of_batches(block)) == sizes.sum()
    numbers = block.numbers[block.reads["file"]]
    assert (sizes[numbers] == block.reads["length"]).all()


def test_a_block_has_about_as_many_reads_as_are_planned_at_once():
    deal = deals(files=100_000, samples_per_file=1, ranks=1, batch=24)
    layouts = Layouts(samples_per_file=1, sizes_bytes=np.full(100_000, 9, dtype=np.int64))
    lengths = [len(block.reads) for block in course(deal, 0, layouts).blocks()]
    assert max(lengths) < 2 * 512 + 24
    assert sum(lengths) == deal.samples_per_rank


@pytest.mark.parametrize(("batch", "least"), [(400, 8), (7, 100), (1, 600)])
def test_a_block_has_the_batches_that_are_to_be_read_ahead(batch, least):
    deal = deals(files=20_000, samples_per_file=1, ranks=1, batch=batch)
    layouts = Layouts(samples_per_file=1, sizes_bytes=np.full(20_000, 9, dtype=np.int64))
    blocks = list(replace(course(deal, 0, layouts), block_batches=least).blocks())
    assert all(block.batches >= least for block in blocks[:-1])
    assert sum(block.batches for block in blocks) == deal.steps


@pytest.mark.parametrize("batch", [1, 400])
def test_a_batch_of_many_files_comes_whole(batch):
    deal = deals(files=4000, samples_per_file=1, ranks=2, batch=batch)
    layouts = Layouts(samples_per_file=1, sizes_bytes=np.full(4000, 9, dtype=np.int64))
    batches = [batch for _, _, batch in taken(course(deal, 1, layouts))]
    assert np.bincount(batches).tolist() == [batch] * deal.steps


def test_part_of_a_shared_file_is_read_by_each():
    own = extents_of([2, 2, 2], [0, 10, 20], [10, 10, 10])
    assert own.part(1, 3).offsets.tolist() == [0, 10]
