"""Where each rule about what a stage reported fires and where it does not."""

from __future__ import annotations

import re

import pytest

from mlps.engine.stage_rules import judge_rooflines, judge_stage_result

GIB = 2**30


def judged_result(result, measured=True, memory_bytes=None):
    found = judge_stage_result("01-run-0", measured, result, memory_bytes, memory_times=3)
    return [str(finding) for finding in found]


def test_a_good_result_has_no_findings(make_result):
    assert judged_result(make_result()) == []


def test_a_stage_that_is_not_measured_need_not_move_or_compare(make_result):
    verify = dict.fromkeys(make_result()["verify"], 0)
    assert judged_result(make_result(io={}, verify=verify, window=None), measured=False) == []


@pytest.mark.parametrize("empty", ["no io", "no bytes"])
def test_res_01_fires_where_nothing_moved(make_result, empty):
    result = make_result()
    for io in result["io"].values():
        io["window_bytes"] = 0
    result["io"] = {} if empty == "no io" else result["io"]
    assert judged_result(result) == [
        "error RES-01 01-run-0: no byte was moved in the measured window"
    ]


def test_res_01_is_silent_where_one_direction_moved(make_result):
    result = make_result()
    del result["io"]["write"]
    assert judged_result(result) == []


@pytest.mark.parametrize("measured", [True, False])
def test_res_02_fires_for_mismatches_of_any_stage(make_result, measured):
    result = make_result()
    result["verify"]["mismatches"] = 3
    assert judged_result(result, measured) == [
        "error RES-02 01-run-0: 3 blocks differed from what was written"
    ]


def test_res_02_warns_where_nothing_was_compared(make_result):
    result = make_result(verify={"operations": 0, "blocks": 0, "bytes": 0, "mismatches": 0})
    assert judged_result(result) == [
        "warning RES-02 01-run-0: no read was compared with what was written"
    ]


def test_res_03_fires_where_direct_io_was_refused(make_result):
    result = make_result()
    result["core"] |= {"direct": False, "direct_refused": "Invalid argument"}
    assert judged_result(result) == [
        "warning RES-03 01-run-0: O_DIRECT was refused (Invalid argument), I/O was buffered: "
        "reads may have come from memory\n  hint: put data_dir on a file system with O_DIRECT"
    ]


def test_res_03_is_silent_where_nobody_asked_for_direct_io_or_there_was_no_io(make_result):
    result = make_result()
    result["core"]["direct"] = False
    assert judged_result(result) == []
    assert judged_result(make_result(core=None)) == []


def test_res_04_fires_for_a_latency_longer_than_the_stage(make_result):
    result = make_result()
    result["io"]["write"]["latency"]["max"] = 2_750_001_001
    assert judged_result(result) == [
        "error RES-04 01-run-0: a latency of 2.750 s in a stage of 2.750 s"
    ]
    result["io"]["write"]["latency"]["max"] = 2_750_000_000
    assert judged_result(result) == []


def test_res_04_is_silent_without_operations(make_result):
    result = make_result()
    result["io"]["write"]["latency"] |= {"upper": [], "count": [], "min": None, "max": None}
    assert judged_result(result) == []


def device(read_bytes, write_bytes):
    return [{"host": "n", "device": "sda", "read_bytes": read_bytes, "write_bytes": write_bytes}]


@pytest.mark.parametrize(
    ("read_bytes", "text"),
    [
        (2**30, "(25.0 %): a cache or another device served the rest"),
        (6 * 2**30, "(150.0 %): something else used the device"),
    ],
    ids=["cached", "disturbed"],
)
def test_res_05_fires_where_the_device_moved_other_bytes(make_result, read_bytes, text):
    (finding,) = judge_stage_result(
        "r", True, make_result(device=device(read_bytes, 2 * 2**30)), None, memory_times=3
    )
    assert (finding.rule, finding.severity) == ("RES-05", "warning")
    assert text in str(finding)


@pytest.mark.parametrize(
    "found",
    [device(4 * 2**30, round(2.03 * 2**30)), [], None],
    ids=["within 2 %", "no device", "not told"],
)
def test_res_05_is_silent(make_result, found):
    result = make_result() if found is None else make_result(device=found)
    assert judge_stage_result("r", True, result, None, memory_times=3) == []


# ---------------------------------------------------------------- RES-13 and RES-14


def mount(kind, *gib):
    """The mounts of one host, with their counts where these are given."""
    counts = zip(("read_bytes", "write_bytes"), gib, strict=False)
    return [{"host": "n", "type": kind, **{name: round(count * GIB) for name, count in counts}}]


