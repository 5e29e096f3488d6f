"""Rules of trees of results: a clean tree has no flaw, and each single flaw gives its rule."""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest
from upstream_trees import (
    CHECKPOINTING,
    IMAGE,
    KV_RUN,
    KVCACHE,
    ORG,
    RESULTS,
    RUNS,
    SYSTEM,
    TRAINING,
    VECTORDB,
    WORKLOAD,
    clean_tree,
    rank_path,
    run_path,
    search_path,
    stamp,
    write_tree,
)

from mlps.engine import edition
from mlps.engine.tree.table import TREE_RULES, UPSTREAM_RULES
from mlps.engine.tree.upstream_kvcache import fixed
from mlps.engine.tree.verify import verify_tree
from mlps.engine.tree.walk import find_tree

CLEAN = clean_tree()
# Of every tree: what its files cannot prove.
ALWAYS = {("info", "UPS-01"), ("info", "TREE-15")}


def edit(path, key, value):
    """A change of one value of a document; None takes it away."""

    def change(files):
        *parents, last = key.split("|")
        document = files[path]
        for name in parents:
            document = document[name]
        if value is None:
            del document[last]
        else:
            document[last] = value

    return change


def put(path, content):
    return lambda files: files.update({path: content})


def drop(*prefixes):
    """Without all files whose path starts so."""

    def change(files):
        for name in [name for name in files if name.startswith(prefixes)]:
            del files[name]

    return change


def move(before, after):
    """All files below a path, below another one."""

    def change(files):
        for name in [name for name in files if name.startswith(before)]:
            files[after + name.removeprefix(before)] = files.pop(name)

    return change


def all_of(*changes):
    def change(files):
        for each in changes:
            each(files)

    return change


def found_in(root):
    groups = [*verify_tree(find_tree(root))]
    return [finding for group in groups for finding in group.findings]


def rules_of(tmp_path, change):
    files = copy.deepcopy(CLEAN)
    change(files)
    findings = found_in(write_tree(tmp_path, files))
    return {(finding.severity, finding.rule) for finding in findings} - ALWAYS


RUN, SUMMARY = run_path(1), f"{run_path(1)}/summary.json"
STATS = f"{RUN}/0_per_epoch_stats.json"
RUN_METADATA = f"{RUN}/training_{stamp(RUNS[1])}_metadata.json"
SIZED = f"{TRAINING}/datasize/20260701_100000"
CKP = f"{CHECKPOINTING}/20260702_100000"
CKP_SUMMARY = f"{CKP}/summary.json"
CKP_METADATA = f"{CKP}/checkpointing_x_metadata.json"
KV_SUMMARY = f"{KV_RUN}/summary.json"
KV_METADATA = f"{KV_RUN}/kv_cache_x_metadata.json"
SEARCH = search_path(1)
SEARCH_SUMMARY = f"{SEARCH}/summary.json"
STATISTICS = f"{SEARCH}/vectordb/simple/statistics.json"
AU = "metric|train_au_percentage"
IO = "metric|train_io_mean_MB_per_second"
NAMED = "system_under_test|solution|submission_name"
READS = "workload|checkpoint|num_checkpoints_read"
CKP_CONFIG = f"{CKP}/dlio_config/config.yaml"
LATE = f"{run_path(5)}/summary.json"

