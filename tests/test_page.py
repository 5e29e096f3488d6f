"""The page of a job: whole, small, the same each time, and harmless whatever the archive holds."""

from __future__ import annotations

import json
import re

import pytest

from mlps.engine import archive as files
from mlps.engine.evidence import read_evidence
from mlps.engine.job_page import draw_page
from mlps.engine.page.axes import Scale, decades, from_zero, number, round_step
from mlps.engine.page.document import job_page
from mlps.engine.page.samples import BUCKETS, read_rates, thinned
from mlps.engine.page.source import Source, Stage
from mlps.engine.page.svg import Axis, Line, bar_chart, line_chart
from mlps.engine.page.sweep import SweptJob, sweep_page
from mlps.engine.verify import verify_archive


def samples(hosts, ticks):
    yield b'{"kind":"series","interval_s":1}'
    columns = {"disk": ["reads", "read_bytes"], "net": ["receive_bytes"]}
    names = [f"node{number}" for number in range(hosts)]
    for name in names:
        start = {"kind": "start", "host": name, "interval_s": 1, "start_unix_s": 1000.0}
        yield json.dumps(start | {"columns": columns}).encode()
    for tick in range(1, ticks + 1):
        for name in names:
            entry = {"kind": "tick", "host": name, "n": tick, "disk": {"sda": [1, 2**20]}}
            yield json.dumps(entry).encode()


def page_of(archive, **changes):
    result = files.read_document(archive.path(files.RESULT)) | changes
    verdict = files.read_document(archive.path(files.VERDICT))
    return draw_page(archive, read_evidence(archive), result, verdict).decode()


def test_the_page_is_sealed_and_is_drawn_the_same_again(sealed):
    page = sealed.path(files.PAGE).read_text()
    assert page == page_of(sealed)
    assert "report.html" in sealed.path(files.MANIFEST).read_text()
    assert 'class="badge mid">WHATIF<' in page
    assert not re.search(r"<script|https?://|url\(", page)


def test_a_page_that_was_changed_and_sealed_again_is_found(sealed, reseal):
    path = sealed.path(files.PAGE)
    path.write_text(path.read_text().replace("WHATIF", "CLOSED"))
    reseal(sealed)
    found = verify_archive(sealed.root)
    assert [(each.rule, each.key) for each in found.findings] == [("EVD-03", files.PAGE)]


def test_a_page_of_other_code_is_left_to_the_manifest(sealed, monkeypatch):
    monkeypatch.setattr("mlps.engine.job_page.content_sha256", lambda: "0" * 64)
    assert verify_archive(sealed.root).exit_code == 0


def test_html_in_names_does_nothing(sealed):
    page = page_of(sealed, benchmark="<img src=x onerror=alert(1)>", run_id='"><u>')
    assert "<img" not in page
    assert "<u>" not in page
    assert "&lt;img src=x" in page


def test_samples_of_many_hosts_become_few_points_of_their_sum():
    rates = read_rates(samples(8, 3600))
    assert rates is not None
    points = rates.points["disk_read_bytes"]
    assert 100 < len(points) <= BUCKETS
    assert {point[1:] for point in points} == {(8 * 2**20,) * 3}


def test_a_page_of_many_ranks_and_samples_is_small(sealed):
    """8 hosts for an hour at one sample a second, and 1,024 ranks: less than 200 KiB."""
    evidence = read_evidence(sealed)
    told = {
        "read_bytes": list(range(2**30, 2**30 + 1024)), "write_bytes": [0] * 1024,
        "hosts": ["node0"], "host_index": [0] * 1024,
    }  # fmt: skip
    stages = [
        Stage(
            name=launch.name,
            measured=launch.measured,
            outcome=evidence.outcomes[launch.name],
            result=evidence.results[launch.name] | {"ranks": told},
        )
        for launch in evidence.plan.launches
        if launch.measured
    ]
    page = job_page(
        Source(
            result=files.read_document(sealed.path(files.RESULT)),
            verdict=files.read_document(sealed.path(files.VERDICT)),
            job=evidence.spec.document,
            origins={},
            stages=stages,
            facts={},
            rates=read_rates(samples(8, 3600)),
        )
    )
    assert b"ranks, from the slowest" in page
    assert b"block devices of all hosts" in page
    assert len(page) < 200 * 1024


def test_without_samples_there_are_no_rates():
    assert read_rates([b'{"kind":"series","interval_s":1}', b"{cut"]) is None


def test_neighbours_are_joined_and_their_mean_stays():
    joined = thinned(list(range(1024)))
    assert len(joined) <= BUCKETS
    assert joined[0] == (2.5, 2.5)


@pytest.mark.parametrize(
    ("least", "step"), [(0, 1.0), (0.3, 0.5), (1, 1), (1.1, 2), (30, 50), (7e-3, 0.01)]
)
def test_steps_are_round(least, step):
    assert round_step(least) == pytest.approx(step)


def test_scales():
    assert from_zero([3.0, 97.0]) == (0, 100)
    assert Scale(low=0, high=10, start=0, end=100).place(20) == 100
    assert Scale(low=1, high=100, start=0, end=100, log=True).place(10) == pytest.approx(50)
    assert decades(0.1, 1000) == pytest.approx([0.1, 1, 10, 100, 1000])


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (0, "0"), (1234.5, "1,234"), (98.386, "98.4"), (0.303, "0.303")],
)
def test_numbers(value, shown):
    assert number(value) == shown


def test_charts_tell_what_they_show():
    chart = line_chart(
        "a<b", [Line(name="read", points=[(0, 1), (1, 2)])], Axis(label="s"), Axis(label="GiB/s")
    )
    assert "a&lt;b</title>" in chart
    assert "read from 1 to 2" in chart
    assert line_chart("none", [], Axis(label="s"), Axis(label="s")) == ""
    assert bar_chart("bars", [("1", 2.0), ("2", 3.0)], "n", Axis(label="s")).count("<rect") == 2


def test_a_sweep_has_a_curve_for_each_number():
    def job(users):
        spread = {"mean": float(users)}
        summary = {
            "stage": "run", "option": None, "complete": True, "values": {"read_gib_s": spread},
        }  # fmt: skip
        entry = {
            "number": users, "overrides": [f"users={users}"], "status": "complete", "archive": None,
            "verdict": "WHATIF", "headline": "<i>", "message": None,
        }  # fmt: skip
        return SweptJob(entry=entry, result={"metrics": [summary]})

    document = {"swept": ["users"], "sweep": "s", "overrides": ["users=2,4"], "exit_code": 0}
    page = sweep_page(document, [job(2), job(4)]).decode()
    assert "run: read" in page
    assert page.count("<circle") == 2
    assert "<i>" not in page
