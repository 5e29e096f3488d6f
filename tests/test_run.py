"""What a job says of its stages while it runs, and of its archive when it has ended."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mlps.engine.commands import _show_run
from mlps.engine.rules import Finding
from mlps.engine.units import GIB
from mlps.engine.verify import verify_archive

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


def test_an_archive_that_will_not_verify_is_told_at_once(play, player, make_result, capsys):
    compared = make_result()["verify"] | {"bytes": 2**50}
    report = play(player, behaviours={"run-0": {"verify": compared}})
    assert (report.verdict.exit_code, report.exit_code) == (0, 7)
    assert [(doubt.rule, doubt.key) for doubt in report.doubts] == [("EVD-07", "01-run-0")]
    found = verify_archive(report.archive.root)
    assert (found.exit_code, found.findings) == (7, report.doubts)
    _show_run(report, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 7
    assert document["doubts"] == [doubt.as_document() for doubt in report.doubts]
    _show_run(report, as_json=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"archive {report.archive.root}"
    assert lines[1].startswith("error EVD-07 01-run-0: ")
    assert lines[2] == (
        "  hint: mlps verify will refuse this archive; please report it: its engine is wrong"
    )


def test_a_clock_that_was_set_is_asked_for(play, player, capsys):
    report = play(player)
    doubt = Finding(rule="EVD-05", severity="error", key="01-run-0", text="it ended first")
    _show_run(replace(report, doubts=(doubt,)), as_json=False)
    assert capsys.readouterr().err.splitlines()[1:] == [
        "error EVD-05 01-run-0: it ended first",
        "  hint: mlps verify will refuse this archive; was a clock set meanwhile?",
    ]


def test_an_archive_that_verifies_is_not_doubted(play, player, capsys):
    report = play(player)
    assert (report.exit_code, report.doubts, report.error) == (0, (), None)
    assert verify_archive(report.archive.root).exit_code == 0
    _show_run(report, as_json=False)
    assert capsys.readouterr().err == f"archive {report.archive.root}\n"


@pytest.mark.parametrize(("times", "rules"), [(0.5, []), (2, ["RES-11"])], ids=["enough", "less"])
def test_how_large_a_working_set_must_be_is_the_editions(play, player, times, rules):
    """Played hosts have 8 GiB of memory."""
    report = play(
        player,
        {"edition.memory_times": times},
        behaviours={"run-0": {"details": {"working_set_bytes": 8 * GIB}}},
    )
    found = [each.rule for each in report.verdict.findings if each.rule == "RES-11"]
    assert found == rules
    assert verify_archive(report.archive.root).exit_code == 0
