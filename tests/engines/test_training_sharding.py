"""The deal of samples to ranks: equal, disjoint, complete but for what is dropped, and fast."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_models import MODELS

from mlps.engines.training_native.reader import READ, Block, Reading, checksum_of, reader_for
from mlps.engines.training_native.sharding import Deal


def deal(files=100, *, samples_per_file=1, ranks=4, batch=2, **more):
    return Deal(
        files=files,
        samples_per_file=samples_per_file,
        ranks=ranks,
        batch=batch,
        seed=more.pop("seed", 123),
        shuffle_files=more.pop("shuffle_files", True),
        shuffle_samples=more.pop("shuffle_samples", False),
        **more,
    )


deals = st.builds(
    Deal,
    files=st.integers(1, 60),
    samples_per_file=st.integers(1, 12),
    ranks=st.integers(1, 9),
    batch=st.integers(1, 15),
    seed=st.integers(0, 1000),
    shuffle_files=st.booleans(),
    shuffle_samples=st.booleans(),
    reseed=st.booleans(),
)
epochs = st.integers(0, 5)


@st.composite
def deals_of_units(draw):
    unit = draw(st.integers(1, 6))
    units = draw(st.integers(1, 5))
    return replace(draw(deals), samples_per_file=unit * units, unit_samples=unit)


def samples_of(deal, rank, epoch):
    """The samples that a rank reads in an epoch, in its order, numbered through all files."""
    shard = deal.shard(rank, deal.order(epoch))
    samples = [
        file * deal.samples_per_file + sample
        for file, first, count in zip(
            shard.files.tolist(), shard.first_samples.tolist(), shard.samples.tolist(), strict=True
        )
        for sample in range(first, first + count)
    ]
    order = deal.sample_order(rank, epoch)
    return samples if order is None else [samples[place] for place in order]


@given(st.one_of(deals, deals_of_units()), epochs)
def test_shards_are_disjoint_and_all_but_what_is_dropped(deal, epoch):
    shards = [samples_of(deal, rank, epoch) for rank in range(deal.ranks)]
    everything = [sample for shard in shards for sample in shard]
    assert len(set(everything)) == len(everything)
    assert len(everything) == deal.files * deal.samples_per_file - deal.dropped_samples
    assert set(everything) <= set(range(deal.files * deal.samples_per_file))
    assert 0 <= deal.dropped_samples < deal.ranks * (deal.batch + deal.unit_samples - 1)


@given(deals_of_units(), epochs)
def test_no_two_ranks_share_what_is_read_together(deal, epoch):
    units = [
        {sample // deal.unit_samples for sample in samples_of(deal, rank, epoch)}
        for rank in range(deal.ranks)
    ]
    assert sum(map(len, units)) == len(set().union(*units))
    fair = deal.files * deal.samples_per_file // deal.unit_samples // deal.ranks
    assert deal.steps == fair * deal.unit_samples // deal.batch


@given(deals, epochs)
def test_every_rank_has_the_same_whole_batches(deal, epoch):
    order = deal.order(epoch)
    expected = deal.files * deal.samples_per_file // deal.batch // deal.ranks
    assert deal.steps == expected
    for rank in range(deal.ranks):
        shard = deal.shard(rank, order)
        assert shard.total_samples == deal.samples_per_rank == expected * deal.batch
        assert (shard.samples > 0).all()


@given(deals, epochs)
def test_all_ranks_agree_without_a_word(deal, epoch):
    assert np.array_equal(deal.order(epoch), deal.order(epoch))
    assert sorted(deal.order(epoch)) == list(range(deal.files))


@given(deals, epochs)
def test_what_is_left_of_one_file_is_the_next_ranks(deal, epoch):
    """All ranks one after the other read the epoch's order from its beginning."""
    order = deal.order(epoch)
    shards = [deal.shard(rank, order) for rank in range(deal.ranks)]
    files = np.concatenate([np.repeat(shard.files, shard.samples) for shard in shards])
    assert np.array_equal(files, np.repeat(order, deal.samples_per_file)[: len(files)])


