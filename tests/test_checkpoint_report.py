"""What people read of a job of checkpointing, from archives of a job that was played."""

from __future__ import annotations

import json

import pytest
from checkpoint_results import (
    GIB,
    START_UNIX_S,
    checkpoint_of,
    checkpoint_spec,
    evicted,
    layout_of,
    read,
    written,
)
from conftest import Silent, request_of, stage_result
from divisions import closed_job
from report_texts import assert_follows_from_evidence, squeezed, text_of

from mlps.engine import run as run_module
from mlps.engine.checkpoint_report import checkpoint_line
from mlps.engine.errors import ComplianceError
from mlps.engine.needs import Needs
from mlps.engine.preflight import Machine
from mlps.engine.report import csv_report, headline, read_published
from mlps.engine.report_command import report
from mlps.engine.run import run_job
from mlps.engine.signals import StopRequests
from mlps.engine.verify import verify_archive

NOTHING_COMPARED = {"operations": 0, "blocks": 0, "bytes": 0, "mismatches": 0}


def of_one_rank(section):
    """A section whose checkpoints were made by a rank alone."""
    for checkpoint in section["checkpoints"]:
        checkpoint["straggler"] = 0
    return section


def reported(section, *, without):
    """What a stage reports that moved data in one direction."""
    result = stage_result(ranks=1, checkpointing=of_one_rank(section))
    del result["io"][without]
    if section["does"] == "write":
        result["verify"] = NOTHING_COMPARED
    else:
        result["window"]["start_unix_s"] = START_UNIX_S
    named = ("event", "stage", "option", "trial")
    return {key: value for key, value in result.items() if key not in named}


def behaviours(save=None, load=None, trials=1):
    return {
        f"{stage}-{trial}": behaviour
        for trial in range(trials)
        for stage, behaviour in (
            ("write", reported(save or written(), without="read")),
            ("evict", {"checkpointing": evicted()}),
            ("read", reported(load or read(), without="write")),
        )
    }


@pytest.fixture
def play_job(player):
    """Runs a whole job of checkpointing with a player, and gives what came of it."""

    def run(changes=None, *, played=None, trials=1, display=None):
        player.behave(played or behaviours(trials=trials))
        fitting = {"trials": trials, "cluster.ranks_per_host": 1}
        spec = checkpoint_spec({**player.changes, **fitting, **(changes or {})})
        return run_job(request_of(spec), display or Silent(), StopRequests())

    return run


TEXT = """\
checkpointing/quick on 1 rank, 1 host: complete, verdict WHATIF

write, mean of 2 trials
saved 2 checkpoints of 4.00 GiB at 1.500 GiB/s: 3.00 s until the last rank had made its part \
durable (least 2.00 s, median 3.00 s, most 4.00 s)
by the time of rank 0, as DLIO computes it, 1.875 GiB/s; the slowest rank moved its own part at \
0.375 GiB/s
transfers took up to 2.25 s, making it durable 0.75 s
checkpoint length, s GiB/s median rank, s fastest rank, s made durable, s by storage, % slowest rank
1 2.00 2.000 1.50 1.00 0.50 100.0 0 on node1
2 4.00 1.000 3.00 2.00 1.00 100.0 0 on node1
a checkpoint of 536,870,912 parameters: 8 files, 4.00 GiB, 1.000 GiB a rank
write
latency mean, ms 1.514
latency p50, ms 1.000
latency p95, ms 2.000
latency p99, ms 2.000
latency p99 of the worst rank, ms 2.000
latency max, ms 8.999
client CPU 0.750 s per GiB
window 2.00 s, drain 0.25 s, peak memory of a rank 100 MiB

read, mean of 2 trials
loaded 2 checkpoints of 4.00 GiB at 3.000 GiB/s: 1.50 s until the last rank had read its part \
(least 1.00 s, median 1.50 s, most 2.00 s)
by the time of rank 0, as DLIO computes it, 3.750 GiB/s; the slowest rank moved its own part at \
0.750 GiB/s
transfers took up to 1.12 s
the first read began 20.0 s after the last write; 117.0 s from the first write to the last read
checkpoint length, s GiB/s median rank, s fastest rank, s in memory before, % by storage, % \
slowest rank
1 1.00 4.000 0.75 0.50 0.0 100.0 0 on node1
2 2.00 2.000 1.50 1.00 0.0 100.0 0 on node1
a checkpoint of 536,870,912 parameters: 8 files, 4.00 GiB, 1.000 GiB a rank
each rank read what it wrote; 16 files dropped from the page caches by the ranks, 0.0 % stayed, at \
most 0.0 % were there before a read
read
latency mean, ms 1.507
latency p50, ms 1.000
latency p95, ms 2.000
latency p99, ms 2.000
latency p99 of the worst rank, ms 2.000
latency max, ms 8.999
client CPU 0.375 s per GiB
verified 4.00 GiB, 0 mismatches
window 2.00 s, drain 0.25 s, peak memory of a rank 100 MiB
"""


