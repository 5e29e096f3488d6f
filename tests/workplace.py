"""The directory in which a test runs the installed `mlps`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

MLPS = Path(sys.executable).with_name("mlps")

# Tests run beside each other: a host that answers late is busy and not lost.
PATIENT = ("preflight.ssh_limit_s=30", "preflight.launch_limit_s=30")

# A whole job in about three seconds, with every stage of the quick benchmark: chunks of 96 KiB.
SMALL = (
    "benchmark=kvcache/quick",
    "benchmark.users=2",
    "benchmark.chunk_tokens=4",
    "benchmark.chunks_per_user=8",
    "benchmark.queue_depth=2",
    "benchmark.ramp_s=0.1",
    "benchmark.duration_s=0.4",
    *PATIENT,
)


@dataclass(frozen=True)
class JobDirectory:
    """A new directory with data and results apart."""

    root: Path

    mlps = MLPS

    @property
    def data_dir(self) -> Path:
        return self.root / "data"

    @property
    def results_dir(self) -> Path:
        return self.root / "results"

    def small(self, *more: str) -> tuple[str, ...]:
        """Overrides of the small job; those of `more` replace its own."""
        words = {word.partition("=")[0]: word for word in (*SMALL, "data_dir=data", *more)}
        return tuple(words.values())

    def archives(self) -> list[Path]:
        if not self.results_dir.is_dir():
            return []
        return sorted(path for path in self.results_dir.iterdir() if (path / "job.json").is_file())

    def archive(self) -> Path:
        (found,) = self.archives()
        return found
