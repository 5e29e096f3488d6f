"""`python -m mlps.engines.vectordb --stage NAME`"""

from __future__ import annotations

import sys

from ..stage import run_engine
from .stages import VectorEngine

if __name__ == "__main__":
    sys.exit(run_engine(VectorEngine()))
