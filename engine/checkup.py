"""What `mlps doctor` shows: what was checked, what is fine, what to mend and how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TextIO

from .canonical import Document
from .host_rules import mpi_name
from .hosts import host_ranges
from .preflight import Machine
from .reach import Probed
from .rule_rows import JOB_RULES, SKIPPABLE
from .rules import errors
from .spec import JobSpec
from .tables import write_styled, write_table
from .units import GIB

# More hosts are not read one by one.
MOST_ROWS = 24

_HEADER = ("host", "reached by", "Python", "mlps", "MPI", "cores", "memory free", "data_dir free")
_NUMBERS = (5, 6, 7, 8)
_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan", "ok": "green"}


def write_checkup(out: TextIO, machine: Machine, spec: JobSpec) -> None:
    """Write the whole check for people."""
    hosts = host_ranges(spec.cluster.names)
    ranks = f"{spec.cluster.ranks} rank{'s' if spec.cluster.ranks > 1 else ''}"
    out.write(f"{spec.benchmark}: {ranks} on {hosts}, launcher {spec.launcher.name}\n")
    out.write(f"data_dir {spec.data_dir}, results_dir {spec.results_dir}\n")
    if machine.launcher_version is not None:
        out.write(f"{machine.program}: {mpi_name(machine.launcher_version)}\n")
    if machine.needs is not None:
        disk, memory = machine.needs.disk_bytes / GIB, machine.needs.memory_bytes_per_rank / GIB
        out.write(f"needs {disk:.2f} GiB in data_dir and {memory:.2f} GiB of memory a rank\n")
    out.write("\n")
    _write_hosts(out, machine, spec)
    out.write("\n")
    for state, rule in states(machine, spec):
        write_styled(out, _style(state), f"{state:<11}", f" {rule}  {JOB_RULES[rule].text}\n")
    out.write("\n")
    for finding in machine.findings:
        head, rest = str(finding).split(" ", 1)
        write_styled(out, _style(head), head, f" {rest}\n")
    count = len(errors(machine.findings))
    ready = "ready" if count == 0 else f"not ready: {count} to mend"
    write_styled(out, _style("ok" if count == 0 else "error"), ready, "\n")


def states(machine: Machine, spec: JobSpec) -> Iterator[tuple[str, str]]:
    """Each rule of preflight with its worst finding, `ok`, or `not checked`."""
    worst: dict[str, str] = {}
    for finding in machine.findings:  # errors come first
        worst.setdefault(finding.rule, finding.severity)
    unchecked = set(_not_checked(machine, spec))
    for rule in SKIPPABLE:
        if rule in worst:
            yield worst[rule], rule
        else:
            yield "not checked" if rule in unchecked else "ok", rule


def _not_checked(machine: Machine, spec: JobSpec) -> Iterator[str]:
    """Rules that nothing was asked about."""
    if machine.needs is None:
        yield from ("ENV-03", "ENV-08", "ENV-09", "ENV-12", "CAP-01")
    if all(host.here for host in machine.probed):
        yield from ("ENV-04", "ENV-13", "ENV-15")
    if not any(host.facts for host in machine.probed):
        yield from ("ENV-03", "ENV-05", "ENV-06", "ENV-07", "ENV-08", "ENV-09", "ENV-12")
        yield from ("ENV-13", "ENV-14", "ENV-15", "DIR-01", "CAP-01")
    if len(spec.cluster.hosts) == 1:
        yield "ENV-16"
    if machine.muster is None:
        yield from ("ENV-11", "CAP-02")
    if machine.fs_separation["same_filesystem"] is None:
        yield "CAP-03"
    if spec.lockfile is None:
        yield "PKG-03"


def checkup_document(machine: Machine) -> Document:
    """All that was found, for programs."""
    return {
        "ready": not errors(machine.findings),
        "launcher_program": None if machine.program is None else str(machine.program),
        "launcher_version": machine.launcher_version,
        "needs": None if machine.needs is None else machine.needs.as_document(),
        "findings": [finding.as_document() for finding in machine.findings],
        "hosts": [asdict(host) for host in machine.probed],
        "muster": None if machine.muster is None else machine.muster.as_document(),
        "fs_separation": machine.fs_separation,
    }


# ---------------------------------------------------------------- hosts


def _write_hosts(out: TextIO, machine: Machine, spec: JobSpec) -> None:
    groups: dict[tuple[str, ...], list[str]] = {}
    for host in machine.probed:
        groups.setdefault(_row(host, spec), []).append(host.name)
    rows = [(host_ranges(names), *cells) for cells, names in groups.items()]
    write_table(out, (*_HEADER, "clock"), rows[:MOST_ROWS], right=_NUMBERS)
    if len(rows) > MOST_ROWS:
        out.write(f"and {len(rows) - MOST_ROWS} rows more; --json has all\n")


def _row(host: Probed, spec: JobSpec) -> tuple[str, ...]:
    facts = host.facts
    if facts is None:
        return (_way(host, spec), *("-" for _ in _HEADER[2:]), "-")
    mpi = (facts["mpi"] or {}).get("library")
    free_bytes = (facts["data_dir"] or {}).get("free_bytes")
    cores = f"{facts['cpus_allowed']}"
    if facts["cpus_allowed"] != facts["cpus"]:
        cores += f" of {facts['cpus']}"
    return (
        _way(host, spec),
        str(facts["python"]),
        str(facts["mlps"]["version"]),
        "-" if mpi is None else mpi_name(mpi),
        cores,
        _gib(facts["memory_available_bytes"]),
        "-" if free_bytes is None else _gib(free_bytes),
        "-" if host.here or host.clock_offset_s is None else _offset(host.clock_offset_s),
    )


def _way(host: Probed, spec: JobSpec) -> str:
    if host.here:
        return "this machine"
    if host.facts is None:
        return "not reached" if host.trouble is not None else "not asked"
    return "ssh" if spec.launcher.reach == "ssh" else spec.launcher.name


def _offset(offset_s: float) -> str:
    return f"{round(offset_s, 1) + 0.0:+.1f} s"  # + 0.0: there is no -0.0 s


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.1f} GiB"


def _style(kind: str) -> str:
    return _STYLES.get(kind, "dim")
