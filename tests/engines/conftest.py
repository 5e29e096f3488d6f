"""A small KV-cache job and a way to run its stages as their caller does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mlps.engines.checkpoint_native.stages import CheckpointEngine
from mlps.engines.console import Console
from mlps.engines.contract import encode_job, merged, read_job
from mlps.engines.kvcache_native.stages import KvCacheEngine
from mlps.engines.result import gather_result
from mlps.engines.stage import Engine, Needs, Session, StageEnded
from mlps.engines.training_native.stages import TrainingEngine
from mlps.engines.vectordb.setting import Setting, setting_of
from mlps.engines.vectordb.stages import VectorEngine
from mlps.engines.world import SoloWorld, host_name

MPIEXEC = Path(sys.executable).parent / "mpiexec"
RUN_ID = "20260101-test"
RESULTS = jsonschema.Draft202012Validator(
    json.loads((resources.files("mlps.schemas") / "stage_result.json").read_text())
)

# What small jobs of all workloads have.
COMMON: dict[str, Any] = {
    "name": "kvcache/test",
    # 256 bytes a token, 16 KiB a chunk, 4 blocks.
    "model": {"name": "mini", "layers": 1, "kv_heads": 1, "head_dim": 64, "dtype": "float16"},
    "tensor_parallel": 1,
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

WORKLOADS: dict[str, dict[str, Any]] = {
    "turns": {
        "users": 4,
        "chunk_tokens": 64,
        "chunks_per_user": 8,
        "turn_chunks_max": 3,
        "continue_probability": 0.8,
        "rate_per_s": None,
    },
    # Entries of up to 50 KiB in slots of 16 KiB, 256 of these.
    "v3": {
        "users": 4,
        "capacity_gib": 2**-8,
        "cpu_cache_gib": 0,
        "slot_bytes": 16384,
        "stores_in_flight": None,
        "context_tokens_max": 200,
        "speedup": None,
        "multi_turn": True,
        "rag": False,
        "rag_documents": 2,
        "prefill_only": False,
        "decode_only": False,
    },
    # Chunks of 16 KiB in two operations each, 128 of these for each user.
    "prefix": {
        "model": {"name": "tiny", "layers": 1, "kv_heads": 1, "head_dim": 8, "dtype": "float16"},
        "users": 4,
        "chunk_tokens": 512,
        "capacity_gib": 2**-7,
        "slot_bytes": 8192,
        "traffic": "conversation",
        "shared_prefixes": 6,
        "zipf_exponent": 1.0,
        "rate_per_s": None,
        "search": {
            "prefix_load_ms": 500,
            "fraction": 0.99,
            "start_per_s": 50,
            "tolerance_pct": 50,
            "probe_s": 0.05,
            "requests_min": 5,
            "probes_max": 8,
        },
    },
    # Chunks of 16 KiB, 256 of these.
    "trace": {
        "chunk_tokens": 64,
        "capacity_gib": 2**-8,
        "slot_bytes": 16384,
        "requests_in_flight": 8,
        "speedup": None,
        "trace": {
            "path": "/nowhere/trace",
            "format": "mooncake",
            "block_tokens": 64,
            "broken_lines_max": 0,
            "cycles": 0,
            "same_ids": False,
            "rate_per_s": None,
            "conversations_open": 2,
        },
    },
}


def write_trace(directory: Path, form: str, requests: int = 40) -> Path:
    """A small trace of its own making: conversations of four turns in chunks of 64 tokens."""
    path = directory / f"{form}.trace"
    turns = [(number, number // 4, number % 4) for number in range(requests)]
    if form == "mooncake":
        lines = [
            {
                "timestamp": 5 * number,
                "input_length": 64 * (turn + 2),
                "output_length": 10 + turn,
                # One block that all prompts begin with, then the conversation's own.
                "hash_ids": [0, *(100 * talk + block for block in range(1, turn + 2))],
            }
            for number, talk, turn in turns
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    elif form == "burstgpt":
        rows = [f"{number / 200},{100 + 70 * turn},{30 + talk}" for number, talk, turn in turns]
        path.write_text("\n".join(["Timestamp,Request tokens,Response tokens", *rows, ""]))
    else:
        talk = [("human", "x" * 300), ("gpt", "y" * 500)] * 4
        talks = [
            {"id": str(number), "conversations": [{"from": a, "value": b} for a, b in talk]}
            for number in range(requests // 4)
        ]
        path.write_text(json.dumps(talks, indent=1))
    return path


def section(workload: str = "turns", /, **changes: Any) -> dict[str, Any]:
    """The benchmark section of a small job."""
    return merged({"workload": workload, **COMMON, **WORKLOADS[workload]}, changes)


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
    workload: str = "turns"
    engine: str = "kvcache_native"
    run_id: str = RUN_ID

    @property
    def job(self) -> dict[str, Any]:
        """The job document."""
        return {
            "benchmark": section(self.workload, **self.changes),
            "data_dir": str(self.data_dir),
            "seed": self.seed,
        }

    @property
    def directory(self) -> Path:
        """The job's directory."""
        return self.data_dir / f"mlps-{self.run_id}"

    def segment(self, rank: int) -> Path:
        """The only segment file of a rank."""
        return self.directory / f"rank_{rank:04d}" / "segment_0000.dat"

    def chunk(self, rank: int, number: int) -> Path:
        """The file of a chunk with a file of its own."""
        low, high = f"{number & 0xFF:02x}", f"{number >> 8 & 0xFF:02x}"
        return self.directory / f"rank_{rank:04d}" / "chunks" / low / high / f"{number:016x}"

    @property
    def canonical(self) -> bytes:
        """The job as bytes."""
        return json.dumps(self.job, sort_keys=True, separators=(",", ":")).encode()

    def engine_here(self) -> Engine:
        """The engine, in this process."""
        return KvCacheEngine()

    def solo(self, stage: str, option: str | None = None) -> dict[str, Any]:
        """Runs a stage in this process, as its only rank, and returns its valid result."""
        hosts = [host_name()]
        world = SoloWorld()
        with Path(os.devnull).open("wb") as output:
            session = Session(
                job=read_job(self.canonical, self.run_id, option),
                stage=stage,
                world=world,
                console=Console(output.fileno()),
                hosts=hosts,
            )
            with suppress(StageEnded):
                self.engine_here().stages()[stage](session)
        ended = gather_result(world, session.outcome, hosts, session.status, session.failures)
        event = {"event": "result", "stage": stage, "option": option, "trial": None, **ended}
        result: dict[str, Any] = json.loads(json.dumps(event, allow_nan=False))
        RESULTS.validate(result)
        return result

    def needs(self, ranks: int = 1) -> Needs:
        """What the engine says that the job needs."""
        return self.engine_here().needs(read_job(self.canonical, self.run_id, None), ranks)

    def environment(self) -> dict[str, str]:
        """What the caller gives to the ranks."""
        return {
            "PATH": os.environ["PATH"],
            "MLPS_JOB": encode_job(self.canonical),
            "MLPS_RUN_ID": self.run_id,
        }

    @contextmanager
    def launch(
        self, *arguments: str, ranks: int = 0, program: tuple[str, ...] = (), **options: Any
    ) -> Iterator[Launched]:
        """Starts a stage: without MPI for 0 ranks."""
        engine = program or ("-m", f"mlps.engines.{self.engine}")
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
        assert launched.process.returncode == expected, launched.noise + stderr
        assert "Traceback" not in stderr
        assert launched.noise == ""
        return result


