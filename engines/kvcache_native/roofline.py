"""What the storage gives to a plain reader and writer of the same files, sizes, mix and depth.

With fio where every rank has it, else with this engine's own executor on the plan's operations in
a random order, each a request of its own.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ..contract import Document
from ..errors import EngineError, JobError
from ..io_core.control import Control
from ..io_core.executor import Settings
from ..io_core.files import OpenFiles
from ..io_core.operations import LOAD, STORE, Operations, Stream
from ..section import Section
from ..stage import Session
from .bench import Bench
from .chunks import GIB
from .layout import Kind
from .planning import first_requests, raw_words

Tool = Literal["auto", "fio", "raw"]

# Stream of random numbers for the order of operations.
_ORDER = 66
_NAP_S = 0.05
_ROWS_MAX = 2**18
_PR_SET_PDEATHSIG = 1
# The executor's buffers are of huge pages. fio's are too with this, from glibc 2.35 on.
_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineParameters:
    """How the roofline is measured."""

    tool: Tool
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Transfers of a plan: the share of reads, and sizes of each kind with their percent.

    On average `operation_transfers` are one operation, and `run_transfers` of one kind follow one
    another in a file.
    """

    read_pct: int
    sizes_pct: tuple[dict[int, int], dict[int, int]]
    operation_transfers: int
    run_transfers: int


def roofline_of(section: Section) -> RooflineParameters:
    """Reads the section `roofline`; raises JobError."""
    return RooflineParameters(
        tool=section.choice("tool", get_args(Tool)), duration_s=section.positive("duration_s")
    )


def check_roofline(benchmark: Section, layout: Kind) -> tuple[str, ...]:
    """The programs that the roofline needs; raises EngineError for one that cannot be measured."""
    section = benchmark.section("roofline")
    tool = roofline_of(section).tool
    if section.choice("when", ("success", "never")) == "never":
        return ()
    if layout == "file_per_chunk":
        _refuse_chunk_files()
    return ("fio",) if tool == "fio" else ()


def measure_roofline(session: Session, bench: Bench) -> None:
    """Opens the prepared files and measures; leaves the roofline in the outcome."""
    section = Section(session.job.benchmark)
    parameters = session.agree(lambda: roofline_of(section.section("roofline")))
    if bench.layout.kind == "file_per_chunk":
        session.agree(_refuse_chunk_files)
    everywhere = all(session.exchange(shutil.which("fio") is not None))
    use_fio = session.agree(partial(_chosen, parameters.tool, everywhere))
    planned: list[Operations] = []

    def plan(_: Control) -> None:
        # Before the clock of the measurement starts.
        planned.append(_first_rows(bench))

    session.phase("planning", plan, unit="files", total=0)
    session.phase("opening", bench.open_plain, unit="files", total=0)
    run = _run_fio if use_fio else _run_raw
    session.phase(
        "fio" if use_fio else "plain transfers",
        partial(run, session, bench, planned[0]),
        unit="s",
        total=parameters.duration_s,
        control=Control(duration_s=parameters.duration_s),
    )


def _refuse_chunk_files() -> None:
    raise JobError(
        "a roofline needs layout segments, files of chunks are opened one by one:"
        " use layout=segments or roofline.when=never"
    )


def _chosen(tool: Tool, everywhere: bool) -> bool:
    if tool == "fio" and not everywhere:
        raise EngineError("roofline.tool is fio, but fio is not on the PATH of every rank")
    return everywhere and tool != "raw"


# ---------------------------------------------------------------- the executor itself


def _run_raw(session: Session, bench: Bench, rows: Operations, control: Control) -> None:
    words = raw_words(
        seed=session.job.seed,
        rank=session.rank,
        stream=_ORDER,
        user=0,
        first=0,
        count=len(rows),
    )
    shuffled = rows[np.argsort(words, kind="stable")]
    bench.transfer(lambda: plain_rows(shuffled), control)
    outcome = session.outcome
    account, window, usage = outcome.account, outcome.window, outcome.usage
    assert account is not None and window is not None and usage is not None
    outcome.roofline = {
        "tool": outcome.core.name if outcome.core else "raw",
        "read_bytes": account.read.window_bytes,
        "write_bytes": account.write.window_bytes,
        "elapsed_s": round(window.length_s, 6),
        "cpu_s": round(usage.user_s + usage.system_s, 6),
    }


