"""Rules of trees of results, and of what the files of other tools tell. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ..rulebook import Rule

TREE_RULES: Mapping[str, Rule] = {
    "TREE-02": Rule(
        text="a submitter has results, systems and submission.yaml, and nothing else",
        phase="package",
        covers=("2.1.1", "2.1.3", "2.1.4", "2.1.5a", "2.1.5b"),
    ),
    "TREE-03": Rule(
        text="every description in systems/ is a pair of a .yaml and a .pdf of one name",
        phase="package",
        covers=("2.1.7",),
    ),
    "TREE-04": Rule(
        text="systems that have results have a description, and the reverse",
        phase="package",
        covers=("2.1.8",),
    ),
    "TREE-05": Rule(
        text="directories have the names, letters and case of the rules",
        phase="package",
        covers=("2.1.1", "2.1.10", "2.1.11", "2.1.21", "2.1.27"),
    ),
    "TREE-06": Rule(
        text="a workload has all of its phases",
        phase="package",
        families=("training", "vectordb"),
        covers=(
            "3.3.1 DATASIZE-MISSING",
            "3.3.1 DATAGEN-MISSING",
            "2.1.12",
        ),
    ),
    "TREE-07": Rule(
        text="a phase has as many runs as it takes: 1 datagen, 6 of training, 1 or 2 of "
        "checkpointing, 5 of vector search",
        phase="package",
        covers=("2.1.13", "2.1.17", "2.1.22", "2.1.23", "5.3.1"),
        limits=("training.warmup_runs", "training.runs", "vectordb.runs"),
    ),
    "TREE-08": Rule(
        text="the directory of a run is named for its time, YYYYMMDD_HHMMSS",
        phase="package",
        covers=("2.1.14", "2.1.18a"),
    ),
    "TREE-09": Rule(
        text="between two runs passes less time than a run takes",
        phase="package",
        covers=("2.1.18", "2.1.24"),
    ),
    "TREE-10": Rule(
        text="a run holds the files that the rules ask for",
        phase="package",
        covers=("2.1.15", "2.1.19", "2.1.20", "2.1.25", "2.1.26", "LEAF-01"),
    ),
    "TREE-11": Rule(
        text="a tree holds nothing that desktops and editors leave behind",
        phase="package",
        severity="warning",
    ),
    "TREE-12": Rule(text="a tree holds files and directories, no links", phase="package"),
    "TREE-13": Rule(
        text="everything in a tree has its place",
        phase="package",
        covers=("2.1.2",),
    ),
    "TREE-14": Rule(text="no file has been cut down or emptied", phase="package"),
    "TREE-15": Rule(
        text="the code image that a run names is in the tree",
        phase="package",
        covers=("2.1.6", "CHECK-01", "CHECK-02", "CHECK-03"),
    ),
    "TREE-16": Rule(
        text="code stands in code images, not in a directory code/ of older rounds",
        phase="package",
        severity="warning",
        covers=("CHECK-04",),
    ),
    "TREE-17": Rule(text="every document and directory can be read", phase="package"),
    "TREE-18": Rule(text="the tree has the layout of v3.0", phase="package", severity="info"),
    "TREE-19": Rule(
        text="the runs of a workload have their results.json",
        phase="package",
        severity="warning",
        covers=("2.1.16",),
    ),
}

UPSTREAM_RULES: Mapping[str, Rule] = {
    "UPS-01": Rule(
        text="files of other tools do not prove all that an archive does",
        phase="package",
        severity="info",
    ),
    "UPS-02": Rule(
        text="a document has the keys that are judged, of their type",
        phase="package",
        covers=("3.3.1 DATASIZE-MALFORMED",),
    ),
    "UPS-03": Rule(
        text="values keep their type: no number and no truth value is written as text",
        phase="package",
        severity="warning",
    ),
    "UPS-04": Rule(
        text="parameters, arguments, the command that ran and the configuration it read agree",
        phase="package",
    ),
    "UPS-05": Rule(
        text="the workload is the official one but for what the division lets change",
        phase="package",
        families=("training",),
        covers=("3.6.2",),
    ),
    "UPS-06": Rule(
        text="utilisation follows from the lengths of the epochs and from the throughput",
        phase="package",
        families=("training",),
        covers=("3.3.2",),
    ),
    "UPS-07": Rule(
        text="means and deviations follow from the values they are of",
        phase="package",
    ),
    "UPS-08": Rule(
        text="phases were run in their order, on the same hosts, and clocks agree",
        phase="package",
        severity="warning",
        covers=("2.1.9",),
    ),
    "UPS-09": Rule(
        text="a run uses the dataset that was sized and made",
        phase="package",
        families=("training",),
        covers=("3.1.1", "3.2.1", "3.3.1", "3.3.1 OVERRUN", "3.3.1 UNDERRUN"),
    ),
    "UPS-10": Rule(
        text="aggregates follow from the results of ranks",
        phase="package",
        families=("kvcache",),
        covers=("6.3.4.1", "6.3.4.2", "6.3.4.3"),
    ),
    "UPS-11": Rule(
        text="every rank of every trial has left its result",
        phase="package",
        families=("kvcache", "vectordb"),
        covers=("6.3.3.3",),
    ),
    "UPS-12": Rule(
        text="the Options ran as the rules fix them",
        phase="package",
        families=("kvcache",),
        covers=("6.3.1.1", "6.3.2.1"),
    ),
    "UPS-13": Rule(
        text="the files of a run tell of one time, that of its directory",
        phase="package",
    ),
    "UPS-14": Rule(
        text="files that hold the same number agree on it",
        phase="package",
        families=("vectordb", "training", "checkpointing"),
    ),
    "UPS-15": Rule(
        text="a row of the results table can be made of the leaf",
        phase="package",
    ),
}