# A small job of training: 24 files of 20 kB, 3 epochs of 6 steps for two ranks.
TRAINING: dict[str, Any] = {
    "dataset": {
        "directory": None,
        "train": {"files": 24, "subfolders": 1},
        "record_bytes": 20_000,
        "record_bytes_stdev": 4_000,
        "write_threads": 1,
    },
    "reader": {"batch": 2, "threads": 2},
    "train": {"epochs": 3, "computation_s": 0.001},
    "ceiling": {"when": "success", "steps": 12},
    "silence_limit_s": 60,
    "start_limit_s": 60,
}


@dataclass(slots=True)
class TrainingBench(Bench):
    """The same for a job of training."""

    engine: str = "training_native"

    @property
    def job(self) -> dict[str, Any]:
        """The job document."""
        text = (resources.files("mlps.conf") / "benchmark/training.yaml").read_text()
        benchmark = merged(merged(yaml.safe_load(text), TRAINING), self.changes)
        return {"benchmark": benchmark, "data_dir": str(self.data_dir), "seed": self.seed}

    def engine_here(self) -> Engine:
        """The engine, in this process."""
        return TrainingEngine()

    @property
    def dataset(self) -> Path:
        """The directory of the dataset."""
        return self.directory / "dataset"


@pytest.fixture
def training(fast_place: Path) -> Iterator[TrainingBench]:
    """A small job of training whose data directory is in memory where there is such a place."""
    with tempfile.TemporaryDirectory(dir=fast_place) as place:
        yield TrainingBench(Path(place))


