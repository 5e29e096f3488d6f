"""What the tests of the workflow engine share: a job, a stage's result, and a program that plays
an engine, so that whole jobs run in a fraction of a second and without MPI."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from itertools import islice
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from facts_of_hosts import facts_of
from hypothesis import settings
from rule_recorder import cases_of, node_of, recorded, refuted
from workplace import JobDirectory

from mlps.engine import archive as files
from mlps.engine import preflight, run
from mlps.engine.archive import Archive
from mlps.engine.canonical import Document
from mlps.engine.cli import main
from mlps.engine.compose import compose
from mlps.engine.host_probe import Request as HostRequest
from mlps.engine.host_probe import host_facts
from mlps.engine.jobs import plan_here
from mlps.engine.needs import Needs
from mlps.engine.plan import Launch, Plan, make_plan
from mlps.engine.progress import PlainDisplay
from mlps.engine.reach import Probed
from mlps.engine.run import Report, Request, run_job
from mlps.engine.signals import StopRequests
from mlps.engine.spec import SWEEP_KEYS, JobSpec, build
from mlps.engine.supervise import Outcome, supervise

GIB = 2**30

# A shell has what it starts in the background ignore Ctrl-C, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no reason for a property to fail.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

PYTHON = "/opt/python3"

Changes = Mapping[str, object]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One worker begins with the tests on several hosts, another one with whole jobs of a user.

    Each worker is given a block of the same length, and later takes from the end of others'. So
    these, that last longest, are neither all left to the end nor all in each other's way.
    """
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    heavy = [
        [item for item in items if item.path.parent.name == name] for name in ("cluster", "e2e")
    ]
    light = iter([item for item in items if item.path.parent.name not in ("cluster", "e2e")])
    dealt: list[pytest.Item] = []
    for worker in range(workers):
        block = (len(items) - len(dealt)) // (workers - worker)
        own = [item for kind in heavy[worker::workers] for item in kind]
        dealt += [*own, *islice(light, max(block - len(own), 0))]
    items[:] = [*dealt, *light]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that tests/rule_cases.py names must fire its rules, or judge them and be silent."""
    fires, silent = cases_of(node_of(item))
    if not fires and not silent:
        return (yield)
    with recorded(calls=bool(silent)) as record:
        result = yield
    wrong = refuted(record, fires, silent)
    assert not wrong, f"tests/rule_cases.py: {'; '.join(wrong)}"
    return result


# ---------------------------------------------------------------- jobs


@pytest.fixture(scope="session")
def official() -> Document:
    """The document of a job that changes nothing; copy it before changing it."""
    composed = compose(["benchmark=kvcache/quick"], conf_dirs=(), cwd=Path("/nowhere"))
    document = {key: value for key, value in composed.values.items() if key not in SWEEP_KEYS}
    return document | {"data_dir": "/data", "results_dir": "/results"}


@pytest.fixture(scope="session")
def make_document(official: Document) -> Callable[..., Document]:
    """The official job with some dotted keys changed, and some removed."""

    def make(changes: Changes | None = None, *, without: Sequence[str] = ()) -> Document:
        document = copy.deepcopy(official)
        for key, value in (changes or {}).items():
            *parents, name = key.split(".")
            _descend(document, parents)[name] = copy.deepcopy(value)
        for key in without:
            *parents, name = key.split(".")
            del _descend(document, parents)[name]
        return document

    return make


def _descend(document: Document, parents: Sequence[str]) -> Document:
    for name in parents:
        document = document[name]
    return document


@pytest.fixture(scope="session")
def make_spec(make_document: Callable[..., Document]) -> Callable[..., JobSpec]:
    """The official job with some dotted keys changed, as a JobSpec."""
    return lambda changes=None: build(make_document(changes), {})


@pytest.fixture(scope="session")
def plan_of(make_spec: Callable[..., JobSpec]) -> Callable[..., Plan]:
    """The plan of the official job with some dotted keys changed."""
    return lambda changes=None: make_plan(make_spec(changes), python=PYTHON)


# ---------------------------------------------------------------- results of stages


def _direction(operations: int, size: int) -> Document:
    """Half of the operations took 1 ms, the others 2 ms, but for one of 9 ms."""
    fast = operations // 2
    slow = operations - fast - 1
    return {
        "window_bytes": operations * size,
        "window_operations": operations,
        "total_bytes": operations * size,
        "total_operations": operations,
        "latency": {
            "unit": "ns",
            "upper": [1_000_000, 2_000_000, 9_000_000],
            "count": [fast, slow, 1],
            "sum": fast * 1_000_000 + slow * 2_000_000 + 9_000_000,
            "min": 999_000,
            "max": 8_999_000,
        },
    }


def stage_result(
    stage: str = "run",
    option: str | None = None,
    trial: int | None = 0,
    *,
    ranks: int = 2,
    **changes: object,
) -> Document:
    """A result event: in 2 s, 1024 reads and 512 writes of 4 MiB each. Other keys by name."""
    result: Document = {
        "event": "result",
        "stage": stage,
        "option": option,
        "trial": trial,
        "status": "complete",
        "errors": [],
        "window": {
            "start_unix_s": 1.8e9,
            "ramp_s": 0.5,
            "length_s": 2.0,
            "drain_s": 0.25,
            "elapsed_s": 3.0,
        },
        "io": {"read": _direction(1024, 4 * 2**20), "write": _direction(512, 4 * 2**20)},
        "verify": {"operations": 1024, "blocks": 1024, "bytes": 4 * GIB, "mismatches": 0},
        "plan": {"sha256": "ab" * 32, "generator": "kvcache-turns/1", "hashed_operations": 64},
        "core": {
            "name": "python_threads",
            "direct": True,
            "direct_refused": None,
            "alignment_bytes": 4096,
            "durability": "none",
        },
        "ranks": {
            "hosts": ["node1"],
            "host_index": [0] * ranks,
            "read_p99_ns": [2_000_000 + 500_000 * rank for rank in range(ranks)],
            "write_p99_ns": [2_000_000] * ranks,
            "cpu_user_s": [1.0] * ranks,
            "cpu_system_s": [0.5] * ranks,
            "peak_rss_bytes": [100 * 2**20 + rank * 2**20 for rank in range(ranks)],
        },
        "details": {},
    }
    return copy.deepcopy(result | changes)


@pytest.fixture(scope="session")
def make_result() -> Callable[..., Document]:
    """A stage's result event, see stage_result."""
    return stage_result


