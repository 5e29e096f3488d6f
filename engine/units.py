"""Sizes in which numbers are published. A GiB is 2**30 bytes, in every name and text."""

from __future__ import annotations

GIB = 2**30
MIB = 2**20
KIB = 2**10
