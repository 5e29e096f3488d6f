"""Whose count tells what storage served."""

from __future__ import annotations

import pytest

from mlps.engine.collect import COUNTED
from mlps.engine.counting import COUNTERS, counting_kind


@pytest.mark.parametrize(
    ("types", "unseen", "kind"),
    [
        ([], [], "device"),
        (["ext4"], [], "device"),
        (["nfs4"], [], "mount"),
        (["nfs", "nfs4"], [], "mount"),
        (["lustre"], [], "network"),
        (["lustre"], ["mlx5_0"], None),
        (["nfs4", "xfs"], [], None),
    ],
)
def test_who_counts_what_storage_served(make_result, types, unseen, kind):
    mount = [{"host": "a", "type": name} for name in types]
    network = [{"host": "a", "interfaces": ["eth0"], "unseen": unseen}]
    assert counting_kind(make_result(mount=mount, network=network)) == kind


def test_everyone_who_counts_has_a_name():
    assert set(COUNTERS) == set(COUNTED)
