"""The benchmarks of the kvcache family as their users start them, as small as they can be."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.mpi

# Tokens of a few bytes each: chunks and entries of some blocks.
TINY = ("benchmark.tensor_parallel=1024", "benchmark.io.verify=all", "benchmark.ramp_s=0.1")
# The options as they are, but for a cache in memory that would hold all that there is.
OPTIONS = (
    "{name: option_1, set: {model: llama3.1-8b, users: 200, stores_in_flight: 16}}",
    "{name: option_2, set: {model: llama3.1-8b, users: 100, cpu_cache_gib: 0.001}}",
    "{name: option_3, set: {model: llama3.1-70b-instruct, users: 70, stores_in_flight: 4}}",
)
V3 = (
    "benchmark=kvcache",
    f"benchmark.options=[{','.join(OPTIONS)}]",
    *TINY,
    "cluster.ranks_per_host=1",  # of twelve stages
    "trials=2",
    "benchmark.context_tokens_max=2000",
    "benchmark.capacity_gib=0.02",
    "benchmark.slot_bytes=65536",
    "benchmark.option_delay_s=0",
    "benchmark.duration_s=0.3",
    "benchmark.roofline.when=never",
)
PREFIX = (
    *TINY,
    "benchmark.users=2",
    "benchmark.capacity_gib=0.02",
    "benchmark.slot_bytes=65536",
    "benchmark.duration_s=0.3",
    "benchmark.roofline.when=never",
    "trials=1",
)
TRACE = (
    "benchmark=kvcache/trace",
    "benchmark.trace.path=traces/mine.jsonl",
    "benchmark.trace.cycles=1",
    "benchmark.tensor_parallel=1024",
    "benchmark.capacity_gib=0.02",
    "benchmark.slot_bytes=65536",
    "benchmark.ramp_s=0",
    "benchmark.duration_s=60",
    "benchmark.roofline.when=never",
)


@pytest.fixture
def tiny(place, memory):
    """Runs a job whose data are in memory; returns what it printed and its archive."""

    def run(*words):
        words = [word for word in words if not word.startswith("data_dir=")]
        text, archive = place.archived(*words, f"data_dir={memory}")
        assert list(memory.iterdir()) == []
        assert place.run("verify", str(archive)).returncode == 0
        return text, archive

    return run


def entries(archive, load):
    """The published numbers of a job by option."""
    return {entry["option"]: entry for entry in load(archive / "result.json")["metrics"]}


def test_the_suite_runs_three_options_and_reports_each(tiny, load):
    text, archive = tiny(*V3)
    published = entries(archive, load)
    assert list(published) == ["option_1", "option_2", "option_3"]
    for name, entry in published.items():
        assert (entry["stage"], entry["trials"], entry["complete"]) == ("run", 2, True)
        assert f"run, option {name}, mean of 2 trials" in text
        for metric in ("read_gib_s", "write_gib_s", "requests_per_s", "hit_rate_pct"):
            assert entry["values"][metric]["mean"] > 0, (name, metric)
        assert entry["values"]["generated_tokens_per_s"]["mean"] > 0
    names = [path.name for path in sorted((archive / "stages").iterdir())]
    assert names == [
        f"{number:02d}-{name}"
        for number, name in enumerate(
            f"{stage}-{option}{trial}"
            for option in published
            for stage, trial in (("prepare", ""), ("run", "-0"), ("run", "-1"), ("cleanup", ""))
        )
    ]
    plans = {load(path)["plan"]["sha256"] for path in archive.glob("stages/*-run-*/result.json")}
    assert len(plans) == 3


def test_a_profile_of_real_servers_keeps_a_file_for_each_chunk(tiny, load):
    text, archive = tiny("benchmark=kvcache/lmcache", *PREFIX, "cluster.ranks_per_host=1")
    (result,) = (load(path) for path in archive.glob("stages/*-run-*/result.json"))
    assert result["details"]["layout"] == "file_per_chunk"
    assert result["verify"]["operations"] == result["io"]["read"]["total_operations"] > 0
    assert "prefix load latency, ms: " in text


def test_the_capacity_is_searched_and_published(tiny, load):
    text, archive = tiny(
        "benchmark=kvcache/capacity",
        *PREFIX,
        "benchmark.search.prefix_load_ms=60000",
        "benchmark.search.start_per_s=20",
        "benchmark.search.probe_s=0.1",
        "benchmark.search.requests_min=5",
        "benchmark.search.probes_max=3",
    )
    (entry,) = entries(archive, load).values()
    # Two ranks, confirmed at twice the rate of the first probe.
    assert entry["values"]["capacity_requests_per_s"]["mean"] == 80.0
    (result,) = (load(path) for path in archive.glob("stages/*-search-*/result.json"))
    purposes = [probe["purpose"] for probe in result["search"]["probes"]]
    assert purposes == ["search", "search", "confirm"]
    assert "80.000 requests/s" in text


def test_a_roofline_stands_beside_the_runs(tiny, load, place):
    more = ("benchmark.roofline.when=success", "benchmark.roofline.duration_s=0.3")
    text, archive = tiny(*place.small(*more, "benchmark.roofline.tool=raw"))
    stages = [path.name for path in sorted((archive / "stages").iterdir())]
    assert stages == [
        "00-prepare",
        "01-roofline_before",
        "02-run-0",
        "03-roofline_after",
        "04-cleanup",
    ]
    for name in (stages[1], stages[3]):
        roofline = load(archive / "stages" / name / "result.json")["roofline"]
        assert roofline["read_bytes"] + roofline["write_bytes"] > 0
    assert " % of the roofline (" in text


def line(number):
    """A request of a trace: two conversations of growing prompts of whole blocks."""
    talk, turn = number % 2, number // 2 % 5
    blocks = [0, *(1000 * talk + 10 * (number // 10) + block for block in range(1, turn + 2))]
    return {
        "timestamp": 10 * number,
        "input_length": 512 * len(blocks),
        "output_length": 20,
        "hash_ids": blocks,
    }


def test_a_trace_beside_the_user_is_replayed(tiny, load, place):
    (place.root / "traces").mkdir()
    path = place.root / "traces" / "mine.jsonl"
    path.write_text("".join(json.dumps(line(number)) + "\n" for number in range(100)))
    _, archive = tiny(*TRACE)
    assert load(archive / "job.json")["benchmark"]["trace"]["path"] == str(path)
    (result,) = (load(path) for path in archive.glob("stages/*-run-*/result.json"))
    assert result["details"]["trace"]["path"] == str(path)
    assert result["details"]["planned_requests"] == 100
    assert sum(result["ranks"]["requests"]) == 100
    (entry,) = entries(archive, load).values()
    assert entry["values"]["hit_rate_pct"]["mean"] > 10


# ---------------------------------------------------------------- what cannot work


# One of each kind; tests/engines have all that an engine refuses.
NOT_READY = "error: the machine is not ready, nothing was started:\n"
ENGINE = "  error ENV-02 benchmark: engine kvcache_native cannot run this job: "

REFUSED = {
    "both halves of v3": (
        ["benchmark=kvcache", "benchmark.prefill_only=true", "benchmark.decode_only=true"],
        "prefill_only and decode_only exclude each other",
    ),
    "a small chunk": (
        ["benchmark=kvcache/prefix", "benchmark.chunk_tokens=16", "benchmark.tensor_parallel=1024"],
        "a chunk of 16 tokens has 2048 bytes, I/O moves blocks of 4096: use chunk_tokens 32 or"
        " more",
    ),
    "a trace that is none": (
        ["benchmark=kvcache/trace", "benchmark.trace.path=conf/README"],
        "{root}/conf/README line 1: Expecting value: line 1 column 1 (char 0); this is broken line"
        " 1, trace.broken_lines_max allows 0",
    ),
}


def seen(place):
    """All paths below a place; files with their times. A check makes a file and removes it."""
    paths = sorted(place.root.rglob("*"))
    return {path: path.stat().st_mtime_ns if path.is_file() else None for path in paths}


@pytest.mark.parametrize(("words", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_and_touches_nothing(place, words, text):
    (place.root / "conf").mkdir()
    (place.root / "conf" / "README").write_text("hello\n")
    before = seen(place)
    done = place.run(*words, "data_dir=data")
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    lines = done.stderr.removeprefix("checking the machine\n").splitlines(keepends=True)
    assert lines[0] == NOT_READY
    assert lines[1] == ENGINE + text.format(root=place.root) + "\n"
    assert len(lines) == 2
    assert seen(place) == before


def test_all_options_of_the_suite_are_checked_before_the_first_one(place):
    """Of three options only the last one cannot work."""
    words = ["benchmark.context_tokens_max=8000", "benchmark.capacity_gib=1"]
    done = place.run("benchmark=kvcache", *words, "data_dir=data")
    assert done.returncode == 3
    assert "cannot hold the largest entry: 8000 tokens x 327680 bytes" in done.stderr
    assert list(place.data_dir.iterdir()) == []
