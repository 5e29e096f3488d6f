"""The v3.0 workload: who asks for what, in which order, and that every order of work is sound."""

from __future__ import annotations

import dataclasses
import random
import time
import tracemalloc
from collections import Counter, defaultdict
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.errors import JobError
from mlps.engines.io_core.operations import LOAD, STORE
from mlps.engines.kvcache_native import v3
from mlps.engines.kvcache_native.models import MODELS, Model
from mlps.engines.kvcache_native.planning import (
    DECODE_REREAD,
    DEMOTION,
    MISS_REWRITE,
    MULTI_TURN,
    PREFILL,
    PURPOSE_NAMES,
    RAG,
    plan_sha256,
)
from mlps.engines.kvcache_native.v3 import DEVIATIONS, V3Parameters, V3Plan
from mlps.engines.kvcache_native.v3_rag import Documents, zipf_sample
from mlps.engines.kvcache_native.v3_tiers import IN_MEMORY, Tiers
from mlps.engines.kvcache_native.v3_users import QOS_NAMES, USER_TYPES, Users

# 256 bytes a token.
MINI = Model(name="mini", layers=1, kv_heads=1, head_dim=64)
MIB = 2**20


def parameters(**changes):
    values = {
        "model": MINI,
        "users": 4,
        "seed": 42,
        "rank": 0,
        "capacity_gib": 24 * MIB / 2**30,
        "slot_bytes": 256 * 1024,
    }
    return V3Parameters(**(values | changes))


def mib(size):
    """A size for a key in GiB."""
    return size * MIB / 2**30


def plan(**changes):
    return V3Plan(parameters(**changes))


def first(stream, count):
    """The first blocks of a stream with at least so many rows, as one array."""
    blocks, held = [], 0
    for block in stream:
        blocks.append(block)
        held += len(block)
        if held >= count:
            break
    return np.concatenate(blocks)


def requests_of(rows):
    """The rows of each request."""
    return np.split(rows, np.flatnonzero(rows["closes"])[:-1] + 1)


def steps_of(rows):
    """The rows of each step of a request."""
    return np.split(rows, np.flatnonzero(np.diff(rows["step"])) + 1)


def drawn(count, **changes):
    """The first requests that users make."""
    p = parameters(**changes)
    users = Users(seed=p.seed, rank=p.rank, count=p.users, context_tokens_max=p.context_tokens_max)
    return list(islice(users.requests(), count))


def likely(successes, trials, probability):
    """Whether a count lies within 4.5 standard deviations of a binomial distribution."""
    deviation = (trials * probability * (1 - probability)) ** 0.5
    return abs(successes - trials * probability) < 4.5 * deviation


# --- users ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many_users():
    users = Users(seed=42, rank=0, count=1)
    return [users.user(number) for number in range(40_000)]


def test_types_and_qos_classes_have_their_shares(many_users):
    count = len(many_users)
    kinds = Counter(user.kind for user in many_users)
    assert all(likely(kinds[kind], count, 1 / 3) for kind in range(3))
    qos = Counter(user.qos for user in many_users)
    assert QOS_NAMES == ("interactive", "responsive", "batch")
    assert all(likely(qos[n], count, share) for n, share in enumerate((0.15, 0.35, 0.5)))


@pytest.mark.parametrize("kind", range(3), ids=[kind.name for kind in USER_TYPES])
def test_attributes_fill_the_ranges_of_their_type(many_users, kind):
    users = [user for user in many_users if user.kind == kind]
    spans = USER_TYPES[kind]
    for name, span in (
        ("context_tokens", spans.context_tokens),
        ("generation_tokens", spans.generation_tokens),
        ("think_ns", spans.think_ns),
    ):
        values = np.array([getattr(user, name) for user in users])
        assert span.low <= values.min() <= values.max() <= span.high
        share = (values.max() - values.min()) / (span.high - span.low)
        assert share > 0.999
        middle = (span.low + span.high) / 2
        assert likely(
            (values < middle).sum(), len(values), (middle - span.low) / (span.high - span.low + 1)
        )
    generated = {user.generation_tokens for user in users}
    assert generated == set(range(spans.generation_tokens.low, spans.generation_tokens.high + 1))


def test_types_are_those_of_the_specification():
    assert [
        (kind.name, tuple(kind.context_tokens), tuple(kind.generation_tokens))
        for kind in USER_TYPES
    ] == [
        ("chatbot", (512, 4096), (50, 200)),
        ("coding", (4096, 25000), (100, 500)),
        ("document", (4096, 16384), (200, 800)),
    ]
    assert [tuple(ns / 1e9 for ns in kind.think_ns) for kind in USER_TYPES] == [
        (0.1, 0.5),
        (0.2, 1.0),
        (0.3, 1.5),
    ]


