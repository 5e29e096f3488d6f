"""Request traces: files of gigabytes, read as streams of uniform records in the order of time.

Mooncake  JSON lines: `timestamp` (ms), `input_length`, `output_length` (tokens), `hash_ids`, one
          for each block of the prompt: equal ids are equal prefixes.
BurstGPT  CSV with `Timestamp` (s), `Request tokens`, `Response tokens`. No request continues
          another.
ShareGPT  one JSON list of {id, conversations: [{from, value}, ...]}. It has no times.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
import json
import math
from codecs import BOM_UTF8
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..errors import EngineError, storage_error
from .json_list import json_elements

TraceFormat = Literal["mooncake", "burstgpt", "sharegpt"]

NS_PER_MS = 10**6
NS_PER_S = 10**9
# Longer than any model's context: what is beyond is a mistake in the file.
TOKENS_MAX = 2**24
# Ids are below this, so that a cycle of the replay can add its own number above them.
BLOCK_IDS = 2**48
# Times are below this, a hundred years, so that they fit beside all that is added to them.
_TIME_MAX_NS = 100 * 365 * 86400 * NS_PER_S
_LINE_MAX_BYTES = 2**24
# Requests that may be held back to put them in order.
_WINDOW_REQUESTS = 1024
_LINES_NAMED = 10
_DECODER = json.JSONDecoder()
# A block is common if it is in a hundredth of the first requests, and in 16 of them, or in all.
_SAMPLE_REQUESTS = 16384
_COMMON_SHARE = 100
_COMMON_REQUESTS = 16
# As the v3.0 benchmark cuts the messages of ShareGPT, in tokens.
CONTEXT_TOKENS_MAX = 16384
GENERATION_TOKENS_MAX = 2048


class TraceRequest(NamedTuple):
    """One request. A tuple, because there are millions of them."""

    arrival_ns: int  # since the first request of the trace
    input_tokens: int  # the whole prompt, with earlier turns of its conversation
    output_tokens: int
    conversation: int  # a number of its own for each conversation
    turn: int = 0
    history_tokens: int = 0  # prompt and answer of the turn before: a beginning of this prompt
    blocks: tuple[int, ...] | None = None  # ids of the prompt's blocks, where the trace has them


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSource:
    """A trace file and how it is read.

    `block_tokens` are those of a Mooncake block. ShareGPT has neither times nor an order of
    requests: they come at `rate_per_s` (0: all at once), taken in turn from `conversations_open`
    conversations.
    """

    path: Path
    format: TraceFormat
    block_tokens: int = 512
    broken_lines_max: int = 0
    rate_per_s: float = 0.0
    conversations_open: int = 100


@dataclass(slots=True)
class Findings:
    """What one pass over a trace has met besides good requests."""

    broken_lines: int = 0
    first_broken_lines: list[int] = field(default_factory=list)
    out_of_order: int = 0
    turns_cut: int = 0  # of conversations that had outgrown the context


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSurvey:
    """What a pass over the whole trace has found; `common_blocks` begin many of its prompts."""

    size_bytes: int
    sha256: str
    requests: int
    input_tokens: int
    output_tokens: int
    blocks: int
    duration_ns: int
    broken_lines: int
    first_broken_lines: tuple[int, ...]
    out_of_order: int
    turns_cut: int
    common_blocks: frozenset[int]


def read_trace(source: TraceSource, findings: Findings | None = None) -> Iterator[TraceRequest]:
    """The requests of a trace in order of time; needs the memory of some, not of all.

    Raises EngineError, naming file and line, for what is broken beyond the limit, for times that
    are further out of order than can be sorted, and for a trace without requests.
    """
    findings = findings or Findings()
    broken = _Broken(source, findings)
    empty = True
    for request in _READERS[source.format](source, broken, findings):
        empty = False
        yield request
    if empty:
        found = f", {findings.broken_lines} broken lines" if findings.broken_lines else ""
        raise EngineError(f"{source.path} has no requests in {source.format} format{found}")


def replay(
    source: TraceSource, *, speedup: float, cycles: int, same_ids: bool
) -> Iterator[TraceRequest]:
    """The requests of `cycles` passes over a trace, without end for 0, at the times of the replay.

    Times are divided by `speedup`; with 0 they are all 0, which means that nobody waits for them.
    The next cycle begins the mean distance of two requests after the last. Its conversations and
    blocks are not those of the cycle before, unless `same_ids`.
    """
    start_ns = 0
    for cycle in count() if cycles == 0 else range(cycles):
        offset = 0 if same_ids else cycle * BLOCK_IDS
        requests = last_ns = 0
        for request in read_trace(source):
            requests += 1
            last_ns = request.arrival_ns
            # Not before the first nanosecond: 0 stands for no time at all.
            arrival_ns = max(1, int((start_ns + last_ns) / speedup)) if speedup else 0
            # Not _replace, which takes as long as all of the rest.
            _, prompt, answer, conversation, turn, history, blocks = request
            if offset and blocks is not None:
                blocks = tuple([block + offset for block in blocks])
            yield TraceRequest(
                arrival_ns, prompt, answer, conversation + offset, turn, history, blocks
            )
        start_ns += last_ns + last_ns // max(1, requests - 1)


def survey_trace(source: TraceSource) -> TraceSurvey:
    """Reads the whole trace once, and its bytes once more for their hash; raises EngineError."""
    findings = Findings()
    in_sample: Counter[int] = Counter()
    requests = input_tokens = output_tokens = blocks = duration_ns = 0
    for request in read_trace(source, findings):
        requests += 1
        input_tokens += request.input_tokens
        output_tokens += request.output_tokens
        duration_ns = request.arrival_ns
        if request.blocks is not None:
            blocks += len(request.blocks)
            if requests <= _SAMPLE_REQUESTS:
                in_sample.update(set(request.blocks))
    sampled = min(requests, _SAMPLE_REQUESTS)
    common = max(2, min(sampled, max(_COMMON_REQUESTS, sampled // _COMMON_SHARE)))
    size_bytes, sha256 = _content(source.path)
    return TraceSurvey(
        size_bytes=size_bytes,
        sha256=sha256,
        requests=requests,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        blocks=blocks,
        duration_ns=duration_ns,
        broken_lines=findings.broken_lines,
        first_broken_lines=tuple(findings.first_broken_lines),
        out_of_order=findings.out_of_order,
        turns_cut=findings.turns_cut,
        common_blocks=frozenset(block for block, times in in_sample.items() if times >= common),
    )


def survey_of(found: Mapping[str, Any] | None) -> TraceSurvey:
    """A survey from its JSON form; raises EngineError."""
    try:
        values = dict(found or {})
        values["first_broken_lines"] = tuple(values["first_broken_lines"])
        values["common_blocks"] = frozenset(values["common_blocks"])
        return TraceSurvey(**values)
    except (KeyError, TypeError) as error:
        raise EngineError("what was noted of the trace is damaged: prepare again") from error


class _Broken:
    """Counts broken lines up to the limit."""

    def __init__(self, source: TraceSource, findings: Findings) -> None:
        self._source = source
        self._findings = findings

    def add(self, line: int, reason: object) -> None:
        """Raises EngineError when this is one too many."""
        findings, source = self._findings, self._source
        findings.broken_lines += 1
        if len(findings.first_broken_lines) < _LINES_NAMED:
            findings.first_broken_lines.append(line)
        if findings.broken_lines <= source.broken_lines_max:
            return
        before = findings.first_broken_lines[: findings.broken_lines - 1]
        others = f" (after lines {', '.join(map(str, before))})" if before else ""
        raise EngineError(
            f"{source.path} line {line}: {reason}; this is broken line {findings.broken_lines}"
            f"{others}, trace.broken_lines_max allows {source.broken_lines_max}"
        )


# Mooncake and BurstGPT


class _Line(NamedTuple):
    """A request with the time that its line states."""

    time_ns: int
    number: int
    request: TraceRequest


def _read_mooncake(
    source: TraceSource, broken: _Broken, findings: Findings
) -> Iterator[TraceRequest]:
    def parsed() -> Iterator[_Line]:
        for number, line in _lines(source):
            try:
                yield _mooncake_line(_DECODER.decode(line.decode()), number, source.block_tokens)
            # JSON and UTF-8 errors are ValueErrors; a line of brackets is a RecursionError.
            except (ValueError, RecursionError) as error:
                broken.add(number, error)

    return _in_order(source, parsed(), findings)


def _mooncake_line(record: object, number: int, block_tokens: int) -> _Line:
    """Raises ValueError saying what is wrong."""
    if not isinstance(record, dict):
        raise ValueError("is not a JSON object")
    input_tokens = _tokens(record, "input_length")
    output_tokens = _tokens(record, "output_length")
    ids = record.get("hash_ids")
    if not isinstance(ids, list) or not set(map(type, ids)) <= {int}:
        raise ValueError("hash_ids is not a list of whole numbers")
    if ids and not 0 <= min(ids) <= max(ids) < BLOCK_IDS:
        raise ValueError(f"hash_ids are not all from 0 to {BLOCK_IDS - 1}")
    if not input_tokens // block_tokens <= len(ids) <= -(-input_tokens // block_tokens):
        raise ValueError(
            f"{len(ids)} hash_ids do not fit to input_length {input_tokens}"
            f" in blocks of {block_tokens} tokens"
        )
    time_ns = _time(record.get("timestamp"), "timestamp", NS_PER_MS)
    return _Line(
        time_ns, number, TraceRequest(0, input_tokens, output_tokens, 0, blocks=tuple(ids))
    )


def _tokens(record: Mapping[str, object], name: str) -> int:
    value = record.get(name)
    if type(value) is not int:
        raise ValueError(f"{name} is {value!r}, not a whole number")
    if not 0 <= value <= TOKENS_MAX:
        raise ValueError(f"{name} {value} is not from 0 to {TOKENS_MAX}")
    return value


def _time(value: object, name: str, unit_ns: int) -> int:
    # Not isinstance: true and false are no times.
    if not (type(value) is int or type(value) is float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, not a number")
    time_ns = round(value * unit_ns)
    if not 0 <= time_ns < _TIME_MAX_NS:
        raise ValueError(f"{name} {value} is negative or beyond a hundred years")
    return time_ns


_BURSTGPT_COLUMNS = ("timestamp", "request tokens", "response tokens")


def _read_burstgpt(
    source: TraceSource, broken: _Broken, findings: Findings
) -> Iterator[TraceRequest]:
    def parsed() -> Iterator[_Line]:
        lines = _lines(source)
        columns = _burstgpt_columns(source, next(lines, None))
        for number, line in lines:
            try:
                yield _burstgpt_line(_cells(line), number, columns)
            except (ValueError, csv.Error) as error:
                broken.add(number, error)

    return _in_order(source, parsed(), findings)


def _burstgpt_columns(source: TraceSource, header: tuple[int, bytes] | None) -> list[int]:
    """Places of the columns; their names may differ in case, spaces and underscores."""
    try:
        cells = _cells(header[1]) if header else []
    except (ValueError, csv.Error):
        cells = []
    names = [" ".join(cell.lower().replace("_", " ").split()) for cell in cells]
    missing = [name for name in _BURSTGPT_COLUMNS if name not in names]
    if header and missing:
        raise EngineError(
            f"{source.path} line {header[0]}: has no column {', '.join(map(repr, missing))};"
            f" a burstgpt trace begins with a line of column names"
        )
    return [] if missing else [names.index(name) for name in _BURSTGPT_COLUMNS]


def _cells(line: bytes) -> list[str]:
    return next(csv.reader([line.decode()], skipinitialspace=True), [])


def _burstgpt_line(cells: list[str], number: int, columns: list[int]) -> _Line:
    """Raises ValueError saying what is wrong."""
    if len(cells) <= max(columns):
        raise ValueError(f"has {len(cells)} cells")
    record: dict[str, int | float] = {}
    for name, column in zip(_BURSTGPT_COLUMNS, columns, strict=True):
        text = cells[column]
        value = int(text) if text.isdecimal() else float(text)
        record[name] = int(value) if math.isfinite(value) and value == int(value) else value
    time_ns = _time(record["timestamp"], "timestamp", NS_PER_S)
    input_tokens = _tokens(record, "request tokens")
    # The line number is as good as any for a conversation of one turn.
    return _Line(
        time_ns, number, TraceRequest(0, input_tokens, _tokens(record, "response tokens"), number)
    )


def _lines(source: TraceSource) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, numbered from 1."""
    path = source.path
    try:
        with path.open("rb") as file:
            for number in count(1):
                line = file.readline(_LINE_MAX_BYTES)
                if not line:
                    return
                if number == 1:
                    line = line.removeprefix(BOM_UTF8)
                if len(line) == _LINE_MAX_BYTES:
                    raise EngineError(
                        f"{path} line {number}: is longer than {_LINE_MAX_BYTES} bytes;"
                        f" is this a {source.format} trace?"
                    )
                if not line.isspace():
                    yield number, line
    except OSError as error:
        raise storage_error(error, "read", path) from error


