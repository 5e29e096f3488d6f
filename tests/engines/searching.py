"""The stages that search, started as the caller starts an engine."""

from __future__ import annotations

import sys

from mlps.engines.stage import run_engine
from mlps.engines.vectordb import searching


class Searching:
    def stages(self):
        return {name: getattr(searching, name) for name in ("probe", "run", "capacity", "sweep")}


if __name__ == "__main__":
    sys.exit(run_engine(Searching()))