def test_requests_draw_from_the_quarter_to_the_whole_of_their_users_sizes():
    users = Users(seed=42, rank=0, count=1)
    user = users.user(0)
    draws = np.concatenate([users.drawn(user, 16 * n) for n in range(6250)])
    assert len(draws) == 100_000
    think, context, generation, continues, prompts = draws.T
    least = max(1, user.generation_tokens // 4)
    assert set(generation.tolist()) == set(range(least, user.generation_tokens + 1))
    assert max(1, user.context_tokens // 4) <= context.min() < user.context_tokens / 4 * 1.01
    assert user.context_tokens * 0.99 < context.max() <= user.context_tokens
    assert user.think_ns * 0.8 - 1 <= think.min() < user.think_ns * 0.8001
    assert user.think_ns * 1.1999 < think.max() <= user.think_ns * 1.2
    assert likely(continues.sum(), 100_000, 0.8)
    asked = Counter(prompts.tolist())
    assert set(asked) == {0, 5, 6, 9}
    assert likely(100_000 - asked[0], 100_000, 0.2)
    assert all(likely(asked[words], 100_000, 0.2 / 3) for words in (5, 6, 9))


def test_streams_of_one_user_are_unrelated():
    users = Users(seed=42, rank=0, count=1)
    user = users.user(0)
    draws = np.concatenate([users.drawn(user, 16 * n) for n in range(1000)]).astype(float)
    related = np.corrcoef(draws.T) - np.eye(5)
    assert np.abs(related).max() < 0.04


def test_a_users_arrivals_add_up_its_think_times_whatever_happens():
    p = parameters()
    users = Users(seed=p.seed, rank=p.rank, count=p.users)
    mine = [request for request in drawn(400) if request.user == 2]
    think = np.concatenate([users.drawn(users.user(2), 16 * n) for n in range(20)])[:, 0]
    assert [request.arrival_ns for request in mine] == np.cumsum(think)[: len(mine)].tolist()
    assert [request.nth for request in mine] == list(range(len(mine)))


def test_requests_come_in_the_order_of_arrival_then_of_users():
    made = drawn(3000, users=40)
    assert all(a[:2] < b[:2] for a, b in pairwise(made))
    assert {request.user for request in made} == set(range(40))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**40), st.integers(0, 5))
def test_a_user_more_changes_no_other_users_requests(count, seed, rank):
    few = drawn(150, users=count, seed=seed, rank=rank)
    many = drawn(400, users=count + 1, seed=seed, rank=rank)
    horizon = min(few[-1].arrival_ns, many[-1].arrival_ns)
    assert [r for r in few if r.arrival_ns <= horizon] == [
        r for r in many if r.arrival_ns <= horizon and r.user < count
    ]


def test_contexts_can_be_cut():
    cut, whole = drawn(500, context_tokens_max=1000), drawn(500)
    assert [r.context_tokens for r in cut] == [min(1000, r.context_tokens) for r in whole]
    assert max(r.context_tokens for r in whole) > 1000


# --- the plan ------------------------------------------------------------------------------------


def test_the_hash_stays_as_it_is():
    # Known values: a plan that changes needs another name of its generator.
    assert plan_sha256(plan().rows())[:16] == "9330f67e55d8d7de"
    closed = plan(
        model=MODELS["llama3.1-8b"], users=100, cpu_cache_gib=4, capacity_gib=64, slot_bytes=4 * MIB
    )
    assert plan_sha256(closed.rows())[:16] == "c7789de12e7993f7"
    assert plan().generator == "kvcache-v3/2"


OTHERS = [
    {"seed": 43},
    {"rank": 1},
    {"users": 5},
    {"capacity_gib": 1.0, "model": MODELS["tiny-1b"]},
    {"capacity_gib": mib(25)},
    {"cpu_cache_gib": mib(8)},
    {"slot_bytes": 128 * 1024},
    {"tensor_parallel": 2},
    {"multi_turn": False},
    {"rag": True},
    {"prefill_only": True},
    {"decode_only": True},
    {"context_tokens_max": 2000},
    {"speedup": 1.0},
    {"rag": True, "rag_documents": 3},
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: list(other)[-1])
def test_the_hash_depends_on_every_parameter(other):
    without = dict(list(other.items())[:-1])
    assert plan_sha256(plan(**other).rows()) != plan_sha256(plan(**without).rows())