def _in_order(
    source: TraceSource, lines: Iterator[_Line], findings: Findings
) -> Iterator[TraceRequest]:
    """The requests by time, counted from the first; raises EngineError for one that is too late."""
    held: list[_Line] = []
    latest_ns = -1
    start_ns: int | None = None
    given = _Line(-1, 0, TraceRequest(0, 0, 0, 0))

    def give(line: _Line) -> TraceRequest:
        nonlocal given, start_ns
        given = line
        start_ns = line.time_ns if start_ns is None else start_ns
        return TraceRequest(line.time_ns - start_ns, *line.request[1:])

    for line in lines:
        findings.out_of_order += line.time_ns < latest_ns
        latest_ns = max(latest_ns, line.time_ns)
        if line.time_ns < given.time_ns:
            raise EngineError(
                f"{source.path} line {line.number}: its time is before that of line {given.number},"
                f" and more than {_WINDOW_REQUESTS} requests later: sort the file by time"
            )
        if len(held) < _WINDOW_REQUESTS:
            heapq.heappush(held, line)
        else:
            yield give(heapq.heappushpop(held, line))
    while held:
        yield give(heapq.heappop(held))


# ShareGPT


@dataclass(slots=True)
class _Conversation:
    number: int
    turns: Iterator[tuple[int, int]]  # tokens of question and answer
    turn: int = 0
    tokens: int = 0


