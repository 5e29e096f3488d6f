"""Every way that a launch can end, with real processes that play engines."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from launches import make_launch

from mlps.engine import processes, protocol
from mlps.engine import supervise as module
from mlps.engine.hosts import Host
from mlps.engine.signals import StopRequests
from mlps.engine.supervise import Site, supervise

pytestmark = pytest.mark.usefixtures("nothing_left")

SHA = "ab" * 32

# What every one of these engines starts with.
PRELUDE = """
import json, os, signal, subprocess, sys, time

def say(**event):
    print(json.dumps(event), flush=True)

def ranks(count=2, job=os.environ["JOB"], pid=os.getpid()):
    say(event="ranks", ranks=[["node1", pid + rank] for rank in range(count)],
        job_sha256={job: "0-1"})

def progress(done=1, **more):
    say(event="progress", phase="running", done=done, total=4, unit="s", **more)

def result(**changes):
    say(**(json.loads(os.environ["RESULT"]) | changes))

def hear():
    return sys.stdin.readline()
"""

GOOD = """
ranks()
progress(2, read_bytes=5)
result()
assert hear() == "ok\\n"
"""


@pytest.fixture
def site(tmp_path, make_result):
    return Site(
        program=Path(sys.executable),
        env={"JOB": SHA, "RESULT": json.dumps(make_result())},
        stdout_log=tmp_path / "stdout.log",
        stderr_log=tmp_path / "stderr.log",
        job_sha256=SHA,
        died_patterns=(r"PID (?P<pid>\d+) RUNNING AT (?P<host>\S+)",),
    )


@pytest.fixture
def launch():
    return make_launch(2)


class Watcher:
    """A display whose progress also goes to a function."""

    def __init__(self, display, on_event):
        self.say = display.say
        self.progress = on_event or display.progress


@pytest.fixture
def run(site, launch, display):
    """Runs a script as an engine: its outcome. Limits of the launch by name."""

    def run(script, *, stops=None, on_event=None, site=site, **limits):
        argv = (sys.executable, "-S", "-c", PRELUDE + script)
        return supervise(
            replace(launch, argv=argv, **limits),
            site,
            stops or StopRequests(),
            Watcher(display, on_event),
        )

    return run


@pytest.fixture
def adopted():
    """What a launcher leaves behind becomes a child of this process, as in `mlps`."""
    processes.adopt_orphans()
    yield
    processes.ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


def ended(outcome):
    return outcome.status, outcome.reason, outcome.message


# ---------------------------------------------------------------- ways that are good


def test_a_good_engine(run, site, make_result):
    events = []
    outcome = run(GOOD, on_event=events.append)

    assert ended(outcome) == ("complete", None, None)
    assert outcome.exit_status == 0
    assert outcome.result == make_result()
    assert json.loads(outcome.result_line) == make_result()
    assert [(event["done"], event["read_bytes"]) for event in events] == [(2, 5)]
    assert 0 < outcome.elapsed_s < 10
    document = outcome.as_document()
    assert (document["name"], document["ranks_reported"]) == ("01-run-0", 2)
    assert (document["hosts"], document["job_sha256"]) == (["node1"], {SHA: "0-1"})
    assert document["started_utc"].endswith("+00:00")


def test_the_logs_hold_all_but_the_result(run, site):
    run("print('a word', file=sys.stderr)" + GOOD)
    kinds = [json.loads(line)["event"] for line in site.stdout_log.read_bytes().splitlines()]
    assert kinds == ["ranks", "progress"]
    assert site.stderr_log.read_text() == "a word\n"


def test_the_engine_gets_exactly_the_environment_it_is_given(run, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    script = "assert set(os.environ) - {'LC_CTYPE'} == {'JOB', 'RESULT'}, os.environ" + GOOD
    assert ended(run(script)) == ("complete", None, None)


def test_lines_may_come_in_pieces_and_the_last_without_an_end(run):
    script = """
ranks()
text = json.dumps(json.loads(os.environ["RESULT"]))
for part in (text[:10], text[10:3000], text[3000:]):
    sys.stdout.write(part)
    sys.stdout.flush()
    time.sleep(0.02)