def test_every_parameter_is_among_those():
    names = {field.name for field in dataclasses.fields(V3Parameters)}
    assert {name for other in OTHERS for name in other} == names


def test_seed_and_rank_add_up_but_ranks_share_no_chunk():
    a, b = first(plan(rank=1).rows(), 2000), first(plan(seed=43).rows(), 2000)
    assert (a["slot"] == b["slot"]).all()
    assert not set(a["chunk"].tolist()) & set(b["chunk"].tolist())


def test_rows_can_be_had_again():
    p = plan(cpu_cache_gib=mib(8), rag=True)
    assert (first(p.rows(), 5000) == first(p.rows(), 5000)).all()


def test_no_clock_is_read(monkeypatch):
    for name in ("time", "monotonic", "perf_counter", "time_ns", "monotonic_ns"):
        monkeypatch.setattr(time, name, None)
    monkeypatch.setattr(random, "random", None)
    monkeypatch.setattr(np.random, "random", None)
    first(plan(rag=True, cpu_cache_gib=mib(8)).rows(), 5000)


class Row(NamedTuple):
    """What a row's gate goes by."""

    slot: int
    kind: int
    version: int
    order: int


class Storage:
    """Reference executor: the slots, and the rules of requests, steps and gates.

    Carries rows out in a random order that the rules allow, and checks that no load can find
    anything but its version.
    """

    def __init__(self, rows, seed, in_flight):
        self.random = random.Random(seed)
        self.in_flight = in_flight
        self.coming = [
            [[Row(*row) for row in step[list(Row._fields)].tolist()] for step in steps_of(request)]
            for request in requests_of(rows)
        ]
        self.coming.reverse()
        self.active = []
        self.started = []
        self.version = defaultdict(int)  # completed stores of each slot: also what it holds
        self.completed = defaultdict(int)
        self.storing = set()
        self.loading = Counter()
        self.rows_done = 0

    def run(self):
        while self.coming or self.active:
            while self.coming and len(self.active) < self.in_flight:
                steps = self.coming.pop()
                self.active.append({"steps": steps[::-1], "left": len(steps[0])})
            ready = [
                (request, row)
                for request in self.active
                for row in request["steps"][-1]
                if self.may_start(row)
            ]
            assert ready or self.started, "every request waits for another"
            if self.started and (not ready or self.random.random() < 0.5):
                self.complete(self.random.randrange(len(self.started)))
            else:
                self.start(*self.random.choice(ready))

    def may_start(self, row):
        slot = row.slot
        if row.kind == LOAD:
            return self.version[slot] == row.version
        return self.completed[slot] == row.order

    def start(self, request, row):
        request["steps"][-1] = [other for other in request["steps"][-1] if other is not row]
        slot = row.slot
        if row.kind == LOAD:
            assert slot not in self.storing
            self.loading[slot] += 1
        else:
            assert slot not in self.storing and not self.loading[slot]
            self.storing.add(slot)
        self.started.append((request, row))

    def complete(self, index):
        request, row = self.started.pop(index)
        slot = row.slot
        if row.kind == LOAD:
            assert self.version[slot] == row.version
            self.loading[slot] -= 1
        else:
            self.version[slot] += 1
            assert self.version[slot] == row.version
            self.storing.remove(slot)
        self.completed[slot] += 1
        self.rows_done += 1
        request["left"] -= 1
        if request["left"] == 0:
            request["steps"].pop()
            if request["steps"]:
                request["left"] = len(request["steps"][-1])
            else:
                self.active = [other for other in self.active if other is not request]


CONFIGURATIONS = {
    "plain": {},
    "tight": {"capacity_gib": mib(7), "slot_bytes": 512 * 1024},
    "two tiers": {"cpu_cache_gib": mib(12)},
    "two small tiers": {"cpu_cache_gib": mib(3), "capacity_gib": mib(8)},
    "retrieval": {"rag": True, "cpu_cache_gib": mib(6), "rag_documents": 3},
    "decode only": {"decode_only": True, "capacity_gib": mib(16)},
    "decode only, two tiers": {"decode_only": True, "rag": True, "cpu_cache_gib": mib(4)},
    "prefill only": {"prefill_only": True, "rag": True},
    "single turns": {"multi_turn": False, "users": 1},
    "one entry a slot": {"slot_bytes": 8 * MIB, "capacity_gib": mib(48)},
}
every_configuration = pytest.mark.parametrize(
    "changes", CONFIGURATIONS.values(), ids=CONFIGURATIONS
)


