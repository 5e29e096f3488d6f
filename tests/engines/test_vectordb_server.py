"""Whole stages on vectors in a real server, which is killed while it is asked."""

from __future__ import annotations

import signal
from contextlib import suppress

import psutil
import pytest
from postgres import running

pytest.importorskip("psycopg", reason="psycopg has no package for this Python")


@pytest.fixture
def server(tmp_path):
    directory = tmp_path / "server"
    directory.mkdir()
    with running(directory) as server:
        yield server


def test_twenty_thousand_vectors_are_found_until_the_server_is_killed(searching, server):
    searching.changes = {
        "database": {"backend": "pgvector", "connection": server.get_uri(), "table": "stages"},
        "dataset": {"num_vectors": 20_000, "dimension": 64, "clusters": 200},
        "index": {
            "index_type": "HNSW",
            "M": 12,
            "ef_construction": 48,
            "nlist": None,
            "kmeans_rounds": None,
        },
        "search": {"search_ef": 100, "nprobe": None, "reads_in_flight": None},
        "sweep": {"when": "never", "parameter": None, "values": []},
        "run": {"runtime_s": 1},
    }
    loaded = searching.stage("load", ranks=2)
    assert loaded["status"] == "complete", loaded["errors"]
    load = loaded["vectordb"]["load"]
    assert (load["stored"], load["writers"]) == (20_000, 2)
    assert searching.solo("truth")["status"] == "complete"
    own = searching.solo("run")
    (point,) = own["vectordb"]["points"]
    assert own["vectordb"]["backend"]["io_class"] == "server"
    assert point["recall"]["mean"] >= 0.9
    assert point["failed_requests"] == 0
    assert point["reads"]["backend"]["bytes"] / point["queries"] > 0

    searching.changes = searching.changes | {"run": {"runtime_s": 60}}
    with searching.launch("run", ranks=2) as launched:
        launched.events_until(lambda event: event.get("phase") == "searching")
        kill(server)
        result = launched.result()
        launched.finish()
    assert result["status"] == "failed"
    (error, *_) = result["errors"]
    assert "backend pgvector: a search failed: cannot search in PostgreSQL" in error["message"]
    assert "postgresql://postgres" in error["message"]
    (point,) = result["vectordb"]["points"]
    assert point["recall"] is None
    assert point["queries"] == sum(point["latency"]["count"])


def kill(server):
    """All of it at once, as if its machine was lost."""
    (first,) = (
        process
        for process in psutil.process_iter()
        if process.name() == "postgres" and str(server.pgdata) in " ".join(process.cmdline())
    )
    for process in (first, *first.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it ends with the first one
            process.send_signal(signal.SIGKILL)
