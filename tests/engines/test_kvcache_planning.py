"""What planners share: numbered rows, random draws and caches, against naive models of them."""

from __future__ import annotations

import hashlib
from itertools import accumulate, islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.io_core.operations import LOAD, OPERATION, STORE
from mlps.engines.kvcache_native.models import Model
from mlps.engines.kvcache_native.planning import (
    PURPOSE_NAMES,
    BlockCache,
    Excerpts,
    Followed,
    Item,
    Rows,
    SlotCache,
    exponential_gaps,
    first_requests,
    of_shard,
    plan_sha256,
    poisson_ns,
    raw_words,
    ungated,
    uniform,
    whole_blocks,
)
from mlps.engines.kvcache_native.v3 import V3Parameters, V3Plan


class NaiveCache:
    """Entries as a list from the least to the most recently used."""

    def __init__(self, slots):
        self.slots = slots
        self.entries = []
        self.used = set()

    def held(self):
        return sum(size for _, size in self.entries)

    def lookup(self, key):
        for entry in self.entries:
            if entry[0] == key:
                self.entries.remove(entry)
                self.entries.append(entry)
                self.used.add(key)
                return True
        return False

    def insert(self, key, size):
        while self.held() + size > self.slots:
            if not self.entries or self.entries[0][0] in self.used:
                return False
            self.entries.pop(0)
        self.entries.append((key, size))
        self.used.add(key)
        return True


requests = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 5)), max_size=4), max_size=30
)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), requests)
def test_a_slot_cache_does_what_a_naive_one_does(slots, requests):
    cache, naive = SlotCache(slots, first_slot=100), NaiveCache(slots)
    places = {}
    for request in requests:
        cache.begin()
        naive.used = set()
        for key, size in request:
            found = cache.lookup(key)
            assert (found is not None) == naive.lookup(key)
            if found is not None:
                assert found.tolist() == places[key]
                continue
            given_slots = cache.insert(key, size)
            assert (given_slots is not None) == naive.insert(key, size)
            if given_slots is not None:
                places[key] = given_slots.tolist()
            places = {key: places[key] for key, _ in naive.entries}
            held = [slot for of_key in places.values() for slot in of_key]
            assert len(held) == len(set(held)) == cache.used_slots == naive.held() <= slots
            assert all(100 <= slot < 100 + slots for slot in held)
            assert len(cache) == len(naive.entries)
            assert all(key in cache for key, _ in naive.entries)
            assert [len(of_key) for of_key in places.values()] == [s for _, s in naive.entries]


def test_a_pinned_entry_is_not_evicted():
    cache = SlotCache(4)
    cache.begin()
    cache.insert("a", 2)
    cache.begin()
    cache.insert("b", 2)
    assert cache.lookup("a") is not None
    assert cache.insert("c", 1) is None
    cache.begin()
    assert cache.insert("c", 1) is not None
    assert ("a" in cache, "b" in cache) == (True, False)
    assert (cache.evicted_entries, cache.evicted_slots) == (1, 2)


def test_peeking_is_no_use_and_removing_frees():
    cache = SlotCache(2)
    cache.insert("a", 1)
    cache.insert("b", 1)
    cache.begin()
    assert cache.peek("a").tolist() == [0]
    assert cache.peek("c") is None
    cache.insert("c", 1)
    assert "a" not in cache
    cache.remove("b")
    assert cache.used_slots == 1


def naive_blocks(blocks, keys, capacity):
    """The hits of one request, and the blocks from the least to the most recently used after it."""
    hits = 0
    while hits < len(keys) and keys[hits] in blocks:
        hits += 1
    found, missing = keys[:hits], [key for key in keys[hits:] if key not in blocks]
    missing = missing[: capacity - hits]
    others = [key for key in blocks if key not in found]
    room = capacity - hits - len(missing)
    others = others[max(0, len(others) - room) :] if room else []
    return hits, missing, others + found[::-1] + missing[::-1]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 10),
    st.lists(st.lists(st.integers(0, 15), max_size=8, unique=True), max_size=30),
)
def test_a_block_cache_does_what_a_naive_one_does(slots, requests):
    cache = BlockCache(slots, first_slot=7)
    blocks, places = [], {}
    for keys in requests:
        hits, missing, blocks = naive_blocks(blocks, keys, slots)
        assert cache.prefix(keys) == [places[key] for key in keys[:hits]]
        places |= dict(zip(missing, cache.admit(missing), strict=True))
        places = {key: places[key] for key in blocks}
        assert len(cache) == len(blocks) == len(set(places.values())) <= slots
        assert all(key in cache for key in blocks)
        assert all(7 <= slot < 7 + slots for slot in places.values())