@every_configuration
@pytest.mark.parametrize("in_flight", [1, 7, 60])
def test_any_legal_order_of_work_finds_every_version(changes, in_flight):
    rows = first(plan(**changes).rows(), 1500)
    storage = Storage(rows, seed=in_flight, in_flight=in_flight)
    storage.run()
    assert storage.rows_done == len(rows)


def test_without_gates_a_load_would_find_something_else(monkeypatch):
    monkeypatch.setattr(Storage, "may_start", lambda self, row: True)
    rows = first(plan(**CONFIGURATIONS["tight"]).rows(), 1500)
    with pytest.raises(AssertionError):
        Storage(rows, seed=1, in_flight=30).run()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(0, 2**32),
    st.sampled_from([8, 16, 40]),
    st.sampled_from([0, 4, 20]),
    st.booleans(),
    st.integers(1, 30),
)
def test_gates_hold_for_any_parameters(users, seed, capacity, memory, rag, in_flight):
    changed = plan(
        users=users,
        seed=seed,
        capacity_gib=mib(capacity),
        cpu_cache_gib=mib(memory),
        rag=rag,
        slot_bytes=512 * 1024,
    )
    rows = first(changed.rows(), 800)
    Storage(rows, seed, in_flight).run()


@every_configuration
def test_a_load_reads_one_whole_entry_as_it_was_stored(changes):
    p = plan(**changes)
    found = {}
    for entry, rows in enumerate(p.cached_rows()):
        found |= {int(row["slot"]): (("found", entry), int(row["length"])) for row in rows}
    holds = dict(found)
    sizes = Counter(entry for entry, _ in found.values())
    for n, request in enumerate(requests_of(first(p.rows(), 6000))):
        assert request["step"][0] == 0
        assert set(np.diff(request["step"]).tolist()) <= {0, 1}
        for step in steps_of(request):
            slots = step["slot"].tolist()
            assert len(set(slots)) == len(slots)
            assert max(slots) < p.files.slots
            assert len(set(step["kind"].tolist())) == len(set(step["purpose"].tolist())) == 1
            assert (step["length"][:-1] == p.slot_bytes).all()
            assert 0 < step["length"][-1] <= p.slot_bytes
            assert not (step["length"] % 4096).any()
            if step["kind"][0] == STORE:
                sizes[n, int(step["step"][0])] = len(slots)
                for slot, length in zip(slots, step["length"].tolist(), strict=True):
                    holds[slot] = ((n, int(step["step"][0])), length)
            else:
                assert [holds[slot][1] for slot in slots] == step["length"].tolist()
                (entry,) = {holds[slot][0] for slot in slots}
                assert sizes[entry] == len(slots)


@every_configuration
@pytest.mark.parametrize("speedup", [1.0, 2.5])
def test_requests_follow_each_other_and_keep_their_arrival(changes, speedup):
    rows = first(plan(**changes, speedup=speedup).rows(), 6000)
    made = drawn(int(rows["user"].max()) + 1, **changes)
    numbers = [int(request["user"][0]) for request in requests_of(rows)]
    assert numbers == sorted(set(numbers))
    assert not rows["request"].any()
    assert (np.diff(rows["arrival"].astype(np.int64)) >= 0).all()
    for request in requests_of(rows):
        assert len(set(request["arrival"].tolist())) == 1
    if not changes.get("rag"):
        arrivals = [int(made[number].arrival_ns / speedup) for number in numbers]
        assert arrivals == [int(request["arrival"][0]) for request in requests_of(rows)]


@every_configuration
def test_in_a_closed_loop_the_same_rows_have_no_arrival(changes):
    closed, open_loop = (first(plan(**changes, speedup=s).rows(), 6000) for s in (None, 1.0))
    assert not closed["arrival"].any()
    open_loop["arrival"] = 0
    assert (closed == open_loop).all()


@every_configuration
def test_rows_carry_all_tokens_that_their_requests_generate(changes):
    p = plan(**changes)
    rows = first(p.rows(), 6000)
    assert not rows["tokens"][rows["closes"] == 0].any()
    # Those after the last request with rows are still to come.
    missing = p.counts()["generated_tokens"] - int(rows["tokens"].sum())
    assert 0 <= missing <= 40_000
    assert missing == 0 or changes.get("cpu_cache_gib")


