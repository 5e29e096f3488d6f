"""The two tiers of the v3.0 workload in logical time: memory in front, storage behind.

A new entry goes to memory if it can, and there the least recently used ones make room: they are
demoted to storage. From storage the least recently used are deleted. A read moves nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np

from .planning import SlotCache, Slots

# Shares of the memory tier in percent: filled up to this; larger entries never enter; emptier than
# this takes any other; a large entry does not empty a tier that holds little.
_TARGET = 80
_LARGEST = 95
_NEARLY_EMPTY = 5
_LITTLE = 20
_LARGE = 40

IN_MEMORY: Slots = np.empty(0, dtype=np.int64)


class Stored(NamedTuple):
    """An entry and its places in storage."""

    tokens: int
    slots: Slots


class Placement(NamedTuple):
    """What storing an entry takes: stores of demoted ones, then its own, IN_MEMORY if there."""

    demoted: list[Stored]
    slots: Slots


class Tiers:
    """Which entries are where. `entry_bytes` gives the size of an entry of so many tokens."""

    def __init__(
        self, *, memory_bytes: int, slots: int, slot_bytes: int, entry_bytes: Callable[[int], int]
    ) -> None:
        self.storage = SlotCache(slots)
        self.memory_used_bytes = 0
        self._memory_bytes = memory_bytes
        self._slot_bytes = slot_bytes
        self._entry_bytes = entry_bytes
        # From the least to the most recently used, with their tokens.
        self._memory: OrderedDict[Hashable, int] = OrderedDict()

    def read(self, key: Hashable) -> Slots | None:
        """Where an entry is, IN_MEMORY or its slots; None if it is cached nowhere."""
        if key in self._memory:
            self._memory.move_to_end(key)
            return IN_MEMORY
        return self.storage.lookup(key)

    def store(self, key: Hashable, tokens: int) -> Placement:
        """Places an entry that is not cached; storage must be able to hold it."""
        size_bytes = self._entry_bytes(tokens)
        demoted: list[Stored] = []
        if self._make_room(size_bytes, demoted):
            self._memory[key] = tokens
            self.memory_used_bytes += size_bytes
            return Placement(demoted, IN_MEMORY)
        return Placement(demoted, self._to_storage(key, size_bytes))

    def _make_room(self, size_bytes: int, demoted: list[Stored]) -> bool:
        """Demotes until an entry fits into memory; False if it belongs into storage."""
        if 100 * size_bytes > _LARGEST * self._memory_bytes:
            return False
        if self._fits(size_bytes):
            return True
        little = 100 * self.memory_used_bytes < _LITTLE * self._memory_bytes
        if little and 100 * size_bytes > _LARGE * self._memory_bytes:
            return False
        while not self._fits(size_bytes):
            demoted.append(self._demote())
        return True

    def _fits(self, size_bytes: int) -> bool:
        filled_bytes = 100 * (self.memory_used_bytes + size_bytes)
        nearly_empty = 100 * self.memory_used_bytes < _NEARLY_EMPTY * self._memory_bytes
        return nearly_empty or filled_bytes <= _TARGET * self._memory_bytes

    def _demote(self) -> Stored:
        key, tokens = self._memory.popitem(last=False)
        size_bytes = self._entry_bytes(tokens)
        self.memory_used_bytes -= size_bytes
        return Stored(tokens, self._to_storage(key, size_bytes))

    def _to_storage(self, key: Hashable, size_bytes: int) -> Slots:
        # Nothing is pinned: gates keep a reused slot's rows apart.
        self.storage.begin()
        slots = self.storage.insert(key, -(-size_bytes // self._slot_bytes))
        assert slots is not None, "the storage tier can hold the largest entry"
        return slots
