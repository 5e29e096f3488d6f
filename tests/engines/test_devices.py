"""The block device behind a directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlps.engines.io_core.devices import Moved, moved_behind


def fake(tmp_path: Path, stat: str | None) -> Path:
    number = tmp_path.stat().st_dev
    device = tmp_path / "sys" / f"{os.major(number)}:{os.minor(number)}"
    device.mkdir(parents=True)
    if stat is not None:
        (device / "stat").write_text(stat)
    return tmp_path / "sys"


def test_counts_are_sectors_of_512_bytes(tmp_path):
    sys_block = fake(tmp_path, "  7 0 16 5  9 0 2000000000000 3 0 8 8 0 0 0 0 0 0\n")
    found = moved_behind(tmp_path, sys_block)
    assert found is not None
    assert (found.read_bytes, found.write_bytes) == (16 * 512, 2000000000000 * 512)


@pytest.mark.parametrize("stat", [None, "", "1 2 3", "a b c d e f g h"], ids=repr)
def test_what_cannot_be_read_is_no_device(tmp_path, stat):
    assert moved_behind(tmp_path, fake(tmp_path, stat)) is None


def test_a_directory_that_is_gone_has_no_device(tmp_path):
    assert moved_behind(tmp_path / "gone") is None


def test_since_takes_the_difference():
    before = Moved(device="sda", machine="m", read_bytes=1, write_bytes=2)
    after = Moved(device="sda", machine="m", read_bytes=11, write_bytes=22)
    assert after.since(before) == Moved(device="sda", machine="m", read_bytes=10, write_bytes=20)
