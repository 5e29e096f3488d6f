"""One result from many ranks."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import files

import jsonschema
import numpy as np

from mlps.engines.io_core.account import Account, Tally
from mlps.engines.io_core.executor import Refusal
from mlps.engines.result import (
    Core,
    Outcome,
    Plan,
    Usage,
    Window,
    gather_result,
    usage_now,
)
from mlps.engines.supervise import Failure
from mlps.engines.world import SoloWorld


class Together(SoloWorld):
    """One of several ranks that are threads of this process."""

    def __init__(self, rank, barrier, table):
        self.rank = rank
        self.size = len(table)
        self._barrier = barrier
        self._table = table

    def _exchange(self, value):
        self._table[self.rank] = value
        self._barrier.wait()
        values = list(self._table)
        self._barrier.wait()
        return values

    def gather(self, value):
        values = self._exchange(value)
        return values if self.rank == 0 else []

    def broadcast(self, value):
        return self._exchange(value)[0]

    def sum_counts(self, counts):
        return np.sum(self._exchange(counts), axis=0)


def outcome(rank):
    account = Account()
    tally = Tally()
    tally.latencies_ns[0].extend([100 + rank, 200 + rank])
    tally.window_bytes[0] = 2048
    tally.bytes[0] = 4096
    tally.operations[0] = 4
    tally.checks.blocks = 7
    tally.entries[0].extend([(2048, 3_000_000 + rank), (2047, 500_000)])
    tally.requests = 1
    tally.requests_ns.append(400 + rank)
    tally.generated_tokens = 20 + rank
    tally.prefix_ns.append(300 + rank)
    account.add(tally)
    return Outcome(
        account=account,
        window=Window(
            start_unix_s=1000.0 + rank,
            ramp_s=1.0,
            length_s=5.0 + rank / 10,
            drain_s=0.5 - rank / 10,
            elapsed_s=6.5 + rank,
        ),
        plan=Plan(sha256=f"{rank:064x}", generator="g/1", hashed_operations=9),
        core=Core(
            name="python_threads",
            direct=rank == 0,
            direct_refused=None if rank == 0 else "no such thing",
            alignment_bytes=512 if rank == 0 else 1,
            durability="none",
            io_size_bytes=4096,
            depth=4,
            rings=2,
            refused=(Refusal(core="uring", reason=f"no {rank}"),),
        ),
        usage=Usage(user_s=1.0 + rank, system_s=0.25, context_switches=40 + rank),
        facts={"fact": rank},
        sums={"sum": 10 + rank},
        lists={"list": [f"item {rank}"]},
        search={"probes": [rank]},
        roofline={
            "tool": f"tool {rank}",
            "read_bytes": 10,
            "write_bytes": rank,
            "elapsed_s": 2.0 - rank,
            "cpu_s": 0.1,
        },
    )


def gathered(outcomes, failures=()):
    barrier, table = threading.Barrier(len(outcomes)), [None] * len(outcomes)
    status = "failed" if failures else "complete"

    def gather(rank):
        world = Together(rank, barrier, table)
        return gather_result(world, outcomes[rank], ["one", "two"], status, list(failures))

    with ThreadPoolExecutor(len(outcomes)) as pool:
        first, *others = pool.map(gather, range(len(outcomes)))
    assert all(other == {} for other in others)
    return first


def test_two_ranks_become_one_result():
    result = gathered([outcome(0), outcome(1)])
    assert result["window"] == {
        "start_unix_s": 1000.0,
        "ramp_s": 1.0,
        "length_s": 5.1,
        "drain_s": 0.5,
        "elapsed_s": 7.5,
    }
    read = result["io"]["read"]
    assert (read["window_bytes"], read["total_bytes"]) == (4096, 8192)
    assert (read["window_operations"], read["total_operations"]) == (4, 8)
    assert read["latency"] == {
        "unit": "ns",
        "upper": [100, 101, 200, 201],
        "count": [1, 1, 1, 1],
        "sum": 602,
        "min": 100,
        "max": 201,
    }
    assert result["io"]["write"]["latency"]["min"] is None
    assert result["verify"] == {"operations": 0, "blocks": 14, "bytes": 0, "mismatches": 0}
    assert result["ranks"]["hosts"] == ["one", "two"]
    assert result["ranks"]["host_index"] == [0, 1]
    assert result["ranks"]["read_p99_ns"] == [200, 201]
    assert result["ranks"]["max_latency_ns"] == [200, 201]
    assert result["ranks"]["write_p99_ns"] == [None, None]
    assert result["ranks"]["cpu_user_s"] == [1.0, 2.0]
    assert result["ranks"]["entry_read_p95_ns"] == [3_000_000, 3_000_001]
    assert result["ranks"]["entry_write_p95_ns"] == [None, None]
    assert result["ranks"]["storage_s"] == [0.0035, 0.0035]
    assert result["ranks"]["generated_tokens"] == [20, 21]
    assert result["ranks"]["requests"] == [1, 1]
    assert result["ranks"]["request_p95_ns"] == [400, 401]
    assert result["ranks"]["context_switches"] == [40, 41]
    assert result["details"] == {"fact": 0, "sum": 21, "list": ["item 0", "item 1"]}


def test_entries_of_all_ranks_are_merged_by_size():
    result = gathered([outcome(0), outcome(1)])
    assert result["sizes"] == {
        "read": [
            {
                "below_bytes": 2048,
                "entries": 2,
                "bytes": 4094,
                "sum_ns": 1_000_000,
                "max_ns": 500_000,
            },
            {
                "below_bytes": 4096,
                "entries": 2,
                "bytes": 4096,
                "sum_ns": 6_000_001,
                "max_ns": 3_000_001,
            },
        ],
        "write": [],
    }
    latency = result["latency"]
    assert (latency["entry_read"]["sum"], latency["entry_read"]["max"]) == (7_000_001, 3_000_001)
    assert latency["entry_write"]["min"] is None
    assert latency["prefix_load"]["upper"] == [300, 301]


def test_a_search_is_rank_0s_and_rooflines_are_added():
    result = gathered([outcome(0), outcome(1)])
    assert result["search"] == {"probes": [0]}
    assert result["roofline"] == {
        "tool": "tool 0",
        "read_bytes": 20,
        "write_bytes": 1,
        "elapsed_s": 2.0,
        "cpu_s": 0.2,
    }
    without = gathered([Outcome(), Outcome()])
    assert without["search"] is without["roofline"] is None
    assert without["sizes"] == {}


def test_a_result_fits_its_schema_and_stays_small():
    outcomes = [replace(outcome(rank), search=None) for rank in range(2)]
    result = {"event": "result", "stage": "run", "option": None, "trial": 0, **gathered(outcomes)}
    schema = json.loads(files("mlps.schemas").joinpath("stage_result.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(result)
    assert len(json.dumps(result)) < 6000


def test_context_switches_are_counted_over_the_same_span_as_processor_time():
    before = usage_now()
    for _ in range(3):
        time.sleep(0.001)
    used = usage_now().since(before)
    assert used.context_switches >= 3
    assert used.user_s + used.system_s < 0.5


def test_the_plan_of_all_is_the_hash_of_each_in_rank_order():
    plans = [bytes(32), bytes(31) + b"\1"]
    assert gathered([outcome(0), outcome(1)])["plan"] == {
        "sha256": hashlib.sha256(b"".join(plans)).hexdigest(),
        "generator": "g/1",
        "hashed_operations": 9,
    }


def test_one_rank_without_direct_io_is_enough_to_say_so():
    core = gathered([outcome(0), outcome(1)])["core"]
    assert (core["direct"], core["direct_refused"]) == (False, "rank 1: no such thing")


def test_what_failed_before_it_began_has_a_result():
    failure = Failure(rank=1, host="two", message="no")
    result = gathered([Outcome(), Outcome()], [failure])
    assert result["status"] == "failed"
    assert result["errors"] == [{"rank": 1, "host": "two", "message": "no"}]
    assert result["window"] is result["plan"] is result["core"] is None
    assert result["io"] == {}
