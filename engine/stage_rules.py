"""What must hold of what a stage reported. Pure: takes what the stage's result.json holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .canonical import Document
from .checkpoint_metrics import checkpoint_rows, checkpointing_of
from .collect import COUNTED
from .counting import counted_bytes
from .foreign_metrics import judge_foreign
from .latency import percentile_name
from .mount_types import NETWORK_TYPES, SERVER_COUNTED
from .plan import Plan
from .roofline import rooflines_around
from .rules import Finding
from .search import capacity_of, probes_of
from .steady import drift_of
from .training_metrics import training_of
from .training_rules import RESIDENT_MOST_PCT
from .units import GIB
from .vector_metrics import vectordb_of

# Counters are compared from this many bytes on; below, a file system's own I/O weighs in, and what
# else goes over a network.
DEVICE_LEAST_BYTES = 256 * 2**20
DEVICE_TOLERANCE = 0.02

# The least part of the benchmark's bytes that a network carries which they all go over.
NETWORK_LEAST = 0.9

ROOFLINE_TOLERANCE_PCT = 10.0

NOOP = "noop"


def judge_stage_result(
    name: str,
    measured: bool,
    result: Document,
    memory_bytes: int | None,
    *,
    memory_times: float,
) -> list[Finding]:
    """Findings about what one stage reported; `memory_bytes` is that of all hosts, if known.

    `memory_times` is how often a working set must be that memory.
    """
    if "foreign" in result:
        return list(judge_foreign(name, measured, result))
    if measured and _is_noop(result):
        text = "its operations touched no storage: the numbers say nothing about one"
        hint = "benchmark.io.core=auto"
        return [Finding(rule="RES-10", severity="error", key=name, text=text, hint=hint)]
    findings = []
    # Whether searches read anything is judged by what backends and kernel count.
    searches = vectordb_of(result) is not None
    if measured and not searches and not any(io["window_bytes"] for io in result["io"].values()):
        text = "no byte was moved in the measured window"
        findings.append(Finding(rule="RES-01", severity="error", key=name, text=text))
    findings += _verification(name, measured, result)
    findings += _direct(name, result)
    findings += _latencies(name, result)
    if measured:
        findings += _core(name, result)
        findings += _device(name, result)
        findings += _mount(name, result)
        findings += _network(name, result)
        findings += _drift(name, result)
        findings += _load(name, result)
        findings += _working_set(name, result, memory_bytes, memory_times)
        findings += _trace(name, result)
    return findings


def judge_rooflines(
    plan: Plan, outcomes: Mapping[str, Document], results: Mapping[str, Document]
) -> list[Finding]:
    """Findings about measured stages whose rooflines before and after disagree."""
    findings = []
    for name, around in rooflines_around(plan, outcomes, results).items():
        before, after, spread_pct = around.before, around.after, around.spread_pct
        if before is None or after is None or spread_pct is None:
            continue
        if spread_pct > ROOFLINE_TOLERANCE_PCT:
            findings.append(
                Finding(
                    rule="RES-08",
                    severity="warning",
                    key=name,
                    text="the device was not the same before and after: "
                    f"{before.tool} moved {before.gib_s:.2f} GiB/s before and {after.gib_s:.2f} "
                    f"GiB/s after ({spread_pct:.1f} % apart)",
                    hint="repeat it when nothing else uses the device",
                )
            )
    return findings


def _is_noop(result: Document) -> bool:
    core = result["core"]
    return core is not None and NOOP in core["name"].split(", ")


def _direct(name: str, result: Document) -> list[Finding]:
    core = result["core"]
    if core is None or core["direct_refused"] is None:
        return []
    return [
        Finding(
            rule="RES-03",
            severity="warning",
            key=name,
            text=f"O_DIRECT was refused ({core['direct_refused']}), I/O was buffered: "
            "reads may have come from memory",
            hint="put data_dir on a file system with O_DIRECT",
        )
    ]


def _core(name: str, result: Document) -> list[Finding]:
    """A slower core than could be, of which nobody may think that it was the fast one."""
    core = result["core"]
    refused: dict[str, list[str]] = {}
    for refusal in (core or {}).get("refused", []):
        refused.setdefault(refusal["reason"], []).append(refusal["core"])
    if not refused:
        return []
    reasons = "; ".join(f"{' and '.join(cores)}: {reason}" for reason, cores in refused.items())
    return [
        Finding(
            rule="RES-12",
            severity="warning",
            key=name,
            text=f"{core['name']} carried out the operations, which costs more processor time "
            f"than what was refused ({reasons})",
            hint="a C compiler when mlps is installed, io_uring allowed (seccomp, "
            "kernel.io_uring_disabled), locked memory (ulimit -l)",
        )
    ]


def _verification(name: str, measured: bool, result: Document) -> list[Finding]:
    verify = result["verify"]
    # Training reads files that another stage has checked; who only writes reads nothing; answers of
    # searches are compared with the truth.
    compares = training_of(result) is None and not _writes_checkpoints(result)
    compares = compares and vectordb_of(result) is None
    if verify["mismatches"]:
        text = f"{verify['mismatches']} blocks differed from what was written"
        return [Finding(rule="RES-02", severity="error", key=name, text=text)]
    if measured and compares and not verify["operations"]:
        text = "no read was compared with what was written"
        return [Finding(rule="RES-02", severity="warning", key=name, text=text)]
    return []


def _writes_checkpoints(result: Document) -> bool:
    section = checkpointing_of(result)
    return section is not None and section["does"] == "write"


def _latencies(name: str, result: Document) -> list[Finding]:
    window = result["window"]
    if window is None or not result["io"]:
        return []
    limit_s = window["ramp_s"] + window["length_s"] + window["drain_s"]
    longest_s = max((io["latency"]["max"] or 0) / 1e9 for io in result["io"].values())
    if longest_s <= limit_s + 1e-6:
        return []
    text = f"a latency of {longest_s:.3f} s in a stage of {limit_s:.3f} s"
    return [Finding(rule="RES-04", severity="error", key=name, text=text)]


def _device(name: str, result: Document) -> list[Finding]:
    """The benchmark's bytes against the device's own counters, where there are any."""
    texts = _apart(
        result,
        kind="device",
        who="the block device",
        fewer="a cache or another device served the rest",
        more="something else used the device, or the file system adds its own",
    )
    return [Finding(rule="RES-05", severity="warning", key=name, text=text) for text in texts]


def _mount(name: str, result: Document) -> list[Finding]:
    """The benchmark's bytes against the file system's own counters, where there are any."""
    texts = _apart(
        result,
        kind="mount",
        who=f"the mount ({', '.join(_types(result))})",
        fewer="a cache served the rest",
        more="something else used the mount, or it moves more than it is asked for",
    )
    return [Finding(rule="RES-13", severity="warning", key=name, text=text) for text in texts]


def _apart(result: Document, *, kind: str, who: str, fewer: str, more: str) -> Iterator[str]:
    """Where the counters of a kind tell of other bytes than the benchmark does, and why perhaps."""
    for direction, moved, counted in _directions(result, kind):
        if abs(counted - moved) > DEVICE_TOLERANCE * moved:
            yield (
                f"{direction}: the benchmark moved {moved} bytes, {who} {counted} "
                f"({100 * counted / moved:.1f} %): {fewer if counted < moved else more}"
            )


def _directions(result: Document, kind: str) -> Iterator[tuple[str, int, int]]:
    """Direction, the benchmark's bytes and the counters', where these are worth a comparison."""
    for direction, counted_as in zip(("read", "write"), COUNTED[kind], strict=True):
        moved = result["io"].get(direction, {}).get("total_bytes", 0)
        counted = counted_bytes(result, kind, counted_as)
        if counted is not None and moved >= DEVICE_LEAST_BYTES:
            yield direction, moved, counted


def _types(result: Document) -> list[str]:
    return sorted({entry["type"] for entry in result.get("mount", [])})


def _network(name: str, result: Document) -> list[Finding]:
    """What the network carried against what the file system of data_dir says it is."""
    types = set(_types(result))
    if types and types <= NETWORK_TYPES:
        seen = types <= SERVER_COUNTED and counted_bytes(result, "mount", "read") is not None
        texts = [] if seen else list(_not_carried(result))
    else:
        texts = [] if types & NETWORK_TYPES else list(_from_elsewhere(result))
    return [Finding(rule="RES-14", severity="warning", key=name, text=text) for text in texts]


def _not_carried(result: Document) -> Iterator[str]:
    """Bytes of a network file system that did not come over the network."""
    unseen = sorted(
        {each for entry in result.get("network", []) for each in entry.get("unseen", [])}
    )
    past = f" (RDMA over Ethernet: {', '.join(unseen)})" if unseen else ""
    for direction, moved, carried in _directions(result, "network"):
        if carried < NETWORK_LEAST * moved:
            verb = "received" if direction == "read" else "sent"
            yield (
                f"{direction}: the benchmark moved {moved} bytes on {', '.join(_types(result))}, "
                f"the network {verb} {carried} ({100 * carried / moved:.1f} %): a cache served the "
                f"rest, or it went past what the counters see{past}"
            )


def _from_elsewhere(result: Document) -> Iterator[str]:
    """Bytes of a local device that it did not move, while the network carried as many."""
    over_network = {direction: carried for direction, _, carried in _directions(result, "network")}
    for direction, moved, on_device in _directions(result, "device"):
        missing, carried = moved - on_device, over_network.get(direction, 0)
        if missing >= DEVICE_LEAST_BYTES and carried >= NETWORK_LEAST * missing:
            verb = "received" if direction == "read" else "sent"
            yield (
                f"{direction}: data_dir is not what it claims: of {moved} bytes its block device "
                f"moved {on_device}, while the network {verb} {carried}"
            )


def _drift(name: str, result: Document) -> list[Finding]:
    drift = drift_of(result)
    if drift is None or drift.steady:
        return []
    word = "fell" if drift.drift_pct < 0 else "rose"
    return [
        Finding(
            rule="RES-06",
            severity="warning",
            key=name,
            text=f"throughput {word} within {drift.length_s:g} s: "
            f"{drift.first_bytes_per_s / GIB:.2f} GiB/s in the first fifth, "
            f"{drift.last_bytes_per_s / GIB:.2f} GiB/s in the last "
            f"(drift {drift.drift_pct:+.1f} % of the mean)",
            hint="a longer benchmark.ramp_s, so that it settles before the window",
        )
    ]


def _load(name: str, result: Document) -> list[Finding]:
    """Of a search only the outcome counts: to find its limit it must overload the storage."""
    search, details = result.get("search"), result["details"]
    if search is not None:
        return _capacity(name, search)
    if not details.get("overloaded"):
        return []
    waited = details.get("backlog_max")
    cut = details.get("window_cut")
    return [
        Finding(
            rule="RES-09",
            severity="error",
            key=name,
            text="the storage did not keep up with the rate of requests"
            + ("" if waited is None else f", up to {waited} waited")
            + f": the window was cut{f' ({cut})' if cut else ''}",
            hint="a lower rate of requests",
        )
    ]


def _capacity(name: str, search: Document) -> list[Finding]:
    if capacity_of(search) is not None:
        return []
    probes = probes_of(search)
    met = sum(probe.met for probe in probes)
    return [
        Finding(
            rule="RES-07",
            severity="error",
            key=name,
            text=f"no rate met the limit: {percentile_name(search['fraction'])} of prefix_load "
            f"<= {search['limit_ms']:g} ms; of {len(probes)} probes {met} did"
            + (", but none when confirmed" if met else ""),
            hint="search at lower rates, or allow a longer latency",
        )
    ]


def _working_set(
    name: str, result: Document, memory_bytes: int | None, memory_times: float
) -> list[Finding]:
    working_set_bytes = result["details"].get("working_set_bytes")
    if working_set_bytes is None or memory_bytes is None or _writes_checkpoints(result):
        return []
    # Of searches it is told with what keeps memory from answering.
    if vectordb_of(result) is not None:
        return []
    if working_set_bytes >= memory_times * memory_bytes:
        return []
    past = _past_memory(result)
    return [
        Finding(
            rule="RES-11",
            severity="warning" if past is None else "info",
            key=name,
            text=f"the working set is {working_set_bytes / GIB:.2f} GiB, less than "
            f"{memory_times:g} x the {memory_bytes / GIB:.2f} GiB of memory of the hosts: "
            + (
                "I/O was buffered, so reads may have come from memory"
                if past is None
                else f"{past}, so only caches beyond the hosts can have served reads"
            ),
            hint="a larger working set",
        )
    ]


def _past_memory(result: Document) -> str | None:
    """Why no read came from the memory of the hosts; None where one may have."""
    if result["core"] is not None and result["core"]["direct"]:
        return "I/O was direct"
    training = training_of(result)
    eviction = None if training is None else training["eviction"]
    found = [] if eviction is None else [eviction["resident_pct"]]
    found += [row.get("resident_pct") for row in checkpoint_rows(result)]
    if not found or any(share is None or share > RESIDENT_MOST_PCT for share in found):
        return None
    return "files were dropped from memory"


def _trace(name: str, result: Document) -> list[Finding]:
    findings = []
    trace = result["details"].get("trace") or {}
    if broken := trace.get("broken_lines"):
        first = trace.get("first_broken_lines") or []
        places = f": {', '.join(map(str, first))}" if first else ""
        more = " and more" if len(first) < broken and first else ""
        text = f"{broken} lines of {trace.get('path', 'the trace')} were skipped{places}{more}"
        findings.append(Finding(rule="TRC-01", severity="warning", key=name, text=text))
    if unordered := trace.get("out_of_order"):
        text = f"{unordered} requests of the trace are earlier than the one before them"
        findings.append(Finding(rule="TRC-01", severity="info", key=name, text=text))
    return findings
