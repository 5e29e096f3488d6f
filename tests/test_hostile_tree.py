"""Trees that somebody hands in to do harm, or that broke on their way: each is told, none hurts."""

from __future__ import annotations

import copy
import json
import os
import resource
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from deep_trees import deepen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from systems import described
from upstream_trees import (
    CHECKPOINTING,
    KV_RUN,
    ORG,
    POINTER,
    RESULTS,
    checkpointing,
    clean_tree,
    rank_path,
    run_path,
    search_path,
    write_tree,
)

from mlps.engine import plain_files, report_command, verify_command
from mlps.engine.errors import ArchiveError
from mlps.engine.tree.documents import LeafDocuments
from mlps.engine.tree.layout import leaf_of
from mlps.engine.tree.rows import row_of
from mlps.engine.tree.upstream_common import judge_common
from mlps.engine.tree.verify import _judge_leaf, _judge_set, official_training

LEAF = f"{CHECKPOINTING}/20260702_100000"
SUMMARY = f"{LEAF}/summary.json"
CONFIG = f"{LEAF}/dlio_config/config.yaml"
BASE = {
    f"{ORG}/submission.yaml": {"org": "Acme", "division": "closed"},
    f"{ORG}/systems/sys1.yaml": described("cloud", solution__submission_name="sys1"),
    f"{ORG}/systems/sys1.pdf": "%PDF",
    "code-images/code-0123abcd/.code-hash.json": {},
    **checkpointing(),
}
ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\n\u202e"
HTML = "<script>alert(1)</script>"


@pytest.fixture
def tree(tmp_path):
    """A small clean tree; what is too deep for the tidying of pytest is removed here."""
    root = write_tree(tmp_path / "tree", BASE)
    yield root
    subprocess.run(["rm", "-rf", root], check=True)


def run(command, root, capsys, *, as_json=False):
    """Exit code and output of a command, which writes nothing that a terminal obeys."""
    code = command([str(root)], as_json=as_json)
    out = capsys.readouterr().out
    assert all(sign.isprintable() or sign in "\n\t" for sign in out)
    out.encode("utf-8")
    return code, out


def told(root, capsys, *, once=False):
    """Exit code and findings of verify; report and both forms of verify end without a trace.

    `once` is for what takes long: verify alone, in one form.
    """
    code, text = run(verify_command.verify, root, capsys, as_json=True)
    if not once:
        assert run(verify_command.verify, root, capsys)[0] == code
        run(report_command.report, root, capsys)
        json.loads(run(report_command.report, root, capsys, as_json=True)[1])
    groups = json.loads(text)
    return code, [finding for group in groups for finding in group["findings"]]


def rules(findings):
    return sorted(each["rule"] for each in findings if each["severity"] == "error")


def write(name, content):
    def change(root):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)

    return change


def link(name, target):
    def change(root):
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(target)

    return change


def sparse(root):
    with (root / LEAF / "0_output.json").open("wb") as file:
        file.truncate(1 << 30)


def pipe(root):
    os.mkfifo(root / LEAF / "extra.json")


def listen(root):
    here = Path.cwd()
    os.chdir(root / LEAF)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s.json")
    finally:
        os.chdir(here)


def wide(root):
    handle = os.open(root / LEAF, os.O_RDONLY)
    for number in range(100_000):
        os.mknod(f"f{number}.log", dir_fd=handle)
    os.close(handle)


def strangers(root):
    for number in range(2000):
        (root / f"stranger{number}.txt").touch()


def deep(root):
    deepen(root / LEAF, 2100)


def bytes_name(root):
    (root / os.fsdecode(b"caf\xe9.txt")).touch()


def directory_as_file(name):
    def change(root):
        (root / name).unlink()
        (root / name).mkdir()

    return change


def file_as_directory(name):
    def change(root):
        shutil.rmtree(root / name)
        (root / name).touch()

    return change


def documents(name, **values):
    """A document of the tree with other values at its top."""
    return write(name, json.dumps({**BASE[name], **values}))


LAUGHS = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n"

