"""A benchmark of the family external without what it starts, for tests of such benchmarks."""

from __future__ import annotations

FOREIGN = {
    "name": "foreign",
    "family": "external",
    "engine": "external",
    "measured_by": "prog",
    "trials": 1,
    "ranks_per_host": 1,
    "stages": [
        {"name": "run", "each": "trial", "measured": True},
        {"name": "cleanup", "each": "job", "when": "always"},
    ],
    "options": [],
    "option_delay_s": 0,
    "cleanup": "always",
    "time_limit_s": 60,
    "silence_limit_s": 60,
    "start_limit_s": 30,
    "programs": [],
    "needs": {"disk_bytes_per_rank": 0, "memory_bytes_per_rank": 0, "path_keys": []},
    "files": {},
    "ignored": [],
}
