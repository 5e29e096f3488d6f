"""Percentiles of merged latency histograms. Pure."""

from __future__ import annotations

import math

from .canonical import Document


def percentile_ns(latency: Document, fraction: float) -> int:
    """Latency that a fraction of all operations did not exceed, in ns, from a merged histogram.

    It is the upper end of the bucket in which that operation lies (at most 0.1 % above it), and
    never more than the longest latency. Raises ValueError for an empty histogram.
    """
    total = sum(latency["count"])
    if total == 0:
        raise ValueError("an empty histogram has no percentiles")
    wanted = max(1, math.ceil(fraction * total))
    seen = 0
    for upper, count in zip(latency["upper"], latency["count"], strict=True):
        seen += count
        if seen >= wanted:
            return int(min(upper, latency["max"]))
    return int(latency["max"])


def percentile_name(fraction: float) -> str:
    """How a percentile is called in a metric: p50, p99, p999."""
    return f"p{100 * fraction:.10g}".replace(".", "")
