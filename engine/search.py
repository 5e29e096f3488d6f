"""The search for the highest rate of requests whose prefixes load in time. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .canonical import Document
from .latency import percentile_name, percentile_ns
from .units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One rate that was tried. Without a request that loaded a prefix there is no latency."""

    purpose: str
    rate_per_s: float
    completed_per_s: float
    read_gib_s: float
    write_gib_s: float
    prefix_load_ms: float | None
    met: bool


def probes_of(search: Document) -> list[Probe]:
    """All rates that were tried, in order."""
    return [_probe(search, entry) for entry in search["probes"] if entry["length_s"] > 0]


def _probe(search: Document, entry: Document) -> Probe:
    latency_ms = None
    if entry["prefix_load"]["count"]:
        latency_ms = percentile_ns(entry["prefix_load"], search["fraction"]) / 1e6
    return Probe(
        purpose=entry["purpose"],
        rate_per_s=entry["rate_per_s"],
        completed_per_s=entry["requests"] / entry["length_s"],
        read_gib_s=entry["read_bytes"] / GIB / entry["length_s"],
        write_gib_s=entry["write_bytes"] / GIB / entry["length_s"],
        prefix_load_ms=latency_ms,
        met=latency_ms is not None and latency_ms <= search["limit_ms"],
    )


def capacity_of(search: Document) -> Probe | None:
    """The last rate that met the limit when it was confirmed; None where none did."""
    confirmed = [probe for probe in probes_of(search) if probe.purpose == "confirm" and probe.met]
    return confirmed[-1] if confirmed else None


def capacity_metrics(search: Document | None) -> dict[str, float | int]:
    """What is published of a search: the capacity, and what was moved at it."""
    found = None if search is None else capacity_of(search)
    if search is None or found is None or found.prefix_load_ms is None:
        return {}
    name = percentile_name(search["fraction"])
    return {
        "capacity_requests_per_s": found.rate_per_s,
        "capacity_completed_requests_per_s": found.completed_per_s,
        f"capacity_prefix_load_{name}_ms": found.prefix_load_ms,
        "capacity_read_gib_s": found.read_gib_s,
        "capacity_write_gib_s": found.write_gib_s,
    }


def search_document(search: Document) -> Document:
    """A search as result.json holds it: the limit, and each rate with its verdict."""
    return {
        "limit_ms": search["limit_ms"],
        "percentile": percentile_name(search["fraction"]),
        "probes": [asdict(probe) for probe in probes_of(search)],
    }
