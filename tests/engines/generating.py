"""An engine of the stages that make and remove datasets, started as a rank by tests of them."""

from __future__ import annotations

import os
import sys

from mlps.engines import owner
from mlps.engines.stage import run_engine
from mlps.engines.training_native import generation, writing


class Generating:
    """Nothing but these two stages."""

    def needs(self, job, ranks):
        raise NotImplementedError

    def stages(self):
        return {"generate": generation.generate, "cleanup": generation.cleanup}


if __name__ == "__main__":
    # Syncs so often that a small dataset has several, and a short wait for signs of life.
    writing._SYNC_BYTES = int(os.environ.get("TEST_SYNC_BYTES", writing._SYNC_BYTES))
    owner.PATIENCE_S = float(os.environ.get("TEST_PATIENCE_S", owner.PATIENCE_S))
    sys.exit(run_engine(Generating()))
