"""The list of runs and its index: a cache that is never trusted over what it is of."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from mlps.engine import archive as files
from mlps.engine import history
from mlps.engine.errors import ArchiveError
from mlps.engine.history import INDEX, Entry, archive_named, read_history


@pytest.fixture
def results(sealed):
    """A results directory of three runs that ended, and one that goes on."""
    root = sealed.root.parent
    for number in (1, 2):
        shutil.copytree(sealed.root, root / f"29990101T00000{number}Z-other", copy_function=os.link)
    (root / "29990101T000003Z-running").mkdir()
    (root / "29990101T000003Z-running" / files.JOB).write_text("{}")
    (root / "notes").mkdir()
    return root


@pytest.fixture
def read(monkeypatch):
    """Names of archives that were read, not found in the index."""
    names = []
    original = history._read

    def counted(root):
        names.append(root.name)
        return original(root)

    monkeypatch.setattr(history, "_read", counted)
    return names


def test_a_second_look_reads_no_archive(results, read):
    first = read_history(results)
    assert [entry.status for entry in first] == ["complete"] * 3 + ["unfinished"]
    assert len(read) == 3
    assert read_history(results) == first
    assert len(read) == 3


def test_what_is_new_or_sealed_again_is_read(results, read, reseal):
    first = read_history(results)
    del read[:]
    one = files.Archive(root=results / "29990101T000001Z-other")
    result = json.loads(one.path(files.RESULT).read_bytes())
    one.path(files.RESULT).unlink()
    one.path(files.RESULT).write_text(json.dumps(result | {"status": "failed"}))
    one.path(files.MANIFEST).unlink()
    reseal(one)
    shutil.copytree(results / "29990101T000002Z-other", results / "29990101T000004Z-new")
    found = read_history(results)
    assert read == [one.run_id, "29990101T000004Z-new"]
    changed = {entry.run_id: entry.status for entry in found}
    assert changed[one.run_id] == "failed"
    assert len(found) == len(first) + 1


def test_a_run_that_has_gone_leaves_the_list_and_the_index(results):
    read_history(results)
    shutil.rmtree(results / "29990101T000001Z-other")
    assert "29990101T000001Z-other" not in [entry.run_id for entry in read_history(results)]
    assert "29990101T000001Z-other" not in (results / INDEX).read_text()


def torn(text):
    return text[:-20]


def with_head(**changed):
    """An index of the same lines under another head."""

    def change(text):
        head = json.dumps(history._head() | changed)
        return history._sealed_line(head) + text.partition("\n")[2]

    return change


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (torn, 1),
        (lambda text: "", 3),
        (with_head(mlps_history=0), 3),
        (with_head(version="0.0"), 3),
        (lambda text: text.replace('"mlps_history": 2', '"mlps_history": 0'), 3),
        (lambda text: text + "[[[\nnull\n7\n" + '{"run_id": 3}\n', 0),
        (lambda text: text.replace('"verdict": "WHATIF"', '"verdict": "CLOSED"'), 3),
        (lambda text: text.replace("-other", "-other2", 1), 1),
        (lambda text: "\x00" * 100, 3),
    ],
    ids=["torn", "empty", "older", "version", "head", "rubbish", "verdict", "name", "zeros"],
)
def test_an_index_that_is_broken_or_edited_is_made_anew(results, read, change, again):
    first = read_history(results)
    path = results / INDEX
    whole = path.read_text()
    path.write_text(change(whole))
    assert path.read_text() != whole
    del read[:]
    assert read_history(results) == first
    assert (len(read), path.read_text()) == (again, whole if again else path.read_text())


@pytest.mark.parametrize("name", [files.RESULT, files.VERDICT])
def test_numbers_that_were_edited_after_the_seal_are_not_listed(results, name):
    read_history(results)
    path = results / "29990101T000002Z-other" / name
    text = path.read_text()
    path.unlink()
    path.write_text(text.replace("WHATIF", "CLOSED") + "\n")
    (entry,) = (each for each in read_history(results) if each.status == "unreadable")
    assert (entry.run_id, entry.verdict) == ("29990101T000002Z-other", None)
    assert entry.headline == f"{path} is not what was sealed: MANIFEST.sha256 names another digest"


def test_a_link_for_an_index_is_not_followed(results, tmp_path):
    target = tmp_path / "elsewhere"
    target.write_text("mine")
    (results / INDEX).symlink_to(target)
    read_history(results)
    assert target.read_text() == "mine"
    assert not (results / INDEX).is_symlink()


def test_without_leave_to_write_there_is_a_history_without_index(results, monkeypatch):
    def refuse(path, _data):
        raise ArchiveError(f"{path}: no")

    monkeypatch.setattr(files, "write_whole", refuse)
    assert len(read_history(results)) == 4
    assert not (results / INDEX).exists()


def test_what_cannot_be_read_is_told_each_time(results, read, reseal):
    one = files.Archive(root=results / "29990101T000001Z-other")
    for name in (files.RESULT, files.MANIFEST):
        one.path(name).unlink()
    one.path(files.RESULT).write_text("{")
    reseal(one)
    for _ in range(2):
        (entry,) = (each for each in read_history(results) if each.status == "unreadable")
        assert "is no JSON" in entry.headline
    assert read.count("29990101T000001Z-other") == 2


def test_entries_as_documents(tmp_path):
    entry = Entry(run_id="r", status="complete", verdict="OPEN", headline="1 GiB/s")
    assert entry.as_document(tmp_path)["path"] == str(tmp_path / "r")


def test_a_run_by_the_begin_of_its_name(results, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    word = type(results)("29990101T000002")
    assert archive_named(word, results) == results / "29990101T000002Z-other"
    nothing = type(results)("nothing")
    assert archive_named(nothing, results) == nothing
    with pytest.raises(ArchiveError, match=r"3 runs of .* begin with it"):
        archive_named(type(results)("2999"), results)
    assert archive_named(results / "2999", results) == results / "2999"
