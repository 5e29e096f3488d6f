"""What independent parts of an archive must say alike: clocks, ranks, trials, sums. Pure.

Numbers that follow from a stage's result are recomputed elsewhere. This compares the result with
what others wrote: the outcome of its launch, the facts of its hosts, its own columns of ranks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from .canonical import Document, canonical_json, sha256_hex
from .evidence import USABLE, Evidence
from .plan import Launch
from .rulebook import Rule
from .rules import Finding

EVIDENCE_RULES: Mapping[str, Rule] = {
    "EVD-05": Rule(
        text="stages ran one after the other as planned, and were measured while they ran",
        phase="archive",
        covers=("2.1.18", "2.1.24"),
    ),
    "EVD-06": Rule(
        text="every stage's result is its own: of this job, its ranks and hosts, and no copy",
        phase="archive",
        covers=("2.1.17",),
    ),
    "EVD-07": Rule(
        text="what a stage says of all ranks is the sum of what it says of each",
        phase="archive",
    ),
}

# Clocks of two hosts, within what preflight allows them (ENV-13), and the rounding of stamps.
CLOCK_SLACK_S = 1.5
# A launcher's start and end take longer than its ranks' work, never shorter by more than this.
LENGTH_SLACK_S = 0.1


class _Span(NamedTuple):
    """A launch, and when it ran by the clock of the machine that started it."""

    launch: Launch
    start_unix_s: float
    end_unix_s: float


def judge_evidence(evidence: Evidence, environment: Document) -> list[Finding]:
    """EVD-05 to EVD-07; `environment` is what environment.json holds."""
    return [
        *_clocks(evidence, environment),
        *_own(evidence),
        *_copies(evidence),
        *_sums(evidence),
    ]


# ---------------------------------------------------------------- EVD-05


def _clocks(evidence: Evidence, environment: Document) -> Iterator[Finding]:
    resumed = "resumed_from" in environment["links"]
    begin_unix_s = _unix_s(environment["started_utc"])
    spans = list(_spans(evidence))
    # Stages that were taken over from another archive ran before this job began.
    fresh = [span for span in spans if span.start_unix_s >= begin_unix_s - CLOCK_SLACK_S]
    if not resumed:
        early = [span for span in spans if span not in fresh]
        for span in early:
            text = f"it started {begin_unix_s - span.start_unix_s:.1f} s before its job did"
            yield _clock(span.launch, text)
    for one, other in pairwise(fresh):
        overlap_s = one.end_unix_s - other.start_unix_s
        pause_s = other.launch.delay_before_s
        if overlap_s > CLOCK_SLACK_S:
            text = f"it started {overlap_s:.1f} s before {one.launch.name} had ended"
            yield _clock(other.launch, text)
        elif -overlap_s < pause_s - CLOCK_SLACK_S:
            text = (
                f"a pause of {pause_s:g} s was to be before it, it started after {-overlap_s:.1f} s"
            )
            yield _clock(other.launch, text)
    offset_s = max(
        (abs(each or 0) for each in evidence.hosts_start.clock_offset_s.values()), default=0.0
    )
    for span in spans:
        result = evidence.results.get(span.launch.name)
        if result is not None and not span.launch.is_foreign:
            yield from _window(span, result, CLOCK_SLACK_S + offset_s)
            yield from _source(spans, span, result, CLOCK_SLACK_S + offset_s)


def _spans(evidence: Evidence) -> Iterator[_Span]:
    for launch in evidence.plan.launches:
        outcome = evidence.outcomes[launch.name]
        if outcome["started_utc"] is not None and outcome["elapsed_s"] is not None:
            start_unix_s = _unix_s(outcome["started_utc"])
            yield _Span(launch, start_unix_s, start_unix_s + outcome["elapsed_s"])


def _unix_s(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _window(span: _Span, result: Document, slack_s: float) -> Iterator[Finding]:
    window = result["window"]
    if window is None:
        return
    elapsed_s = span.end_unix_s - span.start_unix_s
    parts_s = window["ramp_s"] + window["length_s"]
    start_unix_s = window["start_unix_s"]
    if max(parts_s, window["elapsed_s"]) > elapsed_s + LENGTH_SLACK_S:
        told_s = max(parts_s, window["elapsed_s"])
        yield _clock(span.launch, f"it measured for {told_s:.1f} s and ran for {elapsed_s:.1f} s")
    elif not (
        span.start_unix_s - slack_s <= start_unix_s
        and start_unix_s + parts_s <= span.end_unix_s + slack_s
    ):
        apart_s = start_unix_s - span.start_unix_s
        text = (
            f"it was measured from {apart_s:+.1f} s of its start on, and ran for {elapsed_s:.1f} s"
        )
        yield _clock(span.launch, text)


def _source(
    spans: Sequence[_Span], span: _Span, result: Document, slack_s: float
) -> Iterator[Finding]:
    """What a stage says of when checkpoints were written, against the stage that wrote them."""
    source = (result.get("checkpointing") or {}).get("source")
    written = [
        each
        for each in spans
        if each.launch.stage == "write"
        and (each.launch.option, each.launch.trial) == (span.launch.option, span.launch.trial)
    ]
    if source is None or span.launch.stage != "read" or not written:
        return
    writing = written[-1]
    start_unix_s, end_unix_s = source["start_unix_s"], source["end_unix_s"]
    if not (
        writing.start_unix_s - slack_s <= start_unix_s
        and start_unix_s <= end_unix_s <= writing.end_unix_s + slack_s
    ):
        text = (
            f"it says that checkpoints were written from {start_unix_s:.1f} to {end_unix_s:.1f}, "
            f"{writing.launch.name} ran from {writing.start_unix_s:.1f} to {writing.end_unix_s:.1f}"
        )
        yield _clock(span.launch, text)


def _clock(launch: Launch, text: str) -> Finding:
    return Finding(rule="EVD-05", severity="error", key=launch.name, text=text)


# ---------------------------------------------------------------- EVD-06


def _own(evidence: Evidence) -> Iterator[Finding]:
    """The outcome of a launch, and the hosts and ranks of its result, are of this launch."""
    hosts: dict[str, tuple[str, ...]] = {}
    for launch in evidence.plan.launches:
        outcome = evidence.outcomes[launch.name]
        if outcome["name"] != launch.name:
            text = f"its outcome is that of {outcome['name']}"
            yield Finding(rule="EVD-06", severity="error", key=launch.name, text=text)
        if outcome["status"] in USABLE and not launch.is_foreign:
            hosts[launch.name] = tuple(outcome["hosts"])
            yield from _places(launch, outcome, evidence.results.get(launch.name))
    # A stage without lost hosts runs where the others ran.
    whole = {
        name: found
        for name, found in hosts.items()
        if not evidence.outcomes[name].get("without_hosts")
    }
    common = Counter(whole.values()).most_common(1)
    for name, found in whole.items():
        if found != common[0][0]:
            text = f"it ran on {_told(found)}, other stages on {_told(common[0][0])}"
            yield Finding(rule="EVD-06", severity="error", key=name, text=text)


def _places(launch: Launch, outcome: Document, result: Document | None) -> Iterator[Finding]:
    texts = []
    if result is None:
        texts.append("it ended well, and its result is not there")
    elif result["status"] != outcome["status"]:
        texts.append(f"its outcome is {outcome['status']}, its result {result['status']}")
    if result is not None and result["ranks"]["host_index"]:
        columns = result["ranks"]
        if list(columns["hosts"]) != list(outcome["hosts"]):
            texts.append(
                f"its ranks were on {_told(outcome['hosts'])}, its result is of "
                f"{_told(columns['hosts'])}"
            )
        counts = Counter(columns["host_index"])
        planned = sorted(host.ranks for host in launch.hosts)
        # Hosts of one name are one in a result: then only sums can be compared.
        if len(counts) == len(planned) and sorted(counts.values()) != planned:
            texts.append(f"its hosts had {sorted(counts.values())} ranks, planned are {planned}")
        if len(counts) > len(planned):
            texts.append(f"it ran on {len(counts)} hosts, planned are {len(planned)}")
    for text in texts:
        yield Finding(rule="EVD-06", severity="error", key=launch.name, text=text)


def _told(hosts: object) -> str:
    return ", ".join(map(str, hosts)) if isinstance(hosts, (list, tuple)) and hosts else "no host"


def _copies(evidence: Evidence) -> Iterator[Finding]:
    """No two stages that moved data had the same times to the nanosecond."""
    seen: dict[str, str] = {}
    for launch in evidence.plan.launches:
        result = evidence.results.get(launch.name)
        if result is None or launch.is_foreign:
            continue
        points = (result.get("vectordb") or {}).get("points", ())
        measured = [io["latency"] for io in result["io"].values() if io["total_operations"]]
        measured += [point["latency"] for point in points if point["queries"]]
        if not measured:
            continue
        digest = sha256_hex(canonical_json([measured, result["ranks"]]))
        if digest in seen:
            text = f"its latencies and ranks are those of {seen[digest]}: one is a copy"
            yield Finding(rule="EVD-06", severity="error", key=launch.name, text=text)
        seen.setdefault(digest, launch.name)


# ---------------------------------------------------------------- EVD-07


def _sums(evidence: Evidence) -> Iterator[Finding]:
    for launch in evidence.plan.launches:
        result = evidence.results.get(launch.name)
        if result is None or launch.is_foreign:
            continue
        for text in _contradictions(result):
            yield Finding(rule="EVD-07", severity="error", key=launch.name, text=text)


def _contradictions(result: Document) -> Iterator[str]:
    columns, io = result["ranks"], result["io"]
    for direction, moved in sorted(io.items()):
        # A rank tells what it moved in the window that all ranks share.
        of_ranks = columns.get(f"{direction}_bytes")
        if of_ranks is not None and sum(of_ranks) != moved["window_bytes"]:
            yield (
                f"{direction}: ranks moved {sum(of_ranks)} bytes in the window, all together "
                f"{moved['window_bytes']}"
            )
        yield from _impossible(direction, moved)
        binned = sum((result.get("timeline") or {}).get(f"{direction}_bytes", ()))
        if binned > moved["window_bytes"]:
            yield f"{direction}: {binned} bytes in the timeline, {moved['window_bytes']} in all"
    if io and columns.get("operations") is not None:
        done = sum(moved["window_operations"] for moved in io.values())
        if sum(columns["operations"]) != done:
            yield f"ranks did {sum(columns['operations'])} operations, all together {done}"
    read_bytes = io["read"]["total_bytes"] if "read" in io else None
    if read_bytes is not None and result["verify"]["bytes"] > read_bytes:
        yield f"{result['verify']['bytes']} bytes were compared, {read_bytes} were read"
    yield from _unanswered(result)


def _impossible(direction: str, moved: Document) -> Iterator[str]:
    for unit in ("bytes", "operations"):
        if moved[f"window_{unit}"] > moved[f"total_{unit}"]:
            yield (
                f"{direction}: {moved[f'window_{unit}']} {unit} in the window, "
                f"{moved[f'total_{unit}']} in all"
            )
    latency = moved["latency"]
    counted = sum(latency["count"])
    if counted and not latency["min"] * counted <= latency["sum"] <= latency["max"] * counted:
        yield f"{direction}: latencies sum up to what their least and greatest do not allow"


def _unanswered(result: Document) -> Iterator[str]:
    """Searches that all ranks together tell of, and those that each does."""
    section = result.get("vectordb")
    if section is None or section["does"] != "run" or "requests" not in result["ranks"]:
        return
    told = sum(point["requests"] for point in section["points"])
    most = told + sum(each["failed_requests"] + each["late_requests"] for each in section["points"])
    of_ranks = sum(result["ranks"]["requests"])
    if not told <= of_ranks <= most:
        yield f"ranks had {of_ranks} requests, all together {told}"