def network(receive_gib, send_gib, **more):
    counts = {"receive_bytes": round(receive_gib * GIB), "send_bytes": round(send_gib * GIB)}
    return [{"host": "n", "interfaces": ["eth0"], **counts, **more}]


def texts(rule, result):
    findings = judge_stage_result("r", True, result, None, memory_times=3)
    assert all(finding.severity == "warning" for finding in findings)
    return [finding.text for finding in findings if finding.rule == rule]


@pytest.mark.parametrize(
    ("counted", "text"),
    [
        ((1, 2), "read: .* 4294967296 bytes, the mount (nfs4) 1073741824 (25.0 %): a cache .*"),
        ((4, 2.1), "write: .* 2147483648 bytes, the mount (nfs4) 2254857830 (105.0 %): some.*"),
    ],
    ids=["fewer", "more"],
)
def test_res_13_fires_where_the_mount_moved_other_bytes(make_result, counted, text):
    (found,) = texts("RES-13", make_result(mount=mount("nfs4", *counted)))
    assert re.fullmatch(text.replace("(", r"\(").replace(")", r"\)"), found)


@pytest.mark.parametrize(
    "found",
    [mount("nfs4", 4.05, 1.97), mount("xfs"), mount("nfs4", 1, 2) + mount("nfs4"), []],
    ids=["within 2 %", "no counts", "not all count", "no mount"],
)
def test_res_13_is_silent(make_result, found):
    assert texts("RES-13", make_result(mount=found)) == []


def test_res_14_fires_where_a_network_file_system_moved_more_than_the_network(make_result):
    result = make_result(mount=mount("beegfs"), network=network(1, 1.7))
    rest = "a cache served the rest, or it went past what the counters see"
    read, write = texts("RES-14", result)
    assert read == (
        "read: the benchmark moved 4294967296 bytes on beegfs, the network received 1073741824 "
        f"(25.0 %): {rest}"
    )
    assert write.startswith("write: ")
    assert write.endswith(f"the network sent 1825361101 (85.0 %): {rest}")


def test_res_14_names_what_the_counters_cannot_see(make_result):
    result = make_result(mount=mount("lustre", 4, 2), network=network(0, 2, unseen=["mlx5_0"]))
    (text,) = texts("RES-14", result)
    assert text.endswith("(RDMA over Ethernet: mlx5_0)")


@pytest.mark.parametrize(
    ("mounts", "carried"),
    [
        (mount("beegfs"), network(3.7, 1.9)),
        (mount("nfs4", 4, 2), network(0, 0)),
        (mount("beegfs"), []),
        (mount("tmpfs"), network(0, 0)),
        (mount("beegfs") + mount("xfs"), network(0, 0)),
    ],
    ids=["carried", "servers counted", "no interface", "in memory", "not all on a network"],
)
def test_res_14_is_silent(make_result, mounts, carried):
    assert texts("RES-14", make_result(mount=mounts, network=carried)) == []


def test_res_14_fires_where_a_local_devices_bytes_came_over_the_network(make_result):
    result = make_result(device=device(GIB, 2 * GIB), mount=mount("xfs"), network=network(3, 0))
    assert texts("RES-14", result) == [
        "read: data_dir is not what it claims: of 4294967296 bytes its block device moved "
        "1073741824, while the network received 3221225472"
    ]
    assert len(texts("RES-05", result)) == 1


@pytest.mark.parametrize(
    ("on_device", "received"),
    [(4 * GIB, 9), (4 * GIB - 2**27, 9), (GIB, 2)],
    ids=["all on the device", "little is missing", "the network did not carry it"],
)
def test_res_14_is_silent_of_a_local_device(make_result, on_device, received):
    found = device(on_device, 2 * GIB)
    result = make_result(device=found, mount=mount("ext4"), network=network(received, 9))
    assert texts("RES-14", result) == []


def test_too_few_bytes_are_compared_with_nothing(make_result):
    result = make_result(mount=mount("nfs4", 0, 0), device=device(0, 0), network=network(0, 0))
    lustre = result | {"mount": mount("lustre", 0, 0)}
    for io in result["io"].values():
        io["total_bytes"] = 2**28 - 1
    assert [
        *judge_stage_result("r", True, result, None, memory_times=3),
        *judge_stage_result("r", True, lustre, None, memory_times=3),
    ] == []


# ---------------------------------------------------------------- RES-06


def timeline(moved, length_s=None):
    """Changes of a result whose window moved these GiB in each second."""
    bins = {"bin_s": 1, "read_bytes": [round(gib * GIB) for gib in moved]}
    window = {"start_unix_s": 1.8e9, "ramp_s": 0.5, "drain_s": 0.25, "elapsed_s": 99.0}
    return {
        "timeline": bins | {"write_bytes": [0] * len(moved)},
        "window": window | {"length_s": length_s or float(len(moved))},
    }


