# ruff: noqa: E501 - a mutation is a row of a table
"""Single changes to a package of closed-shaped runs: each breaks the rule that it must, and no other."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest
from closed_runs import closed_runs  # noqa: F401 - a fixture
from systems import described

from mlps.engine.errors import ArchiveError, ComplianceError, ConfigError
from mlps.engine.package.plan import Packed, collisions, without_image
from mlps.engine.package.verify import verify_package
from mlps.engine.package.write import Wish, make_package, sizes_of
from mlps.engine.package_command import package
from mlps.engine.rules import errors
from mlps.engine.tree import layout
from mlps.engine.tree.walk import Tree
from mlps.engine.tree_command import report_trees, verify_trees

pytestmark = [pytest.mark.mpi, pytest.mark.xdist_group("closed runs")]

HOME = "closed/Acme"
RUNS = f"{HOME}/results/rack1"


@dataclass(frozen=True)
class Package:
    """A package that is being changed. Files are replaced, never written into: they are links."""

    root: Path

    def one(self, pattern: str) -> Path:
        """The first path of a pattern."""
        return sorted(self.root.glob(pattern))[0]

    def put(self, path: Path, data: bytes) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def replaced(self, pattern: str, old: str, new: str) -> None:
        """Change a text that must be there."""
        path = self.one(pattern)
        text = path.read_text()
        assert old in text
        self.put(path, text.replace(old, new, 1).encode())

    def number(self, pattern: str, *keys: str) -> None:
        """Add a thousandth to a number."""
        path = self.one(pattern)
        document = json.loads(path.read_bytes())
        inner = document
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = inner[keys[-1]] * 1.001 + 0.001
        self.put(path, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())

    def append(self, pattern: str, data: bytes = b"\n") -> None:
        path = self.one(pattern)
        self.put(path, path.read_bytes() + data)

    def swap(self, one: str, other: str) -> None:
        first, second = self.one(one), self.one(other)
        aside = first.with_name("aside")
        first.rename(aside)
        second.rename(first)
        aside.rename(second)

    def leaf(self, pattern: str, number: int) -> str:
        """The relative path of the directory of a run."""
        return sorted(self.root.glob(f"{RUNS}/{pattern}"))[number].relative_to(self.root).as_posix()

    def new(self, name: str, data: bytes = b"x") -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def link(self, pattern: str) -> None:
        path = self.one(pattern)
        path.unlink()
        path.symlink_to("/etc/hostname")


TRAIN, CKPT = f"{RUNS}/training/training", f"{RUNS}/checkpointing/checkpointing"
KV, VDB = f"{RUNS}/kv_cache/tiny-1b", f"{RUNS}/vector_database/native_ivf/IVF_FLAT"
ARCH = ".mlps/archives"


def _swap_leaves(package: Package) -> None:
    leaves = sorted((package.root / TRAIN / "run").iterdir())
    package.swap(*(leaf.relative_to(package.root).as_posix() for leaf in leaves[1:3]))


def _move(package: Package, pattern: str, name: str) -> None:
    path = package.one(pattern)
    path.rename(path.with_name(name))


def _copy_archive(package: Package) -> None:
    path = package.one(f"{ARCH}/*training*")
    shutil.copytree(path, path.with_name(f"{path.name}-2"))


MUTATIONS: dict[str, tuple[Callable[[Package], object], set[str]]] = {
    # numbers and texts of runs
    "utilisation": (lambda p: p.number(f"{TRAIN}/run/*/summary.json", "metric", "train_au_mean_percentage"), {"SUB-02"}),
    "training throughput": (lambda p: p.number(f"{TRAIN}/run/*/summary.json", "metric", "train_io_mean_MB_per_second"), {"SUB-02"}),
    "files of training": (lambda p: p.number(f"{TRAIN}/run/*/summary.json", "num_files_train"), {"SUB-02"}),
    "length of an epoch": (lambda p: p.replaced(f"{TRAIN}/run/*/0_per_epoch_stats.json", '"duration": "0', '"duration": "1'), {"SUB-02"}),
    "computation of a step": (lambda p: p.replaced(f"{TRAIN}/run/*/dlio_config/config.yaml", "computation_time: 0.02", "computation_time: 0.03"), {"SUB-02"}),
    "overrides": (lambda p: p.append(f"{TRAIN}/run/*/dlio_config/overrides.yaml", b"- ++workload.a=1\n"), {"SUB-02"}),
    "write bandwidth": (lambda p: p.number(f"{CKPT}/*/summary.json", "metric", "save_checkpoint_io_mean_GB_per_second"), {"SUB-02"}),
    "read duration": (lambda p: p.number(f"{CKPT}/*/summary.json", "metric", "load_checkpoint_duration_mean_seconds"), {"SUB-02"}),
    "bandwidth of an option": (lambda p: p.number(f"{KV}/run/*/summary.json", "options", "1", "aggregated_read_bandwidth_gbps"), {"SUB-02"}),
    "latency of an option": (lambda p: p.number(f"{KV}/run/*/option_2_results.json", "aggregated_device_read_p95_ms"), {"SUB-02"}),
    "bytes of a rank": (lambda p: p.number(f"{KV}/run/*/option_1/trial_0/rank_0/*.json", "summary", "cache_stats", "total_read_bytes"), {"SUB-02"}),
    "queries": (lambda p: p.number(f"{VDB}/run/*/summary.json", "throughput_qps"), {"SUB-02"}),
    "recall": (lambda p: p.number(f"{VDB}/run/*/recall_stats.json", "mean_recall"), {"SUB-02"}),
    "statistics": (lambda p: p.number(f"{VDB}/run/*/vectordb/simple/statistics.json", "p99_latency_ms"), {"SUB-02"}),
    "coverage": (lambda p: p.replaced(f"{VDB}/run/*/result_verdict.json", "1.0", "0.5"), {"SUB-02"}),
    "stored vectors": (lambda p: p.number(f"{VDB}/datagen/*/summary.json", "inserted_vectors"), {"SUB-02"}),
    "ranks of metadata": (lambda p: p.number(f"{TRAIN}/run/*/*_metadata.json", "num_processes"), {"SUB-02"}),
    "memory of metadata": (lambda p: p.number(f"{TRAIN}/datasize/*/*_metadata.json", "system_info", "total_memory_bytes"), {"SUB-02"}),
    "file systems": (lambda p: p.replaced(f"{KV}/run/*/fs_separation.json", "false", "true"), {"SUB-02"}),
    "stage of provenance": (lambda p: p.replaced(f"{TRAIN}/run/*/provenance.json", "01-warmup", "02-run-0"), {"SUB-02"}),
    "core configuration": (lambda p: p.replaced(f"{CKPT}/*/provenance.json", '"algorithm": "sha256"', '"algorithm": "md5"'), {"SUB-02"}),
    "pointer": (lambda p: p.put(p.one(f"{KV}/run/*/.mlps-code-image"), b"md5-tree-v2:" + b"0" * 32 + b"\n"), {"SUB-02"}),
    "a log": (lambda p: p.append(f"{TRAIN}/run/*/training_run.stderr.log"), {"SUB-02"}),
    "an emptied file": (lambda p: p.put(p.one(f"{KV}/run/*/summary.json"), b""), {"SUB-02"}),
    "a huge file": (lambda p: p.put(p.one(f"{KV}/run/*/summary.json"), b" " * 50_000_000), {"SUB-02"}),
    "a link for a file": (lambda p: p.link(f"{VDB}/run/*/summary.json"), {"SUB-02"}),
    "two summaries swapped": (lambda p: p.swap(p.leaf("training/training/run/*", 1) + "/summary.json", p.leaf("training/training/run/*", 2) + "/summary.json"), {"SUB-02"}),
    # what is missing, more, or elsewhere
    "two runs swapped": (_swap_leaves, {"SUB-02", "SUB-03", "SUB-04"}),
    "a run removed": (lambda p: shutil.rmtree(p.one(f"{TRAIN}/run/*")), {"SUB-03"}),
    "a trial removed": (lambda p: shutil.rmtree(p.one(f"{KV}/run/*/option_1/trial_2")), {"SUB-03"}),
    "a file removed": (lambda p: p.one(f"{VDB}/run/*/summary.json").unlink(), {"SUB-03"}),
    "a file in another case": (lambda p: _move(p, f"{VDB}/run/*/summary.json", "Summary.json"), {"SUB-03", "SUB-04"}),
    "a run renamed": (lambda p: _move(p, f"{CKPT}/*_*", "20200101_000000"), {"SUB-03", "SUB-04"}),
    "a model renamed": (lambda p: _move(p, KV, "llama3.1-8b"), {"SUB-03", "SUB-04"}),
    "a model in another case": (lambda p: _move(p, KV, "Tiny-1B"), {"SUB-03", "SUB-04"}),
    "a system's results renamed": (lambda p: _move(p, RUNS, "rack2"), {"SUB-03", "SUB-04"}),
    "one more file": (lambda p: p.new(f"{KV}/notes.txt"), {"SUB-04"}),
    "one more run": (lambda p: shutil.copytree(p.one(f"{TRAIN}/run/*"), p.root / TRAIN / "run" / "20300101_000000"), {"SUB-04"}),
    "one more directory": (lambda p: (p.root / HOME / "code").mkdir(), {"SUB-04"}),
    "one more at the top": (lambda p: p.new("README.txt"), {"SUB-04"}),
    "one more in .mlps": (lambda p: p.new(".mlps/runs.jsonl"), {"SUB-04"}),
    "a link to elsewhere": (lambda p: (p.root / HOME / "results" / "more").symlink_to("/etc"), {"SUB-04"}),
    # the whole
    "another submitter": (lambda p: _move(p, HOME, "Other"), {"SUB-05", "SUB-06"}),
    "org of the list": (lambda p: p.replaced(f"{HOME}/submission.yaml", "org: Acme", "org: Other"), {"SUB-05"}),
    "manifest of the list": (lambda p: p.replaced(f"{HOME}/submission.yaml", "manifest_sha256: ", "manifest_sha256: 0"), {"SUB-05"}),
    "a list that is no YAML": (lambda p: p.put(p.one(f"{HOME}/submission.yaml"), b"a: ["), {"SUB-05"}),
    "a list without archives": (lambda p: p.put(p.one(f"{HOME}/submission.yaml"), b"archives: 3\n"), {"SUB-05"}),
    "no list": (lambda p: p.one(f"{HOME}/submission.yaml").unlink(), {"SUB-05"}),
    "a way out in the list": (lambda p: p.replaced(f"{HOME}/submission.yaml", "system: rack1", "system: ../rack1"), {"SUB-05"}),
    "a table": (lambda p: p.append(f"{HOME}/results.csv", b"more\n"), {"SUB-06"}),
    "a table of a workload": (lambda p: p.append(f"{TRAIN}/results.json"), {"SUB-06"}),
    "no table": (lambda p: p.one(f"{HOME}/results.json").unlink(), {"SUB-03"}),
    "the other division": (lambda p: _move(p, "closed", "open"), {"SUB-01"}),
    # archives, images, systems
    "an archive removed": (lambda p: shutil.rmtree(p.one(f"{ARCH}/*kvcache*")), {"SUB-07"}),
    "an archive twice": (_copy_archive, {"SUB-07"}),
    "a number of an archive": (lambda p: p.append(f"{ARCH}/*kvcache*/result.json"), {"EVD-01"}),
    "a log of an archive": (lambda p: p.append(f"{ARCH}/*training*/stages/*run-0/stderr.log"), {"EVD-01"}),
    "no seal": (lambda p: p.one(f"{ARCH}/*training*/MANIFEST.sha256").unlink(), {"EVD-01"}),
    "code": (lambda p: p.append("code-images/code-*/mlps.engine/rules.py"), {"SUB-08"}),
    "a file of code removed": (lambda p: p.one("code-images/code-*/mlps.engine/rules.py").unlink(), {"SUB-08"}),
    "a hash of code": (lambda p: p.replaced("code-images/code-*/.code-hash.json", '"files": ', '"files": 1'), {"SUB-08"}),
    "an image renamed": (lambda p: _move(p, "code-images/code-*", "code-00000000"), {"SUB-08"}),
    "a description": (lambda p: p.append(f"{HOME}/systems/rack1.yaml"), {"SUB-05"}),
    "no description": (lambda p: p.one(f"{HOME}/systems/rack1.yaml").unlink(), {"SUB-05", "SUB-09"}),
    "no pdf": (lambda p: p.one(f"{HOME}/systems/rack1.pdf").unlink(), {"SUB-09"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def wish(closed_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Wish:  # noqa: F811
    home = tmp_path_factory.mktemp("package")
    system, pdf = home / "rack1.yaml", home / "rack1.pdf"
    system.write_text(json.dumps(described("cloud", solution__submission_name="rack1")))
    pdf.write_bytes(b"%PDF-1.4\n%%EOF\n1 page\n")
    return Wish(
        archives=tuple(closed_runs.values()),
        org="Acme",
        out=home / "out",
        systems=(system,),
        pdfs=(pdf,),
    )


@pytest.fixture(scope="module")
def made(wish: Wish) -> Path:
    assert make_package(wish).findings == ()
    return wish.out


def found(root: Path) -> list:
    return list(verify_package(root))


def test_a_package_as_it_was_made_has_no_findings(made):
    assert found(made) == []


def test_packages_of_the_same_archives_are_equal(made, wish, tmp_path):
    make_package(replace(wish, out=tmp_path / "again", archives=wish.archives[::-1]))
    names = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    again = tmp_path / "again"
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [
        name for name in names if (made / name).read_bytes() != (again / name).read_bytes()
    ] == []


def test_a_package_has_the_structure_of_the_rules_and_reports_its_tables(made, monkeypatch):
    names = {"training": "training", "checkpointing": "checkpointing", "kvcache": "tiny-1b"}
    for family, name in {**names, "vectordb": "IVF_FLAT"}.items():
        monkeypatch.setitem(layout.MODELS, family, (name,))
    told, rows = StringIO(), StringIO()
    assert verify_trees(told, [Tree(root=made)], as_json=False) == 0, told.getvalue()
    assert "4 workloads, 4 valid, 0 not; 0 errors, 0 warnings" in told.getvalue()
    assert report_trees(rows, [Tree(root=made)], as_json=True, as_csv=False) == 0
    tables = json.loads((made / HOME / "results.json").read_bytes())
    assert sorted(json.loads(rows.getvalue()), key=str) == sorted(tables, key=str)
    assert all(row["metrics"] for row in tables)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_change_breaks_its_rule(name, made, tmp_path):
    change, rules = MUTATIONS[name]
    root = tmp_path / "package"
    shutil.copytree(made, root, copy_function=os.link)
    change(Package(root))
    assert {finding.rule for finding in found(root)} == rules


def test_two_attempts_at_a_workload_are_refused_by_name(wish, tmp_path):
    twice = shutil.copytree(wish.archives[0], tmp_path / "other" / wish.archives[0].name)
    both = replace(wish, out=tmp_path / "out", archives=(wish.archives[0], twice))
    with pytest.raises(ComplianceError) as refused:
        make_package(both)
    assert str(refused.value).startswith(f"{twice} is an attempt at {TRAIN}, and so is ")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_an_archive_with_a_flaw_is_refused_and_nothing_is_left(wish, tmp_path):
    broken = Path(shutil.copytree(wish.archives[0], tmp_path / wish.archives[0].name))
    (broken / "result.json").write_bytes(b"{}")
    with pytest.raises(ComplianceError, match="cannot be handed in"):
        make_package(replace(wish, out=tmp_path / "out", archives=(*wish.archives[1:], broken)))
    assert [path.name for path in tmp_path.iterdir()] == [broken.name]


def test_a_package_without_descriptions_says_what_is_missing(wish, tmp_path):
    told = make_package(replace(wish, out=tmp_path / "out", systems=(), pdfs=()))
    assert {finding.rule for finding in told.findings} == {"SUB-09"}
    assert [finding.key for finding in errors(told.findings)] == [
        "closed/Acme/systems/undescribed.yaml"
    ]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"org": "../Acme"}, "no name of a submitter"),
        ({"org": ".."}, "no name of a submitter"),
        ({"pdfs": (Path("missing.pdf"),)}, "missing.pdf"),
        ({"systems": ()}, "no --system has that name"),
        ({"out": Path(__file__).parent}, "is there already"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_read(wish, change, text):
    with pytest.raises(ConfigError, match=text):
        make_package(replace(wish, **{"archives": (), "out": wish.out.with_name("new"), **change}))


def test_the_command_refuses_what_is_no_archive_and_writes_nothing(tmp_path):
    with pytest.raises(ConfigError, match="--org"):
        package([str(tmp_path), "--out", str(tmp_path / "out")], as_json=False)
    with pytest.raises(ArchiveError, match="is no archive"):
        package([str(tmp_path), "--org", "Acme", "--out", str(tmp_path / "out")], as_json=False)
    assert list(tmp_path.iterdir()) == []


def packed(run_id, workload="w", image=None):
    return Packed(place=None, run_id=run_id, workload=workload, entry={}, row=None, image=image)


def test_archives_that_take_one_place_are_named():
    (finding,) = collisions([packed("b"), packed("a")])
    assert (finding.rule, finding.key) == ("SUB-10", ".mlps/archives/b")
    assert finding.text == "is an attempt at w, and so is a"


def test_archives_of_two_workloads_take_two_places():
    assert collisions([packed("a"), packed("b", "v")]) == []


def test_code_of_an_image_is_not_told():
    assert without_image([packed("a", image=object())]) == []


def test_code_that_is_in_no_image_is_told():
    assert [each.rule for each in without_image([packed("a")])] == ["SUB-12"]


def test_files_of_the_size_that_a_site_takes_are_not_told(tmp_path):
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 100_000_000)
    assert sizes_of(tmp_path) == (1, 100_000_000, [])


def test_files_that_are_too_large_are_told(tmp_path):
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 2_000_000_001)
    files, size_bytes, findings = sizes_of(tmp_path)
    assert (files, size_bytes) == (1, 2_000_000_001)
    assert [(each.rule, each.key) for each in findings] == [("SUB-11", "large"), ("SUB-11", ".")]