def plain_rows(rows: Operations) -> Stream:
    """These rows again and again, each a request of its own that waits for nothing."""
    plain = rows.copy()
    for name in ("request", "step", "gate", "order", "arrival", "tokens"):
        plain[name] = 0
    plain["closes"] = 1
    # Users that follow one another are dealt to the shards in turn.
    plain["user"] = np.arange(len(plain))
    while True:
        yield plain.copy()


def _first_rows(bench: Bench) -> Operations:
    """What storage of 1 GiB/s would be asked for in ramp and window, or all that is asked for."""
    workload = bench.workload
    budget_bytes = math.ceil((workload.ramp_s + workload.duration_s) * GIB)
    rows = first_requests(bench.new_plan().rows(), workload.requests)
    return begun_first(rows, budget_bytes, workload.planned.requests_in_flight)


def begun_first(rows: Stream, budget_bytes: int, requests_in_flight: int) -> Operations:
    """The operations of a plan that so many bytes suffice for, in plan order.

    Requests in flight advance beside each other: should the bytes not suffice for all of them,
    every one has got equally far.
    """
    blocks: list[Operations] = []
    held_bytes = held_rows = requests = 0
    for block in rows:
        blocks.append(block)
        held_rows += len(block)
        held_bytes += int(block["length"].sum(dtype=np.int64))
        requests += int(block["closes"].sum())
        enough = held_bytes >= budget_bytes and requests >= requests_in_flight
        if enough or held_rows >= _ROWS_MAX:
            break
    every = np.concatenate(blocks)
    last = np.flatnonzero(every["closes"])[:requests_in_flight]
    wave = every[: last[-1] + 1] if len(last) else every
    order = np.arange(len(every))
    if wave["length"].sum(dtype=np.int64) >= budget_bytes:
        begins = np.concatenate(([0], last[:-1] + 1))
        nth = np.arange(len(wave)) - np.repeat(begins, np.diff(last, prepend=-1))
        order = np.argsort(nth, kind="stable")
    moved = np.cumsum(every["length"][order], dtype=np.int64)
    return every[np.sort(order[: int(np.searchsorted(moved, budget_bytes)) + 1])]


# ---------------------------------------------------------------- fio


