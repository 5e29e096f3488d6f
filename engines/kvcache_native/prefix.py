"""The plan of a realistic workload: chunks found by their content, loaded once, written once.

Every prompt begins with one of some documents, popular by Zipf's law, that all ranks share: each
is written when the files are filled, by the rank that owns it, read by all, and never changed.
What follows belongs to the user: the conversation's earlier turns, which are loaded as far as they
are cached, and what is new. A turn ends with storing the whole chunks of new prompt and answer.

A request that continues takes, of the user's open conversations, the longest that is shorter than
its prompt; one that does not, or finds none, begins another, for the least recently used one.
Each user has a cache of its own, least recently used first out, and there the end of a conversation
before its beginning. It begins as it is after some requests per open conversation.

In the plan users take turns. A user has one request at a time, and no slot is changed by two users:
the order of a user's requests is all the order that the rows need, they have no gates.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import NamedTuple

import numpy as np

from ..errors import JobError
from ..io_core.operations import LOAD, STORE, Operations, Stream
from .chunks import Chunks, chunks_within
from .models import Model
from .planning import (
    BLOCK_ROWS,
    MISS_REWRITE,
    MULTI_TURN,
    PREFILL,
    PREFIX,
    PREFIX_STORE,
    Counts,
    Files,
    Item,
    Rows,
    Slots,
    Words,
    poisson_ns,
    prompt_ratios,
    raw_words,
    slots_per_file,
    ungated,
)
from .traffic import Traffic, Zipf, below

GENERATOR = "kvcache-prefix/2"
# Streams of random numbers.
_REQUESTS = 32
_ARRIVALS = 33
# Words of a request, and requests and arrivals drawn at a time.
_WORDS = 4
_DRAWN_REQUESTS = 16
# Requests before the plan begins, for each conversation that a user may have open.
_EARLIER_REQUESTS = 8
_NUMBERS = 2**32
_NONE: Slots = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixParameters:
    """What a rank's plan is made from.

    `capacity_gib` is each rank's for conversations, parted equally among its `users`; the documents
    are kept besides. `io_bytes` is the most that an operation moves. Requests come to a rank at
    `rate_per_s` on average, with None as fast as they are served.
    """

    model: Model
    traffic: Traffic
    users: int
    seed: int
    rank: int
    ranks: int
    capacity_gib: float
    io_bytes: int
    chunk_tokens: int = 512
    tensor_parallel: int = 1
    shared_prefixes: int = 16
    zipf_exponent: float = 1.0
    rate_per_s: float | None = None


class _Request(NamedTuple):
    input_tokens: int
    output_tokens: int
    continues: bool
    document: int


@dataclass(slots=True, eq=False)
class _Conversation:
    """Its first `shared` chunks are the document's, those that follow are at `places`."""

    document: int
    shared: int
    tokens: int = 0
    places: Slots = field(default_factory=lambda: _NONE)


class _Served(NamedTuple):
    """What becomes of a request: chunks of the document, and places in the user's cache."""

    document: int
    shared: int
    loaded: Slots
    stored_again: Slots
    stored: Slots
    evicted: int  # chunks, for those stored
    too_large: int  # chunks for which the user's cache is too small
    output_tokens: int


