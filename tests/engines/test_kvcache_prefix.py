"""The realistic workload: fitted to its traces, shared between ranks, and never a wrong load."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.errors import JobError
from mlps.engines.io_core.operations import LOAD, STORE
from mlps.engines.kvcache_native.chunks import GIB
from mlps.engines.kvcache_native.models import Model
from mlps.engines.kvcache_native.planning import (
    MISS_REWRITE,
    MULTI_TURN,
    PREFILL,
    PREFIX,
    PREFIX_STORE,
    plan_sha256,
    raw_words,
)
from mlps.engines.kvcache_native.prefix import PrefixParameters, PrefixPlan
from mlps.engines.kvcache_native.traffic import TRAFFIC, Quantiles, Traffic, Zipf, below

# 256 bytes a token.
MINI = Model(name="mini", layers=1, kv_heads=1, head_dim=64)
CHUNK_TOKENS = 64
CHUNK_BYTES = CHUNK_TOKENS * 256
SMALL = Traffic(
    input_tokens=Quantiles(((0, 1), (500, 300), (1000, 1500))),
    output_tokens=Quantiles(((0, 0), (1000, 200))),
    continue_probability=0.8,
    conversations_open=3,
    shared_prefix_tokens=150,
)


def plan_of(*, places=40, **changes):
    """A small plan with so many places for each user."""
    values = {
        "model": MINI,
        "traffic": SMALL,
        "users": 3,
        "seed": 42,
        "rank": 0,
        "ranks": 1,
        "io_bytes": CHUNK_BYTES,
        "chunk_tokens": CHUNK_TOKENS,
        "shared_prefixes": 5,
    } | changes
    # A thousandth more, against the rounding of the division.
    values.setdefault("capacity_gib", values["users"] * places * CHUNK_BYTES * 1.001 / GIB)
    return PrefixPlan(PrefixParameters(**values))


def first(stream, count):
    """The first requests of a stream, whole, of `count` rows or more."""
    blocks, held = [], 0
    for block in stream:
        blocks.append(block)
        held += len(block)
        if held >= count:
            break
    return np.concatenate(blocks)


def requests_of(rows):
    return np.split(rows, np.flatnonzero(rows["closes"])[:-1] + 1)


# The distributions


def words(count, stream=9):
    return raw_words(seed=1, rank=0, stream=stream, user=0, first=0, count=count)


PUBLISHED = [
    ("conversation", "input_tokens", {50: 6909, 90: 27367, 99: 85401}, 12035, 126195),
    ("conversation", "output_tokens", {50: 350, 99: 1120}, 343, 2000),
    ("synthetic", "input_tokens", {50: 11587, 90: 38615, 99: 66458}, 15325, 191378),
    ("synthetic", "output_tokens", {50: 69, 99: 769}, 149, 2000),
]


@pytest.mark.parametrize(("name", "which", "quantiles", "mean", "most"), PUBLISHED)
def test_lengths_have_the_published_quantiles(name, which, quantiles, mean, most):
    drawn = getattr(TRAFFIC[name], which).draw(words(200_000))
    for percent, value in quantiles.items():
        assert np.percentile(drawn, percent) == pytest.approx(value, rel=0.03)
    assert drawn.mean() == pytest.approx(mean, rel=0.03)
    assert drawn.min() > 0 and drawn.max() <= most


@pytest.mark.parametrize(("name", "share"), [("conversation", 0.366), ("synthetic", 0.640)])
@pytest.mark.parametrize("chunk_tokens", [256, 512])
def test_the_share_of_hits_is_that_of_the_trace_where_nothing_is_evicted(name, share, chunk_tokens):
    plan = PrefixPlan(
        PrefixParameters(
            model=MINI,
            traffic=TRAFFIC[name],
            users=20,
            seed=42,
            rank=0,
            ranks=1,
            capacity_gib=500.0,
            io_bytes=2**20,
            chunk_tokens=chunk_tokens,
        )
    )
    rows = first(plan.rows(), 150_000)
    counts = plan.counts()
    assert counts["evicted"] == counts["rewrites"] == counts["too_large"] == 0
    assert counts["hits"] / counts["lookups"] == pytest.approx(share, abs=0.05)
    # What the counts say of the rows, each of which is a chunk.
    assert (rows["kind"] == LOAD).sum() == counts["hits"]
    assert (rows["kind"] == STORE).sum() == counts["stores"]
    lookups = counts["prompt_tokens"] / counts["requests"]
    mean = {"conversation": 12035, "synthetic": 15325}[name]
    assert lookups == pytest.approx(mean, rel=0.1)


def test_quantiles_go_from_the_first_knot_to_the_last():
    table = Quantiles(((0, 10), (500, 20), (1000, 100)))
    ends = np.array([0, 2**63, 2**64 - 1], dtype=np.uint64)
    assert table.draw(ends).tolist() == [10, 20, 99]


def test_a_zipf_law_falls_as_its_exponent_says():
    counts = np.bincount(Zipf(10, 1.0).draw(words(100_000)), minlength=10)
    harmonic = sum(1 / n for n in range(1, 11))
    assert counts / 100_000 == pytest.approx([1 / n / harmonic for n in range(1, 11)], abs=0.01)
    even = np.bincount(Zipf(4, 0.0).draw(words(100_000)), minlength=4)
    assert even / 100_000 == pytest.approx([0.25] * 4, abs=0.01)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_a_probability_is_met(probability):
    assert below(words(100_000), probability).mean() == pytest.approx(probability, abs=0.01)


# The rows


small_traffic = st.builds(
    Traffic,
    input_tokens=st.sampled_from(
        [Quantiles(((0, 1), (500, 300), (1000, 1500))), Quantiles(((0, 64), (1000, 640)))]
    ),
    output_tokens=st.sampled_from([Quantiles(((0, 0), (1000, 200)))]),
    continue_probability=st.sampled_from([0.0, 0.5, 1.0]),
    conversations_open=st.integers(1, 4),
    shared_prefix_tokens=st.sampled_from([0, 63, 64, 300]),
)
plans = st.builds(
    plan_of,
    places=st.integers(1, 60),
    traffic=small_traffic,
    users=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    ranks=st.just(3),
    rank=st.integers(0, 2),
    shared_prefixes=st.integers(1, 7),
    io_bytes=st.sampled_from([CHUNK_BYTES, 8192, 12288]),
)


@settings(max_examples=30, deadline=None)
@given(plans, st.integers(0, 2**32))
def test_any_order_that_keeps_each_users_finds_the_version_of_every_load(plan, seed):
    versions: dict[tuple[int, int], int] = {}
    for block in plan.cached_rows():
        for row in block:
            place = (int(row["file"]), int(row["offset"]))
            assert place not in versions
            assert (row["kind"], row["version"]) == (STORE, 0)
            versions[place] = 0
    own = {int(row["chunk"]) for block in plan.cached_rows() for row in block}
    files = plan.files
    chains: dict[int, list[list[np.void]]] = defaultdict(list)
    previous = None
    for row in first(plan.rows(), 2500):
        step = (int(row["user"]), int(row["request"]), int(row["step"]))
        if step != previous:
            chains[step[0]].append([])
            previous = step
        chains[step[0]][-1].append(row)
    draw = random.Random(seed)
    users = list(chains)
    while users:
        user = draw.choice(users)
        row = chains[user][0].pop(draw.randrange(len(chains[user][0])))
        place = (int(row["file"]), int(row["offset"]))
        assert row["gate"] == 0
        if row["purpose"] == PREFIX:
            assert (row["kind"], row["version"]) == (LOAD, 0)
            assert row["file"] >= files.own
            # Another rank's, or written by this one.
            owner = (int(row["file"]) - files.own) // files.shared
            assert (owner == plan._parameters.rank) == (int(row["chunk"]) in own)
        elif row["kind"] == LOAD:
            assert row["purpose"] == MULTI_TURN
            assert row["version"] == versions[place]
        else:
            assert row["purpose"] in (PREFILL, MISS_REWRITE)
            assert row["version"] == versions.get(place, 0) + 1
            versions[place] = int(row["version"])
        if not chains[user][0]:
            del chains[user][0]
        if not chains[user]:
            users.remove(user)
    assert sum(file < files.own for file, _ in versions) <= files.own_slots


@settings(max_examples=25, deadline=None)
@given(plans)
def test_users_keep_to_their_own_slots_and_load_nothing_twice(plan):
    rows = first(plan.rows(), 3000)
    private = rows[rows["purpose"] != PREFIX]
    size = plan.files.own_slots // plan._parameters.users
    assert (private["slot"] // size == private["user"]).all()
    assert (rows["slot"] < plan.files.slots).all()
    for request in requests_of(rows):
        places = list(zip(request["file"].tolist(), request["offset"].tolist(), strict=True))
        assert len(set(places)) == len(places)
        assert request["closes"].tolist() == [0] * (len(request) - 1) + [1]
        assert request["kind"].tolist() == sorted(request["kind"].tolist())
        loads = (request["kind"] == LOAD).any()
        assert request["step"].tolist() == [int(kind and loads) for kind in request["kind"]]
    assert (rows["order"] == 0).all()


def naive(plan, user, count):
    """What the rules say of a user's requests, from lists of chunks by name in order of use."""
    parameters = plan._parameters
    traffic, tokens = parameters.traffic, parameters.chunk_tokens
    capacity = plan.files.own_slots // parameters.users // plan._chunks.parts
    chunks: list[tuple[int, int]] = []  # conversation and number, least recently used first
    talks: list[dict[str, int]] = []  # likewise
    begun = 0
    earlier = 8 * traffic.conversations_open
    for n, request in enumerate(islice(plan._requests(user), earlier + count)):
        fitting = [talk for talk in talks if talk["tokens"] < request.input_tokens]
        if request.continues and fitting:
            talk = max(fitting, key=lambda talk: talk["tokens"])
            talks.remove(talk)
        else:
            whole = request.input_tokens // tokens
            shared = min(whole, traffic.shared_prefix_tokens // tokens)
            talk = {"id": begun, "tokens": 0, "shared": shared, "document": request.document}
            begun += 1
            talks = talks[len(talks) + 1 > traffic.conversations_open :]
        talks.append(talk)
        total = request.input_tokens + request.output_tokens
        names = [(talk["id"], k) for k in range(talk["shared"], total // tokens)]
        loaded = [name for name in names if name in chunks]
        known = talk["tokens"] // tokens
        talk["tokens"] = total
        kept = names[:capacity]
        stored = [name for name in kept if name not in loaded]
        chunks = [name for name in chunks if name not in names]
        chunks = chunks[max(0, len(chunks) + len(kept) - capacity) :] + kept[::-1]
        if n >= earlier:
            again = sum(number < known for _, number in stored)
            yield talk["shared"], len(loaded), again, len(stored) - again


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 50), small_traffic, st.integers(0, 2**31), st.sampled_from([CHUNK_BYTES, 8192])
)
def test_hits_and_stores_are_what_a_naive_model_says(places, traffic, seed, io_bytes):
    plan = plan_of(places=places, traffic=traffic, seed=seed, users=2, io_bytes=io_bytes)
    rows = first(plan.rows(), 3000)
    for user in range(2):
        own = rows[rows["user"] == user]
        for number, expected in enumerate(naive(plan, user, 12)):
            purposes = own["purpose"][own["request"] == number].tolist()
            found = [purposes.count(p) for p in (PREFIX, MULTI_TURN, MISS_REWRITE, PREFILL)]
            assert found == [count * plan._chunks.parts for count in expected]


def test_a_small_cache_evicts_and_stores_again():
    large, small = plan_of(places=400), plan_of(places=15)
    for plan in (large, small):
        first(plan.rows(), 20_000)
    assert large.counts()["rewrites"] == 0
    assert small.counts()["rewrites"] > 100
    assert small.counts()["evicted"] > 1000

    def share(plan):
        return plan.counts()["hits"] / plan.counts()["lookups"]

    assert share(small) < share(large) - 0.03


# Documents


def test_every_rank_reads_documents_that_their_owners_have_written():
    ranks = [plan_of(rank=rank, ranks=3, shared_prefixes=7) for rank in range(3)]
    files = ranks[0].files
    assert {plan.files for plan in ranks} == {files}
    owners = {}
    for rank, plan in enumerate(ranks):
        written = np.concatenate(list(plan.cached_rows()))
        written = written[written["purpose"] == PREFIX_STORE]
        assert len(written) == 2 * len(range(rank, 7, 3))  # 150 tokens are two chunks
        for row in written:
            place = (int(row["file"]), int(row["offset"]), int(row["chunk"]))
            assert (place[0] - files.own) // files.shared == rank
            assert place not in owners
            owners[place] = rank
    for plan in ranks:
        rows = first(plan.rows(), 5000)
        shared = rows[rows["purpose"] == PREFIX]
        places = zip(
            shared["file"].tolist(), shared["offset"].tolist(), shared["chunk"].tolist(),
            strict=True,
        )  # fmt: skip
        assert {owners[place] for place in places} == {0, 1, 2}
    assert len({chunk for _, _, chunk in owners}) == len(owners)


def test_all_chunks_of_all_ranks_have_names_of_their_own():
    names = [
        {
            int(chunk)
            for block in (first(plan.rows(), 5000),)
            for chunk in block["chunk"][block["purpose"] != PREFIX]
        }
        for plan in (plan_of(rank=rank, ranks=3) for rank in range(3))
    ]
    assert not names[0] & names[1] and not names[1] & names[2]


def test_popular_documents_are_loaded_more_often():
    rows = first(plan_of(users=20, zipf_exponent=1.0).rows(), 50_000)
    heads = rows[(rows["purpose"] == PREFIX)]["chunk"]
    counts = np.bincount((heads - heads.min()) // 2)
    assert counts.tolist() == sorted(counts.tolist(), reverse=True)


# Arrivals


def test_requests_of_an_open_loop_come_as_a_poisson_process():
    rows = first(plan_of(users=50, rate_per_s=1000.0).rows(), 60_000)
    arrivals = rows["arrival"][rows["closes"] == 1].astype(np.int64)
    assert (rows["arrival"] > 0).all()
    gaps = np.diff(arrivals)
    assert (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(1e6, rel=0.05)
    assert gaps.std() == pytest.approx(1e6, rel=0.08)
    assert (gaps > 1e6).mean() == pytest.approx(np.exp(-1), abs=0.02)


def test_the_rate_only_changes_the_arrivals():
    closed, slow = plan_of(), plan_of(rate_per_s=1.0)
    a, b = first(closed.rows(), 3000), first(slow.rows(), 3000)
    assert (a["arrival"] == 0).all()
    b["arrival"] = 0
    assert (a == b).all()


# The plan


def test_the_plan_stays_as_it_is():
    # Known values: a plan that changes needs another name of its generator.
    assert plan_of().generator == "kvcache-prefix/2"
    assert plan_sha256(plan_of().rows())[:16] == "035ea001d5f8612f"
    assert plan_sha256(plan_of(rank=1, ranks=4, rate_per_s=70.0).rows())[:16] == "f4676698d93eb1a3"


def test_a_plan_can_be_read_again_with_its_counts():
    plan = plan_of()
    a = (first(plan.rows(), 5000).tobytes(), plan.counts())
    assert (first(plan.rows(), 5000).tobytes(), plan.counts()) == a


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 43},
        {"rank": 1, "ranks": 2},
        {"users": 4},
        {"places": 41},
        {"chunk_tokens": 32},
        {"shared_prefixes": 6},
        {"zipf_exponent": 1.2},
        {"traffic": replace(SMALL, continue_probability=0.7)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_the_plan_depends_on_what_it_is_made_from(other):
    assert plan_sha256(plan_of(**other).rows()) != plan_sha256(plan_of().rows())


def test_a_user_more_changes_nobody_elses_requests():
    few, many = first(plan_of(users=3).rows(), 5000), first(plan_of(users=4).rows(), 6000)
    for user in range(3):
        a, b = few[few["user"] == user], many[many["user"] == user]
        length = min(len(a), len(b))
        assert length > 1000
        for column in ("request", "slot", "version", "kind", "purpose", "closes", "step"):
            private = a["purpose"][:length] != PREFIX
            assert (a[column][:length][private] == b[column][:length][private]).all()


def test_users_take_turns():
    rows = first(plan_of(users=5).rows(), 3000)
    closed = rows[rows["closes"] == 1]
    numbers = closed["request"].astype(int) * 5 + closed["user"]
    # A prompt of less than a chunk moves nothing.
    assert (np.diff(numbers) >= 1).all()
    assert (np.diff(numbers) == 1).mean() > 0.9


def test_a_capacity_of_less_than_a_chunk_for_each_user_is_refused():
    with pytest.raises(JobError, match=r"capacity_gib .* holds 2 chunks, fewer than 3 users"):
        plan_of(places=0.9)
