"""Entry point of the probe: answers one request."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from . import sampler
from .facts import read_facts


def main(request: dict[str, Any]) -> None:
    """Write the line of facts, or the lines of the series until its end."""
    if request["mode"] == "facts":
        line = json.dumps(read_facts(request), separators=(",", ":")) + "\n"
        # In one go, so that the lines of many hosts on one pipe do not mix.
        sys.stdout.write(line)
        sys.stdout.flush()
    else:
        sampler.run(request, lambda line: os.write(1, line))