def _read_sharegpt(
    source: TraceSource, broken: _Broken, findings: Findings
) -> Iterator[TraceRequest]:
    """A turn of each open conversation, and again; those that end make room for the next."""
    conversations = _conversations(source, broken)
    ring = deque(islice(conversations, source.conversations_open))
    requests = 0
    while ring:
        conversation = ring.popleft()
        request = _turn(conversation, findings)
        if request is None:
            ring.extendleft(islice(conversations, 1))
            continue
        arrival_ns = round(requests * NS_PER_S / source.rate_per_s) if source.rate_per_s else 0
        yield request._replace(arrival_ns=arrival_ns)
        requests += 1
        ring.append(conversation)


def _turn(conversation: _Conversation, findings: Findings) -> TraceRequest | None:
    """The next turn, or None at the end: the last one, or where the context is full."""
    tokens = next(conversation.turns, None)
    if tokens is None:
        return None
    history = conversation.tokens
    prompt = history + min(tokens[0], CONTEXT_TOKENS_MAX)
    if prompt > CONTEXT_TOKENS_MAX:
        findings.turns_cut += 1 + sum(1 for _ in conversation.turns)
        return None
    answer = min(tokens[1], GENERATION_TOKENS_MAX)
    request = TraceRequest(0, prompt, answer, conversation.number, conversation.turn, history)
    conversation.tokens = prompt + answer
    conversation.turn += 1
    return request


