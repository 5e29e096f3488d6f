"""Benchmarks of the vectordb family as their users start them, as small as they can be."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi

BAD_BACKENDS = Path(__file__).parents[1] / "bad_backends"
TINY = (
    "benchmark=vectordb/quick",
    "benchmark.trials=1",
    "benchmark.dataset.num_vectors=2000",
    "benchmark.dataset.clusters=20",
    "benchmark.index.nlist=20",
    "benchmark.query.num_query_vectors=40",
    "benchmark.probe.queries=20",
    "benchmark.run.runtime_s=0.5",
    "monitor.interval_s=null",
    "preflight.skip=[CAP-01,CAP-03]",
)


@pytest.fixture
def searched(place):
    """Runs a job; returns what it printed, and its archive."""

    def run(*words, exit_code=0):
        return place.archived(*TINY, "cluster=local", "data_dir=data", *words, exit_code=exit_code)

    return run


def stages(archive):
    return sorted(path.name for path in (archive / "stages").iterdir())


def section(archive, stage, load):
    return load(archive / f"stages/{stage}/result.json")["vectordb"]


def test_the_same_data_truth_and_recall_with_any_number_of_ranks(searched, place, load):
    told = []
    for ranks in (1, 2, 4):
        text, archive = searched(f"cluster.ranks_per_host={ranks}")
        assert list(place.data_dir.iterdir()) == []
        assert stages(archive) == ["00-load", "01-truth", "02-probe", "03-run-0", "04-cleanup"]
        assert "complete, verdict WHATIF" in text.splitlines()[0]
        own = section(archive, "03-run-0", load)
        (point,) = own["points"]
        assert point["clients"] == ranks
        assert point["reads"]["backend"]["bytes"] > 0
        truth = section(archive, "01-truth", load)["truth"]
        told.append((own["dataset"], own["queries"], truth["sha256"], point["recall"]))
    assert told[0] == told[1] == told[2]
    assert told[0][3]["mean"] >= 0.95
    assert told[0][3]["queries"] == 40
    assert place.run("verify", str(archive)).returncode == 0


def test_an_index_is_made_once_and_stays_for_other_jobs(searched, place, load):
    kept = "benchmark.directory=vectors"
    _, first = searched(kept)
    assert not section(first, "00-load", load)["load"]["reused"]
    files = {path: path.stat().st_mtime_ns for path in place.data_dir.rglob("*") if path.is_file()}
    _, second = searched(kept, "benchmark.search.nprobe=20")
    assert section(second, "00-load", load)["load"]["reused"]
    assert section(second, "01-truth", load)["truth"]["reused"]
    (point,) = section(second, "03-run-0", load)["points"]
    assert point["recall"]["mean"] == 1.0
    assert files == {
        path: path.stat().st_mtime_ns for path in place.data_dir.rglob("*") if path.is_file()
    }
    # Of other data it is refused, and stays.
    words = (*TINY, "cluster=local", "data_dir=data", kept, "benchmark.dataset.seed=1")
    done = place.run(*words)
    assert done.returncode == 3
    assert "holds another index" in done.stderr
    assert "dataset.seed: found 42, asked 1" in done.stderr
    assert set(files) == {path for path in place.data_dir.rglob("*") if path.is_file()}


def test_a_sweep_and_a_capacity_are_told(searched, load):
    text, archive = searched(
        "benchmark.sweep.when=success",
        "benchmark.sweep.parameter=nprobe",
        "benchmark.sweep.values=[1,20]",
        "benchmark.sweep.runtime_s=0.3",
        "benchmark.capacity.when=success",
        "benchmark.capacity.runtime_s=0.3",
        "benchmark.capacity.precision_pct=50",
    )
    few, all_lists = section(archive, "05-sweep", load)["points"]
    assert few["recall"]["mean"] < all_lists["recall"]["mean"] == 1.0
    assert few["reads"]["backend"]["bytes"] / few["queries"] < (
        all_lists["reads"]["backend"]["bytes"] / all_lists["queries"]
    )
    points = section(archive, "04-capacity", load)["points"]
    assert {"search", "confirm"} >= {point["purpose"] for point in points}
    assert "nprobe" in text


@pytest.mark.parametrize(
    ("backend", "exit_code", "reason"),
    [
        ("garbage", 5, "error VDB-06 02-probe, 03-run-0: no query found any of its nearest"),
        ("few", 5, "error VDB-11 03-run-0: answers are wrong: 40 queries with fewer ids than"),
        ("claiming", 5, "queries read nothing from storage: memory answered them"),
        ("raising", 4, "a search failed: ConnectionResetError: vectors.example.org:19530 is gone"),
    ],
)
def test_a_backend_that_is_wrong_is_invalid_with_the_reason(
    searched, load, backend, exit_code, reason
):
    text, archive = searched(
        f"benchmark.database.backend=bad_{backend}", "benchmark.search.nprobe=20",
        f"launcher.env.PYTHONPATH={BAD_BACKENDS}", exit_code=exit_code,
    )  # fmt: skip
    assert reason in text
    assert load(archive / "verdict.json")["verdict"] == "INVALID"
