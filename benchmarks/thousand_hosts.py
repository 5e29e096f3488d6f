"""What the facts and samples of very many hosts cost: this machine's own, replayed as a cluster.

    python benchmarks/thousand_hosts.py [HOSTS] [TICKS]

The facts of HOSTS (1000) are collected, judged, added up and written; a series of TICKS (360, an
hour at 10 s) of each is written, compressed and read again.
"""

from __future__ import annotations

import copy
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mlps.engine import archive as files
from mlps.engine.archive import Archive
from mlps.engine.canonical import Document
from mlps.engine.host_documents import host_facts_of, hosts_text, read_hosts, totals, traits_of
from mlps.engine.host_rules import judge_likeness
from mlps.engine.monitor_rules import judge_hosts, judge_series
from mlps.engine.probe.facts import read_facts
from mlps.engine.reach import Probed
from mlps.engine.series import Window, read_series

COLUMNS = {
    "cpu": ["user_ms", "system_ms", "idle_ms", "iowait_ms", "steal_ms"],
    "pressure": ["cpu_some_us", "io_some_us", "io_full_us", "memory_some_us", "memory_full_us"],
}


def collected(count: int) -> list[Probed]:
    """As many hosts as asked for; one in fifty has other hardware, one in a hundred is silent."""
    facts = read_facts({"data_dir": "/tmp", "results_dir": "/"})
    hosts = []
    for number in range(count):
        own = copy.deepcopy(facts)
        own["mlps_facts"] = f"node{number:04d}"
        own["identity"]["boot_id"] = f"boot-{number}"
        own["state"]["load"] = [random.random() for _ in range(3)]
        own["memory"]["total_bytes"] //= 1 + (number % 50 == 49)
        known = None if number % 100 == 99 else own
        hosts.append(Probed(name=f"node{number:04d}", here=False, facts=known, clock_offset_s=0.0))
    return hosts


def lines(count: int, ticks: int) -> Iterator[bytes]:
    """The samples of a busy cluster, all hosts tick by tick."""
    names = [f"node{number:04d}" for number in range(count)]
    entries: list[Document] = [{"kind": "series", "schema": 1, "interval_s": 10, "hosts": names}]
    entries += [
        {"kind": "start", "host": name, "start_unix_s": 0.0, "interval_s": 10, "columns": COLUMNS}
        for name in names
    ]
    for entry in entries:
        yield json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    for tick in range(1, ticks + 1):
        for name in names:
            line = _tick(name, tick)
            yield json.dumps(line, separators=(",", ":")).encode() + b"\n"
    for name in names:
        end = {"kind": "end", "host": name, "ticks": ticks, "missed": 0, "late": 0, "cpu_s": 0.4}
        yield json.dumps(end, separators=(",", ":")).encode() + b"\n"


def _tick(name: str, tick: int) -> Document:
    def some(count: int, most: int) -> list[int]:
        return [random.randrange(most) for _ in range(count)]

    return {
        "host": name,
        "kind": "tick",
        "n": tick,
        "late_ms": round(random.random(), 2),
        "cpu": some(5, 100_000),
        "memory": some(4, 2**38),
        "vm": some(6, 2**34),
        "pressure": some(5, 10**7),
        "disk": {"nvme0n1": some(6, 2**34), "nvme1n1": some(6, 2**34)},
        "net": {"eth0": some(5, 2**34)},
    }


def main() -> None:
    """Print what each step took."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    ticks = int(sys.argv[2]) if len(sys.argv) > 2 else 360
    probed = collected(count)
    with tempfile.TemporaryDirectory() as name:
        archive = Archive(root=Path(name))
        begun = time.perf_counter()
        hosts = host_facts_of(probed)
        sums = totals(hosts)
        found = [*judge_hosts(hosts, hosts), *judge_likeness(traits_of(hosts))]
        files.write(archive, files.HOSTS_START, hosts_text(hosts))
        took_s = time.perf_counter() - begun
        size = archive.path(files.HOSTS_START).stat().st_size
        print(
            f"facts of {count} hosts: added up, judged, written in {took_s:.2f} s, {size:,} bytes"
        )
        print(f"  {sums.machines} machines, {len(found)} findings")
        begun = time.perf_counter()
        again = read_hosts(files.read_document(archive.path(files.HOSTS_START)))
        assert hosts_text(again) == hosts_text(hosts)
        print(f"  read and written again in {time.perf_counter() - begun:.2f} s")
        with files.open_series(archive) as output:
            for line in lines(count, ticks):
                output.write(line)
        raw = archive.path(files.SERIES).stat().st_size
        begun = time.perf_counter()
        files.compress_series(archive)
        packed = archive.path(files.SERIES_GZ).stat().st_size
        print(
            f"series of {ticks} ticks: {raw / 1e6:.1f} MB, {packed / 1e6:.1f} MB compressed", end=""
        )
        print(f" in {time.perf_counter() - begun:.1f} s")
        begun = time.perf_counter()
        window = {"run": Window(start_unix_s=10.0, end_unix_s=10.0 * ticks)}
        series = read_series(files.series_lines(archive), window)
        flaws = list(judge_series(series, list(series.hosts)))
        print(f"  read in {time.perf_counter() - begun:.1f} s, {len(flaws)} findings")
    print(f"most memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
