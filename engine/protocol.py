"""The events that an engine writes on standard output, and what a result event must hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from .canonical import Document
from .plan import Launch
from .schema import load_schema

OK = b"ok\n"
STOP = b"stop\n"

# A list of more numbers is checked by its least and its greatest; the schema limits the length of
# lists to the larger number, so longer ones are left to it.
FEW, MANY = 8, 3600

# A result at 100,000 ranks stays below it; a line that is longer is no event.
MAX_LINE_BYTES = 64 * 1024 * 1024

# Columns of ranks from which numbers are computed; each rank must have one.
NUMBERS = frozenset(
    {
        "read_bytes",
        "write_bytes",
        "cpu_user_s",
        "cpu_system_s",
        "peak_rss_bytes",
        "storage_s",
        "generated_tokens",
        "context_switches",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTable:
    """Who the ranks are, in rank order, and the job that each of them says it has."""

    places: tuple[tuple[str, int], ...]
    job_sha256: dict[str, str]

    def name(self, rank: int) -> str:
        """A rank in words: `rank 3 on node2 (pid 411)`."""
        if not 0 <= rank < len(self.places):
            return f"rank {rank}"
        host, pid = self.places[rank]
        return f"rank {rank} on {host} (pid {pid})"

    def find(self, *, host: str | None, pid: int) -> int | None:
        """The rank that is this process; the host decides where two hosts have the pid."""
        matches = [rank for rank, place in enumerate(self.places) if place[1] == pid]
        at_host = [rank for rank in matches if self.places[rank][0] == host]
        found = at_host or matches
        return found[0] if found else None

    @property
    def hosts(self) -> tuple[str, ...]:
        """Host names in order of their first rank."""
        return tuple(dict.fromkeys(host for host, _ in self.places))


class ProtocolError(ValueError):
    """A line that is no event, or an event that lacks what it must hold."""


def parse_event(line: bytes) -> Document:
    """One event of a line of standard output. Raises ProtocolError."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"no JSON: {_shown(line)}") from error
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise ProtocolError(f"no event: {_shown(line)}")
    return event


