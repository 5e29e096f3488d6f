"""The published numbers for readers."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from report_texts import squeezed, text_of

from mlps.engine import archive as files
from mlps.engine.errors import ArchiveError
from mlps.engine.report import csv_report, headline, read_published, write_report

TEXT = """\
kvcache/quick on 1 rank, 1 host: complete, verdict WHATIF
run, mean of 2 trials
                                    read  write
GiB/s                              2.000  1.000
operations/s                     512.000  256.000
latency mean, ms                   1.507  1.514
latency p50, ms                    1.000  1.000
latency p95, ms                    2.000  2.000
latency p99, ms                    2.000  2.000
latency p99 of the worst rank, ms  2.000  2.000
latency max, ms                    8.999  8.999
client CPU 0.250 s per GiB
verified 4.00 GiB, 0 mismatches
window 2.00 s, drain 0.25 s, peak memory of a rank 100 MiB
"""


def test_a_report(sealed):
    assert squeezed(text_of(sealed)) == squeezed(TEXT)


def test_columns_are_aligned_to_the_right(sealed):
    lines = text_of(sealed).splitlines()[2:11]
    assert len({len(line) for line in lines}) == 1


def test_a_failure_is_shown_without_numbers(play, player):
    archive = play(player, {"trials": 2}, behaviours={"run-1": "die"}).archive
    *lines, last = text_of(archive).splitlines()
    assert lines == [
        "kvcache/quick on 1 rank, 1 host: failed, verdict INVALID",
        "run: 1 of 2 trials; no numbers, because some are missing",
    ]
    assert re.fullmatch(
        r"error RUN-01 02-run-1: failed \(rank_died\): rank 0 on node1 \(pid \d+\) was ended by "
        r"signal 9",
        last,
    )


def test_warnings_are_shown_and_information_is_not(play, player):
    verify = {"operations": 0, "blocks": 0, "bytes": 0, "mismatches": 0}
    archive = play(player, behaviours={"run-0": {"verify": verify}}).archive
    last = text_of(archive).splitlines()[-1]
    assert last == "warning RES-02 01-run-0: no read was compared with what was written"
    assert "CAP-03" not in text_of(archive)


def test_options_are_shown_apart(play, player):
    changes = {"benchmark.options": [{"name": name, "set": {}} for name in ("a", "b")]}
    archive = play(player, changes).archive
    lines = text_of(archive).splitlines()
    heads = [place for place, line in enumerate(lines) if line.startswith("run")]
    assert [lines[place] for place in heads] == [
        "run, option a, mean of 1 trial",
        "run, option b, mean of 1 trial",
    ]
    assert [lines[place - 1] for place in heads] == ["", ""]
    result = read_published(archive).result
    assert headline(result) == (
        "a: read 2.00 GiB/s, write 1.00 GiB/s; b: read 2.00 GiB/s, write 1.00 GiB/s"
    )


FACTS = """\
prefix load latency, ms: p50 10.000, p95 20.000, p99 20.000
request latency, ms: p50 10.000, p95 20.000, p99 20.000
queue latency, ms: p50 10.000, p95 20.000, p99 20.000
generated tokens 500.000/s
prefix hit 25.000 %
entry latency p95, ms: read 20.000, write 20.000
client CPU 0.250 s per GiB, 100.000 context switches per GiB
verified 4.00 GiB, 0 mismatches
of these bytes the block device moved: read 100.0 %, write 100.0 %
of these bytes the mount moved: read 100.0 %, write 100.0 %
block device read 0.25 GiB/s, write 0.08 GiB/s; mount read 0.25 GiB/s, write 0.08 GiB/s; network \
received 0.42 GiB/s, sent 0.25 GiB/s
50.0 % of the roofline (fio: read 0.750 GiB/s, write 0.250 GiB/s, 0.050 CPU s per GiB; before and \
after 0.0 % apart)
working set 32.00 GiB, 400.0 % of the memory of the hosts (8.00 GiB)
window 12.00 s (cut: the trace ended), drain 0.25 s, drift +0.0 %, peak memory of a rank 100 MiB
2 stated deviations from upstream: see result.json
"""


@pytest.fixture
def full(make_full_result):
    """What a stage reports that has all that may be left out; its name comes from elsewhere."""
    named = ("event", "stage", "option", "trial")
    return {key: value for key, value in make_full_result().items() if key not in named}


ROOFLINE = {
    "tool": "fio", "read_bytes": 3 * 2**30, "write_bytes": 2**30, "elapsed_s": 4.0, "cpu_s": 0.2,
}  # fmt: skip


def test_a_report_of_all_that_a_stage_may_tell(play, player, full):
    stages = [
        {"name": "before", "each": "trial"},
        {"name": "run", "each": "trial", "measured": True},
        {"name": "after", "each": "trial"},
    ]
    roofline = {"roofline": ROOFLINE}
    behaviours = {"run-0": full, "before-0": roofline, "after-0": roofline}
    report = play(player, {"benchmark.stages": stages}, behaviours=behaviours)
    lines = text_of(report.archive).splitlines()
    assert lines[11:] == FACTS.splitlines()


SEARCH = """\
capacity 8.000 requests/s, prefix load p99 450.000 ms, read 2.000 GiB/s, write 1.000 GiB/s
search for the highest rate with prefix load p99 <= 500 ms
requests/s  completed/s  prefix load p99, ms  limit
    16.000        9.000              700.000  missed
     8.000        9.000              400.000  met
     8.000        9.000              450.000  met when confirmed
