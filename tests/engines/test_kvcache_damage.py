"""What has become of prepared files: every damage fails the run and is named."""

from __future__ import annotations

import shutil

import pytest

from mlps.engines.io_core.operations import LOAD
from mlps.engines.kvcache_native.plans import Place, planned
from mlps.engines.section import Section

LAYOUTS = ("segments", "file_per_chunk")
only_chunk_files = pytest.mark.parametrize("prepared", ["file_per_chunk"], indirect=True)


def failure(result):
    """The only message of a stage that has failed."""
    assert result["status"] == "failed"
    (error,) = result["errors"]
    return error["message"]


def left_by(result):
    """What a cleanup that has ended well has left."""
    assert result["status"] == "complete", result["errors"]
    return result["details"]["left"]


@pytest.fixture(scope="module", params=LAYOUTS)
def prepared(request, new_place, make_bench):
    """A prepared job of each layout, and a copy of its directory."""
    place = new_place()
    bench = make_bench(place / "data")
    bench.data_dir.mkdir(parents=True)
    bench.changes = {
        "ramp_s": 0,
        "duration_s": 100,
        "requests": 40,
        "layout": request.param,
    }
    assert bench.solo("prepare")["status"] == "complete"
    shutil.copytree(bench.directory, place / "copy")
    return bench, place / "copy"


@pytest.fixture
def whole(prepared):
    """The same, as prepare has left it."""
    bench, copy = prepared
    shutil.rmtree(bench.directory, ignore_errors=True)
    shutil.copytree(copy, bench.directory)
    return bench


def first_loaded(bench):
    """The first operation that reads."""
    plan = planned(Section(bench.job["benchmark"])).plan(Place(seed=42, rank=0, ranks=1))
    rows = next(plan.rows())
    return rows[rows["kind"] == LOAD][0]


def place_of(bench, row):
    """The file of a row and where in it."""
    if bench.changes["layout"] == "segments":
        return bench.segment(0), int(row["offset"])
    return bench.chunk(0, int(row["chunk"])), 0


def change(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


DAMAGES = {
    "zeros": (0, bytes(32), "found zeros"),
    "one bit": (9, None, "checksum wrong"),
    "another version": (16, (7).to_bytes(4, "little"), "version 7 block 2, checksum wrong"),
}


@pytest.mark.parametrize(("within", "data", "found"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_block_is_named_with_what_was_found(whole, within, data, found):
    row = first_loaded(whole)
    path, offset = place_of(whole, row)
    block = offset + 2 * 4096
    if data is None:
        data = bytes([path.read_bytes()[block + within] ^ 1])
    change(path, block + within, data)
    text = failure(whole.solo("run"))
    assert text.startswith(f"wrong data in {path} at offset {block}: expected key ")
    assert f"chunk {row['chunk']} version 0 block 2, found " in text
    assert found in text
    assert text.endswith("(1 of 4 blocks of this read are wrong)")


def test_the_chunk_of_another_place_is_recognised(whole):
    row = first_loaded(whole)
    path, offset = place_of(whole, row)
    other, there = place_of(whole, {"chunk": 31, "offset": 31 * 16384})
    with other.open("rb") as file:
        file.seek(there)
        data = file.read(16384)
    change(path, offset, data)
    text = failure(whole.solo("run"))
    assert f"{path} at offset {offset}: " in text
    assert "chunk 31 version 0 block 0 (4 of 4 blocks" in text


@only_chunk_files
def test_a_chunk_that_is_short_is_named(whole):
    path, _ = place_of(whole, first_loaded(whole))
    path.write_bytes(path.read_bytes()[:4096])
    text = failure(whole.solo("run"))
    assert text == f"short read of {path} at offset 0: 4096 of 16384 bytes"


@only_chunk_files
def test_a_chunk_that_is_lost_is_named(whole):
    path, _ = place_of(whole, first_loaded(whole))
    path.unlink()
    text = failure(whole.solo("run"))
    assert text == f"cannot read {path} at offset 0: No such file or directory (ENOENT)"


@only_chunk_files
def test_drafts_of_chunks_that_a_crash_has_left_are_removed(whole):
    path, _ = place_of(whole, first_loaded(whole))
    path.with_name(path.name + ".new").write_bytes(b"cut short")
    assert left_by(whole.solo("cleanup")) == []
    assert list(whole.data_dir.iterdir()) == []


def test_cleanup_leaves_what_it_does_not_know(whole):
    path, _ = place_of(whole, first_loaded(whole))
    foreign = path.parent / "notes.txt"
    foreign.write_text("mine")
    assert str(foreign) in left_by(whole.solo("cleanup"))
    assert [p for p in whole.directory.rglob("*") if p.is_file() and p.name != "MLPS_JOB"] == [
        foreign
    ]
