"""What the summary.json of DLIO holds of every run, whatever it measures.

Names and units are DLIO's: what it calls MB and GB are 2^20 and 2^30 bytes, and a standard
deviation is that of a population. Moments are in UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean, pstdev
from typing import Literal

from .canonical import Document
from .host_documents import HostFacts, host_memory_bytes
from .units import GIB

_MOMENT = "%Y-%m-%dT%H:%M:%S.%f"


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A dataset: files for training and for evaluation, and what the ranks of a host read of it."""

    files: tuple[int, int] = (0, 0)
    samples_per_file: int = 0
    size_per_host_gib: float = 0.0


def summary_of(
    results: Sequence[Document], metric: Document, hosts: HostFacts, *, data: Data, epochs: int
) -> Document:
    """The document of a run of one stage or of several, all of which had a window."""
    windows = [result["window"] for result in results]
    ranks = results[0]["ranks"]
    return {
        "start": _moment(windows[0]["start_unix_s"]),
        "num_accelerators": len(ranks["host_index"]),
        "num_hosts": len(ranks["hosts"]),
        "hostname": ranks["hosts"][0],
        "metric": metric,
        "num_files_train": data.files[0],
        "num_files_eval": data.files[1],
        "num_samples_per_file": data.samples_per_file,
        **_host_values(hosts, data.size_per_host_gib),
        "data_size_per_host_GB": data.size_per_host_gib,
        "epochs": epochs,
        "end": _moment(windows[-1]["start_unix_s"] + windows[-1]["elapsed_s"]),
    }


def checkpoint_metric(
    phase: Literal["save", "load"], checkpoints: Sequence[tuple[int, float]]
) -> Document:
    """Metrics of checkpoints, of each its bytes and its time in s; nothing where there are none."""
    if not checkpoints:
        return {}
    rates = [size / GIB / took_s for size, took_s in checkpoints]
    lengths_s = [took_s for _, took_s in checkpoints]
    return {
        f"{phase}_checkpoint_io_mean_GB_per_second": fmean(rates),
        f"{phase}_checkpoint_io_stdev_GB_per_second": pstdev(rates),
        f"{phase}_checkpoint_duration_mean_seconds": fmean(lengths_s),
        f"{phase}_checkpoint_duration_stdev_seconds": pstdev(lengths_s),
        "checkpoint_size_GB": fmean(size / GIB for size, _ in checkpoints),
    }


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime(_MOMENT)


def _host_values(hosts: HostFacts, size_gib: float) -> Document:
    """A value for each host, in the job's order; those that told nothing are missing."""
    facts = [*hosts.facts.values()]
    memory = [size for each in facts if (size := host_memory_bytes(each)) is not None]
    return {
        "host_cpu_count": [each["cpu"]["threads"] for each in facts],
        "host_processor_name": facts[0]["cpu"]["model"] if facts else "",
        "potential_caching": [0 if size / GIB <= size_gib else 1 for size in memory],
        "host_cpuinfo": {name: dict(each["cpu"]) for name, each in hosts.facts.items()},
        "host_meminfo": {name: dict(each["memory"]) for name, each in hosts.facts.items()},
        "host_memory_GB": [size / GIB for size in memory],
    }