def test_a_report_of_checkpointing(play_job):
    archive = play_job(trials=2).archive
    assert squeezed(text_of(archive)) == squeezed(TEXT)
    assert headline(read_published(archive).result) == (
        "save 1.50 GiB/s, 3.00 s for each of 2 checkpoints of 4.00 GiB; "
        "load 3.00 GiB/s, 1.50 s for each of 2 checkpoints of 4.00 GiB"
    )


def test_the_throughput_of_the_window_with_its_pauses_is_nowhere(play_job):
    display = Silent()
    text = text_of(play_job(display=display).archive)
    # The window's: 4 and 2 GiB in 2 s.
    for told in (text, "\n".join(display.lines)):
        assert "operations/s" not in told
        assert "read 2.0" not in told
        assert "write 1.0" not in told


def test_an_archive_of_checkpointing_follows_from_its_evidence(play_job, edit, reseal):
    # The times of a source that is played are not those of the stage that wrote.
    done = play_job(played=behaviours(load=read(source=None)))
    assert_follows_from_evidence(done.archive, "save_gib_s", edit, reseal)


def test_what_else_there_is_to_tell(play_job):
    layout = layout_of(
        scale=0.5, formula_bytes=8 * GIB, rank_bytes_least=GIB // 2, parameters=2**30
    )
    training = {"steps": 2, "computation_s": 0.5, "background": True}
    stalled = [checkpoint_of(1, stall_s=0.25), checkpoint_of(2, stall_s=0.75)]
    save = written(*stalled, layout=layout, training=training)
    load = read(layout=layout, shift=2, crossed_ranks=1)
    played = behaviours(save, load)
    played["evict-0"] = {"checkpointing": evicted(method="command", resident_pct=None)}
    changes = {"benchmark.accelerator.checkpoint_gib": 18000}
    lines = text_of(play_job(changes, played=played).archive).splitlines()
    assert "training was held up 0.50 s by a checkpoint, at most 0.75 s" in lines
    assert "training beside the writes: 2 steps of 500 ms" in lines
    assert (
        "a checkpoint of 1,073,741,824 parameters: 8 files, 4.00 GiB, 50 % of 8.00 GiB (by the "
        "table of the rules 18,000 GiB), 0.500 to 1.000 GiB a rank"
    ) in lines
    assert (
        "each rank read what the rank 2 places after it wrote, 1 of them what was written on "
        "another host; 16 files dropped from the page caches by a program of the site, at most "
        "0.0 % were there before a read"
    ) in lines


def test_a_write_that_is_not_durable_is_not_told_as_such(play_job):
    lines = text_of(play_job({"benchmark.io.fsync": False}).archive).splitlines()
    assert any(
        "3.00 s until the last rank had handed over its part (least" in line for line in lines
    )


def test_files_that_stayed_in_memory_are_told(play_job):
    warm = read(*[checkpoint_of(each, does="read", resident_pct=99.0) for each in (1, 2)])
    played = behaviours(load=warm)
    played["evict-0"] = {}
    text = text_of(play_job({"benchmark.eviction.when": "never"}, played=played).archive)
    assert "each rank read what it wrote; files stayed in the page caches\n" in text
    assert "\nwarning CKP-04 02-read-0: checkpoints were read from memory (cached)" in text


def test_of_many_checkpoints_the_first_and_the_last_are_shown(play_job):
    many = [checkpoint_of(number) for number in range(1, 31)]
    played = behaviours(written(*many, planned=30))
    lines = text_of(play_job({"benchmark.writes": 30}, played=played).archive).splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("checkpoint "))
    numbers = [line.split()[0] for line in lines[start + 1 : start + 22]]
    assert numbers == [*map(str, range(1, 11)), "...", *map(str, range(21, 31))]


def test_the_slowest_rank_is_that_of_the_slowest_trial(play_job):
    played = behaviours(trials=2)
    second = played["write-1"]["checkpointing"]["checkpoints"][0]
    second |= {"wall_s": 6.0, "rank_median_s": 3.0, "straggler_host": "node2"}
    lines = squeezed(text_of(play_job(played=played, trials=2).archive))
    (row,) = [line for line in lines if line.endswith("0 on node2")]
    # The mean of 2 and 6 s; of 2 and 2/3 GiB/s.
    assert row.startswith("1 4.00 1.333 ")


def failed(section, message):
    result = reported(section, without="read")
    errors = [{"rank": 0, "host": "node1", "message": message}]
    return result | {"status": "failed", "errors": errors}


def test_checkpoints_before_a_failure_are_kept_and_marked_partial(play_job):
    played = behaviours()
    full = written(checkpoint_of(1), checkpoint_of(2), planned=10)
    played["write-0"] = failed(full, "no space left on device")
    done = play_job({"benchmark.writes": 10}, played=played)
    assert (done.verdict.name, done.verdict.exit_code) == ("INVALID", 4)
    (write, _) = done.result["metrics"]
    assert (write["complete"], write["values"]) == (False, {})
    assert write["notes"]["partial"][0]["partial"] == "2 of 10"
    lines = squeezed(text_of(done.archive))
    assert "write: 0 of 1 trial; no numbers, because some are missing" in lines
    start = lines.index("00-write-0: partial, 2 of 10 checkpoints had been written when it failed")
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == ["checkpoint", "1", "2"]
    assert verify_archive(done.archive.root).findings == ()
    assert headline(done.result) == ""