@every_configuration
def test_counts_are_those_of_the_rows(changes):
    p = plan(**changes)
    rows = first(p.rows(), 6000)
    counts = p.counts()
    steps = [step for request in requests_of(rows) for step in steps_of(request)]
    seen = Counter((int(step["kind"][0]), int(step["purpose"][0])) for step in steps)
    in_memory = changes.get("cpu_cache_gib", 0) > 0
    for purpose in (MULTI_TURN, RAG, DECODE_REREAD):
        hits = counts[f"hits_{PURPOSE_NAMES[purpose]}"]
        assert seen[LOAD, purpose] <= hits if in_memory else seen[LOAD, purpose] == hits
    for purpose in (PREFILL, MISS_REWRITE):
        stores = counts[f"stores_{PURPOSE_NAMES[purpose]}"]
        assert seen[STORE, purpose] <= stores if in_memory else seen[STORE, purpose] == stores
    assert seen[STORE, DEMOTION] == counts["stores_demotion"]
    for kind, name in ((LOAD, "read"), (STORE, "written")):
        moved = int(rows["length"][rows["kind"] == kind].sum())
        rounded = sum(step["kind"][0] == kind for step in steps) * 4096
        assert 0 <= moved - counts[f"storage_{name}_bytes"] < max(1, rounded)
    for (_, purpose), moves in seen.items():
        moved = int(rows["length"][rows["purpose"] == purpose].sum())
        assert 0 <= moved - counts[f"storage_bytes_{PURPOSE_NAMES[purpose]}"] < moves * 4096
    if not in_memory:
        assert counts["memory_read_bytes"] == counts["memory_written_bytes"] == 0
    assert counts["hits"] == sum(counts[name] for name in counts if name.startswith("hits_"))
    assert counts["misses"] == sum(counts[name] for name in counts if name.startswith("misses_"))
    assert all(isinstance(value, int) and value >= 0 for value in counts.values())


def test_counts_of_requests_and_tokens():
    p = plan(cpu_cache_gib=mib(8))
    first(p.rows(), 6000)
    counts = p.counts()
    made = drawn(counts["requests"])
    assert counts["generated_tokens"] == sum(r.generation_tokens for r in made)
    assert counts["prefill_tokens"] == sum(r.context_tokens - r.prompt_tokens for r in made)
    assert counts["misses_prefix"] == sum(r.prompt_tokens > 0 for r in made)
    assert counts["hits_prefix"] == 0
    for qos, name in enumerate(QOS_NAMES):
        assert counts[f"requests_{name}"] == sum(r.qos == qos for r in made)


def test_hit_rates_with_and_without_reads_of_the_requests_own_entry():
    counts = {"hits": 90, "misses": 10, "hits_decode_reread": 60, "misses_decode_reread": 0}
    assert plan().ratios(counts) == {"hit_rate": (30, 40), "hit_rate_with_rereads": (90, 100)}
    assert plan().ratios({}) == {"hit_rate": (0, 0), "hit_rate_with_rereads": (0, 0)}


def by_request(rows):
    """The rows of each request by its number."""
    return {int(request["user"][0]): request for request in requests_of(rows)}


def reads(request, purpose):
    """How many entries a request reads for a purpose."""
    return sum(
        step["kind"][0] == LOAD and step["purpose"][0] == purpose for step in steps_of(request)
    )


@pytest.fixture(scope="module")
def thirty():
    """Requests of thirty users, each with its rows."""
    rows = by_request(first(plan(users=30, capacity_gib=mib(4000)).rows(), 20_000))
    made = drawn(len(rows), users=30)
    return [(made[number], request) for number, request in rows.items()]