# A change of the clean tree, and the rules that tell it: an error unless marked w or i.
FLAWS = {
    "no submission.yaml": (drop(f"{ORG}/submission.yaml"), "TREE-02"),
    "another org in submission.yaml": (edit(f"{ORG}/submission.yaml", "org", "Other"), "TREE-02"),
    "a file beside results": (put(f"{ORG}/notes.txt", "x"), "TREE-02"),
    "a directory beside results": (put(f"{ORG}/extra/a.txt", "x"), "TREE-02"),
    "no pdf": (drop(f"{ORG}/systems/{SYSTEM}.pdf"), "TREE-03"),
    "a lone pdf": (put(f"{ORG}/systems/other.pdf", "%PDF"), "TREE-03"),
    "a picture of a system": (put(f"{ORG}/systems/a.png", "x"), "TREE-03"),
    "no description": (drop(f"{ORG}/systems/{SYSTEM}.yaml"), "TREE-03 TREE-04"),
    "a description without results": (
        all_of(put(f"{ORG}/systems/b.yaml", {}), put(f"{ORG}/systems/b.pdf", "%PDF")),
        "SYS-18 TREE-04",
    ),
    "another name in a description": (
        edit(
            f"{ORG}/systems/{SYSTEM}.yaml", NAMED, "b"
        ),
        "SYS-22",
    ),
    "division in capitals": (move("closed/", "CLOSED/"), "w:TREE-05"),
    "results in capitals": (move(f"{ORG}/results", f"{ORG}/Results"), "w:TREE-05"),
    "another name of a family": (move(KVCACHE, f"{RESULTS}/kvcache/llama3.1-8b"), "w:TREE-05"),
    "phase in capitals": (move(f"{TRAINING}/run", f"{TRAINING}/RUN"), "w:TREE-05"),
    "index in small letters": (move(VECTORDB, VECTORDB.replace("DISKANN", "diskann")), "w:TREE-05"),
    "a space in a system": (
        all_of(
            move(RESULTS, f"{ORG}/results/sys 1"),
            move(f"{ORG}/systems/{SYSTEM}.", f"{ORG}/systems/sys 1."),
            edit(f"{ORG}/systems/sys 1.yaml", NAMED, "sys 1"),
        ),
        "SYS-18 TREE-05",
    ),
    "an unknown model": (move(TRAINING, f"{RESULTS}/training/cosmoflow"), "TREE-05 UPS-14"),
    "an unknown family": (put(f"{RESULTS}/inference/a.json", {}), "TREE-13"),
    "no datagen": (drop(f"{TRAINING}/datagen"), "TREE-06"),
    "no datasize": (drop(f"{TRAINING}/datasize"), "TREE-06"),
    "five runs of training": (drop(run_path(5)), "TREE-07"),
    "four runs of search": (drop(search_path(4)), "TREE-07"),
    "a name that is no time": (move(CKP, f"{CHECKPOINTING}/run1"), "TREE-08"),
    "a long pause": (
        all_of(
            *(
                edit(LATE, key, (RUNS[5] + timedelta(hours=late)).isoformat())
                for key, late in (("start", 2), ("end", 3))
            )
        ),
        "TREE-09 UPS-13",
    ),
    "no summary": (drop(SEARCH_SUMMARY), "TREE-10"),
    "two files of metadata": (put(f"{KV_RUN}/b_metadata.json", {}), "TREE-10"),
    "no pointer": (drop(f"{CKP}/.mlps-code-image"), "w:TREE-10"),
    "a twin of a Mac": (put(f"{RUN}/._summary.json", "x"), "w:TREE-11"),
    "a directory of a Mac": (put(f"{ORG}/__MACOSX/results/a.json", "x"), "w:TREE-11"),
    "a file at the top": (put("notes.txt", "x"), "TREE-13"),
    "a file among runs": (put(f"{TRAINING}/run/notes.txt", "x"), "TREE-13"),
    "a directory at the top": (put("Acme/readme.txt", "x"), "TREE-13"),
    "a log cut out": (put(f"{RUN}/dlio.log", "x" * 16), "w:TREE-14"),
    "an empty document": (put(f"{RUN}/0_output.json", ""), "TREE-14"),
    "no image": (drop("code-images/"), "TREE-15"),
    "an image without hash": (
        move(f"code-images/code-{IMAGE}/.code-hash.json", f"code-images/code-{IMAGE}/a"), "TREE-15",
    ),
    "an image of no run": (put("code-images/code-ffffffff/.code-hash.json", {}), "w:TREE-15"),
    "a pointer that leaves the tree": (
        put(f"{RUN}/.mlps-code-image", "md5-tree-v2:../../etc"), "TREE-15",
    ),
    "code of older rounds": (put(f"{ORG}/code/main.py", "x"), "w:TREE-16"),
    "no JSON": (put(SUMMARY, '{"a": 1,\n x}'), "TREE-17"),
    "no YAML": (put(f"{ORG}/submission.yaml", "a: [1\nb"), "TREE-17"),
    "no results.json": (drop(f"{TRAINING}/results.json"), "w:TREE-19"),
    "no throughput": (edit(SUMMARY, "metric|train_throughput_samples_per_second", None), "UPS-02"),
    "text for a number": (edit(CKP_SUMMARY, "num_hosts", "many"), "UPS-02"),
    "truth value as text": (
        edit(RUN_METADATA, "parameters", {"dataset": {"skip_listing": "True"}}), "w:UPS-03",
    ),
    "another command": (
        all_of(
            edit(RUN_METADATA, "override_parameters", {"reader.read_threads": 4}),
            edit(RUN_METADATA, "executed_command", "dlio ++workload.reader.read_threads=8"),
        ),
        "UPS-04",
    ),
    "other parameters": (
        edit(RUN_METADATA, "parameters", {"reader": {"read_threads": 9}}), "UPS-04",
    ),
    "parameters that did not run": (edit(KV_METADATA, "parameters|duration", 60), "UPS-04"),
    "arguments that did not run": (
        all_of(edit(KV_METADATA, "parameters", {}), edit(KV_METADATA, "args", {"duration": 60})),
        "UPS-04",
    ),
    "another format": (
        edit(f"{RUN}/dlio_config/config.yaml", "workload|dataset|format", "npy"), "UPS-05",
    ),
    "a lower threshold": (
        edit(f"{RUN}/dlio_config/config.yaml", "workload|metric|au", 0.5), "UPS-05",
    ),
    "an edited mean": (edit(SUMMARY, "metric|train_au_mean_percentage", 99.9), "UPS-07"),
    "utilisation beyond its throughput": (
        all_of(
            edit(SUMMARY, "metric|train_throughput_samples_per_second", [30.0] * 5),
            edit(SUMMARY, "metric|train_throughput_mean_samples_per_second", 30.0),
            edit(SUMMARY, "metric|train_throughput_stdev_samples_per_second", 0.0),
            edit(SUMMARY, IO, 30.0 * 146600628 / 2**20),
        ),
        "UPS-06",
    ),
    "utilisation beyond its epochs": (
        all_of(
            edit(STATS, "2", {**CLEAN[STATS]["2"], "block1": {
                **CLEAN[STATS]["2"]["block1"], "duration": "70"}}),
        ),
        "UPS-06 UPS-14",
    ),
    "another word of DLIO": (edit(SUMMARY, "metric|train_au_meet_expectation", "fail"), "UPS-06"),
    "an edited bandwidth": (edit(SUMMARY, IO, 9999.0), "UPS-07"),
    "datasize after the runs": (
        move(f"{TRAINING}/datasize/20260701_100000", f"{TRAINING}/datasize/20260709_100000"),
        "w:UPS-08 UPS-14",
    ),
    "datasize of another host": (
        edit(
            f"{SIZED}/training_20260701_100000_metadata.json", "system_info|hosts",
            [{"hostname": "laptop"}],
        ),
        "w:UPS-08",
    ),
    "more files than datasize": (
        edit(
            f"{SIZED}/training_20260701_100000_metadata.json", "parameters|dataset",
            {**WORKLOAD["dataset"], "num_files_train": 3400},
        ),
        "UPS-09",
    ),
    "a sum over trials": (
        edit(KV_SUMMARY, "options|1|aggregated_read_bandwidth_gbps", 12.0), "UPS-10",
    ),
    "an edited P95": (edit(KV_SUMMARY, "options|2|aggregated_device_read_p95_ms", 1.0), "UPS-10"),
    "a missing rank": (drop(rank_path(3, 1, 1)), "UPS-11"),
    "a failure that is told": (edit(KV_SUMMARY, "partial_failure", True), "UPS-11"),
    "a missing rank of a search": (edit(STATISTICS, "mpi|missing_ranks", [1]), "UPS-11"),
    "an Option left out": (edit(KV_SUMMARY, "options|3", None), "UPS-12"),
    "a short trial": (edit(rank_path(), "summary|elapsed_time", 60.0), "UPS-12"),
    "another seed": (edit(rank_path(), "seed", 7), "UPS-12"),
    "other users": (
        edit(KV_METADATA, "command_output_files", [
            {"command": "kv-cache.py --num-users 20", "stdout": "kvcache_opt1_trial0.stdout.log"}]),
        "UPS-12",
    ),
    "the end before the start": (edit(CKP_SUMMARY, "end", "2026-07-02T09:00:00"), "UPS-13"),
    "the summary of another day": (
        all_of(
            edit(CKP_SUMMARY, "start", "2026-07-05T10:00:00"),
            edit(CKP_SUMMARY, "end", "2026-07-05T11:00:00"),
        ),
        "w:UPS-13",
    ),
    "metadata of another run": (edit(RUN_METADATA, "run_datetime", "20260101_000000"), "UPS-14"),
    "metadata of another model": (edit(RUN_METADATA, "model", "retinanet"), "UPS-14"),
    "an open run in closed": (edit(RUN_METADATA, "verification", "OPEN"), "UPS-14"),
    "statistics of another run": (edit(STATISTICS, "mean_latency_ms", 9.0), "UPS-14"),
    "one search twice": (
        put(SEARCH_SUMMARY, CLEAN[f"{search_path(0)}/summary.json"]), "UPS-14",
    ),
    "a failed run": (edit(RUN_METADATA, "exit_status", 3), "RUN-01"),
    "one file system": (edit(f"{RUN}/fs_separation.json", "same_filesystem", True), "CAP-03"),
    "no evidence of two": (drop(f"{SEARCH}/fs_separation.json"), "CAP-03"),
    "a small dataset": (
        edit(RUN_METADATA, "system_info|total_memory_bytes", 2**40), "TRN-01",
    ),
    "a missing epoch": (edit(STATS, "5", None), "TRN-06"),
    "low utilisation": (
        all_of(
            edit(SUMMARY, AU, [80.0] * 5),
            edit(SUMMARY, "metric|train_au_mean_percentage", 80.0),
            edit(SUMMARY, "metric|train_au_stdev_percentage", 0.0),
            edit(SUMMARY, "metric|train_throughput_samples_per_second", [80 / 100 * 7 / 0.162] * 5),
            edit(SUMMARY, "metric|train_throughput_mean_samples_per_second", 80 / 100 * 7 / 0.162),
            edit(SUMMARY, "metric|train_throughput_stdev_samples_per_second", 0.0),
            edit(SUMMARY, IO, 0.8 * 7 / 0.162 * 146600628 / 2**20),
            edit(SUMMARY, "metric|train_au_meet_expectation", "fail"),
        ),
        "TRN-02",
    ),
    "uneven accelerators": (edit(SUMMARY, "num_hosts", 3), "JOB-04"),
    "an unofficial accelerator": (edit(RUN_METADATA, "accelerator", "z9"), "JOB-01"),
    "four processes": (edit(CKP_METADATA, "num_processes", 4), "UPS-14"),
    "a few accelerators": (
        all_of(edit(CKP_SUMMARY, "num_accelerators", 16), edit(CKP_METADATA, "num_processes", 16)),
        "CKP-02",
    ),
    "four on each host": (edit(CKP_SUMMARY, "num_hosts", 2), "w:CKP-09"),
    "two on each host": (edit(CKP_SUMMARY, "num_hosts", 4), "CKP-09"),
    "an accelerator too small": (edit(CKP_METADATA, "accelerator", "t4"), "i:CKP-01"),
    "a small checkpoint": (
        all_of(
            edit(CKP_SUMMARY, "metric|checkpoint_size_GB", 60.0),
            *(
                edit(CKP_SUMMARY, f"metric|{phase}_checkpoint_io_mean_GB_per_second", 3.0)
                for phase in ("save", "load")
            ),
        ),
        "CKP-07 w:CKP-04",
    ),
    "five checkpoints": (
        edit(CKP_CONFIG, READS, 5), "CKP-08",
    ),
    "reads that did not run": (
        edit(CKP_CONFIG, READS, 0), "CKP-03",
    ),
    "no fsync": (edit(CKP_CONFIG, "workload|checkpoint|fsync", False), "CKP-06"),
    "an edited rate": (
        edit(CKP_SUMMARY, "metric|load_checkpoint_io_mean_GB_per_second", 9.0), "UPS-07",
    ),
    "more memory than data": (
        edit(CKP_METADATA, "system_info|total_memory_bytes", 2**36), "w:CKP-04",
    ),
    "late requests": (edit(rank_path(), "end_to_end_latencies", [492.7]), "RES-04"),
    "an idle rank": (edit(rank_path(), "summary|cache_stats|storage_entries", 0), "w:RES-10"),
    "vectors lost": (edit(SEARCH_SUMMARY, "inserted_vectors", 999999), "VDB-03"),
    "another index": (edit(SEARCH_SUMMARY, "index_type", "HNSW"), "VDB-04"),
    "another dimension": (edit(SEARCH_SUMMARY, "dimension", 768), "VDB-02 w:VDB-01"),
    "no recall": (edit(SEARCH_SUMMARY, "recall", None), "VDB-06"),
    "zero recall": (edit(SEARCH_SUMMARY, "recall", 0.0), "VDB-06 w:VDB-06"),
    "a short search": (
        all_of(
            edit(SEARCH_SUMMARY, "total_time_seconds", 6.006),
            edit(SEARCH_SUMMARY, "query_count", 6012),
            drop(STATISTICS),
            put(STATISTICS, {}),
        ),
        "VDB-07 w:VDB-07",
    ),
    "no ground truth": (drop(f"{SEARCH}/result_verdict.json"), "VDB-08"),
    "half a ground truth": (
        edit(f"{SEARCH}/result_verdict.json", "flat_setup|coverage", 0.01), "VDB-08",
    ),
    "no disk read": (edit(STATISTICS, "disk_io|total_bytes_read", 0), "w:VDB-09"),
    "failed batches": (edit(STATISTICS, "failed_batches", 3), "VDB-12"),
    "another database": (edit(SEARCH_SUMMARY, "database|database", "pgvector"), "VDB-13"),
    "nothing to publish": (
        all_of(drop(KV_SUMMARY, f"{KV_RUN}/option_"), ), "TREE-10 UPS-15",
    ),
}  # fmt: skip