def test_the_order_of_files_does_not_depend_on_the_ranks():
    assert np.array_equal(deal(ranks=1).order(3), deal(ranks=64, batch=1).order(3))


def test_files_migrate_between_ranks_with_every_epoch():
    many = deal(1000)
    before, after = (set(samples_of(many, 0, epoch)) for epoch in (1, 2))
    # A quarter of them is expected to stay with the first of four ranks.
    assert 30 < len(before & after) < 95


def test_a_seed_that_stays_keeps_the_order():
    fixed = deal(reseed=False)
    assert samples_of(fixed, 2, 1) == samples_of(fixed, 2, 5)
    assert samples_of(deal(), 2, 1) != samples_of(deal(), 2, 5)
    assert samples_of(deal(seed=1), 2, 1) != samples_of(deal(seed=2), 2, 1)


def test_an_epochs_seed_is_the_seed_plus_the_epoch():
    assert np.array_equal(deal(seed=5).order(3), deal(seed=8).order(0))


def test_without_shuffling_ranks_read_what_follows():
    plain = deal(10, ranks=2, batch=2, shuffle_files=False)
    assert samples_of(plain, 0, 1) == [0, 1, 2, 3]
    assert samples_of(plain, 1, 7) == [4, 5, 6, 7]
    assert plain.dropped_samples == 2


def test_samples_are_shuffled_within_a_rank():
    mixed = deal(20, samples_per_file=10, shuffle_samples=True)
    still = deal(20, samples_per_file=10)
    for rank in range(4):
        assert sorted(samples_of(mixed, rank, 1)) == sorted(samples_of(still, rank, 1))
        assert samples_of(mixed, rank, 1) != samples_of(still, rank, 1)
        assert samples_of(mixed, rank, 1) != samples_of(mixed, rank, 2)
    orders = [mixed.sample_order(rank, 1).tolist() for rank in range(4)]
    assert len(set(map(tuple, orders))) == 4


def test_shuffled_files_of_one_sample_need_no_second_shuffle():
    assert deal(shuffle_samples=True).sample_order(0, 1) is None
    assert deal(shuffle_samples=True, shuffle_files=False).sample_order(0, 1) is not None


def test_too_few_samples_make_no_step():
    few = deal(3, ranks=4, batch=2)
    assert (few.steps, few.dropped_samples) == (0, 3)
    assert len(few.shard(3, few.order(0)).files) == 0


# Of each model at 1, 8, 64 and 1024 ranks: steps of an epoch, and samples dropped.
BATCHES = {
    "unet3d": 7, "retinanet": 24, "dlrm": 16384, "flux": 48, "cosmoflow": 1, "resnet50": 400,
}  # fmt: skip
RANKS = (1, 8, 64, 1024)
GOLDEN = {
    "unet3d": [(1028, 4), (128, 32), (16, 32), (1, 32)],
    "retinanet": [(48762, 13), (6095, 61), (761, 1405), (47, 15229)],
    "dlrm": [(294912, 0), (36864, 0), (4608, 0), (288, 0)],
    "flux": [(25776, 0), (3222, 0), (402, 2304), (25, 8448)],
    "cosmoflow": [(524288, 0), (65536, 0), (8192, 0), (512, 0)],
    "resnet50": [(3202, 224), (400, 1024), (50, 1024), (3, 52224)],
}


def deal_of(name, ranks, batch=None):
    model = MODELS[name]
    return deal(
        model.train.files,
        samples_per_file=model.samples_per_file,
        ranks=ranks,
        batch=batch or BATCHES[name],
    )


@pytest.mark.parametrize("name", MODELS)
def test_steps_of_the_shipped_models(name):
    found = [deal_of(name, ranks) for ranks in RANKS]
    assert [(each.steps, each.dropped_samples) for each in found] == GOLDEN[name]


