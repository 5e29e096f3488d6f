"""Documents of the v3.0 workload's retrieval: their chunks, and which of them requests ask for."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import NamedTuple

from .models import Model
from .planning import raw_words, uniform

# Streams of random numbers: of each user and of each document.
_RETRIEVALS = 8
_SIZES = 9
# Words for one request: two retrievals, and the tokens that the added request generates.
_WORDS = 16

_PROBABILITY = 0.1
_CHUNK_TOKENS = 512
_CHUNK_LIMIT_BYTES = 256 * 2**20
_TOP_CHUNKS = 5
_DOCUMENT_TOKENS = (4000, 12000)
# Models with as many layers have shorter documents. Those with a hidden size of 8192 or more count
# as well; of the models known here these are the same.
_LARGE_MODEL_LAYERS = 64
_LARGE_MODEL_DOCUMENT_TOKENS = (1024, 4096)
_GENERATED_TOKENS = (50, 200)


class Chosen(NamedTuple):
    """Chunks of a document, in the order in which they are read."""

    document: int
    chunks: tuple[int, ...]


class Retrieval(NamedTuple):
    """What retrieval adds to a request: chunks to read, and a request of its own; None if not."""

    read: Chosen | None
    added: Chosen | None
    generated_tokens: int


class Documents:
    """The documents of one rank."""

    RETRIEVED_TOKENS_MAX = _TOP_CHUNKS * _CHUNK_TOKENS

    def __init__(self, *, seed: int, rank: int, model: Model, count: int) -> None:
        self._seed = seed
        self._rank = rank
        large = model.layers >= _LARGE_MODEL_LAYERS
        self._tokens = _LARGE_MODEL_DOCUMENT_TOKENS if large else _DOCUMENT_TOKENS
        self._chunk_tokens = max(1, min(_CHUNK_TOKENS, _CHUNK_LIMIT_BYTES // model.token_bytes))
        self.chunks = [self._chunks(document) for document in range(count)]

    def retrieval(self, user: int, nth: int) -> Retrieval:
        """What is retrieved for the nth request of a user."""
        words = self._words(_RETRIEVALS, user, nth * _WORDS)
        # Seven words for each retrieval: whether, of which document, which chunks.
        return Retrieval(
            read=self._chosen(words[0:7]),
            added=self._chosen(words[7:14]),
            generated_tokens=_GENERATED_TOKENS[0]
            + (words[14] * (_GENERATED_TOKENS[1] - _GENERATED_TOKENS[0] + 1) >> 64),
        )

    def _chosen(self, words: list[int]) -> Chosen | None:
        if words[0] >= round(_PROBABILITY * 2**64):
            return None
        document = words[1] * len(self.chunks) >> 64
        count = len(self.chunks[document])
        return Chosen(document, zipf_sample(words[2 : 2 + min(_TOP_CHUNKS, count)], count))

    def _chunks(self, document: int) -> tuple[int, ...]:
        """Tokens of each chunk of a document; the last one is short."""
        word = raw_words(
            seed=self._seed, rank=self._rank, stream=_SIZES, user=document, first=0, count=1
        )
        tokens = int(uniform(word, *self._tokens)[0])
        whole, rest = divmod(tokens, self._chunk_tokens)
        return (self._chunk_tokens,) * whole + (rest,) * (rest > 0)

    def _words(self, stream: int, user: int, first: int) -> list[int]:
        words: list[int] = raw_words(
            seed=self._seed, rank=self._rank, stream=stream, user=user, first=first, count=_WORDS
        ).tolist()
        return words


def zipf_sample(words: list[int], count: int) -> tuple[int, ...]:
    """One of `count` numbers from 0 for each 64-bit word, none twice: n with a weight 1 / (n + 1).

    The weights are rounded to whole numbers, so that the choice is the same on every machine.
    """
    left = list(range(count))
    chosen = []
    for word in words:
        bounds = list(accumulate(2**32 // (number + 1) for number in left))
        chosen.append(left.pop(bisect_right(bounds, word * bounds[-1] >> 64)))
    return tuple(chosen)
