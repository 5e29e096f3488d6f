"""What can become of checkpoints and of the ranks that write them: found, named, nothing left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from mlps.engines.checkpoint_native.manifest import MANIFEST, read_manifest
from mlps.engines.checkpoint_native.place import OWNER

pytestmark = pytest.mark.mpi

MIB = 2**20
# Bytes of a checkpoint of the small model, by two ranks.
SIZE = 7_916_288


def change(bench, **keys):
    for name, value in keys.items():
        own = bench.changes.get(name)
        bench.changes[name] = {**own, **value} if isinstance(own, dict) else value


def files(directory, number):
    return sorted((directory / f"global_epoch1_step{number}").iterdir())


def failure(result):
    """The only message of a stage that has failed."""
    assert result["status"] == "failed"
    (error,) = result["errors"]
    return error["message"]


def numbers(result):
    """The checkpoints that a stage has completed."""
    return [checkpoint["number"] for checkpoint in result["checkpointing"]["checkpoints"]]


def folders(directory):
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


# ---------------------------------------------------------------- damage between write and read


@pytest.fixture(scope="module")
def written(fast_place, checkpoint_bench):
    """A job that has written its checkpoints, and a copy of its directory."""
    place = fast_place / "damaged checkpoints"
    bench = checkpoint_bench(place / "data")
    bench.data_dir.mkdir(parents=True)
    assert bench.stage("write", "--trial", "0", ranks=2)["status"] == "complete"
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
    victim = files(whole.checkpoints, 2)[3]
    offset = round(share * (victim.stat().st_size - 1))
    flip(victim, offset)
    result = whole.stage("read", "--trial", "0", ranks=2)
    text = failure(result)
    assert text.startswith(f"wrong data in {victim} at offset {offset // 4096 * 4096}: ")
    assert result["errors"][0]["rank"] == 1
    assert numbers(result) == [1]


@pytest.mark.parametrize("lost", [1, 4096, None], ids=["a byte", "a block", "all"])
def test_a_file_that_is_cut_is_found_and_named(whole, lost):
    victim = files(whole.checkpoints, 1)[2]
    size = victim.stat().st_size
    os.truncate(victim, 0 if lost is None else size - lost)
    text = failure(whole.stage("read", "--trial", "0", ranks=2))
    assert str(victim) in text


def test_a_file_that_is_gone_is_named(whole):
    victim = files(whole.checkpoints, 2)[0]
    victim.unlink()
    result = whole.stage("read", "--trial", "0", ranks=2)
    text = failure(result)
    assert str(victim) in text
    assert "No such file or directory" in text
    assert numbers(result) == [1]


def test_a_file_in_place_of_another_is_found(whole):
    one, two = (files(whole.checkpoints, number)[1] for number in (1, 2))
    shutil.copy(one, two)
    text = failure(whole.stage("read", "--trial", "0", ranks=2))
    assert text.startswith(f"wrong data in {two} at offset 0: ")


def test_without_its_manifest_nothing_is_read(whole):
    (whole.checkpoints / MANIFEST).unlink()
    text = failure(whole.stage("read", "--trial", "0", ranks=2))
    assert f"has no file {MANIFEST}: no complete checkpoint was written there" in text


def test_a_damaged_manifest_is_named(whole):
    path = whole.checkpoints / MANIFEST
    flip(path, path.stat().st_size // 2)
    assert f"{path} is damaged" in failure(whole.stage("read", "--trial", "0", ranks=2))
