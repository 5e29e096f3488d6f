"""Planner of the v3.0 compatibility workload: what each request reads and writes, in plan order.

A request looks up a system prompt, reads the earlier turns of its conversation, stores what it has
computed, may read a document, and reads its own entry again while it decodes. Each entry moved is a
step of its own. Every request is a `user` of its own in the rows: none waits for another, but
through the slots that they share.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..errors import JobError
from ..io_core.blocks import BLOCK_BYTES
from ..io_core.operations import LOAD, STORE, Stream
from .models import Model
from .planning import (
    BLOCK_ROWS,
    DECODE_REREAD,
    DEMOTION,
    MISS_REWRITE,
    MULTI_TURN,
    PREFILL,
    PREFIX,
    PURPOSE_NAMES,
    RAG,
    SEGMENT_LIMIT_BYTES,
    Counts,
    Files,
    Item,
    Rows,
    Slots,
    raw_words,
    slots_per_file,
    uniform,
    whole_blocks,
)
from .v3_rag import Chosen, Documents, Retrieval
from .v3_tiers import IN_MEMORY, Tiers
from .v3_users import LARGEST_CONTEXT_TOKENS, QOS_NAMES, Request, Users

GENERATOR = "kvcache-v3/2"

# Requests with as much context are computed here and decoded elsewhere.
_PREFILL_ONLY_TOKENS = 10000
_TURNS_MAX = 50
_LIVE_CONVERSATIONS_MAX = 1000
# Tokens decoded between two reads of the request's own entry.
_DECODE_BATCH = 32
# Entries that a decode-only run finds: so many for each user, with so many tokens.
_FILLED_PER_USER = 10
_FILLED_TOKENS = 2048
# What is loaded and what is stored, by purpose.
_LOADED = (PREFIX, MULTI_TURN, RAG, DECODE_REREAD)
_STORED = (PREFILL, MISS_REWRITE, DEMOTION)
# Stream of random numbers of each user, besides those of v3_users.
_PICKS = 7

DEVIATIONS = (
    "The plan is made in advance and in logical time: which entries are cached, hit or evicted"
    " follows from the order of arrivals, never from the storage's speed.",
    "A read of an earlier turn waits for that turn's store; upstream counts a miss when the store"
    " is still queued.",
    "Earlier turns are those with smaller turn numbers; upstream may also ask for later ones.",
    "Requests start in the order of their arrival; upstream lets higher priorities pass.",
    "Every quantity of a user is drawn from a stream of its own, keyed by seed + rank; upstream"
    " shares one generator between threads and does not reproduce.",
    "An entry takes whole slots of a preallocated file instead of a file of its own, and is moved"
    " in one operation for each slot; rows of one entry may be in flight together.",
    "Nothing is written by a lookup of a system prompt, as upstream, but it is reported as a miss,"
    " never as a hit or as bytes saved.",
    "Reads of the request's own entry are reported apart from reuse, which the headline hit rate"
    " counts alone.",
    "An entry demoted from memory counts as just used in storage; upstream keeps its age.",
    "The limit of 1000 live conversations counts those that have ended as well; one that is"
    " dropped is not continued.",
    "With RAG, the documents are in the cache before the start; upstream stores them while the run"
    " goes on. The request that RAG adds reads its entry and looks up no system prompt.",
    "The tier in memory is only counted: its reads and writes take no time and no memory.",
    "Storage holds capacity_gib, not 95 % of what is free, and always makes room for an entry;"
    " upstream gives up after some number of evictions and then writes beyond its limit.",
    "Simulated generation time is left out: the generation mode is none.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class V3Parameters:
    """What the plan of one rank depends on.

    `seed` is the same on all ranks. `cpu_cache_gib` is the tier in memory, which causes no I/O;
    `capacity_gib` is what the rank's files hold. `tensor_parallel` divides the bytes of entries.
    `context_tokens_max` cuts contexts, for storage too small for the workload's own. Arrivals are
    divided by `speedup`; with None requests are served as fast as that goes, in the same order.
    """

    model: Model
    users: int
    seed: int
    rank: int
    capacity_gib: float
    cpu_cache_gib: float = 0.0
    slot_bytes: int = 4 * 2**20
    tensor_parallel: int = 1
    multi_turn: bool = True
    rag: bool = False
    rag_documents: int = 10
    prefill_only: bool = False
    decode_only: bool = False
    context_tokens_max: int = LARGEST_CONTEXT_TOKENS
    speedup: float | None = None

    @property
    def slots(self) -> int:
        """Places of the rank's files."""
        return int(self.capacity_gib * 2**30) // self.slot_bytes

    @property
    def memory_bytes(self) -> int:
        """Size of the tier in memory."""
        return int(self.cpu_cache_gib * 2**30)

    @property
    def largest_tokens(self) -> int:
        """Tokens of the largest entry that is ever cached."""
        if self.decode_only:
            return _FILLED_TOKENS
        # A request that RAG adds may store all chunks that it has retrieved.
        retrieved = Documents.RETRIEVED_TOKENS_MAX if self.rag else 0
        return max(min(self.context_tokens_max, LARGEST_CONTEXT_TOKENS), retrieved)

    def entry_bytes(self, tokens: int) -> int:
        """Bytes that the rank keeps of so many tokens."""
        return self.model.entry_bytes(tokens, self.tensor_parallel)

    def tail_bytes(self, tokens: int) -> int:
        """Bytes in the last slot of an entry of so many tokens, in whole blocks."""
        return whole_blocks((self.entry_bytes(tokens) - 1) % self.slot_bytes + 1)

    def check(self) -> None:
        """Raises JobError for what cannot be planned."""
        for name in ("users", "tensor_parallel", "context_tokens_max", "rag_documents"):
            if getattr(self, name) < 1:
                raise JobError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.slot_bytes % BLOCK_BYTES or not 0 < self.slot_bytes <= SEGMENT_LIMIT_BYTES:
            raise JobError(
                f"slot_bytes must be a multiple of {BLOCK_BYTES} up to {SEGMENT_LIMIT_BYTES},"
                f" got {self.slot_bytes}"
            )
        if self.prefill_only and self.decode_only:
            raise JobError("prefill_only and decode_only exclude each other")
        if self.cpu_cache_gib < 0:
            raise JobError(f"cpu_cache_gib must not be negative, got {self.cpu_cache_gib}")
        if self.entry_bytes(1) < 1:
            raise JobError(f"tensor_parallel {self.tensor_parallel} leaves nothing of a token")
        self._check_capacity()

    def _check_capacity(self) -> None:
        largest = self.entry_bytes(self.largest_tokens)
        if -(-largest // self.slot_bytes) > self.slots:
            raise JobError(
                f"capacity_gib {self.capacity_gib:g} cannot hold the largest entry:"
                f" {self.largest_tokens} tokens x {self.entry_bytes(1)} bytes"
                f" = {largest / 2**30:.3g} GiB; raise capacity_gib or lower context_tokens_max"
            )


@dataclass(slots=True, kw_only=True)
class _Counters:
    """What has been planned so far; lists are indexed by purpose or QoS class."""

    requests: int = 0
    qos_requests: list[int] = field(default_factory=lambda: [0] * len(QOS_NAMES))
    conversations: int = 0
    prefill_tokens: int = 0
    generated_tokens: int = 0
    hits: list[int] = field(default_factory=lambda: [0] * len(PURPOSE_NAMES))
    hit_tokens: list[int] = field(default_factory=lambda: [0] * len(PURPOSE_NAMES))
    misses: list[int] = field(default_factory=lambda: [0] * len(PURPOSE_NAMES))
    stores: list[int] = field(default_factory=lambda: [0] * len(PURPOSE_NAMES))
    memory_bytes: list[int] = field(default_factory=lambda: [0] * len(PURPOSE_NAMES))
    storage_bytes: list[int] = field(default_factory=lambda: [0] * len(PURPOSE_NAMES))


class V3Plan:
    """The plan of one rank; implements RankPlan. Raises JobError for bad parameters."""

    generator = GENERATOR
    gated = True

    def __init__(self, parameters: V3Parameters) -> None:
        parameters.check()
        self.parameters = parameters
        self.slot_bytes = parameters.slot_bytes
        self.files = Files(
            own_slots=parameters.slots, slots_per_file=slots_per_file(parameters.slot_bytes)
        )
        self._run = _Run(parameters)
        if parameters.decode_only and not self._run.found:
            raise JobError(
                "a decode-only run would read nothing from storage:"
                f" all its entries fit into cpu_cache_gib {parameters.cpu_cache_gib:g}"
            )

    def rows(self) -> Stream:
        """Blocks of rows from the plan's start, without end."""
        self._run = _Run(self.parameters)
        return self._run.rows()

    def cached_rows(self) -> Stream:
        """Stores of version 0 into what the plan finds in storage."""
        places = Rows(
            slots=self.parameters.slots, slot_bytes=self.slot_bytes, rank=self.parameters.rank
        )
        for slots, tokens in _Run(self.parameters).found.values():
            lengths = np.full(len(slots), self.slot_bytes)
            lengths[-1] = self.parameters.tail_bytes(tokens)
            yield places.initial(slots, lengths)

    def counts(self) -> Counts:
        """Counters of the stream begun last; bytes are those of entries, before rounding up."""
        return self._run.counts()

    def ratios(self, counts: Counts) -> dict[str, tuple[int, int]]:
        """Lookups that hit: without and with reads of the request's own entry.

        Only the former are reuse: an own entry was stored a moment before.
        """
        own = PURPOSE_NAMES[DECODE_REREAD]
        hits, misses = counts.get("hits", 0), counts.get("misses", 0)
        own_hits, own_misses = counts.get(f"hits_{own}", 0), counts.get(f"misses_{own}", 0)
        return {
            "hit_rate": (hits - own_hits, hits - own_hits + misses - own_misses),
            "hit_rate_with_rereads": (hits, hits + misses),
        }


class _Conversation(NamedTuple):
    """A conversation's number, and the tokens of each of its turns so far."""

    number: int
    turns: list[int]


class _Run:
    """One pass over the plan from its start."""

    def __init__(self, parameters: V3Parameters) -> None:
        self._parameters = parameters
        self._rows = Rows(
            slots=parameters.slots, slot_bytes=parameters.slot_bytes, rank=parameters.rank
        )
        self._tiers = Tiers(
            memory_bytes=parameters.memory_bytes,
            slots=parameters.slots,
            slot_bytes=parameters.slot_bytes,
            entry_bytes=parameters.entry_bytes,
        )
        self._counters = _Counters()
        # Conversations by number, from the least recently continued; and each user's last one.
        self._live: OrderedDict[int, _Conversation] = OrderedDict()
        self._last: dict[int, int] = {}
        self._documents = Documents(
            seed=parameters.seed,
            rank=parameters.rank,
            model=parameters.model,
            count=parameters.rag_documents if parameters.rag else 0,
        )
        self._added_tokens: dict[int, int] = {}
        # What the plan finds in storage: slots and tokens by key.
        self.found: dict[Hashable, tuple[Slots, int]] = {}
        self._step = 0
        self._arrival_ns = 0
        self._generated_tokens = 0
        self._find_cached()

    def rows(self) -> Stream:
        """Blocks of rows, without end."""
        parameters = self._parameters
        users = Users(
            seed=parameters.seed,
            rank=parameters.rank,
            count=parameters.users,
            context_tokens_max=parameters.context_tokens_max,
        )
        for request in users.requests():
            self._plan(request)
            if self._rows.held >= BLOCK_ROWS:
                yield self._rows.take()

    def counts(self) -> dict[str, int]:
        """All counters by name."""
        counters, storage = self._counters, self._tiers.storage
        counts = {
            "requests": counters.requests,
            "conversations": counters.conversations,
            "prefill_tokens": counters.prefill_tokens,
            "generated_tokens": counters.generated_tokens,
            "hits": sum(counters.hits),
            "misses": sum(counters.misses),
            "evicted_entries": storage.evicted_entries,
            "evicted_slots": storage.evicted_slots,
        }
        for qos, name in enumerate(QOS_NAMES):
            counts[f"requests_{name}"] = counters.qos_requests[qos]
        for purpose in _LOADED:
            name = PURPOSE_NAMES[purpose]
            counts[f"hits_{name}"] = counters.hits[purpose]
            counts[f"hit_tokens_{name}"] = counters.hit_tokens[purpose]
            counts[f"misses_{name}"] = counters.misses[purpose]
        for purpose in _STORED:
            counts[f"stores_{PURPOSE_NAMES[purpose]}"] = counters.stores[purpose]
        for tier, by_purpose in (
            ("memory", counters.memory_bytes),
            ("storage", counters.storage_bytes),
        ):
            counts[f"{tier}_read_bytes"] = sum(by_purpose[purpose] for purpose in _LOADED)
            counts[f"{tier}_written_bytes"] = sum(by_purpose[purpose] for purpose in _STORED)
            for purpose in (*_LOADED, *_STORED):
                counts[f"{tier}_bytes_{PURPOSE_NAMES[purpose]}"] = by_purpose[purpose]
        return counts

    def _find_cached(self) -> None:
        """Places what the plan finds cached at its start, without I/O."""
        parameters = self._parameters
        entries: dict[Hashable, int] = {}
        for document, chunks in enumerate(self._documents.chunks):
            for chunk, tokens in enumerate(chunks):
                entries["chunk", document, chunk] = tokens
        if parameters.decode_only:
            for number in range(_FILLED_PER_USER * parameters.users):
                entries["filled", number] = _FILLED_TOKENS
        for key, tokens in entries.items():
            self._tiers.store(key, tokens)
        for key, tokens in entries.items():
            slots = self._tiers.storage.peek(key)
            if slots is not None:
                self.found[key] = (slots, tokens)

    def _plan(self, request: Request) -> None:
        """Plans a request, and the one that retrieval may add to it."""
        parameters, counters = self._parameters, self._counters
        self._begin(request, request.generation_tokens)
        tokens = request.context_tokens
        if request.prompt_tokens:
            # Nothing ever stores these prompts, so this is a miss without I/O.
            counters.misses[PREFIX] += 1
            tokens = max(1, tokens - request.prompt_tokens)
        key: Hashable
        if parameters.decode_only:
            key, tokens = self._picked(request), _FILLED_TOKENS
        else:
            key = self._earlier_turns(request, tokens)
            self._store(key, tokens, PREFILL)
            counters.prefill_tokens += tokens
        retrieval = self._retrieval(request)
        if retrieval.read is not None:
            self._read_chunks(retrieval.read)
        # The rule goes by the context that was asked for, prompt included.
        if request.context_tokens < _PREFILL_ONLY_TOKENS and not parameters.prefill_only:
            self._decode(key, tokens, request.generation_tokens)
        if retrieval.added is not None and not parameters.prefill_only:
            self._plan_added(request, retrieval.added, retrieval.generated_tokens)

    def _plan_added(self, request: Request, chosen: Chosen, generated_tokens: int) -> None:
        """Plans the request that decodes with retrieved chunks, under the document's own key."""
        self._begin(request, generated_tokens)
        chunks = self._documents.chunks[chosen.document]
        # As long as it is cached an entry has the tokens that it was stored with.
        stored = self._added_tokens.get(chosen.document, 0)
        key = ("document", chosen.document)
        if stored and self._decode(key, stored, generated_tokens):
            return
        if not stored:
            self._counters.misses[DECODE_REREAD] += 1
        tokens = sum(chunks[chunk] for chunk in chosen.chunks)
        self._added_tokens[chosen.document] = tokens
        if not self._parameters.decode_only:
            self._store(key, tokens, MISS_REWRITE)

    def _begin(self, request: Request, generated_tokens: int) -> None:
        counters = self._counters
        counters.requests += 1
        counters.qos_requests[request.qos] += 1
        counters.generated_tokens += generated_tokens
        speedup = self._parameters.speedup
        # Not before the first nanosecond: 0 stands for no time at all.
        self._arrival_ns = max(1, int(request.arrival_ns / speedup)) if speedup else 0
        # Those of a request that memory served alone count with the next one that has rows.
        self._generated_tokens = generated_tokens + (0 if self._step else self._generated_tokens)
        self._step = 0

    def _earlier_turns(self, request: Request, tokens: int) -> Hashable:
        """Reads all earlier turns of the request's conversation; the key of its own turn."""
        if not self._parameters.multi_turn:
            return ("request", self._counters.requests)
        conversation = self._conversation(request)
        for turn, of_turn in enumerate(conversation.turns):
            self._read((conversation.number, turn), of_turn, MULTI_TURN)
        conversation.turns.append(tokens)
        return (conversation.number, len(conversation.turns) - 1)

    def _conversation(self, request: Request) -> _Conversation:
        """The user's last conversation if it goes on, or a new one."""
        last = self._live.get(self._last.get(request.user, -1))
        if last is not None and request.continues and len(last.turns) < _TURNS_MAX:
            self._live.move_to_end(last.number)
            return last
        conversation = _Conversation(self._counters.conversations, [])
        self._counters.conversations += 1
        self._live[conversation.number] = conversation
        self._last[request.user] = conversation.number
        if len(self._live) > _LIVE_CONVERSATIONS_MAX:
            self._live.popitem(last=False)
        return conversation

    def _picked(self, request: Request) -> Hashable:
        """An entry that a decode-only run finds, any with equal odds."""
        parameters = self._parameters
        word = raw_words(
            seed=parameters.seed,
            rank=parameters.rank,
            stream=_PICKS,
            user=request.user,
            first=4 * request.nth,
            count=1,
        )
        return ("filled", int(uniform(word, 0, _FILLED_PER_USER * parameters.users - 1)[0]))

    def _retrieval(self, request: Request) -> Retrieval:
        if not self._parameters.rag:
            return Retrieval(read=None, added=None, generated_tokens=0)
        return self._documents.retrieval(request.user, request.nth)

    def _read_chunks(self, chosen: Chosen) -> None:
        chunks = self._documents.chunks[chosen.document]
        for chunk in chosen.chunks:
            self._read(("chunk", chosen.document, chunk), chunks[chunk], RAG)

    def _decode(self, key: Hashable, tokens: int, generated_tokens: int) -> bool:
        """Reads the request's own entry, and again for each batch of tokens that it generates."""
        again = max(1, -(-generated_tokens // _DECODE_BATCH))
        return self._read(key, tokens, DECODE_REREAD, again=again)

    def _read(self, key: Hashable, tokens: int, purpose: int, again: int = 0) -> bool:
        """Reads an entry once, and if that hits, so many times again; whether it hits."""
        counters = self._counters
        slots = self._tiers.read(key)
        if slots is None:
            counters.misses[purpose] += 1
            return False
        times = 1 + again
        counters.hits[purpose] += times
        counters.hit_tokens[purpose] += times * tokens
        for _ in range(times):
            self._move(slots, tokens, LOAD, purpose)
        return True

    def _store(self, key: Hashable, tokens: int, purpose: int) -> None:
        """Stores a new entry, after what memory demotes for it."""
        counters = self._counters
        placement = self._tiers.store(key, tokens)
        for demoted in placement.demoted:
            counters.stores[DEMOTION] += 1
            self._move(demoted.slots, demoted.tokens, STORE, DEMOTION)
        counters.stores[purpose] += 1
        self._move(placement.slots, tokens, STORE, purpose)

    def _move(self, slots: Slots, tokens: int, kind: int, purpose: int) -> None:
        """Adds the rows of one step: all slots of an entry; none for an entry in memory."""
        counters = self._counters
        if slots is IN_MEMORY:
            counters.memory_bytes[purpose] += self._parameters.entry_bytes(tokens)
            return
        counters.storage_bytes[purpose] += self._parameters.entry_bytes(tokens)
        # Requests count from 0; what would not fit the column begins anew.
        user = (counters.requests - 1) % 2**32
        tail_bytes = self._parameters.tail_bytes(tokens)
        self._rows.add(
            Item(
                slots,
                tail_bytes,
                user,
                0,
                self._step,
                kind,
                purpose,
                self._arrival_ns,
                self._generated_tokens,
            )
        )
        self._step += 1
