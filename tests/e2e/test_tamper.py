"""`mlps verify` finds and names every change to an archive."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mlps.engine.verify import verify_archive

pytestmark = pytest.mark.mpi


def file_names(archive: Path) -> list[str]:
    return sorted(
        path.relative_to(archive).as_posix() for path in archive.rglob("*") if path.is_file()
    )


def reseal(archive: Path) -> None:
    """What a forger would do: make the manifest fit again."""
    names = [name for name in file_names(archive) if name != "MANIFEST.sha256"]
    lines = [
        f"{hashlib.sha256((archive / name).read_bytes()).hexdigest()}  {name}\n" for name in names
    ]
    (archive / "MANIFEST.sha256").write_text("".join(lines))


def named(archive: Path) -> tuple[int, set[str]]:
    verification = verify_archive(archive)
    return verification.exit_code, {finding.key for finding in verification.findings}


def test_an_untouched_archive_is_valid(archive):
    assert named(archive) == (0, set())


def test_one_flipped_byte_in_any_file_is_found_and_named(archive):
    for name in file_names(archive):
        path = archive / name
        before = path.read_bytes()
        for position in {0, len(before) // 2, len(before) - 1} if before else ():
            path.write_bytes(
                before[:position] + bytes([before[position] ^ 1]) + before[position + 1 :]
            )
            code, names = named(archive)
            assert code == 6, (name, position)
            assert name in names or name == "MANIFEST.sha256", (name, position)
        path.write_bytes(before)
    assert named(archive) == (0, set())


def test_every_deleted_file_is_found_and_named(archive):
    for name in file_names(archive):
        path = archive / name
        before = path.read_bytes()
        path.unlink()
        if name == "job.json":
            with pytest.raises(Exception, match=r"holds no job\.json"):
                verify_archive(archive)
        else:
            code, names = named(archive)
            assert (code, name in names) == (6, True), name
        path.write_bytes(before)


@pytest.mark.parametrize("name", ["extra.txt", "stages/01-run-0/more.json", ".hidden"])
def test_an_added_file_is_found_and_named(archive, name):
    (archive / name).write_text("x")
    assert named(archive) == (6, {name})


def test_a_link_in_place_of_a_file_is_found(archive, tmp_path):
    target = tmp_path / "elsewhere.json"
    (archive / "plan.json").rename(target)
    (archive / "plan.json").symlink_to(target)
    assert named(archive) == (6, {"plan.json"})


def better_metric(document):
    document["metrics"][0]["values"]["read_gib_s"]["mean"] *= 2


def more_bytes(document):
    document["io"]["read"]["window_bytes"] *= 2


def no_findings(document):
    document["findings"] = []


def higher_division(document):
    document["verdict"] = "CLOSED"


def complete(document):
    document["status"] = "complete" if document["status"] != "complete" else "failed"


def other_limit(document):
    document["launches"][0]["time_limit_s"] += 1


def other_version(document):
    document["mlps"]["version"] = "9.9.9"


def other_override(document):
    document["overrides"].append("seed=1")


EDITS = [
    ("result.json", better_metric, "result.json"),
    ("stages/01-run-0/result.json", more_bytes, "result.json"),
    ("stages/01-run-0/outcome.json", complete, "result.json"),
    ("verdict.json", no_findings, "verdict.json"),
    ("verdict.json", higher_division, "verdict.json"),
    ("plan.json", other_limit, "plan.json"),
    ("environment.json", other_version, "result.json"),
    ("provenance.json", other_override, "overrides.txt"),
]


@pytest.mark.parametrize(
    ("name", "edit", "shown"), EDITS, ids=[f"{e[0]}:{e[1].__name__}" for e in EDITS]
)
def test_an_edit_with_a_fitting_manifest_is_found_and_named(archive, name, edit, shown):
    path = archive / name
    document = json.loads(path.read_bytes())
    edit(document)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    reseal(archive)

    code, names = named(archive)
    assert (code, shown in names) == (7, True)


@pytest.mark.parametrize(
    "name", ["job.yaml", "system.yaml", "overrides.txt", "stages/01-run-0/stderr.log"]
)
def test_an_edited_text_with_a_fitting_manifest_is_found(archive, name):
    with (archive / name).open("a") as file:
        file.write("# edited\n")
    reseal(archive)
    assert named(archive)[0] == 7


def test_another_job_with_a_fitting_manifest_is_found(archive):
    path = archive / "job.json"
    path.write_bytes(path.read_bytes().replace(b'"seed":42', b'"seed":43'))
    reseal(archive)
    code, names = named(archive)
    assert (code, "plan.json" in names) == (7, True)


def test_verify_reports_all_archives_and_returns_the_worst(place, archive):
    clean = archive.parent / "clean" / archive.name
    clean.parent.mkdir()
    archive.rename(clean)
    done = place.run("verify", str(clean))
    assert done.returncode == 0

    (clean / "result.json").write_text("{")
    done = place.run("verify", "--json", str(clean.parent))
    (document,) = json.loads(done.stdout)
    assert (done.returncode, document["valid"], document["exit_code"]) == (6, False, 6)