LETTERS = {"w": "warning", "i": "info"}


def test_a_clean_tree_has_no_flaw(tmp_path):
    assert rules_of(tmp_path, lambda files: None) == set()


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_gives_its_rule(tmp_path, flaw):
    change, words = FLAWS[flaw]
    expected = {
        (LETTERS[word[0]], word[2:]) if ":" in word else ("error", word) for word in words.split()
    }
    assert rules_of(tmp_path, change) == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("memory_times", 1000, {("warning", "CKP-04")}),
        ("training.steps_per_epoch", 10**6, {("error", "TRN-01")}),
        ("training.memory_times", 1000, {("error", "TRN-01")}),
        ("training.warmup_runs", 2, {("error", "TREE-07")}),
        ("training.runs", 4, {("error", "TREE-07")}),
        ("checkpointing.checkpoints", 9, {("error", "CKP-08")}),
        ("checkpointing.ranks_per_host_over", 8, {("warning", "CKP-09")}),
        ("checkpointing.accelerator_memory_gb.b200", 1, {("error", "CKP-01")}),
        ("vectordb.runs", 4, {("error", "TREE-07")}),
        ("vectordb.scales", [{"vectors": 1, "dimension": 2}], {("warning", "VDB-01")}),
        ("vectordb.status", "published", set()),
        ("vectordb.recall_least", 1.0, {("warning", "VDB-06")}),
        ("vectordb.queries_least", 10**9, {("warning", "VDB-07")}),
        ("vectordb.runtime_s_least", 10**6, {("error", "VDB-07")}),
        ("vectordb.closed_backends", [], {("error", "VDB-13")}),
        ("vectordb.closed_indexes", [], {("error", "VDB-13")}),
    ],
)
def test_a_tree_is_judged_by_the_limits_of_the_edition(tmp_path, monkeypatch, key, value, expected):
    document = copy.deepcopy(edition.packaged_edition())
    *parents, name = key.split(".")
    part = document
    for parent in parents:
        part = part[parent]
    part[name] = value
    monkeypatch.setattr(edition, "packaged_edition", lambda: document)
    assert rules_of(tmp_path, lambda files: None) == expected


