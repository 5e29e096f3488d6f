"""Lock files: every kind of line, every flaw, every reason to leave a package out."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from mlps.engine.errors import ConfigError
from mlps.engine.lockfile import (
    MAX_LOCKFILE_BYTES,
    Entry,
    Lockfile,
    compare,
    in_words,
    names,
    parse_lockfile,
    pip_commands,
    read_lockfile,
    uv_commands,
)

SHA256 = "--hash=sha256:" + "0a" * 32

PACKAGE_NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,12}[A-Za-z0-9])?", fullmatch=True)
VERSIONS = st.from_regex(
    r"(0|[1-9][0-9]{0,3})(\.(0|[1-9][0-9]{0,2})){0,3}(rc[1-9]|\.post[1-9])?", fullmatch=True
)
WORDS = ("x==1", "-r", "--hash=", "@", "git+", ";", "\\\n", "#", " ", "\n", "[a]", "==")
TEXTS = st.text(max_size=60) | st.lists(st.sampled_from(WORDS)).map("".join)


@pytest.fixture
def lock(tmp_path):
    """Reads a lock file with this text."""

    def lock(text):
        path = tmp_path / "my.lock"
        path.write_text(text)
        return read_lockfile(path)

    return lock


def one(text) -> Entry:
    (entry,) = parse_lockfile(text)
    return entry


def statuses(comparison):
    return {result.name: result.status for result in comparison.results}


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("line", "requirement"),
    [
        ("numpy==2.4.6", "numpy==2.4.6"),
        ("  numpy == 2.4.6  # why", "numpy==2.4.6"),
        ("Foo.Bar_baz==1", "foo-bar-baz==1"),
        ("uvicorn[standard,Extra]==1.0", "uvicorn[Extra,standard]==1.0"),
        ("x==1!2.0+local", "x==1!2.0+local"),
        ("x===anything-1", "x===anything-1"),
        ("x==1 ; python_version >= '3'", "x==1"),
        (f"x==1 {SHA256}", "x==1"),
        (f"x==1 \\\n    {SHA256} \\\n    {SHA256}\n    # via y", "x==1"),
        (f"x==1 ; os_name == 'posix' \\\r\n  {SHA256.replace('=', ' ', 1)}\r\n", "x==1"),
        ("x==1 --config-settings=a=b --global-option=c", "x==1"),
        ("\ufeffx==1", "x==1"),
        ("x==1 \\", "x==1"),
    ],
)  # fmt: skip
def test_pinned_lines(lock, line, requirement):
    (entry,) = lock(line).entries
    assert (entry.requirement, entry.not_compared) == (requirement, None)


@pytest.mark.parametrize(
    ("line", "name", "reason"),
    [
        ("git+https://host/x.git@v1#egg=My_Pkg", "my-pkg", "it comes from version control"),
        ("hg+https://me:secret@host/x", "hg+https://host/x", "it comes from version control"),
        ("My_Pkg @ git+https://host/x.git", "my-pkg", "it comes from version control"),
        ("svn+ssh://host/x", "svn+ssh://host/x", "it comes from version control"),
        ("x @ https://host/x-1-py3-none-any.whl", "x", "it comes from a file or an address"),
        ("https://host/x.zip", "https://host/x.zip", "it comes from a file or an address"),
        ("./dist/x.whl ; os_name == 'nt'", "./dist/x.whl", "it comes from a file or an address"),
        ("x-1-py3-none-any.whl", "x-1-py3-none-any.whl", "it comes from a file or an address"),
        ("-e .", ".", "it is an editable install"),
        ("--editable=git+https://host/x#egg=x", "x", "it is an editable install"),
    ],
)
def test_lines_that_cannot_be_compared(lock, line, name, reason):
    locked = lock(line)
    (entry,) = locked.entries
    assert (entry.name, entry.not_compared) == (name, reason)
    assert names(locked) == ()
    (result,) = compare(locked, {}).results
    assert (result.status, result.reason) == ("skipped", reason)


@pytest.mark.parametrize(
    "line",
    [
        "# a comment", "   ", "--index-url https://me:secret@host/simple", "-i https://host",
        "--extra-index-url=https://host", "--find-links dir", "-fdir", "--no-index", "--pre",
        "--only-binary :all:", "--require-hashes", "# x==2 \\",
    ],
)  # fmt: skip
def test_lines_that_say_nothing_of_versions(line):
    assert one(f"{line}\nx==1").requirement == "x==1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x>=1", "line 1: x is not pinned: got >=1, expected ==VERSION"),
        ("\nx", "line 2: x is not pinned: got any version, expected ==VERSION"),
        ("x==1.*", "line 1: x is not pinned: got ==1.*, expected ==VERSION"),
        ("x==1,!=2", "line 1: x is not pinned: got !=2,==1, expected ==VERSION"),
        ("-r other.txt", "line 1: -r names another file; a lock file has all pins in itself"),
        ("-cother.txt", "line 1: -c names another file; a lock file has all pins in itself"),
        ("a==1\n--constraint=c.txt", "line 2: --constraint names another file; a lock file has all"
         " pins in itself"),
        ("--frobnicate", "line 1: --frobnicate is no option of a lock file"),
        ("-e", "line 1: -e is no option of a lock file"),
        ("-", "line 1: - is no option of a lock file"),
        ("x==1 --user", "line 1: --user is no option of a requirement"),
        ("x==1 --hash=md5:00", "line 1: md5:00 is no hash, expected sha256:64 hex digits"),
        ("x==1 --hash", "line 1: --hash is no hash, expected sha256:64 hex digits"),
        ("a==1 \\\n  --hash=sha256:0\n", "line 1: sha256:0 is no hash, expected sha256:64 hex"
         " digits"),
        ("<html>", "line 1: <html>: "),
        ("x==1 ; nonsense == 'x'", "line 1: x==1 ; nonsense == 'x': "),
        ("./a\x1b[31m.whl", "line 1: holds a character that cannot be printed"),
        ("x==1\ny==1\nX==2", "line 3: x==2 is pinned in line 1 already, as x==1"),
    ],
)  # fmt: skip
def test_lines_that_are_refused(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_lockfile(text)
    assert caught.value.message.startswith(message)
    assert caught.value.hint


def test_one_pin_twice_is_no_flaw():
    assert len(parse_lockfile("x==1\nX==1\nx==2 ; os_name == 'nt'")) == 3


def test_what_a_lock_file_is_named_by(lock, tmp_path):
    text = "rich==15\n\nattrs==1 ; os_name=='nt'\n-e .\n"
    locked = lock(text)
    assert locked.path == tmp_path / "my.lock"
    assert locked.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert [entry.line for entry in locked.entries] == [1, 3, 4]
    assert names(locked) == ("attrs", "rich")


def test_files_that_are_no_lock_files(tmp_path):
    def message(path):
        with pytest.raises(ConfigError) as caught:
            read_lockfile(path)
        return str(caught.value)

    path = tmp_path / "x.lock"
    hint = "\n  hint: mlps lockfile generate makes one"
    assert message(path) == f"lock file {path} does not exist{hint}"
    assert message(tmp_path) == f"lock file {tmp_path} is not a file{hint}"
    path.write_bytes(b"\xff\xfe\x00")
    assert message(path) == f"lock file {path} is not text in UTF-8{hint}"
    path.write_text("# nothing\n--pre\n")
    assert message(path) == f"lock file {path} pins no package{hint}"
    path.write_text("a==1\nb\n")
    assert message(path).startswith(f"{path}, line 2: b is not pinned: ")
    path.write_bytes(b"#" * (MAX_LOCKFILE_BYTES + 1))
    assert message(path) == f"lock file {path} is larger than {MAX_LOCKFILE_BYTES} bytes{hint}"
    assert message(path / "below").startswith(f"lock file {path}/below does not exist")
    assert message(tmp_path / ("n" * 300)).endswith(": File name too long")


@given(name=PACKAGE_NAMES, version=VERSIONS)
def test_any_pin_is_read_and_matches_its_own_version(name, version):
    entry = one(f"{name}=={version}")
    assert entry.name == canonicalize_name(name)
    assert entry.pin.version == version
    assert entry.pin.contains(version, prereleases=True)


@given(text=TEXTS)
def test_any_text_is_read_or_refused_with_its_line(text):
    try:
        entries = parse_lockfile(text)
    except ConfigError as error:
        assert error.message.startswith("line ")
    else:
        assert all(entry.pin is None or entry.not_compared is None for entry in entries)
        assert all(1 <= entry.line <= len(text.splitlines()) for entry in entries)


@settings(max_examples=40)
@given(
    lines=st.lists(
        st.tuples(PACKAGE_NAMES, VERSIONS), unique_by=lambda it: canonicalize_name(it[0])
    )
)
def test_hashes_comments_and_continued_lines_change_nothing(lines):
    plain = "".join(f"{name}=={version}\n" for name, version in lines)
    full = "".join(f"{name}=={version} \\\n    {SHA256}\n    # via z\n" for name, version in lines)
    read = [entry.requirement for entry in parse_lockfile(plain)]
    assert [entry.requirement for entry in parse_lockfile(full)] == read


# ---------------------------------------------------------------- comparing


@pytest.mark.parametrize(
    ("line", "installed", "status"),
    [
        ("x==1.0", "1.0", "matched"),
        ("x==1.0", "1", "matched"),
        ("x==1.0", "1.0+cpu", "matched"),
        ("x==1.0+cpu", "1.0", "mismatched"),
        ("x==1.0", "1.0.post1", "mismatched"),
        ("x==1.0rc1", "1.0rc1", "matched"),
        ("x==1.0", "1.0rc1", "mismatched"),
        ("x==1.0", "banana", "mismatched"),
        ("x===banana", "banana", "matched"),
        ("x==1.0", None, "missing"),
        ("x==1 ; os_name == 'posix'", "2", "mismatched"),
        ("x==1 ; os_name == 'nt'", "2", "skipped"),
        ("x==1 ; extra == 'big'", None, "skipped"),
        ("x[more]==1", "1", "matched"),
        ("mpi4py==4", "3", "skipped"),
        ("MPI4Py==4", None, "skipped"),
    ],
)  # fmt: skip
def test_one_package(lock, line, installed, status):
    locked = lock(line)
    (name,) = names(locked)
    assert statuses(compare(locked, {name: installed})) == {name: status}


def test_reasons(lock):
    locked = lock("a==1 ; os_name == 'nt'\nmpi4py==4\nb==1\n")
    found = compare(locked, {"b": "2"}, skip={"B": "said so"})
    assert {result.name: result.reason for result in found.having("skipped")} == {
        "a": 'only where os_name == "nt"', "b": "said so",
    }  # fmt: skip
    assert statuses(found)["mpi4py"] == "missing"
    assert compare(locked, {}).results[2].reason == "it is built against the site's MPI"


def test_of_two_pins_the_one_that_holds_here_counts(lock):
    locked = lock("x==1 ; python_version < '3'\nx==2 ; python_version >= '3'")
    assert statuses(compare(locked, {"x": "2"})) == {"x": "matched"}
    old = {"python_version": "2.7"}
    (result,) = compare(locked, {"x": "2"}, environment=old).results
    assert (result.status, result.locked, result.line) == ("mismatched", "1", 1)


def test_one_pin_for_two_markers_that_hold_here_counts_once(lock):
    locked = lock("x==1 ; python_version >= '3'\nx==1 ; python_version >= '2'")
    assert compare(locked, {"x": "1"}).as_document()["total"] == 1


def test_names_are_compared_in_any_spelling(lock):
    locked = lock("Foo_Bar==1\nruamel.yaml==2")
    assert statuses(compare(locked, {"foo.bar": "1", "RUAMEL-YAML": "2"})) == {
        "foo-bar": "matched", "ruamel-yaml": "matched",
    }  # fmt: skip


def test_extra_packages(lock):
    installed = {"x": "1", "Odd_One": "3", "gone": None, "mlps": "0.1", "pip": "1", "mpi4py": "4"}
    found = compare(lock("x==1"), installed)
    assert statuses(found) == {"x": "matched", "odd-one": "extra"}


def test_what_counts_as_a_flaw(lock):
    found = compare(lock("a==1\nb==1\nc==1"), {"a": "1", "b": "2", "d": "4"})

    def flaws(**policy):
        return [flaw.name for flaw in found.flaws(**policy)]

    assert flaws() == ["b", "c"]
    assert flaws(allow_missing=True) == ["b"]
    assert flaws(strict=True) == ["b", "c", "d"]
    counts = {"total": 3, "matched": 1, "mismatched": 1, "missing": 1, "skipped": 0, "extra": 1}
    document = found.as_document()
    assert document.pop("results")[1] == {
        "name": "b", "status": "mismatched", "locked": "1", "installed": "2", "reason": None,
        "line": 2,
    }  # fmt: skip
    assert document == {"valid": False, **counts}
    fine = compare(lock("a==1\nc==1"), {"a": "1", "d": "4"})
    assert fine.as_document(allow_missing=True)["valid"]
    assert not fine.as_document(allow_missing=True, strict=True)["valid"]


def test_flaws_in_words(lock):
    found = compare(lock("a==1\nb==1"), {"a": "2", "z": "9"})
    assert in_words(found.flaws(strict=True)) == (
        "a is 2 instead of 1; b 1 is missing; z 9 is not in the lock file"
    )
    many = compare(lock("".join(f"p{number}==1\n" for number in range(9))), {})
    assert in_words(many.flaws()).endswith("; p5 1 is missing; and 3 more")


def test_the_commands_that_mend(lock):
    found = compare(lock("a[x]==1\nb===1 \nc==3"), {"a": "2", "c": "3", "z": "9"})
    flaws = found.flaws(strict=True)
    assert pip_commands(flaws, "/my py/python") == (
        "'/my py/python' -m pip install 'a[x]==1' b===1",
        "'/my py/python' -m pip uninstall --yes z",
    )
    assert uv_commands(flaws, "/py") == (
        "uv pip install --python /py 'a[x]==1' b===1",
        "uv pip uninstall --python /py z",
    )
    assert pip_commands(found.flaws(), "p")[1:] == ()
    assert pip_commands((), "p") == ()


@settings(max_examples=40)
@given(
    locked=st.dictionaries(PACKAGE_NAMES.map(canonicalize_name), VERSIONS, min_size=1, max_size=8),
    data=st.data(),
)
def test_each_package_counts_once_and_the_command_holds_every_flaw(locked, data):
    entries = parse_lockfile("".join(f"{name}=={version}\n" for name, version in locked.items()))
    known = data.draw(st.dictionaries(st.sampled_from(sorted(locked)), VERSIONS | st.none()))
    found = compare(Lockfile(path=Path("x"), sha256="", entries=entries), known)
    document = found.as_document()
    parts = ("matched", "mismatched", "missing", "skipped")
    assert document["total"] == len(locked) == sum(document[part] for part in parts)
    flaws = found.flaws()
    typed = [word for line in pip_commands(flaws, "python") for word in shlex.split(line)[4:]]
    assert typed == [f"{flaw.name}=={locked[flaw.name]}" for flaw in flaws]
    assert document["valid"] == (not flaws)
