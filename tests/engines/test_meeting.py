"""Steps of all ranks: who fails or is stopped ends them, and messages are seen to in between."""

from __future__ import annotations

import time

from mlps.engines.errors import EngineError
from mlps.engines.io_core.control import Control
from mlps.engines.meeting import SoloMeeting, Together


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