"""
    assert ended(run(script)) == ("complete", None, None)


def test_empty_lines_are_no_events(run):
    assert ended(run("print(); print('  ', flush=True)" + GOOD)) == ("complete", None, None)


# ---------------------------------------------------------------- broken protocol


def test_rubbish_fails_a_launch_that_is_otherwise_good(run, site):
    script = "print('hello', flush=True)" + GOOD
    outcome = run(script)
    assert ended(outcome) == (
        "failed",
        "protocol",
        "line 1 of its standard output is no JSON: 'hello'",
    )
    assert b"hello\n" in site.stdout_log.read_bytes()


def test_rubbish_ends_a_launch_that_goes_on(run, monkeypatch):
    monkeypatch.setattr(module, "RUBBISH_GRACE_S", 0.1)
    began = time.monotonic()
    outcome = run("ranks(); print('[1', flush=True); time.sleep(60)")
    assert ended(outcome) == (
        "failed",
        "protocol",
        "line 2 of its standard output is no JSON: '[1'",
    )
    assert time.monotonic() - began < 5


def test_a_line_above_the_limit(run, monkeypatch):
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 1000)
    outcome = run("ranks(); sys.stdout.write('x' * 5000); sys.stdout.flush(); time.sleep(60)")
    assert ended(outcome) == ("failed", "protocol", "a line of more than 1000 bytes")
    assert protocol.MAX_LINE_BYTES > 1 << 20


def test_many_lines_at_once_are_no_long_line(run, monkeypatch):
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 70_000)
    assert ended(run("ranks()\nfor i in range(2000): progress(i)\n" + GOOD[8:]))[0] == "complete"


@pytest.mark.parametrize(
    ("script", "text"),
    [
        pytest.param(
            "ranks(); r = json.loads(os.environ['RESULT']); del r['window']; say(**r); hear()",
            "its result cannot be used: $: 'window' is a required property",
            id="result lacks a field",
        ),
        pytest.param(
            "ranks(); result(stage='prepare'); hear()",
            "its result cannot be used: it is of stage 'prepare', not of 'run'",
            id="another stage",
        ),
        pytest.param(
            "ranks(job='cd'); result(); hear()",
            f"its result cannot be used: ranks had another job than the archived {SHA}: "
            "{'cd': '0-1'}",
            id="another job",
        ),
        pytest.param(
            "ranks(1); result(); hear()",
            "its result cannot be used: 1 of 2 ranks reported",
            id="too few ranks",
        ),
        pytest.param("result(); hear()", "its ranks never reported", id="no ranks at all"),
        pytest.param(
            "say(event='ranks', ranks=3, job_sha256={}); result(); hear()",
            "its ranks never reported",
            id="ranks that cannot be read",
        ),
    ],
)
def test_a_result_that_cannot_be_used(run, script, text):
    outcome = run(script)
    assert ended(outcome) == ("failed", "protocol", text)
    assert outcome.result_line is not None


def test_a_result_that_says_failed(run):
    errors = [{"rank": rank, "host": "node1", "message": f"no {rank}"} for rank in range(5)]
    outcome = run(f"ranks(); result(status='failed', errors={errors}); hear(); sys.exit(4)")
    status, reason, message = ended(outcome)
    assert (status, reason) == ("failed", "engine")
    assert message.startswith("rank 0 on node1 (pid ")
    assert message.endswith("rank 2: no 2 (and 2 more)")
    assert "): no 0; rank 1 on node1 (pid " in message


def test_a_result_that_says_failed_and_not_why(run):
    outcome = run("ranks(); result(status='failed'); hear(); sys.exit(4)")
    assert ended(outcome) == ("failed", "engine", "it gave no reason")


# ---------------------------------------------------------------- ends


def test_no_result(run):
    outcome = run("ranks(); sys.exit(3)")
    assert ended(outcome) == (
        "failed",
        "no_result",
        "it ended with exit status 3 and without a result",
    )
    assert (outcome.exit_status, outcome.result_line) == (3, None)


def test_a_bad_exit_after_a_good_result(run):
    outcome = run(GOOD + "sys.exit(7)")
    assert ended(outcome) == (
        "failed",
        "exit",
        "it reported a result, then ended with exit status 7",
    )


def test_a_killed_only_rank(run):
    outcome = run("ranks(); os.kill(os.getpid(), signal.SIGKILL)")
    name = outcome.table.name(0)
    assert ended(outcome) == ("failed", "rank_died", f"{name} was ended by signal 9")
    assert outcome.exit_status == -9


@pytest.mark.parametrize("started", ["ranks(pid=1)", ""])
def test_a_killed_launcher(run, started):
    outcome = run(f"{started}; os.kill(os.getpid(), signal.SIGKILL)".lstrip("; "))
    status, reason, message = ended(outcome)
    assert (status, reason) == ("failed", "launcher_died")
    assert message.startswith(f"{Path(sys.executable).name} on {socket.gethostname()} (pid ")
    assert message.endswith(") was ended by signal 9, and its ranks with it")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_dead_rank_is_named_by_what_its_launcher_prints(run, stream):
    script = f"""