def test_stages_tell_how_they_did(play_job):
    display = Silent()
    play_job(display=display)
    ended = [line for line in display.lines if ": complete in " in line]
    assert [line.partition(" s, ")[2] for line in ended] == [
        "save 1.50 GiB/s, 3.00 s for each of 2 checkpoints of 4.00 GiB",
        "16 files, 8.00 GiB dropped, 0.0 % of them stayed in memory",
        "load 3.00 GiB/s, 1.50 s for each of 2 checkpoints of 4.00 GiB",
        "",
    ]


def test_a_stage_that_failed_tells_how_far_it_came(play_job):
    display = Silent()
    played = behaviours()
    played["write-0"] = failed(written(checkpoint_of(1)), "no space left on device")
    play_job(played=played, display=display)
    (line,) = [line for line in display.lines if line.startswith("00-write-0: failed")]
    assert line.endswith("no space left on device; 1 of 2 checkpoints had been written")


def test_other_stages_have_no_line():
    assert checkpoint_line({"read_gib_s": 1.0}) is None
    one = {"evicted_files": 1, "evicted_gib": 1.0}
    assert checkpoint_line(one) == "1 file, 1.00 GiB dropped"


def test_a_line_of_csv_for_each_metric(play_job):
    text = csv_report([read_published(play_job().archive)])
    metrics = {line.split(",")[6] for line in text.splitlines()[1:]}
    assert {"save_gib_s", "save_rank0_gib_s", "load_gib_s", "load_resident_pct", "gap_s"} <= metrics


def test_summary_json_of_every_trial(play_job, capsys):
    archive = play_job(trials=2).archive
    assert report([str(archive.root), "--dlio"], as_json=False) == 0
    documents = json.loads(capsys.readouterr().out)
    assert list(documents) == [f"{archive.run_id}/{name}" for name in ("00-write-0", "03-write-1")]
    assert documents[f"{archive.run_id}/00-write-0"]["metric"]["checkpoint_size_GB"] == 4


# ---------------------------------------------------------------- divisions

# The form of a score that one rank can play: few checkpoints, many accelerators on a host.
ONE_RANK = {"edition.checkpointing.ranks_per_host_over": 0, "edition.checkpointing.checkpoints": 2}
CLOSED = closed_job("checkpointing/quick") | ONE_RANK


def test_closed_refuses_another_form_before_anything_is_written(play_job, player):
    with pytest.raises(ComplianceError, match=r"(?s)CKP-08 .*CKP-09 "):
        play_job(closed_job("checkpointing/quick"))
    assert not player.results_dir.exists()


def test_closed_refuses_accelerators_that_hold_less(play_job, player, monkeypatch):
    whole = run_module.check_machine

    def told(*arguments) -> Machine:
        machine = whole(*arguments)
        needs = Needs(
            disk_bytes=1,
            memory_bytes_per_rank=1,
            disk_arithmetic="1 byte",
            facts={"checkpoint": layout_of()},
        )
        return Machine(
            **{name: getattr(machine, name) for name in Machine.__slots__} | {"needs": needs}
        )

    monkeypatch.setattr(run_module, "check_machine", told)
    with pytest.raises(ComplianceError, match=r"CKP-01 .* memory is not declared"):
        play_job(CLOSED)
    with pytest.raises(ComplianceError, match=r"CKP-01 .* a checkpoint has 4.00 GiB"):
        play_job(CLOSED | {"benchmark.accelerator.memory_gib": 3})
    assert not player.results_dir.exists()


def test_closed_with_all_that_is_asked_for(play_job):
    done = play_job(CLOSED | {"benchmark.accelerator.memory_gib": 80})
    assert [f for f in done.verdict.findings if f.severity == "error"] == []
    assert (done.verdict.name, done.verdict.exit_code) == ("CLOSED", 0)


def test_closed_breaks_a_rule_where_reads_begin_late(play_job):
    played = behaviours(load=read(ended_before_s=60))
    done = play_job(CLOSED | {"benchmark.accelerator.memory_gib": 80}, played=played)
    assert (done.verdict.name, done.verdict.exit_code) == ("INVALID", 7)


def test_closed_cannot_use_what_memory_served(play_job):
    warm = read(*[checkpoint_of(each, does="read", resident_pct=99.0) for each in (1, 2)])
    played = behaviours(load=warm)
    done = play_job(CLOSED | {"benchmark.accelerator.memory_gib": 80}, played=played)
    assert (done.verdict.name, done.verdict.exit_code) == ("INVALID", 5)
