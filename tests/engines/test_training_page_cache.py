"""The page cache: what was read is in it, what was dropped is not; and who may write a dataset."""

from __future__ import annotations

import errno
import os

import pytest

from mlps.engines.errors import EngineError
from mlps.engines.io_core.control import Control
from mlps.engines.training_native import owner
from mlps.engines.training_native.owner import Owner
from mlps.engines.training_native.page_cache import evict, resident_pct


def test_files_are_dropped(tmp_path):
    names = ["a", "b"]
    for name in names:
        with (tmp_path / name).open("wb") as file:
            file.write(bytes(2**20 + 1))
            os.fsync(file.fileno())
    paths = [tmp_path / name for name in names]
    if resident_pct(paths) != 100:
        pytest.skip("this file system keeps nothing in the page cache")
    assert evict(tmp_path, names) == 2
    assert resident_pct(paths) < 50


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EngineError, match=r"drop from the page cache .*/none: No such file"):
        evict(tmp_path, ["none"])


def test_what_cannot_be_found_out_is_none(tmp_path):
    (tmp_path / "empty").touch()
    assert resident_pct([tmp_path / "empty"]) is None
    assert resident_pct([tmp_path / "none"]) is None
    assert resident_pct([]) is None


def test_one_owner_at_a_time(tmp_path):
    first = Owner(tmp_path, "one", Control())
    with pytest.raises(EngineError, match=r"now .run_id one, host "):
        Owner(tmp_path, "two", Control())
    first.close()
    Owner(tmp_path, "two", Control()).close()


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_an_owner_on_another_host_is_known_by_its_signs_of_life(tmp_path, monkeypatch, locks):
    monkeypatch.setattr(owner, "_BEAT_S", 0.02)
    monkeypatch.setattr(owner, "boot_id", lambda: "there")

    def no_locks(*_):
        raise OSError(errno.ENOSYS, "none")

    # Locks of another host are not seen here.
    monkeypatch.setattr(owner.fcntl, "flock", no_locks)
    first = Owner(tmp_path, "one", Control())
    monkeypatch.setattr(owner, "boot_id", lambda: "here")
    if locks:
        monkeypatch.undo()
    with pytest.raises(EngineError, match=r"run_id one"):
        Owner(tmp_path, "two", Control(), patience_s=1)
    first.close()
    Owner(tmp_path, "two", Control(), patience_s=0.1).close()
