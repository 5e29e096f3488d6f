"""What can become of checkpoints and of the ranks that write them: found, named, nothing left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from mlps.engines.checkpoint_native.manifest import MANIFEST, read_manifest
from mlps.engines.io_core.page_cache import Residency, residency

pytestmark = pytest.mark.mpi

MIB = 2**20
# Bytes of a checkpoint of the small model, by one rank and by two.
SIZE_OF_ONE = 7_908_608
SIZE = 7_916_288


def change(bench, **keys):
    for name, value in keys.items():
        own = bench.changes.get(name)
        bench.changes[name] = {**own, **value} if isinstance(own, dict) else value


def files(directory, number):
    return sorted((directory / f"global_epoch1_step{number}").iterdir())


def failure(result):
    """What all ranks say in which a stage has failed."""
    assert result["status"] == "failed"
    (message,) = {error["message"] for error in result["errors"]}
    return message


def numbers(result):
    """The checkpoints that a stage has completed."""
    return [checkpoint["number"] for checkpoint in result["checkpointing"]["checkpoints"]]


def folders(directory):
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


# ---------------------------------------------------------------- damage between write and read


@pytest.fixture(scope="module")
def written(new_place, make_checkpoint_bench):
    """A job that has written its checkpoints, and a copy of its directory."""
    place = new_place()
    bench = make_checkpoint_bench(place / "data")
    bench.data_dir.mkdir(parents=True)
    assert bench.solo("write")["status"] == "complete"
    shutil.copytree(bench.directory, place / "copy")
    return bench, place / "copy"


@pytest.fixture
def whole(written):
    """The same, as it was written."""
    bench, copy = written
    shutil.rmtree(bench.directory, ignore_errors=True)
    shutil.copytree(copy, bench.directory)
    return bench


def flip(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("share", [0.0, 0.37, 1.0], ids=["first", "within", "last"])
def test_one_wrong_bit_is_found_and_named(whole, share):
    victim = files(whole.checkpoints, 2)[1]
    offset = round(share * (victim.stat().st_size - 1))
    flip(victim, offset)
    result = whole.solo("read")
    text = failure(result)
    assert text.startswith(f"wrong data in {victim} at offset {offset // 4096 * 4096}: ")
    assert numbers(result) == [1]


@pytest.mark.parametrize("lost", [1, 4096, None], ids=["a byte", "a block", "all"])
def test_a_file_that_is_cut_is_found_and_named(whole, lost):
    victim = files(whole.checkpoints, 1)[1]
    size = victim.stat().st_size
    os.truncate(victim, 0 if lost is None else size - lost)
    text = failure(whole.solo("read"))
    assert str(victim) in text


def test_a_file_that_is_gone_is_named(whole):
    victim = files(whole.checkpoints, 2)[0]
    victim.unlink()
    result = whole.solo("read")
    text = failure(result)
    assert str(victim) in text
    assert "No such file or directory" in text
    assert numbers(result) == [1]


def test_a_file_in_place_of_another_is_found(whole):
    one, two = (files(whole.checkpoints, number)[1] for number in (1, 2))
    shutil.copy(one, two)
    text = failure(whole.solo("read"))
    assert text.startswith(f"wrong data in {two} at offset ")
    assert "version 1" in text


def test_without_its_manifest_nothing_is_read(whole):
    (whole.checkpoints / MANIFEST).unlink()
    text = failure(whole.solo("read"))
    assert f"has no file {MANIFEST}: no complete checkpoint was written there" in text


def test_a_damaged_manifest_is_named(whole):
    path = whole.checkpoints / MANIFEST
    flip(path, path.stat().st_size // 2)
    assert f"{path} is damaged" in failure(whole.solo("read"))


def test_damage_ends_all_ranks_and_names_the_one_that_found_it(checkpointing):
    checkpointing.stage("write", "--trial", "0", ranks=2)
    victim = files(checkpointing.checkpoints, 2)[3]
    flip(victim, 5000)
    result = checkpointing.stage("read", "--trial", "0", ranks=2)  # whose exit code is 4
    assert failure(result).startswith(f"wrong data in {victim} at offset 4096: ")
    assert [error["rank"] for error in result["errors"]] == [1]
    assert numbers(result) == [1]


# ---------------------------------------------------------------- no space


@pytest.fixture
def small_disk(tmp_path):
    """A file system that two checkpoints fit into, and a part of a third one."""
    path = tmp_path / "small"
    path.mkdir()
    size = 2 * SIZE + SIZE // 2
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path])
    if done.returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.parametrize("preallocate", [True, False], ids=["reserved", "while writing"])
def test_a_full_disk_ends_it_and_the_complete_ones_stay(checkpointing, small_disk, preallocate):
    checkpointing.data_dir = small_disk
    change(checkpointing, writes=10, io={"preallocate": preallocate})
    result = checkpointing.solo("write")
    text = failure(result)
    assert "global_epoch1_step3/" in text
    assert text.endswith("No space left on device (ENOSPC)")
    assert numbers(result) == [1, 2]
    assert result["checkpointing"]["planned"] == 10
    # The space of the third one is given back.
    assert folders(checkpointing.checkpoints) == ["global_epoch1_step1", "global_epoch1_step2"]
    assert shutil.disk_usage(small_disk).used < 2 * SIZE_OF_ONE + MIB
    assert numbers(checkpointing.solo("read")) == [1, 2]
    assert checkpointing.solo("cleanup")["details"]["left"] == []
    assert list(small_disk.iterdir()) == []


def test_all_ranks_give_back_the_space_of_what_did_not_fit(checkpointing, small_disk):
    checkpointing.data_dir = small_disk
    change(checkpointing, writes=10)
    result = checkpointing.stage("write", "--trial", "0", ranks=2)
    assert result["status"] == "failed"
    assert all("No space left on device" in error["message"] for error in result["errors"])
    assert [each["bytes"] for each in result["checkpointing"]["checkpoints"]] == [SIZE] * 2
    assert folders(checkpointing.checkpoints) == ["global_epoch1_step1", "global_epoch1_step2"]
    assert shutil.disk_usage(small_disk).used < 2 * SIZE + MIB


# ---------------------------------------------------------------- slow and lost ranks


@pytest.fixture
def slow(checkpointing):
    """Checkpoints that take a while: small transfers by Python."""
    change(
        checkpointing,
        model={"vocab": 15000},
        writes=3,
        io={"core": "python", "io_size_bytes": 4096, "depth": 1, "direct": False},
    )
    return checkpointing


def rank_writes(launched, bench, number, wait_for, directory=None):
    """The process of rank 1 once it writes a checkpoint."""
    event = launched.events_until(lambda event: event["event"] == "ranks")
    folder = (directory or bench.checkpoints) / f"global_epoch1_step{number}"
    name = "zero_pp_rank_1_mp_rank_0_optim_states.pt"
    wait_for((folder / name).exists, "rank 1")
    return event["ranks"][1][1]


def test_a_rank_that_is_held_up_is_the_straggler_and_in_the_duration(slow, wait_for):
    change(slow, writes=1)
    with slow.launch("write", "--trial", "0", ranks=2) as launched:
        pid = rank_writes(launched, slow, 1, wait_for)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(pid, signal.SIGCONT)
        result = launched.result()
        launched.finish()
    first = result["checkpointing"]["checkpoints"][0]
    assert first["straggler"] == 1
    assert first["straggler_host"] == result["ranks"]["hosts"][0]
    assert first["wall_s"] >= 0.5
    assert first["rank_least_s"] == first["rank0_s"] < first["wall_s"]
    assert first["rank_least_gib_s"] == pytest.approx(
        first["bytes"] / 2 / 2**30 / first["wall_s"], rel=0.01
    )


@pytest.mark.parametrize("kept", [False, True], ids=["own", "kept"])
def test_what_a_lost_rank_has_begun_is_removed(slow, wait_for, kept):
    directory = slow.data_dir / "kept" if kept else slow.checkpoints
    change(slow, directory="kept" if kept else None)
    with slow.launch("write", "--trial", "0", ranks=2) as launched:
        os.kill(rank_writes(launched, slow, 2, wait_for, directory), signal.SIGKILL)
        launched.finish()
    assert launched.process.returncode != 0
    assert folders(directory) == ["global_epoch1_step1", "global_epoch1_step2"]
    result = slow.stage("cleanup", "--ranks", "2", ranks=1)
    assert (result["status"], result["details"]["left"]) == ("complete", [])
    if kept:
        assert folders(directory) == ["global_epoch1_step1"]
        assert read_manifest(directory).checkpoints == (1,)
        assert [path.name for path in slow.data_dir.iterdir()] == ["kept"]
    else:
        assert list(slow.data_dir.iterdir()) == []


def test_a_kept_place_in_which_nothing_got_complete_is_any_runs(slow, wait_for):
    change(slow, directory="kept", writes=1)
    with slow.launch("write", "--trial", "0", ranks=2) as launched:
        pid = rank_writes(launched, slow, 1, wait_for, slow.data_dir / "kept")
        os.kill(pid, signal.SIGKILL)
        launched.finish()
    assert slow.stage("cleanup", ranks=2)["details"]["left"] == []
    other = replace(slow, run_id="20260101-other")
    assert numbers(other.solo("write")) == [1]


# ---------------------------------------------------------------- what is kept


@pytest.fixture
def kept(checkpointing):
    """A job that has written checkpoints that stay, and has cleaned up."""
    change(checkpointing, directory="kept", reads=0)
    assert numbers(checkpointing.solo("write")) == [1, 2]
    assert checkpointing.solo("cleanup")["details"]["left"] == []
    return checkpointing


def second(kept, **changes):
    """Another job of the same model and place."""
    return replace(
        kept, run_id="20260101-second", changes={**kept.changes, "reads": 2, "writes": 0, **changes}
    )


def test_another_job_reads_what_was_kept(kept):
    reader = second(kept)
    before = sorted(path for path in kept.data_dir.rglob("*"))
    evicted = reader.solo("evict")["checkpointing"]["eviction"]
    assert (evicted["files"], evicted["bytes"]) == (4, 2 * SIZE_OF_ONE)
    result = reader.solo("read")
    own = result["checkpointing"]
    assert numbers(result) == [1, 2]
    assert (own["kept"], own["directory"]) == (True, str(kept.data_dir / "kept"))
    assert (own["source"]["run_id"], own["source"]["checkpoints"]) == (kept.run_id, 2)
    assert 0 < own["source"]["start_unix_s"] < own["source"]["end_unix_s"]
    assert own["source"]["end_unix_s"] <= result["window"]["start_unix_s"]
    assert result["verify"]["bytes"] == 2 * SIZE_OF_ONE
    assert reader.solo("cleanup")["details"]["left"] == []
    assert sorted(path for path in kept.data_dir.rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model": {"layers": 4}}, "holds checkpoints of another kind: model.layers: found 3"),
        ({"scale": 0.5}, "holds checkpoints of another kind: scale: found 1.0, asked 0.5"),
        ({"directory": "none"}, "none does not exist: no complete checkpoint was written"),
    ],
    ids=["model", "scale", "place"],
)
def test_a_job_does_not_read_what_is_not_its_own_kind(kept, changes, text):
    assert text in failure(second(kept, **changes).solo("read"))


def test_other_ranks_do_not_read_what_was_kept(kept):
    text = failure(second(kept).stage("read", "--trial", "0", ranks=2))
    assert "kind: parallelism.data: found 1, asked 2; ranks: found 1, asked 2" in text


def test_what_is_kept_is_not_written_over_and_not_removed(kept):
    other = second(kept, writes=2)
    before = sorted(path for path in kept.data_dir.rglob("*"))
    text = failure(other.solo("write"))
    assert f"kept holds 2 checkpoints of another run, {kept.run_id}: give another place" in text
    assert other.solo("cleanup")["status"] == "complete"
    assert sorted(path for path in kept.data_dir.rglob("*")) == before


def test_what_is_kept_stays_where_it_cannot_be_told_whether_it_is_complete(kept):
    path = kept.data_dir / "kept" / MANIFEST
    flip(path, path.stat().st_size // 2)
    before = sorted(path for path in kept.data_dir.rglob("*"))
    assert f"{path} is damaged" in failure(kept.solo("cleanup"))
    assert sorted(path for path in kept.data_dir.rglob("*")) == before


def test_a_place_with_other_files_is_not_written_to(checkpointing):
    foreign = checkpointing.data_dir / "kept/holiday.jpg"
    foreign.parent.mkdir()
    foreign.write_bytes(b"x")
    change(checkpointing, directory="kept")
    text = failure(checkpointing.solo("write"))
    assert "holds what mlps did not make: holiday.jpg" in text
    assert checkpointing.solo("cleanup")["status"] == "complete"
    assert [path.name for path in foreign.parent.iterdir()] == ["holiday.jpg"]


# ---------------------------------------------------------------- page caches


@pytest.fixture
def on_disk(checkpointing, tmp_path):
    """Checkpoints on a disk, that were written through the page cache."""
    checkpointing.data_dir = tmp_path
    change(checkpointing, io={"direct": False})
    checkpointing.solo("write")
    if (residency(files(checkpointing.checkpoints, 1)) or Residency(pages=1, resident=0)).pct < 50:
        pytest.skip("this file system keeps nothing in the page cache, or does not tell")
    return checkpointing


def test_after_eviction_reads_are_of_the_device(on_disk):
    evicted = on_disk.solo("evict")["checkpointing"]["eviction"]
    assert (evicted["method"], evicted["hosts"], evicted["files"]) == ("drop", 1, 4)
    assert evicted["resident_pct"] < 1
    own = on_disk.solo("read")["checkpointing"]
    assert len(own["checkpoints"]) == 2
    for checkpoint in own["checkpoints"]:
        assert checkpoint["resident_pct"] < 1
        counted = checkpoint["counted_bytes"]
        if "device" in counted:
            assert counted["device"] >= 0.98 * checkpoint["bytes"]


def test_what_is_not_evicted_is_seen_in_memory(on_disk):
    change(on_disk, eviction={"when": "never"})
    own = on_disk.solo("read")["checkpointing"]
    assert [checkpoint["resident_pct"] > 99 for checkpoint in own["checkpoints"]] == [True] * 2


def test_a_program_of_the_site_that_evicts_nothing_is_found_out(on_disk):
    change(on_disk, eviction={"method": "command", "command": ["true"]})
    evicted = on_disk.solo("evict")["checkpointing"]["eviction"]
    assert evicted["method"] == "command"
    assert evicted["resident_pct"] > 99
