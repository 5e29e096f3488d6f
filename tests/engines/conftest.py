"""A small KV-cache job and a way to run its stages as their caller does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlps.engines.contract import encode_job, merged

MPIEXEC = Path(sys.executable).parent / "mpiexec"
RUN_ID = "20260101-test"

BENCHMARK: dict[str, Any] = {
    "name": "kvcache/test",
    "workload": "turns",
    # 256 bytes a token, 16 KiB a chunk, 4 blocks.
    "model": {"name": "mini", "layers": 1, "kv_heads": 1, "head_dim": 64, "dtype": "float16"},
    "tensor_parallel": 1,
    "users": 4,
    "chunk_tokens": 64,
    "chunks_per_user": 8,
    "turn_chunks_max": 3,
    "continue_probability": 0.8,
    "rate_per_s": None,
    "backlog_max": 10000,
    "layout": "segments",
    "queue_depth": 2,
    "precondition_passes": 0,
    "ramp_s": 0.05,
    "duration_s": 0.2,
    "requests": None,
    "roofline": {"when": "never", "tool": "raw", "duration_s": 0.1},
    "io": {
        "direct": True,
        "verify": "all",
        "durability": "none",
        "core": "auto",
        "io_size_bytes": 2**20,
        "rings": None,
    },
    "options": [{"name": "twice", "set": {"users": 8, "io": {"verify": "none"}}}],
}


@dataclass(slots=True)
class Launched:
    """A running stage and what it has said so far."""

    process: subprocess.Popen[str]
    events: list[dict[str, Any]] = field(default_factory=list)
    stderr: str = ""
    noise: str = ""

    def events_until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Reads events up to the first that is wanted."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if wanted(self.events[-1]):
                return self.events[-1]
        raise AssertionError(f"output ended, standard error: {self.finish()}")

    def result(self) -> dict[str, Any]:
        """Reads events up to the result and confirms it."""
        result = self.events_until(lambda event: event["event"] == "result")
        self.say("ok")
        return result

    def say(self, word: str) -> None:
        """Writes a line to standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def finish(self) -> str:
        """Waits for the end and returns standard error."""
        output, self.stderr = self.process.communicate(timeout=60)
        for line in output.splitlines(keepends=True):
            if line.startswith("{"):
                self.events.append(json.loads(line))
            else:
                self.noise += line
        return self.stderr


@dataclass(slots=True)
class Bench:
    """Runs stages of one job in one data directory."""

    data_dir: Path
    changes: dict[str, Any] = field(default_factory=dict)
    seed: int = 42

    @property
    def job(self) -> dict[str, Any]:
        """The job document."""
        return {
            "benchmark": merged(BENCHMARK, self.changes),
            "data_dir": str(self.data_dir),
            "seed": self.seed,
        }

    @property
    def directory(self) -> Path:
        """The job's directory."""
        return self.data_dir / f"mlps-{RUN_ID}"

    def segment(self, rank: int) -> Path:
        """The only segment file of a rank."""
        return self.directory / f"rank_{rank:04d}" / "segment_0000.dat"

    def environment(self) -> dict[str, str]:
        """What the caller gives to the ranks."""
        canonical = json.dumps(self.job, sort_keys=True, separators=(",", ":")).encode()
        return {
            "PATH": os.environ["PATH"],
            "MLPS_JOB": encode_job(canonical),
            "MLPS_RUN_ID": RUN_ID,
        }

    @contextmanager
    def launch(
        self, *arguments: str, ranks: int = 0, program: tuple[str, ...] = (), **options: Any
    ) -> Iterator[Launched]:
        """Starts a stage: without MPI for 0 ranks."""
        engine = program or ("-m", "mlps.engines.kvcache_native")
        command = [sys.executable, *engine, "--stage", *arguments]
        if ranks:
            command = [str(MPIEXEC), "-n", str(ranks), *command]
        process = subprocess.Popen(
            command,
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        try:
            yield Launched(process)
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def stage(self, *arguments: str, ranks: int = 0, **options: Any) -> dict[str, Any]:
        """Runs a stage to its end and returns its result; its exit code must fit its status."""
        with self.launch(*arguments, ranks=ranks, **options) as launched:
            result = launched.result()
            stderr = launched.finish()
        expected = 4 if result["status"] == "failed" else 0
        assert launched.process.returncode == expected, stderr
        assert "Traceback" not in stderr
        assert launched.noise == ""
        return result


@pytest.fixture(scope="session")
def make_bench() -> Callable[[Path], Bench]:
    """Makes a small job that works in a given directory."""
    return Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A small job with an empty data directory."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    return Bench(data_dir)
