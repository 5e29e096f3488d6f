"""Who may write into a directory: one job at a time."""

from __future__ import annotations

import errno

import pytest

from mlps.engines import owner
from mlps.engines.errors import EngineError
from mlps.engines.io_core.control import Control
from mlps.engines.owner import Owner, Right


def right(directory):
    return Right(
        file=directory / "owner",
        directory=directory,
        thing="dataset",
        doing="generates",
        key="dataset.directory",
    )


def test_one_owner_at_a_time(tmp_path):
    first = Owner(right(tmp_path), "one", Control())
    with pytest.raises(EngineError, match=r"now .run_id one, host "):
        Owner(right(tmp_path), "two", Control())
    first.close()
    Owner(right(tmp_path), "two", Control()).close()


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_an_owner_on_another_host_is_known_by_its_signs_of_life(tmp_path, monkeypatch, locks):
    monkeypatch.setattr(owner, "_BEAT_S", 0.02)
    monkeypatch.setattr(owner, "boot_id", lambda: "there")

    def no_locks(*_):
        raise OSError(errno.ENOSYS, "none")

    # Locks of another host are not seen here.
    monkeypatch.setattr(owner.fcntl, "flock", no_locks)
    first = Owner(right(tmp_path), "one", Control())
    monkeypatch.setattr(owner, "boot_id", lambda: "here")
    if locks:
        monkeypatch.undo()
    with pytest.raises(EngineError, match=r"run_id one"):
        Owner(right(tmp_path), "two", Control(), patience_s=1)
    first.close()
    Owner(right(tmp_path), "two", Control(), patience_s=0.1).close()
