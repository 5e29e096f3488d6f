"""`python -m mlps.engines.checkpoint_native --stage NAME`"""

from __future__ import annotations

import sys

from ..stage import run_engine
from .stages import CheckpointEngine

if __name__ == "__main__":
    sys.exit(run_engine(CheckpointEngine()))