def test_row_groups_that_are_not_shared_may_cost_a_step():
    flux = [replace(deal_of("flux", ranks), unit_samples=288) for ranks in RANKS]
    assert [each.steps for each in flux] == [25776, 3222, 402, 24]
    dlrm = [replace(deal_of("dlrm", ranks), unit_samples=6144) for ranks in RANKS]
    assert [each.steps for each in dlrm] == [294912, 36864, 4608, 288]


# CRC-32 of what the last of 1, 8, 64 and 1024 ranks reads in the third epoch.
LISTS = {
    "unet3d": [515504690, 903805671, 2131523843, 4225259799],
    "retinanet": [1879901305, 3663125017, 1616227837, 593641649],
    "dlrm": [2894983519, 3297591449, 277982251, 1321312089],
    "flux": [2809690958, 2988662677, 3620121279, 1587647421],
    "cosmoflow": [2041248981, 3583111789, 4258350229, 1941504964],
    "resnet50": [1055096751, 3978048250, 1676431298, 437202181],
}


@pytest.mark.parametrize("name", MODELS)
def test_what_a_rank_reads_never_changes(name):
    found = []
    for ranks in RANKS:
        dealt = deal_of(name, ranks)
        shard = dealt.shard(ranks - 1, dealt.order(3))
        columns = (shard.files, shard.first_samples, shard.samples)
        found.append(zlib.crc32(b"".join(column.astype("<i4").tobytes() for column in columns)))
    assert found == LISTS[name]


@pytest.mark.parametrize("name", ["retinanet", "dlrm"])
def test_the_largest_datasets_are_dealt_at_once(name):
    largest = deal_of(name, 1024)
    tracemalloc.start()
    begun = time.process_time()
    order = largest.order(1)
    shards = [largest.shard(rank, order) for rank in range(1024)]
    took_s = time.process_time() - begun
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(shard.total_samples for shard in shards) == 1024 * largest.samples_per_rank
    assert took_s < 2
    assert peak < 100 * 2**20


def test_the_order_never_changes():
    assert deal(8).order(1).tolist() == [4, 6, 0, 7, 2, 1, 3, 5]


def sum_of_epoch(directory, deal, threads, core):
    """(bytes, sum of all of them) that the readers of all ranks read in an epoch."""
    total_bytes, total = 0, 0
    for rank in range(deal.ranks):
        shard = deal.shard(rank, deal.order(1))
        reads = np.zeros(len(shard.files), READ)
        reads["file"] = np.arange(len(shard.files))
        reads["offset"] = shard.first_samples
        reads["length"] = shard.samples
        block = Block(
            paths=[str(number) for number in shard.files],
            numbers=shard.files.astype(np.uint32),
            reads=reads,
            batches=1,
        )
        settings = Reading(
            directory=directory, threads=threads, look_ahead=1, checksum=True, core=core
        )
        reader = reader_for(settings)
        try:
            reader.feed(block)
            reader.wait(0)
            account = reader.account()
        finally:
            reader.close()
        total_bytes += account.read_bytes
        total += account.checksum
    return total_bytes, total % 2**64


@pytest.mark.parametrize("core", ["c", "python"])
def test_what_is_read_does_not_depend_on_read_threads(core, tmp_path):
    """Samples of a byte: what all ranks read is the dataset but for what is dropped."""
    dealt = deal(20, samples_per_file=9, ranks=4, batch=5)
    for number in range(20):
        (tmp_path / str(number)).write_bytes(np.random.default_rng(number).bytes(9))
    found = {sum_of_epoch(tmp_path, dealt, threads, core) for threads in (1, 2, 3, 8)}
    assert len(found) == 1
    ((read_bytes, total),) = found
    assert read_bytes == 180 - dealt.dropped_samples == 180
    everything = (
        checksum_of((tmp_path / str(number)).read_bytes(), number, 0) for number in range(20)
    )
    assert total == sum(everything) % 2**64