# Small checkpoints: two of a model of 5 MiB, whose files end within blocks.
CHECKPOINTING: dict[str, Any] = {
    "model": {"layers": 3, "hidden": 128, "ffn": 250, "heads": 4, "kv_heads": 2, "vocab": 500},
    "writes": 2,
    "reads": 2,
    "time_between_s": 0,
    "io": {"io_size_bytes": 65536, "depth": 4},
    "silence_limit_s": 60,
    "start_limit_s": 60,
}


@dataclass(slots=True)
class CheckpointBench(Bench):
    """The same for a job of checkpointing."""

    engine: str = "checkpoint_native"

    @property
    def job(self) -> dict[str, Any]:
        """The job document."""
        text = (resources.files("mlps.conf") / "benchmark/checkpointing.yaml").read_text()
        benchmark = merged(merged(yaml.safe_load(text), CHECKPOINTING), self.changes)
        return {"benchmark": benchmark, "data_dir": str(self.data_dir), "seed": self.seed}

    def engine_here(self) -> Engine:
        """The engine, in this process."""
        return CheckpointEngine()

    @property
    def checkpoints(self) -> Path:
        """The directory of all checkpoints of a job that keeps none."""
        return self.directory / "checkpoints"


@pytest.fixture
def checkpointing(fast_place: Path) -> Iterator[CheckpointBench]:
    """Small checkpoints in a data directory that is in memory where there is such a place."""
    with tempfile.TemporaryDirectory(dir=fast_place) as place:
        yield CheckpointBench(Path(place))


@pytest.fixture(scope="session")
def make_training_bench() -> Callable[..., TrainingBench]:
    """Makes a small job of training that works in a given directory."""
    return TrainingBench


@pytest.fixture(scope="session")
def make_checkpoint_bench() -> Callable[..., CheckpointBench]:
    """Makes a small job of checkpointing that works in a given directory."""
    return CheckpointBench


@pytest.fixture(scope="session")
def fast_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory in memory where there is one: for what does not hang on the storage."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 2**28:
        yield tmp_path_factory.mktemp("fast")
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="mlps-tests-") as place:
        yield Path(place)


@pytest.fixture(scope="session")
def new_place(fast_place: Path) -> Callable[[], Path]:
    """Makes a new directory there; a worker that takes over tests may set up a module twice."""
    return lambda: Path(tempfile.mkdtemp(dir=fast_place))


@pytest.fixture
def quick(fast_place: Path) -> Iterator[Bench]:
    """A small job whose data directory is in memory where there is such a place."""
    with tempfile.TemporaryDirectory(dir=fast_place) as place:
        yield Bench(Path(place))