def test_a_prefix_loses_its_end_first():
    cache = BlockCache(4)
    cache.admit(["a", "b", "c", "d"])
    cache.admit(["x", "y"])
    assert len(cache.prefix(["a", "b", "c", "d"])) == 2
    assert cache.evicted_entries == 2


items = st.builds(
    Item,
    slots=st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True),
    tail_bytes=st.sampled_from([4096, 8192]),
    user=st.integers(0, 3),
    request=st.integers(0, 2),
    step=st.integers(0, 5),
    kind=st.sampled_from([LOAD, STORE]),
    purpose=st.integers(0, 8),
    arrival_ns=st.integers(0, 2**40),
    tokens=st.integers(0, 2**20),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(items, min_size=1, max_size=8), min_size=1, max_size=5))
def test_rows_are_numbered_by_what_came_before_on_their_slot(blocks):
    rows = Rows(slots=10, slot_bytes=8192, rank=3)
    stores, operations = [0] * 10, [0] * 10
    for block in blocks:
        for item in block:
            rows.add(item)
        assert rows.held == sum(len(item.slots) for item in block)
        taken = iter(rows.take())
        assert rows.held == 0
        for item in block:
            for place, slot in enumerate(item.slots):
                row = next(taken)
                stores[slot] += item.kind == STORE
                tail = place == len(item.slots) - 1
                assert row["slot"] == slot
                assert row["chunk"] == 30 + slot
                assert row["offset"] == slot * 8192
                assert row["length"] == (item.tail_bytes if tail else 8192)
                assert row["version"] == stores[slot]
                assert row["order"] == operations[slot]
                assert (row["user"], row["request"]) == (item.user, item.request)
                assert (row["step"], row["kind"]) == (item.step, item.kind)
                assert (row["purpose"], row["arrival"]) == (item.purpose, item.arrival_ns)
                assert row["tokens"] == item.tokens * int(row["closes"])
                assert row["gate"] == 1
                operations[slot] += 1
        assert next(taken, None) is None


def test_the_last_row_of_a_request_closes_it():
    rows = Rows(slots=4, slot_bytes=4096, rank=0)
    for user, request, slots in ((0, 0, [0, 1]), (0, 0, [2]), (0, 1, [3]), (1, 1, [0, 1])):
        rows.add(Item(slots, 4096, user, request, 0, STORE, 1))
    assert rows.take()["closes"].tolist() == [0, 0, 1, 1, 0, 1]


def test_uniform_reaches_both_ends_and_nothing_beyond():
    ends = np.array([0, 2**64 - 1], dtype=np.uint64)
    for low, high in ((0, 0), (5, 6), (-3, 4), (1, 2**32 - 1)):
        assert uniform(ends, low, high).tolist() == [low, high]


def test_words_continue_where_the_last_ones_ended():
    def words(first, count):
        return raw_words(seed=7, rank=1, stream=2, user=3, first=first, count=count).tolist()

    whole = words(0, 64)
    assert whole == words(0, 16) + words(16, 32) + words(48, 16)
    key = np.array([8, 2 << 32 | 3], dtype=np.uint64)
    assert whole == np.random.Philox(key=key).random_raw(64).tolist()


def test_the_hash_is_over_the_first_operations():
    block = np.zeros(10_000, dtype=OPERATION)
    block["offset"] = np.arange(10_000)
    expected = hashlib.sha256(block.tobytes() + block[:6384].tobytes()).hexdigest()
    assert plan_sha256(iter([block, block, block])) == expected
    short = hashlib.sha256(block.tobytes()).hexdigest()
    assert plan_sha256(iter([block])) == short


def test_shards_have_the_rows_of_their_users_in_the_plans_order():
    block = np.zeros(12, dtype=OPERATION)
    block["user"] = [0, 0, 1, 2, 2, 3, 4, 4, 4, 6, 6, 8]
    block["offset"] = np.arange(12)
    odd = list(of_shard(iter([block, block[:2]]), 1, 2))
    assert [rows["offset"].tolist() for rows in odd] == [[2, 5]]
    even = list(of_shard(iter([block, block[:2]]), 0, 2))
    assert [rows["offset"].tolist() for rows in even] == [[0, 1, 3, 4, 6, 7, 8, 9, 10, 11], [0, 1]]


# ---------------------------------------------------------------- parts of a plan