def parse_ranks(event: Document) -> RankTable:
    """The table of a `ranks` event. Raises ProtocolError."""
    try:
        places = tuple((str(host), int(pid)) for host, pid in event["ranks"])
        digests = {str(digest): str(ranks) for digest, ranks in event["job_sha256"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"a ranks event that cannot be read: {error}") from error
    return RankTable(places=places, job_sha256=digests)


def result_flaws(result: Document, launch: Launch, job_sha256: str, table: RankTable) -> list[str]:
    """Why a result event cannot be used; empty where it can.

    It must fit its schema, be of the stage that was started, come from every rank, and all ranks
    must have had the archived job.
    """
    error = best_match(_stage_result().iter_errors(_thinned(result)))
    if error is not None:
        return [f"{error.json_path}: {error.message[:200]}"]
    flaws = [
        f"it is of {key} {result[key]!r}, not of {expected!r}"
        for key, expected in (
            ("stage", launch.stage),
            ("option", launch.option),
            ("trial", launch.trial),
        )
        if result[key] != expected
    ]
    if set(table.job_sha256) != {job_sha256}:
        flaws.append(f"ranks had another job than the archived {job_sha256}: {table.job_sha256}")
    flaws += _count_flaws(result["ranks"], launch.ranks, table)
    for direction, io in sorted(result["io"].items()):
        place = f"io.{direction}"
        flaws += _histogram_flaws(place, io["latency"], io["window_operations"])
    for name, latency in sorted(result.get("latency", {}).items()):
        flaws += _histogram_flaws(f"latency.{name}", latency)
    for direction, classes in sorted(result.get("sizes", {}).items()):
        flaws += [f"sizes.{direction}: {flaw}" for flaw in _size_flaws(classes)]
    for number, probe in enumerate((result.get("search") or {"probes": []})["probes"]):
        flaws += _histogram_flaws(f"search.probes[{number}].prefix_load", probe["prefix_load"])
    flaws += _training_flaws(result.get("training"), launch.ranks)
    flaws += _checkpoint_flaws(result.get("checkpointing"), result["status"], launch.ranks)
    flaws += _vector_flaws(result.get("vectordb"), result["status"])
    return flaws + _timeline_flaws(result.get("timeline"))


@cache
def _stage_result() -> Draft202012Validator:
    return Draft202012Validator(load_schema("stage_result"))


def _thinned(value: Any) -> Any:  # noqa: ANN401 - whatever JSON a result event holds
    """The same with only the least and the greatest of many numbers.

    A schema asks the same of every number of a list, and takes its time for each of a thousand.
    """
    if isinstance(value, dict):
        return {key: _thinned(each) for key, each in value.items()}
    if not isinstance(value, list):
        return value
    if FEW < len(value) <= MANY and {type(each) for each in value} in ({int}, {float}):
        return [min(value), max(value)]
    return [_thinned(each) for each in value]


def _count_flaws(columns: dict[str, Any], ranks: int, table: RankTable) -> list[str]:
    flaws = []
    if len(table.places) != ranks:
        flaws.append(f"{len(table.places)} of {ranks} ranks reported")
    flaws += [
        f"{name} holds {len(values)} of {ranks} ranks"
        for name, values in columns.items()
        if name != "hosts" and len(values) != ranks
    ]
    places = range(len(columns["hosts"]))
    flaws += [
        f"host_index {index!r} is no host" for index in columns["host_index"] if index not in places
    ]
    return flaws + [
        f"{name} holds {value!r} where a number must be"
        for name, values in columns.items()
        if name in NUMBERS
        for value in values
        if not isinstance(value, int | float)
    ]


def _histogram_flaws(place: str, latency: Document, operations: int | None = None) -> list[str]:
    """Why percentiles could not be computed, or would not be of its operations."""
    counted = sum(latency["count"])
    if len(latency["count"]) != len(latency["upper"]):
        text = f"{len(latency['count'])} counts for {len(latency['upper'])} buckets"
        return [f"{place}: latency has {text}"]
    if operations is not None and counted != operations:
        return [f"{place}: latency counts {counted} of {operations} operations"]
    return [f"{place}: latency has no max"] if counted and latency["max"] is None else []


def _size_flaws(classes: Sequence[Document]) -> list[str]:
    """Why classes of sizes are none: each is between a power of two and the next, and once."""
    bounds = [entry["below_bytes"] for entry in classes]
    if bounds != sorted(set(bounds)):
        return [f"classes are not in order: {bounds}"]
    flaws = [f"{bound} is no power of two" for bound in bounds if bound.bit_count() != 1]
    return flaws + [
        f"{entry['entries']} entries below {entry['below_bytes']} bytes hold {entry['bytes']}"
        for entry in classes
        if not entry["below_bytes"] // 2 * entry["entries"]
        <= entry["bytes"]
        < entry["below_bytes"] * entry["entries"]
    ]


def _training_flaws(training: Document | None, ranks: int) -> list[str]:
    """Why epochs cannot be told apart, or hold more than their time."""
    if training is None:
        return []
    numbers = [epoch["epoch"] for epoch in training["epochs"]]
    flaws = [] if numbers == sorted(set(numbers)) else [f"epochs are not in order: {numbers}"]
    for epoch in training["epochs"]:
        parts_s = sum(epoch[f"{part}_sum_s"] for part in ("load", "compute", "meeting"))
        # Each rank rounds its sums by itself.
        if parts_s > epoch["block_sum_s"] * 1.001 + 1e-5 * ranks:
            flaws.append(
                f"epoch {epoch['epoch']}: {parts_s:g} s of steps in {epoch['block_sum_s']:g} s"
            )
        if epoch["au_worst_rank"] >= ranks:
            flaws.append(f"epoch {epoch['epoch']}: rank {epoch['au_worst_rank']} of {ranks} ranks")
    return [f"training: {flaw}" for flaw in flaws]


def _checkpoint_flaws(section: Document | None, status: str, ranks: int) -> list[str]:
    """Why checkpoints cannot be told apart, are not what was planned, or contradict themselves."""
    if section is None:
        return []
    found, planned = section["checkpoints"], section["planned"]
    numbers, flaws = [each["number"] for each in found], []
    # One that was read may be read again.
    if section["does"] == "write" and numbers != sorted(set(numbers)):
        flaws.append(f"checkpoints are not in order: {numbers}")
    if len(found) > planned:
        flaws.append(f"{len(found)} checkpoints where {planned} were planned")
    if status == "complete" and section["does"] != "evict" and len(found) < planned:
        flaws.append(f"it is complete with {len(found)} of {planned} checkpoints")
    layout = section["layout"]
    size = layout["model_bytes"] + layout["optimizer_bytes"]
    for place, each in enumerate(found, 1):
        texts = [*_checkpoint_time_flaws(each)]
        if each["bytes"] != size:
            texts.append(f"{each['bytes']} bytes, its files have {size}")
        if each["straggler"] >= ranks:
            texts.append(f"rank {each['straggler']} of {ranks} ranks")
        flaws += [f"checkpoint {each['number']} (the {place}. of the stage): {it}" for it in texts]
    return [f"checkpointing: {flaw}" for flaw in flaws]


def _checkpoint_time_flaws(checkpoint: Document) -> Iterator[str]:
    # Each is rounded by itself.
    for less, more in (
        ("rank_least_s", "rank_median_s"),
        ("rank_median_s", "wall_s"),
        ("rank_least_s", "rank0_s"),
        ("rank0_s", "wall_s"),
    ):
        if checkpoint[less] > checkpoint[more] * 1.001 + 1e-5:
            yield f"{less} {checkpoint[less]:g} is more than {more} {checkpoint[more]:g}"


def _vector_flaws(section: Document | None, status: str) -> list[str]:
    """Why points of vector search are not what was to be done, or contradict themselves."""
    if section is None:
        return []
    does, points = section["does"], section["points"]
    flaws = []
    if status == "complete":
        if does in ("load", "truth") and section[does] is None:
            flaws.append(f"it is complete and tells nothing of {does}")
        if does in ("probe", "run") and len(points) != 1:
            flaws.append(f"it is complete with {len(points)} points, there is one")
    for number, point in enumerate(points):
        flaws += [f"points[{number}]: {text}" for text in _point_flaws(point)]
    return [f"vectordb: {flaw}" for flaw in flaws]


def _point_flaws(point: Document) -> Iterator[str]:
    for name in ("latency", "service"):
        yield from _histogram_flaws(name, point[name])
        counted = sum(point[name]["count"])
        if not point["requests"] <= counted <= point["requests"] + point["late_requests"]:
            yield f"{name} counts {counted} of {point['requests']} requests"
    if point["queries"] > point["requests"] * point["batch_size"]:
        yield f"{point['queries']} queries in {point['requests']} requests"
    if point["queries"] and not point["elapsed_s"]:
        yield f"{point['queries']} queries in no time"
    queries, read = point["timeline"]["queries"], point["timeline"]["process_bytes"]
    if read is not None and len(queries) != len(read):
        yield f"timeline has {len(queries)} bins of queries and {len(read)} of bytes"
    if point["target_qps"] is not None and None in (point["arrivals"], point["unserved"]):
        yield "an open loop that does not tell what arrived"


def _timeline_flaws(timeline: Document | None) -> list[str]:
    if timeline is None:
        return []
    read, write = len(timeline["read_bytes"]), len(timeline["write_bytes"])
    return [] if read == write else [f"timeline has {read} bins of reads and {write} of writes"]


def _shown(line: bytes) -> str:
    text = line.decode(errors="replace").strip()
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
