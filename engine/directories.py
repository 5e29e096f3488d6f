"""The rules of data_dir and results_dir: what the hosts say of the one, and how both are apart."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from .canonical import Document
from .environment import host_name
from .host_probe import directory_facts, write_error
from .probe.storage import nearest
from .reach import Probed
from .rulebook import Severity
from .rules import Finding
from .units import GIB

# ---------------------------------------------------------------- data_dir, on its hosts


def judge_data_dir(hosts: Sequence[Probed]) -> Iterator[Finding]:
    """DIR-01 for each host: data_dir is there and can be written to."""
    for host, facts in _data_dirs(hosts):
        flaw, hint = _flaw(facts)
        if flaw is not None:
            yield Finding(
                rule="DIR-01",
                severity="error",
                key="data_dir",
                text=f"{facts['path']} {flaw}",
                hint=hint,
                host=host.name,
            )


def judge_space(hosts: Sequence[Probed], disk_bytes: int, arithmetic: str) -> Iterator[Finding]:
    """CAP-01 for the hosts that show less free space than the job needs; the least counts."""
    short = [
        (int(facts["free_bytes"]), host, facts)
        for host, facts in _data_dirs(hosts)
        if facts.get("free_bytes") is not None and facts["free_bytes"] < disk_bytes
    ]
    if not short:
        return
    free_bytes, _, facts = min(short, key=lambda entry: entry[0])
    place = facts["path"] if facts["exists"] else f"{facts['nearest']}, for {facts['path']},"
    for _, host, _ in short:
        yield Finding(
            rule="CAP-01",
            severity="error",
            key="data_dir",
            text=f"{place} has {free_bytes / GIB:.2f} GiB free, the job needs "
            f"{disk_bytes / GIB:.2f} GiB ({arithmetic}); {(disk_bytes - free_bytes) / GIB:.2f} GiB "
            "are missing",
            hint="make space, choose another data_dir, or a smaller working set",
            host=host.name,
        )


def _data_dirs(hosts: Sequence[Probed]) -> Iterator[tuple[Probed, Document]]:
    for host in hosts:
        if host.facts is not None and host.facts["data_dir"] is not None:
            yield host, host.facts["data_dir"]


def _flaw(facts: Document) -> tuple[str | None, str | None]:
    path = facts["path"]
    if "error" in facts:
        return f"cannot be looked at: {facts['error']}", "mend its mount or its permissions"
    if not facts["exists"]:
        return "does not exist", f"mkdir -p {path}, or data_dir=DIRECTORY"
    if not facts["is_directory"]:
        return "is not a directory", "data_dir=DIRECTORY"
    if facts["write_error"] is not None:
        return f"cannot be written: {facts['write_error']}", _write_hint(path)
    return None, None


def _write_hint(path: str) -> str:
    return f"mend its permissions or its space: ls -ld {path}; df -h {path}"


# ---------------------------------------------------------------- results_dir, on this machine


def judge_results_dir(results_dir: Path) -> Iterator[Finding]:
    """DIR-02: the directory, or the parent in which it is to be made, can be written to."""
    flaw: str | None
    try:
        place = nearest(results_dir)
        flaw = None if place.is_dir() else "is not a directory"
        error = write_error(place) if flaw is None else None
    except OSError as caught:
        place, flaw, error = results_dir, None, caught.strerror or str(caught)
    hint = "results_dir=DIRECTORY"
    if error is not None:
        flaw, hint = f"cannot be written: {error}", f"{_write_hint(str(place))}, or {hint}"
    if flaw is not None:
        yield Finding(
            rule="DIR-02",
            severity="error",
            key="results_dir",
            text=f"{place} {flaw}",
            hint=hint,
        )


def judge_separation(
    data_dir: Path, results_dir: Path, separation: Document, severity: Severity
) -> Iterator[Finding]:
    """DIR-03 where both directories are one, else CAP-03 where both are on one file system."""
    if data_dir == results_dir or _is_same(data_dir, results_dir):
        yield Finding(
            rule="DIR-03",
            severity="error",
            key="data_dir",
            text=f"{data_dir} is also results_dir: results must not be on the storage under test",
            hint="results_dir=DIRECTORY",
        )
    elif separation["same_filesystem"]:
        yield Finding(
            rule="CAP-03",
            severity=severity,
            key="results_dir",
            text=f"{results_dir} is on the file system of data_dir",
            hint="results_dir=DIRECTORY on another file system",
        )


def probe_separation(data_dir: Path, results_dir: Path, elsewhere: Sequence[Probed]) -> Document:
    """Whether a file of data_dir can have a second name in results_dir: evidence for CAP-03.

    Hosts `elsewhere` are all hosts of the job where this machine is none of them: what it shows at
    data_dir may then be another storage, and says nothing.
    """
    place = _nearest_or_none(results_dir)
    document: Document = {
        "version": 1,
        "method": "link_exdev",
        "data_or_chkpt_path": str(data_dir),
        "results_path": str(results_dir),
        "data_or_chkpt_realpath": os.path.realpath(data_dir),
        "results_realpath": os.path.realpath(results_dir),
        "same_filesystem": None,
        "probed_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "probed_by_rank": None,
        "probed_by_host": host_name(),
        "skipped": None,
    }
    if not data_dir.is_dir():
        return document | {"skipped": "data_dir is no directory on this machine"}
    if place is None or not place.is_dir():
        return document | {"skipped": "results_dir cannot be made here"}
    if (other := _other_storage(data_dir, elsewhere)) is not None:
        return document | {"skipped": other}
    try:
        return document | {"same_filesystem": _can_link(data_dir, place)}
    except OSError as error:
        # Where links cannot tell, the number of the device has to.
        return document | {
            "method": "st_dev",
            "same_filesystem": data_dir.stat().st_dev == place.stat().st_dev,
            "link_error": error.strerror or str(error),
        }


def _other_storage(data_dir: Path, elsewhere: Sequence[Probed]) -> str | None:
    """Why data_dir of this machine is not that of any host; None where it may be."""
    here = directory_facts(data_dir)
    others = [facts for _, facts in _data_dirs(elsewhere)]
    alike = [
        facts
        for facts in others
        if all(here.get(name) == facts.get(name) for name in ("type", "source"))
    ]
    if alike or not others:
        return None
    return (
        f"data_dir is {others[0].get('type')} of {others[0].get('source')} on {elsewhere[0].name}, "
        f"but {here.get('type')} of {here.get('source')} on this machine, which runs no rank"
    )


def _can_link(data_dir: Path, place: Path) -> bool:
    """Raises OSError where that cannot be found out."""
    name = f".mlps-link-{secrets.token_hex(8)}"
    # The second name is another one, should both directories be one.
    file, link = data_dir / name, place / f"{name}.second"
    try:
        file.touch(exist_ok=False)
        link.hardlink_to(file)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return False
        raise
    finally:
        for path in (link, file):
            with suppress(OSError):
                path.unlink()
    return True


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _nearest_or_none(path: Path) -> Path | None:
    try:
        return nearest(path)
    except OSError:
        return None
