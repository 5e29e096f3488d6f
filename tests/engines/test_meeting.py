"""Steps of all ranks: who fails or is stopped ends them, and messages are seen to in between."""

from __future__ import annotations

import threading
import time

import pytest

from mlps.engines.errors import EngineError
from mlps.engines.io_core.control import Control
from mlps.engines.meeting import Beside, SoloMeeting, Together


class Others(SoloMeeting):
    """Other ranks, of which one leaves at a step."""

    def __init__(self, leaves_at=None):
        self.met = []
        self._leaves_at = leaves_at

    def meet(self, leaves, idle):
        self.met.append(leaves)
        return leaves or len(self.met) == self._leaves_at


def together(meeting, look=lambda: None):
    return Together(meeting, Control(), look)


def test_all_go_on_while_nobody_leaves():
    steps = together(SoloMeeting())
    assert [steps.meet() for _ in range(3)] == [True] * 3


def test_a_failure_is_kept_and_ends_the_steps():
    steps = together(SoloMeeting())

    def fail():
        raise EngineError("no such file")

    assert steps.do(lambda: None)
    assert not steps.do(fail)
    assert steps.control.failure == "no such file"


def test_others_are_told_of_a_failure():
    meeting = Others()
    steps = together(meeting)
    steps.control.fail("broken")
    assert not steps.meet()
    assert meeting.met == [True]


def test_another_ranks_failure_ends_the_steps_here():
    steps = together(Others(leaves_at=2))
    assert [steps.meet(), steps.meet()] == [True, False]
    assert steps.control.failure is None


def test_a_stop_ends_the_steps():
    steps = together(SoloMeeting())
    steps.control.stop()
    assert not steps.meet()


def test_messages_are_seen_to_now_and_then_and_not_at_each_step():
    looked = []
    steps = together(SoloMeeting(), lambda: looked.append(time.monotonic()))
    deadline = time.monotonic() + 0.35
    count = 0
    while time.monotonic() < deadline:
        steps.meet()
        count += 1
    assert 2 <= len(looked) <= 5
    assert count > 100 * len(looked)


# ---------------------------------------------------------------- beside


def test_messages_are_seen_to_while_work_goes_on_beside():
    over, looks = threading.Event(), []

    def idle():
        looks.append(1)
        if len(looks) == 2:
            over.set()

    Beside(lambda: over.wait(10) or None, "work").wait(idle)
    assert len(looks) >= 2


def test_what_work_beside_raises_comes_up_here():
    def fail():
        raise EngineError("no space")

    beside = Beside(fail, "work")
    with pytest.raises(EngineError, match="no space"):
        beside.wait(lambda: None)
    with pytest.raises(EngineError, match="no space"):
        beside.check()


def test_work_that_goes_well_has_nothing_to_raise():
    beside = Beside(lambda: None, "work")
    beside.wait(lambda: None)
    beside.check()
