"""Steps of training that code in C goes through, with reader and meeting, many in one call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from ..io_core.core import Signature, declare, load_library
from ..io_core.executor import CoreRefused
from ..io_core.histogram import Int64s
from ..meeting import NativeMeeting
from .reader import PATIENCE_NS

# Waits for batches that are kept until the caller takes them.
WAITS = 1024
# The enumerations of _steps.c.
_LOADS, _COMPUTES, _MEETS = range(3)
DONE, PENDING, LEFT = range(100, 103)


class _Meeting(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in ("start", "test", "receives", "sends", "received", "sent")
        ),
        *((name, ctypes.c_uint32) for name in ("rounds", "round", "started")),
        ("leaves", ctypes.c_int32),
        ("begun_ns", ctypes.c_int64),
    )


class _Steps(ctypes.Structure):
    _fields_ = (
        ("step", ctypes.c_uint64),
        ("until", ctypes.c_uint64),
        ("compute_ns", ctypes.c_int64),
        ("phase", ctypes.c_uint32),
        ("leaves", ctypes.c_int32),
        *(
            (name, ctypes.c_int64)
            for name in (
                "load_ns", "begun_ns", "arrived_ns", "load_sum_ns", "compute_sum_ns",
                "meeting_sum_ns", "first_ns", "first_compute_ns", "ended_ns",
            )
        ),
        ("waits", ctypes.c_void_p),
        ("waits_room", ctypes.c_uint32),
        ("waits_count", ctypes.c_uint32),
    )  # fmt: skip


class NativeSteps:
    """The steps of an epoch; `sums` are those of the steps that all ranks have made."""

    def __init__(self, reader: int, meeting: NativeMeeting, computation_ns: int) -> None:
        """`reader` is the address of one in C. Raises CoreRefused for a core of other code."""
        self._library = _load()
        self._reader = reader
        self._waits = np.zeros(WAITS, dtype=np.int64)
        self.sums = _Steps(
            compute_ns=computation_ns, waits=self._waits.ctypes.data, waits_room=WAITS
        )
        # What addresses stand for must live as long as these do.
        self._held = (meeting, _pointers(meeting.receives), _pointers(meeting.sends))
        self._meeting = _Meeting(
            start=meeting.start or None,
            test=meeting.test or None,
            receives=ctypes.addressof(self._held[1]),
            sends=ctypes.addressof(self._held[2]),
            received=meeting.received.ctypes.data,
            sent=meeting.sent.ctypes.data,
            rounds=len(meeting.receives),
        )

    def go(self, until: int) -> int:
        """Goes on up to a step: DONE there, or with all room for waits used; PENDING when the
        caller is to look around; LEFT once a rank leaves; else what a wait for a batch ended with.
        """
        self.sums.until = until
        status: int = self._library.reader_steps(
            self._reader,
            ctypes.addressof(self.sums),
            ctypes.addressof(self._meeting),
            PATIENCE_NS,
        )
        return status

    def leave(self) -> None:
        """This rank waits and computes no more, and says so at the meeting of this step."""
        self.sums.leaves = 1
        self.sums.phase = _MEETS

    def waits(self) -> Int64s:
        """Waits for batches since the last call, in ns."""
        count, self.sums.waits_count = self.sums.waits_count, 0
        return self._waits[:count]


def _pointers(addresses: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * max(1, len(addresses)))(*addresses)


def _load() -> ctypes.CDLL:
    library = load_library()
    declare(library, _SIGNATURES)
    sizes = (ctypes.c_uint32 * 2)()
    library.steps_sizes(sizes)
    if tuple(sizes) != (ctypes.sizeof(_Meeting), ctypes.sizeof(_Steps)):
        raise CoreRefused("the compiled core is of another version: install mlps again")
    return library


_POINTER = ctypes.c_void_p
_SIGNATURES: dict[str, Signature] = {
    "reader_steps": (ctypes.c_int32, (_POINTER, _POINTER, _POINTER, ctypes.c_int64)),
    "steps_sizes": (None, (_POINTER,)),
}
