"""The plan of a trace: each request loads the prefix that is cached and stores what is missing.

The prompt is looked up block by block up to the first that is missing: those before it are loaded,
each once and all in one step. Then, in a second step, all blocks that are not cached are stored. A
block that is cached behind a missing one is neither loaded nor stored, it only counts as used.

Where the trace names blocks, only the prompt's are stored, the last one whole: nothing in the trace
could ever ask for the answer's. Where it does not, the whole chunks of prompt and answer are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import EngineError, storage_error
from ..io_core.operations import LOAD, STORE, Stream
from .chunks import Chunks, chunks_within
from .models import Model
from .planning import (
    BLOCK_ROWS,
    MISS_REWRITE,
    PREFILL,
    TRACE,
    BlockCache,
    Counts,
    Files,
    Item,
    Rows,
    prompt_ratios,
    slots_per_file,
)
from .traces import BLOCK_IDS, TOKENS_MAX, TraceRequest, TraceSource, TraceSurvey, replay

GENERATOR = "kvcache-trace/2"
# 2**64 divided by the golden ratio: numbers that follow one another are spread evenly.
_SPREAD = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
_NUMBERS = 2**32
# More than the chunks of one conversation.
_CONVERSATION_KEYS = 4 * TOKENS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceParameters:
    """What a rank's plan of a trace is made from.

    `survey` may be None where only sizes are asked for. `chunk_tokens` is for traces that name no
    blocks, `io_bytes` the most that an operation moves, `capacity_gib` each rank's. Times of the
    trace are divided by `speedup`, 0 leaves them out; `cycles` 0 repeats the trace without end.
    With `users` 0 no request waits for another, else requests are dealt to that many users in turn,
    each of whom has one at a time.
    """

    source: TraceSource
    survey: TraceSurvey | None
    model: Model
    rank: int
    ranks: int
    capacity_gib: float
    io_bytes: int
    chunk_tokens: int = 256
    tensor_parallel: int = 1
    speedup: float = 1.0
    cycles: int = 1
    same_ids: bool = False
    users: int = 0

    @property
    def block_tokens(self) -> int:
        """Tokens of a chunk: the trace's own, where it has them."""
        return self.source.block_tokens if self.source.format == "mooncake" else self.chunk_tokens

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk's keys and values."""
        return self.model.entry_bytes(self.block_tokens, self.tensor_parallel)


