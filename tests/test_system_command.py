"""`mlps system` in this process: what it writes and prints, and how it ends."""

from __future__ import annotations

import errno
import json
import os
import textwrap

import pytest
from facts_of_hosts import facts_of
from systems import text_of
from test_system_clients import hosts

from mlps.engine import archive as files
from mlps.engine import system_command
from mlps.engine.compose import compose
from mlps.engine.errors import ArchiveError, ConfigError
from mlps.engine.host_documents import hosts_text
from mlps.engine.plain_files import read_yaml
from mlps.engine.system_file import read_system


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    facts = [facts_of(f"node{n}", cpu__model="EPYC 9354") for n in range(8)]
    monkeypatch.setattr(system_command, "ask_cluster", lambda _words, _dirs: (hosts(*facts), ()))
    archive = tmp_path / "results/20260101T000000Z-x-00000000"
    archive.mkdir(parents=True)
    (archive / files.JOB).write_text("{}")
    (archive / files.HOSTS_START).write_bytes(hosts_text(hosts(*facts)))
    return archive


@pytest.fixture
def system(capsys):
    def run(*words, as_json=False):
        code = system_command.system(words, config_dirs=(), as_json=as_json)
        return code, *capsys.readouterr()

    return run


def test_a_skeleton_lists_what_is_to_be_filled_in(system, tmp_path):
    code, out, err = system("init", "filer", "cluster=8node")
    path = tmp_path / "conf/system/filer.yaml"
    option = read_yaml(path)
    assert (code, out, option["name"], option["file"]) == (0, "", "filer", None)
    lines = path.read_text().splitlines()
    assert "    deployment: onprem" in lines
    assert "        storage_location: null  # one of remote, local, remote_and_local" in lines
    blank = [line for line in err.splitlines() if line.startswith("to be filled in: ")]
    assert len(blank) == sum(": null" in line for line in lines) - 1  # that of `file`
    assert err.endswith(
        f"{len(blank)} fields of conf/system/filer.yaml are left; "
        "then: mlps system check conf/system/filer.yaml\n"
    )
    code, out, _ = system("check", str(path))
    assert (code, out.count("SYS-19")) == (7, len(blank))


def test_a_skeleton_of_a_cloud_asks_for_no_racks(system, tmp_path):
    system("init", "c", "--deployment", "cloud", "--out", "c.yaml")
    text = (tmp_path / "c.yaml").read_text()
    assert "rack_units" not in text
    assert "power" not in text


def test_a_skeleton_of_the_hosts_of_an_archive(system, here):
    code, _, _ = system("init", "c", "--from", str(here), "--out", "c.yaml")
    (client,) = read_system(here.parents[1] / "c.yaml").description["system_under_test"]["clients"]
    assert (code, client["quantity"], client["chassis"]["cpu_cores"]) == (0, 8, 64)


def test_nothing_is_written_over(system, tmp_path):
    (tmp_path / "c.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"c\.yaml exists, and is not written over"):
        system("init", "c", "--out", "c.yaml")
    assert (tmp_path / "c.yaml").read_text() == "mine"


def test_a_link_that_leads_nowhere_is_not_written_through(system, tmp_path):
    (tmp_path / "c.yaml").symlink_to("gone")
    with pytest.raises(ConfigError, match=r"c\.yaml exists, and is not written over"):
        system("init", "c", "--out", "c.yaml")
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file/c.yaml", "file/c.yaml cannot be written: Not a directory"),
        ("file/sub/c.yaml", "file/sub/c.yaml cannot be written: Not a directory"),
        ("/proc/c.yaml", "/proc/c.yaml cannot be written: No such file or directory"),
        ("/proc/sub/c.yaml", "/proc/sub/c.yaml cannot be written: No such file or directory"),
        ("new/" + "x" * 300, f"new/{'x' * 300} cannot be written: File name too long"),
        ("loose/c.yaml", "loose exists, and is not written over"),
        (".", ". exists, and is not written over"),
    ],
    ids=["below a file", "deeper", "proc", "below proc", "long", "dangling link", "directory"],
)
def test_a_place_that_cannot_be_written(system, tmp_path, out, message):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loose").symlink_to("gone")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        system("init", "c", "--out", out)
    assert (caught.value.exit_code, caught.value.message) == (2, message)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_nothing(system, monkeypatch, tmp_path, capsys):
    def full(_handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ConfigError, match=r"c\.yaml cannot be written: No space left on device"):
        system("init", "c")
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "conf").exists()


def test_a_stop_while_it_is_written_leaves_nothing(system, monkeypatch, tmp_path):
    def stop(_handle):
        raise KeyboardInterrupt

    (tmp_path / "conf").mkdir()
    monkeypatch.setattr(files.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        system("init", "c")
    assert [*(tmp_path / "conf").iterdir()] == []


PLAIN = "expected letters, digits, '.', '_' and '-', the first a letter or a digit, at most 128"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../x", PLAIN),
        ("a/b", PLAIN),
        ("..", PLAIN),
        (".x", PLAIN),
        ("", PLAIN),
        ("a b", PLAIN),
        ("filer\n", PLAIN),
        ("f\u00efler", PLAIN),
        ("x" * 129, PLAIN),
        ("filer.yaml", "expected a name without its ending"),
        ("null", "system=null would be read as a number, a truth value or null"),
        ("1.5", "system=1.5 would be read as a number, a truth value or null"),
        ("undescribed", "mlps has a packaged option of that name"),
    ],
)
def test_a_name_that_no_option_can_have(system, tmp_path, name, message):
    with pytest.raises(ConfigError) as caught:
        system("init", name)
    assert f"mlps system init: NAME is {name!r}: {message}" in str(caught.value)
    assert not (tmp_path / "conf").exists()