ranks()
print(f"=   PID {{os.getpid() + 1}} RUNNING AT node1", file=sys.{stream}, flush=True)
sys.exit(9)
"""
    outcome = run(script)
    pid = outcome.table.places[1][1]
    assert ended(outcome) == (
        "failed",
        "rank_died",
        f"rank 1 on node1 (pid {pid}) died; the launch ended with exit status 9",
    )


def test_a_dead_rank_by_its_number(run, site):
    site = replace(
        site, died_patterns=(r"rank (?P<rank>\d+) with PID (?P<pid>\d+) on (?P<host>\S+)",)
    )
    outcome = run("ranks(); sys.exit('rank 1 with PID 5 on elsewhere')", site=site)
    assert outcome.message.startswith("rank 1 on node1 (pid ")


def test_a_dead_rank_that_never_reported(run):
    outcome = run("sys.exit('PID 77 RUNNING AT node9')")
    assert outcome.message == ("a rank on node9 (pid 77) died; the launch ended with exit status 1")


LOST = "PID 9 RUNNING AT nodeX\nConnection to node1 closed"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param("ranks(); sys.exit({!r})", "host node1 (ranks 0-1) was lost", id="running"),
        pytest.param("sys.exit({!r})", "host node1 (ranks 0-1) was not reached", id="at start"),
        pytest.param("ranks(); print({!r}); sys.exit(1)", "was lost", id="on standard output"),
    ],
)
def test_a_lost_host(run, site, script, words):
    site = replace(site, died_patterns=(r"Connection to (?P<host>\S+) closed",))
    outcome = run(script.format(LOST), site=site)
    assert outcome.reason == "host_lost"
    assert f"{words}; the launch ended with exit status 1" in outcome.message
    assert outcome.lost_hosts == ("node1",)
    assert outcome.as_document()["lost_hosts"] == ["node1"]


def test_a_lost_host_after_the_result(run, site):
    site = replace(site, died_patterns=(r"Connection to (?P<host>\S+) closed",))
    outcome = run(GOOD + f"sys.exit({LOST!r})", site=site)
    assert ended(outcome)[1:] == (
        "exit",
        "it reported a result, then ended with exit status 1: host node1 (ranks 0-1) was lost",
    )


def test_who_was_silent_when_it_ended(run):
    script = "ranks(); progress(oldest_report_s=7, oldest_rank=1); sys.exit(3)"
    outcome = run(script)
    assert outcome.reason == "no_result"
    name = outcome.table.name(1)
    assert outcome.message.endswith(f"; {name} had given no sign of life for 7 s")


def test_last_words_of_what_a_launcher_leaves_are_read(run, adopted):
    script = """
