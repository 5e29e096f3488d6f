"""The plan: which operations each user issues, in which order. No clock, no storage, no end.

A user holds one conversation at a time. Each turn loads all that the conversation has cached and
stores the chunks that the turn adds. A conversation ends by chance or when the user's slots are
full; the next one fills them from the start. Conversation k stores version k + 1; version 0 is what
was there before, of which the first conversation finds a prompt's worth cached.

In the plan users follow one another, a turn each, round after round. A shard's stream is this order
less the users of other shards, so it is the same for each user whatever the number of shards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..io_core.operations import LOAD, OPERATION, STORE, Operations, Stream
from .layout import Layout
from .workload import Workload

GENERATOR = "kvcache-turns/2"
HASHED_OPERATIONS = 16384
# Purposes of operations.
PREFIX = 0
PREFILL = 1

# Streams of random numbers of each user.
_SIZES = 1
_CONTINUES = 2
# Draws made at a time, a multiple of the four words that Philox makes from one counter.
_DRAWS = 16
# A block of the stream is closed when it holds this many operations: enough to make the planner's
# share of the time small, few enough to keep memory small.
_BLOCK_OPERATIONS = 256

Slots = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Turn:
    """One request: slots below `cached` are loaded, the next `added` ones are stored.

    Of the loaded ones those below `warm` hold version 0, all others the conversation's.
    """

    conversation: int
    cached: int
    added: int
    warm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """The plan of one rank; equal fields give equal operations."""

    workload: Workload
    layout: Layout
    seed: int
    rank: int

    def turns(self, user: int) -> Iterator[Turn]:
        """The user's turns, without end."""
        workload = self.workload
        slots = workload.chunks_per_user
        sizes = self._sizes(user)
        continues = self._draws(_CONTINUES, user)
        # The odds on the scale of a 64-bit draw.
        goes_on_below = round(workload.continue_probability * 2**64)
        warm = cached = min(next(sizes), slots - 1)
        conversation = 0
        while True:
            added = min(next(sizes), slots - cached)
            yield Turn(conversation, cached, added, warm if conversation == 0 else 0)
            cached += added
            if cached == slots or next(continues) >= goes_on_below:
                conversation += 1
                cached = 0

    def stream(self, shard: int, shards: int) -> Stream:
        """A shard's operations in blocks, without end."""
        users = range(shard, self.workload.users, shards)
        turns = [self.turns(user) for user in users]
        request = 0
        block: list[Operations] = []
        held = 0
        while True:
            for user, of_user in zip(users, turns, strict=True):
                rows = self.operations(user, request, next(of_user))
                block.append(rows)
                held += len(rows)
                if held >= _BLOCK_OPERATIONS:
                    yield np.concatenate(block)
                    block, held = [], 0
            request += 1

    def operations(self, user: int, request: int, turn: Turn) -> Operations:
        """The operations of one turn, loads first."""
        slots = np.arange(turn.cached + turn.added)
        rows = self._at(user, slots)
        rows["request"] = request
        rows["version"] = turn.conversation + 1
        rows["version"][: turn.warm] = 0
        rows["kind"][: turn.cached] = LOAD
        rows["kind"][turn.cached :] = STORE
        # What a turn adds is computed from what it has loaded.
        rows["step"][turn.cached :] = 1
        rows["purpose"][: turn.cached] = PREFIX
        rows["purpose"][turn.cached :] = PREFILL
        rows["closes"][-1] = 1
        return rows

    def fill(self, shard: int, shards: int) -> Stream:
        """Stores of version 0 into every slot, dealt to the shards in turn."""
        return self._stores(range(shard, self.workload.users, shards), warm_only=False)

    def warm(self, shard: int, shards: int) -> Stream:
        """Stores of version 0 into the slots that first conversations find cached."""
        return self._stores(range(shard, self.workload.users, shards), warm_only=True)

    def warm_slots(self) -> int:
        """Slots that first conversations find cached, over all users."""
        return sum(next(self.turns(user)).warm for user in range(self.workload.users))

    def sha256(self) -> str:
        """SHA-256 over the first operations in the plan's order, 64 hex digits."""
        digest = hashlib.sha256()
        left = HASHED_OPERATIONS
        for block in self.stream(0, 1):
            digest.update(block[:left].tobytes())
            left -= min(len(block), left)
            if left == 0:
                break
        return digest.hexdigest()

    def _stores(self, users: Iterable[int], *, warm_only: bool) -> Stream:
        for user in users:
            count = next(self.turns(user)).warm if warm_only else self.workload.chunks_per_user
            for first in range(0, count, _BLOCK_OPERATIONS):
                rows = self._at(user, np.arange(first, min(first + _BLOCK_OPERATIONS, count)))
                rows["kind"] = STORE
                rows["purpose"] = PREFILL
                yield rows

    def _at(self, user: int, slots: Slots) -> Operations:
        """Rows for slots of a user: place, length, chunk and user are set, all else is 0."""
        rows: Operations = np.zeros(len(slots), dtype=OPERATION)
        index = user * self.workload.chunks_per_user + slots
        segment, within = np.divmod(index, self.layout.slots_per_segment)
        rows["file"] = segment
        rows["offset"] = within * self.layout.slot_bytes
        rows["length"] = self.layout.slot_bytes
        rows["chunk"] = self.rank * self.workload.slots + index
        rows["user"] = user
        return rows

    def _sizes(self, user: int) -> Iterator[int]:
        """Chunks of a prompt, uniform from 1 to `turn_chunks_max`."""
        most = self.workload.turn_chunks_max
        for draw in self._draws(_SIZES, user):
            yield 1 + (draw * most >> 64)

    def _draws(self, stream: int, user: int) -> Iterator[int]:
        """Uniform 64-bit numbers of a user's stream, without end.

        Raw words, because numpy keeps those the same for ever, but not what it derives from them.
        A new generator for each few draws: kept ones would be kilobytes for each of many users.
        """
        key = np.array([(self.seed + self.rank) % 2**64, stream << 32 | user], dtype=np.uint64)
        counter = 0
        while True:
            generator = np.random.Philox(key=key, counter=counter)
            yield from generator.random_raw(_DRAWS).tolist()
            counter += _DRAWS // 4
