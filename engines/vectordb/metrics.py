"""Metrics of nearness. A score is higher for what is nearer, whatever the metric.

COSINE is the cosine of the angle, IP the inner product, L2 minus the squared distance.
"""

from __future__ import annotations

from typing import Literal

Metric = Literal["COSINE", "L2", "IP"]