"""


def test_a_search_is_a_table(play, player, full, search):
    archive = play(player, behaviours={"run-0": full | {"search": search}}).archive
    assert text_of(archive).splitlines()[2:8] == SEARCH.splitlines()
    assert headline(read_published(archive).result) == (
        "capacity 8.000 requests/s, prefix load p99 450.000 ms, read 2.000 GiB/s, write 1.000 GiB/s"
    )


def test_a_search_of_several_trials_is_a_table_each(play, player, full, search):
    behaviours = {f"run-{trial}": full | {"search": search} for trial in range(2)}
    text = text_of(play(player, {"trials": 2}, behaviours=behaviours).archive)
    assert [line for line in text.splitlines() if line.startswith(("search", "capacity"))] == [
        SEARCH.splitlines()[0],
        "search of trial 0 for the highest rate with prefix load p99 <= 500 ms",
        "search of trial 1 for the highest rate with prefix load p99 <= 500 ms",
    ]


def test_a_search_that_found_nothing_says_so(play, player, full, search):
    given = full | {"search": search | {"limit_ms": 100.0}}
    archive = play(player, behaviours={"run-0": given}).archive
    assert text_of(archive).splitlines()[2] == "no rate met the limit"
    assert headline(read_published(archive).result) == "no rate met the limit"


def test_what_was_found_in_several_stages_is_told_once(play, player):
    verify = {"operations": 0, "blocks": 0, "bytes": 0, "mismatches": 0}
    behaviours = {f"run-{trial}": {"verify": verify} for trial in range(2)}
    archive = play(player, {"trials": 2}, behaviours=behaviours).archive
    assert text_of(archive).splitlines()[-1] == (
        "warning RES-02 01-run-0, 02-run-1: no read was compared with what was written"
    )


def test_a_result_of_an_earlier_form_is_shown(sealed):
    published = read_published(sealed)
    for summary in published.result["metrics"]:
        del summary["notes"]
    out = io.StringIO()
    write_report(out, published)
    assert squeezed(out.getvalue()) == squeezed(TEXT)


def test_the_headline_of_a_job_without_numbers_is_empty(play, player):
    archive = play(player, behaviours={"run-0": "die"}).archive
    assert headline(read_published(archive).result) == ""


def test_csv_holds_every_metric_in_full(sealed):
    published = read_published(sealed)
    rows = list(csv.DictReader(io.StringIO(csv_report([published, published]))))
    values = published.result["metrics"][0]["values"]
    assert len(rows) == 2 * len(values)
    for row in rows:
        spread = values[row["metric"]]
        assert float(row["mean"]) == spread["mean"]
        assert (float(row["min"]), float(row["max"])) == (spread["min"], spread["max"])
        assert (row["run_id"], row["verdict"], row["trials"]) == (sealed.run_id, "WHATIF", "2")
        assert (row["stage"], row["option"], row["benchmark"]) == ("run", "", "kvcache/quick")


def test_the_document(sealed):
    document = read_published(sealed).as_document()
    assert document["result"] == json.loads(sealed.path(files.RESULT).read_bytes())
    assert (document["path"], document["verdict"]) == (str(sealed.root), "WHATIF")


def test_an_archive_without_a_seal(sealed):
    sealed.path(files.MANIFEST).unlink()
    with pytest.raises(ArchiveError) as caught:
        read_published(sealed)
    assert str(caught.value) == (
        f"{sealed.root} is not sealed: its job is still running, or was killed\n"
        f"  hint: mlps resume {sealed.root}"
    )


@pytest.mark.parametrize("name", [files.RESULT, files.VERDICT])
def test_numbers_that_were_edited_after_the_seal_are_not_shown(sealed, name):
    path = sealed.path(name)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ArchiveError) as caught:
        read_published(sealed)
    assert str(caught.value) == (
        f"{path} is not what was sealed: MANIFEST.sha256 names another digest\n"
        f"  hint: mlps verify {sealed.root}"
    )


@pytest.mark.parametrize("name", ["result", "verdict"])
@pytest.mark.parametrize("content", ["[]", "{}", "null"])
def test_what_is_no_result_or_verdict(sealed, reseal, name, content):
    path = sealed.path(f"{name}.json")
    path.write_text(content)
    reseal(sealed)
    with pytest.raises(ArchiveError) as caught:
        read_published(sealed)
    assert str(caught.value) == f"{path} is no {name}"


@pytest.mark.parametrize(
    ("received", "shown"),
    [(2**30, True), (2**20, False)],
    ids=["1 GiB/s", "0.001 GiB/s"],
)
def test_a_network_that_carried_nothing_is_not_told(play, player, make_result, received, shown):
    window = {"receive_bytes": received, "send_bytes": 0, "length_s": 1.0}
    network = {"host": "node1", "interfaces": ["eth0"], "receive_bytes": received, "send_bytes": 0}
    given = {"network": [network | {"window": window}]}
    archive = play(player, behaviours={"run-0": given}).archive
    assert ("network received 1.00 GiB/s, sent 0.00 GiB/s" in text_of(archive)) == shown


def foreign_summary(**values):
    spreads = {
        name: {"mean": value, "min": value, "max": value, "cv_pct": None}
        for name, value in values.items()
    }
    return {
        "stage": "run", "option": None, "trials": 1, "trials_planned": 1, "complete": True,
        "values": spreads, "notes": {"measured_by": ["DLIO"]},
    }  # fmt: skip


COST = {"program_elapsed_s": 2.0, "program_cpu_s": 1.5, "program_peak_rss_max_mib": 30.0}


def test_numbers_of_a_foreign_program_are_shown_as_its_own(sealed):
    published = read_published(sealed)
    summary = foreign_summary(read_gib_s=0.5, au_pct=93.25, samples_per_s=1234.5, **COST)
    out = io.StringIO()
    write_report(out, replace(published, result={**published.result, "metrics": [summary]}))
    assert squeezed(out.getvalue())[1:] == [
        "run, mean of 1 trial",
        "read write",
        "GiB/s 0.500",
        "au_pct: 93.250",
        "samples_per_s: 1,234",
        "ran 2.00 s, CPU 1.50 s, peak memory of a process 30 MiB",
        "measured by DLIO, not by mlps",
    ]


def test_the_headline_of_a_foreign_program_without_throughput():
    summary = foreign_summary(au_pct=93.25, samples_per_s=1234.5, other_ms=1.0, **COST)
    assert headline({"metrics": [summary]}) == "au_pct 93.250, samples_per_s 1,234"
    summary = foreign_summary(read_gib_s=0.5, au_pct=93.25)
    assert headline({"metrics": [summary]}) == "read 0.50 GiB/s"
