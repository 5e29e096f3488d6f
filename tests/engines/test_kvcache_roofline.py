"""The roofline: what fio is asked for, what is read of its answer, and both ways for real."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.errors import EngineError, JobError
from mlps.engines.io_core.executor import Settings
from mlps.engines.io_core.files import OpenFiles
from mlps.engines.io_core.operations import LOAD, OPERATION, STORE
from mlps.engines.kvcache_native import roofline
from mlps.engines.kvcache_native.roofline import (
    Mix,
    begun_first,
    check_roofline,
    fio_argv,
    fio_roofline,
    mix_of,
    plain_rows,
)
from mlps.engines.section import Section

KIB, MIB = 2**10, 2**20
NO_CHUNK_FILES = (
    "a roofline needs layout segments, files of chunks are opened one by one:"
    " use layout=segments or roofline.when=never"
)
needs_fio = pytest.mark.skipif(shutil.which("fio") is None, reason="there is no fio on PATH")


def rows_of(*operations, closes=None):
    """Rows of (kind, length) or (kind, length, file, offset), all apart unless it is said where."""
    rows = np.zeros(len(operations), dtype=OPERATION)
    for number, (kind, length, *place) in enumerate(operations):
        file, offset = place or (number, 0)
        rows[number]["kind"], rows[number]["length"] = kind, length
        rows[number]["file"], rows[number]["offset"] = file, offset
        rows[number]["user"] = number
        rows[number]["closes"] = 1 if closes is None else closes[number]
    return rows


# ---------------------------------------------------------------- the mix


def test_a_mix_is_that_of_the_transfers():
    rows = rows_of((LOAD, 4 * MIB), (LOAD, MIB + 4096), (STORE, 8192), (STORE, 8192))
    # 4 + 1 whole transfers and one of 4 KiB are read, 2 of 8 KiB written.
    assert mix_of(rows, MIB) == Mix(
        read_pct=75,
        sizes_pct=({4096: 17, MIB: 83}, {8192: 100}),
        operation_transfers=2,
        run_transfers=2,
    )


def test_what_follows_in_the_same_file_is_one_stretch():
    rows = rows_of(*((LOAD, MIB, 0, n * MIB) for n in range(6)), (LOAD, MIB, 1, 0), (LOAD, MIB))
    assert mix_of(rows, MIB).run_transfers == round(8 / 3)
    apart = rows_of(*((LOAD, MIB, 0, 2 * n * MIB) for n in range(6)))
    assert mix_of(apart, MIB).run_transfers == 1
    turned = rows_of((LOAD, MIB, 0, 0), (STORE, MIB, 0, MIB), (LOAD, MIB, 0, 2 * MIB))
    assert mix_of(turned, MIB).run_transfers == 1


@given(
    st.lists(
        st.tuples(st.sampled_from([LOAD, STORE]), st.integers(1, 600).map(lambda n: 4096 * n)),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from([4096, 65536, MIB]),
)
def test_percents_of_a_mix_add_up_and_sizes_are_ones_that_fio_takes(operations, transfer_bytes):
    mix = mix_of(rows_of(*operations), transfer_bytes)
    transfers = [0, 0]
    for kind, length in operations:
        transfers[kind] += -(-length // transfer_bytes)
    assert mix.read_pct == round(100 * transfers[LOAD] / sum(transfers))
    for kind, sizes in enumerate(mix.sizes_pct):
        assert sum(sizes.values()) == (100 if transfers[kind] else 0)
        assert all(4096 <= size <= transfer_bytes for size in sizes)
        assert all(size & (size - 1) == 0 or size == transfer_bytes for size in sizes)
        assert all(share > 0 for share in sizes.values())


def blocks_of(requests):
    """Blocks of requests of 1 MiB operations, each given by their number."""
    for sizes in requests:
        yield rows_of(
            *((LOAD, MIB) for size in sizes for _ in range(size)),
            closes=[n == size - 1 for size in sizes for n in range(size)],
        )


def test_of_a_plan_as_much_is_taken_as_the_bytes_suffice_for():
    rows = begun_first(blocks_of([[2, 2], [2, 2], [2, 2]]), 5 * MIB, requests_in_flight=1)
    assert len(rows) == 5 or len(rows) == 6


def test_requests_in_flight_have_got_equally_far():
    # Four requests of eight operations, bytes for eight: two of each, not all of the first.
    rows = begun_first(blocks_of([[8, 8, 8, 8], [8]]), 8 * MIB, requests_in_flight=4)
    assert len(rows) in (8, 9)
    taken = np.bincount(rows["user"] // 8)
    assert taken.max() - taken.min() <= 1


def test_a_plan_that_ends_is_taken_whole():
    assert len(begun_first(blocks_of([[1, 2], [3]]), 100 * MIB, requests_in_flight=9)) == 6


def test_plain_rows_wait_for_nothing_and_never_end():
    rows = rows_of((LOAD, 4096), (STORE, 8192))
    rows["gate"], rows["order"], rows["step"], rows["arrival"], rows["tokens"] = 1, 5, 2, 9, 4
    for block in islice(plain_rows(rows), 3):
        for name in ("request", "step", "gate", "order", "arrival", "tokens"):
            assert not block[name].any()
        assert block["closes"].tolist() == [1, 1]
        assert block["user"].tolist() == [0, 1]
        for name in ("kind", "length", "file", "offset", "version"):
            assert (block[name] == rows[name]).all()
        block["length"] = 0  # the next one is its own


# ---------------------------------------------------------------- fio's words


def files_of(*names, direct=True):
    return OpenFiles(
        paths=tuple(map(Path, names)),
        descriptors=tuple(range(len(names))),
        direct=direct,
        direct_refused=None,
        alignment_bytes=512,
    )


def settings_of(**changes):
    values = {
        "depth": 32,
        "rings": 2,
        "key": 1,
        "pool_seed": 1,
        "largest_bytes": 4 * MIB,
        "verify": "none",
        "durability": "fdatasync",
    }
    return Settings(**(values | changes))


def test_the_command_of_fio():
    mix = Mix(
        read_pct=63,
        sizes_pct=({4096: 10, MIB: 90}, {MIB: 100}),
        operation_transfers=4,
        run_transfers=3,
    )
    files = files_of("/d/a:b/segment_0000.dat", "/d/shared_0000.dat")
    assert fio_argv(mix, files, settings_of(), "io_uring", 2.5) == [
        "fio",
        "--name=roofline",
        "--filename=/d/a\\:b/segment_0000.dat:/d/shared_0000.dat",
        "--rw=randrw:3",
        "--rwmixread=63",
        "--bssplit=4096/10:1048576/90,1048576/100",
        "--thread",
        "--numjobs=2",
        "--group_reporting=1",
        "--iodepth=16",
        "--iodepth_batch_submit=4",
        "--ioengine=io_uring",
        "--fixedbufs=1",
        "--registerfiles=1",
        "--direct=1",
        "--fdatasync=1",
        "--norandommap",
        "--random_generator=tausworthe64",
        "--time_based",
        "--runtime=2500ms",
        "--output-format=json",
    ]


@pytest.mark.parametrize(
    ("read_pct", "changes", "engine", "has", "lacks"),
    [
        (100, {}, "libaio", ["--rw=randread", "--ioengine=libaio"], ["--fixedbufs=1"]),
        (0, {"durability": "dsync"}, "libaio", ["--rw=randwrite", "--sync=dsync"], []),
        (50, {"durability": "none"}, "libaio", ["--rw=randrw"], ["--fdatasync=1"]),
        (50, {"depth": 1}, "libaio", ["--iodepth=1", "--numjobs=1"], []),
    ],
)
def test_the_command_fits_to_mix_and_settings(read_pct, changes, engine, has, lacks):
    mix = Mix(
        read_pct=read_pct,
        sizes_pct=({MIB: 100}, {MIB: 100}),
        operation_transfers=1,
        run_transfers=1,
    )
    argv = fio_argv(mix, files_of("/d/a", direct=False), settings_of(**changes), engine, 1.0)
    assert set(has) <= set(argv)
    assert not set(lacks) & set(argv)
    assert "--direct=0" in argv
    assert ("--rwmixread=50" in argv) == (read_pct == 50)


def answer(**changes):
    """What fio writes, as far as it is read."""
    job = {
        "read": {"io_bytes": 3 * MIB, "runtime": 1000},
        "write": {"io_bytes": 2 * MIB, "runtime": 1001},
        "usr_cpu": 10.0,
        "sys_cpu": 15.0,
        "job_runtime": 2002,
    }
    return {"fio version": "fio-3.33", "jobs": [job | changes]}


def test_the_answer_of_fio():
    notes = b"fio: this platform does not support process shared mutexes\n"
    assert fio_roofline(notes + json.dumps(answer()).encode()) == {
        "tool": "fio-3.33",
        "read_bytes": 3 * MIB,
        "write_bytes": 2 * MIB,
        "elapsed_s": 1.001,
        "cpu_s": 0.5005,
    }


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"nonsense",
        b"{",
        b"{}",
        b"[]",
        json.dumps(answer(read=None)).encode(),
        json.dumps({"fio version": "x", "jobs": []}).encode(),
    ],
)
def test_an_answer_that_is_none(output):
    with pytest.raises(EngineError, match="fio's output cannot be read: "):
        fio_roofline(output)


# ---------------------------------------------------------------- for real


@pytest.fixture
def job(quick, make_trace, tmp_path):
    """Makes the quick job one of a workload that is prepared and has a roofline."""

    def make(workload="turns", tool="raw", **changes):
        quick.workload = workload
        quick.changes = {
            "roofline": {"tool": tool, "duration_s": 0.4},
            "ramp_s": 0,
            "duration_s": 100,
            "requests": 30,
            **changes,
        }
        if workload == "trace":
            quick.changes["trace"] = {"path": str(make_trace(tmp_path, "mooncake"))}
        prepared = quick.solo("prepare")
        assert prepared["status"] == "complete", prepared["errors"]
        return quick

    return make


def assert_measured(result):
    assert result["errors"] == []
    measured = result["roofline"]
    assert measured["read_bytes"] + measured["write_bytes"] > 0
    assert 0.35 < measured["elapsed_s"] < 5
    assert measured["cpu_s"] > 0
    return measured


@pytest.mark.parametrize("workload", ["turns", "v3", "prefix", "trace"])
@pytest.mark.parametrize("tool", ["raw", pytest.param("fio", marks=needs_fio)])
def test_what_follows_a_roofline_still_verifies(job, workload, tool):
    bench = job(workload, tool)
    before = assert_measured(bench.solo("roofline_before"))
    result = bench.solo("run")
    after = assert_measured(bench.solo("roofline_after"))
    for measured in (before, after):
        assert measured["tool"].startswith("fio-" if tool == "fio" else ("uring", "c_threads"))
    assert result["errors"] == []
    assert result["verify"]["operations"] == result["io"]["read"]["total_operations"] > 0
    assert result["roofline"] is None


@pytest.mark.parametrize("core", ["threads", "python"])
def test_the_executor_that_was_asked_for_measures_itself(job, core):
    bench = job("turns", io={"core": core})
    measured = assert_measured(bench.solo("roofline_before"))
    assert measured["tool"] == {"threads": "c_threads", "python": "python_threads"}[core]


@pytest.mark.parametrize("durability", ["none", "fdatasync", "dsync"])
@needs_fio
def test_fio_is_asked_for_the_same_durability(job, durability):
    assert_measured(job("turns", "fio", io={"durability": durability}).solo("roofline_before"))


@needs_fio
def test_fio_without_direct_io(job):
    assert_measured(job("turns", "fio", io={"direct": False}).solo("roofline_before"))


def test_planning_takes_nothing_of_the_measured_time(job, monkeypatch):
    bench = job("turns")
    first_rows = roofline._first_rows

    def slow(bench):
        time.sleep(0.8)
        return first_rows(bench)

    monkeypatch.setattr(roofline, "_first_rows", slow)
    assert_measured(bench.solo("roofline_before"))


@needs_fio
def test_auto_takes_fio_where_there_is_one_and_else_the_executor(job, monkeypatch, tmp_path):
    bench = job("turns", "auto")
    assert assert_measured(bench.solo("roofline_before"))["tool"].startswith("fio-")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not assert_measured(bench.solo("roofline_before"))["tool"].startswith("fio-")


def refused(bench):
    result = bench.solo("roofline_before")
    assert result["status"] == "failed"
    return result["errors"][0]["message"]


def test_fio_that_is_asked_for_and_missing(job, monkeypatch, tmp_path):
    bench = job("turns", "fio")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused(bench) == "roofline.tool is fio, but fio is not on the PATH of every rank"


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("echo one; echo two >&2; exit 3", "fio ended with status 3: two"),
        ("echo hello", "fio's output cannot be read: "),
    ],
)
def test_a_fio_that_fails_is_named(job, monkeypatch, tmp_path, script, text):
    bench = job("turns", "fio")
    (tmp_path / "fio").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "fio").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert refused(bench).startswith(text)


def test_chunk_files_have_no_roofline(job):
    assert refused(job("turns", layout="file_per_chunk")) == NO_CHUNK_FILES


def check(make_section, layout="segments", **roofline):
    benchmark = make_section(roofline={"when": "success", **roofline})
    return check_roofline(Section(benchmark), layout)


def test_a_roofline_that_cannot_be_measured_is_refused_before_anything_is_written(make_section):
    check(make_section)
    with pytest.raises(JobError) as caught:
        check(make_section, layout="file_per_chunk")
    assert str(caught.value) == NO_CHUNK_FILES
    check(make_section, layout="file_per_chunk", when="never")


def test_fio_is_needed_only_where_it_must_be_used(make_section):
    assert check(make_section, tool="fio") == ("fio",)
    assert check(make_section, tool="fio", when="never") == ()
    assert check(make_section, tool="auto") == ()


def fio_processes(bench):
    """Processes of fio that work on files of this job."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if command and Path(command[0]).name == "fio" and str(bench.directory) in " ".join(command):
            found.append(process)
    return found


