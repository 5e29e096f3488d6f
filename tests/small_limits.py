"""The limits of the rules, scaled down so that a run in the form of a score takes seconds.

As a program: `mlps` under these limits.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

LIMITS = {
    "mlps.engine.sizing.STEPS_PER_EPOCH": 4,
    "mlps.engine.sizing.MEMORY_TIMES": 0,
    "mlps.engine.vector_form.RUNTIME_S": 0.3,
    "mlps.engine.vector_rules.RUNTIME_S": 0.3,
    "mlps.engine.vector_form.CLOSED_BACKEND": "native_ivf",
    "mlps.engine.vector_form.CLOSED_INDEXES": ("IVF_FLAT",),
}


@contextmanager
def small_limits() -> Iterator[None]:
    """The block is judged by these limits."""
    patches = [mock.patch(name, value) for name, value in LIMITS.items()]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def main() -> int:
    """`mlps` under small limits."""
    from mlps.engine.cli import main as mlps

    with small_limits():
        return mlps()


if __name__ == "__main__":
    sys.exit(main())