def test_what_misses_a_value_that_the_rules_have_is_an_error(tmp_path, monkeypatch):
    document = copy.deepcopy(edition.packaged_edition())
    document["vectordb"] |= {"status": "published", "recall_least": 1.0}
    monkeypatch.setattr(edition, "packaged_edition", lambda: document)
    assert rules_of(tmp_path, lambda files: None) == {("error", "VDB-06")}


OPTION_3 = {
    "--model": "llama3.1-70b-instruct", "--num-users": 70, "--duration": 300, "--gpu-mem-gb": 0,
    "--cpu-mem-gb": 0, "--max-concurrent-allocs": 4, "--generation-mode": "none",
}  # fmt: skip


def test_what_an_option_fixes_is_what_the_rules_say():
    assert fixed("1") == OPTION_3 | {
        "--model": "llama3.1-8b", "--num-users": 200, "--max-concurrent-allocs": 16
    }  # fmt: skip
    assert fixed("2") == fixed("1") | {"--num-users": 100, "--cpu-mem-gb": 4}
    assert fixed("3") == OPTION_3


def run_with(flag, value):
    """The clean tree, once its first Option ran with these flags."""
    flags = " ".join(f"{name} {shown}" for name, shown in (fixed("1") | {flag: value}).items())
    entry = {"command": f"kv-cache.py {flags}", "stdout": "kvcache_opt1_trial0.stdout.log"}
    return edit(KV_METADATA, "command_output_files", [entry])


