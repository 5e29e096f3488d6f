"""`python -P -m mlps.engines.external --stage run`"""

from __future__ import annotations

import sys

from .process import run_process

if __name__ == "__main__":
    sys.exit(run_process(sys.argv[1:]))