def mix_of(rows: Operations, transfer_bytes: int) -> Mix:
    """The transfers of these rows, their sizes rounded up to powers of two."""
    counts: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    for kind in (LOAD, STORE):
        lengths = rows["length"][rows["kind"] == kind].astype(np.int64)
        whole = int((lengths // transfer_bytes).sum())
        counts[kind][transfer_bytes] += whole
        for rest, times in zip(
            *np.unique(lengths % transfer_bytes, return_counts=True), strict=True
        ):
            if rest:
                size = min(1 << (int(rest) - 1).bit_length(), transfer_bytes)
                counts[kind][size] += int(times)
    reads, writes = (sum(count.values()) for count in counts)
    return Mix(
        read_pct=round(100 * reads / max(reads + writes, 1)),
        sizes_pct=(_percents(counts[LOAD]), _percents(counts[STORE])),
        operation_transfers=max(1, round((reads + writes) / max(len(rows), 1))),
        run_transfers=max(1, round((reads + writes) / max(_runs(rows), 1))),
    )


def _runs(rows: Operations) -> int:
    """Stretches of a file that are read or written from one end to the other."""
    following = rows["offset"][1:] == rows["offset"][:-1] + rows["length"][:-1]
    for name in ("file", "kind"):
        following &= rows[name][1:] == rows[name][:-1]
    return len(rows) - int(following.sum())


def _percents(counts: Counter[int]) -> dict[int, int]:
    """Whole percents that add up to 100; sizes of less than half a percent are left out."""
    total = sum(counts.values())
    shares = {size: round(100 * count / total) for size, count in counts.items() if count}
    shares = {size: share for size, share in sorted(shares.items()) if share}
    if shares:
        largest = max(shares, key=lambda size: shares[size])
        shares[largest] += 100 - sum(shares.values())
    return shares


def fio_argv(
    mix: Mix, files: OpenFiles, settings: Settings, engine: str, runtime_s: float
) -> list[str]:
    """The command of fio for the same files, sizes, mix, depth and durability."""
    mode = {0: "randwrite", 100: "randread"}.get(mix.read_pct, "randrw")
    # So many in sequence before the next random place, as the entries of the plan are.
    sequence = f":{mix.run_transfers}" if mix.run_transfers > 1 else ""
    depth = max(1, settings.depth // settings.shards)
    durable = {"none": [], "fdatasync": ["--fdatasync=1"], "dsync": ["--sync=dsync"]}
    return [
        "fio",
        "--name=roofline",
        f"--filename={':'.join(_escaped(path) for path in files.paths)}",
        f"--rw={mode}{sequence}",
        *([f"--rwmixread={mix.read_pct}"] if mode == "randrw" else []),
        f"--bssplit={','.join(_split(sizes) for sizes in mix.sizes_pct)}",
        # A job for each ring, as the executor has a thread for each; all end with the one process.
        "--thread",
        f"--numjobs={settings.shards}",
        "--group_reporting=1",
        f"--iodepth={depth}",
        # Handed over together, neighbours become one request of the device.
        f"--iodepth_batch_submit={min(mix.operation_transfers, depth)}",
        f"--ioengine={engine}",
        *(["--fixedbufs=1", "--registerfiles=1"] if engine == "io_uring" else []),
        f"--direct={int(files.direct)}",
        *durable[settings.durability],
        "--norandommap",
        "--random_generator=tausworthe64",
        "--time_based",
        # In ms: fio takes a fraction of a second for no limit at all.
        f"--runtime={round(runtime_s * 1000)}ms",
        "--output-format=json",
    ]


def _split(sizes_pct: dict[int, int]) -> str:
    # A kind without transfers still needs a size.
    return ":".join(f"{size}/{share}" for size, share in (sizes_pct or {4096: 100}).items())


def _escaped(path: Path) -> str:
    return str(path).replace(":", "\\:")


def _run_fio(session: Session, bench: Bench, rows: Operations, control: Control) -> None:
    files, settings = bench.opened_files, bench.plain_settings(0)
    core = session.outcome.core
    argv = fio_argv(
        mix_of(rows, settings.transfer_bytes),
        files,
        settings,
        "io_uring" if core is not None and core.name == "uring" else "libaio",
        (control.end_ns - control.window_ns) / 1e9,
    )
    output = _output(argv, control)
    if output is not None:
        session.outcome.roofline = fio_roofline(output)


def _output(argv: Sequence[str], control: Control) -> bytes | None:
    """What a program writes, None if it was stopped; raises EngineError if it fails."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **_HUGE_PAGES},
        preexec_fn=_end_with_parent,
    )
    while True:
        try:
            output, errors = process.communicate(timeout=_NAP_S)
            break
        except subprocess.TimeoutExpired:
            if control.stopped:
                process.kill()
                process.communicate()
                return None
    if process.returncode != 0:
        lines = (errors or output).decode(errors="replace").strip().splitlines()
        raise EngineError(f"fio ended with status {process.returncode}: {' '.join(lines[-3:])}")
    return output


def _end_with_parent() -> None:
    # The kernel ends fio should this rank be killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def fio_roofline(output: bytes) -> Document:
    """The roofline of fio's JSON; raises EngineError for what is none."""
    try:
        # Notes may stand before the document.
        document = json.loads(output[output.index(b"{") :])
        (job,) = document["jobs"]
        elapsed_s = max(job["read"]["runtime"], job["write"]["runtime"]) / 1000
        # Percent of the run time of all jobs together, which is in ms.
        cpu_s = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1000
        return {
            "tool": str(document["fio version"]),
            "read_bytes": int(job["read"]["io_bytes"]),
            "write_bytes": int(job["write"]["io_bytes"]),
            "elapsed_s": round(elapsed_s, 6),
            "cpu_s": round(cpu_s, 6),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"fio's output cannot be read: {error!r}") from error