@pytest.fixture(scope="session")
def make_section() -> Callable[..., dict[str, Any]]:
    """The benchmark section of a small job of a workload, with some keys changed."""
    return section


@pytest.fixture(scope="session")
def make_trace() -> Callable[..., Path]:
    """Writes a small trace of a format into a directory."""
    return write_trace


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


# A small index: 600 vectors in a dozen lists, 12 queries of each of which the nearest 10 are known.
VECTORDB: dict[str, Any] = {
    "database": {"backend": "native_ivf"},
    "dataset": {"num_vectors": 600, "dimension": 16, "clusters": 12, "batch_size": 250},
    "index": {"nlist": 12, "kmeans_rounds": 3},
    "search": {"nprobe": 6},
    "query": {"num_query_vectors": 12},
    "truth": {"depth": 10},
    "cache": {"mode": "warm"},
    "run": {"runtime_s": 0.2},
    "silence_limit_s": 60,
    "start_limit_s": 60,
}


@dataclass(slots=True)
class VectorBench(Bench):
    """The same for a job of vector search."""

    engine: str = "vectordb"

    @property
    def job(self) -> dict[str, Any]:
        """The job document."""
        text = (resources.files("mlps.conf") / "benchmark/vectordb.yaml").read_text()
        benchmark = merged(merged(yaml.safe_load(text), VECTORDB), self.changes)
        return {"benchmark": benchmark, "data_dir": str(self.data_dir), "seed": self.seed}

    def engine_here(self) -> Engine:
        """The engine, in this process."""
        return VectorEngine()

    @property
    def place(self) -> Path:
        """The directory of index and truth of a job that keeps neither."""
        return self.directory / "vectordb"


@pytest.fixture
def vectordb(fast_place: Path) -> Iterator[VectorBench]:
    """A small job of vector search in a data directory that is in memory where there is one."""
    with tempfile.TemporaryDirectory(dir=fast_place) as place:
        yield VectorBench(Path(place))


@pytest.fixture(scope="session")
def vector_benchmark() -> Callable[..., dict[str, Any]]:
    """The benchmark section of a small job of vector search, with some keys changed."""
    benchmark = VectorBench(Path("/nowhere")).job["benchmark"]

    def changed(**changes: Any) -> dict[str, Any]:
        return merged(benchmark, changes)

    return changed


# The same with all lists read, and everything that searches.
SEARCHING: dict[str, Any] = {
    "dataset": {"num_vectors": 400, "clusters": 10, "cluster_spread": 1.5},
    "index": {"nlist": 10},
    "search": {"nprobe": 10, "reads_in_flight": 1},
    "query": {"num_query_vectors": 30},
    "truth": {"depth": 20},
    "run": {"runtime_s": 0.3},
    "capacity": {"when": "success", "runtime_s": 0.1, "precision_pct": 50},
    "sweep": {
        "when": "success", "parameter": "nprobe", "values": [1, 4, 10], "runtime_s": 0.1,
    },
}  # fmt: skip
BAD_BACKENDS = Path(__file__).parent.parent / "bad_backends"


@dataclass(slots=True)
class SearchBench(VectorBench):
    """The same for its stages that search, also in backends that are wrong."""

    @property
    def job(self) -> dict[str, Any]:
        """The job document."""
        own = VectorBench(self.data_dir, merged(SEARCHING, self.changes), self.seed)
        return own.job

    @property
    def setting(self) -> Setting:
        """What the stages work on."""
        return setting_of(read_job(self.canonical, self.run_id, None), 1)

    def environment(self) -> dict[str, str]:
        """With backends that are wrong."""
        return {**VectorBench.environment(self), "PYTHONPATH": str(BAD_BACKENDS)}


@pytest.fixture
def searching(fast_place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SearchBench]:
    """A small job of vector search; backends that are wrong are found in this process too."""
    monkeypatch.syspath_prepend(BAD_BACKENDS)
    with tempfile.TemporaryDirectory(dir=fast_place) as place:
        yield SearchBench(Path(place))
