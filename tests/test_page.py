"""The page of a job: whole, small, the same each time, and harmless whatever the archive holds."""

from __future__ import annotations

import json
import re
from functools import cache

import pytest
from facts_of_hosts import facts_of

from mlps.engine import archive as files
from mlps.engine.evidence import read_evidence
from mlps.engine.job_page import behind_data, draw_page
from mlps.engine.page.axes import Scale, decades, from_zero, number, round_step
from mlps.engine.page.document import job_page
from mlps.engine.page.headlines import headlines_of
from mlps.engine.page.samples import BUCKETS, read_rates, thinned
from mlps.engine.page.source import Source, Stage
from mlps.engine.page.svg import Axis, Line, bar_chart, line_chart
from mlps.engine.page.sweep import SweptJob, sweep_page
from mlps.engine.verify import verify_archive

MIB = 2**20


def samples(hosts, ticks):
    yield b'{"kind":"series","interval_s":1}'
    columns = {"disk": ["reads", "read_bytes"], "net": ["receive_bytes"], "mount": ["read_bytes"]}
    names = [f"node{number}" for number in range(hosts)]
    for name in names:
        start = {"kind": "start", "host": name, "interval_s": 1, "start_unix_s": 1000.0}
        yield json.dumps(start | {"columns": columns}).encode()
    moved = {"disk": {"nvme0n1": [1, MIB], "sda": [9, 9 * MIB]}, "net": {"eth0": [MIB]}}
    for tick in range(1, ticks + 1):
        for name in names:
            entry = {"kind": "tick", "host": name, "n": tick, **moved, "mount": [2 * MIB]}
            yield json.dumps(entry).encode()


def facts_of_hosts(hosts, **changes):
    """The data of each host on nvme0n1, its results on sda."""
    return {name: facts_of(name, **changes) for name in (f"node{n}" for n in range(hosts))}


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
    rates = an_hour_of_eight()
    assert rates is not None
    points = rates.points["disk_read_bytes"]
    assert 100 < len(points) <= BUCKETS
    assert {point[1:] for point in points} == {(8 * MIB,) * 3}


@pytest.mark.parametrize(
    ("changes", "disks", "mounts"),
    [
        ({}, 3, 3),  # sda is that of results_dir: it holds none of the data
        ({"identity__boot_id": "one"}, 1, 1),  # containers of one machine: the same counters
        ({"data_dir__blocks": ["nvme0n1", "sda"]}, 30, 3),
        ({"data_dir__blocks": []}, 0, 3),  # a file system of a network
        ({"data_dir__blocks": "unknown"}, 0, 3),
    ],
)
def test_each_byte_of_data_dir_is_counted_once(changes, disks, mounts):
    facts = facts_of_hosts(3)
    for each in facts.values():
        for place, value in changes.items():
            section, _, key = place.partition("__")
            each[section][key] = value
    rates = read_rates(samples(3, 2), behind_data(facts))
    found = {name: points[0][2] / MIB for name, points in rates.points.items()}
    assert found["disk_read_bytes"] == disks
    assert found["mount_read_bytes"] == 2 * mounts
    assert found["net_receive_bytes"] == 3


def test_the_sum_of_many_disks_counts_where_data_are_on_disks():
    behind = behind_data(facts_of_hosts(1) | {"nfs": facts_of("nfs", data_dir__blocks=[])})
    assert behind["node0"].counts("sum of 36")
    assert not behind["nfs"].counts("sum of 36")


LONG = "a_name_of_a_directory_that_nobody_has_shortened/" * 4


def of_families(summary):
    """Summaries of each family, with all that their charts are drawn from."""
    spread = next(iter(summary["values"].values()))
    epochs = [
        {"epoch": number, "au_nominal_pct": 97.0, "au_dlio_pct": 98.0, "au_worst_rank_pct": 90.0,
         "wall_s": 9.5, "train_gib_s": 1.5}
        for number in range(1, 6)
    ]  # fmt: skip
    checkpoints = [{"number": n, "wall_s": 30.0 + n, "gib_s": 2.0} for n in range(1, 11)]
    swept = [
        {"parameter": "nprobe", "value": 2**n, "recall_mean": 0.9 + n / 100, "qps": 3e5 / (n + 1),
         "front": True}
        for n in range(8)
    ]  # fmt: skip
    training = {"training": {"au_least_pct": 90}, "epochs": [epochs] * 3}
    yield summary | {"notes": training, "values": {"au_nominal_pct": spread}}
    yield summary | {"notes": {"checkpoints": [checkpoints]}, "values": {"save_gib_s": spread}}
    values = {"qps": spread, "recall_mean": spread}
    yield summary | {"notes": {"sweep": swept}, "values": values, "option": "an_option"}


@cache
def an_hour_of_eight():
    return read_rates(samples(8, 3600), behind_data(facts_of_hosts(8)))