left = "import sys, time; time.sleep(0.4); sys.stderr.write('PID 77 RUNNING AT node9')"
subprocess.Popen([sys.executable, "-S", "-c", left], stdout=subprocess.DEVNULL)
ranks()
sys.exit(3)
"""
    assert run(script).message.startswith("a rank on node9 (pid 77) died")


def test_without_a_pattern_no_rank_is_named(run, site):
    outcome = run("sys.exit('PID 77 RUNNING AT node9')", site=replace(site, died_patterns=()))
    assert outcome.reason == "no_result"


def test_a_program_that_cannot_be_started(run, site):
    outcome = run("", site=replace(site, program=Path("/nowhere/mpiexec")))
    assert ended(outcome) == (
        "failed",
        "start",
        "/nowhere/mpiexec could not be started: No such file or directory",
    )
    assert outcome.as_document()["elapsed_s"] is None


def test_it_does_not_end_after_its_result(run, monkeypatch):
    monkeypatch.setattr(module, "EXIT_GRACE_S", 0.2)
    outcome = run(GOOD + "time.sleep(60)")
    assert ended(outcome) == ("failed", "exit", "it did not end within 0.2 s after its last word")


def test_it_closes_its_output_and_does_not_end(run, monkeypatch):
    monkeypatch.setattr(module, "EXIT_GRACE_S", 0.2)
    outcome = run("ranks(); os.close(1); time.sleep(60)")
    assert ended(outcome) == ("failed", "exit", "it did not end within 0.2 s after its last word")


def test_a_log_that_exists_is_never_overwritten(run, site):
    site.stdout_log.write_text("of an earlier launch")
    with pytest.raises(FileExistsError):
        run(GOOD)


# ---------------------------------------------------------------- limits


def test_the_time_limit(run):
    script = "ranks()\nwhile True: progress(); time.sleep(0.05)"
    outcome = run(script, time_limit_s=0.4)
    assert ended(outcome) == ("failed", "time_limit", "it took longer than 0.4 s")
    assert 0.4 <= outcome.elapsed_s < 5


def test_ranks_that_never_report(run):
    outcome = run("while True: progress(); time.sleep(0.05)", start_limit_s=0.4)
    assert ended(outcome) == ("failed", "start_limit", "not all ranks had reported after 0.4 s")


def test_hosts_of_which_nothing_came(run, launch):
    hosts = tuple(Host(name=name, slots=1, ranks=1) for name in ("node1", "node2", "node3"))
    script = "print('mlps: started on node2', file=sys.stderr, flush=True); time.sleep(60)"
    outcome = run(script, start_limit_s=0.4, hosts=hosts)
    assert ended(outcome) == (
        "failed",
        "start_limit",
        "not all ranks had reported after 0.4 s: nothing came from node1,node3",
    )
    assert outcome.lost_hosts == ("node1", "node3")


def test_silence_of_a_whole_host(run):
    script = "ranks(); progress(oldest_report_s=21, oldest_rank=1, silent_ranks='0-1')"
    outcome = run(script + "; time.sleep(60)")
    assert ended(outcome) == (
        "failed",
        "silence",
        "node1 (ranks 0-1) gave no sign of life for 21 s",
    )
    assert outcome.lost_hosts == ("node1",)


def test_silence_after_the_ranks(run):
    outcome = run("ranks(); time.sleep(60)", silence_limit_s=0.6)
    pid = outcome.table.places[0][1]
    assert ended(outcome) == (
        "failed",
        "silence",
        f"rank 0 on node1 (pid {pid}) gave no sign of life for 1 s",
    )


def test_silence_of_another_rank_while_rank_0_reports(run):
    script = """
ranks()
for age in range(0, 100, 7):
    progress(oldest_report_s=age, oldest_rank=1)
    time.sleep(0.01)