def test_the_own_entry_is_read_once_and_again_for_each_32_tokens(thirty):
    short = [(made, rows) for made, rows in thirty if made.context_tokens < 10_000]
    assert len(short) > 100
    for made, rows in short:
        assert reads(rows, DECODE_REREAD) == 1 + -(-made.generation_tokens // 32)


def test_with_10000_tokens_or_more_nothing_is_decoded(thirty):
    long = [rows for made, rows in thirty if made.context_tokens >= 10_000]
    assert len(long) > 20
    for rows in long:
        assert reads(rows, DECODE_REREAD) == 0
        assert rows["purpose"][-1] == PREFILL


def test_that_begins_with_10000_tokens(monkeypatch):
    made = drawn(1)[0]
    for limit, decoded in ((made.context_tokens, False), (made.context_tokens + 1, True)):
        monkeypatch.setattr(v3, "_PREFILL_ONLY_TOKENS", limit)
        request = requests_of(next(plan().rows()))[0]
        assert (DECODE_REREAD in request["purpose"]) == decoded


def test_a_prompt_shortens_what_is_stored(thirty):
    for made, rows in thirty:
        stored = rows["length"][rows["purpose"] == PREFILL].sum()
        entry = (made.context_tokens - made.prompt_tokens) * MINI.token_bytes
        assert stored == -(-entry // 4096) * 4096
    assert sum(made.prompt_tokens > 0 for made, _ in thirty) > 20


def test_a_turn_reads_every_earlier_turn_and_no_later_one(thirty):
    turns = {}  # of each user's conversation: the numbers of its requests
    stored = {}
    lengths = []
    for number, (made, rows) in enumerate(thirty):
        earlier = turns.get(made.user, []) if made.continues else []
        turns[made.user] = [*earlier, number]
        loads = [step for step in steps_of(rows) if step["purpose"][0] == MULTI_TURN]
        assert [step["slot"].tolist() for step in loads] == [stored[turn] for turn in earlier]
        stored[number] = rows["slot"][rows["purpose"] == PREFILL].tolist()
        lengths.append(len(earlier))
    assert max(lengths) > 8


def test_without_conversations_no_earlier_turn_is_read():
    rows = first(plan(multi_turn=False).rows(), 5000)
    assert set(rows["purpose"].tolist()) == {PREFILL, DECODE_REREAD}


@pytest.fixture
def turns_of():
    """How many earlier turns each request reads, in a plan where all of them are cached."""

    def turns(users):
        rows = by_request(first(plan(users=users, capacity_gib=mib(4000)).rows(), 9000))
        return [reads(request, MULTI_TURN) for request in rows.values()]

    return turns


def test_a_conversation_ends_at_its_cap(monkeypatch, turns_of):
    assert v3._TURNS_MAX == 50
    assert max(turns_of(users=4)) > 3
    monkeypatch.setattr(v3, "_TURNS_MAX", 3)
    assert max(turns_of(users=4)) == 2


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_least_recently_continued_conversation_is_dropped(monkeypatch, turns_of, limit):
    assert v3._LIVE_CONVERSATIONS_MAX == 1000
    monkeypatch.setattr(v3, "_LIVE_CONVERSATIONS_MAX", limit)
    found = turns_of(users=4)
    live = []  # [user, turns so far, whether it is the user's last] by when it was continued
    expected = []
    for made in drawn(len(found), users=4):
        last = next((one for one in live if one[0] == made.user and one[2]), None)
        if last is not None and made.continues:
            live.remove(last)
        else:
            if last is not None:
                last[2] = False
            last = [made.user, 0, True]
        live = [*live, last][-limit:]
        expected.append(last[1])
        last[1] += 1
    assert found == expected
    assert max(found) > 0


def test_prefill_only_never_decodes():
    p = plan(prefill_only=True, rag=True, capacity_gib=mib(4000))
    rows = first(p.rows(), 5000)
    assert set(rows["purpose"].tolist()) == {PREFILL, MULTI_TURN, RAG}


def test_decode_only_reads_what_was_prepared_and_stores_nothing():
    p = plan(decode_only=True, capacity_gib=mib(64))
    rows = first(p.rows(), 9000)
    assert set(rows["purpose"].tolist()) == {DECODE_REREAD}
    assert set(rows["kind"].tolist()) == {LOAD}
    assert not rows["version"].any()
    cached = np.concatenate(list(p.cached_rows()))
    assert len(list(p.cached_rows())) == 10 * p.parameters.users
    assert set(rows["slot"].tolist()) == set(cached["slot"].tolist())
    assert p.counts()["misses_decode_reread"] == 0
    # Each is picked about as often as any other.
    picks = Counter(int(step["slot"][0]) for r in requests_of(rows) for step in steps_of(r)[:1])
    assert len(picks) == 40


def test_decode_only_misses_what_storage_could_not_hold():
    p = plan(decode_only=True, capacity_gib=mib(16))
    assert len(list(p.cached_rows())) == 32
    first(p.rows(), 5000)
    counts = p.counts()
    assert counts["misses_decode_reread"] > 0
    assert counts["storage_written_bytes"] == 0


def test_nothing_is_cached_at_the_start_otherwise():
    assert list(plan().cached_rows()) == []


# --- tiers ---------------------------------------------------------------------------------------


def naive_store(memory, limit, key, size):
    """The keys demoted, and whether the entry goes to memory; memory from the oldest on."""

    def used():
        return sum(memory.values())

    def fits():
        return used() < 0.05 * limit or used() + size <= 0.8 * limit

    if size > 0.95 * limit or (not fits() and used() < 0.2 * limit and size > 0.4 * limit):
        return [], False
    demoted = []
    while not fits():
        demoted.append(next(iter(memory)))
        del memory[demoted[-1]]
    memory[key] = size
    return demoted, True


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([0, 100, 1000]), st.lists(st.tuples(st.integers(1, 400), st.integers(0, 40)))
)
def test_tiers_do_what_naive_ones_do(limit, entries):
    tiers = Tiers(memory_bytes=limit, slots=100, slot_bytes=4, entry_bytes=lambda tokens: tokens)
    memory, where = {}, {}
    for key, (size, asked) in enumerate(entries):
        demoted, in_memory = naive_store(memory, limit, key, size)
        placement = tiers.store(key, size)
        assert [stored.tokens for stored in placement.demoted] == [where[k] for k in demoted]
        assert (placement.slots is IN_MEMORY) == in_memory
        assert len(placement.slots) == (0 if in_memory else -(-size // 4))
        assert all(len(stored.slots) == -(-stored.tokens // 4) for stored in placement.demoted)
        where[key] = size
        found = tiers.read(asked)
        if asked in memory:
            assert found is IN_MEMORY
            memory[asked] = memory.pop(asked)
        else:
            assert found is None or len(found) == -(-where[asked] // 4)
        # An entry of up to 95 % beside less than 5 %.
        assert tiers.memory_used_bytes == sum(memory.values()) <= limit
        assert tiers.storage.used_slots <= 100


def test_what_is_in_memory_causes_no_io():
    everything, nothing = plan(cpu_cache_gib=mib(20)), plan()
    first(everything.rows(), 3000)
    first(nothing.rows(), 3000)
    counts = everything.counts()
    assert counts["memory_read_bytes"] > 0 and counts["memory_written_bytes"] > 0
    assert counts["stores_demotion"] > 0
    # More requests for as many rows.
    assert counts["requests"] > nothing.counts()["requests"]


# --- retrieval -----------------------------------------------------------------------------------


def documents(model=MINI, count=10, seed=42):
    return Documents(seed=seed, rank=0, model=model, count=count)


@pytest.mark.parametrize(
    ("name", "least", "most", "chunk"),
    [
        ("tiny-1b", 4000, 12000, 512),
        ("llama3.1-8b", 4000, 12000, 512),
        ("llama3.1-70b-instruct", 1024, 4096, 512),
        ("qwen3-32b", 1024, 4096, 512),
    ],
)
def test_documents_have_the_sizes_of_their_model(name, least, most, chunk):
    chunks = documents(MODELS[name], count=3000).chunks
    sizes = [sum(of_document) for of_document in chunks]
    assert least <= min(sizes) < least + 50 and most - 50 < max(sizes) <= most
    assert all(set(of_document[:-1]) <= {chunk} for of_document in chunks)
    assert all(0 < of_document[-1] <= chunk for of_document in chunks)


def test_a_chunk_is_at_most_256_mib():
    heavy = Model(name="heavy", layers=40, kv_heads=128, head_dim=128)
    assert documents(heavy).chunks[0][0] == 256 * MIB // heavy.token_bytes < 512


def test_the_first_chunks_are_retrieved_most():
    words = np.random.default_rng(1).integers(0, 2**64, (20_000, 5), dtype=np.uint64)
    samples = [zipf_sample(row, 10) for row in words.tolist()]
    assert all(len(set(sample)) == 5 and max(sample) < 10 for sample in samples)
    weight = sum(1 / rank for rank in range(1, 11))
    firsts = Counter(sample[0] for sample in samples)
    assert all(likely(firsts[n], 20_000, 1 / (n + 1) / weight) for n in range(10))
    after_0 = Counter(sample[1] for sample in samples if sample[0] == 0)
    assert likely(after_0[1], firsts[0], 1 / 2 / (weight - 1))


def test_retrieval_happens_as_often_as_asked():
    own = documents()
    made = [own.retrieval(0, nth) for nth in range(20_000)]
    assert likely(sum(one.read is not None for one in made), 20_000, 0.1)
    assert likely(sum(one.added is not None for one in made), 20_000, 0.1)
    read = Counter(one.read.document for one in made if one.read is not None)
    assert all(likely(read[n], sum(read.values()), 0.1) for n in range(10))
    assert {one.generated_tokens for one in made} == set(range(50, 201))


def test_retrieved_chunks_are_read_between_prefill_and_decode():
    p = plan(rag=True, users=20, capacity_gib=mib(4000))
    rows = by_request(first(p.rows(), 20_000))
    with_chunks = [request for request in rows.values() if RAG in request["purpose"]]
    assert len(with_chunks) > 20
    for request in with_chunks:
        purposes = [int(step["purpose"][0]) for step in steps_of(request)]
        assert purposes.count(RAG) == 5
        at = purposes.index(RAG)
        assert purposes[at - 1] == PREFILL
        assert set(purposes[at + 5 :]) <= {DECODE_REREAD}
        assert not request["version"][request["purpose"] == RAG].any()


def test_the_added_request_stores_its_entry_once_and_decodes_it_afterwards():
    p = plan(rag=True, users=20, capacity_gib=mib(4000), rag_documents=2)
    rows = by_request(first(p.rows(), 20_000))
    added = [r for r in rows.values() if not set(r["purpose"].tolist()) & {PREFILL}]
    assert len(added) > 10
    assert [MISS_REWRITE in request["purpose"] for request in added].count(True) == 2
    assert p.counts()["stores_miss_rewrite"] == p.counts()["misses_decode_reread"] == 2
    assert p.counts()["requests"] > len(rows) - 2


# --- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"users": 0}, "users must be 1 or more, got 0"),
        ({"tensor_parallel": 0}, "tensor_parallel must be 1 or more, got 0"),
        ({"tensor_parallel": 257}, "tensor_parallel 257 leaves nothing of a token"),
        ({"context_tokens_max": 0}, "context_tokens_max must be 1 or more, got 0"),
        ({"rag_documents": 0}, "rag_documents must be 1 or more, got 0"),
        ({"slot_bytes": 5000}, "slot_bytes must be a multiple of 4096 up to 1073741824, got 5000"),
        ({"slot_bytes": 2**31}, "slot_bytes must be a multiple of 4096"),
        ({"slot_bytes": 0}, "slot_bytes must be a multiple of 4096"),
        ({"cpu_cache_gib": -1.0}, "cpu_cache_gib must not be negative, got -1.0"),
        ({"prefill_only": True, "decode_only": True}, "prefill_only and decode_only exclude"),
        (
            {"capacity_gib": mib(6)},
            "capacity_gib 0.00585938 cannot hold the largest entry: 25000 tokens x 256 bytes"
            " = 0.00596 GiB; raise capacity_gib or lower context_tokens_max",
        ),
        (
            {"decode_only": True, "cpu_cache_gib": 1.0},
            "a decode-only run would read nothing from storage: all its entries fit",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(changes, text):
    with pytest.raises(JobError) as caught:
        plan(**changes)
    assert str(caught.value).startswith(text)


def test_cut_contexts_need_less_capacity():
    small = plan(capacity_gib=mib(2), context_tokens_max=4000)
    assert len(first(small.rows(), 3000)) >= 3000


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({}, 25_000),
        ({"context_tokens_max": 100_000}, 25_000),
        ({"context_tokens_max": 1000}, 1000),
        ({"context_tokens_max": 1000, "rag": True}, 2560),
        ({"decode_only": True, "rag": True}, 2048),
    ],
)
def test_capacity_is_for_the_largest_entry(changes, tokens):
    slot_bytes = 4096
    slots = -(-tokens * MINI.token_bytes // slot_bytes)
    fits = changes | {"slot_bytes": slot_bytes, "users": 1}
    enough = plan(capacity_gib=slots * slot_bytes / 2**30, **fits)
    assert (enough.files.slots, enough.parameters.largest_tokens) == (slots, tokens)
    first(enough.rows(), 5000)
    with pytest.raises(JobError, match="cannot hold the largest entry"):
        plan(capacity_gib=(slots - 1) * slot_bytes / 2**30, **fits)


def test_deviations_are_plain_sentences():
    assert len(DEVIATIONS) == len(set(DEVIATIONS)) > 5
    assert all(text[0].isupper() and text.endswith(".") for text in DEVIATIONS)


def test_a_million_rows_take_no_more_memory_than_a_fifth_of_them(monkeypatch):
    # Reached soon, or memory would still grow until there are as many.
    monkeypatch.setattr(v3, "_LIVE_CONVERSATIONS_MAX", 20)
    stream = plan(cpu_cache_gib=mib(8), rag=True, slot_bytes=4096).rows()
    tracemalloc.start()
    try:
        first_rows(stream, 200_000)
        before, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        first_rows(stream, 800_000)
        after, later_peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 300_000
    assert later_peak < peak + MIB


def first_rows(stream, count):
    """Goes past so many rows and keeps none of them."""
    while count > 0:
        count -= len(next(stream))
