"""An epoch of one rank: its steps, where its time went, what ends it, and DLIO's formula."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.io_core.control import Control
from mlps.engines.io_core.histogram import Histogram
from mlps.engines.meeting import SoloMeeting, Together
from mlps.engines.training_native.epochs import Loader, Times, run_epoch
from mlps.engines.training_native.reader import READ, Block, Reading, reader_for

SIZE = 100_000
FILES = 24


@pytest.fixture
def directory(tmp_path):
    for number in range(FILES):
        (tmp_path / f"f{number}").write_bytes(bytes(SIZE))
    return tmp_path


def blocks(batch=2, per_block=3, length=SIZE):
    """All files in batches, some batches a block."""
    for first in range(0, FILES, batch * per_block):
        numbers = np.arange(first, min(first + batch * per_block, FILES))
        reads = np.zeros(len(numbers), READ)
        reads["file"] = np.arange(len(numbers))
        reads["batch"] = np.arange(len(numbers)) // batch
        reads["length"] = length
        yield Block(
            paths=[f"f{number}" for number in numbers],
            numbers=numbers.astype(np.uint32),
            reads=reads,
            batches=int(reads["batch"][-1]) + 1,
        )


def started():
    control = Control()
    control.start()
    control.shards(1)
    return Together(SoloMeeting(), control, lambda: None)


@pytest.fixture(params=["c", "python"])
def core(request):
    return request.param


def go(directory, core, *, computation_ns=0, together=None, steps=12, **more):
    together = together or started()
    waits = Histogram()
    reader = reader_for(Reading(directory=directory, threads=2, look_ahead=2, core=core, **more))
    try:
        times = run_epoch(
            together,
            Loader(reader, blocks()),
            steps=steps,
            computation_ns=computation_ns,
            waits=waits,
        )
        return times, waits, reader.account(), together.control
    finally:
        reader.close()


def test_all_batches_are_read_and_counted(directory, core):
    times, waits, account, control = go(directory, core)
    assert times.steps == control.done == waits.count == 12
    assert account.read_bytes == control.read_bytes[0] == FILES * SIZE
    assert account.batches == 12


def test_the_parts_of_an_epoch_add_up(directory, core):
    times, _, _, _ = go(directory, core, computation_ns=5_000_000)
    assert times.compute_ns >= 12 * 5_000_000
    parts = times.load_ns + times.compute_ns + times.meeting_ns
    assert parts <= times.block_ns
    assert 0 < times.first_compute_ns <= times.first_ns < times.block_ns


def test_without_reads_the_steps_are_the_same(directory, core):
    for number in range(FILES):
        (directory / f"f{number}").unlink()
    times, waits, account, _ = go(directory, core, enabled=False)
    assert (times.steps, waits.count, account.batches) == (12, 12, 12)
    assert account.read_bytes == 0


def test_a_file_that_is_missing_fails_the_rank_and_names_it(directory, core):
    (directory / "f9").unlink()
    times, _, _, control = go(directory, core)
    assert times is None
    assert "f9" in control.failure


def test_a_file_that_is_cut_short_fails_the_rank_and_names_it(directory, core):
    (directory / "f9").write_bytes(bytes(SIZE - 1))
    times, _, _, control = go(directory, core)
    assert times is None
    assert "f9" in control.failure


def test_a_stop_ends_a_long_computation_and_is_no_failure(directory, core):
    together = started()
    threading.Timer(0.3, together.control.stop).start()
    began = time.monotonic()
    times, _, _, control = go(directory, core, computation_ns=60_000_000_000, together=together)
    assert time.monotonic() - began < 5
    assert times is None
    assert control.failure is None


def test_what_the_caller_looks_at_is_seen_to_while_a_step_lasts(directory, core):
    looked = []
    control = Control()
    control.start()
    control.shards(1)
    together = Together(SoloMeeting(), control, lambda: looked.append(control.elapsed_s))
    go(directory, core, computation_ns=700_000_000, together=together, steps=1)
    assert len(looked) >= 4


# ---------------------------------------------------------------- the formulas


def times(steps, block, load, compute, first, first_compute):
    return Times(
        steps=steps,
        block_ns=block,
        load_ns=load,
        compute_ns=compute,
        meeting_ns=0,
        first_ns=first,
        first_compute_ns=first_compute,
    )


def test_utilisation_by_the_formula_of_dlio():
    """Five steps: loads 50 10 10 10 10 ms, computations 100 ms each, 5 ms of barriers."""
    found = times(5, 595_000_000, 90_000_000, 500_000_000, 150_000_000, 100_000_000)
    counted_ms = 595 - 150
    assert found.au_dlio_pct() == pytest.approx(100 * 400 / counted_ms)
    assert found.au_nominal_pct(99_000_000) == pytest.approx(100 * 4 * 99 / counted_ms)
    assert found.samples_dlio_per_s(7) == pytest.approx(4 * 7 / (counted_ms / 1000))


def test_one_step_has_no_utilisation():
    found = times(1, 10, 5, 5, 10, 5)
    assert (found.au_dlio_pct(), found.au_nominal_pct(5), found.samples_dlio_per_s(1)) == (0, 0, 0)


@given(
    loads=st.lists(st.integers(0, 10**9), min_size=2, max_size=20),
    compute=st.integers(1, 10**9),
    barrier=st.integers(0, 10**7),
)
def test_the_formula_is_that_of_single_steps(loads, compute, barrier):
    """The sums give what DLIO computes from the lists of its steps."""
    steps = len(loads)
    proc = [load + compute for load in loads]
    block = sum(proc) + steps * barrier
    found = times(steps, block, sum(loads), steps * compute, proc[0], compute)
    window = block - sum(proc[:1])
    assert found.au_dlio_pct() == pytest.approx(100 * sum([compute] * (steps - 1)) / window)