@pytest.mark.parametrize(
    ("moved", "text"),
    [
        (
            [2.0] * 30 + [1.0] * 30,
            "throughput fell within 60 s: 2.00 GiB/s in the first fifth, 1.00 GiB/s in the last "
            "(drift -100.0 % of the mean)",
        ),
        (
            [1.0 + second / 100 for second in range(20)],
            "throughput rose within 20 s: 1.01 GiB/s in the first fifth, 1.18 GiB/s in the last "
            "(drift +18.3 % of the mean)",
        ),
    ],
    ids=["fell", "rose"],
)
def test_res_06_fires_where_throughput_drifts(make_result, moved, text):
    (found,) = judged_result(make_result(**timeline(moved)))
    assert found == (
        f"warning RES-06 01-run-0: {text}\n"
        "  hint: a longer benchmark.ramp_s, so that it settles before the window"
    )


@pytest.mark.parametrize(
    "moved",
    [[1.0] * 60, [2.0, 1.0] * 30, [1.05 - second / 1000 for second in range(60)], [2.0, 1.0] * 4],
    ids=["constant", "uneven", "below 10 %", "short"],
)
def test_res_06_is_silent(make_result, moved):
    assert judged_result(make_result(**timeline(moved))) == []


def test_res_06_is_silent_for_stages_that_are_not_measured(make_result):
    assert judged_result(make_result(**timeline([2.0] * 9 + [0.5] * 9)), measured=False) == []


# ---------------------------------------------------------------- RES-07 and RES-09


def search(*probes, limit_ms=500):
    """A search; a probe is its purpose, rate and prefix load in ms."""
    return {
        "limit_ms": limit_ms,
        "fraction": 0.99,
        "probes": [
            {
                "purpose": purpose,
                "rate_per_s": rate,
                "requests": 10,
                "length_s": 1.0,
                "read_bytes": GIB,
                "write_bytes": 0,
                "prefix_load": {
                    "unit": "ns",
                    "upper": [milliseconds * 10**6],
                    "count": [10],
                    "sum": 10,
                    "min": 1,
                    "max": milliseconds * 10**6,
                },
            }
            for purpose, rate, milliseconds in probes
        ],
    }


@pytest.mark.parametrize(
    ("probes", "text"),
    [
        ([("search", 4, 501)], "of 1 probes 0 did"),
        ([("search", 4, 499), ("confirm", 4, 501)], "of 2 probes 1 did, but none when confirmed"),
        ([], "of 0 probes 0 did"),
    ],
    ids=["none", "not confirmed", "no probe"],
)
def test_res_07_fires_where_no_rate_was_confirmed(make_result, probes, text):
    assert judged_result(make_result(search=search(*probes))) == [
        f"error RES-07 01-run-0: no rate met the limit: p99 of prefix_load <= 500 ms; {text}\n"
        "  hint: search at lower rates, or allow a longer latency"
    ]


def test_res_07_is_silent_for_a_capacity_though_the_storage_was_overloaded_to_find_it(make_result):
    found = search(("search", 8, 900), ("confirm", 4, 500))
    details = {"overloaded": True, "backlog_max": 10}
    assert judged_result(make_result(search=found, details=details)) == []
    assert judged_result(make_result(search=None)) == []


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ({}, ": the window was cut"),
        ({"backlog_max": 4096}, ", up to 4096 waited: the window was cut"),
        ({"window_cut": "rank 3 was full"}, ": the window was cut (rank 3 was full)"),
    ],
    ids=["bare", "backlog", "why"],
)
def test_res_09_fires_where_the_storage_was_overloaded(make_result, details, text):
    assert judged_result(make_result(details={"overloaded": True, **details})) == [
        f"error RES-09 01-run-0: the storage did not keep up with the rate of requests{text}\n"
        "  hint: a lower rate of requests"
    ]


@pytest.mark.parametrize("details", [{}, {"overloaded": False, "backlog_max": 7}], ids=str)
def test_res_09_is_silent_where_it_kept_up(make_result, details):
    assert judged_result(make_result(details=details)) == []


# ---------------------------------------------------------------- RES-08


def with_rooflines(plan_of, make_result, *read_gib):
    """Arguments of a judgement: run-0 between two rooflines that moved so much in 1 s."""
    plan = plan_of(
        {
            "benchmark.stages": [
                {"name": "before", "each": "trial"},
                {"name": "run", "each": "trial", "measured": True},
                {"name": "after", "each": "trial"},
            ]
        }
    )
    before, run, after = (launch.name for launch in plan.launches)
    results = {run: make_result()}
    for name, gib in zip((before, after), read_gib, strict=False):
        moved = {"read_bytes": gib * GIB, "write_bytes": 0, "elapsed_s": 1.0, "cpu_s": 0.1}
        results[name] = make_result(window=None, io={}, roofline={"tool": "fio", **moved})
    return plan, {launch.name: {"status": "complete"} for launch in plan.launches}, results


