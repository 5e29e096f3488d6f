"""The grammar of trees of results, on its own and with the trees of older rounds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from upstream_trees import (
    CHECKPOINTING,
    ORG,
    RESULTS,
    RUNS,
    SYSTEM,
    TRAINING,
    checkpointing,
    clean_tree,
    training_run,
    write_tree,
)

from mlps.engine.errors import ConfigError
from mlps.engine.tree.layout import (
    is_name,
    is_timestamp,
    leaf_of,
    leaf_path,
    place_of_root,
    workload_depth,
)
from mlps.engine.tree.verify import verify_tree
from mlps.engine.tree.walk import Workload, find_tree, read_tree
from mlps.engine.verify_command import verify

BASE = "closed/Acme/results/sys1"
TIME = "20260701_100000"
# Published results of two rounds, where somebody has them: v1.0 of simplyblock, v3.0 of Alluxio.
SAMPLES = os.environ.get("MLPS_PUBLISHED_RESULTS")

LEAVES = {
    f"training/unet3d/run/{TIME}": ("training", "unet3d", "run"),
    f"training/UNET3D/Run/{TIME}": ("training", "unet3d", "run"),
    f"checkpointing/llama3-8b/{TIME}": ("checkpointing", "llama3-8b", ""),
    f"vector_database/DISKANN/datagen/{TIME}": ("vectordb", "DISKANN", "datagen"),
    f"vector_database/milvus/hnsw/run/{TIME}": ("vectordb", "HNSW", "run"),
    f"kv_cache/llama3.1-8b/run/{TIME}": ("kvcache", "llama3.1-8b", "run"),
    f"kvcache/llama3.1-8b/run/{TIME}": ("kvcache", "llama3.1-8b", "run"),
}


@pytest.mark.parametrize("tail", LEAVES)
def test_a_leaf_is_known_by_its_path(tail):
    path = f"{BASE}/{tail}"
    leaf = leaf_of(path.split("/"))
    assert (leaf.family, leaf.model, leaf.phase) == LEAVES[tail]
    assert (leaf.path, leaf.timestamp, leaf.layout) == (path, TIME, 3)
    assert leaf_of(f"{path}/dlio_config/config.yaml".split("/")) == leaf
    assert workload_depth(path.split("/")) == leaf.workload.count("/") + 1


def test_a_run_of_an_older_round():
    leaf = leaf_of(["Closed", "Acme", "results", "resnet-h100", "runs", "run1", "summary.json"])
    assert (leaf.model, leaf.timestamp, leaf.layout) == ("resnet-h100", "run1", 1)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "closed",
        "other/Acme/results/sys1/training/unet3d/run/x",
        f"{BASE}/training/unet3d",
        f"{BASE}/training/unet3d/walk/{TIME}",
        f"{BASE}/vector_database/milvus/HNSW/{TIME}",
        f"{BASE}/inference/x/run/{TIME}",
        f"closed/Acme/systems/sys1/training/unet3d/run/{TIME}",
    ],
)
def test_what_is_no_leaf(path):
    assert leaf_of(path.split("/")) is None


def test_a_path_is_made_as_it_is_read():
    path = f"{BASE}/vector_database/milvus/HNSW/run/{TIME}"
    assert leaf_path(leaf_of(path.split("/")), "milvus") == path
    path = f"{BASE}/checkpointing/llama3-8b/{TIME}"
    assert leaf_path(leaf_of(path.split("/"))) == path


def test_names_and_times():
    assert [is_name(text) for text in ("a.B_9-", "..", ".", "a b", "")] == [
        True, False, False, False, False,
    ]  # fmt: skip
    assert [is_timestamp(text) for text in (TIME, "20261301_000000", "2026", f"{TIME}0")] == [
        True, False, False, False,
    ]  # fmt: skip


def test_the_place_of_a_part_of_a_tree():
    assert place_of_root(("/", "home", "open", "x", *BASE.split("/"))) == BASE
    assert place_of_root(("/", "home", "me", "results")) == ""


@pytest.mark.parametrize("part", ["", "closed", ORG, RESULTS, CHECKPOINTING])
def test_any_part_of_a_tree_is_verified(tmp_path, part):
    root = write_tree(tmp_path, clean_tree())
    groups = [*verify_tree(find_tree(root / part))]
    assert {group.row.prefix[2] for group in groups if group.row} == {"sys1"}
    assert not [
        finding for group in groups for finding in group.findings if finding.severity == "error"
    ]


def test_a_submitter_without_a_division_is_judged_like_closed(tmp_path):
    root = write_tree(tmp_path, clean_tree()) / ORG
    alone = root.rename(tmp_path / "alone")
    rows = [group.row for group in verify_tree(find_tree(alone)) if group.row]
    assert {row.prefix[:2] for row in rows} == {("unknown", "alone")}


def test_a_merged_tree_has_all_submitters(tmp_path):
    files = checkpointing()
    files |= {name.replace("Acme", "Other"): content for name, content in files.items()}
    found = [*read_tree(find_tree(write_tree(tmp_path, files)))]
    assert [each.path for each in found if isinstance(each, Workload)] == [
        CHECKPOINTING, CHECKPOINTING.replace("Acme", "Other"),
    ]  # fmt: skip


def test_archives_and_trees_are_read_apart(tmp_path):
    root = write_tree(tmp_path / "tree", checkpointing())
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="read apart"):
        verify([str(root), str(tmp_path / "other")], as_json=False)


def test_sarif_names_the_files_of_a_tree(tmp_path, capsys):
    root = write_tree(tmp_path, checkpointing())
    (root / CHECKPOINTING / "20260702_100000/summary.json").write_text("{")
    assert verify([str(root / "closed"), "--sarif"], as_json=False) == 6
    results = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    broken = next(each for each in results if each["ruleId"] == "TREE-17")
    uri = broken["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == f"file://{root}/{CHECKPOINTING}/20260702_100000/summary.json"


def test_a_tree_of_an_older_round_is_judged_and_said_to_be_one(tmp_path):
    legacy = {
        "Closed/Acme/systems/unet3d-b200.json": {},
        "Closed/Acme/systems/unet3d-b200.pdf": "%PDF",
    }
    for number, moment in enumerate(RUNS[1:], 1):
        run, place = training_run(moment), f"Closed/Acme/results/unet3d-b200/runs/run{number}"
        legacy |= {
            f"{place}/summary.json": run["summary.json"],
            f"{place}/per_epoch_stats.json": run["0_per_epoch_stats.json"],
            f"{place}/configs/config.yaml": run["dlio_config/config.yaml"],
        }
    groups = [*verify_tree(find_tree(write_tree(tmp_path, legacy)))]
    findings = {(each.severity, each.rule) for group in groups for each in group.findings}
    assert sorted(findings) == [
        ("info", "TREE-18"), ("info", "UPS-01"), ("warning", "TREE-05"),
    ]  # fmt: skip
    (row,) = (group.row for group in groups if group.row)
    assert (row.prefix[4], round(row.values[0], 2)) == ("unet3d-b200", 5.79)


def test_a_tree_of_v2_is_read_as_one_of_v3(tmp_path):
    older = {
        path: content
        for path, content in clean_tree().items()
        if path.startswith((f"{TRAINING}/", f"{CHECKPOINTING}/", f"{ORG}/systems/"))
        and not path.endswith((".mlps-code-image", "fs_separation.json"))
    }
    older[f"{ORG}/systems/{SYSTEM}.yaml"] = {"System": {"name": SYSTEM}, "Nodes": []}
    older[f"{ORG}/code/README.md"] = "how it was run"
    groups = [*verify_tree(find_tree(write_tree(tmp_path, older)))]
    findings = {(each.severity, each.rule) for group in groups for each in group.findings}
    assert findings == {
        ("info", "TREE-18"), ("info", "UPS-01"), ("warning", "TREE-10"), ("warning", "TREE-16"),
        ("error", "TREE-02"), ("error", "SYS-18"), ("error", "CAP-03"),
    }  # fmt: skip
    assert "has the layout of v2.0" in str([group.findings for group in groups])
    assert len([group for group in groups if group.row]) == 2


@pytest.mark.skipif(SAMPLES is None, reason="MLPS_PUBLISHED_RESULTS names no published results")
@pytest.mark.parametrize(
    ("sample", "rules"),
    [
        ("v3.0", "CAP-03 TREE-02 TREE-03 TREE-04 TREE-06 TREE-07 TREE-10 UPS-09"),
        ("v1.0", "TREE-03 TREE-04 TREE-13"),
    ],
)
def test_published_results(sample, rules):
    groups = verify_tree(find_tree(Path(SAMPLES) / sample))
    findings = [finding for group in groups for finding in group.findings]
    assert {each.rule for each in findings if each.severity == "error"} == {*rules.split()}
