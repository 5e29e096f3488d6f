"""Users of the v3.0 workload: who they are, what each of their requests asks for, and when.

Every quantity of a user comes from a stream of random numbers of its own, so neither another user
nor another quantity can change it. Nothing here depends on what is cached.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .planning import Words, raw_words, uniform

# Streams of random numbers of each user.
_ATTRIBUTES = 1
_THINK = 2
_CONTEXT = 3
_GENERATION = 4
_CONTINUES = 5
_PREFIX = 6

# Requests drawn at a time for one user: few enough to keep little for each of many users.
_DRAWN_AHEAD = 16

QOS_NAMES = ("interactive", "responsive", "batch")
_INTERACTIVE_BELOW = 0.15
_RESPONSIVE_BELOW = 0.50
CONTINUE_PROBABILITY = 0.8
_PREFIX_PROBABILITY = 0.2
# Tokens of the fixed system prompts: their words.
PROMPT_TOKENS = (5, 9, 6)


class Span(NamedTuple):
    """The least and the largest value, both possible."""

    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserType:
    """What users of one type draw their own sizes from."""

    name: str
    context_tokens: Span
    generation_tokens: Span
    think_ns: Span


USER_TYPES = (
    UserType(
        name="chatbot",
        context_tokens=Span(512, 4096),
        generation_tokens=Span(50, 200),
        think_ns=Span(100_000_000, 500_000_000),
    ),
    UserType(
        name="coding",
        context_tokens=Span(4096, 25000),
        generation_tokens=Span(100, 500),
        think_ns=Span(200_000_000, 1_000_000_000),
    ),
    UserType(
        name="document",
        context_tokens=Span(4096, 16384),
        generation_tokens=Span(200, 800),
        think_ns=Span(300_000_000, 1_500_000_000),
    ),
)
LARGEST_CONTEXT_TOKENS = max(kind.context_tokens.high for kind in USER_TYPES)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """What is drawn once for each user; `kind` and `qos` index USER_TYPES and QOS_NAMES."""

    number: int
    kind: int
    qos: int
    context_tokens: int
    generation_tokens: int
    think_ns: int


class Request(NamedTuple):
    """One request as its user makes it, the `nth` of this user.

    `continues` says whether it may belong to the user's last conversation; `prompt_tokens` is 0
    where no system prompt is looked up.
    """

    arrival_ns: int
    user: int
    nth: int
    qos: int
    context_tokens: int
    generation_tokens: int
    continues: bool
    prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """All users of one rank. Contexts are cut to `context_tokens_max`."""

    seed: int
    rank: int
    count: int
    context_tokens_max: int = LARGEST_CONTEXT_TOKENS

    def user(self, number: int) -> User:
        """The attributes of a user."""
        words = self._words(_ATTRIBUTES, number, 0, 8)
        kind = int(uniform(words[0:1], 0, len(USER_TYPES) - 1)[0])
        spans = USER_TYPES[kind]
        return User(
            number=number,
            kind=kind,
            qos=_qos(int(words[1])),
            context_tokens=int(uniform(words[2:3], *spans.context_tokens)[0]),
            generation_tokens=int(uniform(words[3:4], *spans.generation_tokens)[0]),
            think_ns=int(uniform(words[4:5], *spans.think_ns)[0]),
        )

    def requests(self) -> Iterator[Request]:
        """Requests of all users by their arrival, those of one time by user; without end."""
        users = [_Generator(self, self.user(number)) for number in range(self.count)]
        following = [user.next() for user in users]
        heapq.heapify(following)
        while True:
            request = following[0]
            yield request
            heapq.heapreplace(following, users[request.user].next())

    def drawn(self, user: User, first: int) -> NDArray[np.int64]:
        """A user's requests from the first-th on, one a row.

        Columns: think time in ns, context tokens, generation tokens, continues, prompt tokens.
        """
        count = _DRAWN_AHEAD
        think, context, generation = user.think_ns, user.context_tokens, user.generation_tokens
        prefix = self._words(_PREFIX, user.number, 2 * first, 2 * count)
        asked = prefix[0::2] < _below(_PREFIX_PROBABILITY)
        prompts = np.array(PROMPT_TOKENS)[uniform(prefix[1::2], 0, len(PROMPT_TOKENS) - 1)]
        contexts = uniform(
            self._words(_CONTEXT, user.number, first, count), max(1, context // 4), context
        )
        return np.stack(
            [
                uniform(
                    self._words(_THINK, user.number, first, count), think * 4 // 5, think * 6 // 5
                ),
                np.minimum(contexts, self.context_tokens_max),
                uniform(
                    self._words(_GENERATION, user.number, first, count),
                    max(1, generation // 4),
                    generation,
                ),
                self._words(_CONTINUES, user.number, first, count) < _below(CONTINUE_PROBABILITY),
                np.where(asked, prompts, 0),
            ],
            axis=1,
        )

    def _words(self, stream: int, user: int, first: int, count: int) -> Words:
        return raw_words(
            seed=self.seed, rank=self.rank, stream=stream, user=user, first=first, count=count
        )


class _Generator:
    """One user's requests, each after its think time, whether or not the ones before are done."""

    __slots__ = ("_arrival_ns", "_drawn", "_nth", "_user", "_users")

    def __init__(self, users: Users, user: User) -> None:
        self._users = users
        self._user = user
        self._arrival_ns = 0
        self._nth = 0
        self._drawn = users.drawn(user, 0)

    def next(self) -> Request:
        """The user's next request."""
        nth = self._nth
        at = nth % _DRAWN_AHEAD
        if at == 0 and nth:
            self._drawn = self._users.drawn(self._user, nth)
        think_ns, context, generation, continues, prompt = self._drawn[at].tolist()
        self._arrival_ns += think_ns
        self._nth = nth + 1
        user = self._user
        return Request(
            self._arrival_ns,
            user.number,
            nth,
            user.qos,
            context,
            generation,
            bool(continues),
            prompt,
        )


def _qos(word: int) -> int:
    return int(word >= _below(_INTERACTIVE_BELOW)) + int(word >= _below(_RESPONSIVE_BELOW))


def _below(probability: float) -> np.uint64:
    """The bound that a uniform 64-bit number stays under with this probability."""
    return np.uint64(round(probability * 2**64))
