"""A process that may not use io_uring, as in many containers: a seccomp filter denies it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# No header of the kernel is needed: `struct sock_filter` is u16 code, u8 true, u8 false, u32 k.
DENIED = """
import ctypes, json, pathlib, struct, sys
import numpy as np
from mlps.engines.errors import EngineError
from mlps.engines.io_core.account import Account
from mlps.engines.io_core.control import Control
from mlps.engines.io_core.executor import Settings, executor_for
from mlps.engines.io_core.files import open_files, preallocate
from mlps.engines.io_core.operations import OPERATION, STORE

IO_URING_SETUP, EPERM = 425, 1  # the same number on all architectures
program = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x20, 0, 0, 0),  # load the number of the system call
        (0x15, 0, 1, IO_URING_SETUP),  # if it is this one
        (0x06, 0, 0, 0x00050000 | EPERM),  # it fails
        (0x06, 0, 0, 0x7FFF0000),  # all else is allowed
    )
)
buffer = ctypes.create_string_buffer(program)


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


prctl = ctypes.CDLL(None, use_errno=True).prctl
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
if prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or prctl(
    SET_SECCOMP, FILTER, ctypes.byref(Program(4, ctypes.addressof(buffer))), 0, 0
):
    raise OSError(ctypes.get_errno(), "seccomp")

path = pathlib.Path(sys.argv[1])
preallocate(path, 8 * 4096)
files = open_files([path], direct=True)
settings = Settings(depth=2, key=1, pool_seed=1, largest_bytes=4096, verify="all",
                    durability="none", rings=1, core=sys.argv[2])
try:
    executor = executor_for(files, settings)
except EngineError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
block = np.zeros(16, OPERATION)
block["offset"] = block["chunk"] = np.tile(np.arange(8), 2) * 4096
block["length"] = 4096
block["kind"][:8] = STORE
block["step"][8:] = 1
block["closes"][-1] = 1
control, account = Control(), Account()
control.start()
executor.execute([iter([block]), *(iter(()) for _ in range(executor.shards - 1))], control, account)
executor.close()
print(json.dumps({"name": executor.name, "verified": account.checks.operations,
                  "refused": [[each.core, each.reason] for each in executor.refused]}))
"""
REASON = "io_uring_setup: Operation not permitted"


@pytest.fixture
def denied(tmp_path):
    """What becomes of some I/O with a core that is asked for."""

    def run(core):
        done = subprocess.run(
            [sys.executable, "-c", DENIED, tmp_path / "segment", core],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_threads_take_over_and_it_is_told_why(denied):
    assert denied("auto") == {"name": "c_threads", "refused": [["uring", REASON]], "verified": 8}


def test_a_ring_that_is_asked_for_is_refused(denied):
    assert denied("uring") == {"error": f"io.core uring does not work here: {REASON}"}


@pytest.mark.parametrize(("core", "name"), [("threads", "c_threads"), ("python", "python_threads")])
def test_what_needs_no_ring_works_as_ever(denied, core, name):
    assert denied(core) == {"name": name, "refused": [], "verified": 8}
