"""What planners share: the plan of one rank, its rows, random draws, and caches in logical time.

A planner decides in plan order which entries are cached, where, and what is evicted for them. The
rows that it makes of this are ordered by gates, so hits never depend on the storage's speed.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..io_core.blocks import BLOCK_BYTES
from ..io_core.operations import OPERATION, STORE, Operations, Stream

# No file is larger, and no slot.
SEGMENT_LIMIT_BYTES = 2**30
HASHED_OPERATIONS = 16384
NS_PER_S = 10**9

Counts = Mapping[str, int]

# Purposes of operations.
PREFIX = 0  # load of a shared prefix or system prompt
PREFILL = 1  # store of what a request has computed
MULTI_TURN = 2  # load of the conversation's earlier turns
DECODE_REREAD = 3  # load of the request's own entry, no reuse
RAG = 4  # load of a retrieved document
TRACE = 5  # load that a trace asks for
PREFIX_STORE = 6  # store of a shared prefix
MISS_REWRITE = 7  # store of what should have been cached
DEMOTION = 8  # store of what has left the tier in memory
PURPOSE_NAMES = (
    "prefix",
    "prefill",
    "multi_turn",
    "decode_reread",
    "rag",
    "trace",
    "prefix_store",
    "miss_rewrite",
    "demotion",
)

# A block of a stream is closed when it holds this many rows.
BLOCK_ROWS = 2048
# Blocks that a plan may be ahead of what all shards have carried out: 64 queues of 8192 rows.
_MARKS = 512
_DRAWN_GAPS = 256

Slots = NDArray[np.int64]
Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files that rows name by number: the rank's own, then the shared ones of every rank.

    `own` files hold `own_slots`; each rank has `shared` files of `shared_slots`, rank r's begin at
    `own + r * shared`. All but the last of a kind have `slots_per_file`.
    """

    own_slots: int
    slots_per_file: int
    shared_slots: int = 0

    @property
    def own(self) -> int:
        """Files of the rank alone."""
        return -(-self.own_slots // self.slots_per_file)

    @property
    def shared(self) -> int:
        """Files of each rank that all ranks read."""
        return -(-self.shared_slots // self.slots_per_file)

    @property
    def slots(self) -> int:
        """Places that a rank fills: its own, then those it shares."""
        return self.own_slots + self.shared_slots


class RankPlan(Protocol):
    """The plan of one rank: equal inputs give equal rows, whatever the storage and the ranks.

    `generator` names the rules that made it, with their version. A slot of the rank's files has
    `slot_bytes`, a multiple of 4 KiB. `gated` rows wait for other users' rows.
    """

    @property
    def generator(self) -> str: ...
    @property
    def gated(self) -> bool: ...
    @property
    def files(self) -> Files: ...
    @property
    def slot_bytes(self) -> int: ...

    def rows(self) -> Stream:
        """Blocks of rows in plan order from its start; endless, but for a trace that ends."""

    def cached_rows(self) -> Stream:
        """Stores of version 0 into every slot that the plan finds cached at its start."""

    def counts(self) -> Counts:
        """Counters in logical time of what the stream begun last has planned so far."""

    def ratios(self, counts: Counts) -> dict[str, tuple[int, int]]:
        """Shares of these counts that are worth publishing, each a part and its whole."""


def prompt_ratios(counts: Counts) -> dict[str, tuple[int, int]]:
    """Of plans that look up chunks: those of prompts that were found, and prompts' tokens."""
    return {
        "hit_rate": (counts.get("hits", 0), counts.get("lookups", 0)),
        "cached_tokens": (counts.get("hit_tokens", 0), counts.get("prompt_tokens", 0)),
    }


def slots_per_file(slot_bytes: int) -> int:
    """Slots that a file holds."""
    return SEGMENT_LIMIT_BYTES // slot_bytes


def plan_sha256(rows: Stream) -> str:
    """SHA-256 over the first operations of a stream, 64 hex digits."""
    digest = hashlib.sha256()
    left = HASHED_OPERATIONS
    for block in rows:
        digest.update(block[:left].tobytes())
        left -= min(len(block), left)
        if left == 0:
            break
    return digest.hexdigest()


def of_shard(rows: Stream, shard: int, shards: int) -> Stream:
    """The rows of a shard's users out of a plan's, which must be this shard's alone.

    Each shard goes through the whole plan: that costs less than it takes to keep what one shard
    has met for another, and needs no lock.
    """
    for block in rows:
        own = block[block["user"] % shards == shard]
        if len(own):
            yield own


def first_requests(rows: Stream, requests: int | None) -> Stream:
    """A plan's rows up to the end of so many requests, all of them for None."""
    left = math.inf if requests is None else requests
    for block in rows:
        closing = np.flatnonzero(block["closes"])
        if len(closing) >= left:
            yield block[: closing[int(left) - 1] + 1]
            return
        left -= len(closing)
        yield block


class Followed:
    """A plan's rows with its counters as they stood at the end of each block."""

    def __init__(self, plan: RankPlan) -> None:
        self._plan = plan
        self._rows = 0
        # Rows planned and the counters at that point; those long passed are dropped.
        self._marks: deque[tuple[int, Counts]] = deque([(0, {})], maxlen=_MARKS)

    def rows(self) -> Stream:
        """The rows of the plan."""
        for block in self._plan.rows():
            self._rows += len(block)
            self._marks.append((self._rows, self._plan.counts()))
            yield block

    def counts(self, rows: int) -> Counts:
        """The counters at the end of the block that holds the plan's last row of so many."""
        following = (counts for at, counts in self._marks if at >= rows)
        return next(following, self._marks[-1][1])


class Excerpts:
    """A plan's requests in one excerpt after the other, each timed anew.

    All of an excerpt must be consumed before the next is taken.
    """

    def __init__(self, rows: Stream, gaps: Iterator[float]) -> None:
        self._rows = rows
        self._gaps = gaps
        self._rest: Operations | None = None

    def take(self, requests: int, rate_per_s: float) -> Stream:
        """The next requests, as a Poisson process from the start of the excerpt on."""
        now_ns = 0.0
        left = requests
        while left:
            block = self._rest if self._rest is not None else next(self._rows, None)
            if block is None:
                return
            closing = np.flatnonzero(block["closes"])[:left]
            end = closing[-1] + 1 if len(closing) else len(block)
            self._rest = block[end:] if end < len(block) else None
            left -= len(closing)
            taken = block[:end].copy()
            gaps = np.fromiter(self._gaps, np.float64, len(closing)) * NS_PER_S / rate_per_s
            arrivals = now_ns + np.cumsum(gaps)
            now_ns = float(arrivals[-1])
            lengths = np.diff(closing, prepend=-1)
            taken["arrival"] = np.repeat(np.maximum(1, arrivals.round()), lengths)
            yield taken


def poisson_ns(*, seed: int, rank: int, stream: int, rate_per_s: float | None) -> Iterator[int]:
    """Arrival times of a Poisson process of this rate, in ns; 0 without end for None."""
    if rate_per_s is None:
        while True:
            yield 0
    now = 0
    for gap in exponential_gaps(seed=seed, rank=rank, stream=stream):
        # Whole ns add up exactly: the last bits of logarithms differ between machines.
        now += round(gap * NS_PER_S / rate_per_s)
        # 0 would stand for no time at all.
        yield max(1, now)


def exponential_gaps(*, seed: int, rank: int, stream: int) -> Iterator[float]:
    """Exponentially distributed numbers with mean 1, without end."""
    for first in count(0, _DRAWN_GAPS):
        words = raw_words(
            seed=seed, rank=rank, stream=stream, user=0, first=first, count=_DRAWN_GAPS
        )
        for word in words.tolist():
            # 53 bits are what a float takes of a uniform number.
            yield -math.log1p(-(word >> 11) / 2**53)


def ungated(rows: Operations) -> Operations:
    """The same rows, for a plan in which no slot is used by two users."""
    rows["gate"] = 0
    rows["order"] = 0
    return rows


def whole_blocks(size_bytes: int) -> int:
    """A size rounded up to whole 4 KiB blocks."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def raw_words(*, seed: int, rank: int, stream: int, user: int, first: int, count: int) -> Words:
    """Uniform 64-bit numbers of a user's stream from the first-th on, a multiple of 4.

    Raw words, because numpy keeps those the same for ever, but not what it derives from them.
    """
    key = np.array([(seed + rank) % 2**64, stream << 32 | user], dtype=np.uint64)
    words: Words = np.random.Philox(key=key, counter=first // 4).random_raw(count)
    return words


def uniform(words: Words, low: int, high: int) -> NDArray[np.int64]:
    """Whole numbers from low to high, both included, one of each word; their span is below 2**32.

    In integers, so that they are the same on every machine.
    """
    scaled = (words >> np.uint64(32)) * np.uint64(high - low + 1) >> np.uint64(32)
    return scaled.astype(np.int64) + low


def rows_at(slots: Slots, *, slot_bytes: int) -> Operations:
    """Rows that move whole slots of the files: place and length are set, all else is 0."""
    rows: Operations = np.zeros(len(slots), dtype=OPERATION)
    rows["file"], within = np.divmod(slots, slots_per_file(slot_bytes))
    rows["offset"] = within * slot_bytes
    rows["slot"] = slots
    rows["length"] = slot_bytes
    return rows


class Item(NamedTuple):
    """Rows that move one entry, or several of one step, slot by slot in their order.

    All have the slot's full length but the last, which has `tail_bytes`. Planners make an item for
    each step of each request: a tuple costs a quarter of a frozen dataclass.
    """

    slots: Sequence[int] | Slots
    tail_bytes: int
    user: int
    request: int
    step: int
    kind: int
    purpose: int
    arrival_ns: int = 0
    tokens: int = 0  # that the whole request generates


# The columns that an item sets for all its rows, in the order of its fields after the tail.
_ITEM_COLUMNS = ("user", "request", "step", "kind", "purpose", "arrival", "tokens")


def _joined(places: Sequence[Sequence[int] | Slots], lengths: NDArray[np.int64]) -> Slots:
    """All of these slots one after the other; ranges alone without an array for each of them."""
    if not all(type(some) is range for some in places):
        return np.concatenate([np.asarray(some, dtype=np.int64) for some in places])
    begins = np.fromiter((some[0] for some in places), np.int64, len(places))
    before = np.cumsum(lengths) - lengths
    slots: Slots = np.repeat(begins - before, lengths) + np.arange(lengths.sum())
    return slots


class Rows:
    """Makes gated rows of items in plan order, and numbers the operations of each slot.

    A request's items follow one another; `closes` is set on the last row of each request, hence a
    block may only be taken when its last request is whole.
    """

    def __init__(self, *, slots: int, slot_bytes: int, rank: int) -> None:
        self._slot_bytes = slot_bytes
        self._first_chunk = rank * slots
        # Stores and operations of each slot so far.
        self._stores = np.zeros(slots, dtype=np.uint32)
        self._operations = np.zeros(slots, dtype=np.uint32)
        self._items: list[Item] = []
        self.held = 0

    def add(self, item: Item) -> None:
        """Appends an item with one slot or more."""
        self._items.append(item)
        self.held += len(item.slots)

    def take(self) -> Operations:
        """The rows of all items since the last call: at least one, and only whole requests."""
        items, self._items, self.held = self._items, [], 0
        places, tails, *columns = zip(*items, strict=True)
        lengths = np.fromiter(map(len, places), np.int64, len(places))
        slots = _joined(places, lengths)
        rows = self._at(slots)
        rows["length"][np.cumsum(lengths) - 1] = tails
        for name, values in zip(_ITEM_COLUMNS, columns, strict=True):
            rows[name] = np.repeat(np.array(values, dtype=OPERATION[name]), lengths)
        rows["gate"] = 1
        rows["closes"][-1] = 1
        changed = (rows["user"][1:] != rows["user"][:-1]) | (
            rows["request"][1:] != rows["request"][:-1]
        )
        rows["closes"][:-1] = changed
        rows["tokens"] *= rows["closes"]
        self._number(rows, slots)
        return rows

    def initial(self, slots: Slots, lengths_bytes: Slots) -> Operations:
        """Ungated stores of version 0, one into each of the slots."""
        rows = self._at(slots)
        rows["length"] = lengths_bytes
        rows["kind"] = STORE
        rows["purpose"] = PREFILL
        return rows

    def _at(self, slots: Slots) -> Operations:
        rows = rows_at(slots, slot_bytes=self._slot_bytes)
        rows["chunk"] = self._first_chunk + slots
        return rows

    def _number(self, rows: Operations, slots: Slots) -> None:
        """Sets version and order: what came before on the same slot, in this block or earlier."""
        # Rows of one slot side by side, each slot's in plan order.
        by_slot = np.argsort(slots, kind="stable")
        ordered = slots[by_slot]
        first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        counts = np.diff(np.r_[first, len(ordered)])
        nth = np.arange(len(ordered)) - np.repeat(first, counts)
        stored = np.cumsum(rows["kind"][by_slot] == STORE)
        before = np.where(first > 0, stored[first - 1], 0)
        nth_store = stored - np.repeat(before, counts)
        rows["order"][by_slot] = self._operations[ordered] + nth
        rows["version"][by_slot] = self._stores[ordered] + nth_store
        touched, last = ordered[first], first + counts - 1
        self._operations[touched] += counts.astype(np.uint32)
        self._stores[touched] += nth_store[last].astype(np.uint32)


class SlotCache:
    """Entries of one slot or more, the least recently used evicted, in logical time.

    Slots are numbered from `first_slot`. An entry that was looked up or inserted since `begin` is
    pinned: it is not evicted for another.
    """

    def __init__(self, slots: int, first_slot: int = 0) -> None:
        self.capacity = slots
        self.evicted_entries = 0
        self.evicted_slots = 0
        # From the least to the most recently used: the slots, and in which request it was used.
        self._entries: OrderedDict[Hashable, tuple[Slots, int]] = OrderedDict()
        # A stack: the slot freed last is used first.
        self._free = np.arange(first_slot + slots - 1, first_slot - 1, -1)
        self._free_count = slots
        self._request = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    @property
    def used_slots(self) -> int:
        """Slots that entries hold."""
        return self.capacity - self._free_count

    def begin(self) -> None:
        """Begins a request: unpins what the one before has used."""
        self._request += 1

    def lookup(self, key: Hashable) -> Slots | None:
        """The slots of an entry, which is now the most recently used; None if it is not cached."""
        found = self._entries.get(key)
        if found is None:
            return None
        self._entries[key] = (found[0], self._request)
        self._entries.move_to_end(key)
        return found[0]

    def peek(self, key: Hashable) -> Slots | None:
        """The slots of an entry, whose use this does not count as; None if it is not cached."""
        found = self._entries.get(key)
        return None if found is None else found[0]

    def insert(self, key: Hashable, slots_needed: int) -> Slots | None:
        """Slots for an entry that is not cached; None if it does not fit beside the pinned ones.

        Entries are evicted until there is room, also when that turns out not to be enough.
        """
        while self._free_count < slots_needed and self._evict_one():
            pass
        if self._free_count < slots_needed:
            return None
        self._free_count -= slots_needed
        slots = self._free[self._free_count : self._free_count + slots_needed][::-1].copy()
        self._entries[key] = (slots, self._request)
        return slots

    def remove(self, key: Hashable) -> None:
        """Frees the slots of a cached entry."""
        self._release(self._entries.pop(key)[0])

    def _evict_one(self) -> bool:
        """Evicts the least recently used entry; False if it is pinned, as all others are then."""
        if not self._entries:
            return False
        key, (slots, request) = next(iter(self._entries.items()))
        if request == self._request:
            return False
        del self._entries[key]
        self._release(slots)
        self.evicted_entries += 1
        self.evicted_slots += len(slots)
        return True

    def _release(self, slots: Slots) -> None:
        self._free[self._free_count : self._free_count + len(slots)] = slots
        self._free_count += len(slots)


class BlockCache:
    """Blocks of one slot each, found by prefix, the least recently used evicted, in logical time.

    The same as a SlotCache with entries of one slot, but fast enough for millions of blocks. Of the
    blocks that a request uses the last count as used first: a prefix loses its end, not its head.
    """

    def __init__(self, slots: int, first_slot: int = 0) -> None:
        self.capacity = slots
        self.evicted_entries = 0
        self._entries: OrderedDict[Hashable, int] = OrderedDict()
        self._next_slot = first_slot
        self._end = first_slot + slots

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def prefix(self, keys: Sequence[Hashable]) -> list[int]:
        """Slots of the longest run of cached blocks at the beginning, which are now in use."""
        entries = self._entries
        found: list[int] = []
        for key in keys:
            slot = entries.get(key)
            if slot is None:
                break
            found.append(slot)
        self.touch(keys[: len(found)])
        return found

    def missing(self, keys: Sequence[int]) -> list[int]:
        """Those that are not cached, in their order."""
        entries = self._entries
        return [key for key in keys if key not in entries]

    def touch(self, keys: Sequence[Hashable]) -> None:
        """Marks cached blocks as used."""
        for key in reversed(keys):
            self._entries.move_to_end(key)

    def admit(self, keys: Sequence[Hashable]) -> list[int]:
        """Slots for distinct blocks that are not cached, in the order of the keys.

        To keep what the request uses besides, ask for at most `capacity` less the number of that.
        """
        entries = self._entries
        evicted = max(0, len(keys) - (self._end - self._next_slot))
        fresh = len(keys) - evicted
        admitted = list(range(self._next_slot, self._next_slot + fresh))
        admitted += [entries.popitem(last=False)[1] for _ in range(evicted)]
        self._next_slot += fresh
        self.evicted_entries += evicted
        entries.update(zip(reversed(keys), reversed(admitted), strict=True))
        return admitted
