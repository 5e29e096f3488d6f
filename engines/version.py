"""The version of mlps that runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def mlps_version() -> str:
    """As it was installed."""
    try:
        return version("mlps")
    except PackageNotFoundError:
        return "unknown"