class _User:
    """One user's conversations and cache, in logical time."""

    def __init__(self, first_place: int, places: int) -> None:
        self._next_place = first_place
        self._end = first_place + places
        # Both from the least to the most recently used: those that can continue, and those of which
        # something is cached.
        self._open: list[_Conversation] = []
        self._cached: OrderedDict[_Conversation, None] = OrderedDict()

    def serve(
        self, request: _Request, traffic: Traffic, chunk_tokens: int, shared_chunks: int
    ) -> _Served:
        """Finds what is cached of a prompt and makes room for what is new of it and its answer."""
        conversation = self._continued(request)
        if conversation is None:
            shared = min(shared_chunks, request.input_tokens // chunk_tokens)
            conversation = _Conversation(request.document, shared)
            if len(self._open) == traffic.conversations_open:
                del self._open[0]
        else:
            self._open.remove(conversation)
            self._cached.pop(conversation, None)
        self._open.append(conversation)
        loaded = conversation.places
        # Chunks that earlier turns have stored.
        known = conversation.tokens // chunk_tokens - conversation.shared
        conversation.tokens = request.input_tokens + request.output_tokens
        whole = conversation.tokens // chunk_tokens - conversation.shared
        wanted = whole - len(loaded)
        fresh, evicted = self._room(wanted)
        stored = np.concatenate((fresh, *evicted)) if evicted else fresh
        conversation.places = np.concatenate((loaded, stored))
        if len(conversation.places):
            self._cached[conversation] = None
        again = max(0, known - len(loaded))
        return _Served(
            document=conversation.document,
            shared=conversation.shared,
            loaded=loaded,
            stored_again=stored[:again],
            stored=stored[again:],
            evicted=len(stored) - len(fresh),
            too_large=wanted - len(stored),
            output_tokens=request.output_tokens,
        )

    def cached(self) -> Slots:
        """Places that hold something."""
        return np.concatenate([_NONE, *(conversation.places for conversation in self._cached)])

    def _continued(self, request: _Request) -> _Conversation | None:
        found = None
        if request.continues:
            longest = -1
            for conversation in self._open:
                if longest < conversation.tokens < request.input_tokens:
                    found, longest = conversation, conversation.tokens
        return found

    def _room(self, wanted: int) -> tuple[Slots, list[Slots]]:
        """Places never used and places evicted, as many as wanted unless the cache is smaller.

        What is evicted was used before the current conversation, which is not among the others now.
        """
        fresh = np.arange(self._next_place, min(self._next_place + wanted, self._end))
        self._next_place += len(fresh)
        missing = wanted - len(fresh)
        evicted: list[Slots] = []
        while missing and self._cached:
            oldest = next(iter(self._cached))
            kept = max(0, len(oldest.places) - missing)
            evicted.append(oldest.places[kept:])
            missing -= len(oldest.places) - kept
            oldest.places = oldest.places[:kept]
            if not kept:
                del self._cached[oldest]
        return fresh, evicted


class PrefixPlan:
    """The plan of one rank, without end."""

    generator = GENERATOR
    gated = False

    def __init__(self, parameters: PrefixParameters) -> None:
        """Raises JobError if the capacity is too small for the users."""
        self._parameters = parameters
        chunk_bytes = parameters.model.entry_bytes(
            parameters.chunk_tokens, parameters.tensor_parallel
        )
        chunks = chunks_within(
            parameters.capacity_gib, chunk_bytes=chunk_bytes, io_bytes=parameters.io_bytes
        )
        self._user_places = chunks.count // parameters.users
        if self._user_places < 1:
            raise JobError(
                f"capacity_gib {parameters.capacity_gib} holds {chunks.count} chunks,"
                f" fewer than {parameters.users} users"
            )
        self._chunks: Chunks = replace(chunks, count=self._user_places * parameters.users)
        self._shared_chunks = parameters.traffic.shared_prefix_tokens // parameters.chunk_tokens
        self._document_slots = self._shared_chunks * chunks.parts
        self._popularity = Zipf(parameters.shared_prefixes, parameters.zipf_exponent)
        self._counts: Counter[str] = Counter()

    @property
    def slot_bytes(self) -> int:
        """Bytes of each place."""
        return self._chunks.slot_bytes

    @property
    def files(self) -> Files:
        """What the rows' `file` stands for: places of the users, and those of the documents."""
        ranks, documents = self._parameters.ranks, self._parameters.shared_prefixes
        return Files(
            own_slots=self._chunks.slots,
            shared_slots=-(-documents // ranks) * self._document_slots,
            slots_per_file=slots_per_file(self.slot_bytes),
        )

    def rows(self) -> Stream:
        """Requests in plan order."""
        parameters = self._parameters
        counts = self._counts = Counter()
        users, requests = self._begun()
        arrivals = poisson_ns(
            seed=parameters.seed,
            rank=parameters.rank,
            stream=_ARRIVALS,
            rate_per_s=parameters.rate_per_s,
        )
        rows = self._numbered()
        for number in count():
            user = number % parameters.users
            request = next(requests[user])
            served = self._serve(users[user], request)
            self._count(request, served, counts)
            for item in self._items(served, user, number // parameters.users, next(arrivals)):
                rows.add(item)
            if rows.held >= BLOCK_ROWS:
                yield self._placed(rows.take())

    def cached_rows(self) -> Stream:
        """Stores of the rank's documents and of what its users have cached when the plan begins."""
        parameters, chunks = self._parameters, self._chunks
        rows = self._numbered()
        documents = range(parameters.rank, parameters.shared_prefixes, parameters.ranks)
        own = (self._document(document, self._shared_chunks) for document in documents)
        users, _ = self._begun()
        cached = (chunks.slots_of(user.cached()) for user in users)
        for purpose, parts in ((PREFIX_STORE, own), (PREFILL, cached)):
            for slots in parts:
                for first in range(0, len(slots), BLOCK_ROWS):
                    some = slots[first : first + BLOCK_ROWS]
                    block = rows.initial(some, np.full(len(some), chunks.slot_bytes))
                    block["purpose"] = purpose
                    yield self._placed(block)

    def counts(self) -> Counts:
        """Requests, tokens, and chunks by what became of them, since `rows` was called."""
        return dict(self._counts)

    def ratios(self, counts: Counts) -> dict[str, tuple[int, int]]:
        """Chunks of prompts that were found, and prompts' tokens that were."""
        return prompt_ratios(counts)

    def _serve(self, user: _User, request: _Request) -> _Served:
        parameters = self._parameters
        return user.serve(request, parameters.traffic, parameters.chunk_tokens, self._shared_chunks)

    def _begun(self) -> tuple[list[_User], list[Iterator[_Request]]]:
        """The users after their first requests, and the requests that follow."""
        places = self._user_places
        users = [_User(n * places, places) for n in range(self._parameters.users)]
        requests = [self._requests(n) for n in range(self._parameters.users)]
        earlier = _EARLIER_REQUESTS * self._parameters.traffic.conversations_open
        for user, of_user in zip(users, requests, strict=True):
            for request in islice(of_user, earlier):
                self._serve(user, request)
        return users, requests

    def _requests(self, user: int) -> Iterator[_Request]:
        """A user's requests, without end."""
        traffic = self._parameters.traffic
        for words in self._words(_REQUESTS, user, _WORDS * _DRAWN_REQUESTS):
            inputs, outputs, continues, documents = words.reshape(-1, _WORDS).T
            yield from map(
                _Request,
                traffic.input_tokens.draw(inputs).tolist(),
                traffic.output_tokens.draw(outputs).tolist(),
                below(continues, traffic.continue_probability).tolist(),
                self._popularity.draw(documents).tolist(),
            )

    def _words(self, stream: int, user: int, words: int) -> Iterator[Words]:
        seed, rank = self._parameters.seed, self._parameters.rank
        for first in count(0, words):
            yield raw_words(
                seed=seed, rank=rank, stream=stream, user=user, first=first, count=words
            )

    def _items(self, served: _Served, user: int, number: int, arrival_ns: int) -> Iterator[Item]:
        """A request's loads, then its stores in a step of their own."""
        chunks, document, shared = self._chunks, served.document, served.shared
        loaded, again, stored = served.loaded, served.stored_again, served.stored
        request = number % _NUMBERS

        def item(slots: Slots, step: int, kind: int, purpose: int) -> Item:
            return Item(
                slots,
                chunks.tail_bytes,
                user,
                request,
                step,
                kind,
                purpose,
                arrival_ns,
                served.output_tokens,
            )

        if shared:
            yield item(self._document(document, shared), 0, LOAD, PREFIX)
        if len(loaded):
            yield item(chunks.slots_of(loaded), 0, LOAD, MULTI_TURN)
        stores = 1 if shared or len(loaded) else 0
        if len(again):
            yield item(chunks.slots_of(again), stores, STORE, MISS_REWRITE)
        if len(stored):
            yield item(chunks.slots_of(stored), stores, STORE, PREFILL)

    def _document(self, document: int, chunks: int) -> Slots:
        """Slots of the first chunks of a document; all documents follow on the users' slots."""
        first = self._chunks.slots + document * self._document_slots
        return np.arange(first, first + chunks * self._chunks.parts)

    def _numbered(self) -> Rows:
        documents = self._parameters.shared_prefixes * self._document_slots
        return Rows(slots=self._chunks.slots + documents, slot_bytes=self.slot_bytes, rank=0)

    def _placed(self, rows: Operations) -> Operations:
        """Sets what differs from a plan with gates and files of one rank only."""
        rank, ranks = self._parameters.rank, self._parameters.ranks
        files, own_slots = self.files, self._chunks.slots
        self._chunks.with_lengths(ungated(rows))
        rows["chunk"] = rank * files.slots + rows["slot"]
        shared = rows["slot"] >= own_slots
        if not shared.any():
            return rows
        document, within = np.divmod(
            rows["slot"][shared].astype(np.int64) - own_slots, self._document_slots
        )
        owner = document % ranks
        slot = document // ranks * self._document_slots + within
        file, at = np.divmod(slot, files.slots_per_file)
        rows["file"][shared] = files.own + owner * files.shared + file
        rows["offset"][shared] = at * self.slot_bytes
        rows["slot"][shared] = own_slots + slot
        rows["chunk"][shared] = owner * files.slots + own_slots + slot
        return rows

    def _count(self, request: _Request, served: _Served, counts: Counter[str]) -> None:
        tokens = self._parameters.chunk_tokens
        lookups = -(-request.input_tokens // tokens)
        hits = served.shared + len(served.loaded)
        counts["requests"] += 1
        counts["prompt_tokens"] += request.input_tokens
        counts["generated_tokens"] += request.output_tokens
        counts["lookups"] += lookups
        counts["hits"] += hits
        counts["prefix_hits"] += served.shared
        counts["multi_turn_hits"] += len(served.loaded)
        counts["misses"] += lookups - hits
        counts["hit_tokens"] += hits * tokens
        counts["stores"] += len(served.stored_again) + len(served.stored)
        counts["rewrites"] += len(served.stored_again)
        counts["evicted"] += served.evicted
        counts["too_large"] += served.too_large
