"""What a job says of its stages while it runs."""

from __future__ import annotations

import pytest

ROOFLINE = {
    "tool": "fio", "read_bytes": 3 * 2**30, "write_bytes": 0, "elapsed_s": 2.0, "cpu_s": 0.1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "changes", "end"),
    [
        ("run-0", {}, ", read 2.00 GiB/s, write 1.00 GiB/s"),
        ("cleanup", {"roofline": ROOFLINE}, ", roofline read 1.50 GiB/s"),
        ("cleanup", {}, " s"),
    ],
    ids=["measured", "roofline", "without numbers"],
)
def test_a_stage_that_has_ended_shows_its_numbers(play, player, display, stage, changes, end):
    play(player, behaviours={stage: changes}, display=display)
    (line,) = [line for line in display.lines if f"-{stage}: complete in " in line]
    assert line.endswith(end)


def test_a_search_that_has_ended_shows_its_capacity(play, player, display, search):
    play(player, behaviours={"run-0": {"search": search}}, display=display)
    (line,) = [line for line in display.lines if line.startswith("01-run-0: complete in ")]
    assert line.endswith(", capacity 8.000 requests/s")
