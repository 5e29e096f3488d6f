"""When counters are read, and what lies between."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proc_trees import BOOT_ID, mountinfo, tree

from mlps.engines.io_core.control import Control
from mlps.engines.io_core.counts import Counter, Counts, boot_id
from mlps.engines.io_core.meter import Meter, counters_behind


def counter(read, name="sda"):
    return Counter(kind="device", machine="m", name=name, facts={"device": name}, read=read)


class Clockwork:
    """Counts a byte read each ns, and notes when it was asked."""

    def __init__(self):
        self.asked_ns = []

    def __call__(self):
        self.asked_ns.append(time.monotonic_ns())
        return Counts(self.asked_ns[-1], 7)


def measured(control, work, *counters):
    control.start()
    meter = Meter(counters, control)
    with meter:
        work()
    return meter.moved()


def test_the_window_lies_between_readings_at_its_ends():
    control, clock = Control(ramp_s=0.1, duration_s=0.2), Clockwork()
    (moved,) = measured(control, lambda: time.sleep(0.4), counter(clock))
    assert len(clock.asked_ns) == 4
    ends_ns = (control.window_ns, control.end_ns)
    late_s = [(at - end) / 1e9 for at, end in zip(clock.asked_ns[1:3], ends_ns, strict=True)]
    assert 0 <= min(late_s) <= max(late_s) < 1
    first, start, end, last = clock.asked_ns
    assert moved.window.moved == Counts(end - start, 0)
    assert moved.window.length_s == pytest.approx((end - start) / 1e9, abs=0.02)
    assert (moved.first, moved.last) == (Counts(first, 7), Counts(last, 7))


def test_without_a_ramp_and_a_length_the_window_is_all():
    clock = Clockwork()
    (moved,) = measured(Control(), lambda: time.sleep(0.01), counter(clock))
    assert len(clock.asked_ns) == 2
    assert moved.window.moved == moved.last.since(moved.first)


def test_a_window_that_was_cut_ends_with_the_work():
    control, clock = Control(ramp_s=0.02, duration_s=60.0), Clockwork()

    def work():
        time.sleep(0.1)
        control.stop()

    begun_s = time.monotonic()
    (moved,) = measured(control, work, counter(clock))
    assert time.monotonic() - begun_s < 30
    assert len(clock.asked_ns) == 3
    assert moved.window.moved.inward == clock.asked_ns[2] - clock.asked_ns[1]


def test_work_that_ends_in_its_ramp_has_no_window():
    (moved,) = measured(Control(ramp_s=60.0, duration_s=1.0), lambda: None, counter(Clockwork()))
    assert moved.window is None
    assert moved.last.inward > moved.first.inward


def test_what_was_counted_until_a_failure_is_kept():
    control, clock = Control(ramp_s=60.0), Clockwork()
    control.start()
    meter = Meter([counter(clock)], control)
    with pytest.raises(OSError, match="full"), meter:
        raise OSError("full")
    assert meter.moved()[0].last is not None


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_a_count_that_cannot_be_read_is_none_and_disturbs_no_other(error):
    def broken():
        raise error("no")

    control = Control(ramp_s=0.01, duration_s=0.01)
    found = measured(
        control, lambda: time.sleep(0.1), counter(broken), counter(None), counter(Clockwork())
    )
    assert [moved.first is None for moved in found] == [True, True, False]
    assert [moved.window is None for moved in found] == [True, True, False]


def test_a_count_that_began_anew_has_no_window():
    counts = iter([Counts(9, 9), Counts(1, 10)])
    (moved,) = measured(Control(), lambda: None, counter(lambda: next(counts)))
    assert moved.window is None


def test_no_thread_is_left(wait_for):
    def threads():
        return {path.name for path in Path("/proc/self/task").iterdir()}

    before, within = threads(), set()
    measured(Control(duration_s=60.0), lambda: within.update(threads()), counter(Clockwork()))
    (own,) = within - before
    wait_for(lambda: own not in threads(), "the end of the thread", 10)


@given(st.lists(st.tuples(*[st.integers(0, 2**62)] * 2), min_size=2, max_size=2))
def test_what_lies_between_first_and_last_is_what_was_counted(steps):
    counts = [Counts(5, 6)]
    counts.append(Counts(*(sum(each) for each in zip(counts[0], *steps, strict=True))))
    readings = iter(counts)
    (moved,) = measured(Control(), lambda: None, counter(lambda: next(readings)))
    total = Counts(*(sum(each) for each in zip(*steps, strict=True)))
    assert moved.last.since(moved.first) == moved.window.moved == total


# ---------------------------------------------------------------- what is counted


def test_all_counters_of_a_directory_are_found(tmp_path):
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    files = {
        "proc/self/mountinfo": mountinfo((number, "/", "xfs", "/dev/sda")),
        f"sys/dev/block/{number}/stat": "1 2 3 4 5 6 7 8",
        "proc/self/net/dev": "eth0: 1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0\n",
        "proc/self/ns/net": "",
        "sys/class/net/eth0/device/": "",
    }
    found = counters_behind(tmp_path, tree(tmp_path / "root", files))
    assert [each.kind for each in found] == ["device", "mount", "network"]
    assert {each.machine.split()[0] for each in found} == {BOOT_ID}


def test_without_the_kernels_id_nothing_is_counted(tmp_path):
    root = tree(tmp_path / "root", {"proc/self/mountinfo": mountinfo(("0:1", "/", "xfs", "a"))})
    assert len(counters_behind(tmp_path, root)) == 1
    (root / "proc/sys/kernel/random/boot_id").unlink()
    assert counters_behind(tmp_path, root) == ()


def test_this_machine_is_read_in_far_less_than_a_millisecond(tmp_path):
    counters = counters_behind(tmp_path)
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    taken_s = []
    for _ in range(50):
        begun_s = time.thread_time()
        for each in counters:
            if each.read is not None:
                each.read()
        taken_s.append(time.thread_time() - begun_s)
    assert min(taken_s) < 0.0005