def _conversations(source: TraceSource, broken: _Broken) -> Iterator[_Conversation]:
    """Conversations with one turn or more."""
    number = 0
    for line, element in json_elements(source.path):
        try:
            turns = _sharegpt_turns(element)
        except ValueError as error:
            broken.add(line, error)
            continue
        if turns:
            yield _Conversation(number, iter(turns))
            number += 1


def _sharegpt_turns(element: object) -> list[tuple[int, int]]:
    """Tokens of each question that is followed by its answer; raises ValueError."""
    messages = element.get("conversations") if isinstance(element, dict) else None
    if not isinstance(messages, list):
        raise ValueError("is not an object with a list of conversations")
    turns: list[tuple[int, int]] = []
    question: int | None = None
    for message in messages:
        value = message.get("value") if isinstance(message, dict) else None
        if not isinstance(value, str):
            raise ValueError("has a message without from and value")
        # Without a tokenizer: four characters are about a token.
        tokens = max(1, len(value) // 4)
        if message.get("from") == "human":
            question = tokens
        elif message.get("from") == "gpt" and question is not None:
            turns.append((question, tokens))
            question = None
    return turns


_Reader = Callable[[TraceSource, _Broken, Findings], Iterator[TraceRequest]]
_READERS: Mapping[str, _Reader] = {
    "mooncake": _read_mooncake,
    "burstgpt": _read_burstgpt,
    "sharegpt": _read_sharegpt,
}


def _content(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            return file.tell(), digest.hexdigest()
    except OSError as error:
        raise storage_error(error, "read", path) from error
