"""The directory of a job: made once, written whole, sealed."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine import archive as files
from mlps.engine.archive import Archive
from mlps.engine.errors import ArchiveError

SHA = "0123456789abcdef" * 4


def test_two_jobs_never_share_a_directory(tmp_path):
    made = [files.create(tmp_path / "results", "kvcache/quick", SHA) for _ in range(3)]
    assert len({archive.root for archive in made}) == 3
    for archive in made:
        assert re.fullmatch(r"\d{8}T\d{6}Z-kvcache-quick-01234567(-\d)?", archive.run_id)
    assert files.listed_archives(tmp_path / "results") == ()


def test_a_results_directory_that_is_a_file(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(ArchiveError) as caught:
        files.create(tmp_path / "results", "a", SHA)
    assert str(caught.value) == (
        f"{tmp_path}/results cannot be written: File exists\n"
        "  hint: check the directory of results_dir: it must exist, be writable and have space"
    )


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_whole(path, b"old")
    monkeypatch.setattr(
        os, "fsync", lambda _fd: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(ArchiveError, match=f"^{path} cannot be written: No space left"):
        files.write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_have_the_permissions_that_the_user_wants(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_whole(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_stage_is_made_once(tmp_path):
    archive = Archive(root=tmp_path)
    files.make_stage(archive, "00-a")
    with pytest.raises(ArchiveError, match="File exists"):
        files.make_stage(archive, "00-a")
    assert archive.stage("00-a", files.ARGV) == tmp_path / "stages/00-a/argv.json"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(b'{"a": 1,}', " is no JSON: line 1 column 9: ", id="broken"),
        pytest.param(b"\xff", " is not in UTF-8: byte 0", id="no text"),
        pytest.param(b"[" * 100_000, " is nested deeper than 64 levels", id="deep"),
        pytest.param(None, " cannot be read: No such file or directory", id="missing"),
    ],
)
def test_a_document_that_cannot_be_read_is_named(tmp_path, content, text):
    path = tmp_path / "job.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArchiveError) as caught:
        files.read_document(path)
    assert str(caught.value).startswith(f"{path}{text}")


def test_a_document_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_DOCUMENT_BYTES", 3)
    (tmp_path / "a").write_text("1234")
    with pytest.raises(ArchiveError, match="has more than 0 MiB"):
        files.read_document(tmp_path / "a")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        pytest.param(lambda path: None, "is not a directory", id="nothing"),
        pytest.param(lambda path: path.write_text(""), "is not a directory", id="file"),
        pytest.param(lambda path: path.mkdir(), "is no archive: it holds no job.json", id="empty"),
    ],
)
def test_what_is_no_archive(tmp_path, make, text):
    make(tmp_path / "x")
    with pytest.raises(ArchiveError) as caught:
        files.open_archive(tmp_path / "x")
    assert caught.value.message == f"{tmp_path}/x {text}"


def test_archives_are_listed_oldest_first(tmp_path):
    for name in ("2-b", "1-a", "3-c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / files.JOB).write_text("{}")
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "file").write_text("")
    found = files.listed_archives(tmp_path)
    assert [archive.run_id for archive in found] == ["1-a", "2-b", "3-c"]
    assert files.listed_archives(tmp_path / "nowhere") == ()


def test_yaml_follows_from_the_document_whatever_the_order_of_its_keys():
    assert files.to_yaml({"b": 1, "a": "\u00e9"}) == files.to_yaml({"a": "\u00e9", "b": 1})
    assert yaml.safe_load(files.to_yaml({"b": [1, None], "a": "yes"})) == {
        "b": [1, None],
        "a": "yes",
    }


# ---------------------------------------------------------------- the manifest

CONTENT = {"job.json": b"{}", "stages/00-a/argv.json": b"[1]", "z": b"", "\u00e9 b": b"x\n"}


def sealed_in(root):
    archive = Archive(root=root)
    for name, data in CONTENT.items():
        archive.path(name).parent.mkdir(parents=True, exist_ok=True)
        archive.path(name).write_bytes(data)
    assert not archive.sealed
    files.seal(archive)
    assert archive.sealed
    return archive


@pytest.fixture
def small(tmp_path):
    return sealed_in(tmp_path / "small")


def test_the_manifest_is_that_of_sha256sum(small):
    lines = small.path(files.MANIFEST).read_text().splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == sorted(CONTENT)
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", files.MANIFEST], cwd=small.root
    )
    assert done.returncode == 0
    assert files.manifest_flaws(small)[1] == []


@given(st.sampled_from(sorted(CONTENT)), st.data())
def test_a_flipped_byte_is_found_and_named(name, data):
    with tempfile.TemporaryDirectory() as directory:
        archive = sealed_in(Path(directory) / "a")
        content = bytearray(CONTENT[name])
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        else:
            content += b"x"
        archive.path(name).write_bytes(content)
        assert files.manifest_flaws(archive)[1] == [(name, "is not what was sealed")]


@given(st.data())
def test_a_changed_manifest_is_found(data):
    with tempfile.TemporaryDirectory() as directory:
        archive = sealed_in(Path(directory) / "a")
        path = archive.path(files.MANIFEST)
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        assert files.manifest_flaws(archive)[1]


@pytest.mark.parametrize("name", sorted(CONTENT))
def test_a_removed_file_is_named(small, name):
    small.path(name).unlink()
    assert files.manifest_flaws(small)[1] == [(name, "is missing")]


@pytest.mark.parametrize(
    "name", ["a", "stages/00-a/b", "stages/01-b/argv.json", ".hidden", "deep/er/MANIFEST.sha256"]
)
def test_an_added_file_is_named(small, name):
    small.path(name).parent.mkdir(parents=True, exist_ok=True)
    small.path(name).write_bytes(b"")
    assert files.manifest_flaws(small)[1] == [(name, "is not in the manifest")]


@pytest.mark.parametrize("target", ["job.json", "stages", "/etc", "nowhere"])
def test_an_added_link_is_named(small, target):
    small.path("link").symlink_to(target)
    assert files.manifest_flaws(small)[1] == [("link", "is not in the manifest")]


def test_a_file_that_became_a_link_to_the_same_content_is_named(small, tmp_path):
    (tmp_path / "outside").write_bytes(b"{}")
    small.path("job.json").unlink()
    small.path("job.json").symlink_to(tmp_path / "outside")
    assert files.manifest_flaws(small)[1] == [("job.json", "is not a plain file")]


def test_a_directory_that_became_a_link_is_named(small, tmp_path):
    shutil.move(small.path("stages"), tmp_path / "elsewhere")
    small.path("stages").symlink_to(tmp_path / "elsewhere")
    assert ("stages", "is not in the manifest") in files.manifest_flaws(small)[1]


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        pytest.param(lambda text: text + "garbage\n", "line 5 cannot be read", id="garbage"),
        pytest.param(
            lambda text: text + f"{SHA}  ../../etc/passwd\n", "line 5 cannot be read", id="outside"
        ),
        pytest.param(
            lambda text: text + f"{SHA}  /etc/passwd\n", "line 5 cannot be read", id="absolute"
        ),
        pytest.param(
            lambda text: "".join(reversed(text.splitlines(keepends=True))),
            "is not in its canonical form: sorted, one line a file",
            id="order",
        ),
        pytest.param(
            lambda text: text + text.splitlines(keepends=True)[-1],
            "is not in its canonical form: sorted, one line a file",
            id="twice",
        ),
        pytest.param(
            lambda text: text + "no end of line",
            "is not in its canonical form: sorted, one line a file",
            id="rest",
        ),
    ],
)
def test_a_manifest_in_another_form(small, change, flaw):
    path = small.path(files.MANIFEST)
    path.write_text(change(path.read_text()))
    assert files.manifest_flaws(small)[1] == [(files.MANIFEST, flaw)]


def test_a_manifest_that_cannot_be_read(small):
    small.path(files.MANIFEST).unlink()
    small.path(files.MANIFEST).mkdir()
    ((name, flaw),) = files.manifest_flaws(small)[1]
    assert (name, flaw.endswith("cannot be read: Is a directory")) == (files.MANIFEST, True)
