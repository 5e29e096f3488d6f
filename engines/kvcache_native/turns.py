"""The plan of conversations by turns: the smallest workload that loads, stores and continues.

A user holds one conversation at a time. Each turn loads all that the conversation has cached and
stores the chunks that the turn adds. A conversation ends by chance or when the user's slots are
full; the next one fills them from the start. The first conversation finds a prompt's worth cached.

In the plan users follow one another, a turn each, round after round. No slot is used by two users,
so the order of a user's requests is all the order that the rows need: they have no gates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np

from ..errors import JobError
from ..io_core.operations import LOAD, STORE, Stream
from .models import Model
from .planning import (
    BLOCK_ROWS,
    PREFILL,
    PREFIX,
    SEGMENT_LIMIT_BYTES,
    Counts,
    Files,
    Item,
    Rows,
    poisson_ns,
    raw_words,
    slots_per_file,
    ungated,
    whole_blocks,
)

GENERATOR = "kvcache-turns/3"
# Streams of random numbers of each user, and of the rank.
_SIZES = 1
_CONTINUES = 2
_ARRIVALS = 3
# Draws made at a time, a multiple of the four words that Philox makes from one counter.
_DRAWS = 64
_NUMBERS = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnsParameters:
    """What a rank's plan is made from; equal values give equal rows.

    Requests come to a rank at `rate_per_s` on average, with None as fast as they are served.
    """

    model: Model
    users: int
    seed: int
    rank: int
    chunk_tokens: int
    chunks_per_user: int
    turn_chunks_max: int
    continue_probability: float
    tensor_parallel: int = 1
    rate_per_s: float | None = None

    @property
    def slots(self) -> int:
        """Chunks that a rank's files hold."""
        return self.users * self.chunks_per_user

    @property
    def slot_bytes(self) -> int:
        """What a chunk takes in a file and in one operation: whole blocks."""
        return whole_blocks(self.model.entry_bytes(self.chunk_tokens, self.tensor_parallel))

    def check(self) -> None:
        """Raises JobError for what cannot be planned."""
        if self.chunks_per_user < 2:
            raise JobError(
                "chunks_per_user must be 2 or more: a cached chunk, and room for a new one"
            )
        if not 0 <= self.continue_probability <= 1:
            raise JobError("continue_probability must lie between 0 and 1")
        if self.slot_bytes > SEGMENT_LIMIT_BYTES:
            raise JobError(
                f"a chunk has {self.slot_bytes} bytes; an operation moves at most"
                f" {SEGMENT_LIMIT_BYTES}: use fewer chunk_tokens"
            )


class Turn(NamedTuple):
    """One request: slots below `cached` are loaded, the next `added` ones are stored."""

    conversation: int
    cached: int
    added: int


class TurnsPlan:
    """The plan of one rank, without end."""

    generator = GENERATOR
    gated = False

    def __init__(self, parameters: TurnsParameters) -> None:
        """Raises JobError for bad parameters."""
        parameters.check()
        self.parameters = parameters
        self.slot_bytes = parameters.slot_bytes
        self.files = Files(
            own_slots=parameters.slots, slots_per_file=slots_per_file(parameters.slot_bytes)
        )
        self._counts = {"requests": 0, "loads": 0, "stores": 0}

    def turns(self, user: int) -> Iterator[Turn]:
        """The user's turns, without end."""
        parameters = self.parameters
        slots = parameters.chunks_per_user
        sizes = self._sizes(user)
        continues = self._draws(_CONTINUES, user)
        # The odds on the scale of a 64-bit draw.
        goes_on_below = round(parameters.continue_probability * 2**64)
        cached = min(next(sizes), slots - 1)
        conversation = 0
        while True:
            added = min(next(sizes), slots - cached)
            yield Turn(conversation, cached, added)
            cached += added
            if cached == slots or next(continues) >= goes_on_below:
                conversation += 1
                cached = 0

    def rows(self) -> Stream:
        """Turns in plan order."""
        parameters = self.parameters
        counts = self._counts = {"requests": 0, "loads": 0, "stores": 0}
        turns = [self.turns(user) for user in range(parameters.users)]
        arrivals = poisson_ns(
            seed=parameters.seed,
            rank=parameters.rank,
            stream=_ARRIVALS,
            rate_per_s=parameters.rate_per_s,
        )
        rows = self._numbered()
        for number in count():
            request, user = divmod(number, parameters.users)
            turn = next(turns[user])
            for item in self._items(user, request % _NUMBERS, turn, next(arrivals)):
                rows.add(item)
            counts["requests"] += 1
            counts["loads"] += turn.cached
            counts["stores"] += turn.added
            if rows.held >= BLOCK_ROWS:
                yield ungated(rows.take())

    def _items(self, user: int, request: int, turn: Turn, arrival_ns: int) -> Iterator[Item]:
        """A turn's loads, then what is computed from them."""
        first = user * self.parameters.chunks_per_user
        cached = first + turn.cached
        tail = self.slot_bytes
        if turn.cached:
            loaded = range(first, cached)
            yield Item(loaded, tail, user, request, 0, LOAD, PREFIX, arrival_ns)
        added = range(cached, cached + turn.added)
        yield Item(added, tail, user, request, 1, STORE, PREFILL, arrival_ns)

    def cached_rows(self) -> Stream:
        """Stores of version 0 into the slots that first conversations find cached."""
        rows = self._numbered()
        for user in range(self.parameters.users):
            first = user * self.parameters.chunks_per_user
            slots = np.arange(first, first + next(self.turns(user)).cached)
            yield rows.initial(slots, np.full(len(slots), self.slot_bytes))

    def counts(self) -> Counts:
        """Requests, and chunks that they load and store, since `rows` was called."""
        return dict(self._counts)

    def ratios(self, counts: Counts) -> dict[str, tuple[int, int]]:
        """None: a user finds all that its conversation has."""
        return {}

    def _numbered(self) -> Rows:
        parameters = self.parameters
        return Rows(slots=parameters.slots, slot_bytes=self.slot_bytes, rank=parameters.rank)

    def _sizes(self, user: int) -> Iterator[int]:
        """Chunks of a prompt, uniform from 1 to `turn_chunks_max`."""
        most = self.parameters.turn_chunks_max
        for draw in self._draws(_SIZES, user):
            yield 1 + (draw * most >> 64)

    def _draws(self, stream: int, user: int) -> Iterator[int]:
        """Uniform 64-bit numbers of a user's stream, without end.

        A new generator for each few draws: kept ones would be kilobytes for each of many users.
        """
        for first in count(0, _DRAWS):
            words = raw_words(
                seed=self.parameters.seed,
                rank=self.parameters.rank,
                stream=stream,
                user=user,
                first=first,
                count=_DRAWS,
            )
            yield from words.tolist()