@needs_fio
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_fio_ends_with_its_rank(quick, how):
    quick.changes = {"roofline": {"tool": "fio", "duration_s": 60}}
    quick.stage("prepare")
    with quick.launch("roofline_before") as launched:
        launched.events_until(lambda event: event.get("phase") == "fio")
        deadline_s = time.monotonic() + 30
        while not fio_processes(quick) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert fio_processes(quick)
        started_s = time.monotonic()
        if how == "stop":
            launched.say("stop")
            result = launched.result()
            assert (result["status"], result["roofline"]) == ("stopped", None)
        else:
            os.kill(launched.process.pid, signal.SIGKILL)
        launched.finish()
    assert time.monotonic() - started_s < 30
    deadline_s = time.monotonic() + 10
    while fio_processes(quick) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert fio_processes(quick) == []


@pytest.mark.mpi
@needs_fio
def test_the_rooflines_of_two_ranks_add_up(quick):
    quick.workload = "prefix"
    quick.changes = {"roofline": {"tool": "fio", "duration_s": 0.4}, "duration_s": 0.2}
    quick.stage("prepare", ranks=2)
    assert_measured(quick.stage("roofline_before", ranks=2))
    result = quick.stage("run", ranks=2)
    assert result["verify"]["operations"] == result["io"]["read"]["total_operations"] > 0
