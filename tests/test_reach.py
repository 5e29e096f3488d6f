"""Asking hosts: what ssh and a remote Python say is told apart; facts are found in any noise."""

from __future__ import annotations

import json
import os
import platform
import sys
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.children import Answer, Line
from mlps.engine.host_probe import MARK, Request
from mlps.engine.launch import Argv
from mlps.engine.reach import (
    Question,
    by_launcher,
    by_ssh,
    is_here,
    name_of,
    own_addresses,
    parse_facts,
    trouble_of,
)

FACTS = {MARK: "node1", "unix_s": 5.0}


# ---------------------------------------------------------------- this machine


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", platform.node()])
def test_names_of_this_machine(name):
    assert is_here(name, own_addresses())


def test_addresses_of_this_machine_and_others():
    own = own_addresses()
    assert "127.0.0.1" in own
    assert is_here("10.1.2.3", frozenset({"10.1.2.3"}))
    assert not is_here("10.1.2.4", frozenset({"10.1.2.3"}))
    assert not is_here("node-nowhere", own)


def test_no_name_is_looked_up(monkeypatch):
    for name in ("getaddrinfo", "gethostbyname", "getfqdn"):
        monkeypatch.setattr(f"socket.{name}", lambda *_: 1 / 0)
    assert not is_here("node-nowhere", own_addresses())


# ---------------------------------------------------------------- what is said


def answer(status, stderr="", lines=(), **more):
    said = tuple(Line(text=text, unix_s=1.0) for text in lines)
    return Answer(exit_status=status, stderr=stderr, lines=said, **more)


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("ssh: Could not resolve hostname n9: Name or service not known", "name"),
        ("ssh: connect to host n port 22: Connection refused", "refused"),
        ("ssh: connect to host n port 22: Connection timed out", "unreachable"),
        ("ssh: connect to host n port 22: No route to host", "unreachable"),
        ("ssh: connect to host n port 22: Network is unreachable", "unreachable"),
        ("No ED25519 host key is known for n.\nHost key verification failed.", "host_key"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "host_key_changed",
        ),
        ("root@n: Permission denied (publickey).", "login"),
        ("kex_exchange_identification: read: Connection reset by peer", "closed"),
        ("Connection closed by 10.0.0.1 port 22", "closed"),
        ("something new", "closed"),
        ("", "closed"),
    ],
)
def test_what_ssh_says(stderr, kind):
    assert trouble_of(answer(255, stderr), "/p").kind == kind


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        (answer(127, "bash: /p: No such file or directory"), "python", "/p cannot be run"),
        (answer(126, "bash: /p: Permission denied"), "python", "/p cannot be run"),
        (answer(2, "Unknown option: -P\nusage: ..."), "python", "Unknown option: -P"),
        (answer(1, "/p: ModuleNotFoundError: No module named 'mlps'"), "mlps", None),
        (answer(1, "No module named mlps.engine.host_probe"), "mlps", None),
        (
            answer(1, "Traceback\nModuleNotFoundError: No module named 'psutil'"),
            "package",
            "ModuleNotFoundError: No module named 'psutil'",
        ),
        (answer(1, "Traceback\nMemoryError\n"), "probe", "MemoryError"),
        (answer(3), "probe", "it ended with status 3"),
        (answer(0, lines=["This account is disabled."]), "rubbish", "This account is disabled."),
        (answer(0), "rubbish", ""),
        (answer(None, "debug"), "limit", "debug"),
        (answer(None, start_error="ssh: No such file"), "ssh", "ssh: No such file"),
    ],
)
def test_what_a_host_says(given, kind, text):
    trouble = trouble_of(given, "/p")
    assert trouble.kind == kind
    assert text is None or trouble.text == text


# ---------------------------------------------------------------- facts in noise


@given(before=st.text(alphabet="abc {}\x1b[", max_size=20), after=st.text(max_size=10))
def test_facts_are_found_wherever_they_stand_in_a_line(before, after):
    line = before + json.dumps(FACTS) + after
    assert parse_facts(line) == FACTS


@given(st.text())
def test_other_lines_hold_no_facts(text):
    assert parse_facts(text) is None


@pytest.mark.parametrize("line", [f'{{"{MARK}": "n"', f'{{"{MARK}": "n"}}', f'["{MARK}"]', "{}"])
def test_half_an_answer_is_none(line):
    assert parse_facts(line) is None


# ---------------------------------------------------------------- real programs in ssh's place

SSH = """#!/bin/sh
while [ "$1" = -o ] || [ "$1" = -T ]; do [ "$1" = -o ] && shift; shift; done
case $1 in
  lost) echo "ssh: connect to host lost port 22: No route to host" >&2; exit 255 ;;
  hung) exec sleep 1000 ;;
  chatty) echo "Welcome to {node}!"; echo "quota: 3%" >&2 ;;
esac
shift
exec sh -c "$*"
"""


@pytest.fixture
def ssh(tmp_path):
    path = tmp_path / "ssh"
    path.write_text(SSH)
    path.chmod(0o755)
    return str(path)


def ask(ssh, *names, limit_s=20.0, python=sys.executable, **request):
    env = {"PATH": os.environ["PATH"]}
    question = Question(
        argv=(python, "-P", "-m", "mlps.engine.host_probe"),
        stdin=Request(env={}, **request).as_json(),
    )
    return by_ssh(names, question, ssh=ssh, env=env, limit_s=limit_s)


