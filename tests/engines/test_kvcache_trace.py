"""The plan of a trace: what a naive model says, in rows that any legal execution can carry out."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.errors import EngineError, JobError
from mlps.engines.io_core.operations import LOAD, STORE
from mlps.engines.kvcache_native.chunks import GIB, chunks_within
from mlps.engines.kvcache_native.models import MODELS, Model
from mlps.engines.kvcache_native.planning import MISS_REWRITE, PREFILL, TRACE, plan_sha256
from mlps.engines.kvcache_native.trace import TraceParameters, TracePlan
from mlps.engines.kvcache_native.traces import TraceSource, read_trace, survey_trace

# 256 bytes a token, 128 KiB a block of 512 tokens.
MINI = Model(name="mini", layers=1, kv_heads=1, head_dim=64)
BLOCK_BYTES = 512 * 256


def plan_of(source, *, capacity_blocks=100, **changes):
    values = {
        "source": source,
        "survey": survey_trace(source),
        "model": MINI,
        "rank": 0,
        "ranks": 1,
        "capacity_gib": capacity_blocks * BLOCK_BYTES / GIB,
        "io_bytes": BLOCK_BYTES,
    }
    return TracePlan(TraceParameters(**(values | changes)))


def rows_of(plan):
    return np.concatenate(list(plan.rows()))


@pytest.fixture
def trace(tmp_path):
    """Writes a Mooncake trace of prompts of whole blocks, a millisecond apart."""
    return lambda prompts, **settings: write(tmp_path, prompts, **settings)


def write(directory, prompts, **settings):
    path = Path(directory) / "trace.jsonl"
    with path.open("w") as file:
        for number, ids in enumerate(prompts):
            line = {
                "timestamp": number,
                "input_length": 512 * len(ids),
                "output_length": 100,
                "hash_ids": ids,
            }
            file.write(json.dumps(line) + "\n")
    return TraceSource(path=path, format="mooncake", **settings)


def naive(prompts, capacity):
    """Blocks that each request loads and stores, from a list in the order of use."""
    cached: list[int] = []
    for ids in prompts:
        distinct = list(dict.fromkeys(ids))[:capacity]
        loaded = []
        for block in distinct:
            if block not in cached:
                break
            loaded.append(block)
        stored = [block for block in distinct if block not in cached]
        cached = [block for block in cached if block not in distinct]
        cached = cached[max(0, len(cached) + len(distinct) - capacity) :]
        cached += reversed(distinct)
        yield loaded, stored


# Prompts that begin alike: paths down a small tree, some blocks twice.
prompts_strategy = st.lists(
    st.lists(st.integers(0, 2), min_size=0, max_size=7).flatmap(
        lambda path: st.just([hash(tuple(path[: n + 1])) % 10**9 for n in range(len(path))])
    ),
    min_size=1,
    max_size=40,
)
repeated = st.lists(st.lists(st.integers(0, 15), max_size=9), min_size=1, max_size=30)


@settings(max_examples=150, deadline=None)
@given(prompts_strategy | repeated, st.integers(1, 12), st.sampled_from([1, 3, 5]))
def test_hits_and_stores_are_what_a_naive_model_says(prompts, capacity, parts):
    with TemporaryDirectory() as directory:
        source = write(directory, prompts)
        chunk_bytes = BLOCK_BYTES // parts
        plan = plan_of(
            source, io_bytes=-(-chunk_bytes // 4096) * 4096, capacity_blocks=1.1 * capacity
        )
        # Parts are rounded up to blocks, which takes some of the places.
        capacity = plan.files.slots // plan._chunks.parts
        if not any(prompts):
            assert list(plan.rows()) == []
            return
        rows = rows_of(plan)
    holds: dict[int, int] = {}
    parts = plan._chunks.parts
    for number, (loaded, stored) in enumerate(naive(prompts, capacity)):
        own = rows[rows["request"] == number][::parts]
        loads, stores = own[own["kind"] == LOAD], own[own["kind"] == STORE]
        assert [holds[slot] for slot in loads["slot"].tolist()] == loaded  # once each
        assert len(stores) == len(stored)
        holds |= dict(zip(stores["slot"].tolist(), stored, strict=True))
        assert set(loads["purpose"].tolist()) <= {TRACE}
        assert set(stores["purpose"].tolist()) <= {PREFILL}
    assert len(holds) <= capacity
    counts = plan.counts()
    expected = list(naive(prompts, capacity))
    assert counts["requests"] == len(prompts)
    assert counts["hits"] == sum(len(loaded) for loaded, _ in expected)
    assert counts["hit_tokens"] == 512 * counts["hits"]
    assert counts["stores"] == sum(len(stored) for _, stored in expected)
    assert counts["hits"] + counts["misses"] == sum(len(set(ids)) for ids in prompts)


def execute(rows, seed, slots):
    """Carries out rows in a random order that gates, steps and users allow; checks each load.

    Requests of different users run beside each other; a slot holds the version stored last.
    """
    draw = random.Random(seed)
    versions: dict[int, int] = defaultdict(int)
    done: dict[int, int] = defaultdict(int)
    chains: dict[int, list[list[np.void]]] = defaultdict(list)
    previous = None
    for row in rows:
        step = (int(row["user"]), int(row["request"]), int(row["step"]))
        if step != previous:
            chains[step[0]].append([])
            previous = step
        chains[step[0]][-1].append(row)
    while chains:
        ready = [
            (user, index)
            for user, steps in chains.items()
            for index, row in enumerate(steps[0])
            if not row["gate"]
            or (row["kind"] == LOAD and versions[int(row["slot"])] == row["version"])
            or (row["kind"] == STORE and done[int(row["slot"])] == row["order"])
        ]
        assert ready, "every row waits for another"
        user, index = draw.choice(ready)
        row = chains[user][0].pop(index)
        slot = int(row["slot"])
        assert 0 <= slot < slots
        if row["kind"] == LOAD:
            assert versions[slot] == row["version"] > 0
        else:
            versions[slot] += 1
            assert versions[slot] == row["version"]
        done[slot] += 1
        if not chains[user][0]:
            chains[user].pop(0)
        if not chains[user]:
            del chains[user]


@settings(max_examples=60, deadline=None)
@given(prompts_strategy, st.integers(1, 9), st.integers(0, 5), st.integers(0, 2**32))
def test_every_legal_order_finds_each_version_and_comes_to_an_end(prompts, capacity, users, seed):
    with TemporaryDirectory() as directory:
        source = write(directory, [[1], *prompts])
        plan = plan_of(source, capacity_blocks=capacity, users=users)
        execute(rows_of(plan), seed, plan.files.slots)


def test_rows_say_all_that_an_executor_needs(trace):
    plan = plan_of(trace([[1, 2], [1, 2, 3]]), io_bytes=48 * 1024, rank=2, speedup=2.0)
    rows = rows_of(plan)
    # 32 blocks of 4 KiB in parts of at most 12: 11, 11 and 10.
    assert plan.slot_bytes == 44 * 1024
    assert rows["length"].tolist() == [45056, 45056, 40960] * 5
    assert rows["slot"].tolist() == [*range(6), *range(9)]
    assert rows["offset"].tolist() == [slot * 45056 for slot in rows["slot"]]
    assert rows["chunk"].tolist() == [2 * plan.files.slots + slot for slot in rows["slot"]]
    assert rows["kind"].tolist() == [STORE] * 6 + [LOAD] * 6 + [STORE] * 3
    assert rows["step"].tolist() == [0] * 12 + [1] * 3
    assert rows["request"].tolist() == [0] * 6 + [1] * 9
    assert rows["user"].tolist() == [0] * 6 + [1] * 9
    assert rows["closes"].tolist() == [0] * 5 + [1] + [0] * 8 + [1]
    assert rows["version"].tolist() == [1] * 15
    assert rows["order"].tolist() == [0] * 6 + [1] * 6 + [0] * 3
    assert rows["arrival"].tolist() == [1] * 6 + [500_000] * 9
    assert set(rows["gate"].tolist()) == {1}
    assert list(plan.cached_rows()) == []


def test_what_is_cached_behind_a_miss_is_not_stored_again(trace):
    # 5 drives out 1, which in turn drives out 5 and not what it is used with.
    plan = plan_of(trace([[1], [2, 3], [5], [1, 2, 3]]), capacity_blocks=3)
    rows = rows_of(plan)
    assert rows["kind"][rows["request"] == 3].tolist() == [STORE]
    assert plan.counts()["cached_beyond_miss"] == 2


def test_a_prompt_larger_than_the_cache_is_stored_as_far_as_it_fits(trace):
    plan = plan_of(trace([range_list(9), range_list(9)]), capacity_blocks=4)
    rows = rows_of(plan)
    assert rows["kind"].tolist() == [STORE] * 4 + [LOAD] * 4
    assert plan.counts()["too_large"] == 10


def range_list(count):
    return list(range(count))


def test_a_capacity_without_a_chunk_is_refused(trace):
    with pytest.raises(JobError, match=r"capacity_gib .* holds no chunk: one takes 131072 bytes"):
        plan_of(trace([[1]]), capacity_blocks=0.9)
    with pytest.raises(JobError, match="io_bytes 1000 is not a multiple of 4096"):
        plan_of(trace([[1]]), io_bytes=1000)


def test_a_trace_that_has_changed_is_refused(trace, tmp_path):
    plan = plan_of(trace([[1]]))
    trace([[1], [2]])
    with pytest.raises(EngineError, match="has changed: it has 154 bytes, surveyed were 77"):
        list(plan.rows())


def test_cycles_hit_each_other_only_when_asked(trace):
    source = trace([[1, 2], [3]])
    for same_ids, hits in ((False, 0), (True, 3)):
        plan = plan_of(source, cycles=2, same_ids=same_ids)
        rows_of(plan)
        assert plan.counts()["hits"] == hits


def test_counts_start_again_with_the_rows(trace):
    plan = plan_of(trace([[1, 2], [1]]))
    first = (rows_of(plan).tobytes(), plan.counts())
    assert (rows_of(plan).tobytes(), plan.counts()) == first


def test_users_have_one_request_at_a_time(trace):
    rows = rows_of(plan_of(trace([[n] for n in range(7)]), users=3))
    assert rows["user"].tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_the_plan_stays_as_it_is(trace):
    draw = random.Random(7)
    prompts = [[0, *(100 * (n % 17) + k for k in range(draw.randrange(9)))] for n in range(300)]
    plan = plan_of(trace(prompts), capacity_blocks=50)
    # A known value: a plan that changes needs another name of its generator.
    assert plan.generator == "kvcache-trace/2"
    assert plan_sha256(plan.rows())[:16] == "897223fadcf4b43d"


# Ranks


def test_ranks_share_the_trace_and_keep_conversations_together(trace):
    # 40 conversations of 5 turns behind two blocks that all have.
    turns = [[0, 1, *(1000 * c + k for k in range(t + 1))] for t in range(5) for c in range(1, 41)]
    source = trace(turns)
    assert survey_trace(source).common_blocks == {0, 1}
    plans = [plan_of(source, rank=rank, ranks=4) for rank in range(4)]
    served = [rows_of(plan) for plan in plans]
    assert all(len(rows) > 100 for rows in served)
    counts = [plan.counts() for plan in plans]
    assert sum(count["requests"] for count in counts) == 200
    assert all(count["requests"] % 5 == 0 for count in counts)
    assert all(20 <= count["requests"] <= 80 for count in counts)
    # Each conversation's first turn misses its own block, and one request the common ones.
    alone = plan_of(source, capacity_blocks=1000)
    rows_of(alone)
    assert sum(count["hits"] for count in counts) == alone.counts()["hits"] - 2 * 3


def test_requests_of_nothing_but_common_blocks_are_dealt_in_turn(trace):
    source = trace([[0]] * 20)
    counts = []
    for rank in range(4):
        plan = plan_of(source, rank=rank, ranks=4)
        rows_of(plan)
        counts.append(plan.counts()["requests"])
    assert counts == [5] * 4


# Traces without blocks


def sharegpt(path, talks):
    talk = [
        {
            "id": str(number),
            "conversations": [
                {"from": who, "value": "x" * 4 * tokens}
                for turn in turns
                for who, tokens in zip(("human", "gpt"), turn, strict=True)
            ],
        }
        for number, turns in enumerate(talks)
    ]
    path.write_text(json.dumps(talk))
    return TraceSource(path=path, format="sharegpt")


def test_a_turn_loads_the_whole_chunks_of_its_history(tmp_path):
    source = sharegpt(tmp_path / "talk", [[(600, 100), (10, 400), (1, 1)]])
    plan = plan_of(source, chunk_tokens=256)
    rows = rows_of(plan)
    # 700 tokens are 2 chunks and some, 1110 are 4, 1112 are 4.
    assert [(row["request"], row["kind"]) for row in rows] == (
        [(0, STORE)] * 2 + [(1, LOAD)] * 2 + [(1, STORE)] * 2 + [(2, LOAD)] * 4
    )
    counts = plan.counts()
    assert (counts["hits"], counts["misses"], counts["stores"]) == (6, 2, 4)
    assert (counts["prompt_tokens"], counts["generated_tokens"]) == (600 + 710 + 1111, 501)


def test_what_was_evicted_between_turns_is_stored_again_under_its_own_name(tmp_path):
    source = sharegpt(tmp_path / "talk", [[(512, 256), (256, 1)], [(512, 0)]])
    plan = plan_of(source, chunk_tokens=256, capacity_gib=4 * 65536 / GIB)
    rows = rows_of(plan)
    last = rows[rows["request"] == 2]
    # Of three chunks the other conversation has driven out the last one.
    assert last["purpose"].tolist() == [TRACE, TRACE, MISS_REWRITE, PREFILL]
    assert last["step"].tolist() == [0, 0, 1, 1]
    assert plan.counts()["rewrites"] == 1


def test_requests_of_burstgpt_share_nothing(tmp_path):
    path = tmp_path / "burst.csv"
    path.write_text("Timestamp,Request tokens,Response tokens\n" + "1,1000,100\n" * 5)
    plan = plan_of(TraceSource(path=path, format="burstgpt"), chunk_tokens=256)
    rows = rows_of(plan)
    assert rows["kind"].tolist() == [STORE] * 20
    assert plan.counts()["hits"] == 0
    other = plan_of(TraceSource(path=path, format="burstgpt"), cycles=2, same_ids=True)
    rows_of(other)
    assert other.counts()["hits"] == 15  # prompts of three whole chunks, answers are not asked for


# Chunks


@given(st.integers(1, 2**30), st.integers(1, 2**13), st.floats(1, 64))
def test_parts_of_a_chunk_are_about_equal_and_hold_it(chunk_bytes, io_blocks, capacity_gib):
    chunks = chunks_within(capacity_gib, chunk_bytes=chunk_bytes, io_bytes=io_blocks * 4096)
    held = (chunks.parts - 1) * chunks.slot_bytes + chunks.tail_bytes
    assert chunk_bytes <= held < chunk_bytes + 4096
    assert 0 < chunks.tail_bytes <= chunks.slot_bytes <= io_blocks * 4096
    assert chunks.slots * chunks.slot_bytes <= capacity_gib * GIB
    assert chunks.slots_of([2]).tolist() == [2 * chunks.parts + n for n in range(chunks.parts)]


@pytest.mark.parametrize("name", MODELS)
def test_chunks_have_the_bytes_of_their_model(tmp_path, name):
    source = write(tmp_path, [[1]])
    plan = plan_of(source, model=MODELS[name], capacity_gib=1.0, io_bytes=2**20)
    rows = rows_of(plan)
    assert rows["length"].sum() == -(-MODELS[name].token_bytes * 512 // 4096) * 4096


def test_the_plan_asks_for_all_that_is_in_the_trace(trace):
    source = trace([[1, 2], [3]])
    plan = plan_of(source)
    rows_of(plan)
    requests = list(read_trace(source))
    assert plan.counts()["prompt_tokens"] == sum(request.input_tokens for request in requests)
