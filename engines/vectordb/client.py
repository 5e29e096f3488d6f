"""A client: asks one request after the other, as soon as it can or when they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..errors import EngineError
from ..io_core.control import Control
from .answers import Answers, wrapped
from .backend import Vectors
from .tally import Tally

# A sleep ends late by about as much: the rest of the time is waited for awake.
_AWAKE_NS = 100_000
# The longest sleep between two looks at whether to stop.
_NAP_NS = 50_000_000
_ENDLESS = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What a client asks: batches of queries for the k nearest, so many queries or without end.

    A request that takes longer than `limit_ns`, from its arrival in an open loop, is late. More
    than `failures_most` failures end it all. `arrivals` are ns from the start, None in a closed
    loop.
    """

    backend: str
    k: int
    batch_size: int
    queries: int | None
    limit_ns: int
    failures_most: int
    arrivals: Iterator[int] | None = None


class Client:
    """Asks the queries of a rank in turn, from the first on again after the last."""

    def __init__(
        self,
        search: Callable[[Vectors, int], object],
        queries: Vectors,
        answers: Answers,
        requests: Requests,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`search` is a reader's; what it raises is a failure, as is an answer without its form."""
        self.tally = Tally(requests.limit_ns)
        self._search = search
        self._count = len(queries)
        self._queries = wrapped(queries, requests.batch_size - 1)
        self._answers = answers
        self._requests = requests
        self._clock = clock
        self._sleep = sleep
        self._at = 0
        self._left = _ENDLESS if requests.queries is None else requests.queries
        self._failures = 0

    def work(self, control: Control) -> None:
        """Asks until the window of a phase ends, or all is asked, or it is to stop."""
        self.tally.begin(control)
        try:
            if self._count == 0:
                return
            if self._requests.arrivals is None:
                self._ask_again_and_again(control)
            else:
                self._ask_what_arrives(control, self._requests.arrivals)
        finally:
            self.tally.end()

    def ask_the_rest(self, control: Control) -> None:
        """Asks, outside the window, for what has no answer yet. What fails here has none at all."""
        for query in self._answers.unanswered():
            if control.stopped:
                return
            try:
                answer = self._search(self._queries[query : query + 1], self._requests.k)
                self._answers.take(query, 1, answer)
            except Exception as error:  # code of others may raise anything
                self._fail(error, control)
            control.done += 1

    def _ask_again_and_again(self, control: Control) -> None:
        clock, end_ns = self._clock, control.end_ns
        while not control.stopped and self._left and (begun_ns := clock()) < end_ns:
            self._ask(begun_ns, begun_ns, control)

    def _ask_what_arrives(self, control: Control, arrivals: Iterator[int]) -> None:
        counts, start_ns, end_ns = self.tally.counts, control.start_ns, control.end_ns
        for arrival_ns in arrivals:
            due_ns = start_ns + arrival_ns
            if due_ns >= end_ns or not self._left:
                return
            begun_ns = self._wait_for(due_ns, control)
            if control.stopped:
                return
            counts.arrivals += 1
            if begun_ns >= end_ns:
                counts.unserved = 1 + _before(end_ns - start_ns, arrivals)
                counts.arrivals += counts.unserved - 1
                return
            counts.lag_ns = max(counts.lag_ns, begun_ns - due_ns)
            self._ask(due_ns, begun_ns, control)

    def _wait_for(self, due_ns: int, control: Control) -> int:
        """The moment after which a request is due, or at which all is to stop."""
        while (left_ns := due_ns - (now_ns := self._clock())) > 0 and not control.stopped:
            if left_ns > _AWAKE_NS:
                self._sleep(min(left_ns - _AWAKE_NS, _NAP_NS) / 1e9)
        return now_ns

    def _ask(self, due_ns: int, begun_ns: int, control: Control) -> None:
        at, count = self._at, min(self._requests.batch_size, self._left)
        self._at = (at + count) % self._count
        self._left -= count
        self.tally.counts.asked += count
        try:
            answer = self._search(self._queries[at : at + count], self._requests.k)
            ended_ns = self._clock()
            self._answers.take(at, count, answer)
        except Exception as error:  # code of others may raise anything
            counts = self.tally.counts
            counts.failed += 1
            counts.first_failure = counts.first_failure or words_of(error)
            self._fail(error, control)
        else:
            self.tally.answered(due_ns, begun_ns, ended_ns, count)
            control.done += count

    def _fail(self, error: Exception, control: Control) -> None:
        self._failures += 1
        if self._failures > self._requests.failures_most:
            control.fail(failures_text(self._requests, self._failures, words_of(error)))


def words_of(error: Exception) -> str:
    """An error in words: those of code of others are told with their type."""
    return str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"


def failures_text(requests: Requests, failures: int, words: str) -> str:
    """Why failures end a stage; `words` are those of one of them."""
    most = requests.failures_most
    if most == 0:
        return f"backend {requests.backend}: a search failed: {words}"
    return (
        f"backend {requests.backend}: {failures} searches failed, more than run.failures_most ="
        f" {most}; one of them: {words}"
    )


def _before(end_ns: int, arrivals: Iterator[int]) -> int:
    """How many arrive before a moment."""
    count = 0
    for arrival_ns in arrivals:
        if arrival_ns >= end_ns:
            break
        count += 1
    return count