def histogram_of(*samples_ms: int) -> Document:
    """A latency histogram of few samples, in ms."""
    taken = sorted(set(samples_ms))
    return {
        "unit": "ns",
        "upper": [value * 10**6 for value in taken],
        "count": [samples_ms.count(value) for value in taken],
        "sum": sum(samples_ms) * 10**6,
        "min": taken[0] * 10**6,
        "max": taken[-1] * 10**6,
    }


def full_result(**changes: object) -> Document:
    """A result event of one rank with all that may be left out, but for a search: 12 s long."""
    latencies = ("request", "queue", "service", "prefix_load", "entry_read", "entry_write")
    sizes = {"below_bytes": 2**27, "entries": 64, "bytes": 4 * GIB, "max_ns": 10**8}
    moved = {"read_bytes": 4 * GIB, "write_bytes": 2 * GIB}
    window = {"length_s": 12.0, "read_bytes": 3 * GIB, "write_bytes": GIB}
    carried = {"receive_bytes": 5 * GIB, "send_bytes": 3 * GIB}
    result = stage_result(
        ranks=1,
        latency={name: histogram_of(5, 10, 20) for name in latencies},
        sizes={name: [sizes | {"sum_ns": 2 * 10**9}] for name in ("read", "write")},
        timeline={"bin_s": 1, "read_bytes": [GIB // 3] * 12, "write_bytes": [GIB // 6] * 12},
        device=[{"host": "node1", "device": "sda", **moved, "window": window}],
        mount=[{"host": "node1", "type": "nfs4", **moved, "window": window}],
        network=[
            {
                "host": "node1",
                "interfaces": ["eth0"],
                **carried,
                "window": {"length_s": 12.0, **carried},
            }
        ],
        measures={
            "rates": {"generated_tokens": 6000},
            "ratios": {"prefix_hit": {"part": 1, "whole": 4}},
        },
        details={
            "working_set_bytes": 32 * GIB,
            "deviations": ["prompts are never found", "no fsync"],
            "window_cut": "the trace ended",
        },
    )
    result["window"] |= {"length_s": 12.0, "elapsed_s": 12.75}
    result["ranks"] |= {
        "read_bytes": [4 * GIB],
        "write_bytes": [2 * GIB],
        "entry_read_p95_ns": [20_000_000],
        "entry_write_p95_ns": [None],
        "request_p95_ns": [20_000_000],
        "storage_s": [3.0],
        "generated_tokens": [6000],
        "requests": [3],
        "context_switches": [600],
    }
    return copy.deepcopy(result | changes)


@pytest.fixture(scope="session")
def make_full_result() -> Callable[..., Document]:
    """A stage's result event with all that may be left out, see full_result."""
    return full_result


def search_result() -> Document:
    """A search event: 16 requests/s are too many, 8 are not and are confirmed."""

    def probe(purpose: str, rate_per_s: float, load_ms: int) -> Document:
        moved = {"requests": 90, "length_s": 10.0, "read_bytes": 20 * GIB, "write_bytes": 10 * GIB}
        return {
            "purpose": purpose,
            "rate_per_s": rate_per_s,
            "prefix_load": histogram_of(load_ms),
            **moved,
        }

    probes = [probe("search", 16.0, 700), probe("search", 8.0, 400), probe("confirm", 8.0, 450)]
    return {"limit_ms": 500.0, "fraction": 0.99, "probes": probes}


@pytest.fixture(scope="session")
def search() -> Document:
    """What a stage that searched reports of it, see search_result."""
    return search_result()


# ---------------------------------------------------------------- a program that plays an engine

PLAYER = """\
#!{python} -S
# Plays an engine: one rank that reports what result.json says, or misbehaves as told.
import base64, hashlib, json, os, pathlib, signal, sys, time, zlib

here = pathlib.Path(__file__).parent
arguments = sys.argv[1:]
if "--version" in arguments:
    print("player 1.0")
    sys.exit()

def value(flag):
    return arguments[arguments.index(flag) + 1] if flag in arguments else None

def say(**event):
    print(json.dumps(event), flush=True)

stage, option, trial = value("--stage"), value("--option"), value("--trial")
name = "-".join(part for part in (stage, option, trial) if part)
with open(here / "calls", "a") as calls:
    calls.write(name + " " + os.environ["MLPS_RUN_ID"] + "\\n")
job = zlib.decompress(base64.b64decode(os.environ["MLPS_JOB"]))
say(event="ranks", ranks=[["node1", os.getpid()]],
    job_sha256={{hashlib.sha256(job).hexdigest(): "0"}})
behaviour = json.loads((here / "behaviour.json").read_text()).get(name, {{}})
if behaviour == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "wait":
    say(event="progress", phase="waiting")
    sys.stdin.readline()
    behaviour = {{"status": "stopped"}}
result = json.loads((here / "result.json").read_text())
result.update(stage=stage, option=option, trial=None if trial is None else int(trial))
if stage != "run":
    result.update(window=None, io={{}}, verify=dict.fromkeys(result["verify"], 0))
result.update(behaviour)
say(**result)
sys.stdin.readline()
sys.exit(4 if result["status"] == "failed" else 0)
"""


@dataclass(frozen=True)
class Player(JobDirectory):
    """A directory with a program that can be cluster.python, and room for data and results."""

    @classmethod
    def make(cls, root: Path) -> Player:
        player = cls(root)
        player.program.write_text(PLAYER.format(python=sys.executable))
        player.program.chmod(player.program.stat().st_mode | stat.S_IXUSR)
        (root / "result.json").write_text(json.dumps(stage_result(ranks=1)))
        player.behave()
        player.data_dir.mkdir()
        return player

    @property
    def program(self) -> Path:
        return self.root / "player"

    @property
    def changes(self) -> dict[str, Any]:
        """What makes this program run a job: keys of the job."""
        return {
            "data_dir": str(self.data_dir),
            "results_dir": str(self.results_dir),
            "cluster.python": str(self.program),
            "cluster.ranks_per_host": 1,
            "launcher.name": "process",
            "launcher.program": None,
            "launcher.ranks": "one",
            "launcher.argv": ["{command}"],
            "monitor.interval_s": None,
        }

    @property
    def overrides(self) -> list[str]:
        """The same as words of a command line."""
        return [
            "benchmark=kvcache/quick",
            "launcher=process",
            "monitor.interval_s=null",
            "cluster.ranks_per_host=1",
            f"cluster.python={self.program}",
            f"data_dir={self.data_dir}",
            f"results_dir={self.results_dir}",
        ]

    def behave(self, behaviours: Mapping[str, object] | None = None) -> None:
        """From now on, misbehave in stages: `die`, `wait`, or keys of the result to replace."""
        (self.root / "behaviour.json").write_text(json.dumps(behaviours or {}))

    def calls(self) -> list[str]:
        """Stages that were started since the last call, in order, each with its run."""
        path = self.root / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def stages(self) -> list[str]:
        """Stages that were started since the last call, in order."""
        return [line.split()[0] for line in self.calls()]


def _short_check(patch: pytest.MonkeyPatch) -> None:
    """Preflight without the real engine, MPI and the interpreter that a player only plays."""
    replies = preflight._Replies(needs=(), mpi=None, version=None)
    patch.setattr(preflight, "_ask_here", lambda *_: replies)
    patch.setattr(preflight, "_needs", _modest_needs)
    patch.setattr(preflight, "_probe_here", _facts_here)
    patch.setattr(run, "collect_facts", _one_host)
    patch.setattr(run, "supervise", _CLOCK)
    patch.setattr(run, "datetime", _Ahead)


class _Clock:
    """The time of played stages: a player says that it measured for longer than it ran."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self, launch: Launch, *given: Any) -> Outcome:
        outcome = supervise(launch, *given)
        if outcome.started_utc is None or outcome.elapsed_s is None:
            return outcome
        start = datetime.fromisoformat(outcome.started_utc) + timedelta(seconds=self.ahead_s)
        outcome = replace(outcome, started_utc=start.isoformat(timespec="milliseconds"))
        result, length_s = outcome.result, 0.0
        if result is not None and (window := result["window"]) is not None:
            length_s = float(window["elapsed_s"])
            _shift_source(result, start.timestamp() - window["start_unix_s"])
            window["start_unix_s"] = start.timestamp()
            result["ranks"]["max_latency_ns"] = [launch.index] * len(result["ranks"]["host_index"])
            outcome = replace(outcome, result=result, result_line=json.dumps(result).encode())
        self.ahead_s += length_s
        return replace(outcome, elapsed_s=(outcome.elapsed_s or 0.0) + length_s)


def _shift_source(result: Document, seconds: float) -> None:
    """When checkpoints were written stays as long before their reads as the player says."""
    source = (result.get("checkpointing") or {}).get("source")
    if source is not None:
        source["start_unix_s"] += seconds
        source["end_unix_s"] += seconds


_CLOCK = _Clock()


class _Ahead(datetime):
    """The time of day of played jobs."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(seconds=_CLOCK.ahead_s)


def _one_host(*_arguments: object, **_settings: object) -> tuple[Probed, ...]:
    """Facts that are the same wherever tests run."""
    facts = facts_of("localhost", memory__total_bytes=8 * GIB)
    return (Probed(name="localhost", here=True, facts=facts, clock_offset_s=0.0),)


def _facts_here(_check: object, request: HostRequest, _mpi: object) -> Probed:
    facts = host_facts(replace(request, mpi=False), request.env)
    return Probed(name="", here=True, facts=facts, clock_offset_s=0.0)


def _modest_needs(*_arguments: object) -> Needs:
    """Instead of asking the real engine, which takes longer than all else of a played job."""
    return Needs(disk_bytes=1, memory_bytes_per_rank=1, disk_arithmetic="1 byte")


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Player:
    """A program that plays an engine."""
    _short_check(monkeypatch)
    directory = tmp_path / "player"
    directory.mkdir()
    return Player.make(directory)


class Silent(PlainDisplay):
    """A display that keeps what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, name: str, number: int, count: int) -> None:
        self.say(f"stage {number}/{count} {name}")

    def progress(self, event: Document) -> None:
        self.say(f"progress {event.get('phase')}")

    def say(self, text: str) -> None:
        self.lines.append(text)


def request_of(spec: JobSpec, **changes: Any) -> Request:
    keys: dict[str, Any] = {
        "spec": spec,
        "plan": plan_here(spec),
        "origins": {},
        "choices": {},
        "overrides": ("seed=42",),
        "links": {},
        "finished": {},
    }
    return Request(**(keys | changes))


@pytest.fixture(scope="session")
def play(make_spec: Callable[..., JobSpec]) -> Callable[..., Report]:
    """Runs a whole job with a player."""

    def play_job(
        player: Player,
        changes: Changes | None = None,
        *,
        behaviours: Mapping[str, object] | None = None,
        display: PlainDisplay | None = None,
        stops: StopRequests | None = None,
        **request: Any,
    ) -> Report:
        player.behave(behaviours)
        spec = make_spec({**player.changes, **(changes or {})})
        asked = request_of(spec, **request)
        with pytest.MonkeyPatch.context() as patch:
            _short_check(patch)
            return run_job(asked, display or Silent(), stops or StopRequests())

    return play_job


@pytest.fixture
def display() -> Silent:
    """A display that keeps what it was told."""
    return Silent()


SAMPLED = {"trials": 2, "monitor.interval_s": 10}


@pytest.fixture(scope="session")
def _sealed(play: Callable[..., Report], tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = play(Player.make(tmp_path_factory.mktemp("sealed")), SAMPLED)
    assert report.verdict.exit_code == 0, report.verdict
    return report.archive.root


@pytest.fixture
def sealed(_sealed: Path, tmp_path: Path) -> Archive:
    """The sealed archive of a job of two trials that ended well; a copy, to be changed."""
    return Archive(root=Path(shutil.copytree(_sealed, tmp_path / _sealed.name)))


@pytest.fixture(scope="session")
def reseal() -> Callable[[Archive], None]:
    """Gives an archive a manifest that fits its files, as somebody who forges one does."""

    def again(archive: Archive) -> None:
        archive.path(files.MANIFEST).write_bytes(files.manifest_text(archive))

    return again


@pytest.fixture(scope="session")
def edit() -> Callable[..., None]:
    """Changes a JSON document of an archive in place."""

    def change(archive: Archive, name: str, function: Callable[[Any], object]) -> None:
        document = files.read_document(archive.path(name))
        function(document)
        archive.path(name).write_bytes(files_json(document, name))

    return change


def files_json(document: object, name: str) -> bytes:
    """The bytes that mlps itself would have written: canonical for the job and for events."""
    if name == files.JOB:
        return json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
    if name.startswith("stages/") and name.endswith(files.RESULT):
        return json.dumps(document).encode() + b"\n"
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


# ---------------------------------------------------------------- processes


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fails a test that leaves a process running; such a one is ended here."""
    before = set(_children())
    yield
    left = [child for child in _children() if child not in before]
    for child in left:
        child.kill()
    assert left == []


def _children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(os.getpid()).children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
    ]


# ---------------------------------------------------------------- processes and files


def wait_for(condition, what: str, limit_s: float = 90.0):
    """The first true value of a condition; fails where there is none in time."""
    deadline = time.monotonic() + limit_s
    while (asked := time.monotonic()) < deadline:
        value = condition()
        if value:
            return value
        # A look through all processes costs what those that are waited for could use.
        time.sleep(max(0.02, 4 * (time.monotonic() - asked)))
    raise AssertionError(f"waited {limit_s} s for {what}")


@pytest.fixture(name="wait_for")
def _wait_for():
    return wait_for


@pytest.fixture
def load():
    """Reads a JSON file."""
    return lambda path: json.loads(Path(path).read_bytes())


@pytest.fixture
def mlps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLPS_CONF_PATH", raising=False)
    monkeypatch.setattr("mlps.engine.processes.adopt_orphans", lambda: None)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlps", *map(str, words)])
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