@pytest.mark.parametrize("name", ["x" * 128, "8node-filer_v1.2", "on", "2026-01-01"])
def test_names_that_are_read_as_they_are_written(system, tmp_path, name):
    assert system("init", name)[0] == 0
    job = compose(
        ["benchmark=kvcache/quick", f"system={name}"], conf_dirs=[tmp_path / "conf"], cwd=tmp_path
    )
    assert job.values["system"]["name"] == name


def test_no_facts_no_skeleton(system, monkeypatch, tmp_path):
    monkeypatch.setattr(system_command, "ask_cluster", lambda _w, _d: (hosts(without=["a"]), ()))
    with pytest.raises(ArchiveError, match="no host states its facts"):
        system("init", "c")
    assert not (tmp_path / "conf").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["init"], "the following arguments are required: NAME"),
        (["check"], "the following arguments are required: FILE"),
        (["chek", "x"], "invalid choice: 'chek'"),
        (["check", "x", "a=1"], "'a=1' is not wanted here"),
        ([], "the following arguments are required: init|check"),
    ],
    ids=["no name", "no file", "no such word", "an override", "no word"],
)
def test_wrong_words(system, words, message):
    with pytest.raises(ConfigError) as caught:
        system(*words)
    assert message in str(caught.value)


def test_json_of_a_skeleton_would_have_no_effect(system):
    with pytest.raises(ConfigError, match="--json has no effect"):
        system("init", "c", as_json=True)


def test_a_description_without_flaws(system, tmp_path):
    (tmp_path / "filer.yaml").write_text(text_of("onprem"))
    assert system("check", "filer.yaml")[:2] == (
        0,
        "filer.yaml: no flaws\nproduct nodes and switches: 5 U, 5,900 W on their nameplates\n",
    )
    (tmp_path / "mysystem.yaml").write_text(text_of("cloud"))
    assert system("check", "mysystem.yaml")[:2] == (0, "mysystem.yaml: no flaws\n")


def test_a_remark_is_counted(system, tmp_path):
    text = text_of("cloud").replace("type: ethernet", "type: Ethernet", 1)
    (tmp_path / "x.yaml").write_text(text)
    code, out, _ = system("check", "x.yaml")
    assert (code, out.splitlines()[0]) == (0, "x.yaml: 1 remark")


def test_an_option_whose_name_is_not_that_of_its_description(system, tmp_path):
    inner = textwrap.indent(text_of("cloud"), "  ")
    (tmp_path / "x.yaml").write_text(f"name: other\nfile: null\ndescription:\n{inner}")
    code, out, _ = system("check", "x.yaml")
    assert code == 7
    assert "SYS-22 system_under_test.solution.submission_name: 'mysystem', but " in out


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("none.yaml", None, "none.yaml cannot be read: No such file or directory"),
        (".", None, ". cannot be read: Is a directory"),
        # Not even the administrator can read it.
        ("/proc/self/mem", None, "/proc/self/mem cannot be read: Input/output error"),
        ("x", b"\x7fELF\x80", "x is not in UTF-8: byte 4"),
        ("x", b"a:\n  b: \0", "x is no YAML: line 2 column 6: U+0000: "),
        ("x", b"a:\n  b: c: d", "x is no YAML: line 2 column 7: mapping values are not allowed"),
        ("x", b"System: {}", "x describes no system: it has no system_under_test"),
    ],
    ids=[
        "missing", "directory", "unreadable", "binary", "zeros", "no YAML",
        "older form",
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_judged(system, tmp_path, path, content, message):
    if content is not None:
        (tmp_path / path).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        system("check", path)
    assert caught.value.exit_code == 2
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message


def test_a_file_that_may_not_be_read(system, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(text_of("cloud"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("the administrator may read every file")
    with pytest.raises(ConfigError, match=r"x\.yaml cannot be read: Permission denied"):
        system("check", "x.yaml")


def test_an_archive_that_is_none_is_no_configuration(system, tmp_path):
    (tmp_path / "x.yaml").write_text(text_of("cloud"))
    with pytest.raises(ArchiveError, match="none"):
        system("check", "x.yaml", "--against", "none")


def test_a_warning_is_no_error(system, tmp_path):
    text = text_of("cloud").replace("    availability: available\n", "")
    (tmp_path / "x.yaml").write_text(text)
    code, out, _ = system("check", "x.yaml")
    assert (code, out) == (
        0,
        "x.yaml: 1 warning\n"
        "  warning SYS-23 system_under_test.solution.availability: missing (x.yaml:2)\n",
    )


def test_against_the_hosts_of_a_run(system, here, tmp_path):
    (tmp_path / "x.yaml").write_text(text_of("onprem").replace("cpu_cores: 64", "cpu_cores: 60"))
    code, out, _ = system("check", "x.yaml", "--against", str(here))
    assert (code, '-  "cpu_cores": 60,' in out) == (0, True)
    code, out, _ = system("check", "x.yaml", "--against", str(here), as_json=True)
    document = json.loads(out)
    assert [each["rule"] for each in document["findings"]] == ["SYS-27"]
    assert document["footprint"] == {"rack_units": 5, "power_w": 5900.0}
    assert '+  "cpu_cores": 64,' in document["drift"]