def test_every_host_is_asked_and_has_its_own_answer(ssh, nothing_left):
    found = ask(ssh, "good", "lost", "chatty", packages=("psutil",))
    assert list(found) == ["good", "lost", "chatty"]
    for name in ("good", "chatty"):
        assert found[name].facts["packages"] == {"psutil": psutil.__version__}
        assert abs(found[name].clock_offset_s) < 5
        assert found[name].trouble is None
    assert found["lost"].trouble.kind == "unreachable"
    assert found["lost"].facts is None


def test_a_host_that_hangs_is_left_at_its_limit(ssh, nothing_left, monkeypatch):
    monkeypatch.setattr("mlps.engine.reach.PROBE_MARGIN_S", 0.0)
    started = time.monotonic()
    found = ask(ssh, "hung", limit_s=1.0)
    assert found["hung"].trouble.kind == "limit"
    assert time.monotonic() - started < 10


def test_a_python_that_is_not_there(ssh):
    trouble = ask(ssh, "good", python="/no/where/python with space")["good"].trouble
    assert (trouble.kind, trouble.text) == ("python", "/no/where/python with space cannot be run")


def test_ssh_may_neither_ask_nor_learn_host_keys(tmp_path):
    program = tmp_path / "ssh"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/words\n')
    program.chmod(0o755)
    ask(str(program), "node1", limit_s=2.5)
    words = (tmp_path / "words").read_text().splitlines()
    assert words[:7] == [
        "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", "-o", "UpdateHostKeys=no", "-T",
    ]  # fmt: skip
    assert words[7:] == ["node1", f"{sys.executable} -P -m mlps.engine.host_probe"]


# ---------------------------------------------------------------- by the launcher


def launch(tmp_path, words, *names, limit_s=20):
    script = tmp_path / "launcher"
    script.write_text(f"#!/bin/sh\n{words}\n")
    script.chmod(0o755)
    env = {"PATH": os.environ["PATH"]}
    return by_launcher(names, Argv(words=(str(script),)), env=env, limit_s=limit_s)


def test_one_launch_brings_the_facts_of_all_hosts(tmp_path):
    lines = [json.dumps({MARK: name, "unix_s": time.time()}) for name in ("node2", "node1.lan")]
    words = "echo hello; " + "; ".join(f"echo '{line}'" for line in lines)
    found = launch(tmp_path, words, "node1", "node2")
    assert [found[name].facts[MARK] for name in ("node1", "node2")] == ["node1.lan", "node2"]


def test_hosts_without_an_answer_have_the_launchers_words(tmp_path):
    found = launch(tmp_path, "echo 'srun: error: node2: not responding' >&2; exit 1", "node2")
    trouble = found["node2"].trouble
    assert (trouble.kind, trouble.text) == (
        "silent",
        "srun: error: node2: not responding (it ended with status 1)",
    )


def test_a_launch_that_ended_well_and_lost_what_a_host_said_is_made_again(tmp_path):
    lines = [json.dumps({MARK: name, "unix_s": 1.0}) for name in ("node1", "node2")]
    words = f"echo x >> {tmp_path}/calls; echo '{lines[0]}'; "
    words += f"[ \"$(wc -l < {tmp_path}/calls)\" = 1 ] || echo '{lines[1]}'"
    found = launch(tmp_path, f"{words}\nexit 0", "node1", "node2")
    assert [host.facts is None for host in found.values()] == [False, False]
    assert (tmp_path / "calls").read_text() == "x\n" * 2


def test_a_launch_that_failed_before_any_host_spoke_is_made_once_more(tmp_path):
    words = f"echo x >> {tmp_path}/calls; exit 1"
    trouble = launch(tmp_path, words, "node1")["node1"].trouble
    assert (trouble.kind, trouble.text) == ("silent", "it ended with status 1")
    assert (tmp_path / "calls").read_text() == "x\n" * 2


def test_a_launch_that_failed_on_some_hosts_is_not_made_again(tmp_path):
    line = json.dumps({MARK: "node1", "unix_s": 1.0})
    found = launch(tmp_path, f"echo x >> {tmp_path}/calls; echo '{line}'; exit 1", "node1", "node2")
    assert [host.facts is None for host in found.values()] == [False, True]
    assert (tmp_path / "calls").read_text() == "x\n"


def test_a_launch_that_takes_too_long_is_not_one_that_failed(tmp_path):
    found = launch(tmp_path, "echo 'srun: waiting' >&2; exec sleep 60", "node2", limit_s=-3.5)
    trouble = found["node2"].trouble
    assert (trouble.kind, trouble.text) == ("launch_limit", "srun: waiting")


@pytest.mark.parametrize(
    ("host", "names", "name"),
    [
        ("node1", ["node1", "node2"], "node1"),
        ("node2.lan", ["node1", "node2"], "node2"),
        ("node2", ["node1.lan", "node2.lan"], "node2.lan"),
        ("node3", ["node1", "node2"], None),
        pytest.param("node3", ["10.0.0.3"], "10.0.0.3", id="the only one that was asked"),
    ],
)
def test_hosts_are_known_by_what_they_call_themselves(host, names, name):
    assert name_of(host, names) == name
