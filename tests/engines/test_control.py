"""What the threads of a phase share: live counts that never go back."""

from __future__ import annotations

import threading

from mlps.engines.io_core.control import Control
from mlps.engines.supervise import Phase, _OwnWork, _report


def test_live_counts_of_several_executes_add_up():
    control = Control()
    assert control.moved_bytes() == (0, 0)
    control.shards(2)
    control.read_bytes = [3, 4]
    control.shards(1)
    assert control.moved_bytes() == (7, 0)
    control.read_bytes[0] += 5
    control.written_bytes[0] += 1
    control.shards(3)
    control.written_bytes = [1, 1, 1]
    assert control.moved_bytes() == (12, 4)
    phase = Phase(name="read", unit="bytes", total=100)
    report = _report(phase, control, _OwnWork())
    assert (report.read_bytes, report.written_bytes, report.done) == (12, 4, 16)


def test_who_looks_meanwhile_never_sees_less_than_before():
    control, seen, over = Control(), [], threading.Event()

    def look():
        while not over.is_set():
            seen.append(sum(control.moved_bytes()))

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(3000):
        control.shards(1)
        control.read_bytes[0] += 1
    over.set()
    looking.join()
    assert seen == sorted(seen)
    assert control.moved_bytes() == (3000, 0)


def test_work_that_hangs_is_not_waited_for():
    control = Control()
    own = _OwnWork()
    phase = Phase(name="read", unit="bytes", total=100)
    control.stop()
    assert not _report(phase, control, own).ended
    control.abandon("it hangs")
    control.fail("later")
    report = _report(phase, control, own)
    assert (report.ended, report.failure) == (True, "it hangs")