def blocks_of(requests, users=3):
    """Blocks of whole requests, given as lists of their numbers of rows; offsets number the rows.

    Requests go round the users.
    """
    row = request = 0
    for sizes in requests:
        block = np.zeros(sum(sizes), dtype=OPERATION)
        block["offset"] = row + np.arange(len(block))
        row += len(block)
        end = 0
        for size in sizes:
            block["user"][end : end + size] = request % users
            block["request"][end : end + size] = request // users
            block["arrival"][end : end + size] = 7
            end += size
            block["closes"][end - 1] = 1
            request += 1
        yield block


def offsets(stream):
    """The numbers of the rows of a stream."""
    return [number for block in stream for number in block["offset"].tolist()]


plans = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=6), max_size=10)


@given(plans, st.integers(1, 70))
def test_the_first_requests_are_the_beginning_of_the_plan(plan, count):
    sizes = [size for block in plan for size in block]
    limited = list(first_requests(blocks_of(plan), count))
    assert offsets(limited) == list(range(sum(sizes[:count])))
    assert sum(int(block["closes"].sum()) for block in limited) == min(count, len(sizes))
    assert all(len(block) for block in limited)
    assert offsets(first_requests(blocks_of(plan), None)) == list(range(sum(sizes)))


def test_no_block_is_planned_beyond_the_first_requests():
    def endless():
        yield from blocks_of([[1, 2], [3]])
        raise AssertionError("asked for more")

    assert offsets(first_requests(endless(), 3)) == list(range(6))
    assert offsets(first_requests(endless(), 2)) == list(range(3))


@given(plans, st.integers(1, 5), st.integers(1, 9))
def test_shards_part_the_rows_of_a_plan_by_user(plan, shards, users):
    every = [list(of_shard(blocks_of(plan, users), shard, shards)) for shard in range(shards)]
    assert sorted(n for rows in every for n in offsets(rows)) == offsets(blocks_of(plan, users))
    for shard, rows in enumerate(every):
        assert all(len(block) for block in rows)
        assert offsets(rows) == sorted(offsets(rows))
        assert {int(user) % shards for block in rows for user in block["user"]} <= {shard}


class Counting:
    """A plan whose counter is the number of blocks so far."""

    def __init__(self, lengths):
        self.lengths = lengths
        self.blocks = 0

    def rows(self):
        for length in self.lengths:
            self.blocks += 1
            yield np.zeros(length, dtype=OPERATION)

    def counts(self):
        return {"blocks": self.blocks}


@given(st.lists(st.integers(1, 9), max_size=60), st.integers(0, 500), st.integers(0, 60))
def test_counts_are_those_at_the_end_of_the_block_of_the_last_row(lengths, rows, ahead):
    followed = Followed(Counting(lengths))
    stream = followed.rows()
    planned = sum(len(block) for block in islice(stream, ahead))
    ends = list(accumulate(lengths[:ahead]))
    wanted = next((n + 1 for n, end in enumerate(ends) if end >= rows), len(ends))
    assert planned == (ends[-1] if ends else 0)
    assert followed.counts(rows).get("blocks", 0) == (wanted if rows else 0)


def test_the_counts_of_a_plan_that_is_far_ahead_are_still_known():
    # 64 shards whose queues are full, as far as one shard's stream has gone for that.
    followed = Followed(Counting([2048] * 400))
    assert len(list(followed.rows())) == 400
    assert followed.counts(5000) == {"blocks": 3}


def test_counts_at_some_rows_are_those_of_a_plan_that_ends_there():
    plan = V3Plan(
        V3Parameters(
            model=Model(name="mini", layers=1, kv_heads=1, head_dim=64),
            users=4,
            seed=42,
            rank=0,
            capacity_gib=2**-7,
            slot_bytes=16384,
        )
    )
    followed = Followed(plan)
    first, second, *_ = islice(followed.rows(), 5)
    stream = plan.rows()
    next(stream)
    assert followed.counts(len(first)) == plan.counts()
    next(stream)
    assert followed.counts(len(first) + 1) == followed.counts(len(first) + len(second))
    assert followed.counts(len(first) + 1) == plan.counts()


takes = st.lists(st.tuples(st.integers(1, 30), st.sampled_from([0.5, 20.0, 1e6])), max_size=8)