# A change of the tree, the rule that tells of it, and the exit code.
CASES = {
    "a link out of the tree": (link(f"{LEAF}/extra.json", "/etc/passwd"), "TREE-12", 7),
    "a link to a directory": (link(f"{LEAF}/extra", "/"), "TREE-12", 7),
    "a link to itself": (link(f"{LEAF}/loop", "loop"), "TREE-12", 7),
    "a link up the tree": (link(f"{RESULTS}/up", "../.."), "TREE-12", 7),
    "a link to nothing": (link(f"{LEAF}/extra.json", "nowhere"), "TREE-12", 7),
    "a pipe": (pipe, "TREE-12", 7),
    "a socket": (listen, "TREE-12", 7),
    "a document of 1 GiB": (sparse, "TREE-17", 6),
    "deep JSON": (write(f"{LEAF}/a.json", "[" * 100_000), "TREE-17", 6),
    "deep JSON that is closed": (write(f"{LEAF}/a.json", "[" * 5000 + "]" * 5000), "TREE-17", 6),
    "brackets and quotes without end": (write(f"{LEAF}/a.json", '[[\\"' * 50_000), "TREE-17", 6),
    "deep YAML": (write(f"{LEAF}/a.yaml", "[" * 5000), "TREE-17", 6),
    "anchors of anchors": (write(f"{LEAF}/a.yaml", LAUGHS), "TREE-17", 6),
    "a tag of Python": (
        write(f"{LEAF}/a.yaml", "!!python/object/apply:os.system ['true']"), "TREE-17", 6,
    ),
    "a tag of its own": (write(f"{LEAF}/a.yaml", "a: !x 1"), "TREE-17", 6),
    "two documents": (write(f"{LEAF}/a.yaml", "a: 1\n---\nb: 2\n"), "TREE-17", 6),
    "a key twice": (write(f"{LEAF}/a.json", '{"a": 1, "a": 2}'), "TREE-17", 6),
    "NaN": (write(f"{LEAF}/a.json", "[NaN]"), "TREE-17", 6),
    "an infinity": (write(f"{LEAF}/a.json", "[-Infinity]"), "TREE-17", 6),
    "a number of 10,000 digits": (write(f"{LEAF}/a.json", "9" * 10_000), "TREE-17", 6),
    "text that is not UTF-8": (write(f"{LEAF}/a.json", b'"\xff"'), "TREE-17", 6),
    "UTF-16": (write(f"{LEAF}/a.json", '{"a": 1}'.encode("utf-16")), "TREE-17", 6),
    "half a document": (write(f"{LEAF}/a.json", '{"a": [1, 2'), "TREE-17", 6),
    "zero bytes": (write(f"{LEAF}/a.json", b"\0" * 99), "TREE-17", 6),
    "escapes in a document": (write(f"{LEAF}/a.json", ESCAPES), "TREE-17", 6),
    "a bomb as description": (write(f"{ORG}/systems/sys1.yaml", LAUGHS), "TREE-17", 6),
    "a path too long": (deep, "TREE-17", 6),
    "100,000 files in a run": (wide, "", 0),
    "escapes in a name": (write(f"{ORG}/{ESCAPES}", ""), "TREE-02", 7),
    "HTML in a name": (write(f"{ORG}/<b onload=x>", ""), "TREE-02", 7),
    "a name that is not UTF-8": (bytes_name, "TREE-13", 7),
    "a name of 255 letters": (write("x" * 255, ""), "TREE-13", 7),
    "escapes in a value": (documents(SUMMARY, num_hosts=ESCAPES), "UPS-02", 7),
    "HTML in a value": (documents(SUMMARY, num_hosts=HTML), "UPS-02", 7),
    "a list for a number": (documents(SUMMARY, num_hosts=[[[]]]), "UPS-02", 7),
    "a huge number": (documents(SUMMARY, num_hosts=10**4000), "UPS-02", 7),
    "times beyond all": (documents(SUMMARY, end="0001-01-01T00:00:00+14:00"), "UPS-13", 7),
    "a pointer out of the pool": (
        write(f"{LEAF}/.mlps-code-image", "md5-tree-v2:../../../../etc/passwd"), "TREE-15", 7,
    ),
    "a pointer with more behind it": (
        write(f"{LEAF}/.mlps-code-image", POINTER.strip() + "/../.."), "TREE-15", 7,
    ),
    "a pointer without end": (write(f"{LEAF}/.mlps-code-image", "a" * 10_000), "TREE-17", 6),
    "a series elsewhere": (
        documents(f"{LEAF}/checkpointing_x_metadata.json",
                  timeseries_data={"file": "../../../../../etc/passwd"}), "UPS-14", 7,
    ),
    "another org in YAML": (
        write(f"{ORG}/submission.yaml", 'org: "../../\\e[31m"'), "TREE-02", 7,
    ),
    "no values at all": (write(CONFIG, "null"), "", 0),
    "a directory for a document": (directory_as_file(f"{LEAF}/fs_separation.json"), "CAP-03", 7),
    "a file for a directory": (file_as_directory(f"{ORG}/systems"), "TREE-04", 7),
    "a time that is none": (
        lambda root: (root / LEAF).rename(root / CHECKPOINTING / "99999999_999999"), "TREE-08", 7,
    ),
    "a directory of nothing": (
        lambda root: (root / RESULTS / "training/unet3d").mkdir(parents=True), "TREE-07", 7,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_harm_is_one_finding(tree, capsys, case):
    change, rule, code = CASES[case]
    change(tree)
    found = told(tree, capsys, once=change in (wide, deep))
    assert (rules(found[1]), found[0]) == ([rule] if rule else [], code)


def test_many_strangers_are_ten_and_a_sum(tree, capsys):
    strangers(tree)
    _, findings = told(tree, capsys)
    assert rules(findings) == ["TREE-13"] * 11
    assert "1,990 more entries" in findings[-1]["text"] or any(
        "1,990 more entries" in each["text"] for each in findings
    )


def test_a_file_that_may_not_be_read(tree, capsys, monkeypatch):
    # Root may read all, so the refusal is made here.
    opened = os.open

    def refuse(path, *rest, **more):
        if str(path).endswith("0_output.json"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest, **more)

    monkeypatch.setattr(plain_files.os, "open", refuse)
    code, findings = told(tree, capsys)
    assert (code, rules(findings)) == (6, ["TREE-17"])
    assert "Permission denied" in next(
        each["text"] for each in findings if each["rule"] == "TREE-17"
    )


def test_a_mistake_in_json_has_its_line(tree, capsys):
    (tree / SUMMARY).write_text('{\n "a": 1,\n x}')
    _, findings = told(tree, capsys)
    assert "line 3 column 2" in next(each["text"] for each in findings if each["rule"] == "TREE-17")


@pytest.mark.parametrize("files", [{}, {"closed/.DS_Store": ""}, {"closed/Acme/results/s/a": ""}])
@pytest.mark.parametrize("command", [verify_command.verify, report_command.report])
def test_a_tree_without_results_is_an_error(tmp_path, files, command):
    (tmp_path / "closed").mkdir()
    with pytest.raises(ArchiveError, match="holds no results"):
        command([str(write_tree(tmp_path, files))], as_json=False)


def test_a_large_document_is_not_held(tree, capsys):
    sparse(tree)
    told(tree, capsys)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 700 * 1024


# ---------------------------------------------------------------- any value in place of any

CLEAN = clean_tree()
LEAVES = (run_path(1), LEAF, KV_RUN, search_path(1))
OFFICIAL = official_training()

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([10**400, -1, "", "1e999", "True", ESCAPES, HTML, "2026-07-01T10:00:00"])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)


def places(document, path=()):
    """Every place in a document, its root among them."""
    yield path
    inner = (
        document.items()
        if isinstance(document, dict)
        else (enumerate(document) if isinstance(document, list) else ())
    )
    for key, value in inner:
        yield from places(value, (*path, key))


def replaced(document, path, value):
    if not path:
        return value
    found = copy.copy(document)
    found[path[0]] = replaced(document[path[0]], path[1:], value)
    return found


def judged(leaf, documents):
    """All that is said of a leaf, in words."""
    held = LeafDocuments(leaf=leaf, files={name: 1 for name in documents}, documents=documents)
    findings = [*judge_common(held), *_judge_leaf(held, OFFICIAL), *_judge_set([held, held])]
    row_of("x", [held], 0)
    return [str(finding) for finding in findings]


SITES = [
    (path, name, place)
    for path in LEAVES
    for name, content in CLEAN.items()
    if name.startswith(f"{path}/") and not isinstance(content, str)
    and ("option_" not in name or name == rank_path())
    for place in places(content)
]  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SITES), JSON)
def test_any_value_in_any_place_is_judged(site, value):
    path, file, place = site
    leaf = leaf_of(path.split("/"))
    documents = {
        name.removeprefix(f"{path}/"): content
        for name, content in CLEAN.items()
        if name.startswith(f"{path}/") and not isinstance(content, str)
    }
    short = file.removeprefix(f"{path}/")
    documents[short] = replaced(documents[short], place, value)
    judged(leaf, documents)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from("aresultsClosed.run1_/ 0"), max_size=12), max_size=11))
def test_any_path_has_a_place_or_none(parts):
    leaf = leaf_of(["closed", "org", "results", *parts])
    assert leaf is None or "/".join(["closed", "org", "results", *parts]).startswith(leaf.path)