def large_page(sealed):
    """8 hosts for an hour at one sample a second, 1,024 ranks, and all that families have."""
    evidence = read_evidence(sealed)
    told = {
        "read_bytes": list(range(2**30, 2**30 + 1024)), "write_bytes": [0] * 1024,
        "hosts": ["node0"], "host_index": [0] * 1024,
    }  # fmt: skip
    timeline = {"bin_s": 1, "read_bytes": [2**38] * 3600, "write_bytes": [2**18] * 3600}
    stages = [
        Stage(
            name=launch.name,
            measured=launch.measured,
            outcome=evidence.outcomes[launch.name] | {"message": f"{LONG} said why"},
            result=evidence.results[launch.name] | {"ranks": told, "timeline": timeline},
        )
        for launch in evidence.plan.launches
        if launch.measured
    ]
    result = files.read_document(sealed.path(files.RESULT))
    failure = {"stage": stages[0].name, "message": LONG}
    verdict = files.read_document(sealed.path(files.VERDICT)) | {"verdict": "INVALID"}
    grave = {"severity": "error", "key": LONG, "hint": LONG, "host": "node0", "rule": "X-01"}
    origin = {"from": "command line", "default": 180 * "x", "where": f"command line: {LONG}"}
    metrics = [*result["metrics"], *of_families(result["metrics"][0])]
    return job_page(
        Source(
            result=result | {"failure": failure, "status": "failed", "metrics": metrics},
            verdict=verdict | {"findings": [*verdict["findings"], grave | {"text": LONG}]},
            job=evidence.spec.document | {"data_dir": f"/{LONG}"},
            origins={"data_dir": origin, "benchmark.dataset.train.subfolders": origin},
            stages=stages,
            facts=facts_of_hosts(8),
            rates=an_hour_of_eight(),
        )
    ).decode()


def test_a_page_of_many_ranks_and_samples_is_small(sealed):
    page = large_page(sealed)
    for said in (
        "ranks, slowest first", "block devices of data_dir, 8 hosts", "mount of data_dir, 8 hosts",
        "Utilisation by epoch", "Duration of checkpoints", "Recall and rate", "asked for",
    ):  # fmt: skip
        assert said in page
    assert len(page) < 250 * 1024


def test_the_utilisation_on_the_page_is_the_one_that_is_judged():
    values = {name: {"mean": 1.0} for name in ("au_dlio_pct", "au_nominal_pct")}
    assert [row.name for row in headlines_of(values)] == ["au_nominal_pct"]


def test_the_aggregates_of_a_submission_are_on_the_page(sealed):
    told = {
        "read_bandwidth_gbps": 2.5, "write_bandwidth_gbps": 1.25,
        "avg_throughput_tokens_per_sec": 4321.0, "storage_throughput_tokens_per_sec": 0.0,
        "device_read_p95_ms": 17.5, "device_write_p95_ms": None, "p95_latency_ms": 25.25,
    }  # fmt: skip
    entry = {f"aggregated_{name}": value for name, value in told.items()}
    entry |= {"stage": "run", "option": "option_1", "trial_count": 3}
    page = page_of(sealed, aggregates=[entry])
    for shown in ("option_1", "3", "2.50", "1.25", "4,321", "17.5", "25.2"):
        assert re.search(f"<td[^>]*>[^<]*{shown}</td>", page)
    assert "entry write p95" not in page  # what no option has is no column
    assert "Aggregates" not in page_of(sealed, aggregates=[])


def test_runs_without_a_sweep_have_no_curve(sealed):
    assert "Recall and rate" not in page_of(sealed)


def test_without_samples_there_are_no_rates():
    assert read_rates([b'{"kind":"series","interval_s":1}', b"{cut"], {}) is None


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


def page_of_a_sweep():
    """Users by numbers, cores by names; a headline with HTML in it."""

    def job(number, users, core):
        spread = {"mean": 1e5 * users}
        summary = {
            "stage": "run", "option": None, "complete": True, "values": {"read_gib_s": spread},
        }  # fmt: skip
        entry = {
            "number": number,
            "overrides": [f"benchmark.users={users}", f"benchmark.io.core={core}"],
            "status": "complete", "archive": f"results/{number}-kvcache-quick-0123456789abcdef",
            "verdict": "WHATIF", "headline": "<i> and so on, and so on, and on", "message": None,
        }  # fmt: skip
        return SweptJob(entry=entry, result={"metrics": [summary]})

    document = {
        "swept": ["benchmark.users", "benchmark.io.core"], "sweep": "20261127T160002Z",
        "overrides": [f"results_dir=/{LONG}", "benchmark.users=2,4"], "exit_code": 0,
    }  # fmt: skip
    jobs = [
        job(10 * users + number, users, core)
        for users in (2, 4)
        for number, core in enumerate(("python_threads", "io_uring_of_the_kernel", "threads"))
    ]
    return sweep_page(document, jobs).decode()


def test_a_sweep_has_a_curve_for_each_number():
    page = page_of_a_sweep()
    assert "run: read" in page
    assert page.count("<circle") == 6  # three cores, each over two numbers of users
    assert page.count('<rect class="b"') == 6
    assert "run: read, benchmark.users=4" in page  # bars of one number of users stand apart
    assert "mlps -m results_dir=" in page
    assert "<i>" not in page.replace('<i class="k', "")