@given(plans, takes, st.integers(0, 2**32))
def test_excerpts_joined_are_the_plan_with_other_arrivals(plan, takes, seed):
    gaps = exponential_gaps(seed=seed, rank=1, stream=65)
    excerpts = Excerpts(blocks_of(plan), gaps)
    left = sum(len(block) for block in plan)
    joined = []
    for requests, rate_per_s in takes:
        excerpt = list(excerpts.take(requests, rate_per_s))
        rows = np.concatenate([np.zeros(0, dtype=OPERATION), *excerpt])
        assert rows["closes"].sum() == min(requests, left)
        left -= min(requests, left)
        arrivals = rows["arrival"].astype(np.int64)
        assert (arrivals >= 1).all()
        assert (np.diff(arrivals) >= 0).all()
        ends = np.flatnonzero(rows["closes"])
        for request in np.split(arrivals, ends[:-1] + 1) if len(ends) else ():
            assert len(set(request.tolist())) == 1
        joined += excerpt
    whole = np.concatenate([np.zeros(0, dtype=OPERATION), *blocks_of(plan)])
    rows = np.concatenate([np.zeros(0, dtype=OPERATION), *joined])
    rows["arrival"] = 7
    assert rows.tobytes() == whole[: len(rows)].tobytes()
    assert left == 0 or len(rows) < len(whole)


def test_an_excerpt_is_a_poisson_process_of_the_rate_asked_for():
    gaps = exponential_gaps(seed=1, rank=0, stream=65)
    excerpts = Excerpts(blocks_of([[2] * 100] * 400), gaps)
    for rate_per_s in (50.0, 1000.0):
        rows = np.concatenate(list(excerpts.take(20_000, rate_per_s)))
        arrivals = rows["arrival"][rows["closes"] == 1].astype(float) / 1e9
        assert len(arrivals) == 20_000
        assert arrivals[-1] == pytest.approx(20_000 / rate_per_s, rel=0.05)
        between = np.diff(arrivals, prepend=0)
        assert between.std() == pytest.approx(1 / rate_per_s, rel=0.05)


def test_an_excerpt_leaves_the_plan_as_it_is():
    block = next(blocks_of([[2, 2]]))
    list(Excerpts(iter([block]), iter([1.0, 1.0])).take(2, 1.0))
    assert set(block["arrival"].tolist()) == {7}


def test_nobody_waits_in_ungated_rows():
    rows = Rows(slots=4, slot_bytes=4096, rank=0)
    for slots in ([0, 1], [1, 2]):
        rows.add(Item(slots, 4096, 0, 0, 0, STORE, 1))
    gated = rows.take()
    assert gated["gate"].all() and gated["order"].any()
    free = ungated(gated.copy())
    assert not (free["gate"].any() or free["order"].any())
    for name in set(OPERATION.names) - {"gate", "order"}:
        assert (free[name] == gated[name]).all()


# ---------------------------------------------------------------- arrivals


def test_without_a_rate_nobody_has_an_arrival():
    assert list(islice(poisson_ns(seed=1, rank=0, stream=3, rate_per_s=None), 5)) == [0] * 5


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from([0.1, 40.0, 1e6]))
def test_arrivals_are_a_poisson_process_in_whole_ns(seed, rate_per_s):
    arrivals = list(islice(poisson_ns(seed=seed, rank=0, stream=3, rate_per_s=rate_per_s), 4000))
    between = np.diff(arrivals, prepend=0)
    assert min(arrivals) >= 1
    assert (between >= 0).all()
    mean_ns = 1e9 / rate_per_s
    assert between.mean() == pytest.approx(mean_ns, rel=0.08)  # 5 standard deviations
    assert between.std() == pytest.approx(mean_ns, rel=0.15)
    gaps = exponential_gaps(seed=seed, rank=0, stream=3)
    # Each gap by itself is rounded, so that what comes after it does not hang on its last bit.
    assert between[1:].tolist() == [round(gap * 1e9 / rate_per_s) for gap in islice(gaps, 4000)][1:]


def test_gaps_go_on_where_the_last_few_ended():
    gaps = list(islice(exponential_gaps(seed=5, rank=1, stream=9), 1000))
    assert len(set(gaps)) == 1000
    words = raw_words(seed=5, rank=1, stream=9, user=0, first=0, count=1000)
    drawn = (words >> np.uint64(11)).astype(float) / 2**53
    assert gaps == pytest.approx((-np.log1p(-drawn)).tolist())


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize(("size", "rounded"), [(1, 4096), (4096, 4096), (4097, 8192), (0, 0)])
def test_whole_blocks(size, rounded):
    assert whole_blocks(size) == rounded


def test_rows_have_no_padding_between_columns():
    assert OPERATION.itemsize == 64
    assert OPERATION.itemsize == sum(OPERATION[name].itemsize for name in OPERATION.names)
    assert len(PURPOSE_NAMES) == 9