@pytest.mark.parametrize("flag", OPTION_3)
def test_every_flag_that_an_option_fixes_is_compared(tmp_path, flag):
    assert rules_of(tmp_path / "right", run_with(flag, fixed("1")[flag])) == set()
    assert ("error", "UPS-12") in rules_of(tmp_path / "wrong", run_with(flag, 7))


def test_of_runs_that_archives_prove_nothing_is_said_to_be_unproven(tmp_path):
    groups = [*verify_tree(find_tree(write_tree(tmp_path, CLEAN)), proven=True)]
    rules = [finding.rule for group in groups for finding in group.findings]
    assert rules == ["TREE-15"]


def test_without_a_pool_of_code_images_nothing_is_said_of_one(tmp_path):
    pool = {name for name in CLEAN if name.startswith("code-images/")}
    pointers = {name for name in CLEAN if name.endswith(".mlps-code-image")}
    files = {name: CLEAN[name] for name in {*CLEAN} - pool - pointers}
    assert {finding.rule for finding in found_in(write_tree(tmp_path, files))} == {
        "UPS-01", "TREE-10",
    }  # fmt: skip


def test_every_rule_of_trees_has_a_flaw():
    told = {word.rpartition(":")[2] for _, words in FLAWS.values() for word in words.split()}
    # Links are made in test_hostile_tree; the others are remarks that every tree of a kind has.
    assert {*TREE_RULES, *UPSTREAM_RULES} - told == {"TREE-12", "TREE-18", "UPS-01"}
