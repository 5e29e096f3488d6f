"""Judges what was seen of the hosts: facts before and after the stages, and the time series.

Pure: takes facts and summaries, gives findings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .canonical import Document
from .host_documents import UNKNOWN, HostFacts, host_memory_bytes
from .hosts import host_ranges
from .rulebook import Severity
from .rules import Finding
from .series import HostSeries, Series
from .units import GIB

# A host that lost less of its memory than this has none that matters.
MEMORY_LOSS = 0.01
# A tick that a busy host was late for is no gap; more of them than this make one.
MISSED_SHARE = 0.01
CPU_BUSY_PCT = 95.0

# (section, key) of facts that stay as they are while a job runs, and what they are in words.
_LASTING: Sequence[tuple[str, str, str]] = (
    ("system", "kernel", "kernel"),
    ("cpu", "threads", "hardware threads"),
    ("cpu", "allowed", "threads that a process may use"),
    ("memory", "limit_bytes", "memory limit of the control group"),
    ("cgroup", "cpu_cores", "processor limit of the control group"),
)
_MOUNT = ("mount_point", "type", "source", "device")


class _Change(NamedTuple):
    """What is not as it was, in words; of a kind, so that many hosts can share a finding."""

    severity: Severity
    key: str
    text: str


def judge_hosts(start: HostFacts, end: HostFacts) -> Iterator[Finding]:
    """MON-01: every host stated its facts. MON-02: none changed in a way that matters."""
    for moment, hosts in (("before the first stage", start), ("after the last stage", end)):
        yield from _without_facts(moment, hosts)
    changed: dict[_Change, list[str]] = {}
    for name, facts in start.facts.items():
        if name in end.facts:
            for change in _changes(facts, end.facts[name]):
                changed.setdefault(change, []).append(name)
    for change, names in changed.items():
        yield Finding(
            rule="MON-02",
            severity=change.severity,
            key=change.key,
            text=change.text,
            host=host_ranges(names),
        )


def _without_facts(moment: str, hosts: HostFacts) -> Iterator[Finding]:
    groups: dict[str, list[str]] = {}
    for name, said in hosts.without_facts.items():
        groups.setdefault(f"it stated no facts {moment}: {said}", []).append(name)
    yield from _warnings(groups, rule="MON-01")


def _warnings(groups: Mapping[str, Sequence[str]], *, rule: str) -> Iterator[Finding]:
    """A warning for each text, about the hosts of which it is said."""
    for text, names in groups.items():
        yield Finding(
            rule=rule, severity="warning", key="monitor", text=text, host=host_ranges(names)
        )


def _changes(before: Document, after: Document) -> Iterator[_Change]:
    one, other = before["identity"]["boot_id"], after["identity"]["boot_id"]
    if one != other and UNKNOWN not in (one, other):
        yield _Change("error", "cluster.hosts", "it was started anew while the job ran")
    yield from _mount_changes(before, after)
    memory, left = host_memory_bytes(before), host_memory_bytes(after)
    if memory is not None and left is not None and left < (1 - MEMORY_LOSS) * memory:
        text = f"it lost memory: {memory / GIB:.2f} GiB before, {left / GIB:.2f} GiB after"
        yield _Change("warning", "cluster.hosts", text)
    for section, key, words in _LASTING:
        old, new = before[section][key], after[section][key]
        if old != new and UNKNOWN not in (old, new):
            yield _Change("warning", "cluster.hosts", f"its {words}: {old} before, {new} after")
    yield from _nic_changes(before["nics"], after["nics"])


def _mount_changes(before: Document, after: Document) -> Iterator[_Change]:
    """Another mount below the data is another storage; one with other options may act otherwise."""
    for key, severity in (("data_dir", "error"), ("results_dir", "warning")):
        old, new = before[key], after[key]
        if old is None or new is None:
            continue
        level: Severity = "error" if severity == "error" else "warning"
        was, now = (tuple(place[name] for name in _MOUNT) for place in (old, new))
        if was != now and UNKNOWN not in (*was, *now):
            text = f"another file system: {_mount(old)} before, {_mount(new)} after"
            yield _Change(level, key, text)
        elif UNKNOWN not in (old["options"], new["options"]) and old["options"] != new["options"]:
            lost = ",".join(sorted({*old["options"]} - {*new["options"]})) or "none"
            added = ",".join(sorted({*new["options"]} - {*old["options"]})) or "none"
            text = f"mounted with other options: lost {lost}, gained {added}"
            yield _Change("warning", key, text)


def _mount(place: Document) -> str:
    return f"{place['type']} {place['source']} on {place['mount_point']}"


def _nic_changes(before: object, after: object) -> Iterator[_Change]:
    if not isinstance(before, list) or not isinstance(after, list):
        return
    now = {nic["name"]: nic for nic in after}
    for nic in before:
        name = nic["name"]
        if name not in now:
            yield _Change("warning", "cluster.hosts", f"its network interface {name} has gone")
            continue
        old, new = nic["speed_mbit_s"], now[name]["speed_mbit_s"]
        if old != new and UNKNOWN not in (old, new):
            text = f"its network interface {name}: {old} Mbit/s before, {new} after"
            yield _Change("warning", "cluster.hosts", text)


# ---------------------------------------------------------------- the time series


def judge_series(series: Series, hosts: Sequence[str]) -> Iterator[Finding]:
    """MON-03: the samples of every host are whole."""
    groups: dict[str, list[str]] = {}
    for name in hosts:
        if flaw := _flaw(series.hosts.get(name)):
            text = f"its sampler {flaw}; the time series lacks what it would have seen"
            groups.setdefault(text, []).append(name)
    yield from _warnings(groups, rule="MON-03")


def _flaw(host: HostSeries | None) -> str | None:
    if host is None:
        return "took no sample"
    if host.ended != "stopped":
        return f"ended early: {host.said}" if host.said else "ended early"
    due = host.ticks + host.missed
    return f"missed {host.missed} of {due} ticks" if host.missed > MISSED_SHARE * due else None


def judge_cpu(name: str, busy_pct: Mapping[str, float]) -> Iterator[Finding]:
    """MON-04: a stage was not held up by the processors of its hosts; takes each host's share."""
    busy = {host: share for host, share in busy_pct.items() if share >= CPU_BUSY_PCT}
    if busy:
        yield Finding(
            rule="MON-04",
            severity="warning",
            key=name,
            text=f"its processors were busy for {max(busy.values()):.1f} % of the window: the "
            "numbers may be those of the host and not of the storage",
            hint="more hosts, or fewer ranks on each",
            host=host_ranges(list(busy)),
        )
