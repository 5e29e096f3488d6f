"""Packages that only some backends need: imported on use, or the error says what to install."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from ..errors import EngineError

# Objects of such packages: what is imported on use has no types for a checker.
Foreign = Any


def library(name: str, backend: str) -> ModuleType:
    """A module of an optional package; raises EngineError naming the extra that brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EngineError(
            f"backend {backend} needs {name.partition('.')[0]}, which cannot be imported"
            f" ({error}): pip install 'mlps[vectordb]'"
        ) from error


def version_of(distribution: str) -> str:
    """The version of a package, without importing it."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