class TracePlan:
    """The plan of one rank: of the requests in the trace, those dealt to it."""

    generator = GENERATOR
    gated = True

    def __init__(self, parameters: TraceParameters) -> None:
        """Raises JobError if the capacity holds no chunk."""
        self._parameters = parameters
        self._chunks: Chunks = chunks_within(
            parameters.capacity_gib,
            chunk_bytes=parameters.chunk_bytes,
            io_bytes=parameters.io_bytes,
        )
        self._counts: Counter[str] = Counter()

    @property
    def files(self) -> Files:
        """The rank's files."""
        return Files(own_slots=self._chunks.slots, slots_per_file=slots_per_file(self.slot_bytes))

    @property
    def slot_bytes(self) -> int:
        """Bytes of each."""
        return self._chunks.slot_bytes

    def rows(self) -> Stream:
        """The trace in plan order; raises EngineError for what is wrong with the file."""
        self._check_unchanged()
        parameters, chunks = self._parameters, self._chunks
        counts = self._counts = Counter()
        cache = BlockCache(chunks.count)
        rows = Rows(slots=chunks.slots, slot_bytes=chunks.slot_bytes, rank=parameters.rank)
        for number, request in enumerate(self._own_requests()):
            for item in self._items(request, number, self._serve(request, cache, counts)):
                rows.add(item)
            if rows.held >= BLOCK_ROWS:
                yield chunks.with_lengths(rows.take())
        if rows.held:
            yield chunks.with_lengths(rows.take())

    def cached_rows(self) -> Stream:
        """Nothing: a trace begins with an empty cache."""
        return iter(())

    def counts(self) -> Counts:
        """Requests, tokens, and chunks by what became of them, since `rows` was called."""
        return dict(self._counts)

    def ratios(self, counts: Counts) -> dict[str, tuple[int, int]]:
        """Chunks of prompts that were found, and prompts' tokens that were."""
        return prompt_ratios(counts)

    @property
    def _survey(self) -> TraceSurvey:
        survey = self._parameters.survey
        assert survey is not None, "a trace is surveyed before its requests are planned"
        return survey

    def _check_unchanged(self) -> None:
        path, surveyed = self._parameters.source.path, self._survey.size_bytes
        try:
            size = path.stat().st_size
        except OSError as error:
            raise storage_error(error, "find", path) from error
        if size != surveyed:
            raise EngineError(f"{path} has changed: it has {size} bytes, surveyed were {surveyed}")

    def _own_requests(self) -> Iterator[TraceRequest]:
        """The requests that are dealt to this rank. Every rank reads the whole trace."""
        parameters = self._parameters
        requests = replay(
            parameters.source,
            speedup=parameters.speedup,
            cycles=parameters.cycles,
            same_ids=parameters.same_ids,
        )
        if parameters.ranks == 1:
            return requests
        deal, rank = self._rank_of, parameters.rank
        return (request for n, request in enumerate(requests) if deal(request, n) == rank)

    def _rank_of(self, request: TraceRequest, number: int) -> int:
        """The same rank for requests that can share more than the commonest blocks.

        These every rank has to cache for itself; a request of nothing else is dealt in turn.
        """
        key: int | None = request.conversation
        if request.blocks is not None:
            common = self._survey.common_blocks
            apart = (block for block in request.blocks if block % BLOCK_IDS not in common)
            key = next(apart, None)
        ranks = self._parameters.ranks
        return number % ranks if key is None else (key * _SPREAD & _MASK) * ranks >> 64

    def _serve(
        self, request: TraceRequest, cache: BlockCache, counts: Counter[str]
    ) -> tuple[list[int], list[int], list[int]]:
        """Places of the chunks that a request loads, stores again, and stores for the first time.

        Stored again is what an earlier turn of the conversation has stored; where the trace names
        blocks that is not known, and all stores count as first ones.
        """
        tokens = self._parameters.block_tokens
        keys, prompt = self._keys(request)
        kept = keys[: cache.capacity]
        loaded = cache.prefix(kept[:prompt])
        rest = kept[len(loaded) :]
        missing = cache.missing(rest)
        stored: list[int] = []
        if missing:
            if len(missing) < len(rest):
                # What was used last is evicted last, so none of the request's own.
                absent = set(missing)
                cache.touch([key for key in rest if key not in absent])
            stored = cache.admit(missing)
            if len(missing) < len(kept):
                # Evicted from its end, as all prefixes are.
                cache.touch(kept)
        known = request.history_tokens // tokens
        again = sum(key < keys[0] + known for key in missing) if known else 0
        counts["requests"] += 1
        counts["prompt_tokens"] += request.input_tokens
        counts["generated_tokens"] += request.output_tokens
        counts["lookups"] += prompt
        counts["hits"] += len(loaded)
        counts["misses"] += prompt - len(loaded)
        counts["hit_tokens"] += len(loaded) * tokens
        counts["stores"] += len(missing)
        counts["rewrites"] += again
        counts["cached_beyond_miss"] += len(rest) - len(missing)
        counts["too_large"] += len(keys) - len(kept)
        counts["evicted"] = cache.evicted_entries
        return loaded, stored[:again], stored[again:]

    def _keys(self, request: TraceRequest) -> tuple[Sequence[int], int]:
        """Keys of all chunks of a request, and how many of them, the first ones, are looked up."""
        if request.blocks is not None:
            blocks = request.blocks
            if len(set(blocks)) < len(blocks):
                blocks = tuple(dict.fromkeys(blocks))
            return blocks, len(blocks)
        tokens = self._parameters.block_tokens
        first = request.conversation * _CONVERSATION_KEYS
        whole = (request.input_tokens + request.output_tokens) // tokens
        return range(first, first + whole), request.input_tokens // tokens

    def _items(
        self, request: TraceRequest, number: int, served: tuple[list[int], list[int], list[int]]
    ) -> Iterator[Item]:
        """A request's loads, then its stores in a step of their own."""
        loaded, again, new = served
        user = number % (self._parameters.users or _NUMBERS)
        stores = 1 if loaded else 0
        for places, step, kind, purpose in (
            (loaded, 0, LOAD, TRACE),
            (again, stores, STORE, MISS_REWRITE),
            (new, stores, STORE, PREFILL),
        ):
            if places:
                yield Item(
                    self._chunks.slots_of(places),
                    self._chunks.tail_bytes,
                    user,
                    number % _NUMBERS,
                    step,
                    kind,
                    purpose,
                    request.arrival_ns,
                    request.output_tokens,
                )