time.sleep(60)
"""
    outcome = run(script, silence_limit_s=20)
    pid = outcome.table.places[1][1]
    assert ended(outcome) == (
        "failed",
        "silence",
        f"rank 1 on node1 (pid {pid}) gave no sign of life for 21 s",
    )


def test_an_age_below_the_limit_is_no_silence(run):
    script = "ranks(); progress(oldest_report_s=19.9, oldest_rank=1); result(); hear()"
    assert ended(run(script, silence_limit_s=20)) == ("complete", None, None)


def test_limits_do_not_count_after_the_result(run):
    script = "ranks(); result(); hear(); time.sleep(0.5)"
    assert ended(run(script, time_limit_s=0.4, silence_limit_s=0.3)) == ("complete", None, None)


# ---------------------------------------------------------------- stops

HEARS_STOP = """
ranks()
progress()
assert hear() == "stop\\n"
result(status="stopped")
assert hear() == "ok\\n"
"""


def asks(stops, times=1):
    """A progress event asks for a stop, as Ctrl-C does while a stage runs."""

    def on_event(event):
        for _ in range(times):
            stops(signal.SIGINT, None)

    return on_event


def test_a_stop_is_passed_on_and_waited_for(run, display):
    stops = StopRequests()
    outcome = run(HEARS_STOP, stops=stops, on_event=asks(stops))
    assert ended(outcome) == ("stopped", "stop", "stopped by SIGINT")
    assert outcome.exit_status == 0
    assert display.lines == ["stopping; once more ends it at once"]


def test_a_stop_from_before_the_launch_is_not_for_it(run, display):
    stops = StopRequests()
    stops(signal.SIGTERM, None)
    script = GOOD.replace("result()", "time.sleep(0.3); result()")
    assert ended(run(script, stops=stops)) == ("complete", None, None)
    assert "stopping; once more ends it at once" not in display.lines


def test_a_second_stop_ends_it_at_once(run):
    stops = StopRequests()
    script = "signal.signal(signal.SIGTERM, signal.SIG_IGN); ranks(); progress(); time.sleep(60)"
    outcome = run(script, stops=stops, on_event=asks(stops, 2))
    assert ended(outcome) == ("failed", "killed", "a second request to stop ended it at once")
    assert outcome.exit_status == -9
    assert outcome.elapsed_s < 3


def test_an_engine_that_ignores_stop(run, monkeypatch):
    monkeypatch.setattr(module, "STOP_GRACE_S", 0.3)
    stops = StopRequests()
    outcome = run("ranks(); progress(); time.sleep(60)", stops=stops, on_event=asks(stops))
    assert ended(outcome) == ("failed", "stop", "it did not stop within 0.3 s")


def test_an_engine_that_stops_by_itself(run):
    outcome = run("ranks(); result(status='stopped'); hear()")
    assert ended(outcome) == ("stopped", "stop", "stopped by its own decision")


# ---------------------------------------------------------------- nothing is left


def test_an_engine_that_ignores_sigterm_is_killed(run, monkeypatch):
    monkeypatch.setattr(processes, "TERMINATE_GRACE_S", 0.2)
    script = "signal.signal(signal.SIGTERM, signal.SIG_IGN); ranks(); time.sleep(60)"
    outcome = run(script, time_limit_s=0.4)
    assert (outcome.reason, outcome.exit_status) == ("time_limit", -9)


@pytest.mark.parametrize(
    "ending", ["result(); hear()", "time.sleep(60)", "os.kill(os.getpid(), 9)"]
)
def test_a_grandchild_in_a_session_of_its_own_is_gone(run, adopted, ending):
    script = f"""
left = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"],
                        start_new_session=True)
ranks()
progress(left.pid)
{ending}
"""
    found = []
    run(script, time_limit_s=0.6, on_event=lambda event: found.append(event["done"]))
    (pid,) = found
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_left_over_that_holds_the_pipe_is_not_waited_for(run, adopted, monkeypatch):
    monkeypatch.setattr(module, "PIPE_GRACE_S", 0.2)
    script = (
        """
subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"],
                 start_new_session=True)
"""
        + GOOD
    )
    outcome = run(script)
    assert ended(outcome) == ("complete", None, None)
    assert outcome.elapsed_s < 5


def test_no_descriptor_is_left_open(run, site):
    run(GOOD)
    for log in (site.stdout_log, site.stderr_log):
        log.unlink()
    before = len(list(Path("/proc/self/fd").iterdir()))
    run(GOOD)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
