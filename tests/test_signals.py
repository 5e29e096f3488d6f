"""Requests to stop are counted, not died of."""

from __future__ import annotations

import os
import signal

import pytest

from mlps.engine.signals import STOP_SIGNALS, StopRequests, catch_stop_requests


@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
def test_a_signal_is_a_request(number):
    with catch_stop_requests() as stops:
        assert (stops.asked, stops.count, stops.first) == (False, 0, None)
        os.kill(os.getpid(), number)
        assert (stops.asked, stops.count, stops.first) == (True, 1, number.name)


def test_the_first_signal_is_the_one_that_is_named():
    with catch_stop_requests() as stops:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert (stops.count, stops.first) == (2, "SIGTERM")


def test_handlers_are_put_back_even_after_an_error():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with pytest.raises(RuntimeError), catch_stop_requests():
        assert [signal.getsignal(number) for number in STOP_SIGNALS] != before
        raise RuntimeError
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_requests_can_be_made_without_a_signal():
    stops = StopRequests()
    stops(signal.SIGHUP, None)
    assert (stops.count, stops.first) == (1, "SIGHUP")
