"""Rules of packages: what a tree of results must be that was made of archives. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ..rulebook import Rule

PACKAGE_RULES: Mapping[str, Rule] = {
    "SUB-01": Rule(
        text="every archive of a package is valid, and its verdict is CLOSED or OPEN",
        phase="package",
    ),
    "SUB-02": Rule(
        text="every file of a run is what follows from its archive",
        phase="package",
        covers=("PROV-01", "LEAF-01"),
    ),
    "SUB-03": Rule(text="every file that follows from an archive is there", phase="package"),
    "SUB-04": Rule(
        text="a package holds nothing but what follows from its archives", phase="package"
    ),
    "SUB-05": Rule(
        text="submission.yaml is what follows from the archives",
        phase="package",
        covers=("PROV-02",),
    ),
    "SUB-06": Rule(
        text="tables of results are the union of what the archives come to",
        phase="package",
        covers=("RPT-01",),
    ),
    "SUB-07": Rule(
        text="the archives are those that submission.yaml lists, each in its place once",
        phase="package",
    ),
    "SUB-08": Rule(
        text="a code image holds the files that its hashes and the archives name",
        phase="package",
        covers=("CHECK-01", "CHECK-02", "CHECK-03"),
    ),
    "SUB-09": Rule(
        text="a system has its description, unchanged since it was packaged, and its pdf",
        phase="package",
        covers=("2.1.7", "2.1.8"),
    ),
    "SUB-10": Rule(
        text="a workload of a system has one attempt: no two archives take the same place",
        phase="package",
        covers=("2.1.17", "2.1.22"),
    ),
    "SUB-11": Rule(
        text="no file of a package is larger than 100 MB, nor all together than 2 GB",
        phase="package",
        severity="warning",
    ),
    "SUB-12": Rule(
        text="a run was made by the code of an image in the package",
        phase="package",
        severity="warning",
        covers=("3.6.1", "5.6.1"),
    ),
}