def test_res_08_fires_where_before_and_after_disagree(plan_of, make_result):
    (found,) = judge_rooflines(*with_rooflines(plan_of, make_result, 4, 3))
    assert str(found) == (
        "warning RES-08 01-run-0: the device was not the same before and after: fio moved 4.00 "
        "GiB/s before and 3.00 GiB/s after (28.6 % apart)\n"
        "  hint: repeat it when nothing else uses the device"
    )


@pytest.mark.parametrize("read_gib", [(21, 19), (4,), ()], ids=["within 10 %", "one", "none"])
def test_res_08_is_silent(plan_of, make_result, read_gib):
    assert judge_rooflines(*with_rooflines(plan_of, make_result, *read_gib)) == []


# ---------------------------------------------------------------- RES-10


@pytest.mark.parametrize("name", ["noop", "noop, uring"])
def test_res_10_fires_alone_where_no_storage_was_touched(make_result, name):
    result = make_result(details={"overloaded": True}, device=device(0, 0))
    result["core"]["name"] = name
    assert judged_result(result) == [
        "error RES-10 01-run-0: its operations touched no storage: the numbers say nothing about "
        "one\n  hint: benchmark.io.core=auto"
    ]


def test_res_10_is_silent_for_stages_that_are_not_measured(make_result):
    result = make_result()
    result["core"]["name"] = "noop"
    assert judged_result(result, measured=False) == []


# ---------------------------------------------------------------- RES-11


def working_set(make_result, gib, *, direct):
    result = make_result(details={"working_set_bytes": gib * GIB})
    result["core"]["direct"] = direct
    return result


@pytest.mark.parametrize(
    ("direct", "severity", "text"),
    [
        (True, "info", "I/O was direct, so only caches beyond the hosts can have served reads"),
        (False, "warning", "I/O was buffered, so reads may have come from memory"),
    ],
    ids=["direct", "buffered"],
)
def test_res_11_fires_for_a_small_working_set(make_result, direct, severity, text):
    assert judged_result(working_set(make_result, 23, direct=direct), memory_bytes=8 * GIB) == [
        f"{severity} RES-11 01-run-0: the working set is 23.00 GiB, less than 3 x the 8.00 GiB of "
        f"memory of the hosts: {text}\n  hint: a larger working set"
    ]


def test_res_11_is_silent_for_a_large_working_set_and_where_sizes_are_not_known(make_result):
    large = working_set(make_result, 24, direct=False)
    assert judged_result(large, memory_bytes=8 * GIB) == []
    assert judged_result(working_set(make_result, 1, direct=False)) == []
    assert judged_result(make_result(), memory_bytes=8 * GIB) == []


# ---------------------------------------------------------------- TRC-01


def test_res_12_fires_where_a_faster_core_was_refused(make_result):
    result = make_result()
    reason = "not compiled"
    result["core"] |= {
        "name": "python_threads",
        "refused": [{"core": core, "reason": reason} for core in ("uring", "threads")],
    }
    (found,) = judged_result(result)
    assert found.startswith(
        "warning RES-12 01-run-0: python_threads carried out the operations, which costs more "
        "processor time than what was refused (uring and threads: not compiled)"
    )
    assert judged_result(result, measured=False) == []


def test_res_12_is_silent_where_nothing_was_refused(make_result):
    result = make_result()
    result["core"]["refused"] = []
    assert judged_result(result) == []


@pytest.mark.parametrize(
    ("trace", "texts"),
    [
        (
            {"path": "a.jsonl", "broken_lines": 3, "first_broken_lines": [7, 9]},
            ["warning TRC-01 01-run-0: 3 lines of a.jsonl were skipped: 7, 9 and more"],
        ),
        (
            {"path": "a.jsonl", "broken_lines": 1, "first_broken_lines": [7], "out_of_order": 2},
            [
                "warning TRC-01 01-run-0: 1 lines of a.jsonl were skipped: 7",
                "info TRC-01 01-run-0: 2 requests of the trace are earlier than the one before "
                "them",
            ],
        ),
        ({"path": "a.jsonl", "broken_lines": 0, "first_broken_lines": [], "out_of_order": 0}, []),
        (None, []),
    ],
    ids=["broken", "both", "clean", "no trace"],
)
def test_trc_01(make_result, trace, texts):
    assert judged_result(make_result(details={"trace": trace})) == texts
