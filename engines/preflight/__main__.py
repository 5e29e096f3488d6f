"""`python -P -m mlps.engines.preflight --stage muster`"""

from __future__ import annotations

import sys

from ..stage import run_engine
from .muster import PreflightEngine

if __name__ == "__main__":
    sys.exit(run_engine(PreflightEngine()))
